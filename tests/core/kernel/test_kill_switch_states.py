"""What each state of the kill switch lets through, by account and for the whole engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.kernel.decide_held import review
from core.kernel.effects import CancelOrder
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities
from tests.core.approvals import ACCOUNT, ROOT_SEED, equity
from tests.core.kernel.desk import ABLE, Desk, opened

HELD_HERE = VenueCapabilities(
    frozenset({OrderType.LIMIT, OrderType.MARKET}),
    frozenset(TimeInForce),
    can_amend_quantity=True,
    can_amend_price=True,
)
TENTH, AT = 10_000, 6_000_000
SELL = {"side": Side.SELL}


def ready() -> tuple[Desk, dict[str, str]]:
    """Long a tenth, with an order that rests and two stops that the engine holds: one out of the position, one further
    into it. The market is at 60,000."""
    desk = opened()
    desk.market(last_price="60000")
    desk.held(TENTH)
    desk.capabilities = HELD_HERE
    orders = {
        "resting": desk.resting(price=AT - 100),
        "out": desk.order(**SELL, order_type=OrderType.STOP, stop_price=AT - 1_000),
        "into": desk.order(order_type=OrderType.STOP, stop_price=AT + 1_000),
    }
    assert {desk.kernel.orders[orders[name]].status for name in ("out", "into")} == {OrderStatus.HELD}
    desk.capabilities = ABLE
    return desk, orders


def triggered(name: str, last: int) -> Callable[[Desk, dict[str, str]], Any]:
    """The last trade reaches a stop that is held."""

    def run(desk: Desk, orders: dict[str, str]) -> Any:
        price = f"{last / 100:.2f}"
        desk.market(last_price=price, mid_price=price, bid_price=price, ask_price=price)
        desk.around(worst_price=None, depth_quantity=desk.inputs.visible_quantity)
        for _ in range(3):
            for event in review(desk.kernel, orders[name], lambda _intent: desk.inputs, desk.now_ns, last):
                desk.kernel.apply(event)
        order = desk.kernel.orders[orders[name]]
        return (
            order.intent.client_order_id
            if order.status is OrderStatus.INTENDED
            else order.refusal and order.refusal.code
        )

    return run


ACTIONS: dict[str, Callable[[Desk, dict[str, str]], Any]] = {
    "an order that adds": lambda desk, _: desk.order(price=AT - 1),
    "an order that reduces": lambda desk, _: desk.order(**SELL, price=AT + 1),
    "one that turns the position over": lambda desk, _: desk.order(**SELL, price=AT + 1, quantity=TENTH + 1),
    "a reduce-only order": lambda desk, _: desk.order(**SELL, price=AT + 1, reduce_only=True),
    "a strategy's order that adds": lambda desk, _: desk.strategy_order(price=AT - 1),
    "an approved order that adds": lambda desk, _: desk.approved(price="59999"),
    "an amendment up": lambda desk, orders: desk.amend(orders["resting"], TENTH + 1),
    "an amendment down": lambda desk, orders: desk.amend(orders["resting"], TENTH - 1),
    "an amendment of the price": lambda desk, orders: desk.amend(orders["resting"], price=AT - 99),
    "a cancel": lambda desk, orders: desk.cancel(orders["resting"]),
    "a held stop out of the position": triggered("out", AT - 1_000),
    "a held stop into it": triggered("into", AT + 1_000),
}
REDUCING = {
    "an order that reduces",
    "a reduce-only order",
    "an amendment down",
    "a cancel",
    "a held stop out of the position",
}
LETS_THROUGH = {
    KillSwitch.NORMAL: set(ACTIONS),
    KillSwitch.REDUCE_ONLY: REDUCING,
    KillSwitch.CANCEL_ONLY: {"a cancel"},
}


@pytest.mark.parametrize("account_id", ["", ACCOUNT], ids=["engine", "account"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("state", LETS_THROUGH)
def test_a_state_lets_through_what_it_should_and_nothing_else(state: KillSwitch, action: str, account_id: str) -> None:
    desk, orders = ready()
    desk.kill(state, account_id)
    answer = ACTIONS[action](desk, orders)
    if action in LETS_THROUGH[state]:
        assert answer is None or answer in desk.kernel.orders, desk.refusal
    else:
        assert answer == ReasonCode.RISK_KILL_SWITCH_ACTIVE


@pytest.mark.parametrize("account_id", ["", ACCOUNT], ids=["engine", "account"])
def test_halted_cancels_what_rests_and_ends_what_is_held(account_id: str) -> None:
    desk, orders = ready()
    effects = desk.killed(KillSwitch.HALTED, account_id)
    assert [effect.client_order_id for effect in effects if isinstance(effect, CancelOrder)] == [orders["resting"]]
    statuses = {name: desk.kernel.orders[order_id].status for name, order_id in orders.items()}
    assert statuses == {"resting": OrderStatus.ACCEPTED, "out": OrderStatus.CANCELED, "into": OrderStatus.CANCELED}
    for action in ("an order that reduces", "an amendment down"):
        assert ACTIONS[action](desk, orders) == ReasonCode.RISK_KILL_SWITCH_ACTIVE
    assert ACTIONS["a cancel"](desk, orders) is None


def test_another_accounts_switch_holds_nobody_else_and_the_tighter_one_holds() -> None:
    desk, _ = ready()
    desk.kill(KillSwitch.HALTED, "other")
    assert desk.order(price=AT - 1) in desk.kernel.orders
    desk.kill(KillSwitch.REDUCE_ONLY)
    desk.kill(KillSwitch.CANCEL_ONLY, ACCOUNT)
    assert desk.kernel.effective_kill_switch(ACCOUNT) is KillSwitch.CANCEL_ONLY
    assert desk.kernel.effective_kill_switch("third") is KillSwitch.REDUCE_ONLY


@pytest.mark.parametrize("account_id", ["", ACCOUNT], ids=["engine", "account"])
def test_only_a_signed_document_loosens_and_only_what_was_thrown_before_it(account_id: str) -> None:
    desk, _ = ready()
    desk.kill(KillSwitch.CANCEL_ONLY, account_id)
    assert desk.kill(KillSwitch.NORMAL, account_id) == ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED
    body = {"state": "NORMAL", "account_id": account_id, "reason": "looked at"}
    assert desk.administer("thaw", body) == ReasonCode.AUTHORITY_DOCUMENT_REPLAYED  # made before it was thrown
    desk.now_ns += 1
    assert desk.administer("thaw", body, (("approver", ROOT_SEED),)) == ReasonCode.AUTHORITY_SIGNATURE_INVALID
    assert desk.administer("thaw", body) is None
    assert desk.order(price=AT - 1) in desk.kernel.orders


def test_a_snapshot_keeps_the_switches() -> None:
    desk, _ = ready()
    desk.kill(KillSwitch.REDUCE_ONLY)
    desk.kill(KillSwitch.HALTED, ACCOUNT)
    again = type(desk.kernel).from_snapshot(desk.kernel.snapshot())
    assert again.effective_kill_switch(ACCOUNT) is KillSwitch.HALTED
    assert again.kill_switch is KillSwitch.REDUCE_ONLY


LOST = {"equity": "700000", "day_start_equity": "1000000", "peak_equity": "1000000"}
"""The limits are 50,000 in a day and 20 % below the peak."""
NEARLY = {"equity": "950000.01", "day_start_equity": "1000000", "peak_equity": "1000000"}


def thawed_after(loss: dict[str, str], switched: str, thawed: str, state: str = "NORMAL") -> Desk:
    desk, _ = ready()
    desk.apply(equity(**loss))
    desk.kill(KillSwitch.CANCEL_ONLY, switched)
    desk.now_ns += 1
    assert desk.administer("thaw", {"state": state, "account_id": thawed, "reason": "looked at"}) is None
    return desk


def test_the_thaw_of_an_account_that_has_lost_too_much_measures_from_there_on() -> None:
    # Else the same loss would throw the switch again at once, a drawdown for ever.
    desk = thawed_after(LOST, ACCOUNT, ACCOUNT)
    observed = desk.kernel.equity[ACCOUNT]
    assert (observed.day_start_equity, observed.peak_equity, observed.equity) == ("700000", "700000", "700000")
    assert desk.order(price=AT - 1) in desk.kernel.orders, desk.refusal


@pytest.mark.parametrize(
    ("loss", "switched", "thawed", "state"),
    [
        (NEARLY, ACCOUNT, ACCOUNT, "NORMAL"),  # thrown for something else: what was lost still counts
        (LOST, ACCOUNT, ACCOUNT, "REDUCE_ONLY"),
        (LOST, "other", "other", "NORMAL"),
        (LOST, "", "", "NORMAL"),
    ],
)
def test_no_other_thaw_forgets_a_loss(loss: dict[str, str], switched: str, thawed: str, state: str) -> None:
    desk = thawed_after(loss, switched, thawed, state)
    observed = desk.kernel.equity[ACCOUNT]
    assert (observed.day_start_equity, observed.peak_equity) == ("1000000", "1000000")
