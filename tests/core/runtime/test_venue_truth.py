"""Of which symbols fills are asked for at one time, and since when."""

from __future__ import annotations

import msgspec
import pytest

from core.kernel.kernel import Kernel
from core.runtime.venue_truth import FILLS_OVERLAP_NS, SYMBOLS_PER_TURN, VenueReader
from core.types.clock import NS_PER_S, ManualClock
from core.types.events import BalancesObserved
from tests.core.approvals import ACCOUNT, BTC, NOW_NS, decide_on, proposal, started_kernel
from tests.core.runtime.test_follow import Venue


class Asked(Venue):
    """Remembers since when each symbol's fills were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.since: dict[str, int] = {}

    async def trades_since(self, symbol: str, since_ns: int) -> list:  # type: ignore[type-arg]
        self.since[symbol] = since_ns
        return []


def listing(quiet: int, *, traded: bool) -> Kernel:
    """BTCUSDT, traded or not, and so many symbols that the account never touched."""
    others = [msgspec.structs.replace(BTC, symbol=f"QUIET{number}", base_asset=f"Q{number}") for number in range(quiet)]
    kernel = started_kernel(instruments=(BTC, *others))
    if traded:
        kernel.apply(decide_on(kernel, proposal()))
    return kernel


def reader_of(kernel: Kernel) -> tuple[VenueReader, Asked, ManualClock]:
    venue, clock = Asked(), ManualClock(NOW_NS + 3_600 * NS_PER_S)
    return VenueReader(kernel, venue, clock, ACCOUNT), venue, clock


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("quiet", [0, 5, 200])
async def test_where_the_account_is_active_is_asked_each_time_and_the_rest_in_turn(quiet: int, is_whole: bool) -> None:
    reader, venue, clock = reader_of(listing(quiet, traded=True))
    seen: set[str] = set()
    turns = 0
    while len(seen) < quiet + 1:
        venue.since.clear()
        truth = await reader.ask("paper", is_whole=is_whole)
        assert "BTCUSDT" in truth.asked
        assert len(truth.asked) <= SYMBOLS_PER_TURN + is_whole
        assert set(truth.asked) == set(venue.since)
        seen |= set(truth.asked)
        clock.advance_ns(30 * NS_PER_S)
        reader.settled(truth)
        turns += 1
    assert turns <= quiet // (SYMBOLS_PER_TURN - 1) + 1


async def test_what_wasnt_settled_is_asked_for_again_from_the_same_time() -> None:
    reader, venue, clock = reader_of(listing(0, traded=True))
    await reader.ask("paper")
    before = venue.since["BTCUSDT"]
    clock.advance_ns(600 * NS_PER_S)
    await reader.ask("paper")
    assert venue.since["BTCUSDT"] == before == NOW_NS


async def test_a_restart_goes_on_where_the_journal_says() -> None:
    kernel = listing(0, traded=True)
    through_ns = NOW_NS + 1_000 * NS_PER_S
    kernel.apply(
        BalancesObserved(
            ts_ns=through_ns, account_id=ACCOUNT, venue="paper", totals={}, as_of_ns=1, fills_through_ns=through_ns
        )
    )
    reader, venue, _ = reader_of(kernel)
    await reader.ask("paper")
    assert venue.since["BTCUSDT"] == through_ns - FILLS_OVERLAP_NS
    assert reader.fills_through_ns("paper") == through_ns


async def test_the_journal_is_told_of_the_symbol_that_lags_most() -> None:
    reader, _, clock = reader_of(listing(200, traded=False))
    first_ns = reader.fills_through_ns("paper")
    reader.settled(await reader.ask("paper", is_whole=False))
    assert reader.fills_through_ns("paper") == first_ns
    for _ in range(200 // SYMBOLS_PER_TURN):
        clock.advance_ns(30 * NS_PER_S)
        reader.settled(await reader.ask("paper", is_whole=False))
    assert reader.fills_through_ns("paper") > first_ns


async def test_a_venues_clock_that_is_set_back_takes_nothing_back() -> None:
    reader, venue, clock = reader_of(listing(0, traded=True))
    venue.clock_ns = clock.now_ns
    reader.settled(await reader.ask("paper"))
    through_ns = reader.fills_through_ns("paper")
    venue.clock_ns = lambda: clock.now_ns() - 600 * NS_PER_S
    reader.settled(await reader.ask("paper"))
    assert reader.fills_through_ns("paper") == through_ns
