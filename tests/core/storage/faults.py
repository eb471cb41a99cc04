"""A disk that can be broken call by call, behind the journal's file port."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from core.storage.journal_files import JournalFile, PosixFolder


class Disk:
    """Faults to come: each is taken once, by the next call of its kind."""

    def __init__(self) -> None:
        self.append: Callable[[JournalFile, bytes], None] | None = None
        self.sync: OSError | None = None
        self.truncate: OSError | None = None
        self.offset = 0
        self.syncs = 0

    def full(self, file: JournalFile, data: bytes) -> None:
        """For append: takes a part, as a disk that runs full does."""
        file.write(self.offset, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


class BreakableFile:
    def __init__(self, file: JournalFile, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, offset: int, data: bytes) -> None:
        fault, self._disk.append = self._disk.append, None
        if fault is not None:
            self._disk.offset = offset
            fault(self._file, data)
        self._file.write(offset, data)

    def allocate(self, size: int) -> None:
        self._file.allocate(size)

    def sync(self) -> None:
        self._disk.syncs += 1
        fault, self._disk.sync = self._disk.sync, None
        if fault is not None:
            raise fault
        self._file.sync()

    def read(self, offset: int, length: int) -> bytes:
        return self._file.read(offset, length)

    def size(self) -> int:
        return self._file.size()

    def truncate(self, size: int) -> None:
        fault, self._disk.truncate = self._disk.truncate, None
        if fault is not None:
            raise fault
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


class BreakableFolder(PosixFolder):
    def __init__(self, folder: Path, disk: Disk) -> None:
        super().__init__(folder)
        self._disk = disk

    def create(self, name: str) -> JournalFile:
        return BreakableFile(super().create(name), self._disk)

    def open(self, name: str) -> JournalFile:
        return BreakableFile(super().open(name), self._disk)
