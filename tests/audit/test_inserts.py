"""A batch says in PostgreSQL's binary format what its rows hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from audit._inserts import SealedResult, Writing, statement_of, writing_of
from audit.record import AuditRecord

ARRAY_OIDS = {"text": 1009, "bytea": 1001, "bigint": 1016}
RECORD_KINDS = ["text", "bytea", "bytea", "bigint", *["text"] * 8]
RESULT_KINDS = [*["text"] * 6, *["bytea"] * 4]

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
MAYBE = st.none() | TEXT
NANOSECONDS = st.integers(-(1 << 63), (1 << 63) - 1)
ROWS = st.fixed_dictionaries(
    {
        **dict.fromkeys(("record_id", "actor", "action", "resource", "outcome", "trace_id"), TEXT),
        **dict.fromkeys(("account_id", "run_id", "suggestion_id"), MAYBE),
        **dict.fromkeys(("record", "leaf_hash"), st.binary(max_size=40)),
        "occurred_at_ns": NANOSECONDS,
    }
)
RESULTS = st.builds(
    SealedResult,
    **dict.fromkeys(("call_id", "trace_id", "user_id", "tool"), TEXT),
    **dict.fromkeys(("run_id", "account_id"), MAYBE),
    **dict.fromkeys(("digest", "nonce", "ciphertext", "arguments"), st.binary(max_size=40)),
)
RECORD_NAMES = (
    *("record_id", "record", "leaf_hash", "occurred_at_ns", "actor", "action", "resource", "outcome", "trace_id"),
    *("account_id", "run_id", "suggestion_id"),
)


def read(kinds: list[str], arrays: list[bytes | None]) -> list[list[Any]]:
    """The columns, as psycopg reads what the server would send."""
    transformer = Transformer()
    return [
        transformer.get_loader(ARRAY_OIDS[kind], Format.BINARY).load(array or b"")
        for kind, array in zip(kinds, arrays, strict=True)
    ]


def writing(row: dict[str, Any], result: SealedResult | None) -> Writing:
    """Of a record with the row's columns; its bytes and their hash are given, as they are when it is written."""
    beside = {name: value for name, value in row.items() if name not in {"record", "leaf_hash", "occurred_at_ns"}}
    record = AuditRecord(occurred_at="", occurred_at_ns=str(row["occurred_at_ns"]), clock_source="", **beside)
    return writing_of(record, row["record"], row["leaf_hash"], result)


@given(st.lists(st.tuples(ROWS, st.none() | RESULTS), min_size=2, max_size=5))
def test_a_batch_reads_back_as_its_rows(rows: list[tuple[dict[str, Any], SealedResult | None]]) -> None:
    name, values = statement_of([writing(row, result) for row, result in rows])
    results = [result for _, result in rows if result is not None]
    assert name == ("calls" if results else "records")
    if results:
        fields = SealedResult.__struct_fields__
        assert read(RESULT_KINDS, values[:10]) == [[getattr(result, field) for result in results] for field in fields]
        values = values[10:]
    assert read(RECORD_KINDS, values) == [[row[column] for row, _ in rows] for column in RECORD_NAMES]


@given(ROWS, st.none() | RESULTS)
def test_what_waits_alone_goes_as_plain_values(row: dict[str, Any], result: SealedResult | None) -> None:
    alone = writing(row, result)
    name, values = statement_of([alone])
    assert name == ("one_record" if result is None else "one_call")
    assert tuple(values) == (alone.result or ()) + alone.record


@pytest.mark.parametrize(
    ("column", "value", "told"), [("actor", "\ud800", "surrogate"), ("occurred_at_ns", 1 << 63, "64 bits")]
)
def test_what_no_column_can_hold_is_refused_before_it_waits(column: str, value: Any, told: str) -> None:
    row: dict[str, Any] = dict.fromkeys(RECORD_NAMES, "x") | {"record": b"", "leaf_hash": b"", "occurred_at_ns": 1}
    assert isinstance(writing(row, None), Writing)
    with pytest.raises(ValueError, match=told):
        writing(row | {column: value}, None)
