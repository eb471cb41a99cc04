"""The one statement that writes a batch: all records, and the sealed results that belong to some of them.

One statement outside of a transaction block is one commit and one round trip. Rows arrive in the order of the batch.
Values are PostgreSQL's binary format from the start, so that a batch is put together without looking at them again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from audit.record import AuditRecord

RETENTION_DAYS = 90
CALL_ID_CONSTRAINT = "tool_results_pkey"

Cell = bytes | None
Cells = tuple[Cell, ...]

_BIGINT = struct.Struct("!q")
_ARRAY = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")
_NULL = _LENGTH.pack(-1)
_BYTEA_OID, _BIGINT_OID, _TEXT_OID = 17, 20, 25
_OIDS = {"bytea": _BYTEA_OID, "bigint": _BIGINT_OID, "text": _TEXT_OID}

_RECORD_COLUMNS = {
    "record_id": "text",
    "record": "bytea",
    "leaf_hash": "bytea",
    "occurred_at_ns": "bigint",
    "actor": "text",
    "action": "text",
    "resource": "text",
    "outcome": "text",
    "trace_id": "text",
    "account_id": "text",
    "run_id": "text",
    "suggestion_id": "text",
}
_RESULT_COLUMNS = {
    "call_id": "text",
    "run_id": "text",
    "trace_id": "text",
    "user_id": "text",
    "account_id": "text",
    "tool": "text",
    "digest": "bytea",
    "nonce": "bytea",
    "ciphertext": "bytea",
    "arguments": "bytea",
}
_RECORD_OIDS = tuple(_OIDS[kind] for kind in _RECORD_COLUMNS.values())
_RESULT_OIDS = tuple(_OIDS[kind] for kind in _RESULT_COLUMNS.values())


class SealedResult(msgspec.Struct, frozen=True):
    """A tool's result as it lies in tool_results: redacted and sealed by its owner."""

    call_id: str
    run_id: str | None
    trace_id: str
    user_id: str
    account_id: str | None
    tool: str
    digest: bytes
    nonce: bytes
    ciphertext: bytes
    arguments: bytes


class Writing(msgspec.Struct, frozen=True):
    """A row of the inbox, and the result that becomes durable with it, as the statement takes them."""

    record_id: str
    record: Cells
    result: Cells | None = None


def writing_of(record: AuditRecord, canonical: bytes, leaf: bytes, result: SealedResult | None) -> Writing:
    """canonical are the record's bytes, leaf is their hash. Raises ValueError for what no column can hold: half of a
    surrogate pair, a time beyond 64 bits."""
    try:
        occurred_at_ns = _BIGINT.pack(int(record.occurred_at_ns))
    except struct.error as error:
        raise ValueError(f"a time of {record.occurred_at_ns} ns doesn't fit into 64 bits") from error
    # One by one, in the order of _RECORD_COLUMNS and _RESULT_COLUMNS: a loop over them takes twice as long.
    cells = (
        record.record_id.encode(),
        canonical,
        leaf,
        occurred_at_ns,
        record.actor.encode(),
        record.action.encode(),
        record.resource.encode(),
        record.outcome.encode(),
        record.trace_id.encode(),
        _optional(record.account_id),
        _optional(record.run_id),
        _optional(record.suggestion_id),
    )
    return Writing(record.record_id, cells, None if result is None else _cells_of(result))


def _cells_of(result: SealedResult) -> Cells:
    return (
        result.call_id.encode(),
        _optional(result.run_id),
        result.trace_id.encode(),
        result.user_id.encode(),
        _optional(result.account_id),
        result.tool.encode(),
        result.digest,
        result.nonce,
        result.ciphertext,
        result.arguments,
    )


def _optional(text: str | None) -> Cell:
    return None if text is None else text.encode()


def statement_of(batch: Sequence[Writing]) -> tuple[str, list[Cell]]:
    """The name of the statement of STATEMENTS that writes the batch, and its values."""
    if len(batch) == 1:
        [only] = batch
        return ("one_record", [*only.record]) if only.result is None else ("one_call", [*only.result, *only.record])
    records = _arrays(_RECORD_OIDS, [writing.record for writing in batch])
    results = [writing.result for writing in batch if writing.result is not None]
    return ("calls", _arrays(_RESULT_OIDS, results) + records) if results else ("records", records)


def _arrays(oids: Sequence[int], rows: Sequence[Cells]) -> list[Cell]:
    """Each column as one array of one dimension that counts from 1."""
    return [_array(oid, cells) for oid, cells in zip(oids, zip(*rows, strict=True), strict=True)]


def _array(oid: int, cells: Cells) -> bytes:
    pieces = [_ARRAY.pack(1, None in cells, oid, len(cells), 1)]
    for cell in cells:
        if cell is None:
            pieces.append(_NULL)
        else:
            pieces.append(_LENGTH.pack(len(cell)))
            pieces.append(cell)
    return b"".join(pieces)


def _statements() -> dict[str, str]:
    """By name. What waits alone goes as plain values: half of what arrays of one cost."""

    def listed(columns: dict[str, str], suffix: str, first: int) -> str:
        return ", ".join(f"${number}::{kind}{suffix}" for number, kind in enumerate(columns.values(), first))

    into_inbox = f"INSERT INTO audit.inbox ({', '.join(_RECORD_COLUMNS)}) "
    expiry = f"clock_timestamp() + make_interval(days => {RETENTION_DAYS})"
    with_results = f"WITH results AS (INSERT INTO tool_results ({', '.join(_RESULT_COLUMNS)}, expires_at) "
    after = len(_RESULT_COLUMNS) + 1
    return {
        "one_record": f"{into_inbox} VALUES ({listed(_RECORD_COLUMNS, '', 1)})",
        "one_call": (
            f"{with_results} VALUES ({listed(_RESULT_COLUMNS, '', 1)}, {expiry})) "
            f"{into_inbox} VALUES ({listed(_RECORD_COLUMNS, '', after)})"
        ),
        "records": f"{into_inbox} SELECT * FROM unnest({listed(_RECORD_COLUMNS, '[]', 1)})",  # noqa: S608
        "calls": (
            f"{with_results} SELECT *, {expiry} FROM unnest({listed(_RESULT_COLUMNS, '[]', 1)})) "  # noqa: S608
            f"{into_inbox} SELECT * FROM unnest({listed(_RECORD_COLUMNS, '[]', after)})"
        ),
    }


STATEMENTS = _statements()
