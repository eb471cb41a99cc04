"""A suggestion as it is stored: the exact proposal bytes, and what became of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

import msgspec

from core.authority.proposal import kind_of, parse_proposal
from core.authority.proposal_kinds import Proposed
from core.types.codes import ReasonCode, Refusal, RefusalError


class SuggestionStatus(StrEnum):
    """From CONSUMED on the row is the ledger's projection of the engine's journal."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CONSUMED = "consumed"
    EXECUTED = "executed"
    FAILED = "failed"
    NEEDS_REVIEW = "needs_review"


class GivenSignature(msgspec.Struct, frozen=True, kw_only=True):
    """An approver's signature over one version, kept until there are enough. The engine verifies it again."""

    user_id: str
    key_id: str
    method: str
    signature: bytes
    signed_at_ns: int
    viewed_at_ns: int | None = None


class Leg(msgspec.Struct, frozen=True):
    """An order of a bracket, as it stands. role is entry, take_profit or stop; quantities are decimal text."""

    role: str
    client_order_id: str
    status: str
    quantity: str
    filled_quantity: str


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one suggestion.

    proposal holds the canonical bytes, digest_hex their digest; pre_trade is what was shown with it (checks, what-if,
    market), every number as text. run_id is empty outside a copilot run. viewed_at_ns is the first look of anybody who
    may decide; views has each person's own. approvals_due is as the engine last told it, None until it has; signatures
    are those given while it takes more. legs are the orders of an approved bracket, the entry first.
    """

    suggestion_id: str
    version: int
    account_id: str
    asker_id: str
    run_id: str
    trace_id: str
    status: SuggestionStatus
    proposal: bytes
    digest_hex: str
    pre_trade: dict[str, Any]
    rationale: str
    expires_at_ns: int
    created_at_ns: int
    viewed_at_ns: int | None = None
    decided_at_ns: int | None = None
    decided_by: str | None = None
    decision_reason: str | None = None
    refusal_code: str | None = None
    client_order_id: str | None = None
    edited_by: str = ""
    approvals_due: int | None = None
    signatures: tuple[GivenSignature, ...] = ()
    views: dict[str, int] = {}
    legs: tuple[Leg, ...] = ()

    @property
    def order(self) -> Proposed:
        """The proposal, read strictly. Raises RefusalError(AUTHORITY_PROPOSAL_MALFORMED)."""
        return parse_proposal(self.proposal)

    @property
    def kind(self) -> str:
        """What is proposed: `order`, `cancel` and so on; `order` for what can't be read."""
        try:
            return kind_of(self.order.schema)
        except RefusalError:
            return "order"

    def order_fields(self) -> dict[str, str]:
        """The proposal's fields as they were digested."""
        fields: dict[str, str] = msgspec.to_builtins(self.order)
        return fields

    def status_at(self, now_ns: int) -> SuggestionStatus:
        """The status to show: what is pending past its time has expired. The engine's own clock decides."""
        if self.status is SuggestionStatus.PENDING and now_ns >= self.expires_at_ns:
            return SuggestionStatus.EXPIRED
        return self.status


class Decision(Protocol):
    """A suggestion's row while it is locked for a decision."""

    @property
    def suggestion(self) -> Suggestion: ...

    async def record(
        self,
        *,
        status: SuggestionStatus,
        decided_by: str | None,
        decided_at_ns: int,
        reason: str | None = None,
        refusal_code: str | None = None,
        client_order_id: str | None = None,
    ) -> None:
        """Move the row on from pending. A status that the ledger has already projected stays."""
        ...

    async def replace(self, newer: Suggestion) -> None:
        """Supersede the row by its next version, both or neither."""
        ...

    async def keep_signature(self, signature: GivenSignature, approvals_due: int) -> None:
        """One of several that are due. One person's second takes the place of the first."""
        ...

    async def drop_signature(self, key_id: str) -> None:
        """What the engine no longer accepts."""
        ...


def refusal_of_status(suggestion: Suggestion) -> Refusal | None:
    """Why a suggestion in this state can't be decided; None when it can."""
    match suggestion.status:
        case SuggestionStatus.PENDING:
            return None
        case SuggestionStatus.SUPERSEDED:
            return Refusal(
                ReasonCode.APPROVAL_VERSION_SUPERSEDED,
                f"Version {suggestion.version} was replaced by a newer one. Look at the newest and decide on that.",
                actual=str(suggestion.version),
                unit="version",
            )
        case SuggestionStatus.EXPIRED:
            return expired_refusal(suggestion, None)
        case SuggestionStatus.REJECTED:
            return Refusal(
                ReasonCode.APPROVAL_NOT_PENDING,
                "The suggestion was rejected. Ask for a new one.",
                limit=SuggestionStatus.PENDING.value,
                actual=suggestion.status.value,
            )
        case (
            SuggestionStatus.APPROVED
            | SuggestionStatus.CONSUMED
            | SuggestionStatus.EXECUTED
            | SuggestionStatus.FAILED
            | SuggestionStatus.NEEDS_REVIEW
        ):
            return Refusal(
                ReasonCode.APPROVAL_ALREADY_CONSUMED,
                f"The suggestion's approval was used before; it is {suggestion.status.value}. Nothing was sent.",
                limit=SuggestionStatus.PENDING.value,
                actual=suggestion.status.value,
            )


def expired_refusal(suggestion: Suggestion, now_ns: int | None) -> Refusal:
    """now_ns by the engine's clock, None when it expired earlier."""
    return Refusal(
        ReasonCode.APPROVAL_EXPIRED,
        "The suggestion has expired. Ask for a new one at the current price.",
        limit=str(suggestion.expires_at_ns),
        actual=None if now_ns is None else str(now_ns),
        unit="ns",
    )
