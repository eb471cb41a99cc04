"""Disks that can be broken, behind the journal's file port (core.storage.journal_files).

MemoryDisk: a disk in memory that forgets what a real one may forget.
    disk = MemoryDisk(capacity_bytes=None)      # or a size in bytes: ENOSPC beyond it, a write takes what fits
    disk.folder(name="journal") -> MemoryFolder # the JournalFolder port; folders of one name are the same folder
    disk.write_errors / sync_errors / allocate_errors / names_errors: deques of OSError, each taken by the next call of
        its kind; a write takes half of its data first; names: create's and sync_names' sync of the folder
    disk.hang_sync() -> threading.Event         # every sync waits from now on until the event is set; the event
                                                # disk.syncing is set as soon as one waits
    disk.on_step = f(operation, name)           # called before each change ("write", "sync", "allocate", "truncate",
                                                # "create", "sync_names", "rename", "remove"); what it raises ends the
                                                # call before anything happened: a simulation can die between any two
    disk.kill()                                 # the process dies: nothing is lost, locks go, open files are gone
    disk.cut_power(random)                      # the machine dies: of each file any of the unsynced 512-byte sectors
                                                # are lost (a sector is old or new as a whole), its unsynced length is
                                                # old or new, and of the unsynced names the last so many are lost
    disk.cut_power_keeping(keeps, sizes=True, names=0)   # the same, chosen: keeps(file name, sector number) -> bool
    disk.flip(folder, file, bit)                # one bit of what is durable, and of what is read
    disk.put(folder, file, data)                # a durable file of these bytes, instead of what was there
    disk.bytes_of(folder, file) -> bytes        # as it is read now
    disk.is_durable(folder, data) -> bool       # whether some file of the folder holds these bytes after any power cut
    disk.syncs                                  # how many there were

Disk and BreakableFolder: real files whose next call can be broken (append, sync, truncate, allocate).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Event

from core.storage.journal_files import SEGMENT_SUFFIX, JournalFile, PosixFolder

SECTOR_BYTES = 512
NO_SPACE = "No space left on device"


class _Inode:
    """A file's bytes as they are read, and as a power cut leaves them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        self.unsynced: set[int] = set()

    def touch(self, start: int, end: int) -> None:
        self.unsynced.update(range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES)))

    def sync(self) -> None:
        size = len(self.data)
        if len(self.durable) != size:
            del self.durable[size:]
            self.durable.extend(bytes(size - len(self.durable)))
        for sector in self.unsynced:
            start = sector * SECTOR_BYTES
            self.durable[start : start + SECTOR_BYTES] = self.data[start : start + SECTOR_BYTES]
        self.unsynced.clear()

    def lose(self, keeps: Callable[[int], bool], *, size: bool) -> None:
        after = bytearray(self.durable)
        longest = max(len(self.data), len(after))
        after.extend(bytes(longest - len(after)))
        new = bytes(self.data) + bytes(longest - len(self.data))
        for sector in sorted(self.unsynced):
            if keeps(sector):
                start = sector * SECTOR_BYTES
                after[start : start + SECTOR_BYTES] = new[start : start + SECTOR_BYTES]
        del after[len(self.data) if size else len(self.durable) :]
        self.data, self.durable = bytearray(after), after
        self.unsynced.clear()


class MemoryDisk:
    """See above."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.write_errors: deque[OSError] = deque()
        self.sync_errors: deque[OSError] = deque()
        self.allocate_errors: deque[OSError] = deque()
        self.names_errors: deque[OSError] = deque()
        self.on_step: Callable[[str, str], None] | None = None
        self.syncing = Event()
        self.syncs = 0
        self.life = 0
        self._gate: Event | None = None
        self._folders: dict[str, _Names] = {}

    def folder(self, name: str = "journal") -> MemoryFolder:
        return MemoryFolder(self, name, self._folders.setdefault(name, _Names()))

    def hang_sync(self) -> Event:
        self.syncing.clear()
        self._gate = Event()
        return self._gate

    def kill(self) -> None:
        self.life += 1
        for names in self._folders.values():
            names.is_locked = False

    def cut_power(self, random: Random) -> None:
        self.kill()
        for names in self._folders.values():
            names.lose(random.randint(0, len(names.unsynced)))
            for inode in names.now.values():
                inode.lose(lambda _sector: random.random() < 0.5, size=random.random() < 0.5)

    def cut_power_keeping(self, keeps: Callable[[str, int], bool], *, sizes: bool = True, names: int = 0) -> None:
        """names: how many of the unsynced changes to names stay."""
        self.kill()
        for folder in self._folders.values():
            folder.lose(names)
            for name, inode in folder.now.items():

                def keep(sector: int, name: str = name) -> bool:
                    return keeps(name, sector)

                inode.lose(keep, size=sizes)

    def flip(self, folder: str, file: str, bit: int) -> None:
        inode = self._folders[folder].now[file]
        for held in (inode.data, inode.durable):
            if bit // 8 < len(held):
                held[bit // 8] ^= 1 << bit % 8

    def put(self, folder: str, file: str, data: bytes) -> None:
        inode = _Inode()
        inode.data, inode.durable = bytearray(data), bytearray(data)
        names = self._folders.setdefault(folder, _Names())
        names.now[file] = names.durable[file] = inode

    def bytes_of(self, folder: str, file: str) -> bytes:
        return bytes(self._folders[folder].now[file].data)

    def is_durable(self, folder: str, data: bytes) -> bool:
        return any(data in inode.durable for inode in self._folders[folder].durable.values())

    def step(self, operation: str, name: str) -> None:
        if self.on_step is not None:
            self.on_step(operation, name)

    def wait_for_gate(self) -> None:
        if self._gate is not None:
            self.syncing.set()
            self._gate.wait()

    def free_bytes(self) -> int:
        """How much longer files may get."""
        if self.capacity_bytes is None:
            return 1 << 62
        used = sum(len(inode.data) for names in self._folders.values() for inode in names.now.values())
        return max(0, self.capacity_bytes - used)


class _Names:
    def __init__(self) -> None:
        self.now: dict[str, _Inode] = {}
        self.durable: dict[str, _Inode] = {}
        self.unsynced: list[Callable[[dict[str, _Inode]], object]] = []
        self.is_locked = False

    def change(self, change: Callable[[dict[str, _Inode]], object]) -> None:
        change(self.now)
        self.unsynced.append(change)

    def sync(self) -> None:
        self.durable = dict(self.now)
        self.unsynced.clear()

    def lose(self, keep: int) -> None:
        for change in self.unsynced[:keep]:
            change(self.durable)
        self.now = dict(self.durable)
        self.unsynced.clear()


class MemoryFile:
    """An open file of a MemoryDisk; it dies with the process that opened it."""

    def __init__(self, disk: MemoryDisk, name: str, inode: _Inode) -> None:
        self._disk, self._name, self._inode = disk, name, inode
        self._life = disk.life

    def write(self, offset: int, data: bytes) -> None:
        self._step("write")
        if self._disk.write_errors:
            self._put(offset, data[: len(data) // 2])
            raise self._disk.write_errors.popleft()
        fits = max(0, len(self._inode.data) - offset) + self._disk.free_bytes()
        self._put(offset, data[:fits])
        if fits < len(data):
            raise OSError(errno.ENOSPC, NO_SPACE)

    def allocate(self, size: int) -> None:
        self._step("allocate")
        if self._disk.allocate_errors:
            raise self._disk.allocate_errors.popleft()
        more = size - len(self._inode.data)
        if more > self._disk.free_bytes():
            raise OSError(errno.ENOSPC, NO_SPACE)
        if more > 0:
            self._inode.data.extend(bytes(more))

    def sync(self) -> None:
        self._step("sync")
        self._disk.wait_for_gate()
        self._disk.syncs += 1
        if self._disk.sync_errors:
            raise self._disk.sync_errors.popleft()
        if self._life == self._disk.life:
            self._inode.sync()

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._inode.data[offset : offset + length])

    def size(self) -> int:
        return len(self._inode.data)

    def truncate(self, size: int) -> None:
        self._step("truncate")
        self._inode.touch(size, len(self._inode.data))
        del self._inode.data[size:]
        self._inode.data.extend(bytes(size - len(self._inode.data)))

    def close(self) -> None:
        pass

    def _put(self, offset: int, data: bytes) -> None:
        held = self._inode.data
        held.extend(bytes(max(0, offset + len(data) - len(held))))
        held[offset : offset + len(data)] = data
        self._inode.touch(offset, offset + len(data))

    def _step(self, operation: str) -> None:
        if self._life != self._disk.life:
            raise OSError(errno.EIO, "the process that opened this file is dead")
        self._disk.step(operation, self._name)


class MemoryFolder:
    """The JournalFolder port on a MemoryDisk."""

    def __init__(self, disk: MemoryDisk, name: str, names: _Names) -> None:
        self._disk, self._name, self._names = disk, name, names

    def names(self, suffix: str = SEGMENT_SUFFIX) -> list[str]:
        return sorted(name for name in self._names.now if name.endswith(suffix))

    def create(self, name: str) -> JournalFile:
        self._disk.step("create", name)
        if name in self._names.now:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        inode = _Inode()
        self._names.change(lambda names: names.__setitem__(name, inode))
        self.sync_names()
        return MemoryFile(self._disk, name, inode)

    def open(self, name: str) -> JournalFile:
        if name not in self._names.now:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return MemoryFile(self._disk, name, self._names.now[name])

    def rename(self, name: str, to: str) -> None:
        self._disk.step("rename", name)
        self._names.change(lambda names: names.__setitem__(to, names.pop(name)))

    def remove(self, name: str) -> None:
        self._disk.step("remove", name)
        if name not in self._names.now:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        self._names.change(lambda names: names.pop(name))

    def sync_names(self) -> None:
        self._disk.step("sync_names", "")
        if self._disk.names_errors:
            raise self._disk.names_errors.popleft()
        self._names.sync()

    def path(self, name: str) -> str:
        return f"{self._name}/{name}"

    def lock(self) -> None:
        if self._names.is_locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        self._names.is_locked = True

    def unlock(self) -> None:
        self._names.is_locked = False


class Disk:
    """Faults to come of real files: each is taken once, by the next call of its kind."""

    def __init__(self) -> None:
        self.append: Callable[[JournalFile, bytes], None] | None = None
        self.sync: OSError | None = None
        self.truncate: OSError | None = None
        self.allocate: OSError | None = None
        self.offset = 0
        self.syncs = 0

    def full(self, file: JournalFile, data: bytes) -> None:
        """For append: takes a part, as a disk that runs full does."""
        file.write(self.offset, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, NO_SPACE)


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
        fault, self._disk.allocate = self._disk.allocate, None
        if fault is not None:
            raise fault
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
