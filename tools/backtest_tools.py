"""Tools that run backtests and show them. A backtest touches no venue and no account's money."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.backtest.bars import Row
from core.backtest.fills import Terms
from core.backtest.job import Job, Stored, too_few
from core.backtest.recorded import Recorded
from core.backtest.specification import CAPITAL_LEAST_QUOTE, CAPITAL_LIMIT_QUOTE, Specification
from core.backtest.strategies import STRATEGY_NAMES, StrategyName, parse_parameters, shortest_run_bars
from core.market.intervals import NS_PER_DAY
from core.market.intervals import Interval as Bars
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.instruments import Instrument
from core.types.money import decimal_text, to_scaled
from core.types.views import InstrumentView, KlineView
from tools.account_tools import AccountOnlyInput
from tools.backtests import BACKTESTS_SHOWN_LIMIT, Backtest, BacktestStatus
from tools.days import DAYS_LIMIT
from tools.holdings_tools import RefusalCells, refusal_cells
from tools.market_tools import EVERYONE, READ_TIMEOUT_MS, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import Cells, DecimalInput, DecimalText, ToolOutput, WholeInput, WholeText, utc_text

ENGINE_BARS_LIMIT = 1_000
PARAMETERS_LIMIT = 12
START_TIMEOUT_MS = 10_000
START_COST = 20
FAR_AHEAD_NS = 1 << 62

BacktestIdInput = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z]+$", description="The id that run_backtest gave.")
]
BpsInput = Annotated[WholeInput, Field(ge=0, le=1_000)]


class RunBacktestInput(AccountOnlyInput):
    symbol: SymbolInput
    strategy: Annotated[StrategyName, Field(description=f"One of {', '.join(STRATEGY_NAMES)}.")]
    parameters: Annotated[
        dict[str, WholeInput],
        Field(
            max_length=PARAMETERS_LIMIT,
            description=(
                "Whole numbers by name; what is left out has a default. sma_cross: fast, slow. rsi_reversion: period, "
                "buy_below, sell_above. breakout: entry_bars, exit_bars. dip_buying: dip_bps, hold_bars. Every one: "
                "share_bps (of the free quote an entry uses), stop_loss_bps, take_profit_bps."
            ),
        ),
    ] = {}
    interval: Annotated[Literal["1m", "5m", "15m", "1h", "4h", "1d"], Field(description="The length of the bars.")] = (
        "1m"
    )
    source: Annotated[
        Literal["auto", "engine", "recorded"],
        Field(description="The engine's own bars, recorded trades, or whichever of them reaches farther back."),
    ] = "auto"
    days: Annotated[
        WholeInput | None, Field(ge=1, le=DAYS_LIMIT, description="The newest days of what there is; null for all.")
    ] = None
    capital_quote: Annotated[DecimalInput, Field(ge=CAPITAL_LEAST_QUOTE, le=CAPITAL_LIMIT_QUOTE)] = Decimal(10_000)
    slippage_bps: Annotated[
        BpsInput, Field(description="How much worse than the bar's price a market order fills.")
    ] = 5
    maker_fee_bps: Annotated[BpsInput, Field(description="The fee of a limit order that rested.")] = 10
    taker_fee_bps: Annotated[BpsInput, Field(description="The fee of every other fill.")] = 10
    latency_ms: Annotated[
        WholeInput, Field(ge=0, le=3_600_000, description="From a decision to the order's arrival at the venue.")
    ] = 0
    max_volume_share_bps: Annotated[
        WholeInput, Field(ge=1, le=10_000, description="Of a bar's volume, how much may be filled in it.")
    ] = 1_000

    @model_validator(mode="after")
    def _known_parameters(self) -> RunBacktestInput:
        parse_parameters(self.strategy, self.parameters)
        return self


class BacktestCells(Cells):
    """tries: how often you have run a backtest over this symbol and interval, this one included: the more are tried,
    the likelier it is that the best of them is luck."""

    backtest_id: str
    status: BacktestStatus
    progress_percent: WholeText
    strategy: str
    symbol: str
    interval: Annotated[str, Field(description="The length of the bars.")]
    tries: WholeText
    asked_by: str
    created_at: str
    finished_at: str | None
    report_digest: str | None
    refusal: RefusalCells | None


class RunBacktestOutput(ToolOutput):
    account_id: str
    backtest: Annotated[BacktestCells, Field(description="The job as it stands; ask get_backtest for what it finds.")]
    source_of_bars: str
    bars_known: Annotated[WholeText | None, Field(description="How many bars; null until recorded trades are read.")]


async def _run_backtest(context: ToolContext, arguments: RunBacktestInput) -> RunBacktestOutput:
    view = await context.ports.instruments.find(arguments.symbol)
    width_ns = Bars.parse(arguments.interval).width_ns
    assert width_ns is not None, "an interval of a backtest has a width"
    now_ns = context.ports.clock.now_ns()
    span_ns = FAR_AHEAD_NS if arguments.days is None else arguments.days * NS_PER_DAY
    recorded = [] if arguments.source == "engine" else await context.ports.backtests.recorded(view.symbol)
    rows: list[Row] = []
    if arguments.source != "recorded":
        rows = await _engine_rows(context, view, arguments.interval, now_ns - span_ns)
    chosen = _farthest(recorded, len(rows) * width_ns, span_ns)
    if arguments.source == "recorded" and chosen is None:
        raise refuse(
            ReasonCode.MARKET_NO_DATA,
            f"Nothing of {view.symbol} is recorded. Record it with `veloz record`, or take files in with "
            "`veloz data import` or `veloz data import-klines`.",
        )
    parameters = parse_parameters(arguments.strategy, arguments.parameters)
    needed = shortest_run_bars(parameters)
    if chosen is None and len(rows) < needed:
        raise RefusalError(too_few(needed, len(rows)))
    source = "engine" if chosen is None else f"recorded:{chosen.venue}:{chosen.kind}"
    job = Job(
        instrument=_instrument(view),
        interval=arguments.interval,
        source=source,
        specification=_specification(arguments),
        rows=rows if chosen is None else [],
        stored=None if chosen is None else Stored("", chosen, max(0, chosen.last_ns - span_ns), FAR_AHEAD_NS),
    )
    principal = context.principal
    started = await context.ports.backtests.start(
        context.account_id, principal.user_id, job, person_id=principal.person_id
    )
    return RunBacktestOutput(
        as_of_ns=now_ns,
        account_id=context.account_id,
        backtest=_cells(started),
        source_of_bars=source,
        bars_known=len(rows) if chosen is None else None,
    )


async def _engine_rows(context: ToolContext, view: InstrumentView, interval: str, from_ns: int) -> list[Row]:
    klines = await context.ports.engine.klines(view.symbol, interval, ENGINE_BARS_LIMIT)
    return [_row(kline, view) for kline in klines if kline.closed and kline.open_time_ns >= from_ns]


def _row(kline: KlineView, view: InstrumentView) -> Row:
    prices = (to_scaled(price, view.price_scale) for price in (kline.open, kline.high, kline.low, kline.close))
    return (kline.open_time_ns, *prices, to_scaled(kline.volume, view.quantity_scale))  # type: ignore[return-value]


def _farthest(recorded: list[Recorded], engine_ns: int, span_ns: int) -> Recorded | None:
    """The recording that covers more of what was asked for than the engine's own bars do."""
    spans = [(min(item.last_ns - item.first_ns, span_ns), item) for item in recorded]
    longest = max(spans, key=lambda pair: pair[0], default=None)
    return None if longest is None or longest[0] <= engine_ns else longest[1]


def _instrument(view: InstrumentView) -> Instrument:
    return Instrument(
        venue=view.venue,
        symbol=view.symbol,
        base_asset=view.base_asset,
        quote_asset=view.quote_asset,
        price_scale=view.price_scale,
        quantity_scale=view.quantity_scale,
        tick_size=to_scaled(view.tick_size, view.price_scale),
        lot_size=to_scaled(view.lot_size, view.quantity_scale),
        min_quantity=to_scaled(view.min_quantity, view.quantity_scale),
        max_quantity=to_scaled(view.max_quantity, view.quantity_scale),
        min_notional=to_scaled(view.min_notional_quote, view.price_scale + view.quantity_scale),
        version=view.version,
    )


def _specification(arguments: RunBacktestInput) -> Specification:
    return Specification(
        arguments.strategy,
        dict(arguments.parameters),
        decimal_text(arguments.capital_quote),
        Terms(
            slippage_bps=arguments.slippage_bps,
            maker_fee_bps=arguments.maker_fee_bps,
            taker_fee_bps=arguments.taker_fee_bps,
            latency_ms=arguments.latency_ms,
            max_volume_share_bps=arguments.max_volume_share_bps,
        ),
    )


class BacktestDataCells(Cells):
    venue: str
    symbol: str
    interval: Annotated[str, Field(description="The length of the bars.")]
    source: str
    from_time: str
    to_time: str
    bars: Annotated[WholeText, Field(description="How many bars there are.")]
    gaps: Annotated[WholeText, Field(description="How many stretches are missing between the first and the last bar.")]
    missing_bars: WholeText
    digest: Annotated[str, Field(description="SHA-256 of the instrument and every bar.")]


class BacktestAssumptionCells(Cells):
    fill_model: str
    fill_model_says: str
    slippage_bps: Annotated[WholeText, Field(description="How much worse a market order filled, in bps.")]
    maker_fee_bps: WholeText
    taker_fee_bps: WholeText
    latency_ms: WholeText
    max_volume_share_bps: WholeText
    risk_rules_digest: str
    annualisation: str


class BacktestMetricCells(Cells):
    capital_quote: DecimalText
    final_equity_quote: DecimalText
    net_result_quote: DecimalText
    net_return_percent: DecimalText
    benchmark_return_percent: DecimalText
    fees_quote: Annotated[DecimalText, Field(description="Fees, in the quote asset.")]
    turnover_quote: Annotated[DecimalText, Field(description="What was traded, in the quote asset.")]
    turnover_ratio: DecimalText
    max_drawdown_quote: DecimalText
    max_drawdown_percent: DecimalText
    longest_drawdown_s: WholeText
    sharpe: DecimalText | None
    sortino: DecimalText | None
    exposure_percent: DecimalText
    trades: Annotated[WholeText, Field(description="Positions that were closed.")]
    won: WholeText
    win_rate_percent: DecimalText | None
    profit_factor: DecimalText | None
    average_result_quote: DecimalText | None
    orders_asked: WholeText
    orders_refused: WholeText
    orders_too_small: WholeText
    fills: Annotated[WholeText, Field(description="How many fills there were.")]
    open_quantity_base: DecimalText


class BacktestCountCells(Cells):
    code: str
    count: Annotated[WholeText, Field(description="How many.")]


class BacktestCautionCells(Cells):
    code: str
    message: str


class BacktestPointCells(Cells):
    at: str
    equity_quote: DecimalText


class BacktestTradeCells(Cells):
    opened_at: str
    closed_at: str
    quantity: DecimalText
    entry_price: DecimalText
    exit_price: DecimalText
    fees_quote: Annotated[DecimalText, Field(description="Fees, in the quote asset.")]
    result_quote: DecimalText


class BacktestReportCells(Cells):
    """What the run found, and on what."""

    report_schema: str
    mode: str
    as_of_ns: Annotated[WholeText, Field(description="The end of the last bar, nanoseconds since 1970 UTC.")]
    strategy: str
    parameters: Annotated[dict[str, str | None], Field(description="The strategy's parameters, defaults included.")]
    kernel: str
    kernel_digest: str
    data: BacktestDataCells
    assumptions: BacktestAssumptionCells
    metrics: BacktestMetricCells
    refusals: list[BacktestCountCells]
    warnings: list[BacktestCautionCells]
    curve: list[BacktestPointCells]
    trades: Annotated[list[BacktestTradeCells], Field(description="The last positions that were closed, oldest first.")]
    trades_truncated: bool


class BacktestIdOnlyInput(AccountOnlyInput):
    backtest_id: BacktestIdInput


class GetBacktestOutput(ToolOutput):
    account_id: str
    backtest: Annotated[BacktestCells, Field(description="The job as it stands.")]
    report: Annotated[BacktestReportCells | None, Field(description="Null until it is done.")]


async def _get_backtest(context: ToolContext, arguments: BacktestIdOnlyInput) -> GetBacktestOutput:
    found = await context.ports.backtests.get(context.account_id, arguments.backtest_id)
    if found is None:
        raise _unknown(arguments.backtest_id)
    return GetBacktestOutput(
        as_of_ns=context.ports.clock.now_ns(),
        account_id=context.account_id,
        backtest=_cells(found),
        report=None if found.report is None else BacktestReportCells.model_validate(found.report),
    )


class ListBacktestsInput(AccountOnlyInput):
    before: Annotated[BacktestIdInput | None, Field(description="The next_before of the page before.")] = None
    limit: Annotated[WholeInput, Field(ge=1, le=BACKTESTS_SHOWN_LIMIT, description="How many at most.")] = 20


class ListBacktestsOutput(ToolOutput):
    account_id: str
    count: WholeText
    backtests: list[BacktestCells]
    next_before: str | None


async def _list_backtests(context: ToolContext, arguments: ListBacktestsInput) -> ListBacktestsOutput:
    rows = await context.ports.backtests.list(context.account_id, arguments.before, arguments.limit + 1)
    shown = rows[: arguments.limit]
    return ListBacktestsOutput(
        as_of_ns=context.ports.clock.now_ns(),
        account_id=context.account_id,
        count=len(shown),
        backtests=[_cells(row) for row in shown],
        next_before=shown[-1].backtest_id if len(rows) > len(shown) else None,
    )


class StopBacktestOutput(ToolOutput):
    account_id: str
    backtest: Annotated[BacktestCells, Field(description="The job as it stands.")]


async def _stop_backtest(context: ToolContext, arguments: BacktestIdOnlyInput) -> StopBacktestOutput:
    found = await context.ports.backtests.stop(context.account_id, arguments.backtest_id)
    if found is None:
        raise _unknown(arguments.backtest_id)
    return StopBacktestOutput(
        as_of_ns=context.ports.clock.now_ns(), account_id=context.account_id, backtest=_cells(found)
    )


def _cells(row: Backtest) -> BacktestCells:
    return BacktestCells(
        backtest_id=row.backtest_id,
        status=row.status,
        progress_percent=row.progress_percent,
        strategy=row.strategy,
        symbol=row.symbol,
        interval=row.interval,
        tries=row.tries,
        asked_by=row.user_id,
        created_at=utc_text(row.created_ns),
        finished_at=None if row.finished_ns is None else utc_text(row.finished_ns),
        report_digest=row.report_digest_hex or None,
        refusal=None if row.refusal is None else refusal_cells(row.refusal),
    )


def _unknown(backtest_id: str) -> RefusalError:
    return refuse(
        ReasonCode.RESOURCE_NOT_FOUND,
        f"There is no backtest {backtest_id} in this account. list_backtests shows those there are.",
        actual=backtest_id,
    )


_EXAMPLE_ID = "01J00000000000000000000000"
BACKTEST_TOOLS = (
    ToolDefinition(
        name="run_backtest",
        version="1",
        kind="compute",
        description=(
            "Starts a backtest of one of five reference strategies (sma_cross, rsi_reversion, breakout, dip_buying, "
            "buy_and_hold) over past closed bars, through the engine's own risk checks, with stated fees, slippage and "
            "latency, and gives its id at once; get_backtest shows progress and report. Use it for how a rule would "
            "have done on past bars. Not for indicators (compute_indicators), and not for what a live strategy made "
            "(get_pnl). It places no order. A past result promises nothing."
        ),
        input_model=RunBacktestInput,
        output_model=RunBacktestOutput,
        run=_run_backtest,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_MARKET, Source.CATALOG, Source.SQL_BACKTESTS),
        timeout_ms=START_TIMEOUT_MS,
        cost=START_COST,
        example={"symbol": "BTCUSDT", "strategy": "sma_cross", "parameters": {"fast": 10, "slow": 50}, "days": 7},
        is_job=True,
    ),
    ToolDefinition(
        name="get_backtest",
        version="1",
        kind="read",
        description=(
            "One backtest: whether it is queued, running (with progress), done, failed or stopped, and once it is done "
            "its report: return beside buying and holding, fees, drawdown, Sharpe and Sortino, trades, equity curve, "
            "the assumptions and data it was made on, and warnings. Use it for the result of run_backtest. Not for "
            "real profit and loss (get_pnl). Cite its warnings beside its figures."
        ),
        input_model=BacktestIdOnlyInput,
        output_model=GetBacktestOutput,
        run=_get_backtest,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_BACKTESTS,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"backtest_id": _EXAMPLE_ID},
    ),
    ToolDefinition(
        name="list_backtests",
        version="1",
        kind="read",
        description=(
            "The account's backtests, newest first, in pages: id, strategy, symbol, interval, status, and how often "
            "its asker has tried something on the same bars. Use it to find a backtest's id, or what was tried. Not "
            "for one's figures (get_backtest)."
        ),
        input_model=ListBacktestsInput,
        output_model=ListBacktestsOutput,
        run=_list_backtests,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_BACKTESTS,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"limit": 10},
    ),
    ToolDefinition(
        name="stop_backtest",
        version="1",
        kind="compute",
        description=(
            "Ends a backtest that is queued or running; one that is over stays as it is. Use it for a backtest that is "
            "no longer wanted. Not for orders (suggest_cancel), nor for a live strategy (suggest_strategy_change)."
        ),
        input_model=BacktestIdOnlyInput,
        output_model=StopBacktestOutput,
        run=_stop_backtest,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_BACKTESTS,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"backtest_id": _EXAMPLE_ID},
        is_job=True,
    ),
)
