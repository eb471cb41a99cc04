"""The venue's rate limits, kept from this side: token buckets by weight, by orders and by requests. Pure logic.

The venue counts in fixed windows of its own clock and bans an address that goes on after a 429
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits). So a bucket is refilled when the venue's
window turns, counts a request from the moment it is sent, and believes the venue's headers over its own count.
Near a limit the less urgent give way: each priority may use only its share, and the rest is kept for the more urgent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from core.types.clock import NS_PER_MS, NS_PER_S
from core.types.instruments import Product
from core.venues.binance.clock import ServerClock
from core.venues.binance.endpoints import FUNDING_POOL, Endpoint, Parameters, Priority

CEILING_PERCENT: dict[Priority, int] = {
    Priority.SAFETY: 100,
    Priority.ORDER: 95,
    Priority.RECONCILE: 85,
    Priority.SNAPSHOT: 70,
    Priority.BACKGROUND: 50,
}
"""How much of a limit may be used before this priority gives way; the rest is for the more urgent, and the last for
cancels and what can only reduce."""
WINDOW_MARGIN_MS = 50
"""Waited beyond the turn of a window, on top of the clock's uncertainty: the venue's servers don't turn as one."""
DEFAULT_RETRY_AFTER_S = 5.0
DEFAULT_BAN_S = 120.0
"""The shortest ban there is, for a 418 that doesn't say how long."""
MAX_BAN_S = 3 * 86_400.0
"""The longest ban there is: no answer makes us wait longer."""
CODE_TOO_MANY_ORDERS = -1015
STATUS_RATE_EXCEEDED = 429
STATUS_BANNED = 418

REQUEST_WEIGHT, ORDERS, RAW_REQUESTS = "REQUEST_WEIGHT", "ORDERS", "RAW_REQUESTS"
HEADER_NAMES_KEPT = 256
_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3_600, "DAY": 86_400}
_LETTERS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_HEADER = re.compile(r"^x-mbx-(used-weight|order-count)-([0-9]{1,4})([smhd])$")
_ORDER_LIMIT_WORDS = re.compile(r"per ([0-9]{1,4}) ?(SECOND|MINUTE|HOUR|DAY)")
_BANNED_UNTIL = re.compile(r"banned until ([0-9]{13})")


class RateRule(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of exchangeInfo's rateLimits."""

    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int

    @property
    def window_s(self) -> int:
        """Raises KeyError for an interval that this release doesn't know."""
        return self.interval_num * _SECONDS[self.interval]


DEFAULT_RULES: dict[Product, tuple[RateRule, ...]] = {
    Product.SPOT: (
        RateRule(REQUEST_WEIGHT, "MINUTE", 1, 6_000),
        RateRule(ORDERS, "SECOND", 10, 100),
        RateRule(ORDERS, "DAY", 1, 200_000),
        RateRule(RAW_REQUESTS, "MINUTE", 5, 61_000),
    ),
    Product.USDM: (
        RateRule(REQUEST_WEIGHT, "MINUTE", 1, 2_400),
        RateRule(ORDERS, "SECOND", 10, 300),
        RateRule(ORDERS, "MINUTE", 1, 1_200),
        RateRule(FUNDING_POOL, "MINUTE", 5, 500),
    ),
}
"""In force until exchangeInfo has told the account's own."""


class Bucket:
    """One limit in one window. used is what the venue may have counted so far in this window."""

    def __init__(self, kind: str, window_s: int, limit: int) -> None:
        self.kind = kind
        self.window_s = window_s
        self.limit = limit
        self._index = -1
        self._reported = 0
        self._unreported = 0
        self._in_flight = 0

    def turn(self, now_ms: int) -> int:
        """The index of the window that now is in; in a new one only what is on its way is counted."""
        index = now_ms // (self.window_s * 1_000)
        if index != self._index:
            self._index = index
            self._reported = self._unreported = 0
        return index

    @property
    def used(self) -> int:
        return self._reported + self._unreported + self._in_flight

    def has_room(self, cost: int, priority: Priority) -> bool:
        return cost == 0 or self.used + cost <= self.limit * CEILING_PERCENT[priority] // 100

    def reserve(self, cost: int) -> None:
        self._in_flight += cost

    def settle(self, cost: int, sent_index: int, reported: int | None) -> None:
        """The request has ended. reported is the venue's count; it is for the window in which the request was sent,
        so across a turn the request's own cost stands in for it."""
        self._in_flight -= cost
        if reported is None or sent_index != self._index:
            self._unreported += cost
        elif reported >= self._reported:
            self._reported, self._unreported = reported, 0

    def release(self, cost: int) -> None:
        """The request never left."""
        self._in_flight -= cost

    def exhaust(self) -> None:
        """The venue said that nothing is left in this window."""
        self._reported = max(self._reported, self.limit)

    def rest_ms(self, now_ms: int) -> int:
        """Until the window turns."""
        return self.window_s * 1_000 - now_ms % (self.window_s * 1_000)


class Reservation(msgspec.Struct):
    """Leave to send one request, or as many as were asked for: each to be settled with its answer, or all released when
    they weren't sent."""

    costs: list[tuple[Bucket, int, int]]
    """Bucket, cost of one request, and the window in which it was taken."""
    requests: int = 1


class Denied(msgspec.Struct, frozen=True):
    """Not now. is_blocked: the venue has answered 429 or 418, and nothing may go out."""

    retry_after_s: float
    reason: str
    is_blocked: bool = False
    is_banned: bool = False


class PriorityCounters(msgspec.Struct):
    """Since the start, of one priority: requests let through, those that waited first, those refused."""

    admitted: int = 0
    waited: int = 0
    refused: int = 0


class BucketState(msgspec.Struct, frozen=True):
    kind: str
    window_s: int
    used: int
    limit: int


class RateLimitState(msgspec.Struct, frozen=True):
    """For people: how much is used, and whether the venue has told us to stop, and for how much longer."""

    buckets: tuple[BucketState, ...]
    is_blocked: bool
    is_banned: bool
    blocked_for_s: float
    rate_exceeded_count: int
    banned_count: int
    counters: dict[str, PriorityCounters]


class RateLimiter:
    """The limits of one address and account at one base URL. Share one between clients that share those."""

    def __init__(self, clock: ServerClock, rules: Iterable[RateRule]) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, int], Bucket] = {}
        self._costs: dict[Endpoint, tuple[tuple[Bucket, int], ...]] = {}
        """Of endpoints that cost the same whatever is asked; there are as many as the table has."""
        self._blocked_until_ns = 0
        self._is_banned = False
        self.rate_exceeded_count = 0
        self.banned_count = 0
        self.counters = {priority: PriorityCounters() for priority in Priority}
        self.configure(rules)

    def configure(self, rules: Iterable[RateRule]) -> None:
        """Take the limits that exchangeInfo tells. What was counted stays; a limit that isn't told stays as it was."""
        for rule in rules:
            if rule.limit <= 0 or rule.interval not in _SECONDS or rule.interval_num <= 0:
                continue
            bucket = self._buckets.get((rule.rate_limit_type, rule.window_s))
            if bucket is None:
                self._buckets[rule.rate_limit_type, rule.window_s] = Bucket(
                    rule.rate_limit_type, rule.window_s, rule.limit
                )
            else:
                bucket.limit = rule.limit
        self._costs.clear()

    def acquire(
        self, endpoint: Endpoint, parameters: Parameters, priority: Priority, requests: int = 1
    ) -> Reservation | Denied:
        """Leave to send all of these now, or when to ask again."""
        blocked_ns = self._blocked_until_ns - self._clock.monotonic_ns()
        if blocked_ns > 0:
            reason = "the venue has banned this address" if self._is_banned else "the venue asked to slow down"
            return Denied(blocked_ns / NS_PER_S, reason, is_blocked=True, is_banned=self._is_banned)
        now_ms = self._clock.now_ms()
        costs = [(bucket, cost, bucket.turn(now_ms)) for bucket, cost in self._costs_of(endpoint, parameters)]
        lacking = [bucket for bucket, cost, _ in costs if not bucket.has_room(cost * requests, priority)]
        if lacking:
            slowest = max(lacking, key=lambda bucket: bucket.rest_ms(now_ms))
            wait_ms = slowest.rest_ms(now_ms) + self._clock.uncertainty_ms + WINDOW_MARGIN_MS
            reason = (
                f"{slowest.used} of {slowest.limit} {slowest.kind} in {slowest.window_s} s are used, and "
                f"{priority.name} gives way at {CEILING_PERCENT[priority]} %"
            )
            return Denied(wait_ms / 1_000, reason)
        for bucket, cost, _ in costs:
            bucket.reserve(cost * requests)
        self.counters[priority].admitted += requests
        return Reservation(costs, requests)

    def is_blocked_at(self, monotonic_ns: int) -> bool:
        """Whether the venue has told us to stop and that time isn't over yet."""
        return self._blocked_until_ns > monotonic_ns

    def release(self, reservation: Reservation) -> None:
        """The request wasn't sent."""
        for bucket, cost, _ in reservation.costs:
            bucket.release(cost * reservation.requests)

    def _costs_of(self, endpoint: Endpoint, parameters: Parameters) -> Sequence[tuple[Bucket, int]]:
        known = self._costs.get(endpoint)
        if known is not None:
            return known
        costs = tuple(
            (bucket, cost)
            for bucket in self._buckets.values()
            if (cost := _cost_of(bucket.kind, endpoint, parameters)) or bucket.kind == REQUEST_WEIGHT
        )
        if isinstance(endpoint.weight, int):
            self._costs[endpoint] = costs
        return costs

    def settle(self, reservation: Reservation, headers: Mapping[str, str]) -> None:
        """The request was sent; headers (names in lower case) are the answer's, empty when there was none."""
        self.settle_counted(reservation, _counts_in(headers))

    def settle_counted(self, reservation: Reservation, told: Mapping[tuple[str, int], int], requests: int = 1) -> None:
        """The same with the venue's own counts, by kind and window in seconds; of so many requests at once the highest
        that it told."""
        now_ms = self._clock.now_ms()
        for bucket, cost, index in reservation.costs:
            bucket.turn(now_ms)
            bucket.settle(cost * requests, index, told.get((bucket.kind, bucket.window_s)))

    def on_refused(self, status: int, code: int, message: str, retry_after_s: float | None) -> float:
        """The venue answered 429 or 418. Returns how long nothing (of that kind) may go out, in seconds."""
        if status == STATUS_RATE_EXCEEDED and code == CODE_TOO_MANY_ORDERS:
            self.rate_exceeded_count += 1
            return self._too_many_orders(message)
        if status == STATUS_BANNED:
            self.banned_count += 1
            self._is_banned = True
            wait_s = max(retry_after_s or 0.0, self._told_ban_s(message)) or DEFAULT_BAN_S
        else:
            self.rate_exceeded_count += 1
            self._is_banned = self._is_banned and self._blocked_until_ns > self._clock.monotonic_ns()
            wait_s = retry_after_s if retry_after_s is not None else self._window_rest_s(REQUEST_WEIGHT)
        wait_s = min(wait_s, MAX_BAN_S)
        until_ns = self._clock.monotonic_ns() + int(wait_s * NS_PER_S)
        self._blocked_until_ns = max(self._blocked_until_ns, until_ns)
        return wait_s

    def state(self) -> RateLimitState:
        now_ms = self._clock.now_ms()
        for bucket in self._buckets.values():
            bucket.turn(now_ms)
        left_s = max(0.0, (self._blocked_until_ns - self._clock.monotonic_ns()) / NS_PER_S)
        return RateLimitState(
            tuple(BucketState(item.kind, item.window_s, item.used, item.limit) for item in self._buckets.values()),
            is_blocked=left_s > 0,
            is_banned=left_s > 0 and self._is_banned,
            blocked_for_s=left_s,
            rate_exceeded_count=self.rate_exceeded_count,
            banned_count=self.banned_count,
            counters={priority.name: msgspec.structs.replace(item) for priority, item in self.counters.items()},
        )

    def used_weight_1m(self) -> int:
        bucket = self._buckets.get((REQUEST_WEIGHT, 60))
        if bucket is None:
            return 0
        bucket.turn(self._clock.now_ms())
        return bucket.used

    def _too_many_orders(self, message: str) -> float:
        """Only new orders stop, and until the window turns: cancels and reads are counted elsewhere."""
        now_ms = self._clock.now_ms()
        orders = sorted(
            (bucket for bucket in self._buckets.values() if bucket.kind == ORDERS), key=lambda item: item.window_s
        )
        words = _ORDER_LIMIT_WORDS.search(message)
        named_s = int(words[1]) * _SECONDS[words[2]] if words else 0
        for bucket in [item for item in orders if item.window_s == named_s] or orders[:1]:
            bucket.turn(now_ms)
            bucket.exhaust()
            return (bucket.rest_ms(now_ms) + self._clock.uncertainty_ms + WINDOW_MARGIN_MS) / 1_000
        return DEFAULT_RETRY_AFTER_S

    def _window_rest_s(self, kind: str) -> float:
        now_ms = self._clock.now_ms()
        rests = [bucket.rest_ms(now_ms) for bucket in self._buckets.values() if bucket.kind == kind]
        return (min(rests) + self._clock.uncertainty_ms + WINDOW_MARGIN_MS) / 1_000 if rests else DEFAULT_RETRY_AFTER_S

    def _told_ban_s(self, message: str) -> float:
        """418's message holds the end of the ban in the venue's time."""
        found = _BANNED_UNTIL.search(message)
        return max(0.0, (int(found[1]) * NS_PER_MS - self._clock.now_ns()) / NS_PER_S) if found else 0.0


def _cost_of(kind: str, endpoint: Endpoint, parameters: Parameters) -> int:
    if kind == REQUEST_WEIGHT:
        return endpoint.weight_of(parameters)
    if kind == ORDERS:
        return endpoint.orders
    return int(kind in {RAW_REQUESTS, endpoint.pool})


def _counts_in(headers: Mapping[str, str]) -> dict[tuple[str, int], int]:
    """The venue's own counts, by kind and window in seconds."""
    counts = {}
    for name, value in headers.items():
        key = _bucket_of(name)
        if key is not None and value.isascii() and value.isdigit() and len(value) < 10:
            counts[key] = int(value)
    return counts


@lru_cache(maxsize=HEADER_NAMES_KEPT)
def _bucket_of(name: str) -> tuple[str, int] | None:
    """Kind and window of the count that a header tells; None for any other header."""
    found = _HEADER.match(name)
    if found is None:
        return None
    return REQUEST_WEIGHT if found[1] == "used-weight" else ORDERS, int(found[2]) * _LETTERS[found[3]]
