"""Time as integer nanoseconds UTC, always passed in."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
SECONDS_KEPT_LIMIT = 1_024


class Clock(Protocol):
    """Where pure code gets the time from."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now_ns(self) -> int:
        return time.time_ns()


class MonotonicClock:
    """A clock that never goes back: the engine's clock decides expiry.

    When the source steps back, the last value is repeated until the source catches up.
    """

    def __init__(self, source: Clock, floor_ns: int = 0) -> None:
        self._source = source
        self._last_ns = floor_ns

    def now_ns(self) -> int:
        now_ns = self._source.now_ns()
        if now_ns <= self._last_ns:
            return self._last_ns
        self._last_ns = now_ns
        return now_ns

    def behind_ns(self) -> int:
        """How far the source stands behind what was given out already: 0 unless it was set back."""
        return max(0, self._last_ns - self._source.now_ns())


class ManualClock:
    """A clock that moves only when told to: simulation and tests."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance_ns(self, duration_ns: int) -> None:
        """Move forward (or back, to test a stepped clock) by duration_ns."""
        self._now_ns += duration_ns


def format_utc_us(timestamp_ns: int) -> str:
    """ISO 8601 UTC with six digits, as MiCA RTS 2025/1140 asks for."""
    seconds, rest_ns = divmod(timestamp_ns, NS_PER_S)
    return f"{_second_text(seconds)}.{rest_ns // NS_PER_US:06d}Z"


@lru_cache(SECONDS_KEPT_LIMIT)
def _second_text(seconds: int) -> str:
    """Times that are told lie close together: most are in a second that was told before."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
