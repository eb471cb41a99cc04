"""Tools that tell what an account holds and is exposed to, and what an order or a price move would make of it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from core.types.codes import Refusal
from core.types.views import ExposureView, RiskCheckView
from tools.account_tools import AccountInput, AccountOnlyInput
from tools.market_tools import EVERYONE, READ_TIMEOUT_MS, QuantityInput, SideInput, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import (
    BPS_PER_UNIT,
    Cells,
    DecimalInput,
    DecimalText,
    ToolOutput,
    WholeInput,
    WholeText,
)

WHAT_IF_TIMEOUT_MS = 3_000


class BalanceCells(Cells):
    asset: str
    quantity: Annotated[DecimalText, Field(description="Free and reserved together.")]
    available: DecimalText | None
    reserved: DecimalText | None
    value: Annotated[
        DecimalText | None, Field(description="Worth of the quantity in reporting_asset; null without a price.")
    ]


class GetBalancesOutput(ToolOutput):
    account_id: str
    reporting_asset: str
    equity: DecimalText | None
    known_equity: DecimalText | None
    count: WholeText
    balances: list[BalanceCells]
    unknown: list[str]


async def _get_balances(context: ToolContext, arguments: AccountOnlyInput) -> GetBalancesOutput:
    exposure = await context.ports.engine.exposure(context.account_id)
    return GetBalancesOutput(
        as_of_ns=exposure.as_of_ns,
        account_id=context.account_id,
        reporting_asset=exposure.reporting_asset,
        equity=exposure.equity,
        known_equity=exposure.known_equity,
        count=len(exposure.balances),
        balances=[
            BalanceCells(
                asset=held.asset,
                quantity=held.quantity,
                available=held.available,
                reserved=None if held.available is None else held.quantity - held.available,
                value=held.value,
            )
            for held in exposure.balances
        ],
        unknown=list(exposure.unknown),
    )


class ExposureLineCells(Cells):
    venue: str
    symbol: str
    quantity: DecimalText
    mark_price: DecimalText | None
    notional: DecimalText | None
    open_buy_quantity: DecimalText
    open_sell_quantity: DecimalText
    worst_long_quantity: DecimalText
    worst_short_quantity: DecimalText
    unrealised_pnl: DecimalText | None
    liquidation_price: DecimalText | None


class ExposureCells(Cells):
    """Amounts are in reporting_asset; null where a price or a rate is missing, which unknown names."""

    reporting_asset: str
    equity: DecimalText | None
    known_equity: DecimalText | None
    gross: DecimalText | None
    net: DecimalText | None
    leverage: DecimalText | None
    unrealised_pnl: DecimalText | None
    realised_pnl: DecimalText | None
    fees: DecimalText | None
    funding: DecimalText | None
    margin_used: DecimalText | None
    margin_available: DecimalText | None
    margin_maintenance: DecimalText | None
    unknown: list[str]
    lines: list[ExposureLineCells]


class GetExposureOutput(ToolOutput, ExposureCells):
    account_id: str


def _exposure(view: ExposureView, symbol: str | None = None) -> dict[str, object]:
    totals = {name: getattr(view, name) for name in ExposureCells.model_fields if name not in {"lines", "unknown"}}
    lines = [
        ExposureLineCells(**{name: getattr(line, name) for name in ExposureLineCells.model_fields})
        for line in view.lines
        if symbol in {None, line.symbol}
    ]
    return totals | {"unknown": list(view.unknown), "lines": lines}


class GetExposureInput(AccountOnlyInput):
    symbol: Annotated[
        SymbolInput | None, Field(description="List only this market; the totals stay the account's.")
    ] = None


async def _get_exposure(context: ToolContext, arguments: GetExposureInput) -> GetExposureOutput:
    symbol = (await context.ports.instruments.find(arguments.symbol)).symbol if arguments.symbol else None
    view = await context.ports.engine.exposure(context.account_id)
    values = {"as_of_ns": view.as_of_ns, "account_id": context.account_id} | _exposure(view, symbol)
    return GetExposureOutput.model_validate(values)


class WhatIfInput(AccountOnlyInput):
    account_id: AccountInput = None
    symbol: Annotated[
        SymbolInput | None,
        Field(description="The order's instrument, or the one whose price moves; leave it out to move all prices."),
    ] = None
    side: SideInput | None = None
    quantity: QuantityInput | None = None
    price: Annotated[DecimalInput | None, Field(gt=0, description="Limit price; leave it out for a market order.")] = (
        None
    )
    price_move_bps: Annotated[
        WholeInput | None,
        Field(
            gt=-BPS_PER_UNIT,
            le=BPS_PER_UNIT,
            description="A price move in basis points: -500 is 5 % down. With an order: a move after it.",
        ),
    ] = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.side is None) != (self.quantity is None):
            raise ValueError("an order needs side and quantity")
        if self.side is None and self.price_move_bps is None:
            raise ValueError("give an order (symbol, side, quantity), price_move_bps, or both")
        if self.side is not None and self.symbol is None:
            raise ValueError("an order needs its symbol")
        if self.side is None and self.price is not None:
            raise ValueError("a price goes with an order only")
        return self


class RiskCheckCells(Cells):
    name: str
    passed: bool
    limit: str | None
    actual: str | None
    unit: str | None
    window_ms: WholeText | None
    used_percent: DecimalText | None


class RefusalCells(Cells):
    code: str
    message: str
    limit: str | None
    actual: str | None
    unit: str | None


class WhatIfOutput(ToolOutput):
    account_id: str
    symbol: str | None
    side: str | None
    quantity: DecimalText | None
    price: DecimalText | None
    price_move_bps: WholeText | None
    reporting_asset: str
    pnl_change: DecimalText | None
    known_pnl_change: DecimalText | None
    before: ExposureCells
    after: ExposureCells
    refused: Annotated[bool, Field(description="Whether risk would refuse the order now; false without an order.")]
    refusal: RefusalCells | None
    checks: list[RiskCheckCells]


async def _what_if(context: ToolContext, arguments: WhatIfInput) -> WhatIfOutput:
    symbol = (await context.ports.instruments.find(arguments.symbol)).symbol if arguments.symbol else None
    view = await context.ports.engine.what_if(
        context.account_id,
        symbol or "",
        side=arguments.side,
        quantity=arguments.quantity,
        price=arguments.price,
        price_move_bps=arguments.price_move_bps,
    )
    return WhatIfOutput(
        as_of_ns=view.as_of_ns,
        account_id=context.account_id,
        symbol=symbol,
        side=arguments.side.value if arguments.side else None,
        quantity=arguments.quantity,
        price=arguments.price,
        price_move_bps=arguments.price_move_bps,
        reporting_asset=view.before.reporting_asset,
        pnl_change=view.pnl_change,
        known_pnl_change=view.known_pnl_change,
        before=ExposureCells.model_validate(_exposure(view.before)),
        after=ExposureCells.model_validate(_exposure(view.after)),
        refused=view.refusal is not None,
        refusal=None if view.refusal is None else refusal_cells(view.refusal),
        checks=[check_cells(check) for check in view.checks],
    )


def refusal_cells(refusal: Refusal) -> RefusalCells:
    return RefusalCells(
        code=refusal.code.value,
        message=refusal.message,
        limit=refusal.limit,
        actual=refusal.actual,
        unit=refusal.unit,
    )


def check_cells(check: RiskCheckView) -> RiskCheckCells:
    unit, window_ms = unit_and_window(check.unit)
    return RiskCheckCells(
        name=check.name,
        passed=check.passed,
        limit=check.limit,
        actual=check.actual,
        unit=unit,
        window_ms=window_ms,
        used_percent=check.used_percent,
    )


def unit_and_window(unit: str | None) -> tuple[str | None, int | None]:
    """Of a rate the unit is `per 1000 ms`: a figure needs a cell of its own."""
    words = (unit or "").split()
    is_rate = len(words) == 3 and words[0] == "per" and words[1].isdigit() and words[2] == "ms"
    return (None, int(words[1])) if is_rate else (unit, None)


HOLDINGS_TOOLS = (
    ToolDefinition(
        name="get_balances",
        version="1",
        kind="read",
        description=(
            "What the account holds of each asset at the venue: total, what its open orders reserve, what is "
            "available, the worth in the reporting currency, and the account's equity. Use it for balances, cash, "
            "buying power or equity. Not for positions with their entry price and profit (get_positions). Quantities "
            "are in the asset itself."
        ),
        input_model=AccountOnlyInput,
        output_model=GetBalancesOutput,
        run=_get_balances,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_PORTFOLIO,),
        timeout_ms=READ_TIMEOUT_MS,
        example={},
    ),
    ToolDefinition(
        name="get_exposure",
        version="1",
        kind="read",
        description=(
            "The account's exposure in the reporting currency: gross, net, equity, leverage, margin, profit and "
            "loss, and for each market what is held, what rests in open orders and the worst that could become of "
            "both. Use it for exposure, leverage, margin or concentration. Not for limits (get_risk_limits)."
        ),
        input_model=GetExposureInput,
        output_model=GetExposureOutput,
        run=_get_exposure,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_PORTFOLIO,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT"},
    ),
    ToolDefinition(
        name="what_if",
        version="1",
        kind="read",
        description=(
            "The account as it would be after an order (symbol, side, quantity, maybe price), after a move of one or "
            "of all prices (price_move_bps, -500 is 5 % down), or after both: exposure before and after, what it "
            "does to equity (pnl_change), and whether risk would let the order through. Use it for stress questions "
            "and before suggesting an order. Not for the bare cost of execution (estimate_execution). Fees are "
            "assumed at 0.1 %. It places no order."
        ),
        input_model=WhatIfInput,
        output_model=WhatIfOutput,
        run=_what_if,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_PORTFOLIO, Source.ENGINE_RISK),
        timeout_ms=WHAT_IF_TIMEOUT_MS,
        cost=2,
        example={"symbol": "BTCUSDT", "price_move_bps": -500},
    ),
)
