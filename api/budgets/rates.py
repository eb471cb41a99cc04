"""Rate buckets in PostgreSQL: one for all api processes."""

from __future__ import annotations

import time

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from core.storage.database import transaction
from tools.rates import SHARE, RateGrant, RateWant

PRUNE_INTERVAL_S = 3_600.0
KEPT_S = 86_400

_TAKE = text("SELECT granted, left_micro FROM rate_take(CAST(:wants AS jsonb), :share)")
_PRUNE = text("DELETE FROM rate_buckets WHERE refilled_at < clock_timestamp() - make_interval(secs => :kept_s)")


class SqlRateLedger:
    """Implements tools.rates.RateLedger. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE).

    The database's clock refills, so that processes on several hosts agree. Buckets are unlogged: taking from one waits
    for no disk, and after a crash of the database they are full.
    """

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database
        self._pruned_s = float("-inf")

    async def take(self, wants: list[RateWant]) -> list[RateGrant]:
        """See RateLedger."""
        values = {"wants": msgspec.json.encode(wants).decode(), "share": SHARE}
        async with transaction(self._database) as connection:
            rows = (await connection.execute(_TAKE, values)).all()
        if time.monotonic() - self._pruned_s > PRUNE_INTERVAL_S:
            self._pruned_s = time.monotonic()
            async with transaction(self._database) as connection:
                await connection.execute(_PRUNE, {"kept_s": KEPT_S})
        return [RateGrant(row.granted, row.left_micro) for row in rows]
