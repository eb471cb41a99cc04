"""Backtests in SQL, inside one account (row-level security)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, text

from api.moments import to_ns
from api.transactions import Transactions
from core.backtest.report import Report
from core.types.codes import Refusal
from tools.backtests import Backtest

BACKTESTS_KEPT = 1_000
"""Of an account; the oldest go first."""
LEASE_S = 30

_COLUMNS = """
    id, account_id, user_id, status, progress_percent, strategy, CAST(specification AS text) AS specification, symbol,
    bar_interval, tries, created_at, finished_at, report_digest, CAST(refusal AS text) AS refusal
"""
_INSERT = text(
    """
    INSERT INTO backtests (id, account_id, user_id, status, strategy, symbol, bar_interval, specification, tries,
                           lease_until)
    SELECT :id, :account_id, :user_id, 'queued', :strategy, :symbol, :bar_interval, CAST(:specification AS jsonb),
           1 + (SELECT count(*) FROM backtests WHERE account_id = :account_id AND user_id = :user_id
                AND symbol = :symbol AND bar_interval = :bar_interval),
           clock_timestamp() + make_interval(secs => :lease_s)
    """
)
_FORGET = text(
    """
    DELETE FROM backtests WHERE account_id = :account_id AND finished_at IS NOT NULL AND id < (
        SELECT id FROM backtests WHERE account_id = :account_id ORDER BY id DESC OFFSET :kept LIMIT 1)
    """
)
# Whoever looks first says what became of a job whose process is gone.
_END_LOST = text(
    """
    UPDATE backtests SET status = 'failed', finished_at = clock_timestamp(), refusal = CAST(:refusal AS jsonb)
    WHERE account_id = :account_id AND finished_at IS NULL AND lease_until < clock_timestamp()
    """
)
_GET = text(
    f"SELECT {_COLUMNS}, CAST(report AS text) AS report FROM backtests "  # noqa: S608 constants only
    "WHERE id = :id AND account_id = :account_id"
)
_LIST = text(
    f"""
    SELECT {_COLUMNS}, NULL AS report FROM backtests
    WHERE account_id = :account_id AND (CAST(:before AS text) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
    """  # noqa: S608 constants only
)
_RENEW = text(
    """
    UPDATE backtests SET lease_until = clock_timestamp() + make_interval(secs => :lease_s), status = :status,
                         progress_percent = :progress_percent
    WHERE id = :id AND account_id = :account_id AND finished_at IS NULL RETURNING stop_requested
    """
)
_FINISH = text(
    """
    UPDATE backtests SET status = :status, finished_at = clock_timestamp(), report = CAST(:report AS jsonb),
           report_digest = :report_digest, refusal = CAST(:refusal AS jsonb),
           progress_percent = CASE WHEN :status = 'done' THEN 100 ELSE progress_percent END
    WHERE id = :id AND account_id = :account_id AND finished_at IS NULL
    """
)
_ASK_TO_STOP = text(
    "UPDATE backtests SET stop_requested = true WHERE id = :id AND account_id = :account_id AND finished_at IS NULL"
)


class SqlBacktests:
    """lost is what is said of a job whose process ended before it did."""

    def __init__(self, transactions: Transactions, lost: Refusal, lease_s: float = LEASE_S) -> None:
        self._transactions = transactions
        self._lost = msgspec.json.encode(lost).decode()
        self._lease_s = lease_s

    async def insert(
        self,
        backtest_id: str,
        account_id: str,
        user_id: str,
        *,
        strategy: str,
        symbol: str,
        interval: str,
        specification: bytes,
    ) -> Backtest:
        values = {
            "id": backtest_id,
            "account_id": account_id,
            "user_id": user_id,
            "strategy": strategy,
            "symbol": symbol,
            "bar_interval": interval,
            "specification": specification.decode(),
            "lease_s": self._lease_s,
        }
        async with self._transactions((account_id,)) as connection:
            await connection.execute(_INSERT, values)
            await connection.execute(_FORGET, {"account_id": account_id, "kept": BACKTESTS_KEPT})
            row = (await connection.execute(_GET, {"id": backtest_id, "account_id": account_id})).one()
        return _backtest(row)

    async def get(self, account_id: str, backtest_id: str) -> Backtest | None:
        async with self._transactions((account_id,)) as connection:
            await connection.execute(_END_LOST, {"account_id": account_id, "refusal": self._lost})
            row = (await connection.execute(_GET, {"id": backtest_id, "account_id": account_id})).one_or_none()
        return None if row is None else _backtest(row)

    async def list(self, account_id: str, before_id: str | None, limit: int) -> Sequence[Backtest]:
        async with self._transactions((account_id,)) as connection:
            await connection.execute(_END_LOST, {"account_id": account_id, "refusal": self._lost})
            rows = await connection.execute(_LIST, {"account_id": account_id, "before": before_id, "limit": limit})
            return [_backtest(row) for row in rows]

    async def renew(self, account_id: str, backtest_id: str, status: str, progress_percent: int) -> bool:
        """Whether to go on: nobody asked for its end, and nobody took it for lost."""
        values = {
            "id": backtest_id,
            "account_id": account_id,
            "status": status,
            "progress_percent": progress_percent,
            "lease_s": self._lease_s,
        }
        async with self._transactions((account_id,)) as connection:
            row = (await connection.execute(_RENEW, values)).one_or_none()
        return row is not None and not row.stop_requested

    async def finish(
        self,
        account_id: str,
        backtest_id: str,
        status: str,
        *,
        report: Report | None = None,
        digest_hex: str | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        """Once; what has ended stays so."""
        values = {
            "id": backtest_id,
            "account_id": account_id,
            "status": status,
            "report": None if report is None else msgspec.json.encode(report).decode(),
            "report_digest": digest_hex,
            "refusal": None if refusal is None else msgspec.json.encode(refusal).decode(),
        }
        async with self._transactions((account_id,)) as connection:
            await connection.execute(_FINISH, values)

    async def ask_to_stop(self, account_id: str, backtest_id: str) -> None:
        async with self._transactions((account_id,)) as connection:
            await connection.execute(_ASK_TO_STOP, {"id": backtest_id, "account_id": account_id})


def _backtest(row: Row[Any]) -> Backtest:
    created_ns = to_ns(row.created_at)
    return Backtest(
        backtest_id=row.id,
        account_id=row.account_id,
        user_id=row.user_id,
        status=row.status,
        progress_percent=row.progress_percent,
        strategy=row.strategy,
        parameters=msgspec.json.decode(row.specification)["parameters"],
        symbol=row.symbol,
        interval=row.bar_interval,
        tries=row.tries,
        created_ns=created_ns,
        finished_ns=to_ns(row.finished_at),
        report=None if row.report is None else msgspec.json.decode(row.report),
        report_digest_hex=row.report_digest or "",
        refusal=None if row.refusal is None else msgspec.json.decode(row.refusal, type=Refusal),
    )
