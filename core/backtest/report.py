"""What a backtest says: figures with the terms they were made on, and what to hold against them.

Every number is text, so that the digest is the same wherever it is computed. The same bars, strategy, parameters and
terms give the same report and digest; nothing of the machine, the user or the hour is in it.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

import msgspec

from core.backtest.bars import GAPS_SHOWN_LIMIT, BarSeries
from core.backtest.fills import BPS, FILL_MODEL, FILL_MODEL_TEXT
from core.backtest.metrics import bought_and_held, drawdown_of, sampled, sharpe_of, trades_of
from core.backtest.strategies import Parameters
from core.backtest.trading import TradingDesk
from core.kernel.kernel import SNAPSHOT_SCHEMA
from core.risk.rules import rules_digest
from core.text.canonical import canonical_json
from core.types.clock import NS_PER_S, format_utc_us
from core.types.events import ClosedPosition
from core.types.money import decimal_text, scaled_text

REPORT_SCHEMA = "veloz.backtest-report/1"
REPORT_DOMAIN_TAG = b"veloz/backtest-report/v1\x00"
MODE = "BACKTEST"
CURVE_POINTS_LIMIT = 200
TRADES_SHOWN_LIMIT = 100
FEW_TRADES = 30
"""Below so many closed positions a mean says little about the next one."""
RATIO_DIGITS = 6
IN_SAMPLE_ONLY = (
    "All bars were used to judge the strategy and none was kept back: parameters that were chosen after looking at "
    "these bars do worse on others."
)
ANNUALISATION = "returns from bar to bar, times the root of the bars in a year of 365 days; no risk-free rate"


class Caution(msgspec.Struct, frozen=True):
    """What to hold against the figures: a stable code and a sentence."""

    code: str
    message: str


class CurvePoint(msgspec.Struct, frozen=True):
    at: str
    equity_quote: str


class TradeRow(msgspec.Struct, frozen=True):
    """A position from flat to flat; result_quote is after fees."""

    opened_at: str
    closed_at: str
    quantity: str
    entry_price: str
    exit_price: str
    fees_quote: str
    result_quote: str


class Count(msgspec.Struct, frozen=True):
    code: str
    count: str


class Data(msgspec.Struct, frozen=True):
    """What it was run over. digest is of the instrument and every bar."""

    venue: str
    symbol: str
    interval: str
    source: str
    from_time: str
    to_time: str
    bars: str
    gaps: str
    missing_bars: str
    digest: str


class Assumptions(msgspec.Struct, frozen=True):
    """What was taken for granted."""

    fill_model: str
    fill_model_says: str
    slippage_bps: str
    maker_fee_bps: str
    taker_fee_bps: str
    latency_ms: str
    max_volume_share_bps: str
    risk_rules_digest: str
    annualisation: str


class Metrics(msgspec.Struct, frozen=True):
    """Percentages and ratios; None where there is nothing to compute one of."""

    capital_quote: str
    final_equity_quote: str
    net_result_quote: str
    net_return_percent: str
    benchmark_return_percent: str
    fees_quote: str
    turnover_quote: str
    turnover_ratio: str
    max_drawdown_quote: str
    max_drawdown_percent: str
    longest_drawdown_s: str
    sharpe: str | None
    sortino: str | None
    exposure_percent: str
    trades: str
    won: str
    win_rate_percent: str | None
    profit_factor: str | None
    average_result_quote: str | None
    orders_asked: str
    orders_refused: str
    orders_too_small: str
    fills: str
    open_quantity_base: str


class Report(msgspec.Struct, frozen=True):
    report_schema: str
    mode: str
    as_of_ns: str
    strategy: str
    parameters: dict[str, str | None]
    kernel: str
    kernel_digest: str
    data: Data
    assumptions: Assumptions
    metrics: Metrics
    refusals: list[Count]
    warnings: list[Caution]
    curve: list[CurvePoint]
    trades: list[TradeRow]
    trades_truncated: bool


class Run(msgspec.Struct, frozen=True):
    """What the runner found. equities begin with the capital, then one after each bar."""

    desk: TradingDesk
    series: BarSeries
    equities: list[int]
    exposed_bars: int
    first_open: int
    last_close: int
    capital: int


def report_digest(report: Report) -> str:
    """Hex SHA-256 over a domain tag and the report's RFC 8785 form."""
    return hashlib.sha256(REPORT_DOMAIN_TAG + canonical_json(msgspec.to_builtins(report))).hexdigest()


def report_of(run: Run, name: str, parameters: Parameters, rules_document: str) -> Report:
    desk, series, terms = run.desk, run.series, run.desk.terms
    gaps = series.gaps()
    missing = sum((until_ns - from_ns) // series.width_ns for from_ns, until_ns in gaps)
    assert desk.position().quantity == desk.base, "the kernel's position is what the fills add up to"
    return Report(
        report_schema=REPORT_SCHEMA,
        mode=MODE,
        as_of_ns=str(series.until_ns),
        strategy=name,
        parameters={
            key: None if value is None else str(value) for key, value in sorted(parameters.model_dump().items())
        },
        kernel=SNAPSHOT_SCHEMA,
        kernel_digest=desk.kernel.state_digest(),
        data=Data(
            venue=series.instrument.venue,
            symbol=series.instrument.symbol,
            interval=series.interval,
            source=series.source,
            from_time=format_utc_us(series.from_ns),
            to_time=format_utc_us(series.until_ns),
            bars=str(len(series)),
            gaps=str(len(gaps)),
            missing_bars=str(missing),
            digest=series.digest(),
        ),
        assumptions=Assumptions(
            fill_model=FILL_MODEL,
            fill_model_says=FILL_MODEL_TEXT,
            slippage_bps=str(terms.slippage_bps),
            maker_fee_bps=str(terms.maker_fee_bps),
            taker_fee_bps=str(terms.taker_fee_bps),
            latency_ms=str(terms.latency_ms),
            max_volume_share_bps=str(terms.max_volume_share_bps),
            risk_rules_digest=rules_digest(rules_document),
            annualisation=ANNUALISATION,
        ),
        metrics=_metrics(run),
        refusals=[Count(code, str(count)) for code, count in sorted(desk.refusals.items())],
        warnings=_warnings(run, len(gaps), missing),
        curve=_curve(run),
        trades=[_row(run, closed) for closed in desk.closed[-TRADES_SHOWN_LIMIT:]],
        trades_truncated=len(desk.closed) > TRADES_SHOWN_LIMIT,
    )


def _metrics(run: Run) -> Metrics:
    desk, series, capital = run.desk, run.series, run.capital
    instrument, scale = series.instrument, series.instrument.notional_scale
    final = run.equities[-1]
    held = bought_and_held(
        capital,
        run.first_open,
        run.last_close,
        slippage_bps=desk.terms.slippage_bps,
        fee_bps=desk.terms.taker_fee_bps,
        tick=instrument.tick_size,
        lot=instrument.lot_size,
    )
    drawdown = drawdown_of(run.equities, _times(series))
    ratios = sharpe_of(run.equities, series.bars_per_year)
    trades = trades_of([closed.realised_pnl - closed.fees for closed in desk.closed])
    net = trades.gross_profit - trades.gross_loss
    return Metrics(
        capital_quote=scaled_text(capital, scale),
        final_equity_quote=scaled_text(final, scale),
        net_result_quote=scaled_text(final - capital, scale),
        net_return_percent=_ratio((final - capital) * 100 / capital),
        benchmark_return_percent=_ratio((held - capital) * 100 / capital),
        fees_quote=scaled_text(desk.fees, scale),
        turnover_quote=scaled_text(desk.traded, scale),
        turnover_ratio=_ratio(desk.traded / capital),
        max_drawdown_quote=scaled_text(drawdown.depth, scale),
        max_drawdown_percent=_ratio(drawdown.depth_bps * 100 / BPS),
        longest_drawdown_s=str(drawdown.longest_ns // NS_PER_S),
        sharpe=_maybe(ratios.sharpe),
        sortino=_maybe(ratios.sortino),
        exposure_percent=_ratio(run.exposed_bars * 100 / len(series)),
        trades=str(trades.count),
        won=str(trades.won),
        win_rate_percent=None if trades.win_rate is None else _ratio(trades.win_rate * 100),
        profit_factor=_maybe(trades.profit_factor),
        average_result_quote=scaled_text(net // trades.count, scale) if trades.count else None,
        orders_asked=str(desk.orders_asked),
        orders_refused=str(desk.refusals.total()),
        orders_too_small=str(desk.too_small),
        fills=str(len(desk.fills)),
        open_quantity_base=scaled_text(desk.base, instrument.quantity_scale),
    )


def _times(series: BarSeries) -> list[int]:
    """Of the equities: the beginning, then the end of each bar."""
    return [series.from_ns, *(row[0] + series.width_ns for row in series.rows())]


def _curve(run: Run) -> list[CurvePoint]:
    times, scale = _times(run.series), run.series.instrument.notional_scale
    return [
        CurvePoint(format_utc_us(times[index]), scaled_text(run.equities[index], scale))
        for index in sampled(run.equities, CURVE_POINTS_LIMIT)
    ]


def _row(run: Run, closed: ClosedPosition) -> TradeRow:
    instrument = run.series.instrument
    return TradeRow(
        opened_at=format_utc_us(closed.opened_ns),
        closed_at=format_utc_us(closed.closed_ns),
        quantity=scaled_text(closed.max_quantity, instrument.quantity_scale),
        entry_price=scaled_text(closed.entry_average_price, instrument.price_scale),
        exit_price=scaled_text(closed.exit_average_price, instrument.price_scale),
        fees_quote=scaled_text(closed.fees, instrument.notional_scale),
        result_quote=scaled_text(closed.realised_pnl - closed.fees, instrument.notional_scale),
    )


def _warnings(run: Run, gaps: int, missing: int) -> list[Caution]:
    desk = run.desk
    found = [Caution("IN_SAMPLE_ONLY", IN_SAMPLE_ONLY)]
    if len(desk.closed) < FEW_TRADES:
        found.append(
            Caution(
                "FEW_TRADES",
                f"{len(desk.closed)} closed positions are fewer than {FEW_TRADES}: the figures may be chance.",
            )
        )
    if gaps:
        shown = ", ".join(format_utc_us(from_ns) for from_ns, _ in run.series.gaps()[:GAPS_SHOWN_LIMIT])
        found.append(Caution("DATA_GAPS", f"{missing} bars are missing in {gaps} gaps, which begin at {shown}."))
    if desk.stopped_by_risk is not None:
        at_ns, reason = desk.stopped_by_risk
        found.append(
            Caution(
                "STOPPED_BY_RISK",
                f"From {format_utc_us(at_ns)} on only what reduces was taken: {reason}.",
            )
        )
    if desk.refusals:
        found.append(
            Caution("ORDERS_REFUSED", f"{desk.refusals.total()} orders were refused; refusals says by which checks.")
        )
    if desk.base:
        found.append(
            Caution("OPEN_AT_END", "A position was open at the end; it is valued at the last close, before costs.")
        )
    return found


def _ratio(value: float) -> str:
    """A float as plain decimal text, so that no exponent is in a report."""
    return decimal_text(Decimal(f"{value:.{RATIO_DIGITS}g}"))


def _maybe(value: float | None) -> str | None:
    return None if value is None else _ratio(value)


def plain(report: Report) -> dict[str, Any]:
    """For JSON."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found
