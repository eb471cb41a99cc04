"""The venue's clock, estimated: server time now, how far ours is from it, and how sure that is.

Between two estimates the venue's time runs on the machine's monotonic clock, so that a step of the wall clock moves
neither the timestamps of requests nor the windows of the rate limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import structlog

from core.types.clock import NS_PER_MS, NS_PER_S, Clock

REFRESH_AFTER_NS = 5 * 60 * NS_PER_S
"""A quartz clock drifts by up to 50 ppm: 15 ms in this time."""
JUMP_LIMIT_NS = 500 * NS_PER_MS
"""A wall clock that moved this much against the monotonic one was set, or the machine slept."""

_log = structlog.get_logger("venues.binance.clock")


class ClockSample(msgspec.Struct, frozen=True):
    """One exchange with the server: its time, and when by the monotonic clock we asked and were answered."""

    server_ms: int
    sent_ns: int
    received_ns: int

    @property
    def round_trip_ns(self) -> int:
        return self.received_ns - self.sent_ns


class ServerClock:
    """Starts as our own clock; `adopt` makes it the venue's. monotonic_ns is only for tests."""

    def __init__(self, clock: Clock, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._anchor_server_ns = 0
        self._anchor_monotonic_ns = 0
        self._anchor_wall_ns = 0
        self.is_valid = False
        """Whether there is an estimate that the venue hasn't refused since."""
        self.known = False
        self.uncertainty_ms = 0
        self.jumps = 0
        """How often the server's clock, or ours, was found to have been set."""

    @property
    def offset_ms(self) -> int:
        """The server's clock minus ours, now; 0 before the first estimate."""
        return (self.now_ns() - self._clock.now_ns()) // NS_PER_MS if self.known else 0

    @property
    def is_usable(self) -> bool:
        """Whether a timestamp can be taken from it: there is an estimate, and nothing says that it is wrong."""
        return self.is_valid and not self._wall_has_jumped()

    @property
    def is_due(self) -> bool:
        """Whether it is time for a new estimate."""
        return not self.is_usable or self.is_old

    @property
    def is_old(self) -> bool:
        """Whether the estimate, though usable, is to be renewed."""
        return self._monotonic_ns() - self._anchor_monotonic_ns > REFRESH_AFTER_NS

    def monotonic_ns(self) -> int:
        return self._monotonic_ns()

    def now_ns(self) -> int:
        """The server's time, as far as it is known."""
        if not self.known:
            return self._clock.now_ns()
        return self._anchor_server_ns + self._monotonic_ns() - self._anchor_monotonic_ns

    def now_ms(self) -> int:
        return self.now_ns() // NS_PER_MS

    def invalidate(self) -> None:
        """The venue refused our time: no timestamp is taken before the next estimate."""
        self.is_valid = False

    def adopt(self, samples: list[ClockSample]) -> None:
        """Take the quickest exchange's time at its middle: it is off by no more than half its round trip."""
        best = min(samples, key=lambda sample: sample.round_trip_ns)
        # The server's milliseconds are cut off, hence on average half of one more has passed.
        server_ns = best.server_ms * NS_PER_MS + NS_PER_MS // 2
        middle_ns = best.sent_ns + best.round_trip_ns // 2
        if self.known:
            moved_ns = server_ns - (self._anchor_server_ns + middle_ns - self._anchor_monotonic_ns)
            if abs(moved_ns) > JUMP_LIMIT_NS + best.round_trip_ns or self._wall_has_jumped():
                self.jumps += 1
                _log.warning("clock_jumped", server_moved_ms=moved_ns // NS_PER_MS, jumps=self.jumps)
        now_ns = self._monotonic_ns()
        self._anchor_server_ns = server_ns + now_ns - middle_ns
        self._anchor_monotonic_ns = now_ns
        self._anchor_wall_ns = self._clock.now_ns()
        self.uncertainty_ms = -(-(best.round_trip_ns // 2) // NS_PER_MS)
        self.known = self.is_valid = True

    def _wall_has_jumped(self) -> bool:
        wall_ns = self._clock.now_ns() - self._anchor_wall_ns
        monotonic_ns = self._monotonic_ns() - self._anchor_monotonic_ns
        return abs(wall_ns - monotonic_ns) > JUMP_LIMIT_NS
