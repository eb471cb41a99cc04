"""Groups that a native thread writes: durable and read back as any other, and a disk's errors mean the same."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core._native import DiskThread
from core.storage.journal import Journal, JournalUnavailableError
from core.storage.journal_files import PosixFile, PosixFolder

WAIT_S = 60.0


class FaultyDisk:
    """A native thread whose outcomes are replaced, first come first served; it may be told to hang."""

    def __init__(self, *outcomes: tuple[int, int]) -> None:
        self.begun = 0
        self.gate = threading.Event()
        self.gate.set()
        self._disk = DiskThread()
        self._outcomes = list(outcomes)
        self.descriptor, self._told_by = os.pipe()
        os.set_blocking(self.descriptor, False)

    def begin(self, descriptor: int, offset: int, data: bytes) -> bool:
        self.begun += 1
        return self._disk.begin(descriptor, offset, data)

    def wait(self, timeout_s: float, looking_s: float = 0.0) -> bool:
        return self.gate.wait(timeout_s) and self._disk.wait(timeout_s, looking_s)

    def expect(self) -> None:
        self._disk.expect()

    def watch(self) -> bool:
        return self.wait(0.0)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 64)

    def open_gate(self) -> None:
        """What was begun ends now, and who watches is told."""
        self.gate.set()
        assert self._disk.wait(WAIT_S)
        os.write(self._told_by, b".")

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._told_by)

    def outcome(self) -> tuple[int, int]:
        return self._outcomes[0] if self._outcomes else self._disk.outcome()

    def heal(self) -> None:
        self._outcomes.clear()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal.open(PosixFolder(tmp_path), "engine-1")
    yield opened
    disk = opened._disk
    await opened.close()
    if isinstance(disk, FaultyDisk):
        disk.close()


def use(journal: Journal, disk: FaultyDisk) -> FaultyDisk:
    journal._disk = disk  # type: ignore[assignment]
    return disk


def payloads(journal: Journal) -> list[bytes]:
    return [entry.payload for entry in journal.entries()]


async def test_a_plain_group_is_written_natively_and_read_back(journal: Journal) -> None:
    disk = use(journal, FaultyDisk())
    for group in ([b'{"a":1}'], [b'{"b":2}', b'{"c":3}']):
        commit = journal.begin(group)
        assert commit.wait(WAIT_S)
        assert [entry.payload for entry in commit.result()] == group
    assert disk.begun == 2
    assert payloads(journal) == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


async def test_a_full_disk_refuses_the_group_and_takes_the_next(journal: Journal) -> None:
    disk = use(journal, FaultyDisk((errno.ENOSPC, 0)))
    commit = journal.begin([b'{"lost":1}'])
    assert commit.wait(WAIT_S)
    with pytest.raises(JournalUnavailableError, match="can't be written"):
        commit.result()
    disk.heal()
    assert journal.begin([b'{"kept":1}']).wait(WAIT_S)
    assert payloads(journal) == [b'{"kept":1}']


async def test_after_a_sync_that_failed_nothing_is_taken(journal: Journal) -> None:
    use(journal, FaultyDisk((0, errno.EIO)))
    commit = journal.begin([b'{"unknown":1}'])
    assert commit.wait(WAIT_S)
    with pytest.raises(JournalUnavailableError, match="didn't confirm"):
        commit.result()
    assert journal.dead_reason is not None
    with pytest.raises(JournalUnavailableError):
        journal.begin([b'{"no":1}'])


async def test_a_descriptor_that_cant_be_written_is_an_error_of_the_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    disk, read_only = DiskThread(), path.open("rb")
    with read_only:
        assert disk.begin(read_only.fileno(), 0, b"x")
        assert disk.wait(WAIT_S)
        assert disk.outcome() == (errno.EBADF, 0)


async def test_a_disk_that_hangs_holds_up_nobody_who_waits_with_patience(journal: Journal) -> None:
    disk = use(journal, FaultyDisk())
    disk.gate.clear()
    commit = journal.begin([b'{"a":1}'])
    assert not commit.wait(0.0)
    assert not commit.is_over
    told = asyncio.Event()
    commit.notify(asyncio.get_running_loop(), told.set)
    waiting = [asyncio.create_task(asyncio.to_thread(commit.wait, WAIT_S)) for _ in range(2)]
    disk.open_gate()
    async with asyncio.timeout(WAIT_S):
        await told.wait()
    assert await asyncio.gather(*waiting) == [True, True]
    assert journal.sequence == 1


async def test_the_loop_is_told_of_each_group_by_the_native_thread_itself(journal: Journal) -> None:
    loop = asyncio.get_running_loop()
    for number in range(50):
        commit = journal.begin([b'{"a":%d}' % number] * (1 + number % 3))
        told = asyncio.Event()
        commit.notify(loop, told.set)
        async with asyncio.timeout(WAIT_S):
            await told.wait()
        commit.confirm()
    assert journal._begun.empty()
    # A byte that tells of a group which somebody else took in first is no news of the next one.
    for number in range(50):
        commit = journal.begin([b'{"b":%d}' % number])
        told = asyncio.Event()
        commit.notify(loop, told.set)
        if number % 2:
            assert commit.wait(WAIT_S)
        async with asyncio.timeout(WAIT_S):
            await told.wait()
        assert commit.is_finished
    assert len(payloads(journal)) == 99 + 50


async def test_the_loop_is_told_of_a_group_that_failed(journal: Journal) -> None:
    disk = use(journal, FaultyDisk((errno.ENOSPC, 0)))
    disk.gate.clear()
    commit = journal.begin([b'{"a":1}'])
    told = asyncio.Event()
    commit.notify(asyncio.get_running_loop(), told.set)
    disk.open_gate()
    async with asyncio.timeout(WAIT_S):
        await told.wait()
    with pytest.raises(JournalUnavailableError):
        commit.confirm()
    disk.heal()
    assert journal.begin([b'{"a":2}']).wait(WAIT_S)
    assert payloads(journal) == [b'{"a":2}']


async def test_what_is_expected_may_come_or_not(journal: Journal) -> None:
    for number in range(3):
        journal.expect()
        journal.expect()
        assert journal.begin([b'{"a":%d}' % number]).wait(WAIT_S, WAIT_S)
    journal.expect()
    assert payloads(journal) == [b'{"a":0}', b'{"a":1}', b'{"a":2}']


async def test_who_reads_hears_of_a_group_that_nobody_else_asked_for(journal: Journal) -> None:
    reading = asyncio.create_task(journal.wait_beyond(0))
    journal.begin([b'{"a":1}'])
    async with asyncio.timeout(WAIT_S):
        await reading
    assert payloads(journal) == [b'{"a":1}']


async def test_segments_roll_and_space_is_taken_ahead(tmp_path: Path) -> None:
    record = b'{"x":"' + b"y" * 2_000 + b'"}'
    journal = Journal.open(PosixFolder(tmp_path), "engine-1", 100_000, allocation_step_bytes=70_000)
    for _ in range(150):
        assert journal.begin([record]).wait(WAIT_S)
    assert len(journal.segments()) > 2
    await journal.close()
    again = Journal.open(PosixFolder(tmp_path), "engine-1")
    assert payloads(again) == [record] * 150
    await again.close()


async def test_a_group_is_written_whole_beyond_what_one_write_takes(tmp_path: Path) -> None:
    file, disk = PosixFile(tmp_path / "file", 0o100), DiskThread()
    data = bytes(range(1, 251)) * 40_000
    assert disk.begin(file.descriptor, 7, data)
    assert disk.wait(WAIT_S)
    assert file.read(7, len(data))[-100:] == data[-100:]
    file.close()
