"""What bounds a call: rate of each principal and tool, budget of each run, calls in flight.

All of it in process in this first form. A run's budget is leased in blocks from BudgetLedger, so that a shared ledger
behind several api processes is asked once a block and not once a call.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, refuse

RATE_BURST_TOKENS = 40
RATE_TOKENS_PER_S = 10
BUCKETS_LIMIT = 20_000
RUNS_LIMIT = 20_000
LEASE_BLOCK_CALLS = 4
IN_FLIGHT_LIMIT_CALLS = 64
QUEUE_LIMIT_CALLS = 256
QUEUE_WAIT_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """max_calls_per_run comes from settings.copilot.max_tool_calls_per_run."""

    max_calls_per_run: int
    burst_tokens: int = RATE_BURST_TOKENS
    tokens_per_s: int = RATE_TOKENS_PER_S
    in_flight_calls: int = IN_FLIGHT_LIMIT_CALLS
    queued_calls: int = QUEUE_LIMIT_CALLS
    queue_wait_s: float = QUEUE_WAIT_LIMIT_S


@dataclass(slots=True)
class _Bucket:
    """Tokens in nano-tokens, so that refilling needs no fractions."""

    nano_tokens: int
    refilled_ns: int


class RateLimiter:
    """A token bucket for each key. Keeps the BUCKETS_LIMIT most recently used: an evicted bucket starts full again."""

    def __init__(self, clock: Clock, burst_tokens: int, tokens_per_s: int) -> None:
        self._clock = clock
        self._burst_tokens = burst_tokens
        self._tokens_per_s = tokens_per_s
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def take(self, user_id: str, tool: str, cost: int) -> None:
        """Raises RefusalError(TOOL_RATE_EXCEEDED)."""
        now_ns = self._clock.now_ns()
        full = self._burst_tokens * NS_PER_S
        bucket = self._buckets.setdefault((user_id, tool), _Bucket(full, now_ns))
        self._buckets.move_to_end((user_id, tool))
        while len(self._buckets) > BUCKETS_LIMIT:
            self._buckets.popitem(last=False)
        # A clock that stepped back refills nothing.
        elapsed_ns = max(0, now_ns - bucket.refilled_ns)
        bucket.nano_tokens = min(full, bucket.nano_tokens + elapsed_ns * self._tokens_per_s)
        bucket.refilled_ns = now_ns
        if bucket.nano_tokens < cost * NS_PER_S:
            wait_ns = (cost * NS_PER_S - bucket.nano_tokens) // self._tokens_per_s
            raise refuse(
                ReasonCode.TOOL_RATE_EXCEEDED,
                f"{tool} is called too often. Wait {wait_ns // 1_000_000 + 1} ms.",
                limit=str(self._tokens_per_s),
                actual=str(self._burst_tokens),
                unit="calls per s, after a burst",
            )
        bucket.nano_tokens -= cost * NS_PER_S


class BudgetLedger(Protocol):
    """Who keeps the count of a run's calls over all processes."""

    async def lease(self, run_id: str, wanted: int, limit: int) -> int:
        """Grant up to `wanted` of what is left of `limit`; 0 when it is used up."""
        ...


class InProcessBudgetLedger:
    """Counts within this process; enough while one api process serves."""

    def __init__(self) -> None:
        self._leased: OrderedDict[str, int] = OrderedDict()

    async def lease(self, run_id: str, wanted: int, limit: int) -> int:
        leased = self._leased.setdefault(run_id, 0)
        self._leased.move_to_end(run_id)
        while len(self._leased) > RUNS_LIMIT:
            self._leased.popitem(last=False)
        granted = max(0, min(wanted, limit - leased))
        self._leased[run_id] = leased + granted
        return granted


class RunBudget:
    """Takes calls from leased blocks."""

    def __init__(self, ledger: BudgetLedger, limit_calls: int) -> None:
        self._ledger = ledger
        self._limit_calls = limit_calls
        self._left: OrderedDict[str, int] = OrderedDict()

    async def take(self, run_id: str) -> None:
        """Raises RefusalError(TOOL_BUDGET_EXCEEDED)."""
        if self._left.get(run_id, 0) == 0:
            granted = await self._ledger.lease(run_id, LEASE_BLOCK_CALLS, self._limit_calls)
            self._left[run_id] = self._left.get(run_id, 0) + granted
        self._left.move_to_end(run_id)
        while len(self._left) > RUNS_LIMIT:
            self._left.popitem(last=False)
        if self._left[run_id] == 0:
            raise refuse(
                ReasonCode.TOOL_BUDGET_EXCEEDED,
                "This run has used up its tool calls. Answer with what is known, or ask in a new run.",
                limit=str(self._limit_calls),
                actual=str(self._limit_calls + 1),
                unit="calls per run",
            )
        self._left[run_id] -= 1

    def give_back(self, run_id: str) -> None:
        """A call that was turned away before it ran costs nothing."""
        self._left[run_id] = self._left.get(run_id, 0) + 1


class Limiter:
    """The three bounds, in order: queue, rate, budget, then a place among those in flight."""

    def __init__(self, limits: GatewayLimits, clock: Clock, ledger: BudgetLedger | None = None) -> None:
        self._limits = limits
        self._rate = RateLimiter(clock, limits.burst_tokens, limits.tokens_per_s)
        self._budget = RunBudget(ledger or InProcessBudgetLedger(), limits.max_calls_per_run)
        self._places = asyncio.Semaphore(limits.in_flight_calls)
        self._queued = 0

    async def take(self, user_id: str, tool: str, cost: int, run_id: str | None) -> None:
        """Charge rate and budget.

        Raises RefusalError(TOOL_RATE_EXCEEDED, TOOL_BUDGET_EXCEEDED).
        """
        self._rate.take(user_id, tool, cost)
        if run_id is not None:
            await self._budget.take(run_id)

    @asynccontextmanager
    async def place(self, run_id: str | None) -> AsyncIterator[None]:
        """Hold a place while the tool runs; wait for one at most queue_wait_s.

        Raises RefusalError(TOOL_RATE_EXCEEDED) when the queue is full or the wait too long.
        """
        try:
            await self._enter()
        except BaseException:
            if run_id is not None:
                self._budget.give_back(run_id)
            raise
        try:
            yield
        finally:
            self._places.release()

    async def _enter(self) -> None:
        if self._places.locked() and self._queued >= self._limits.queued_calls:
            raise refuse(
                ReasonCode.TOOL_RATE_EXCEEDED,
                "The service is busy: too many tool calls wait already. Try again in a second.",
                limit=str(self._limits.queued_calls),
                actual=str(self._queued),
                unit="calls waiting",
            )
        self._queued += 1
        try:
            async with asyncio.timeout(self._limits.queue_wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise refuse(
                ReasonCode.TOOL_RATE_EXCEEDED,
                "The service is busy: no place came free in time. Try again in a second.",
                limit=str(self._limits.in_flight_calls),
                actual=str(self._queued),
                unit="calls in flight",
            ) from error
        finally:
            self._queued -= 1
