"""Numbers the audit inbox into the log: from 0, without gaps, in order of arrival, whatever the writers do meanwhile.

An arrival number is drawn before its row becomes visible, so a higher one can be seen first. The inbox's trigger gives
each writer its transaction id before it draws. Hence: read the highest arrival seen (H), then draw a transaction id of
our own (X). Whoever drew an arrival up to H has an id below X. Once no transaction below X is under way, every arrival
up to H is there to be read or never will be, and the range can be numbered for good.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.storage.database import transaction

BATCH_LIMIT_RECORDS = 2_000

_FLOOR = text(
    """
    SELECT l.sequence, i.arrival FROM audit.log l JOIN audit.inbox i USING (record_id)
    ORDER BY l.sequence DESC LIMIT 1
    """
)
_HIGHEST = text("SELECT max(arrival) FROM audit.inbox WHERE arrival > :arrival")
_OWN_TRANSACTION = text("SELECT pg_current_xact_id()::text::bigint")
_OLDEST_TRANSACTION = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_NUMBER = text(
    """
    INSERT INTO audit.log (sequence, record_id, leaf_hash)
    SELECT :sequence + row_number() OVER (ORDER BY arrival), record_id, leaf_hash
    FROM audit.inbox WHERE arrival > :arrival AND arrival <= :highest
    ORDER BY arrival LIMIT :batch
    """
)


class _Floor(msgspec.Struct, frozen=True):
    """The last record that has a number, and when it arrived; -1 and 0 for an empty log."""

    sequence: int = -1
    arrival: int = 0


class _Horizon(msgspec.Struct, frozen=True):
    """Arrivals up to highest are settled once all transactions below transaction_id have ended."""

    highest: int
    transaction_id: int


class Numbering:
    """engine is of role ledger. Only one instance may run; the log's primary key refuses a second one's numbers."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._horizon: _Horizon | None = None

    async def number_arrived(self) -> int:
        """Number what has settled, up to BATCH_LIMIT_RECORDS; how many that were. Call again while it isn't zero.

        Zero also means that a writer is still under way: what it holds back comes with a later call. Raises
        DatabaseUnavailableError.
        """
        if self._horizon is None:
            self._horizon = await self._look()
        if self._horizon is None:
            return 0
        async with transaction(self._engine) as connection:
            # The guard first and in a statement of its own: the rows are then read under a later snapshot.
            oldest = await connection.scalar(_OLDEST_TRANSACTION)
            if oldest is None or oldest < self._horizon.transaction_id:
                return 0
            floor = await _floor(connection)
            parameters = {"highest": self._horizon.highest, "batch": BATCH_LIMIT_RECORDS}
            result = await connection.execute(_NUMBER, parameters | msgspec.structs.asdict(floor))
            numbered = result.rowcount
        if numbered < BATCH_LIMIT_RECORDS:
            self._horizon = None
        return numbered

    async def _look(self) -> _Horizon | None:
        async with transaction(self._engine) as connection:
            floor = await _floor(connection)
            highest = await connection.scalar(_HIGHEST, {"arrival": floor.arrival})
            if highest is None:
                return None
            transaction_id = await connection.scalar(_OWN_TRANSACTION)
        return _Horizon(int(highest), int(transaction_id or 0))


async def _floor(connection: AsyncConnection) -> _Floor:
    row = (await connection.execute(_FLOOR)).one_or_none()
    return _Floor(row.sequence, row.arrival) if row else _Floor()
