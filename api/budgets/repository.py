"""Budgets in PostgreSQL: one count for all api processes."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from core.storage.database import transaction
from tools.budgets import LEASE_TTL_S, Grant, Scope, Want

PRUNE_INTERVAL_S = 3_600.0
DAYS_KEPT = 40
RUNS_KEPT_DAYS = 2

_SYNC = text("SELECT granted, held, committed FROM budget_sync(:holder, CAST(:wants AS jsonb), :ttl_s)")
_PRUNE = text(
    "DELETE FROM budget_use WHERE changed_at < clock_timestamp() - make_interval(days => :days)"
    " OR (scope = 'run' AND changed_at < clock_timestamp() - make_interval(days => :runs_days))"
)
_USE = text(
    """
    SELECT u.scope, u.owner, u.day, u.measure, u.used,
           CAST(coalesce(sum(l.held) FILTER (WHERE l.expires_at > clock_timestamp()), 0) AS bigint) AS held
    FROM budget_use u LEFT JOIN budget_leases l USING (scope, owner, day, measure)
    WHERE (u.scope = 'user_day' AND u.owner = ANY(:users) OR u.scope = 'firm_day') AND u.day = :day
    GROUP BY u.scope, u.owner, u.day, u.measure, u.used
    ORDER BY u.scope, u.owner, u.measure
    """
)
_USERS = text(
    "SELECT DISTINCT owner FROM budget_use WHERE scope = 'user_day' AND day = :day ORDER BY owner LIMIT :limit"
)


class BudgetUse(msgspec.Struct, frozen=True):
    """What was used of a budget, and what processes hold of it for what is under way."""

    scope: Scope
    owner: str
    measure: str
    used: int
    held: int


class SqlBudgetLedger:
    """Implements tools.budgets.BudgetLedger. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""

    def __init__(self, database: AsyncEngine, lease_ttl_s: int = LEASE_TTL_S) -> None:
        self._database = database
        self._lease_ttl_s = lease_ttl_s
        self._pruned_s = float("-inf")

    async def sync(self, holder: str, wants: list[Want]) -> list[Grant]:
        """See BudgetLedger."""
        plain = [_plain(want) for want in wants]
        values: dict[str, Any] = {"holder": holder, "wants": msgspec.json.encode(plain).decode()}
        async with transaction(self._database) as connection:
            rows = (await connection.execute(_SYNC, values | {"ttl_s": self._lease_ttl_s})).all()
        if time.monotonic() - self._pruned_s > PRUNE_INTERVAL_S:
            self._pruned_s = time.monotonic()
            await self._prune()
        return [Grant(row.granted, row.held, row.committed) for row in rows]

    async def use(self, day: str, user_ids: list[str]) -> list[BudgetUse]:
        """Of these users and of everybody, on that day."""
        async with transaction(self._database) as connection:
            rows = (await connection.execute(_USE, {"day": day, "users": user_ids})).all()
        return [BudgetUse(Scope(row.scope), row.owner, row.measure, row.used, row.held) for row in rows]

    async def users(self, day: str, limit: int) -> list[str]:
        """Who used anything on that day."""
        async with transaction(self._database) as connection:
            return [row.owner for row in (await connection.execute(_USERS, {"day": day, "limit": limit})).all()]

    async def _prune(self) -> None:
        async with transaction(self._database) as connection:
            await connection.execute(_PRUNE, {"days": DAYS_KEPT, "runs_days": RUNS_KEPT_DAYS})


def _plain(want: Want) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(want)
    key: dict[str, Any] = values.pop("key")
    return key | values
