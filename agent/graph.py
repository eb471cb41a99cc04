"""The copilot's graph: model -> tools -> model ... -> ground -> (await_decision).

Everything a client sees goes out through the graph's stream writer, in order. A node that awaits a human does nothing
else, because it would run again on resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import msgspec
import structlog
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agent.events import RunEvents
from agent.model import ModelClient, ModelToolCall, TextDelta, Turn
from agent.outcome import CallRecord, Usage
from core.text.figures import Figure, GroundingFilter, ground
from core.text.redaction import redact_text, redact_value
from core.types.clock import format_utc_us
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import IdSource, TraceContext
from tools.arguments import is_bounded
from tools.contracts import Gateway, Principal, ToolCall, ToolDescription, ToolResult
from tools.model_budget import ModelBudget, ModelReservation, ModelUse
from tools.untrusted import for_model as enveloped

ROUNDS_LIMIT = 10
TOKENS_LIMIT_PER_RUN = 200_000
ANSWER_LIMIT_CHARS = 32_768
PARALLEL_CALLS_LIMIT = 4
SUGGESTIONS_LIMIT_PER_RUN = 1
OUTAGE_PREFIX = "SERVICE_"
FALLBACK_NOTICE = "The model provider failed, so the offline planner answers.\n\n"

log = structlog.get_logger("agent.graph")


class RunState(TypedDict):
    """What the nodes hand to each other."""

    messages: list[dict[str, Any]]
    pending: tuple[ModelToolCall, ...]
    records: list[CallRecord]
    figures: list[Figure]
    usage: Usage
    model: str
    offline: bool
    rounds: int
    suggestion: CallRecord | None
    outage: Refusal | None


@dataclass
class RunContext:
    """What one run works with, beside its state.

    The trail shows the copilot acting on the person's behalf: principal is of kind agent, and can never approve.
    """

    run_id: str
    principal: Principal
    trace: TraceContext
    gateway: Gateway
    primary: ModelClient
    planner: ModelClient
    events: RunEvents
    ids: IdSource
    tool_calls_limit: int
    budget: ModelBudget | None = None
    grounding: GroundingFilter = field(default_factory=GroundingFilter)
    # Kept beside the state so that a cancelled or failed run can still be recorded.
    parts: list[str] = field(default_factory=list)
    raw_parts: list[str] = field(default_factory=list)
    records: list[CallRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.principal = msgspec.structs.replace(self.principal, kind="agent", on_behalf_of=self.principal.user_id)
        self.descriptions: dict[str, ToolDescription] = {d.name: d for d in self.gateway.describe(self.principal)}
        self.announced_model = self.primary.model

    def answer(self) -> str:
        """The text as it went out, unsourced figures marked."""
        return "\n\n".join(part.strip() for part in self.parts if part.strip())

    def raw_answer(self) -> str:
        """The text as the model wrote it."""
        return "\n\n".join(part.strip() for part in self.raw_parts if part.strip())

    def ground_answer(self) -> list[Figure]:
        return ground(self.raw_answer(), [(r.call_id, r.tool, r.result) for r in self.records])

    def is_suggestion(self, record: CallRecord) -> bool:
        description = self.descriptions.get(record.tool)
        return record.refusal is None and description is not None and description.kind == "suggest"

    @property
    def raw_length(self) -> int:
        return sum(len(part) for part in self.raw_parts)

    def offered(self, state: RunState) -> dict[str, ToolDescription]:
        """The tools of this turn: no second suggestion, and none at all after the provider has failed."""
        fallen_back = state["offline"] and self.primary is not self.planner
        no_suggestion = fallen_back or state["suggestion"] is not None
        return {n: d for n, d in self.descriptions.items() if not (no_suggestion and d.kind == "suggest")}


Graph = CompiledStateGraph[RunState, RunContext, RunState, RunState]
Writer = Callable[[Any], None]
CallRuntime = Runtime[RunContext]


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """The compiled graph; its runs differ by their RunContext only."""
    graph = StateGraph(RunState, context_schema=RunContext)
    graph.add_node("model", _model_node)
    graph.add_node("tools", _tools_node)
    graph.add_node("outage", _outage_node)
    graph.add_node("ground", _ground_node)
    graph.add_node("await_decision", _await_decision_node)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", _after_model)
    graph.add_conditional_edges("tools", _after_tools)
    graph.add_edge("outage", "ground")
    graph.add_conditional_edges("ground", _after_ground)
    graph.add_edge("await_decision", END)
    return graph.compile(checkpointer=checkpointer)


def _after_model(state: RunState) -> Literal["tools", "ground"]:
    return "tools" if state["pending"] else "ground"


def _after_tools(state: RunState) -> Literal["outage", "model"]:
    return "outage" if state["outage"] is not None else "model"


def _after_ground(state: RunState) -> Literal["await_decision", "__end__"]:
    return "await_decision" if state["suggestion"] is not None else "__end__"


# --- nodes -----------------------------------------------------------------------------------------------------------


async def _model_node(state: RunState, runtime: CallRuntime) -> dict[str, Any]:
    context, write = runtime.context, runtime.stream_writer
    if state["rounds"] >= ROUNDS_LIMIT:
        raise _budget("model turns", str(ROUNDS_LIMIT), str(state["rounds"] + 1))
    write(context.events.step_started("model"))
    out = _TextOut(context, write)
    turn, offline = await _turn(state, context, out)
    out.end()
    usage = state["usage"] + turn.usage
    write(context.events.step_finished("model"))
    spent = usage.input_tokens + usage.output_tokens
    if spent > TOKENS_LIMIT_PER_RUN:
        raise _budget("tokens", str(TOKENS_LIMIT_PER_RUN), str(spent))
    pending = tuple(_redacted_call(context.ids.new_ulid(), call) for call in turn.tool_calls)
    return {
        "messages": [*state["messages"], _assistant_message(turn.text, pending)],
        "pending": pending,
        "usage": usage,
        "model": turn.model,
        "offline": offline,
        "rounds": state["rounds"] + 1,
    }


async def _turn(state: RunState, context: RunContext, out: _TextOut) -> tuple[Turn, bool]:
    """One model turn, and whether the offline planner made it. A provider that fails is replaced for the rest of the
    run; the planner then answers read-only questions."""
    if not state["offline"]:
        try:
            return await _stream_turn(state, context, context.primary, out), False
        except RefusalError as error:
            if error.refusal.code is not ReasonCode.COPILOT_MODEL_FAILED:
                raise
            log.warning("model_fell_back", run_id=context.run_id, trace_id=context.trace.trace_id)
            state = {**state, "offline": True}
            out.put(("\n\n" if out.started else "") + FALLBACK_NOTICE)
    return await _stream_turn(state, context, context.planner, out), True


async def _stream_turn(state: RunState, context: RunContext, model: ModelClient, out: _TextOut) -> Turn:
    tools = [_tool_for_model(d) for d in context.offered(state).values()]
    turn: Turn | None = None
    reservation = await _reserve(state, context, model, tools)
    answering = False
    try:
        async for item in model.turn(state["messages"], tools):
            answering = True
            if isinstance(item, TextDelta):
                out.put(item.text)
            else:
                turn = item
    except asyncio.CancelledError:
        answering = True  # it was asked, and nobody waited for what it said
        raise
    finally:
        if reservation is not None:
            reservation.settle(_reported(turn), was_asked=answering)
    if turn is None:
        raise refuse(ReasonCode.COPILOT_MODEL_FAILED, f"The model {model.model} ended without an answer.")
    if turn.model != context.announced_model:
        context.announced_model = turn.model
        out.write(context.events.run_info(context.trace, turn.model))
    return turn


async def _reserve(
    state: RunState, context: RunContext, model: ModelClient, tools: list[dict[str, Any]]
) -> ModelReservation | None:
    """Tokens and money for one turn. Raises RefusalError."""
    if context.budget is None:
        return None
    prompt_chars = len(json.dumps(state["messages"])) + len(json.dumps(tools))
    return await context.budget.reserve(context.principal, context.run_id, model.provider, model.model, prompt_chars)


def _reported(turn: Turn | None) -> ModelUse | None:
    """None where the provider told nothing of what it used."""
    if turn is None or turn.usage == Usage():
        return None
    return ModelUse(turn.usage.input_tokens, turn.usage.output_tokens)


async def _tools_node(state: RunState, runtime: CallRuntime) -> dict[str, Any]:
    context, write = runtime.context, runtime.stream_writer
    write(context.events.step_started("tools"))
    for call in state["pending"]:
        for event in context.events.tool_call(call.id, call.name, call.arguments):
            write(event)
    slots = asyncio.Semaphore(PARALLEL_CALLS_LIMIT)
    admitted = _admit(state, context)
    model = context.planner if state["offline"] else context.primary

    async def one(call: ModelToolCall) -> CallRecord:
        async with slots:
            return await _call(call, admitted[call.id], context, model)

    records = await asyncio.gather(*(one(call) for call in state["pending"]))
    messages: list[dict[str, Any]] = []
    for record in records:
        content = _result_content(record)
        write(context.events.tool_result(context.ids.new_ulid(), record.call_id, content))
        for_model = content | {"data": enveloped(content["data"], record.untrusted_paths)}
        messages.append({"role": "tool", "tool_call_id": record.call_id, "content": json.dumps(for_model)})
        context.grounding.add_result(record.call_id, record.tool, record.result)
        context.records.append(record)
    suggestion = next((r for r in records if context.is_suggestion(r)), None)
    if suggestion is not None:
        write(context.events.order_card(f"order-card-{suggestion.call_id}", suggestion.result))
    write(context.events.step_finished("tools"))
    outage = next((r.refusal for r in records if r.refusal and r.refusal.code.startswith(OUTAGE_PREFIX)), None)
    return {
        "messages": [*state["messages"], *messages],
        "pending": (),
        "records": [*state["records"], *records],
        "suggestion": state["suggestion"] or suggestion,
        "outage": outage,
    }


async def _outage_node(state: RunState, runtime: CallRuntime) -> dict[str, Any]:
    """A part of the house is down: say so instead of answering from half of the data."""
    context, refusal = runtime.context, state["outage"]
    assert refusal is not None
    out = _TextOut(context, runtime.stream_writer)
    out.put(
        f"I can't answer that now: {refusal.message.rstrip('.')} ({refusal.code.value}). Nothing was sent to the venue."
    )
    out.end()
    return {}


async def _ground_node(state: RunState, runtime: CallRuntime) -> dict[str, Any]:
    context, write = runtime.context, runtime.stream_writer
    write(context.events.step_started("ground"))
    figures = context.ground_answer()
    write(context.events.figures(figures))
    write(context.events.step_finished("ground"))
    return {"figures": figures}


async def _await_decision_node(state: RunState) -> dict[str, Any]:
    """The end of a run that waits for a human: its interrupt outcome is what the run finishes with. Nothing else may
    be done here."""
    return {}


# --- parts of nodes --------------------------------------------------------------------------------------------------


class _TextOut:
    """One assistant message on its way out, grounded as it goes. A message is opened by its first text."""

    def __init__(self, context: RunContext, write: Writer) -> None:
        self.write = write
        self._context = context
        self._message_id = ""

    @property
    def started(self) -> bool:
        return bool(self._message_id)

    def put(self, text: str) -> None:
        if self._context.raw_length + len(text) > ANSWER_LIMIT_CHARS:
            raise _budget("answer characters", str(ANSWER_LIMIT_CHARS), str(self._context.raw_length + len(text)))
        if not self._message_id and text:
            self._message_id = self._context.ids.new_ulid()
            self._context.parts.append("")
            self._context.raw_parts.append("")
            self.write(self._context.events.text_started(self._message_id))
        if text:
            self._context.raw_parts[-1] += text
            self._send(self._context.grounding.feed(text))

    def end(self) -> None:
        if self._message_id:
            self._send(self._context.grounding.finish())
            self.write(self._context.events.text_ended(self._message_id))
            self._message_id = ""

    def _send(self, text: str) -> None:
        if text:
            self._context.parts[-1] += text
            self.write(self._context.events.text(self._message_id, text))


def _admit(state: RunState, context: RunContext) -> dict[str, Refusal | None]:
    """Which of the pending calls may go to the gateway: budgets, and no suggestion that wasn't offered."""
    used = len(state["records"])
    offered = context.offered(state)
    suggested = state["suggestion"] is not None
    out: dict[str, Refusal | None] = {}
    for call in state["pending"]:
        used += 1
        description = context.descriptions.get(call.name)
        second = description is not None and description.kind == "suggest" and suggested
        if used > context.tool_calls_limit:
            out[call.id] = _budget("tool calls", str(context.tool_calls_limit), str(used)).refusal
        elif second:
            out[call.id] = _budget("suggestions", str(SUGGESTIONS_LIMIT_PER_RUN), "2").refusal
        elif description is not None and call.name not in offered:
            out[call.id] = Refusal(ReasonCode.TOOL_NOT_PERMITTED, f"{call.name} isn't open in this run.")
        else:
            out[call.id] = None
            suggested = suggested or (description is not None and description.kind == "suggest")
    return out


def _redacted_call(call_id: str, call: ModelToolCall) -> ModelToolCall:
    """A call under our own id. What a model puts into one goes to the log, to storage and back to the model (I8)."""
    try:
        redacted = redact_value(json.loads(call.arguments))
    except (ValueError, RecursionError):
        arguments = redact_text(call.arguments).text
    else:
        arguments = json.dumps(redacted.value) if redacted.findings else call.arguments
    return ModelToolCall(call_id, redact_text(call.name).text, arguments)


async def _call(call: ModelToolCall, refusal: Refusal | None, context: RunContext, model: ModelClient) -> CallRecord:
    arguments: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        arguments = json.loads(call.arguments or "{}")
    if refusal is None and not isinstance(arguments, dict):
        refusal = Refusal(ReasonCode.TOOL_ARGUMENTS_INVALID, f"The arguments of {call.name} aren't a JSON object.")
    arguments = arguments if isinstance(arguments, dict) else {}
    # What the gateway refuses for its form can't be kept with the run, either.
    kept = arguments if is_bounded(arguments) else {}
    if refusal is not None:
        return CallRecord(call.id, call.name, kept, _refusal_cells(refusal), refusal, 0, "")
    result: ToolResult = await context.gateway.call(
        ToolCall(
            call_id=call.id,
            tool=call.name,
            arguments=arguments,
            principal=context.principal,
            trace=context.trace.child(context.ids),
            run_id=context.run_id,
            model=model.model,
            provider=model.provider,
        )
    )
    data = result.data if result.refusal is None else _refusal_cells(result.refusal)
    return CallRecord(
        call.id,
        call.name,
        kept,
        data,
        result.refusal,
        result.as_of_ns,
        result.mode,
        result.scope,
        result.source,
        result.untrusted_paths,
    )


def _refusal_cells(refusal: Refusal) -> dict[str, Any]:
    return {"refusal": {**msgspec.to_builtins(refusal), "code": refusal.code.value}}


def _result_content(record: CallRecord) -> dict[str, Any]:
    """A result as the client sees it; a model gets its text from outside enveloped."""
    refused = record.refusal is not None
    return {
        "mode": record.mode,
        "as_of_ns": str(record.as_of_ns),
        "as_of": format_utc_us(record.as_of_ns),
        "source": list(record.source),
        "scope": list(record.scope),
        "data": {} if refused else record.result,
        "refusal": record.result["refusal"] if refused else None,
    }


def _assistant_message(text: str, calls: tuple[ModelToolCall, ...]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in calls
        ]
    return message


def _tool_for_model(description: ToolDescription) -> dict[str, Any]:
    function = {
        "name": description.name,
        "description": description.description,
        "parameters": description.input_schema,
    }
    return {"type": "function", "function": function}


def _budget(what: str, limit: str, actual: str) -> RefusalError:
    return refuse(
        ReasonCode.COPILOT_BUDGET_EXCEEDED,
        f"The run's budget of {what} is used up. Ask for less at once.",
        limit=limit,
        actual=actual,
        unit=what,
    )
