"""The bytes of a journal segment.

Header: the magic, then length u32 LE and CRC32C u32 LE of a JSON header that names the engine, the epoch, the first
sequence and the hash that the chain goes on from.

Records, schema veloz.journal/2: a word u32 LE (kind in its lowest byte, length of the payload above it), CRC32C u32 LE
over word, previous hash and payload, previous hash (32 bytes), payload. A record's hash is SHA-256(previous hash ||
payload). The kind says whether the record is the first of its group: a group is begun only when the one before it is
durable, so a first record proves everything before it. Kinds are bytes that occur in no UTF-8 text, payloads hold no
zero and end in a byte of several bits: so no payload looks like a record, and no sector that holds a part of one looks
like a sector that was never written, not even with one bit flipped.

Schema veloz.journal/1 has the length alone for its word, and no kinds; it is only read. Behind the last record a
segment may hold zeros: space reserved for what comes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import google_crc32c
import msgspec

MAGIC = b"VELOZJ01"
HEADER_SCHEMA = "veloz.journal/2"
SCHEMA_VERSIONS = {"veloz.journal/1": 1, HEADER_SCHEMA: 2}
FIRST_KIND = 0xFB
FURTHER_KIND = 0xF5
KINDS = frozenset({FIRST_KIND, FURTHER_KIND})
UNFIT_LAST_BYTES = frozenset(byte for byte in range(256) if byte.bit_count() < 2)
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
    """Raises ValueError for a payload that no record can hold: see above for why; JSON text always can."""
    if not 0 < len(payload) <= RECORD_LIMIT_BYTES or b"\0" in payload or payload[-1] in UNFIT_LAST_BYTES:
        raise ValueError(
            f"a journal record has 1 to {RECORD_LIMIT_BYTES} bytes of text, none of them zero, the last of more than "
            f"one bit; got {len(payload)} bytes"
        )


def encode_group(previous: bytes, payloads: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The group's bytes, and each record's hash. The payloads have been checked."""
    parts: list[bytes] = []
    hashes: list[bytes] = []
    pack, checksum, sha256 = _LENGTH.pack, google_crc32c.value, hashlib.sha256
    kind = FIRST_KIND
    for payload in payloads:
        body = previous + payload
        word = pack(len(payload) << 8 | kind)
        parts += (word, pack(checksum(word + body)), body)
        previous = sha256(body).digest()
        hashes.append(previous)
        kind = FURTHER_KIND
    return b"".join(parts), hashes


def record_hash(previous: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(previous + payload).digest()


def decode_record(data: bytes, offset: int, previous: bytes | None, version: int = 2) -> Record:
    """The record at an offset; with previous None any chain is accepted. Raises BadRecordError."""
    if len(data) - offset < OVERHEAD_BYTES:
        raise BadRecordError("it stops within a record's head", incomplete=True)
    length, checksum = _FRAME.unpack_from(data, offset)
    if version > 1:
        kind, length = length & 0xFF, length >> 8
        if kind not in KINDS:
            raise BadRecordError(f"a record of kind {kind:#04x}", incomplete=False)
    if not 0 < length <= RECORD_LIMIT_BYTES:
        raise BadRecordError(f"a record of {length} bytes", incomplete=False)
    start = offset + OVERHEAD_BYTES
    end = start + length
    if len(data) < end:
        raise BadRecordError("it stops within a record", incomplete=True)
    body = data[start - HASH_LENGTH_BYTES : end]
    if google_crc32c.value(data[offset : offset + _LENGTH.size] + body) != checksum:
        raise BadRecordError("a record's checksum is wrong", incomplete=False)
    if previous is not None and not body.startswith(previous):
        raise BadRecordError("a record doesn't continue the hash chain", incomplete=False)
    return Record(body[HASH_LENGTH_BYTES:], hashlib.sha256(body).digest(), end)


def is_first_of_group(data: bytes, offset: int) -> bool:
    """Of a sound record, whether a group starts with it."""
    return data[offset] == FIRST_KIND
