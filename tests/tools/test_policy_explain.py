"""`policy explain` and the dry run agree with what the gateway decides."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from audit.record import Action
from core.types.codes import ReasonCode
from tests.tools.doubles import ACCOUNT, TRADER, House
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
