"""Snapshots shorten the start; one that isn't sound costs time and nothing else."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random

import pytest
from structlog.testing import capture_logs

from core.storage.journal import Journal, JournalDamagedError
from core.storage.snapshots import SNAPSHOT_SUFFIX, SNAPSHOTS_KEPT, newest_snapshot, write_snapshot
from tests.core.storage.faults import MemoryDisk

ENGINE = "engine-1"
FOLDER = "journal"


class PowerCutError(BaseException):
    """The machine died."""


def opened(disk: MemoryDisk) -> Journal:
    disk.kill()
    return Journal.open(disk.folder(), ENGINE, 300, inline=True, allocation_step_bytes=4_096)


def write(journal: Journal, count: int) -> None:
    for number in range(count):
        journal.begin([b'{"number": %d, "padding": "%s"}' % (number, b"x" * 60)]).result()


def snapshot(disk: MemoryDisk, journal: Journal, engine_id: str = ENGINE) -> None:
    at = journal.head
    write_snapshot(disk.folder(), engine_id, journal.epoch, at, "d1" * 32, b"state at %d" % at.sequence)


def names(disk: MemoryDisk) -> list[str]:
    return disk.folder().names(SNAPSHOT_SUFFIX)


def test_the_newest_is_found_with_its_state_and_the_newest_few_are_kept() -> None:
    disk = MemoryDisk()
    journal = opened(disk)
    assert newest_snapshot(disk.folder(), journal) is None
    for _ in range(5):
        write(journal, 4)
        snapshot(disk, journal)
    assert len(names(disk)) == SNAPSHOTS_KEPT
    write(journal, 3)

    again = opened(disk)
    found = newest_snapshot(disk.folder(), again)
    assert found is not None
    assert (found.sequence, found.state, found.header.state_digest_hex) == (20, b"state at 20", "d1" * 32)
    assert [entry.sequence for entry in again.entries(found.sequence)] == [21, 22, 23]
    assert again.sequence == 23


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda disk, name: disk.flip(FOLDER, name, 8 * 40), "header's checksum"),
        (
            lambda disk, name: disk.flip(FOLDER, name, 8 * (len(disk.bytes_of(FOLDER, name)) - 1)),
            "isn't what was written",
        ),
        (lambda disk, name: disk.put(FOLDER, name, disk.bytes_of(FOLDER, name)[:-1]), "isn't what was written"),
        (lambda disk, name: disk.put(FOLDER, name, b""), "doesn't start with"),
    ],
    ids=["header", "state", "short", "empty"],
)
def test_a_damaged_snapshot_is_skipped_with_a_warning_for_the_next_older_one(
    spoil: Callable[[MemoryDisk, str], None], problem: str
) -> None:
    disk = MemoryDisk()
    journal = opened(disk)
    for _ in range(2):
        write(journal, 4)
        snapshot(disk, journal)
    spoil(disk, names(disk)[-1])
    with capture_logs() as logs:
        again = opened(disk)
        found = newest_snapshot(disk.folder(), again)
    assert found is not None
    assert found.sequence == 4
    assert all(problem in entry["problem"] for entry in logs if entry["event"] == "snapshot_skipped")
    assert any(entry["event"] == "snapshot_skipped" for entry in logs)
    assert len(list(again.entries())) == 8


def test_every_flipped_bit_of_a_snapshot_is_noticed() -> None:
    disk = MemoryDisk()
    journal = opened(disk)
    write(journal, 1)
    snapshot(disk, journal)
    (name,) = names(disk)
    for bit in range(8 * len(disk.bytes_of(FOLDER, name))):
        disk.flip(FOLDER, name, bit)
        assert newest_snapshot(disk.folder(), journal) is None
        disk.flip(FOLDER, name, bit)
    assert newest_snapshot(disk.folder(), journal) is not None


def test_a_snapshot_of_another_engine_or_another_journal_is_skipped() -> None:
    other = MemoryDisk()
    foreign = opened(other)
    foreign.begin([b"{something else}"] * 6).result()
    snapshot(other, foreign)
    disk = MemoryDisk()
    journal = opened(disk)
    write(journal, 8)
    snapshot(disk, journal, "engine-2")
    disk.put(FOLDER, names(other)[0], other.bytes_of(FOLDER, names(other)[0]))

    again = opened(disk)
    with capture_logs() as logs:
        assert newest_snapshot(disk.folder(), again) is None
    assert [entry["problem"] for entry in logs] == ["it is of engine 'engine-2'", "it isn't of this journal"]
    assert again.sequence == 8


def test_a_start_from_a_snapshot_reads_older_segments_only_when_asked_and_notices_damage_then() -> None:
    disk = MemoryDisk()
    journal = opened(disk)
    write(journal, 12)
    snapshot(disk, journal)
    write(journal, 2)
    oldest = disk.folder().names()[0]
    disk.flip(FOLDER, oldest, 8 * (journal.segments()[0].size_bytes - 10))

    again = opened(disk)
    found = newest_snapshot(disk.folder(), again)
    assert found is not None
    assert [entry.sequence for entry in again.entries(found.sequence)] == [13, 14]
    with pytest.raises(JournalDamagedError, match=oldest):
        list(again.entries())
    disk.folder().remove(names(disk)[0])
    with pytest.raises(JournalDamagedError, match=oldest):
        opened(disk)


def test_damage_behind_the_snapshot_stops_the_start() -> None:
    disk = MemoryDisk()
    journal = opened(disk)
    write(journal, 12)
    snapshot(disk, journal)
    write(journal, 6)
    holding = next(segment for segment in journal.segments() if segment.first_sequence > 12)
    disk.flip(FOLDER, holding.name, 8 * (holding.size_bytes - 10))
    with pytest.raises(JournalDamagedError, match=holding.name):
        opened(disk)


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_power_cut_at_any_step_of_writing_one_leaves_a_sound_one(steps: int) -> None:
    for seed in range(6):
        disk = MemoryDisk()
        journal = opened(disk)
        for _ in range(SNAPSHOTS_KEPT):
            write(journal, 2)
            snapshot(disk, journal)
        write(journal, 2)
        left = steps

        def die(_operation: str, _name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise PowerCutError

        disk.on_step = die
        try:
            snapshot(disk, journal)
            sequences = {8}
        except PowerCutError:
            sequences = {6, 8}
        disk.on_step = None
        disk.cut_power(Random(seed))
        again = opened(disk)
        found = newest_snapshot(disk.folder(), again)
        assert found is not None
        assert found.sequence in sequences
        write(again, 1)
        snapshot(disk, again)
        assert not disk.folder().names(".tmp")


def test_a_full_disk_loses_no_snapshot_that_was_there() -> None:
    disk = MemoryDisk()
    journal = opened(disk)
    write(journal, 2)
    snapshot(disk, journal)
    disk.write_errors.append(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        snapshot(disk, journal)
    assert not disk.folder().names(".tmp")
    assert newest_snapshot(disk.folder(), journal) is not None


def test_a_snapshot_of_records_that_the_journal_doesnt_have_is_skipped() -> None:
    ahead, behind = MemoryDisk(), MemoryDisk()
    journal = opened(ahead)
    write(journal, 4)
    shorter = opened(behind)
    write(shorter, 3)
    write_snapshot(behind.folder(), ENGINE, journal.epoch, journal.head, "d1" * 32, b"state at 4")
    assert newest_snapshot(behind.folder(), shorter) is None


def test_a_segment_of_another_history_stops_the_start() -> None:
    """Its own records are in order and it begins at the right one: only the chain tells."""
    disk, other = MemoryDisk(), MemoryDisk()
    for each, count in ((disk, 12), (other, 12)):
        journal = opened(each)
        journal.begin([b'{"of": "%s"}' % (b"one" if each is disk else b"two")]).result()
        write(journal, count)
    name = disk.folder().names()[-1]
    assert name == other.folder().names()[-1]
    disk.put(FOLDER, name, other.bytes_of(FOLDER, name))
    with pytest.raises(JournalDamagedError, match="doesn't continue"):
        opened(disk)


def test_a_wiped_record_with_a_sound_group_behind_it_is_damage_and_no_torn_tail() -> None:
    disk = MemoryDisk()
    journal = Journal.open(disk.folder(), ENGINE, inline=True, allocation_step_bytes=8_192)
    first = len(disk.bytes_of(FOLDER, disk.folder().names()[0]).rstrip(b"\0"))
    for _ in range(4):
        journal.begin([b'{"padding": "%s"}' % (b"x" * 900)]).result()
    name = disk.folder().names()[0]
    whole = disk.bytes_of(FOLDER, name)
    disk.kill()
    # From the first record on to the end of its sector and the two behind it: as if they had never been written.
    end = (first // 512 + 3) * 512
    disk.put(FOLDER, name, whole[:first] + bytes(end - first) + whole[end:])
    with pytest.raises(JournalDamagedError):
        Journal.open(disk.folder(), ENGINE, inline=True, allocation_step_bytes=8_192)
