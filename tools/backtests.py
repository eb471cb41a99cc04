"""Backtests as jobs: what is asked for, what became of it, and the port that tools reach them by."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from core.backtest.job import Job
from core.backtest.recorded import Recorded
from core.types.codes import Refusal

BacktestStatus = Literal["queued", "running", "done", "failed", "stopped"]
BACKTESTS_SHOWN_LIMIT = 50


class Backtest(msgspec.Struct, frozen=True):
    """One job. report and report_digest_hex are there once it is done, refusal when it failed. tries counts how often
    this person has run any backtest over this symbol and interval, this one included."""

    backtest_id: str
    account_id: str
    user_id: str
    status: BacktestStatus
    progress_percent: int
    strategy: str
    parameters: dict[str, int | None]
    symbol: str
    interval: str
    tries: int
    created_ns: int
    finished_ns: int | None = None
    report: dict[str, Any] | None = None
    report_digest_hex: str = ""
    refusal: Refusal | None = None


class BacktestJobs(Protocol):
    """Runs them apart from the call that asks. Every read and write stays inside the account.

    Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE).
    """

    async def recorded(self, symbol: str) -> list[Recorded]:
        """What recorded trades there are of it, the longest first. Raises RefusalError(MARKET_NO_DATA)."""
        ...

    async def start(self, account_id: str, user_id: str, job: Job, *, person_id: str = "") -> Backtest:
        """Queue it: the row is durable when this returns. The root of job.stored is filled in here. person_id is who
        answers for it, an agent's owner; left out, the user.

        Raises RefusalError(SERVICE_OVERLOADED) when too many wait, or too many of that person's.
        """
        ...

    async def get(self, account_id: str, backtest_id: str) -> Backtest | None: ...

    async def list(self, account_id: str, before_id: str | None, limit: int) -> list[Backtest]:
        """Newest first, without their reports."""
        ...

    async def stop(self, account_id: str, backtest_id: str) -> Backtest | None:
        """Ask for an end; one that is over stays as it is."""
        ...
