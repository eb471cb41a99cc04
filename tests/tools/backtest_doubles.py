"""Backtests in memory, for the gateway's House."""

from __future__ import annotations

from functools import cache

import msgspec

from core.backtest.bars import BarSeries
from core.backtest.job import Job
from core.backtest.recorded import Recorded
from core.backtest.report import Report, plain, report_digest
from core.backtest.running import run_backtest
from core.types.clock import NS_PER_S
from core.types.ids import IdSource
from tests.core.backtest.support import BTC, specification, walk
from tools.backtests import Backtest

DONE_BACKTEST = "01J00000000000000000000000"
"""The one that the examples of tools speak of."""


@cache
def done_report() -> Report:
    return run_backtest(BarSeries(BTC, "1m", "test", walk(300, 1)), specification(fast=2, slow=5))


class MemoryBacktests:
    """Jobs that stay queued, beside one that is done; trades of every symbol were recorded for ten days."""

    def __init__(self, account_id: str, user_id: str, now_ns: int, ids: IdSource) -> None:
        report = done_report()
        self._now_ns = now_ns
        self._ids = ids
        done = Backtest(
            backtest_id=DONE_BACKTEST,
            account_id=account_id,
            user_id=user_id,
            status="done",
            progress_percent=100,
            strategy="sma_cross",
            parameters={"fast": 2, "slow": 5},
            symbol="BTCUSDT",
            interval="1m",
            tries=1,
            created_ns=now_ns,
            finished_ns=now_ns,
            report=plain(report),
            report_digest_hex=report_digest(report),
        )
        self.rows: dict[str, Backtest] = {DONE_BACKTEST: done}
        self.jobs: list[Job] = []
        self.people: list[tuple[str, str]] = []
        """Who asked, and who answers for it."""
        self.recordings = [Recorded("binance", "trade", now_ns - 10 * 86_400 * NS_PER_S, now_ns)]

    async def recorded(self, symbol: str) -> list[Recorded]:
        return self.recordings

    async def start(self, account_id: str, user_id: str, job: Job, *, person_id: str = "") -> Backtest:
        row = Backtest(
            backtest_id=self._ids.new_ulid(),
            account_id=account_id,
            user_id=user_id,
            status="queued",
            progress_percent=0,
            strategy=job.specification.strategy,
            parameters=dict(job.specification.parameters),
            symbol=job.instrument.symbol,
            interval=job.interval,
            tries=1 + len(self.jobs),
            created_ns=self._now_ns,
        )
        self.jobs.append(job)
        self.people.append((user_id, person_id))
        self.rows[row.backtest_id] = row
        return row

    async def get(self, account_id: str, backtest_id: str) -> Backtest | None:
        found = self.rows.get(backtest_id)
        return found if found is not None and found.account_id == account_id else None

    async def list(self, account_id: str, before_id: str | None, limit: int) -> list[Backtest]:
        mine = [row for row in self.rows.values() if row.account_id == account_id]
        newest = sorted(mine, key=lambda row: row.backtest_id, reverse=True)
        return [row for row in newest if before_id is None or row.backtest_id < before_id][:limit]

    async def stop(self, account_id: str, backtest_id: str) -> Backtest | None:
        found = await self.get(account_id, backtest_id)
        if found is not None and found.status in {"queued", "running"}:
            found = self.rows[backtest_id] = msgspec.structs.replace(found, status="stopped", finished_ns=self._now_ns)
        return found
