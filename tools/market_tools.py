"""Tools that look at the market. They touch no account."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from core.types.orders import Side
from core.types.views import KlineView, LevelView
from tools.contracts import Role
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import (
    Cells,
    DecimalInput,
    DecimalText,
    ToolInput,
    ToolOutput,
    WholeInput,
    WholeText,
    bps,
    mid_price,
    parse_word_input,
    ratio,
    utc_text,
)

EVERYONE = frozenset(Role)
BOOK_DEPTH_LIMIT = 100
KLINES_LIMIT = 500
READ_TIMEOUT_MS = 2_000
LIVE = "LIVE"

SymbolInput = Annotated[
    str, Field(min_length=1, max_length=32, description="The instrument, such as BTCUSDT or BTC/USDT.")
]
SideInput = Annotated[Side, BeforeValidator(parse_word_input)]
QuantityInput = Annotated[DecimalInput, Field(gt=0, description="Quantity in the base asset, as a decimal in text.")]


class Interval(StrEnum):
    ONE_MINUTE = "1m"
    FIVE_MINUTES = "5m"
    FIFTEEN_MINUTES = "15m"
    ONE_HOUR = "1h"


class ListInstrumentsInput(ToolInput):
    pass


class InstrumentCells(Cells):
    symbol: str
    venue: str
    base_asset: str
    quote_asset: str
    tick_size: DecimalText
    lot_size: DecimalText
    min_quantity: DecimalText
    max_quantity: DecimalText
    min_notional_quote: DecimalText
    version: WholeText


class ListInstrumentsOutput(ToolOutput):
    count: WholeText
    instruments: list[InstrumentCells]


async def _list_instruments(context: ToolContext, arguments: ListInstrumentsInput) -> ListInstrumentsOutput:
    instruments = await context.ports.instruments.all()
    cells = [
        InstrumentCells(
            symbol=instrument.symbol,
            venue=instrument.venue,
            base_asset=instrument.base_asset,
            quote_asset=instrument.quote_asset,
            tick_size=instrument.tick_size,
            lot_size=instrument.lot_size,
            min_quantity=instrument.min_quantity,
            max_quantity=instrument.max_quantity,
            min_notional_quote=instrument.min_notional_quote,
            version=instrument.version,
        )
        for instrument in instruments
    ]
    return ListInstrumentsOutput(as_of_ns=context.ports.clock.now_ns(), count=len(cells), instruments=cells)


class GetTickerInput(ToolInput):
    symbol: SymbolInput


class GetTickerOutput(ToolOutput):
    symbol: str
    bid_price: DecimalText
    bid_quantity: DecimalText
    ask_price: DecimalText
    ask_quantity: DecimalText
    mid_price: DecimalText
    spread: DecimalText
    spread_bps: DecimalText
    last_price: DecimalText | None
    last_quantity: DecimalText | None
    update_id: WholeText
    ts_event_ns: WholeText
    ts_event: str
    quote_asset: str
    base_asset: str


async def _get_ticker(context: ToolContext, arguments: GetTickerInput) -> GetTickerOutput:
    instrument = await context.ports.instruments.find(arguments.symbol)
    ticker = await context.ports.engine.ticker(instrument.symbol)
    mid = mid_price(ticker.bid_price, ticker.ask_price)
    spread = ticker.ask_price - ticker.bid_price
    return GetTickerOutput(
        as_of_ns=ticker.as_of_ns,
        symbol=ticker.symbol,
        bid_price=ticker.bid_price,
        bid_quantity=ticker.bid_quantity,
        ask_price=ticker.ask_price,
        ask_quantity=ticker.ask_quantity,
        mid_price=mid,
        spread=spread,
        spread_bps=bps(spread, mid),
        last_price=ticker.last_price,
        last_quantity=ticker.last_quantity,
        update_id=ticker.update_id,
        ts_event_ns=ticker.ts_event_ns,
        ts_event=utc_text(ticker.ts_event_ns),
        quote_asset=instrument.quote_asset,
        base_asset=instrument.base_asset,
    )


class GetOrderBookInput(ToolInput):
    symbol: SymbolInput
    depth: Annotated[WholeInput, Field(ge=1, le=BOOK_DEPTH_LIMIT, description="Levels of each side.")] = 20


class LevelCells(Cells):
    price: DecimalText
    quantity: DecimalText


class GetOrderBookOutput(ToolOutput):
    """imbalance is (bid quantity - ask quantity) / (both) over the levels shown, from -1 to 1."""

    symbol: str
    state: str
    stale_reason: str | None
    last_update_id: WholeText
    bids: list[LevelCells]
    asks: list[LevelCells]
    bid_levels: WholeText
    ask_levels: WholeText
    mid_price: DecimalText | None
    spread: DecimalText | None
    spread_bps: DecimalText | None
    bid_quantity_shown: DecimalText
    ask_quantity_shown: DecimalText
    imbalance: DecimalText | None


async def _get_order_book(context: ToolContext, arguments: GetOrderBookInput) -> GetOrderBookOutput:
    instrument = await context.ports.instruments.find(arguments.symbol)
    book = await context.ports.engine.order_book(instrument.symbol, arguments.depth)
    bids, asks = book.bids[: arguments.depth], book.asks[: arguments.depth]
    mid = spread = spread_bps = None
    if bids and asks:
        mid = mid_price(bids[0].price, asks[0].price)
        spread = asks[0].price - bids[0].price
        spread_bps = bps(spread, mid)
    bid_quantity, ask_quantity = _total(bids), _total(asks)
    both = bid_quantity + ask_quantity
    return GetOrderBookOutput(
        as_of_ns=book.as_of_ns,
        symbol=book.symbol,
        state=book.state,
        stale_reason=book.stale_reason,
        last_update_id=book.last_update_id,
        bids=[LevelCells(price=level.price, quantity=level.quantity) for level in bids],
        asks=[LevelCells(price=level.price, quantity=level.quantity) for level in asks],
        bid_levels=len(bids),
        ask_levels=len(asks),
        mid_price=mid,
        spread=spread,
        spread_bps=spread_bps,
        bid_quantity_shown=bid_quantity,
        ask_quantity_shown=ask_quantity,
        imbalance=ratio(bid_quantity - ask_quantity, both) if both else None,
    )


def _total(levels: tuple[LevelView, ...]) -> Decimal:
    return sum((level.quantity for level in levels), Decimal(0))


class GetKlinesInput(ToolInput):
    symbol: SymbolInput
    interval: Interval = Interval.ONE_MINUTE
    limit: Annotated[WholeInput, Field(ge=1, le=KLINES_LIMIT, description="How many, the newest last.")] = 60


class KlineCells(Cells):
    open_time: str
    open_time_ns: WholeText
    close_time_ns: WholeText
    open: DecimalText
    high: DecimalText
    low: DecimalText
    close: DecimalText
    volume: DecimalText
    quote_volume: DecimalText
    trades: WholeText
    closed: bool


class KlineSummary(Cells):
    """Over all klines shown: change from the first open to the last close."""

    open: DecimalText
    close: DecimalText
    high: DecimalText
    low: DecimalText
    change: DecimalText
    change_bps: DecimalText | None
    range: DecimalText
    volume: DecimalText
    quote_volume: DecimalText
    trades: WholeText
    from_time: str
    to_time: str


class GetKlinesOutput(ToolOutput):
    symbol: str
    interval: str
    count: WholeText
    summary: KlineSummary | None
    klines: list[KlineCells]


async def _get_klines(context: ToolContext, arguments: GetKlinesInput) -> GetKlinesOutput:
    instrument = await context.ports.instruments.find(arguments.symbol)
    klines = await context.ports.engine.klines(instrument.symbol, arguments.interval.value, arguments.limit)
    klines = klines[-arguments.limit :]
    # The engine's klines carry no age of their own: the running one is confirmed up to the ticker's moment.
    as_of_ns = (await context.ports.engine.ticker(instrument.symbol)).as_of_ns
    return GetKlinesOutput(
        as_of_ns=as_of_ns,
        symbol=instrument.symbol,
        interval=arguments.interval.value,
        count=len(klines),
        summary=_summary(klines) if klines else None,
        klines=[
            KlineCells(
                open_time=utc_text(kline.open_time_ns),
                open_time_ns=kline.open_time_ns,
                close_time_ns=kline.close_time_ns,
                open=kline.open,
                high=kline.high,
                low=kline.low,
                close=kline.close,
                volume=kline.volume,
                quote_volume=kline.quote_volume,
                trades=kline.trades,
                closed=kline.closed,
            )
            for kline in klines
        ],
    )


def _summary(klines: list[KlineView]) -> KlineSummary:
    first, last = klines[0], klines[-1]
    high, low = max(kline.high for kline in klines), min(kline.low for kline in klines)
    change = last.close - first.open
    return KlineSummary(
        open=first.open,
        close=last.close,
        high=high,
        low=low,
        change=change,
        change_bps=bps(change, first.open) if first.open else None,
        range=high - low,
        volume=sum((kline.volume for kline in klines), Decimal(0)),
        quote_volume=sum((kline.quote_volume for kline in klines), Decimal(0)),
        trades=sum(kline.trades for kline in klines),
        from_time=utc_text(first.open_time_ns),
        to_time=utc_text(last.close_time_ns),
    )


class GetFeedHealthInput(ToolInput):
    symbol: SymbolInput | None = None


class FeedHealthCells(Cells):
    """See core.types.views.FeedHealthView: ages are since the last message, the counters since the engine's start."""

    symbol: str
    book_state: str
    stale_reason: str | None
    book_age_ms: WholeText | None
    ticker_age_ms: WholeText | None
    exchange_latency_ms_p50: DecimalText | None
    exchange_latency_ms_p99: DecimalText | None
    clock_offset_ms: WholeText | None
    message_rate_per_s: DecimalText
    messages: WholeText
    gaps: WholeText
    resyncs: WholeText
    transitions: WholeText
    stale_time_ms: WholeText
    ticker_comparisons: WholeText
    ticker_mismatches: WholeText
    trades_missed: WholeText


class GetFeedHealthOutput(ToolOutput):
    """live_count of the feeds shown have a verified book at this moment."""

    count: WholeText
    live_count: WholeText
    feeds: list[FeedHealthCells]


async def _get_feed_health(context: ToolContext, arguments: GetFeedHealthInput) -> GetFeedHealthOutput:
    symbol = None
    if arguments.symbol is not None:
        symbol = (await context.ports.instruments.find(arguments.symbol)).symbol
    feeds = await context.ports.engine.feed_health(symbol)
    return GetFeedHealthOutput(
        as_of_ns=min((feed.as_of_ns for feed in feeds), default=context.ports.clock.now_ns()),
        count=len(feeds),
        live_count=sum(feed.book_state == LIVE for feed in feeds),
        feeds=[
            FeedHealthCells(**{name: getattr(feed, name) for name in FeedHealthCells.model_fields}) for feed in feeds
        ],
    )


class EstimateExecutionInput(ToolInput):
    symbol: SymbolInput
    side: SideInput
    quantity: QuantityInput


class EstimateCells(Cells):
    """A sweep of the book as it is. slippage_bps and cost_quote are against the mid, positive when it costs."""

    side: str
    quantity: DecimalText
    filled_quantity: DecimalText
    complete: bool
    average_price: DecimalText | None
    worst_price: DecimalText | None
    mid_price: DecimalText
    slippage_bps: DecimalText | None
    cost_quote: DecimalText | None
    notional_quote: DecimalText
    levels: WholeText


class EstimateExecutionOutput(ToolOutput, EstimateCells):
    symbol: str
    quote_asset: str
    base_asset: str


async def _estimate_execution(context: ToolContext, arguments: EstimateExecutionInput) -> EstimateExecutionOutput:
    instrument = await context.ports.instruments.find(arguments.symbol)
    view = await context.ports.engine.estimate_execution(instrument.symbol, arguments.side, arguments.quantity)
    return EstimateExecutionOutput(
        as_of_ns=view.as_of_ns,
        symbol=view.symbol,
        quote_asset=instrument.quote_asset,
        base_asset=instrument.base_asset,
        side=view.side.value,
        quantity=view.quantity,
        filled_quantity=view.filled_quantity,
        complete=view.complete,
        average_price=view.average_price,
        worst_price=view.worst_price,
        mid_price=view.mid_price,
        slippage_bps=view.slippage_bps,
        cost_quote=view.cost_quote,
        notional_quote=view.notional_quote,
        levels=view.levels,
    )


MARKET_TOOLS = (
    ToolDefinition(
        name="list_instruments",
        version="1",
        kind="read",
        description=(
            "List the instruments that can be looked at and traded here, with base and quote asset, tick size (price "
            "step), lot size (quantity step) and the smallest order. Use it to find the right symbol. Not for prices "
            "(get_ticker). Sizes are in the base asset, prices in the quote asset."
        ),
        input_model=ListInstrumentsInput,
        output_model=ListInstrumentsOutput,
        run=_list_instruments,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        example={},
    ),
    ToolDefinition(
        name="get_ticker",
        version="1",
        kind="read",
        description=(
            "Best bid and ask of an instrument now, with their quantities, the mid price, the spread in quote "
            "currency (spread) and in basis points of the mid (spread_bps), and the last trade. Use it for the "
            "current price or spread. Not for how the price moved (get_klines) nor for depth (get_order_book)."
        ),
        input_model=GetTickerInput,
        output_model=GetTickerOutput,
        run=_get_ticker,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT"},
    ),
    ToolDefinition(
        name="get_order_book",
        version="1",
        kind="read",
        description=(
            "The order book of an instrument, best levels first, up to `depth` levels (1 to 100) of each side, with "
            "mid price, spread and the imbalance of the quantities shown (-1 all asks, 1 all bids). `state` is LIVE "
            "when the book is verified; never rely on a book that isn't. Use it for depth and liquidity. Not for the "
            "cost of one order (estimate_execution). Quantities are in the base asset."
        ),
        input_model=GetOrderBookInput,
        output_model=GetOrderBookOutput,
        run=_get_order_book,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT", "depth": 10},
    ),
    ToolDefinition(
        name="get_klines",
        version="1",
        kind="read",
        description=(
            "Candles (klines) of an instrument at 1m, 5m, 15m or 1h, oldest first, up to 500, with a summary over "
            "all of them: change, high, low, range, volume. Use it for how the price moved. Not for the price now "
            "(get_ticker), nor for indicators (get_indicators). Times are UTC."
        ),
        input_model=GetKlinesInput,
        output_model=GetKlinesOutput,
        run=_get_klines,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        cost=2,
        example={"symbol": "BTCUSDT", "interval": "1m", "limit": 60},
    ),
    ToolDefinition(
        name="get_feed_health",
        version="1",
        kind="read",
        description=(
            "How far the market data can be trusted now, of one instrument or of all: whether the book is LIVE "
            "(verified) or why not, how old book and ticker are, the latency from the exchange in ms (p50 and p99), "
            "the message rate, and since the start: gaps, resyncs, time spent stale, disagreements with the ticker, "
            "missed trades. Use it for questions about freshness, gaps, latency or staleness of the data. Not for "
            "whether the service works (get_system_health)."
        ),
        input_model=GetFeedHealthInput,
        output_model=GetFeedHealthOutput,
        run=_get_feed_health,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT"},
    ),
    ToolDefinition(
        name="estimate_execution",
        version="1",
        kind="read",
        description=(
            "What it would cost to buy or sell a quantity now by sweeping the live book: average and worst price, "
            "slippage against the mid in basis points (slippage_bps), the cost of that in quote currency "
            "(cost_quote), the notional and the levels used. `complete` is false when the book is too thin. Use it "
            "before an order, for cost or slippage. Not for what it does to the account (what_if). It places no "
            "order."
        ),
        input_model=EstimateExecutionInput,
        output_model=EstimateExecutionOutput,
        run=_estimate_execution,
        roles=EVERYONE,
        scope=DataScope.MARKET,
        sources=(Source.ENGINE_MARKET,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.5"},
    ),
)
