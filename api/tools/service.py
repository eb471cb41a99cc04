"""What every face of the gateway does alike: say which tools there are, and call one."""

from __future__ import annotations

from typing import Any

from api.tools.idempotency import IdempotencyKeys
from core.types.codes import ReasonCode, refuse
from core.types.ids import IdSource, TraceContext, new_trace, parse_traceparent
from tools.contracts import Gateway, Principal, ToolCall, ToolDescription, ToolResult

TOOLS_NAMED_LIMIT = 50


class ToolService:
    """The gateway as REST, MCP and gRPC see it. Calls through here belong to no run of the copilot."""

    def __init__(self, gateway: Gateway, ids: IdSource, keys: IdempotencyKeys | None = None) -> None:
        self._gateway = gateway
        self._ids = ids
        self._keys = keys

    def describe(self, principal: Principal) -> list[ToolDescription]:
        """The tools that the principal may call, by name."""
        return sorted(self._gateway.describe(principal), key=lambda description: description.name)

    def find(self, principal: Principal, name: str) -> ToolDescription:
        """Raises RefusalError(TOOL_UNKNOWN) for what the principal may not call, too."""
        described = self.describe(principal)
        for description in described:
            if description.name == name:
                return description
        known = ", ".join(description.name for description in described[:TOOLS_NAMED_LIMIT])
        raise refuse(ReasonCode.TOOL_UNKNOWN, f"You have no tool of that name. Yours are: {known or 'none'}.")

    async def call(
        self,
        principal: Principal,
        tool: Any,
        arguments: Any,
        traceparent: str | None = None,
        idempotency_key: str | None = None,
    ) -> tuple[ToolResult, TraceContext]:
        """See Gateway.call. A traceparent that can't be read starts a new trace, as W3C has it.

        With an idempotency key, which counts for what suggests, it raises RefusalError too: REQUEST_INVALID,
        IDEMPOTENCY_KEY_REUSED, REQUEST_IN_PROGRESS, SERVICE_DATABASE_UNAVAILABLE.
        """
        trace = self._trace(traceparent)
        call = ToolCall(
            self._ids.new_ulid(),
            tool,
            arguments,
            principal,
            trace,
            model=principal.model,
            provider=principal.provider,
        )
        if idempotency_key is None or self._keys is None or not self._suggests(principal, tool):
            return await self._gateway.call(call), trace
        earlier = await self._keys.claim(principal, idempotency_key, tool, arguments, call.call_id)
        if earlier is not None:
            return await self._keys.answer_of(principal, idempotency_key, earlier)
        result = await self._gateway.call(call)
        await self._keys.answered(principal, idempotency_key, result)
        return result, trace

    def _suggests(self, principal: Principal, tool: Any) -> bool:
        return any(found.name == tool and found.kind == "suggest" for found in self._gateway.describe(principal))

    def _trace(self, traceparent: str | None) -> TraceContext:
        if traceparent is not None:
            try:
                return parse_traceparent(traceparent).child(self._ids)
            except ValueError:
                pass
        return new_trace(self._ids)
