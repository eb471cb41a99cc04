"""The calls of veloz.gateway.v1.ToolGateway, each a thin translation to the service behind every face."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog

from api.tool_rpc._proto import gateway_pb2 as pb
from api.tool_rpc._proto import gateway_pb2_grpc
from api.tool_rpc.server import TRACEPARENT_KEY, Context, abort, caller
from api.tools.service import ToolService
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from tools.contracts import ToolDescription, ToolResult
from tools.untrusted import for_model

PAGE_LIMIT = 100
TOKEN_LIMIT_CHARS = 128
SUGGESTION_TOOL = "get_suggestion"
LIST_TOOL = "list_suggestions"

Reply = TypeVar("Reply")
_log = structlog.get_logger("api.tool_rpc")


class _CallRefusedError(Exception):
    """A tool's refusal, with what finds its record."""

    def __init__(self, refusal: Refusal, cells: dict[str, str]) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.cells = cells


class ToolGatewayServicer(gateway_pb2_grpc.ToolGatewayServicer):
    """Who asks is in `caller`."""

    def __init__(self, tools: ToolService) -> None:
        self._tools = tools

    async def ListTools(self, request: pb.ListToolsRequest, context: Context) -> pb.ListToolsResponse:
        async def answer() -> pb.ListToolsResponse:
            if len(request.page_token) > TOKEN_LIMIT_CHARS:
                raise refuse(ReasonCode.REQUEST_INVALID, "That is no page token of this service. List from the start.")
            # The token is the last name of the page before, so that any replica can go on.
            left = [tool for tool in self._tools.describe(caller.get()) if tool.name > request.page_token]
            page = left[: min(request.page_size or PAGE_LIMIT, PAGE_LIMIT)]
            more = page[-1].name if len(left) > len(page) else ""
            return pb.ListToolsResponse(tools=[_tool(tool) for tool in page], next_page_token=more)

        return await _reply(context, answer)

    async def GetTool(self, request: pb.GetToolRequest, context: Context) -> pb.Tool:
        async def answer() -> pb.Tool:
            return _tool(self._tools.find(caller.get(), request.name))

        return await _reply(context, answer)

    async def CallTool(self, request: pb.CallToolRequest, context: Context) -> pb.CallToolResponse:
        async def answer() -> pb.CallToolResponse:
            arguments = _arguments(request.arguments_json)
            return await self._call(context, request.tool, arguments, request.idempotency_key or None)

        return await _reply(context, answer)

    async def ListSuggestions(self, request: pb.ListSuggestionsRequest, context: Context) -> pb.CallToolResponse:
        async def answer() -> pb.CallToolResponse:
            given = {"status": request.status, "before": request.before_id, "account_id": request.account_id}
            arguments: dict[str, Any] = {name: value for name, value in given.items() if value}
            return await self._call(context, LIST_TOOL, arguments | ({"limit": request.limit} if request.limit else {}))

        return await _reply(context, answer)

    async def GetSuggestion(self, request: pb.GetSuggestionRequest, context: Context) -> pb.CallToolResponse:
        async def answer() -> pb.CallToolResponse:
            account = {"account_id": request.account_id} if request.account_id else {}
            return await self._call(context, SUGGESTION_TOOL, {"suggestion_id": request.id} | account)

        return await _reply(context, answer)

    async def _call(
        self, context: Context, tool: str, arguments: dict[str, Any], idempotency_key: str | None = None
    ) -> pb.CallToolResponse:
        result, trace = await self._tools.call(
            caller.get(), tool, arguments, _traceparent(context), idempotency_key=idempotency_key
        )
        if result.refusal is not None:
            raise _CallRefusedError(result.refusal, {"call_id": result.call_id, "trace_id": trace.trace_id})
        return pb.CallToolResponse(
            call_id=result.call_id,
            tool=result.tool,
            tool_version=result.tool_version,
            mode=result.mode,
            scope=result.scope,
            source=result.source,
            as_of_ns=result.as_of_ns,
            digest=result.digest_hex,
            untrusted=result.untrusted,
            trace_id=trace.trace_id,
            data_json=msgspec.json.encode(result.data).decode(),
            untrusted_paths=result.untrusted_paths,
            enveloped_json=_enveloped(result),
        )


async def _reply(context: Context, answer: Callable[[], Awaitable[Reply]]) -> Reply:
    try:
        return await answer()
    except _CallRefusedError as error:
        await abort(context, error.refusal, **error.cells)
    except RefusalError as error:
        await abort(context, error.refusal)
    except Exception:
        _log.exception("call_failed")
        await abort(
            context, Refusal(ReasonCode.SERVICE_INTERNAL_ERROR, "The service failed at this call; its log says more.")
        )


def _enveloped(result: ToolResult) -> str:
    return msgspec.json.encode(for_model(result.data, result.untrusted_paths)).decode() if result.untrusted else ""


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise refuse(ReasonCode.REQUEST_INVALID, "arguments_json isn't JSON that can be read.") from error
    if not isinstance(arguments, dict):
        raise refuse(
            ReasonCode.REQUEST_INVALID, "arguments_json must be one JSON object.", actual=type(arguments).__name__
        )
    return arguments


def _traceparent(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT_KEY and isinstance(value, str):
            return value
    return None


def _tool(description: ToolDescription) -> pb.Tool:
    return pb.Tool(
        name=description.name,
        version=description.version,
        kind=description.kind,
        description=description.description,
        input_schema_json=msgspec.json.encode(description.input_schema).decode(),
        output_schema_json=msgspec.json.encode(description.output_schema).decode(),
        schema_digest=description.schema_digest_hex,
        timeout_ms=description.timeout_ms,
    )
