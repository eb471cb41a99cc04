"""Orders of spot and USD-M on the wire: an intent as parameters, and an order's terms as the venue tells them.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/trading-endpoints and
https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api.
"""

from __future__ import annotations

import msgspec

from core.types.instruments import Instrument, Product
from core.types.money import parse_scaled, scaled_text
from core.types.orders import OrderIntent, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities
from core.venues.binance.wire import event_ns, short, status_of
from core.venues.ports import VenueOrder

LIMIT_MAKER = "LIMIT_MAKER"
POST_ONLY = "GTX"
"""USD-M's time in force for what must not take."""

SPOT_TYPES: dict[OrderType, str] = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
    OrderType.TAKE_PROFIT: "TAKE_PROFIT",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
    OrderType.TRAILING_STOP: "STOP_LOSS",
}
_SPOT_TYPES_READ = {name: kind for kind, name in SPOT_TYPES.items() if kind is not OrderType.TRAILING_STOP} | {
    LIMIT_MAKER: OrderType.LIMIT
}
_USDM_TYPES_READ = {
    "LIMIT": OrderType.LIMIT,
    "MARKET": OrderType.MARKET,
    "STOP_MARKET": OrderType.STOP,
    "STOP": OrderType.STOP_LIMIT,
    "TAKE_PROFIT_MARKET": OrderType.TAKE_PROFIT,
    "TAKE_PROFIT": OrderType.TAKE_PROFIT_LIMIT,
    "TRAILING_STOP_MARKET": OrderType.TRAILING_STOP,
}
_TIMES_IN_FORCE = {kind.value: kind for kind in TimeInForce} | {POST_ONLY: TimeInForce.GTC}

SPOT_CAPABILITIES = VenueCapabilities(
    order_types=frozenset(SPOT_TYPES),
    times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
    can_amend_quantity=True,
)
USDM_CAPABILITIES = VenueCapabilities(
    # Conditional orders are another service's there, under ids that their orders don't keep: the engine holds them.
    order_types=frozenset({OrderType.LIMIT, OrderType.MARKET}),
    times_in_force=frozenset(TimeInForce),
    can_amend_quantity=True,
    can_amend_price=True,
)


class NewOrderAck(msgspec.Struct, rename="camel", gc=False):
    order_id: int
    symbol: str = ""
    client_order_id: str = ""


class OrderBody(msgspec.Struct, rename="camel"):
    """An order in an answer; the terms are empty where the answer leaves them out."""

    symbol: str
    order_id: int
    client_order_id: str
    executed_qty: str
    status: str
    time: int = 0
    update_time: int = 0
    side: str = ""
    type: str = ""
    time_in_force: str = ""
    orig_qty: str = ""
    price: str = ""
    stop_price: str = ""
    trailing_delta: int = 0
    reduce_only: bool = False


class AmendedBody(msgspec.Struct, rename="camel"):
    symbol: str
    client_order_id: str
    qty: str
    price: str
    status: str


class AmendAnswer(msgspec.Struct, rename="camel"):
    """Of PUT /api/v3/order/amend/keepPriority."""

    amended_order: AmendedBody


class Terms(msgspec.Struct, frozen=True):
    """What an order is, as far as a message tells."""

    side: Side | None = None
    order_type: OrderType | None = None
    time_in_force: TimeInForce | None = None
    quantity: int | None = None
    price: int | None = None
    stop_price: int | None = None
    post_only: bool = False
    reduce_only: bool = False


def terms_of(
    instrument: Instrument,
    *,
    side: str,
    order_type: str,
    time_in_force: str,
    quantity: str,
    price: str,
    stop_price: str,
    is_trailing: bool = False,
    reduce_only: bool = False,
) -> Terms:
    """Types and times in force that this release doesn't know, and prices that are zero, are None.

    Raises ValueError for amounts that make no sense.
    """
    known = _USDM_TYPES_READ if instrument.product is Product.USDM else _SPOT_TYPES_READ
    return Terms(
        side=Side(side) if side else None,
        order_type=OrderType.TRAILING_STOP if is_trailing else known.get(order_type),
        time_in_force=_TIMES_IN_FORCE.get(time_in_force),
        quantity=amount(quantity, instrument.quantity_scale) if quantity else None,
        price=(amount(price, instrument.price_scale) or None) if price else None,
        stop_price=(amount(stop_price, instrument.price_scale) or None) if stop_price else None,
        post_only=order_type == LIMIT_MAKER or time_in_force == POST_ONLY,
        reduce_only=reduce_only,
    )


def amount(text: str, scale: int) -> int:
    """A price or quantity of an order, which is never negative. Raises ValueError."""
    value: int = parse_scaled(text, scale)
    if value < 0:
        raise ValueError(f"{text[:40]!r} is negative")
    return value


def venue_order(
    instrument: Instrument,
    terms: Terms,
    *,
    symbol: str,
    client_order_id: str,
    venue_order_id: int,
    status: str,
    filled: str,
    ts_event_ms: int,
) -> VenueOrder:
    """Raises ValueError for another symbol's order, an unknown status and amounts that make no sense."""
    if symbol != instrument.symbol:
        raise ValueError(f"an order of {symbol[:32]!r} where {instrument.symbol} was asked for")
    if venue_order_id < 0:
        raise ValueError(f"order {client_order_id[:40]!r} has the id {venue_order_id}")
    filled_quantity = amount(filled, instrument.quantity_scale)
    if terms.quantity is not None and filled_quantity > terms.quantity > 0:
        raise ValueError(f"order {client_order_id[:40]!r} is filled beyond its quantity: {filled[:40]}")
    return VenueOrder(
        symbol=symbol,
        client_order_id=short(client_order_id, "clientOrderId"),
        venue_order_id=str(venue_order_id),
        status=status_of(status),
        filled_quantity=filled_quantity,
        ts_event_ns=event_ns(ts_event_ms),
        **msgspec.structs.asdict(terms),
    )


def order_of(body: OrderBody, instrument: Instrument) -> VenueOrder:
    """Raises ValueError."""
    terms = terms_of(
        instrument,
        side=body.side,
        order_type=body.type,
        time_in_force=body.time_in_force,
        quantity=body.orig_qty,
        price=body.price,
        stop_price=body.stop_price,
        is_trailing=body.trailing_delta > 0,
        reduce_only=body.reduce_only,
    )
    return venue_order(
        instrument,
        terms,
        symbol=body.symbol,
        client_order_id=body.client_order_id,
        venue_order_id=body.order_id,
        status=body.status,
        filled=body.executed_qty,
        ts_event_ms=body.update_time or body.time,
    )


def quantity_text(intent: OrderIntent, quantity: int) -> str:
    return scaled_text(quantity, intent.quantity_scale)


def price_text(intent: OrderIntent, price: int) -> str:
    return scaled_text(price, intent.price_scale)


def _common(intent: OrderIntent, order_type: str) -> dict[str, str]:
    """To be acknowledged only: fills come on the user stream."""
    if intent.post_only and intent.order_type is not OrderType.LIMIT:
        raise ValueError(f"a {intent.order_type} order can't be post-only")
    return {
        "symbol": intent.symbol,
        "side": intent.side.value,
        "type": order_type,
        "quantity": quantity_text(intent, intent.quantity),
        "newClientOrderId": intent.client_order_id,
        "newOrderRespType": "ACK",
    }


def _limit_price(intent: OrderIntent) -> str:
    if intent.price is None:
        raise ValueError(f"a {intent.order_type} order needs a price")
    return price_text(intent, intent.price)


def spot_parameters(intent: OrderIntent) -> dict[str, str]:
    """An intent as the parameters of POST /api/v3/order. Raises ValueError for what spot orders can't say.

    That an order may only reduce can't be said there: the engine's own check of it stands alone.
    """
    if intent.order_type.has_limit_price and intent.time_in_force not in SPOT_CAPABILITIES.times_in_force:
        raise ValueError(f"spot orders can't be {intent.time_in_force}")
    order_type = SPOT_TYPES[intent.order_type]
    if intent.order_type is OrderType.TRAILING_STOP and intent.activation_price is not None:
        # A take-profit waits for its price on the way that an activation price is reached, then trails as well.
        order_type = "TAKE_PROFIT"
    parameters = _common(intent, order_type)
    if intent.order_type.has_limit_price:
        parameters["price"] = _limit_price(intent)
        if intent.post_only:
            parameters["type"] = LIMIT_MAKER
        else:
            parameters["timeInForce"] = intent.time_in_force.value
    if intent.order_type is OrderType.TRAILING_STOP:
        if not intent.trailing_offset_bps or intent.trailing_offset_bps < 0:
            raise ValueError("a TRAILING_STOP order needs a trailing offset")
        parameters["trailingDelta"] = str(intent.trailing_offset_bps)
        if intent.activation_price is not None:
            parameters["stopPrice"] = price_text(intent, intent.activation_price)
    elif intent.order_type.is_conditional:
        if intent.stop_price is None:
            raise ValueError(f"a {intent.order_type} order needs a stop price")
        parameters["stopPrice"] = price_text(intent, intent.stop_price)
    return parameters


def usdm_parameters(intent: OrderIntent) -> dict[str, str]:
    """An intent as the parameters of POST /fapi/v1/order, in one-way mode.

    Raises ValueError for what they can't say.
    """
    if intent.order_type not in USDM_CAPABILITIES.order_types:
        raise ValueError(f"USD-M takes no {intent.order_type} here: the engine holds it until it triggers")
    parameters = _common(intent, intent.order_type.value)
    if intent.reduce_only:
        parameters["reduceOnly"] = "true"
    if intent.order_type is OrderType.MARKET:
        return parameters
    parameters["price"] = _limit_price(intent)
    parameters["timeInForce"] = POST_ONLY if intent.post_only else intent.time_in_force.value
    if intent.time_in_force is TimeInForce.GTD:
        if intent.expires_ns is None:
            raise ValueError("a GTD order needs the time when it expires")
        if intent.post_only:
            raise ValueError("USD-M orders can't be post-only and GTD")
        # The venue takes whole seconds in milliseconds; rounded down, so that it never outlives its expiry.
        parameters["goodTillDate"] = str(intent.expires_ns // 1_000_000_000 * 1_000)
    return parameters
