"""Backtests in plain words: which call is meant, and answers of which every figure is a cell."""

from __future__ import annotations

from typing import Any

import pytest

from agent.planner.answers import compose
from agent.planner.backtests import WHICH_STRATEGY
from agent.planner.classifier import Intent
from agent.planner.planning import Call, Done, Results, plan_clause
from agent.planner.reading import Reader, trained_reader
from core.text.figures import ground
from tests.tools.backtest_doubles import DONE_BACKTEST
from tests.tools.doubles import House

TOOLS: dict[str, dict[str, Any]] = {
    name: {} for name in ("run_backtest", "get_backtest", "list_backtests", "stop_backtest", "list_instruments")
}


@pytest.fixture(scope="module")
def reader() -> Reader:
    return trained_reader()


def planned(reader: Reader, ask: str) -> tuple[str, dict[str, Any]] | str | None:
    (clause,) = reader.read(ask)
    assert clause.intent is Intent.BACKTEST
    wanted = plan_clause(clause, Results([]), TOOLS)
    return wanted.ask if wanted.ask else (wanted.calls[0].tool, wanted.calls[0].arguments)


def run(strategy: str, symbol: str = "BTCUSDT", **more: Any) -> tuple[str, dict[str, Any]]:
    return "run_backtest", {"symbol": symbol, "strategy": strategy, **more}


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (
            "backtest sma cross 10/50 on BTCUSDT for the last 7 days",
            run("sma_cross", parameters={"fast": 10, "slow": 50}, days=7),
        ),
        ("Backtest a moving average crossover on ether", run("sma_cross", "ETHUSDT")),
        ("backtest buy and hold on bitcoin over the last month", run("buy_and_hold", days=30)),
        ("backtest buying the dip on BTC", run("dip_buying")),
        (
            "can you run a breakout backtest 20/10 on ETH with hourly bars?",
            run("breakout", "ETHUSDT", parameters={"entry_bars": 20, "exit_bars": 10}, interval="1h"),
        ),
        (
            "backtest rsi(14) 25/75 on BTC on 5m bars for 3 days",
            run("rsi_reversion", parameters={"buy_below": 25, "sell_above": 75, "period": 14}, interval="5m", days=3),
        ),
        (
            "backtest breakout on BTC with a stop loss of 1.5% and a take profit of 3 percent",
            run("breakout", parameters={"stop_loss_bps": 150, "take_profit_bps": 300}),
        ),
        (f"show backtest {DONE_BACKTEST}", ("get_backtest", {"backtest_id": DONE_BACKTEST})),
        (f"what did backtest {DONE_BACKTEST} find?", ("get_backtest", {"backtest_id": DONE_BACKTEST})),
        (f"stop backtest {DONE_BACKTEST}", ("stop_backtest", {"backtest_id": DONE_BACKTEST})),
        ("list my backtests", ("list_backtests", {})),
        ("which backtests did I run?", ("list_backtests", {})),
        ("backtest something on BTC", WHICH_STRATEGY),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_clause_about_backtests_is_one_call_or_a_question(reader: Reader, ask: str, expected: Any) -> None:
    assert planned(reader, ask) == expected


@pytest.mark.parametrize("ask", ["backtest buying 1 BTC now", "buy 1 BTC if the backtest is good"])
def test_a_word_about_backtests_never_makes_an_order(reader: Reader, ask: str) -> None:
    assert [clause.intent for clause in reader.read(ask)] == [Intent.BACKTEST]


def test_without_an_instrument_it_asks_which(reader: Reader) -> None:
    (clause,) = reader.read("backtest sma cross")
    assert [call.tool for call in plan_clause(clause, Results([]), TOOLS).calls] == ["list_instruments"]


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("get_backtest", {"backtest_id": DONE_BACKTEST}, ["Net return", "buying and holding", "IN_SAMPLE_ONLY"]),
        ("list_backtests", {}, [DONE_BACKTEST, "sma_cross on BTCUSDT"]),
        ("run_backtest", {"symbol": "BTCUSDT", "strategy": "buy_and_hold"}, ["queued", "It places no order"]),
        ("stop_backtest", {"backtest_id": DONE_BACKTEST}, ["is done"]),
    ],
    ids=["show", "list", "run", "stop"],
)
async def test_every_figure_of_an_answer_is_a_cell(
    reader: Reader, tool: str, arguments: dict[str, Any], says: list[str]
) -> None:
    result = await House().ask(tool, **arguments)
    assert result.refusal is None
    (clause,) = reader.read("backtest sma cross on BTCUSDT")
    answer = compose(clause, [Done(Call(tool, arguments), result.data, None, "PAPER", result.as_of_ns)])
    for part in says:
        assert part in answer
    figures = ground(answer, [("call-1", tool, result.data | {"as_of_ns": str(result.as_of_ns)})])
    assert [figure.text for figure in figures if not figure.sourced] == []
