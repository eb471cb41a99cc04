"""How the service's own parts do, for the tool that tells it. Implements tools.ports.HealthReads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import text

from api.ledger.projection import CURSOR_NAME
from api.transactions import Transactions
from core.types.codes import RefusalError
from tools.ports import PartHealth

ANSWER_TIMEOUT_S = 1.5
_ALIVE = text("SELECT 1")
_PROJECTED = text("SELECT sequence FROM projection_cursors WHERE name = :name AND engine_id = :engine_id")


class ServiceHealth:
    """is_connected tells of the event log."""

    def __init__(self, transactions: Transactions, is_connected: Callable[[], bool]) -> None:
        self._transactions = transactions
        self._is_connected = is_connected

    async def parts(self) -> list[PartHealth]:
        connected = self._is_connected()
        return [
            await self._database(),
            PartHealth("event log", connected, None if connected else "NATS isn't connected"),
        ]

    async def projected_sequence(self, engine_id: str) -> int | None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S), self._transactions(()) as connection:
                found = await connection.scalar(_PROJECTED, {"name": CURSOR_NAME, "engine_id": engine_id})
        except (RefusalError, TimeoutError):
            return None
        return int(found or 0)

    async def _database(self) -> PartHealth:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S), self._transactions(()) as connection:
                await connection.execute(_ALIVE)
        except (RefusalError, TimeoutError) as error:
            return PartHealth("database", False, str(error) or "no answer in time")
        return PartHealth("database", True)
