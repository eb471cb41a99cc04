"""From a run to its report."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.backtest.bars import GAPS_SHOWN_LIMIT, BarSeries
from core.backtest.fills import BPS, FILL_MODEL, FILL_MODEL_TEXT
from core.backtest.metrics import bought_and_held, drawdown_of, sampled, sharpe_of, trades_of
from core.backtest.report import (
    ANNUALISATION,
    CURVE_POINTS_LIMIT,
    FEW_TRADES,
    IN_SAMPLE_ONLY,
    MODE,
    RATIO_DIGITS,
    REPORT_SCHEMA,
    TRADES_SHOWN_LIMIT,
    Assumptions,
    Caution,
    Count,
    CurvePoint,
    Data,
    Metrics,
    Report,
    TradeRow,
)
from core.backtest.strategies import Parameters
from core.backtest.trading import TradingDesk
from core.kernel.kernel import SNAPSHOT_SCHEMA
from core.risk.rules import rules_digest
from core.types.clock import NS_PER_S, format_utc_us
from core.types.events import ClosedPosition
from core.types.money import decimal_text, scaled_text


class Run(msgspec.Struct, frozen=True):
    """What the runner found. equities begin with the capital, then one after each bar."""

    desk: TradingDesk
    series: BarSeries
    equities: list[int]
    exposed_bars: int
    first_open: int
    last_close: int
    capital: int


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
