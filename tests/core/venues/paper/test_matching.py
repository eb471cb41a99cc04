"""The matching core as a table: plain orders against the market."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from core.types.orders import Side
from core.venues.paper.balances import Balances
from core.venues.paper.errors import VenueError
from core.venues.paper.events import BookTicker, DepthDiff, StartBook, Trade
from core.venues.paper.matching import Counters, Matching
from core.venues.paper.orders import Execution, NewOrder, Report, Status, TimeInForce, Type
from core.venues.paper.rules import RULES
from tests.core.venues.paper.support import d, start_book

S = "BTCUSDT"
_names = itertools.count()
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK


def matching(usdt: str = "10000", btc: str = "10", book: StartBook | None = None) -> Matching:
    core = Matching({S: RULES[S]}, Balances({"USDT": d(usdt), "BTC": d(btc)}), Counters())
    core.views[S].load(book or start_book())
    return core


def order(
    side: Side,
    quantity: str,
    price: str | None,
    force: TimeInForce = GTC,
    kind: Type | None = None,
    name: str = "",
    quote: str = "0",
) -> NewOrder:
    order_type = kind or (Type.MARKET if price is None else Type.LIMIT)
    return NewOrder(S, side, order_type, force, d(price or "0"), d(quantity), d(quote), name or f"n{next(_names)}")


def fills(reports: list[Report]) -> list[tuple[str, int, int]]:
    return [
        ("maker" if one.fill.is_maker else "taker", one.fill.price, one.fill.quantity) for one in reports if one.fill
    ]


def trade(price: str, quantity: str, buyer_is_maker: bool) -> Trade:
    return Trade(S, 1, 1, 1, d(price), d(quantity), buyer_is_maker)


def depth(core: Matching, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> DepthDiff:
    last_id = core.views[S].book.last_id
    return DepthDiff(
        S, 1, last_id + 1, last_id + 10, tuple((d(p), d(q)) for p, q in bids), tuple((d(p), d(q)) for p, q in asks)
    )


@pytest.mark.parametrize(
    ("request_", "expected_fills", "status"),
    [
        (order(Side.BUY, "0.5", "100.00"), [("100.00", "0.5")], Status.FILLED),
        (order(Side.BUY, "2", "100.01"), [("100.00", "1"), ("100.01", "1")], Status.FILLED),
        (order(Side.BUY, "2", "100.00"), [("100.00", "1")], Status.PARTIALLY_FILLED),
        (order(Side.BUY, "2", "100.00", IOC), [("100.00", "1")], Status.EXPIRED),
        (order(Side.BUY, "1", "99.99", IOC), [], Status.EXPIRED),
        (order(Side.BUY, "2", "100.00", FOK), [], Status.EXPIRED),
        (order(Side.BUY, "3", "100.01", FOK), [("100.00", "1"), ("100.01", "2")], Status.FILLED),
        (order(Side.BUY, "1", "99.99"), [], Status.NEW),
        (order(Side.BUY, "2.5", None), [("100.00", "1"), ("100.01", "1.5")], Status.FILLED),
        (order(Side.BUY, "5", None), [("100.00", "1"), ("100.01", "2")], Status.EXPIRED),
        (order(Side.BUY, "0", None, quote="200.01"), [("100.00", "1"), ("100.01", "1")], Status.FILLED),
        (order(Side.SELL, "4", "99.98"), [("99.99", "2"), ("99.98", "2")], Status.FILLED),
        (order(Side.SELL, "1", None), [("99.99", "1")], Status.FILLED),
        (order(Side.BUY, "1", "99.99", GTC, Type.LIMIT_MAKER), [], Status.NEW),
    ],
)
def test_a_new_order_takes_the_displayed_levels_in_order(
    request_: NewOrder, expected_fills: list[tuple[str, str]], status: Status
) -> None:
    reports = matching().place(request_, 1)
    assert reports[0].execution is Execution.NEW
    assert fills(reports) == [("taker", d(price), d(quantity)) for price, quantity in expected_fills]
    assert reports[-1].order.status is status


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (order(Side.BUY, "1", "100.001"), -1013, "Filter failure: PRICE_FILTER"),
        (order(Side.BUY, "1", "0"), -1013, "Filter failure: PRICE_FILTER"),
        (order(Side.BUY, "0.000001", "100"), -1013, "Filter failure: LOT_SIZE"),
        (order(Side.BUY, "9001", "100"), -1013, "Filter failure: LOT_SIZE"),
        (order(Side.BUY, "121", None), -1013, "Filter failure: MARKET_LOT_SIZE"),
        (order(Side.BUY, "0.0499", "100"), -1013, "Filter failure: NOTIONAL"),
        (order(Side.BUY, "101", "100"), -2010, "Account has insufficient balance for requested action."),
        (order(Side.SELL, "11", "101"), -2010, "Account has insufficient balance for requested action."),
        (order(Side.BUY, "1", "100", GTC, Type.LIMIT_MAKER), -2010, "Order would immediately match and take."),
    ],
)
def test_a_refused_order_changes_nothing(request_: NewOrder, code: int, message: str) -> None:
    core = matching()
    with pytest.raises(VenueError) as refusal:
        core.place(request_, 1)
    assert (refusal.value.code, refusal.value.message) == (code, message)
    assert core.counters == Counters()
    assert not core.open
    assert {asset: (one.free, one.locked) for asset, one in core.balances.all().items()} == {
        "USDT": (d("10000"), 0),
        "BTC": (d("10"), 0),
    }


def test_the_client_order_id_is_unique_among_open_orders_only() -> None:
    core = matching()
    resting = core.place(order(Side.BUY, "1", "99.00", name="same"), 1)[0].order
    with pytest.raises(VenueError, match=r"Duplicate order sent\."):
        core.place(order(Side.BUY, "1", "98.00", name="same"), 2)
    core.cancel(core.open[resting.order_id], "cancel-1", 3)
    assert core.place(order(Side.BUY, "1", "98.00", name="same"), 4)[0].order.order_id == resting.order_id + 1


def test_liquidity_that_we_took_stays_taken_until_the_market_refreshes_the_level() -> None:
    core = matching()
    core.place(order(Side.BUY, "0.6", "100.00", IOC), 1)
    assert fills(core.place(order(Side.BUY, "1", "100.00", IOC), 2)) == [("taker", d("100.00"), d("0.4"))]
    core.on_market(depth(core, [("99.99", "5")], []), 3)
    assert fills(core.place(order(Side.BUY, "1", "100.00", IOC), 4)) == []
    core.on_market(depth(core, [], [("100.00", "0.7")]), 5)
    assert fills(core.place(order(Side.BUY, "1", "100.00", IOC), 6)) == [("taker", d("100.00"), d("0.7"))]
    assert core.views[S].book.asks[d("100.00")] == d("0.7"), "published data stay the market's"


def test_a_newer_book_ticker_corrects_the_depth_book() -> None:
    core = matching()
    core.on_market(BookTicker(S, 105, d("99.98"), d("1"), d("100.01"), d("0.2")), 1)
    assert fills(core.place(order(Side.BUY, "1", "100.01", IOC), 2)) == [("taker", d("100.01"), d("0.2"))]
    assert fills(core.place(order(Side.SELL, "9", "99.98", IOC), 3)) == [("taker", d("99.98"), d("1"))]


def test_a_resting_order_fills_after_the_queue_ahead_of_it() -> None:
    core = matching()
    core.place(order(Side.BUY, "1", "99.99"), 1)
    assert fills(core.on_market(trade("99.99", "1.5", True), 2)) == []
    assert fills(core.on_market(trade("99.99", "0.8", True), 3)) == [("maker", d("99.99"), d("0.3"))]
    assert fills(core.on_market(trade("99.99", "9", False), 4)) == [], "a buyer at that price doesn't hit bids"
    assert fills(core.on_market(trade("99.99", "2", True), 5)) == [("maker", d("99.99"), d("0.7"))]
    assert not core.open


def test_a_shrinking_level_moves_a_resting_order_forward() -> None:
    core = matching()
    core.place(order(Side.BUY, "1", "99.99"), 1)
    core.on_market(depth(core, [("99.99", "0.5")], []), 2)
    core.on_market(depth(core, [("99.99", "4")], []), 3)
    assert fills(core.on_market(trade("99.99", "0.7", True), 4)) == [("maker", d("99.99"), d("0.2"))]


def test_a_trade_through_the_price_skips_the_queue() -> None:
    core = matching()
    core.place(order(Side.SELL, "1", "100.01"), 1)
    assert fills(core.on_market(trade("100.02", "0.4", False), 2)) == [("maker", d("100.01"), d("0.4"))]


def test_a_quote_through_the_price_fills_at_our_price_up_to_what_it_displays() -> None:
    core = matching()
    core.place(order(Side.BUY, "1", "99.50"), 1)
    ticker = BookTicker(S, 120, d("99.39"), d("1"), d("99.40"), d("0.25"))
    assert fills(core.on_market(ticker, 2)) == [("maker", d("99.50"), d("0.25"))]
    assert fills(core.on_market(msgspec.structs.replace(ticker, update_id=121), 3)) == [], "the same quote fills once"


def test_our_orders_at_one_price_fill_in_order_of_time_and_better_prices_first() -> None:
    core = matching()
    first = core.place(order(Side.SELL, "1", "100.50"), 1)[0].order.order_id
    second = core.place(order(Side.SELL, "1", "100.50"), 2)[0].order.order_id
    better = core.place(order(Side.SELL, "1", "100.40"), 3)[0].order.order_id
    reports = core.on_market(trade("100.50", "2.5", False), 4)
    assert [(one.order.order_id, one.fill.quantity) for one in reports if one.fill] == [
        (better, d("1")),
        (first, d("1")),
        (second, d("0.5")),
    ]


def test_a_taker_that_reaches_our_own_order_expires_it() -> None:
    core = matching()
    own = core.place(order(Side.SELL, "1", "100.01"), 1)[0].order.order_id
    reports = core.place(order(Side.BUY, "4", "100.01"), 2)
    prevented = [one for one in reports if one.execution is Execution.TRADE_PREVENTION]
    assert [(one.order.order_id, one.order.status) for one in prevented] == [(own, Status.EXPIRED_IN_MATCH)]
    assert fills(reports) == [("taker", d("100.00"), d("1")), ("taker", d("100.01"), d("2"))]


def test_fees_are_a_thousandth_of_what_is_received() -> None:
    core = matching()
    reports = core.place(order(Side.BUY, "1", "100.00"), 1)
    fill = reports[-1].fill
    assert fill is not None
    assert (fill.commission, fill.commission_asset) == (d("0.001"), "BTC")
    assert core.balances.of("BTC").free == d("10.999")
    assert core.balances.of("USDT").free == d("9900")
    sold = core.place(order(Side.SELL, "1", None), 2)[-1].fill
    assert sold is not None
    assert (sold.commission, sold.commission_asset) == (d("0.09999"), "USDT")
