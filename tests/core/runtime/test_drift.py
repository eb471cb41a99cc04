"""Freeze, reconcile, resume; and what happens when it doesn't come right by itself."""

from __future__ import annotations

import asyncio
import errno
from decimal import Decimal

import msgspec
import pytest

from core.risk.kill_switch import KillSwitch
from core.runtime.follow import DRIFT_SWEEP_INTERVAL_S, SWEEP_INTERVAL_S
from core.runtime.reconcile import DRIFT_TURNS_LIMIT, FREEZE_REASON
from core.types.authority import DerivedAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import FreezeChanged, OrderIntended
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.ports import SubmitRefused, SubmitResult, Submitted, VenueOrder, VenueTrade
from tests.core.approvals import ACCOUNT, NOW_NS, decide_on, proposal
from tests.core.runtime.test_follow import House, house, shown

__all__ = ["house"]


def accepted(house: House) -> str:
    """An order that both sides know."""
    house.follow()
    order_id = house.order()
    house.wait(SWEEP_INTERVAL_S + 1)
    assert house.status(order_id) is OrderStatus.ACCEPTED
    assert not house.kernel.frozen
    return order_id


def test_what_differs_freezes_the_account_and_agreement_resumes_it(house: House) -> None:
    order_id = accepted(house)
    vanished = house.venue.shown.pop(order_id)
    house.wait(SWEEP_INTERVAL_S)
    assert house.kernel.frozen[ACCOUNT].startswith(f"{FREEZE_REASON}order.missing_at_venue {order_id}")

    house.venue.shown[order_id] = vanished
    house.wait(DRIFT_SWEEP_INTERVAL_S + 1)
    assert not house.kernel.frozen
    assert house.kernel.effective_kill_switch(ACCOUNT) is KillSwitch.NORMAL
    house.wait(DRIFT_TURNS_LIMIT * SWEEP_INTERVAL_S)
    assert house.kernel.effective_kill_switch(ACCOUNT) is KillSwitch.NORMAL


def test_what_somebody_else_froze_stays_frozen_though_both_sides_agree(house: House) -> None:
    accepted(house)
    by_hand = FreezeChanged(ts_ns=house.clock.now_ns(), account_id=ACCOUNT, frozen=True, reason="audit")
    house.record(lambda: (by_hand,))
    house.wait(2 * SWEEP_INTERVAL_S)
    assert house.kernel.frozen == {ACCOUNT: "audit"}


def test_an_order_that_is_held_here_is_no_difference(house: House) -> None:
    decided = decide_on(house.kernel, proposal(), now_ns=house.clock.now_ns())
    assert decided.intent is not None
    intent = msgspec.structs.replace(decided.intent, order_type=OrderType.STOP, price=None, stop_price=7_000_000)
    held = OrderIntended(
        ts_ns=house.clock.now_ns(), intent=intent, authority=DerivedAuthority("parent", "oco.stop"),
        notional_quote="6000", rules_version=1, market=decided.market, checks=(), is_held=True,
    )  # fmt: skip
    house.record(lambda: (held,))
    house.follow()
    house.wait(SWEEP_INTERVAL_S + 1)
    assert (house.status(intent.client_order_id), house.kernel.frozen) == (OrderStatus.HELD, {})


def test_a_difference_that_stays_tightens_the_kill_switch_of_the_account(house: House) -> None:
    order_id = accepted(house)
    vanished = house.venue.shown.pop(order_id)
    house.wait(SWEEP_INTERVAL_S + (DRIFT_TURNS_LIMIT - 2) * DRIFT_SWEEP_INTERVAL_S)
    assert house.kernel.frozen
    assert house.kernel.effective_kill_switch(ACCOUNT) is KillSwitch.NORMAL
    house.wait(2 * DRIFT_SWEEP_INTERVAL_S)
    assert house.kernel.effective_kill_switch(ACCOUNT) is KillSwitch.CANCEL_ONLY
    assert house.kernel.kill_switch is KillSwitch.NORMAL

    # The freeze goes when they agree; the switch waits for a human.
    house.venue.shown[order_id] = vanished
    house.wait(DRIFT_SWEEP_INTERVAL_S + 1)
    assert not house.kernel.frozen
    assert house.kernel.effective_kill_switch(ACCOUNT) is KillSwitch.CANCEL_ONLY


def test_asking_again_and_again_tightens_nothing(house: House) -> None:
    order_id = accepted(house)
    house.venue.shown.pop(order_id)
    for _ in range(2 * DRIFT_TURNS_LIMIT):
        house.run(house.service.reconcile(dry_run=False, requested_by="user-trader"))
    assert house.kernel.frozen
    assert house.kernel.effective_kill_switch(ACCOUNT) is KillSwitch.NORMAL


@pytest.mark.parametrize("said", [OrderStatus.CANCELED, OrderStatus.EXPIRED])
def test_an_order_that_ended_here_and_is_open_there_freezes(house: House, said: OrderStatus) -> None:
    order_id = accepted(house)
    open_there = house.venue.shown[order_id]
    house.venue.shown[order_id] = msgspec.structs.replace(open_there, status=said)
    house.wait(SWEEP_INTERVAL_S)
    assert house.status(order_id) is said
    assert not house.kernel.frozen

    house.venue.shown[order_id] = open_there
    house.wait(SWEEP_INTERVAL_S)
    assert house.kernel.frozen[ACCOUNT].startswith(f"{FREEZE_REASON}order.terms {order_id}")


@pytest.mark.parametrize(("order_id", "is_waited_for"), [("", False), ("long-gone", True)])
def test_fills_whose_order_the_venue_tells_of_no_more_are_taken_over_once(
    house: House, order_id: str, is_waited_for: bool
) -> None:
    """An order that could be told of yet is waited for, while nothing else trades."""
    accepted(house)
    house.venue.trades = [
        VenueTrade("BTCUSDT", trade_id, "99", order_id, Side.SELL, 6_000_000, 200, Decimal(0), "USDT", False, NOW_NS)
        for trade_id in (41, 42)
    ]
    house.wait(SWEEP_INTERVAL_S)
    assert (ACCOUNT in house.kernel.frozen, (ACCOUNT, "paper", "BTCUSDT") in house.kernel.positions) == (
        is_waited_for,
        not is_waited_for,
    )
    house.wait(DRIFT_SWEEP_INTERVAL_S)
    for _ in range(2):
        house.wait(SWEEP_INTERVAL_S)
        order = house.kernel.orders[order_id or "venue-99"]
        assert (order.status, order.trade_ids, order.venue_order_id) == (OrderStatus.FILLED, (41, 42), "99")
        assert house.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == -400
        assert not house.kernel.frozen


@pytest.mark.parametrize("order_id", ["", "long-gone"])
def test_an_order_that_only_the_venues_own_number_finds_keeps_its_terms(house: House, order_id: str) -> None:
    """given fills of an order that no id of its owner's finds any more, when the venue tells of it by its number, then
    it is here as it is there: cancelled with a part of it filled."""
    accepted(house)
    house.venue.trades = [
        VenueTrade("BTCUSDT", 41, "99", order_id, Side.SELL, 6_000_000, 200, Decimal(0), "USDT", False, NOW_NS)
    ]
    terms = (Side.SELL, OrderType.LIMIT, TimeInForce.GTC, 500, 6_000_000)
    house.venue.numbered["99"] = VenueOrder(
        "BTCUSDT", order_id or "web-9", "99", OrderStatus.CANCELED, 200, NOW_NS, *terms
    )
    house.wait(SWEEP_INTERVAL_S)
    house.wait(DRIFT_SWEEP_INTERVAL_S)
    for _ in range(2):
        house.wait(SWEEP_INTERVAL_S)
        order = house.kernel.orders[order_id or "venue-99"]
        assert (order.status, order.filled_quantity, order.intent.quantity) == (OrderStatus.CANCELED, 200, 500)
        assert house.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == -200
        assert not house.kernel.frozen


def full_once(house: House, result: SubmitResult) -> None:
    """The venue answers, and the disk can't take the answer."""

    async def submit(intent: OrderIntent) -> SubmitResult:
        if isinstance(result, Submitted):
            house.venue.shown[intent.client_order_id] = shown(intent)
        house.disk.write_errors.append(OSError(errno.ENOSPC, "No space left on device"))
        return result

    house.venue.submit = submit  # type: ignore[method-assign]


REFUSED = SubmitRefused(Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no"))


@pytest.mark.parametrize(
    ("result", "became", "within_s"),
    [
        (Submitted("7"), OrderStatus.ACCEPTED, SWEEP_INTERVAL_S + 1),
        (REFUSED, OrderStatus.REJECTED, 3 * SWEEP_INTERVAL_S),
    ],
)
def test_an_answer_that_couldnt_be_recorded_is_asked_for(
    house: House, result: SubmitResult, became: OrderStatus, within_s: float
) -> None:
    house.follow()
    full_once(house, result)
    order_id = house.order()
    house.wait(0.1)
    assert house.status(order_id) is OrderStatus.INTENDED
    house.wait(within_s)
    assert house.status(order_id) is became
    assert not house.kernel.frozen


def test_a_fill_that_comes_while_the_last_one_is_taken_over_freezes_nothing(house: House) -> None:
    """given an account that trades all the time, when each comparison meets a fill whose report is on its way, then it
    goes on, and each fill is here once."""
    accepted(house)
    asked = 0

    async def trades_since(_symbol: str, _since_ns: int) -> list[VenueTrade]:
        nonlocal asked
        asked += 1
        return [
            VenueTrade("BTCUSDT", number, f"o{number}", "", Side.BUY, 6_000_000, 100, Decimal(0), "USDT", False, NOW_NS)
            for number in range(1, asked + 1)
        ]

    house.venue.trades_since = trades_since  # type: ignore[method-assign]
    for _ in range(4):
        house.wait(SWEEP_INTERVAL_S)
        assert not house.kernel.frozen
        held = house.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity
        assert (asked - 1) * 100 <= held <= asked * 100


def test_a_comparison_that_overtakes_another_one_doesnt_end_the_engine(house: House) -> None:
    """given fills of orders that the venue doesn't tell of, and one comparison that waits for it while another finds
    others, when it is answered, then it goes on, and so does the engine."""
    following = house.follow()
    house.wait(1)
    fills = [
        VenueTrade("BTCUSDT", number, str(number), f"gone-{number}", Side.SELL, 6_000_000, 200, Decimal(0), "USDT",
                   False, NOW_NS)
        for number in (41, 42, 43)
    ]  # fmt: skip
    gate: asyncio.Future[None] = house.loop.create_future()

    async def order(_symbol: str, order_id: str) -> None:
        if order_id == "gone-41":
            await gate

    house.venue.order = order  # type: ignore[method-assign]
    house.venue.trades = fills[:2]
    first = house.loop.create_task(house.service.reconcile(dry_run=False, requested_by="user-trader"))
    house.run(asyncio.sleep(0), 0.1)
    house.venue.trades = fills[2:]
    house.run(house.service.reconcile(dry_run=False, requested_by="user-trader"), 0.1)
    gate.set_result(None)
    house.run(asyncio.sleep(0), 0.1)
    assert {item.kind for item in first.result().differences} == {"fill.missing"}
    assert not following.done()
