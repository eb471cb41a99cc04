"""What a crash or a damaged disk leaves of the journal.

Invariants: whatever subset of sectors of a group that never returned is lost, every record that was returned is read
back, and the rest is cut (a first part of the group may stay, in order); one flipped bit in anything that was returned
stops the start and changes nothing, also when a group behind it is torn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import product
from random import Random

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.storage.journal import Journal, JournalDamagedError
from core.storage.journal_format import GENESIS_HASH, SegmentHeader, encode_group, encode_header
from core.types.events import JournalEntry
from tests.core.storage.faults import SECTOR_BYTES, MemoryDisk

ENGINE = "engine-1"
FOLDER = "journal"
STEP_BYTES = 4_096
ALPHABET = bytes(range(0x20, 0x7F)) + "é€😀".encode()

sizes = st.one_of(st.integers(1, 40), st.integers(400, 560), st.integers(1, 2_500))
groups = st.lists(sizes, min_size=1, max_size=6)


class PowerCutError(BaseException):
    """The machine died."""


def payloads(lengths: list[int], random: Random) -> list[bytes]:
    return [bytes(random.choices(ALPHABET, k=length - 1)) + b"}" for length in lengths]


def open_journal(disk: MemoryDisk) -> Journal:
    return Journal.open(disk.folder(FOLDER), ENGINE, inline=True, allocation_step_bytes=STEP_BYTES)


def segment_of(disk: MemoryDisk) -> str:
    return disk.folder(FOLDER).names()[-1]


def write_and_die(disk: MemoryDisk, returned: list[list[bytes]], lost: list[bytes]) -> tuple[list[JournalEntry], int]:
    """What was returned, and where the returned part of the segment ends."""
    journal = open_journal(disk)
    entries = [entry for group in returned for entry in journal.begin(group).result()]
    end = journal.segments()[-1].size_bytes

    def die(operation: str, _name: str) -> None:
        if operation == "sync":
            raise PowerCutError

    disk.on_step = die
    with pytest.raises(PowerCutError):
        journal.begin(lost)
    disk.on_step = None
    return entries, end


def check_what_is_left(disk: MemoryDisk, returned: list[JournalEntry], lost: list[bytes]) -> None:
    journal = open_journal(disk)
    entries = list(journal.entries())
    assert entries[: len(returned)] == returned
    kept = [entry.payload for entry in entries[len(returned) :]]
    assert kept == lost[: len(kept)]
    journal.begin([b"{next}"]).result()
    disk.kill()
    again = list(open_journal(disk).entries())
    assert again[:-1] == entries
    assert again[-1].payload == b"{next}"


@settings(max_examples=100, deadline=None)
@given(st.lists(groups, max_size=3), groups, st.randoms(use_true_random=False), st.booleans())
def test_whatever_sectors_of_an_unreturned_group_are_lost_it_is_cut_and_what_returned_stays(
    returned: list[list[int]], lost: list[int], random: Random, size_kept: bool
) -> None:
    disk = MemoryDisk()
    seeded = Random(len(returned) * 31 + sum(lost))
    unreturned = payloads(lost, seeded)
    entries, _ = write_and_die(disk, [payloads(group, seeded) for group in returned], unreturned)
    disk.cut_power_keeping(lambda _name, _sector: random.random() < 0.6, sizes=size_kept)
    check_what_is_left(disk, entries, unreturned)


@pytest.mark.parametrize("returned", [[], [[100]], [[471, 37], [3]]], ids=str)
@pytest.mark.parametrize("lost", [[300, 300, 300, 300, 300], [2_000], [472, 1, 1, 471, 600, 30]], ids=str)
def test_every_subset_of_lost_sectors_is_a_torn_tail(returned: list[list[int]], lost: list[int]) -> None:
    random = Random(7)
    unreturned = payloads(lost, random)
    before = [payloads(group, random) for group in returned]
    probe = MemoryDisk()
    _, start = write_and_die(probe, before, unreturned)
    end = start + len(encode_group(GENESIS_HASH, unreturned)[0])
    sectors = range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES))
    for kept in product((True, False), repeat=len(sectors)):
        disk = MemoryDisk()
        entries, _ = write_and_die(disk, before, unreturned)
        keeps = dict(zip(sectors, kept, strict=True))
        disk.cut_power_keeping(lambda _name, sector, keeps=keeps: keeps[sector])  # type: ignore[misc]
        check_what_is_left(disk, entries, unreturned)


def test_every_flipped_bit_in_what_was_returned_is_damage_and_nothing_is_changed() -> None:
    disk = MemoryDisk()
    journal = open_journal(disk)
    random = Random(3)
    for lengths in ([30, 5], [2]):
        journal.begin(payloads(lengths, random)).result()
    end = journal.segments()[-1].size_bytes
    name = segment_of(disk)
    disk.kill()
    whole = disk.bytes_of(FOLDER, name)
    for bit in range(8 * end):
        disk.flip(FOLDER, name, bit)
        broken = disk.bytes_of(FOLDER, name)
        with pytest.raises(JournalDamagedError, match="damaged at offset"):
            open_journal(disk)
        assert disk.folder(FOLDER).names() == [name]
        assert disk.bytes_of(FOLDER, name) == broken
        disk.kill()
        disk.put(FOLDER, name, whole)
    assert len(list(open_journal(disk).entries())) == 3


@settings(max_examples=120, deadline=None)
@given(st.lists(groups, min_size=1, max_size=3), groups, st.randoms(use_true_random=False), st.data())
def test_a_flipped_bit_in_what_was_returned_is_damage_also_when_the_group_behind_it_is_torn(
    returned: list[list[int]], lost: list[int], random: Random, data: st.DataObject
) -> None:
    disk = MemoryDisk()
    seeded = Random(sum(lost))
    _, end = write_and_die(disk, [payloads(group, seeded) for group in returned], payloads(lost, seeded))
    disk.cut_power_keeping(lambda _name, _sector: random.random() < 0.6)
    name = segment_of(disk)
    disk.flip(FOLDER, name, data.draw(st.integers(0, 8 * end - 1), label="bit"))
    broken = disk.bytes_of(FOLDER, name)
    with pytest.raises(JournalDamagedError, match="damaged at offset"):
        open_journal(disk)
    assert disk.bytes_of(FOLDER, name) == broken


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_power_cut_before_any_step_loses_nothing_that_was_returned(deadly_step: int, random: Random) -> None:
    disk = MemoryDisk()
    steps = 0

    def die(_operation: str, _name: str) -> None:
        nonlocal steps
        steps += 1
        if steps == deadly_step:
            raise PowerCutError

    disk.on_step = die
    returned: list[JournalEntry] = []
    try:
        for life in range(3):
            journal = Journal.open(disk.folder(FOLDER), ENGINE, 600, inline=True, allocation_step_bytes=STEP_BYTES)
            assert list(journal.entries())[: len(returned)] == returned
            for number in range(4):
                returned += journal.begin([b"{%d of %d}" % (number, life) * 20] * 3).result()
            disk.kill()
    except PowerCutError:
        disk.cut_power(random)
    disk.on_step = None
    journal = open_journal(disk)
    assert list(journal.entries())[: len(returned)] == returned


@pytest.mark.parametrize("keep", [lambda _sector: False, lambda sector: sector == 1, lambda sector: sector != 1])
def test_a_start_whose_header_was_lost_is_no_damage(keep: Callable[[int], bool]) -> None:
    engine = ENGINE + "x" * 900
    disk = MemoryDisk()

    def die(operation: str, _name: str) -> None:
        if operation == "sync":
            raise PowerCutError

    disk.on_step = die
    with pytest.raises(PowerCutError):
        Journal.open(disk.folder(FOLDER), engine, inline=True)
    disk.on_step = None
    disk.cut_power_keeping(lambda _name, sector: keep(sector))
    journal = Journal.open(disk.folder(FOLDER), engine, inline=True)
    assert (journal.epoch, journal.sequence) == (1, 0)


def record_of_schema_1(previous: bytes, payload: bytes) -> bytes:
    length = len(payload).to_bytes(4, "little")
    checksum: int = google_crc32c.value(length + previous + payload)
    return length + checksum.to_bytes(4, "little") + previous + payload


def test_a_journal_of_the_first_schema_opens_and_goes_on() -> None:
    header = SegmentHeader("veloz.journal/1", ENGINE, 1, 1, GENESIS_HASH.hex())
    data, previous = encode_header(header), GENESIS_HASH
    for payload in (b"{one}", b"{two}"):
        data += record_of_schema_1(previous, payload)
        previous = hashlib.sha256(previous + payload).digest()
    disk = MemoryDisk()
    disk.put(FOLDER, "0000000000000001-00000001.journal", data + record_of_schema_1(previous, b"{torn}")[:-3])

    journal = open_journal(disk)
    assert journal.torn_tail is not None
    assert journal.torn_tail.offset == len(data)
    journal.begin([b"{three}"]).result()
    disk.kill()
    assert [entry.payload for entry in open_journal(disk).entries()] == [b"{one}", b"{two}", b"{three}"]


def test_space_reserved_behind_the_last_record_is_no_torn_tail() -> None:
    disk = MemoryDisk()
    journal = open_journal(disk)
    journal.begin([b"{one}"]).result()
    assert len(disk.bytes_of(FOLDER, segment_of(disk))) > journal.segments()[-1].size_bytes
    disk.kill()
    journal = open_journal(disk)
    assert journal.torn_tail is None
    assert [entry.payload for entry in journal.entries()] == [b"{one}"]
