"""What the policy decides, as tables: role x tool x account, models, hours, conditions, approvers, thresholds."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types.codes import ReasonCode
from tests.tools.doubles import House, call
from tests.tools.people import ACCOUNT, APPROVER, COMPLIANCE, TRADER
from tests.tools.policies import TOOLS, condition, policy_with, quiet_hours
from tools.catalogue import build_registry
from tools.contracts import Principal
from tools.policy import ApprovalsDue, ApprovalSubject, CallFacts, Policy, default_policy

REGISTRY = build_registry()
AGENT = msgspec.structs.replace(TRADER, kind="agent", on_behalf_of=TRADER.user_id)
NOON = "2026-03-02T12:00"
MIDNIGHT = "2026-03-02T23:59"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def facts(tool: str = "suggest_order", principal: Principal = TRADER, **changes: Any) -> CallFacts:
    definition = REGISTRY.get(tool)
    values: dict[str, Any] = {
        "principal": principal,
        "tool": tool,
        "kind": definition.kind,
        "account_id": ACCOUNT if definition.scope.needs_account else "",
        "arguments": {"symbol": "btc/usdt", "side": "BUY", "quantity": "0.5"},
        "now_ns": at(NOON),
        "mode": "PAPER",
    }
    return CallFacts(**(values | changes))


def code(refusal: Any) -> ReasonCode | None:
    return None if refusal is None else refusal.code


# --- role x tool x account -------------------------------------------------------------------------------------------

ONE_ACCOUNT = """
[[allow]]
name = "one account"
roles = ["compliance"]
tools = ["suggest_order"]
accounts = ["acct-2"]
"""


@pytest.mark.parametrize(
    ("principal", "tool", "account", "expected"),
    [
        (TRADER, "get_ticker", None, None),
        (TRADER, "suggest_order", ACCOUNT, None),
        (TRADER, "suggest_order", "acct-other", ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE),
        (APPROVER, "suggest_order", ACCOUNT, ReasonCode.TOOL_NOT_PERMITTED),
        (COMPLIANCE, "get_positions", ACCOUNT, None),
        (COMPLIANCE, "get_positions", None, None),
    ],
)
def test_role_tool_and_account_decide(
    principal: Principal, tool: str, account: str | None, expected: ReasonCode | None
) -> None:
    assert code(default_policy().decide(principal, REGISTRY.get(tool), account)) is expected


@pytest.mark.parametrize(
    ("tools", "expected"), [(frozenset({"get_ticker"}), None), (frozenset(), ReasonCode.TOOL_NOT_PERMITTED)]
)
def test_an_agent_is_held_to_its_own_tools_as_well(tools: frozenset[str], expected: ReasonCode | None) -> None:
    agent = msgspec.structs.replace(AGENT, tools=tools)
    assert code(default_policy().decide(agent, REGISTRY.get("get_ticker"), None)) is expected


NO_SUGGESTIONS = """
[[allow]]
name = "one account"
roles = ["trader"]
tools = ["get_positions"]
accounts = ["acct-2"]
"""


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ("acct-2", None),
        (None, None),
        ("acct-1", ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE),
        ("acct-3", ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE),
    ],
)
def test_a_list_of_accounts_narrows_those_that_are_granted(account: str | None, expected: ReasonCode | None) -> None:
    document = policy_with(NO_SUGGESTIONS).document
    only = msgspec.structs.replace(document, allow=tuple(a for a in document.allow if a.name == "one account"))
    both = msgspec.structs.replace(TRADER, account_ids=("acct-1", "acct-2"))
    assert code(Policy(only, "d", TOOLS).decide(both, REGISTRY.get("get_positions"), account)) is expected
    neither = msgspec.structs.replace(TRADER, account_ids=("acct-1",))
    assert code(Policy(only, "d", TOOLS).decide(neither, REGISTRY.get("get_positions"), None)) is not None


def test_a_section_opens_no_tool_to_a_role_that_the_tool_itself_does_not_know() -> None:
    policy = policy_with(ONE_ACCOUNT)
    other = msgspec.structs.replace(COMPLIANCE, account_ids=("acct-2",))
    assert code(policy.decide(other, REGISTRY.get("suggest_order"), "acct-2")) is ReasonCode.TOOL_NOT_PERMITTED


def test_a_section_for_people_leaves_agents_out() -> None:
    document = default_policy().document
    only = tuple(msgspec.structs.replace(section, principals=("human",)) for section in document.allow)
    policy = Policy(msgspec.structs.replace(document, allow=only), "d", TOOLS)
    assert policy.decide(TRADER, REGISTRY.get("get_ticker"), None) is None
    assert code(policy.decide(AGENT, REGISTRY.get("get_ticker"), None)) is ReasonCode.TOOL_NOT_PERMITTED


# --- models ----------------------------------------------------------------------------------------------------------

MODELS = """
[[model]]
name = "the planner reads"
providers = ["offline"]
models = ["*"]
tools = ["get_ticker"]

[[model]]
name = "one model does all"
providers = ["https://models.example/v1"]
models = ["good-1"]
tools = ["*"]
"""


def with_models() -> Policy:
    document = policy_with(MODELS).document
    kept = tuple(section for section in document.model if section.name != "any model, any tool")
    return Policy(msgspec.structs.replace(document, model=kept), "d", TOOLS)


@pytest.mark.parametrize(
    ("provider", "model", "tool", "principal", "expected"),
    [
        ("offline", "planner", "get_ticker", AGENT, None),
        ("offline", "planner", "suggest_order", AGENT, ReasonCode.POLICY_MODEL_NOT_PERMITTED),
        ("https://models.example/v1", "good-1", "suggest_order", AGENT, None),
        ("https://models.example/v1", "good-2", "suggest_order", AGENT, ReasonCode.POLICY_MODEL_NOT_PERMITTED),
        ("https://other.example/v1", "good-1", "suggest_order", AGENT, ReasonCode.POLICY_MODEL_NOT_PERMITTED),
        ("", "", "suggest_order", AGENT, ReasonCode.POLICY_MODEL_NOT_PERMITTED),
        ("", "", "suggest_order", TRADER, None),
        ("offline", "planner", "suggest_order", TRADER, ReasonCode.POLICY_MODEL_NOT_PERMITTED),
    ],
)
def test_models_call_what_a_section_lets_them(
    provider: str, model: str, tool: str, principal: Principal, expected: ReasonCode | None
) -> None:
    policy = with_models()
    for _ in range(2):  # the second time from memory
        assert code(policy.restrict(facts(tool, principal, provider=provider, model=model))) is expected


def test_the_default_lets_every_model_call_what_its_user_may() -> None:
    for tool in REGISTRY:
        assert default_policy().restrict(facts(tool.name, AGENT, model="any", provider="any")) is None
        assert default_policy().restrict(facts(tool.name, AGENT)) is None


# --- hours -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "tool", "principal", "moment", "expected"),
    [
        ("", "suggest_order", TRADER, MIDNIGHT, ReasonCode.POLICY_QUIET_HOURS),
        ("", "suggest_order", TRADER, NOON, None),
        ("", "get_ticker", TRADER, MIDNIGHT, None),
        ('roles = ["approver"]', "suggest_order", TRADER, MIDNIGHT, None),
        (f'accounts = ["{ACCOUNT}"]', "suggest_order", TRADER, MIDNIGHT, ReasonCode.POLICY_QUIET_HOURS),
        ('accounts = ["acct-2"]', "suggest_order", TRADER, MIDNIGHT, None),
        ('tools = ["suggest_order"]', "suggest_order", TRADER, MIDNIGHT, ReasonCode.POLICY_QUIET_HOURS),
        ('days = ["mon"]', "suggest_order", TRADER, MIDNIGHT, ReasonCode.POLICY_QUIET_HOURS),
        ('days = ["tue"]', "suggest_order", TRADER, MIDNIGHT, None),
    ],
)
def test_quiet_hours_hold_up_suggestions(
    more: str, tool: str, principal: Principal, moment: str, expected: ReasonCode | None
) -> None:
    policy = policy_with(quiet_hours(more=more))
    assert code(policy.restrict(facts(tool, principal, now_ns=at(moment)))) is expected


@pytest.mark.parametrize(
    ("kind", "moment", "expected"),
    [
        ("order", MIDNIGHT, ReasonCode.POLICY_QUIET_HOURS),
        ("order", NOON, None),
        ("cancel", MIDNIGHT, None),
        ("kill_switch", MIDNIGHT, None),
    ],
)
def test_quiet_hours_hold_up_approvals_and_never_what_stops_something(
    kind: str, moment: str, expected: ReasonCode | None
) -> None:
    policy = policy_with(quiet_hours())
    assert code(policy.decide_approval(APPROVER, subject(kind=kind, now_ns=at(moment)))) is expected


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "changes", "denied"),
    [
        ("arguments.symbol == 'BTCUSDT'", {}, True),
        ("arguments.symbol == 'ETHUSDT'", {}, False),
        ("double(arguments.quantity) > 0.4", {}, True),
        ("double(arguments.quantity) > 0.5", {}, False),
        ("has(arguments.price) && double(arguments.price) > 1.0", {}, False),
        ("principal.kind == 'agent'", {"principal": AGENT}, True),
        ("principal.kind == 'agent'", {}, False),
        ("principal.role == 'trader' && tool.kind == 'suggest'", {}, True),
        ("account == 'acct-2'", {}, False),
        ("now.hour_utc == 12 && now.weekday == 1", {}, True),
        ("now.unix_s > 0", {}, True),
        ("mode == 'LIVE'", {}, False),
        ("model.provider == 'offline'", {"provider": "offline", "model": "p"}, True),
        ("double(arguments.price) > 1.0", {}, True),  # there is none: it can't be told, which denies
        ("arguments.quantity > 1.0", {}, True),  # text against a number
        ("arguments.symbol", {}, True),  # not true or false
    ],
)
def test_a_condition_that_is_true_or_cannot_be_told_denies(when: str, changes: dict[str, Any], denied: bool) -> None:
    refusal = policy_with(condition(when)).restrict(facts(**changes))
    assert code(refusal) is (ReasonCode.POLICY_CONDITION_DENIED if denied else None)


@pytest.mark.parametrize(
    ("more", "tool", "denied"),
    [
        ('roles = ["approver"]', "suggest_order", False),
        ('roles = ["trader"]', "suggest_order", True),
        ('accounts = "none"', "suggest_order", False),
        (f'accounts = ["{ACCOUNT}"]', "suggest_order", True),
        ('accounts = ["acct-2"]', "suggest_order", False),
        ("", "get_positions", False),
    ],
)
def test_a_condition_concerns_its_own_tools_roles_and_accounts(more: str, tool: str, denied: bool) -> None:
    refusal = policy_with(condition("true", more=more)).restrict(facts(tool))
    assert code(refusal) is (ReasonCode.POLICY_CONDITION_DENIED if denied else None)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(None, None), ("5000", None), ("5000.01", ReasonCode.POLICY_CONDITION_DENIED)],
)
def test_a_condition_on_the_amount_waits_until_it_is_known(amount: str | None, expected: ReasonCode | None) -> None:
    policy = policy_with(condition("amount_quote > 5000.0"))
    known = None if amount is None else Decimal(amount)
    assert code(policy.restrict(facts(amount_quote=known))) is expected


async def test_a_condition_sees_what_was_validated_whatever_the_spelling() -> None:
    house = House(policy=policy_with(condition("arguments.symbol == 'BTCUSDT'")))
    for spelling in ("BTCUSDT", "btc/usdt", "Btc-Usdt"):
        result = await house.gateway.call(
            call("suggest_order", {"symbol": spelling, "side": "buy", "quantity": 1, "price": "59000"})
        )
        assert result.refusal is not None
        assert result.refusal.code is ReasonCode.POLICY_CONDITION_DENIED
    assert house.engine.calls == []


async def test_version_digest_role_and_model_stand_in_the_record_of_a_call() -> None:
    house = House()
    await house.ask("get_ticker", symbol="BTCUSDT")
    payload = house.trail.records[0].payload
    assert payload["policy_version"] == default_policy().version
    assert payload["policy_digest"] == default_policy().digest_hex
    assert (payload["role"], payload["principal_kind"], payload["model"]) == ("trader", "human", "")


# --- approvals -------------------------------------------------------------------------------------------------------

LIMITED = """
[[approver]]
name = "traders approve cancels"
roles = ["trader"]
kinds = ["cancel"]
accounts = "granted"
up_to_quote = "unlimited"

[[approver]]
name = "Bea approves a little"
users = ["bea"]
kinds = ["order", "close"]
accounts = ["acct-1"]
up_to_quote = "1000"
"""
BEA = Principal("user-bea", "bea", COMPLIANCE.role, ("acct-1",))


def subject(**changes: Any) -> ApprovalSubject:
    values: dict[str, Any] = {
        "kind": "order",
        "account_id": "acct-1",
        "amount_quote": Decimal(1000),
        "now_ns": at(NOON),
    }
    return ApprovalSubject(**(values | changes))


@pytest.mark.parametrize(
    ("principal", "changes", "expected"),
    [
        (APPROVER, {}, None),
        (APPROVER, {"amount_quote": Decimal(10) ** 12, "account_id": "acct-2"}, None),
        (TRADER, {"kind": "cancel"}, None),
        (TRADER, {}, ReasonCode.POLICY_APPROVER_NOT_PERMITTED),
        (BEA, {}, None),
        (BEA, {"amount_quote": Decimal("1000.01")}, ReasonCode.POLICY_APPROVER_NOT_PERMITTED),
        (BEA, {"kind": "close"}, None),
        (BEA, {"kind": "amend"}, ReasonCode.POLICY_APPROVER_NOT_PERMITTED),
        (BEA, {"account_id": "acct-2"}, ReasonCode.POLICY_APPROVER_NOT_PERMITTED),
        (COMPLIANCE, {}, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
        (msgspec.structs.replace(APPROVER, kind="agent"), {}, ReasonCode.AUTH_ROLE_NOT_PERMITTED),
    ],
)
def test_who_may_approve_what(principal: Principal, changes: dict[str, Any], expected: ReasonCode | None) -> None:
    assert code(policy_with(LIMITED).decide_approval(principal, subject(**changes))) is expected


THRESHOLDS = """
[[threshold]]
name = "large orders"
kinds = ["order", "bracket"]
accounts = "granted"
two_above_quote = "5000"

[[threshold]]
name = "this account"
kinds = ["*"]
accounts = ["acct-2"]
two_above_quote = "0"
"""


@pytest.mark.parametrize(
    ("kind", "account", "amount", "due"),
    [
        ("order", "acct-1", "5000", ApprovalsDue(1)),
        ("order", "acct-1", "5000.01", ApprovalsDue(2, ("large orders",))),
        ("close", "acct-1", "9999", ApprovalsDue(1)),
        ("close", "acct-2", "0.01", ApprovalsDue(2, ("this account",))),
        ("close", "acct-2", "0", ApprovalsDue(1)),
        ("order", "acct-2", "6000", ApprovalsDue(2, ("large orders", "this account"))),
    ],
)
def test_two_people_are_due_above_a_threshold(kind: str, account: str, amount: str, due: ApprovalsDue) -> None:
    assert policy_with(THRESHOLDS).approvals_due(kind, account, Decimal(amount)) == due


@pytest.mark.parametrize(
    ("when", "action", "due"),
    [
        ("arguments.symbol == 'BTCUSDT'", "require_two", ApprovalsDue(2, ("test",))),
        ("arguments.symbol == 'ETHUSDT'", "require_two", ApprovalsDue(1)),
        ("amount_quote >= 100.0", "require_two", ApprovalsDue(2, ("test",))),
        ("true", "require_one", ApprovalsDue(1)),
        ("double(arguments.price) > 1.0", "require_two", ApprovalsDue(2, ("test",))),  # can't be told
    ],
)
def test_a_condition_can_ask_for_two(when: str, action: str, due: ApprovalsDue) -> None:
    policy = policy_with(condition(when, action))
    assert policy.weigh(facts(amount_quote=Decimal(100)), "order") == due
    assert policy.restrict(facts()) is None


amounts = st.decimals(min_value=0, max_value=10**9, allow_nan=False, places=2)


@given(amounts, amounts, st.sampled_from(["order", "close", "amend"]), st.booleans())
def test_no_policy_asks_for_fewer_people_than_the_engine(
    amount: Decimal, threshold: Decimal, kind: str, has_condition: bool
) -> None:
    """The engine asks for at least one; what is due is the larger of both, so a policy can add and never take away."""
    sections = [THRESHOLDS.replace('"5000"', f'"{threshold}"')]
    if has_condition:
        sections.append(condition("true", "require_one"))
    policy = policy_with(*sections)
    for engine_due in (1, 2):
        due = policy.weigh(facts(amount_quote=amount), kind).stricter(engine_due)
        assert due.count >= engine_due
        assert due.count == 2 or engine_due == 1
