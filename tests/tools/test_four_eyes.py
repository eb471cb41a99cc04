"""Two people where two are due: what the first signed waits for the second, and nobody counts twice."""

from __future__ import annotations

import msgspec
import pytest

from audit.record import Action
from core.authority.proposal import proposal_bytes, proposal_digest
from core.types.codes import ReasonCode, refuse
from core.types.ids import new_trace
from tests.tools.doubles import House
from tests.tools.people import ACCOUNT, APPROVER, IDS, SECOND, TRADER
from tools.approvals import ApprovalOutcome
from tools.contracts import Principal, Role
from tools.suggestions import GivenSignature, Suggestion, SuggestionStatus

KEYS = {"user-approver": "demo-approver", "user-second": "second-key", "user-third": "third-key"}
THIRD = Principal("user-third", "third", Role.APPROVER, (ACCOUNT,))


@pytest.fixture
def house() -> House:
    house = House()
    house.engine.approvals_due = 2
    return house


def signature_of(principal: Principal) -> bytes:
    return principal.user_id.encode()


async def sign(house: House, suggestion: Suggestion, principal: Principal) -> ApprovalOutcome:
    return await house.approvals.approve(
        principal,
        suggestion.suggestion_id,
        suggestion.version,
        suggestion.digest_hex,
        KEYS.get(principal.user_id, "own-key"),
        signature_of(principal),
        new_trace(IDS),
    )


def row(house: House, suggestion: Suggestion) -> Suggestion:
    return house.suggestions.rows[suggestion.suggestion_id, suggestion.version]


def code(outcome: ApprovalOutcome) -> ReasonCode | None:
    return None if outcome.refusal is None else outcome.refusal.code


async def test_the_first_signature_waits_and_the_second_ones_owner_sends_both(house: House) -> None:
    suggestion = await house.suggest()
    first = await sign(house, suggestion, APPROVER)
    assert (first.refusal, first.consumed, first.status) == (None, False, SuggestionStatus.PENDING)
    assert (first.approvals_given, first.approvals_due) == (1, 2)
    assert house.engine.executed == []
    stored = row(house, suggestion)
    assert (stored.status, stored.approvals_due) == (SuggestionStatus.PENDING, 2)
    assert [item.user_id for item in stored.signatures] == ["user-approver"]

    second = await sign(house, suggestion, SECOND)
    assert (second.refusal, second.consumed) == (None, True)
    [(_, digest, signatures, _)] = house.engine.executed
    assert digest == suggestion.digest_hex
    assert signatures == [("demo-approver", signature_of(APPROVER)), ("second-key", signature_of(SECOND))]
    assert (row(house, suggestion).status, row(house, suggestion).decided_by) == (
        SuggestionStatus.APPROVED,
        "user-second",
    )
    approvals = [record for record in house.trail.records if record.action is Action.SUGGESTION_APPROVED]
    assert [(record.actor, record.payload["beside"]) for record in approvals] == [
        ("user-approver", []),
        ("user-second", ["demo-approver"]),
    ]


async def test_one_person_signs_once(house: House) -> None:
    suggestion = await house.suggest()
    await sign(house, suggestion, APPROVER)
    assert code(await sign(house, suggestion, APPROVER)) is ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT
    assert house.engine.executed == []
    assert len(row(house, suggestion).signatures) == 1
    assert code(await sign(house, suggestion, SECOND)) is None


AGENT = Principal("agent-1", "bot", Role.TRADER, (ACCOUNT,), "agent", "user-approver")


@pytest.mark.parametrize("asker", [APPROVER, AGENT])
async def test_neither_the_asker_nor_an_agents_owner_is_one_of_the_two(house: House, asker: Principal) -> None:
    suggestion = await house.suggest()
    order = msgspec.structs.replace(suggestion.order, asker_id=asker.person_id)
    canonical = proposal_bytes(order)
    suggestion = house.suggestions.change(
        suggestion, proposal=canonical, digest_hex=proposal_digest(canonical), asker_id=asker.person_id
    )
    assert code(await sign(house, suggestion, APPROVER)) is ReasonCode.APPROVAL_SELF_NOT_COUNTED
    assert row(house, suggestion).signatures == ()
    assert code(await sign(house, suggestion, SECOND)) is None
    assert house.engine.executed == []
    assert code(await sign(house, suggestion, THIRD)) is None
    assert len(house.engine.executed) == 1


async def test_what_an_agent_asks_for_is_its_owners() -> None:
    house = House()
    agent = msgspec.structs.replace(TRADER, user_id="agent-1", kind="agent", on_behalf_of="user-trader")
    arguments = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "price_anchor": "bid"}
    result = await house.ask("suggest_order", agent, **arguments)
    assert result.refusal is None, result.refusal
    stored = house.suggestions.rows[result.data["suggestion_id"], 1]
    assert (stored.asker_id, stored.order.asker_id) == ("user-trader", "user-trader")


async def test_a_forged_or_revoked_signature_is_dropped_and_helps_nobody(house: House) -> None:
    suggestion = await house.suggest()
    forged = GivenSignature(
        user_id="user-third", key_id="third-key", method="ed25519", signature=b"forged", signed_at_ns=1
    )
    house.suggestions.change(suggestion, signatures=(forged,), approvals_due=2)
    house.engine.unknown_keys = {"third-key"}
    outcome = await sign(house, suggestion, APPROVER)
    assert (outcome.refusal, outcome.consumed, outcome.approvals_given) == (None, False, 1)
    assert house.engine.executed == []
    assert [item.key_id for item in row(house, suggestion).signatures] == ["demo-approver"]
    dropped = [record for record in house.trail.records if record.payload.get("dropped_key_id")]
    assert [record.payload["dropped_key_id"] for record in dropped] == ["third-key"]
    assert code(await sign(house, suggestion, SECOND)) is None
    assert len(house.engine.executed) == 1


async def test_a_signature_that_the_engine_refuses_isnt_kept(house: House) -> None:
    suggestion = await house.suggest()
    house.engine.unknown_keys = {"demo-approver"}
    assert code(await sign(house, suggestion, APPROVER)) is ReasonCode.AUTHORITY_SIGNER_UNKNOWN
    assert row(house, suggestion).signatures == ()


async def test_an_engine_that_doesnt_answer_leaves_what_was_given(house: House) -> None:
    suggestion = await house.suggest()
    await sign(house, suggestion, APPROVER)
    house.engine.execution_failing = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "Down.")
    assert code(await sign(house, suggestion, SECOND)) is ReasonCode.SERVICE_ENGINE_UNAVAILABLE
    assert [item.user_id for item in row(house, suggestion).signatures] == ["user-approver"]


async def test_each_persons_own_first_look_is_kept(house: House) -> None:
    suggestion = await house.suggest()
    for who in (APPROVER, SECOND, APPROVER):
        house.clock.advance_ns(10**9)
        await house.approvals.view(who, suggestion.suggestion_id)
    views = row(house, suggestion).views
    assert {user: at_ns - suggestion.created_at_ns for user, at_ns in views.items()} == {
        "user-approver": 10**9,
        "user-second": 2 * 10**9,
    }
    await sign(house, suggestion, SECOND)
    record = next(record for record in house.trail.records if record.action is Action.SUGGESTION_APPROVED)
    assert int(record.payload["viewed_at_ns"]) == views["user-second"]
    assert row(house, suggestion).signatures[0].viewed_at_ns == views["user-second"]
