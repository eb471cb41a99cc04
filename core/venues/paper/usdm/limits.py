"""Request weight and order counts of futures: fixed windows, told in every answer's headers."""

from __future__ import annotations

from typing import Any

from core.venues.paper.errors import VenueError

MAX_WEIGHT_PER_MINUTE = 2_400
MAX_ORDERS_PER_10_S = 300
MAX_ORDERS_PER_MINUTE = 1_200
MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000

RATE_LIMITS: list[dict[str, Any]] = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": MAX_WEIGHT_PER_MINUTE},
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": MAX_ORDERS_PER_MINUTE},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": MAX_ORDERS_PER_10_S},
]


class FuturesLimits:
    """Weight per client address, orders per account."""

    def __init__(self) -> None:
        self._minute = -1
        self._weights: dict[str, int] = {}
        self._orders = {TEN_SECONDS_MS: (-1, 0), MINUTE_MS: (-1, 0)}

    def charge(self, address: str, weight: int, now_ms: int) -> int:
        """Count one request; gives the weight used in this minute. Raises VenueError -1003 (429) when over."""
        minute = now_ms // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._weights.clear()
        used = self._weights[address] = self._weights.get(address, 0) + weight
        if used > MAX_WEIGHT_PER_MINUTE:
            raise VenueError(
                -1003,
                f"Too many requests; current limit is {MAX_WEIGHT_PER_MINUTE} requests per minute. Please use the "
                "websocket for live updates to avoid polling the API.",
                429,
                {"Retry-After": _rest_s(MINUTE_MS, now_ms), "X-MBX-USED-WEIGHT-1M": str(used)},
            )
        return used

    def count_orders(self, count: int, now_ms: int) -> None:
        """Raises VenueError -1015 (429) when that many may not be placed now; then none is counted."""
        for length_ms, limit, words in (
            (TEN_SECONDS_MS, MAX_ORDERS_PER_10_S, "10 SECOND"),
            (MINUTE_MS, MAX_ORDERS_PER_MINUTE, "1 MINUTE"),
        ):
            if self._used(length_ms, now_ms) + count > limit:
                raise VenueError(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per {words}.",
                    429,
                    {"Retry-After": _rest_s(length_ms, now_ms), **self.order_headers(now_ms)},
                )
        for length_ms in self._orders:
            self._orders[length_ms] = (now_ms // length_ms, self._used(length_ms, now_ms) + count)

    def _used(self, length_ms: int, now_ms: int) -> int:
        index, count = self._orders[length_ms]
        return count if index == now_ms // length_ms else 0

    def order_headers(self, now_ms: int) -> dict[str, str]:
        return {
            "X-MBX-ORDER-COUNT-10S": str(self._used(TEN_SECONDS_MS, now_ms)),
            "X-MBX-ORDER-COUNT-1M": str(self._used(MINUTE_MS, now_ms)),
        }


def _rest_s(length_ms: int, now_ms: int) -> str:
    return str((length_ms - now_ms % length_ms + 999) // 1_000)
