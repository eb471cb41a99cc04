"""What changes before anybody decides: an edit, fresh figures, a withdrawal. The old version is void at the engine."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from audit.record import Action
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
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
    proposal_bytes,
    proposal_digest,
)
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import new_trace
from tests.core.authority.proposals import example
from tests.tools.doubles import House
from tests.tools.engine_double import level
from tests.tools.people import APPROVER, COMPLIANCE, IDS, MAX_NOTIONAL, SECOND, TRADER
from tools.approvals import Approvals
from tools.contracts import Principal
from tools.suggestions import Suggestion, SuggestionStatus

OTHER_TRADER = msgspec.structs.replace(TRADER, user_id="user-other")
AGENT = msgspec.structs.replace(TRADER, user_id="agent-1", kind="agent", on_behalf_of="user-trader")
ELSEWHERE = msgspec.structs.replace(TRADER, account_ids=("acct-2",))
COMMON = ("suggestion_id", "version", "environment", "mode", "engine_id", "account_id", "asker_id", "created_at_ns")
COMMON += ("expires_at_ns", "run_id", "trace_id")
EDIT = {"quantity": "0.25", "price": "59000.50"}


async def edit(house: House, what: Suggestion, who: Principal = TRADER, **changes: str) -> Suggestion:
    return await house.approvals.revisions.edit(who, what.suggestion_id, what.version, changes or EDIT, "less")


async def approve(house: House, what: Suggestion, who: Principal = APPROVER) -> Any:
    key_id = f"key-of-{who.user_id}"
    return await house.approvals.approve(
        who, what.suggestion_id, what.version, what.digest_hex, key_id, b"s" * 64, new_trace(IDS)
    )


def row(house: House, suggestion: Suggestion, version: int = 1) -> Suggestion:
    return house.suggestions.rows[suggestion.suggestion_id, version]


async def refused(attempt: Any) -> ReasonCode:
    with pytest.raises(RefusalError) as raised:
        await attempt
    return raised.value.refusal.code


def move_market(house: House, by: str) -> None:
    house.engine.bids = tuple(level(str(item.price + Decimal(by)), "2") for item in house.engine.bids)
    house.engine.asks = tuple(level(str(item.price + Decimal(by)), "2") for item in house.engine.asks)


async def test_an_edit_is_a_new_version_with_this_moments_figures_and_the_old_one_is_void() -> None:
    house = House()
    first = await house.suggest()
    move_market(house, "10")
    house.clock.advance_ns(7 * 10**9)
    second = await edit(house, first)
    assert (second.version, second.status, second.edited_by) == (2, SuggestionStatus.PENDING, "user-trader")
    old, new = first.order_fields(), second.order_fields()
    assert {name: value for name, value in new.items() if old.get(name) != value} == {
        "version": "2",
        "edited_by": "user-trader",
        "quantity": "0.25",
        "price": "59000.5",
        "notional_quote": "14750.125",
        "reference_price": "60010",
        "created_at_ns": str(house.clock.now_ns()),
        "expires_at_ns": str(house.clock.now_ns() + first.expires_at_ns - first.created_at_ns),
    }
    assert second.digest_hex == proposal_digest(second.proposal) != first.digest_hex
    assert second.pre_trade["market"]["mid_price"] == "60010"
    assert second.pre_trade["what_if"]["position_after"] == "0.75"
    assert second.pre_trade["revision"] == {"replaces": "1", "cause": "edited", "changes": EDIT}
    assert second.pre_trade["checks"]
    assert row(house, first).status is SuggestionStatus.SUPERSEDED
    assert row(house, first).pre_trade == first.pre_trade
    assert row(house, first, 2) == second
    assert house.engine.voided == {first.suggestion_id: 1}

    outcome = await approve(house, first)
    assert outcome.refusal.code is ReasonCode.APPROVAL_VERSION_SUPERSEDED
    assert (await approve(house, second)).consumed
    assert [digest for _, digest, _, _ in house.engine.executed] == [second.digest_hex]


async def test_an_edit_is_recorded_before_the_engine_is_told_and_without_its_record_nothing_changes() -> None:
    house = House()
    first = await house.suggest()
    second = await edit(house, first, APPROVER)
    record = house.trail.records[-1]
    assert (record.action, record.actor, record.suggestion_id) == (
        Action.SUGGESTION_EDITED,
        "user-approver",
        first.suggestion_id,
    )
    assert (record.payload["replaces_digest"], record.payload["digest"]) == (first.digest_hex, second.digest_hex)
    assert (record.payload["changes"], record.payload["reason"]) == (EDIT, "less")
    house.trail.failing_on = {Action.SUGGESTION_EDITED}
    assert await refused(edit(house, second)) is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert house.engine.voided == {first.suggestion_id: 1}
    assert row(house, first, 2).status is SuggestionStatus.PENDING


async def test_an_edit_voids_the_signatures_given() -> None:
    house = House()
    house.engine.approvals_due = 2
    first = await house.suggest()
    await approve(house, first)
    second = await edit(house, first)
    assert second.signatures == ()
    outcome = await approve(house, second, SECOND)
    assert (outcome.consumed, outcome.approvals_given) == (False, 1)
    assert house.engine.executed == []


def of_kind(house: House, first: Suggestion, schema: str) -> Suggestion:
    """The suggestion with a proposal of another kind in its place."""
    fields = {name: first.order_fields()[name] for name in COMMON}
    order = example(schema, **fields)
    canonical = proposal_bytes(order)
    return house.suggestions.change(first, proposal=canonical, digest_hex=proposal_digest(canonical))


@pytest.mark.parametrize(
    ("schema", "changes", "expected"),
    [
        (ORDER_PROPOSAL_SCHEMA, {"price": "59000"}, {"price": "59000", "notional_quote": "5900"}),
        (CLOSE_PROPOSAL_SCHEMA, {"quantity": "0.2"}, {"quantity": "0.2", "notional_quote": "12000"}),
        (CLOSE_PROPOSAL_SCHEMA, {"reduce_only": "false"}, None),
        (HEDGE_PROPOSAL_SCHEMA, {"quantity": "0.2"}, None),
        (HEDGE_PROPOSAL_SCHEMA, {"price": "59000"}, {"price": "59000"}),
        (BRACKET_PROPOSAL_SCHEMA, {"take_profit_limit_price": "63000"}, {"take_profit_limit_price": "63000"}),
        (
            BRACKET_PROPOSAL_SCHEMA,
            {"entry_limit_price": "60500"},
            {"entry_limit_price": "60500", "notional_quote": "6050"},
        ),
        (AMEND_PROPOSAL_SCHEMA, {"new_price": "58000"}, {"new_price": "58000", "notional_quote": "5800"}),
        (AMEND_PROPOSAL_SCHEMA, {"client_order_id": "vz-2"}, None),
        (CANCEL_LISTED_PROPOSAL_SCHEMA, {"orders": "vz-1 BUY 0.1 BTCUSDT LIMIT at 60000"}, None),
        (CANCEL_PROPOSAL_SCHEMA, {"client_order_id": "vz-2"}, None),
        (KILL_SWITCH_PROPOSAL_SCHEMA, {"state": "REDUCE_ONLY"}, None),
        (STRATEGY_CHANGE_PROPOSAL_SCHEMA, {"mandate_id": "man-2"}, None),
    ],
)
async def test_each_kind_has_terms_that_can_be_edited_and_others_that_cant(
    schema: str, changes: dict[str, str], expected: dict[str, str] | None
) -> None:
    house = House()
    first = of_kind(house, await house.suggest(), schema)
    if expected is None:
        assert await refused(edit(house, first, **changes)) is ReasonCode.REQUEST_INVALID
        return
    second = await edit(house, first, **changes)
    old, new = first.order_fields(), second.order_fields()
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    assert {name: value for name, value in changed.items() if name in expected} == expected
    assert changed.keys() - expected.keys() <= {
        *("version", "edited_by", "created_at_ns", "expires_at_ns", "notional_quote"),
    }


@pytest.mark.parametrize("schema", PROPOSAL_KINDS)
async def test_stale_figures_of_every_kind_come_back_as_a_version_of_the_same_terms(schema: str) -> None:
    house = House()
    first = of_kind(house, await house.suggest(), schema)
    house.approvals.revisions._figures_max_age_ns = 1
    house.clock.advance_ns(10)
    outcome = await approve(house, first)
    assert (outcome.refusal.code, outcome.newer_version) == (ReasonCode.APPROVAL_FIGURES_STALE, 2)
    old, new = first.order_fields(), row(house, first, 2).order_fields()
    assert {name for name in new if old.get(name) != new[name]} == {"version", "created_at_ns", "expires_at_ns"}


async def test_where_two_are_due_neither_the_asker_nor_who_edited_it_counts() -> None:
    house = House()
    house.engine.approvals_due = 2
    second = await edit(house, await house.suggest(), APPROVER)
    assert second.order.authors == {"user-trader", "user-approver"}
    assert (await approve(house, second)).refusal.code is ReasonCode.APPROVAL_SELF_NOT_COUNTED
    assert row(house, second, 2).signatures == ()
    assert (await approve(house, second, SECOND)).approvals_given == 1


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (TRADER, None),
        (APPROVER, None),
        (OTHER_TRADER, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        (AGENT, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        (COMPLIANCE, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        (ELSEWHERE, ReasonCode.RESOURCE_NOT_FOUND),
    ],
)
async def test_the_asker_and_approvers_edit(who: Principal, code: ReasonCode | None) -> None:
    house = House()
    first = await house.suggest()
    if code is None:
        assert (await edit(house, first, who)).edited_by == who.user_id
        return
    assert await refused(edit(house, first, who)) is code
    assert row(house, first) == first
    assert (house.trail.records[-1].action, house.trail.records[-1].outcome) == (Action.APPROVAL_REFUSED, code)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"asker_id": "user-second"}, ReasonCode.REQUEST_INVALID),
        ({"account_id": "acct-2"}, ReasonCode.REQUEST_INVALID),
        ({"side": "SELL"}, ReasonCode.REQUEST_INVALID),
        ({"max_deviation_bps": "10000"}, ReasonCode.REQUEST_INVALID),
        ({"nothing": "1"}, ReasonCode.REQUEST_INVALID),
        ({"quantity": "-1"}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"quantity": ""}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"quantity": "1e9"}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"quantity": "1e999999999999"}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"price": "nan"}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"post_only": "yes"}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"time_in_force": "GTD"}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"quantity": str(MAX_NOTIONAL)}, ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
    ],
)
async def test_an_edit_that_cant_be_leaves_all_as_it_was(changes: dict[str, str], code: ReasonCode) -> None:
    house = House()
    first = await house.suggest()
    assert await refused(edit(house, first, **changes)) is code
    assert house.suggestions.rows == {(first.suggestion_id, 1): first}
    assert house.engine.voided == {}
    assert (await approve(house, first)).consumed


@pytest.mark.parametrize("status", [status for status in SuggestionStatus if status is not SuggestionStatus.PENDING])
async def test_what_isnt_pending_cant_be_changed(status: SuggestionStatus) -> None:
    house = House()
    first = house.suggestions.change(await house.suggest(), status=status)
    await refused(edit(house, first))
    await refused(house.approvals.revisions.withdraw(TRADER, first.suggestion_id, 1, "no"))
    assert house.suggestions.rows == {(first.suggestion_id, 1): first}


async def test_an_edit_after_expiry_is_refused_by_the_engines_clock() -> None:
    house = House()
    first = await house.suggest()
    house.clock.advance_ns(first.expires_at_ns - first.created_at_ns)
    assert await refused(edit(house, first)) is ReasonCode.APPROVAL_EXPIRED


@pytest.mark.parametrize(
    "void_refusal",
    [
        Refusal(ReasonCode.APPROVAL_ALREADY_CONSUMED, "Used."),
        Refusal(ReasonCode.SERVICE_JOURNAL_UNAVAILABLE, "Full."),
    ],
)
async def test_what_the_engine_cant_make_void_isnt_changed(void_refusal: Refusal) -> None:
    house = House()
    first = await house.suggest()
    house.engine.void_refusal = void_refusal
    assert await refused(edit(house, first)) is void_refusal.code
    assert await refused(house.approvals.revisions.withdraw(TRADER, first.suggestion_id, 1, "")) is void_refusal.code
    assert house.suggestions.rows == {(first.suggestion_id, 1): first}


async def test_the_asker_withdraws_and_nobody_else() -> None:
    house = House()
    first = await house.suggest()
    revisions = house.approvals.revisions
    for who in (APPROVER, OTHER_TRADER, AGENT):
        attempt = revisions.withdraw(who, first.suggestion_id, 1, "")
        assert await refused(attempt) is ReasonCode.AUTH_ROLE_NOT_PERMITTED
    withdrawn = await revisions.withdraw(TRADER, first.suggestion_id, 1, "changed my mind")
    assert (withdrawn.status, withdrawn.decided_by) == (SuggestionStatus.REJECTED, "user-trader")
    assert withdrawn.decision_reason == "Withdrawn by its asker. changed my mind"
    assert house.trail.records[-1].action is Action.SUGGESTION_WITHDRAWN
    assert house.engine.voided == {first.suggestion_id: 1}
    assert (await approve(house, first)).refusal.code is ReasonCode.APPROVAL_NOT_PENDING


async def test_a_rejection_is_told_to_the_engine_needs_a_reason_and_stands_without_an_answer() -> None:
    house = House()
    first = await house.suggest()
    for reason in ("", "  \n"):
        assert await refused(house.approvals.reject(APPROVER, first.suggestion_id, 1, reason)) is (
            ReasonCode.REQUEST_INVALID
        )
    await house.approvals.reject(APPROVER, first.suggestion_id, 1, "no")
    assert house.engine.voided == {first.suggestion_id: 1}

    other = await house.suggest()
    house.engine.failing = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "Down.")
    assert (await house.approvals.reject(APPROVER, other.suggestion_id, 1, "no")).status is SuggestionStatus.REJECTED


async def test_what_the_engine_has_used_cant_be_rejected_any_more() -> None:
    house = House()
    first = await house.suggest()
    house.engine.void_refusal = Refusal(ReasonCode.APPROVAL_ALREADY_CONSUMED, "Used.")
    attempt = house.approvals.reject(APPROVER, first.suggestion_id, 1, "no")
    assert await refused(attempt) is ReasonCode.APPROVAL_ALREADY_CONSUMED
    assert row(house, first).status is SuggestionStatus.PENDING


# 50 bps of 60,000 is 300
@pytest.mark.parametrize(("by", "is_sent"), [("300", True), ("-300", True), ("300.01", False), ("-300.01", False)])
async def test_a_market_that_moved_too_far_sends_it_back_with_fresh_figures(by: str, is_sent: bool) -> None:
    house = House()
    first = await house.suggest()
    move_market(house, by)
    outcome = await approve(house, first)
    if is_sent:
        assert outcome.consumed
        return
    assert outcome.refusal.code is ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX
    assert (outcome.refusal.limit, outcome.refusal.actual, outcome.refusal.unit) == ("50", "50.0017", "bps")
    assert (outcome.consumed, outcome.status, outcome.newer_version) == (False, SuggestionStatus.SUPERSEDED, 2)
    assert house.engine.asked_to_execute == []
    fresh = row(house, first, 2)
    assert (fresh.status, fresh.order.reference_price) == (
        SuggestionStatus.PENDING,
        str(Decimal("60000") + Decimal(by)),
    )
    assert (fresh.order.price, fresh.edited_by) == (first.order.price, "")
    assert house.engine.voided == {first.suggestion_id: 1}
    assert (await approve(house, fresh)).consumed


@pytest.mark.parametrize(("age_s", "is_sent"), [(30, True), (31, False)])
async def test_figures_that_are_too_old_come_back_fresh(age_s: int, is_sent: bool) -> None:
    house = House()
    house.approvals = Approvals(
        engine=house.engine,
        suggestions=house.suggestions,
        trail=house.trail,
        clock=house.clock,
        ids=IDS,
        figures_max_age_s=30,
    )
    first = await house.suggest()
    house.clock.advance_ns(age_s * 10**9)
    outcome = await approve(house, first)
    if is_sent:
        assert outcome.consumed
        return
    assert outcome.refusal.code is ReasonCode.APPROVAL_FIGURES_STALE
    assert (outcome.refusal.limit, outcome.refusal.actual, outcome.newer_version) == ("30", "31", 2)
    assert (await approve(house, row(house, first, 2))).consumed


async def test_stale_figures_that_cant_be_refreshed_still_send_nothing() -> None:
    house = House()
    first = await house.suggest()
    move_market(house, "400")
    house.engine.void_refusal = Refusal(ReasonCode.SERVICE_JOURNAL_UNAVAILABLE, "Full.")
    outcome = await approve(house, first)
    assert outcome.refusal.code is ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX
    assert (outcome.status, outcome.newer_version) == (SuggestionStatus.PENDING, None)
    assert house.engine.executed == []


async def test_a_row_that_missed_its_newer_version_follows_the_engine() -> None:
    house = House()
    first = await house.suggest()
    house.engine.execution_refusal = Refusal(ReasonCode.APPROVAL_VERSION_SUPERSEDED, "Void.")
    house.engine.refuses_unconsumed = True
    assert (await approve(house, first)).refusal.code is ReasonCode.APPROVAL_VERSION_SUPERSEDED
    assert row(house, first).status is SuggestionStatus.SUPERSEDED
