"""The copilot as the api uses it: a question in, AG-UI events out, and an outcome to record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import Any, cast

import structlog
from ag_ui.core import TokenUsage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from agent.events import RunEvents
from agent.graph import RunContext, RunState, build_graph
from agent.model import OFFLINE_PROVIDER, ModelClient, offline_model, provider_model
from agent.outcome import CallRecord, Emit, RunOutcome, RunRequest, RunStatus, Usage
from agent.planner.app import PLANNER_MODEL, PlannerApp
from agent.prompt import SYSTEM_PROMPT
from audit.redact import redact_prompt
from core.config import Settings
from core.types.clock import Clock
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.ids import IdSource
from tools.contracts import Gateway
from tools.model_budget import ModelBudget

GRAPH_VERSION = "1"
GRAPH_STEPS_LIMIT = 64
HISTORY_LIMIT_MESSAGES = 20
HISTORY_MESSAGE_LIMIT_CHARS = 4_000

# Ids of suggestions and calls, ids of orders, and the closed list of reason codes.
_OUR_IDS = re.compile(rf"\b([0-7][0-9A-HJKMNP-TV-Z]{{25}}|vz[0-9a-f]{{16,62}}|{'|'.join(ReasonCode.__members__)})\b")

log = structlog.get_logger("agent.copilot")


class Copilot:
    """Answers questions. One instance serves all runs of a process."""

    def __init__(
        self,
        settings: Settings,
        gateway: Gateway,
        ids: IdSource,
        clock: Clock,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        budget: ModelBudget | None = None,
    ) -> None:
        """budget is what models may cost. Raises ConfigurationError when the provider is configured by half."""
        self._budget = budget
        self._settings = settings.copilot
        self._gateway = gateway
        self._ids = ids
        self._clock = clock
        self._planner_app = PlannerApp(ids, clock)
        self._planner = offline_model(self._planner_app)
        self._primary = provider_model(settings) or self._planner
        self._graph = build_graph(checkpointer)

    @property
    def model(self) -> str:
        """The model that is asked first."""
        return self._primary.model

    async def warm(self) -> None:
        """Train the planner in a thread. A question that comes earlier waits for the same training."""
        await self._planner_app.warm()

    async def close(self) -> None:
        await self._planner.close()
        if self._primary is not self._planner:
            await self._primary.close()

    async def run(self, request: RunRequest, emit: Emit) -> RunOutcome:
        """Answer the question; every event goes to emit, RUN_STARTED first and RUN_FINISHED or RUN_ERROR last.

        What fails inside is in the outcome. A cancelled task emits RUN_ERROR COPILOT_RUN_CANCELLED and returns the
        outcome, status cancelled, instead of raising. What emit raises ends the run; a second time, it comes out.
        """
        run = _Run(request, RunEvents(request.run_id, request.thread_id, self._clock), emit)
        try:
            await emit(run.events.run_started())
            await emit(run.events.run_info(request.trace, self._primary.model))
            async with asyncio.timeout(self._settings.run_timeout_s):
                await self._answer(run)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            run.refusal = Refusal(ReasonCode.COPILOT_RUN_CANCELLED, "The run was cancelled.")
        except TimeoutError:
            run.refusal = Refusal(
                ReasonCode.COPILOT_BUDGET_EXCEEDED,
                "The run took longer than it may. Ask again, or ask for less at once.",
                limit=str(self._settings.run_timeout_s),
                unit="s",
            )
        except RefusalError as error:
            run.refusal = error.refusal
        except Exception:
            log.exception("run_failed", run_id=request.run_id, trace_id=request.trace.trace_id)
            run.refusal = Refusal(
                ReasonCode.SERVICE_INTERNAL_ERROR,
                f"The run failed inside the service. Trace {request.trace.trace_id} leads to the cause.",
            )
        return await self._conclude(run)

    async def _answer(self, run: _Run) -> None:
        request = run.request
        run.question_redacted = await _redacted(request.question)
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, *await _history(request.messages)]
        messages.append({"role": "user", "content": run.question_redacted})
        run.prompt_digest_hex = hashlib.sha256(json.dumps(messages).encode()).hexdigest()
        run.context = RunContext(
            run_id=request.run_id,
            principal=request.principal,
            trace=request.trace,
            gateway=self._gateway,
            primary=self._primary,
            planner=self._planner,
            events=run.events,
            ids=self._ids,
            tool_calls_limit=self._settings.max_tool_calls_per_run,
            budget=self._budget,
        )
        run.state = _first_state(messages, self._primary)
        config: RunnableConfig = {
            "recursion_limit": GRAPH_STEPS_LIMIT,
            "configurable": {"thread_id": f"{request.thread_id}:graph-{GRAPH_VERSION}"},
        }
        steps = self._graph.astream(run.state, config, context=run.context, stream_mode=["custom", "values"])
        async for step in steps:
            mode, item = cast(tuple[str, Any], step)
            if mode == "custom":
                await run.emit(item)
            else:
                run.state = cast(RunState, item)
        run.refusal = run.state["outage"]

    async def _conclude(self, run: _Run) -> RunOutcome:
        """The last event, and the outcome."""
        outcome = run.outcome(self._primary.model)
        provider = self._planner.provider if outcome.model == PLANNER_MODEL else self._primary.provider
        usage = TokenUsage(
            provider=provider,
            model=outcome.model,
            input_tokens=outcome.usage.input_tokens,
            output_tokens=outcome.usage.output_tokens,
            total_tokens=outcome.usage.input_tokens + outcome.usage.output_tokens,
        )
        suggestion = run.suggestion()
        if outcome.refusal is not None:
            await run.emit(run.events.failed(outcome.refusal, usage))
        elif suggestion is not None:
            await run.emit(run.events.waiting_for_approval(usage, suggestion.result, suggestion.call_id))
        else:
            await run.emit(run.events.finished(usage))
        return outcome


class _Run:
    """One run in progress."""

    def __init__(self, request: RunRequest, events: RunEvents, emit: Emit) -> None:
        self.request = request
        self.events = events
        self.emit = emit
        self.question_redacted = ""
        self.prompt_digest_hex = ""
        self.context: RunContext | None = None
        self.state: RunState | None = None
        self.refusal: Refusal | None = None

    def suggestion(self) -> CallRecord | None:
        """The suggestion that this run made, also when the run failed after it."""
        if self.context is None:
            return None
        return next((record for record in self.context.records if self.context.is_suggestion(record)), None)

    def status(self) -> RunStatus:
        if self.refusal is None:
            return "finished" if self.suggestion() is None else "interrupted"
        return "cancelled" if self.refusal.code is ReasonCode.COPILOT_RUN_CANCELLED else "failed"

    def outcome(self, model: str) -> RunOutcome:
        context, suggestion = self.context, self.suggestion()
        return RunOutcome(
            status=self.status(),
            model=context.announced_model if context else model,
            question_redacted=self.question_redacted,
            answer=context.answer() if context else "",
            figures=context.ground_answer() if context else [],
            tool_calls=context.records if context else [],
            suggestion_id=suggestion.result["suggestion_id"] if suggestion else None,
            usage=self.state["usage"] if self.state else Usage(),
            refusal=self.refusal,
            prompt_digest_hex=self.prompt_digest_hex,
        )


async def _history(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """What was said before, redacted like the question and cut to the limits."""
    out: list[dict[str, str]] = []
    for message in messages[-HISTORY_LIMIT_MESSAGES:]:
        if message["role"] in {"user", "assistant"} and message["content"]:
            text = await _redacted(message["content"][:HISTORY_MESSAGE_LIMIT_CHARS])
            out.append({"role": message["role"], "content": text})
    return out


async def _redacted(text: str) -> str:
    """Both tiers over the text between our own ids: tier 2 takes letters within a ULID for a name now and then, and
    then no one could ask what became of a suggestion. Tier 1 passes ids by itself."""
    pieces = _OUR_IDS.split(text)
    return "".join([p if _OUR_IDS.fullmatch(p) or not p.strip() else (await redact_prompt(p)).text for p in pieces])


def _first_state(messages: list[dict[str, Any]], primary: ModelClient) -> RunState:
    return RunState(
        messages=messages,
        pending=(),
        records=[],
        figures=[],
        usage=Usage(),
        model=primary.model,
        offline=primary.provider == OFFLINE_PROVIDER,
        rounds=0,
        suggestion=None,
        outage=None,
    )
