"""Segments that aren't written any more: copied to an archive, dropped here, read there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from core.storage.journal_errors import JournalDamagedError, JournalDroppedError
from core.storage.journal_files import SEGMENT_SUFFIX, JournalFolder
from core.storage.journal_format import HEADER_LIMIT_BYTES, PREFIX_LENGTH_BYTES, BadRecordError, decode_header
from core.storage.journal_segments import READ_BATCH_RECORDS, Anchor, Segment, SegmentCursor, damaged, read_whole
from core.storage.snapshots import Snapshot
from core.types.events import JournalEntry

COPY_CHUNK_BYTES = 1 << 20
RECORDS_PER_TURN = 64
TURN_S = 0.000_1
TEMPORARY_SUFFIX = SEGMENT_SUFFIX + ".tmp"


class SegmentView(msgspec.Struct, frozen=True):
    """A segment; without records its last_sequence is one below its first."""

    name: str
    epoch: int
    first_sequence: int
    last_sequence: int
    size_bytes: int
    is_active: bool


def view(segment: Segment, *, is_active: bool) -> SegmentView:
    """What to show of a segment."""
    return SegmentView(
        segment.name,
        segment.header.epoch,
        segment.header.first_sequence,
        segment.last_sequence,
        segment.end,
        is_active,
    )


def copy_segment(folder: JournalFolder, archive: JournalFolder, segment: Segment, hash_behind: bytes) -> None:
    """Return once the copy is durable and verified. hash_behind: what the next segment's chain goes on from.

    Raises JournalDamagedError for a copy that isn't what the journal's chain says; OSError.
    """
    if segment.name in archive.names() and copy_problem(archive, segment, hash_behind) is None:
        return
    temporary = segment.name.removesuffix(SEGMENT_SUFFIX) + TEMPORARY_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        archive.remove(temporary)
    source, target = folder.open(segment.name), archive.create(temporary)
    try:
        for offset in range(0, segment.end, COPY_CHUNK_BYTES):
            target.write(offset, source.read(offset, min(COPY_CHUNK_BYTES, segment.end - offset)))
        target.sync()
    finally:
        source.close()
        target.close()
    if (problem := copy_problem(archive, segment, hash_behind, temporary)) is not None:
        raise JournalDamagedError(f"{folder.path(segment.name)}: it can't be archived: {problem}")
    archive.rename(temporary, segment.name)
    archive.sync_names()


def copy_problem(archive: JournalFolder, segment: Segment, hash_behind: bytes, name: str = "") -> str | None:
    """What is wrong with a segment's copy; None when every record of it is there."""
    name = name or segment.name
    try:
        copy = _read_header(archive, name)
        cursor = SegmentCursor(archive, copy)
        if (copy.header, copy.end) == (segment.header, segment.end):
            _read_through(cursor, segment.last_sequence)
        copy.close()
    except (JournalDamagedError, OSError) as error:
        return str(error)
    if (cursor.sequence, cursor.hash) != (segment.last_sequence, hash_behind):
        return f"{archive.path(name)} doesn't hold the same records"
    return None


def _read_through(cursor: SegmentCursor, last_sequence: int) -> None:
    for number, _ in enumerate(cursor.read(last_sequence)):
        if number % RECORDS_PER_TURN == 0:
            # Checking holds the interpreter, for which the engine's loop waits in the other thread.
            time.sleep(TURN_S)


def drop_refusal(
    segment: Segment,
    archive: JournalFolder,
    hash_behind: bytes,
    *,
    is_oldest: bool,
    projected_sequence: int,
    audited_sequence: int,
    snapshot: Snapshot | None,
) -> str | None:
    """Why a segment can't be dropped yet; None when it can."""
    last = segment.last_sequence
    if not is_oldest:
        return "an older segment is still here. Drop that first"
    if last > projected_sequence:
        return f"it ends at record {last}, the ledger has projected {projected_sequence}. Wait for the ledger"
    if last > audited_sequence:
        return f"it ends at record {last}, the ledger has audited {audited_sequence}. Wait for the ledger"
    if snapshot is None or snapshot.sequence < last:
        newest = "there is none" if snapshot is None else f"the newest is of record {snapshot.sequence}"
        return f"it ends at record {last}, and no sound snapshot covers that: {newest}. Write one first"
    if segment.name not in archive.names():
        return f"it isn't in the archive, {archive.path(segment.name)}. Archive it first"
    if (problem := copy_problem(archive, segment, hash_behind)) is not None:
        return f"its copy in the archive isn't sound: {problem}. Archive it again"
    return None


def read_archived(archive: JournalFolder) -> Iterator[JournalEntry]:
    """Every record of an archive, oldest first, its chain verified from segment to segment.

    The archive may begin at any segment. Raises JournalDamagedError for a damaged or a missing one.
    """
    before: tuple[int, bytes] | None = None
    for name in archive.names():
        segment, entries, digest = read_whole(archive, name)
        if before is not None and before != (segment.header.first_sequence - 1, segment.previous_hash):
            raise damaged(archive, name, 0, "it doesn't continue the segment before it; one may be missing")
        before = segment.last_sequence, digest
        yield from entries


def archive_anchors(archive: JournalFolder | None, folder: JournalFolder) -> Iterator[Anchor]:
    """The place in the chain where the archive ends and a journal begins; none where they don't meet.

    It vouches for the journal as a snapshot does, when none of those holds. Raises JournalDamagedError, OSError.
    """
    names = folder.names()
    if archive is None or not names:
        return
    first = _read_header(folder, names[0]).header.first_sequence
    before = [name for name in archive.names() if int(name.partition("-")[0]) < first]
    if before:
        segment, _, digest = read_whole(archive, before[-1])
        if segment.last_sequence == first - 1:
            yield Anchor(segment.last_sequence, digest)


class ArchiveReader:
    """The records of an archive behind a sequence and before another, one bounded batch after the other.

    before_sequence: where the journal itself goes on. Each record's checksum and the chain are verified.
    """

    def __init__(self, archive: JournalFolder, after_sequence: int, before_sequence: int) -> None:
        """Raises JournalDroppedError when the archive doesn't hold what comes next, JournalDamagedError, OSError."""
        self.sequence = after_sequence
        self._archive = archive
        self._before_sequence = before_sequence
        self._segments = _segments_between(archive, after_sequence, before_sequence)
        self._cursor: SegmentCursor | None = None

    def read(self, limit: int = READ_BATCH_RECORDS) -> list[JournalEntry]:
        """The next records, at most limit; empty at the end. Raises JournalDroppedError, JournalDamagedError."""
        entries: list[JournalEntry] = []
        while self.sequence + 1 < self._before_sequence and not entries:
            if self._cursor is None or self._cursor.sequence == self._segments[0].last_sequence:
                self._next_segment()
            assert self._cursor is not None
            for entry in self._cursor.read(self._segments[0].last_sequence):
                if entry.sequence > self.sequence:
                    entries.append(entry)
                if len(entries) == limit:
                    break
            if entries:
                self.sequence = entries[-1].sequence
        return entries

    def _next_segment(self) -> None:
        before = self._cursor
        if before is not None:
            self._segments.pop(0).close()
        if not self._segments or self._segments[0].header.first_sequence > self.sequence + 1:
            raise _not_archived(self._archive, self.sequence + 1)
        segment = self._segments[0]
        if before is not None and before.hash != segment.previous_hash:
            raise damaged(self._archive, segment.name, 0, "it doesn't continue the segment before it")
        self._cursor = SegmentCursor(self._archive, segment)


def _segments_between(archive: JournalFolder, after_sequence: int, before_sequence: int) -> list[Segment]:
    segments = [_read_header(archive, name) for name in archive.names()]
    for segment, following in pairwise(segments):
        segment.last_sequence = following.header.first_sequence - 1
    if segments and segments[-1].header.first_sequence < before_sequence:
        segments[-1].last_sequence = before_sequence - 1
    wanted = [
        segment
        for segment in segments
        if segment.last_sequence > after_sequence and segment.header.first_sequence < before_sequence
    ]
    if not wanted or wanted[0].header.first_sequence > after_sequence + 1:
        raise _not_archived(archive, after_sequence + 1)
    return wanted


def _read_header(archive: JournalFolder, name: str) -> Segment:
    file = archive.open(name)
    try:
        header, offset = decode_header(file.read(0, PREFIX_LENGTH_BYTES + HEADER_LIMIT_BYTES))
        segment = Segment(archive, name, header, offset)
        segment.end = file.size()
    except (BadRecordError, KeyError) as error:
        raise damaged(archive, name, 0, str(error)) from error
    finally:
        file.close()
    return segment


def _not_archived(archive: JournalFolder, sequence: int) -> JournalDroppedError:
    return JournalDroppedError(
        f"record {sequence} isn't in the archive, {archive.path('')}. Put the segment that holds it back from wherever "
        "the archive was moved to."
    )
