"""How far the ledger is in the engine's journal: what the engine has to know before a segment of it may go."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.ledger.projection import CURSOR_NAME
from core.storage.database import transaction
from core.types.views import LedgerProgress

_PROJECTED = text("SELECT sequence FROM projection_cursors WHERE name = :name AND engine_id = :engine_id")
_FIRST_UNNUMBERED = text(
    """
    SELECT min(split_part(i.record_id, ':', 2)::bigint)
    FROM audit.inbox i LEFT JOIN audit.log l USING (record_id)
    WHERE l.record_id IS NULL
      AND i.record_id ~ ('^' || :engine_id || ':[0-9]+:')
      AND i.arrival > coalesce(
          (SELECT n.arrival FROM audit.log m JOIN audit.inbox n USING (record_id) ORDER BY m.sequence DESC LIMIT 1), 0)
    """
)


async def ledger_progress(engine: AsyncEngine, engine_id: str) -> LedgerProgress:
    """A record counts as audited once its audit records have their numbers in the log. Raises
    DatabaseUnavailableError."""
    async with transaction(engine) as connection:
        projected = int(await connection.scalar(_PROJECTED, {"name": CURSOR_NAME, "engine_id": engine_id}) or 0)
    # Read afterwards: whatever is projected by then is in the inbox, numbered or not.
    async with transaction(engine) as connection:
        unnumbered = await connection.scalar(_FIRST_UNNUMBERED, {"engine_id": engine_id})
    audited = projected if unnumbered is None else min(projected, int(unnumbered) - 1)
    return LedgerProgress(projected, audited)
