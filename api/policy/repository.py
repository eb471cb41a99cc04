"""Recorded calls of tools, as a dry run of a policy asks for them."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import text

from api.transactions import Transactions

_CALLS = text(
    """
    SELECT arrival, record FROM audit.inbox
    WHERE action IN ('tool.called', 'tool.refused') AND (CAST(:before AS bigint) IS NULL OR arrival < :before)
    ORDER BY arrival DESC LIMIT :limit
    """
)


async def recorded_calls(
    transactions: Transactions, account_ids: tuple[str, ...], before: int | None, limit: int
) -> list[tuple[int, dict[str, Any]]]:
    """Arrival number and record, newest first, within the accounts and of what concerns none."""
    async with transactions(account_ids) as connection:
        rows = (await connection.execute(_CALLS, {"before": before, "limit": limit})).all()
    return [(row.arrival, msgspec.json.decode(bytes(row.record))) for row in rows]
