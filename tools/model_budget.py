"""What a copilot may spend on models: tokens, and money by the policy's own price table, out of the same budgets as
calls of tools. A price is never made up: where money is bounded, a model without one isn't asked."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal

import msgspec

from core.types.codes import ReasonCode, RefusalError, refuse
from tools.budgets import BudgetLimits, Budgets, Measure, Reservation
from tools.contracts import Principal
from tools.limits import MICRO_USD_PER_USD
from tools.policy import Policy, PolicySource
from tools.policy_document import PolicyFileError

CHARS_PER_TOKEN = 3
"""Fewer than any tokenizer in use needs on average, so that a prompt is set aside for as more than it comes to."""
TOKENS_LIMIT = 1_000_000_000
"""Of one answer: what reports more, or less than nothing, has reported nothing."""
ANSWER_TOKENS = 4_096
"""What is set aside for an answer. One that is longer is counted as it was."""
TOKENS_PER_PRICE = 1_000_000
OWN_PROVIDER = "offline"
"""The planner within this process: it costs nobody anything."""


class ModelUse(msgspec.Struct, frozen=True):
    """Tokens of one answer, as the provider reported them."""

    input_tokens: int
    output_tokens: int


class ModelReservation:
    """What was set aside for one answer of a model. settle it, whatever became of it."""

    def __init__(self, reservation: Reservation, amounts: Mapping[Measure, int], prices: _Prices | None) -> None:
        self._reservation = reservation
        self._amounts = amounts
        self._prices = prices

    def settle(self, use: ModelUse | None, *, was_asked: bool) -> None:
        """use is what the provider reported. Where it reported none that can be, but was asked, what was set aside
        counts: it may have cost as much. A model that was never reached has cost nothing."""
        if use is None or not all(0 <= tokens <= TOKENS_LIMIT for tokens in (use.input_tokens, use.output_tokens)):
            self._reservation.settle(self._amounts if was_asked else {})
            return
        used = {Measure.TOKENS: use.input_tokens + use.output_tokens}
        if self._prices is not None:
            used[Measure.MICRO_USD] = self._prices.micro_usd(use.input_tokens, use.output_tokens)
        self._reservation.settle(used)


class ModelBudget:
    """Sets aside for an answer before the model is asked."""

    def __init__(self, budgets: Budgets, policies: PolicySource) -> None:
        self._budgets = budgets
        self._policies = policies

    async def reserve(
        self, principal: Principal, run_id: str, provider: str, model: str, prompt_chars: int
    ) -> ModelReservation | None:
        """None for a model of our own.

        Raises RefusalError: COPILOT_BUDGET_EXCEEDED, SERVICE_POLICY_INVALID, SERVICE_DATABASE_UNAVAILABLE.
        """
        if provider == OWN_PROVIDER:
            return None
        policy = self._policies.current()
        limits = policy.limits.budgets()
        prompt_tokens = -(-prompt_chars // CHARS_PER_TOKEN)
        amounts = {Measure.TOKENS: prompt_tokens + ANSWER_TOKENS}
        prices = price_of(policy, provider, model)
        if is_money_bounded(limits):
            if prices is None:
                raise _unpriced(provider, model)
            amounts[Measure.MICRO_USD] = prices.micro_usd(prompt_tokens, ANSWER_TOKENS)
        try:
            reservation = await self._budgets.reserve(principal.person_id, run_id, amounts, limits)
        except RefusalError as error:
            raise _of_the_copilot(error) from error
        return ModelReservation(reservation, amounts, prices if Measure.MICRO_USD in amounts else None)


class _Prices(msgspec.Struct, frozen=True):
    """In US dollars for a million tokens."""

    input_usd: Decimal
    output_usd: Decimal

    def micro_usd(self, input_tokens: int, output_tokens: int) -> int:
        """Rounded up: a budget is never helped by rounding."""
        usd = (self.input_usd * input_tokens + self.output_usd * output_tokens) / TOKENS_PER_PRICE
        return int((usd * MICRO_USD_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def price_of(policy: Policy, provider: str, model: str) -> _Prices | None:
    """From the policy's table; None when it has none for that model."""
    for price in policy.document.price:
        if (price.provider, price.model) == (provider, model):
            return _Prices(Decimal(price.input_usd_per_million_tokens), Decimal(price.output_usd_per_million_tokens))
    return None


def is_money_bounded(limits: BudgetLimits) -> bool:
    return any(bounds.micro_usd is not None for bounds in (limits.run, limits.user_day, limits.firm_day))


def check_prices(policy: Policy, provider: str, model: str) -> None:
    """Whether the model that is configured can be asked under a bound of money. Raises PolicyFileError."""
    if provider and is_money_bounded(policy.limits.budgets()) and price_of(policy, provider, model) is None:
        raise PolicyFileError(
            f"policy version {policy.version}: key 'price': money_usd is bounded, and {model} of {provider} has no "
            'price. Add a [[price]] section with what its provider charges, or set money_usd = "unlimited"'
        )


def _unpriced(provider: str, model: str) -> RefusalError:
    return refuse(
        ReasonCode.COPILOT_BUDGET_EXCEEDED,
        f"Money is bounded, and the policy knows no price of {model}, so it isn't asked. Add its [[price]].",
        limit="a price",
        actual=f"{provider}/{model}",
        unit="model",
    )


def _of_the_copilot(error: RefusalError) -> RefusalError:
    if error.refusal.code is not ReasonCode.TOOL_BUDGET_EXCEEDED:
        return error
    renamed = msgspec.structs.replace(error.refusal, code=ReasonCode.COPILOT_BUDGET_EXCEEDED)
    return RefusalError(renamed, error.retry_after_ms)
