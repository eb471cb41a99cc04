"""Requests to change, close, hedge, bracket or stop: read when they are plain, planned when nothing is open."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agent.planner.changes import SUGGESTING, Request
from agent.planner.planning import Call, Done, Results
from agent.planner.reading import Reader, trained_reader
from agent.planner.requests import plan_request
from tools.untrusted import envelope

ID = "vz0123456789abcdef0123456789abcdef"
TOOLS: dict[str, dict[str, Any]] = {
    name: {}
    for name in (
        "list_strategies",
        "get_open_orders",
        "get_positions",
        "get_ticker",
        "list_instruments",
        "suggest_order",
        *Request,
    )
}
ORDERS = [
    {"client_order_id": "vz-1", "symbol": "BTCUSDT", "side": "BUY", "quantity": "0.5"},
    {"client_order_id": "vz-2", "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.5"},
]


STOP = {"symbol": "BTCUSDT", "side": "SELL", "order_type": "STOP", "quantity": "0.1", "stop_price": "60000"}
TRAILING = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "order_type": "TRAILING_STOP",
    "quantity": "0.1",
    "trailing_offset_bps": 200,
}


@pytest.fixture(scope="module")
def reader() -> Reader:
    return trained_reader()


def done(tool: str, data: dict[str, Any], **arguments: Any) -> Done:
    return Done(Call(tool, arguments), data, None, "PAPER", 0)


def planned(reader: Reader, ask: str, *found: Done) -> tuple[dict[str, Any] | None, str | None]:
    """The arguments of the suggestion that would be asked for, or the question that is asked back."""
    (clause,) = [item for item in reader.read(ask) if isinstance(item.intent, Request)]
    wanted = plan_request(clause, Results(found), TOOLS)
    calls = [call for call in wanted.calls if call.tool.startswith("suggest_")]
    if not calls:
        return None, wanted.ask
    (call,) = calls
    assert call.tool == clause.intent
    return {name: value for name, value in call.arguments.items() if name not in {"rationale", "reason"}}, wanted.ask


@pytest.mark.parametrize(
    ("ask", "wanted"),
    [
        (f"cancel order {ID}", {"client_order_id": ID}),
        (f"please cancel my order {ID}", {"client_order_id": ID}),
        (f"can you move my order {ID} to 59,000?", {"client_order_id": ID, "price": "59000"}),
        (f"change the price of order {ID} to 59000.5", {"client_order_id": ID, "price": "59000.5"}),
        (f"change the quantity of my order {ID} to 0.3", {"client_order_id": ID, "quantity": "0.3"}),
        (f"reduce my order {ID} to 0.3 BTC", {"client_order_id": ID, "quantity": "0.3"}),
        ("cancel all my BTC orders", {"scope": "SYMBOL", "symbol": "BTCUSDT"}),
        ("please cancel all of my open orders on ether", {"scope": "SYMBOL", "symbol": "ETHUSDT"}),
        ("cancel my BTC orders now", {"scope": "SYMBOL", "symbol": "BTCUSDT"}),
        ("can you cancel every open order in my account?", {"scope": "ACCOUNT"}),
        ("cancel my orders", {"scope": "ACCOUNT"}),
        ("cancel everything", {"scope": "ACCOUNT"}),
        ("close my BTC position", {"symbol": "BTCUSDT"}),
        ("close all of my bitcoin", {"symbol": "BTCUSDT"}),
        ("close 0.2 BTC", {"symbol": "BTCUSDT", "quantity": "0.2"}),
        ("exit my ETH long at 3000", {"symbol": "ETHUSDT", "order_type": "LIMIT", "price": "3000"}),
        (
            "close my BTC position at the ask",
            {"symbol": "BTCUSDT", "order_type": "LIMIT", "price_anchor": "ASK"},
        ),
        ("hedge my BTC", {"symbol": "BTCUSDT", "hedge_ratio_bps": 10_000}),
        ("hedge half of my BTC", {"symbol": "BTCUSDT", "hedge_ratio_bps": 5_000}),
        ("hedge 25% of my BTC", {"symbol": "BTCUSDT", "hedge_ratio_bps": 2_500}),
        ("hedge my ETH with BTC", {"symbol": "BTCUSDT", "hedged_symbol": "ETHUSDT", "hedge_ratio_bps": 10_000}),
        (
            "buy 0.1 BTC at 60000 with a stop at 59000 and take profit at 62000",
            {
                "symbol": "BTCUSDT",
                "side": "BUY",
                "quantity": "0.1",
                "entry_type": "LIMIT",
                "entry_limit_price": "60000",
                "stop_trigger_price": "59000",
                "take_profit_price": "62000",
            },
        ),
        (
            "sell 0.5 BTC at market, stop loss 61000, target 58000",
            {
                "symbol": "BTCUSDT",
                "side": "SELL",
                "quantity": "0.5",
                "entry_type": "MARKET",
                "stop_trigger_price": "61000",
                "take_profit_price": "58000",
            },
        ),
        (
            "buy 0.1 BTC at market with a stop at 59000",
            {
                "symbol": "BTCUSDT",
                "side": "BUY",
                "quantity": "0.1",
                "entry_type": "MARKET",
                "stop_trigger_price": "59000",
            },
        ),
        ("halt trading", {"state": "HALTED", "scope": "ACCOUNT"}),
        ("stop sell 0.1 BTC at 60000", STOP),
        ("please place a stop-loss order to sell 0.1 BTC at $60,000", STOP),
        ("can you suggest a stop to sell 0.1 BTC at 60000?", STOP),
        ("stop order at 60000 to sell 0.1 BTC", STOP),
        ("take profit sell 0.1 BTC at 70000", STOP | {"order_type": "TAKE_PROFIT", "stop_price": "70000"}),
        ("stop limit sell 0.1 BTC at 60000 limit 59900", STOP | {"order_type": "STOP_LIMIT", "price": "59900"}),
        ("stop-limit sell 0.1 BTC, limit 59900, stop 60000", STOP | {"order_type": "STOP_LIMIT", "price": "59900"}),
        ("trailing stop sell 0.1 BTC 2%", TRAILING),
        ("set a trailing stop of 2% to sell 0.1 BTC", TRAILING),
        ("trailing stop sell 0.1 BTC by 50 bps", TRAILING | {"trailing_offset_bps": 50}),
        ("stop all trading", {"state": "HALTED", "scope": "ACCOUNT"}),
        ("activate the kill switch for the whole engine", {"state": "HALTED", "scope": "ENGINE"}),
        ("set the account to reduce-only", {"state": "REDUCE_ONLY", "scope": "ACCOUNT"}),
        ("go cancel only", {"state": "CANCEL_ONLY", "scope": "ACCOUNT"}),
    ],
)
def test_a_plain_request_is_planned_as_it_was_said(reader: Reader, ask: str, wanted: dict[str, Any]) -> None:
    assert planned(reader, ask) == (wanted, None)


@pytest.mark.parametrize(
    ("ask", "orders", "wanted"),
    [
        ("cancel my order", ORDERS[:1], {"client_order_id": "vz-1"}),
        ("cancel my sell order", ORDERS, {"client_order_id": "vz-2"}),
        ("move my buy order to 59000", ORDERS, {"client_order_id": "vz-1", "price": "59000"}),
        ("cancel my order", ORDERS, None),
        ("move my order to 59000", ORDERS, None),
        ("cancel my order", [], None),
        ("cancel the order to buy 0.5 BTC", ORDERS, {"client_order_id": "vz-1"}),
        ("cancel the order to buy 1 BTC", ORDERS, None),
    ],
)
def test_which_order_is_meant_is_looked_up_and_asked_when_it_could_be_another(
    reader: Reader, ask: str, orders: list[dict[str, Any]], wanted: dict[str, Any] | None
) -> None:
    assert planned(reader, ask) == (None, None)
    asked = {"symbol": "BTCUSDT"} if "BTC" in ask else {}
    found, question = planned(reader, ask, done("get_open_orders", {"orders": orders}, **asked))
    assert found == wanted
    assert bool(question) is (wanted is None)


@pytest.mark.parametrize(
    ("ask", "held", "quantity"),
    [
        ("halve my BTC position", "0.5", "0.25"),
        ("close half of my BTC position", "-0.5", "0.25"),
        ("cut my BTC position in half", "0.00003", "0.00001"),
        ("reduce my BTC position by 25%", "0.4", "0.10000"),
        ("halve my position", "0.5", "0.25"),
        ("halve my BTC position", "0.00001", None),
        ("halve my BTC position", "0", None),
    ],
)
def test_a_part_of_a_position_is_worked_out_from_what_is_held_and_cut_to_the_lot(
    reader: Reader, ask: str, held: str, quantity: str | None
) -> None:
    assert planned(reader, ask) == (None, None)
    positions = done("get_positions", {"positions": [{"symbol": "BTCUSDT", "quantity": held}]})
    assert planned(reader, ask, positions)[0] is None
    lots = done("list_instruments", {"instruments": [{"symbol": "BTCUSDT", "lot_size": "0.00001"}]})
    found, question = planned(reader, ask, positions, lots)
    if quantity is None:
        assert (found, bool(question)) == (None, True)
    else:
        assert (found, question) == ({"symbol": "BTCUSDT", "quantity": found and found["quantity"]}, None)
        assert Decimal(found["quantity"] if found else 0) == Decimal(quantity)


LIMITS = {
    "max_order_notional_quote": "1000",
    "max_position_notional_quote": "0.5",
    "max_total_notional_quote": "25000",
    "max_open_orders": "5",
}
STRATEGIES = [
    {"strategy_id": envelope("grid-1"), "mandate_id": "man-1", "state": "in force", **LIMITS},
    {"strategy_id": envelope("maker"), "mandate_id": "man-2", "state": "in force", **LIMITS, "max_open_orders": "1"},
    {"strategy_id": envelope("maker"), "mandate_id": "man-3", "state": "revoked"},
]


@pytest.mark.parametrize(
    ("ask", "wanted"),
    [
        ("end strategy grid-1", {"mandate_id": "man-1", "action": "REVOKE"}),
        ("please stop the strategy maker", {"mandate_id": "man-2", "action": "REVOKE"}),
        ("pause strategy grid-1", {"mandate_id": "man-1", "action": "REVOKE"}),
        ("please suspend my bot maker", {"mandate_id": "man-2", "action": "REVOKE"}),
        (
            "halve the order limit of strategy grid-1",
            {"mandate_id": "man-1", "action": "TIGHTEN", "max_order_notional_quote": "500"},
        ),
        (
            "cut the position limit of strategy grid-1 in half",
            {"mandate_id": "man-1", "action": "TIGHTEN", "max_position_notional_quote": "0.25"},
        ),
        (
            "halve the open orders limit of strategy grid-1",
            {"mandate_id": "man-1", "action": "TIGHTEN", "max_open_orders": "2"},
        ),
        ("halve the open orders limit of strategy maker", None),
        ("revoke the mandate man-1", {"mandate_id": "man-1", "action": "REVOKE"}),
        ("end the mandate of strategy grid-1.", {"mandate_id": "man-1", "action": "REVOKE"}),
        (
            "lower the order limit of strategy grid-1 to 500 USDT",
            {"mandate_id": "man-1", "action": "TIGHTEN", "max_order_notional_quote": "500"},
        ),
        (
            "reduce the open orders limit of strategy maker to 2",
            {"mandate_id": "man-2", "action": "TIGHTEN", "max_open_orders": "2"},
        ),
        ("end strategy arbitrage", None),
        ("end strategy man-3", None),
    ],
)
def test_a_strategys_mandate_is_looked_up_by_its_own_or_the_strategys_name(
    reader: Reader, ask: str, wanted: dict[str, Any] | None
) -> None:
    assert planned(reader, ask) == (None, None)
    found, question = planned(reader, ask, done("list_strategies", {"strategies": STRATEGIES}))
    assert (found, bool(question)) == (wanted, wanted is None)


@pytest.mark.parametrize(
    ("positions", "wanted"),
    [
        ([("BTCUSDT", "0.5")], {"symbol": "BTCUSDT"}),
        ([("BTCUSDT", "0.5"), ("ETHUSDT", "0")], {"symbol": "BTCUSDT"}),
        ([("BTCUSDT", "0.5"), ("ETHUSDT", "-1")], None),
        ([], None),
    ],
)
def test_the_position_to_close_is_the_only_one_or_asked_for(
    reader: Reader, positions: list[tuple[str, str]], wanted: dict[str, Any] | None
) -> None:
    held = {"positions": [{"symbol": symbol, "quantity": quantity} for symbol, quantity in positions]}
    found, question = planned(reader, "close my position", done("get_positions", held))
    assert (found, bool(question)) == (wanted, wanted is None)


@pytest.mark.parametrize(
    "ask",
    [
        f"change my order {ID} to 60000",
        f"amend my order {ID}",
        "close a third of my BTC position",
        "cancel all my BTC and ETH orders",
        "close some of my BTC",
        "close my BTC and ETH positions",
        "hedge a third of my BTC",
        "hedge 0.3 BTC",
        "sell 0.5 BTC stop at 59000",
        "buy 0.1 BTC with a trailing stop",
        "buy BTC with a stop at 59000",
        "stop sell 0.1 BTC",
        "stop sell BTC at 60000",
        "stop sell 0.1 at 60000",
        "stop sell 0.1 BTC at 60000 at 59000",
        "stop limit sell 0.1 BTC at 60000",
        "trailing stop sell 0.1 BTC",
        "trailing stop sell 0.1 BTC 200%",
        "trailing stop sell 0.1 BTC 2% 3%",
        "stop sell 0.1 BTC 2%",
        "halve the limit of strategy grid-1",
        "halve strategy grid-1",
        "lower the limit of strategy grid-1 to 500",
    ],
)
def test_what_isnt_plain_is_asked_for_and_never_guessed(reader: Reader, ask: str) -> None:
    found, question = planned(reader, ask)
    assert found is None
    assert question


@pytest.mark.parametrize(
    "ask",
    [
        "cancel all my buy orders",
        "cancel all my orders at 60000",
        "cancel all my orders except those in BTC",
        "should I cancel all my orders?",
        "don't cancel my orders",
        "if BTC falls cancel all my orders",
        "halve my BTC order",
        "halve my position limit",
        "reduce my BTC position by 0.1",
        "reduce my BTC position to 25%",
        "should I halve my BTC position?",
        "how do I pause the strategy grid-1",
        "should I cancel my order?",
        "how do I cancel my order",
        "if BTC falls cancel my order",
        "don't cancel my order",
        "why did you cancel my order",
        "cancel the suggestion",
        "move my order when BTC reaches 50000",
        "should I close my BTC position",
        "when does trading halt",
        "is trading halted?",
        "turn off the kill switch",
        "resume trading",
        "loosen the kill switch",
        "raise my limit",
        "close price of BTC",
        "what would hedging my BTC cost",
        "stop",
        "stop selling",
        "how do I stop the strategy grid-1",
        "which strategy made the most",
        "show me my strategy grid-1",
        "should I place a stop sell at 60000",
        "if BTC falls stop sell 0.1 BTC at 60000",
        "why did my stop sell at 60000",
        "show me the order book",
    ],
)
def test_what_only_speaks_of_it_is_no_request(reader: Reader, ask: str) -> None:
    assert [clause.text for clause in reader.read(ask) if isinstance(clause.intent, Request)] == []


def test_a_request_takes_nothing_from_what_stands_beside_it_or_was_said_before(reader: Reader) -> None:
    clauses = reader.read("what is the price of BTC, then cancel my order")
    assert [clause.slots.symbols for clause in clauses if clause.intent is Request.CANCEL] == [()]
    (clause,) = reader.read("close my position", ("what is the price of BTC",))
    assert clause.slots.symbols == ()


def test_at_most_one_suggestion_is_made_for_a_question(reader: Reader) -> None:
    clauses = reader.read("close my BTC position and buy 1 ETH at market")
    assert sum(clause.intent in SUGGESTING for clause in clauses) == 2
    (closing,) = [clause for clause in clauses if clause.intent is Request.CLOSE]
    made = done("suggest_order", {}, symbol="ETHUSDT")
    assert plan_request(closing, Results([made]), TOOLS).calls == (made.call,)


def test_a_tool_that_isnt_open_here_is_said(reader: Reader) -> None:
    (clause,) = reader.read("halt trading")
    assert plan_request(clause, Results([]), {}).ask
    assert clause.change is not None
    assert clause.change.ratio_bps == Decimal(10_000)
