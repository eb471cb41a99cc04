"""Released tool results: redacted, sealed with AES-256-GCM, kept for 90 days. Figures resolve here."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from api.results.sealing import SELECT, ResultSeal
from api.transactions import Transactions
from audit.trail import AuditTrail
from tools.ports import StoredResult

_GET = text(SELECT + " WHERE call_id = :call_id AND expires_at > clock_timestamp()")


class SqlReleases:
    """Implements tools.ports.Releases: the audit writer's one commit holds the record and the sealed result."""

    def __init__(self, trail: AuditTrail, key: bytes) -> None:
        self._trail = trail
        self._seal = ResultSeal(key)

    async def release(self, result: StoredResult, **record: Any) -> None:
        await self._trail.record(**record, result=self._seal.seal(result))


class SqlResultStore:
    """Implements tools.ports.ResultReads."""

    def __init__(self, transactions: Transactions, key: bytes) -> None:
        self._transactions = transactions
        self._seal = ResultSeal(key)

    async def get(self, account_ids: tuple[str, ...], call_id: str) -> StoredResult | None:
        """Raises ResultUnreadableError, RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""
        async with self._transactions(account_ids) as connection:
            row = (await connection.execute(_GET, {"call_id": call_id})).one_or_none()
        return None if row is None else self._seal.open(row)
