"""What every face of the gateway does alike: say which tools there are, and call one."""

from __future__ import annotations

from typing import Any

from core.types.codes import ReasonCode, refuse
from core.types.ids import IdSource, TraceContext, new_trace, parse_traceparent
from tools.contracts import Gateway, Principal, ToolCall, ToolDescription, ToolResult

TOOLS_NAMED_LIMIT = 50


class ToolService:
    """The gateway as REST, MCP and gRPC see it. Calls through here belong to no run of the copilot."""

    def __init__(self, gateway: Gateway, ids: IdSource) -> None:
        self._gateway = gateway
        self._ids = ids

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
        call_id: str | None = None,
    ) -> tuple[ToolResult, TraceContext]:
        """See Gateway.call. A traceparent that can't be read starts a new trace, as W3C has it."""
        trace = self._trace(traceparent)
        call = ToolCall(call_id or self._ids.new_ulid(), tool, arguments, principal, trace)
        return await self._gateway.call(call), trace

    def _trace(self, traceparent: str | None) -> TraceContext:
        if traceparent is not None:
            try:
                return parse_traceparent(traceparent).child(self._ids)
            except ValueError:
                pass
        return new_trace(self._ids)
