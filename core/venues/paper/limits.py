"""Request weight and order counts, counted as Binance does: fixed windows, told in every answer's headers.

Over the limit a client gets 429; one that goes on regardless is banned (418), for longer each time.
"""

from __future__ import annotations

from typing import Any

import msgspec

from core.venues.paper.errors import VenueError

MAX_WEIGHT_PER_MINUTE = 6_000
MAX_ORDERS_PER_10_S = 100
MAX_ORDERS_PER_DAY = 200_000
MAX_REQUESTS_PER_5_MINUTES = 61_000
MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000
DAY_MS = 86_400_000
MAX_IGNORED_REFUSALS = 10
"""Requests sent while over the limit, within one minute, after which the address is banned."""
FIRST_BAN_MS = 2 * MINUTE_MS
MAX_BAN_MS = 3 * DAY_MS
MAX_ADDRESSES = 10_000
"""Addresses remembered; past that the counts begin anew."""

RATE_LIMITS: list[dict[str, Any]] = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": MAX_WEIGHT_PER_MINUTE},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": MAX_ORDERS_PER_10_S},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": MAX_ORDERS_PER_DAY},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": MAX_REQUESTS_PER_5_MINUTES},
]


class _Window(msgspec.Struct):
    length_ms: int
    index: int = -1
    count: int = 0

    def at(self, now_ms: int) -> _Window:
        index = now_ms // self.length_ms
        if index != self.index:
            self.index, self.count = index, 0
        return self

    def rest_s(self, now_ms: int) -> int:
        return ((self.index + 1) * self.length_ms - now_ms + 999) // 1_000


class _Address(msgspec.Struct):
    """What one client address has used, and whether it is banned."""

    weight: _Window
    requests: _Window
    refusals: _Window
    bans: int = 0
    banned_until_ms: int = 0


class Limits:
    """Weight and requests per client address, orders per account."""

    def __init__(self) -> None:
        self._addresses: dict[str, _Address] = {}
        self._ten_seconds = _Window(TEN_SECONDS_MS)
        self._day = _Window(DAY_MS)

    def charge(self, address: str, weight: int, now_ms: int) -> int:
        """Count one request; gives the weight used in this minute.

        Raises VenueError -1003: 429, or 418 when banned.
        """
        one = self._address(address)
        if now_ms < one.banned_until_ms:
            raise self._banned(one, now_ms)
        one.requests.at(now_ms).count += 1
        used = one.weight.at(now_ms).count = one.weight.at(now_ms).count + weight
        if used <= MAX_WEIGHT_PER_MINUTE and one.requests.count <= MAX_REQUESTS_PER_5_MINUTES:
            return used
        one.refusals.at(now_ms).count += 1
        if one.refusals.count > MAX_IGNORED_REFUSALS:
            one.banned_until_ms = now_ms + min(MAX_BAN_MS, FIRST_BAN_MS * 2**one.bans)
            one.bans += 1
            raise self._banned(one, now_ms)
        if used <= MAX_WEIGHT_PER_MINUTE:
            message = f"Too many requests; current limit is {MAX_REQUESTS_PER_5_MINUTES} requests per 5 MINUTE."
            rest_s = one.requests.rest_s(now_ms)
        else:
            message = (
                f"Too much request weight used; current limit is {MAX_WEIGHT_PER_MINUTE} request weight per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API."
            )
            rest_s = one.weight.rest_s(now_ms)
        raise VenueError(-1003, message, 429, {"Retry-After": str(rest_s), "X-MBX-USED-WEIGHT-1M": str(used)})

    def used(self, address: str, now_ms: int) -> int:
        """The weight used in this minute."""
        return self._address(address).weight.at(now_ms).count

    def _address(self, address: str) -> _Address:
        if address not in self._addresses:
            if len(self._addresses) >= MAX_ADDRESSES:
                self._addresses.clear()
            self._addresses[address] = _Address(_Window(MINUTE_MS), _Window(5 * MINUTE_MS), _Window(MINUTE_MS))
        return self._addresses[address]

    def _banned(self, one: _Address, now_ms: int) -> VenueError:
        return VenueError(
            -1003,
            f"Way too much request weight used; IP banned until {one.banned_until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans.",
            418,
            {
                "Retry-After": str((one.banned_until_ms - now_ms + 999) // 1_000),
                "X-MBX-USED-WEIGHT-1M": str(one.weight.at(now_ms).count),
            },
        )

    def check_order(self, now_ms: int, orders: int = 1) -> None:
        """Raises VenueError -1015 (429) when that many further orders may not be placed now."""
        for window, limit, words in (
            (self._ten_seconds, MAX_ORDERS_PER_10_S, "10 SECOND"),
            (self._day, MAX_ORDERS_PER_DAY, "1 DAY"),
        ):
            if window.at(now_ms).count + orders > limit:
                raise VenueError(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per {words}.",
                    429,
                    {"Retry-After": str(window.rest_s(now_ms)), **self.order_headers(now_ms)},
                )

    def count_order(self, now_ms: int, orders: int = 1) -> None:
        self._ten_seconds.at(now_ms).count += orders
        self._day.at(now_ms).count += orders

    def order_headers(self, now_ms: int) -> dict[str, str]:
        return {
            "X-MBX-ORDER-COUNT-10S": str(self._ten_seconds.at(now_ms).count),
            "X-MBX-ORDER-COUNT-1D": str(self._day.at(now_ms).count),
        }

    def order_limits(self, now_ms: int) -> list[dict[str, Any]]:
        """The order limits with their counts, as `rateLimit/order` gives them."""
        return [
            {
                "rateLimitType": "ORDERS",
                "interval": "SECOND",
                "intervalNum": 10,
                "limit": MAX_ORDERS_PER_10_S,
                "count": self._ten_seconds.at(now_ms).count,
            },
            {
                "rateLimitType": "ORDERS",
                "interval": "DAY",
                "intervalNum": 1,
                "limit": MAX_ORDERS_PER_DAY,
                "count": self._day.at(now_ms).count,
            },
        ]

    def weight_limit(self, address: str, now_ms: int) -> dict[str, Any]:
        return {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": MAX_WEIGHT_PER_MINUTE,
            "count": self.used(address, now_ms),
        }
