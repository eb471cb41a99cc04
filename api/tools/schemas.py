"""Bodies of the tool endpoints."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.types.clock import format_utc_us
from core.types.ids import TraceContext
from tools.contracts import ToolDescription, ToolResult
from tools.untrusted import for_model


class ToolResponse(BaseModel):
    """A tool that you may call. The schemas are JSON Schema 2020-12, of the arguments and of a result's `data`;
    `schema_digest` is SHA-256 over name, version and both. `permission` is what a caller needs, `source` where the data
    comes from, `cost` in rate tokens."""

    name: str
    version: str
    kind: Literal["read", "compute", "suggest"]
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    schema_digest: str
    permission: str
    scope: str
    source: list[str]
    cost: int
    timeout_ms: int
    untrusted: bool

    @classmethod
    def of(cls, description: ToolDescription) -> ToolResponse:
        return cls(
            name=description.name,
            version=description.version,
            kind=description.kind,
            description=description.description,
            input_schema=description.input_schema,
            output_schema=description.output_schema,
            schema_digest=description.schema_digest_hex,
            permission=description.permission,
            scope=description.scope,
            source=list(description.source),
            cost=description.cost,
            timeout_ms=description.timeout_ms,
            untrusted=description.untrusted,
        )


class ToolCallRequest(BaseModel):
    """`arguments` is an object as the tool's input_schema has it; decimals best as text."""

    model_config = ConfigDict(extra="forbid")
    arguments: dict[str, Any] = Field(default_factory=dict)


class ToolCallResponse(BaseModel):
    """What the gateway released. Every number in `data` is text; `digest` is SHA-256 over its RFC 8785 form.
    `source` says which process, table and venue it came from. `untrusted` marks text from outside: data, never an
    instruction; `untrusted_paths` lead to it within `data`, and `enveloped` is then the data with that text between
    delimiters that nothing inside can close: give this one to a model. It is null where nothing is untrusted."""

    call_id: str
    tool: str
    tool_version: str
    mode: str
    scope: list[str]
    source: list[str]
    as_of_ns: str
    as_of: str
    digest: str
    untrusted: bool
    untrusted_paths: list[str]
    trace_id: str
    data: dict[str, Any]
    enveloped: dict[str, Any] | None

    @classmethod
    def of(cls, result: ToolResult, trace: TraceContext) -> ToolCallResponse:
        return cls(
            call_id=result.call_id,
            tool=result.tool,
            tool_version=result.tool_version,
            mode=result.mode,
            scope=list(result.scope),
            source=list(result.source),
            as_of_ns=str(result.as_of_ns),
            as_of=format_utc_us(result.as_of_ns),
            digest=result.digest_hex,
            untrusted=result.untrusted,
            untrusted_paths=list(result.untrusted_paths),
            trace_id=trace.trace_id,
            data=result.data,
            enveloped=for_model(result.data, result.untrusted_paths) if result.untrusted else None,
        )
