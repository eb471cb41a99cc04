"""Orders that depend on each other. Of those that take each other's place one at most is at the venue; children act for
what their entry has filled; a trigger stays reached; all of it is journaled state."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.kernel import decide
from core.kernel.decide import FillReport
from core.kernel.decide_groups import decide_group
from core.kernel.decide_held import review
from core.kernel.decide_orders import decide_amend, decide_order
from core.kernel.effects import CancelOrder, Effect, ReviewGroup, SubmitOrder
from core.kernel.inputs import Balances, DecisionInputs
from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.risk.kill_switch import KillSwitch
from core.types.authority import DerivedAuthority, Mandate, MandateAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import JournalEvent, MandateInstalled, decode_event, encode_event
from core.types.money import decimal_text, from_scaled
from core.types.orders import (
    GroupKind,
    GroupRequest,
    OrderIntent,
    OrderRequest,
    OrderRole,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from core.types.venues import VenueCapabilities
from tests.core.approvals import (
    ACCOUNT,
    ENGINE_ID,
    ENVIRONMENT,
    LIVE_INPUTS,
    LIVE_MARKET,
    NOW_NS,
    RULES,
    started_kernel,
)
from tests.core.kernel.desk import rules

S, R, T = OrderStatus, OrderRole, OrderType
MID = 6_000_000
QUANTITY = 10_000
PLAIN = VenueCapabilities(
    order_types=frozenset({T.LIMIT, T.MARKET}),
    times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
    can_amend_quantity=True,
)
MANDATE = Mandate(
    "veloz.mandate/1", "mandate-1", ENGINE_ID, ENVIRONMENT, "PAPER", ACCOUNT, "trend", "ab" * 32, "cd" * 32, "paper",
    ("BTCUSDT",), "1000000", "1000000", "100000000", "100", "0", str(NOW_NS * 2), "user-trader",
)  # fmt: skip
BY = MandateAuthority("mandate-1", "trend")


def asked(order_type: OrderType, side: Side, price: int | None = None, **changes: Any) -> OrderRequest:
    terms: dict[str, Any] = {"quantity": QUANTITY, "strategy_id": "trend", "price": price, **changes}
    return OrderRequest(
        request_id="r", account_id=ACCOUNT, venue="paper", symbol="BTCUSDT", side=side, order_type=order_type,
        time_in_force=TimeInForce.GTC, **terms,
    )  # fmt: skip


ENTRY = asked(T.LIMIT, Side.BUY, MID)
PROFIT = asked(T.LIMIT, Side.SELL, 6_200_000)
STOP = asked(T.STOP, Side.SELL, stop_price=5_900_000)
BRACKET = GroupRequest("b", GroupKind.BRACKET, {R.ENTRY: ENTRY, R.TAKE_PROFIT: PROFIT, R.STOP: STOP})
OCO = GroupRequest("o", GroupKind.OCO, {R.TAKE_PROFIT: PROFIT, R.STOP: STOP})


class World:
    """A kernel with the shell's part played by hand: reviews run until nothing follows, a test speaks for the venue."""

    def __init__(self, rules: str = RULES) -> None:
        self.kernel = started_kernel(rules=rules)
        self.kernel.apply(MandateInstalled(ts_ns=NOW_NS, mandate=MANDATE, digest_hex="00", signatures=()))
        self.journal: list[bytes] = []
        self.sent: list[OrderIntent] = []
        self.cancels: list[str] = []
        self.last = MID
        self.now_ns = NOW_NS
        self.inputs = LIVE_INPUTS
        self._trade_id = 0

    def inputs_of(self, _intent: OrderIntent | None = None) -> DecisionInputs:
        last = decimal_text(from_scaled(self.last, 2))
        half = Decimal("0.5")
        market = msgspec.structs.replace(
            self.inputs.market,
            last_price=last,
            mid_price=last,
            bid_price=decimal_text(Decimal(last) - half),
            ask_price=decimal_text(Decimal(last) + half),
        )
        return msgspec.structs.replace(
            self.inputs, market=market, marks={("paper", "BTCUSDT"): self.last}, worst_price=Decimal(last),
            depth_quantity=Decimal(100),
        )  # fmt: skip

    def apply(self, events: Iterable[JournalEvent]) -> None:
        """And everything that follows by itself."""
        effects: list[Effect] = []
        for event in events:
            self.now_ns += 1
            self.journal.append(encode_event(event))
            effects.extend(self.kernel.apply(event))
        self._perform(effects)

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case SubmitOrder():
                    self.sent.append(effect.intent)
                case CancelOrder():
                    self.cancels.append(effect.client_order_id)
                case ReviewGroup():
                    self.look(effect.client_order_id)

    def look(self, order_id: str) -> None:
        self.apply(review(self.kernel, order_id, self.inputs_of, self.now_ns))

    def ask(self, group: GroupRequest, capabilities: VenueCapabilities = PLAIN) -> dict[OrderRole, str]:
        decided = decide_group(self.kernel, group, BY, self.inputs_of(), capabilities, self.now_ns)
        assert not isinstance(decided, Refusal), decided
        self.apply(decided)
        return {OrderRole(o.role): o.intent.client_order_id for o in self.kernel.orders.values() if o.role is not None}

    def order(self, order_id: str) -> Order:
        return self.kernel.orders[order_id]

    def accept(self, *order_ids: str) -> None:
        for order_id in order_ids:
            self.apply(decide.decide_accepted(self.kernel, order_id, f"v{order_id}", self.now_ns))

    def fill(self, order_id: str, quantity: int, price: int = MID, fee: str = "0") -> None:
        self._trade_id += 1
        report = FillReport(
            order_id, f"v{order_id}", self._trade_id, price, quantity, Decimal(fee), "BTC", True, self.now_ns
        )
        self.apply(decide.decide_fill(self.kernel, report, self.now_ns))

    def close(self, order_id: str, status: OrderStatus = S.CANCELED) -> None:
        self.apply(decide.decide_closed(self.kernel, order_id, status, "the venue says so", self.now_ns))

    def reject(self, order_id: str) -> None:
        refusal = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no")
        self.apply(decide.decide_rejected(self.kernel, order_id, refusal, self.now_ns))

    def lose_answer(self, order_id: str) -> None:
        self.apply(decide.decide_unknown(self.kernel, order_id, "no answer", self.now_ns))

    def cancel(self, order_id: str) -> None:
        events = decide.decide_cancel(self.kernel, order_id, "user-trader", None, self.now_ns)
        assert not isinstance(events, Refusal)
        self.apply(events)

    def trade(self, price: int) -> None:
        self.last = price
        for order_id in tuple(self.kernel.index.dependent):
            self.look(order_id)

    def status(self, ids: dict[OrderRole, str]) -> dict[str, OrderStatus]:
        return {role: self.order(order_id).status for role, order_id in ids.items()}


@pytest.fixture
def world() -> World:
    return World()


def sent_as(world: World, position: int = -1) -> tuple[OrderType, Side, int, int | None]:
    intent = world.sent[position]
    return intent.order_type, intent.side, intent.quantity, intent.price


def test_a_bracket_sends_its_entry_and_holds_its_exits_under_derived_authority(world: World) -> None:
    ids = world.ask(BRACKET)
    assert sent_as(world) == (T.LIMIT, Side.BUY, QUANTITY, MID)
    assert world.status(ids) == {R.ENTRY: S.INTENDED, R.TAKE_PROFIT: S.HELD, R.STOP: S.HELD}
    assert world.order(ids[R.ENTRY]).authority == BY
    assert world.order(ids[R.STOP]).authority == DerivedAuthority(ids[R.ENTRY], "bracket.stop")
    assert world.order(ids[R.STOP]).intent.reduce_only
    assert len({world.order(order_id).group_id for order_id in ids.values()}) == 1


def test_exits_wait_for_the_entry_and_the_take_profit_rests_once_it_is_filled(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.trade(5_800_000)
    assert len(world.sent) == 1
    world.trade(MID)
    world.fill(ids[R.ENTRY], QUANTITY)
    assert sent_as(world) == (T.LIMIT, Side.SELL, QUANTITY, 6_200_000)
    assert world.order(ids[R.STOP]).status is S.HELD


def test_a_stop_makes_room_for_itself_and_goes_for_the_rest_only(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY)
    world.accept(ids[R.TAKE_PROFIT])
    world.fill(ids[R.TAKE_PROFIT], 4_000, 6_200_000)
    world.trade(5_900_000)
    assert world.cancels == [ids[R.TAKE_PROFIT]]
    assert len(world.sent) == 2, "nothing goes out while the other is at the venue"
    world.trade(6_100_000)
    world.fill(ids[R.TAKE_PROFIT], 1_000, 6_200_000)
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, 5_000, None), "reached is reached, though the price came back"
    world.fill(ids[R.STOP], 5_000, 6_100_000)
    assert world.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == 0
    assert not world.kernel.open_orders()


def test_a_take_profit_that_fills_ends_the_stop(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY)
    world.accept(ids[R.TAKE_PROFIT])
    world.fill(ids[R.TAKE_PROFIT], QUANTITY, 6_200_000)
    assert world.status(ids) == {R.ENTRY: S.FILLED, R.TAKE_PROFIT: S.FILLED, R.STOP: S.CANCELED}


def test_a_stop_protects_what_is_filled_while_the_entry_still_rests(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], 3_000)
    assert world.order(ids[R.STOP]).armed_quantity == 3_000
    world.trade(5_890_000)
    assert world.cancels == [ids[R.ENTRY]]
    world.fill(ids[R.ENTRY], 500)
    world.close(ids[R.ENTRY])
    assert sent_as(world) == (T.MARKET, Side.SELL, 3_500, None)


def test_a_touched_take_profit_ends_an_entry_that_still_rests(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], 3_000)
    world.trade(6_200_000)
    assert world.cancels == [ids[R.ENTRY]]
    world.close(ids[R.ENTRY])
    assert sent_as(world) == (T.LIMIT, Side.SELL, 3_000, 6_200_000)
    assert world.order(ids[R.STOP]).status is S.HELD


@pytest.mark.parametrize("how", ["rejected", "cancelled", "expired"])
def test_an_entry_that_ends_without_a_fill_ends_its_exits(world: World, how: str) -> None:
    ids = world.ask(BRACKET)
    if how == "rejected":
        world.reject(ids[R.ENTRY])
    else:
        world.accept(ids[R.ENTRY])
        world.close(ids[R.ENTRY], S.CANCELED if how == "cancelled" else S.EXPIRED)
    assert not world.kernel.open_orders()
    assert len(world.sent) == 1


def test_a_fee_in_what_was_bought_is_not_sold(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY, fee="0.0001234")
    assert sent_as(world) == (T.LIMIT, Side.SELL, QUANTITY - 13, 6_200_000)


def test_a_take_profit_too_far_away_for_the_collar_waits_here_until_the_price_is_near(world: World) -> None:
    ids = world.ask(
        msgspec.structs.replace(BRACKET, orders={**BRACKET.orders, R.TAKE_PROFIT: asked(T.LIMIT, Side.SELL, 9_000_000)})
    )
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY)
    assert len(world.sent) == 1
    assert world.order(ids[R.TAKE_PROFIT]).status is S.HELD
    world.trade(9_000_000)
    assert sent_as(world) == (T.LIMIT, Side.SELL, QUANTITY, 9_000_000)


def test_an_oco_rests_one_leg_and_holds_the_other(world: World) -> None:
    ids = world.ask(OCO)
    assert sent_as(world) == (T.LIMIT, Side.SELL, QUANTITY, 6_200_000)
    world.accept(ids[R.TAKE_PROFIT])
    world.fill(ids[R.TAKE_PROFIT], 2_500, 6_200_000)
    assert world.order(ids[R.STOP]).armed_quantity == 7_500
    world.trade(5_900_000)
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, 7_500, None)


@pytest.mark.parametrize("role", [R.TAKE_PROFIT, R.STOP])
def test_cancelling_one_leg_cancels_the_other(world: World, role: OrderRole) -> None:
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    world.cancel(ids[role])
    world.close(ids[R.TAKE_PROFIT])
    assert world.cancels == [ids[R.TAKE_PROFIT]]
    assert world.status(ids) == {R.TAKE_PROFIT: S.CANCELED, R.STOP: S.CANCELED}
    world.trade(5_000_000)
    assert len(world.sent) == 1


def test_a_leg_that_the_venue_ends_by_itself_leaves_the_stop_in_place(world: World) -> None:
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    world.close(ids[R.TAKE_PROFIT], S.EXPIRED)
    assert world.order(ids[R.STOP]).status is S.HELD
    world.trade(5_899_000)
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)


def test_an_unanswered_leg_is_never_overtaken(world: World) -> None:
    ids = world.ask(OCO)
    world.lose_answer(ids[R.TAKE_PROFIT])
    world.trade(5_800_000)
    assert (world.cancels, len(world.sent)) == ([ids[R.TAKE_PROFIT]], 1)
    world.reject(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)


def test_of_two_conditional_legs_the_first_that_is_reached_goes_and_the_other_ends_with_it(
    world: World,
) -> None:
    legs = {R.TAKE_PROFIT: asked(T.TAKE_PROFIT, Side.SELL, stop_price=6_200_000), R.STOP: STOP}
    ids = world.ask(GroupRequest("o2", GroupKind.OCO, legs))
    assert world.sent == []
    world.trade(6_200_000)
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)
    world.trade(5_900_000)
    assert (len(world.sent), world.cancels) == (1, []), "what was triggered is left to end"
    world.fill(ids[R.TAKE_PROFIT], QUANTITY, 6_200_000)
    assert world.order(ids[R.STOP]).status is S.CANCELED


def test_a_triggered_leg_that_the_venue_rejects_leaves_the_other(world: World) -> None:
    legs = {R.TAKE_PROFIT: asked(T.TAKE_PROFIT, Side.SELL, stop_price=6_200_000), R.STOP: STOP}
    ids = world.ask(GroupRequest("o2", GroupKind.OCO, legs))
    world.trade(6_200_000)
    world.reject(ids[R.TAKE_PROFIT])
    world.trade(5_900_000)
    assert len(world.sent) == 2
    assert world.sent[-1].client_order_id == ids[R.STOP]


TRIGGERS = [
    # side, type, level, a price that leaves it, one that fires it, what is sent
    (Side.BUY, T.STOP, 6_100_000, 6_099_999, 6_100_000, T.MARKET),
    (Side.SELL, T.STOP, 5_900_000, 5_900_001, 5_900_000, T.MARKET),
    (Side.BUY, T.STOP_LIMIT, 6_100_000, 6_099_999, 6_100_001, T.LIMIT),
    (Side.SELL, T.STOP_LIMIT, 5_900_000, 5_900_001, 5_899_999, T.LIMIT),
    (Side.BUY, T.TAKE_PROFIT, 5_900_000, 5_900_001, 5_900_000, T.MARKET),
    (Side.SELL, T.TAKE_PROFIT, 6_100_000, 6_099_999, 6_100_000, T.MARKET),
    (Side.BUY, T.TAKE_PROFIT_LIMIT, 5_900_000, 5_900_001, 5_899_999, T.LIMIT),
    (Side.SELL, T.TAKE_PROFIT_LIMIT, 6_100_000, 6_099_999, 6_100_001, T.LIMIT),
]


@pytest.mark.parametrize(("side", "kind", "level", "before", "at", "sent"), TRIGGERS)
def test_a_condition_that_the_venue_lacks_is_watched_here(
    world: World, side: Side, kind: OrderType, level: int, before: int, at: int, sent: OrderType
) -> None:
    price = level if kind.has_limit_price else None
    decided = decide_order(
        world.kernel, asked(kind, side, price, stop_price=level), BY, world.inputs_of(), PLAIN, world.now_ns
    )
    assert not isinstance(decided, Refusal), decided
    world.apply(decided)
    (order,) = world.kernel.open_orders()
    assert order.status is S.HELD
    world.trade(before)
    assert world.sent == []
    world.trade(at)
    assert sent_as(world) == (sent, side, QUANTITY, price)


@pytest.mark.parametrize(
    ("side", "activation", "prices", "fires_at"),
    [
        (Side.SELL, None, [MID, 6_100_000, 6_040_000, 6_039_000], 3),  # 1 % below 6,100,000 is 6,039,000
        (Side.SELL, None, [MID, 5_940_001, 5_940_000], 2),
        (Side.SELL, 6_100_000, [6_090_000, 5_000_000, 6_100_000, 6_039_001, 6_039_000], 4),
        (Side.BUY, None, [MID, 5_900_000, 5_958_999, 5_959_000], 3),
        (Side.BUY, 5_900_000, [5_950_000, 7_000_000, 5_900_000, 5_959_000], 3),
    ],
)
def test_a_trailing_stop_follows_the_best_price_since_it_is_active(
    world: World, side: Side, activation: int | None, prices: list[int], fires_at: int
) -> None:
    world.inputs = msgspec.structs.replace(LIVE_INPUTS, market=LIVE_MARKET)
    request = asked(T.TRAILING_STOP, side, trailing_offset_bps=100, activation_price=activation)
    decided = decide_order(world.kernel, request, BY, world.inputs_of(), PLAIN, world.now_ns)
    assert not isinstance(decided, Refusal), decided
    world.apply(decided)
    for number, price in enumerate(prices):
        assert len(world.sent) == 0, f"fired before step {number}"
        world.trade(price)
    assert len(prices) == fires_at + 1
    assert sent_as(world) == (T.MARKET, side, QUANTITY, None)


def test_what_only_time_mends_is_tried_again_and_the_rest_ends_the_order(world: World) -> None:
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    world.close(ids[R.TAKE_PROFIT], S.EXPIRED)
    world.inputs = msgspec.structs.replace(world.inputs, venue_connected=False)
    world.trade(5_900_000)
    assert world.order(ids[R.STOP]).status is S.HELD
    world.inputs = msgspec.structs.replace(world.inputs, balances=Balances({"BTC": Decimal(0)}, world.now_ns))
    world.inputs = msgspec.structs.replace(world.inputs, venue_connected=True)
    world.trade(6_000_000)
    assert world.order(ids[R.STOP]).status is S.HELD
    switched = decide.decide_kill_switch(world.kernel, KillSwitch.CANCEL_ONLY, "user", "", None, world.now_ns)
    assert not isinstance(switched, Refusal)
    world.apply(switched)
    world.trade(6_000_000)
    order = world.order(ids[R.STOP])
    assert order.status is S.REJECTED
    assert order.refusal is not None
    assert order.refusal.code is ReasonCode.RISK_KILL_SWITCH_ACTIVE


def test_a_halt_ends_what_is_held(world: World) -> None:
    ids = world.ask(OCO)
    world.accept(ids[R.TAKE_PROFIT])
    events = decide.decide_kill_switch(world.kernel, KillSwitch.HALTED, "user", "", None, world.now_ns)
    assert not isinstance(events, Refusal)
    world.apply(events)
    world.close(ids[R.TAKE_PROFIT])
    world.trade(5_000_000)
    assert not world.kernel.open_orders()
    assert len(world.sent) == 1


def amend(world: World, order_id: str, quantity: int | None, price: int | None) -> Refusal | None:
    decided = decide_amend(world.kernel, order_id, quantity, price, BY, world.inputs_of(), PLAIN, world.now_ns)
    if isinstance(decided, Refusal):
        return decided
    world.apply(decided)
    return None


def test_a_price_that_cant_be_changed_in_place_is_changed_by_a_replacement_for_the_rest(world: World) -> None:
    decided = decide_order(world.kernel, ENTRY, BY, world.inputs_of(), PLAIN, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)
    old_id = world.sent[0].client_order_id
    world.accept(old_id)
    assert amend(world, old_id, None, 5_990_000) is None
    assert (world.cancels, len(world.sent)) == ([old_id], 1)
    again = amend(world, old_id, None, 5_980_000)
    assert again is not None
    assert again.code is ReasonCode.ORDER_AMEND_PENDING
    world.fill(old_id, 4_000)
    world.close(old_id)
    assert sent_as(world) == (T.LIMIT, Side.BUY, 6_000, 5_990_000)
    (new,) = world.kernel.open_orders()
    assert (new.replaces, new.authority) == (old_id, BY)


def test_a_replacement_ends_when_the_first_was_filled_after_all(world: World) -> None:
    decided = decide_order(world.kernel, ENTRY, BY, world.inputs_of(), PLAIN, world.now_ns)
    assert not isinstance(decided, Refusal)
    world.apply(decided)
    old_id = world.sent[0].client_order_id
    world.accept(old_id)
    assert amend(world, old_id, None, 5_990_000) is None
    world.fill(old_id, QUANTITY)
    assert len(world.sent) == 1
    assert not world.kernel.open_orders()


def test_an_amended_take_profit_keeps_its_stop_and_an_amended_entry_its_exits(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    assert amend(world, ids[R.ENTRY], None, 5_990_000) is None
    world.fill(ids[R.ENTRY], 4_000)
    world.close(ids[R.ENTRY])
    entry = world.sent[-1].client_order_id
    assert (sent_as(world), world.order(ids[R.STOP]).armed_quantity) == ((T.LIMIT, Side.BUY, 6_000, 5_990_000), 4_000)
    world.accept(entry)
    world.fill(entry, 6_000, 5_990_000)
    assert sent_as(world) == (T.LIMIT, Side.SELL, QUANTITY, 6_200_000)
    world.accept(ids[R.TAKE_PROFIT])
    assert amend(world, ids[R.TAKE_PROFIT], None, 6_150_000) is None
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.LIMIT, Side.SELL, QUANTITY, 6_150_000)
    assert world.order(ids[R.STOP]).status is S.HELD
    profit = world.sent[-1].client_order_id
    world.accept(profit)
    world.trade(5_900_000)
    assert world.cancels[-1] == profit
    world.close(profit)
    assert sent_as(world) == (T.MARKET, Side.SELL, QUANTITY, None)


MORE = 12_000


def enlarge(world: World, order_id: str, how: str) -> None:
    """The entry to MORE: by a replacement, in place, or at the venue by somebody else."""
    if how == "at the venue":
        world.apply(decide.decide_amended(world.kernel, order_id, MORE, None, world.now_ns))
        return
    able = msgspec.structs.replace(PLAIN, can_amend_price=how == "in place")
    decided = decide_amend(world.kernel, order_id, MORE, None, BY, world.inputs_of(), able, world.now_ns)
    assert not isinstance(decided, Refusal), decided
    world.apply(decided)
    if how == "in place":
        world.apply(decide.decide_amended(world.kernel, order_id, MORE, None, world.now_ns))


@pytest.mark.parametrize("how", ["by a replacement", "in place", "at the venue"])
def test_the_exits_of_an_enlarged_entry_leave_all_that_it_filled_and_no_more(world: World, how: str) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    enlarge(world, ids[R.ENTRY], how)
    world.fill(ids[R.ENTRY], 4_000)
    assert [world.order(ids[role]).active_quantity for role in (R.TAKE_PROFIT, R.STOP)] == [4_000, 4_000]
    entry = ids[R.ENTRY]
    if how == "by a replacement":
        world.close(entry)
        entry = world.sent[-1].client_order_id
        world.accept(entry)
    world.fill(entry, MORE - 4_000)
    assert sent_as(world) == (T.LIMIT, Side.SELL, MORE, 6_200_000)
    world.accept(ids[R.TAKE_PROFIT])
    world.fill(ids[R.TAKE_PROFIT], 5_000, 6_200_000)
    world.trade(5_900_000)
    world.close(ids[R.TAKE_PROFIT])
    assert sent_as(world) == (T.MARKET, Side.SELL, MORE - 5_000, None)
    world.fill(ids[R.STOP], MORE - 5_000, 5_900_000)
    assert world.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == 0
    assert not world.kernel.open_orders()


def test_the_exits_of_an_entry_that_was_made_smaller_leave_what_it_filled(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    assert amend(world, ids[R.ENTRY], 7_000, MID - 100) is None
    world.fill(ids[R.ENTRY], 4_000)
    world.close(ids[R.ENTRY])
    entry = world.sent[-1].client_order_id
    world.accept(entry)
    world.fill(entry, 3_000)
    assert sent_as(world) == (T.LIMIT, Side.SELL, 7_000, 6_200_000)
    assert world.order(ids[R.STOP]).active_quantity == 7_000


@pytest.mark.parametrize("can_amend_price", [False, True])
@pytest.mark.parametrize(
    ("quantity", "code"), [(MORE, None), (MORE + 1, ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER)]
)
def test_an_entry_isnt_enlarged_beyond_what_its_exits_may_be(
    quantity: int, code: ReasonCode | None, can_amend_price: bool
) -> None:
    """They go for all that it fills, at prices of their own: 0.12 at 62,000 is 7,440."""
    world = World(rules(max_notional_per_order_quote='"7440"'))
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], 4_000)
    able = msgspec.structs.replace(PLAIN, can_amend_price=can_amend_price)
    decided = decide_amend(world.kernel, ids[R.ENTRY], quantity, None, BY, world.inputs_of(), able, world.now_ns)
    assert (decided.code if isinstance(decided, Refusal) else None) is code


def test_an_exit_cant_be_made_larger_than_what_was_entered(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY)
    world.accept(ids[R.TAKE_PROFIT])
    refusal = amend(world, ids[R.TAKE_PROFIT], QUANTITY + 1, None)
    assert refusal is not None
    assert refusal.code is ReasonCode.ORDER_AMEND_INVALID
    assert amend(world, ids[R.TAKE_PROFIT], QUANTITY - 1, None) is None


SHAPES: list[tuple[str, GroupKind, dict[OrderRole, OrderRequest], str]] = [
    ("no exit", GroupKind.BRACKET, {R.ENTRY: ENTRY}, "has an entry and"),
    ("no entry", GroupKind.BRACKET, {R.TAKE_PROFIT: PROFIT, R.STOP: STOP}, "has an entry and"),
    ("an entry", GroupKind.OCO, {R.ENTRY: ENTRY, R.STOP: STOP}, "an OCO has"),
    ("one leg", GroupKind.OCO, {R.STOP: STOP}, "an OCO has"),
    ("another quantity", GroupKind.OCO, {R.TAKE_PROFIT: PROFIT, R.STOP: msgspec.structs.replace(STOP, quantity=1)},
     "must be the same"),
    ("another symbol", GroupKind.OCO, {R.TAKE_PROFIT: PROFIT, R.STOP: msgspec.structs.replace(STOP, symbol="ETHUSDT")},
     "must be the same"),
    ("both sides", GroupKind.OCO, {R.TAKE_PROFIT: PROFIT, R.STOP: msgspec.structs.replace(STOP, side=Side.BUY)},
     "on one side"),
    ("the entry's side", GroupKind.BRACKET, {R.ENTRY: ENTRY, R.STOP: msgspec.structs.replace(STOP, side=Side.BUY)},
     "opposite"),
    ("a stop as profit", GroupKind.OCO, {R.TAKE_PROFIT: STOP, R.STOP: STOP}, "can't be its take_profit"),
    ("a limit as stop", GroupKind.OCO, {R.TAKE_PROFIT: PROFIT, R.STOP: PROFIT}, "can't be its stop"),
    ("a profit below the entry", GroupKind.BRACKET,
     {R.ENTRY: ENTRY, R.TAKE_PROFIT: asked(T.LIMIT, Side.SELL, 5_990_000)}, "winning side"),
    ("a stop above the entry", GroupKind.BRACKET,
     {R.ENTRY: ENTRY, R.STOP: asked(T.STOP, Side.SELL, stop_price=6_000_001)}, "winning side"),
    ("legs the wrong way round", GroupKind.OCO,
     {R.TAKE_PROFIT: asked(T.LIMIT, Side.SELL, 5_800_000), R.STOP: STOP}, "winning side"),
    ("an exit that ends by itself", GroupKind.OCO,
     {R.TAKE_PROFIT: msgspec.structs.replace(PROFIT, time_in_force=TimeInForce.IOC), R.STOP: STOP}, "must be GTC"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "orders", "problem"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_what_makes_no_sense_together_is_refused_whole(
    world: World, kind: GroupKind, orders: dict[OrderRole, OrderRequest], problem: str
) -> None:
    group = GroupRequest("g", kind, orders)
    refusal = decide_group(world.kernel, group, BY, world.inputs_of(), PLAIN, world.now_ns)
    assert isinstance(refusal, Refusal)
    assert refusal.code is ReasonCode.ORDER_GROUP_INVALID
    assert problem in refusal.message


def test_a_childs_terms_are_held_to_the_instruments_rules_before_anything_is_sent(world: World) -> None:
    far = asked(T.LIMIT, Side.SELL, 200_000_000_000)
    group = msgspec.structs.replace(BRACKET, orders={**BRACKET.orders, R.TAKE_PROFIT: far})
    refusal = decide_group(world.kernel, group, BY, world.inputs_of(), PLAIN, world.now_ns)
    assert isinstance(refusal, Refusal)
    assert refusal.code is ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER


def test_asking_again_finds_the_first_group_also_when_the_price_has_moved(world: World) -> None:
    world.ask(OCO)
    world.last = 5_000_000
    assert decide_group(world.kernel, OCO, BY, world.inputs_of(), PLAIN, world.now_ns) == ()


@pytest.mark.parametrize(
    "orders",
    [
        {R.ENTRY: ENTRY, R.TAKE_PROFIT: PROFIT},
        {R.ENTRY: ENTRY, R.TAKE_PROFIT: PROFIT, R.STOP: asked(T.STOP, Side.SELL, stop_price=5_800_000)},
        {R.ENTRY: asked(T.LIMIT, Side.BUY, MID - 1), R.TAKE_PROFIT: PROFIT, R.STOP: STOP},
    ],
    ids=["without its stop", "another stop", "another entry"],
)
def test_asking_for_other_orders_under_the_same_id_is_refused(
    world: World, orders: dict[OrderRole, OrderRequest]
) -> None:
    world.ask(BRACKET)
    again = decide_group(
        world.kernel, msgspec.structs.replace(BRACKET, orders=orders), BY, world.inputs_of(), PLAIN, world.now_ns
    )
    assert isinstance(again, Refusal)
    assert again.code is ReasonCode.ORDER_REQUEST_REPEATED


def test_a_replayed_journal_holds_the_same_groups(world: World) -> None:
    ids = world.ask(BRACKET)
    world.accept(ids[R.ENTRY])
    world.fill(ids[R.ENTRY], QUANTITY)
    world.trade(5_900_000)
    again = started_kernel()
    again.apply(MandateInstalled(ts_ns=NOW_NS, mandate=MANDATE, digest_hex="00", signatures=()))
    again.replay(decode_event(payload) for payload in world.journal)
    assert again.state_digest() == world.kernel.state_digest()
    assert again.index.dependent == world.kernel.index.dependent
    assert Kernel.from_snapshot(again.snapshot()).state_digest() == again.state_digest()
