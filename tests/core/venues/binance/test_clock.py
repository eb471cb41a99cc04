"""The venue's clock as it is estimated, with both of our clocks in the test's hand."""

from __future__ import annotations

import pytest

from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.venues.binance.clock import REFRESH_AFTER_NS, ClockSample, ServerClock

START_NS = 1_700_000_000 * NS_PER_S


class Clocks:
    """The wall clock, the monotonic one, and what is estimated from them."""

    def __init__(self) -> None:
        self.wall = ManualClock(START_NS)
        self.monotonic = ManualClock(7 * NS_PER_S)
        self.server = ServerClock(self.wall, self.monotonic.now_ns)

    def pass_ms(self, duration_ms: int) -> None:
        for clock in (self.wall, self.monotonic):
            clock.advance_ns(duration_ms * NS_PER_MS)

    def exchange(self, ahead_ms: int, there_ms: int, back_ms: int) -> ClockSample:
        """A server ahead of our wall clock by ahead_ms, asked over a path that takes so long there and back."""
        sent_ns = self.monotonic.now_ns()
        self.pass_ms(there_ms)
        server_ms = self.wall.now_ns() // NS_PER_MS + ahead_ms
        self.pass_ms(back_ms)
        return ClockSample(server_ms, sent_ns, self.monotonic.now_ns())


@pytest.mark.parametrize("ahead_ms", [0, 1_000, -1_000, 10 * 60_000, -10 * 60_000])
def test_the_quickest_exchange_gives_the_offset_within_its_uncertainty(ahead_ms: int) -> None:
    clocks = Clocks()
    samples = [clocks.exchange(ahead_ms, *path) for path in ((5, 300), (4, 20), (90, 3))]
    clocks.server.adopt(samples)
    assert clocks.server.uncertainty_ms == 12
    assert abs(clocks.server.offset_ms - ahead_ms) <= clocks.server.uncertainty_ms
    assert clocks.server.jumps == 0


def test_before_the_first_estimate_our_own_clock_stands_in_and_gives_no_timestamp() -> None:
    clocks = Clocks()
    assert (clocks.server.now_ns(), clocks.server.offset_ms) == (START_NS, 0)
    assert not clocks.server.is_usable
    assert clocks.server.is_due


def test_an_estimate_grows_old_and_is_then_due_but_still_usable() -> None:
    clocks = Clocks()
    clocks.server.adopt([clocks.exchange(0, 1, 1)])
    assert not clocks.server.is_due
    clocks.pass_ms(REFRESH_AFTER_NS // NS_PER_MS + 1)
    assert clocks.server.is_due
    assert clocks.server.is_usable


@pytest.mark.parametrize("step_s", [-300, -1, 1, 300])
def test_a_step_of_our_wall_clock_moves_the_offset_and_not_the_venues_time(step_s: int) -> None:
    clocks = Clocks()
    clocks.server.adopt([clocks.exchange(0, 0, 0)])
    before_ms = clocks.server.now_ms()
    clocks.wall.advance_ns(step_s * NS_PER_S)
    assert clocks.server.now_ms() == before_ms
    assert clocks.server.offset_ms == -step_s * 1_000
    assert not clocks.server.is_usable, "after a jump nothing is signed before a new estimate"
    clocks.server.adopt([clocks.exchange(-step_s * 1_000, 0, 0)])
    assert clocks.server.is_usable
    assert clocks.server.jumps == 1


def test_a_step_of_the_venues_clock_is_taken_over_and_counted() -> None:
    clocks = Clocks()
    clocks.server.adopt([clocks.exchange(0, 1, 1)])
    clocks.pass_ms(1_000)
    clocks.server.adopt([clocks.exchange(1, 1, 1)])
    assert clocks.server.jumps == 0
    clocks.server.adopt([clocks.exchange(60_000, 1, 1)])
    assert clocks.server.jumps == 1
    assert abs(clocks.server.offset_ms - 60_000) <= 1


def test_a_refused_timestamp_makes_it_unusable_until_the_next_estimate() -> None:
    clocks = Clocks()
    clocks.server.adopt([clocks.exchange(0, 1, 1)])
    clocks.server.invalidate()
    assert not clocks.server.is_usable
    clocks.server.adopt([clocks.exchange(0, 1, 1)])
    assert clocks.server.is_usable
