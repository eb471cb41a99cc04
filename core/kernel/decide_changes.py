"""What an approval makes of orders, switches and mandates that there are: cancel, amend, tighten, revoke. Pure.

What was shown is part of what was signed. Where it isn't so any more, nothing is done: a person approved something
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from core.authority.listed_orders import listed_orders
from core.authority.proposal_kinds import (
    AmendProposal,
    CancelListedProposal,
    CancelProposal,
    KillSwitchProposal,
    StrategyChangeProposal,
)
from core.authority.proposal_values import MANDATE_LIMITS
from core.kernel.approval import Approval, Caused, refused
from core.kernel.decide import cancel_events, decide_cancel, decide_kill_switch, unknown_order
from core.kernel.decide_authority import decide_mandate_revoke
from core.kernel.decide_orders import amend_events, amend_problem, amended_intents
from core.kernel.decide_risk import RiskSubject, run_risk
from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.risk.checks import RiskDecision
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.events import CausedEvent, MandateTightened
from core.types.money import decimal_text, from_scaled, to_scaled

PASSED = RiskDecision((), None)


def cancel(kernel: Kernel, approval: Approval, proposal: CancelProposal) -> Caused:
    """What reduces needs no risk check."""
    order = _order_as_shown(kernel, proposal)
    if isinstance(order, Refusal):
        return refused(order)
    decided = decide_cancel(kernel, proposal.client_order_id, approval.requested_by, approval.trace_id, approval.now_ns)
    return refused(decided) if isinstance(decided, Refusal) else Caused(PASSED, events=decided)


def cancel_listed(kernel: Kernel, approval: Approval, proposal: CancelListedProposal) -> Caused:
    """Those that are over need no end any more, whether the engine still knows them or not; one that has other terms
    than were shown ends nothing."""
    events: list[CausedEvent] = []
    for listed in listed_orders(proposal.orders):
        order = kernel.orders.get(listed.client_order_id)
        if order is None or order.status.is_final:
            continue
        if order.intent.account_id != proposal.account_id:
            return refused(unknown_order(listed.client_order_id))
        shown = {"venue": proposal.venue} | msgspec.structs.asdict(listed)
        changed = _terms_problem(order, shown)
        if changed is not None:
            return refused(changed)
        events += cancel_events(order, approval.requested_by, approval.trace_id, approval.now_ns)
    if not events:
        return refused(
            Refusal(ReasonCode.ORDER_ALREADY_FINAL, "All of the orders are over; there is nothing left to cancel.")
        )
    return Caused(PASSED, events=tuple(events))


def amend(kernel: Kernel, approval: Approval, proposal: AmendProposal) -> Caused:
    order = _order_as_shown(kernel, proposal)
    if isinstance(order, Refusal):
        return refused(order)
    intent = order.intent
    try:
        quantity = to_scaled(Decimal(proposal.new_quantity), intent.quantity_scale)
        price = to_scaled(Decimal(proposal.new_price), intent.price_scale)
    except ValueError as error:
        return refused(Refusal(ReasonCode.ORDER_AMEND_INVALID, f"The amendment can't be read: {error}."))
    problem = amend_problem(kernel, order, quantity, price)
    if problem is not None:
        return refused(problem)
    amended, rest = amended_intents(order, quantity, price)
    subject = RiskSubject(
        rest,
        replaces=proposal.client_order_id,
        is_amendment=True,
        approvals=approval.approvals,
        reference_price=None if approval.signatures is None else Decimal(proposal.reference_price),
        max_deviation_bps=Decimal(proposal.max_deviation_bps),
    )
    decision = run_risk(kernel, subject, approval.inputs, approval.now_ns)
    if decision.refusal is not None:
        return Caused(decision)
    events = amend_events(
        kernel,
        order,
        amended,
        approval.authority,
        decision,
        approval.inputs,
        approval.capabilities,
        approval.now_ns,
        approval.trace_id,
    )
    return refused(events) if isinstance(events, Refusal) else Caused(decision, events=events)


def tighten_switch(kernel: Kernel, approval: Approval, proposal: KillSwitchProposal) -> Caused:
    """The state that it is in already causes nothing more."""
    elsewhere = _of_another_account(approval)
    if elsewhere is not None:
        return refused(elsewhere)
    decided = decide_kill_switch(
        kernel,
        KillSwitch(proposal.state),
        approval.requested_by,
        proposal.reason,
        approval.trace_id,
        approval.now_ns,
        account_id="" if proposal.scope == "engine" else proposal.account_id,
    )
    return refused(decided) if isinstance(decided, Refusal) else Caused(PASSED, events=decided)


def change_strategy(kernel: Kernel, approval: Approval, proposal: StrategyChangeProposal) -> Caused:
    state = kernel.mandates.get(proposal.mandate_id)
    if state is None or state.mandate.account_id != proposal.account_id:
        return refused(
            Refusal(
                ReasonCode.AUTHORITY_MANDATE_UNKNOWN,
                f"There is no mandate {proposal.mandate_id[:64]} in account {proposal.account_id[:64]}.",
                actual=proposal.mandate_id[:64],
            )
        )
    if state.revoked:
        return refused(Refusal(ReasonCode.AUTHORITY_MANDATE_REVOKED, "The mandate was revoked already."))
    shown = {name: getattr(proposal, name) for name in ("strategy_id", *MANDATE_LIMITS)}
    found = {name: getattr(state.mandate, name) for name in shown}
    if found != shown:
        return refused(_changed("mandate", proposal.mandate_id, shown, found))
    if proposal.action == "revoke":
        decided = decide_mandate_revoke(
            kernel, proposal.mandate_id, approval.requested_by, proposal.reason, approval.now_ns
        )
        return refused(decided) if isinstance(decided, Refusal) else Caused(PASSED, events=decided)
    tightened = MandateTightened(
        ts_ns=approval.now_ns,
        trace_id=approval.trace_id,
        mandate_id=proposal.mandate_id,
        max_order_notional_quote=proposal.new_max_order_notional_quote,
        max_position_notional_quote=proposal.new_max_position_notional_quote,
        max_total_notional_quote=proposal.new_max_total_notional_quote,
        max_open_orders=proposal.new_max_open_orders,
        requested_by=approval.requested_by,
        reason=proposal.reason,
    )
    return Caused(PASSED, events=(tightened,))


def _order_as_shown(kernel: Kernel, proposal: CancelProposal | AmendProposal) -> Order | Refusal:
    """The order that is meant, when it is the account's and is as it was shown."""
    order = kernel.orders.get(proposal.client_order_id)
    if order is None or order.intent.account_id != proposal.account_id:
        return unknown_order(proposal.client_order_id)
    return _terms_problem(order, msgspec.structs.asdict(proposal)) or order


def _terms_problem(order: Order, stated: Mapping[str, str]) -> Refusal | None:
    """Whether the order's terms are those that were stated, as far as they were."""
    found = order_terms(order)
    shown = {name: stated[name] for name in found if name in stated}
    found = {name: found[name] for name in shown}
    return None if found == shown else _changed("order", order.intent.client_order_id, shown, found)


def order_terms(order: Order) -> dict[str, str]:
    """An order's terms as a proposal to change it states them."""
    intent = order.intent

    def price(value: int | None) -> str:
        return "" if value is None else decimal_text(from_scaled(value, intent.price_scale))

    return {
        "venue": intent.venue,
        "symbol": intent.symbol,
        "side": intent.side.value,
        "order_type": intent.order_type.value,
        "quantity": decimal_text(from_scaled(intent.quantity, intent.quantity_scale)),
        "price": price(intent.price),
        "stop_price": price(intent.stop_price),
        "filled_quantity": decimal_text(from_scaled(order.filled_quantity, intent.quantity_scale)),
    }


def _changed(what: str, which: str, shown: dict[str, str], found: dict[str, str]) -> Refusal:
    name = next(name for name in shown if shown[name] != found[name])
    return Refusal(
        ReasonCode.APPROVAL_SUBJECT_CHANGED,
        f"The {what} {which[:64]} isn't as it was shown: its {name} is another. Nothing was done; ask for a new "
        "suggestion.",
        limit=shown[name][:64],
        actual=found[name][:64],
        unit=name,
    )


def _of_another_account(approval: Approval) -> Refusal | None:
    own = approval.inputs.account_id
    if own in {None, approval.proposal.account_id}:
        return None
    return Refusal(
        ReasonCode.AUTHORITY_WRONG_ENGINE,
        f"This engine trades account {str(own)[:64]} only. Nothing was changed; name that one.",
        limit=own,
        actual=approval.proposal.account_id[:64],
    )
