"""What `veloz backtest ...` does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import typer

from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError, Session
from api.cli.text import printable

LOOK_INTERVAL_S = 1.0
WAIT_LIMIT_S = 600.0
"""The job's own deadline is shorter; what comes on top is its wait for others."""
CHART_WIDTH = 60
CHART_STEPS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 30
SPANS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
OPEN = frozenset({"queued", "running"})
METRICS = (
    ("net return", "net_return_percent", "%"),
    ("buying and holding", "benchmark_return_percent", "%"),
    ("net result", "net_result_quote", ""),
    ("fees", "fees_quote", ""),
    ("turnover", "turnover_quote", ""),
    ("deepest drawdown", "max_drawdown_percent", "%"),
    ("longest drawdown", "longest_drawdown_s", " s"),
    ("Sharpe", "sharpe", ""),
    ("Sortino", "sortino", ""),
    ("time in the market", "exposure_percent", "%"),
    ("closed positions", "trades", ""),
    ("win rate", "win_rate_percent", "%"),
    ("profit factor", "profit_factor", ""),
    ("orders refused", "orders_refused", ""),
)


def numbers(given: Sequence[str]) -> dict[str, int]:
    """``fast=10`` as a parameter. Raises CommandError."""
    found: dict[str, int] = {}
    for text in given:
        name, sign, value = text.partition("=")
        try:
            found[name.strip()] = int(value)
        except ValueError:
            sign = ""
        if not sign:
            raise CommandError("REQUEST_INVALID", f"--set {text!r}: must look like fast=10.", EXIT_USAGE)
    return found


def run(session: Session, account: str | None, given: dict[str, Any], wait: bool, as_json: bool) -> None:
    wanted = {name: value for name, value in given.items() if value is not None}
    started = _call(session, "run_backtest", account, wanted)
    backtest_id = started["backtest"]["backtest_id"]
    if not wait:
        typer.echo(json.dumps(started) if as_json else backtest_id)
        return
    if not as_json:
        told = f"{backtest_id}: bars from {started['source_of_bars']}, your try {started['backtest']['tries']} on them"
        typer.echo(printable(told), err=True)
    _show(_wait(session, account, backtest_id, quiet=as_json), as_json)


def show(session: Session, account: str | None, backtest_id: str, as_json: bool) -> None:
    _show(_call(session, "get_backtest", account, {"backtest_id": backtest_id}), as_json)


def list_all(session: Session, account: str | None, limit: int, as_json: bool) -> None:
    listed = _call(session, "list_backtests", account, {"limit": limit})
    if as_json:
        typer.echo(json.dumps(listed))
        return
    if not listed["backtests"]:
        typer.echo("No backtests yet. Start one with: veloz backtest run sma_cross BTCUSDT")
    for row in listed["backtests"]:
        progress = f" {row['progress_percent']}%" if row["status"] == "running" else ""
        typer.echo(
            printable(
                f"{row['backtest_id']}  {row['created_at'][:19]}  {row['status'] + progress:<12} {row['strategy']:<14} "
                f"{row['symbol']:<12} {row['interval']:<4} try {row['tries']}"
            )
        )


def stop(session: Session, account: str | None, backtest_id: str, as_json: bool) -> None:
    stopped = _call(session, "stop_backtest", account, {"backtest_id": backtest_id})
    typer.echo(json.dumps(stopped) if as_json else printable(f"{backtest_id} is {stopped['backtest']['status']}."))


def _call(session: Session, tool: str, account: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
    if account is not None:
        arguments = {"account_id": account, **arguments}
    answer = session.request("POST", f"/api/v1/tools/{tool}/calls", {"arguments": arguments})
    data: dict[str, Any] = answer["data"]
    return data


def _wait(session: Session, account: str | None, backtest_id: str, *, quiet: bool) -> dict[str, Any]:
    """Until it is over. Raises CommandError when that takes too long; the job goes on."""
    until_s = time.monotonic() + WAIT_LIMIT_S
    shows = not quiet and sys.stderr.isatty()
    while True:
        found = _call(session, "get_backtest", account, {"backtest_id": backtest_id})
        backtest = found["backtest"]
        if shows:
            sys.stderr.write(f"\r{progress_line(backtest['status'], int(backtest['progress_percent']))}")
        if backtest["status"] not in OPEN:
            if shows:
                sys.stderr.write("\n")
            return found
        if time.monotonic() > until_s:
            raise CommandError(
                "TOOL_DEADLINE_EXCEEDED", f"It still runs. Look again with: veloz backtest show {backtest_id}"
            )
        time.sleep(LOOK_INTERVAL_S)


def progress_line(status: str, percent: int) -> str:
    done = percent * BAR_WIDTH // 100
    return f"{status:<8} {'█' * done}{'░' * (BAR_WIDTH - done)} {percent:>3}%"


def _show(found: dict[str, Any], as_json: bool) -> None:
    """Raises CommandError for one that failed or was stopped."""
    backtest, report = found["backtest"], found["report"]
    if as_json:
        typer.echo(json.dumps(found))
        if backtest["status"] in {"failed", "stopped"}:
            raise typer.Exit(EXIT_REFUSED)
        return
    if backtest["refusal"] is not None:
        refusal = backtest["refusal"]
        shown = {name: refusal[name] for name in ("limit", "actual", "unit") if refusal[name] is not None}
        raise CommandError(refusal["code"], refusal["message"], **shown)
    if report is None:
        typer.echo(printable(progress_line(backtest["status"], int(backtest["progress_percent"]))))
        return
    for line in report_lines(report, backtest):
        typer.echo(printable(line))


def report_lines(report: dict[str, Any], backtest: dict[str, Any]) -> list[str]:
    """The report for people: what it was run on, the curve, the figures, and what to hold against them."""
    data, metrics, terms = report["data"], report["metrics"], report["assumptions"]
    given = ", ".join(f"{name} {value}" for name, value in report["parameters"].items() if value is not None)
    lines = [
        f"{report['mode']}  {report['strategy']} ({given})",
        f"{data['symbol']} {data['interval']} from {data['source']}: {data['bars']} bars, {data['from_time'][:16]} to "
        f"{data['to_time'][:16]} UTC",
        f"fees {terms['maker_fee_bps']}/{terms['taker_fee_bps']} bps, slippage {terms['slippage_bps']} bps, latency "
        f"{terms['latency_ms']} ms, fill model {terms['fill_model']}",
        "",
        f"  {sparkline([point['equity_quote'] for point in report['curve']])}",
        f"  {metrics['capital_quote']} -> {metrics['final_equity_quote']}",
        "",
    ]
    lines += [f"  {label:<20} {_shown(name, metrics[name], unit)}" for label, name, unit in METRICS]
    lines += ["", *(f"! {caution['code']}: {caution['message']}" for caution in report["warnings"])]
    if int(backtest["tries"]) > 1:
        lines.append(
            f"! TRIED_BEFORE: this was try {backtest['tries']} on this symbol and interval; the best of many is luck."
        )
    return [*lines, "", f"report {backtest['report_digest']}", f"data   {data['digest']}"]


def _shown(name: str, value: str | None, unit: str) -> str:
    if value is None:
        return "-"
    return span_text(int(value)) if name.endswith("_s") else value + unit


def span_text(seconds: int) -> str:
    """The two largest units of a time: 29d 5h."""
    parts: list[str] = []
    for name, size_s in SPANS:
        count, seconds = divmod(seconds, size_s)
        if count or parts:
            parts.append(f"{count}{name}")
    return " ".join(parts[:2]) or "0s"


def sparkline(values: Sequence[str], width: int = CHART_WIDTH) -> str:
    """A line of text as high as the values are; at most width characters."""
    found = [Decimal(value) for value in values]
    if len(found) > width:
        found = [found[index * (len(found) - 1) // (width - 1)] for index in range(width)]
    low, high = min(found, default=Decimal(0)), max(found, default=Decimal(0))
    if high == low:
        return CHART_STEPS[len(CHART_STEPS) // 2] * len(found)
    top = len(CHART_STEPS) - 1
    return "".join(CHART_STEPS[int((value - low) * top / (high - low))] for value in found)
