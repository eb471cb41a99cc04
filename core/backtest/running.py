"""One backtest from beginning to end: bars in, report out. Deterministic; no clock but that of the bars."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal

from core.backtest.bars import BarSeries
from core.backtest.report import Report
from core.backtest.reporting import Run, report_of
from core.backtest.specification import CAPITAL_LEAST_QUOTE, CAPITAL_LIMIT_QUOTE, Specification
from core.backtest.strategies import Parameters, make_strategy, parse_parameters, shortest_run_bars
from core.backtest.trading import TradingDesk
from core.risk.rules import render_default_rules
from core.text.canonical import canonical_json

PROGRESS_INTERVAL_BARS = 2_000


class TooFewBarsError(Exception):
    """The strategy needs more bars than there are."""

    def __init__(self, needed: int, there: int) -> None:
        super().__init__(f"the strategy needs {needed} bars before it can act, there are {there}")
        self.needed = needed
        self.there = there


class StoppedError(Exception):
    """Whoever watches the progress asked for an end."""


def strategy_digest(name: str, parameters: Parameters) -> str:
    """Hex SHA-256 of what the mandate of the run is given for."""
    given = {key: str(value) for key, value in parameters.model_dump().items()}
    return hashlib.sha256(b"veloz/backtest-strategy/v1\x00" + canonical_json({"name": name, **given})).hexdigest()


def run_backtest(
    series: BarSeries,
    specification: Specification,
    *,
    rules_document: str | None = None,
    on_progress: Callable[[int, int], bool] = lambda done, whole: True,
) -> Report:
    """on_progress hears of (bars done, bars in all) now and then and returns whether to go on.

    Raises StrategyError, TooFewBarsError, TooManyOrdersError, StoppedError, and ValueError for a capital that can't be.
    """
    name = specification.strategy
    parameters = parse_parameters(name, specification.parameters)
    needed = shortest_run_bars(parameters)
    if len(series) < needed:
        raise TooFewBarsError(needed, len(series))
    capital = _capital(series, specification.capital_quote)
    rules = render_default_rules() if rules_document is None else rules_document
    digest_hex = strategy_digest(name, parameters)
    desk = TradingDesk(series, specification.terms, capital, rules, name, digest_hex)
    strategy = make_strategy(name, parameters)
    equities, exposed, first_open = [capital], 0, 0
    for number, bar in enumerate(series):
        if number % PROGRESS_INTERVAL_BARS == 0 and not on_progress(number, len(series)):
            raise StoppedError
        if number == 1:
            first_open = bar.open
        desk.play(bar)
        desk.close(bar)
        equities.append(desk.equity(bar.close))
        exposed += desk.base != 0
        for wish in strategy.on_bar(bar, desk.holding()):
            desk.ask(wish, bar)
    on_progress(len(series), len(series))
    run = Run(desk, series, equities, exposed, first_open, bar.close, capital)
    return report_of(run, name, parameters, rules)


def _capital(series: BarSeries, capital_quote: str) -> int:
    amount = Decimal(capital_quote)
    if not CAPITAL_LEAST_QUOTE <= amount <= CAPITAL_LIMIT_QUOTE:
        raise ValueError(f"capital_quote must be from {CAPITAL_LEAST_QUOTE} to {CAPITAL_LIMIT_QUOTE}")
    scaled = amount.scaleb(series.instrument.notional_scale)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"capital_quote has more than {series.instrument.notional_scale} decimal places")
    return int(scaled)
