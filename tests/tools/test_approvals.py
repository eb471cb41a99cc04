"""A human's decision: who may take it, on what, once, and what the trail says of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from audit.record import Action
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import new_trace
from tests.tools.doubles import House
from tests.tools.people import APPROVER, COMPLIANCE, IDS, TRADER
from tools.approvals import ApprovalOutcome
from tools.contracts import Principal
from tools.suggestions import Suggestion, SuggestionStatus

SIGNATURE = b"\x01" * 64


async def approve(
    house: House, suggestion: Suggestion, principal: Principal = APPROVER, **changes: Any
) -> ApprovalOutcome:
    values: dict[str, Any] = {
        "suggestion_id": suggestion.suggestion_id,
        "version": suggestion.version,
        "digest_hex": suggestion.digest_hex,
        "key_id": "demo-approver",
        "signature": SIGNATURE,
        "trace": new_trace(IDS),
    }
    return await house.approvals.approve(principal, **(values | changes))


def row(house: House, suggestion: Suggestion) -> Suggestion:
    return house.suggestions.rows[suggestion.suggestion_id, suggestion.version]


async def test_an_approval_reaches_the_engine_with_exactly_what_was_stored() -> None:
    house = House()
    suggestion = await house.suggest()
    outcome = await approve(house, suggestion)
    assert outcome.refusal is None
    assert (outcome.status, outcome.consumed, outcome.client_order_id) == (SuggestionStatus.APPROVED, True, "vz-order")
    [(proposal, digest, signatures, trace)] = house.engine.executed
    assert (proposal, digest) == (suggestion.proposal, suggestion.digest_hex)
    assert signatures == [("demo-approver", SIGNATURE)]
    assert trace.trace_id == suggestion.trace_id
    stored = row(house, suggestion)
    assert (stored.status, stored.decided_by) == (SuggestionStatus.APPROVED, "user-approver")


async def test_an_approver_cannot_hand_in_anothers_signature_under_their_own_name() -> None:
    house = House()
    suggestion = await house.suggest()
    house.engine.key_owners["second-key"] = "user-second"
    outcome = await approve(house, suggestion, key_id="second-key")
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED
    assert house.engine.executed == []
    assert row(house, suggestion).status is SuggestionStatus.PENDING


async def test_the_decision_is_recorded_before_the_engine_is_asked() -> None:
    house = House()
    suggestion = await house.suggest()
    await house.approvals.view(APPROVER, suggestion.suggestion_id)
    house.clock.advance_ns(5 * 10**9)
    await approve(house, suggestion)
    record = house.trail.records[-1]
    assert record.action is Action.SUGGESTION_APPROVED
    assert (record.trace_id, record.suggestion_id) == (suggestion.trace_id, suggestion.suggestion_id)
    payload = record.payload
    assert (payload["digest"], payload["key_id"], payload["method"]) == (
        suggestion.digest_hex,
        "demo-approver",
        "ed25519",
    )
    assert int(payload["decided_at_ns"]) - int(payload["viewed_at_ns"]) == 5 * 10**9


async def test_without_its_record_no_approval_reaches_the_engine() -> None:
    house = House()
    suggestion = await house.suggest()
    house.trail.failing_on = {Action.SUGGESTION_APPROVED}
    with pytest.raises(RefusalError) as raised:
        await approve(house, suggestion)
    assert raised.value.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert house.engine.executed == []
    assert row(house, suggestion).status is SuggestionStatus.PENDING


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"principal": TRADER}, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        ({"principal": COMPLIANCE}, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        ({"principal": msgspec.structs.replace(APPROVER, kind="agent")}, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        ({"principal": msgspec.structs.replace(APPROVER, account_ids=("acct-2",))}, ReasonCode.RESOURCE_NOT_FOUND),
        ({"suggestion_id": IDS.new_ulid()}, ReasonCode.RESOURCE_NOT_FOUND),
        ({"suggestion_id": "\x00\ud800"}, ReasonCode.RESOURCE_NOT_FOUND),
        ({"version": 2}, ReasonCode.RESOURCE_NOT_FOUND),
        ({"version": 1 << 80}, ReasonCode.RESOURCE_NOT_FOUND),
        ({"digest_hex": "0" * 64}, ReasonCode.APPROVAL_DIGEST_MISMATCH),
        ({"digest_hex": "\ud800"}, ReasonCode.APPROVAL_DIGEST_MISMATCH),
        ({"signature": b""}, ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
        ({"key_id": ""}, ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
    ],
)
async def test_a_wrong_attempt_is_refused_with_its_own_code_recorded_and_leaves_it_approvable(
    change: dict[str, Any], code: ReasonCode
) -> None:
    house = House()
    suggestion = await house.suggest()
    outcome = await approve(house, suggestion, **change)
    assert outcome.refusal is not None
    assert outcome.refusal.code is code
    assert house.engine.executed == []
    assert house.trail.records[-1].action is Action.APPROVAL_REFUSED
    assert house.trail.records[-1].outcome == code.value
    assert (await approve(house, suggestion)).refusal is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (SuggestionStatus.APPROVED, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        (SuggestionStatus.CONSUMED, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        (SuggestionStatus.EXECUTED, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        (SuggestionStatus.FAILED, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        (SuggestionStatus.NEEDS_REVIEW, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        (SuggestionStatus.REJECTED, ReasonCode.APPROVAL_NOT_PENDING),
        (SuggestionStatus.EXPIRED, ReasonCode.APPROVAL_EXPIRED),
        (SuggestionStatus.SUPERSEDED, ReasonCode.APPROVAL_VERSION_SUPERSEDED),
    ],
)
async def test_what_is_not_pending_cannot_be_decided(status: SuggestionStatus, code: ReasonCode) -> None:
    house = House()
    suggestion = house.suggestions.change(await house.suggest(), status=status)
    outcome = await approve(house, suggestion)
    assert outcome.refusal is not None
    assert outcome.refusal.code is code
    assert house.engine.executed == []
    with pytest.raises(RefusalError) as raised:
        await house.approvals.reject(APPROVER, suggestion.suggestion_id, 1, "no")
    assert raised.value.refusal.code is code


async def test_a_wrong_digest_is_told_before_the_status() -> None:
    house = House()
    suggestion = house.suggestions.change(await house.suggest(), status=SuggestionStatus.REJECTED)
    outcome = await approve(house, suggestion, digest_hex="f" * 64)
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.APPROVAL_DIGEST_MISMATCH


async def test_a_second_approval_is_refused() -> None:
    house = House()
    suggestion = await house.suggest()
    assert (await approve(house, suggestion)).refusal is None
    again = await approve(house, suggestion)
    assert again.refusal is not None
    assert again.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED
    assert len(house.engine.executed) == 1


async def test_after_expiry_by_the_engines_clock_it_is_refused_and_marked() -> None:
    house = House()
    suggestion = await house.suggest(valid_for_s=10)
    house.clock.advance_ns(10 * 10**9)
    outcome = await approve(house, suggestion)
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.APPROVAL_EXPIRED
    assert row(house, suggestion).status is SuggestionStatus.EXPIRED
    assert house.engine.executed == []


async def test_an_engine_that_is_away_leaves_it_pending_and_approvable() -> None:
    house = House()
    suggestion = await house.suggest()
    away = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "The engine doesn't answer.")
    house.engine.failing = away
    assert (await approve(house, suggestion)).refusal == away.refusal
    house.engine.failing, house.engine.execution_failing = None, away
    assert (await approve(house, suggestion)).refusal == away.refusal
    assert row(house, suggestion).status is SuggestionStatus.PENDING
    house.engine.execution_failing = None
    assert (await approve(house, suggestion)).refusal is None


async def test_a_refusal_by_risk_at_send_is_passed_on_and_uses_the_approval_up() -> None:
    house = House()
    suggestion = await house.suggest()
    drift = Refusal(ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX, "Moved.", "50", "61.2", "bps")
    house.engine.execution_refusal = drift
    outcome = await approve(house, suggestion)
    assert (outcome.refusal, outcome.consumed) == (drift, True)
    assert row(house, suggestion).refusal_code == "RISK_PRICE_DRIFT_EXCEEDS_MAX"
    assert [record.action for record in house.trail.records[-2:]] == [
        Action.SUGGESTION_APPROVED,
        Action.APPROVAL_REFUSED,
    ]
    house.engine.execution_refusal = None
    again = await approve(house, suggestion)
    assert again.refusal is not None
    assert again.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED


async def test_a_signature_that_the_engine_refuses_leaves_it_pending() -> None:
    house = House()
    suggestion = await house.suggest()
    house.engine.execution_refusal = Refusal(ReasonCode.AUTHORITY_SIGNATURE_INVALID, "Not the signer's.")
    outcome = await approve(house, suggestion)
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.AUTHORITY_SIGNATURE_INVALID
    stored = row(house, suggestion)
    assert (stored.status, stored.decided_by) == (SuggestionStatus.PENDING, None)


async def test_what_the_engine_did_is_told_even_if_its_refusal_cannot_be_recorded() -> None:
    house = House()
    suggestion = await house.suggest()
    house.engine.execution_refusal = Refusal(ReasonCode.RISK_KILL_SWITCH_ACTIVE, "Stopped.")
    house.trail.failing_on = {Action.APPROVAL_REFUSED}
    outcome = await approve(house, suggestion)
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.RISK_KILL_SWITCH_ACTIVE


async def test_a_rejection_keeps_its_reason_redacted_and_ends_it() -> None:
    house = House()
    suggestion = await house.suggest()
    rejected = await house.approvals.reject(APPROVER, suggestion.suggestion_id, 1, "Ask me at boss@example.com first.")
    assert rejected.status is SuggestionStatus.REJECTED
    stored = row(house, suggestion)
    assert stored.decision_reason is not None
    assert "boss@example.com" not in stored.decision_reason
    assert stored.decision_reason.endswith("first.")
    record = house.trail.records[-1]
    assert (record.action, record.trace_id) == (Action.SUGGESTION_REJECTED, suggestion.trace_id)
    outcome = await approve(house, suggestion)
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.APPROVAL_NOT_PENDING


async def test_rejecting_takes_the_role_too() -> None:
    house = House()
    suggestion = await house.suggest()
    with pytest.raises(RefusalError) as raised:
        await house.approvals.reject(TRADER, suggestion.suggestion_id, 1, "no")
    assert raised.value.refusal.code is ReasonCode.AUTH_ROLE_NOT_PERMITTED
    assert row(house, suggestion).status is SuggestionStatus.PENDING


async def test_only_an_approvers_first_look_sets_viewed_at_and_every_look_is_recorded() -> None:
    house = House()
    suggestion = await house.suggest()
    assert (await house.approvals.view(TRADER, suggestion.suggestion_id)).viewed_at_ns is None
    first = await house.approvals.view(APPROVER, suggestion.suggestion_id)
    assert first.viewed_at_ns == house.clock.now_ns()
    house.clock.advance_ns(10**9)
    assert (await house.approvals.view(APPROVER, suggestion.suggestion_id)).viewed_at_ns == first.viewed_at_ns
    assert house.trail.actions().count(Action.SUGGESTION_VIEWED) == 3
    with pytest.raises(RefusalError):
        await house.approvals.view(APPROVER, "\x00")


async def test_concurrent_approvals_of_one_suggestion_make_one_order() -> None:
    house = House()
    suggestion = await house.suggest()
    outcomes = await asyncio.gather(*(approve(house, suggestion) for _ in range(64)))
    assert sum(outcome.refusal is None for outcome in outcomes) == 1
    assert len(house.engine.executed) == 1
    assert {outcome.refusal.code for outcome in outcomes if outcome.refusal} == {ReasonCode.APPROVAL_ALREADY_CONSUMED}
