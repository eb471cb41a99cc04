"""The one statement that writes a batch: all records, and the sealed results that belong to some of them.

One statement outside of a transaction block is one commit and one round trip. Rows arrive in the order of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg

RETENTION_DAYS = 90
CALL_ID_CONSTRAINT = "tool_results_pkey"

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
    """A row of the inbox, and the result that becomes durable with it."""

    row: dict[str, Any]
    result: SealedResult | None = None


def _unnested(columns: dict[str, str]) -> str:
    return "unnest(" + ", ".join(f"%s::{kind}[]" for kind in columns.values()) + ")"


_RECORDS = f"INSERT INTO audit.inbox ({', '.join(_RECORD_COLUMNS)}) SELECT * FROM {_unnested(_RECORD_COLUMNS)}"  # noqa: S608
_WITH_RESULTS = (
    f"WITH results AS (INSERT INTO tool_results ({', '.join(_RESULT_COLUMNS)}, expires_at) "  # noqa: S608
    f"SELECT *, clock_timestamp() + make_interval(days => {RETENTION_DAYS}) FROM {_unnested(_RESULT_COLUMNS)}) "
    + _RECORDS
)


def _listed(columns: dict[str, str]) -> str:
    return ", ".join("%s" for _ in columns)


# What waits alone goes as plain values: half of what arrays of one cost.
_ONE_RECORD = f"INSERT INTO audit.inbox ({', '.join(_RECORD_COLUMNS)}) VALUES ({_listed(_RECORD_COLUMNS)})"  # noqa: S608
_ONE_WITH_RESULT = (
    f"WITH result AS (INSERT INTO tool_results ({', '.join(_RESULT_COLUMNS)}, expires_at) "  # noqa: S608
    f"VALUES ({_listed(_RESULT_COLUMNS)}, clock_timestamp() + make_interval(days => {RETENTION_DAYS}))) " + _ONE_RECORD
)


async def insert(connection: psycopg.AsyncConnection[Any], batch: Sequence[Writing]) -> None:
    """Durable on return, all of them or none. Raises psycopg.Error."""
    if len(batch) == 1:
        await _insert_one(connection, batch[0])
        return
    values: list[Any] = [[writing.row[name] for writing in batch] for name in _RECORD_COLUMNS]
    results = [writing.result for writing in batch if writing.result is not None]
    if results:
        values = [[getattr(result, name) for result in results] for name in _RESULT_COLUMNS] + values
    await connection.execute(_WITH_RESULTS if results else _RECORDS, values, prepare=True)


async def _insert_one(connection: psycopg.AsyncConnection[Any], writing: Writing) -> None:
    values = [writing.row[name] for name in _RECORD_COLUMNS]
    if writing.result is not None:
        values = [getattr(writing.result, name) for name in _RESULT_COLUMNS] + values
    await connection.execute(_ONE_RECORD if writing.result is None else _ONE_WITH_RESULT, values, prepare=True)
