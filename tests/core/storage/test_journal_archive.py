"""A segment goes only when everything in it is held elsewhere."""

from __future__ import annotations

import errno
import time
from collections import deque
from itertools import pairwise

import pytest

from core.storage.journal import Journal, JournalDamagedError, JournalDroppedError, JournalReader, SegmentInUseError
from core.storage.journal_archive import read_archived
from core.storage.journal_format import OVERHEAD_BYTES
from core.storage.journal_segments import read_whole
from core.storage.journal_verify import verify_journal
from core.storage.snapshots import write_snapshot
from core.types.events import JournalEntry
from tests.core.storage.faults import MemoryDisk

ENGINE = "engine-1"
ALL = 1_000


def payload(number: int) -> bytes:
    return b'{"number": %d, "padding": "%s"}' % (number, b"x" * 60)


def opened(disk: MemoryDisk) -> Journal:
    disk.kill()
    return Journal.open(disk.folder(), ENGINE, 300, inline=True, allocation_step_bytes=4_096)


def written(disk: MemoryDisk, count: int = 10) -> tuple[Journal, list[JournalEntry]]:
    journal = opened(disk)
    entries: list[JournalEntry] = []
    for number in range(count):
        entries += journal.begin([payload(number)]).result()
    return journal, entries


def snapshot(disk: MemoryDisk, journal: Journal) -> None:
    write_snapshot(disk.folder(), ENGINE, journal.epoch, journal.head, "d1" * 32, b"state")


def drop(disk: MemoryDisk, journal: Journal, name: str, projected: int = ALL, audited: int = ALL) -> None:
    journal.drop_segment(name, disk.folder("archive"), projected_sequence=projected, audited_sequence=audited)


def test_segments_are_listed_as_they_lie_one_behind_the_other() -> None:
    disk = MemoryDisk()
    journal, _ = written(disk)
    segments = journal.segments()
    assert len(segments) > 3
    assert [segment.is_active for segment in segments] == [False] * (len(segments) - 1) + [True]
    assert segments[0].first_sequence == 1
    for before, after in pairwise(segments):
        assert after.first_sequence == before.last_sequence + 1
    assert segments[-1].last_sequence == 10


def test_a_dropped_segment_is_read_from_the_archive_and_the_journal_goes_on_without_it() -> None:
    disk = MemoryDisk()
    journal, entries = written(disk)
    snapshot(disk, journal)
    names = [segment.name for segment in journal.segments()[:2]]
    for name in names:
        journal.archive_segment(name, disk.folder("archive"))
        drop(disk, journal, name)
    first = journal.segments()[0].first_sequence
    assert first > 1
    assert list(read_archived(disk.folder("archive"))) == entries[: first - 1]

    for present in (journal, opened(disk)):
        assert list(present.entries(first - 1)) == entries[first - 1 :]
        with pytest.raises(JournalDroppedError, match="archive folder"):
            list(present.entries(first - 2))
        with pytest.raises(JournalDroppedError, match="archive folder"):
            present.hash_at(1)
        assert present.sequence == 10


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ("archive", "isn't in the archive"),
        ("projected", "the ledger has projected 0"),
        ("audited", "the ledger has audited 0"),
        ("snapshot", "no sound snapshot covers that: there is none"),
        ("newer_snapshot", "the newest is of record 0"),
        ("sound_copy", "its copy in the archive isn't sound"),
        ("whole_copy", "doesn't hold the same records"),
        ("older_gone", "an older segment is still here"),
        ("inactive", "it is being written"),
        ("known", "has no such segment"),
    ],
)
def test_a_segment_stays_while_one_condition_fails_and_the_error_says_which(lacks: str, says: str) -> None:
    disk = MemoryDisk()
    journal, _ = written(disk, 0)
    if lacks == "newer_snapshot":
        snapshot(disk, journal)
    for number in range(10):
        journal.begin([payload(number)]).result()
    if lacks not in ("snapshot", "newer_snapshot"):
        snapshot(disk, journal)
    segments = journal.segments()
    name = {"older_gone": segments[1].name, "inactive": segments[-1].name, "known": "x"}.get(lacks, segments[0].name)
    if lacks not in ("archive", "inactive", "known"):
        journal.archive_segment(name, disk.folder("archive"))
    copy = disk.bytes_of("archive", name) if name in disk.folder("archive").names() else b""
    if lacks == "sound_copy":
        disk.flip("archive", name, 8 * (len(copy) - 5))
    if lacks == "whole_copy":
        disk.put("archive", name, copy[: -OVERHEAD_BYTES - len(payload(0))])
    before = journal.segments()

    with pytest.raises(SegmentInUseError, match=says):
        drop(disk, journal, name, 0 if lacks == "projected" else ALL, 0 if lacks == "audited" else ALL)

    assert journal.segments() == before
    assert [segment.name for segment in before] == disk.folder().names()


def test_a_copy_that_fails_leaves_nothing_that_looks_archived_and_can_be_tried_again() -> None:
    disk = MemoryDisk()
    journal, _ = written(disk)
    name = journal.segments()[0].name
    for errors in (disk.write_errors, disk.sync_errors, disk.names_errors):
        errors.append(OSError(errno.EIO, "Input/output error"))
        with pytest.raises(OSError, match="Input/output"):
            journal.archive_segment(name, disk.folder("archive"))
        disk.cut_power_keeping(lambda _name, _sector: False, sizes=False)
        assert disk.folder("archive").names() == []
        journal = opened(disk)
    journal.archive_segment(name, disk.folder("archive"))
    assert disk.folder("archive").names() == [name]
    journal.archive_segment(name, disk.folder("archive"))


def test_a_damaged_segment_isnt_archived() -> None:
    disk = MemoryDisk()
    journal, _ = written(disk)
    segment = journal.segments()[0]
    disk.flip("journal", segment.name, 8 * (segment.size_bytes - 5))
    with pytest.raises(JournalDamagedError, match="can't be archived"):
        journal.archive_segment(segment.name, disk.folder("archive"))
    assert disk.folder("archive").names() == []


def test_without_the_snapshot_a_journal_whose_beginning_was_dropped_says_what_to_put_back() -> None:
    disk = MemoryDisk()
    journal, _ = written(disk)
    snapshot(disk, journal)
    name = journal.segments()[0].name
    journal.archive_segment(name, disk.folder("archive"))
    drop(disk, journal, name)
    (held,) = disk.folder().names(".snapshot")
    disk.folder().remove(held)
    with pytest.raises(JournalDamagedError, match="Put the missing segments back from the archive, or the snapshot"):
        opened(disk)
    disk.put("journal", name, disk.bytes_of("archive", name))
    assert len(list(opened(disk).entries())) == 10


def test_an_archive_with_a_gap_or_a_wrong_byte_is_damage() -> None:
    disk = MemoryDisk()
    journal, entries = written(disk)
    archive = disk.folder("archive")
    names = [segment.name for segment in journal.segments()[:3]]
    for name in names:
        journal.archive_segment(name, archive)
    archive.remove(names[0])
    assert (
        list(read_archived(archive))
        == entries[journal.segments()[0].last_sequence : journal.segments()[2].last_sequence]
    )
    journal.archive_segment(names[0], archive)
    archive.remove(names[1])
    with pytest.raises(JournalDamagedError, match="doesn't continue"):
        list(read_archived(archive))


def test_a_reader_in_a_segment_that_is_dropped_goes_on_or_says_where_it_is() -> None:
    disk = MemoryDisk()
    journal, _ = written(disk)
    snapshot(disk, journal)
    reader, fresh = JournalReader(journal, 0), JournalReader(journal, 0)
    reader.read(1)
    name = journal.segments()[0].name
    journal.archive_segment(name, disk.folder("archive"))
    drop(disk, journal, name)
    assert [entry.sequence for entry in reader.read()] == list(range(2, 11))
    with pytest.raises(JournalDroppedError, match="archive"):
        fresh.read()


def opened_with_archive(disk: MemoryDisk) -> Journal:
    disk.kill()
    archive = disk.folder("archive")
    return Journal.open(disk.folder(), ENGINE, 300, inline=True, allocation_step_bytes=4_096, archive=archive)


def seconds_to_archive(records: int) -> float:
    """Of the processor, so that it doesn't count what the machine does meanwhile."""
    disk = MemoryDisk()
    journal = Journal.open(disk.folder(), ENGINE, inline=True)
    for first in range(0, records, 1_000):
        journal.begin([payload(number) for number in range(first, first + 1_000)])
    disk.kill()
    again = Journal.open(disk.folder(), ENGINE, inline=True)
    started = time.process_time()
    again.archive_segment(again.segments()[0].name, disk.folder("archive"))
    assert read_whole(disk.folder("archive"), again.segments()[0].name)[0].last_sequence == records
    assert verify_journal(disk.folder(), disk.folder("archive")).problems == ()
    return time.process_time() - started


def test_archiving_and_verifying_cost_in_proportion_to_the_records() -> None:
    """Four times the records: four times the time, where one look at all the rest for each record takes sixteen."""
    assert seconds_to_archive(40_000) < 10 * seconds_to_archive(10_000)


def archived_and_dropped(disk: MemoryDisk, journal: Journal, count: int) -> None:
    for name in [segment.name for segment in journal.segments()[:count]]:
        journal.archive_segment(name, disk.folder("archive"))
        drop(disk, journal, name)


@pytest.mark.parametrize("dropped", [0, 1, 2, 3])
@pytest.mark.parametrize("after", range(11))
@pytest.mark.parametrize("limit", [1, 3, 512])
def test_a_journal_that_knows_its_archive_is_read_as_if_nothing_had_been_dropped(
    dropped: int, after: int, limit: int
) -> None:
    disk = MemoryDisk()
    journal, entries = written(disk)
    snapshot(disk, journal)
    archived_and_dropped(disk, journal, dropped)
    present = opened_with_archive(disk)
    reader, read = JournalReader(present, after), []
    while batch := reader.read(limit):
        assert len(batch) <= limit
        read += batch
    assert read == entries[after:]
    assert reader.sequence == 10


def test_a_reader_goes_on_in_the_archive_when_its_segment_is_dropped_under_it() -> None:
    disk = MemoryDisk()
    _, entries = written(disk)
    journal = opened_with_archive(disk)
    snapshot(disk, journal)
    reader = JournalReader(journal, 0)
    read = reader.read(1)
    archived_and_dropped(disk, journal, 3)
    while batch := reader.read(2):
        read += batch
    assert read == entries


def test_an_archive_without_the_segment_that_is_asked_for_says_so() -> None:
    disk = MemoryDisk()
    journal, _ = written(disk)
    snapshot(disk, journal)
    archived_and_dropped(disk, journal, 3)
    archive = disk.folder("archive")
    archive.remove(archive.names()[0])
    with pytest.raises(JournalDroppedError, match="record 1 isn't in the archive"):
        JournalReader(opened_with_archive(disk), 0)
    first_there = int(archive.names()[0][:16])
    assert JournalReader(opened_with_archive(disk), first_there - 1).read(1)[0].sequence == first_there


def test_a_wrong_byte_in_the_archive_is_found_when_it_is_read() -> None:
    disk = MemoryDisk()
    journal, _ = written(disk)
    snapshot(disk, journal)
    archived_and_dropped(disk, journal, 2)
    name = disk.folder("archive").names()[0]
    disk.flip("archive", name, 8 * (len(disk.bytes_of("archive", name)) - 20))
    reader = JournalReader(opened_with_archive(disk), 0)
    with pytest.raises(JournalDamagedError, match="damaged at offset"):
        deque(iter(reader.read, []), maxlen=0)
