"""What every journal offers, whatever holds its records: one group at a time, taken by a writer that may be a thread.

core.storage.journal.Journal is the engine's own; core.storage.journal_rocksdb.RocksJournal holds the same records in
RocksDB. The contract stands in core.storage.journal.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

import msgspec

from core._native import encode_group, first_unfit
from core.storage.journal_archive import SegmentView
from core.storage.journal_commit import Commit, post
from core.storage.journal_errors import JournalUnavailableError, TornTail
from core.storage.journal_format import RECORD_LIMIT_BYTES, check_payload
from core.storage.journal_group import NO_RECORDS, Records
from core.storage.journal_segments import READ_BATCH_RECORDS, Anchor
from core.types.events import JournalEntry

WAITING_APPENDS_LIMIT = 10_000
GROUP_LIMIT_RECORDS = 4_096
GROUP_LIMIT_BYTES = 32 * 1024 * 1024


class _Waiting(msgspec.Struct):
    payloads: Sequence[bytes]
    done: asyncio.Future[tuple[JournalEntry, ...]]


class RecordsReader(Protocol):
    """A place among the records that moves on."""

    @property
    def sequence(self) -> int: ...
    def read(self, durable_sequence: int, limit: int) -> list[JournalEntry]: ...


class JournalStore(ABC):
    """Write with begin or append; read with entries or a JournalReader."""

    engine_id: str
    epoch: int
    torn_tail: TornTail | None = None

    def __init__(self, engine_id: str, *, inline: bool) -> None:
        self.engine_id = engine_id
        self.epoch = 0
        self._waiting: deque[_Waiting] = deque()
        self._pump_is_due = False
        self._flight: Commit | None = None
        self._readers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._begun: SimpleQueue[Commit | Callable[[], None] | None] = SimpleQueue()
        self._thread = None if inline else Thread(target=self._run, name="journal", daemon=True)

    @property
    @abstractmethod
    def head(self) -> Anchor:
        """The last durable record's sequence and hash, at one moment."""

    @property
    @abstractmethod
    def dead_reason(self) -> str | None:
        """Set once it isn't known any more what is on the disk, until the next start."""

    @abstractmethod
    def hash_at(self, sequence: int) -> bytes:
        """The chain's hash at a durable record. Reads the disk for most.

        Raises JournalDroppedError, JournalDamagedError, and ValueError beyond the end.
        """

    @abstractmethod
    def records_after(self, sequence: int) -> RecordsReader:
        """For JournalReader. Raises JournalDroppedError."""

    @abstractmethod
    def _write(self, commit: Commit) -> None:
        """Make a group durable and move head on. Raises JournalUnavailableError: then none of it is in the journal."""

    @abstractmethod
    def _after_write(self) -> None:
        """What can be done between two groups."""

    @abstractmethod
    def _release(self) -> None:
        """Unlock; nothing is taken nor read afterwards."""

    @property
    def sequence(self) -> int:
        """The last durable record."""
        return self.head.sequence

    @property
    def first_sequence(self) -> int:
        """The first record that is still here."""
        return 1

    @property
    def first_readable_sequence(self) -> int:
        """The first record that a reader can begin with."""
        return self.first_sequence

    def segments(self) -> list[SegmentView]:
        """Its files, oldest first, of a journal that is made of such."""
        return []

    def entries(self, after_sequence: int = 0) -> Iterator[JournalEntry]:
        """The durable records behind a sequence, oldest first. Raises JournalDroppedError, JournalDamagedError."""
        reader = JournalReader(self, after_sequence)
        while batch := reader.read():
            yield from batch

    def expect(self) -> None:  # noqa: B027 most have nothing to do for it
        """A group is likely to begin in less than a millisecond: the writer may wake up for it."""

    def begin(self, payloads: Sequence[bytes], *, emergency: bool = False) -> Commit:
        """Hand one group to the journal's writer, and return at once: all of it becomes durable, or none.

        Raises RuntimeError while another group is on its way, JournalUnavailableError for a journal that is dead, and
        ValueError for a record or a group out of bounds.
        """
        if self._flight is not None and not self._flight.is_over:
            raise RuntimeError("a group is on its way to the journal already; begin the next one when it is over")
        if (dead := self.dead_reason) is not None:
            raise JournalUnavailableError(dead)
        check_group(payloads)
        commit = Commit(payloads, is_emergency=emergency)
        if not payloads:
            commit.finish(NO_RECORDS)
            return commit
        self._flight = commit
        commit.data, commit.hashes = encode_group(self.head.hash, payloads)
        if self._thread is None:
            self._execute(commit)
        elif self._begin_natively(commit):
            self._wake_readers()
        else:
            self._begun.put(commit)
        return commit

    async def append(self, payloads: Sequence[bytes]) -> tuple[JournalEntry, ...]:
        """Make records durable, together: all of them or none.

        Appends that wait at the same time share one sync. Raises JournalUnavailableError, and ValueError for a
        record or a group out of bounds.
        """
        if (dead := self.dead_reason) is not None:
            raise JournalUnavailableError(dead)
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
                    if (flight := self._flight) is not None:
                        # Perhaps nobody else asks what became of it.
                        flight.hand_over()
                    await reader[1].wait()
            finally:
                if reader in self._readers:
                    self._readers.remove(reader)

    async def close(self) -> None:
        """Finish what was begun or appended, and unlock. Nothing is taken nor read afterwards."""
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

    def _start(self) -> None:
        if self._thread is not None:
            self._thread.start()

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

    def _begin_natively(self, commit: Commit) -> bool:
        """Begin a group that needs nothing but to be written, beside Python; False where there is no such way."""
        return False

    def _run(self) -> None:
        while (work := self._begun.get()) is not None:
            work() if callable(work) else self._execute(work)

    def _execute(self, commit: Commit) -> None:
        """In the journal's own thread, when it has one. The state changes only once the sync returned."""
        self._finish(commit, self._write)
        self._after_write()

    def _finish(self, commit: Commit, write: Callable[[Commit], None]) -> None:
        first = self.sequence + 1
        try:
            write(commit)
        except Exception as error:
            self._flight = None
            commit.finish(NO_RECORDS, error)
            return
        self._flight = None
        commit.finish(Records(self.engine_id, self.epoch, first, commit.payloads, commit.hashes))
        self._wake_readers()

    def _wake_readers(self) -> None:
        while self._readers:
            loop, grown = self._readers.pop()
            post(loop, grown.set)


class JournalReader:
    """A place in the journal that moves on: history first, then what has become durable since."""

    def __init__(self, journal: JournalStore, after_sequence: int) -> None:
        """Raises JournalDroppedError when what comes next was archived and dropped."""
        self._journal = journal
        self._records = journal.records_after(after_sequence)

    @property
    def sequence(self) -> int:
        """The last sequence that was read."""
        return self._records.sequence

    def read(self, limit: int = READ_BATCH_RECORDS) -> list[JournalEntry]:
        """The next records, at most limit; empty when there is none yet. Reads the disk: call it off the loop.

        Raises JournalDroppedError, JournalDamagedError.
        """
        return self._records.read(self._journal.sequence, limit)


def check_group(payloads: Sequence[bytes]) -> None:
    """Raises ValueError for records that can't be written, or not together."""
    if len(payloads) > GROUP_LIMIT_RECORDS or sum(map(len, payloads)) > GROUP_LIMIT_BYTES:
        raise ValueError(f"at most {GROUP_LIMIT_RECORDS} records and {GROUP_LIMIT_BYTES} bytes are appended together")
    unfit = first_unfit(payloads, RECORD_LIMIT_BYTES)
    if unfit < len(payloads):
        check_payload(payloads[unfit])


def _fail(future: asyncio.Future[tuple[JournalEntry, ...]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        # The caller may have gone; its error isn't one that nobody looked at.
        future.exception()
