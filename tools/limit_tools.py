"""The tool that tells how near an account is to each of its limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from core.types.views import LimitUseLineView
from tools.account_tools import AccountOnlyInput
from tools.market_tools import EVERYONE, READ_TIMEOUT_MS
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.untrusted import UntrustedText
from tools.values import Cells, DecimalText, ToolOutput, WholeText

LIMITS_SHOWN_LIMIT = 300


class LimitUseCells(Cells):
    name: str
    symbol: Annotated[str | None, Field(description="The market that it is about; null for the whole account.")]
    limit: DecimalText
    used: DecimalText | None
    used_percent: DecimalText | None
    unit: str
    window_ms: WholeText | None
    level: str


class GetRiskLimitsOutput(ToolOutput):
    """limits: the nearest to being reached first, those that bound a single order last."""

    account_id: str
    rules_version: WholeText
    kill_switch: str
    frozen_reason: UntrustedText | None
    nearest: Annotated[str | None, Field(description="Code of the limit that is nearest to being reached.")]
    nearest_used_percent: Annotated[DecimalText | None, Field(description="How much of that one is used.")]
    count: WholeText
    limits: list[LimitUseCells]
    truncated: bool


async def _get_risk_limits(context: ToolContext, arguments: AccountOnlyInput) -> GetRiskLimitsOutput:
    use = await context.ports.engine.limit_use(context.account_id)
    state = await context.ports.engine.risk_state(context.account_id)
    shown = use.limits[:LIMITS_SHOWN_LIMIT]
    nearest = _nearest(shown)
    return GetRiskLimitsOutput(
        as_of_ns=min(use.as_of_ns, state.as_of_ns),
        account_id=context.account_id,
        rules_version=use.rules_version,
        kill_switch=state.kill_switch,
        frozen_reason=state.frozen_reason,
        nearest=None if nearest is None else nearest.name,
        nearest_used_percent=None if nearest is None else nearest.used_percent,
        count=len(shown),
        limits=[_cells(line) for line in shown],
        truncated=len(shown) < len(use.limits),
    )


def _nearest(lines: tuple[LimitUseLineView, ...]) -> LimitUseLineView | None:
    """None while nothing is used of any."""
    used = [line for line in lines if line.used_percent]
    return max(used, key=lambda line: line.used_percent or Decimal(0), default=None)


def _cells(line: LimitUseLineView) -> LimitUseCells:
    return LimitUseCells(
        name=line.name,
        symbol=line.symbol or None,
        limit=line.limit,
        used=line.used,
        used_percent=line.used_percent,
        unit=line.unit,
        window_ms=line.window_ms,
        level=line.source,
    )


LIMIT_TOOLS = (
    ToolDefinition(
        name="get_risk_limits",
        version="1",
        kind="read",
        description=(
            "Every risk limit of the account with how much of it is used now, the nearest to being reached first: "
            "positions, gross and net exposure, leverage, open orders, daily loss, drawdown, order rates. Exposures "
            "are worst cases: open orders count as filled. used is null for limits that bound a single order. Use it "
            "for headroom and `how close am I to my limits`. Not for whether one order would pass (what_if), nor for "
            "the bare rules (get_risk_state)."
        ),
        input_model=AccountOnlyInput,
        output_model=GetRiskLimitsOutput,
        run=_get_risk_limits,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_RISK,),
        timeout_ms=READ_TIMEOUT_MS,
        cost=2,
        example={},
    ),
)
