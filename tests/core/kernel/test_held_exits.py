"""An exit is never given up for one that can't go: what is at the venue stays there until the one that takes its place
may be sent, for as much as there still is to reduce, and for the balance that it frees."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from core.kernel import decide
from core.kernel.decide_authority import decide_mandate_revoke
from core.kernel.decide_orders import decide_amend, decide_order
from core.kernel.decide_risk import decide_rules
from core.kernel.inputs import Balances
from core.orders.machine import Order
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.events import CancelRequested, FreezeChanged, InstrumentsLoaded, JournalEvent, KillSwitchChanged
from core.types.orders import OrderRequest, OrderRole, OrderStatus, OrderType, Side
from tests.core.approvals import ACCOUNT, BTC
from tests.core.kernel.desk import rules
from tests.core.kernel.test_groups import (
    BRACKET,
    BY,
    ENTRY,
    MID,
    OCO,
    PLAIN,
    QUANTITY,
    STOP,
    World,
    amend,
    asked,
    sent_as,
)

S, R, T = OrderStatus, OrderRole, OrderType
STOPPED = 5_900_000
LOOKS = 4


@pytest.fixture
def world() -> World:
    return World()


def entered(world: World) -> dict[OrderRole, str]:
    """A bracket whose entry is filled and whose take-profit rests at the venue."""
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY)
    world.accept(ids[R.TAKE_PROFIT])
    return ids


def trade(world: World, price: int) -> None:
    """And the looks that follow by themselves."""
    for _ in range(LOOKS):
        world.trade(price)


def resting(world: World, request: OrderRequest) -> str:
    decided = decide_order(world.kernel, request, BY, world.inputs_of(), PLAIN, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)
    order_id = world.sent[-1].client_order_id
    world.accept(order_id)
    return order_id


def only_cancels(world: World) -> None:
    decided = decide.decide_kill_switch(world.kernel, KillSwitch.CANCEL_ONLY, "user", "", None, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)


def smaller_orders_only(world: World) -> None:
    decided = decide_rules(world.kernel, rules(max_quantity_per_order='"0.05"'), None, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)


def freeze(world: World) -> None:
    world.apply([FreezeChanged(ts_ns=world.now_ns, account_id=ACCOUNT, frozen=True, reason="drift")])


def disconnect(world: World) -> None:
    world.inputs = msgspec.structs.replace(world.inputs, venue_connected=False)


def stale(world: World) -> None:
    market = msgspec.structs.replace(world.inputs.market, book_state="STALE")
    world.inputs = msgspec.structs.replace(world.inputs, market=market)


@pytest.mark.parametrize(
    ("forbids", "code"),
    [
        (only_cancels, ReasonCode.RISK_KILL_SWITCH_ACTIVE),
        (smaller_orders_only, ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER),
    ],
)
def test_a_stop_that_risk_forbids_ends_and_leaves_the_take_profit_at_the_venue(
    world: World, forbids: Callable[[World], None], code: ReasonCode
) -> None:
    ids = entered(world)
    forbids(world)
    trade(world, STOPPED)
    stop = world.order(ids[R.STOP])
    assert (stop.status, stop.refusal and stop.refusal.code) == (S.REJECTED, code)
    assert (world.order(ids[R.TAKE_PROFIT]).status, world.cancels) == (S.ACCEPTED, [])


@pytest.mark.parametrize("closes", [freeze, disconnect, stale])
def test_while_nothing_can_be_sent_a_triggered_stop_waits_and_the_take_profit_stays(
    world: World, closes: Callable[[World], None]
) -> None:
    ids = entered(world)
    inputs = world.inputs
    closes(world)
    trade(world, STOPPED)
    assert (world.status(ids)["stop"], world.cancels) == (S.HELD, [])
    world.apply([FreezeChanged(ts_ns=world.now_ns, account_id=ACCOUNT, frozen=False, reason="agrees")])
    world.inputs = inputs
    trade(world, MID)
    assert world.cancels == [ids[R.TAKE_PROFIT]]
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)


def test_a_stop_whose_entry_still_rests_ends_it_also_when_the_stop_itself_is_forbidden(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], 6_000)
    only_cancels(world)
    trade(world, STOPPED)
    assert world.cancels == [ids[R.ENTRY]]


@pytest.mark.parametrize("is_filled", [True, False], ids=["sold by hand", "for sale by hand"])
def test_a_stop_reduces_what_is_left_of_a_position_that_somebody_else_reduces(world: World, is_filled: bool) -> None:
    ids = entered(world)
    other = resting(world, asked(T.LIMIT, Side.SELL, 6_050_000, quantity=4_000))
    if is_filled:
        world.fill(other, 4_000, 6_050_000)
    trade(world, STOPPED)
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY - 4_000, None)


def test_a_held_take_profit_ends_with_a_stop_that_has_left_a_position_reduced_by_hand(world: World) -> None:
    profit = asked(T.TAKE_PROFIT, Side.SELL, stop_price=6_200_000)
    ids = world.ask(msgspec.structs.replace(BRACKET, orders={**BRACKET.orders, R.TAKE_PROFIT: profit}))
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY)
    world.fill(resting(world, asked(T.LIMIT, Side.SELL, MID, quantity=4_000)), 4_000)
    trade(world, STOPPED)
    world.accept(ids[R.STOP])
    world.fill(ids[R.STOP], QUANTITY - 4_000, STOPPED)
    assert world.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == 0
    assert (world.status(ids)["take_profit"], world.kernel.open_orders()) == (S.CANCELED, [])


def test_what_is_left_when_nothing_is_there_to_reduce_is_refused_and_says_so(world: World) -> None:
    ids = entered(world)
    world.fill(resting(world, asked(T.LIMIT, Side.SELL, MID, quantity=QUANTITY)), QUANTITY)
    trade(world, STOPPED)
    stop = world.order(ids[R.STOP])
    assert stop.refusal is not None
    assert (stop.status, stop.refusal.code) == (S.REJECTED, ReasonCode.ORDER_WOULD_INCREASE_POSITION)


def test_a_stop_has_the_balance_of_the_leg_that_it_takes_the_place_of(world: World) -> None:
    has_base(world, "0.1")
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    has_base(world, "0.1")
    world.trade(STOPPED)
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)


def test_what_that_leg_has_filled_is_spent_until_the_venue_was_asked_again(world: World) -> None:
    has_base(world, "0.1")
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    world.fill(ids[R.TAKE_PROFIT], 4_000, 6_200_000)
    has_base(world, "0.06")
    world.trade(STOPPED)
    world.close(ids[R.TAKE_PROFIT])
    assert world.status(ids)["stop"] is S.HELD
    has_base(world, "0.06")
    world.trade(STOPPED)
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY - 4_000, None)


def has_base(world: World, quantity: str) -> None:
    """The venue is asked for the balances now."""
    balances = Balances({"BTC": Decimal(quantity), "USDT": Decimal(0)}, world.now_ns)
    world.inputs = msgspec.structs.replace(world.inputs, balances=balances)


def amended_entry(world: World, usdt: str) -> Order:
    """A resting BUY of 6000 USDT, at a venue that can't change prices, amended to 5990: the order in its place."""
    world.inputs = msgspec.structs.replace(world.inputs, balances=Balances({"USDT": Decimal(usdt)}, world.now_ns))
    old_id = resting(world, ENTRY)
    assert amend(world, old_id, None, 5_990_000) is None
    world.close(old_id)
    (new,) = (order for order in world.kernel.orders.values() if order.replaces == old_id)
    return new


def test_an_amended_order_has_the_balance_of_the_one_that_it_replaces(world: World) -> None:
    assert amended_entry(world, "6100").status is S.INTENDED


def test_an_amended_order_that_only_time_keeps_back_waits_and_is_not_lost(world: World) -> None:
    old_id = resting(world, ENTRY)
    assert amend(world, old_id, None, 5_990_000) is None
    inputs = world.inputs
    stale(world)
    world.close(old_id)
    (new,) = world.kernel.open_orders()
    assert (new.status, new.replaces) == (S.HELD, old_id)
    world.inputs = inputs
    world.look(new.intent.client_order_id)
    assert sent_as(world) == (T.LIMIT, Side.BUY, QUANTITY, 5_990_000)


def test_an_order_that_is_over_keeps_no_place_among_the_open_ones_for_what_follows_it(world: World) -> None:
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    decided = decide_rules(world.kernel, rules(max_open_orders="1"), None, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)
    world.close(ids[R.TAKE_PROFIT], S.EXPIRED)
    other = resting(world, asked(T.LIMIT, Side.SELL, 6_050_000))
    trade(world, STOPPED)
    assert world.status(ids)["stop"] is S.HELD
    world.close(other)
    trade(world, STOPPED)
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)


def revoke(world: World) -> None:
    decided = decide_mandate_revoke(world.kernel, BY.mandate_id, "user", "stopped", world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)


def expire(world: World) -> None:
    world.now_ns = world.kernel.mandates[BY.mandate_id].expires_ns


@pytest.mark.parametrize("ends", [revoke, expire])
def test_exits_of_a_mandate_that_ended_still_protect(world: World, ends: Callable[[World], None]) -> None:
    ids = entered(world)
    ends(world)
    trade(world, STOPPED)
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)


@pytest.mark.parametrize(
    ("ends", "position", "status"),
    [
        (None, 0, S.INTENDED),
        (revoke, 0, S.REJECTED),
        (expire, 0, S.REJECTED),
        (revoke, QUANTITY - 1, S.REJECTED),
        (revoke, QUANTITY, S.INTENDED),
    ],
)
def test_a_mandate_that_ended_opens_nothing_with_what_it_had_held(
    world: World, ends: Callable[[World], None] | None, position: int, status: OrderStatus
) -> None:
    if position:
        world.fill(resting(world, msgspec.structs.replace(ENTRY, quantity=position)), position)
    decided = decide_order(
        world.kernel, msgspec.structs.replace(STOP, request_id="s"), BY, world.inputs_of(), PLAIN, world.now_ns
    )
    assert not isinstance(decided, Refusal)
    world.apply(decided)
    (held,) = world.kernel.open_orders()
    if ends is not None:
        ends(world)
    trade(world, STOPPED)
    order = world.order(held.intent.client_order_id)
    assert order.status is status
    assert order.refusal is None or order.refusal.code is ReasonCode.AUTHORITY_MANDATE_REVOKED


def test_the_replacement_of_an_order_whose_mandate_ended_is_not_sent(world: World) -> None:
    old_id = resting(world, ENTRY)
    assert amend(world, old_id, None, 5_990_000) is None
    revoke(world)
    world.close(old_id)
    assert (len(world.sent), world.kernel.open_orders()) == (1, [])


@pytest.mark.parametrize("closes", [freeze, disconnect, stale])
def test_a_stop_with_nothing_in_its_way_waits_while_nothing_can_be_sent(
    world: World, closes: Callable[[World], None]
) -> None:
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    world.close(ids[R.TAKE_PROFIT], S.EXPIRED)
    closes(world)
    trade(world, STOPPED)
    assert world.status(ids)["stop"] is S.HELD


def test_what_a_fee_leaves_is_sold_in_whole_lots(world: World) -> None:
    lots_of_ten = msgspec.structs.replace(BTC, lot_size=10, version=2)
    world.apply([InstrumentsLoaded(ts_ns=world.now_ns, instruments=(lots_of_ten,))])
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY, fee="0.00001")
    assert world.order(ids[R.STOP]).armed_quantity == QUANTITY - 10
    assert sent_as(world) == (T.LIMIT, Side.SELL, QUANTITY - 10, 6_200_000)


@pytest.mark.parametrize(
    "event",
    [
        lambda world, order_id: CancelRequested(ts_ns=world.now_ns, client_order_id=order_id, requested_by="user"),
        lambda world, _: KillSwitchChanged(ts_ns=world.now_ns, state="HALTED", requested_by="user", reason=""),
        lambda world, _: KillSwitchChanged(
            ts_ns=world.now_ns, state="HALTED", requested_by="user", reason="", account_id=ACCOUNT
        ),
    ],
    ids=["cancelled", "halted", "its account halted"],
)
def test_what_ended_while_its_trigger_was_on_its_way_to_a_disk_that_failed_is_never_sent(
    world: World, event: Callable[[World, str], JournalEvent]
) -> None:
    """The cancel was decided of an order at the venue. Its trigger is undone, so it is held again, and has to end."""
    decided = decide_order(world.kernel, STOP, BY, world.inputs_of(), PLAIN, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)
    (order_id,) = world.kernel.orders
    world.apply([event(world, order_id)])
    trade(world, STOPPED)
    assert world.order(order_id).status is S.CANCELED
    assert world.sent == []


def used(world: World) -> str:
    return world.kernel.mandates[BY.mandate_id].notional_used_quote


def test_a_held_order_counts_as_asked_for_when_it_leaves(world: World) -> None:
    ids = entered(world)
    before = world.kernel.activity.count("order", "global", 1_000, world.now_ns)
    trade(world, STOPPED)
    world.close(ids[R.TAKE_PROFIT])
    assert world.kernel.activity.count("order", "global", 1_000, world.now_ns) == before + 1


@pytest.mark.parametrize(("price", "in_place", "total"), [
    (5_990_000, False, "6000"), (6_010_000, False, "6010"), (5_990_000, True, "6000"), (6_010_000, True, "6010"),
])  # fmt: skip
def test_an_amendment_takes_of_the_mandates_allowance_what_it_adds(
    world: World, price: int, in_place: bool, total: str
) -> None:
    order_id = resting(world, ENTRY)
    able = msgspec.structs.replace(PLAIN, can_amend_price=in_place)
    decided = decide_amend(world.kernel, order_id, None, price, BY, world.inputs_of(), able, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)
    assert Decimal(used(world)) == Decimal(total)
