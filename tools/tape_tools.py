"""The tool that shows the public trades."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from core.types.orders import Side
from tools.market_tools import EVERYONE, READ_TIMEOUT_MS, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import Cells, DecimalText, ToolInput, ToolOutput, WholeInput, WholeText, ratio, utc_text

TRADES_LIMIT = 200


class GetTradesInput(ToolInput):
    symbol: SymbolInput
    limit: Annotated[WholeInput, Field(ge=1, le=TRADES_LIMIT, description="How many, the newest last.")] = 20


class TradeCells(Cells):
    trade_id: WholeText
    price: DecimalText
    quantity: DecimalText
    notional_quote: DecimalText
    side: str
    ts_event: str
    ts_event_ns: WholeText


class TradesSummary(Cells):
    """Over the trades listed."""

    high: DecimalText
    low: DecimalText
    average_price: Annotated[DecimalText, Field(description="Weighted by quantity, to eight places.")]
    bought_quantity: Annotated[DecimalText, Field(description="Quantity of trades in which the buyer took.")]
    sold_quantity: Annotated[DecimalText, Field(description="Quantity of trades in which the seller took.")]
    buy_share: Annotated[DecimalText, Field(description="bought_quantity as a part of both, from 0 to 1.")]
    turnover_quote: DecimalText
    from_time: str
    to_time: str


class GetTradesOutput(ToolOutput):
    symbol: str
    base_asset: str
    quote_asset: str
    count: WholeText
    summary: TradesSummary
    trades: Annotated[list[TradeCells], Field(description="Public trades, oldest first.")]


AVERAGE_PLACES = Decimal("0.00000001")


async def _get_trades(context: ToolContext, arguments: GetTradesInput) -> GetTradesOutput:
    instrument = await context.ports.instruments.find(arguments.symbol)
    trades = await context.ports.engine.trades(instrument.symbol, arguments.limit)
    # That nothing newer was traded holds as far as the ticker was confirmed.
    as_of_ns = (await context.ports.engine.ticker(instrument.symbol)).as_of_ns
    bought = sum((trade.quantity for trade in trades if trade.side is Side.BUY), Decimal(0))
    quantity = sum((trade.quantity for trade in trades), Decimal(0))
    turnover = sum((trade.quantity * trade.price for trade in trades), Decimal(0))
    return GetTradesOutput(
        as_of_ns=as_of_ns,
        symbol=instrument.symbol,
        base_asset=instrument.base_asset,
        quote_asset=instrument.quote_asset,
        count=len(trades),
        summary=TradesSummary(
            high=max(trade.price for trade in trades),
            low=min(trade.price for trade in trades),
            average_price=(turnover / quantity).quantize(AVERAGE_PLACES),
            bought_quantity=bought,
            sold_quantity=quantity - bought,
            buy_share=ratio(bought, quantity),
            turnover_quote=turnover,
            from_time=utc_text(trades[0].ts_event_ns),
            to_time=utc_text(trades[-1].ts_event_ns),
        ),
        trades=[
            TradeCells(
                trade_id=trade.trade_id,
                price=trade.price,
                quantity=trade.quantity,
                notional_quote=trade.quantity * trade.price,
                side=trade.side.value,
                ts_event=utc_text(trade.ts_event_ns),
                ts_event_ns=trade.ts_event_ns,
            )
            for trade in trades
        ],
    )


TAPE_TOOLS = (
    ToolDefinition(
        name="get_trades",
        version="1",
        kind="read",
        description=(
            "The newest public trades of an instrument (the tape), oldest first, up to 200, with a summary: average "
            "price, highest, lowest, and how much was bought and sold by those who took. Use it for what just "
            "traded, and on which side. Not for your own fills (get_fills), nor for longer spans (get_klines). "
            "Prices are in the quote asset, quantities in the base asset."
        ),
        input_model=GetTradesInput,
        output_model=GetTradesOutput,
        run=_get_trades,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT", "limit": 20},
    ),
)
