"""Pending suggestions past their time by the engine's clock become expired, with a record of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.ledger.projection import insert_records
from api.moments import from_ns
from audit.record import Action, AuditRecord
from core.storage.database import transaction
from core.text.redaction import Redactor
from core.types.clock import NS_PER_US, format_utc_us

BATCH_LIMIT_SUGGESTIONS = 200
CLOCK_SOURCE = "engine"

# SKIP LOCKED: a suggestion that someone is deciding on right now is left to them.
_EXPIRE = text(
    """
    UPDATE suggestions SET status = 'expired', decided_at = :now
    WHERE (id, version) IN (
        SELECT id, version FROM suggestions WHERE status = 'pending' AND expires_at <= :now
        ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
    )
    RETURNING id, version, account_id, asker_id, run_id, trace_id, digest,
              (extract(epoch FROM expires_at) * 1000000)::bigint AS expires_us,
              (extract(epoch FROM decided_at) * 1000000)::bigint AS decided_us
    """
)


async def expire_suggestions(engine: AsyncEngine, redactor: Redactor, now_ns: int) -> int:
    """Expire up to BATCH_LIMIT_SUGGESTIONS; how many. engine is of role ledger; now_ns is the trading engine's clock,
    which decides on approvals too. Raises DatabaseUnavailableError."""
    async with transaction(engine) as connection:
        rows = (await connection.execute(_EXPIRE, {"batch": BATCH_LIMIT_SUGGESTIONS, "now": from_ns(now_ns)})).all()
        await insert_records(connection, [_record(row) for row in rows], redactor)
    return len(rows)


def _record(row: Any) -> AuditRecord:
    decided_ns = row.decided_us * NS_PER_US
    return AuditRecord(
        record_id=f"suggestion:{row.id}:{row.version}:expired",
        occurred_at=format_utc_us(decided_ns),
        occurred_at_ns=str(decided_ns),
        clock_source=CLOCK_SOURCE,
        actor="ledger",
        on_behalf_of=row.asker_id,
        action=Action.SUGGESTION_EXPIRED,
        resource=f"suggestion:{row.id}",
        outcome="ok",
        trace_id=row.trace_id,
        account_id=row.account_id,
        run_id=row.run_id,
        suggestion_id=row.id,
        payload={
            "version": str(row.version),
            "digest_hex": row.digest,
            "expires_at": format_utc_us(row.expires_us * NS_PER_US),
        },
    )
