"""What bounds a call: rates, budgets, calls in flight. What holds is the policy's to say, at each call anew."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

from core.types.clock import Clock
from core.types.codes import ReasonCode, refuse
from tools.budgets import Bounds, BudgetLimits, Budgets, InProcessBudgetLedger, Measure
from tools.contracts import Principal
from tools.policy_document import UNLIMITED, PolicyDocument, parse_amount
from tools.policy_document import Bounds as DocumentBounds
from tools.policy_document import Rate as DocumentRate
from tools.rates import BucketSize, InProcessRateLedger, RateKey, Rates

IN_FLIGHT_LIMIT_CALLS = 64
QUEUE_LIMIT_CALLS = 256
QUEUE_WAIT_LIMIT_S = 5.0
RATE_BURST_TOKENS = 40
RATE_TOKENS_PER_S = 10
WIDER = 10
"""A bucket that isn't set holds so many times what one user's bucket of one tool does."""
MICRO_USD_PER_USD = 1_000_000
MS_PER_S = 1_000
BUSY_RETRY_MS = 1_000
BUCKETS_KEPT_LIMIT = 4_096
UNBOUNDED = Bounds(None, None, None, None)


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """All bounds at one moment. burst_tokens and tokens_per_s are of one user's calls of one tool."""

    max_calls_per_run: int
    burst_tokens: int = RATE_BURST_TOKENS
    tokens_per_s: int = RATE_TOKENS_PER_S
    in_flight_calls: int = IN_FLIGHT_LIMIT_CALLS
    queued_calls: int = QUEUE_LIMIT_CALLS
    queue_wait_s: float = QUEUE_WAIT_LIMIT_S
    principal: BucketSize | None = None
    tool: BucketSize | None = None
    account: BucketSize | None = None
    budget: BudgetLimits | None = None

    def bucket(self, size: BucketSize | None) -> BucketSize:
        return size or BucketSize(self.burst_tokens * WIDER, self.tokens_per_s * WIDER)

    def budgets(self) -> BudgetLimits:
        """With the run's calls bounded by max_calls_per_run as well: the lower one holds."""
        limits = self.budget or BudgetLimits(UNBOUNDED, UNBOUNDED, UNBOUNDED)
        calls = min(self.max_calls_per_run, limits.run.calls or self.max_calls_per_run)
        run = Bounds(calls, limits.run.tokens, limits.run.micro_usd, limits.run.ms)
        return BudgetLimits(run, limits.user_day, limits.firm_day, limits.time_zone)


def limits_of(document: PolicyDocument) -> GatewayLimits:
    """What a policy says; max_calls_per_run is then the policy's own, which settings may lower."""
    budget = budget_limits_of(document)
    own, line = document.rate.principal_tool, document.concurrency
    return GatewayLimits(
        max_calls_per_run=budget.run.calls if budget.run.calls is not None else 1 << 62,
        burst_tokens=own.burst_calls,
        tokens_per_s=own.calls_per_s,
        in_flight_calls=line.in_flight_calls,
        queued_calls=line.queued_calls,
        queue_wait_s=line.queue_wait_ms / MS_PER_S,
        principal=_bucket_size(document.rate.principal),
        tool=_bucket_size(document.rate.tool),
        account=_bucket_size(document.rate.account),
        budget=budget,
    )


def budget_limits_of(document: PolicyDocument) -> BudgetLimits:
    budget = document.budget
    return BudgetLimits(
        _bounds(budget.run), _bounds(budget.user_day), _bounds(budget.firm_day), document.budget.time_zone
    )


def _bucket_size(rate: DocumentRate) -> BucketSize:
    return BucketSize(rate.burst_calls, rate.calls_per_s)


def _bounds(bounds: DocumentBounds) -> Bounds:
    money = parse_amount(bounds.money_usd)
    return Bounds(
        calls=None if bounds.calls == UNLIMITED else int(bounds.calls),
        tokens=None if bounds.tokens == UNLIMITED else int(bounds.tokens),
        micro_usd=None if money is None else int(money * MICRO_USD_PER_USD),
        ms=None if bounds.seconds == UNLIMITED else int(bounds.seconds) * MS_PER_S,
    )


class Places:
    """Calls that run at once, and those that wait, first come first served. How many may is said by each call."""

    def __init__(self) -> None:
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def enter_at_once(self, limits: GatewayLimits) -> bool:
        """Whether there was a place, which is taken then."""
        if self._running >= limits.in_flight_calls or self._waiting:
            return False
        self._running += 1
        return True

    async def enter(self, limits: GatewayLimits) -> None:
        """Raises RefusalError(TOOL_RATE_EXCEEDED) when too many wait, or for too long."""
        if self.enter_at_once(limits):
            return
        if len(self._waiting) >= limits.queued_calls:
            raise refuse(
                ReasonCode.TOOL_RATE_EXCEEDED,
                "The service is busy: too many tool calls wait already. Try again in a second.",
                limit=str(limits.queued_calls),
                actual=str(len(self._waiting)),
                unit="calls waiting",
                retry_after_ms=BUSY_RETRY_MS,
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(limits.queue_wait_s):
                await place
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
            elif place.done() and not place.cancelled():
                self.leave(limits)  # it came just when nobody waited any more
            if not isinstance(error, TimeoutError):
                raise
            raise refuse(
                ReasonCode.TOOL_RATE_EXCEEDED,
                "The service is busy: no place came free in time. Try again in a second.",
                limit=str(limits.in_flight_calls),
                actual=str(len(self._waiting) + 1),
                unit="calls in flight",
                retry_after_ms=BUSY_RETRY_MS,
            ) from error

    def leave(self, limits: GatewayLimits) -> None:
        self._running -= 1
        while self._waiting and self._running < limits.in_flight_calls:
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)


Buckets = list[tuple[RateKey, BucketSize]]


class _Asked(NamedTuple):
    """What one call takes of rates and budgets."""

    rates: Rates
    buckets: Buckets
    cost: int
    budgets: Budgets
    budget_limits: BudgetLimits
    person_id: str
    run_id: str | None
    timeout_ms: int


class _Admission(AbstractAsyncContextManager[None]):
    """One call's way in and out. A generator would do the same at several times the cost."""

    __slots__ = ("_asked", "_limits", "_places", "_reservation", "_started_s")

    def __init__(self, asked: _Asked, places: Places, limits: GatewayLimits) -> None:
        self._asked = asked
        self._places = places
        self._limits = limits

    async def __aenter__(self) -> None:
        asked, rates, budgets = self._asked, self._asked.rates, self._asked.budgets
        if not rates.take_at_once(asked.buckets, asked.cost):
            await rates.take(asked.buckets, asked.cost)
        towards = (asked.person_id, asked.run_id, {Measure.CALLS: 1, Measure.MS: asked.timeout_ms}, asked.budget_limits)
        self._reservation = budgets.reserve_at_once(*towards) or await budgets.reserve(*towards)
        if not self._places.enter_at_once(self._limits):
            try:
                await self._places.enter(self._limits)
            except BaseException:
                self._reservation.settle({})
                raise
        self._started_s = time.monotonic()

    async def __aexit__(self, *_error: object) -> None:
        self._places.leave(self._limits)
        took_ms = int((time.monotonic() - self._started_s) * MS_PER_S)
        self._reservation.settle({Measure.CALLS: 1, Measure.MS: took_ms})


class Limiter:
    """The bounds of a call, in order: rates, budgets, then a place among those in flight.

    fixed holds for all calls, whatever the policy says; max_calls_per_run (from settings) lowers the policy's.
    """

    def __init__(
        self,
        fixed: GatewayLimits | None,
        clock: Clock,
        budgets: Budgets | None = None,
        rates: Rates | None = None,
        *,
        max_calls_per_run: int | None = None,
    ) -> None:
        self._fixed = fixed
        self._max_calls_per_run = max_calls_per_run
        self._effective: tuple[GatewayLimits, GatewayLimits, BudgetLimits] | None = None
        self._rates = rates or Rates(InProcessRateLedger(clock), clock)
        self._budgets = budgets or Budgets(InProcessBudgetLedger(), "this process", clock)
        self._places = Places()
        self._buckets: dict[tuple[str, str, str], Buckets] = {}

    def admitted(
        self,
        principal: Principal,
        tool: str,
        account_id: str,
        run_id: str | None,
        *,
        cost: int,
        timeout_ms: int,
        policy: GatewayLimits,
    ) -> AbstractAsyncContextManager[None]:
        """While the tool runs: charged, and settled with the time that it took. A call that is turned away before it
        ran costs no budget.

        Entering raises RefusalError: TOOL_RATE_EXCEEDED, TOOL_BUDGET_EXCEEDED, SERVICE_DATABASE_UNAVAILABLE.
        """
        limits, budget_limits = self._limits(policy)
        buckets = self._buckets_of(limits, principal.user_id, tool, account_id)
        person_id = principal.person_id
        asked = _Asked(self._rates, buckets, cost, self._budgets, budget_limits, person_id, run_id, timeout_ms)
        return _Admission(asked, self._places, limits)

    def _limits(self, policy: GatewayLimits) -> tuple[GatewayLimits, BudgetLimits]:
        """Made anew only when the policy is another one."""
        known = self._effective
        if known is None or known[0] is not policy:
            limits = self._fixed or policy
            if self._fixed is None and self._max_calls_per_run is not None:
                lowered = min(self._max_calls_per_run, policy.max_calls_per_run)
                limits = replace(policy, max_calls_per_run=lowered)
            known = self._effective = (policy, limits, limits.budgets())
            self._buckets.clear()
        return known[1], known[2]

    def _buckets_of(self, limits: GatewayLimits, user_id: str, tool: str, account_id: str) -> Buckets:
        named = (user_id, tool, account_id)
        buckets = self._buckets.get(named)
        if buckets is None:
            if len(self._buckets) >= BUCKETS_KEPT_LIMIT:
                self._buckets.clear()
            buckets = self._buckets[named] = _buckets(limits, user_id, tool, account_id)
        return buckets


def _buckets(limits: GatewayLimits, user_id: str, tool: str, account_id: str) -> Buckets:
    buckets = [
        (RateKey("principal_tool", user_id, tool), BucketSize(limits.burst_tokens, limits.tokens_per_s)),
        (RateKey("principal", user_id, ""), limits.bucket(limits.principal)),
        (RateKey("tool", "", tool), limits.bucket(limits.tool)),
    ]
    if account_id:
        buckets.append((RateKey("account", account_id, ""), limits.bucket(limits.account)))
    return buckets
