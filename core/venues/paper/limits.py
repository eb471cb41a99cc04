"""Request weight and order counts, counted as Binance does: fixed windows, told in every answer's headers."""

from __future__ import annotations

from typing import Any

import msgspec

from core.venues.paper.errors import VenueError

MAX_WEIGHT_PER_MINUTE = 6_000
MAX_ORDERS_PER_10_S = 100
MAX_ORDERS_PER_DAY = 200_000
MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000
DAY_MS = 86_400_000

RATE_LIMITS: list[dict[str, Any]] = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": MAX_WEIGHT_PER_MINUTE},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": MAX_ORDERS_PER_10_S},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": MAX_ORDERS_PER_DAY},
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


class Limits:
    """Weight per client address, orders per account."""

    def __init__(self) -> None:
        self._minute = -1
        self._weights: dict[str, int] = {}
        self._ten_seconds = _Window(TEN_SECONDS_MS)
        self._day = _Window(DAY_MS)

    def charge(self, address: str, weight: int, now_ms: int) -> int:
        """Count one request; gives the weight used in this minute. Raises VenueError -1003 (429) when over."""
        minute = now_ms // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._weights.clear()
        used = self._weights.get(address, 0) + weight
        self._weights[address] = used
        if used > MAX_WEIGHT_PER_MINUTE:
            rest_s = ((minute + 1) * MINUTE_MS - now_ms + 999) // 1_000
            raise VenueError(
                -1003,
                f"Too much request weight used; current limit is {MAX_WEIGHT_PER_MINUTE} request weight per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API.",
                429,
                {"Retry-After": str(rest_s), "X-MBX-USED-WEIGHT-1M": str(used)},
            )
        return used

    def check_order(self, now_ms: int) -> None:
        """Raises VenueError -1015 (429) when no further order may be placed now."""
        for window, limit, words in (
            (self._ten_seconds, MAX_ORDERS_PER_10_S, "10 SECOND"),
            (self._day, MAX_ORDERS_PER_DAY, "1 DAY"),
        ):
            if window.at(now_ms).count >= limit:
                raise VenueError(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per {words}.",
                    429,
                    {"Retry-After": str(window.rest_s(now_ms)), **self.order_headers(now_ms)},
                )

    def count_order(self, now_ms: int) -> None:
        self._ten_seconds.at(now_ms).count += 1
        self._day.at(now_ms).count += 1

    def order_headers(self, now_ms: int) -> dict[str, str]:
        return {
            "X-MBX-ORDER-COUNT-10S": str(self._ten_seconds.at(now_ms).count),
            "X-MBX-ORDER-COUNT-1D": str(self._day.at(now_ms).count),
        }
