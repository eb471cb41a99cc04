"""Budgets.

Invariants: what is used and what is set aside never exceed a limit together, over any number of processes; what was set
aside and not used is free again; what came to more than was set aside is counted as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types.clock import ManualClock
from core.types.codes import ReasonCode, RefusalError, refuse
from tools.budgets import (
    IDLE_AFTER_S,
    VALID_FOR_S,
    Bounds,
    BudgetKey,
    BudgetLimits,
    Budgets,
    Grant,
    InProcessBudgetLedger,
    Measure,
    Scope,
    Want,
)

NOON_NS = 1_772_452_800 * 10**9
"""2026-03-02T12:00:00Z."""
FREE = Bounds(None, None, None, None)
ONE = {Measure.CALLS: 1}


def calls(run: int | None = None, user: int | None = None, firm: int | None = None, zone: str = "UTC") -> BudgetLimits:
    return BudgetLimits(*(Bounds(limit, None, None, None) for limit in (run, user, firm)), zone)


class Counted(InProcessBudgetLedger):
    """Says how often it was asked, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.away = False

    async def sync(self, holder: str, wants: list[Want]) -> list[Grant]:
        if self.away:
            raise refuse(ReasonCode.SERVICE_DATABASE_UNAVAILABLE, "Away.")
        self.asked += 1
        await asyncio.sleep(0)  # as a database does: others go on meanwhile
        return await super().sync(holder, wants)

    def used(self, scope: Scope) -> int:
        return sum(used for key, used in self._used.items() if key.scope is scope)

    def end_leases(self) -> None:
        self._held.clear()


class Process:
    def __init__(self, ledger: Counted, name: str = "one", clock: ManualClock | None = None) -> None:
        self.ledger = ledger
        self.clock = clock or ManualClock(NOON_NS)
        self.now_s = 1_000.0
        self.budgets = Budgets(ledger, name, self.clock, lambda: self.now_s)

    async def take(
        self,
        limits: BudgetLimits,
        amounts: Mapping[Measure, int] = ONE,
        used: Mapping[Measure, int] | None = None,
        user: str = "u",
        run: str | None = "r",
    ) -> ReasonCode | None:
        try:
            reservation = await self.budgets.reserve(user, run, amounts, limits)
        except RefusalError as error:
            return error.refusal.code
        reservation.settle(amounts if used is None else used)
        return None


@pytest.mark.parametrize(
    ("limits", "unit"),
    [
        (calls(run=3), "calls per run"),
        (calls(user=3), "calls per user and day"),
        (calls(firm=3), "calls per day"),
        (calls(run=9, user=3, firm=5), "calls per user and day"),
    ],
)
async def test_a_budget_is_used_up_after_its_limit(limits: BudgetLimits, unit: str) -> None:
    process = Process(Counted())
    assert [await process.take(limits) for _ in range(3)] == [None] * 3
    with pytest.raises(RefusalError) as caught:
        await process.budgets.reserve("u", "r", ONE, limits)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.limit, refusal.actual) == (ReasonCode.TOOL_BUDGET_EXCEEDED, "3", "4")
    assert refusal.unit == unit


async def test_each_run_user_and_day_has_its_own() -> None:
    process, limits = Process(Counted()), calls(run=1, user=2)
    assert await process.take(limits, run="r1") is None
    assert await process.take(limits, run="r1") is ReasonCode.TOOL_BUDGET_EXCEEDED
    assert await process.take(limits, run="r2") is None
    assert await process.take(limits, run="r3") is ReasonCode.TOOL_BUDGET_EXCEEDED
    assert await process.take(limits, run="r3", user="v") is None
    process.clock.advance_ns(12 * 3600 * 10**9)
    assert await process.take(limits, run="r4") is None


@pytest.mark.parametrize(
    ("zone", "wait_ms"), [("UTC", 43_200_000), ("Europe/Berlin", 39_600_000), ("America/New_York", 61_200_000)]
)
async def test_a_day_is_one_of_the_zone_that_the_policy_names(zone: str, wait_ms: int) -> None:
    process, limits = Process(Counted()), calls(user=1, zone=zone)
    await process.take(limits)
    with pytest.raises(RefusalError) as caught:
        await process.budgets.reserve("u", "r", ONE, limits)
    assert caught.value.retry_after_ms == wait_ms
    process.clock.advance_ns(wait_ms * 10**6 - 1)
    assert await process.take(limits) is ReasonCode.TOOL_BUDGET_EXCEEDED
    process.clock.advance_ns(1)
    assert await process.take(limits) is None


async def test_a_clock_that_is_set_back_brings_no_budget_back() -> None:
    process, limits = Process(Counted()), calls(user=1)
    await process.take(limits)
    process.clock.advance_ns(-24 * 3600 * 10**9)
    assert await process.take(limits) is ReasonCode.TOOL_BUDGET_EXCEEDED


async def test_what_was_set_aside_and_not_used_is_free_again() -> None:
    process, limits = Process(Counted()), calls(user=1)
    assert await process.take(limits, used={}) is None
    assert await process.take(limits) is None
    assert await process.take(limits) is ReasonCode.TOOL_BUDGET_EXCEEDED


async def test_what_came_to_more_is_counted_as_it_was() -> None:
    process = Process(Counted())
    limits = BudgetLimits(FREE, Bounds(None, 100, None, None), FREE)
    assert await process.take(limits, {Measure.TOKENS: 10}, {Measure.TOKENS: 95}) is None
    assert await process.take(limits, {Measure.TOKENS: 5}) is None
    assert await process.take(limits, {Measure.TOKENS: 1}) is ReasonCode.TOOL_BUDGET_EXCEEDED
    await process.budgets.close()
    assert process.ledger.used(Scope.USER_DAY) == 100


async def test_settling_twice_counts_once() -> None:
    process = Process(Counted())
    reservation = await process.budgets.reserve("u", None, ONE, calls(user=5))
    reservation.settle(ONE)
    reservation.settle(ONE)
    await process.budgets.close()
    assert process.ledger.used(Scope.USER_DAY) == 1


async def test_a_call_asks_the_ledger_once_a_block_only() -> None:
    process, limits = Process(Counted()), calls(run=100, user=20_000, firm=1_000_000)
    for _ in range(100):
        assert await process.take(limits) is None
    assert process.ledger.asked == 1


async def test_without_its_ledger_nothing_is_set_aside_beyond_the_block() -> None:
    process, limits = Process(Counted()), calls(user=640)
    assert await process.take(limits) is None  # a block of ten
    process.ledger.away = True
    answers = [await process.take(limits) for _ in range(10)]
    assert answers == [None] * 9 + [ReasonCode.SERVICE_DATABASE_UNAVAILABLE]
    process.ledger.away = False
    assert await process.take(limits) is None


async def test_what_is_unlimited_is_never_asked_for() -> None:
    process = Process(Counted())
    assert await process.take(BudgetLimits(FREE, FREE, FREE)) is None
    assert process.ledger.asked == 0


async def test_a_process_that_is_gone_leaves_its_part_to_others_once_its_lease_has_ended() -> None:
    ledger, limits = Counted(), calls(user=4)
    gone, other = Process(ledger, "gone"), Process(ledger, "other")
    for _ in range(4):
        await gone.budgets.reserve("u", None, ONE, limits)
    assert await other.take(limits) is ReasonCode.TOOL_BUDGET_EXCEEDED
    ledger.end_leases()
    assert [await other.take(limits) for _ in range(5)] == [None] * 4 + [ReasonCode.TOOL_BUDGET_EXCEEDED]


async def test_a_block_that_was_not_renewed_in_time_is_asked_for_again() -> None:
    ledger, limits = Counted(), calls(user=640)
    slept, other = Process(ledger, "slept"), Process(ledger, "other")
    assert await slept.take(limits) is None
    ledger.end_leases()
    assert [await other.take(limits) for _ in range(640)][-1] is None
    slept.now_s += VALID_FOR_S + 0.1
    assert await slept.take(limits) is ReasonCode.TOOL_BUDGET_EXCEEDED


async def test_what_lies_idle_goes_back() -> None:
    ledger, limits = Counted(), calls(user=64)
    idle, busy = Process(ledger, "idle"), Process(ledger, "busy")
    reservation = await idle.budgets.reserve("u", None, {Measure.CALLS: 30}, limits)
    reservation.settle({})
    assert await busy.take(limits, {Measure.CALLS: 60}) is ReasonCode.TOOL_BUDGET_EXCEEDED
    await idle.budgets.flush()
    assert await busy.take(limits, {Measure.CALLS: 60}) is ReasonCode.TOOL_BUDGET_EXCEEDED
    idle.now_s += IDLE_AFTER_S
    await idle.budgets.flush()
    assert await busy.take(limits, {Measure.CALLS: 60}) is None


class Held(Counted):
    """Its answers to one process stay on their way until they may arrive."""

    def __init__(self, holder: str) -> None:
        super().__init__()
        self.holder = holder
        self.is_held = False
        self.answered, self.may_arrive = asyncio.Event(), asyncio.Event()

    async def sync(self, holder: str, wants: list[Want]) -> list[Grant]:
        grants = await super().sync(holder, wants)
        if holder == self.holder and self.is_held:
            self.answered.set()
            await self.may_arrive.wait()
        return grants


async def test_a_call_that_comes_while_a_block_goes_back_takes_nothing_of_it() -> None:
    ledger, limits = Held("idle"), calls(user=10)
    idle, other = Process(ledger, "idle"), Process(ledger, "other")
    assert await idle.take(limits, {Measure.CALLS: 10}, used={}) is None
    idle.now_s += IDLE_AFTER_S
    ledger.is_held = True
    flushing = asyncio.create_task(idle.budgets.flush())
    await ledger.answered.wait()
    assert await other.take(limits, {Measure.CALLS: 10}) is None
    meanwhile = asyncio.create_task(idle.take(limits))
    ledger.is_held = False
    ledger.may_arrive.set()
    await flushing
    assert await meanwhile is ReasonCode.TOOL_BUDGET_EXCEEDED


async def test_the_end_of_a_budget_is_not_leased_by_one_process_alone() -> None:
    ledger, limits = Counted(), calls(user=640)
    first, second = Process(ledger, "first"), Process(ledger, "second")
    assert await first.take(limits, {Measure.CALLS: 628}) is None
    assert await first.take(limits) is None
    assert await second.take(limits, {Measure.CALLS: 9}) is None


amounts = st.integers(1, 6)
steps = st.lists(st.tuples(st.sampled_from("abc"), amounts, st.integers(0, 9), st.booleans()), max_size=60)


@given(st.integers(1, 40), steps)
def test_processes_that_share_a_budget_never_exceed_it(limit: int, taken: list[tuple[str, int, int, bool]]) -> None:
    """used is at most what was reserved here, so the limit holds exactly."""

    async def run() -> None:
        ledger = Counted()
        processes = {name: Process(ledger, name) for name in "abc"}
        used = 0

        async def one(name: str, amount: int, part: int, flush: bool) -> None:
            nonlocal used
            process = processes[name]
            comes_to = min(amount, part)
            wanted = {Measure.CALLS: amount}
            if await process.take(calls(user=limit), wanted, {Measure.CALLS: comes_to}) is None:
                used += comes_to
            if flush:
                process.now_s += IDLE_AFTER_S
                await process.budgets.flush()

        await asyncio.gather(*(one(*step) for step in taken))
        assert used <= limit
        for process in processes.values():
            await process.budgets.close()
        assert ledger.used(Scope.USER_DAY) == used

    asyncio.run(run())


async def test_a_ledger_in_memory_keeps_a_bounded_number_of_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.budgets.IN_PROCESS_KEYS_LIMIT", 3)
    ledger = InProcessBudgetLedger()
    for number in range(10):
        await ledger.sync("h", [Want(BudgetKey(Scope.RUN, str(number), "", Measure.CALLS), 1, used=1)])
    assert len(ledger._used) <= 4
