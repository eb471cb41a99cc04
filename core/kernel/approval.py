"""What a decision about a proposal is made of, and what it comes to."""

from __future__ import annotations

import msgspec

from core.authority.proposal_kinds import AnyProposal
from core.kernel.decide import unknown_order
from core.kernel.decide_authority import unknown_mandate
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.risk.checks import RiskDecision
from core.types.authority import ApprovalAuthority, SignatureRecord
from core.types.codes import Refusal
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    CausedEvent,
    MandateRevoked,
    MandateTightened,
    OrderAmendRequested,
    OrderClosed,
)
from core.types.orders import OrderIntent
from core.types.venues import VenueCapabilities


class Approval(msgspec.Struct, frozen=True):
    """What is decided on. signatures is None while nobody has signed: risk's first run. approvals is how many of them
    count."""

    proposal: AnyProposal
    digest_hex: str
    signatures: tuple[SignatureRecord, ...] | None
    approvals: int
    inputs: DecisionInputs
    capabilities: VenueCapabilities
    now_ns: int
    trace_id: str | None

    @property
    def authority(self) -> ApprovalAuthority:
        proposal = self.proposal
        return ApprovalAuthority(proposal.suggestion_id, int(proposal.version), self.digest_hex, self.signatures or ())

    @property
    def requested_by(self) -> str:
        """Who asks for a safety command that somebody approved: the record around it holds the signatures."""
        return f"approval:{self.proposal.suggestion_id}"


class Caused(msgspec.Struct, frozen=True):
    """What an approval leads to: an order that goes to the venue at once (intent), other events, or a refusal."""

    decision: RiskDecision
    intent: OrderIntent | None = None
    events: tuple[CausedEvent, ...] = ()


def refused(refusal: Refusal) -> Caused:
    """Before risk was asked."""
    return Caused(RiskDecision((), refusal))


def without_what_never_was(kernel: Kernel, event: ApprovalDecided) -> ApprovalDecided:
    """What is left of a safety command that went ahead when a record before it was undone: the approval is used all the
    same, and only what it did to orders and mandates that are not there any more falls away. Where that was all, its
    record says what was missing."""
    missing = [_missing(kernel, caused) for caused in event.caused]
    left = tuple(caused for caused, refusal in zip(event.caused, missing, strict=True) if refusal is None)
    return msgspec.structs.replace(event, caused=left, refusal=missing[0] if missing and not left else event.refusal)


def _missing(kernel: Kernel, caused: CausedEvent) -> Refusal | None:
    match caused:
        case CancelRequested() | OrderClosed() | OrderAmendRequested():
            order_id = caused.client_order_id
            return None if order_id in kernel.orders else unknown_order(order_id)
        case MandateRevoked() | MandateTightened():
            mandate_id = caused.mandate_id
            return None if mandate_id in kernel.mandates else unknown_mandate(mandate_id)
        case _:
            return None
