"""`policy explain` and the dry run agree with what the gateway decides."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from audit.record import Action
from core.types.codes import ReasonCode
from tests.tools.doubles import House
from tests.tools.people import ACCOUNT, TRADER
from tests.tools.policies import condition, policy_with, quiet_hours
from tests.tools.test_policy import AGENT, APPROVER, MIDNIGHT, REGISTRY, THRESHOLDS, at, facts
from tools.policy import Policy
from tools.policy_explain import Explanation, explain
from tools.policy_replay import ALLOWED, RecordedCall, recorded_call, replay


def explained(policy: Policy, tool: str = "suggest_order", **changes: Any) -> Explanation:
    return explain(policy, REGISTRY.get(tool), facts(tool, **changes))


@pytest.mark.parametrize(
    ("sections", "changes", "code", "part"),
    [
        ((), {}, None, None),
        ((), {"principal": APPROVER}, "TOOL_NOT_PERMITTED", "role, tool and account"),
        ((), {"account_id": "acct-9"}, "AUTH_ACCOUNT_OUT_OF_SCOPE", "role, tool and account"),
        ((quiet_hours(),), {"now_ns": at(MIDNIGHT)}, "POLICY_QUIET_HOURS", "quiet hours"),
        ((condition("principal.kind == 'agent'"),), {"principal": AGENT}, "POLICY_CONDITION_DENIED", "conditions"),
        (
            (condition("amount_quote > 10.0"),),
            {"amount_quote": Decimal(11)},
            "POLICY_CONDITION_DENIED",
            "conditions on the amount",
        ),
        ((condition("amount_quote > 10.0"),), {"amount_quote": Decimal(10)}, None, None),
    ],
)
def test_the_part_that_denies_is_named(
    sections: tuple[str, ...], changes: dict[str, Any], code: str | None, part: str | None
) -> None:
    policy = policy_with(*sections)
    explanation = explained(policy, **changes)
    assert (explanation.decision, explanation.code) == ("allow" if code is None else "deny", code)
    denying = [step.part for step in explanation.steps if step.verdict == "deny"]
    assert denying[:1] == ([] if part is None else [part])


def test_what_allows_is_named_by_its_section() -> None:
    steps = {step.part: step for step in explained(policy_with(), principal=AGENT, model="m", provider="p").steps}
    allowing = steps["role, tool and account"]
    assert (allowing.verdict, allowing.section) == ("allow", "traders suggest for the accounts granted to them")
    assert steps["model"].section == "any model, any tool"


def test_approvals_and_who_gives_them_are_told_where_the_amount_is_given() -> None:
    explanation = explained(policy_with(THRESHOLDS), amount_quote=Decimal(6000))
    assert (explanation.approvals_due, explanation.approval_sections) == (2, ("large orders",))
    assert explanation.approvers == ("approvers approve (any amount)",)
    at_night = explained(policy_with(quiet_hours()), amount_quote=Decimal(6000), now_ns=at(MIDNIGHT))
    assert at_night.approvers == ("approvers approve (any amount, but these are quiet hours)",)
    assert explained(policy_with()).approvals_due is None


# --- dry run ---------------------------------------------------------------------------------------------------------


def recorded(house: House) -> list[RecordedCall]:
    plain = [msgspec.to_builtins(record) for record in house.trail.records]
    return [found for record in plain if (found := recorded_call(record)) is not None]


async def a_day() -> House:
    house = House()
    await house.ask("get_ticker", symbol="BTCUSDT")
    await house.ask("get_positions")
    await house.suggest()
    await house.ask("suggest_order", APPROVER, symbol="BTCUSDT", side="buy", quantity=1, price="59000")
    await house.ask("get_positions", account_id="acct-other")
    return house


async def test_the_policy_of_the_day_decides_the_day_as_it_was() -> None:
    calls = recorded(await a_day())
    found = replay(policy_with(), REGISTRY, calls)
    assert (found.calls, found.same, found.undecided, found.changes) == (5, 4, 1, ())


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            (condition("true", tools='["get_ticker", "get_positions"]'),),
            [("get_ticker", ALLOWED), ("get_positions", ALLOWED)],
        ),
        ((condition("arguments.symbol == 'BTCUSDT' && arguments.side == 'buy'"),), [("suggest_order", ALLOWED)]),
        ((condition("arguments.symbol == 'ETHUSDT'"),), []),
    ],
)
async def test_calls_that_a_policy_would_decide_otherwise_are_listed(
    sections: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    found = replay(policy_with(*sections), REGISTRY, recorded(await a_day()))
    assert [(change.tool, change.before) for change in found.changes] == expected
    assert found.newly_denied == len(expected)
    assert all(change.after == ReasonCode.POLICY_CONDITION_DENIED for change in found.changes)


async def test_a_looser_policy_shows_as_newly_allowed() -> None:
    house = House(policy=policy_with(condition("true", tools='["get_ticker"]')))
    await house.ask("get_ticker", symbol="BTCUSDT")
    found = replay(policy_with(), REGISTRY, recorded(house))
    (change,) = found.changes
    assert (found.newly_allowed, change.before, change.after) == (1, "POLICY_CONDITION_DENIED", ALLOWED)


TWO_ABOVE_1000 = """
[[threshold]]
name = "test"
kinds = ["*"]
accounts = "granted"
two_above_quote = "1000"
"""


@pytest.mark.parametrize(
    ("section", "change"),
    [
        (condition("amount_quote > 20000.0"), (ALLOWED, ReasonCode.POLICY_CONDITION_DENIED)),
        (condition("amount_quote > 30000.0"), None),
        (
            condition("amount_quote > 20000.0", "require_two"),
            (f"{ALLOWED}, 1 to approve", f"{ALLOWED}, 2 to approve"),
        ),
        (condition("amount_quote > 30000.0", "require_two"), None),
        (TWO_ABOVE_1000, (f"{ALLOWED}, 1 to approve", f"{ALLOWED}, 2 to approve")),
    ],
    ids=["denied above", "not so far", "two above", "one below", "two by threshold"],
)
async def test_what_a_policy_says_of_amounts_and_approvals_is_asked_of_what_a_suggestion_was_worth(
    section: str, change: tuple[str, str] | None
) -> None:
    house = House()
    await house.suggest()
    (call,) = recorded(house)
    assert (call.amount_quote, call.suggestion_kind, call.approvals_due) == ("29999.995", "order", "1")
    found = replay(policy_with(section), REGISTRY, [call])
    assert [(it.before, it.after) for it in found.changes] == ([] if change is None else [change])
    assert (found.other_approvals, found.newly_denied) == (
        int(change is not None and change[1].startswith(ALLOWED)),
        int(change is not None and not change[1].startswith(ALLOWED)),
    )


async def test_one_that_was_denied_for_its_amount_is_asked_again_with_it() -> None:
    house = House(policy=policy_with(condition("amount_quote > 1.0")))
    with pytest.raises(AssertionError):
        await house.suggest()
    (call,) = recorded(house)
    assert call.outcome == ReasonCode.POLICY_CONDITION_DENIED
    assert replay(policy_with(condition("amount_quote > 1.0")), REGISTRY, [call]).same == 1
    assert replay(policy_with(), REGISTRY, [call]).newly_allowed == 1


async def test_suggestions_of_an_earlier_release_are_counted_as_unweighed_and_judged_by_all_else() -> None:
    house = House()
    await house.suggest()
    (call,) = recorded(house)
    older = msgspec.structs.replace(call, amount_quote=None, suggestion_kind=None, approvals_due=None)
    found = replay(policy_with(condition("amount_quote > 1.0")), REGISTRY, [older])
    assert (found.same, found.unweighed, found.changes) == (1, 1, ())
    found = replay(policy_with(condition("arguments.symbol == 'BTCUSDT'")), REGISTRY, [older])
    assert (found.newly_denied, found.unweighed) == (1, 1)


async def test_a_record_that_says_too_little_is_told_as_undecided() -> None:
    (call,) = recorded_of_first_release()
    found = replay(policy_with(), REGISTRY, [call])
    assert (found.calls, found.undecided) == (1, 1)


def recorded_of_first_release() -> list[RecordedCall]:
    """Before roles were recorded."""
    record = {
        "action": Action.TOOL_CALLED.value,
        "occurred_at_ns": "1",
        "actor": TRADER.user_id,
        "outcome": "ok",
        "account_id": ACCOUNT,
        "payload": {"tool": "get_positions", "call_id": "c", "arguments": {}, "mode": "PAPER", "policy_version": "3"},
    }
    found = recorded_call(record)
    assert found is not None
    return [found]
