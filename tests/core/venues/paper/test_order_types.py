"""Contingent, iceberg and listed orders, self-trade prevention and amendments: the matching core as tables."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from core.types.orders import Side
from core.venues.paper.balances import Balances
from core.venues.paper.errors import VenueError
from core.venues.paper.events import Trade
from core.venues.paper.matching import Counters, Matching
from core.venues.paper.orders import (
    Contingency,
    Execution,
    ListStatusType,
    NewList,
    NewOrder,
    Order,
    Prevention,
    Report,
    Status,
    TimeInForce,
    Type,
)
from core.venues.paper.rules import RULES
from tests.core.venues.paper.support import d, start_book

S = "BTCUSDT"
BUY, SELL = Side.BUY, Side.SELL
_names = itertools.count()


def matching(usdt: str = "10000", btc: str = "10") -> Matching:
    core = Matching({S: RULES[S]}, Balances({"USDT": d(usdt), "BTC": d(btc)}), Counters())
    core.views[S].load(start_book())
    return core


def order(side: Side, kind: Type, quantity: str = "1", **fields: Any) -> NewOrder:
    scaled = {name: d(value) for name, value in fields.items() if type(value) is str}
    rest = {name: value for name, value in fields.items() if type(value) is not str}
    base = NewOrder(S, side, kind, TimeInForce.GTC, 0, d(quantity), 0, f"n{next(_names)}")
    return msgspec.structs.replace(base, **scaled, **rest)


def trade(core: Matching, price: str, quantity: str = "0.001", is_sell: bool = True) -> list[Report]:
    return core.on_market(Trade(S, 1, 1, 1, d(price), d(quantity), is_sell), 1)


def told(reports: list[Report]) -> list[tuple[int, Execution, Status]]:
    return [(one.order.order_id, one.execution, one.order.status) for one in reports]


@pytest.mark.parametrize(
    ("request_", "quiet", "loud", "fill_price"),
    [
        (order(SELL, Type.STOP_LOSS, stop_price="98"), "98.01", "98", "99.99"),
        (order(BUY, Type.STOP_LOSS, stop_price="102"), "101.99", "102", "100.00"),
        (order(SELL, Type.TAKE_PROFIT, stop_price="102"), "101.99", "102.5", "99.99"),
        (order(BUY, Type.TAKE_PROFIT, stop_price="98"), "98.01", "97", "100.00"),
        (order(SELL, Type.STOP_LOSS_LIMIT, stop_price="98", price="97"), "99", "98", "99.99"),
        (order(BUY, Type.TAKE_PROFIT_LIMIT, stop_price="98", price="100"), "99", "98", "100.00"),
        (order(SELL, Type.STOP_LOSS, trailing_delta=100), "99.20", "98.95", "99.99"),
        (order(BUY, Type.STOP_LOSS, trailing_delta=100), "100.90", "101.00", "100.00"),
        (order(SELL, Type.TAKE_PROFIT, stop_price="104", trailing_delta=100), "99", None, None),
    ],
)
def test_a_contingent_order_waits_for_its_price_then_trades(
    request_: NewOrder, quiet: str, loud: str | None, fill_price: str | None
) -> None:
    core = matching()
    (placed,) = core.place(request_, 1)
    assert (placed.execution, placed.order.status, placed.order.is_working) == (Execution.NEW, Status.NEW, False)
    assert [one.execution for one in trade(core, quiet)] == []
    if loud is not None and fill_price is not None:
        working, filled = trade(core, loud)
        assert (working.execution, working.order.is_working) == (Execution.NEW, True)
        assert filled.fill is not None
        assert (filled.order.status, filled.fill.price) == (Status.FILLED, d(fill_price))
        assert not core.open


def test_a_trailing_stop_follows_the_best_price_since_its_stop_price() -> None:
    core = matching()
    core.place(order(SELL, Type.TAKE_PROFIT, stop_price="104", trailing_delta=100), 1)
    for price in ("103", "104", "106", "105", "107", "106"):
        assert trade(core, price) == []
    assert [one.order.extreme for one in trade(core, "105.93")] == [d("107")] * 2


def test_a_stop_limit_rests_when_the_market_is_worse_than_its_limit() -> None:
    core = matching()
    core.place(order(SELL, Type.STOP_LOSS_LIMIT, stop_price="98", price="100.5"), 1)
    (working,) = trade(core, "97")
    assert (working.order.status, working.order.is_working) == (Status.NEW, True)
    assert [one.fill.price for one in trade(core, "100.6", "3", is_sell=False) if one.fill] == [d("100.5")]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (order(SELL, Type.STOP_LOSS, stop_price="100"), -2010, "Stop price would trigger immediately."),
        (order(BUY, Type.TAKE_PROFIT, stop_price="100"), -2010, "Stop price would trigger immediately."),
        (order(SELL, Type.STOP_LOSS, trailing_delta=9), -1013, "Filter failure: TRAILING_DELTA"),
        (order(SELL, Type.STOP_LOSS, stop_price="98.001"), -1013, "Filter failure: PRICE_FILTER"),
        (order(BUY, Type.LIMIT, price="600"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        (order(SELL, Type.LIMIT, price="19.99"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        (order(BUY, Type.LIMIT, price="99", iceberg_quantity="1.1"), -2010, "IcebergQty exceeds QTY."),
        (order(BUY, Type.LIMIT, "5", price="99", iceberg_quantity="0.01"), -1013, "Filter failure: ICEBERG_PARTS"),
        (
            order(BUY, Type.STOP_LOSS, "99", stop_price="102"),
            -2010,
            "Account has insufficient balance for requested action.",
        ),
    ],
)
def test_what_is_refused(request_: NewOrder, code: int, message: str) -> None:
    core = matching()
    with pytest.raises(VenueError) as refusal:
        core.place(request_, 1)
    assert (refusal.value.code, refusal.value.message) == (code, message)
    assert not core.open


def test_no_more_than_five_contingent_orders_a_symbol() -> None:
    core = matching()
    for cents in range(5):
        core.place(order(SELL, Type.STOP_LOSS, "0.1", stop_price=f"9{cents}"), 1)
    with pytest.raises(VenueError, match="Filter failure: MAX_NUM_ALGO_ORDERS"):
        core.place(order(SELL, Type.STOP_LOSS, "0.1", stop_price="89"), 1)


def test_an_iceberg_queues_again_for_each_part_it_shows() -> None:
    core = matching()
    core.place(order(BUY, Type.LIMIT, "1", price="99.99", iceberg_quantity="0.4"), 1)
    # Two stand before it; the trade reaches the first part only.
    assert [one.fill.quantity for one in trade(core, "99.99", "2.9") if one.fill] == [d("0.4")]
    assert trade(core, "99.99", "1.9") == []
    assert [one.fill.quantity for one in trade(core, "99.99", "0.2") if one.fill] == [d("0.1")]
    assert [one.fill.quantity for one in trade(core, "99.98", "9") if one.fill] == [d("0.3")]


@pytest.mark.parametrize(
    ("mode", "maker", "taker", "filled"),
    [
        (Prevention.EXPIRE_MAKER, Status.EXPIRED_IN_MATCH, Status.NEW, "1"),
        (Prevention.EXPIRE_TAKER, Status.NEW, Status.EXPIRED_IN_MATCH, "1"),
        (Prevention.EXPIRE_BOTH, Status.EXPIRED_IN_MATCH, Status.EXPIRED_IN_MATCH, "1"),
        (Prevention.NONE, Status.FILLED, Status.NEW, "1.5"),
    ],
)
def test_self_trades_are_prevented_as_the_taker_asks(
    mode: Prevention, maker: Status, taker: Status, filled: str
) -> None:
    core = matching()
    core.place(order(SELL, Type.LIMIT, "0.5", price="100.01"), 1)
    core.views[S].book.set_ask(d("100.01"), 0)
    reports = core.place(order(BUY, Type.LIMIT, "3", price="100.01", self_trade_prevention=mode), 1)
    latest = {one.order.order_id: one.order for one in reports}
    is_partly = taker is Status.NEW
    assert latest.get(1, core.open.get(1)).status is maker  # type: ignore[union-attr]
    assert latest[2].status is (Status.PARTIALLY_FILLED if is_partly else taker)
    assert latest[2].executed == d(filled)
    matches = [one.prevented for one in reports if one.prevented]
    assert len(matches) == (0 if mode is Prevention.NONE else 1)
    for match in matches:
        assert (match.taker_quantity > 0, match.maker_quantity > 0) == (mode.ends_taker, mode.ends_maker)


def sell_pair(quantity: str = "1") -> tuple[NewOrder, NewOrder]:
    return (
        order(SELL, Type.LIMIT_MAKER, quantity, price="105"),
        order(SELL, Type.STOP_LOSS_LIMIT, quantity, price="94.5", stop_price="95"),
    )


def oco(core: Matching, pair: tuple[NewOrder, ...]) -> tuple[int, list[Order]]:
    orders, _ = core.place_list(NewList(Contingency.OCO, f"l{next(_names)}", pair), 1)
    core.take_list_reports()
    return orders.list_id, [core.open[one] for one in orders.order_ids]


def test_one_leg_that_trades_cancels_the_other_and_keeps_the_money_it_needs() -> None:
    core = matching(btc="1")
    list_id, (above, below) = oco(core, sell_pair())
    assert core.balances.of("BTC").locked == d("1")
    reports = trade(core, "105.5", "0.4", is_sell=False)
    assert told(reports) == [
        (below.order_id, Execution.EXPIRED, Status.EXPIRED),
        (above.order_id, Execution.TRADE, Status.PARTIALLY_FILLED),
    ]
    assert (core.balances.of("BTC").locked, list_id in core.lists) == (d("0.6"), True)
    trade(core, "105.5", "9", is_sell=False)
    assert [one.orders.status_type for one in core.take_list_reports()] == [ListStatusType.ALL_DONE]
    assert core.balances.of("BTC").locked == 0


def test_a_triggered_leg_expires_the_other_before_it_works() -> None:
    core = matching()
    _, (above, below) = oco(core, sell_pair())
    assert told(trade(core, "94.9")) == [
        (above.order_id, Execution.EXPIRED, Status.EXPIRED),
        (below.order_id, Execution.NEW, Status.NEW),
        (below.order_id, Execution.TRADE, Status.FILLED),
    ]


def test_a_pair_costs_what_the_dearer_leg_costs() -> None:
    core = matching(usdt="106")
    pair = (order(BUY, Type.STOP_LOSS_LIMIT, price="106", stop_price="105"), order(BUY, Type.LIMIT_MAKER, price="95"))
    _, (above, below) = oco(core, pair)
    assert (above.locked, below.locked) == (d("106"), 0)
    core.cancel(below, "x", 1)
    assert (core.balances.of("USDT").free, core.open) == (d("106"), {})


@pytest.mark.parametrize(
    ("pair", "code", "message"),
    [
        (
            (order(SELL, Type.LIMIT_MAKER, price="105"), order(SELL, Type.STOP_LOSS, stop_price="101")),
            -2010,
            "The relationship of the prices for the orders is not correct.",
        ),
        (
            (order(SELL, Type.LIMIT_MAKER, price="105"), order(SELL, Type.LIMIT_MAKER, price="95")),
            -1168,
            "At least one OCO order must be contingent.",
        ),
        (
            (order(SELL, Type.STOP_LOSS, stop_price="105"), order(SELL, Type.STOP_LOSS, stop_price="95")),
            -1197,
            "A stop loss order in a sell OCO must be below.",
        ),
        (
            (order(BUY, Type.LIMIT_MAKER, price="105"), order(BUY, Type.STOP_LOSS, stop_price="95")),
            -1165,
            "A limit order in a buy OCO must be below.",
        ),
        (
            (order(SELL, Type.LIMIT, price="105"), order(SELL, Type.STOP_LOSS, stop_price="95")),
            -1158,
            "Order type not supported in OCO.",
        ),
    ],
)
def test_a_pair_that_makes_no_sense_is_refused(pair: tuple[NewOrder, ...], code: int, message: str) -> None:
    core = matching()
    with pytest.raises(VenueError) as refusal:
        oco(core, pair)
    assert (refusal.value.code, refusal.value.message) == (code, message)
    assert (core.open, core.lists, core.counters) == ({}, {}, Counters())


def test_a_pending_order_begins_when_the_working_one_has_filled() -> None:
    core = matching()
    working, pending = order(BUY, Type.LIMIT, price="99"), order(SELL, Type.LIMIT, "0.5", price="110")
    orders, reports = core.place_list(NewList(Contingency.OTO, "oto", (working, pending)), 1)
    assert told(reports) == [(1, Execution.NEW, Status.NEW), (2, Execution.NEW, Status.PENDING_NEW)]
    assert core.balances.of("BTC").locked == 0
    assert told(trade(core, "98.5", "0.4")) == [(1, Execution.TRADE, Status.PARTIALLY_FILLED)]
    assert told(trade(core, "98.5", "0.6")) == [
        (1, Execution.TRADE, Status.FILLED),
        (2, Execution.NEW, Status.NEW),
    ]
    assert core.balances.of("BTC").locked == d("0.5")
    assert orders.list_id in core.lists


def test_a_pending_pair_protects_what_the_working_order_bought() -> None:
    core = matching(btc="0")
    working = order(BUY, Type.LIMIT, price="100")
    pair = (order(SELL, Type.LIMIT_MAKER, "0.9", price="105"), order(SELL, Type.STOP_LOSS, "0.9", stop_price="95"))
    core.place_list(NewList(Contingency.OTO, "otoco", (working, *pair)), 1)
    assert {one.order_id: one.status for one in core.open.values()} == {2: Status.NEW, 3: Status.NEW}
    assert core.balances.of("BTC").locked == d("0.9")
    trade(core, "94")
    assert core.open == {}
    assert [one.orders.status_type for one in core.take_list_reports()][-1] is ListStatusType.ALL_DONE


def test_a_pending_order_that_cannot_begin_is_rejected_with_the_reason() -> None:
    core = matching(btc="0")
    working, pending = order(BUY, Type.LIMIT, price="100"), order(SELL, Type.LIMIT, "2", price="110")
    _, reports = core.place_list(NewList(Contingency.OTO, "oto", (working, pending)), 1)
    rejected = reports[-1]
    assert (rejected.execution, rejected.order.status, rejected.reason) == (
        Execution.REJECTED,
        Status.REJECTED,
        "INSUFFICIENT_BALANCES",
    )
    assert core.lists == {}


def test_canceling_any_order_of_a_list_cancels_the_list() -> None:
    core = matching()
    working, pending = order(BUY, Type.LIMIT, price="99"), order(SELL, Type.LIMIT, "0.5", price="110")
    core.place_list(NewList(Contingency.OTO, "oto", (working, pending)), 1)
    assert told(core.cancel(core.open[2], "x", 1)) == [
        (2, Execution.CANCELED, Status.CANCELED),
        (1, Execution.CANCELED, Status.CANCELED),
    ]
    assert (core.lists, core.balances.of("USDT").locked) == ({}, 0)


def test_an_amended_order_keeps_its_place_and_frees_the_difference() -> None:
    core = matching()
    first = core.open[core.place(order(BUY, Type.LIMIT, "1", price="99.99"), 1)[0].order.order_id]
    core.place(order(BUY, Type.LIMIT, "1", price="99.99"), 1)
    (report,) = core.amend(first, d("0.4"), "smaller", 1)
    assert (report.execution, report.order.client_order_id, report.order.quantity) == (
        Execution.REPLACED,
        "smaller",
        d("0.4"),
    )
    assert core.balances.of("USDT").locked == d("99.99") + d("39.996")
    assert [one.order.order_id for one in trade(core, "99.99", "2.5")] == [1, 2]


@pytest.mark.parametrize(
    ("quantity", "code", "message"),
    [
        ("1", -2038, "The requested action would change no state; rejecting."),
        ("1.1", -2038, "Order amend (quantity increase) is not supported."),
        ("0.01", -1013, "Filter failure: NOTIONAL"),
        ("0.500001", -1013, "Filter failure: LOT_SIZE"),
    ],
)
def test_an_amendment_that_is_refused_changes_nothing(quantity: str, code: int, message: str) -> None:
    core = matching()
    resting = core.open[core.place(order(BUY, Type.LIMIT, "1", price="99"), 1)[0].order.order_id]
    with pytest.raises(VenueError) as refusal:
        core.amend(resting, d(quantity), "new", 1)
    assert (refusal.value.code, refusal.value.message) == (code, message)
    assert (resting.quantity, resting.client_order_id) == (d("1"), resting.client_order_id)


def test_a_quote_budget_that_the_book_cannot_take_expires_with_its_rest() -> None:
    core = matching()
    by_budget = order(BUY, Type.MARKET, "0", quote_quantity="1000")
    report = core.place(by_budget, 1)[-1]
    assert (report.order.status, report.order.executed) == (Status.EXPIRED, d("3"))
    assert core.balances.of("USDT").free == d("10000") - d("300.02")
