"""Making a suggestion's versions void: safety, because it only takes away. What is void can't be approved any more,
whoever has signed it, and whatever the database says."""

from __future__ import annotations

from core.authority.documents import CLOCK_SKEW_NS
from core.authority.verify import PROPOSAL_LONGEST_NS
from core.kernel.kernel import Kernel
from core.types.codes import ReasonCode, Refusal
from core.types.events import ApprovalVoided

VOIDED_LIMIT = 100_000
"""Suggestions remembered as void, each for a day."""
VERSION_LIMIT = 1 << 53


def decide_void(
    kernel: Kernel,
    suggestion_id: str,
    version: int,
    *,
    account_id: str,
    requested_by: str,
    reason: str,
    trace_id: str | None,
    now_ns: int,
) -> Refusal | tuple[ApprovalVoided, ...]:
    """Make the versions up to this one void. What was used already can't be taken back: cancel its order."""
    if not suggestion_id or not 0 < version < VERSION_LIMIT:
        return Refusal(ReasonCode.REQUEST_INVALID, "Name the suggestion, and a version from 1 on.")
    used = kernel.consumed.get(suggestion_id)
    if used is not None:
        return Refusal(
            ReasonCode.APPROVAL_ALREADY_CONSUMED,
            f"Version {used} of this suggestion was already used. Look at its order; that one can be cancelled.",
            limit=str(used),
            actual=str(version),
            unit="version",
        )
    known = kernel.voided.get(suggestion_id)
    if known is not None and known.version >= version:
        return ()
    if known is None and len(kernel.voided) >= VOIDED_LIMIT:
        return Refusal(
            ReasonCode.SERVICE_OVERLOADED,
            "More suggestions were changed today than the engine remembers. Let this one expire.",
            limit=str(VOIDED_LIMIT),
            unit="suggestions",
        )
    return (
        ApprovalVoided(
            ts_ns=now_ns,
            trace_id=trace_id,
            suggestion_id=suggestion_id,
            version=version,
            account_id=account_id,
            requested_by=requested_by,
            reason=reason,
            remembered_until_ns=now_ns + PROPOSAL_LONGEST_NS + CLOCK_SKEW_NS,
        ),
    )


def void_problem(kernel: Kernel, suggestion_id: str, version: int) -> Refusal | None:
    """Whether this version was made void."""
    known = kernel.voided.get(suggestion_id)
    if known is None or known.version < version:
        return None
    return Refusal(
        ReasonCode.APPROVAL_VERSION_SUPERSEDED,
        "This version was replaced by a newer one, withdrawn or rejected. Look at the newest.",
        limit=str(known.version + 1),
        actual=str(version),
        unit="version",
    )
