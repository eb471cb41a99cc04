"""Orders that are asked for together: an OCO or a bracket, held by the engine on every venue. Pure, as decide_orders.

The first order (a bracket's entry, an OCO's resting leg) goes to the venue under the asker's authority; the others are
derived from it and wait here, because only then can it be said that never more is filled than was meant.
core.kernel.decide_held tells what becomes of them.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.kernel.decide_orders import (
    AskedBy,
    asked_before,
    asked_otherwise,
    authority_id,
    authority_refusal,
    refused,
    refused_before,
)
from core.kernel.decide_risk import RiskSubject, run_risk, with_held
from core.kernel.exits import TERMS_OF_A_CHILD, child_refusal
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.kernel.order_terms import intent_of, is_held_here
from core.risk.checks import RiskDecision
from core.types.authority import ApprovalAuthority, Authority, DerivedAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import JournalEvent, OrderIntended
from core.types.money import decimal_text
from core.types.orders import (
    GroupKind,
    GroupRequest,
    OrderIntent,
    OrderRequest,
    OrderRole,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
    derived_order_id,
    requested_order_id,
)
from core.types.venues import VenueCapabilities


def decide_group(
    kernel: Kernel,
    request: GroupRequest,
    authority: AskedBy,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    *,
    trace_id: str | None = None,
    request_bytes: bytes = b"",
) -> Refusal | tuple[JournalEvent, ...]:
    """All of it or nothing. inputs are those of the first order. A Refusal is a failure of form or authority; what risk
    refuses of the first order is recorded, as for a single one. Asking again gives no event."""
    group_id = requested_order_id(authority_id(authority), request.request_id)
    problem = _shape_problem(request)
    if problem is not None:
        return _invalid(problem)
    if kernel.was_refused(group_id):
        return refused_before(group_id)
    roles = roles_of(request)
    is_known = kernel.knows_order(derived_order_id(group_id, roles[0]))
    intents = leg_intents(kernel, request, group_id, inputs, capabilities, now_ns, is_known=is_known)
    if isinstance(intents, Refusal):
        return intents
    first = intents[roles[0]]
    if is_known:
        if _is_another(kernel, group_id, intents):
            return asked_otherwise(first.client_order_id)
        known = kernel.orders.get(first.client_order_id)
        return asked_before(kernel, known, first, authority, request_bytes, now_ns)
    decisions = leg_decisions(kernel, request.kind, intents, RiskSubject(first), inputs, now_ns)
    asked_first = _as_leg(request, roles[0])
    refusal = authority_refusal(kernel, first, authority, request_bytes, decisions[roles[0]], now_ns)
    refusal = refusal or exits_refusal(decisions)
    if refusal is not None:
        return refusal
    if decisions[roles[0]].refusal is not None:
        return refused(kernel, asked_first, asked_first, authority, inputs, decisions[roles[0]], now_ns, trace_id)
    return leg_events(
        kernel,
        request.kind,
        intents,
        decisions,
        authority,
        inputs,
        capabilities,
        now_ns,
        group_id=group_id,
        trace_id=trace_id,
    )


def leg_intents(
    kernel: Kernel,
    request: GroupRequest,
    group_id: str,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    *,
    is_known: bool = False,
) -> Refusal | dict[OrderRole, OrderIntent]:
    """Each order of a group whose shape is right, the first one first. is_known: it was asked for before."""
    intents: dict[OrderRole, OrderIntent] = {}
    for role in roles_of(request):
        intent = intent_of(
            kernel,
            _as_leg(request, role),
            derived_order_id(group_id, role),
            capabilities,
            inputs,
            now_ns,
            is_of_now=not is_known and (request.kind is GroupKind.OCO or role is OrderRole.ENTRY),
        )
        if isinstance(intent, Refusal):
            return msgspec.structs.replace(intent, message=f"{role}: {intent.message}")
        intents[role] = intent
    problem = _price_problem(request.kind, intents)
    return intents if problem is None else _invalid(problem)


def leg_decisions(
    kernel: Kernel,
    kind: GroupKind,
    intents: dict[OrderRole, OrderIntent],
    first: RiskSubject,
    inputs: DecisionInputs,
    now_ns: int,
) -> dict[OrderRole, RiskDecision]:
    """Risk's word on each; the first one's counts for the group."""
    first_role = next(iter(intents))
    decisions = {
        role: run_risk(kernel, first if role is first_role else RiskSubject(intent), inputs, now_ns)
        for role, intent in intents.items()
    }
    decisions[first_role] = with_held(kernel, first.intent, decisions[first_role], len(intents))
    if kind is GroupKind.OCO:
        # Whichever leg acts, its authority has to cover it.
        worth = [decision.notional for decision in decisions.values() if decision.notional is not None]
        decisions[first_role] = msgspec.structs.replace(decisions[first_role], notional=max(worth, default=None))
    return decisions


def exits_refusal(decisions: dict[OrderRole, RiskDecision]) -> Refusal | None:
    """What can be said already of the orders that wait."""
    exits = list(decisions.items())[1:]
    refusals = (child_refusal(role, decision) for role, decision in exits)
    return next((refusal for refusal in refusals if refusal is not None), None)


def leg_events(
    kernel: Kernel,
    kind: GroupKind,
    intents: dict[OrderRole, OrderIntent],
    decisions: dict[OrderRole, RiskDecision],
    authority: AskedBy | ApprovalAuthority,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    *,
    group_id: str,
    trace_id: str | None,
) -> tuple[OrderIntended, ...]:
    """The whole group, which risk has let through."""
    roles = tuple(intents)
    return tuple(
        _intended(
            kernel,
            kind,
            role,
            intents,
            roles,
            authority,
            decisions[role],
            inputs,
            now_ns,
            group_id=group_id,
            is_held=role is not roles[0] or is_held_here(intents[role].order_type, capabilities),
            trace_id=trace_id,
        )
        for role in roles
    )


def _is_another(kernel: Kernel, group_id: str, intents: dict[OrderRole, OrderIntent]) -> bool:
    """Whether other orders were asked for under this id. What was let go has other terms by then, and says nothing."""
    members = [kernel.orders[order_id] for order_id in kernel.index.groups.get(group_id, ())]
    first = {OrderRole(order.role): order for order in members if order.role is not None and order.replaces is None}
    if first and set(first) != set(intents):
        return True
    return any(first[role].status is OrderStatus.HELD and first[role].intent != intents[role] for role in first)


def _intended(
    kernel: Kernel,
    kind: GroupKind,
    role: OrderRole,
    intents: dict[OrderRole, OrderIntent],
    roles: tuple[OrderRole, ...],
    authority: AskedBy | ApprovalAuthority,
    decision: RiskDecision,
    inputs: DecisionInputs,
    now_ns: int,
    *,
    group_id: str,
    is_held: bool,
    trace_id: str | None,
) -> OrderIntended:
    first_id = intents[roles[0]].client_order_id
    is_first = role is roles[0]
    by: Authority = authority if is_first else DerivedAuthority(first_id, f"{kind.lower()}.{role}")
    assert decision.notional is not None or not is_first, "an order that can't be valued doesn't pass risk"
    return OrderIntended(
        ts_ns=now_ns,
        trace_id=trace_id,
        intent=intents[role],
        authority=by,
        notional_quote=decimal_text(decision.notional or Decimal(0)),
        rules_version=kernel.rules_version,
        market=inputs.market,
        checks=decision.checks
        if is_first
        else tuple(check for check in decision.checks if check.name in TERMS_OF_A_CHILD),
        is_held=is_held,
        group_id=group_id,
        role=role,
        parent_id=first_id if kind is GroupKind.BRACKET and not is_first else None,
    )


def _shape_problem(request: GroupRequest) -> str | None:
    orders = request.orders
    roles = set(orders)
    exits = roles - {OrderRole.ENTRY}
    if request.kind is GroupKind.BRACKET and (OrderRole.ENTRY not in roles or not exits):
        return "a bracket has an entry and a take_profit, a stop, or both"
    if request.kind is GroupKind.OCO and roles != {OrderRole.TAKE_PROFIT, OrderRole.STOP}:
        return "an OCO has a take_profit and a stop"
    one = next(iter(orders.values()))
    for role, order in orders.items():
        if (order.account_id, order.venue, order.symbol, order.strategy_id, order.quantity) != (
            one.account_id,
            one.venue,
            one.symbol,
            one.strategy_id,
            one.quantity,
        ):
            return "account, venue, symbol, strategy and quantity must be the same in all of its orders"
        if role is not OrderRole.ENTRY:
            problem = _exit_problem(role, order)
            if problem is not None:
                return problem
    sides = {orders[role].side for role in exits}
    if len(sides) > 1 or (OrderRole.ENTRY in roles and orders[OrderRole.ENTRY].side in sides):
        return "its exits must be on one side, opposite to its entry"
    return None


def _exit_problem(role: OrderRole, order: OrderRequest) -> str | None:
    kind = order.order_type
    if (role is OrderRole.STOP) is not kind.is_stop or kind is OrderType.MARKET:
        return f"a {kind} order can't be its {role}"
    if order.time_in_force is not TimeInForce.GTC:
        return f"its {role} must be GTC: one that ends by itself would leave the others without their counterpart"
    return None


def _price_problem(kind: GroupKind, intents: dict[OrderRole, OrderIntent]) -> str | None:
    """Exits must lie on either side of each other and of the entry, or one of them would act at once."""
    entry, take_profit, stop = (intents.get(role) for role in OrderRole)
    profit_level = None if take_profit is None else take_profit.stop_price or take_profit.price
    stop_level = None if stop is None else stop.stop_price
    entry_level = None if entry is None else entry.price or entry.stop_price
    one = take_profit or stop
    assert one is not None
    sign = 1 if one.side is Side.SELL else -1
    levels = [sign * level for level in (stop_level, entry_level, profit_level) if level is not None]
    if levels != sorted(set(levels)):
        what = "entry's price" if kind is GroupKind.BRACKET else "stop's price"
        return f"the take_profit must be on the winning side of the {what}, and the stop on the losing side"
    return None


def roles_of(request: GroupRequest) -> tuple[OrderRole, ...]:
    """The first one carries the asker's authority: the entry, or the leg that rests at the venue."""
    return tuple(role for role in OrderRole if role in request.orders)


def _as_leg(request: GroupRequest, role: OrderRole) -> OrderRequest:
    """The order under the group's request id; what leaves a bracket's position can only reduce it."""
    is_exit = request.kind is GroupKind.BRACKET and role is not OrderRole.ENTRY
    order = request.orders[role]
    return msgspec.structs.replace(order, request_id=request.request_id, reduce_only=order.reduce_only or is_exit)


def _invalid(detail: str) -> Refusal:
    return Refusal(ReasonCode.ORDER_GROUP_INVALID, f"The orders can't be taken together: {detail}.")
