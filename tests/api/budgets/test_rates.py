"""Rates that processes share, on a real PostgreSQL: its buckets, its clock, its locks."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.budgets.rates import SqlRateLedger
from core.storage.database import DatabaseRole
from core.types.clock import SystemClock
from core.types.codes import ReasonCode, RefusalError
from tests.api.sql_doubles import Database, seeded
from tests.postgres import PostgresDatabase
from tools.rates import BucketSize, RateGrant, RateKey, Rates, RateWant

ROOT = Path(__file__).parents[3]
CHILD = Path(__file__).with_name("rate_child.py")
KEY = RateKey("principal", "u", "")
OTHER = RateKey("tool", "", "get_ticker")
SLOW = BucketSize(40, 1)
"""One token a second."""


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


class Refilled:
    """What a bucket of SLOW may have got back since."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()

    def at_most(self) -> int:
        return math.ceil(time.monotonic() - self._since_s) + 1


def aged(postgres: PostgresDatabase, seconds: int) -> None:
    """As if the buckets had been filled so long ago."""
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute("UPDATE rate_buckets SET refilled_at = refilled_at - make_interval(secs => %s)", [seconds])


@pytest.mark.parametrize(
    ("needed", "most", "granted"),
    [(1, 0, 1), (1, 100, 10), (1, 5, 5), (12, 100, 12), (40, 0, 40), (60, 0, 40)],
)
async def test_the_ledger_grants_what_is_needed_or_a_quarter_of_what_is_there(
    database: Database, needed: int, most: int, granted: int
) -> None:
    (grant,) = await SqlRateLedger(database.api).take([RateWant(KEY, SLOW, needed, most)])
    assert grant == RateGrant(granted, (40 - granted) * 1_000_000)


@pytest.mark.parametrize(("seconds", "whole"), [(7, 7), (3_600, 40), (-3_600, 0)])
async def test_buckets_refill_by_the_databases_clock_and_never_beyond_the_burst(
    database: Database, postgres: PostgresDatabase, seconds: int, whole: int
) -> None:
    ledger, refilled = SqlRateLedger(database.api), Refilled()
    await ledger.take([RateWant(KEY, SLOW, 40, 0)])
    aged(postgres, seconds)
    (grant,) = await ledger.take([RateWant(KEY, SLOW, 40, 0)])
    assert whole <= grant.granted <= min(whole + refilled.at_most(), 40)


async def test_a_policy_that_makes_a_bucket_smaller_holds_at_once(database: Database) -> None:
    ledger = SqlRateLedger(database.api)
    await ledger.take([RateWant(KEY, SLOW, 1, 0)])
    (grant,) = await ledger.take([RateWant(KEY, BucketSize(3, 1), 40, 0)])
    assert grant.granted == 3


async def test_those_that_race_for_the_same_buckets_get_the_burst_and_no_more(database: Database) -> None:
    ledger, refilled = SqlRateLedger(database.api), Refilled()
    wants = [RateWant(KEY, SLOW, 3, 0), RateWant(OTHER, SLOW, 3, 0)]
    grants = await asyncio.gather(*(ledger.take(wants) for _ in range(20)))
    for one in zip(*grants, strict=True):
        assert 40 <= sum(grant.granted for grant in one) <= 40 + refilled.at_most()


async def test_rates_of_two_processes_are_taken_from_one_bucket(database: Database) -> None:
    ledger = SqlRateLedger(database.api)
    one, two = Rates(ledger, SystemClock()), Rates(ledger, SystemClock())
    await one.take([(KEY, SLOW)], 38)
    with pytest.raises(RefusalError) as caught:
        await two.take([(KEY, SLOW)], 38)
    assert caught.value.refusal.code is ReasonCode.TOOL_RATE_EXCEEDED


def child(postgres: PostgresDatabase, home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "VELOZ_HOME": str(home),
        "VELOZ_DATABASE__URL": postgres.url,
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


async def test_a_killed_process_keeps_nothing_that_isnt_refilled(
    database: Database, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    process = child(postgres, tmp_path)
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "leased 10\n"
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    finally:
        process.kill()
        process.communicate()
    ledger = SqlRateLedger(database.api)
    (grant,) = await ledger.take([RateWant(KEY, SLOW, 40, 0)])
    assert 30 <= grant.granted < 40
    aged(postgres, 40)
    (grant,) = await ledger.take([RateWant(KEY, SLOW, 40, 0)])
    assert grant.granted == 40
