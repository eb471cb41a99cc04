"""The gateway's tools over REST."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path
from starlette.responses import Response

from api.dependencies import Caller, CurrentServices
from api.problems import ProblemResponse, problem, retry_after
from api.tools.schemas import ToolCallRequest, ToolCallResponse, ToolResponse

NAME_LENGTH_LIMIT = 64
TRACEPARENT_LENGTH_LIMIT = 128
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemResponse, "description": description}
    for status, description in {
        401: "No access token that holds",
        403: "Your role, your accounts or your list of tools doesn't allow it",
        404: "There is no such tool",
        409: "Refused by the market, by risk or by the order's rules, or a key that is in use",
        422: "The arguments aren't right",
        429: "Too often; Retry-After says when again",
        503: "A part of the service is away: nothing was released",
        504: "The tool didn't answer in time",
    }.items()
}

router = APIRouter(prefix="/api/v1/tools", tags=["tools"], responses=_PROBLEMS)
ToolName = Annotated[str, Path(max_length=NAME_LENGTH_LIMIT)]


@router.get("")
async def list_tools(caller: Caller, services: CurrentServices) -> list[ToolResponse]:
    """The tools that you may call, with the schemas of their arguments and results."""
    return [ToolResponse.of(description) for description in services.tools.describe(caller)]


@router.get("/{name}")
async def get_tool(name: ToolName, caller: Caller, services: CurrentServices) -> ToolResponse:
    """One of them."""
    return ToolResponse.of(services.tools.find(caller, name))


@router.post("/{name}/calls", response_model=ToolCallResponse)
async def call_tool(
    name: ToolName,
    body: ToolCallRequest,
    caller: Caller,
    services: CurrentServices,
    traceparent: Annotated[str | None, Header(max_length=TRACEPARENT_LENGTH_LIMIT)] = None,
    idempotency_key: Annotated[
        str | None, Header(description="For tools that suggest: the same key and request is the same call, for a day.")
    ] = None,
) -> ToolCallResponse | Response:
    """Call a tool. No tool places, amends or cancels an order: a suggestion waits for a human's signature."""
    result, trace = await services.tools.call(caller, name, body.arguments, traceparent, idempotency_key)
    if result.refusal is not None:
        return problem(
            result.refusal, retry_after(result.retry_after_ms), call_id=result.call_id, trace_id=trace.trace_id
        )
    return ToolCallResponse.of(result, trace)
