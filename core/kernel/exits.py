"""What can be said of a bracket's exits before their position is there: their own terms, and no more. Pure."""

from __future__ import annotations

import msgspec

from core.kernel.decide_risk import RiskSubject, run_risk
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.risk.checks import RiskDecision
from core.types.codes import ReasonCode, Refusal
from core.types.orders import OrderIntent, OrderRole, OrderStatus

TERMS_OF_A_CHILD = frozenset(
    {
        ReasonCode.ORDER_TICK_SIZE_VIOLATED,
        ReasonCode.ORDER_LOT_SIZE_VIOLATED,
        ReasonCode.ORDER_QUANTITY_BELOW_MIN,
        ReasonCode.ORDER_QUANTITY_ABOVE_MAX,
        ReasonCode.ORDER_NOTIONAL_BELOW_MIN,
        ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER,
        ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER,
    }
)
"""What can be said of an order whose position isn't there yet; all the rest is checked when it is let go."""


def child_refusal(role: OrderRole, decision: RiskDecision) -> Refusal | None:
    for check in decision.checks:
        if not check.passed and check.name in TERMS_OF_A_CHILD:
            return Refusal(
                ReasonCode(check.name), f"The {role} can't be taken. Correct it.", check.limit, check.actual, check.unit
            )
    return None


def enlarging_refusal(
    kernel: Kernel, order: Order, wanted: OrderIntent, inputs: DecisionInputs, now_ns: int
) -> Refusal | None:
    """Why an entry can't become so large: an exit goes for all that it fills, and not for its rest alone."""
    if order.role != OrderRole.ENTRY or wanted.quantity <= order.intent.quantity:
        return None
    for other_id in kernel.index.groups.get(order.group_id or "", ()):
        other = kernel.orders[other_id]
        if other.role is None or other.role == OrderRole.ENTRY or other.status is not OrderStatus.HELD:
            continue
        whole = msgspec.structs.replace(other.intent, quantity=wanted.quantity)
        refusal = child_refusal(OrderRole(other.role), run_risk(kernel, RiskSubject(whole), inputs, now_ns))
        if refusal is not None:
            return refusal
    return None
