"""The policy in the approval flow: who may approve, at which hour, and how many the engine is asked to insist on."""

from __future__ import annotations

from typing import Any

import pytest

from core.authority.proposal import PROPOSAL_KINDS
from core.types.codes import ReasonCode, RefusalError
from tests.tools.doubles import House
from tests.tools.people import APPROVER
from tests.tools.policies import condition, policy_with, quiet_hours
from tools.approval_policy import kind_of_schema
from tools.catalogue import build_registry
from tools.contracts import Principal, Role
from tools.policy_document import SUGGESTION_KINDS
from tools.suggestions import Suggestion, SuggestionStatus

# The suggestion that House makes is worth about 30,000.
THRESHOLD = '[[threshold]]\nname = "t"\nkinds = ["order"]\naccounts = "granted"\ntwo_above_quote = "{}"\n'
LITTLE = """
[[approver]]
name = "Bea approves a little"
users = ["bea"]
kinds = ["order"]
accounts = "granted"
up_to_quote = "{}"
"""
BEA = Principal("user-bea", "bea", Role.COMPLIANCE, APPROVER.account_ids)


async def approved(sections: tuple[str, ...], principal: Principal = APPROVER) -> tuple[House, Any]:
    house = House(policy=policy_with(*sections))
    suggestion = await house.suggest()
    outcome = await house.approvals.approve(
        principal, suggestion.suggestion_id, 1, suggestion.digest_hex, "key", b"signature"
    )
    return house, outcome


@pytest.mark.parametrize(
    ("sections", "at_least"),
    [
        ((), 1),
        ((THRESHOLD.format("100000"),), 1),
        ((THRESHOLD.format("1000"),), 2),
        ((condition("amount_quote > 1000.0", "require_two"),), 2),
        ((condition("amount_quote > 100000.0", "require_two"),), 1),
        ((condition("principal.role == 'trader'", "require_two"),), 2),
        ((condition("principal.role == 'trader'", "require_one"),), 1),
    ],
)
async def test_the_engine_is_asked_to_insist_on_as_many_as_the_policy_wants(
    sections: tuple[str, ...], at_least: int
) -> None:
    house, outcome = await approved(sections)
    assert outcome.refusal is None
    assert outcome.consumed is (at_least == 1)
    assert outcome.approvals_due == (None if at_least == 1 else at_least)
    assert len(house.engine.asked_to_execute) == 1


@pytest.mark.parametrize(
    ("sections", "principal", "expected"),
    [
        ((LITTLE.format("100000"),), BEA, None),
        ((LITTLE.format("1000"),), BEA, ReasonCode.POLICY_APPROVER_NOT_PERMITTED),
        ((), BEA, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        ((quiet_hours("00:00", "24:00").replace('"suggest", ', ""),), APPROVER, ReasonCode.POLICY_QUIET_HOURS),
        ((quiet_hours("12:00", "13:00"),), APPROVER, None),
    ],
)
async def test_who_may_approve_is_asked_before_the_engine_is(
    sections: tuple[str, ...], principal: Principal, expected: ReasonCode | None
) -> None:
    house, outcome = await approved(sections, principal)
    assert (None if outcome.refusal is None else outcome.refusal.code) is expected
    assert len(house.engine.asked_to_execute) == (1 if expected is None else 0)


async def test_a_suggestion_that_its_worth_denies_is_never_made() -> None:
    house = House(policy=policy_with(condition("amount_quote > 1000.0")))
    result = await house.ask("suggest_order", symbol="BTCUSDT", side="buy", quantity="0.5", price_anchor="bid")
    assert result.refusal.code is ReasonCode.POLICY_CONDITION_DENIED
    assert house.suggestions.rows == {}
    small = await house.ask("suggest_order", symbol="BTCUSDT", side="buy", quantity="0.01", price_anchor="bid")
    assert small.refusal is None


async def test_a_threshold_that_came_later_holds_for_what_was_suggested_before() -> None:
    house = House(policy=policy_with())
    suggestion = await house.suggest()
    assert suggestion.pre_trade["policy"]["approvals_due"] == "1"
    stricter = House(policy=policy_with(THRESHOLD.format("1000")))
    stricter.suggestions.rows = house.suggestions.rows
    outcome = await stricter.approvals.approve(
        APPROVER, suggestion.suggestion_id, 1, suggestion.digest_hex, "key", b"signature"
    )
    assert (outcome.consumed, outcome.approvals_due) == (False, 2)


async def edited(house: House, suggestion: Suggestion, quantity: str) -> Suggestion:
    return await house.approvals.revisions.edit(APPROVER, suggestion.suggestion_id, 1, {"quantity": quantity}, "less")


async def test_an_edit_does_not_shake_off_what_a_condition_asked_for() -> None:
    house = House(policy=policy_with(condition("principal.role == 'trader'", "require_two")))
    newer = await edited(house, await house.suggest(), "0.25")
    assert newer.pre_trade["policy"]["approvals_due"] == "2"


@pytest.mark.parametrize(("quantity", "due"), [("0.01", "1"), ("0.25", "2")])
async def test_an_edit_is_weighed_by_its_own_worth(quantity: str, due: str) -> None:
    house = House(policy=policy_with(condition("amount_quote > 10000.0 && arguments.side == 'BUY'", "require_two")))
    suggestion = await house.suggest(quantity="0.02")
    assert suggestion.pre_trade["policy"]["approvals_due"] == "1"
    assert (await edited(house, suggestion, quantity)).pre_trade["policy"]["approvals_due"] == due


@pytest.mark.parametrize(
    ("section", "code"),
    [
        (condition("amount_quote > 10000.0"), ReasonCode.POLICY_CONDITION_DENIED),
        (condition("double(arguments.quantity) > 0.1"), ReasonCode.POLICY_CONDITION_DENIED),
    ],
)
async def test_what_a_condition_denies_cannot_be_reached_by_an_edit(section: str, code: ReasonCode) -> None:
    house = House(policy=policy_with(section))
    suggestion = await house.suggest(quantity="0.02")
    with pytest.raises(RefusalError) as caught:
        await edited(house, suggestion, "0.25")
    assert caught.value.refusal.code is code
    assert house.suggestions.rows[suggestion.suggestion_id, 1].status is SuggestionStatus.PENDING
    assert (await edited(house, suggestion, "0.03")).version == 2


@pytest.mark.parametrize("schema", PROPOSAL_KINDS)
def test_every_kind_of_proposal_is_one_that_the_policy_knows(schema: str) -> None:
    assert kind_of_schema(schema) in SUGGESTION_KINDS


def test_every_tool_that_suggests_has_a_kind_that_the_policy_knows() -> None:
    kinds = {tool.name.removeprefix("suggest_") for tool in build_registry() if tool.kind == "suggest"}
    assert kinds <= set(SUGGESTION_KINDS)
