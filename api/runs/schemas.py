"""Bodies of the copilot endpoints. A run starts with AG-UI's RunAgentInput."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

RunStatus = Literal["running", "finished", "interrupted", "failed", "cancelled"]


class RunResponse(BaseModel):
    """A run and its outcome. `figures` point into the tool results by call id and JSON path; `code` and `message` say
    why a run failed."""

    run_id: str
    thread_id: str
    trace_id: str
    account_id: str
    status: RunStatus
    model: str | None = None
    question: str
    answer: str | None = None
    figures: list[dict[str, Any]] = []
    tool_calls: list[dict[str, Any]] = []
    suggestion_id: str | None = None
    usage: dict[str, Any] | None = None
    code: str | None = None
    message: str | None = None
    created_at: str
    finished_at: str | None = None


class ToolResultResponse(BaseModel):
    """A released tool result as it was stored: figures resolve in `data`."""

    call_id: str
    run_id: str | None
    tool: str
    digest: str
    data: dict[str, Any]
