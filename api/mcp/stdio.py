"""MCP over stdio for clients that start their servers: a bridge to /mcp of the running service.

The service checks and records every call; the bridge decides nothing. It holds a short-lived token and renews it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from importlib.metadata import version
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
)

from api.mcp.http import PATH

CONNECT_TIMEOUT_S = 5.0
# Longer than any tool may take: the service has the deadline.
READ_TIMEOUT_S = 120.0
UNREACHABLE = "SERVICE_UNREACHABLE"
TOKEN_PATH = "/api/v1/agents/token"  # noqa: S105 (an address)

Context = ServerRequestContext[Any, Any]


class TokenAuth(httpx2.Auth):
    """Shows an access token. With an agent's id and secret it gets another when the service takes that one no longer;
    without them a token holds as long as it holds."""

    def __init__(self, url: str, token: str, agent_id: str | None = None, secret: str | None = None) -> None:
        self._login_url = url + TOKEN_PATH
        self._login = None if agent_id is None else {"agent_id": agent_id, "secret": secret}
        self._token = token
        self._logging_in = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        used = self._token
        request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code != httpx2.codes.UNAUTHORIZED or self._login is None:
            return
        async with self._logging_in:
            if self._token == used:
                answer = yield httpx2.Request("POST", self._login_url, json=self._login)
                await answer.aread()
                if answer.status_code == httpx2.codes.OK:
                    self._token = answer.json()["access_token"]
        # With the old token too, when there is no new one: the refusal then comes in MCP's own form.
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class PatientTransport(httpx2.AsyncBaseTransport):
    """A service that is away for a moment is an error of that request, and not the end of the bridge: the service is
    restarted by itself, and the client would have to be restarted by hand."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await self._transport.handle_async_request(request)
        except httpx2.TransportError as error:
            message = f"The service doesn't answer ({type(error).__name__}). Try again in a few seconds."
            told = {"code": INTERNAL_ERROR, "message": message, "data": {"code": UNREACHABLE, "message": message}}
            body = {"jsonrpc": "2.0", "id": None, "error": told}
            return httpx2.Response(httpx2.codes.SERVICE_UNAVAILABLE, json=body)

    async def aclose(self) -> None:
        await self._transport.aclose()


async def serve_stdio(url: str, auth: httpx2.Auth) -> None:
    """Serve on this process's stdin and stdout until the client closes them. url is the service's."""
    timeout = httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    transport = PatientTransport(httpx2.AsyncHTTPTransport(trust_env=False))
    async with (
        httpx2.AsyncClient(auth=auth, timeout=timeout, transport=transport) as http,
        Client(streamable_http_client(url + PATH, http_client=http), cache=None) as service,
        stdio_server() as (incoming, outgoing),
    ):
        server = _bridge_to(service)
        await server.run(incoming, outgoing, server.create_initialization_options())


def _bridge_to(service: Client) -> Server[Any]:
    bridge = _Bridge(service)
    return Server(
        "veloz",
        version=version("veloz"),
        title="VeloZ",
        instructions=service.instructions,
        get_tool_input_schema=lambda _: None,
        on_list_tools=bridge.list_tools,
        on_call_tool=bridge.call_tool,
        on_list_resources=bridge.list_resources,
        on_list_resource_templates=bridge.list_resource_templates,
        on_read_resource=bridge.read_resource,
        on_list_prompts=bridge.list_prompts,
        on_get_prompt=bridge.get_prompt,
    )


class _Bridge:
    """Every request goes on to the service as it came; its answers and errors come back as they are."""

    def __init__(self, service: Client) -> None:
        self._service = service

    async def list_tools(self, _: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        return await self._service.list_tools(cursor=_cursor(params))

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            await context.session.report_progress(progress, total, message)

        return await self._service.call_tool(params.name, params.arguments, progress_callback=on_progress)

    async def list_resources(self, _: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        return await self._service.list_resources(cursor=_cursor(params))

    async def list_resource_templates(
        self, _: Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return await self._service.list_resource_templates(cursor=_cursor(params))

    async def read_resource(self, _: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        return await self._service.read_resource(params.uri)

    async def list_prompts(self, _: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
        return await self._service.list_prompts(cursor=_cursor(params))

    async def get_prompt(self, _: Context, params: GetPromptRequestParams) -> GetPromptResult:
        return await self._service.get_prompt(params.name, params.arguments)


def _cursor(params: PaginatedRequestParams | None) -> str | None:
    return None if params is None else params.cursor
