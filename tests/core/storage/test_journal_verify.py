"""`veloz journal verify`: every record, here and in the archive, from the files alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.storage.journal import Journal
from core.storage.journal_verify import verify_journal
from core.storage.snapshots import write_snapshot
from tests.core.storage.faults import MemoryDisk

ENGINE = "engine-1"
RECORDS = 10


def opened(disk: MemoryDisk) -> Journal:
    return Journal.open(disk.folder(), ENGINE, 300, inline=True, allocation_step_bytes=4_096)


def written(dropped: int) -> MemoryDisk:
    """Ten records in several segments, of which the oldest are in the archive only, the next one in both."""
    disk = MemoryDisk()
    journal = opened(disk)
    for number in range(RECORDS):
        journal.begin([b'{"number": %d, "padding": "%s"}' % (number, b"x" * 60)])
    write_snapshot(disk.folder(), ENGINE, journal.epoch, journal.head, "d1" * 32, b"state")
    archive = disk.folder("archive")
    names = [segment.name for segment in journal.segments()]
    for name in names[: dropped + 1]:
        journal.archive_segment(name, archive)
    for name in names[:dropped]:
        journal.drop_segment(name, archive, projected_sequence=RECORDS, audited_sequence=RECORDS)
    return disk


@pytest.mark.parametrize("dropped", [0, 1, 3])
def test_a_whole_journal_is_whole_beside_a_running_engine_too(dropped: int) -> None:
    disk = written(dropped)
    result = verify_journal(disk.folder(), disk.folder("archive"))
    assert (result.problems, result.first_sequence, result.last_sequence) == ((), 1, RECORDS)


def newest(disk: MemoryDisk, folder: str = "journal") -> str:
    return disk.folder(folder).names()[-1]


def flip(folder: str, index: int) -> Callable[[MemoryDisk], None]:
    def broken(disk: MemoryDisk) -> None:
        name = disk.folder(folder).names()[index]
        data = disk.bytes_of(folder, name).rstrip(b"\0")
        disk.flip(folder, name, 8 * (len(data) - 20))

    return broken


def remove(folder: str, index: int) -> Callable[[MemoryDisk], None]:
    return lambda disk: disk.folder(folder).remove(disk.folder(folder).names()[index])


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (flip("journal", 0), "damaged at offset"),
        (flip("journal", 1), "damaged at offset"),
        (flip("archive", 0), "damaged at offset"),
        (remove("journal", 1), "it doesn't continue the segment before it"),
        (remove("archive", 1), "it doesn't continue the segment before it"),
        (remove("archive", -2), "the archive doesn't end where that begins"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(broken: Callable[[MemoryDisk], None], says: str) -> None:
    disk = written(3)
    broken(disk)
    result = verify_journal(disk.folder(), disk.folder("archive"))
    assert any(says in problem for problem in result.problems), result.problems


def test_a_journal_whose_beginning_is_nowhere_says_so() -> None:
    disk = written(2)
    (problem,) = verify_journal(disk.folder(), None).problems
    assert "Put the missing segments back into the archive" in problem


def test_a_write_that_isnt_over_at_the_end_is_no_damage() -> None:
    disk = written(0)
    data = disk.bytes_of("journal", newest(disk)).rstrip(b"\0")
    disk.put("journal", newest(disk), data[:-30])
    result = verify_journal(disk.folder(), disk.folder("archive"))
    assert (result.problems, result.last_sequence) == ((), RECORDS - 1)
    assert result.segments[-1].torn_bytes > 0
