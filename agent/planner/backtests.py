"""What a clause asks for about backtests, read by grammar; and what is said of them. Every figure is a cell."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from agent.planner.recognising import days_of
from agent.planner.slots import Slots

INTERVALS = ("1m", "5m", "15m", "1h", "4h", "1d")
WARNINGS_SHOWN = 6
BPS_PER_PERCENT = 100
DAYS_LIMIT = 366

_BACKTEST = re.compile(r"\bback[\s-]?test(?:s|ed|ing|er)?\b", re.IGNORECASE)
_ID = re.compile(r"\b0[0-9A-HJKMNP-TV-Z]{25}\b")
_STOP = re.compile(r"\b(?:stop|cancel|end|abort|kill)\b", re.IGNORECASE)
_LIST = re.compile(
    r"\b(?:list|all|my|our|recent|past|previous|earlier|which|newest|latest|last) (?:\w+ ){0,2}back[\s-]?tests?\b|"
    r"\bback[\s-]?tests? (?:have|did|do|are|were|i|we|so far|of mine)\b",
    re.IGNORECASE,
)
_STRATEGIES = {
    "sma_cross": re.compile(
        r"\b(?:sma|ma|moving[\s-]averages?)[\s_-]*(?:cross\w*)|\bcross\w* of (?:\w+ ){0,3}(?:smas?|moving averages?)|"
        r"\b(?:golden cross)\b",
        re.IGNORECASE,
    ),
    "rsi_reversion": re.compile(r"\brsi\b|\brelative strength\b", re.IGNORECASE),
    "breakout": re.compile(r"\bbreak[\s-]?outs?\b|\bdonchian\b", re.IGNORECASE),
    "dip_buying": re.compile(r"\bdip[\s_-]*buy\w*|\bbuy\w*[\s_-]*(?:the )?dips?\b", re.IGNORECASE),
    "buy_and_hold": re.compile(
        r"\bbuy(?:ing)?[\s_-]*(?:and|&|n)?[\s_-]*(?:then )?hold(?:ing)?\b|\bhodl\w*", re.IGNORECASE
    ),
}
_PAIRS = {
    "sma_cross": ("fast", "slow"),
    "rsi_reversion": ("buy_below", "sell_above"),
    "breakout": ("entry_bars", "exit_bars"),
}
_PAIR = re.compile(r"(?<![\w.])(\d{1,4})\s*(?:/|x|,|\band\b|:|-)\s*(\d{1,4})(?![\w.%])", re.IGNORECASE)
_RSI_PERIOD = re.compile(r"\brsi\s*\(?\s*(\d{1,3})\b(?!\s*/)", re.IGNORECASE)
_STOP_LOSS = re.compile(
    r"\bstop(?:[\s-]?loss)?(?: (?:of|at))?\s+(\d{1,2}(?:\.\d{1,2})?)\s*(?:%|percent)", re.IGNORECASE
)
_TAKE_PROFIT = re.compile(
    r"\b(?:take[\s-]?profit|target)(?: (?:of|at))?\s+(\d{1,2}(?:\.\d{1,2})?)\s*(?:%|percent)", re.IGNORECASE
)
_DAYS = re.compile(r"\b(\d{1,3})\s+days?\b", re.IGNORECASE)
_BARS = re.compile(
    r"\b(?:(?P<count>\d{1,2})\s*-?\s*(?P<unit>m|min(?:ute)?s?|h|hours?)\b|(?P<word>hourly|daily))", re.IGNORECASE
)

WHICH_STRATEGY = (
    "Which strategy shall I backtest? There are sma_cross, rsi_reversion, breakout, dip_buying and buy_and_hold; say "
    "for example: backtest sma cross 10/50 on BTCUSDT for the last 7 days."
)


class Asked(msgspec.Struct, frozen=True):
    """One call about backtests; ask is set instead where something is missing. needs_symbol: it is of an instrument."""

    tool: str = ""
    arguments: dict[str, Any] = {}
    needs_symbol: bool = False
    ask: str | None = None


def asks_for_backtest(text: str) -> bool:
    return _BACKTEST.search(text) is not None


def read_backtest(text: str, slots: Slots) -> Asked:
    found = _ID.search(text)
    if found is not None:
        tool = "stop_backtest" if _STOP.search(text) else "get_backtest"
        return Asked(tool, {"backtest_id": found.group()})
    strategy = next((name for name, words in _STRATEGIES.items() if words.search(text)), None)
    if strategy is None:
        return Asked("list_backtests") if _LIST.search(text) else Asked(ask=WHICH_STRATEGY)
    arguments: dict[str, Any] = {"strategy": strategy}
    parameters = _parameters(strategy, text)
    if parameters:
        arguments["parameters"] = parameters
    interval = slots.interval if slots.interval in INTERVALS else _interval(text)
    if interval is not None:
        arguments["interval"] = interval
    days = days_of(text) or next((int(match[1]) for match in _DAYS.finditer(text)), None)
    if days:
        arguments["days"] = min(max(1, days), DAYS_LIMIT)
    return Asked("run_backtest", arguments, needs_symbol=True)


def _parameters(strategy: str, text: str) -> dict[str, int]:
    """What is named; whether it can be is for the tool to say."""
    found: dict[str, int] = {}
    pair = _PAIR.search(text)
    if strategy in _PAIRS and pair is not None:
        found |= dict(zip(_PAIRS[strategy], (int(pair[1]), int(pair[2])), strict=True))
    period = _RSI_PERIOD.search(text)
    if strategy == "rsi_reversion" and period is not None:
        found["period"] = int(period[1])
    for name, pattern in (("stop_loss_bps", _STOP_LOSS), ("take_profit_bps", _TAKE_PROFIT)):
        if (match := pattern.search(text)) is not None:
            found[name] = round(float(match[1]) * BPS_PER_PERCENT)
    return found


def _interval(text: str) -> str | None:
    for match in _BARS.finditer(text):
        word = (match["word"] or "").lower()
        named = {"hourly": "1h", "daily": "1d"}.get(word) or f"{match['count']}{(match['unit'] or ' ')[0].lower()}"
        if named in INTERVALS:
            return named
    return None


def _refusal(refusal: dict[str, Any]) -> str:
    unit = f" {refusal['unit']}" if refusal["unit"] else ""
    text = f"{refusal['code']}: {refusal['message']}"
    if refusal["limit"] is not None and refusal["actual"] is not None:
        text += f" The limit was {refusal['limit']}{unit}, measured was {refusal['actual']}{unit}."
    return text


def started_text(d: dict[str, Any]) -> str:
    b = d["backtest"]
    return (
        f"Backtest {b['backtest_id']} of {b['strategy']} on {b['symbol']}, {b['interval']} bars from "
        f"{d['source_of_bars']}, is {b['status']}. Ask me to show backtest {b['backtest_id']} in a moment. It places "
        f"no order. Your tries on these bars, this one included: {b['tries']}."
    )


def backtest_text(d: dict[str, Any]) -> str:
    b, report = d["backtest"], d.get("report")
    head = f"Backtest {b['backtest_id']} of {b['strategy']} on {b['symbol']} is {b['status']}"
    if b["refusal"]:
        return f"{head}. {_refusal(b['refusal'])}"
    if report is None:
        return f"{head}, with {b['progress_percent']} percent of its bars done."
    m, data, terms = report["metrics"], report["data"], report["assumptions"]
    given = ", ".join(f"{name} {value}" for name, value in report["parameters"].items() if value is not None)
    won = f", win rate {m['win_rate_percent']} percent" if m["win_rate_percent"] is not None else ""
    ratios = [f" {label} {m[name]}." for label, name in (("Sharpe", "sharpe"), ("Sortino", "sortino")) if m[name]]
    lines = [
        f"{head}: {given}.",
        f"Over {data['bars']} {data['interval']} bars from {data['source']}, {data['from_time']} to {data['to_time']}.",
        f"Net return {m['net_return_percent']} percent; buying and holding would have made "
        f"{m['benchmark_return_percent']} percent. Net result {m['net_result_quote']}, fees {m['fees_quote']}.",
        f"Deepest drawdown {m['max_drawdown_percent']} percent; time in the market {m['exposure_percent']} percent; "
        f"closed positions {m['trades']}{won}.{''.join(ratios)}",
        f"Assumed: fees {terms['maker_fee_bps']} bps maker and {terms['taker_fee_bps']} bps taker, slippage "
        f"{terms['slippage_bps']} bps, latency {terms['latency_ms']} ms.",
        f"To hold against it: {', '.join(caution['code'] for caution in report['warnings'][:WARNINGS_SHOWN])}. "
        f"Tries on these bars: {b['tries']}. Mode {report['mode']}: nothing of it was traded, and a past result "
        "promises nothing.",
    ]
    return "\n".join(lines)


def backtests_text(d: dict[str, Any]) -> str:
    if not d["backtests"]:
        return "There are no backtests in this account."
    rows = [
        f"Backtest {b['backtest_id']}: {b['strategy']} on {b['symbol']}, {b['interval']}, {b['status']}, asked for at "
        f"{b['created_at']}."
        for b in d["backtests"]
    ]
    return "\n".join([f"Backtests, the newest first, by count: {d['count']}.", *rows])


BACKTEST_TEXT = {
    "run_backtest": started_text,
    "get_backtest": backtest_text,
    "stop_backtest": backtest_text,
    "list_backtests": backtests_text,
}
