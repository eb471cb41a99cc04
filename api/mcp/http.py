"""MCP over streamable HTTP, at /mcp: a bearer token on each request, and nothing kept between two of them.

Any replica serves any request. Only POST is served: there is no stream that a server without a session could push on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.limits import REQUEST_BODY_LIMIT_BYTES
from api.problems import refusal_cells, status_of
from api.tools.service import ToolService
from core.config import McpSettings
from core.types.codes import ReasonCode, Refusal, RefusalError
from tools.contracts import Principal

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

PATH = "/mcp"
PRINCIPAL_STATE = "veloz_principal"
ACTUAL_LIMIT = 200
JSONRPC_INVALID_REQUEST = -32600
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer error="invalid_token"'},
    HTTPStatus.METHOD_NOT_ALLOWED: {"Allow": "POST"},
}

_log = structlog.get_logger("api.mcp")


class Identifies(Protocol):
    """What api.auth.identity.Identity is to this face."""

    async def of_header(self, authorization: str | None) -> Principal: ...


class McpEndpoint:
    """An ASGI endpoint. The MCP package is imported in start, behind the api's back: it takes longer than the rest."""

    def __init__(self, settings: McpSettings, tools: ToolService, identity: Identifies) -> None:
        self._settings = settings
        self._tools = tools
        self._identity = identity
        self._ready: asyncio.Future[StreamableHTTPSessionManager] | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        refused = self._refused(request)
        if refused is None:
            try:
                scope.setdefault("state", {})[PRINCIPAL_STATE] = await self._identity.of_header(
                    request.headers.get("authorization")
                )
            except RefusalError as error:
                refused = _answer(status_of(error.refusal.code), error.refusal)
        if refused is not None:
            await refused(scope, receive, send)
            return
        manager = await asyncio.shield(self.start())
        await manager.handle_request(scope, receive, send)

    def start(self) -> asyncio.Future[StreamableHTTPSessionManager]:
        """Begin to load, once; done when requests can be served."""
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._serving = asyncio.create_task(self._serve(self._ready), name="mcp")
        return self._ready

    async def close(self) -> None:
        """End what is under way."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        if self._ready is not None and not self._ready.done():
            self._ready.cancel()

    async def _serve(self, ready: asyncio.Future[StreamableHTTPSessionManager]) -> None:
        try:
            build = await asyncio.to_thread(_load)
            manager = build(self._tools)
            async with manager.run():
                ready.set_result(manager)
                await asyncio.Event().wait()
        except Exception as error:
            _log.exception("mcp_failed")
            if not ready.done():
                ready.set_exception(error)

    def _refused(self, request: Request) -> Response | None:
        """By where it says that it goes and comes from: a page of another site can't reach a local service by its name
        (https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#security-warning)."""
        host = _host_of(f"//{request.headers.get('host', '')}")
        if host not in LOOPBACK_HOSTS | frozenset(self._settings.allowed_hosts):
            return _turned_away(
                HTTPStatus.MISDIRECTED_REQUEST,
                "The service doesn't answer for this host: add it to mcp.allowed_hosts.",
                host,
            )
        origin = request.headers.get("origin")
        if origin is not None and not self._is_allowed(origin):
            return _turned_away(
                HTTPStatus.FORBIDDEN, "Pages of this origin may not call: add it to mcp.allowed_origins.", origin
            )
        if request.method != "POST":
            return _turned_away(HTTPStatus.METHOD_NOT_ALLOWED, "MCP here is POST only.", request.method)
        return None

    def _is_allowed(self, origin: str) -> bool:
        return origin in self._settings.allowed_origins or _host_of(origin) in LOOPBACK_HOSTS


def load_ahead() -> None:
    """Import what the first request would."""
    _load()


def _load() -> Callable[[ToolService], StreamableHTTPSessionManager]:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from api.mcp.server import build_mcp_server

    def build(tools: ToolService) -> StreamableHTTPSessionManager:
        return StreamableHTTPSessionManager(
            build_mcp_server(tools, _principal_of), stateless=True, max_request_body_size=REQUEST_BODY_LIMIT_BYTES
        )

    return build


def _principal_of(context: Any) -> Principal:
    principal = context.request.scope["state"][PRINCIPAL_STATE]
    assert isinstance(principal, Principal), "a request that nobody looked at"
    return principal


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _turned_away(status: HTTPStatus, message: str, actual: str | None) -> Response:
    return _answer(
        status, Refusal(ReasonCode.REQUEST_INVALID, message, actual=None if actual is None else actual[:ACTUAL_LIMIT])
    )


def _answer(status: HTTPStatus, refusal: Refusal) -> Response:
    """A JSON-RPC error without a request's id, which is what MCP clients read of an HTTP error."""
    error = {"code": JSONRPC_INVALID_REQUEST, "message": refusal.message, "data": refusal_cells(refusal)}
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})
    return Response(body, status.value, _HEADERS.get(status), "application/json")
