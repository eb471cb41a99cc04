"""Groups handed over one at a time: over when durable, told to whoever waits, on both backends of the journal.

What RocksDB can't do is skipped by name, as its docstring lists it.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from core.storage.journal import Journal, JournalLockedError, JournalReader, JournalStore, JournalUnavailableError
from core.storage.journal_errors import JournalDamagedError
from core.storage.journal_files import PosixFolder
from core.storage.journal_rocksdb import RocksdbMissingError, RocksJournal
from core.storage.journal_store import GROUP_LIMIT_RECORDS
from core.storage.journal_writer import EMERGENCY_RESERVE_BYTES
from core.types.events import JournalEntry
from tests.core.storage.faults import MemoryDisk

ENGINE = "engine-1"
WAIT_S = 60.0

Open = Callable[..., JournalStore]


@pytest.fixture(params=["segments", "rocksdb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    def segments(engine_id: str = ENGINE, *, inline: bool = False) -> JournalStore:
        return Journal.open(PosixFolder(tmp_path), engine_id, inline=inline)

    def rocksdb(engine_id: str = ENGINE, *, inline: bool = False) -> JournalStore:
        return RocksJournal.open(tmp_path, engine_id, inline=inline)

    return segments if request.param == "segments" else rocksdb


@pytest.fixture
async def store(open_store: Open) -> AsyncIterator[JournalStore]:
    journal = open_store()
    yield journal
    await journal.close()


# --- both backends


@pytest.mark.parametrize("inline", [False, True])
async def test_what_a_commit_returned_is_read_back_by_the_next_start(open_store: Open, inline: bool) -> None:
    journal = open_store(inline=inline)
    returned: list[JournalEntry] = []
    for group in ([b"{1}"], [b"{2}", b"{3}"], [b"{4}"] * 3):
        commit = journal.begin(group)
        assert commit.wait(WAIT_S)
        assert journal.sequence == commit.result()[-1].sequence
        returned += commit.result()
    assert [entry.sequence for entry in returned] == [1, 2, 3, 4, 5, 6]
    await journal.close()

    again = open_store()
    assert list(again.entries()) == returned
    assert (again.epoch, again.sequence) == (2, 6)
    (entry,) = await again.append([b"{7}"])
    assert (entry.epoch, entry.sequence) == (2, 7)
    assert again.head.hash.hex() == entry.hash_hex
    assert again.hash_at(3).hex() == returned[2].hash_hex
    await again.close()


async def test_a_second_writer_and_another_engine_are_kept_out(open_store: Open) -> None:
    journal = open_store()
    with pytest.raises(JournalLockedError, match="another engine writes this journal"):
        open_store()
    await journal.close()
    with pytest.raises(JournalDamagedError, match="is of engine 'engine-1', not 'engine-2'"):
        open_store("engine-2")
    await open_store().close()


async def test_notify_calls_on_the_loop_whether_it_is_over_already_or_not(store: JournalStore) -> None:
    loop = asyncio.get_running_loop()
    called: list[str] = []
    over = asyncio.Event()
    commit = store.begin([b"{1}"])
    commit.notify(loop, lambda: called.append("first"))
    assert commit.wait(WAIT_S)
    commit.notify(loop, lambda: called.append("second"))
    commit.notify(loop, over.set)
    assert called == [], "only on the loop"
    async with asyncio.timeout(WAIT_S):
        await over.wait()
    assert called == ["first", "second"]


async def test_who_waits_for_records_hears_of_a_commit_that_nobody_looked_at(store: JournalStore) -> None:
    waiting = asyncio.create_task(store.wait_beyond(1))
    await asyncio.sleep(0)
    store.begin([b"{1}"]).wait(WAIT_S)
    assert not waiting.done()
    store.begin([b"{2}"])
    async with asyncio.timeout(WAIT_S):
        await waiting
    assert store.sequence == 2


async def test_appends_queue_behind_a_group_that_is_on_its_way(store: JournalStore) -> None:
    commit = store.begin([b"{1}"])
    (second,), (third,) = await asyncio.gather(store.append([b"{2}"]), store.append([b"{3}"]))
    assert (commit.result()[0].sequence, second.sequence, third.sequence) == (1, 2, 3)


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ([b""], "a journal record has"),
        ([b"a\0b"], "a journal record has"),
        ([b"ends in one bit @"], "a journal record has"),
        ([b"{}"] * (GROUP_LIMIT_RECORDS + 1), "are appended together"),
        ([b"x" * 1_048_576] * 33, "are appended together"),
    ],
    ids=["empty", "zero", "one-bit", "records", "bytes"],
)
async def test_a_group_out_of_bounds_is_refused_and_harms_no_other(
    store: JournalStore, group: list[bytes], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        store.begin(group)
    assert store.begin([b"{}"] * GROUP_LIMIT_RECORDS).wait(WAIT_S)
    assert store.sequence == GROUP_LIMIT_RECORDS
    assert store.begin([]).result() == ()


async def test_a_closed_journal_takes_nothing(open_store: Open) -> None:
    journal = open_store()
    await journal.close()
    with pytest.raises(JournalUnavailableError, match="closed"):
        journal.begin([b"{}"])


async def test_a_reader_goes_on_where_it_was(store: JournalStore) -> None:
    await store.append([b"{%d}" % number for number in range(1, 8)])
    reader = JournalReader(store, 2)
    assert [entry.sequence for entry in reader.read(3)] == [3, 4, 5]
    assert [entry.sequence for entry in reader.read()] == [6, 7]
    assert reader.read() == []
    await store.append([b"{8}"])
    assert [entry.payload for entry in reader.read()] == [b"{8}"]
    assert reader.sequence == 8


# --- the engine's own


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


def opened(disk: MemoryDisk, *, inline: bool = False) -> Journal:
    return Journal.open(disk.folder(), ENGINE, inline=inline, allocation_step_bytes=4_096)


async def test_while_the_disk_hangs_the_caller_gets_its_turn_and_a_second_group_is_refused(disk: MemoryDisk) -> None:
    journal = opened(disk)
    gate = disk.hang_sync()
    commit = journal.begin([b"{1}"])
    assert not commit.wait(0.001)
    assert not commit.is_over
    assert (journal.sequence, list(journal.entries())) == (0, [])
    with pytest.raises(RuntimeError, match="on its way"):
        journal.begin([b"{2}"])
    appended = asyncio.create_task(journal.append([b"{2}"]))
    over = asyncio.Event()
    commit.notify(asyncio.get_running_loop(), over.set)
    gate.set()
    async with asyncio.timeout(WAIT_S):
        await over.wait()
        assert (await appended)[0].sequence == 2
    await journal.close()


def test_inline_a_commit_is_over_when_begin_returns(disk: MemoryDisk) -> None:
    journal = opened(disk, inline=True)
    commit = journal.begin([b"{1}"])
    assert commit.is_over
    assert commit.wait(0)
    disk.sync_errors.append(OSError(errno.EIO, "Input/output error"))
    failed = journal.begin([b"{2}"])
    with pytest.raises(JournalUnavailableError, match="restart the engine"):
        failed.result()
    assert journal.dead_reason is not None
    with pytest.raises(JournalUnavailableError, match="restart the engine"):
        journal.begin([b"{3}"])


def test_a_group_is_one_write_and_one_sync(disk: MemoryDisk) -> None:
    journal = opened(disk, inline=True)
    steps: list[str] = []
    disk.on_step = lambda operation, _name: steps.append(operation)
    journal.begin([b"{%d}" % number for number in range(64)]).result()
    assert steps[:2] == ["write", "sync"]
    assert set(steps[2:]) <= {"allocate"}


def test_on_a_full_disk_emergencies_are_recorded_until_the_reserve_is_gone_and_all_is_well_with_space_again(
    disk: MemoryDisk,
) -> None:
    journal = opened(disk, inline=True)
    record = [b"{" + b"x" * 1_000 + b"}"]
    disk.capacity_bytes = 0
    ordinary = 0
    while True:
        commit = journal.begin(record)
        try:
            ordinary += len(commit.result())
        except JournalUnavailableError as error:
            assert "no space for another record" in str(error)  # noqa: PT017
            break
    emergencies = 0
    while (emergencies + 1) * 1_042 <= EMERGENCY_RESERVE_BYTES:
        journal.begin(record, emergency=True).result()
        emergencies += 1
    with pytest.raises(JournalUnavailableError, match="No space left"):
        journal.begin(record * 2, emergency=True).result()
    assert journal.dead_reason is None

    disk.capacity_bytes = None
    journal.begin(record).result()
    total = journal.sequence
    assert total == ordinary + emergencies + 1
    disk.kill()
    assert len(list(opened(disk, inline=True).entries())) == total


def test_on_a_full_disk_a_full_segment_still_takes_emergencies(disk: MemoryDisk) -> None:
    journal = Journal.open(disk.folder(), ENGINE, 300, inline=True, allocation_step_bytes=4_096)
    journal.begin([b"{" + b"x" * 400 + b"}"]).result()
    disk.capacity_bytes = 0
    with pytest.raises(JournalUnavailableError, match="no further segment"):
        journal.begin([b"{ordinary}"]).result()
    assert journal.begin([b"{emergency}"], emergency=True).result()[0].sequence == 2
    disk.capacity_bytes = None
    assert journal.begin([b"{ordinary}"]).result()[0].sequence == 3
    assert len(journal.segments()) == 2
    disk.kill()
    assert [entry.sequence for entry in opened(disk, inline=True).entries()] == [1, 2, 3]


def test_a_write_that_fails_half_way_leaves_nothing_for_a_later_crash_to_find(disk: MemoryDisk) -> None:
    journal = opened(disk, inline=True)
    journal.begin([b"{1}"]).result()
    disk.write_errors.append(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(JournalUnavailableError, match="can't be written"):
        journal.begin([b"{" + b"x" * 3_000 + b"}"]).result()
    journal.begin([b"{2}"]).result()
    disk.cut_power_keeping(lambda _name, _sector: False, sizes=False)
    again = opened(disk, inline=True)
    assert [entry.payload for entry in again.entries()] == [b"{1}", b"{2}"]
    assert again.torn_tail is None


async def test_a_caller_may_wait_in_one_thread_while_another_one_is_told(disk: MemoryDisk) -> None:
    journal = opened(disk)
    gate, told = disk.hang_sync(), asyncio.Event()
    commit = journal.begin([b"{1}"])
    waiting = asyncio.create_task(asyncio.to_thread(commit.wait, WAIT_S))
    commit.notify(asyncio.get_running_loop(), told.set)
    gate.set()
    assert await waiting
    async with asyncio.timeout(WAIT_S):
        await told.wait()
    await journal.close()


# --- RocksDB


async def test_rocksdb_a_torn_end_is_cut_in_silence_and_damage_before_it_stops_the_start(tmp_path: Path) -> None:
    journal = RocksJournal.open(tmp_path, ENGINE)
    for number in range(1, 100):
        await journal.append([b'{"record": %d, "text": "%s"}' % (number, b"x" * 1_000)])
    killed, damaged = tmp_path / "killed", tmp_path / "damaged"
    for copy in (killed, damaged):
        # As kill -9 leaves it: closing would write it into tables.
        shutil.copytree(tmp_path / "rocksdb", copy / "rocksdb")
    await journal.close()

    log = max((killed / "rocksdb").glob("*.log"), key=lambda file: file.stat().st_size)
    whole = log.read_bytes()
    log.write_bytes(whole[:-500])
    again = RocksJournal.open(killed, ENGINE)
    assert [entry.sequence for entry in again.entries()] == list(range(1, 99))
    assert again.torn_tail is None, "it doesn't tell"
    await again.close()

    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 1
    (damaged / "rocksdb" / log.name).write_bytes(broken)
    with pytest.raises(JournalDamagedError, match="Restore the folder"):
        RocksJournal.open(damaged, ENGINE)


def test_rocksdb_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(RocksdbMissingError, match=r"Install veloz\[rocksdb\]"):
        RocksJournal.open(tmp_path, ENGINE)
