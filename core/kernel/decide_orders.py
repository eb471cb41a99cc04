"""Orders under a session or a mandate: asked for, amended, expired, cancelled together. Pure, as core.kernel.decide."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.kernel.decide import cancel_events, unknown_order
from core.kernel.decide_authority import (
    amend_limit_refusal,
    amended_quote,
    mandate_order_refusal,
    session_refusal,
)
from core.kernel.decide_plain import decide_plain
from core.kernel.decide_risk import RiskSubject, run_risk, with_held
from core.kernel.exits import enlarging_refusal
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.kernel.order_terms import intent_of, is_held_here
from core.orders.machine import Order
from core.risk.checks import RiskDecision
from core.types.authority import ApprovalAuthority, DerivedAuthority, MandateAuthority, SessionAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    CancelRequested,
    JournalEvent,
    OrderAmendRequested,
    OrderClosed,
    OrderIntended,
    OrderRefused,
)
from core.types.money import decimal_text
from core.types.orders import (
    AmendRequest,
    OrderIntent,
    OrderRequest,
    OrderStatus,
    OrderType,
    derived_order_id,
    requested_order_id,
)
from core.types.venues import VenueCapabilities

EXPIRY_REQUESTER = "engine:expiry"
AMEND_REQUESTER = "engine:amendment"

AskedBy = SessionAuthority | MandateAuthority


def authority_id(authority: AskedBy) -> str:
    """Under which request ids are unique."""
    return authority.session_id if isinstance(authority, SessionAuthority) else authority.mandate_id


def decide_order(
    kernel: Kernel,
    request: OrderRequest,
    authority: AskedBy,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    *,
    trace_id: str | None = None,
    request_bytes: bytes = b"",
) -> Refusal | tuple[JournalEvent, ...]:
    """One order. A Refusal is a failure of form or authority: nothing is recorded; what risk refuses is.

    Asking again with the same request_id gives no event: the first order is the answer.
    """
    if isinstance(authority, MandateAuthority):
        plain = decide_plain(kernel, request, authority, inputs, capabilities, now_ns, trace_id)
        if plain is not None:
            return (plain,)
    return decide_any_order(
        kernel, request, authority, inputs, capabilities, now_ns, trace_id=trace_id, request_bytes=request_bytes
    )


def decide_any_order(
    kernel: Kernel,
    request: OrderRequest,
    authority: AskedBy,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    *,
    trace_id: str | None = None,
    request_bytes: bytes = b"",
) -> Refusal | tuple[JournalEvent, ...]:
    """As decide_order, which asks the native side first; what that is held to."""
    order_id = requested_order_id(authority_id(authority), request.request_id)
    if kernel.was_refused(order_id):
        return refused_before(order_id)
    is_known = kernel.knows_order(order_id)
    intent = intent_of(kernel, request, order_id, capabilities, inputs, now_ns, is_of_now=not is_known)
    if isinstance(intent, Refusal):
        return intent
    if is_known:
        known = kernel.orders.get(order_id)
        return asked_before(kernel, known, intent, authority, request_bytes, now_ns)
    decision = run_risk(kernel, RiskSubject(intent), inputs, now_ns)
    is_held = is_held_here(intent.order_type, capabilities)
    if is_held:
        decision = with_held(kernel, intent, decision, 1)
    refusal = authority_refusal(kernel, intent, authority, request_bytes, decision, now_ns)
    if refusal is not None:
        return refusal
    if decision.refusal is not None:
        return refused(kernel, request, request, authority, inputs, decision, now_ns, trace_id)
    assert decision.notional is not None, "an order that can't be valued doesn't pass risk"
    return (
        OrderIntended(
            ts_ns=now_ns,
            trace_id=trace_id,
            intent=intent,
            authority=authority,
            notional_quote=decimal_text(decision.notional),
            rules_version=kernel.rules_version,
            market=inputs.market,
            checks=decision.checks,
            is_held=is_held,
        ),
    )


def decide_amend(
    kernel: Kernel,
    order_id: str,
    quantity: int | None,
    price: int | None,
    authority: AskedBy,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    *,
    trace_id: str | None = None,
    request_bytes: bytes = b"",
    request_id: str = "",
) -> Refusal | tuple[JournalEvent, ...]:
    """Change a resting order's total quantity or limit price; None leaves it as it is.

    In place where the venue can, else by cancelling it and sending another for the rest, once what it filled is known.
    """
    order = kernel.orders.get(order_id)
    if order is None:
        return unknown_order(order_id)
    if authority.request_digest_hex and authority.request_digest_hex in kernel.documents:
        return Refusal(
            ReasonCode.ORDER_REQUEST_REPEATED, "This request to amend was answered already. Ask with a new one."
        )
    refusal = amend_problem(kernel, order, quantity, price)
    if refusal is None and isinstance(authority, SessionAuthority):
        refusal = session_refusal(kernel, authority, request_bytes, order.intent.account_id, None, now_ns)
    elif refusal is None and mandate_of(kernel, order) != authority_id(authority):
        refusal = Refusal(
            ReasonCode.AUTHORITY_MANDATE_LIMIT_EXCEEDED, "A strategy amends only its own mandate's orders."
        )
    if refusal is not None:
        return refusal
    intent, rest = amended_intents(order, quantity, price)
    decision = run_risk(kernel, RiskSubject(rest, replaces=order_id, is_amendment=True), inputs, now_ns)
    if decision.refusal is not None:
        asked = AmendRequest(request_id, order_id, intent.quantity, intent.price)
        return refused(kernel, asked, intent, authority, inputs, decision, now_ns, trace_id)
    assert decision.notional is not None, "an order that can't be valued doesn't pass risk"
    added = amended_quote(order, decision.notional, intent)
    refusal = amend_limit_refusal(kernel, order, rest, authority, decision.notional, added, now_ns)
    if refusal is not None:
        return refusal
    return amend_events(kernel, order, intent, authority, decision, inputs, capabilities, now_ns, trace_id)


def amended_intents(order: Order, quantity: int | None, price: int | None) -> tuple[OrderIntent, OrderIntent]:
    """The order as it would be, and what of that isn't filled already, which alone is asked for again."""
    intent = msgspec.structs.replace(
        order.intent,
        quantity=order.intent.quantity if quantity is None else quantity,
        price=order.intent.price if price is None else price,
    )
    return intent, msgspec.structs.replace(intent, quantity=intent.quantity - order.filled_quantity)


def amend_events(
    kernel: Kernel,
    order: Order,
    intent: OrderIntent,
    authority: AskedBy | ApprovalAuthority,
    decision: RiskDecision,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    trace_id: str | None,
) -> Refusal | tuple[OrderAmendRequested | OrderIntended | CancelRequested | OrderClosed, ...]:
    """What makes a resting order so, in place or by another one; decision has let it through."""
    refusal = enlarging_refusal(kernel, order, intent, inputs, now_ns)
    if refusal is not None:
        return refusal
    if not _amends_in_place(order, intent, capabilities):
        return _replace(kernel, order, intent, authority, decision, inputs, now_ns, trace_id)
    assert decision.notional is not None, "an order that can't be valued doesn't pass risk"
    return (
        OrderAmendRequested(
            ts_ns=now_ns,
            trace_id=trace_id or order.trace_id,
            client_order_id=order.intent.client_order_id,
            quantity=intent.quantity,
            price=intent.price,
            authority=authority,
            rules_version=kernel.rules_version,
            market=inputs.market,
            checks=decision.checks,
            added_quote=decimal_text(amended_quote(order, decision.notional, intent)),
        ),
    )


def _amends_in_place(order: Order, wanted: OrderIntent, capabilities: VenueCapabilities) -> bool:
    if capabilities.can_amend_price:
        return True
    only_less = wanted.price == order.intent.price and wanted.quantity < order.intent.quantity
    return capabilities.can_amend_quantity and only_less


def _replace(
    kernel: Kernel,
    order: Order,
    wanted: OrderIntent,
    authority: AskedBy | ApprovalAuthority,
    decision: RiskDecision,
    inputs: DecisionInputs,
    now_ns: int,
    trace_id: str | None,
) -> Refusal | tuple[OrderIntended | CancelRequested | OrderClosed, ...]:
    """Cancel an order and hold another in its place, which goes to the venue for what the first leaves unfilled."""
    old_id = order.intent.client_order_id
    intent = msgspec.structs.replace(
        wanted, client_order_id=derived_order_id(old_id, f"amended:{wanted.quantity}:{wanted.price}")
    )
    if kernel.knows_order(intent.client_order_id):
        return Refusal(
            ReasonCode.ORDER_REQUEST_REPEATED,
            "The order was amended to these terms before. Look at the order that replaces it.",
            actual=intent.client_order_id,
        )
    assert decision.notional is not None, "it was valued a moment ago"
    replacement = OrderIntended(
        ts_ns=now_ns,
        trace_id=trace_id or order.trace_id,
        intent=intent,
        authority=authority,
        notional_quote=decimal_text(decision.notional),
        rules_version=kernel.rules_version,
        market=inputs.market,
        checks=decision.checks,
        is_held=True,
        group_id=order.group_id,
        role=order.role,
        parent_id=order.parent_id,
        replaces=old_id,
    )
    return (replacement, *cancel_events(order, AMEND_REQUESTER, trace_id, now_ns))


def decide_cancel_all(
    kernel: Kernel,
    account_id: str,
    symbol: str | None,
    requested_by: str,
    now_ns: int,
    *,
    trace_id: str | None = None,
) -> tuple[JournalEvent, ...]:
    """A safety command for everything open in an account, or in one symbol of it."""
    return tuple(
        event
        for order in kernel.open_orders()
        if order.intent.account_id == account_id and symbol in {None, order.intent.symbol}
        for event in cancel_events(order, requested_by, trace_id, now_ns)
    )


def decide_expiry(kernel: Kernel, now_ns: int) -> tuple[JournalEvent, ...]:
    """Cancel what is good until a time that has come; asked once of each order."""
    return tuple(
        event
        for order in kernel.open_orders()
        if order.intent.expires_ns is not None and order.intent.expires_ns <= now_ns and not order.cancel_requested
        for event in cancel_events(order, EXPIRY_REQUESTER, None, now_ns)
    )


def refused(
    kernel: Kernel,
    request: OrderRequest | AmendRequest,
    terms: OrderRequest | OrderIntent,
    authority: AskedBy,
    inputs: DecisionInputs,
    decision: RiskDecision,
    now_ns: int,
    trace_id: str | None,
) -> tuple[OrderRefused]:
    """What risk said no to, for the record. terms tell of which account and market it is."""
    assert decision.refusal is not None
    return (
        OrderRefused(
            ts_ns=now_ns,
            trace_id=trace_id,
            account_id=terms.account_id,
            venue=terms.venue,
            symbol=terms.symbol,
            request=msgspec.json.encode(request).decode(),
            authority=authority,
            rules_version=kernel.rules_version,
            market=inputs.market,
            checks=decision.checks,
            refusal=decision.refusal,
        ),
    )


def refused_before(order_id: str) -> Refusal:
    return Refusal(
        ReasonCode.ORDER_REQUEST_REPEATED,
        f"Risk refused this request when it came first: `veloz risk explain {order_id}`. Ask with a new request_id.",
        actual=order_id,
    )


def asked_otherwise(order_id: str) -> Refusal:
    return Refusal(
        ReasonCode.ORDER_REQUEST_REPEATED,
        "Another order was asked for with this request_id, or it was amended since. Ask with a new one.",
        actual=order_id,
    )


def asked_before(
    kernel: Kernel,
    known: Order | None,
    intent: OrderIntent,
    authority: AskedBy,
    request_bytes: bytes,
    now_ns: int,
) -> Refusal | tuple[JournalEvent, ...]:
    if known is not None and known.intent != intent:
        return asked_otherwise(intent.client_order_id)
    if isinstance(authority, SessionAuthority):
        refusal = session_refusal(kernel, authority, request_bytes, intent.account_id, None, now_ns)
        if refusal is not None:
            return refusal
    return ()


def authority_refusal(
    kernel: Kernel,
    intent: OrderIntent,
    authority: AskedBy,
    request_bytes: bytes,
    decision: RiskDecision,
    now_ns: int,
) -> Refusal | None:
    notional = decision.notional
    if isinstance(authority, SessionAuthority):
        return session_refusal(kernel, authority, request_bytes, intent.account_id, notional, now_ns)
    return mandate_order_refusal(kernel, authority, intent, Decimal(0) if notional is None else notional, now_ns)


def amend_problem(kernel: Kernel, order: Order, quantity: int | None, price: int | None) -> Refusal | None:
    intent = order.intent
    if order.status.is_final:
        return Refusal(
            ReasonCode.ORDER_ALREADY_FINAL,
            f"The order is {order.status}; there is nothing left to amend.",
            actual=order.status,
        )
    if order.status is OrderStatus.HELD:
        return _amend_invalid("it is held here and not at the venue yet; cancel it and ask for another")
    is_waiting = order.pending_amend is not None or order.cancel_requested
    if is_waiting or order.status not in {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}:
        return Refusal(
            ReasonCode.ORDER_AMEND_PENDING,
            "The venue hasn't answered for this order yet. Ask again in a moment.",
            actual="cancel requested" if order.cancel_requested else order.status,
        )
    if not all(0 < value < 1 << 63 for value in (quantity, price) if value is not None):
        return _amend_invalid("quantity and price must be positive")
    if intent.order_type is not OrderType.LIMIT:
        return _amend_invalid(f"a {intent.order_type} order can't be amended; cancel it and ask for another")
    if quantity is not None and quantity <= order.filled_quantity:
        return _amend_invalid("the new total quantity must be above what is filled already")
    if quantity is not None and quantity > intent.quantity and order.parent_id is not None:
        return _amend_invalid("an exit can't be made larger than what its entry has filled")
    if (quantity or intent.quantity, price or intent.price) == (intent.quantity, intent.price):
        return _amend_invalid("neither quantity nor price would change")
    return None


def mandate_of(kernel: Kernel, order: Order) -> str | None:
    """Of the order that it is derived from, when it is."""
    origin: Order | None = order
    while origin is not None and isinstance(origin.authority, DerivedAuthority):
        origin = kernel.orders.get(origin.authority.parent_id)
    authority = None if origin is None else origin.authority
    return authority.mandate_id if isinstance(authority, MandateAuthority) else None


def _amend_invalid(detail: str) -> Refusal:
    return Refusal(ReasonCode.ORDER_AMEND_INVALID, f"The order can't be amended so: {detail}.")
