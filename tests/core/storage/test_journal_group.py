"""A group's bytes, its checksums and what is published of it, natively, against Python's own.

Invariants: the bytes and hashes of any group are the plain encoder's, and are read back by the decoder; a message is
what msgspec would write; entries are those that a reader of the journal gets.
"""

from __future__ import annotations

import hmac
from random import Random

import google_crc32c
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core._native import HmacSha256, crc32c, encode_group, first_unfit
from core.storage import journal_format
from core.storage.journal_format import GENESIS_HASH, RECORD_LIMIT_BYTES, decode_record
from core.storage.journal_group import NO_RECORDS, Records
from core.types.events import CancelRequested, JournalEntry, OrderAccepted, encode_event

hashes = st.binary(min_size=32, max_size=32)


class _Published(msgspec.Struct):
    engine_id: str
    epoch: int
    sequence: int
    hash_hex: str
    event: msgspec.Raw


@settings(max_examples=200, deadline=None)
@given(previous=hashes, payloads=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6))
def test_a_groups_bytes_are_the_plain_encoders_and_read_back(previous: bytes, payloads: list[bytes]) -> None:
    data, found = encode_group(previous, payloads)
    assert (data, found) == journal_format.encode_group(previous, payloads)
    offset, before = 0, previous
    for payload, digest in zip(payloads, found, strict=True):
        record = decode_record(data, offset, before)
        assert (record.payload, record.hash) == (payload, digest)
        offset, before = record.end, record.hash
    assert offset == len(data)


@settings(max_examples=200, deadline=None)
@given(payloads=st.lists(st.binary(max_size=9), max_size=4), limit=st.integers(1, 9))
def test_the_first_payload_that_doesnt_fit_is_the_first_that_python_refuses(payloads: list[bytes], limit: int) -> None:
    def fits(payload: bytes) -> bool:
        try:
            journal_format.check_payload(payload)
        except ValueError:
            return False
        return len(payload) <= limit

    expected = next((at for at, payload in enumerate(payloads) if not fits(payload)), len(payloads))
    assert first_unfit(payloads, limit) == expected


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 4_096, RECORD_LIMIT_BYTES])
def test_checksums_and_signatures_are_the_libraries(size: int) -> None:
    random = Random(size)
    data = random.randbytes(size)
    assert crc32c(data) == google_crc32c.value(data)
    assert crc32c(data[size // 3 :], crc32c(data[: size // 3])) == google_crc32c.value(data)
    key, text = random.randbytes(min(size, 200)), data.hex()
    assert HmacSha256(key).hex_of(text) == hmac.new(key, text.encode(), "sha256").hexdigest()


@pytest.mark.parametrize(
    ("previous", "payloads", "error"),
    [
        (b"short", [b"x"], ValueError),
        (GENESIS_HASH, ["text"], TypeError),
        (GENESIS_HASH, [b"x" * (1 << 24)], ValueError),
    ],
)
def test_what_isnt_a_group_is_refused(previous: bytes, payloads: list[bytes], error: type[Exception]) -> None:
    with pytest.raises(error):
        encode_group(previous, payloads)


EVENTS = (
    OrderAccepted(ts_ns=1, client_order_id="vz1", venue_order_id="7"),
    CancelRequested(ts_ns=2, client_order_id='v"z\u20ac', requested_by="user"),
)


@pytest.mark.parametrize("engine_id", ["engine-1", 'an "odd" \\ id \u20ac'])
def test_what_is_published_is_what_msgspec_would_write(engine_id: str) -> None:
    payloads = [encode_event(event) for event in EVENTS]
    found = encode_group(GENESIS_HASH, payloads)[1]
    records = Records(engine_id, 3, 41, payloads, found)
    entries = [
        JournalEntry(engine_id, 3, 41, found[0].hex(), payloads[0]),
        JournalEntry(engine_id, 3, 42, found[1].hex(), payloads[1]),
    ]
    assert records == tuple(entries)
    assert (list(records), records[1], records[-1], records[1:]) == (entries, entries[1], entries[1], (entries[1],))
    with pytest.raises(IndexError):
        records[2]
    for entry, kind, message in zip(
        entries, ("order_accepted", "cancel_requested"), records.trading_messages(), strict=True
    ):
        body = _Published(engine_id, 3, entry.sequence, entry.hash_hex, msgspec.Raw(entry.payload))
        subject, payload, message_id = message
        assert (subject, message_id) == (f"trading.{engine_id}.{kind}", f"{engine_id}:{entry.sequence}")
        assert payload == msgspec.json.encode(body)


@pytest.mark.parametrize("payload", [b"{}", b'{"kind":""}', b'{"kind":"a b"}', b'{"kind":"open', b'{"kind":7}'])
def test_a_record_that_isnt_an_events_is_no_message(payload: bytes) -> None:
    with pytest.raises(ValueError, match="begins with its kind"):
        Records("engine-1", 1, 1, [payload], [GENESIS_HASH]).trading_messages()


def test_no_records_are_none() -> None:
    assert (len(NO_RECORDS), NO_RECORDS == (), NO_RECORDS.trading_messages()) == (0, True, [])
