"""The api process: REST, SSE and OpenAPI over the services."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import version
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.routing import Route

from api import health, problems
from api.agents.endpoints import router as agents_router
from api.audit_trail.endpoints import router as audit_router
from api.auth.endpoints import router as auth_router
from api.authority.endpoints import router as authority_router
from api.budgets.endpoints import router as budgets_router
from api.limits import BodyLimitMiddleware
from api.mcp.http import PATH as MCP_PATH
from api.mcp.http import load_ahead as load_mcp_ahead
from api.metrics.endpoints import router as metrics_router
from api.orders.endpoints import router as orders_router
from api.passkeys.endpoints import router as passkeys_router
from api.patience import ImpatientProtocol
from api.policy.endpoints import router as policy_router
from api.portfolio.endpoints import router as portfolio_router
from api.risk.endpoints import router as risk_router
from api.runs.endpoints import router as runs_router
from api.services import Services, open_services
from api.suggestions.endpoints import router as suggestions_router
from api.tools.endpoints import router as tools_router
from core.config import Settings

CONCURRENT_REQUESTS_LIMIT = 1_000
KEEPALIVE_TIMEOUT_S = 30
GRACEFUL_SHUTDOWN_TIMEOUT_S = 3
DESCRIPTION = "A crypto trading service with a copilot. Errors are RFC 9457 problems with a stable `code`."


def create_app(services: Services) -> FastAPI:
    """The ASGI app over wired services."""
    app = FastAPI(title="VeloZ", version=version("veloz"), description=DESCRIPTION)
    app.state.services = services
    app.add_middleware(BodyLimitMiddleware)
    problems.install(app)
    for router in (
        health.router,
        metrics_router,
        auth_router,
        agents_router,
        runs_router,
        tools_router,
        suggestions_router,
        passkeys_router,
        orders_router,
        portfolio_router,
        authority_router,
        risk_router,
        policy_router,
        budgets_router,
        audit_router,
    ):
        app.include_router(router)
    if services is not None and services.settings.mcp.enabled:
        app.router.routes.append(Route(MCP_PATH, endpoint=services.mcp))
    return app


class _Server(uvicorn.Server):
    """Leaves signals to the process that hosts it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def main(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Serve until stop is set. PostgreSQL, NATS and the engine may come and go meanwhile."""
    async with open_services(settings) as services, _tool_rpc(settings, services):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, services.policy.wake)
        server = _Server(
            uvicorn.Config(
                create_app(services),
                http=ImpatientProtocol,
                host=settings.api.host,
                port=settings.api.port,
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=CONCURRENT_REQUESTS_LIMIT,
                timeout_keep_alive=KEEPALIVE_TIMEOUT_S,
                timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_TIMEOUT_S,
            )
        )
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(stop.wait())
        while not server.started and not serving.done():
            await asyncio.wait({serving}, timeout=0.01)
        if server.started:
            ready()
        # Only now: it takes more of the processor than all of the start.
        loading = asyncio.create_task(services.load())
        try:
            await _until_over(serving, stopping, loading)
        finally:
            loading.cancel()
            server.should_exit = True
            stopping.cancel()
            await serving


@contextlib.asynccontextmanager
async def _tool_rpc(settings: Settings, services: Services) -> AsyncIterator[None]:
    """The gateway over gRPC, where it is switched on."""
    if not settings.grpc.enabled:
        yield
        return
    from api.tool_rpc.server import tool_rpc_server
    from api.tool_rpc.servicer import ToolGatewayServicer

    servicer = ToolGatewayServicer(services.tools)
    async with tool_rpc_server(settings.grpc, servicer, services.identity) as port:
        structlog.get_logger("api").info("grpc_listens", host=settings.grpc.host, port=port)
        yield


def load_ahead() -> None:
    """Import and load what questions need, in a process that waits to take over: some seconds of processor time."""
    from agent import copilot
    from agent.planner.reading import trained_reader
    from audit.redact import warm
    from knowledge.embed import HashingEmbedder

    assert copilot
    warm()
    trained_reader()
    HashingEmbedder().warm()
    load_mcp_ahead()
    structlog.get_logger("api").info("spare_loaded")


async def _until_over(serving: asyncio.Task[None], stopping: asyncio.Task[bool], loading: asyncio.Task[None]) -> None:
    """Until asked to stop. What can't be loaded (a model that is configured by half, say) ends the process."""
    over: set[asyncio.Future[Any]] = {serving, stopping}
    await asyncio.wait({*over, loading}, return_when=asyncio.FIRST_COMPLETED)
    if loading.done() and not loading.cancelled() and (error := loading.exception()) is not None:
        raise error
    await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
