"""From a question's tool calls to a fill: the real gateway, engine, paper venue, PostgreSQL and audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.authority.proposal import parse_proposal
from core.storage.database import DatabaseRole
from core.types.codes import ReasonCode
from core.types.events import OrderFilled
from core.types.orders import OrderStatus
from tests.api.gateway_support import GatewayService, open_gateway
from tests.api.sql_doubles import ACCOUNT
from tests.core.approvals import approve as sign
from tests.core.engine_support import RunningEngine, engine, home, settings, venue
from tests.postgres import PostgresDatabase
from tests.tools.people import APPROVER

__all__ = ["engine", "home", "settings", "venue"]
RECONNECT_LIMIT_S = 60


@pytest.fixture
async def service(engine: RunningEngine, postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[GatewayService]:
    async with open_gateway(engine, postgres, tmp_path / "sql") as opened:
        yield opened


async def test_every_read_tool_answers_from_the_running_house(service: GatewayService) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_instruments", {}),
        ("get_ticker", {"symbol": "btc/usdt"}),
        ("get_order_book", {"symbol": "BTCUSDT", "depth": 5}),
        ("get_klines", {"symbol": "BTCUSDT", "limit": 5}),
        ("get_indicators", {"symbol": "BTCUSDT", "indicators": ["rsi", "sma(20)"]}),
        ("get_feed_health", {}),
        ("get_feed_health", {"symbol": "btcusdt"}),
        ("estimate_execution", {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.1"}),
        ("get_positions", {}),
        ("get_open_orders", {}),
        ("get_risk_state", {}),
        ("search_reviews", {"query": "losing trades"}),
    ]
    for tool, arguments in calls:
        result = await service.ask(tool, **arguments)
        assert result.refusal is None, (tool, result.refusal)
        stored = await service.results.get((ACCOUNT,), result.call_id)
        assert stored is not None
        assert stored.digest_hex == result.digest_hex


async def test_a_suggestion_is_approved_once_and_filled(
    service: GatewayService, engine: RunningEngine, postgres: PostgresDatabase
) -> None:
    result = await service.ask(
        "suggest_order", symbol="BTCUSDT", side="buy", quantity="0.01", price_anchor="ask", offset_bps="10"
    )
    assert result.refusal is None, result.refusal
    suggestion = await service.approvals.view(APPROVER, result.data["suggestion_id"])
    _, digest, [(key_id, signature)] = sign(parse_proposal(suggestion.proposal))
    assert digest == suggestion.digest_hex

    outcome = await service.approvals.approve(APPROVER, suggestion.suggestion_id, 1, digest, key_id, signature)
    assert outcome.refusal is None, outcome.refusal
    filled = await engine.event(lambda event: isinstance(event, OrderFilled) and event.status is OrderStatus.FILLED)
    assert filled.client_order_id == outcome.client_order_id
    assert filled.trace_id == suggestion.trace_id
    assert (await service.ask("get_positions")).data["positions"][0]["quantity"] == "0.01"

    again = await service.approvals.approve(APPROVER, suggestion.suggestion_id, 1, digest, key_id, signature)
    assert again.refusal is not None
    assert again.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED

    with postgres.connect(DatabaseRole.OWNER) as connection:
        rows = connection.execute(
            "SELECT action, outcome FROM audit.inbox WHERE trace_id = %s ORDER BY arrival", [suggestion.trace_id]
        ).fetchall()
    assert rows == [
        ("tool.intended", "intended"),
        ("suggestion.created", "ok"),
        ("tool.called", "ok"),
        ("suggestion.viewed", "ok"),
        ("suggestion.approved", "ok"),
        ("suggestion.approval_refused", "APPROVAL_ALREADY_CONSUMED"),
    ]


async def test_risk_refuses_a_suggestion_beyond_its_limit_with_limit_and_actual(service: GatewayService) -> None:
    result = await service.ask("suggest_order", symbol="BTCUSDT", side="buy", quantity="100", price_anchor="bid")
    assert result.refusal is not None
    assert result.refusal.code is ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    assert result.refusal.limit == "100000"
    assert Decimal(result.refusal.actual or 0) > 100_000


async def test_an_engine_that_is_down_is_told_and_heals_without_a_restart_here(
    service: GatewayService, engine: RunningEngine
) -> None:
    assert engine.task is not None
    engine.stop.set()
    await engine.task
    result = await service.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal is not None
    assert result.refusal.code is ReasonCode.SERVICE_ENGINE_UNAVAILABLE

    engine.stop.clear()
    await engine.start()
    async with asyncio.timeout(RECONNECT_LIMIT_S):
        await engine.client._channel.channel_ready()
    assert (await service.ask("get_ticker", symbol="BTCUSDT")).refusal is None
