"""A record's bytes are RFC 8785 JSON of its fields, however they were made."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit.record import Action, AuditRecord, PersonField, parse_record, record_bytes

TEXT = st.text(max_size=10)
MAYBE = st.none() | TEXT
PAYLOADS = st.dictionaries(
    TEXT,
    st.recursive(
        TEXT | st.none() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8
    ),
    max_size=4,
)
RECORDS = st.builds(
    AuditRecord,
    **dict.fromkeys(
        (
            *("record_id", "occurred_at", "occurred_at_ns", "clock_source", "actor", "resource", "outcome"),
            *("trace_id", "schema"),
        ),
        TEXT,
    ),
    **dict.fromkeys(("on_behalf_of", "account_id", "run_id", "suggestion_id", "payload_digest"), MAYBE),
    action=st.sampled_from(Action),
    actor_identity=st.none() | st.builds(PersonField, person=TEXT, nonce=TEXT, ciphertext=TEXT, algorithm=TEXT),
    payload=PAYLOADS,
)
USUAL: dict[str, Any] = {
    **dict.fromkeys(("occurred_at", "occurred_at_ns", "clock_source", "actor", "resource", "outcome"), "x"),
    "record_id": "r-1",
    "trace_id": "t-1",
    "action": Action.TOOL_CALLED,
}


@given(RECORDS)
def test_the_bytes_are_those_of_the_reference_and_read_back(record: AuditRecord) -> None:
    canonical = record_bytes(record)
    assert canonical == rfc8785.dumps(msgspec.to_builtins(record))
    assert parse_record(canonical) == record
    assert record_bytes(record, rfc8785.dumps(record.payload)) == canonical


@pytest.mark.parametrize(
    "payload",
    [{"a": 1}, {"a": [0.5]}, {"a": {"b": [{"c": 7}]}}, {"a": ["x", (1,)]}],
    ids=["top", "float", "deep", "tuple"],
)
def test_a_number_in_the_payload_is_a_mistake(payload: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"payload\.a"):
        record_bytes(AuditRecord(**USUAL, payload=payload))


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match=r"surrogate|Unicode"):
        record_bytes(AuditRecord(**USUAL, payload={"a": "\ud800"}))


def test_a_record_that_is_too_large_is_refused_and_one_just_within_is_not() -> None:
    room = 262_144 - len(record_bytes(AuditRecord(**USUAL, payload={"a": ""})))
    assert len(record_bytes(AuditRecord(**USUAL, payload={"a": "x" * room}))) == 262_144
    with pytest.raises(ValueError, match="exceeds 262144"):
        record_bytes(AuditRecord(**USUAL, payload={"a": "x" * (room + 1)}))
    with pytest.raises(ValueError, match="exceeds 262144"):
        record_bytes(AuditRecord(**USUAL), b'{"a":"' + b"x" * (room + 1) + b'"}')
