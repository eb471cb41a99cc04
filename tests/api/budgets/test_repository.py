"""Budgets that processes share, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.budgets.repository import SqlBudgetLedger
from core.config.settings import DatabaseSettings
from core.storage.database import DatabaseRole, create_engine
from core.types.clock import ManualClock
from core.types.codes import ReasonCode, RefusalError
from tests.api.sql_doubles import Database, seeded
from tests.postgres import PostgresDatabase
from tools.budgets import Bounds, BudgetKey, BudgetLimits, Budgets, Grant, Measure, Scope, Want

ROOT = Path(__file__).parents[3]
ONE = {Measure.CALLS: 1}
FREE = Bounds(None, None, None, None)
NOON_NS = 1_772_452_800 * 10**9
"""2026-03-02T12:00:00Z: no day turns while a test runs."""
CHILD = Path(__file__).with_name("child.py")
KEY = BudgetKey(Scope.USER_DAY, "u", "2026-03-02", Measure.CALLS)


def per_user(limit: int) -> BudgetLimits:
    return BudgetLimits(FREE, Bounds(limit, None, None, None), FREE)


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


async def take_all(budgets: Budgets, limit: int) -> int:
    """Until it is refused; how many it was."""
    taken = 0
    while True:
        try:
            reservation = await budgets.reserve("u", None, ONE, per_user(limit))
        except RefusalError as error:
            if error.refusal.code is not ReasonCode.TOOL_BUDGET_EXCEEDED:
                raise
            return taken
        taken += 1
        await asyncio.sleep(0)
        reservation.settle(ONE)


@pytest.mark.parametrize(
    ("want", "grant"),
    [
        (Want(KEY, 100, wanted=8), Grant(8, 8, 8)),
        (Want(KEY, 100, wanted=80), Grant(25, 25, 25)),  # a quarter of what is free
        (Want(KEY, 100, wanted=80, share=1), Grant(80, 80, 80)),
        (Want(KEY, 100, at_least=100), Grant(100, 100, 100)),
        (Want(KEY, 100, at_least=101), Grant(0, 0, 0)),
        (Want(KEY, 100, used=150, at_least=1), Grant(0, 0, 150)),  # used counts also beyond
    ],
)
async def test_the_ledger_grants_within_the_limit(database: Database, want: Want, grant: Grant) -> None:
    assert await SqlBudgetLedger(database.api).sync("h", [want]) == [grant]


async def test_use_is_counted_against_the_lease_and_what_is_returned_is_free(database: Database) -> None:
    ledger = SqlBudgetLedger(database.api)
    await ledger.sync("one", [Want(KEY, 10, at_least=10)])
    assert await ledger.sync("two", [Want(KEY, 10, at_least=1)]) == [Grant(0, 0, 10)]
    assert await ledger.sync("one", [Want(KEY, 0, used=3, returned=5)]) == [Grant(0, 2, 5)]
    assert await ledger.sync("two", [Want(KEY, 10, at_least=5)]) == [Grant(5, 5, 10)]
    (use,) = await ledger.use("2026-03-02", ["u"])
    assert (use.used, use.held) == (3, 7)
    assert await ledger.use("2026-03-02", ["v"]) == []
    assert await ledger.users("2026-03-02", 10) == ["u"]


async def test_two_that_share_a_budget_never_exceed_it_however_they_race(database: Database) -> None:
    ledger, limit = SqlBudgetLedger(database.api), 200
    both = [Budgets(ledger, name, ManualClock(NOON_NS)) for name in ("one", "two")]
    taken = await asyncio.gather(*(take_all(budgets, limit) for budgets in both for _ in range(8)))
    assert sum(taken) == limit
    for budgets in both:
        await budgets.close()
    (use,) = await ledger.use(both[0].day("UTC"), ["u"])
    assert (use.used, use.held) == (limit, 0)


def child(postgres: PostgresDatabase, home: Path, *arguments: Any) -> subprocess.Popen[str]:
    environment = os.environ | {
        "VELOZ_HOME": str(home),
        "VELOZ_DATABASE__URL": postgres.url,
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


async def line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(await asyncio.to_thread(process.stdout.readline))


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


async def test_two_processes_use_a_budget_up_exactly_and_one_that_is_killed_gives_back_what_it_held(
    database: Database, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    limit = 300
    ledger = SqlBudgetLedger(database.api)
    killed, two, three = (child(postgres, tmp_path, name, limit, NOON_NS) for name in ("killed", "two", "three"))
    try:
        for process in (killed, two, three):
            assert await line(process) == "ready"
        go(killed)
        assert await line(killed) == "holds 10"
        killed.send_signal(signal.SIGKILL)
        await asyncio.to_thread(killed.wait)
        for process in (two, three):
            go(process)
        taken = [await line(process) for process in (two, three)]
        day = Budgets(ledger, "looks", ManualClock(NOON_NS)).day("UTC")
        (use,) = await ledger.use(day, ["u"])
        assert sum(taken) + use.held == limit
        assert use.held >= 10
        with postgres.connect(DatabaseRole.OWNER) as connection:
            connection.execute("UPDATE budget_leases SET expires_at = clock_timestamp() WHERE holder = 'killed'")
        assert await take_all(Budgets(ledger, "after", ManualClock(NOON_NS)), limit) == limit - sum(taken)
    finally:
        for process in (killed, two, three):
            process.kill()
            process.communicate()


async def test_an_absent_database_refuses(postgres: PostgresDatabase, tmp_path: Path) -> None:
    settings = postgres.settings(tmp_path)
    nowhere = settings.model_copy(update={"database": DatabaseSettings(url="postgresql://127.0.0.1:1/veloz")})
    engine = create_engine(nowhere, DatabaseRole.API)
    budgets = Budgets(SqlBudgetLedger(engine), "h", ManualClock(NOON_NS))
    with pytest.raises(RefusalError) as caught:
        await budgets.reserve("u", None, ONE, per_user(5))
    assert caught.value.refusal.code is ReasonCode.SERVICE_DATABASE_UNAVAILABLE
    await engine.dispose()
