"""Approved closes, hedges and brackets: sized by what was shown, and nothing when that isn't so any more."""

from __future__ import annotations

from typing import Any

import pytest

from core.authority.proposal import (
    BRACKET_PROPOSAL_SCHEMA,
    CLOSE_PROPOSAL_SCHEMA,
    HEDGE_PROPOSAL_SCHEMA,
    proposal_bytes,
)
from core.kernel import decide_approvals
from core.kernel.kernel import Kernel
from core.types.authority import ApprovalAuthority, DerivedAuthority
from core.types.codes import ReasonCode as C
from core.types.events import ApprovalDecided
from core.types.orders import OrderRole, OrderStatus, OrderType, Side
from core.types.venues import VenueCapabilities
from tests.core.approvals import ABLE, APPROVER_SEED, NOW_NS, SECOND_SEED, approve, started_events
from tests.core.authority.proposals import example
from tests.core.kernel.desk import Desk, opened, rules
from tests.core.kernel.test_proposed_orders import PLAIN

HALF, TENTH = 50_000, 10_000
MARKET = {"order_type": "MARKET", "price": "", "time_in_force": "IOC"}


def desk_with(position: int = 0, capabilities: VenueCapabilities = ABLE, **limits: str) -> Desk:
    desk = opened(rules(**limits))
    if position:
        desk.held(position)
    desk.capabilities = capabilities
    desk.market(last_price="60000")
    return desk


def ask(desk: Desk, schema: str, *signers: tuple[str, str], **terms: str) -> Any:
    what = example(schema, **terms)
    order_type = OrderType(getattr(what, "order_type", None) or getattr(what, "entry_type", "LIMIT"))
    return desk.execute(*approve(what, *signers), order_type=order_type)


def refusal_of(desk: Desk) -> C | None:
    return desk.refusal.code if desk.refusal else None


@pytest.mark.parametrize(
    ("position", "terms", "code"),
    [
        (HALF, {}, None),
        (HALF, MARKET, None),
        (2 * HALF, {}, None),
        (TENTH, {}, None),
        (TENTH - 1, {}, C.ORDER_WOULD_INCREASE_POSITION),
        (0, {}, C.ORDER_WOULD_INCREASE_POSITION),
        (-HALF, {}, C.ORDER_WOULD_INCREASE_POSITION),
        (-HALF, {"side": "BUY", "position_quantity": "-0.5"}, None),
    ],
)
def test_a_close_only_ever_reduces_the_position_that_there_is(
    position: int, terms: dict[str, str], code: C | None
) -> None:
    desk = desk_with(position)
    order_id = ask(desk, CLOSE_PROPOSAL_SCHEMA, **terms)
    assert refusal_of(desk) == code
    assert desk.kernel.consumed == {"sug-1": 1}
    if code is None:
        assert desk.kernel.orders[order_id].intent.reduce_only


@pytest.mark.parametrize(
    ("position", "terms", "code"),
    [
        (2 * TENTH, {}, None),
        (2 * TENTH, MARKET, None),
        (3 * TENTH, {}, None),
        (2 * TENTH - 1, {}, C.APPROVAL_SUBJECT_CHANGED),
        (-2 * TENTH, {}, C.APPROVAL_SUBJECT_CHANGED),
        (0, {}, C.APPROVAL_SUBJECT_CHANGED),
        (2 * TENTH, {"hedged_symbol": "ETHUSDT"}, C.APPROVAL_SUBJECT_CHANGED),
        (-2 * TENTH, {"side": "BUY", "exposure_quantity": "-0.2"}, None),
        (-2 * TENTH + 1, {"side": "BUY", "exposure_quantity": "-0.2"}, C.APPROVAL_SUBJECT_CHANGED),
    ],
)
def test_a_hedge_is_of_an_exposure_that_is_as_large_still(position: int, terms: dict[str, str], code: C | None) -> None:
    desk = desk_with(position)
    order_id = ask(desk, HEDGE_PROPOSAL_SCHEMA, **terms)
    assert refusal_of(desk) == code
    assert desk.kernel.consumed == {"sug-1": 1}
    assert (code is not None) or desk.kernel.orders[order_id].intent.quantity == TENTH


def legs(desk: Desk) -> dict[OrderRole, Any]:
    return {OrderRole(order.role): order for order in desk.kernel.orders.values() if order.role is not None}


@pytest.mark.parametrize(
    ("terms", "roles"),
    [
        ({}, ["entry", "take_profit", "stop"]),
        ({"stop_type": "", "stop_trigger_price": ""}, ["entry", "take_profit"]),
        ({"take_profit_type": "", "take_profit_limit_price": ""}, ["entry", "stop"]),
        (
            {"entry_type": "MARKET", "entry_limit_price": "", "entry_time_in_force": "IOC"},
            ["entry", "take_profit", "stop"],
        ),
        (
            {"entry_type": "STOP", "entry_limit_price": "", "entry_trigger_price": "60500"},
            ["entry", "take_profit", "stop"],
        ),
        (
            {"stop_type": "TRAILING_STOP", "stop_trigger_price": "", "stop_trailing_offset_bps": "100"},
            ["entry", "take_profit", "stop"],
        ),
    ],
)
def test_one_approval_brings_a_whole_bracket(terms: dict[str, str], roles: list[str]) -> None:
    desk = desk_with(capabilities=PLAIN)
    entry_id = ask(desk, BRACKET_PROPOSAL_SCHEMA, **terms)
    found = legs(desk)
    assert [role.value for role in OrderRole if role in found] == roles, desk.refusal
    entry = found[OrderRole.ENTRY]
    assert entry.intent.client_order_id == entry_id
    assert entry.status is (OrderStatus.HELD if terms.get("entry_type") == "STOP" else OrderStatus.INTENDED)
    assert isinstance(entry.authority, ApprovalAuthority)
    for role in found.keys() - {OrderRole.ENTRY}:
        child = found[role]
        assert (child.status, child.intent.side, child.intent.reduce_only) == (OrderStatus.HELD, Side.SELL, True)
        assert isinstance(child.authority, DerivedAuthority)
        assert (child.parent_id, child.group_id) == (entry_id, entry.group_id)
    (made,) = [event for event in desk.events if isinstance(event, ApprovalDecided)]
    assert len(made.caused) == len(roles)
    assert desk.kernel.consumed == {"sug-1": 1}


@pytest.mark.parametrize(
    ("terms", "limits", "code"),
    [
        ({"take_profit_limit_price": "59500"}, {}, C.ORDER_GROUP_INVALID),
        ({"stop_trigger_price": "60500"}, {}, C.ORDER_GROUP_INVALID),
        ({"stop_trigger_price": "59000.001"}, {}, C.ORDER_TICK_SIZE_VIOLATED),
        ({"quantity": "0.0000001"}, {}, C.ORDER_LOT_SIZE_VIOLATED),
        ({"quantity": "2", "notional_quote": "1"}, {}, C.APPROVAL_SIGNATURES_INSUFFICIENT),
        ({}, {"max_notional_per_order_quote": '"6199"'}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ({}, {"max_notional_per_order_quote": '"5999"'}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ({}, {"max_open_orders": "2"}, C.RISK_OPEN_ORDERS_EXCEED_MAX),
        ({}, {"max_open_orders": "3"}, None),
    ],
)
def test_a_bracket_is_taken_whole_or_not_at_all(terms: dict[str, str], limits: dict[str, str], code: C | None) -> None:
    desk = desk_with(**limits)
    what = example(BRACKET_PROPOSAL_SCHEMA, **terms)
    checked = decide_approvals.decide_check(desk.kernel, proposal_bytes(what), desk.inputs, ABLE, NOW_NS)
    ask(desk, BRACKET_PROPOSAL_SCHEMA, **terms)
    assert refusal_of(desk) == code
    assert len(desk.kernel.orders) == (3 if code is None else 0)
    if code is C.APPROVAL_SIGNATURES_INSUFFICIENT:
        assert checked.approvals_due == 2
        ask(desk, BRACKET_PROPOSAL_SCHEMA, ("approver", APPROVER_SEED), ("second", SECOND_SEED), **terms)
        assert refusal_of(desk) is C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    else:
        assert (checked.refusal and checked.refusal.code) == code


def test_the_exits_follow_what_the_entry_fills_and_a_replay_gives_the_same() -> None:
    desk = desk_with(capabilities=PLAIN)
    entry_id = ask(desk, BRACKET_PROPOSAL_SCHEMA)
    before = len(desk.events)
    desk.accepted(entry_id)
    desk.filled(entry_id, TENTH // 2)
    assert desk.kernel.orders[entry_id].status is OrderStatus.PARTIALLY_FILLED
    assert len(desk.events) == before + 2
    twin = Kernel()
    twin.replay([*started_events(), *desk.events])
    assert twin.state_digest() == desk.kernel.state_digest()
