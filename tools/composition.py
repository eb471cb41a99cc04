"""Wires a gateway from its ports: the one place that decides what tools can reach."""

from __future__ import annotations

from core.text.redaction import Redactor
from core.types.clock import Clock
from core.types.ids import IdSource
from knowledge.search import ReviewSearch
from tools.backtests import BacktestJobs
from tools.budgets import Budgets
from tools.catalogue import build_registry
from tools.instruments import InstrumentDirectory
from tools.limits import Limiter
from tools.pipeline import ToolGateway
from tools.policy import PolicySource, default_policy
from tools.ports import (
    EngineReads,
    HealthReads,
    ReadOnlyEngine,
    Releases,
    ResultReads,
    SuggestionStore,
    TradingHistory,
    Trail,
)
from tools.rates import Rates
from tools.registry import Registry, ToolPorts
from tools.suggestion_writer import SuggestionWriter
from tools.taint import Conversations


def build_gateway(
    *,
    engine: EngineReads,
    suggestions: SuggestionStore,
    releases: Releases,
    results: ResultReads,
    reviews: ReviewSearch,
    conversations: Conversations,
    health: HealthReads,
    history: TradingHistory,
    backtests: BacktestJobs,
    trail: Trail,
    clock: Clock,
    ids: IdSource,
    suggestion_ttl_s: int,
    max_tool_calls_per_run: int,
    mode: str,
    venue: str = "",
    redactor: Redactor | None = None,
    policy: PolicySource | None = None,
    limiter: Limiter | None = None,
    budgets: Budgets | None = None,
    rates: Rates | None = None,
    registry: Registry | None = None,
) -> ToolGateway:
    """suggestion_ttl_s and max_tool_calls_per_run come from settings.copilot, mode from settings.mode, venue from
    settings.venue.kind."""
    reads = ReadOnlyEngine(engine)
    ports = ToolPorts(
        engine=reads,
        instruments=InstrumentDirectory(reads.instruments, clock),
        suggestions=suggestions,
        suggestion_writer=SuggestionWriter(suggestions, trail),
        reviews=reviews,
        health=health,
        history=history,
        results=results,
        backtests=backtests,
        clock=clock,
        ids=ids,
        suggestion_ttl_s=suggestion_ttl_s,
    )
    return ToolGateway(
        registry=registry or build_registry(),
        policy=policy or default_policy(),
        ports=ports,
        trail=trail,
        releases=releases,
        conversations=conversations,
        limiter=limiter or Limiter(None, clock, budgets, rates, max_calls_per_run=max_tool_calls_per_run),
        redactor=redactor,
        mode=mode,
        venue=venue,
    )
