"""The engine's journal: hash-chained segments, durable before anything happens to the world (I4, I7).

Contract. A commit MUST be over, and append return, only when its records are on stable storage, and MUST leave them out
as a whole (or, after a failed sync, unknown until the next start) when it fails. A record that was returned MUST be
there after any crash. A torn tail, the rest of a group that never returned, is cut on opening and reported (of such a
group the first records may stay); damage anywhere else raises JournalDamagedError and changes nothing. One process
writes (flock); each opening starts a new epoch and segment.

What is verified when: opening verifies every record behind the newest sound snapshot, all of them when there is none;
those before it are verified when they are read. A record that is read is always verified: checksum and chain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import chain

from core._native import DiskThread
from core.storage.journal_archive import (
    ArchiveReader,
    SegmentView,
    archive_anchors,
    copy_segment,
    drop_refusal,
    view,
)
from core.storage.journal_commit import Commit
from core.storage.journal_errors import (
    JournalDamagedError,
    JournalDroppedError,
    JournalLockedError,
    JournalUnavailableError,
    SegmentInUseError,
    TornTail,
)
from core.storage.journal_files import JournalFolder
from core.storage.journal_segments import READ_BATCH_RECORDS, Anchor, Segment, SegmentCursor, SegmentsReader, load
from core.storage.journal_store import GROUP_LIMIT_RECORDS, JournalReader, JournalStore, RecordsReader
from core.storage.journal_writer import ALLOCATION_STEP_BYTES, SEGMENT_LIMIT_BYTES, SegmentWriter
from core.storage.snapshots import anchors, newest_snapshot
from core.types.events import JournalEntry

HANG_CHECK_S = 3_600.0
"""A wait for the disk has no end; this is only how long one call of it takes."""


class Journal(JournalStore):
    """Open with Journal.open; write with begin or append; read with entries or a JournalReader."""

    def __init__(self, folder: JournalFolder, engine_id: str, *, inline: bool) -> None:
        super().__init__(engine_id, inline=inline)
        self._folder = folder
        self._archive: JournalFolder | None = None
        self._writer: SegmentWriter | None = None
        self._anchor = Anchor(0, b"")
        self._disk: DiskThread | None = None
        self._watching: asyncio.AbstractEventLoop | None = None
        self._watched: Commit | None = None

    @classmethod
    def open(
        cls,
        folder: JournalFolder,
        engine_id: str,
        segment_limit_bytes: int = SEGMENT_LIMIT_BYTES,
        *,
        inline: bool = False,
        allocation_step_bytes: int = ALLOCATION_STEP_BYTES,
        archive: JournalFolder | None = None,
    ) -> Journal:
        """Lock, verify (see above), cut a torn tail, start a new epoch.

        inline: no thread of its own; begin writes at once. archive: where records that were dropped here are read
        from. Raises JournalLockedError, JournalDamagedError, and OSError
        when the folder can't be written.
        """
        journal = cls(folder, engine_id, inline=inline)
        journal._archive = archive
        try:
            folder.lock()
        except BlockingIOError as error:
            raise JournalLockedError(
                f"{folder.path('lock')}: another engine writes this journal. Stop it, or use another VELOZ_HOME."
            ) from error
        try:
            vouchers = chain(anchors(folder, engine_id), archive_anchors(archive, folder))
            loaded, journal._anchor = load(folder, engine_id, vouchers)
            journal.torn_tail = loaded.torn_tail
            journal._writer = SegmentWriter(folder, engine_id, loaded, segment_limit_bytes, allocation_step_bytes)
            journal.epoch = journal._writer.epoch
        except BaseException:
            folder.unlock()
            raise
        journal._start()
        return journal

    @property
    def first_sequence(self) -> int:
        """The first record that is still here: what was dropped is in the archive."""
        return self._end.segments[0].header.first_sequence

    @property
    def first_readable_sequence(self) -> int:
        """The first record that a reader can begin with, in the archive or here."""
        names = self._archive.names() if self._archive is not None else []
        archived = [int(name.partition("-")[0]) for name in names]
        return min([self.first_sequence, *archived])

    @property
    def head(self) -> Anchor:
        """The last durable record's sequence and hash, at one moment."""
        return self._end.head

    @property
    def dead_reason(self) -> str | None:
        """Set once a sync failed: what is on the disk isn't known until the next start."""
        return self._end.dead

    @property
    def _end(self) -> SegmentWriter:
        assert self._writer is not None, "open it with Journal.open"
        return self._writer

    def hash_at(self, sequence: int) -> bytes:
        """The chain's hash at a durable record. Reads the disk for most.

        Raises JournalDroppedError, JournalDamagedError, and ValueError beyond the end.
        """
        for known in (self.head, self._anchor):
            if known.sequence == sequence and known.hash:
                return known.hash
        segments = list(self._end.segments)
        for segment in segments:
            if segment.header.first_sequence == sequence + 1:
                return segment.previous_hash
            if segment.header.first_sequence <= sequence <= segment.last_sequence:
                cursor = SegmentCursor(self._folder, segment)
                deque(cursor.read(sequence), maxlen=0)
                return cursor.hash
        if sequence > self.sequence:
            raise ValueError(f"the journal ends at record {self.sequence}, before {sequence}")
        raise JournalDroppedError(f"record {sequence} was archived and dropped; read it from the archive folder")

    def records_after(self, sequence: int) -> RecordsReader:
        if self._archive is not None:
            return _WholeReader(self, self._archive, sequence)
        return self._records_here(sequence)

    def _records_here(self, sequence: int) -> SegmentsReader:
        return SegmentsReader(self._folder, self._end.segments, sequence)

    def segments(self) -> list[SegmentView]:
        """Oldest first; the last one is written."""
        segments = list(self._end.segments)
        return [view(segment, is_active=segment is segments[-1]) for segment in segments]

    def archive_segment(self, name: str, archive: JournalFolder) -> SegmentView:
        """Copy a segment that isn't written any more, and return once the copy is durable and verified.

        An archived segment may be archived again. Raises SegmentInUseError, JournalDamagedError, OSError.
        """
        segment = self._segment(name)
        copy_segment(self._folder, archive, segment, self._hash_behind(segment))
        return view(segment, is_active=False)

    def drop_segment(
        self, name: str, archive: JournalFolder, *, projected_sequence: int, audited_sequence: int
    ) -> None:
        """Remove the oldest segment, once everything in it is held elsewhere.

        archive: where it was archived; the copy is verified once more. projected_sequence, audited_sequence: how far
        the ledger has projected and audited. Raises SegmentInUseError, which says what is missing, and OSError.
        """
        segment = self._segment(name)
        refusal = drop_refusal(
            segment,
            archive,
            self._hash_behind(segment),
            is_oldest=segment is self._end.segments[0],
            projected_sequence=projected_sequence,
            audited_sequence=audited_sequence,
            snapshot=newest_snapshot(self._folder, self),
        )
        if refusal is not None:
            raise SegmentInUseError(f"{self._folder.path(name)}: {refusal}")
        self._folder.remove(name)
        self._folder.sync_names()
        self._end.segments.remove(segment)

    def _segment(self, name: str) -> Segment:
        segments = list(self._end.segments)
        for segment in segments:
            if segment.name == name:
                if segment is segments[-1]:
                    raise SegmentInUseError(f"{self._folder.path(name)}: it is being written. Take an older one")
                return segment
        raise SegmentInUseError(f"{self._folder.path(name)}: this journal has no such segment")

    def _hash_behind(self, segment: Segment) -> bytes:
        segments = list(self._end.segments)
        return segments[segments.index(segment) + 1].previous_hash

    def expect(self) -> None:
        if self._disk is not None:
            self._disk.expect()

    def _begin_natively(self, commit: Commit) -> bool:
        if self._disk is None:
            self._disk = DiskThread()
        if not self._end.begin_on(self._disk, commit.data, is_emergency=commit.is_emergency):
            return False
        commit.begun(self)
        return True

    # What a commit on the native thread asks for (core.storage.journal_commit.Writing).

    def wait(self, timeout_s: float, looking_s: float = 0.0) -> bool:
        assert self._disk is not None
        is_over: bool = self._disk.wait(timeout_s, looking_s)
        return is_over

    def take_in(self, commit: Commit) -> bool:
        assert self._disk is not None
        if any(self._disk.outcome()):
            # To cut the file back may take as long as a disk takes.
            return False
        self._take_in(commit)
        if self._end.wants_space:
            self._begun.put(self._after_write)
        return True

    def watch(self, commit: Commit, loop: asyncio.AbstractEventLoop) -> None:
        assert self._disk is not None
        if loop is not self._watching:
            self._stop_watching()
            loop.add_reader(self._disk.descriptor, self._heard)
            self._watching = loop
        self._watched = commit
        if self._disk.watch():
            loop.call_soon(self._heard)

    def _heard(self) -> None:
        commit, self._watched = self._watched, None
        if self._disk is not None:
            self._disk.drain()
        if commit is not None and not commit.is_over:
            # It failed, and is handed over, or the byte was of the group before.
            self._watched = commit

    def _stop_watching(self) -> None:
        loop, self._watching = self._watching, None
        if loop is not None and not loop.is_closed() and self._disk is not None:
            loop.remove_reader(self._disk.descriptor)

    def hand_over(self, commit: Commit) -> None:
        def finish() -> None:
            while not commit.is_finished and not self.wait(HANG_CHECK_S):
                pass
            commit.taken_in_by(lambda: self._take_in(commit))
            self._after_write()

        self._begun.put(finish)

    def _take_in(self, commit: Commit) -> None:
        disk = self._disk
        assert disk is not None
        size, records, digest = len(commit.data), len(commit.payloads), commit.hashes[-1]
        self._finish(commit, lambda _commit: self._end.end_on(disk, size, records, digest))

    def _write(self, commit: Commit) -> None:
        self._end.write(commit.data, len(commit.payloads), commit.hashes[-1], is_emergency=commit.is_emergency)

    def _after_write(self) -> None:
        self._end.allocate_ahead()

    def _release(self) -> None:
        self._stop_watching()
        self._disk = None
        self._end.close()
        self._folder.unlock()


class _WholeReader:
    """A place in the archive first, then in the journal; a segment may move from here to there meanwhile."""

    def __init__(self, journal: Journal, archive: JournalFolder, after_sequence: int) -> None:
        self._journal = journal
        self._archive = archive
        self.sequence = after_sequence
        self._archived: ArchiveReader | None = None
        self._here: SegmentsReader | None = None
        self._begin()

    def read(self, durable_sequence: int, limit: int = READ_BATCH_RECORDS) -> list[JournalEntry]:
        if self._archived is not None:
            entries = self._archived.read(limit)
            if entries:
                self.sequence = entries[-1].sequence
                return entries
            self._begin()
            return self.read(durable_sequence, limit)
        assert self._here is not None
        try:
            entries = self._here.read(durable_sequence, limit)
        except JournalDroppedError:
            if self._journal.first_sequence <= self.sequence + 1:
                raise
            self._begin()
            return self.read(durable_sequence, limit)
        if entries:
            self.sequence = entries[-1].sequence
        return entries

    def _begin(self) -> None:
        first = self._journal.first_sequence
        self._archived = ArchiveReader(self._archive, self.sequence, first) if self.sequence + 1 < first else None
        self._here = None if self._archived is not None else self._journal._records_here(self.sequence)


__all__ = [
    "GROUP_LIMIT_RECORDS",
    "SEGMENT_LIMIT_BYTES",
    "Anchor",
    "Commit",
    "Journal",
    "JournalDamagedError",
    "JournalDroppedError",
    "JournalLockedError",
    "JournalReader",
    "JournalStore",
    "JournalUnavailableError",
    "SegmentInUseError",
    "SegmentView",
    "TornTail",
]
