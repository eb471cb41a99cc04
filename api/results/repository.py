"""Released tool results: redacted, sealed with AES-256-GCM, kept for RETENTION_DAYS. Figures resolve here."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from api.results.sealing import RETENTION_DAYS, SELECT, ResultSeal
from api.transactions import Transactions
from core.types.codes import ReasonCode, refuse
from tools.ports import StoredResult

_INSERT = text(
    """
    INSERT INTO tool_results (call_id, run_id, trace_id, user_id, account_id, tool, digest, nonce, ciphertext,
                              arguments, expires_at)
    VALUES (:call_id, :run_id, :trace_id, :user_id, :account_id, :tool, :digest, :nonce, :ciphertext, :arguments,
            clock_timestamp() + make_interval(days => :days))
    """
)
_GET = text(SELECT + " WHERE call_id = :call_id AND expires_at > clock_timestamp()")


class SqlResultStore:
    """Implements tools.ports.ResultStore."""

    def __init__(self, transactions: Transactions, key: bytes) -> None:
        self._transactions = transactions
        self._seal = ResultSeal(key)

    async def put(self, result: StoredResult) -> None:
        try:
            async with self._transactions((result.account_id,) if result.account_id else ()) as connection:
                await connection.execute(_INSERT, self._seal.row(result) | {"days": RETENTION_DAYS})
        except IntegrityError as error:
            raise refuse(
                ReasonCode.REQUEST_INVALID, "This call id was used before. Give every call an id of its own."
            ) from error

    async def get(self, account_ids: tuple[str, ...], call_id: str) -> StoredResult | None:
        """Raises ResultUnreadableError, RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""
        async with self._transactions(account_ids) as connection:
            row = (await connection.execute(_GET, {"call_id": call_id})).one_or_none()
        return None if row is None else self._seal.open(row)
