"""Suggestions about a position: side and size follow from what there is, and the calculation is shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.authority.proposal import parse_proposal
from core.types.codes import ReasonCode as C
from tests.tools.doubles import House

BTC = {"symbol": "BTCUSDT"}
ENTRY = BTC | {"side": "buy", "quantity": "0.5", "entry_limit_price": "59000"}
STOP = {"stop_trigger_price": "58000"}
PROFIT = {"take_profit_price": "62000"}


@pytest.mark.parametrize(
    ("tool", "arguments", "proposed", "what_if"),
    [
        (
            "suggest_close",
            BTC,
            {
                "side": "SELL",
                "quantity": "0.5",
                "order_type": "MARKET",
                "reduce_only": "true",
                "position_quantity": "0.5",
                "time_in_force": "IOC",
            },
            {"position_before": "0.5", "position_after": "0", "crosses": True},
        ),
        (
            "suggest_close",
            BTC | {"quantity": "0.2", "order_type": "limit", "price_anchor": "ask"},
            {"quantity": "0.2", "order_type": "LIMIT", "price": "60000.01", "time_in_force": "GTC"},
            {"position_after": "0.3", "crosses": False, "estimate": None},
        ),
        (
            "suggest_hedge",
            BTC | {"hedge_ratio_bps": 5000},
            {
                "side": "SELL",
                "quantity": "0.25",
                "hedged_symbol": "BTCUSDT",
                "exposure_quantity": "0.5",
                "exposure_price": "60000",
                "hedge_ratio_bps": "5000",
                "reduce_only": "false",
            },
            {"exposure_quote": "30000", "wanted_quantity": "0.25", "left_quote": "15000", "position_after": "0.25"},
        ),
        (
            "suggest_hedge",
            BTC | {"hedge_ratio_bps": 3333, "order_type": "LIMIT", "price": "60100"},
            {"quantity": "0.16665", "price": "60100"},
            {"wanted_quantity": "0.16665"},
        ),
        (
            "suggest_bracket",
            ENTRY | STOP | PROFIT,
            {
                "entry_type": "LIMIT",
                "entry_limit_price": "59000",
                "take_profit_type": "LIMIT",
                "take_profit_limit_price": "62000",
                "stop_type": "STOP",
                "stop_trigger_price": "58000",
                "notional_quote": "29500",
            },
            {"entry_level": "59000", "profit_quote": "1500", "loss_quote": "500", "crosses": False},
        ),
        (
            "suggest_bracket",
            BTC | {"side": "sell", "quantity": "0.5", "entry_type": "market", "stop_trailing_offset_bps": 100},
            {
                "entry_type": "MARKET",
                "entry_time_in_force": "IOC",
                "stop_type": "TRAILING_STOP",
                "take_profit_type": "",
            },
            {"crosses": True, "profit_quote": None, "loss_quote": None, "position_after": "0"},
        ),
        (
            "suggest_bracket",
            BTC
            | {"side": "buy", "quantity": "0.5", "entry_type": "stop_limit", "entry_trigger_price": "61000"}
            | {"entry_limit_price": "61010", "stop_limit_price": "57900"}
            | STOP,
            {"stop_type": "STOP_LIMIT", "stop_limit_price": "57900", "entry_trigger_price": "61000"},
            {"entry_level": "61010", "loss_quote": "1555"},
        ),
    ],
)
async def test_it_is_proposed_with_the_calculation(
    tool: str, arguments: dict[str, Any], proposed: dict[str, str], what_if: dict[str, Any]
) -> None:
    house = House()
    result = await house.ask(tool, **arguments)
    assert result.refusal is None, result.refusal
    row = house.suggestions.rows[result.data["suggestion_id"], 1]
    assert result.data["proposal"] == row.order_fields() == msgspec.to_builtins(parse_proposal(row.proposal))
    assert {name: result.data["proposal"][name] for name in proposed} == proposed
    assert {name: result.data["what_if"][name] for name in what_if} == what_if
    assert (row.kind, row.pre_trade["what_if"]) == (tool.removeprefix("suggest_"), result.data["what_if"])


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("suggest_close", {"symbol": "ETHUSDT"}, C.ORDER_WOULD_INCREASE_POSITION),
        ("suggest_close", BTC | {"quantity": "0.50001"}, C.ORDER_WOULD_INCREASE_POSITION),
        ("suggest_close", BTC | {"quantity": "0.000001"}, C.ORDER_LOT_SIZE_VIOLATED),
        ("suggest_close", BTC | {"order_type": "STOP"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_close", BTC | {"order_type": "LIMIT"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_close", BTC | {"price": "60000"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_close", BTC | {"side": "BUY"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_close", BTC | {"order_type": "LIMIT", "price": "60000.001"}, C.ORDER_TICK_SIZE_VIOLATED),
        ("suggest_hedge", {"symbol": "ETHUSDT"}, C.ORDER_WOULD_INCREASE_POSITION),
        ("suggest_hedge", BTC | {"hedge_ratio_bps": 10_001}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_hedge", BTC | {"hedge_ratio_bps": 0}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_hedge", BTC | {"quantity": "1"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_bracket", ENTRY, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_bracket", ENTRY | STOP | {"stop_trailing_offset_bps": 100}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_bracket", ENTRY | PROFIT | {"stop_limit_price": "57000"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_bracket", ENTRY | STOP | {"entry_type": "MARKET"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_bracket", ENTRY | STOP | {"entry_type": "STOP"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_bracket", ENTRY | STOP | {"entry_trigger_price": "60500"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_bracket", ENTRY | STOP | {"quantity": "9"}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ("suggest_bracket", ENTRY | {"stop_trigger_price": "58000.001"}, C.ORDER_TICK_SIZE_VIOLATED),
    ],
)
async def test_what_cant_be_proposed_leaves_no_suggestion(tool: str, arguments: dict[str, Any], code: C) -> None:
    house = House()
    refusal = (await house.ask(tool, **arguments)).refusal
    assert refusal is not None
    assert refusal.code is code, refusal
    assert house.suggestions.rows == {}
