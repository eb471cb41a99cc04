"""The bytes of a journal segment.

Header: the magic, then length u32 LE and CRC32C u32 LE of a JSON header that names the engine, the epoch, the first
sequence and the hash that the chain goes on from. Records: length u32 LE of the payload, CRC32C u32 LE over length,
previous hash and payload, previous hash (32 bytes), payload. A record's hash is SHA-256(previous hash || payload).
"""

from __future__ import annotations

import hashlib
import struct

import google_crc32c
import msgspec

MAGIC = b"VELOZJ01"
HEADER_SCHEMA = "veloz.journal/1"
HEADER_LIMIT_BYTES = 4_096
RECORD_LIMIT_BYTES = 1_048_576
HASH_LENGTH_BYTES = 32
GENESIS_HASH = bytes(HASH_LENGTH_BYTES)

_FRAME = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
PREFIX_LENGTH_BYTES = len(MAGIC) + _FRAME.size
OVERHEAD_BYTES = _FRAME.size + HASH_LENGTH_BYTES


class SegmentHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    engine_id: str
    epoch: int
    first_sequence: int
    previous_hash_hex: str


class Record(msgspec.Struct, frozen=True):
    """A record as it lies in a segment; end is the offset behind it."""

    payload: bytes
    hash: bytes
    end: int


class BadRecordError(Exception):
    """The bytes at an offset aren't a record that continues the chain. incomplete: they stop before its end."""

    def __init__(self, detail: str, *, incomplete: bool) -> None:
        super().__init__(detail)
        self.incomplete = incomplete


def encode_header(header: SegmentHeader) -> bytes:
    body = msgspec.json.encode(header)
    return MAGIC + _FRAME.pack(len(body), google_crc32c.value(body)) + body


def decode_header(data: bytes) -> tuple[SegmentHeader, int]:
    """The header at the start of a segment, and the offset of its first record. Raises BadRecordError."""
    if len(data) < PREFIX_LENGTH_BYTES:
        raise BadRecordError("the header stops short", incomplete=True)
    if data[: len(MAGIC)] != MAGIC:
        raise BadRecordError(f"it doesn't start with {MAGIC!r}", incomplete=False)
    length, checksum = _FRAME.unpack_from(data, len(MAGIC))
    if length > HEADER_LIMIT_BYTES:
        raise BadRecordError(f"a header of {length} bytes", incomplete=False)
    end = PREFIX_LENGTH_BYTES + length
    if len(data) < end:
        raise BadRecordError("the header stops short", incomplete=True)
    body = data[PREFIX_LENGTH_BYTES:end]
    if google_crc32c.value(body) != checksum:
        raise BadRecordError("the header's checksum is wrong", incomplete=False)
    try:
        return msgspec.json.decode(body, type=SegmentHeader), end
    except msgspec.MsgspecError as error:
        raise BadRecordError(f"the header can't be read: {error}", incomplete=False) from error


def check_payload(payload: bytes) -> None:
    """Raises ValueError for a payload that no record can hold. A last byte of zero would look unwritten."""
    if not 0 < len(payload) <= RECORD_LIMIT_BYTES or payload[-1] == 0:
        raise ValueError(f"a journal record has 1 to {RECORD_LIMIT_BYTES} bytes, the last not zero; got {len(payload)}")


def encode_record(previous: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """The record's bytes and its hash."""
    length = _LENGTH.pack(len(payload))
    checksum = google_crc32c.value(length + previous + payload)
    return length + _LENGTH.pack(checksum) + previous + payload, record_hash(previous, payload)


def record_hash(previous: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(previous + payload).digest()


def decode_record(data: bytes, offset: int, previous: bytes | None) -> Record:
    """The record at an offset; with previous None any chain is accepted. Raises BadRecordError."""
    if len(data) - offset < OVERHEAD_BYTES:
        raise BadRecordError("it stops within a record's head", incomplete=True)
    length, checksum = _FRAME.unpack_from(data, offset)
    if not 0 < length <= RECORD_LIMIT_BYTES:
        raise BadRecordError(f"a record of {length} bytes", incomplete=False)
    start = offset + OVERHEAD_BYTES
    end = start + length
    if len(data) < end:
        raise BadRecordError("it stops within a record", incomplete=True)
    chained, payload = data[start - HASH_LENGTH_BYTES : start], data[start:end]
    if google_crc32c.value(data[offset : offset + _LENGTH.size] + chained + payload) != checksum:
        raise BadRecordError("a record's checksum is wrong", incomplete=False)
    if previous is not None and chained != previous:
        raise BadRecordError("a record doesn't continue the hash chain", incomplete=False)
    return Record(payload, record_hash(chained, payload), end)


def has_record_after(data: bytes, offset: int) -> bool:
    """Whether a sound record starts anywhere behind offset: then what is at offset is damage, not a torn tail."""
    for candidate in range(offset + 1, len(data) - OVERHEAD_BYTES):
        try:
            decode_record(data, candidate, None)
        except BadRecordError:
            continue
        return True
    return False


def is_torn_tail(data: bytes, offset: int, error: BadRecordError) -> bool:
    """Whether what is at offset, at the end of the last segment, is the rest of an append that never returned.

    A crash leaves a record short, or pages unwritten (zero). A whole record with a wrong byte is damage to something
    that was confirmed, and so is one whose only fault is its length.
    """
    if has_record_after(data, offset):
        return False
    if not error.incomplete and data[-1] != 0:
        return False
    length = len(data) - offset - OVERHEAD_BYTES
    if length <= 0:
        return True
    checksum = _LENGTH.unpack_from(data, offset + _LENGTH.size)[0]
    return bool(google_crc32c.value(_LENGTH.pack(length) + data[offset + _FRAME.size :]) != checksum)
