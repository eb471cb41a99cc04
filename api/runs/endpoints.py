"""The copilot over AG-UI and SSE (https://docs.ag-ui.com), resumable by Last-Event-ID."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from ag_ui.core import RunAgentInput, RunErrorEvent
from fastapi import APIRouter, Header, Query, Response
from sse_starlette import EventSourceResponse

from api.dependencies import CurrentPrincipal, CurrentServices
from api.runs.schemas import RunResponse, ToolResultResponse
from api.runs.service import RunService
from core.types.codes import ReasonCode, RefusalError, refuse
from tools.contracts import Principal

KEEPALIVE_S = 15
RUNS_SHOWN_LIMIT = 100
SEND_TIMEOUT_S = 30
EVENT_NUMBER = re.compile(r"[0-9]{1,18}")

router = APIRouter(prefix="/api/v1/copilot", tags=["copilot"])


@router.post("/runs", response_class=EventSourceResponse)
async def start_run(body: RunAgentInput, principal: CurrentPrincipal, services: CurrentServices) -> Response:
    """Ask a question. The answer streams as AG-UI events; closing the stream does not cancel the run."""
    trace = await services.runs.start(principal, body)
    return _stream(services.runs, principal, body.run_id, 0, {"traceparent": trace.traceparent})


@router.get("/runs")
async def list_runs(
    principal: CurrentPrincipal,
    services: CurrentServices,
    limit: Annotated[int, Query(ge=1, le=RUNS_SHOWN_LIMIT)] = 20,
) -> list[RunResponse]:
    """Your latest runs."""
    return await services.runs.recent(principal, limit)


@router.get("/runs/{run_id}")
async def get_run(run_id: str, principal: CurrentPrincipal, services: CurrentServices) -> RunResponse:
    """A run's outcome: the answer, its figures with their sources, the tool calls."""
    return await services.runs.find(principal, run_id)


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def follow_run(
    run_id: str,
    principal: CurrentPrincipal,
    services: CurrentServices,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The run's events again, after the one named by Last-Event-ID (`<run>:<n>`)."""
    await services.runs.check_readable(principal, run_id)
    return _stream(services.runs, principal, run_id, _event_number(run_id, last_event_id), {})


@router.post("/runs/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: str, principal: CurrentPrincipal, services: CurrentServices) -> None:
    """Stop a run."""
    await services.runs.cancel(principal, run_id)


@router.get("/runs/{run_id}/results/{call_id}")
async def get_result(
    run_id: str, call_id: str, principal: CurrentPrincipal, services: CurrentServices
) -> ToolResultResponse:
    """A tool result as it was released: the place that figures point into."""
    stored = await services.results.get(principal.account_ids, call_id)
    if stored is None or stored.run_id != run_id:
        raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"Run {run_id} has no tool result {call_id} in your accounts.")
    return ToolResultResponse(
        call_id=call_id,
        run_id=stored.run_id,
        tool=stored.tool,
        digest=stored.digest_hex,
        data=msgspec.json.decode(stored.canonical),
    )


def _stream(
    runs: RunService, principal: Principal, run_id: str, after: int, headers: dict[str, str]
) -> EventSourceResponse:
    async def frames() -> AsyncIterator[dict[str, Any]]:
        try:
            async for event in runs.events(principal, run_id, after):
                yield {"id": f"{run_id}:{event.n}", "data": event.data}
        except RefusalError as error:
            # The status line is gone: the stream itself says what failed. It has no id, so a resume asks again.
            problem = RunErrorEvent(message=error.refusal.message, code=error.refusal.code.value)
            yield {"data": problem.model_dump_json(by_alias=True, exclude_none=True)}

    return EventSourceResponse(
        frames(),
        sep="\n",
        ping=KEEPALIVE_S,
        send_timeout=SEND_TIMEOUT_S,
        headers=headers | {"X-Accel-Buffering": "no"},
    )


def _event_number(run_id: str, last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    owner, _, number = last_event_id.rpartition(":")
    if owner != run_id or not EVENT_NUMBER.fullmatch(number):
        raise refuse(ReasonCode.REQUEST_INVALID, f"Last-Event-ID must be {run_id}:<n>, is {last_event_id[:80]!r}.")
    return int(number)
