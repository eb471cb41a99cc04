"""What passes through the gateway. No network in this package; the ports it reaches the world by are in tools.ports."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Protocol

import msgspec

from core.types.codes import Refusal
from core.types.ids import TraceContext


class Role(StrEnum):
    TRADER = "trader"
    APPROVER = "approver"
    COMPLIANCE = "compliance"

    __hash__ = str.__hash__  # Enum's is Python, and each call is decided by this


class Principal(msgspec.Struct, frozen=True):
    """Who is asking. account_ids is the whole scope; an empty tuple sees no account.

    An agent acts on_behalf_of its owner, with the owner's role; tools then names all that it may call. None sets no
    bound beside the role's. model and provider are what the owner said that the agent runs on; empty is unnamed.
    """

    user_id: str
    username: str
    role: Role
    account_ids: tuple[str, ...]
    kind: Literal["human", "agent"] = "human"
    on_behalf_of: str | None = None
    tools: frozenset[str] | None = None
    model: str = ""
    provider: str = ""

    @property
    def person_id(self) -> str:
        """The human who answers for what is asked: four eyes count people."""
        return self.on_behalf_of or self.user_id

    def may_use(self, tool: str) -> bool:
        """Whether the principal's own list holds the tool; the role's permission is the policy's to say."""
        return self.tools is None or tool in self.tools


class ToolCall(msgspec.Struct, frozen=True):
    """A request to the gateway. run_id is None outside a copilot run. model and provider are those that were asked by
    our own configuration, or an agent's as its owner named them; empty where no model asked or it isn't known."""

    call_id: str
    tool: str
    arguments: dict[str, Any]
    principal: Principal
    trace: TraceContext
    run_id: str | None = None
    model: str = ""
    provider: str = ""


class ToolResult(msgspec.Struct, frozen=True):
    """What the gateway released: redacted, stamped and audited.

    data is JSON-able with every decimal as plain text; figures point into it by JSON path. When refusal is set,
    data is empty. digest_hex is SHA-256 over the RFC 8785 form of data. untrusted_paths lead to the text from outside
    within data, which is neutralised; tools.untrusted.for_model puts it between delimiters for a model to read. source
    says which process, table and venue the data came from; it is empty for a refusal. retry_after_ms is when a refused
    call may be tried again, where that is known.
    """

    call_id: str
    tool: str
    tool_version: str
    data: dict[str, Any]
    refusal: Refusal | None
    mode: str
    scope: tuple[str, ...]
    as_of_ns: int
    digest_hex: str
    untrusted_paths: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    retry_after_ms: int | None = None

    @property
    def untrusted(self) -> bool:
        """Whether any of data is text from outside."""
        return bool(self.untrusted_paths)


class ToolDescription(msgspec.Struct, frozen=True):
    """A tool as a model or an MCP client sees it. Both schemas are JSON Schema, draft 2020-12.

    permission is what the caller needs, such as `account:read`; source where the data comes from; cost is in rate
    tokens.
    """

    name: str
    version: str
    kind: Literal["read", "compute", "suggest"]
    description: str
    input_schema: dict[str, Any]
    schema_digest_hex: str
    output_schema: dict[str, Any] = {}
    permission: str = ""
    scope: str = ""
    source: tuple[str, ...] = ()
    cost: int = 1
    timeout_ms: int = 0
    untrusted: bool = False


class Gateway(Protocol):
    """The one path to every tool, for the copilot, MCP, gRPC and REST."""

    def describe(self, principal: Principal) -> list[ToolDescription]:
        """The tools that this principal may call."""
        ...

    async def call(self, call: ToolCall) -> ToolResult:
        """Authorise, validate, bound, execute, stamp, redact, audit, store, release.

        Never raises for what the world can get wrong: the refusal is in the result.
        """
        ...
