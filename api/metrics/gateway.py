"""Counts what passes through the gateway, for /metrics."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Histogram

from tools.contracts import Gateway, Principal, ToolCall, ToolDescription, ToolResult
from tools.registry import Registry

UNKNOWN_TOOL = "unknown"
"""The label of a tool that there isn't: what a model makes up must not make up time series."""
DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class MeasuredGateway:
    """Implements tools.contracts.Gateway over another: one count and one duration for every call, refused ones too."""

    def __init__(self, gateway: Gateway, tools: Registry, registry: CollectorRegistry) -> None:
        self._gateway = gateway
        self._known = frozenset(definition.name for definition in tools)
        self._calls = Counter(
            "veloz_gateway_calls_total",
            "Calls of tools by outcome: ok, or the code of the refusal.",
            ["tool", "outcome"],
            registry=registry,
        )
        self._durations = Histogram(
            "veloz_gateway_call_duration_seconds",
            "From the call to the release of its result, the audit record included.",
            ["tool"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )

    def describe(self, principal: Principal) -> list[ToolDescription]:
        """See tools.contracts.Gateway."""
        return self._gateway.describe(principal)

    async def call(self, call: ToolCall) -> ToolResult:
        """See tools.contracts.Gateway."""
        tool = call.tool if call.tool in self._known else UNKNOWN_TOOL
        started_s = time.perf_counter()
        outcome = "cancelled"
        try:
            result = await self._gateway.call(call)
            outcome = "ok" if result.refusal is None else result.refusal.code.value
            return result
        finally:
            self._durations.labels(tool).observe(time.perf_counter() - started_s)
            self._calls.labels(tool, outcome).inc()
