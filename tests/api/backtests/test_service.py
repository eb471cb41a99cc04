"""Backtests as jobs: rows inside one account, a worker process each, and an end that is always told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.backtests.repository import SqlBacktests
from api.backtests.service import LOST, BacktestService
from core.backtest.bars import BarSeries
from core.backtest.job import Job
from core.backtest.report import plain, report_digest
from core.backtest.running import run_backtest
from core.types.codes import ReasonCode, RefusalError
from core.types.ids import SystemIdSource
from tests.api.sql_doubles import ACCOUNT, OTHER_ACCOUNT, Database, seeded
from tests.core.backtest.support import BTC, specification, walk
from tests.postgres import PostgresDatabase
from tools.backtests import Backtest

USER, IDS = "user-trader", SystemIdSource()
ROWS = walk(300, 1)
NO_PARAMETERS = b'{"parameters": {}}'
JOB = Job(BTC, "1m", "engine", specification(fast=2, slow=5), ROWS)


def worker(then: str) -> tuple[str, ...]:
    """One that reads its job, tells 40 percent, and then does something else."""
    told = r'import sys; sys.stdin.read(); print("{\"progress\": 40}", flush=True); '
    return (sys.executable, "-c", told + then)


HANGS = worker("import threading; threading.Event().wait()")
DIES = worker("raise SystemExit(3)")
RAVES = worker('print("not JSON", flush=True)')


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


def service_of(
    database: Database,
    command: tuple[str, ...] | None = None,
    *,
    deadline_s: float = 60,
    lease_s: float = 30,
    waiting_limit: int = 8,
) -> BacktestService:
    more = {} if command is None else {"command": command}
    return BacktestService(
        database.transactions,
        Path("/nonexistent"),
        IDS,
        deadline_s=deadline_s,
        lease_s=lease_s,
        waiting_limit=waiting_limit,
        **more,
    )


async def ended(service: BacktestService, started: Backtest) -> Backtest:
    await asyncio.wait({service._jobs[started.backtest_id][1]})
    found = await service.get(ACCOUNT, started.backtest_id)
    assert found is not None
    return found


async def until_running(service: BacktestService, started: Backtest) -> None:
    """The worker has told its progress."""
    await asyncio.wait_for(service._jobs[started.backtest_id][0].under_way.wait(), 60)


async def test_a_job_is_queued_at_once_and_ends_with_the_report(database: Database) -> None:
    service = service_of(database)
    started = await service.start(ACCOUNT, USER, JOB)
    assert (started.status, started.progress_percent, started.tries) == ("queued", 0, 1)
    done = await ended(service, started)
    here = run_backtest(BarSeries(BTC, "1m", "engine", ROWS), specification(fast=2, slow=5))
    assert (done.status, done.progress_percent, done.refusal) == ("done", 100, None)
    assert done.finished_ns is not None
    assert (done.report, done.report_digest_hex) == (plain(here), report_digest(here))
    assert service._jobs == {}


async def test_a_job_can_be_stopped_and_its_worker_ends(database: Database) -> None:
    service = service_of(database, HANGS)
    started = await service.start(ACCOUNT, USER, JOB)
    await until_running(service, started)
    stopped = await service.stop(ACCOUNT, started.backtest_id)
    assert stopped is not None
    assert (stopped.status, stopped.report, service._jobs) == ("stopped", None, {})
    again = await service.stop(ACCOUNT, started.backtest_id)
    assert again == stopped


async def test_one_that_waits_can_be_stopped_and_the_next_gets_its_place(database: Database) -> None:
    service = service_of(database, HANGS)
    first, second = await service.start(ACCOUNT, USER, JOB), await service.start(ACCOUNT, USER, JOB)
    await until_running(service, first)
    waiting = await service.stop(ACCOUNT, second.backtest_id)
    assert waiting is not None
    assert waiting.status == "stopped"
    third = await service.start(ACCOUNT, USER, JOB)
    await service.stop(ACCOUNT, first.backtest_id)
    await until_running(service, third)
    await service.close()


async def test_another_api_process_can_stop_it(database: Database) -> None:
    owner, other = service_of(database, HANGS), service_of(database)
    owner._renew_interval_s = 0.1  # it hears of it when it renews its lease
    started = await owner.start(ACCOUNT, USER, JOB)
    await until_running(owner, started)
    asked = await other.stop(ACCOUNT, started.backtest_id)
    assert asked is not None
    assert (await ended(owner, started)).status == "stopped"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (HANGS, ReasonCode.TOOL_DEADLINE_EXCEEDED),
        (DIES, ReasonCode.SERVICE_INTERNAL_ERROR),
        (RAVES, ReasonCode.SERVICE_INTERNAL_ERROR),
        (("/no/such/program",), ReasonCode.SERVICE_INTERNAL_ERROR),
    ],
    ids=["hangs", "dies", "raves", "is missing"],
)
async def test_a_worker_that_gives_no_answer_fails_its_job(
    database: Database, command: tuple[str, ...], code: ReasonCode
) -> None:
    service = service_of(database, command, deadline_s=0.3 if command is HANGS else 30)
    failed = await ended(service, await service.start(ACCOUNT, USER, JOB))
    assert failed.refusal is not None
    assert (failed.status, failed.refusal.code) == ("failed", code)


async def test_a_job_whose_process_died_is_told_as_lost_and_not_before_its_lease_is_over(database: Database) -> None:
    held, over = (SqlBacktests(database.transactions, LOST, lease_s) for lease_s in (30, 0))
    for name, repository in (("01A", held), ("01B", over)):
        await repository.insert(
            name,
            ACCOUNT,
            USER,
            strategy="sma_cross",
            symbol="BTCUSDT",
            interval="1m",
            specification=NO_PARAMETERS,
        )
    service = service_of(database)
    assert {row.backtest_id: row.status for row in await service.list(ACCOUNT, None, 10)} == {
        "01A": "queued",
        "01B": "failed",
    }
    lost = await service.get(ACCOUNT, "01B")
    assert lost is not None
    assert lost.refusal == LOST


async def test_the_lease_of_a_long_run_is_renewed(database: Database) -> None:
    service = service_of(database, HANGS, lease_s=3)
    started = await service.start(ACCOUNT, USER, JOB)
    await until_running(service, started)
    renewed = asyncio.Event()
    renew = service._repository.renew

    async def counting(*arguments: object) -> bool:
        result = await renew(*arguments)  # type: ignore[arg-type]
        renewals.append(result)
        if len(renewals) * service._renew_interval_s > 3:
            renewed.set()
        return result

    renewals: list[bool] = []
    service._repository.renew = counting  # type: ignore[method-assign]
    await asyncio.wait_for(renewed.wait(), 60)
    found = await service.get(ACCOUNT, started.backtest_id)
    assert found is not None
    assert (found.status, found.progress_percent, set(renewals)) == ("running", 40, {True})
    await service.close()


async def test_a_service_that_ends_tells_what_it_takes_along(database: Database) -> None:
    service = service_of(database, HANGS)
    started = await service.start(ACCOUNT, USER, JOB)
    await until_running(service, started)
    await service.close()
    found = await service.get(ACCOUNT, started.backtest_id)
    assert found is not None
    assert (found.status, found.refusal) == ("failed", LOST)


async def test_no_more_wait_than_may(database: Database) -> None:
    service = service_of(database, HANGS, waiting_limit=1)
    asked = await asyncio.gather(*(service.start(ACCOUNT, USER, JOB) for _ in range(3)), return_exceptions=True)
    (refused,) = [answer for answer in asked if isinstance(answer, RefusalError)]
    assert (refused.refusal.code, refused.refusal.limit) == (ReasonCode.SERVICE_OVERLOADED, "1")
    assert len(await service.list(ACCOUNT, None, 10)) == 2
    await service.close()


async def test_one_person_leaves_places_to_others_and_an_agent_counts_as_its_owner(database: Database) -> None:
    service = service_of(database, HANGS)
    first = await service.start(ACCOUNT, USER, JOB)
    await service.start(ACCOUNT, USER, JOB)
    await service.start(ACCOUNT, "agent-1", JOB, person_id=USER)
    for user, person in ((USER, ""), ("agent-2", USER)):
        with pytest.raises(RefusalError) as refused:
            await service.start(ACCOUNT, user, JOB, person_id=person)
        refusal = refused.value.refusal
        assert (refusal.code, refusal.limit, refusal.actual) == (ReasonCode.SERVICE_OVERLOADED, "3", "3")
        assert "stop_backtest" in refusal.message
    await service.start(ACCOUNT, "user-other", JOB)
    await service.stop(ACCOUNT, first.backtest_id)
    await service.start(ACCOUNT, USER, JOB)
    await service.close()


async def test_asked_for_at_once_one_person_gets_no_more_either(database: Database) -> None:
    service = service_of(database, HANGS)
    asked = await asyncio.gather(*(service.start(ACCOUNT, USER, JOB) for _ in range(9)), return_exceptions=True)
    refused = [answer.refusal.unit for answer in asked if isinstance(answer, RefusalError)]
    assert refused == ["backtests of one person"] * 6
    await service.close()


async def test_nobody_sees_or_stops_those_of_another_account(database: Database) -> None:
    service = service_of(database, HANGS)
    started = await service.start(ACCOUNT, USER, JOB)
    assert await service.get(OTHER_ACCOUNT, started.backtest_id) is None
    assert await service.list(OTHER_ACCOUNT, None, 10) == []
    assert await service.stop(OTHER_ACCOUNT, started.backtest_id) is None
    assert started.backtest_id in service._jobs
    await service.close()


async def test_tries_are_counted_by_person_and_data_and_lists_are_paged(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = SqlBacktests(database.transactions, LOST)

    async def insert(name: str, user: str = USER, symbol: str = "BTCUSDT", interval: str = "1m") -> int:
        row = await repository.insert(
            name,
            ACCOUNT,
            user,
            strategy="breakout",
            symbol=symbol,
            interval=interval,
            specification=NO_PARAMETERS,
        )
        return row.tries

    found = [
        await insert("01A"),
        await insert("01B"),
        await insert("01C", user="user-other"),
        await insert("01D", symbol="ETHUSDT"),
        await insert("01E", interval="5m"),
        await insert("01F"),
    ]
    assert found == [1, 2, 1, 1, 1, 3]
    assert [row.backtest_id for row in await repository.list(ACCOUNT, "01E", 2)] == ["01D", "01C"]
    for name in ("01A", "01B"):
        await repository.finish(ACCOUNT, name, "stopped")
    monkeypatch.setattr("api.backtests.repository.BACKTESTS_KEPT", 5)
    await insert("01G")
    assert [row.backtest_id for row in await repository.list(ACCOUNT, None, 9)] == [
        "01G",
        "01F",
        "01E",
        "01D",
        "01C",
        "01B",
    ]
