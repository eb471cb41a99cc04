"""What the api process is made of, wired together once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from api.agents.service import AgentService
from api.audit_trail.service import AuditReader
from api.auth.identity import Identity
from api.auth.service import AuthService
from api.auth.todays_gateway import TodaysGateway
from api.auth.tokens import AccessTokens
from api.auth.users import CurrentUsers
from api.backtests.service import BacktestService
from api.budgets.rates import SqlRateLedger
from api.budgets.repository import SqlBudgetLedger
from api.budgets.service import BudgetUseReader
from api.mcp.http import McpEndpoint
from api.metrics.gateway import MeasuredGateway
from api.metrics.service import MetricsService
from api.passkeys.service import Passkeys
from api.policy.keeper import PolicyKeeper
from api.results.conversations import SqlConversations
from api.results.repository import SqlReleases, SqlResultStore
from api.results.sealing import results_key
from api.reviews.repository import SqlReviewStore
from api.runs.event_log import RunEventLog
from api.runs.loading import LoadingCopilot
from api.runs.service import RunService
from api.suggestions.repository import SqlSuggestionStore
from api.suggestions.watch import SuggestionWatch
from api.tools.health import ServiceHealth
from api.tools.history import SqlTradingHistory
from api.tools.idempotency import IdempotencyKeys
from api.tools.service import ToolService
from api.transactions import Transactions
from audit.keys import PersonKeys
from audit.redact import warm
from audit.store import PostgresAuditSink, audit_redactor
from audit.trail import AuditTrail
from core.config import Settings
from core.runtime.address import engine_address
from core.runtime.client import EngineClient
from core.storage.database import DatabaseRole, create_engine, scoped_session
from core.types.clock import SystemClock
from core.types.ids import SystemIdSource
from knowledge.embed import HashingEmbedder
from knowledge.search import HybridSearch
from tools.approvals import Approvals
from tools.budgets import Budgets
from tools.catalogue import build_registry
from tools.composition import build_gateway
from tools.model_budget import ModelBudget, check_prices
from tools.policy import Policy, tool_facts
from tools.rates import Rates

if TYPE_CHECKING:
    from agent.copilot import Copilot

DATA_FOLDER = "data"
"""Below VELOZ_HOME: where `veloz record` and `veloz data import` put what they get."""
METRICS_TOKEN = "metrics.token"  # noqa: S105 (the file's name)


class Services(msgspec.Struct, frozen=True):
    """Everything that endpoints call."""

    settings: Settings
    transactions: Transactions
    tokens: AccessTokens
    identity: Identity
    users: CurrentUsers
    auth: AuthService
    agents: AgentService
    runs: RunService
    suggestions: SqlSuggestionStore
    watch: SuggestionWatch
    approvals: Approvals
    passkeys: Passkeys
    results: SqlResultStore
    policy: PolicyKeeper
    budget_use: BudgetUseReader
    tools: ToolService
    mcp: McpEndpoint
    audit: AuditReader
    engine: EngineClient
    events: RunEventLog
    copilot: LoadingCopilot
    embedder: HashingEmbedder
    metrics: MetricsService
    metrics_token: str

    async def load(self) -> None:
        """Load the libraries that only questions need. Raises ConfigurationError for a model configured by half."""
        await asyncio.gather(
            self.copilot.start(), self.mcp.start(), asyncio.to_thread(warm), asyncio.to_thread(self.embedder.warm)
        )


def _check_prices(settings: Settings, policy: Policy) -> None:
    """The model that is configured must have a price where money is bounded. Raises PolicyFileError."""
    check_prices(policy, settings.copilot.provider_base_url, settings.copilot.provider_model)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Wire the services; connections are made on first use or in the background, so that none of them holds up the
    start. Raises ConfigurationError for a missing secret or a wrong policy."""
    clock, ids = SystemClock(), SystemIdSource()
    api_database = create_engine(settings, DatabaseRole.API)
    audit_database = create_engine(settings, DatabaseRole.AUDIT_WRITER)
    transactions: Transactions = partial(scoped_session, api_database)
    kek = bytes.fromhex(settings.read_secret("audit-kek.key"))
    redactor = audit_redactor(kek)
    person_keys = PersonKeys(api_database, kek)
    sink = PostgresAuditSink(audit_database, redactor)
    trail = AuditTrail(sink, person_keys, clock, ids)
    engine = EngineClient(engine_address(settings), settings.read_secret("engine-control.token"))
    events = RunEventLog(settings.nats.url, settings.read_secret("nats.token"))
    suggestions = SqlSuggestionStore(transactions)
    sealing_key = results_key(settings)
    results = SqlResultStore(transactions, sealing_key)
    embedder, metrics = HashingEmbedder(), MetricsService(engine, settings.engine.account_id)
    registry = build_registry()
    policy = PolicyKeeper(
        settings.paths.policy_file, tool_facts(registry), trail, clock, ids, partial(_check_prices, settings)
    )
    ledger = SqlBudgetLedger(api_database)
    budgets = Budgets(ledger, f"api-{ids.new_ulid()}", clock)
    backtests = BacktestService(transactions, settings.paths.home / DATA_FOLDER, ids)
    gateway = build_gateway(
        engine=engine,
        suggestions=suggestions,
        releases=SqlReleases(trail, sealing_key),
        results=results,
        conversations=SqlConversations(transactions, sealing_key),
        reviews=HybridSearch(SqlReviewStore(transactions), embedder),
        health=ServiceHealth(transactions, lambda: events.connected),
        history=SqlTradingHistory(transactions),
        backtests=backtests,
        trail=trail,
        clock=clock,
        ids=ids,
        suggestion_ttl_s=settings.copilot.suggestion_ttl_s,
        max_tool_calls_per_run=settings.copilot.max_tool_calls_per_run,
        mode=settings.mode,
        venue=settings.venue.kind,
        redactor=redactor,
        policy=policy,
        budgets=budgets,
        rates=Rates(SqlRateLedger(api_database), clock),
        registry=registry,
    )
    users = CurrentUsers(transactions)
    measured = MeasuredGateway(gateway, registry, metrics.registry)

    def build_copilot() -> Copilot:
        from agent.copilot import Copilot

        return Copilot(settings, TodaysGateway(measured, users), ids, clock, budget=ModelBudget(budgets, policy))

    copilot = LoadingCopilot(build_copilot)
    secret = bytes.fromhex(settings.read_secret("jwt.key"))
    tokens = AccessTokens(secret, clock)
    agents = AgentService(transactions, tokens, measured, trail, clock, ids)
    identity = Identity(tokens, agents, users)
    tool_service = ToolService(measured, ids, IdempotencyKeys(transactions, results, ids))
    services = Services(
        settings=settings,
        transactions=transactions,
        tokens=tokens,
        identity=identity,
        users=users,
        auth=AuthService(transactions, tokens, trail, clock, ids),
        agents=agents,
        runs=RunService(copilot, events, transactions, trail, ids, settings.copilot.run_timeout_s, redactor),
        suggestions=suggestions,
        watch=SuggestionWatch(transactions),
        approvals=Approvals(
            engine=engine,
            suggestions=suggestions,
            trail=trail,
            clock=clock,
            ids=ids,
            policy=policy,
            redactor=redactor,
            figures_max_age_s=settings.approvals.figures_max_age_s,
        ),
        passkeys=Passkeys(engine, settings.approvals, secret, clock, ids),
        results=results,
        policy=policy,
        budget_use=BudgetUseReader(ledger, budgets, policy),
        tools=tool_service,
        mcp=McpEndpoint(settings.mcp, tool_service, identity),
        audit=AuditReader(api_database, person_keys, trail, ids),
        engine=engine,
        events=events,
        copilot=copilot,
        embedder=embedder,
        metrics=metrics,
        metrics_token=settings.read_secret(METRICS_TOKEN),
    )
    events.start()
    background = [asyncio.create_task(policy.run()), asyncio.create_task(budgets.run())]
    try:
        yield services
    finally:
        for task in background:
            task.cancel()
        for part in (services.mcp, backtests, services.watch, services.runs, copilot):
            await part.close()
        await events.stop()
        await sink.close()
        await budgets.close()
        await engine.close()
        await api_database.dispose()
        await audit_database.dispose()
