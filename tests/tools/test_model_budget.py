"""Tokens and money of models: set aside before the model is asked, settled with what the provider reported."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from core.types.clock import ManualClock
from core.types.codes import ReasonCode, RefusalError
from tests.tools.people import NOW_NS, TRADER
from tests.tools.policies import TOOLS, text_with
from tools.budgets import BudgetKey, Budgets, InProcessBudgetLedger, Measure, Scope
from tools.model_budget import ANSWER_TOKENS, TOKENS_LIMIT, ModelBudget, ModelUse, check_prices, price_of
from tools.policy import Policy, load_policy
from tools.policy_document import PolicyFileError

PRICED = """
[[price]]
provider = "p"
model = "m"
input_usd_per_million_tokens = "2.50"
output_usd_per_million_tokens = "10"
"""
AGENT = msgspec.structs.replace(TRADER, user_id="agent-1", kind="agent", on_behalf_of=TRADER.user_id)


def policy(*sections: str, tokens: str = "5000000", money: str = "unlimited") -> Policy:
    """Of a user in a day."""
    text = text_with(*sections)
    day = text.index("[budget.user_day]")
    rest = text[day:].replace("tokens = 5000000", f"tokens = {tokens}", 1)
    rest = rest.replace('money_usd = "unlimited"', f'money_usd = "{money}"', 1)
    return load_policy(text[:day] + rest, "policy.toml", TOOLS)


class Books:
    def __init__(self, of: Policy) -> None:
        self.ledger = InProcessBudgetLedger()
        self.budgets = Budgets(self.ledger, "h", ManualClock(NOW_NS))
        self.models = ModelBudget(self.budgets, of)

    async def used(self, measure: Measure = Measure.TOKENS) -> int:
        await self.budgets.flush()
        key = BudgetKey(Scope.USER_DAY, TRADER.user_id, self.budgets.day("UTC"), measure)
        return self.ledger._used.get(key, 0)


@pytest.mark.parametrize(
    ("use", "was_asked", "counted"),
    [
        (ModelUse(120, 30), True, 150),
        (ModelUse(9_000, 1_000), True, 10_000),
        (None, True, 100 + ANSWER_TOKENS),  # nothing was reported: what was set aside
        (None, False, 0),
        # What can't be is as nothing: less than nothing would give back what others used.
        (ModelUse(-5_000, -1), True, 100 + ANSWER_TOKENS),
        (ModelUse(5_000, -1), True, 100 + ANSWER_TOKENS),
        (ModelUse(10**30, 1), True, 100 + ANSWER_TOKENS),
        (ModelUse(TOKENS_LIMIT, 0), True, TOKENS_LIMIT),
    ],
)
async def test_what_a_model_used_is_counted_as_reported_or_as_set_aside(
    use: ModelUse | None, was_asked: bool, counted: int
) -> None:
    books = Books(policy())
    reservation = await books.models.reserve(AGENT, "r", "p", "m", 300)
    assert reservation is not None
    reservation.settle(use, was_asked=was_asked)
    assert await books.used() == counted


async def test_a_model_is_not_asked_once_the_tokens_are_used_up() -> None:
    books = Books(policy(tokens="5000"))
    reservation = await books.models.reserve(TRADER, "r", "p", "m", 300)
    assert reservation is not None
    with pytest.raises(RefusalError) as caught:
        await books.models.reserve(TRADER, "r", "p", "m", 3_000)
    assert caught.value.refusal.code is ReasonCode.COPILOT_BUDGET_EXCEEDED
    assert (caught.value.refusal.limit, caught.value.refusal.unit) == ("5000", "tokens per user and day")
    reservation.settle(ModelUse(10, 10), was_asked=True)
    again = await books.models.reserve(TRADER, "r", "p", "m", 300)
    assert again is not None


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "micro_usd"),
    [(1_000_000, 0, 2_500_000), (0, 1_000_000, 10_000_000), (1, 0, 3), (0, 1, 10), (0, 0, 0)],
)
async def test_money_is_counted_by_the_price_table_and_rounded_up(
    input_tokens: int, output_tokens: int, micro_usd: int
) -> None:
    books = Books(policy(PRICED, money="100"))
    reservation = await books.models.reserve(TRADER, "r", "p", "m", 300)
    assert reservation is not None
    reservation.settle(ModelUse(input_tokens, output_tokens), was_asked=True)
    assert await books.used(Measure.MICRO_USD) == micro_usd


async def test_money_runs_out() -> None:
    books = Books(policy(PRICED, money="0.05"))
    reservation = await books.models.reserve(TRADER, "r", "p", "m", 300)
    assert reservation is not None
    with pytest.raises(RefusalError) as caught:
        await books.models.reserve(TRADER, "r", "p", "m", 300)
    assert (caught.value.refusal.code, caught.value.refusal.limit) == (ReasonCode.COPILOT_BUDGET_EXCEEDED, "50000")


async def test_a_model_without_a_price_is_not_asked_where_money_is_bounded() -> None:
    books = Books(policy(PRICED, money="5"))
    with pytest.raises(RefusalError) as caught:
        await books.models.reserve(TRADER, "r", "p", "another", 300)
    assert (caught.value.refusal.code, caught.value.refusal.actual) == (
        ReasonCode.COPILOT_BUDGET_EXCEEDED,
        "p/another",
    )


async def test_the_planner_of_our_own_costs_nothing() -> None:
    books = Books(policy(money="5"))
    assert await books.models.reserve(TRADER, "r", "offline", "planner", 300) is None


@pytest.mark.parametrize(
    ("of", "provider", "model", "is_right"),
    [
        (policy(), "p", "m", True),
        (policy(money="5"), "p", "m", False),
        (policy(PRICED, money="5"), "p", "m", True),
        (policy(PRICED, money="5"), "p", "n", False),
        (policy(money="5"), "", "", True),
    ],
)
def test_a_policy_that_bounds_money_must_know_the_price_of_the_model_that_is_configured(
    of: Policy, provider: str, model: str, is_right: bool
) -> None:
    if is_right:
        check_prices(of, provider, model)
        return
    with pytest.raises(PolicyFileError, match="has no price"):
        check_prices(of, provider, model)


def test_prices_are_exact() -> None:
    found = price_of(policy(PRICED), "p", "m")
    assert found is not None
    assert (found.input_usd, found.output_usd) == (Decimal("2.50"), Decimal(10))
