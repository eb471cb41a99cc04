"""The tool that shows the strategies: the mandates that the engine holds, and what each has made of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.types.views import MandateView, PositionView
from tools.account_tools import AccountOnlyInput
from tools.market_tools import EVERYONE, READ_TIMEOUT_MS
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.untrusted import UntrustedText
from tools.values import Cells, DecimalText, ToolOutput, WholeText, ratio, utc_text

STRATEGIES_SHOWN_LIMIT = 100
PERCENT = 100


class ListStrategiesInput(AccountOnlyInput):
    include_ended: Annotated[bool, Field(description="Also those whose mandate has expired or was revoked.")] = False


class StrategyPositionCells(Cells):
    symbol: str
    quantity: DecimalText
    average_price: DecimalText
    realised_pnl_quote: DecimalText
    unrealised_pnl_quote: DecimalText | None
    fees_quote: DecimalText


class StrategyCells(Cells):
    strategy_id: UntrustedText
    mandate_id: str
    state: Annotated[str, Field(description="Of the mandate: in force, expired or revoked.")]
    venue: str
    symbols: list[str]
    orders_used: WholeText
    max_open_orders: WholeText
    notional_used_quote: DecimalText
    max_total_notional_quote: DecimalText
    used_percent: Annotated[DecimalText, Field(description="notional_used_quote as a percentage of what is allowed.")]
    max_order_notional_quote: DecimalText
    max_position_notional_quote: DecimalText
    asker_id: str
    installed_at: str
    expires_at: str
    positions: list[StrategyPositionCells]


class ListStrategiesOutput(ToolOutput):
    account_id: str
    count: WholeText
    strategies: list[StrategyCells]
    truncated: bool


async def _list_strategies(context: ToolContext, arguments: ListStrategiesInput) -> ListStrategiesOutput:
    engine = context.ports.engine
    mandates = await engine.mandates(context.account_id, include_ended=arguments.include_ended)
    positions = await engine.positions(context.account_id)
    own = [mandate for mandate in mandates if mandate.account_id == context.account_id]
    shown = own[:STRATEGIES_SHOWN_LIMIT]
    return ListStrategiesOutput(
        as_of_ns=min((mandate.as_of_ns for mandate in shown), default=context.ports.clock.now_ns()),
        account_id=context.account_id,
        count=len(shown),
        strategies=[_cells(mandate, positions) for mandate in shown],
        truncated=len(shown) < len(own),
    )


def _cells(mandate: MandateView, positions: list[PositionView]) -> StrategyCells:
    used, allowed = mandate.notional_used_quote, mandate.max_total_notional_quote
    return StrategyCells(
        strategy_id=mandate.strategy_id,
        mandate_id=mandate.mandate_id,
        state=mandate.state,
        venue=mandate.venue,
        symbols=list(mandate.symbols),
        orders_used=mandate.orders_used,
        max_open_orders=mandate.max_open_orders,
        notional_used_quote=used,
        max_total_notional_quote=allowed,
        used_percent=ratio(used * PERCENT, allowed),
        max_order_notional_quote=mandate.max_order_notional_quote,
        max_position_notional_quote=mandate.max_position_notional_quote,
        asker_id=mandate.asker_id,
        installed_at=utc_text(mandate.installed_ns),
        expires_at=utc_text(mandate.expires_ns),
        positions=[
            StrategyPositionCells(
                symbol=position.symbol,
                quantity=part.quantity,
                average_price=part.average_price,
                realised_pnl_quote=part.realised_pnl_quote,
                unrealised_pnl_quote=part.unrealised_pnl_quote,
                fees_quote=part.fees_quote,
            )
            for position in positions
            for part in position.strategies
            if part.strategy_id == mandate.strategy_id
        ],
    )


STRATEGY_TOOLS = (
    ToolDefinition(
        name="list_strategies",
        version="1",
        kind="read",
        description=(
            "The strategies that may trade on the account: each mandate with its markets, its limits and what is "
            "used of them, whether it is in force, and the strategy's own positions with their profit and loss. Use "
            "it for what is running and how much it may still do. Not for profit by day or symbol (get_pnl). "
            "Backtests are elsewhere (list_backtests). Amounts are in quote currency."
        ),
        input_model=ListStrategiesInput,
        output_model=ListStrategiesOutput,
        run=_list_strategies,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_MANDATES, Source.ENGINE_PORTFOLIO),
        timeout_ms=READ_TIMEOUT_MS,
        example={"include_ended": True},
    ),
)
