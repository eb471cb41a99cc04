"""Approved changes: of an order that there is, of the kill switch, of a strategy's mandate. What was shown has to be so
still, or nothing is done."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from core.authority.listed_orders import ListedOrder
from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    CANCEL_LISTED_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
    proposal_bytes,
)
from core.kernel import decide_approvals, decide_changes
from core.kernel.approval import without_what_never_was
from core.kernel.effects import AmendOrder, CancelOrder
from core.kernel.kernel import Kernel
from core.orders.machine import Amendment
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode as C
from core.types.events import ApprovalDecided, KillSwitchChanged, cancelled_order_ids, caused_order_id
from core.types.orders import OrderStatus, OrderType, Side
from tests.core.approvals import ABLE, APPROVER_SEED, NOW_NS, approve, started_events
from tests.core.authority.proposals import LIMITS, example
from tests.core.kernel.desk import Desk, mandate, opened, rules
from tests.core.kernel.test_proposed_orders import PLAIN

STOP = {"order_type": OrderType.STOP, "stop_price": 6_100_000}


def ask(desk: Desk, schema: str, **terms: str) -> Any:
    """Propose and approve one; the order that it is about, or the code of the refusal."""
    return desk.execute(*approve(example(schema, **terms)))


def cancel(desk: Desk, order_id: str, **terms: str) -> Any:
    return ask(desk, CANCEL_PROPOSAL_SCHEMA, client_order_id=order_id, **terms)


def amend(desk: Desk, order_id: str, **terms: str) -> Any:
    return ask(desk, AMEND_PROPOSAL_SCHEMA, client_order_id=order_id, **terms)


def kill(desk: Desk, **terms: str) -> Any:
    return ask(desk, KILL_SWITCH_PROPOSAL_SCHEMA, **terms)


def strategy(desk: Desk, **terms: str) -> Any:
    return ask(desk, STRATEGY_CHANGE_PROPOSAL_SCHEMA, **terms)


def effects_of(desk: Desk) -> list[Any]:
    """What the last decision asked of the shell, told by applying it to a twin."""
    twin = Kernel()
    *before, last = [*started_events(), *desk.events]
    twin.replay(before)
    return list(twin.apply(last))


# cancel


def test_a_cancel_that_was_approved_goes_to_the_venue_once() -> None:
    desk = opened()
    order_id = desk.resting()
    assert cancel(desk, order_id) == order_id
    assert desk.kernel.orders[order_id].cancel_requested
    assert [effect for effect in effects_of(desk) if isinstance(effect, CancelOrder)] == [
        CancelOrder("paper", "BTCUSDT", order_id)
    ]
    assert cancel(desk, order_id) is C.APPROVAL_ALREADY_CONSUMED


def test_a_cancel_of_what_the_engine_holds_ends_it() -> None:
    desk = opened()
    desk.capabilities = PLAIN
    desk.market(last_price="60000")
    order_id = desk.order(**STOP)
    assert cancel(desk, order_id, order_type="STOP", price="", stop_price="61000") == order_id
    assert desk.kernel.orders[order_id].status is OrderStatus.CANCELED


@pytest.mark.parametrize(
    ("happens", "terms", "code"),
    [
        (lambda desk, order_id: None, {}, None),
        (lambda desk, order_id: desk.filled(order_id, 4_000), {}, None),
        (lambda desk, order_id: desk.filled(order_id), {}, C.ORDER_ALREADY_FINAL),
        (lambda desk, order_id: desk.amended(order_id, 20_000), {}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"quantity": "0.2"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"price": "60000.01"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"side": "SELL"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"symbol": "ETHUSDT"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"stop_price": "1"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"client_order_id": "vz-unknown"}, C.ORDER_UNKNOWN),
    ],
)
def test_a_cancel_is_of_the_order_that_was_shown(happens: Any, terms: dict[str, str], code: C | None) -> None:
    desk = opened()
    order_id = desk.resting()
    happens(desk, order_id)
    ask(desk, CANCEL_PROPOSAL_SCHEMA, **({"client_order_id": order_id} | terms))
    assert (desk.refusal and desk.refusal.code) == code
    assert desk.kernel.consumed == {"sug-1": 1}
    assert desk.kernel.orders[order_id].cancel_requested is (code is None)


def test_nothing_is_cancelled_in_another_account() -> None:
    desk = opened()
    order_id = desk.resting()
    what = example(CANCEL_PROPOSAL_SCHEMA, client_order_id=order_id, account_id="acct-other")
    checked = decide_approvals.decide_check(desk.kernel, proposal_bytes(what), desk.inputs, ABLE, desk.now_ns)
    assert checked.refusal is not None
    assert checked.refusal.code is C.ORDER_UNKNOWN
    assert desk.execute(*approve(what)) is C.AUTHORITY_SIGNER_NOT_PERMITTED


# cancel of several


def listed(desk: Desk, orders: str, **terms: str) -> Any:
    return ask(desk, CANCEL_LISTED_PROPOSAL_SCHEMA, orders=orders, symbol="", **terms)


def line(desk: Desk, order_id: str) -> str:
    terms = decide_changes.order_terms(desk.kernel.orders[order_id])
    names = ("side", "quantity", "symbol", "order_type", "price", "stop_price")
    return ListedOrder(order_id, *(terms[name] for name in names)).text


def test_all_orders_that_were_listed_are_cancelled_by_one_approval_and_no_other() -> None:
    desk = opened()
    desk.capabilities = PLAIN
    desk.market(last_price="60000")
    first, held, later = desk.resting(), desk.order(**STOP), desk.resting(price=5_900_000)
    assert listed(desk, f"{line(desk, first)}; {line(desk, held)}") not in list(C)
    orders = desk.kernel.orders
    assert (orders[first].cancel_requested, orders[later].cancel_requested) == (True, False)
    assert orders[held].status is OrderStatus.CANCELED
    assert [effect.client_order_id for effect in effects_of(desk) if isinstance(effect, CancelOrder)] == [first]
    decided = desk.events[-1]
    assert isinstance(decided, ApprovalDecided)
    assert (caused_order_id(decided), cancelled_order_ids(decided)) == (None, (first, held))
    assert listed(desk, line(desk, later)) is C.APPROVAL_ALREADY_CONSUMED


@pytest.mark.parametrize(
    ("happens", "code", "cancelled"),
    [
        (lambda desk, order_id: None, None, 2),
        (lambda desk, order_id: desk.filled(order_id, 4_000), None, 2),
        (lambda desk, order_id: desk.filled(order_id), None, 1),
        (lambda desk, order_id: desk.amended(order_id, 20_000), C.APPROVAL_SUBJECT_CHANGED, 0),
    ],
    ids=["as shown", "filled in part", "filled", "amended"],
)
def test_what_is_over_needs_no_end_and_what_changed_ends_nothing(happens: Any, code: C | None, cancelled: int) -> None:
    desk = opened()
    first, second = desk.resting(), desk.resting(price=5_900_000)
    text = f"{line(desk, first)}; {line(desk, second)}"
    happens(desk, first)
    listed(desk, text)
    assert (desk.refusal and desk.refusal.code) == code
    assert sum(order.cancel_requested for order in desk.kernel.orders.values()) == cancelled
    assert desk.kernel.consumed == {"sug-1": 1}


@pytest.mark.parametrize(
    ("orders", "terms", "code"),
    [
        ("vz-unknown BUY 0.1 BTCUSDT LIMIT at 60000", {}, C.ORDER_ALREADY_FINAL),
        ("{}", {"venue": "other"}, C.APPROVAL_SUBJECT_CHANGED),
    ],
    ids=["all over", "another venue"],
)
def test_a_list_that_ends_nothing_is_refused(orders: str, terms: dict[str, str], code: C) -> None:
    desk = opened()
    order_id = desk.resting()
    listed(desk, orders.format(line(desk, order_id)), **terms)
    assert desk.refusal is not None
    assert desk.refusal.code is code
    assert not desk.kernel.orders[order_id].cancel_requested


def test_no_list_reaches_into_another_account() -> None:
    desk = opened()
    order_id = desk.resting()
    what = example(CANCEL_LISTED_PROPOSAL_SCHEMA, orders=line(desk, order_id), symbol="", account_id="acct-other")
    checked = decide_approvals.decide_check(desk.kernel, proposal_bytes(what), desk.inputs, ABLE, desk.now_ns)
    assert checked.refusal is not None
    assert checked.refusal.code is C.ORDER_UNKNOWN


# amend


@pytest.mark.parametrize(
    ("terms", "asked"),
    [
        ({}, Amendment(10_000, 5_900_000)),
        ({"new_quantity": "0.05"}, Amendment(5_000, 5_900_000)),
        ({"new_quantity": "0.05", "new_price": "60000"}, Amendment(5_000, 6_000_000)),
    ],
)
def test_an_amendment_that_was_approved_is_asked_of_the_venue(terms: dict[str, str], asked: Amendment) -> None:
    desk = opened()
    order_id = desk.resting()
    assert amend(desk, order_id, **terms) == order_id
    assert desk.kernel.orders[order_id].pending_amend == asked
    assert next(type(effect) for effect in effects_of(desk)) is AmendOrder


def test_where_the_venue_cant_amend_another_order_takes_its_place() -> None:
    desk = opened()
    desk.capabilities = PLAIN
    order_id = desk.resting()
    other_id = amend(desk, order_id)
    other = desk.kernel.orders[other_id]
    assert (other.replaces, other.status, other.suggestion_id) == (order_id, OrderStatus.HELD, "sug-1")
    assert desk.kernel.orders[order_id].cancel_requested


@pytest.mark.parametrize(
    ("happens", "terms", "code"),
    [
        (lambda desk, order_id: None, {}, None),
        (lambda desk, order_id: desk.filled(order_id, 1), {}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: desk.filled(order_id, 1), {"filled_quantity": "0.00001"}, None),
        (lambda desk, order_id: desk.amended(order_id, 20_000), {}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: desk.amend(order_id, 9_000), {}, C.ORDER_AMEND_PENDING),
        (lambda desk, order_id: desk.cancel(order_id), {}, C.ORDER_AMEND_PENDING),
        (lambda desk, order_id: None, {"price": "60001"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"quantity": "0.3"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk, order_id: None, {"new_price": "59000.001"}, C.ORDER_AMEND_INVALID),
        (lambda desk, order_id: None, {"new_quantity": "2", "notional_quote": "1"}, C.APPROVAL_SIGNATURES_INSUFFICIENT),
        (lambda desk, order_id: desk.market(mid_price="60600"), {}, C.RISK_PRICE_DRIFT_EXCEEDS_MAX),
        (lambda desk, order_id: desk.market(book_state="STALE"), {}, C.MARKET_BOOK_STALE),
        (lambda desk, order_id: None, {"new_price": "50000"}, C.RISK_PRICE_OUTSIDE_COLLAR),
        (lambda desk, order_id: None, {"instrument_version": "2"}, C.AUTHORITY_INSTRUMENT_VERSION_STALE),
    ],
)
def test_an_amendment_is_of_the_order_that_was_shown_and_passes_risk_again(
    happens: Any, terms: dict[str, str], code: C | None
) -> None:
    desk = opened()
    order_id = desk.resting()
    happens(desk, order_id)
    before = desk.kernel.orders[order_id]
    amend(desk, order_id, **terms)
    assert (desk.refusal and desk.refusal.code) == code
    after = desk.kernel.orders[order_id]
    assert (after.pending_amend == before.pending_amend) is (code is not None)


def test_an_approved_amendment_spends_nothing_of_a_session_or_a_mandate() -> None:
    desk = opened()
    order_id = desk.resting()
    used = desk.kernel.sessions["ses-1"].notional_used_quote
    amend(desk, order_id, new_quantity="0.2", notional_quote="11800")
    assert desk.refusal is None
    assert desk.kernel.sessions["ses-1"].notional_used_quote == used


# the kill switch


@pytest.mark.parametrize(
    ("before", "terms", "code", "engine", "account"),
    [
        ("NORMAL", {"scope": "engine"}, None, "HALTED", "HALTED"),
        ("NORMAL", {"scope": "account"}, None, "NORMAL", "HALTED"),
        ("NORMAL", {"scope": "account", "state": "REDUCE_ONLY"}, None, "NORMAL", "REDUCE_ONLY"),
        ("CANCEL_ONLY", {"scope": "engine", "state": "CANCEL_ONLY"}, None, "CANCEL_ONLY", "CANCEL_ONLY"),
        (
            "CANCEL_ONLY",
            {"scope": "engine", "state": "REDUCE_ONLY"},
            C.AUTHORITY_KIND_NOT_ACCEPTED,
            "CANCEL_ONLY",
            "CANCEL_ONLY",
        ),
    ],
)
def test_a_kill_switch_that_was_approved_only_tightens(
    before: str, terms: dict[str, str], code: C | None, engine: str, account: str
) -> None:
    desk = opened()
    if before != "NORMAL":
        desk.kill(KillSwitch(before))
    kill(desk, **terms)
    assert (desk.refusal and desk.refusal.code) == code
    assert (desk.kernel.kill_switch, desk.kernel.effective_kill_switch("acct-demo")) == (engine, account)
    assert desk.kernel.consumed == {"sug-1": 1}


def test_a_halt_that_was_approved_cancels_all_that_is_open_and_ends_what_is_held() -> None:
    desk = opened()
    desk.market(last_price="60000")
    resting = desk.resting()
    desk.capabilities = PLAIN
    held = desk.order(**STOP)
    kill(desk, scope="engine")
    assert [effect for effect in effects_of(desk) if isinstance(effect, CancelOrder)] == [
        CancelOrder("paper", "BTCUSDT", resting)
    ]
    assert desk.kernel.orders[held].status is OrderStatus.CANCELED


def test_another_accounts_switch_isnt_this_engines_to_throw() -> None:
    desk = opened()
    desk.around(account_id="acct-other")
    assert kill(desk, scope="engine") is C.AUTHORITY_WRONG_ENGINE
    assert desk.kernel.kill_switch is KillSwitch.NORMAL


# a strategy's mandate

TIGHTER = {
    "action": "tighten",
    **{f"new_{name}": value for name, value in LIMITS.items()},
    "new_max_order_notional_quote": "5999",
}


def test_a_mandate_whose_end_was_approved_asks_for_nothing_more() -> None:
    desk = opened()
    assert desk.strategy_order() in desk.kernel.orders
    strategy(desk)
    assert desk.refusal is None
    assert desk.strategy_order() is C.AUTHORITY_MANDATE_REVOKED


def test_a_tightened_mandate_stays_in_force_within_less() -> None:
    desk = opened()
    first = desk.strategy_order()
    assert first in desk.kernel.orders
    strategy(desk, **TIGHTER)
    assert desk.refusal is None
    state = desk.kernel.mandates["man-1"]
    assert (state.mandate.max_order_notional_quote, state.orders_used) == ("5999", 1)
    assert desk.strategy_order() is C.AUTHORITY_MANDATE_LIMIT_EXCEEDED
    assert desk.strategy_order(quantity=9_000) in desk.kernel.orders


@pytest.mark.parametrize(
    ("happens", "terms", "code"),
    [
        (lambda desk: desk.revoke("man-1"), {}, C.AUTHORITY_MANDATE_REVOKED),
        (lambda desk: None, {"mandate_id": "man-9"}, C.AUTHORITY_MANDATE_UNKNOWN),
        (lambda desk: None, {"strategy_id": "other"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk: None, {"max_open_orders": "7"}, C.APPROVAL_SUBJECT_CHANGED),
        (lambda desk: strategy(desk, suggestion_id="sug-0", **TIGHTER), {}, C.APPROVAL_SUBJECT_CHANGED),
    ],
)
def test_a_mandate_is_changed_as_it_was_shown_only(happens: Any, terms: dict[str, str], code: C) -> None:
    desk = opened()
    happens(desk)
    before = desk.kernel.mandates["man-1"]
    assert strategy(desk, **terms) is code
    assert desk.kernel.mandates["man-1"] == before


# all of them


@pytest.mark.parametrize(
    "schema",
    [
        CANCEL_PROPOSAL_SCHEMA,
        CANCEL_LISTED_PROPOSAL_SCHEMA,
        KILL_SWITCH_PROPOSAL_SCHEMA,
        STRATEGY_CHANGE_PROPOSAL_SCHEMA,
    ],
)
def test_expiry_wrong_signatures_and_another_engine_are_refused_and_use_nothing_up(schema: str) -> None:
    for changes, signers, code in (
        ({"created_at_ns": str(NOW_NS - 10), "expires_at_ns": str(NOW_NS)}, (), C.APPROVAL_EXPIRED),
        ({"engine_id": "engine-9"}, (), C.AUTHORITY_WRONG_ENGINE),
        ({"mode": "LIVE"}, (), C.AUTHORITY_WRONG_MODE),
        ({"account_id": "acct-9"}, (), C.AUTHORITY_SIGNER_NOT_PERMITTED),
        ({}, (("nobody", APPROVER_SEED),), C.AUTHORITY_SIGNER_UNKNOWN),
    ):
        desk = opened()
        assert desk.execute(*approve(example(schema, **changes), *signers)) is code
        assert desk.kernel.consumed == {}


def test_a_suggestion_is_used_once_over_all_kinds() -> None:
    desk = opened()
    kill(desk, state="REDUCE_ONLY")
    for again in (
        example(CANCEL_PROPOSAL_SCHEMA, client_order_id=desk.kernel.engine_id),
        example(STRATEGY_CHANGE_PROPOSAL_SCHEMA),
        example(AMEND_PROPOSAL_SCHEMA),
    ):
        assert desk.execute(*approve(again)) is C.APPROVAL_ALREADY_CONSUMED
    assert desk.approved(suggestion_id="sug-1") is C.APPROVAL_ALREADY_CONSUMED


def test_a_replay_of_all_kinds_gives_the_same_state_and_an_undone_one_leaves_none() -> None:
    desk = opened(rules())
    first, second = desk.resting(), desk.resting(side=Side.SELL, price=6_100_000)
    desk.install_mandate(mandate(mandate_id="man-2"))
    for number, (schema, terms) in enumerate(
        (
            (CANCEL_PROPOSAL_SCHEMA, {"client_order_id": first}),
            (
                AMEND_PROPOSAL_SCHEMA,
                {"client_order_id": second, "side": "SELL", "price": "61000", "new_price": "61500"},
            ),
            (STRATEGY_CHANGE_PROPOSAL_SCHEMA, TIGHTER),
            (STRATEGY_CHANGE_PROPOSAL_SCHEMA, {"mandate_id": "man-2"}),
            (KILL_SWITCH_PROPOSAL_SCHEMA, {}),
        )
    ):
        before = desk.kernel.state_digest()
        desk.kernel.begin()
        save = desk.kernel.savepoint()
        ask(desk, schema, suggestion_id=f"sug-{number}", **terms)
        assert desk.refusal is None
        made = desk.events.pop()
        assert isinstance(made, ApprovalDecided)
        desk.kernel.rollback(save)
        desk.kernel.commit()
        assert desk.kernel.state_digest() == before
        desk.kernel.apply(made)
        desk.events.append(made)
    twin = Kernel()
    twin.replay([*started_events(), *desk.events])
    assert twin.state_digest() == desk.kernel.state_digest()
    restored = Kernel.from_snapshot(desk.kernel.snapshot())
    assert restored.state_digest() == desk.kernel.state_digest()


def test_what_a_change_is_worth_decides_how_many_sign_it() -> None:
    desk = opened()
    order_id = desk.resting()
    for terms, due in (({}, 1), ({"new_quantity": "0.9", "notional_quote": "53100"}, 2)):
        canonical = proposal_bytes(example(AMEND_PROPOSAL_SCHEMA, client_order_id=order_id, **terms))
        checked = decide_approvals.decide_check(desk.kernel, canonical, desk.inputs, ABLE, desk.now_ns)
        assert (checked.refusal, checked.approvals_due) == (None, due)
    for schema in (KILL_SWITCH_PROPOSAL_SCHEMA, STRATEGY_CHANGE_PROPOSAL_SCHEMA):
        checked = decide_approvals.decide_check(
            desk.kernel, proposal_bytes(example(schema)), desk.inputs, ABLE, desk.now_ns
        )
        assert (checked.refusal, checked.approvals_due) == (None, 1)
    assert Decimal(desk.kernel.orders[order_id].notional_quote) == 6_000


# what went ahead of an order or a mandate that a disk undid


@pytest.mark.parametrize(
    ("asked", "left", "code"),
    [
        (lambda desk: cancel(desk, desk.resting()), [], C.ORDER_UNKNOWN),
        (lambda desk: strategy(desk, action="revoke"), [], C.AUTHORITY_MANDATE_UNKNOWN),
        (lambda desk: strategy(desk, **TIGHTER), [], C.AUTHORITY_MANDATE_UNKNOWN),
        (kill, [KillSwitchChanged], None),
    ],
    ids=["cancel", "revoke", "tighten", "halt"],
)
def test_what_is_left_of_a_command_whose_subject_never_was_says_so(asked: Any, left: list[Any], code: C | None) -> None:
    desk = opened()
    asked(desk)
    decided = desk.events[-1]
    assert isinstance(decided, ApprovalDecided)
    assert decided.refusal is None
    assert decided.caused
    assert without_what_never_was(desk.kernel, decided) == decided, "while its subject is there"
    without = Kernel()
    without.replay(started_events())
    rest = without_what_never_was(without, decided)
    assert [type(event) for event in rest.caused] == left
    assert (rest.refusal and rest.refusal.code) == code
    without.apply(rest)
    assert without.consumed == {"sug-1": 1}
