"""Safety commands that went ahead without their record, found again after a restart: what of them still has to be so.

Pure. Whatever is told here can only reduce: it ends, tightens, cancels or uses up, and nothing else passes.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.authority.proposal_values import MANDATE_LIMITS
from core.kernel.approval import without_what_never_was
from core.kernel.decide import decide_cancel
from core.kernel.kernel import Kernel
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    CancelRequested,
    CausedEvent,
    JournalEvent,
    KillSwitchChanged,
    MandateRevoked,
    MandateTightened,
    OrderClosed,
    SessionClosed,
)
from core.types.orders import OrderStatus


def still_due(kernel: Kernel, event: JournalEvent) -> tuple[JournalEvent, ...]:
    """The event, or what is left of it; nothing where it is so already, can't be any more, or would do more than
    reduce."""
    if isinstance(event, ApprovalDecided):
        if event.intent is not None or event.suggestion_id in kernel.consumed:
            return ()
        left = without_what_never_was(kernel, event)
        caused = tuple(item for item in left.caused if _is_due(kernel, item))
        refusal = _why_not(kernel, left.caused[0]) if left.caused and not caused else left.refusal
        return (msgspec.structs.replace(left, caused=caused, refusal=refusal),)
    return (event,) if _is_due(kernel, event) else ()


def _why_not(kernel: Kernel, caused: CausedEvent) -> Refusal | None:
    """What the record of a used approval says instead of what can't be so any more."""
    match caused:
        case CancelRequested():
            decided = decide_cancel(kernel, caused.client_order_id, caused.requested_by, caused.trace_id, caused.ts_ns)
            return decided if isinstance(decided, Refusal) else None
        case MandateRevoked() | MandateTightened() if not _is_in_force(kernel, caused.mandate_id):
            return Refusal(ReasonCode.AUTHORITY_MANDATE_REVOKED, "The mandate was revoked already.")
        case MandateTightened():
            return Refusal(ReasonCode.APPROVAL_SUBJECT_CHANGED, "The mandate's limits are others by now.")
        case _:
            # A switch that is so already is what was approved.
            return None


def _is_due(kernel: Kernel, event: JournalEvent) -> bool:
    match event:
        case KillSwitchChanged():
            own = kernel.account_kill_switches.get(event.account_id, KillSwitch.NORMAL)
            current = own if event.account_id else kernel.kill_switch
            return KillSwitch(event.state).tightness > current.tightness
        case CancelRequested():
            order = kernel.orders.get(event.client_order_id)
            return order is not None and not order.status.is_final
        case OrderClosed():
            # What is at the venue ends there, and not by anybody's word here.
            order = kernel.orders.get(event.client_order_id)
            return order is not None and order.status is OrderStatus.HELD and event.status is OrderStatus.CANCELED
        case SessionClosed():
            session = kernel.sessions.get(event.session_id)
            return session is not None and not session.closed
        case MandateRevoked():
            return _is_in_force(kernel, event.mandate_id)
        case MandateTightened():
            return _is_in_force(kernel, event.mandate_id) and _is_tighter(kernel, event)
        case ApprovalVoided():
            known = kernel.voided.get(event.suggestion_id)
            return event.suggestion_id not in kernel.consumed and (known is None or known.version < event.version)
        case _:
            return False


def _is_in_force(kernel: Kernel, mandate_id: str) -> bool:
    state = kernel.mandates.get(mandate_id)
    return state is not None and not state.revoked


def _is_tighter(kernel: Kernel, event: MandateTightened) -> bool:
    mandate = kernel.mandates[event.mandate_id].mandate
    limits = [(Decimal(getattr(event, name)), Decimal(getattr(mandate, name))) for name in MANDATE_LIMITS]
    return all(new <= old for new, old in limits) and any(new < old for new, old in limits)
