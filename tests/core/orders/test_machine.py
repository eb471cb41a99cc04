"""The life of an order as a table over every (status, event)."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from core.orders.machine import Amendment, ImpossibleTransitionError, Order, OrderEvent, OverFillError, transition
from core.types.authority import DerivedAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    CancelRequested,
    MarketInputs,
    OrderAccepted,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    PositionSnapshot,
    TriggerReached,
)
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce

S = OrderStatus
INTENT = OrderIntent("acct", "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 100, 6_000, 2, 5, "vz1")
COMMON: dict[str, Any] = {"ts_ns": 9, "client_order_id": "vz1"}


def order(status: OrderStatus, filled: int = 0) -> Order:
    has_venue_id = status not in {S.INTENDED, S.UNKNOWN, S.REJECTED}
    return Order(
        INTENT,
        status,
        1,
        1,
        "sug",
        None,
        "6000",
        venue_order_id="7" if has_venue_id else None,
        filled_quantity=filled,
        trade_ids=(1,) if filled else (),
    )


def fill(quantity: int, status: OrderStatus, trade_id: int = 2) -> OrderFilled:
    return OrderFilled(
        **COMMON,
        account_id="acct",
        venue="paper",
        symbol="BTCUSDT",
        venue_order_id="7",
        trade_id=trade_id,
        side=Side.BUY,
        price=6_000,
        quantity=quantity,
        price_scale=2,
        quantity_scale=5,
        fee="0",
        fee_asset="USDT",
        fee_quote=0,
        is_maker=False,
        venue_ts_ns=9,
        status=status,
        position=PositionSnapshot(0, 0, 0, 0),
    )


ACCEPTED = OrderAccepted(**COMMON, venue_order_id="7")
REJECTED = OrderRejected(**COMMON, refusal=Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no"))
UNKNOWN = OrderBecameUnknown(**COMMON, detail="time-out")
CANCELED = OrderClosed(**COMMON, status=S.CANCELED, reason="")
EXPIRED = OrderClosed(**COMMON, status=S.EXPIRED, reason="")
CANCEL = CancelRequested(**COMMON, requested_by="me")
PART = fill(10, S.PARTIALLY_FILLED)
NO_MARKET = MarketInputs(None, None, None, "NONE", 0, 0)
EVENTS: dict[str, OrderEvent] = {
    "accepted": ACCEPTED,
    "rejected": REJECTED,
    "unknown": UNKNOWN,
    "canceled": CANCELED,
    "expired": EXPIRED,
    "cancel": CANCEL,
    "part": PART,
    "triggered": OrderTriggered(**COMMON, trigger_price=6_000, market=NO_MARKET, checks=()),
    "reached": TriggerReached(**COMMON, trigger_price=6_000),
    "trailed": OrderTrailed(**COMMON, extreme_price=6_100),
    "armed": OrderArmed(**COMMON, quantity=50),
    "amend_requested": OrderAmendRequested(
        **COMMON,
        quantity=90,
        price=None,
        authority=DerivedAuthority("vz0", "amend"),
        rules_version=1,
        market=NO_MARKET,
        checks=(),
    ),
    "amended": OrderAmended(**COMMON, quantity=90, price=6_001),
    "amend_refused": OrderAmendRefused(**COMMON, refusal=Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no")),
}
OPEN = (S.INTENDED, S.UNKNOWN, S.ACCEPTED, S.PARTIALLY_FILLED)
WORKING = (S.ACCEPTED, S.PARTIALLY_FILLED)
POSSIBLE: dict[tuple[OrderStatus, str], OrderStatus] = {
    (S.INTENDED, "accepted"): S.ACCEPTED,
    (S.UNKNOWN, "accepted"): S.ACCEPTED,
    (S.REJECTED, "accepted"): S.ACCEPTED,
    (S.INTENDED, "rejected"): S.REJECTED,
    (S.UNKNOWN, "rejected"): S.REJECTED,
    (S.INTENDED, "unknown"): S.UNKNOWN,
    **{(status, "canceled"): S.CANCELED for status in OPEN},
    **{(status, "expired"): S.EXPIRED for status in OPEN},
    **{(status, "cancel"): status for status in OPEN},
    **{(status, "part"): S.PARTIALLY_FILLED for status in (*OPEN, S.REJECTED)},
    # what only the engine knows of: nothing that a venue says can happen to it
    (S.HELD, "triggered"): S.INTENDED,
    (S.HELD, "canceled"): S.CANCELED,
    (S.HELD, "expired"): S.EXPIRED,
    (S.HELD, "rejected"): S.REJECTED,
    **{(S.HELD, name): S.HELD for name in ("cancel", "reached", "trailed", "armed", "amended")},
    **{(status, name): status for status in WORKING for name in ("amend_requested", "amended")},
    # answers that the user stream has outrun, or that an earlier release recorded so
    **{(status, "amend_refused"): status for status in (S.FILLED, S.CANCELED, S.EXPIRED)},
    **{(status, "accepted"): status for status in (S.ACCEPTED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED)},
}


@pytest.mark.parametrize(("status", "name"), list(itertools.product(OrderStatus, EVENTS)))
def test_every_pair_of_status_and_event_is_decided(status: OrderStatus, name: str) -> None:
    before = order(status, filled={S.FILLED: 100, S.PARTIALLY_FILLED: 20}.get(status, 0))
    event = EVENTS[name]
    if isinstance(event, OrderFilled) and status in {S.CANCELED, S.EXPIRED}:
        # A late fill counts, and doesn't put the order back on the book.
        event = msgspec.structs.replace(event, status=status)
        assert transition(before, event).status is status
        return
    expected = POSSIBLE.get((status, name))
    if expected is None:
        with pytest.raises(ImpossibleTransitionError):
            transition(before, event)
    else:
        assert transition(before, event).status is expected


def test_an_amendment_changes_the_terms_once_the_venue_shows_it() -> None:
    asked = transition(order(S.PARTIALLY_FILLED, 20), EVENTS["amend_requested"])
    assert (asked.intent.quantity, asked.pending_amend) == (100, Amendment(90, None))
    with pytest.raises(ImpossibleTransitionError):
        transition(asked, EVENTS["amend_requested"])
    done = transition(asked, EVENTS["amended"])
    assert (done.intent.quantity, done.intent.price, done.pending_amend) == (90, 6_001, None)
    with pytest.raises(OverFillError):
        transition(done, fill(71, S.FILLED))
    assert transition(done, fill(70, S.FILLED)).status is S.FILLED


@pytest.mark.parametrize("status", [S.ACCEPTED, S.PARTIALLY_FILLED])
def test_a_refused_amendment_leaves_the_order_as_it_was(status: OrderStatus) -> None:
    before = order(status, 20 if status is S.PARTIALLY_FILLED else 0)
    after = transition(transition(before, EVENTS["amend_requested"]), EVENTS["amend_refused"])
    assert after == msgspec.structs.replace(before, updated_ns=9)


@pytest.mark.parametrize("quantity", [0, 19])
def test_nothing_is_amended_to_less_than_is_filled_already(quantity: int) -> None:
    with pytest.raises(ImpossibleTransitionError, match="of which 20 is filled"):
        transition(order(S.PARTIALLY_FILLED, 20), OrderAmended(**COMMON, quantity=quantity, price=None))


def test_fills_that_outran_the_answer_to_an_amendment_have_filled_the_amended_order() -> None:
    asked = transition(order(S.PARTIALLY_FILLED, 20), EVENTS["amend_requested"])
    outrun = transition(asked, fill(70, S.PARTIALLY_FILLED))
    done = transition(outrun, EVENTS["amended"])
    assert (done.status, done.intent.quantity, done.remaining_quantity, done.pending_amend) == (S.FILLED, 90, 0, None)


def test_the_last_fill_leaves_nothing_to_amend_and_a_late_answer_to_it_changes_nothing() -> None:
    asked = transition(order(S.PARTIALLY_FILLED, 20), EVENTS["amend_requested"])
    filled = transition(asked, fill(80, S.FILLED))
    assert filled.pending_amend is None
    assert transition(filled, EVENTS["amend_refused"]) == filled


def test_a_held_child_sends_what_its_parent_has_filled() -> None:
    waiting = msgspec.structs.replace(order(S.HELD), armed_quantity=0, venue_order_id=None)
    with pytest.raises(ImpossibleTransitionError):
        transition(waiting, EVENTS["triggered"])
    sent = transition(transition(waiting, EVENTS["armed"]), EVENTS["triggered"])
    assert (sent.status, sent.intent.quantity) == (S.INTENDED, 50)


@pytest.mark.parametrize(
    ("held", "sent", "price"),
    [
        (OrderType.STOP, OrderType.MARKET, None),
        (OrderType.TAKE_PROFIT, OrderType.MARKET, None),
        (OrderType.TRAILING_STOP, OrderType.MARKET, None),
        (OrderType.STOP_LIMIT, OrderType.LIMIT, 6_000),
        (OrderType.TAKE_PROFIT_LIMIT, OrderType.LIMIT, 6_000),
        (OrderType.LIMIT, OrderType.LIMIT, 6_000),
    ],
)
def test_what_was_held_goes_out_without_its_condition(held: OrderType, sent: OrderType, price: int | None) -> None:
    before = order(S.HELD)
    intent = msgspec.structs.replace(
        before.intent, order_type=held, price=price, stop_price=5_900, trailing_offset_bps=50, activation_price=6_100
    )
    waiting = msgspec.structs.replace(before, intent=intent, venue_order_id=None)
    after = transition(transition(waiting, EVENTS["reached"]), EVENTS["triggered"])
    assert (after.intent.order_type, after.intent.price, after.triggered_ns) == (sent, price, 9)
    if held.is_conditional:
        assert (after.intent.stop_price, after.intent.trailing_offset_bps, after.intent.activation_price) == (None,) * 3


def test_a_trigger_is_reached_once() -> None:
    reached = transition(order(S.HELD), EVENTS["reached"])
    with pytest.raises(ImpossibleTransitionError):
        transition(reached, EVENTS["reached"])


def test_the_last_fill_ends_the_order() -> None:
    after = transition(order(S.PARTIALLY_FILLED, 90), fill(10, S.FILLED))
    assert (after.status, after.filled_quantity, after.remaining_quantity) == (S.FILLED, 100, 0)
    assert after.trade_ids == (1, 2)


@pytest.mark.parametrize(("filled", "quantity"), [(90, 11), (0, 101), (100, 1)])
def test_more_filled_than_ordered_raises(filled: int, quantity: int) -> None:
    status = S.FILLED if filled == 100 else S.PARTIALLY_FILLED
    with pytest.raises(OverFillError, match="exceeds the ordered 100"):
        transition(order(status, filled), fill(quantity, S.FILLED))


def test_one_trade_twice_raises() -> None:
    with pytest.raises(ImpossibleTransitionError, match="twice"):
        transition(order(S.PARTIALLY_FILLED, 10), fill(10, S.PARTIALLY_FILLED, trade_id=1))


def test_a_fill_whose_status_contradicts_its_quantities_raises() -> None:
    with pytest.raises(ImpossibleTransitionError, match="its quantities say"):
        transition(order(S.ACCEPTED), fill(10, S.FILLED))


def test_another_venue_id_for_the_same_order_raises() -> None:
    with pytest.raises(ImpossibleTransitionError, match="the venue named it 7 and now 8"):
        transition(order(S.ACCEPTED), OrderAccepted(**COMMON, venue_order_id="8"))


def test_an_unknown_order_remembers_since_when_until_it_is_resolved() -> None:
    unknown = transition(order(S.INTENDED), UNKNOWN)
    assert unknown.unresolved_since_ns == 9
    assert transition(unknown, ACCEPTED).unresolved_since_ns is None
