"""The policy as the approval flow asks it: who may decide on what, and how many have to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from core.types.codes import Refusal, RefusalError
from tools.contracts import Principal
from tools.policy import ApprovalsDue, ApprovalSubject, CallFacts, Policy, PolicySource
from tools.suggestions import Suggestion

POLICY_NOTE = "policy"
"""Where a suggestion's pre_trade keeps what the policy asked for when it was made."""


class ApprovalPolicy:
    """Answers with a refusal also where there is no policy that may be decided by: it fails closed."""

    def __init__(self, source: PolicySource) -> None:
        self._source = source

    def may_decide(self, principal: Principal) -> Refusal | None:
        """Whether the principal may decide on anything at all."""
        policy = self._current()
        return policy if isinstance(policy, Refusal) else policy.decide_approval(principal)

    def may_approve(self, principal: Principal, suggestion: Suggestion, now_ns: int) -> Refusal | None:
        """Whether the principal may approve that suggestion now."""
        policy = self._current()
        if isinstance(policy, Refusal):
            return policy
        subject = ApprovalSubject(
            kind=kind_of(suggestion),
            account_id=suggestion.account_id,
            amount_quote=amount_of(suggestion),
            now_ns=now_ns,
        )
        return policy.decide_approval(principal, subject)

    def due(self, suggestion: Suggestion) -> int:
        """How many people have to approve: as the policy in force says, or as it said when the suggestion was made,
        whichever is more. The engine's own count is the least. Raises RefusalError(SERVICE_POLICY_INVALID)."""
        policy = self._source.current()
        now = policy.approvals_due(kind_of(suggestion), suggestion.account_id, amount_of(suggestion))
        return max(now.count, _noted_due(suggestion))

    def with_note(self, newer: Suggestion, old: Suggestion, editor: Principal | None) -> Suggestion:
        """A new version, with what the policy in force asks for: conditions see its fields as arguments, and its editor
        as the principal. What the old version asked for stays asked for. editor is None where only figures are fresh.

        Raises RefusalError: SERVICE_POLICY_INVALID, POLICY_CONDITION_DENIED, POLICY_QUIET_HOURS.
        """
        policy = self._source.current()
        kind = kind_of(newer)
        due = policy.approvals_due(kind, newer.account_id, amount_of(newer))
        if editor is not None:
            facts = CallFacts(
                principal=editor,
                tool=f"suggest_{kind}",
                kind="suggest",
                account_id=newer.account_id,
                arguments={name: value for name, value in newer.order_fields().items() if value != ""},
                now_ns=newer.created_at_ns,
                mode=newer.order.mode,
            )
            known = msgspec.structs.replace(facts, amount_quote=amount_of(newer))
            refusal = policy.restrict(facts) or policy.restrict_conditions(known)
            if refusal is not None:
                raise RefusalError(refusal)
            due = policy.weigh(known, kind)
        return noted(newer, policy, due.stricter(_noted_due(old)))

    def cells(self) -> dict[str, str | None]:
        """For the record."""
        policy = self._current()
        if isinstance(policy, Refusal):
            return {"policy_version": None, "policy_digest": None}
        return {"policy_version": policy.version, "policy_digest": policy.digest_hex}

    def _current(self) -> Policy | Refusal:
        try:
            return self._source.current()
        except RefusalError as error:
            return error.refusal


def _noted_due(suggestion: Suggestion) -> int:
    """What the policy asked for when the suggestion was made."""
    return 1 if suggestion.pre_trade.get(POLICY_NOTE, {}).get("approvals_due", "1") == "1" else 2


def kind_of(suggestion: Suggestion) -> str:
    """One of SUGGESTION_KINDS."""
    return kind_of_schema(suggestion.order.schema)


def kind_of_schema(schema: str) -> str:
    """`veloz.kill-switch-proposal/1` is a kill_switch."""
    return schema.removeprefix("veloz.").partition("-proposal")[0].replace("-", "_")


def amount_of(suggestion: Suggestion) -> Decimal:
    """What it is worth in its quote asset; zero for what has no price, as a cancel."""
    return Decimal(getattr(suggestion.order, "notional_quote", "") or 0)


def noted(suggestion: Suggestion, policy: Policy, due: ApprovalsDue) -> Suggestion:
    """The suggestion with what the policy asks for kept beside what was shown."""
    note: dict[str, Any] = {
        "version": policy.version,
        "digest": policy.digest_hex,
        "approvals_due": str(due.count),
        "sections": list(due.sections),
    }
    return msgspec.structs.replace(suggestion, pre_trade=suggestion.pre_trade | {POLICY_NOTE: note})
