"""What the trail says of a human's decision on a suggestion, and of every attempt at one."""

from __future__ import annotations

from typing import Any

from audit.record import Action
from core.types.codes import ReasonCode, Refusal
from core.types.ids import IdSource, TraceContext, new_span_id, new_trace
from tools.approval_policy import ApprovalPolicy
from tools.arguments import plain_text
from tools.contracts import Principal
from tools.ports import Trail
from tools.suggestions import Suggestion

ID_LIMIT_CHARS = 64
VERSION_LIMIT = 1 << 31


class DecisionTrail:
    """Records decisions and refused attempts. Raises RefusalError(SERVICE_AUDIT_UNAVAILABLE)."""

    def __init__(self, trail: Trail, ids: IdSource, policy: ApprovalPolicy) -> None:
        self._trail = trail
        self._ids = ids
        self._policy = policy

    def span(self, suggestion: Suggestion) -> TraceContext:
        """The next step of the suggestion's own trace."""
        return TraceContext(suggestion.trace_id, new_span_id(self._ids))

    def new_trace(self) -> TraceContext:
        """For an attempt at what this principal has no suggestion of."""
        return new_trace(self._ids)

    async def decided(
        self, principal: Principal, suggestion: Suggestion, action: Action, step: TraceContext, cells: dict[str, Any]
    ) -> None:
        await self._write(principal, suggestion, action, "ok", step, cells)

    async def engine_refused(
        self, principal: Principal, suggestion: Suggestion, refusal: Refusal, step: TraceContext, cells: dict[str, Any]
    ) -> None:
        await self._write(
            principal,
            suggestion,
            Action.APPROVAL_REFUSED,
            refusal.code.value,
            step,
            cells | refusal_cells(refusal),
        )

    async def attempt_refused(
        self,
        principal: Principal,
        suggestion_id: str,
        version: int,
        refusal: Refusal,
        trace: TraceContext,
        cells: dict[str, Any],
        suggestion: Suggestion | None = None,
    ) -> None:
        """An attempt that came to nothing; suggestion is None where it isn't this principal's to know of."""
        name = plain_text(suggestion_id, ID_LIMIT_CHARS)
        await self._trail.record(
            action=Action.APPROVAL_REFUSED,
            actor=principal.user_id,
            actor_identity=principal.username,
            on_behalf_of=principal.on_behalf_of,
            resource=f"suggestion:{name}/{plain_text(str(version), ID_LIMIT_CHARS)}",
            outcome=refusal.code.value,
            trace_id=trace.trace_id,
            account_id=suggestion.account_id if suggestion else None,
            run_id=(suggestion.run_id or None) if suggestion else None,
            suggestion_id=suggestion.suggestion_id if suggestion else None,
            payload=cells | refusal_cells(refusal),
        )

    async def _write(
        self,
        principal: Principal,
        suggestion: Suggestion,
        action: Action,
        outcome: str,
        step: TraceContext,
        cells: dict[str, Any],
    ) -> None:
        await self._trail.record(
            action=action,
            actor=principal.user_id,
            actor_identity=principal.username,
            on_behalf_of=principal.on_behalf_of,
            resource=f"suggestion:{suggestion.suggestion_id}/{suggestion.version}",
            outcome=outcome,
            trace_id=step.trace_id,
            account_id=suggestion.account_id,
            run_id=suggestion.run_id or None,
            suggestion_id=suggestion.suggestion_id,
            payload={**self._policy.cells(), "span_id": step.span_id, **cells},
        )


def shown_cells(suggestion: Suggestion, user_id: str, decided_at_ns: int) -> dict[str, Any]:
    """What this person decided on, when they first looked at it, and when they decided."""
    viewed_at_ns = suggestion.views.get(user_id)
    return {
        "digest": suggestion.digest_hex,
        "viewed_at_ns": None if viewed_at_ns is None else str(viewed_at_ns),
        "decided_at_ns": str(decided_at_ns),
    }


def refusal_cells(refusal: Refusal) -> dict[str, Any]:
    return {
        "code": refusal.code.value,
        "message": refusal.message,
        "limit": refusal.limit,
        "actual": refusal.actual,
        "unit": refusal.unit,
    }


def not_found() -> Refusal:
    # The same whether it is absent or someone else's: an id tells nothing to who may not see it.
    return Refusal(ReasonCode.RESOURCE_NOT_FOUND, "There is no such suggestion in your accounts. Check its id.")


def is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= ID_LIMIT_CHARS and value.isascii() and value.isprintable()


def unfindable(suggestion_id: object, version: object) -> Refusal | None:
    """An id or a version that can't be one names no suggestion."""
    if not is_id(suggestion_id) or not isinstance(version, int) or not 0 < version < VERSION_LIMIT:
        return not_found()
    return None
