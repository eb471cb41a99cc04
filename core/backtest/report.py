"""What a backtest says: figures with the terms they were made on, and what to hold against them.

Every number is text, so that the digest is the same wherever it is computed. The same bars, strategy, parameters and
terms give the same report and digest; nothing of the machine, the user or the hour is in it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from core.text.canonical import canonical_json

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


def report_digest(report: Report) -> str:
    """Hex SHA-256 over a domain tag and the report's RFC 8785 form."""
    return hashlib.sha256(REPORT_DOMAIN_TAG + canonical_json(msgspec.to_builtins(report))).hexdigest()


def plain(report: Report) -> dict[str, Any]:
    """For JSON."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found
