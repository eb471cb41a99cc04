"""Budgets of runs, users and days: reserved before something is done, settled with what it came to.

The count is kept by a ledger that all processes share. So that a call doesn't wait for it each time, a process leases
blocks and takes from them; what it used is reported every few seconds, and a block that lies idle goes back.
A lease ends by itself when its process doesn't renew it: what a killed process had reserved is free again after
LEASE_TTL_S, and only what it used within the last FLUSH_INTERVAL_S and hadn't reported yet isn't counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec
import structlog

from core.types.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from core.types.codes import ReasonCode, RefusalError, refuse

LEASE_TTL_S = 30
FLUSH_INTERVAL_S = 2.0
VALID_FOR_S = 20.0
"""A block that wasn't renewed for so long isn't taken from: its lease may be about to end. Less than LEASE_TTL_S."""
IDLE_AFTER_S = 10.0
BLOCKS_PER_LIMIT = 64
SHARE = 4
"""Of what is free a process leases at most this part at a time, so that another one finds something, too."""
BLOCKS_LIMIT = 50_000
KNOWN_LIMIT = 4_096
NS_PER_MINUTE = 60 * NS_PER_S
IN_PROCESS_KEYS_LIMIT = 100_000
FIRM = "*"

log = structlog.get_logger("tools.budgets")


class Measure(StrEnum):
    """What is counted. Money is whole millionths of a US dollar, so that sums are exact."""

    CALLS = "calls"
    TOKENS = "tokens"
    MICRO_USD = "micro_usd"
    MS = "ms"

    __hash__ = str.__hash__  # Enum's is Python, and a call looks up a dozen of these


class Scope(StrEnum):
    RUN = "run"
    USER_DAY = "user_day"
    FIRM_DAY = "firm_day"

    __hash__ = str.__hash__


class BudgetKey(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """One budget: whose, of which day (ISO, empty for a run's), of what."""

    scope: Scope
    owner: str
    day: str
    measure: Measure


class Want(msgspec.Struct, frozen=True):
    """What a process says about a budget and asks of it, in one: used is what it took since it last said so, returned
    what it gives back of its lease; it would like `wanted`, and less than at_least is of no use. share is the part of
    what is free that it may have."""

    key: BudgetKey
    limit: int
    used: int = 0
    returned: int = 0
    wanted: int = 0
    at_least: int = 0
    share: int = SHARE


class Grant(msgspec.Struct, frozen=True):
    """granted is 0 or at_least or more. held is all that the process holds now; committed is what everybody used and
    holds."""

    granted: int
    held: int
    committed: int


class BudgetLedger(Protocol):
    """Who counts for all processes. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE).

    sync MUST be atomic: what is granted over all processes and what was used never exceed a limit together.
    """

    async def sync(self, holder: str, wants: list[Want]) -> list[Grant]: ...


class Bounds(msgspec.Struct, frozen=True):
    """The limits of one scope; None is unlimited, and stands in the policy as that."""

    calls: int | None
    tokens: int | None
    micro_usd: int | None
    ms: int | None

    def of(self, measure: Measure) -> int | None:
        limit: int | None = getattr(self, measure.value)
        return limit


class BudgetLimits(msgspec.Struct, frozen=True):
    """What holds for one call. Days are those of time_zone."""

    run: Bounds
    user_day: Bounds
    firm_day: Bounds
    time_zone: str = "UTC"


@dataclass(slots=True)
class _Block:
    """What this process holds of one budget. left can fall below 0: something came to more than was reserved."""

    left: int = 0
    used: int = 0
    reserved: int = 0
    renewed_s: float = 0.0
    touched_s: float = 0.0


class Reservation:
    """What was set aside for one doing. settle it, whatever became of it; the second time does nothing."""

    __slots__ = ("_amounts", "_budgets", "_keys")

    def __init__(self, budgets: Budgets, keys: Iterable[BudgetKey], amounts: Mapping[Measure, int]) -> None:
        self._budgets = budgets
        self._keys = tuple(keys)
        self._amounts = dict(amounts)

    def settle(self, used: Mapping[Measure, int]) -> None:
        """used may be more than was reserved: it is counted as it was."""
        keys, self._keys = self._keys, ()
        for key in keys:
            # Less than nothing would give back what others used, and a count that SQL refuses stops all of them.
            self._budgets.settle_one(key, self._amounts[key.measure], max(0, used.get(key.measure, 0)))


class Budgets:
    """This process's part of all budgets."""

    def __init__(
        self, ledger: BudgetLedger, holder: str, clock: Clock, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """holder names this process's life among those that share the ledger."""
        self._ledger = ledger
        self._holder = holder
        self._clock = MonotonicClock(clock)  # a clock set back doesn't bring yesterday's budget back
        self._monotonic_s = monotonic_s
        self._blocks: dict[BudgetKey, _Block] = {}
        self._asking = asyncio.Lock()
        self._known: dict[tuple[str, str | None, str, tuple[Measure, ...]], tuple[BudgetLimits, dict[BudgetKey, int]]]
        self._known = {}
        self._day: tuple[str, int, str] = ("", -1, "")

    async def reserve(
        self, user_id: str, run_id: str | None, amounts: Mapping[Measure, int], limits: BudgetLimits
    ) -> Reservation:
        """Set amounts aside in every budget that they count towards.

        Raises RefusalError: TOOL_BUDGET_EXCEEDED naming the budget, SERVICE_DATABASE_UNAVAILABLE. Nothing is set aside
        then.
        """
        bounds = self._bounds(user_id, run_id, amounts, limits)
        blocks = self._covering(bounds, amounts)
        if blocks is None:
            async with self._asking:
                await self._lease(bounds, amounts, limits.time_zone)
            blocks = [self._blocks[key] for key in bounds]
        return self._reserved(bounds, blocks, amounts)

    def reserve_at_once(
        self, user_id: str, run_id: str | None, amounts: Mapping[Measure, int], limits: BudgetLimits
    ) -> Reservation | None:
        """reserve() where this process has leased enough of each; None leaves it to reserve()."""
        bounds = self._bounds(user_id, run_id, amounts, limits)
        blocks = self._covering(bounds, amounts)
        return None if blocks is None else self._reserved(bounds, blocks, amounts)

    def _reserved(
        self, bounds: Mapping[BudgetKey, int], blocks: list[_Block], amounts: Mapping[Measure, int]
    ) -> Reservation:
        now_s = self._monotonic_s()
        for key, block in zip(bounds, blocks, strict=True):
            amount = amounts[key.measure]
            block.left -= amount
            block.reserved += amount
            block.touched_s = now_s
        return Reservation(self, bounds, amounts)

    def settle_one(self, key: BudgetKey, reserved: int, used: int) -> None:
        """For Reservation."""
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block()
        block.reserved -= reserved
        block.left += reserved - used
        block.used += used

    async def flush(self) -> None:
        """Report what was used, renew what is held, give back what lies idle."""
        async with self._asking:
            await self._flush(self._monotonic_s() - IDLE_AFTER_S)

    async def close(self) -> None:
        """Report and give back everything."""
        async with self._asking:
            with contextlib.suppress(RefusalError):
                await self._flush(float("inf"))

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            try:
                await self.flush()
            except RefusalError as error:
                log.warning("budgets_not_reported", code=error.refusal.code.value)
            except Exception:
                log.exception("budgets_not_reported")

    def day(self, time_zone: str) -> str:
        """Today there, as ISO."""
        minute = self._clock.now_ns() // NS_PER_MINUTE
        if self._day[:2] != (time_zone, minute):
            moment = datetime.fromtimestamp(minute * 60, UTC)
            self._day = (time_zone, minute, moment.astimezone(ZoneInfo(time_zone)).date().isoformat())
        return self._day[2]

    def _until_tomorrow_ms(self, time_zone: str) -> int:
        zone, now_ns = ZoneInfo(time_zone), self._clock.now_ns()
        today = datetime.fromtimestamp(now_ns // NS_PER_S, UTC).astimezone(zone).date()
        tomorrow = datetime.combine(today + timedelta(days=1), datetime.min.time(), zone)
        return (int(tomorrow.timestamp()) * NS_PER_S - now_ns) // NS_PER_MS

    def _bounds(
        self, user_id: str, run_id: str | None, amounts: Mapping[Measure, int], limits: BudgetLimits
    ) -> dict[BudgetKey, int]:
        day = self.day(limits.time_zone)
        asked = (user_id, run_id, day, tuple(amounts))
        known = self._known.get(asked)
        if known is not None and known[0] is limits:
            return known[1]
        if len(self._known) >= KNOWN_LIMIT:
            self._known.clear()
        bounds = self._bounds_of(user_id, run_id, day, amounts, limits)
        self._known[asked] = (limits, bounds)
        return bounds

    @staticmethod
    def _bounds_of(
        user_id: str, run_id: str | None, day: str, amounts: Mapping[Measure, int], limits: BudgetLimits
    ) -> dict[BudgetKey, int]:
        scopes = [(Scope.USER_DAY, user_id, day, limits.user_day), (Scope.FIRM_DAY, FIRM, day, limits.firm_day)]
        if run_id is not None:
            scopes.insert(0, (Scope.RUN, run_id, "", limits.run))
        return {
            BudgetKey(scope, owner, of_day, measure): limit
            for scope, owner, of_day, bounds in scopes
            for measure in amounts
            if (limit := bounds.of(measure)) is not None
        }

    def _covering(self, bounds: Mapping[BudgetKey, int], amounts: Mapping[Measure, int]) -> list[_Block] | None:
        """What this process holds of each, where that is enough of all of them."""
        fresh_s = self._monotonic_s() - VALID_FOR_S
        blocks = []
        for key in bounds:
            block = self._blocks.get(key)
            if block is None or block.renewed_s < fresh_s or block.left < amounts[key.measure]:
                return None
            blocks.append(block)
        return blocks

    async def _lease(self, bounds: Mapping[BudgetKey, int], amounts: Mapping[Measure, int], time_zone: str) -> None:
        """Ask the ledger for what is missing. Raises RefusalError."""
        if self._covering(bounds, amounts) is not None:
            return  # another call asked meanwhile
        self._forget_some()
        wants = []
        for key, limit in bounds.items():
            block = self._blocks.setdefault(key, _Block())
            # What came to more than was held is over once it is reported: a lease doesn't fall below 0.
            missing = max(0, amounts[key.measure] - max(block.left, -block.reserved))
            whole = key.scope is Scope.RUN  # a run is at home in one process
            wants.append(
                Want(
                    key,
                    limit,
                    used=block.used,
                    wanted=max(missing, limit if whole else limit // BLOCKS_PER_LIMIT),
                    at_least=missing,
                    share=1 if whole else SHARE,
                )
            )
        for want, grant in await self._sync(wants):
            if self._blocks[want.key].left < amounts[want.key.measure]:
                wait_ms = None if want.key.scope is Scope.RUN else self._until_tomorrow_ms(time_zone)
                raise _exceeded(want.key, want.limit, grant.committed + want.at_least, wait_ms)

    async def _flush(self, idle_since_s: float) -> None:
        wants = []
        for key, block in self._blocks.items():
            idle = block.touched_s <= idle_since_s and block.reserved <= 0
            returned = max(0, block.left) if idle else 0
            block.left -= returned  # at once: a call that comes meanwhile must not take from it
            wants.append(Want(key, 0, used=block.used, returned=returned))
        if wants:
            await self._sync(wants)
        for key in [key for key, block in self._blocks.items() if _is_spent(block, idle_since_s)]:
            del self._blocks[key]

    async def _sync(self, wants: list[Want]) -> list[tuple[Want, Grant]]:
        asked_s = self._monotonic_s()
        wants = sorted(wants, key=lambda want: want.key)  # in one order everywhere, so that processes don't deadlock
        answered = list(zip(wants, await self._ledger.sync(self._holder, wants), strict=True))
        for want, grant in answered:
            block = self._blocks[want.key]
            block.used -= want.used
            block.renewed_s = asked_s
            # What the ledger says is held is what there is: a lease that had ended took what was left with it.
            block.left = grant.held - block.used - block.reserved
        return answered

    def _forget_some(self) -> None:
        """Blocks of runs that are over go with a flush; this only bounds what a flush could never reach."""
        if len(self._blocks) >= BLOCKS_LIMIT:
            for key in [key for key, block in self._blocks.items() if block.reserved == 0 and block.used == 0]:
                del self._blocks[key]


def _is_spent(block: _Block, idle_since_s: float) -> bool:
    return block.touched_s <= idle_since_s and block.reserved <= 0 and block.used == 0 and block.left <= 0


_UNITS = {Measure.CALLS: "calls", Measure.TOKENS: "tokens", Measure.MICRO_USD: "millionths of USD", Measure.MS: "ms"}
_TOLD = {
    Scope.RUN: "This run has used up its {what}. Answer with what is known, or ask in a new run.",
    Scope.USER_DAY: "You have used up today's {what}. Go on tomorrow, or have the policy's budget raised.",
    Scope.FIRM_DAY: "Today's {what} of everybody are used up. Go on tomorrow, or have the policy's budget raised.",
}
_WHAT = {Measure.CALLS: "tool calls", Measure.TOKENS: "tokens", Measure.MICRO_USD: "money", Measure.MS: "time"}
_PER = {Scope.RUN: "run", Scope.USER_DAY: "user and day", Scope.FIRM_DAY: "day"}


def _exceeded(key: BudgetKey, limit: int, actual: int, retry_after_ms: int | None) -> RefusalError:
    return refuse(
        ReasonCode.TOOL_BUDGET_EXCEEDED,
        _TOLD[key.scope].format(what=_WHAT[key.measure]),
        limit=str(limit),
        actual=str(actual),
        unit=f"{_UNITS[key.measure]} per {_PER[key.scope]}",
        retry_after_ms=retry_after_ms,
    )


class InProcessBudgetLedger:
    """Counts within this process, for one that shares with none. Leases don't end: their holder is this process."""

    def __init__(self) -> None:
        self._used: OrderedDict[BudgetKey, int] = OrderedDict()
        self._held: dict[BudgetKey, dict[str, int]] = {}

    async def sync(self, holder: str, wants: list[Want]) -> list[Grant]:
        while len(self._used) > IN_PROCESS_KEYS_LIMIT:
            oldest, _ = self._used.popitem(last=False)
            self._held.pop(oldest, None)
        return [self._one(holder, want) for want in wants]

    def _one(self, holder: str, want: Want) -> Grant:
        used = self._used[want.key] = self._used.get(want.key, 0) + want.used
        self._used.move_to_end(want.key)
        held = self._held.setdefault(want.key, {})
        mine = max(0, held.get(holder, 0) - want.used - want.returned)
        others = sum(amount for name, amount in held.items() if name != holder)
        free = max(0, want.limit - used - others - mine)
        wish = max(want.at_least, min(want.wanted, free // want.share))
        granted = wish if 0 < wish <= free else 0
        held[holder] = mine + granted
        return Grant(granted, held[holder], used + others + held[holder])
