"""Suggestions to change what there is: bound to what was shown, and never a way to loosen anything."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from audit.record import Action
from core.authority.listed_orders import listed_orders
from core.authority.proposal import parse_proposal
from core.types.codes import ReasonCode as C
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.types.views import OrderView
from tests.tools.doubles import House
from tests.tools.people import ACCOUNT, NOW_NS

RESTING = OrderView(
    account_id=ACCOUNT,
    symbol="BTCUSDT",
    client_order_id="vz-1",
    venue_order_id="v-1",
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    time_in_force=TimeInForce.GTC,
    quantity=Decimal("0.5"),
    price=Decimal("59000.00"),
    filled_quantity=Decimal("0.10"),
    average_fill_price=Decimal(59_000),
    status=OrderStatus.PARTIALLY_FILLED,
    suggestion_id=None,
    created_ns=NOW_NS,
    as_of_ns=NOW_NS,
    venue="paper",
)
STOP = msgspec.structs.replace(
    RESTING,
    client_order_id="vz-2",
    order_type=OrderType.STOP,
    price=None,
    stop_price=Decimal(61_000),
    filled_quantity=Decimal(0),
    status=OrderStatus.HELD,
)
FILLED = msgspec.structs.replace(RESTING, client_order_id="vz-3", status=OrderStatus.FILLED)
REVOKE = {"mandate_id": "man-1", "action": "REVOKE", "reason": "x"}
ANOTHERS = msgspec.structs.replace(RESTING, client_order_id="vz-4", account_id="acct-2")


ETHER = msgspec.structs.replace(RESTING, client_order_id="vz-5", symbol="ETHUSDT")
RESTING_CELLS = {
    "client_order_id": "vz-1",
    "symbol": "BTCUSDT",
    "side": "BUY",
    "order_type": "LIMIT",
    "quantity": "0.5",
    "price": "59000",
    "stop_price": None,
    "open_quantity": "0.4",
    "filled_quantity": "0.1",
    "status": "PARTIALLY_FILLED",
}
STOP_CELLS = RESTING_CELLS | {
    "client_order_id": "vz-2",
    "order_type": "STOP",
    "price": None,
    "stop_price": "61000",
    "open_quantity": "0.5",
    "filled_quantity": "0",
    "status": "HELD",
}


def house() -> House:
    made = House()
    made.engine.resting = [ETHER, STOP, RESTING]
    made.engine.known_orders = [*made.engine.resting, FILLED, ANOTHERS]
    return made


@pytest.mark.parametrize(
    ("tool", "arguments", "proposed", "what_if"),
    [
        (
            "suggest_cancel",
            {"client_order_id": "vz-1"},
            {"client_order_id": "vz-1", "quantity": "0.5", "price": "59000", "stop_price": "", "side": "BUY"},
            {"open_orders": "1", "orders": [RESTING_CELLS]},
        ),
        (
            "suggest_cancel",
            {"client_order_id": "vz-2"},
            {"order_type": "STOP", "price": "", "stop_price": "61000"},
            {"open_orders": "1", "orders": [STOP_CELLS]},
        ),
        (
            "suggest_cancel",
            {"scope": "symbol", "symbol": "btc/usdt"},
            {
                "schema": "veloz.cancel-proposal/2",
                "symbol": "BTCUSDT",
                "venue": "paper",
                "orders": "vz-1 BUY 0.5 BTCUSDT LIMIT at 59000; vz-2 BUY 0.5 BTCUSDT STOP once 61000",
            },
            {"open_orders": "2", "orders": [RESTING_CELLS, STOP_CELLS]},
        ),
        (
            "suggest_cancel",
            {"scope": "account"},
            {
                "symbol": "",
                "orders": "vz-1 BUY 0.5 BTCUSDT LIMIT at 59000; vz-2 BUY 0.5 BTCUSDT STOP once 61000; "
                "vz-5 BUY 0.5 ETHUSDT LIMIT at 59000",
            },
            {"open_orders": "3"},
        ),
        (
            "suggest_amend",
            {"client_order_id": "vz-1", "price": "58000"},
            {
                "quantity": "0.5",
                "price": "59000",
                "filled_quantity": "0.1",
                "new_quantity": "0.5",
                "new_price": "58000",
                "notional_quote": "29000",
                "reference_price": "60000",
            },
            {"crosses": False, "position_before": "0.5", "position_after": "0.9", "notional_before_quote": "29500"},
        ),
        (
            "suggest_amend",
            {"client_order_id": "vz-1", "quantity": "0.3", "price": "60001"},
            {"new_quantity": "0.3", "new_price": "60001"},
            {"crosses": True, "position_after": "0.7"},
        ),
        (
            "suggest_kill_switch",
            {"state": "halted", "reason": "The feed looks wrong."},
            {"scope": "account", "state": "HALTED", "reason": "The feed looks wrong."},
            {"state_before": "NORMAL", "state_after": "HALTED", "open_orders": "3"},
        ),
        (
            "suggest_kill_switch",
            {"state": "REDUCE_ONLY", "scope": "engine", "reason": "x"},
            {"scope": "engine", "state": "REDUCE_ONLY"},
            {"state_after": "REDUCE_ONLY"},
        ),
        (
            "suggest_strategy_change",
            {"mandate_id": "man-1", "action": "revoke", "reason": "x"},
            {
                "strategy_id": "grid-1",
                "action": "revoke",
                "max_open_orders": "4",
                "max_order_notional_quote": "1000",
                "new_max_open_orders": "",
            },
            {"state": "in force", "notional_used_quote": "2500", "orders_used": "12"},
        ),
        (
            "suggest_strategy_change",
            {"mandate_id": "man-1", "action": "tighten", "max_open_orders": 2, "reason": "x"},
            {"new_max_open_orders": "2", "new_max_order_notional_quote": "1000"},
            {},
        ),
    ],
)
async def test_a_change_is_proposed_as_what_it_changes_is_now(
    tool: str, arguments: dict[str, Any], proposed: dict[str, str], what_if: dict[str, str]
) -> None:
    here = house()
    data = (await here.ask(tool, **arguments)).data
    row = here.suggestions.rows[data["suggestion_id"], 1]
    assert data["proposal"] == row.order_fields() == msgspec.to_builtins(parse_proposal(row.proposal))
    assert {name: data["proposal"][name] for name in proposed} == proposed
    assert {name: data["what_if"][name] for name in what_if} == what_if
    assert (row.status.value, row.kind) == ("pending", tool.removeprefix("suggest_"))
    assert row.pre_trade["what_if"] == data["what_if"]
    assert Action.SUGGESTION_CREATED in here.trail.actions()


@pytest.mark.parametrize(("count", "code"), [(0, C.ORDER_UNKNOWN), (100, None), (101, C.REQUEST_INVALID)])
async def test_one_suggestion_lists_as_many_orders_as_an_approver_can_read(count: int, code: C | None) -> None:
    here = house()
    here.engine.resting = [
        msgspec.structs.replace(RESTING, client_order_id=f"vz{number:032x}") for number in range(count)
    ]
    result = await here.ask("suggest_cancel", scope="account")
    assert (result.refusal and result.refusal.code) == code
    if code is None:
        (row,) = here.suggestions.rows.values()
        assert len(listed_orders(row.order_fields()["orders"])) == count


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("suggest_cancel", {"client_order_id": "vz-3"}, C.ORDER_ALREADY_FINAL),
        ("suggest_cancel", {"client_order_id": "vz-4"}, C.ORDER_UNKNOWN),
        ("suggest_cancel", {"client_order_id": "vz-9"}, C.ORDER_UNKNOWN),
        ("suggest_cancel", {"client_order_id": ""}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_cancel", {}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_cancel", {"scope": "symbol"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_cancel", {"scope": "account", "symbol": "BTCUSDT"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_cancel", {"scope": "account", "client_order_id": "vz-1"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_cancel", {"symbol": "BTCUSDT", "client_order_id": "vz-1"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_cancel", {"scope": "engine"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_cancel", {"scope": "symbol", "symbol": "NOPE"}, C.MARKET_INSTRUMENT_UNKNOWN),
        ("suggest_amend", {"client_order_id": "vz-1"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_amend", {"client_order_id": "vz-2", "quantity": "1"}, C.ORDER_AMEND_INVALID),
        ("suggest_amend", {"client_order_id": "vz-4", "quantity": "1"}, C.ORDER_UNKNOWN),
        ("suggest_amend", {"client_order_id": "vz-1", "price": "59000"}, C.ORDER_AMEND_INVALID),
        ("suggest_amend", {"client_order_id": "vz-1", "price": "59000.001"}, C.ORDER_TICK_SIZE_VIOLATED),
        ("suggest_amend", {"client_order_id": "vz-1", "quantity": "0.000001"}, C.ORDER_LOT_SIZE_VIOLATED),
        ("suggest_amend", {"client_order_id": "vz-1", "quantity": "9"}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ("suggest_kill_switch", {"state": "NORMAL", "reason": "x"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_kill_switch", {"state": "HALTED"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_kill_switch", {"state": "HALTED", "reason": "x", "scope": "firm"}, C.TOOL_ARGUMENTS_INVALID),
        ("suggest_strategy_change", REVOKE | {"mandate_id": "man-2"}, C.AUTHORITY_MANDATE_UNKNOWN),
        ("suggest_strategy_change", REVOKE | {"max_open_orders": 1}, C.TOOL_ARGUMENTS_INVALID),
        (
            "suggest_strategy_change",
            {"mandate_id": "man-1", "action": "TIGHTEN", "reason": "x"},
            C.TOOL_ARGUMENTS_INVALID,
        ),
        (
            "suggest_strategy_change",
            {"mandate_id": "man-1", "action": "TIGHTEN", "reason": "x", "max_open_orders": 5},
            C.AUTHORITY_KIND_NOT_ACCEPTED,
        ),
        (
            "suggest_strategy_change",
            {"mandate_id": "man-1", "action": "TIGHTEN", "reason": "x", "max_open_orders": 4},
            C.REQUEST_INVALID,
        ),
    ],
)
async def test_what_cant_be_changed_leaves_no_suggestion(tool: str, arguments: dict[str, Any], code: C) -> None:
    here = house()
    refusal = (await here.ask(tool, **arguments)).refusal
    assert refusal.code is code, refusal
    assert here.suggestions.rows == {}


async def test_more_than_a_mandate_allows_says_that_it_needs_one_of_its_own() -> None:
    wanted = {"mandate_id": "man-1", "action": "TIGHTEN", "reason": "x", "max_total_notional_quote": "10001"}
    refusal = (await house().ask("suggest_strategy_change", **wanted)).refusal
    assert "a mandate of its own" in refusal.message
    assert (refusal.limit, refusal.actual, refusal.unit) == ("10000", "10001", "max_total_notional_quote")
