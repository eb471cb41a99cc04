"""Sliding windows at their edges, and what rests against a plain recount."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.orders.machine import Order
from core.risk.activity import ORDER, Activity, dump, fingerprint, load
from core.risk.exposure import ExposureBook, counts
from core.types.clock import NS_PER_MS
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce

INTENT = OrderIntent("acct", "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 100, 6_000, 2, 5, "vz1")
START_NS = 1_000_000 * NS_PER_MS


def test_a_window_forgets_what_is_exactly_as_old_as_it_is_long() -> None:
    activity = Activity()
    for offset_ms in (0, 400, 900):
        activity.order_intended(INTENT, START_NS + offset_ms * NS_PER_MS)
    last_ns = START_NS + 1_000 * NS_PER_MS
    assert activity.count(ORDER, "global", 1_000, last_ns - 1) == 3
    assert activity.count(ORDER, "global", 1_000, last_ns) == 2
    assert activity.count(ORDER, "account:acct", 1_000, last_ns) == 2
    assert activity.count(ORDER, "symbol:BTCUSDT", 101, last_ns) == 1
    assert activity.count(ORDER, "account:other", 1_000, last_ns) == 0


def test_only_the_same_terms_repeat() -> None:
    activity = Activity()
    activity.order_intended(INTENT, START_NS)
    activity.order_intended(msgspec.structs.replace(INTENT, client_order_id="vz2"), START_NS + 1)
    activity.order_intended(msgspec.structs.replace(INTENT, price=6_001), START_NS + 2)
    assert activity.repeats(fingerprint(INTENT), 1, START_NS + 3) == 2


def test_a_snapshot_remembers_the_windows() -> None:
    activity, other = Activity(), Activity()
    activity.order_intended(INTENT, START_NS)
    activity.cancel_requested(INTENT, START_NS + 1)
    load(other, dump(activity))
    assert dump(other) == dump(activity)
    assert other.count(ORDER, "global", 1_000, START_NS + 5) == 1


@st.composite
def orders(draw: st.DrawFn) -> Order:
    kind = draw(st.sampled_from([OrderType.LIMIT, OrderType.MARKET, OrderType.STOP_LIMIT]))
    intent = msgspec.structs.replace(
        INTENT,
        symbol=draw(st.sampled_from(["BTCUSDT", "ETHUSDT"])),
        side=draw(st.sampled_from(Side)),
        order_type=kind,
        price=draw(st.integers(1, 4)) if kind.has_limit_price else None,
        quantity=draw(st.integers(1, 50)),
        client_order_id=draw(st.sampled_from(["vz1", "vz2", "vz3", "vz4"])),
    )
    status = draw(st.sampled_from(OrderStatus))
    filled = draw(st.integers(0, intent.quantity))
    return Order(intent, status, 1, 1, None, None, "1", filled_quantity=filled)


def plain(held: dict[str, Order]) -> dict[str, Any]:
    counted = [order for order in held.values() if counts(order)]
    found: dict[str, Any] = {"open": len(counted)}
    for symbol in ("BTCUSDT", "ETHUSDT"):
        own = [order for order in counted if order.intent.symbol == symbol]
        limits = [o for o in own if o.intent.price is not None and not o.intent.order_type.is_conditional]
        prices = {side: [o.intent.price for o in limits if o.intent.side is side] for side in Side}
        found[symbol] = (
            len(own),
            sum(o.remaining_quantity for o in own if o.intent.side is Side.BUY),
            sum(o.remaining_quantity for o in own if o.intent.side is Side.SELL),
            min(prices[Side.SELL], default=None),
            max(prices[Side.BUY], default=None),
            sum(o.status is OrderStatus.UNKNOWN and o.intent.side is Side.BUY for o in own),
        )
    return found


def seen(book: ExposureBook) -> dict[str, Any]:
    found: dict[str, Any] = {"open": book.open_orders("acct")}
    for symbol in ("BTCUSDT", "ETHUSDT"):
        resting = book.resting("acct", "paper", symbol)
        found[symbol] = (
            resting.orders,
            resting.buy_quantity,
            resting.sell_quantity,
            resting.opposite_price(Side.BUY),
            resting.opposite_price(Side.SELL),
            resting.unknown(Side.BUY),
        )
    return found


@given(st.lists(orders(), max_size=25), st.lists(orders(), max_size=10))
def test_what_rests_is_kept_up_to_date_and_undone(kept: list[Order], undone: list[Order]) -> None:
    book, held = ExposureBook(), dict[str, Order]()
    for order in kept:
        book.order_changed(held.get(order.intent.client_order_id), order)
        held[order.intent.client_order_id] = order
    assert seen(book) == plain(held)
    before, undo = dict(held), []
    for order in undone:
        old = held.get(order.intent.client_order_id)
        book.order_changed(old, order)
        undo.append((old, order))
        held[order.intent.client_order_id] = order
    assert seen(book) == plain(held)
    for old, order in reversed(undo):
        book.order_changed(order, old)
    assert seen(book) == plain(before)
