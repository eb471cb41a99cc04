"""Reading segments: verified on opening, or, before a snapshot, when they are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from threading import Lock

import msgspec

from core.storage.journal_errors import JournalDamagedError, JournalDroppedError, TornTail
from core.storage.journal_files import JournalFile, JournalFolder
from core.storage.journal_format import (
    GENESIS_HASH,
    HEADER_LIMIT_BYTES,
    OVERHEAD_BYTES,
    PREFIX_LENGTH_BYTES,
    RECORD_LIMIT_BYTES,
    SCHEMA_VERSIONS,
    BadRecordError,
    SegmentHeader,
    decode_header,
    decode_record,
    is_first_of_group,
)
from core.storage.journal_tail import SECTOR_BYTES, is_free, is_torn_header, is_torn_tail, is_torn_tail_of_version_1
from core.types.events import JournalEntry

READ_CHUNK_BYTES = 256 * 1024
READ_BATCH_RECORDS = 512


class Anchor(msgspec.Struct, frozen=True):
    """A place in the chain that a snapshot vouches for."""

    sequence: int
    hash: bytes


START = Anchor(0, GENESIS_HASH)


class AnchorError(Exception):
    """The journal doesn't have this place in its chain."""


class Segment:
    """One file of the journal. end and last_sequence move on while it is written."""

    def __init__(self, folder: JournalFolder, name: str, header: SegmentHeader, first_offset: int) -> None:
        self.name = name
        self.header = header
        self.version = SCHEMA_VERSIONS[header.schema]
        self.previous_hash = bytes.fromhex(header.previous_hash_hex)
        self.first_offset = first_offset
        self.end = first_offset
        self.last_group_offset = first_offset
        self.last_sequence = header.first_sequence - 1
        self.allocated = 0
        self._folder = folder
        self._file: JournalFile | None = None
        self._opening = Lock()

    @property
    def file(self) -> JournalFile:
        """Opened when it is needed, and left open."""
        if self._file is None:
            with self._opening:
                if self._file is None:
                    try:
                        self._file = self._folder.open(self.name)
                    except FileNotFoundError as error:
                        raise JournalDroppedError(
                            f"{self._folder.path(self.name)}: archived and dropped, or missing. Read it from the "
                            "archive folder, or put it back."
                        ) from error
        return self._file

    def use(self, file: JournalFile) -> None:
        """Take over a file that is open already."""
        self._file = file

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class LoadedJournal(msgspec.Struct):
    """What opening found."""

    segments: list[Segment]
    hash: bytes
    sequence: int
    epoch: int
    torn_tail: TornTail | None


def load(folder: JournalFolder, engine_id: str, anchors: Iterable[Anchor] = ()) -> tuple[LoadedJournal, Anchor]:
    """Verify what lies behind the first anchor that fits, else everything; cut a torn tail. Also: the anchor used.

    anchors: newest first. Of segments before the anchor's only the headers are read. Raises JournalDamagedError.
    """
    loading = _Loading(folder, engine_id)
    loading.read_headers()
    try:
        for anchor in anchors:
            with contextlib.suppress(AnchorError):
                return loading.verify(anchor), anchor
        try:
            return loading.verify(START), START
        except AnchorError:
            first = loading.segments[0]
            raise JournalDamagedError(
                f"{folder.path(first.name)}: the journal begins at record {first.header.first_sequence}, and no sound "
                "snapshot covers what was before. Put the missing segments back from the archive, or the snapshot."
            ) from None
    except BaseException:
        for segment in loading.segments:
            segment.close()
        raise


class _Loading:
    def __init__(self, folder: JournalFolder, engine_id: str) -> None:
        self._folder = folder
        self._engine_id = engine_id
        self.segments: list[Segment] = []
        self._torn: TornTail | None = None

    def read_headers(self) -> None:
        names = self._folder.names()
        for index, name in enumerate(names):
            file = self._folder.open(name)
            try:
                self._read_header(name, file, is_last=index == len(names) - 1)
            finally:
                file.close()

    def _read_header(self, name: str, file: JournalFile, *, is_last: bool) -> None:
        try:
            header, offset = decode_header(file.read(0, PREFIX_LENGTH_BYTES + HEADER_LIMIT_BYTES))
        except BadRecordError as error:
            if is_torn_header(file.read(0, file.size())):
                # It held nothing. Before others: a roll that failed, whose records went on in the segment before it.
                if is_last:
                    self._cut(name, file, 0)
                return
            raise self._damaged(name, 0, str(error)) from error
        if header.schema not in SCHEMA_VERSIONS:
            raise self._damaged(
                name, 0, f"its schema is {header.schema!r}, this engine reads {', '.join(SCHEMA_VERSIONS)}"
            )
        if header.engine_id != self._engine_id:
            raise JournalDamagedError(
                f"{self._folder.path(name)}: the journal is of engine {header.engine_id!r}, not {self._engine_id!r}. "
                "Set engine.engine_id back, or use another VELOZ_HOME."
            )
        before = self.segments[-1].header if self.segments else header
        if header.first_sequence < before.first_sequence or header.epoch < before.epoch:
            raise self._damaged(name, 0, "it doesn't continue the segment before it; one may be missing")
        segment = Segment(self._folder, name, header, offset)
        segment.end = file.size()
        self.segments.append(segment)

    def verify(self, anchor: Anchor) -> LoadedJournal:
        """Raises AnchorError when the chain doesn't pass through the anchor, before anything is changed."""
        index = self._index_of(anchor)
        for segment, after in zip(self.segments[:index], self.segments[1:], strict=False):
            # Verified when they are read.
            segment.last_sequence = after.header.first_sequence - 1
        sequence, digest = anchor.sequence, anchor.hash
        if index < len(self.segments):
            first = self.segments[index]
            sequence, digest = first.header.first_sequence - 1, first.previous_hash
            if sequence == anchor.sequence and digest != anchor.hash:
                raise AnchorError
        for position, segment in enumerate(self.segments[index:], index):
            self._check_continues(segment, sequence, digest)
            digest = self._verify_segment(segment, anchor, is_last=position == len(self.segments) - 1)
            sequence = segment.last_sequence
        if sequence < anchor.sequence:
            raise AnchorError
        epoch = self.segments[-1].header.epoch if self.segments else 0
        return LoadedJournal(self.segments, digest, sequence, epoch, self._torn)

    def _index_of(self, anchor: Anchor) -> int:
        """The segment to begin with: the one that starts behind the anchor, else the one that holds it."""
        holding = -1
        for index, segment in enumerate(self.segments):
            if segment.header.first_sequence == anchor.sequence + 1:
                return index
            if segment.header.first_sequence <= anchor.sequence:
                holding = index
        if holding < 0 and (self.segments or anchor is not START):
            raise AnchorError
        return max(0, holding)

    def _check_continues(self, segment: Segment, sequence: int, digest: bytes) -> None:
        if (segment.header.first_sequence, segment.previous_hash) != (sequence + 1, digest):
            raise self._damaged(segment.name, 0, "it doesn't continue the segment before it; one may be missing")

    def _verify_segment(self, segment: Segment, anchor: Anchor, *, is_last: bool) -> bytes:
        file = self._folder.open(segment.name)
        try:
            data = file.read(0, file.size())
            offset, sequence, digest = segment.first_offset, segment.header.first_sequence - 1, segment.previous_hash
            while offset < len(data):
                try:
                    record = decode_record(data, offset, digest, segment.version)
                except BadRecordError as error:
                    if segment.version > 1 and is_free(data, offset):
                        break
                    if not is_last or not _is_torn(segment, data, offset, error):
                        raise self._damaged(segment.name, offset, str(error)) from error
                    if sequence < anchor.sequence:
                        raise AnchorError from error
                    self._cut(segment.name, file, offset)
                    break
                if segment.version > 1 and is_first_of_group(data, offset):
                    segment.last_group_offset = offset
                offset, digest = record.end, record.hash
                sequence += 1
                if sequence == anchor.sequence and digest != anchor.hash:
                    raise AnchorError
            segment.end, segment.last_sequence = offset, sequence
            if is_last and sequence >= anchor.sequence:
                self._settle(segment, file, data)
            return digest
        finally:
            file.close()

    def _settle(self, segment: Segment, file: JournalFile, data: bytes) -> None:
        """Leave the segment as long as its records.

        Its last group is written once more: when its sync failed, the system may show it from memory and not have it on
        the disk. That holds for the last group alone, since none is begun before the one ahead of it is durable.
        """
        if segment.version > 1 and segment.end > segment.last_group_offset:
            file.write(segment.last_group_offset, data[segment.last_group_offset : segment.end])
        if file.size() > segment.end:
            file.truncate(segment.end)
        file.sync()

    def _cut(self, name: str, file: JournalFile, offset: int) -> None:
        size = file.size()
        if size > offset:
            # In whole sectors: those behind the last byte written are free space.
            end = -(-(offset + len(file.read(offset, size).rstrip(b"\0"))) // SECTOR_BYTES) * SECTOR_BYTES
            self._torn = TornTail(self._folder.path(name), offset, min(end, size) - offset)
            file.truncate(offset)
            file.sync()

    def _damaged(self, name: str, offset: int, detail: str) -> JournalDamagedError:
        return damaged(self._folder, name, offset, detail)


def _is_torn(segment: Segment, data: bytes, offset: int, error: BadRecordError) -> bool:
    if segment.version > 1:
        return is_torn_tail(data, offset)
    return is_torn_tail_of_version_1(data, offset, error)


def damaged(folder: JournalFolder, name: str, offset: int, detail: str) -> JournalDamagedError:
    """The error that names the file, the offset and the cure."""
    return JournalDamagedError(
        f"{folder.path(name)}: damaged at offset {offset}: {detail}. Nothing was changed. Restore the file "
        "from a copy; the ledger's projections and the venue's own records tell what it held."
    )


class SegmentCursor:
    """A place within one segment that moves on, each record's checksum and chain verified as it is read."""

    def __init__(self, folder: JournalFolder, segment: Segment) -> None:
        self.sequence = segment.header.first_sequence - 1
        self.hash = segment.previous_hash
        self._folder = folder
        self._segment = segment
        self._offset = segment.first_offset
        self._chunk = b""
        self._chunk_offset = segment.first_offset

    def read(self, last_sequence: int) -> Iterator[JournalEntry]:
        """The records up to a sequence, which MUST be durable. Raises JournalDamagedError."""
        header = self._segment.header
        while self.sequence < last_sequence:
            record = self._record()
            self._offset += record[2]
            self.hash = record[1]
            self.sequence += 1
            yield JournalEntry(header.engine_id, header.epoch, self.sequence, record[1].hex(), record[0])

    def _record(self) -> tuple[bytes, bytes, int]:
        """Payload, hash and the length on the disk."""
        segment = self._segment
        for wanted in (0, READ_CHUNK_BYTES, OVERHEAD_BYTES + RECORD_LIMIT_BYTES):
            if wanted:
                self._chunk = segment.file.read(self._offset, min(wanted, segment.end - self._offset))
                self._chunk_offset = self._offset
            position = self._offset - self._chunk_offset
            try:
                record = decode_record(self._chunk, position, self.hash, segment.version)
            except BadRecordError as error:
                # What was read may end within the record.
                problem = error
            else:
                return record.payload, record.hash, record.end - position
        raise damaged(self._folder, segment.name, self._offset, str(problem)) from problem


def read_whole(folder: JournalFolder, name: str) -> tuple[Segment, list[JournalEntry], bytes]:
    """A segment that nobody writes, with its records and the last one's hash. Raises JournalDamagedError, OSError."""
    file = folder.open(name)
    try:
        data = file.read(0, file.size())
    finally:
        file.close()
    offset = 0
    try:
        header, offset = decode_header(data)
        if header.schema not in SCHEMA_VERSIONS:
            raise BadRecordError(f"its schema is {header.schema!r}", incomplete=False)
        segment = Segment(folder, name, header, offset)
        digest, entries = segment.previous_hash, []
        while offset < len(data):
            try:
                record = decode_record(data, offset, digest, segment.version)
            except BadRecordError:
                # Looked at only here: it reads all the rest.
                if segment.version > 1 and is_free(data, offset):
                    break
                raise
            digest, offset = record.hash, record.end
            segment.last_sequence += 1
            entries.append(
                JournalEntry(header.engine_id, header.epoch, segment.last_sequence, digest.hex(), record.payload)
            )
    except BadRecordError as error:
        raise damaged(folder, name, offset, str(error)) from error
    segment.end = offset
    return segment, entries, digest


class SegmentsReader:
    """A place in a list of segments that moves on: history first, then what has become durable since."""

    def __init__(self, folder: JournalFolder, segments: list[Segment], after_sequence: int) -> None:
        if segments and segments[0].header.first_sequence > after_sequence + 1:
            raise JournalDroppedError(
                f"{folder.path(segments[0].name)}: the journal begins at record {segments[0].header.first_sequence} "
                f"here; those behind {after_sequence} were archived and dropped. Read them from the archive folder, or "
                "start from the snapshot."
            )
        self._folder = folder
        self._segments = segments
        self._after_sequence = after_sequence
        self._segment: Segment | None = None
        self._cursor: SegmentCursor | None = None

    @property
    def sequence(self) -> int:
        """The last sequence that was read."""
        return max(self._after_sequence, self._cursor.sequence if self._cursor is not None else 0)

    def read(self, durable_sequence: int, limit: int = READ_BATCH_RECORDS) -> list[JournalEntry]:
        """The next records up to a sequence, at most limit; empty when there is none yet. Reads the disk."""
        entries: list[JournalEntry] = []
        while len(entries) < limit and self.sequence < durable_sequence and self._segments:
            if self._cursor is None or self._segment is None:
                self._begin(self._find(self.sequence + 1))
                continue
            last = min(self._segment.last_sequence, durable_sequence)
            for entry in self._cursor.read(last):
                if entry.sequence > self._after_sequence:
                    entries.append(entry)
                    if len(entries) == limit:
                        return entries
            if self._cursor.sequence >= durable_sequence:
                break
            self._begin(self._find(self._cursor.sequence + 1))
        return entries

    def _begin(self, segment: Segment) -> None:
        before = self._cursor
        self._segment, self._cursor = segment, SegmentCursor(self._folder, segment)
        if before is not None and before.hash != segment.previous_hash:
            raise damaged(self._folder, segment.name, 0, "it doesn't continue the segment before it")

    def _find(self, sequence: int) -> Segment:
        """The segment that holds a durable record."""
        segments = list(self._segments)
        for segment in reversed(segments):
            if segment.header.first_sequence <= sequence <= segment.last_sequence:
                return segment
        raise JournalDroppedError(
            f"record {sequence} of the journal was archived and dropped. Read it from the archive folder, or start "
            "from the snapshot."
        )
