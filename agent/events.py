"""A run as AG-UI 1.0 events (https://docs.ag-ui.com), built from the protocol's own models."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from ag_ui.core import (
    ActivitySnapshotEvent,
    BaseEvent,
    CustomEvent,
    Interrupt,
    RunErrorEvent,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from core.text.figures import Figure
from core.types.clock import NS_PER_MS, Clock
from core.types.codes import Refusal
from core.types.ids import TraceContext

FIGURES_EVENT = "veloz.figures"
RUN_EVENT = "veloz.run"
ORDER_CARD_ACTIVITY = "veloz.order_card"
APPROVAL_REASON = "veloz:order_approval"


class RunEvents:
    """Builds one run's events, stamped with the time in ms."""

    def __init__(self, run_id: str, thread_id: str, clock: Clock) -> None:
        self._run_id = run_id
        self._thread_id = thread_id
        self._clock = clock

    def _now(self) -> int:
        return self._clock.now_ns() // NS_PER_MS

    def run_started(self) -> BaseEvent:
        return RunStartedEvent(thread_id=self._thread_id, run_id=self._run_id, timestamp=self._now())

    def run_info(self, trace: TraceContext, model: str) -> BaseEvent:
        value = {"run_id": self._run_id, "trace_id": trace.trace_id, "model": model}
        return CustomEvent(name=RUN_EVENT, value=value, timestamp=self._now())

    def step_started(self, name: str) -> BaseEvent:
        return StepStartedEvent(step_name=name, timestamp=self._now())

    def step_finished(self, name: str) -> BaseEvent:
        return StepFinishedEvent(step_name=name, timestamp=self._now())

    def text_started(self, message_id: str) -> BaseEvent:
        return TextMessageStartEvent(message_id=message_id, role="assistant", timestamp=self._now())

    def text(self, message_id: str, delta: str) -> BaseEvent:
        return TextMessageContentEvent(message_id=message_id, delta=delta, timestamp=self._now())

    def text_ended(self, message_id: str) -> BaseEvent:
        return TextMessageEndEvent(message_id=message_id, timestamp=self._now())

    def tool_call(self, call_id: str, tool: str, arguments: str) -> list[BaseEvent]:
        return [
            ToolCallStartEvent(tool_call_id=call_id, tool_call_name=tool, timestamp=self._now()),
            ToolCallArgsEvent(tool_call_id=call_id, delta=arguments or "{}", timestamp=self._now()),
            ToolCallEndEvent(tool_call_id=call_id, timestamp=self._now()),
        ]

    def tool_result(self, message_id: str, call_id: str, content: dict[str, Any]) -> BaseEvent:
        text = json.dumps(content, ensure_ascii=False)
        return ToolCallResultEvent(
            message_id=message_id, tool_call_id=call_id, content=text, role="tool", timestamp=self._now()
        )

    def order_card(self, message_id: str, card: dict[str, Any]) -> BaseEvent:
        return ActivitySnapshotEvent(
            message_id=message_id, activity_type=ORDER_CARD_ACTIVITY, content=card, timestamp=self._now()
        )

    def figures(self, figures: list[Figure]) -> BaseEvent:
        value = [msgspec.to_builtins(figure) for figure in figures]
        return CustomEvent(name=FIGURES_EVENT, value=value, timestamp=self._now())

    def finished(self, usage: TokenUsage) -> BaseEvent:
        return RunFinishedEvent(
            thread_id=self._thread_id,
            run_id=self._run_id,
            outcome=RunFinishedSuccessOutcome(),
            usage=[usage],
            timestamp=self._now(),
        )

    def waiting_for_approval(self, usage: TokenUsage, suggestion: dict[str, Any], call_id: str) -> BaseEvent:
        """The run pauses for a human. The interrupt's id is the suggestion's; answering it approves nothing."""
        interrupt = Interrupt(
            id=suggestion["suggestion_id"],
            reason=APPROVAL_REASON,
            message="A human has to approve or reject what is suggested.",
            tool_call_id=call_id,
            expires_at=suggestion.get("expires_at"),
        )
        return RunFinishedEvent(
            thread_id=self._thread_id,
            run_id=self._run_id,
            outcome=RunFinishedInterruptOutcome(interrupts=[interrupt]),
            usage=[usage],
            timestamp=self._now(),
        )

    def failed(self, refusal: Refusal, usage: TokenUsage) -> BaseEvent:
        return RunErrorEvent(message=refusal.message, code=refusal.code.value, usage=[usage], timestamp=self._now())
