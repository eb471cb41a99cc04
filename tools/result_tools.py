"""Tools that add up what an account made and paid, by day, symbol and strategy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from core.portfolio.performance import account_day
from core.types.codes import ReasonCode, refuse
from core.types.views import PositionView
from tools.account_tools import AccountOnlyInput
from tools.days import DAYS_LIMIT, DayInput, days_of
from tools.market_tools import EVERYONE
from tools.projection_lag import BehindText, records_behind
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import Cells, DecimalText, ToolOutput, WholeInput, WholeText

GROUPS_LIMIT = 400
ROWS_LIMIT = 5_000
"""Days times symbols times strategies that are added up in one call."""
RESULTS_TIMEOUT_MS = 5_000
PEOPLE = "(people)"
"""The key of what no strategy did."""


class PnlGroup(StrEnum):
    DAY = "day"
    SYMBOL = "symbol"
    STRATEGY = "strategy"


class _DaysInput(AccountOnlyInput):
    days: Annotated[
        WholeInput, Field(ge=1, le=DAYS_LIMIT, description="Calendar days up to to_day: 1 is that day alone.")
    ] = 30
    from_day: DayInput | None = None
    to_day: DayInput | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.from_day and self.to_day and self.from_day > self.to_day:
            raise ValueError("from_day is after to_day")
        return self


class GetPnlInput(_DaysInput):
    group_by: PnlGroup = PnlGroup.DAY


class PnlCells(Cells):
    """In quote_asset. unrealised_pnl is that of this moment; null by day, and where a mark is missing. By strategy what
    each made of its own position counts, which needn't add up to the account's."""

    key: str
    quote_asset: Annotated[
        str, Field(description="What the amounts are in; empty for a market that isn't listed any more.")
    ]
    realised_pnl: DecimalText
    unrealised_pnl: Annotated[
        DecimalText | None, Field(description="Of what is open now, at the mark; null by day and without a mark.")
    ]
    fees: DecimalText
    funding: DecimalText
    net_pnl: DecimalText
    turnover_quote: DecimalText
    fill_count: WholeText


class GetPnlOutput(ToolOutput):
    account_id: str
    group_by: str
    from_day: str
    to_day: str
    time_zone: str
    count: WholeText
    groups: list[PnlCells]
    totals: list[PnlCells]
    unmeasured_fills: Annotated[
        WholeText, Field(description="Fills whose profit isn't known; they are not in realised_pnl.")
    ]
    unvalued_fees: Annotated[
        bool, Field(description="Whether fees were taken in an asset without a value: see get_fees.")
    ]
    truncated: bool
    records_behind: BehindText


class _Sum:
    """What adds up of one group."""

    def __init__(self) -> None:
        self.realised = self.fees = self.funding = self.turnover = Decimal(0)
        self.unrealised: Decimal | None = Decimal(0)
        self.fills = 0

    def cells(self, key: str, quote_asset: str, *, by_day: bool = False) -> PnlCells:
        return PnlCells(
            key=key,
            quote_asset=quote_asset,
            realised_pnl=self.realised,
            unrealised_pnl=None if by_day else self.unrealised,
            fees=self.fees,
            funding=self.funding,
            net_pnl=self.realised + self.funding - self.fees,
            turnover_quote=self.turnover,
            fill_count=self.fills,
        )

    def hold(self, unrealised: Decimal | None) -> None:
        known = self.unrealised is not None and unrealised is not None
        self.unrealised = (self.unrealised or Decimal(0)) + (unrealised or Decimal(0)) if known else None


_Key = tuple[str, str]
"""Group and quote asset."""


async def _get_pnl(context: ToolContext, arguments: GetPnlInput) -> GetPnlOutput:
    history, group = context.ports.history, arguments.group_by
    zone, from_day, to_day = await _days(context, arguments)
    rows = _bounded(await history.results(context.account_id, from_day, to_day, ROWS_LIMIT))
    settled = _bounded(await history.funding(context.account_id, from_day, to_day, ROWS_LIMIT))
    fees = _bounded(await history.fees(context.account_id, from_day, to_day, ROWS_LIMIT))
    quotes = await _quotes(context)
    sums: defaultdict[_Key, _Sum] = defaultdict(_Sum)
    totals: defaultdict[str, _Sum] = defaultdict(_Sum)
    for row in rows:
        quote = quotes.get(row.symbol, "")
        for place in (sums[_key_of(group, row.day, row.symbol, row.strategy_id), quote], totals[quote]):
            own = group is PnlGroup.STRATEGY
            place.realised += row.strategy_realised_pnl if own else row.realised_pnl
            place.fees += row.fees
            place.turnover += row.turnover
            place.fills += row.fills
    for paid in settled:
        # Funding belongs to a position, which several strategies may share: by strategy it is nobody's own.
        for place in (sums[_key_of(group, paid.day, paid.symbol, ""), paid.asset], totals[paid.asset]):
            place.funding += paid.amount
    positions = await context.ports.engine.positions(context.account_id)
    for position in positions:
        _hold(group, position, quotes.get(position.symbol, ""), sums, totals)
    ordered = sorted(sums, reverse=group is PnlGroup.DAY)
    shown = ordered[:GROUPS_LIMIT]
    by_day = group is PnlGroup.DAY
    return GetPnlOutput(
        as_of_ns=min((position.as_of_ns for position in positions), default=context.ports.clock.now_ns()),
        account_id=context.account_id,
        group_by=group.value,
        from_day=from_day,
        to_day=to_day,
        time_zone=zone,
        count=len(shown),
        groups=[sums[key].cells(*key, by_day=by_day) for key in shown],
        totals=[totals[asset].cells("total", asset) for asset in sorted(totals)],
        unmeasured_fills=sum(row.unmeasured for row in rows),
        unvalued_fees=any(row.fee_quote is None for row in fees),
        truncated=len(shown) < len(ordered),
        records_behind=await records_behind(context),
    )


def _key_of(group: PnlGroup, day: str, symbol: str, strategy_id: str) -> str:
    match group:
        case PnlGroup.DAY:
            return day
        case PnlGroup.SYMBOL:
            return symbol
        case PnlGroup.STRATEGY:
            return strategy_id or PEOPLE


def _hold(
    group: PnlGroup,
    position: PositionView,
    quote: str,
    sums: defaultdict[_Key, _Sum],
    totals: defaultdict[str, _Sum],
) -> None:
    if not position.quantity:
        return
    totals[quote].hold(position.unrealised_pnl_quote)
    if group is PnlGroup.SYMBOL:
        sums[position.symbol, quote].hold(position.unrealised_pnl_quote)
    elif group is PnlGroup.STRATEGY:
        for part in position.strategies:
            sums[part.strategy_id or PEOPLE, quote].hold(part.unrealised_pnl_quote)


class FeeGroup(StrEnum):
    ASSET = "asset"
    SYMBOL = "symbol"
    DAY = "day"


class GetFeesInput(_DaysInput):
    group_by: FeeGroup = FeeGroup.SYMBOL


class FeeCells(Cells):
    key: str
    asset: str
    amount: DecimalText
    maker: DecimalText
    taker: DecimalText
    fill_count: WholeText


class ValuedFeeCells(Cells):
    quote_asset: str
    amount: Annotated[DecimalText | None, Field(description="All fees valued in it; null when a part has no value.")]


class GetFeesOutput(ToolOutput):
    account_id: str
    group_by: str
    from_day: str
    to_day: str
    time_zone: str
    count: WholeText
    groups: list[FeeCells]
    totals: Annotated[list[FeeCells], Field(description="Over all groups, one for each asset that fees were taken in.")]
    valued: Annotated[list[ValuedFeeCells], Field(description="Fees of each quote asset's markets, valued in it.")]
    truncated: bool
    records_behind: BehindText


async def _get_fees(context: ToolContext, arguments: GetFeesInput) -> GetFeesOutput:
    zone, from_day, to_day = await _days(context, arguments)
    rows = _bounded(await context.ports.history.fees(context.account_id, from_day, to_day, ROWS_LIMIT))
    quotes = await _quotes(context)
    groups: defaultdict[_Key, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0), Decimal(0)])
    totals: defaultdict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0), Decimal(0)])
    valued: dict[str, Decimal | None] = {}
    for row in rows:
        key = {FeeGroup.ASSET: row.asset, FeeGroup.SYMBOL: row.symbol, FeeGroup.DAY: row.day}[arguments.group_by]
        for place in (groups[key, row.asset], totals[row.asset]):
            for index, amount in enumerate((row.maker, row.taker, Decimal(row.fills))):
                place[index] += amount
        quote = quotes.get(row.symbol, "")
        before = valued.get(quote, Decimal(0))
        valued[quote] = None if before is None or row.fee_quote is None else before + row.fee_quote
    ordered = sorted(groups, reverse=arguments.group_by is FeeGroup.DAY)
    shown = ordered[:GROUPS_LIMIT]
    return GetFeesOutput(
        as_of_ns=context.ports.clock.now_ns(),
        account_id=context.account_id,
        group_by=arguments.group_by.value,
        from_day=from_day,
        to_day=to_day,
        time_zone=zone,
        count=len(shown),
        groups=[_fee_cells(*key, groups[key]) for key in shown],
        totals=[_fee_cells("total", asset, totals[asset]) for asset in sorted(totals)],
        valued=[ValuedFeeCells(quote_asset=quote, amount=valued[quote]) for quote in sorted(valued)],
        truncated=len(shown) < len(ordered),
        records_behind=await records_behind(context),
    )


def _fee_cells(key: str, asset: str, sums: list[Decimal]) -> FeeCells:
    maker, taker, fills = sums
    return FeeCells(key=key, asset=asset, amount=maker + taker, maker=maker, taker=taker, fill_count=int(fills))


async def _days(context: ToolContext, arguments: _DaysInput) -> tuple[str, str, str]:
    """(time zone, first day, last day). Raises RefusalError(TOOL_ARGUMENTS_INVALID) for more than DAYS_LIMIT days."""
    zone = await context.ports.history.time_zone(context.account_id)
    today = account_day(context.ports.clock.now_ns(), zone)
    from_day, to_day = days_of(today, arguments.days, arguments.from_day, arguments.to_day)
    return zone, from_day, to_day


async def _quotes(context: ToolContext) -> dict[str, str]:
    return {instrument.symbol: instrument.quote_asset for instrument in await context.ports.instruments.all()}


class _Row(Protocol):
    @property
    def day(self) -> str: ...


R = TypeVar("R", bound=_Row)


def _bounded(rows: Sequence[R]) -> Sequence[R]:
    """Raises RefusalError(TOOL_ARGUMENTS_INVALID): a sum over a part of the rows would be a wrong one."""
    if len(rows) > ROWS_LIMIT:
        raise refuse(
            ReasonCode.TOOL_ARGUMENTS_INVALID,
            f"Those days hold more than can be added up in one call. Ask for days after {rows[-1].day}.",
            limit=str(ROWS_LIMIT),
            unit="rows",
        )
    return rows


RESULT_TOOLS = (
    ToolDefinition(
        name="get_pnl",
        version="1",
        kind="read",
        description=(
            "Profit and loss by day, symbol or strategy, over up to 366 calendar days of the account's time zone: "
            "realised (before fees), fees, funding, net, turnover and fills of each group, with totals a currency, "
            "and what is unrealised now. days=1 is today; or give from_day and to_day. Use it for `what did I make "
            "today`, by symbol or by strategy. Not for open positions one by one (get_positions). Amounts are in "
            "quote_asset."
        ),
        input_model=GetPnlInput,
        output_model=GetPnlOutput,
        run=_get_pnl,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_FILLS, Source.SQL_FUNDING, Source.SQL_PROJECTIONS, Source.ENGINE_PORTFOLIO),
        timeout_ms=RESULTS_TIMEOUT_MS,
        cost=3,
        example={"group_by": "day", "days": 7},
    ),
    ToolDefinition(
        name="get_fees",
        version="1",
        kind="read",
        description=(
            "What was paid in fees by symbol, asset or day, over up to 366 calendar days of the account's time zone: "
            "amounts in the asset that they were taken in, as maker and as taker, and valued in the quote asset. "
            "days=1 is today. Use it for costs of trading. Not for profit (get_pnl)."
        ),
        input_model=GetFeesInput,
        output_model=GetFeesOutput,
        run=_get_fees,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_FILLS, Source.SQL_PROJECTIONS, Source.ENGINE_STATUS),
        timeout_ms=RESULTS_TIMEOUT_MS,
        cost=2,
        example={"group_by": "asset", "days": 30},
    ),
)
