"""What stands behind the last sound record of the last segment: free space, a torn tail, or damage.

The model of a crash: of a group that never returned, any of the 512-byte sectors may be missing (they read as zero, or
as the file's end), and the write itself may have stopped anywhere. A group that returned is there. One group at a time
is on its way, so a sound record that is the first of its group proves everything before it.

The model of damage: a returned record with a wrong byte. Every part of a record that a sector can hold has more than
one bit set (core.storage.journal_format says how), so a single flipped bit never makes it look like a missing sector.
What no missing sector explains is damage; so a torn tail is cut only where nothing that was returned can lie.
"""

from __future__ import annotations

from collections.abc import Iterator

import google_crc32c

from core.storage.journal_format import (
    FIRST_KIND,
    KINDS,
    OVERHEAD_BYTES,
    PREFIX_LENGTH_BYTES,
    RECORD_LIMIT_BYTES,
    BadRecordError,
    decode_header,
    decode_record,
)

SECTOR_BYTES = 512
_WORD_BYTES = 4
_LENGTH_BITS = range(8, 32)


def written_end(data: bytes) -> int:
    """The offset behind the last byte that isn't zero."""
    return len(data.rstrip(b"\0"))


def is_free(data: bytes, offset: int) -> bool:
    """Whether nothing but zeros stands at an offset and behind it."""
    return data.count(0, offset) == len(data) - offset


def is_torn_tail(data: bytes, offset: int) -> bool:
    """Whether missing sectors explain that no sound record stands at offset, and nothing returned can lie behind it."""
    end = written_end(data)
    if end <= offset:
        return True
    if _has_sound_record(data, offset + 1, (FIRST_KIND,)):
        return False
    sector_end = _next_sector(offset)
    if not any(data[offset : min(sector_end, end)]):
        return True
    if end < offset + _WORD_BYTES:
        return True
    if sector_end < offset + _WORD_BYTES and not any(data[sector_end : min(sector_end + SECTOR_BYTES, end)]):
        return True
    return _is_record_with_a_hole(data, offset, end)


def is_torn_header(data: bytes) -> bool:
    """Whether a segment's header never became durable: then no record in it did."""
    end = written_end(data)
    if _has_sound_record(data, 1, KINDS):
        return False
    if not any(data[: min(SECTOR_BYTES, end)]):
        return True
    if end < PREFIX_LENGTH_BYTES:
        return True
    claimed = PREFIX_LENGTH_BYTES + int.from_bytes(data[8:12], "little")
    if claimed <= end:
        return _has_empty_sector(data, 0, claimed)
    for length in (end - PREFIX_LENGTH_BYTES, *((claimed - PREFIX_LENGTH_BYTES) ^ 1 << bit for bit in range(13))):
        try:
            decode_header(data[:8] + length.to_bytes(4, "little") + data[12:])
        except (BadRecordError, OverflowError):
            continue
        return False
    return True


def _is_record_with_a_hole(data: bytes, offset: int, end: int) -> bool:
    """The record's word is all there: where is what its length spans?"""
    word = int.from_bytes(data[offset : offset + _WORD_BYTES], "little")
    length = word >> 8
    if word & 0xFF not in KINDS or not 0 < length <= RECORD_LIMIT_BYTES:
        return False
    alternatives = [word ^ 1 << bit for bit in _LENGTH_BITS]
    alternatives += [word & 0xFF | max(0, end - offset - OVERHEAD_BYTES) << 8]
    if any(_is_sound_with(data, offset, alternative) for alternative in alternatives):
        # Its length alone is wrong, and missing sectors don't touch that.
        return False
    claimed = offset + OVERHEAD_BYTES + length
    if claimed > end:
        # All the rest belongs to it, unless something sound stands there.
        return not _has_sound_record(data, offset + 1, KINDS)
    if _is_sound_with(data, offset, word):
        return False
    return _has_empty_sector(data, offset, claimed)


def _is_sound_with(data: bytes, offset: int, word: int) -> bool:
    end = offset + OVERHEAD_BYTES + (word >> 8)
    if not 0 < word >> 8 <= RECORD_LIMIT_BYTES or end > len(data):
        return False
    start = offset + _WORD_BYTES
    checksum = int.from_bytes(data[start : start + 4], "little")
    return bool(google_crc32c.value(word.to_bytes(4, "little") + data[start + 4 : end]) == checksum)


def _has_empty_sector(data: bytes, start: int, end: int) -> bool:
    return any(not any(data[first:last]) for first, last in _sectors(start, end))


def _sectors(start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        last = min(_next_sector(start), end)
        yield start, last
        start = last


def _next_sector(offset: int) -> int:
    return (offset // SECTOR_BYTES + 1) * SECTOR_BYTES


def _has_sound_record(data: bytes, start: int, kinds: tuple[int, ...] | frozenset[int]) -> bool:
    for kind in kinds:
        offset = data.find(kind, start)
        while offset >= 0:
            try:
                decode_record(data, offset, None)
            except BadRecordError:
                offset = data.find(kind, offset + 1)
            else:
                return True
    return False


def is_torn_tail_of_version_1(data: bytes, offset: int, error: BadRecordError) -> bool:
    """The same for schema veloz.journal/1, whose segments weren't preallocated and whose groups can't be told apart.

    A crash leaves a record short, or pages unwritten (zero). A whole record with a wrong byte is damage to something
    that was confirmed, and so is one whose only fault is its length.
    """
    if _has_record_of_version_1(data, offset):
        return False
    if not error.incomplete and data[-1] != 0:
        return False
    length = len(data) - offset - OVERHEAD_BYTES
    return length <= 0 or not _version_1_is_sound_with(data, offset, length)


def _version_1_is_sound_with(data: bytes, offset: int, length: int) -> bool:
    checksum = int.from_bytes(data[offset + 4 : offset + 8], "little")
    return bool(google_crc32c.value(length.to_bytes(4, "little") + data[offset + 8 :]) == checksum)


def _has_record_of_version_1(data: bytes, offset: int) -> bool:
    for candidate in range(offset + 1, len(data) - OVERHEAD_BYTES):
        try:
            decode_record(data, candidate, None, version=1)
        except BadRecordError:
            continue
        return True
    return False
