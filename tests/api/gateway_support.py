"""The gateway and the approval flow over a running engine, PostgreSQL and the real audit trail; no HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from api.backtests.service import BacktestService
from api.results.conversations import SqlConversations
from api.results.repository import SqlReleases, SqlResultStore
from api.reviews.repository import SqlReviewStore
from api.suggestions.repository import SqlSuggestionStore
from api.tools.health import ServiceHealth
from api.tools.history import SqlTradingHistory
from audit.keys import PersonKeys
from audit.store import PostgresAuditSink, audit_redactor
from audit.trail import AuditTrail
from core.storage.database import DatabaseRole, create_engine
from core.types.clock import SystemClock
from knowledge.embed import HashingEmbedder
from knowledge.search import HybridSearch
from tests.api.sql_doubles import seeded
from tests.core.engine_support import RunningEngine
from tests.postgres import PostgresDatabase
from tests.tools.doubles import call
from tests.tools.people import IDS, TRADER
from tools.approvals import Approvals
from tools.composition import build_gateway
from tools.contracts import ToolResult
from tools.pipeline import ToolGateway

KEK = bytes(range(32))
EMBEDDER = HashingEmbedder()
EMBEDDER.warm()


class GatewayService:
    def __init__(self, gateway: ToolGateway, approvals: Approvals, results: SqlResultStore) -> None:
        self.gateway = gateway
        self.approvals = approvals
        self.results = results

    async def ask(self, tool: str, **arguments: Any) -> ToolResult:
        return await self.gateway.call(call(tool, arguments, TRADER, "01RUN"))


@asynccontextmanager
async def open_gateway(engine: RunningEngine, postgres: PostgresDatabase, home: Path) -> AsyncIterator[GatewayService]:
    clock = SystemClock()
    async with seeded(postgres, home) as database:
        writer = create_engine(postgres.settings(home), DatabaseRole.AUDIT_WRITER)
        sink = PostgresAuditSink(writer, audit_redactor(KEK))
        trail = AuditTrail(sink, PersonKeys(database.api, KEK), clock, IDS)
        suggestions = SqlSuggestionStore(database.transactions)
        results = SqlResultStore(database.transactions, KEK)
        backtests = BacktestService(database.transactions, home / "data", IDS)
        gateway = build_gateway(
            engine=engine.client,
            suggestions=suggestions,
            releases=SqlReleases(trail, KEK),
            results=results,
            conversations=SqlConversations(database.transactions, KEK),
            reviews=HybridSearch(SqlReviewStore(database.transactions), EMBEDDER),
            health=ServiceHealth(database.transactions, lambda: True),
            history=SqlTradingHistory(database.transactions),
            backtests=backtests,
            trail=trail,
            clock=clock,
            ids=IDS,
            suggestion_ttl_s=60,
            max_tool_calls_per_run=20,
            mode="PAPER",
            redactor=audit_redactor(KEK),
        )
        approvals = Approvals(engine=engine.client, suggestions=suggestions, trail=trail, clock=clock, ids=IDS)
        yield GatewayService(gateway, approvals, results)
        await backtests.close()
        await sink.close()
        await writer.dispose()
