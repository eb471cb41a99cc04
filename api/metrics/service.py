"""What one scrape shows: this process's own metrics, and the engine's as it answers at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from api.metrics.exposition import account_families, engine_families, feed_families
from core.types.codes import RefusalError
from core.types.views import EngineStatusView, ExposureView, FeedHealthView, OrderView, RiskStateView

ENGINE_TIMEOUT_S = 1.0
"""Well within Prometheus' own scrape timeout (10 s): a scrape without the engine is an answer too."""

T = TypeVar("T")
_log = structlog.get_logger("api.metrics")


class EngineMetrics(Protocol):
    """The engine as a scrape sees it; raises RefusalError when it doesn't answer."""

    async def status(self) -> EngineStatusView: ...
    async def feed_health(self, symbol: str | None = None) -> list[FeedHealthView]: ...


class AccountMetrics(Protocol):
    """The account as a scrape sees it; raises RefusalError when the engine doesn't answer."""

    async def risk_state(self, account_id: str) -> RiskStateView: ...
    async def orders(self, account_id: str) -> list[OrderView]: ...
    async def exposure(self, account_id: str) -> ExposureView: ...


class TradingMetrics(EngineMetrics, AccountMetrics, Protocol):
    """Both."""


class _Exposition:
    """The families of one scrape, in the form that prometheus_client's encoders take."""

    def __init__(self, own: CollectorRegistry, engine: list[Metric]) -> None:
        self._own = own
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        yield from self._engine
        yield from self._own.collect()


class MetricsService:
    """registry is where this process's parts register their own metrics. account_id is the account that the engine
    trades."""

    def __init__(self, engine: TradingMetrics, account_id: str) -> None:
        self._engine = engine
        self._account_id = account_id
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._failures = Counter(
            "veloz_engine_read_failures_total",
            "Reads for a scrape that the engine refused or didn't answer in time.",
            ["read"],
            registry=self.registry,
        )
        for read in ("status", "feed_health", "risk_state", "orders", "exposure"):
            self._failures.labels(read)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """(body, content type) in the format that the Accept header asks for: Prometheus' text, or OpenMetrics."""
        engine, account_id = self._engine, self._account_id
        status, feeds, risk, orders, exposure = await asyncio.gather(
            self._ask("status", engine.status),
            self._ask("feed_health", engine.feed_health),
            self._ask("risk_state", lambda: engine.risk_state(account_id)),
            self._ask("orders", lambda: engine.orders(account_id)),
            self._ask("exposure", lambda: engine.exposure(account_id)),
        )
        families = [
            *engine_families(status),
            *feed_families(feeds or ()),
            *account_families(account_id, risk, orders, exposure),
        ]
        encode, content_type = choose_encoder(accept)
        return encode(_Exposition(self.registry, families)), content_type

    async def _ask(self, read: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        try:
            async with asyncio.timeout(ENGINE_TIMEOUT_S):
                return await ask()
        except (RefusalError, TimeoutError) as error:
            self._failures.labels(read).inc()
            _log.debug("engine_read_failed", read=read, error=str(error))
            return None
