"""Rates that processes share: leased in blocks, never more than the rate together, and no question without need.

Invariants: within t seconds all processes together get at most burst + rate x (t + LEASE_TTL_S); what one process may
have, it gets.
"""

from __future__ import annotations

import asyncio

import pytest

from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.types.codes import ReasonCode, RefusalError, refuse
from tools.rates import BucketSize, InProcessRateLedger, RateGrant, RateKey, Rates, RateWant

KEY = RateKey("principal", "u", "")
TOOL = RateKey("tool", "", "get_ticker")
SIZE = BucketSize(40, 10)
WIDE = BucketSize(40_000, 10_000)


class CountingLedger(InProcessRateLedger):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.asked = 0
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def take(self, wants: list[RateWant]) -> list[RateGrant]:
        self.asked += 1
        self.entered.set()
        await self.gate.wait()
        return await super().take(wants)


class House:
    def __init__(self, processes: int = 1) -> None:
        self.clock = ManualClock(NS_PER_S)
        self.ledger = CountingLedger(self.clock)
        self.processes = [Rates(self.ledger, self.clock) for _ in range(processes)]


async def taken(rates: Rates, most: int, size: BucketSize = SIZE) -> int:
    """How many of `most` calls went through."""
    through = 0
    for _ in range(most):
        try:
            await rates.take([(KEY, size)], 1)
        except RefusalError as error:
            if error.refusal.code is not ReasonCode.TOOL_RATE_EXCEEDED:
                raise
            continue
        through += 1
    return through


@pytest.mark.parametrize("processes", [1, 2, 5])
async def test_a_burst_is_the_same_however_many_processes_serve_it(processes: int) -> None:
    house = House(processes)
    assert sum([await taken(rates, 60) for rates in house.processes]) == 40


async def test_processes_that_take_in_turn_use_the_burst_up_exactly() -> None:
    house = House(3)
    through = 0
    for turn in range(90):
        through += await taken(house.processes[turn % 3], 1)
    # What one has leased and no longer asks for stays with it until the lease is over: here all go on asking.
    assert through == 40


@pytest.mark.parametrize(("processes", "seconds"), [(1, 20), (2, 20), (5, 20)])
async def test_in_the_long_run_all_together_get_the_rate_and_no_more(processes: int, seconds: int) -> None:
    house = House(processes)
    through = 0
    for _ in range(seconds * 20):
        through += sum([await taken(rates, 2) for rates in house.processes])
        house.clock.advance_ns(50 * NS_PER_MS)
    assert 10 * seconds <= through <= 40 + 10 * (seconds + 1)


async def test_a_process_that_is_killed_costs_the_others_no_more_than_what_it_had_leased_until_it_is_refilled() -> None:
    killed, other = House(2).processes
    house_clock = killed._clock
    assert isinstance(house_clock, ManualClock)
    await taken(killed, 1)  # and it holds nine more
    assert await taken(other, 60) == 30
    house_clock.advance_ns(NS_PER_S)
    assert await taken(other, 60) == 10


async def test_below_the_rate_nobody_asks_at_each_call() -> None:
    house = House()
    for _ in range(1_000):
        await house.processes[0].take([(KEY, WIDE), (TOOL, WIDE)], 1)
    assert house.ledger.asked == 1


async def test_what_was_leased_and_lay_idle_is_forgotten() -> None:
    house = House(2)
    await taken(house.processes[0], 1)
    house.clock.advance_ns(60 * NS_PER_S)
    assert sum([await taken(rates, 60) for rates in house.processes]) == 40


async def test_one_that_was_refused_asks_again_only_when_a_token_can_be_there() -> None:
    house = House()
    await taken(house.processes[0], 41)
    asked = house.ledger.asked
    assert await taken(house.processes[0], 50) == 0
    assert house.ledger.asked == asked
    house.clock.advance_ns(100 * NS_PER_MS)
    assert await taken(house.processes[0], 2) == 1


async def test_a_clock_that_is_set_back_neither_refills_nor_keeps_a_lease() -> None:
    house = House()
    await taken(house.processes[0], 35)
    house.clock.advance_ns(-3_600 * NS_PER_S)
    assert await taken(house.processes[0], 60) <= 5


async def test_calls_that_come_at_once_are_asked_for_together() -> None:
    house = House()
    house.ledger.gate.clear()
    calls = [asyncio.create_task(taken(house.processes[0], 1)) for _ in range(30)]
    await house.ledger.entered.wait()
    house.ledger.gate.set()
    assert sum(await asyncio.gather(*calls)) == 30
    assert house.ledger.asked <= 3


async def test_a_call_that_one_bucket_refuses_takes_from_no_other() -> None:
    house, small = House(), BucketSize(1, 1)
    rates = house.processes[0]
    await rates.take([(KEY, SIZE), (TOOL, small)], 1)
    for _ in range(3):
        with pytest.raises(RefusalError, match="Everybody together calls get_ticker"):
            await rates.take([(KEY, SIZE), (TOOL, small)], 1)
    assert await taken(rates, 60) == 39


async def test_a_dear_call_waits_until_all_of_its_tokens_are_there() -> None:
    house = House()
    rates = house.processes[0]
    await rates.take([(KEY, SIZE)], 38)
    with pytest.raises(RefusalError) as caught:
        await rates.take([(KEY, SIZE)], 5)
    assert caught.value.retry_after_ms == 301
    await rates.take([(KEY, SIZE)], 2)


async def test_a_ledger_that_is_away_refuses_and_heals() -> None:
    class Away(InProcessRateLedger):
        is_away = True

        async def take(self, wants: list[RateWant]) -> list[RateGrant]:
            if self.is_away:
                raise refuse(ReasonCode.SERVICE_DATABASE_UNAVAILABLE, "The database doesn't answer.")
            return await super().take(wants)

    clock = ManualClock(NS_PER_S)
    ledger = Away(clock)
    rates = Rates(ledger, clock)
    refused = await asyncio.gather(*(rates.take([(KEY, SIZE)], 1) for _ in range(3)), return_exceptions=True)
    assert [getattr(error, "refusal", None) and error.refusal.code for error in refused] == [
        ReasonCode.SERVICE_DATABASE_UNAVAILABLE
    ] * 3
    ledger.is_away = False
    assert await taken(rates, 60) == 40
