"""Copilot runs: background tasks whose events go to the log and whose outcome goes to SQL.

The HTTP response only reads the log, so a client that leaves cancels nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator

import structlog
from ag_ui.core import BaseEvent, EventType, RunAgentInput, RunErrorEvent
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.outcome import RunOutcome, RunRequest
from api.runs import repository
from api.runs.event_log import LoggedEvent, RunEventLog, RunWriter
from api.runs.history import foreign
from api.runs.loading import LoadingCopilot
from api.runs.schemas import RunResponse
from api.transactions import Transactions
from audit.record import Action
from audit.redact import redact_prompt
from audit.trail import AuditTrail
from core.text.redaction import Redactor
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.ids import IdSource, TraceContext, new_trace
from tools.contracts import Principal
from tools.untrusted import envelope

CONCURRENT_RUNS_LIMIT = 64
RUN_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
QUESTION_LENGTH_LIMIT = 4_000
HISTORY_MESSAGES_LIMIT = 40
ANSWERS_LIMIT = 100
ANSWER_SUMMARY_LENGTH = 600
OVERDUE_MARGIN_S = 30
INTERRUPT_ID_LIMIT = 64

log = structlog.get_logger("runs")


class RunService:
    """Starts, follows and cancels runs, for the one who asked: what a run shows may come from any of the asker's
    accounts. Only the api replica that runs one can cancel it in this first form. A run that outlives run_timeout_s
    and a margin lost its process, and has failed."""

    def __init__(
        self,
        copilot: LoadingCopilot,
        events: RunEventLog,
        transactions: Transactions,
        trail: AuditTrail,
        ids: IdSource,
        run_timeout_s: int,
        redactor: Redactor,
    ) -> None:
        self._copilot = copilot
        self._events = events
        self._transactions = transactions
        self._trail = trail
        self._ids = ids
        self._overdue_s = run_timeout_s + OVERDUE_MARGIN_S
        self._redactor = redactor
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._starting = 0

    async def start(self, principal: Principal, body: RunAgentInput) -> TraceContext:
        """Record the question, then run it in the background.

        Raises REQUEST_INVALID, AUTH_ACCOUNT_OUT_OF_SCOPE, COPILOT_BUDGET_EXCEEDED and, when the question can't be
        recorded, SERVICE_AUDIT_UNAVAILABLE, SERVICE_DATABASE_UNAVAILABLE or SERVICE_EVENT_LOG_UNAVAILABLE.
        """
        if not RUN_ID.fullmatch(body.run_id):
            raise refuse(ReasonCode.REQUEST_INVALID, "runId takes 8 to 64 letters, digits, dashes and underscores.")
        under_way = len(self._tasks) + self._starting
        if under_way >= CONCURRENT_RUNS_LIMIT:
            raise refuse(
                ReasonCode.COPILOT_BUDGET_EXCEEDED,
                "The copilot is answering as many questions as it can. Try again in a moment.",
                limit=str(CONCURRENT_RUNS_LIMIT),
                actual=str(under_way),
            )
        self._starting += 1
        try:
            return await self._start(principal, body)
        finally:
            self._starting -= 1

    async def _start(self, principal: Principal, body: RunAgentInput) -> TraceContext:
        account_id = _account_of(principal)
        question, history = _question_of(body)
        self._events.streams()
        trace = new_trace(self._ids)
        redacted = await redact_prompt(question)
        writer = self._events.writer(body.run_id)
        async with self._transactions(principal.account_ids) as connection:
            answers = await repository.answers(connection, body.thread_id, principal.user_id, ANSWERS_LIMIT)
            outside = foreign(history, answers, self._redactor)
            await repository.insert(
                connection,
                body.run_id,
                body.thread_id,
                principal.user_id,
                account_id,
                trace.trace_id,
                redacted.text,
                list(outside.values()),
            )
            # Before the commit: without its record there is no run (I7).
            await self._trail.record(
                action=Action.QUESTION_ASKED,
                actor=principal.user_id,
                actor_identity=principal.username,
                resource=f"run:{body.run_id}",
                outcome="ok",
                trace_id=trace.trace_id,
                account_id=account_id,
                run_id=body.run_id,
                payload={"question": redacted.text, "question_digest": hashlib.sha256(question.encode()).hexdigest()},
            )
        request = RunRequest(
            run_id=body.run_id,
            thread_id=body.thread_id,
            principal=principal,
            trace=trace,
            messages=[
                message | {"content": envelope(outside[place])} if place in outside else message
                for place, message in enumerate(history)
            ],
            question=question,
        )
        task = asyncio.create_task(self._run(request, account_id, writer), name=f"run-{body.run_id}")
        self._tasks[body.run_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(body.run_id, None))
        return trace

    async def events(self, principal: Principal, run_id: str, after: int) -> AsyncIterator[LoggedEvent]:
        """The run's events after number `after`. Raises RESOURCE_NOT_FOUND for a run that isn't the principal's, and
        SERVICE_EVENT_LOG_UNAVAILABLE for one that ended without its last event."""
        await self.find(principal, run_id)

        async def is_over() -> bool:
            return run_id not in self._tasks and (await self.find(principal, run_id)).status != "running"

        async for event in self._events.read(run_id, after, is_over):
            yield event

    async def check_readable(self, principal: Principal, run_id: str) -> None:
        """Before an answer begins: raises RESOURCE_NOT_FOUND and SERVICE_EVENT_LOG_UNAVAILABLE as events() would."""
        await self.find(principal, run_id)
        self._events.streams()

    async def find(self, principal: Principal, run_id: str) -> RunResponse:
        """Raises RESOURCE_NOT_FOUND."""
        async with self._transactions(principal.account_ids) as connection:
            run = await repository.find(connection, run_id, principal.user_id)
            if run is not None and run.status == "running" and run_id not in self._tasks:
                run = await self._abandon_if_overdue(connection, run, principal)
        if run is None:
            raise refuse(ReasonCode.RESOURCE_NOT_FOUND, f"You asked nothing under the run id {run_id}.")
        return run

    async def recent(self, principal: Principal, limit: int) -> list[RunResponse]:
        """The principal's own, latest first."""
        async with self._transactions(principal.account_ids) as connection:
            return await repository.recent(connection, principal.user_id, limit)

    async def cancel(self, principal: Principal, run_id: str) -> None:
        """A call of its own: closing the stream cancels nothing. Cancelling an ended run changes nothing."""
        await self.find(principal, run_id)
        task = self._tasks.get(run_id)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Cancel what still runs and wait for it to be recorded."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, request: RunRequest, account_id: str, writer: RunWriter) -> None:
        held_back: list[BaseEvent] = []

        async def emit(event: BaseEvent) -> None:
            # The last event goes out only once the outcome is recorded (I7).
            if event.type in {EventType.RUN_FINISHED, EventType.RUN_ERROR}:
                held_back.append(event)
            else:
                await writer.append(event.type.value, _json(event))

        conclusion: asyncio.Task[None] | None = None
        try:
            outcome = await self._copilot.run(request, emit)
            conclusion = asyncio.create_task(self._conclude(request, account_id, outcome, held_back, writer))
            await asyncio.shield(conclusion)
        except asyncio.CancelledError:
            # Before the copilot had it (it says itself that it was cancelled), or while its end is being recorded.
            cancelled = refuse(ReasonCode.COPILOT_RUN_CANCELLED, "The run was cancelled.")
            await (conclusion or asyncio.create_task(self._abandon(request, account_id, writer, cancelled)))
        except RefusalError as error:
            await self._abandon(request, account_id, writer, error)
        except Exception as error:
            log.error("run_failed", run_id=request.run_id, exc_info=error)
            await self._abandon(
                request,
                account_id,
                writer,
                refuse(ReasonCode.SERVICE_INTERNAL_ERROR, "The run failed inside the service."),
            )

    async def _conclude(
        self, request: RunRequest, account_id: str, outcome: RunOutcome, last: list[BaseEvent], writer: RunWriter
    ) -> None:
        action = {"failed": Action.RUN_FAILED, "cancelled": Action.RUN_CANCELLED}.get(
            outcome.status, Action.ANSWER_GIVEN
        )
        sourced = [figure for figure in outcome.figures if figure.call_id]
        await self._trail.record(
            action=action,
            actor=f"copilot:{outcome.model}",
            on_behalf_of=request.principal.user_id,
            resource=f"run:{request.run_id}",
            outcome=outcome.refusal.code.value if outcome.refusal else "ok",
            trace_id=request.trace.trace_id,
            account_id=account_id,
            run_id=request.run_id,
            suggestion_id=outcome.suggestion_id,
            payload={
                "answer": outcome.answer[:ANSWER_SUMMARY_LENGTH],
                "answer_digest": hashlib.sha256(outcome.answer.encode()).hexdigest(),
                "figures": str(len(outcome.figures)),
                "figures_sourced": str(len(sourced)),
                "model": outcome.model,
                "prompt_digest": outcome.prompt_digest_hex,
                "input_tokens": str(outcome.usage.input_tokens),
                "output_tokens": str(outcome.usage.output_tokens),
                "tool_calls": str(len(outcome.tool_calls)),
            },
        )
        async with self._transactions(request.principal.account_ids) as connection:
            stored = outcome.as_dict() | {"answer": self._redactor.text(outcome.answer).text}
            await repository.finish(connection, request.run_id, outcome.status, outcome.model, stored)
        for event in last:
            await writer.append(event.type.value, _json(event))

    async def _abandon(self, request: RunRequest, account_id: str, writer: RunWriter, error: RefusalError) -> None:
        """The run can't be concluded properly: say so wherever that is still possible."""
        refusal = error.refusal
        status, action = "failed", Action.RUN_FAILED
        if refusal.code is ReasonCode.COPILOT_RUN_CANCELLED:
            status, action = "cancelled", Action.RUN_CANCELLED
        try:
            await self._record_end(action, request.run_id, request.trace.trace_id, account_id, request.principal, error)
        except RefusalError as failed:
            log.error("run_end_not_recorded", run_id=request.run_id, code=failed.refusal.code)
        try:
            async with self._transactions(request.principal.account_ids) as connection:
                await repository.finish(connection, request.run_id, status, None, _failure(error))
        except Exception as failed:
            log.error("run_outcome_not_stored", run_id=request.run_id, exc_info=failed)
        event = RunErrorEvent(message=refusal.message, code=refusal.code.value)
        try:
            await writer.append(event.type.value, _json(event))
        except RefusalError as failed:
            log.error("run_error_not_logged", run_id=request.run_id, code=failed.refusal.code)

    async def _abandon_if_overdue(
        self, connection: AsyncConnection, run: RunResponse, principal: Principal
    ) -> RunResponse | None:
        error = refuse(
            ReasonCode.SERVICE_INTERNAL_ERROR, "The service stopped while it answered. Ask again under a new run id."
        )
        if not await repository.finish_overdue(connection, run.run_id, self._overdue_s, _failure(error)):
            return run
        await self._record_end(Action.RUN_FAILED, run.run_id, run.trace_id, run.account_id, principal, error)
        return await repository.find(connection, run.run_id, principal.user_id)

    async def _record_end(
        self,
        action: Action,
        run_id: str,
        trace_id: str,
        account_id: str,
        principal: Principal,
        error: RefusalError,
    ) -> None:
        """Raises RefusalError(SERVICE_AUDIT_UNAVAILABLE)."""
        await self._trail.record(
            action=action,
            actor="api",
            on_behalf_of=principal.user_id,
            resource=f"run:{run_id}",
            outcome=error.refusal.code.value,
            trace_id=trace_id,
            account_id=account_id,
            run_id=run_id,
            payload={"message": error.refusal.message},
        )


def _failure(error: RefusalError) -> dict[str, str]:
    return {"code": error.refusal.code.value, "message": error.refusal.message}


def _json(event: BaseEvent) -> str:
    return event.model_dump_json(by_alias=True, exclude_none=True)


def _account_of(principal: Principal) -> str:
    if not principal.account_ids:
        raise refuse(ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE, "You have no account; ask an administrator for a grant.")
    return principal.account_ids[0]


def _question_of(body: RunAgentInput) -> tuple[str, list[dict[str, str]]]:
    """The last user message and what was said before it. A resume asks what became of its suggestion: it wakes the
    conversation and is no authority."""
    history = [
        {"role": message.role, "content": message.content}
        for message in body.messages[-HISTORY_MESSAGES_LIMIT:]
        if message.role in {"user", "assistant"} and isinstance(message.content, str)
    ]
    ids = [body.thread_id, body.run_id, *(resumed.interrupt_id for resumed in body.resume or ())]
    if not all(map(_is_text, [*ids, *(message["content"] for message in history)])):
        raise refuse(
            ReasonCode.REQUEST_INVALID, "A message or an id holds half of a surrogate pair; send valid Unicode."
        )
    if body.resume:
        return f"What is the status of suggestion {body.resume[0].interrupt_id[:INTERRUPT_ID_LIMIT]}?", history
    if not history or history[-1]["role"] != "user":
        raise refuse(ReasonCode.REQUEST_INVALID, "messages must end with the user's question as text.")
    question = history.pop()["content"].strip()
    if not question or len(question) > QUESTION_LENGTH_LIMIT:
        raise refuse(
            ReasonCode.REQUEST_INVALID,
            "A question has 1 to 4,000 characters.",
            limit=str(QUESTION_LENGTH_LIMIT),
            actual=str(len(question)),
            unit="characters",
        )
    return question, history


def _is_text(content: str) -> bool:
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True
