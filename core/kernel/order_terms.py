"""The terms of an order that is asked for: what makes sense, what the venue takes, what the engine does for it."""

from __future__ import annotations

from decimal import Decimal

from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.money import decimal_text, from_scaled
from core.types.orders import OrderIntent, OrderRequest, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities

REQUEST_ID_LENGTH_LIMIT = 128
EXPIRY_LONGEST_NS = 365 * 24 * 3600 * NS_PER_S
EXPIRY_SHORTEST_NS = NS_PER_S
TRAILING_LIMIT_BPS = 10_000


def is_held_here(order_type: OrderType, capabilities: VenueCapabilities) -> bool:
    """Whether the engine watches the order's condition, because the venue has no such orders."""
    return order_type.is_conditional and order_type not in capabilities.order_types


def intent_of(
    kernel: Kernel,
    request: OrderRequest,
    order_id: str,
    capabilities: VenueCapabilities,
    inputs: DecisionInputs,
    now_ns: int,
    *,
    is_of_now: bool = True,
) -> OrderIntent | Refusal:
    """The intent under this clientOrderId. is_of_now: whether it must make sense at this price and time; not when it
    was asked for before, nor when it waits for its parent."""
    if not 0 < len(request.request_id) <= REQUEST_ID_LENGTH_LIMIT:
        return invalid(f"request_id must have 1 to {REQUEST_ID_LENGTH_LIMIT} characters")
    if (request.venue, request.symbol) not in kernel.listed_keys:
        return Refusal(
            ReasonCode.MARKET_INSTRUMENT_UNKNOWN,
            f"This engine doesn't trade {request.symbol[:32]!r} at {request.venue[:32]!r}. Choose what it lists.",
            actual=f"{request.venue}/{request.symbol}"[:64],
        )
    refusal = (
        _terms_problem(request)
        or _capability_problem(request, capabilities)
        or (_expiry_problem(request, now_ns) or _stop_problem(kernel, request, inputs) if is_of_now else None)
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
            return invalid(f"a {kind} order needs {name}")
        if not belongs and value is not None:
            return invalid(f"a {kind} order has no {name}")
        if value is not None:
            positive[name] = value
    if request.activation_price is not None:
        if not is_trailing:
            return invalid(f"a {kind} order has no activation_price")
        positive["activation_price"] = request.activation_price
    for name, value in positive.items():
        if not 0 < value < 1 << 63:
            return invalid(f"{name} must be positive")
    if is_trailing and positive["trailing_offset_bps"] > TRAILING_LIMIT_BPS:
        return invalid(f"trailing_offset_bps must be at most {TRAILING_LIMIT_BPS}")
    if request.post_only and (
        kind is not OrderType.LIMIT or request.time_in_force not in {TimeInForce.GTC, TimeInForce.GTD}
    ):
        return invalid("post_only goes with a LIMIT order that is GTC or GTD")
    return None


def _capability_problem(request: OrderRequest, capabilities: VenueCapabilities) -> Refusal | None:
    if request.order_type not in capabilities.order_types and not request.order_type.is_conditional:
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


def invalid(detail: str) -> Refusal:
    return Refusal(ReasonCode.REQUEST_INVALID, f"The order can't be taken: {detail}.")
