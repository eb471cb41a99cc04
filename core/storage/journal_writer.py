"""Writing segments: preallocated, one write and one sync a group, cut back when a write fails."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

import structlog

from core._native import DiskThread
from core.storage.journal_errors import JournalUnavailableError
from core.storage.journal_files import SEGMENT_SUFFIX, JournalFolder, PosixFile
from core.storage.journal_format import HEADER_SCHEMA, SegmentHeader, encode_header
from core.storage.journal_segments import Anchor, LoadedJournal, Segment

SEGMENT_LIMIT_BYTES = 64 * 1024 * 1024
ALLOCATION_STEP_BYTES = 4 * 1024 * 1024
EMERGENCY_RESERVE_BYTES = 64 * 1024
"""The end of the preallocated space, for safety commands when there is no more."""

_log = structlog.get_logger("engine.journal")


class SegmentWriter:
    """The end of the journal. Used by one thread at a time.

    Space is taken ALLOCATION_STEP_BYTES ahead, so that a sync has no file size to write, and so that a disk that runs
    full is noticed before the reserve is touched.
    """

    def __init__(
        self, folder: JournalFolder, engine_id: str, loaded: LoadedJournal, limit_bytes: int, step_bytes: int
    ) -> None:
        self.segments = loaded.segments
        self.head = Anchor(loaded.sequence, loaded.hash)
        self.epoch = loaded.epoch + 1
        self.dead: str | None = None
        self._folder = folder
        self._engine_id = engine_id
        self._limit_bytes = limit_bytes
        self._step_bytes = step_bytes
        self._start_segment()

    @property
    def _active(self) -> Segment:
        return self.segments[-1]

    def write(self, data: bytes, records: int, digest: bytes, *, is_emergency: bool) -> None:
        """Make a group durable. Raises JournalUnavailableError: then none of it is in the journal."""
        if self.dead is not None:
            raise JournalUnavailableError(self.dead)
        if self._active.end >= self._limit_bytes:
            self._roll(is_emergency=is_emergency)
        segment = self._active
        self._take_space(segment, len(data), is_emergency=is_emergency)
        file = segment.file
        try:
            file.write(segment.end, data)
        except OSError as error:
            self._write_failed(segment, error)
        try:
            file.sync()
        except OSError as error:
            self._sync_failed(segment, error)
        self._advance(len(data), records, digest)

    def begin_on(self, disk: DiskThread, data: bytes, *, is_emergency: bool) -> bool:
        """Begin a group on a thread that knows files only, to be told to end_on when it is over. False for a group that
        needs more than one write and one sync: nothing has begun then."""
        segment = self._active
        file, reserve = segment.file, 0 if is_emergency else EMERGENCY_RESERVE_BYTES
        if (
            self.dead is not None
            or type(file) is not PosixFile
            or segment.end >= self._limit_bytes
            or segment.end + len(data) + reserve > segment.allocated
        ):
            return False
        return disk.begin(file.descriptor, segment.end, data)

    def end_on(self, disk: DiskThread, size: int, records: int, digest: bytes) -> None:
        """As write returns or raises."""
        write_error, sync_error = disk.outcome()
        if write_error:
            self._write_failed(self._active, OSError(write_error, os.strerror(write_error)))
        if sync_error:
            self._sync_failed(self._active, OSError(sync_error, os.strerror(sync_error)))
        self._advance(size, records, digest)

    @property
    def wants_space(self) -> bool:
        """Whether allocate_ahead has something to do."""
        segment = self._active
        left = segment.allocated - EMERGENCY_RESERVE_BYTES - segment.end
        return 2 * left < self._step_bytes and segment.allocated < self._limit_bytes and self.dead is None

    def allocate_ahead(self) -> None:
        """Between two groups: take the next step of space before it is needed. A full disk is told to who needs it."""
        segment = self._active
        if self.wants_space:
            with contextlib.suppress(OSError):
                self._allocate(segment, segment.allocated + self._step_bytes)

    def close(self) -> None:
        """Give back the space that wasn't used. Nothing is written afterwards."""
        if self.dead is None:
            self._trim(self._active)
            self.dead = f"{self._folder.path(self._active.name)}: the journal is closed. Restart the engine."
        for segment in self.segments:
            segment.close()
        self.segments.clear()

    def _advance(self, size: int, records: int, digest: bytes) -> None:
        segment = self._active
        segment.end += size
        segment.last_sequence += records
        self.head = Anchor(segment.last_sequence, digest)

    def _write_failed(self, segment: Segment, error: OSError) -> NoReturn:
        self._cut_back(segment, error)
        raise JournalUnavailableError(
            f"{self._folder.path(segment.name)}: can't be written: {error}. Free space or mend the disk."
        ) from error

    def _sync_failed(self, segment: Segment, error: OSError) -> NoReturn:
        # After a failed fsync the kernel may have dropped the pages and call the next one a success.
        self.dead = (
            f"{self._folder.path(segment.name)}: the disk didn't confirm a write: {error}. Mend it, then restart the "
            "engine."
        )
        raise JournalUnavailableError(self.dead) from error

    def _take_space(self, segment: Segment, size: int, *, is_emergency: bool) -> None:
        needed = segment.end + size
        if needed + (0 if is_emergency else EMERGENCY_RESERVE_BYTES) <= segment.allocated:
            return
        try:
            self._allocate(segment, needed + EMERGENCY_RESERVE_BYTES)
        except OSError as error:
            if is_emergency:
                # The write itself tells whether there is any.
                return
            raise JournalUnavailableError(
                f"{self._folder.path(segment.name)}: no space for another record: {error}. Free space on this disk."
            ) from error

    def _allocate(self, segment: Segment, size: int) -> None:
        """At least size; whole steps while the segment has room and the disk has space."""
        steps = -(-size // self._step_bytes) * self._step_bytes
        target = max(size, min(steps, self._limit_bytes + EMERGENCY_RESERVE_BYTES))
        try:
            segment.file.allocate(target)
        except OSError:
            if target == size:
                raise
            segment.file.allocate(target := size)
        segment.allocated = target

    def _cut_back(self, segment: Segment, error: OSError) -> None:
        try:
            segment.file.truncate(segment.end)
            segment.allocated = segment.end
            # What was written of it must be gone before something else is written there.
            segment.file.sync()
        except OSError as second:
            path = self._folder.path(segment.name)
            self.dead = f"{path}: can't be written ({error}) nor cut back ({second}). Restart the engine."
            raise JournalUnavailableError(self.dead) from second
        with contextlib.suppress(OSError):
            self._allocate(segment, segment.end + EMERGENCY_RESERVE_BYTES)

    def _roll(self, *, is_emergency: bool) -> None:
        full = self._active
        try:
            self._start_segment()
        except OSError as error:
            if is_emergency:
                # A segment may be longer than it should; its reserve is still there.
                return
            raise JournalUnavailableError(
                f"{self._folder.path(full.name)}: no further segment can be started: {error}. Free space on this disk."
            ) from error
        self._trim(full)

    def _trim(self, segment: Segment) -> None:
        """Free space behind the last record is no fault, so neither is a trim that fails."""
        try:
            segment.file.truncate(segment.end)
            segment.file.sync()
        except OSError as error:
            _log.warning("journal_segment_not_trimmed", path=self._folder.path(segment.name), error=str(error))

    def _start_segment(self) -> None:
        first_sequence = self.head.sequence + 1
        header = SegmentHeader(HEADER_SCHEMA, self._engine_id, self.epoch, first_sequence, self.head.hash.hex())
        name = f"{first_sequence:016d}-{self.epoch:08d}{SEGMENT_SUFFIX}"
        data = encode_header(header)
        try:
            file = self._folder.create(name)
        except FileExistsError:
            # A start or a roll that didn't get beyond the header.
            file = self._folder.open(name)
            file.truncate(0)
        segment = Segment(self._folder, name, header, len(data))
        segment.use(file)
        try:
            with contextlib.suppress(OSError):
                self._allocate(segment, len(data) + EMERGENCY_RESERVE_BYTES)
            file.write(0, data)
            file.sync()
        except OSError:
            segment.close()
            with contextlib.suppress(OSError):
                self._folder.remove(name)
            raise
        self.segments.append(segment)
