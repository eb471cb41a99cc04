"""What is known of somebody else's order once the venue tells of another one under its id."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.kernel.decide import FillReport, decide_fill
from core.kernel.kernel import Kernel
from core.runtime.reused_ids import ReusedIds
from core.types.authority import ExternalAuthority
from core.types.events import OrderAccepted, OrderAdopted
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.ports import VenueOrder, VenueTrade
from tests.core.approvals import ACCOUNT, NOW_NS, decide_on, proposal, started_kernel

INTENT = OrderIntent(
    ACCOUNT, "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 300, 6_000_000, 2, 5, "web-1"
)
S = OrderStatus


class Venue:
    """Tells of the newest order of an id only, and of each order's fills by its own number."""

    def __init__(self, venue_order_id: str, filled: tuple[int, ...] = ()) -> None:
        self.seen = VenueOrder("BTCUSDT", "web-1", venue_order_id, S.ACCEPTED, 0, NOW_NS)
        self.filled = filled
        self.amended: OrderIntent | None = None
        self.told: dict[str, VenueOrder] = {}

    async def order(self, _symbol: str, client_order_id: str) -> VenueOrder | None:
        return msgspec.structs.replace(self.seen, client_order_id=client_order_id)

    async def order_by_venue_id(self, _symbol: str, venue_order_id: str) -> VenueOrder | None:
        return self.told.get(venue_order_id)

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]:
        return [
            VenueTrade(symbol, number, venue_order_id, "web-1", Side.BUY, 1, quantity, Decimal(0), "BTC", True, NOW_NS)
            for number, quantity in enumerate(self.filled)
        ]

    async def amend(self, intent: OrderIntent, _quantity: int, _price: int | None) -> Any:
        self.amended = intent


def adopted(client_order_id: str, venue_order_id: str) -> Kernel:
    kernel = started_kernel()
    intent = msgspec.structs.replace(INTENT, client_order_id=client_order_id)
    kernel.apply(
        OrderAdopted(
            ts_ns=NOW_NS,
            intent=intent,
            venue_order_id=venue_order_id,
            authority=ExternalAuthority("test"),
            notional_quote="180",
        )
    )
    return kernel


@pytest.mark.parametrize(
    ("known_id", "seen_id", "filled", "status"),
    [
        ("5", "5", (), S.ACCEPTED),
        ("5", "6", (), S.CANCELED),
        ("5", "6", (100,), S.CANCELED),
        ("5", "6", (100, 200), S.FILLED),
        ("9", "10", (), S.CANCELED),
        # A query that lags may show the one before it, and names of letters tell no order.
        ("5", "4", (), None),
        ("10", "9", (), None),
        ("a", "b", (), None),
    ],
)
def test_a_later_order_of_the_same_id_proves_the_end_of_the_one_before_it(
    known_id: str, seen_id: str, filled: tuple[int, ...], status: OrderStatus | None
) -> None:
    venue: Any = Venue(seen_id, filled)
    told = asyncio.run(ReusedIds(venue, adopted("web-1", known_id)).order("BTCUSDT", "web-1"))
    assert (told and told.status) == status
    if told is not None:
        assert (told.client_order_id, told.venue_order_id, told.filled_quantity) == ("web-1", known_id, sum(filled))


@pytest.mark.parametrize(
    ("told", "status", "quantity"),
    [
        # Of its own number the venue tells all of it.
        (VenueOrder("BTCUSDT", "web-1", "5", S.EXPIRED, 100, NOW_NS, quantity=400), S.EXPIRED, 400),
        # A query that lags may show it as it was; that it has ended is proved.
        (VenueOrder("BTCUSDT", "web-1", "5", S.PARTIALLY_FILLED, 100, NOW_NS, quantity=400), S.CANCELED, 300),
    ],
    ids=["ended", "lagging"],
)
def test_an_order_whose_id_came_again_is_asked_for_by_the_venues_own(
    told: VenueOrder, status: OrderStatus, quantity: int
) -> None:
    venue: Any = Venue("6", (100,))
    venue.told["5"] = told
    seen = asyncio.run(ReusedIds(venue, adopted("web-1", "5")).order("BTCUSDT", "web-1"))
    assert seen is not None
    assert (seen.client_order_id, seen.venue_order_id) == ("web-1", "5")
    assert (seen.status, seen.filled_quantity, seen.quantity) == (status, 100, quantity)


def test_of_our_own_orders_another_number_proves_nothing() -> None:
    kernel = started_kernel()
    decided = decide_on(kernel, proposal())
    kernel.apply(decided)
    assert decided.intent is not None
    order_id = decided.intent.client_order_id
    venue: Any = Venue("6")
    told = asyncio.run(ReusedIds(venue, kernel).order("BTCUSDT", order_id))
    assert told is not None
    assert (told.status, told.venue_order_id) == (S.ACCEPTED, "6")


def test_an_amendment_names_the_order_as_the_venue_knows_it() -> None:
    venue: Any = Venue("6")
    kernel = adopted("web-1@venue:6", "6")
    order = kernel.orders["web-1@venue:6"]
    asyncio.run(ReusedIds(venue, kernel).amend(order.intent, 200, None))
    assert venue.amended == msgspec.structs.replace(order.intent, client_order_id="web-1")


@pytest.mark.parametrize(
    ("ours", "venue_order_id", "is_taken"),
    [(False, "9", True), (False, "7", False), (False, "", True), (True, "7", True)],
)
def test_a_fill_of_another_order_under_the_id_is_not_this_ones(ours: bool, venue_order_id: str, is_taken: bool) -> None:
    """given a fill that was named before another comparison gave its name to a later order. What it filled is found
    again, by then under its own name; of ours there is only one."""
    if ours:
        kernel = started_kernel()
        decided = decide_on(kernel, proposal())
        assert decided.intent is not None
        order_id = decided.intent.client_order_id
        kernel.replay([decided, OrderAccepted(ts_ns=NOW_NS, client_order_id=order_id, venue_order_id="9")])
    else:
        kernel, order_id = adopted("web-1", "9"), "web-1"
    report = FillReport(order_id, venue_order_id, 1, 6_000_000, 100, Decimal(0), "BTC", True, NOW_NS)
    assert bool(decide_fill(kernel, report, NOW_NS)) is is_taken
