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
from core.types.ids import IdSource, TraceContext, new_trace
from core.types.views import ExecutionOutcomeView, RiskCheckView, RosterView
from tools.approval_policy import ApprovalPolicy
from tools.arguments import plain_text
from tools.contracts import Principal
from tools.decision_trail import ID_LIMIT_CHARS, DecisionTrail, is_id, not_found, shown_cells, unfindable
from tools.policy import PolicySource, default_policy
from tools.ports import SuggestionStore, Trail
from tools.revisions import RevisionPort, Revisions
from tools.suggestions import (
    Decision,
    GivenSignature,
    Suggestion,
    SuggestionStatus,
    expired_refusal,
    refusal_of_status,
)

DECISIONS_IN_FLIGHT_LIMIT = 4
REASON_LIMIT_CHARS = 1_000
SIGNATURE_LIMIT_BYTES = 4_096
MORE_DUE = frozenset(
    {
        ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT,
        ReasonCode.APPROVAL_SELF_NOT_COUNTED,
        ReasonCode.RISK_CUSTOM_RULE_NEEDS_TWO_APPROVALS,
    }
)
"""The engine found the signatures good, and not enough."""
SIGNATURE_REFUSED = frozenset(
    {
        ReasonCode.AUTHORITY_SIGNATURE_INVALID,
        ReasonCode.AUTHORITY_SIGNER_UNKNOWN,
        ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
        ReasonCode.AUTHORITY_KEY_PAPER_ONLY,
    }
)
"""The engine found one signature bad; the refusal's actual names its key."""
TWO_APPROVALS = 2
FIGURES_MAX_AGE_S = 300

ApprovalMethod = Literal["ed25519", "webauthn"]

_log = structlog.get_logger("tools.approvals")


class ExecutionPort(RevisionPort, Protocol):
    """The engine as the approval flow sees it. Only this flow holds one."""

    async def roster(self) -> RosterView: ...
    async def execute_approval(
        self,
        proposal: bytes,
        digest_hex: str,
        signatures: list[tuple[str, bytes]],
        trace: TraceContext,
        approvals_at_least: int = 1,
    ) -> ExecutionOutcomeView: ...


class ApprovalOutcome(msgspec.Struct, frozen=True):
    """How a decision ended. refusal is None when it took effect; status is the suggestion's after it.

    consumed tells whether the engine used the approval up, which it also does when risk refuses at send. Without a
    refusal it is either that, or one of several signatures that are due: approvals_given of approvals_due. With
    newer_version what was signed was out of date, and that version has the figures of this moment.
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
    approvals_given: int | None = None
    approvals_due: int | None = None
    newer_version: int | None = None


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
        policy: PolicySource | None = None,
        redactor: Redactor | None = None,
        figures_max_age_s: int = FIGURES_MAX_AGE_S,
    ) -> None:
        self._engine = engine
        self._suggestions = suggestions
        self._clock = clock
        self._ids = ids
        self._policy = ApprovalPolicy(policy or default_policy())
        self._redactor = redactor or Redactor()
        self._trail = DecisionTrail(trail, ids, self._policy)
        # Each decision holds a row, and so a database connection, while the engine answers.
        self._deciding = asyncio.Semaphore(DECISIONS_IN_FLIGHT_LIMIT)
        self.revisions = Revisions(
            engine=engine,
            suggestions=suggestions,
            trail=self._trail,
            clock=clock,
            policy=self._policy,
            redactor=self._redactor,
            figures_max_age_s=figures_max_age_s,
            deciding=self._deciding,
        )

    async def view(self, principal: Principal, suggestion_id: str, version: int | None = None) -> Suggestion:
        """Show a suggestion, recorded. The first look of each who may decide is kept.

        Raises RefusalError(RESOURCE_NOT_FOUND) when it is absent or out of the principal's scope.
        """
        found = await self._in_scope(principal, suggestion_id, version)
        if found is None:
            raise RefusalError(not_found())
        await self._trail.decided(principal, found, Action.SUGGESTION_VIEWED, self._trail.span(found), {})
        if principal.user_id not in found.views and self._policy.may_decide(principal) is None:
            viewed = await self._suggestions.mark_viewed(
                principal.account_ids, found.suggestion_id, found.version, principal.user_id, self._clock.now_ns()
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

        Where several are due the engine says so; the signature is kept, and goes to it again with the next one.
        trace is the request's own; the suggestion's trace goes on where there is one. Refusals, in this order:
        AUTH_ROLE_NOT_PERMITTED, RESOURCE_NOT_FOUND, APPROVAL_DIGEST_MISMATCH, APPROVAL_VERSION_SUPERSEDED,
        APPROVAL_ALREADY_CONSUMED, APPROVAL_NOT_PENDING, APPROVAL_EXPIRED, POLICY_APPROVER_NOT_PERMITTED,
        POLICY_QUIET_HOURS, APPROVAL_SIGNATURES_INSUFFICIENT, then whatever the engine refuses with.
        SERVICE_ENGINE_UNAVAILABLE leaves the suggestion pending.
        """
        cells = {"digest": plain_text(digest_hex, 128), "key_id": plain_text(key_id, ID_LIMIT_CHARS), "method": method}
        trace = trace or new_trace(self._ids)
        refusal = self._policy.may_decide(principal) or unfindable(suggestion_id, version)
        if refusal is not None:
            # Not to be decided by this principal, but the attempt belongs to the suggestion's trail.
            found = await self._in_scope(principal, suggestion_id)
            step = self._trail.span(found) if found else trace
            return await self._refused(principal, suggestion_id, version, refusal, step, cells, found)
        async with (
            self._deciding,
            self._suggestions.deciding(principal.account_ids, suggestion_id, version) as decision,
        ):
            if decision is None:
                return await self._refused(principal, suggestion_id, version, not_found(), trace, cells)
            step = self._trail.span(decision.suggestion)
            refusal = (
                await self._why_not(decision, digest_hex)
                or self._policy.may_approve(principal, decision.suggestion, self._clock.now_ns())
                or _unsigned(key_id, signature)
                or await self._not_theirs(principal, key_id)
            )
            if refusal is not None:
                return await self._refused(principal, suggestion_id, version, refusal, step, cells, decision.suggestion)
            try:
                now_ns = (await self._engine.status()).now_ns
                stale = await self.revisions.stale_figures(decision.suggestion, now_ns)
            except RefusalError as error:
                return await self._refused(
                    principal, suggestion_id, version, error.refusal, step, cells, decision.suggestion
                )
            if stale is not None:
                return await self._sent_back(principal, decision, stale, now_ns, step, cells)
            own = GivenSignature(
                user_id=principal.user_id,
                key_id=key_id,
                method=method,
                signature=signature,
                signed_at_ns=self._clock.now_ns(),
                viewed_at_ns=decision.suggestion.views.get(principal.user_id),
            )
            return await self._execute(principal, decision, own, step, cells)

    async def reject(
        self, principal: Principal, suggestion_id: str, version: int, reason: str, trace: TraceContext | None = None
    ) -> Suggestion:
        """Decide against a suggestion; reason is kept, redacted. Returns it as it now is.

        Raises RefusalError, recorded: AUTH_ROLE_NOT_PERMITTED, RESOURCE_NOT_FOUND, APPROVAL_VERSION_SUPERSEDED,
        APPROVAL_ALREADY_CONSUMED, APPROVAL_NOT_PENDING, APPROVAL_EXPIRED, REQUEST_INVALID without a reason. The engine
        is told, so that no signature given before can be used; a no stands also when it doesn't answer.
        """
        step = trace or new_trace(self._ids)
        kept = self._redactor.text(plain_text(reason, REASON_LIMIT_CHARS)).text
        cells: dict[str, Any] = {"decision": "reject", "reason": kept}
        refusal = self._policy.may_decide(principal) or unfindable(suggestion_id, version) or _without_reason(kept)
        if refusal is not None:
            found = await self._in_scope(principal, suggestion_id)
            step = self._trail.span(found) if found else step
            await self._refused(principal, suggestion_id, version, refusal, step, cells, found)
            raise RefusalError(refusal)
        async with (
            self._deciding,
            self._suggestions.deciding(principal.account_ids, suggestion_id, version) as decision,
        ):
            if decision is None:
                refusal = not_found()
                await self._refused(principal, suggestion_id, version, refusal, step, cells)
                raise RefusalError(refusal)
            suggestion = decision.suggestion
            step = self._trail.span(suggestion)
            refusal = refusal_of_status(suggestion)
            if refusal is not None:
                await self._refused(principal, suggestion_id, version, refusal, step, cells, suggestion)
                raise RefusalError(refusal)
            decided_at_ns = self._clock.now_ns()
            cells |= shown_cells(suggestion, principal.user_id, decided_at_ns)
            await self._trail.decided(principal, suggestion, Action.SUGGESTION_REJECTED, step, cells)
            await self._void_rejected(principal, suggestion, step)
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

    async def _void_rejected(self, principal: Principal, suggestion: Suggestion, step: TraceContext) -> None:
        try:
            await self.revisions.void(principal, suggestion, "rejected", step)
        except RefusalError as error:
            if error.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED:
                raise
            _log.warning("rejection_not_told", code=error.refusal.code.value, trace_id=step.trace_id)

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

    async def _sent_back(
        self,
        principal: Principal,
        decision: Decision,
        stale: Refusal,
        now_ns: int,
        step: TraceContext,
        cells: dict[str, Any],
    ) -> ApprovalOutcome:
        """What was signed shows a market that is gone: nothing is sent, and a human looks at this moment's figures."""
        suggestion = decision.suggestion
        refused = await self._refused(
            principal, suggestion.suggestion_id, suggestion.version, stale, step, cells, suggestion
        )
        try:
            newer = await self.revisions.refresh(principal, decision, stale, now_ns)
        except RefusalError as error:
            _log.warning("figures_not_refreshed", code=error.refusal.code.value, trace_id=step.trace_id)
            return refused
        return msgspec.structs.replace(refused, status=SuggestionStatus.SUPERSEDED, newer_version=newer.version)

    async def _execute(
        self,
        principal: Principal,
        decision: Decision,
        own: GivenSignature,
        step: TraceContext,
        cells: dict[str, Any],
    ) -> ApprovalOutcome:
        suggestion = decision.suggestion
        given = tuple(item for item in suggestion.signatures if item.user_id != principal.user_id)
        cells = cells | shown_cells(suggestion, principal.user_id, own.signed_at_ns)
        cells["beside"] = [item.key_id for item in given]
        await self._trail.decided(principal, suggestion, Action.SUGGESTION_APPROVED, step, cells)
        try:
            outcome = await self._ask_engine(principal, decision, given, own, step)
        except RefusalError as error:
            # Not reached, or no answer: the row stays pending. Had the engine taken it, a second try is refused there.
            return await self._refused(
                principal, suggestion.suggestion_id, suggestion.version, error.refusal, step, cells, suggestion
            )
        if outcome.refusal is not None and not outcome.consumed and outcome.refusal.code in MORE_DUE:
            return await self._one_of_several(principal, decision, own, outcome.refusal, step, cells)
        status = suggestion.status
        if outcome.consumed:
            status = SuggestionStatus.APPROVED
            await decision.record(
                status=status,
                decided_by=principal.user_id,
                decided_at_ns=own.signed_at_ns,
                refusal_code=outcome.refusal.code.value if outcome.refusal else None,
                client_order_id=outcome.client_order_id,
            )
        elif outcome.refusal is not None and outcome.refusal.code is ReasonCode.APPROVAL_VERSION_SUPERSEDED:
            # The engine knows of a newer version, or of a withdrawal, that this row missed.
            status = SuggestionStatus.SUPERSEDED
            await decision.record(status=status, decided_by=None, decided_at_ns=own.signed_at_ns)
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
            decided_at_ns=own.signed_at_ns,
        )

    async def _ask_engine(
        self,
        principal: Principal,
        decision: Decision,
        given: tuple[GivenSignature, ...],
        own: GivenSignature,
        step: TraceContext,
    ) -> ExecutionOutcomeView:
        """With all signatures that there are. One given earlier that the engine doesn't accept (the key was revoked, or
        the row forged) is dropped, and then it is asked without it."""
        suggestion = decision.suggestion
        due = self._policy.due(suggestion)
        while True:
            signatures = [(item.key_id, item.signature) for item in (*given, own)]
            outcome = await self._engine.execute_approval(
                suggestion.proposal, suggestion.digest_hex, signatures, step, due
            )
            refusal = outcome.refusal
            if refusal is None or refusal.code not in SIGNATURE_REFUSED or refusal.actual == own.key_id:
                return outcome
            kept = tuple(item for item in given if item.key_id[:ID_LIMIT_CHARS] != refusal.actual)
            if len(kept) == len(given):
                return outcome
            for dropped in set(given) - set(kept):
                _log.warning("given_signature_dropped", code=refusal.code.value, key_id=dropped.key_id)
                await self._trail.engine_refused(
                    principal, suggestion, refusal, step, {"dropped_key_id": dropped.key_id, "user": dropped.user_id}
                )
                await decision.drop_signature(dropped.key_id)
            given = kept

    async def _one_of_several(
        self,
        principal: Principal,
        decision: Decision,
        own: GivenSignature,
        more_due: Refusal,
        step: TraceContext,
        cells: dict[str, Any],
    ) -> ApprovalOutcome:
        """The engine wants more people: keep this one's signature, unless it is one that counts for nobody."""
        suggestion = decision.suggestion
        refusal = _never_counts(suggestion, own, more_due)
        if refusal is not None:
            return await self._refused(
                principal, suggestion.suggestion_id, suggestion.version, refusal, step, cells, suggestion
            )
        due = _number(more_due.limit, TWO_APPROVALS)
        await decision.keep_signature(own, due)
        return ApprovalOutcome(
            suggestion.suggestion_id,
            suggestion.version,
            suggestion.status,
            None,
            step.trace_id,
            decided_at_ns=own.signed_at_ns,
            approvals_given=_number(more_due.actual, 1),
            approvals_due=due,
        )

    async def _record_engine_refusal(
        self, principal: Principal, suggestion: Suggestion, refusal: Refusal, step: TraceContext, cells: dict[str, Any]
    ) -> None:
        """The engine has decided already and its journal says so: a record that fails here must not hide that."""
        try:
            await self._trail.engine_refused(principal, suggestion, refusal, step, cells)
        except RefusalError:
            _log.exception("engine_refusal_not_recorded", code=refusal.code.value, trace_id=step.trace_id)

    async def _not_theirs(self, principal: Principal, key_id: str) -> Refusal | None:
        """The engine counts the owner that its roster names, so the trail must not name another as the approver."""
        try:
            roster = await self._engine.roster()
        except RefusalError as error:
            return error.refusal
        owners = {entry.key_id: entry.user_id for entry in roster.entries}
        if owners.get(key_id, principal.user_id) == principal.user_id:
            return None
        return Refusal(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            f"Key {key_id} belongs to someone else. Sign with your own key, or have its owner approve.",
            actual=key_id,
        )

    async def _in_scope(
        self, principal: Principal, suggestion_id: str, version: int | None = None
    ) -> Suggestion | None:
        if not is_id(suggestion_id):
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
        await self._trail.attempt_refused(principal, suggestion_id, version, refusal, trace, cells, suggestion)
        name = plain_text(suggestion_id, ID_LIMIT_CHARS)
        return ApprovalOutcome(name, version, suggestion.status if suggestion else None, refusal, trace.trace_id)


def _never_counts(suggestion: Suggestion, own: GivenSignature, more_due: Refusal) -> Refusal | None:
    if own.user_id in suggestion.order.authors:
        return Refusal(
            ReasonCode.APPROVAL_SELF_NOT_COUNTED,
            "You asked for this, edited it, or somebody did for you: where two are due, your own approval doesn't "
            "count. Two other approvers must sign.",
            limit=more_due.limit,
            actual=more_due.actual,
            unit="approvals",
        )
    if any(item.user_id == own.user_id for item in suggestion.signatures):
        return Refusal(
            ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT,
            "You have signed this already, and once is all that counts of one person. Another approver must sign.",
            limit=more_due.limit,
            actual=more_due.actual,
            unit="approvals",
        )
    return None


def _without_reason(reason: str) -> Refusal | None:
    if reason.strip():
        return None
    return Refusal(ReasonCode.REQUEST_INVALID, "Say why: a rejection carries its reason.", unit="reason")


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdigit() else otherwise


def _unsigned(key_id: object, signature: object) -> Refusal | None:
    if not is_id(key_id) or not isinstance(signature, bytes) or not 0 < len(signature) <= SIGNATURE_LIMIT_BYTES:
        return Refusal(
            ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT,
            "An approval is a signature: give the id of the signing key and its signature of the digest.",
            limit="1",
            actual="0",
            unit="signatures",
        )
    return None
