"""Reading the trail back: every record is checked against its bytes before it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.record import AuditRecord, leaf_hash, parse_record
from core.storage.database import scoped_session
from core.types.ids import normalise_trace_id

TRACE_LIMIT_RECORDS = 2_000

# From any one id to all that belongs together: the approval of a suggestion happens in a request of its own, with
# its own trace, and is still part of the question's story. Run ids are the clients' to choose: one that equals another
# question's trace or suggestion id must not get into its trail.
_TRACE = text(
    """
    WITH found AS (
        SELECT trace_id, run_id, suggestion_id,
               CASE WHEN trace_id = :trace_id THEN 1 WHEN suggestion_id = :id THEN 2 ELSE 3 END AS kind
        FROM audit.inbox
        WHERE trace_id = :trace_id OR run_id = :id OR suggestion_id = :id
    ), named AS (
        SELECT trace_id, run_id, suggestion_id FROM found WHERE kind = (SELECT min(kind) FROM found)
    )
    SELECT i.record, i.leaf_hash, i.record_id, i.occurred_at_ns, i.actor, i.action, i.resource, i.outcome, i.trace_id,
           i.account_id, i.run_id, i.suggestion_id, l.sequence, l.leaf_hash AS numbered_leaf_hash
    FROM audit.inbox i LEFT JOIN audit.log l USING (record_id)
    WHERE i.trace_id IN (SELECT trace_id FROM named)
       OR i.run_id IN (SELECT run_id FROM named WHERE run_id IS NOT NULL)
       OR i.suggestion_id IN (SELECT suggestion_id FROM named WHERE suggestion_id IS NOT NULL)
    ORDER BY i.occurred_at_ns, i.arrival
    LIMIT :limit
    """
)
_COLUMNS = ("record_id", "actor", "action", "resource", "outcome", "trace_id", "account_id", "run_id", "suggestion_id")


class TraceRecord(msgspec.Struct, frozen=True):
    """One record. sequence is its leaf index, None until the ledger has numbered it. problems is empty when the
    stored bytes, the leaf hash and the index columns agree; record is None when the bytes can't be read at all."""

    record_id: str
    sequence: int | None
    leaf_hash_hex: str
    record: AuditRecord | None
    problems: tuple[str, ...]

    @property
    def verified(self) -> bool:
        return not self.problems


class Trace(msgspec.Struct, frozen=True):
    """Records in the order in which things happened. truncated when there are more than the limit."""

    records: tuple[TraceRecord, ...]
    truncated: bool


async def find_trace(
    engine: AsyncEngine, identifier: str, account_ids: Sequence[str], limit: int = TRACE_LIMIT_RECORDS
) -> Trace:
    """Everything that belongs to a trace, run or suggestion id, within the scope of account_ids.

    identifier is a ULID, or a trace id as 32 hex digits. engine is of role api. Raises DatabaseUnavailableError.
    """
    limit = min(limit, TRACE_LIMIT_RECORDS)
    async with scoped_session(engine, account_ids) as connection:
        names = {"id": identifier.strip(), "trace_id": _normalise(identifier)}
        rows = (await connection.execute(_TRACE, {**names, "limit": limit + 1})).all()
    return Trace(tuple(_check(row) for row in rows[:limit]), len(rows) > limit)


def _normalise(identifier: str) -> str:
    try:
        return normalise_trace_id(identifier)
    except ValueError:
        return identifier.strip()


def _check(row: Any) -> TraceRecord:
    canonical, stored = bytes(row.record), bytes(row.leaf_hash)
    problems = []
    if leaf_hash(canonical) != stored:
        problems.append("the leaf hash is not that of the stored bytes")
    if row.numbered_leaf_hash is not None and bytes(row.numbered_leaf_hash) != stored:
        problems.append(f"the log holds another leaf hash at {row.sequence}")
    try:
        record = parse_record(canonical)
    except msgspec.MsgspecError as error:
        return TraceRecord(
            row.record_id, row.sequence, stored.hex(), None, (*problems, f"the bytes are no record: {error}")
        )
    problems += [
        f"column {name} says {getattr(row, name)!r}, the record {getattr(record, name)!r}"
        for name in _COLUMNS
        if getattr(row, name) != getattr(record, name)
    ]
    if str(row.occurred_at_ns) != record.occurred_at_ns:
        problems.append(f"column occurred_at_ns says {row.occurred_at_ns}, the record {record.occurred_at_ns}")
    return TraceRecord(row.record_id, row.sequence, stored.hex(), record, tuple(problems))
