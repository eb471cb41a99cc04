"""A human's decision on a suggestion. Ports only, no network.

Nothing here makes an order possible: the engine verifies the signature against its own roster, its clock and its
journal, and runs risk again. What is checked here is checked to answer early, with a distinct code, and to leave a
record of every attempt. No tool can reach this module (I1).
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any, Literal, Protocol

import msgspec
import structlog

from audit.record import Action
from core.text.redaction import Redactor
from core.types.clock import Clock
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.ids import IdSource, TraceContext, new_span_id, new_trace
from core.types.views import EngineStatusView, ExecutionOutcomeView, RiskCheckView
from tools.arguments import plain_text
from tools.contracts import Principal
from tools.policy import Policy
from tools.ports import SuggestionStore, Trail
from tools.suggestions import Decision, Suggestion, SuggestionStatus, expired_refusal, refusal_of_status

DECISIONS_IN_FLIGHT_LIMIT = 4
REASON_LIMIT_CHARS = 1_000
SIGNATURE_LIMIT_BYTES = 4_096
ID_LIMIT_CHARS = 64
VERSION_LIMIT = 1 << 31

ApprovalMethod = Literal["ed25519"]

_log = structlog.get_logger("tools.approvals")


class ExecutionPort(Protocol):
    """The engine as the approval flow sees it. Only this flow holds one."""

    async def status(self) -> EngineStatusView: ...
    async def execute_approval(
        self, proposal: bytes, digest_hex: str, signatures: list[tuple[str, bytes]], trace: TraceContext
    ) -> ExecutionOutcomeView: ...


class ApprovalOutcome(msgspec.Struct, frozen=True):
    """How a decision ended. refusal is None when it took effect; status is the suggestion's after it.

    consumed tells whether the engine used the approval up, which it also does when risk refuses at send.
    """

    suggestion_id: str
    version: int
    status: SuggestionStatus | None
    refusal: Refusal | None
    trace_id: str
    consumed: bool = False
    client_order_id: str | None = None
    journal_sequence: int | None = None
    checks: tuple[RiskCheckView, ...] = ()
    decided_at_ns: int | None = None


class Approvals:
    """Approve, reject, view.

    approve answers with a value; like the others it raises RefusalError(SERVICE_AUDIT_UNAVAILABLE,
    SERVICE_DATABASE_UNAVAILABLE), and then nothing was decided that the engine's journal doesn't tell.
    """

    def __init__(
        self,
        *,
        engine: ExecutionPort,
        suggestions: SuggestionStore,
        trail: Trail,
        clock: Clock,
        ids: IdSource,
        policy: Policy | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._engine = engine
        self._suggestions = suggestions
        self._trail = trail
        self._clock = clock
        self._ids = ids
        self._policy = policy or Policy()
        self._redactor = redactor or Redactor()
        # Each decision holds a row, and so a database connection, while the engine answers.
        self._deciding = asyncio.Semaphore(DECISIONS_IN_FLIGHT_LIMIT)

    async def view(self, principal: Principal, suggestion_id: str, version: int | None = None) -> Suggestion:
        """Show a suggestion, recorded. The first look of someone who may decide sets viewed_at.

        Raises RefusalError(RESOURCE_NOT_FOUND) when it is absent or out of the principal's scope.
        """
        found = await self._in_scope(principal, suggestion_id, version)
        if found is None:
            raise RefusalError(_not_found())
        await self._record(principal, found, Action.SUGGESTION_VIEWED, "ok", self._span(found), {})
        if found.viewed_at_ns is None and self._policy.decide_approval(principal) is None:
            viewed = await self._suggestions.mark_viewed(
                principal.account_ids, found.suggestion_id, found.version, self._clock.now_ns()
            )
            found = viewed or found
        return found

    async def approve(
        self,
        principal: Principal,
        suggestion_id: str,
        version: int,
        digest_hex: str,
        key_id: str,
        signature: bytes,
        trace: TraceContext | None = None,
        method: ApprovalMethod = "ed25519",
    ) -> ApprovalOutcome:
        """Hand a signed approval to the engine, once it stands to reason that the engine will take it.

        trace is the request's own; the suggestion's trace goes on where there is a suggestion. Refusals, in this
        order: AUTH_ROLE_NOT_PERMITTED, RESOURCE_NOT_FOUND, APPROVAL_DIGEST_MISMATCH, APPROVAL_VERSION_SUPERSEDED,
        APPROVAL_ALREADY_CONSUMED, APPROVAL_NOT_PENDING, APPROVAL_EXPIRED, APPROVAL_SIGNATURES_INSUFFICIENT, then
        whatever the engine refuses with. SERVICE_ENGINE_UNAVAILABLE leaves the suggestion pending.
        """
        cells = {"digest": plain_text(digest_hex, 128), "key_id": plain_text(key_id, ID_LIMIT_CHARS), "method": method}
        trace = trace or new_trace(self._ids)
        refusal = self._policy.decide_approval(principal) or _unfindable(suggestion_id, version)
        if refusal is not None:
            # Not to be decided by this principal, but the attempt belongs to the suggestion's trail.
            found = await self._in_scope(principal, suggestion_id)
            step = self._span(found) if found else trace
            return await self._refused(principal, suggestion_id, version, refusal, step, cells, found)
        async with (
            self._deciding,
            self._suggestions.deciding(principal.account_ids, suggestion_id, version) as decision,
        ):
            if decision is None:
                return await self._refused(principal, suggestion_id, version, _not_found(), trace, cells)
            step = self._span(decision.suggestion)
            refusal = (
                await self._why_not(decision, digest_hex)
                or _unsigned(key_id, signature)
                or await self._not_theirs(principal, key_id)
            )
            if refusal is not None:
                return await self._refused(principal, suggestion_id, version, refusal, step, cells, decision.suggestion)
            return await self._execute(principal, decision, key_id, signature, step, cells)

    async def reject(
        self, principal: Principal, suggestion_id: str, version: int, reason: str, trace: TraceContext | None = None
    ) -> Suggestion:
        """Decide against a suggestion; reason is kept, redacted. Returns it as it now is.

        Raises RefusalError, recorded: AUTH_ROLE_NOT_PERMITTED, RESOURCE_NOT_FOUND, APPROVAL_VERSION_SUPERSEDED,
        APPROVAL_ALREADY_CONSUMED, APPROVAL_NOT_PENDING, APPROVAL_EXPIRED. The engine isn't asked.
        """
        step = trace or new_trace(self._ids)
        kept = self._redactor.text(plain_text(reason, REASON_LIMIT_CHARS)).text
        cells: dict[str, Any] = {"decision": "reject", "reason": kept}
        refusal = self._policy.decide_approval(principal) or _unfindable(suggestion_id, version)
        if refusal is not None:
            found = await self._in_scope(principal, suggestion_id)
            step = self._span(found) if found else step
            await self._refused(principal, suggestion_id, version, refusal, step, cells, found)
            raise RefusalError(refusal)
        async with (
            self._deciding,
            self._suggestions.deciding(principal.account_ids, suggestion_id, version) as decision,
        ):
            if decision is None:
                refusal = _not_found()
                await self._refused(principal, suggestion_id, version, refusal, step, cells)
                raise RefusalError(refusal)
            suggestion = decision.suggestion
            step = self._span(suggestion)
            refusal = refusal_of_status(suggestion)
            if refusal is not None:
                await self._refused(principal, suggestion_id, version, refusal, step, cells, suggestion)
                raise RefusalError(refusal)
            decided_at_ns = self._clock.now_ns()
            cells |= _shown(suggestion, decided_at_ns)
            await self._record(principal, suggestion, Action.SUGGESTION_REJECTED, "ok", step, cells)
            await decision.record(
                status=SuggestionStatus.REJECTED,
                decided_by=principal.user_id,
                decided_at_ns=decided_at_ns,
                reason=kept,
            )
        return msgspec.structs.replace(
            suggestion,
            status=SuggestionStatus.REJECTED,
            decided_by=principal.user_id,
            decided_at_ns=decided_at_ns,
            decision_reason=kept,
        )

    async def _why_not(self, decision: Decision, digest_hex: str) -> Refusal | None:
        """Digest, then status, then expiry by the engine's clock."""
        suggestion = decision.suggestion
        if not hmac.compare_digest(digest_hex.encode(errors="replace"), suggestion.digest_hex.encode()):
            return Refusal(
                ReasonCode.APPROVAL_DIGEST_MISMATCH,
                "The digest isn't that of this suggestion: what was signed isn't what is stored. Load it again.",
                limit=suggestion.digest_hex,
                actual=plain_text(digest_hex, 128),
                unit="digest",
            )
        refusal = refusal_of_status(suggestion)
        if refusal is not None:
            return refusal
        try:
            now_ns = (await self._engine.status()).now_ns
        except RefusalError as error:
            return error.refusal
        if now_ns < suggestion.expires_at_ns:
            return None
        await decision.record(
            status=SuggestionStatus.EXPIRED,
            decided_by=None,
            decided_at_ns=now_ns,
            refusal_code=ReasonCode.APPROVAL_EXPIRED.value,
        )
        return expired_refusal(suggestion, now_ns)

    async def _execute(
        self,
        principal: Principal,
        decision: Decision,
        key_id: str,
        signature: bytes,
        step: TraceContext,
        cells: dict[str, Any],
    ) -> ApprovalOutcome:
        suggestion = decision.suggestion
        decided_at_ns = self._clock.now_ns()
        cells = cells | _shown(suggestion, decided_at_ns)
        await self._record(principal, suggestion, Action.SUGGESTION_APPROVED, "ok", step, cells)
        try:
            outcome = await self._engine.execute_approval(
                suggestion.proposal, suggestion.digest_hex, [(key_id, signature)], step
            )
        except RefusalError as error:
            # Not reached, or no answer: the row stays pending. Had the engine taken it, a second try is refused there.
            return await self._refused(
                principal, suggestion.suggestion_id, suggestion.version, error.refusal, step, cells, suggestion
            )
        status = suggestion.status
        if outcome.consumed:
            status = SuggestionStatus.APPROVED
            await decision.record(
                status=status,
                decided_by=principal.user_id,
                decided_at_ns=decided_at_ns,
                refusal_code=outcome.refusal.code.value if outcome.refusal else None,
                client_order_id=outcome.client_order_id,
            )
        if outcome.refusal is not None:
            await self._record_engine_refusal(principal, suggestion, outcome.refusal, step, cells)
        return ApprovalOutcome(
            suggestion.suggestion_id,
            suggestion.version,
            status,
            outcome.refusal,
            step.trace_id,
            consumed=outcome.consumed,
            client_order_id=outcome.client_order_id,
            journal_sequence=outcome.journal_sequence,
            checks=outcome.checks,
            decided_at_ns=decided_at_ns,
        )

    async def _record_engine_refusal(
        self, principal: Principal, suggestion: Suggestion, refusal: Refusal, step: TraceContext, cells: dict[str, Any]
    ) -> None:
        """The engine has decided already and its journal says so: a record that fails here must not hide that."""
        try:
            await self._record(
                principal,
                suggestion,
                Action.APPROVAL_REFUSED,
                refusal.code.value,
                step,
                cells | _refusal_cells(refusal),
            )
        except RefusalError:
            _log.exception("engine_refusal_not_recorded", code=refusal.code.value, trace_id=step.trace_id)

    async def _not_theirs(self, principal: Principal, key_id: str) -> Refusal | None:
        """The engine counts the key's owner, so the trail must not name another as the approver."""
        owner = await self._suggestions.key_owner(key_id)
        if owner is None or owner == principal.user_id:
            return None
        return Refusal(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            f"Key {key_id} belongs to someone else. Sign with your own key, or have its owner approve.",
            actual=key_id,
        )

    async def _in_scope(
        self, principal: Principal, suggestion_id: str, version: int | None = None
    ) -> Suggestion | None:
        if not _is_id(suggestion_id):
            return None
        return await self._suggestions.get(principal.account_ids, suggestion_id, version)

    async def _refused(
        self,
        principal: Principal,
        suggestion_id: str,
        version: int,
        refusal: Refusal,
        trace: TraceContext,
        cells: dict[str, Any],
        suggestion: Suggestion | None = None,
    ) -> ApprovalOutcome:
        """Record the attempt, then answer with the refusal."""
        cells = cells | _refusal_cells(refusal)
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
            payload=cells,
        )
        return ApprovalOutcome(name, version, suggestion.status if suggestion else None, refusal, trace.trace_id)

    async def _record(
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
            payload={"policy_version": self._policy.version, "span_id": step.span_id, **cells},
        )

    def _span(self, suggestion: Suggestion) -> TraceContext:
        """The next step of the suggestion's own trace."""
        return TraceContext(suggestion.trace_id, new_span_id(self._ids))


def _shown(suggestion: Suggestion, decided_at_ns: int) -> dict[str, Any]:
    viewed = suggestion.viewed_at_ns
    return {
        "digest": suggestion.digest_hex,
        "viewed_at_ns": None if viewed is None else str(viewed),
        "decided_at_ns": str(decided_at_ns),
    }


def _refusal_cells(refusal: Refusal) -> dict[str, Any]:
    return {
        "code": refusal.code.value,
        "message": refusal.message,
        "limit": refusal.limit,
        "actual": refusal.actual,
        "unit": refusal.unit,
    }


def _not_found() -> Refusal:
    # The same whether it is absent or someone else's: an id tells nothing to who may not see it.
    return Refusal(ReasonCode.RESOURCE_NOT_FOUND, "There is no such suggestion in your accounts. Check its id.")


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= ID_LIMIT_CHARS and value.isascii() and value.isprintable()


def _unfindable(suggestion_id: object, version: object) -> Refusal | None:
    """An id or a version that can't be one names no suggestion."""
    if not _is_id(suggestion_id) or not isinstance(version, int) or not 0 < version < VERSION_LIMIT:
        return _not_found()
    return None


def _unsigned(key_id: object, signature: object) -> Refusal | None:
    if not _is_id(key_id) or not isinstance(signature, bytes) or not 0 < len(signature) <= SIGNATURE_LIMIT_BYTES:
        return Refusal(
            ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT,
            "An approval is a signature: give the id of the signing key and its signature of the digest.",
            limit="1",
            actual="0",
            unit="signatures",
        )
    return None
