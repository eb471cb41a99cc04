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
from core.kernel.decide_risk import RiskSubject, run_risk
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.risk.checks import RiskDecision
from core.types.authority import MandateAuthority, SessionAuthority
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import JournalEvent, OrderAmendRequested, OrderIntended, OrderRefused
from core.types.money import decimal_text, from_scaled
from core.types.orders import (
    OrderIntent,
    OrderRequest,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
    requested_order_id,
)
from core.types.venues import VenueCapabilities

REQUEST_ID_LENGTH_LIMIT = 128
EXPIRY_LONGEST_NS = 365 * 24 * 3600 * NS_PER_S
EXPIRY_SHORTEST_NS = NS_PER_S
TRAILING_LIMIT_BPS = 10_000
EXPIRY_REQUESTER = "engine:expiry"

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
    order_id = requested_order_id(authority_id(authority), request.request_id)
    intent = _intent(kernel, request, order_id, capabilities, inputs, now_ns)
    if isinstance(intent, Refusal):
        return intent
    known = kernel.orders.get(order_id)
    if known is not None or kernel.knows_order(order_id):
        return _asked_before(kernel, known, intent, authority, request_bytes, now_ns)
    decision = run_risk(kernel, RiskSubject(intent), inputs, now_ns)
    refusal = _authority_refusal(kernel, intent, authority, request_bytes, decision, now_ns)
    if refusal is not None:
        return refusal
    if decision.refusal is not None:
        return (
            OrderRefused(
                ts_ns=now_ns,
                trace_id=trace_id,
                account_id=request.account_id,
                venue=request.venue,
                symbol=request.symbol,
                request=msgspec.json.encode(request).decode(),
                authority=authority,
                rules_version=kernel.rules_version,
                market=inputs.market,
                checks=decision.checks,
                refusal=decision.refusal,
            ),
        )
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
) -> Refusal | tuple[JournalEvent, ...]:
    """Change a resting order in place, within what the venue can: total quantity, limit price. None leaves as it is."""
    order = kernel.orders.get(order_id)
    if order is None:
        return unknown_order(order_id)
    refusal = _amend_problem(order, quantity, price, capabilities)
    if refusal is None and isinstance(authority, SessionAuthority):
        if authority.request_digest_hex in kernel.documents:
            return Refusal(
                ReasonCode.ORDER_REQUEST_REPEATED, "This request to amend was taken already. Ask with a new one."
            )
        refusal = session_refusal(kernel, authority, request_bytes, order.intent.account_id, None, now_ns)
    elif refusal is None and _mandate_of(order) != authority_id(authority):
        refusal = Refusal(
            ReasonCode.AUTHORITY_MANDATE_LIMIT_EXCEEDED, "A strategy amends only its own mandate's orders."
        )
    if refusal is not None:
        return refusal
    intent = msgspec.structs.replace(
        order.intent,
        quantity=order.intent.quantity if quantity is None else quantity,
        price=order.intent.price if price is None else price,
    )
    # What is filled already isn't asked for again.
    rest = msgspec.structs.replace(intent, quantity=intent.quantity - order.filled_quantity)
    decision = run_risk(kernel, RiskSubject(rest, replaces=order_id, is_amendment=True), inputs, now_ns)
    if decision.refusal is not None:
        return decision.refusal
    assert decision.notional is not None, "an order that can't be valued doesn't pass risk"
    added = amended_quote(order, decision.notional, intent)
    refusal = amend_limit_refusal(kernel, order, rest, authority, decision.notional, added, now_ns)
    if refusal is not None:
        return refusal
    return (
        OrderAmendRequested(
            ts_ns=now_ns,
            trace_id=trace_id or order.trace_id,
            client_order_id=order_id,
            quantity=intent.quantity,
            price=intent.price,
            authority=authority,
            rules_version=kernel.rules_version,
            market=inputs.market,
            checks=decision.checks,
            added_quote=decimal_text(added),
        ),
    )


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


def _intent(
    kernel: Kernel,
    request: OrderRequest,
    order_id: str,
    capabilities: VenueCapabilities,
    inputs: DecisionInputs,
    now_ns: int,
) -> OrderIntent | Refusal:
    if not 0 < len(request.request_id) <= REQUEST_ID_LENGTH_LIMIT:
        return _invalid(f"request_id must have 1 to {REQUEST_ID_LENGTH_LIMIT} characters")
    if (request.venue, request.symbol) not in kernel.listed_keys:
        return Refusal(
            ReasonCode.MARKET_INSTRUMENT_UNKNOWN,
            f"This engine doesn't trade {request.symbol[:32]!r} at {request.venue[:32]!r}. Choose what it lists.",
            actual=f"{request.venue}/{request.symbol}"[:64],
        )
    refusal = (
        _terms_problem(request)
        or _capability_problem(request, capabilities)
        or _expiry_problem(request, now_ns)
        or _stop_problem(kernel, request, inputs)
    )
    if refusal is not None:
        return refusal
    instrument = kernel.instruments[request.venue, request.symbol]
    time_in_force = request.time_in_force
    if time_in_force is TimeInForce.GTD and TimeInForce.GTD not in capabilities.times_in_force:
        # The venue would keep it for ever; decide_expiry cancels it when its time has come.
        time_in_force = TimeInForce.GTC
    return OrderIntent(
        account_id=request.account_id,
        venue=request.venue,
        symbol=request.symbol,
        side=request.side,
        order_type=request.order_type,
        time_in_force=time_in_force,
        quantity=request.quantity,
        price=request.price,
        price_scale=instrument.price_scale,
        quantity_scale=instrument.quantity_scale,
        client_order_id=order_id,
        post_only=request.post_only,
        reduce_only=request.reduce_only,
        stop_price=request.stop_price,
        trailing_offset_bps=request.trailing_offset_bps,
        activation_price=request.activation_price,
        expires_ns=request.expires_ns,
        strategy_id=request.strategy_id,
    )


def _terms_problem(request: OrderRequest) -> Refusal | None:
    kind = request.order_type
    is_trailing = kind is OrderType.TRAILING_STOP
    has_stop = kind.is_conditional and not is_trailing
    positive = {"quantity": request.quantity}
    for name, value, belongs in (
        ("price", request.price, kind.has_limit_price),
        ("stop_price", request.stop_price, has_stop),
        ("trailing_offset_bps", request.trailing_offset_bps, is_trailing),
    ):
        if belongs and value is None:
            return _invalid(f"a {kind} order needs {name}")
        if not belongs and value is not None:
            return _invalid(f"a {kind} order has no {name}")
        if value is not None:
            positive[name] = value
    if request.activation_price is not None:
        if not is_trailing:
            return _invalid(f"a {kind} order has no activation_price")
        positive["activation_price"] = request.activation_price
    for name, value in positive.items():
        if not 0 < value < 1 << 63:
            return _invalid(f"{name} must be positive")
    if is_trailing and positive["trailing_offset_bps"] > TRAILING_LIMIT_BPS:
        return _invalid(f"trailing_offset_bps must be at most {TRAILING_LIMIT_BPS}")
    if request.post_only and (
        kind is not OrderType.LIMIT or request.time_in_force not in {TimeInForce.GTC, TimeInForce.GTD}
    ):
        return _invalid("post_only goes with a LIMIT order that is GTC or GTD")
    return None


def _capability_problem(request: OrderRequest, capabilities: VenueCapabilities) -> Refusal | None:
    if request.order_type not in capabilities.order_types:
        return Refusal(
            ReasonCode.ORDER_TYPE_NOT_SUPPORTED,
            "The venue doesn't take this type of order. Choose another.",
            limit=", ".join(sorted(capabilities.order_types)),
            actual=request.order_type,
        )
    known = capabilities.times_in_force | {TimeInForce.GTD}
    if request.time_in_force not in known or (
        request.order_type is not OrderType.LIMIT and request.time_in_force is TimeInForce.GTD
    ):
        return Refusal(
            ReasonCode.ORDER_TIME_IN_FORCE_NOT_SUPPORTED,
            "The venue doesn't take this time in force for such an order. Choose another.",
            limit=", ".join(sorted(known)),
            actual=request.time_in_force,
        )
    return None


def _expiry_problem(request: OrderRequest, now_ns: int) -> Refusal | None:
    expires_ns = request.expires_ns
    if (request.time_in_force is TimeInForce.GTD) is not (expires_ns is not None):
        return Refusal(ReasonCode.ORDER_EXPIRY_INVALID, "A GTD order, and no other, has expires_ns. Correct the order.")
    if expires_ns is not None and not EXPIRY_SHORTEST_NS <= expires_ns - now_ns <= EXPIRY_LONGEST_NS:
        return Refusal(
            ReasonCode.ORDER_EXPIRY_INVALID,
            "The order must expire between one second and a year from now. Choose another time.",
            limit=str(now_ns + EXPIRY_LONGEST_NS),
            actual=str(expires_ns),
            unit="ns",
        )
    return None


def _stop_problem(kernel: Kernel, request: OrderRequest, inputs: DecisionInputs) -> Refusal | None:
    """A stop on the wrong side of the last trade would trigger at once."""
    if request.stop_price is None or inputs.market.last_price is None:
        return None
    last = Decimal(inputs.market.last_price)
    stop = from_scaled(request.stop_price, kernel.instruments[request.venue, request.symbol].price_scale)
    rises = (request.side is Side.BUY) is (request.order_type in {OrderType.STOP, OrderType.STOP_LIMIT})
    if stop > last if rises else stop < last:
        return None
    return Refusal(
        ReasonCode.ORDER_STOP_PRICE_INVALID,
        f"The order would trigger at once: its stop must be {'above' if rises else 'below'} the last trade.",
        limit=decimal_text(last),
        actual=decimal_text(stop),
        unit="quote",
    )


def _asked_before(
    kernel: Kernel,
    known: Order | None,
    intent: OrderIntent,
    authority: AskedBy,
    request_bytes: bytes,
    now_ns: int,
) -> Refusal | tuple[JournalEvent, ...]:
    if known is not None and known.intent != intent:
        return Refusal(
            ReasonCode.ORDER_REQUEST_REPEATED,
            "Another order was asked for with this request_id, or it was amended since. Ask with a new one.",
            actual=intent.client_order_id,
        )
    if isinstance(authority, SessionAuthority):
        refusal = session_refusal(kernel, authority, request_bytes, intent.account_id, None, now_ns)
        if refusal is not None:
            return refusal
    return ()


def _authority_refusal(
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


def _amend_problem(
    order: Order, quantity: int | None, price: int | None, capabilities: VenueCapabilities
) -> Refusal | None:
    intent = order.intent
    if order.status.is_final:
        return Refusal(
            ReasonCode.ORDER_ALREADY_FINAL,
            f"The order is {order.status}; there is nothing left to amend.",
            actual=order.status,
        )
    if order.pending_amend is not None or order.status not in {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}:
        return Refusal(
            ReasonCode.ORDER_AMEND_PENDING,
            "The venue hasn't answered for this order yet. Ask again in a moment.",
            actual=order.status,
        )
    if not all(0 < value < 1 << 63 for value in (quantity, price) if value is not None):
        return _amend_invalid("quantity and price must be positive")
    if intent.order_type is not OrderType.LIMIT:
        return _amend_invalid(f"a {intent.order_type} order can't be amended; cancel it and ask for another")
    if quantity is not None and quantity <= order.filled_quantity:
        return _amend_invalid("the new total quantity must be above what is filled already")
    if price is not None and price != intent.price and not capabilities.can_amend_price:
        return _amend_invalid("this venue can't change a price in place; cancel the order and ask for another")
    if quantity is not None and quantity > intent.quantity and not capabilities.can_amend_price:
        return _amend_invalid("this venue can only lower a quantity in place; ask for another order beside it")
    if (quantity or intent.quantity, price or intent.price) == (intent.quantity, intent.price):
        return _amend_invalid("neither quantity nor price would change")
    if not capabilities.can_amend_quantity:
        return _amend_invalid("this venue amends nothing in place; cancel the order and ask for another")
    return None


def _mandate_of(order: Order) -> str | None:
    return order.authority.mandate_id if isinstance(order.authority, MandateAuthority) else None


def _amend_invalid(detail: str) -> Refusal:
    return Refusal(ReasonCode.ORDER_AMEND_INVALID, f"The order can't be amended so: {detail}.")


def _invalid(detail: str) -> Refusal:
    return Refusal(ReasonCode.REQUEST_INVALID, f"The order can't be taken: {detail}.")
