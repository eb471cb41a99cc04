"""The journal: what append returned is there after any crash; what it didn't return is not half there."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from core.storage.journal import (
    Journal,
    JournalDamagedError,
    JournalLockedError,
    JournalReader,
    JournalUnavailableError,
)
from core.storage.journal_files import PosixFolder
from core.storage.journal_format import RECORD_LIMIT_BYTES
from core.types.events import JournalEntry
from tests.core.storage.faults import BreakableFolder, Disk

ENGINE = "engine-1"


def payload(number: int) -> bytes:
    return b'{"record": %d, "padding": "%s"}' % (number, b"x" * 50)


async def write(folder: Path, first: int, count: int) -> tuple[JournalEntry, ...]:
    journal = Journal.open(PosixFolder(folder), ENGINE)
    entries = await journal.append([payload(n) for n in range(first, first + count)])
    await journal.close()
    return entries


async def read(folder: Path) -> list[JournalEntry]:
    journal = Journal.open(PosixFolder(folder), ENGINE)
    entries = list(journal.entries())
    await journal.close()
    return entries


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


async def test_what_was_appended_is_read_back_by_the_next_start(tmp_path: Path) -> None:
    written = await write(tmp_path, 1, 3)
    again = await write(tmp_path, 4, 2)

    entries = await read(tmp_path)

    assert entries == [*written, *again]
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.epoch for entry in entries] == [1, 1, 1, 2, 2]


async def test_every_opening_starts_an_epoch(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        journal = Journal.open(PosixFolder(tmp_path), ENGINE)
        assert journal.epoch == expected
        await journal.close()


async def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    journal = Journal.open(PosixFolder(tmp_path), ENGINE)
    with pytest.raises(JournalLockedError, match="another engine writes this journal"):
        Journal.open(PosixFolder(tmp_path), ENGINE)
    await journal.close()
    await Journal.open(PosixFolder(tmp_path), ENGINE).close()


async def test_another_engines_journal_is_refused(tmp_path: Path) -> None:
    await write(tmp_path, 1, 1)
    with pytest.raises(JournalDamagedError, match="is of engine 'engine-1', not 'engine-2'"):
        Journal.open(PosixFolder(tmp_path), "engine-2")


async def test_a_tail_torn_at_any_byte_is_cut_and_what_was_confirmed_stays(tmp_path: Path) -> None:
    await write(tmp_path, 1, 2)
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    record_length = len(payload(1)) + 40
    for missing in range(1, record_length):
        segment.write_bytes(whole[:-missing])
        for later in segments(tmp_path)[1:]:
            later.unlink()

        journal = Journal.open(PosixFolder(tmp_path), ENGINE)
        assert [entry.payload for entry in journal.entries()] == [payload(1)]
        assert journal.torn_tail is not None
        assert journal.torn_tail.length == record_length - missing
        await journal.close()


async def test_unwritten_pages_at_the_end_are_a_torn_tail(tmp_path: Path) -> None:
    await write(tmp_path, 1, 1)
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes() + bytes(4_096))

    assert [entry.payload for entry in await read(tmp_path)] == [payload(1)]


async def test_any_flipped_byte_in_a_confirmed_record_is_damage_and_nothing_is_cut(tmp_path: Path) -> None:
    await write(tmp_path, 1, 3)
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    for position in range(len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0x41
        segment.write_bytes(broken)
        with pytest.raises(JournalDamagedError, match="damaged at offset"):
            Journal.open(PosixFolder(tmp_path), ENGINE)
        assert segment.read_bytes() == bytes(broken)


async def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    for first in (1, 2, 3):
        await write(tmp_path, first, 1)
    segments(tmp_path)[1].unlink()
    with pytest.raises(JournalDamagedError, match="doesn't continue the segment before it"):
        Journal.open(PosixFolder(tmp_path), ENGINE)


async def test_a_short_segment_before_the_last_is_damage(tmp_path: Path) -> None:
    await write(tmp_path, 1, 2)
    await write(tmp_path, 3, 1)
    first = segments(tmp_path)[0]
    first.write_bytes(first.read_bytes()[:-5])
    with pytest.raises(JournalDamagedError, match="stops within a record"):
        Journal.open(PosixFolder(tmp_path), ENGINE)


async def test_a_start_that_died_in_its_header_is_no_damage(tmp_path: Path) -> None:
    await write(tmp_path, 1, 1)
    await write(tmp_path, 2, 0)
    last = segments(tmp_path)[-1]
    header = last.read_bytes()
    for length in range(len(header)):
        last.write_bytes(header[:length])
        assert [entry.payload for entry in await read(tmp_path)] == [payload(1)]
        for later in segments(tmp_path)[2:]:
            later.unlink()


async def test_a_full_disk_refuses_the_append_and_takes_the_next_one(tmp_path: Path) -> None:
    disk = Disk()
    journal = Journal.open(BreakableFolder(tmp_path, disk), ENGINE)
    await journal.append([payload(1)])

    disk.append = disk.full
    with pytest.raises(JournalUnavailableError, match="No space left"):
        await journal.append([payload(2), payload(3)])
    (entry,) = await journal.append([payload(4)])

    assert entry.sequence == 2
    await journal.close()
    assert [entry.payload for entry in await read(tmp_path)] == [payload(1), payload(4)]


async def test_after_a_failed_sync_nothing_is_taken_until_the_next_start(tmp_path: Path) -> None:
    disk = Disk()
    journal = Journal.open(BreakableFolder(tmp_path, disk), ENGINE)
    await journal.append([payload(1)])

    disk.sync = OSError(errno.EIO, "Input/output error")
    for _ in range(2):
        with pytest.raises(JournalUnavailableError, match="restart the engine"):
            await journal.append([payload(2)])

    assert journal.sequence == 1
    await journal.close()
    assert (await read(tmp_path))[0].payload == payload(1)


async def test_a_disk_that_neither_writes_nor_cuts_back_ends_the_journal(tmp_path: Path) -> None:
    disk = Disk()
    journal = Journal.open(BreakableFolder(tmp_path, disk), ENGINE)
    await journal.append([payload(1)])

    disk.append, disk.truncate = disk.full, OSError(errno.EIO, "Input/output error")
    for _ in range(2):
        with pytest.raises(JournalUnavailableError):
            await journal.append([payload(2)])

    await journal.close()
    assert [entry.payload for entry in await read(tmp_path)] == [payload(1)]


async def test_appends_that_wait_together_share_a_sync(tmp_path: Path) -> None:
    disk = Disk()
    journal = Journal.open(BreakableFolder(tmp_path, disk), ENGINE)
    before = disk.syncs

    written = await asyncio.gather(*(journal.append([payload(n)]) for n in range(100)))

    assert [entry.sequence for (entry,) in written] == list(range(1, 101))
    assert disk.syncs - before <= 2
    await journal.close()


async def test_a_caller_that_goes_away_doesnt_take_its_record_back(tmp_path: Path) -> None:
    journal = Journal.open(PosixFolder(tmp_path), ENGINE)
    gone = asyncio.create_task(journal.append([payload(1)]))
    stays = asyncio.create_task(journal.append([payload(2)]))
    await asyncio.sleep(0)
    gone.cancel()

    assert (await stays)[0].sequence == 2

    await journal.close()
    assert [entry.payload for entry in await read(tmp_path)] == [payload(1), payload(2)]


@pytest.mark.parametrize("bad", [b"", b"x" * (RECORD_LIMIT_BYTES + 1), b"zero\x00"])
async def test_a_record_out_of_bounds_is_refused_and_harms_no_other(tmp_path: Path, bad: bytes) -> None:
    journal = Journal.open(PosixFolder(tmp_path), ENGINE)
    with pytest.raises(ValueError, match="a journal record has"):
        await journal.append([bad])
    await journal.append([payload(1)])
    await journal.close()


async def test_segments_roll_and_a_reader_walks_over_them(tmp_path: Path) -> None:
    journal = Journal.open(PosixFolder(tmp_path), ENGINE, segment_limit_bytes=400)
    reader = JournalReader(journal, 3)
    seen: list[int] = []
    for number in range(1, 21):
        await journal.append([payload(number)])
        seen += [entry.sequence for entry in reader.read()]
    await journal.close()

    assert len(segments(tmp_path)) > 3
    assert seen == list(range(4, 21))
    assert [entry.sequence for entry in await read(tmp_path)] == list(range(1, 21))


async def test_a_reader_hears_of_new_records(tmp_path: Path) -> None:
    journal = Journal.open(PosixFolder(tmp_path), ENGINE)
    waiting = asyncio.create_task(journal.wait_beyond(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    await journal.append([payload(1)])
    async with asyncio.timeout(60):
        await waiting
    await journal.close()
