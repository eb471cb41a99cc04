"""What tools tell of an account: balances, exposure, what-if, limits and their use, strategies; of the house, too."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.types.codes import ReasonCode, refuse
from core.types.orders import Side
from core.types.views import EngineStatusView, PositionView, StrategyPositionView
from tests.tools.doubles import House
from tests.tools.engine_double import MemoryEngine
from tests.tools.people import ACCOUNT
from tools.ports import PartHealth


async def test_balances_say_what_is_held_reserved_and_worth() -> None:
    data = (await House().ask("get_balances")).data
    assert data["known_equity"] == "100000"
    assert (data["equity"], data["reporting_asset"], data["count"], data["unknown"]) == (
        "100000",
        "USDT",
        "3",
        ["SHIB"],
    )
    names = ("asset", "quantity", "available", "reserved", "value")
    assert [tuple(cell[name] for name in names) for cell in data["balances"]] == [
        ("BTC", "0.5", "0.4", "0.1", "30000"),
        ("SHIB", "7", "7", "0", None),
        ("USDT", "70000", "61000", "9000", "70000"),
    ]  # fmt: skip


async def test_exposure_has_totals_and_one_line_a_market() -> None:
    house = House()
    data = (await house.ask("get_exposure")).data
    assert (data["gross"], data["net"], data["equity"], data["leverage"]) == ("30000", "30000", "100000", None)
    (line,) = data["lines"]
    assert (line["symbol"], line["worst_long_quantity"], line["worst_short_quantity"]) == ("BTCUSDT", "0.5", "0.4")
    narrowed = (await house.ask("get_exposure", symbol="eth/usdt")).data
    assert (narrowed["lines"], narrowed["gross"]) == ([], "30000")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({"price_move_bps": "-500"}, ("", None, None, None, -500)),
        ({"symbol": "btc/usdt", "price_move_bps": 250}, ("BTCUSDT", None, None, None, 250)),
        (
            {"symbol": "BTCUSDT", "side": "sell", "quantity": "0.2", "price": "61000"},
            ("BTCUSDT", Side.SELL, Decimal("0.2"), Decimal(61_000), None),
        ),
        (
            {"symbol": "BTCUSDT", "side": "BUY", "quantity": "1", "price_move_bps": 10_000},
            ("BTCUSDT", Side.BUY, Decimal(1), None, 10_000),
        ),
    ],
)
async def test_what_if_asks_the_engine_for_an_order_a_price_move_or_both(
    arguments: dict[str, Any], asked: tuple[object, ...]
) -> None:
    house = House()
    result = await house.ask("what_if", **arguments)
    assert result.refusal is None
    assert house.engine.imagined == [asked]


async def test_what_if_shows_before_after_and_what_a_move_does_to_equity() -> None:
    data = (await House().ask("what_if", price_move_bps="-500")).data
    assert (data["before"]["equity"], data["after"]["equity"], data["pnl_change"]) == ("100000", "98500", "-1500")
    assert (data["price_move_bps"], data["refused"], data["checks"]) == ("-500", False, [])
    assert (data["known_pnl_change"], data["after"]["known_equity"]) == ("-1500", "98500")


async def test_what_if_says_whether_risk_would_let_the_order_through() -> None:
    house = House()
    passes = (await house.ask("what_if", symbol="BTCUSDT", side="buy", quantity="1")).data
    assert (passes["refused"], passes["refusal"]) == (False, None)
    assert [(c["name"], c["passed"], c["unit"], c["window_ms"], c["used_percent"]) for c in passes["checks"]] == [
        ("RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER", True, "quote", None, "12.5"),
        ("RISK_ORDER_RATE_EXCEEDED", True, None, "1000", None),
    ]
    fails = (await house.ask("what_if", symbol="BTCUSDT", side="buy", quantity="5")).data
    assert (fails["refused"], fails["checks"][0]["passed"]) == (True, False)
    assert (fails["refusal"]["code"], fails["refusal"]["limit"], fails["refusal"]["actual"]) == (
        *("RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER", "250000", "300000"),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"symbol": "BTCUSDT"},
        {"symbol": "BTCUSDT", "side": "buy"},
        {"symbol": "BTCUSDT", "quantity": "1"},
        {"side": "buy", "quantity": "1"},
        {"price": "1", "price_move_bps": 1},
        {"price_move_bps": -10_000},
        {"price_move_bps": 10_001},
        {"price_move_bps": "1.5"},
        {"symbol": "BTCUSDT", "side": "buy", "quantity": "0"},
    ],
)
async def test_what_if_refuses_what_makes_no_sense_before_the_engine_is_asked(arguments: dict[str, Any]) -> None:
    house = House()
    result = await house.ask("what_if", **arguments)
    assert result.refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID
    assert house.engine.imagined == []


async def test_limits_come_with_their_use_the_nearest_first() -> None:
    data = (await House().ask("get_risk_limits")).data
    assert (data["nearest"], data["nearest_used_percent"]) == ("RISK_POSITION_EXCEEDS_MAX", "75")
    position, rate, collar = data["limits"]
    assert (position["symbol"], position["limit"], position["used"], position["used_percent"]) == (
        *("BTCUSDT", "40000", "30000", "75"),
    )
    assert (rate["symbol"], rate["window_ms"], rate["unit"], rate["level"]) == (None, "1000", "calls", "global")
    assert (collar["used"], collar["used_percent"]) == (None, None)
    assert data["truncated"] is False


async def test_without_any_use_no_limit_is_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    lines = (await house.engine.limit_use(ACCOUNT)).limits[2:]

    async def unused(_engine: MemoryEngine, account_id: str) -> Any:
        return msgspec.structs.replace(await original(house.engine, account_id), limits=lines)

    original = MemoryEngine.limit_use
    monkeypatch.setattr(MemoryEngine, "limit_use", unused)
    other = House()
    data = (await other.ask("get_risk_limits")).data
    assert (data["nearest"], data["nearest_used_percent"]) == (None, None)


async def test_strategies_are_the_accounts_own_mandates_with_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    part = StrategyPositionView("grid-1", Decimal("0.2"), Decimal(59_000), Decimal(40), Decimal(200), Decimal("0.5"))
    other = msgspec.structs.replace(part, strategy_id="")

    async def positions(engine: MemoryEngine, account_id: str) -> list[PositionView]:
        (position,) = await original(engine, account_id)
        return [msgspec.structs.replace(position, strategies=(part, other))]

    original = MemoryEngine.positions
    monkeypatch.setattr(MemoryEngine, "positions", positions)
    house = House()
    result = await house.ask("list_strategies")
    (grid,) = result.data["strategies"]
    assert (grid["mandate_id"], grid["state"], grid["used_percent"], grid["orders_used"]) == (
        "man-1",
        "in force",
        "25",
        "12",
    )
    assert grid["positions"] == [
        {
            "symbol": "BTCUSDT",
            "quantity": "0.2",
            "average_price": "59000",
            "realised_pnl_quote": "40",
            "unrealised_pnl_quote": "200",
            "fees_quote": "0.5",
        }
    ]
    assert result.untrusted  # a strategy's name is text of outside
    ended = (await house.ask("list_strategies", include_ended=True)).data
    assert [(s["mandate_id"], s["state"]) for s in ended["strategies"]] == [("man-1", "in force"), ("man-0", "revoked")]


async def test_public_trades_come_with_what_was_bought_and_sold() -> None:
    data = (await House().ask("get_trades", symbol="BTCUSDT")).data
    assert [(t["trade_id"], t["side"], t["notional_quote"]) for t in data["trades"]] == [
        ("1", "BUY", "30000"),
        ("2", "SELL", "15000.5"),
        ("3", "BUY", "14999.75"),
    ]
    summary = data["summary"]
    assert (summary["high"], summary["low"], summary["average_price"]) == ("60002", "59999", "60000.25")
    assert (summary["bought_quantity"], summary["sold_quantity"], summary["buy_share"]) == ("0.75", "0.25", "0.75")
    assert (await House().ask("get_trades", symbol="BTCUSDT", limit=1)).data["count"] == "1"


@pytest.mark.parametrize("limit", [0, 201, "many"])
async def test_more_public_trades_than_a_call_may_have_are_refused(limit: object) -> None:
    refusal = (await House().ask("get_trades", symbol="BTCUSDT", limit=limit)).refusal
    assert refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID


async def test_system_health_names_every_part() -> None:
    result = await House().ask("get_system_health")
    data = result.data
    assert (data["healthy"], data["kill_switch"], data["venue_connected"]) == (True, "NORMAL", True)
    assert (data["journal_sequence"], data["projected_sequence"], data["records_behind"]) == ("7", "5", "2")
    assert (data["books_live"], data["books"]) == ("1", "1")
    assert [part["part"] for part in data["parts"]] == [
        *("engine", "venue", "journal", "market data", "trading", "database", "event log"),
    ]
    assert (result.scope, result.source) == (
        ("system",),
        ("engine:status", "sql:projection_cursors", "gateway", "venue:paper"),
    )


@pytest.mark.parametrize(
    ("changes", "unhealthy"),
    [
        ({"venue_connected": False}, "venue"),
        ({"journal_problem": "the disk is full"}, "journal"),
        ({"books": {"BTCUSDT": "STALE"}}, "market data"),
        ({"kill_switch": "HALTED"}, "trading"),
    ],
)
async def test_a_part_of_the_engine_that_is_not_well_is_named(
    changes: dict[str, Any], unhealthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def status(engine: MemoryEngine) -> EngineStatusView:
        return msgspec.structs.replace(await original(engine), **changes)

    original = MemoryEngine.status
    monkeypatch.setattr(MemoryEngine, "status", status)
    data = (await House().ask("get_system_health")).data
    assert data["healthy"] is False
    assert [part["part"] for part in data["parts"] if not part["healthy"]] == [unhealthy]
    assert next(part["detail"] for part in data["parts"] if not part["healthy"])


async def test_system_health_answers_while_the_engine_and_the_database_are_down() -> None:
    house = House()
    house.engine.failing = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "The engine can't be reached.")
    house.health.broken = (PartHealth("database", False, "no answer in time"),)
    data = (await house.ask("get_system_health")).data
    assert [part["part"] for part in data["parts"] if not part["healthy"]] == ["engine", "database"]
    assert (data["kill_switch"], data["journal_sequence"], data["records_behind"]) == (None, None, None)


async def test_what_sql_knows_is_unknown_while_it_can_not_be_asked() -> None:
    house = House()
    house.health.projected = None
    data = (await house.ask("get_system_health")).data
    assert (data["projected_sequence"], data["records_behind"]) == (None, None)
