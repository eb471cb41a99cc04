"""Approved orders of every type: what the engine makes of them, in one record with the approval's consumption."""

from __future__ import annotations

from typing import Any

import pytest

from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    BRACKET_PROPOSAL_SCHEMA,
    CANCEL_LISTED_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
    CLOSE_PROPOSAL_SCHEMA,
    HEDGE_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    ORDER_PROPOSAL_SCHEMA,
    PROPOSAL_KINDS,
    PROPOSAL_SCHEMA,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
    proposal_bytes,
)
from core.kernel import decide_approvals
from core.kernel.kernel import Kernel
from core.types.authority import ApprovalAuthority
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode as C
from core.types.codes import Refusal
from core.types.events import ApprovalDecided, encode_event
from core.types.orders import OrderStatus, OrderType, TimeInForce
from core.types.venues import VenueCapabilities
from tests.core.approvals import ABLE, NOW_NS, approve, started_events
from tests.core.authority.proposals import example, order_proposal
from tests.core.kernel.desk import Desk, mandate, opened, rules

PLAIN = VenueCapabilities(
    frozenset({OrderType.LIMIT, OrderType.MARKET}), frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK})
)
"""A venue that takes nothing else: what waits is held by the engine."""
STOP = {"order_type": "STOP", "price": "", "stop_price": "61000", "notional_quote": "6100"}
STOP_LIMIT = STOP | {"order_type": "STOP_LIMIT", "price": "61010"}
TAKE_PROFIT = STOP | {"order_type": "TAKE_PROFIT", "stop_price": "59000"}
TRAILING = {"order_type": "TRAILING_STOP", "price": "", "trailing_offset_bps": "100", "notional_quote": "6000"}
GTD = {"time_in_force": "GTD", "order_expires_at_ns": str(NOW_NS + 3600 * NS_PER_S)}


def desk_of(capabilities: VenueCapabilities, extra: str = "", **limits: str) -> Desk:
    desk = opened(rules(extra, **limits))
    desk.capabilities = capabilities
    desk.market(last_price="60000")
    return desk


def ask(desk: Desk, **changes: str) -> Any:
    """Propose and approve an order; its id, or the code of the refusal."""
    what = order_proposal(**changes)
    return desk.execute(*approve(what), order_type=OrderType(changes.get("order_type", "LIMIT")))


@pytest.mark.parametrize(
    ("terms", "held"),
    [
        ({}, False),
        ({"order_type": "MARKET", "price": "", "time_in_force": "IOC"}, False),
        ({"post_only": "true"}, False),
        (GTD, False),
        (STOP, True),
        (STOP_LIMIT, True),
        (TAKE_PROFIT, True),
        (TRAILING, True),
        (TRAILING | {"activation_price": "62000"}, True),
    ],
    ids=lambda value: value.get("order_type", "LIMIT") if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("capabilities", [PLAIN, ABLE], ids=["the engine holds it", "the venue has it"])
def test_an_approved_order_of_any_type_is_there_as_it_was_shown(
    terms: dict[str, str], held: bool, capabilities: VenueCapabilities
) -> None:
    desk = desk_of(capabilities)
    order = desk.kernel.orders[ask(desk, **terms)]
    intent = order.intent
    is_held = held and capabilities is PLAIN
    assert order.status is (OrderStatus.HELD if is_held else OrderStatus.INTENDED), desk.refusal
    assert (order.suggestion_id, desk.kernel.consumed) == ("sug-1", {"sug-1": 1})
    assert isinstance(order.authority, ApprovalAuthority)
    assert intent.order_type == terms.get("order_type", "LIMIT")
    assert intent.stop_price == (int(terms["stop_price"]) * 100 if "stop_price" in terms else None)
    assert intent.trailing_offset_bps == (100 if "trailing_offset_bps" in terms else None)
    assert intent.expires_ns == (int(terms["order_expires_at_ns"]) if "order_expires_at_ns" in terms else None)


@pytest.mark.parametrize(
    ("terms", "limits", "code"),
    [
        (STOP | {"stop_price": "59000"}, {}, C.ORDER_STOP_PRICE_INVALID),
        (TAKE_PROFIT | {"stop_price": "61000"}, {}, C.ORDER_STOP_PRICE_INVALID),
        (STOP | {"stop_price": "61000.001"}, {}, C.ORDER_TICK_SIZE_VIOLATED),
        (STOP | {"quantity": "0.0000001"}, {}, C.ORDER_LOT_SIZE_VIOLATED),
        (GTD | {"order_expires_at_ns": str(NOW_NS)}, {}, C.ORDER_EXPIRY_INVALID),
        (TRAILING | {"trailing_offset_bps": "10001"}, {}, C.REQUEST_INVALID),
        ({"reduce_only": "true"}, {}, C.ORDER_WOULD_INCREASE_POSITION),
        (STOP, {"max_notional_per_order_quote": '"6099"'}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        (STOP, {"max_open_orders": "1"}, None),
    ],
)
def test_what_cant_be_at_send_is_refused_and_used_up(
    terms: dict[str, str], limits: dict[str, str], code: C | None
) -> None:
    desk = desk_of(PLAIN, **limits)
    canonical = approve(order_proposal(**terms))[0]
    checked = decide_approvals.decide_check(desk.kernel, canonical, desk.inputs, PLAIN, desk.now_ns)
    ask(desk, **terms)
    assert (desk.refusal and desk.refusal.code, checked.refusal and checked.refusal.code) == (code, code)
    assert desk.kernel.consumed == {"sug-1": 1}
    assert bool(desk.kernel.orders) is (code is None)


def test_what_is_held_counts_towards_the_open_orders() -> None:
    desk = desk_of(PLAIN, max_open_orders="1")
    ask(desk, **STOP)
    ask(desk, **STOP, suggestion_id="sug-2")
    assert desk.refusal is not None
    assert desk.refusal.code is C.RISK_OPEN_ORDERS_EXCEED_MAX


def test_a_held_order_of_an_approval_needs_no_mandate_to_be_let_go() -> None:
    desk = desk_of(PLAIN)
    desk.install_mandate(mandate(mandate_id="man-2"))
    ask(desk, **STOP)
    assert desk.revoke("man-2") is None
    (order,) = desk.kernel.orders.values()
    assert order.status is OrderStatus.HELD


def test_a_replay_gives_the_same_state_and_an_undone_approval_can_be_used_again() -> None:
    desk = desk_of(PLAIN)
    before = desk.kernel.state_digest()
    desk.kernel.begin()
    save = desk.kernel.savepoint()
    ask(desk, **STOP)
    made, after = desk.events[-1], desk.kernel.state_digest()
    desk.kernel.rollback(save)
    assert desk.kernel.state_digest() == before
    ask(desk, **STOP)
    assert desk.kernel.state_digest() == after
    assert isinstance(made, ApprovalDecided)
    assert [type(caused).__name__ for caused in made.caused] == ["OrderIntended"]

    again = Kernel()
    again.replay([*started_events(), made])
    twin = Kernel()
    twin.replay([*started_events(), made])
    assert again.state_digest() == twin.state_digest()
    assert b'"caused":[{' in encode_event(made)


def test_a_suggestion_is_used_once_whatever_the_schema_of_the_next_one() -> None:
    desk = desk_of(PLAIN)
    ask(desk, **STOP)
    assert desk.approved(suggestion_id="sug-1") is C.APPROVAL_ALREADY_CONSUMED
    assert ask(desk, version="2") is C.APPROVAL_ALREADY_CONSUMED


MAX_AGE_NS = 60 * NS_PER_S
SHOWS_FIGURES = {
    PROPOSAL_SCHEMA: True,
    ORDER_PROPOSAL_SCHEMA: True,
    CLOSE_PROPOSAL_SCHEMA: True,
    HEDGE_PROPOSAL_SCHEMA: True,
    BRACKET_PROPOSAL_SCHEMA: True,
    AMEND_PROPOSAL_SCHEMA: True,
    CANCEL_PROPOSAL_SCHEMA: False,
    CANCEL_LISTED_PROPOSAL_SCHEMA: False,
    KILL_SWITCH_PROPOSAL_SCHEMA: False,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA: False,
}


@pytest.mark.parametrize("age_ns", [0, MAX_AGE_NS, MAX_AGE_NS + 1])
@pytest.mark.parametrize(("schema", "shows_figures"), SHOWS_FIGURES.items())
def test_figures_that_are_too_old_are_approved_by_nobody_and_use_nothing_up(
    schema: str, shows_figures: bool, age_ns: int
) -> None:
    """By the engine's own clock. What only reduces shows none."""
    desk = desk_of(ABLE)
    decided = decide_approvals.decide_approval(
        desk.kernel,
        *approve(example(schema)),
        trace_id=None,
        inputs=desk.inputs,
        capabilities=ABLE,
        now_ns=NOW_NS + age_ns,
        figures_max_age_ns=MAX_AGE_NS,
    )
    is_stale = isinstance(decided, Refusal)
    assert is_stale is (shows_figures and age_ns > MAX_AGE_NS), decided
    if isinstance(decided, Refusal):
        assert (decided.code, decided.limit, decided.unit) == (C.APPROVAL_FIGURES_STALE, "60", "s")


def test_every_kind_of_proposal_is_judged_by_its_age_or_is_safety() -> None:
    assert SHOWS_FIGURES.keys() == PROPOSAL_KINDS.keys()
    for schema, shows_figures in SHOWS_FIGURES.items():
        assert decide_approvals.only_reduces(proposal_bytes(example(schema))) is not shows_figures
