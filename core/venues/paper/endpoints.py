"""What REST and the WebSocket API share: an endpoint, its price and its guard. They differ in envelopes alone."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from core.venues.paper.errors import VenueError
from core.venues.paper.limits import Limits
from core.venues.paper.parameters import Parameters

Answer = dict[str, Any] | list[Any]
Handler = Callable[[Parameters], Answer]
Count = int | Callable[[Parameters], int]

REST_TIME_NAMES = frozenset(
    {
        "time",
        "updateTime",
        "transactTime",
        "transactionTime",
        "workingTime",
        "trailingTime",
        "serverTime",
        "openTime",
        "closeTime",
        "T",
    }
)
STREAM_TIME_NAMES = frozenset({"E", "T", "O", "C", "W", "D"})
"""Where they hold numbers; the same letters hold texts elsewhere."""
KLINE_EVENT_TIME = "t"
FIRST_PLAUSIBLE_MS = 10**12
MICROSECONDS_PER_MS = 1_000
KLINE_OPEN, KLINE_CLOSE = 0, 6


class Security(Enum):
    """What a caller must show: nothing, its key, or its key and a signature."""

    NONE = 0
    KEY = 1
    SIGNED = 2


SIGNING_PARAMETERS = ("timestamp", "recvWindow")


class Endpoint(msgspec.Struct, frozen=True):
    """methods: the names in the WebSocket API. orders: how many orders a request places. is_klines: rows of klines."""

    verb: str
    path: str
    methods: tuple[str, ...]
    security: Security
    weight: Count
    handler: Handler
    orders: int = 0
    is_klines: bool = False

    def call(
        self, parameters: Parameters, address: str, limits: Limits, guard: Callable[[], None], now_ms: int
    ) -> Answer:
        """One request. guard checks who calls. Raises VenueError."""
        weight = self.weight if isinstance(self.weight, int) else self.weight(parameters)
        limits.charge(address, weight, now_ms)
        guard()
        if self.security is Security.KEY:
            # Clients that sign everything sign these too.
            for name in SIGNING_PARAMETERS:
                parameters.get(name)
        if self.orders:
            limits.check_order(now_ms, self.orders)
        answer = self.handler(parameters)
        parameters.all_read()
        if self.orders:
            limits.count_order(now_ms, self.orders)
        return answer


def is_microseconds(wanted: str | None) -> bool:
    """Of X-MBX-TIME-UNIT or timeUnit. Raises VenueError -1194."""
    unit = (wanted or "MILLISECOND").upper()
    if unit not in {"MICROSECOND", "MILLISECOND"}:
        raise VenueError(-1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")
    return unit == "MICROSECOND"


def in_microseconds(answer: Any, *, is_klines: bool = False, names: frozenset[str] = REST_TIME_NAMES) -> Any:
    """An answer with its times in microseconds."""
    if is_klines:
        return [
            [
                value * MICROSECONDS_PER_MS if index in {KLINE_OPEN, KLINE_CLOSE} else value
                for index, value in enumerate(row)
            ]
            for row in answer
        ]
    if isinstance(answer, list):
        return [in_microseconds(one, names=names) for one in answer]
    if isinstance(answer, dict):
        return {
            name: value * MICROSECONDS_PER_MS
            if name in names and isinstance(value, int) and value >= FIRST_PLAUSIBLE_MS
            else in_microseconds(value, names=names)
            for name, value in answer.items()
        }
    return answer


def event_in_microseconds(event: dict[str, Any]) -> dict[str, Any]:
    """A stream's event with its times in microseconds."""
    converted: dict[str, Any] = in_microseconds(event, names=STREAM_TIME_NAMES)
    if event.get("e") == "kline":
        converted["k"][KLINE_EVENT_TIME] *= MICROSECONDS_PER_MS
    if event.get("e") == "outboundAccountPosition":
        converted["u"] *= MICROSECONDS_PER_MS
    return converted
