"""What goes into a run and what comes out of it. Light to import: the models behind a run are not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from ag_ui.core import BaseEvent

from core.text.figures import Figure
from core.types.codes import Refusal
from core.types.ids import TraceContext
from tools.contracts import Principal

RunStatus = Literal["finished", "interrupted", "failed", "cancelled"]
Emit = Callable[[BaseEvent], Awaitable[None]]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a call or a run."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


class CallRecord(msgspec.Struct, frozen=True):
    """One tool call of the run. result is the released data; for a refused call it is {"refusal": {...}}, which is
    what the answer's figures about the refusal point into. untrusted_paths lead to its text from outside."""

    call_id: str
    tool: str
    arguments: dict[str, Any]
    result: dict[str, Any]
    refusal: Refusal | None
    as_of_ns: int
    mode: str
    scope: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    untrusted_paths: tuple[str, ...] = ()


class RunRequest(msgspec.Struct, frozen=True):
    """A question. messages is the conversation before it, oldest first, each {role, content}."""

    run_id: str
    thread_id: str
    principal: Principal
    trace: TraceContext
    messages: list[dict[str, str]]
    question: str


class RunOutcome(msgspec.Struct, frozen=True):
    """What became of a run. Figures resolve in tool_calls[].result by call id and path."""

    status: RunStatus
    model: str
    question_redacted: str
    answer: str
    figures: list[Figure]
    tool_calls: list[CallRecord]
    suggestion_id: str | None
    usage: Usage
    refusal: Refusal | None
    prompt_digest_hex: str = ""
    """SHA-256 over the messages that went to the model first."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for storing: answer, figures, tool_calls, suggestion_id, usage; code and message when refused."""
        out: dict[str, Any] = {
            "answer": self.answer,
            "figures": msgspec.to_builtins(self.figures),
            "tool_calls": [_call_as_dict(call) for call in self.tool_calls],
            "suggestion_id": self.suggestion_id,
            "usage": msgspec.to_builtins(self.usage),
        }
        if self.refusal is not None:
            out |= {"code": self.refusal.code.value, "message": self.refusal.message}
        return out


def _call_as_dict(call: CallRecord) -> dict[str, Any]:
    # Nanoseconds don't fit a JSON number of every reader.
    return {**msgspec.to_builtins(call), "as_of_ns": str(call.as_of_ns)}
