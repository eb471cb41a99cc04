"""The file port under the journal and its snapshots: the few calls they make, so that a test can break each of them."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

SEGMENT_SUFFIX = ".journal"
LOCK_NAME = "lock"
FILE_MODE = 0o600
FOLDER_MODE = 0o700
ZEROS_PER_WRITE_BYTES = 1 << 20
_CANT_ALLOCATE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class JournalFile(Protocol):
    """One file. Every call may raise OSError."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of data at an offset, or raise; on a raise part of it may be there."""
        ...

    def allocate(self, size: int) -> None:
        """Make the file at least so long: what is new reads as zero, and writes there need no further space.

        On a raise the file is as long as before.
        """
        ...

    def sync(self) -> None:
        """Return only when everything written is on stable storage. After a raise nothing is known."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to length bytes; fewer only at the end."""
        ...

    def size(self) -> int: ...
    def truncate(self, size: int) -> None: ...
    def close(self) -> None: ...


class JournalFolder(Protocol):
    """The folder of one engine's segments and snapshots. Names are plain, without a path."""

    def names(self, suffix: str = SEGMENT_SUFFIX) -> list[str]:
        """The names with this ending, in order."""
        ...

    def create(self, name: str) -> JournalFile:
        """A new file whose name is durable too. Raises FileExistsError."""
        ...

    def open(self, name: str) -> JournalFile: ...
    def rename(self, name: str, to: str) -> None:
        """Replace what was there, if anything. Durable once sync_names returned."""
        ...

    def remove(self, name: str) -> None:
        """Durable once sync_names returned. Raises FileNotFoundError."""
        ...

    def sync_names(self) -> None:
        """Return only when every name is on stable storage."""
        ...

    def path(self, name: str) -> str:
        """What to call the file in an error."""
        ...

    def lock(self) -> None:
        """Become the only writer. Raises BlockingIOError when another process is."""
        ...

    def unlock(self) -> None: ...


class PosixFile:
    """A file in the file system."""

    def __init__(self, path: Path, flags: int) -> None:
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, FILE_MODE)
        except OSError as error:
            if flags or error.errno not in (errno.EACCES, errno.EROFS):
                raise
            # An archive may be read-only.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def descriptor(self) -> int:
        """For who writes to it without Python."""
        return self._descriptor

    def write(self, offset: int, data: bytes) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)

    def allocate(self, size: int) -> None:
        start = self.size()
        if size <= start:
            return
        try:
            self._reserve(start, size)
        except OSError:
            self.truncate(start)
            raise

    def _reserve(self, start: int, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._descriptor, start, size - start)
            except OSError as error:
                if error.errno not in _CANT_ALLOCATE:
                    raise
            else:
                return
        zeros = bytes(ZEROS_PER_WRITE_BYTES)
        for offset in range(start, size, len(zeros)):
            self.write(offset, zeros[: size - offset])

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
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # A dropped segment is closed when its last reader is gone.
        self.close()


class PosixFolder:
    """Files under one folder of the file system, with flock for the single writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock_descriptor: int | None = None
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def names(self, suffix: str = SEGMENT_SUFFIX) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.name.endswith(suffix))

    def create(self, name: str) -> JournalFile:
        file = PosixFile(self._folder / name, os.O_CREAT | os.O_EXCL)
        try:
            self.sync_names()
        except OSError:
            file.close()
            raise
        return file

    def open(self, name: str) -> JournalFile:
        return PosixFile(self._folder / name, 0)

    def rename(self, name: str, to: str) -> None:
        (self._folder / name).replace(self._folder / to)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()

    def sync_names(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

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
