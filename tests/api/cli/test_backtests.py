"""What `veloz backtest` shows and takes, without a service; tests/e2e runs it against one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.cli.app import app
from api.cli.backtests import CHART_WIDTH, numbers, progress_line, report_lines, span_text, sparkline
from api.cli.session import CommandError
from core.backtest.report import plain
from tests.tools.backtest_doubles import done_report


@pytest.mark.parametrize(
    ("values", "chart"),
    [
        (["1", "2", "3", "4", "5", "6", "7", "8"], "▁▂▃▄▅▆▇█"),
        (["8", "1"], "█▁"),
        (["5", "5", "5"], "▅▅▅"),
        (["-1.5", "0", "1.5"], "▁▄█"),
        ([], ""),
    ],
    ids=str,
)
def test_a_chart_is_as_high_as_its_values(values: list[str], chart: str) -> None:
    assert sparkline(values) == chart


def test_a_long_curve_keeps_its_ends() -> None:
    chart = sparkline([str(n) for n in range(1_000)])
    assert (len(chart), chart[0], chart[-1]) == (CHART_WIDTH, "▁", "█")


@pytest.mark.parametrize(
    ("percent", "line"),
    [(0, f"running  {'░' * 30}   0%"), (50, f"running  {'█' * 15}{'░' * 15}  50%"), (100, f"running  {'█' * 30} 100%")],
    ids=str,
)
def test_progress_is_a_bar(percent: int, line: str) -> None:
    assert progress_line("running", percent) == line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (3_600, "1h 0m"), (2_524_080, "29d 5h"), (86_400, "1d 0h")]
)
def test_a_time_is_told_in_its_largest_units(seconds: int, text: str) -> None:
    assert span_text(seconds) == text


def test_parameters_are_names_and_whole_numbers() -> None:
    assert numbers(["fast=10", " slow = 50 "]) == {"fast": 10, "slow": 50}


@pytest.mark.parametrize("given", ["fast", "fast=", "fast=x", "=", "fast=1.5"])
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(CommandError, match="must look like fast=10"):
        numbers([given])


@pytest.mark.parametrize(("tries", "is_told"), [("1", False), ("2", True)])
def test_a_report_shows_its_terms_its_figures_and_what_to_hold_against_them(tries: str, is_told: bool) -> None:
    report = plain(done_report())
    lines = report_lines(report, {"tries": tries, "report_digest": "ab" * 32})
    text = "\n".join(lines)
    metrics = report["metrics"]
    for part in (
        "BACKTEST  sma_cross (fast 2, share_bps 10000, slow 5)",
        "fees 10/10 bps, slippage 5 bps, latency 0 ms, fill model bars/1",
        f"net return           {metrics['net_return_percent']}%",
        f"buying and holding   {metrics['benchmark_return_percent']}%",
        *(f"! {caution['code']}" for caution in report["warnings"]),
        f"data   {report['data']['digest']}",
    ):
        assert part in text
    assert ("TRIED_BEFORE" in text) is is_told


def test_klines_are_taken_in_once_and_what_is_wrong_with_them_is_exit_2(tmp_path: Path) -> None:
    file, data = tmp_path / "klines.csv", str(tmp_path / "data")
    file.write_text("1700000040000,1.5,2,1,1.75,10\n1700000100000,1.5,2,1,1.75,10\n")

    def veloz(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["data", "import-klines", str(file), "--data", data, *arguments])

    assert "2 minutes" in veloz("--symbol", "BTCUSDT").output
    (again,) = json.loads(veloz("--symbol", "BTCUSDT", "--json").output)["imported"]
    assert (again["skipped"], again["symbol"], again["venue"]) == (True, "BTCUSDT", "binance")
    assert veloz("--symbol", "../etc").exit_code == 2
    file.write_text("not,a,kline\n1\n")
    refused = veloz("--symbol", "BTCUSDT", "--json")
    assert (refused.exit_code, json.loads(refused.output)["error"]["code"]) == (2, "DATA_FILE_UNUSABLE")
