"""The file port under the journal: the few calls it makes, so that a test can break each of them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

SEGMENT_SUFFIX = ".journal"
LOCK_NAME = "lock"
FILE_MODE = 0o600
FOLDER_MODE = 0o700


class JournalFile(Protocol):
    """One segment. Every call may raise OSError."""

    def append(self, data: bytes) -> None:
        """Write all of data at the end, or raise; on a raise part of it may be there."""
        ...

    def sync(self) -> None:
        """Return only when everything appended is on stable storage. After a raise nothing is known."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to length bytes; fewer only at the end."""
        ...

    def size(self) -> int: ...
    def truncate(self, size: int) -> None: ...
    def close(self) -> None: ...


class JournalFolder(Protocol):
    """The folder of segments of one engine."""

    def names(self) -> list[str]:
        """Segment names in order."""
        ...

    def create(self, name: str) -> JournalFile:
        """A new segment whose name is durable too. Raises FileExistsError."""
        ...

    def open(self, name: str) -> JournalFile: ...
    def path(self, name: str) -> str:
        """What to call the segment in an error."""
        ...

    def lock(self) -> None:
        """Become the only writer. Raises BlockingIOError when another process is."""
        ...

    def unlock(self) -> None: ...


class PosixFile:
    """A segment in the file system."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, FILE_MODE)

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        if hasattr(fcntl, "F_FULLFSYNC"):
            # On macOS fsync leaves data in the drive's cache.
            fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        while length > 0 and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


class PosixFolder:
    """Segments under one folder of the file system, with flock for the single writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock_descriptor: int | None = None
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.name.endswith(SEGMENT_SUFFIX))

    def create(self, name: str) -> JournalFile:
        file = PosixFile(self._folder / name, os.O_CREAT | os.O_EXCL)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return file

    def open(self, name: str) -> JournalFile:
        return PosixFile(self._folder / name, 0)

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def lock(self) -> None:
        descriptor = os.open(self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._lock_descriptor = descriptor

    def unlock(self) -> None:
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None
