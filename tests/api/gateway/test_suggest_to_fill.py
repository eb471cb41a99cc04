"""From a question's tool calls to a fill: the real gateway, engine, paper venue, PostgreSQL and audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api.results.repository import SqlResultStore
from api.reviews.repository import SqlReviewStore
from api.suggestions.repository import SqlSuggestionStore
from audit.keys import PersonKeys
from audit.store import PostgresAuditSink, audit_redactor
from audit.trail import AuditTrail
from core.authority.proposal import parse_proposal
from core.storage.database import DatabaseRole, create_engine
from core.types.clock import SystemClock
from core.types.codes import ReasonCode
from core.types.events import OrderFilled
from core.types.orders import OrderStatus
from knowledge.embed import HashingEmbedder
from knowledge.search import HybridSearch
from tests.api.sql_doubles import ACCOUNT, seeded
from tests.core.approvals import approve as sign
from tests.core.runtime.conftest import RunningEngine, engine, home, settings, venue
from tests.postgres import PostgresDatabase
from tests.tools.doubles import APPROVER, IDS, TRADER, call
from tools.approvals import Approvals
from tools.composition import build_gateway
from tools.contracts import ToolResult
from tools.pipeline import ToolGateway

__all__ = ["engine", "home", "settings", "venue"]
KEK = bytes(range(32))
RECONNECT_LIMIT_S = 10
EMBEDDER = HashingEmbedder()
EMBEDDER.warm()


class Service:
    def __init__(self, gateway: ToolGateway, approvals: Approvals, results: SqlResultStore) -> None:
        self.gateway = gateway
        self.approvals = approvals
        self.results = results

    async def ask(self, tool: str, **arguments: Any) -> ToolResult:
        return await self.gateway.call(call(tool, arguments, TRADER, "01RUN"))


@pytest.fixture
async def service(engine: RunningEngine, postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Service]:
    clock = SystemClock()
    async with seeded(postgres, tmp_path / "sql") as database:
        writer = create_engine(postgres.settings(tmp_path / "sql"), DatabaseRole.AUDIT_WRITER)
        sink = PostgresAuditSink(writer, audit_redactor(KEK))
        trail = AuditTrail(sink, PersonKeys(database.api, KEK), clock, IDS)
        suggestions = SqlSuggestionStore(database.transactions)
        results = SqlResultStore(database.transactions, KEK)
        gateway = build_gateway(
            engine=engine.client,
            suggestions=suggestions,
            results=results,
            reviews=HybridSearch(SqlReviewStore(database.transactions), EMBEDDER),
            trail=trail,
            clock=clock,
            ids=IDS,
            suggestion_ttl_s=60,
            max_tool_calls_per_run=20,
            mode="PAPER",
            redactor=audit_redactor(KEK),
        )
        approvals = Approvals(engine=engine.client, suggestions=suggestions, trail=trail, clock=clock, ids=IDS)
        yield Service(gateway, approvals, results)
        await sink.close()
        await writer.dispose()


async def test_every_read_tool_answers_from_the_running_house(service: Service) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_instruments", {}),
        ("get_ticker", {"symbol": "btc/usdt"}),
        ("get_order_book", {"symbol": "BTCUSDT", "depth": 5}),
        ("get_klines", {"symbol": "BTCUSDT", "limit": 5}),
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
    service: Service, engine: RunningEngine, postgres: PostgresDatabase
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


async def test_risk_refuses_a_suggestion_beyond_its_limit_with_limit_and_actual(service: Service) -> None:
    result = await service.ask("suggest_order", symbol="BTCUSDT", side="buy", quantity="100", price_anchor="bid")
    assert result.refusal is not None
    assert result.refusal.code is ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    assert result.refusal.limit == "100000"
    assert Decimal(result.refusal.actual or 0) > 100_000


async def test_an_engine_that_is_down_is_told_and_heals_without_a_restart_here(
    service: Service, engine: RunningEngine
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
