"""The engine's journal: hash-chained segments, durable before anything happens to the world (I4, I7).

Contract. append MUST return only when its records are on stable storage, and MUST leave them out as a whole (or, after
a failed sync, unknown until the next start) when it raises. A record that was returned MUST be there after any crash.
A torn tail, the rest of an append that never returned, is cut on opening and reported; damage anywhere else raises
JournalDamagedError and changes nothing. One process writes (flock); each opening starts a new epoch and segment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from queue import SimpleQueue
from threading import Thread

import msgspec

from core.storage.journal_commit import Commit, JournalUnavailableError, post
from core.storage.journal_files import SEGMENT_SUFFIX, JournalFile, JournalFolder
from core.storage.journal_format import (
    GENESIS_HASH,
    HEADER_SCHEMA,
    BadRecordError,
    SegmentHeader,
    check_payload,
    decode_header,
    decode_record,
    encode_header,
    encode_record,
    has_record_after,
    is_torn_tail,
)
from core.types.events import JournalEntry

SEGMENT_LIMIT_BYTES = 64 * 1024 * 1024
WAITING_APPENDS_LIMIT = 10_000
GROUP_LIMIT_RECORDS = 4_096
GROUP_LIMIT_BYTES = 32 * 1024 * 1024
READ_BATCH_RECORDS = 512


class JournalDamagedError(Exception):
    """The journal holds bytes that no crash explains. The message names the file, the offset and the cure."""


class JournalLockedError(Exception):
    """Another engine process writes this journal."""


class TornTail(msgspec.Struct, frozen=True):
    """What opening cut off: an append that never returned."""

    path: str
    offset: int
    length: int


class _Segment(msgspec.Struct):
    name: str
    file: JournalFile
    header: SegmentHeader
    first_offset: int
    end: int
    last_sequence: int


class _Waiting(msgspec.Struct):
    payloads: Sequence[bytes]
    done: asyncio.Future[tuple[JournalEntry, ...]]


class Journal:
    """Open with Journal.open; read with entries or a JournalReader; write with append."""

    def __init__(
        self,
        folder: JournalFolder,
        engine_id: str,
        segment_limit_bytes: int = SEGMENT_LIMIT_BYTES,
        *,
        inline: bool = False,
    ) -> None:
        self._folder = folder
        self._segment_limit_bytes = segment_limit_bytes
        self._segments: list[_Segment] = []
        self._hash = GENESIS_HASH
        self._waiting: deque[_Waiting] = deque()
        self._pump_is_due = False
        self._flight: Commit | None = None
        self._readers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._begun: SimpleQueue[Commit | None] = SimpleQueue()
        self._thread = None if inline else Thread(target=self._run, name="journal", daemon=True)
        self._dead: str | None = None
        self.engine_id = engine_id
        self.epoch = 0
        self.sequence = 0
        self.torn_tail: TornTail | None = None

    @classmethod
    def open(
        cls,
        folder: JournalFolder,
        engine_id: str,
        segment_limit_bytes: int = SEGMENT_LIMIT_BYTES,
        *,
        inline: bool = False,
    ) -> Journal:
        """Lock, verify every record, cut a torn tail, start a new epoch.

        inline: no thread of its own; begin writes at once. Raises JournalLockedError, JournalDamagedError, and OSError
        when the folder can't be written.
        """
        journal = cls(folder, engine_id, segment_limit_bytes, inline=inline)
        try:
            folder.lock()
        except BlockingIOError as error:
            raise JournalLockedError(
                f"{folder.path('lock')}: another engine writes this journal. Stop it, or use another VELOZ_HOME."
            ) from error
        try:
            journal._load()
            journal.epoch += 1
            journal._start_segment()
        except BaseException:
            journal._release()
            raise
        if journal._thread is not None:
            journal._thread.start()
        return journal

    @property
    def dead_reason(self) -> str | None:
        """Set once a sync failed: what is on the disk isn't known until the next start."""
        return self._dead

    def entries(self, after_sequence: int = 0) -> Iterator[JournalEntry]:
        """The durable records behind a sequence, oldest first."""
        reader = JournalReader(self, after_sequence)
        while batch := reader.read():
            yield from batch

    def begin(self, payloads: Sequence[bytes], *, emergency: bool = False) -> Commit:
        """Hand one group to the journal's writer, and return at once: all of it becomes durable, or none.

        Raises RuntimeError while another group is on its way, JournalUnavailableError for a journal that is dead, and
        ValueError for a record or a group out of bounds.
        """
        if self._flight is not None:
            raise RuntimeError("a group is on its way to the journal already; begin the next one when it is over")
        if self._dead is not None:
            raise JournalUnavailableError(self._dead)
        check_group(payloads)
        commit = self._frame(payloads, emergency)
        if not payloads:
            commit.finish(())
            return commit
        self._flight = commit
        if self._thread is None:
            self._execute(commit)
        else:
            self._begun.put(commit)
        return commit

    async def append(self, payloads: Sequence[bytes]) -> tuple[JournalEntry, ...]:
        """Make records durable, together: all of them or none.

        Appends that wait at the same time share one sync. Raises JournalUnavailableError, and ValueError for a
        record or a group out of bounds.
        """
        if self._dead is not None:
            raise JournalUnavailableError(self._dead)
        check_group(payloads)
        if len(self._waiting) >= WAITING_APPENDS_LIMIT:
            raise JournalUnavailableError(f"{WAITING_APPENDS_LIMIT} appends are waiting for the disk already")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(payloads, loop.create_future())
        self._waiting.append(waiting)
        self._schedule_pump(loop)
        # A caller that goes away doesn't take back what is on its way to the disk.
        return await asyncio.shield(waiting.done)

    async def wait_beyond(self, sequence: int) -> None:
        """Return when a record behind this sequence is durable."""
        while self.sequence <= sequence:
            reader = asyncio.get_running_loop(), asyncio.Event()
            self._readers.append(reader)
            try:
                # The writer may have been faster than the note.
                if self.sequence <= sequence:
                    await reader[1].wait()
            finally:
                if reader in self._readers:
                    self._readers.remove(reader)

    async def close(self) -> None:
        """Finish what was begun or appended, and unlock."""
        while self._waiting or self._flight is not None:
            over = asyncio.Event()
            if self._flight is not None:
                self._flight.notify(asyncio.get_running_loop(), over.set)
                await over.wait()
            # Appends that waited for it go on after it.
            await asyncio.sleep(0)
        if self._thread is not None:
            self._begun.put(None)
            await asyncio.to_thread(self._thread.join)
        self._release()

    def _release(self) -> None:
        for segment in self._segments:
            segment.file.close()
        self._segments.clear()
        self._folder.unlock()

    def _schedule_pump(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            # What is appended in this turn of the loop shares a sync.
            loop.call_soon(self._pump, loop)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pump_is_due = False
        if not self._waiting:
            return
        if (flight := self._flight) is not None:
            flight.notify(loop, lambda: self._schedule_pump(loop))
            return
        group = self._take_group()
        try:
            commit = self.begin([payload for waiting in group for payload in waiting.payloads])
        except JournalUnavailableError as error:
            self._over(loop, group, error)
        else:
            commit.notify(loop, lambda: self._over(loop, group, commit))

    def _over(self, loop: asyncio.AbstractEventLoop, group: list[_Waiting], outcome: Commit | Exception) -> None:
        """Tell each append what became of it, and go on with those that came meanwhile."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            entries = outcome.result()
        except JournalUnavailableError as error:
            for waiting in group:
                _fail(waiting.done, error)
        else:
            position = 0
            for waiting in group:
                own = entries[position : position + len(waiting.payloads)]
                position += len(own)
                if not waiting.done.done():
                    waiting.done.set_result(own)
        self._schedule_pump(loop)

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        records = size = 0
        while self._waiting:
            records += len(self._waiting[0].payloads)
            size += sum(map(len, self._waiting[0].payloads))
            if group and (records > GROUP_LIMIT_RECORDS or size > GROUP_LIMIT_BYTES):
                break
            group.append(self._waiting.popleft())
        return group

    def _frame(self, payloads: Sequence[bytes], emergency: bool) -> Commit:
        previous, parts, hashes = self._hash, [], []
        for payload in payloads:
            record, previous = encode_record(previous, payload)
            parts.append(record)
            hashes.append(previous)
        return Commit(payloads, b"".join(parts), hashes, is_emergency=emergency)

    def _run(self) -> None:
        while (commit := self._begun.get()) is not None:
            self._execute(commit)

    def _execute(self, commit: Commit) -> None:
        """In the journal's own thread, when it has one. The state changes only once the sync returned."""
        first = self.sequence + 1
        try:
            self._write(commit)
        except Exception as error:
            self._flight = None
            commit.finish((), error)
            return
        self._hash = commit.hashes[-1]
        self.sequence = self._segments[-1].last_sequence
        self._flight = None
        commit.finish(partial(_entries, self.engine_id, self.epoch, first, commit.payloads, commit.hashes))
        while self._readers:
            loop, grown = self._readers.pop()
            post(loop, grown.set)

    def _write(self, commit: Commit) -> None:
        if self._segments[-1].end >= self._segment_limit_bytes:
            self._start_segment()
        segment = self._segments[-1]
        self._write_durably(segment, commit.data)
        segment.end += len(commit.data)
        segment.last_sequence += len(commit.payloads)

    def _write_durably(self, segment: _Segment, data: bytes) -> None:
        path = self._folder.path(segment.name)
        try:
            segment.file.append(data)
        except OSError as error:
            try:
                segment.file.truncate(segment.end)
            except OSError as second:
                self._dead = f"{path}: can't be written ({error}) nor cut back ({second}). Restart the engine."
                raise JournalUnavailableError(self._dead) from second
            raise JournalUnavailableError(f"{path}: can't be written: {error}. Free space or mend the disk.") from error
        try:
            segment.file.sync()
        except OSError as error:
            # After a failed fsync the kernel may have dropped the pages and call the next one a success.
            self._dead = f"{path}: the disk didn't confirm a write: {error}. Mend it, then restart the engine."
            raise JournalUnavailableError(self._dead) from error

    def _start_segment(self) -> None:
        last_sequence = self._segments[-1].last_sequence if self._segments else 0
        header = SegmentHeader(HEADER_SCHEMA, self.engine_id, self.epoch, last_sequence + 1, self._hash.hex())
        name = f"{last_sequence + 1:016d}-{self.epoch:08d}{SEGMENT_SUFFIX}"
        data = encode_header(header)
        try:
            file = self._folder.create(name)
        except FileExistsError:
            # A roll whose header wasn't written in full, in this epoch.
            file = self._folder.open(name)
            file.truncate(0)
        try:
            file.append(data)
            file.sync()
        except OSError:
            file.close()
            raise
        self._segments.append(_Segment(name, file, header, len(data), len(data), last_sequence))

    def _load(self) -> None:
        names = self._folder.names()
        for index, name in enumerate(names):
            self._load_segment(name, is_last=index == len(names) - 1)

    def _load_segment(self, name: str, *, is_last: bool) -> None:
        file = self._folder.open(name)
        data = file.read(0, file.size())
        try:
            header, offset = decode_header(data)
        except BadRecordError as error:
            if is_last and error.incomplete and not has_record_after(data, 0):
                self._cut(name, file, 0, len(data))
                file.close()
                return
            file.close()
            raise self._damaged(name, 0, str(error)) from error
        segment = _Segment(name, file, header, offset, offset, self.sequence)
        self._segments.append(segment)
        self._check_header(name, header)
        while offset < len(data):
            try:
                record = decode_record(data, offset, self._hash)
            except BadRecordError as error:
                if not is_last or not is_torn_tail(data, offset, error):
                    raise self._damaged(name, offset, str(error)) from error
                self._cut(name, file, offset, len(data) - offset)
                break
            self._hash, offset = record.hash, record.end
            self.sequence += 1
        segment.end, segment.last_sequence = offset, self.sequence
        self.epoch = header.epoch

    def _check_header(self, name: str, header: SegmentHeader) -> None:
        if header.schema != HEADER_SCHEMA:
            raise self._damaged(name, 0, f"its schema is {header.schema!r}, this engine reads {HEADER_SCHEMA!r}")
        if header.engine_id != self.engine_id:
            raise JournalDamagedError(
                f"{self._folder.path(name)}: the journal is of engine {header.engine_id!r}, not {self.engine_id!r}. "
                "Set engine.engine_id back, or use another VELOZ_HOME."
            )
        expected = (self.sequence + 1, self._hash.hex())
        if (header.first_sequence, header.previous_hash_hex) != expected or header.epoch < self.epoch:
            raise self._damaged(name, 0, "it doesn't continue the segment before it; one may be missing")

    def _cut(self, name: str, file: JournalFile, offset: int, length: int) -> None:
        if length:
            file.truncate(offset)
            file.sync()
            self.torn_tail = TornTail(self._folder.path(name), offset, length)

    def _damaged(self, name: str, offset: int, detail: str) -> JournalDamagedError:
        return JournalDamagedError(
            f"{self._folder.path(name)}: damaged at offset {offset}: {detail}. Nothing was changed. Restore the file "
            "from a copy; the ledger's projections and the venue's own records tell what it held."
        )

    def _locate(self, after_sequence: int) -> int:
        for index in range(len(self._segments) - 1, -1, -1):
            if self._segments[index].header.first_sequence <= after_sequence + 1:
                return index
        return 0


class JournalReader:
    """A place in the journal that moves on: history first, then what has become durable since."""

    def __init__(self, journal: Journal, after_sequence: int) -> None:
        self._journal = journal
        self._after_sequence = after_sequence
        self._index = journal._locate(after_sequence)
        self._offset: int | None = None
        self._sequence = 0

    @property
    def sequence(self) -> int:
        """The last sequence that was read."""
        return max(self._after_sequence, self._sequence)

    def read(self, limit: int = READ_BATCH_RECORDS) -> list[JournalEntry]:
        """The next records, at most limit; empty when there is none yet. Reads the disk: call it off the loop."""
        entries: list[JournalEntry] = []
        segments = self._journal._segments
        while len(entries) < limit and self._index < len(segments):
            segment = segments[self._index]
            if self._offset is None:
                self._offset, self._sequence = segment.first_offset, segment.header.first_sequence - 1
            self._read_segment(segment, entries, limit)
            # While a roll is going on, the segment's last records may not be confirmed yet.
            if self._sequence < segment.last_sequence or self._index == len(segments) - 1:
                break
            self._index, self._offset = self._index + 1, None
        return entries

    def _read_segment(self, segment: _Segment, entries: list[JournalEntry], limit: int) -> None:
        assert self._offset is not None
        last = min(segment.last_sequence, self._journal.sequence)
        while self._sequence < last and len(entries) < limit:
            head = segment.file.read(self._offset, 4)
            length = 40 + int.from_bytes(head, "little")
            record = decode_record(segment.file.read(self._offset, length), 0, None)
            self._offset += record.end
            self._sequence += 1
            if self._sequence > self._after_sequence:
                entries.append(
                    JournalEntry(
                        self._journal.engine_id,
                        segment.header.epoch,
                        self._sequence,
                        record.hash.hex(),
                        record.payload,
                    )
                )


def check_group(payloads: Sequence[bytes]) -> None:
    """Raises ValueError for records that can't be written, or not together."""
    for payload in payloads:
        check_payload(payload)
    if len(payloads) > GROUP_LIMIT_RECORDS or sum(map(len, payloads)) > GROUP_LIMIT_BYTES:
        raise ValueError(f"at most {GROUP_LIMIT_RECORDS} records and {GROUP_LIMIT_BYTES} bytes are appended together")


def _entries(
    engine_id: str, epoch: int, first_sequence: int, payloads: Sequence[bytes], hashes: Sequence[bytes]
) -> tuple[JournalEntry, ...]:
    return tuple(
        JournalEntry(engine_id, epoch, sequence, digest.hex(), payload)
        for sequence, payload, digest in zip(count(first_sequence), payloads, hashes, strict=False)
    )


def _fail(future: asyncio.Future[tuple[JournalEntry, ...]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        # The caller may have gone; its error isn't one that nobody looked at.
        future.exception()


__all__ = [
    "GROUP_LIMIT_RECORDS",
    "SEGMENT_LIMIT_BYTES",
    "Commit",
    "Journal",
    "JournalDamagedError",
    "JournalLockedError",
    "JournalReader",
    "JournalUnavailableError",
    "TornTail",
]
