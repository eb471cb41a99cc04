"""Reading new orders and order lists out of request parameters
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/trading-endpoints)."""

from __future__ import annotations

from collections.abc import Container

from core.types.ids import IdSource
from core.types.orders import Side
from core.venues.paper import parameters as read
from core.venues.paper.errors import VenueError, missing_parameter, superfluous_parameter, unsupported_combination
from core.venues.paper.orders import Contingency, NewList, NewOrder, Prevention, Status, TimeInForce, Type
from core.venues.paper.parameters import Parameters
from core.venues.paper.rules import PREVENTION_MODES

MIN_STRATEGY_TYPE = 1_000_000
RESPONSE_TYPES = frozenset({"ACK", "RESULT", "FULL"})
NEEDS_PRICE = frozenset({Type.LIMIT, Type.LIMIT_MAKER, Type.STOP_LOSS_LIMIT, Type.TAKE_PROFIT_LIMIT})
NEEDS_TIME_IN_FORCE = NEEDS_PRICE - {Type.LIMIT_MAKER}


class Names:
    """What the parameters of one leg are called: `price` of an order, `abovePrice` or `pendingPrice` of a list's."""

    def __init__(self, prefix: str = "", **others: str) -> None:
        self._prefix = prefix
        self._others = others

    def __call__(self, name: str) -> str:
        if name in self._others:
            return self._others[name]
        return self._prefix + name[0].upper() + name[1:] if self._prefix else name


PLAIN = Names(client_id="newClientOrderId")


def new_order(parameters: Parameters, listed: Container[str], ids: IdSource) -> NewOrder:
    """POST /api/v3/order's parameters. Raises VenueError."""
    symbol = read.symbol_of(parameters, listed)
    return leg(parameters, PLAIN, symbol, _side(parameters, "side"), ids)


def leg(
    parameters: Parameters,
    names: Names,
    symbol: str,
    side: Side,
    ids: IdSource,
    *,
    order_type: Type | None = None,
    quantity: int | None = None,
) -> NewOrder:
    """One order. order_type and quantity: where they aren't asked for by this leg's own names."""
    if order_type is None:
        order_type = read.choice(parameters, names("type"), Type, -1116, "Invalid orderType.")
    quote_quantity = 0
    if quantity is None:
        quantity, quote_quantity = _quantities(parameters, names, order_type)
    force = _time_in_force(parameters, names, order_type)
    iceberg = read.optional_decimal8(parameters, names("icebergQty"))
    if iceberg and (order_type.is_market or force is not TimeInForce.GTC):
        raise unsupported_combination()
    stop_price, trailing_delta = _stop(parameters, names, order_type)
    return NewOrder(
        symbol=symbol,
        side=side,
        order_type=order_type,
        time_in_force=force,
        price=_price(parameters, names, order_type),
        quantity=quantity,
        quote_quantity=quote_quantity,
        client_order_id=read.new_client_id(parameters, ids, names("client_id")),
        stop_price=stop_price,
        trailing_delta=trailing_delta,
        iceberg_quantity=iceberg,
        self_trade_prevention=prevention(parameters),
        strategy_id=read.integer(parameters, names("strategyId")),
        strategy_type=_strategy_type(parameters, names),
    )


def response_type(parameters: Parameters, default: str) -> str:
    wanted = read.optional(parameters, "newOrderRespType") or default
    if wanted not in RESPONSE_TYPES:
        raise VenueError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    return wanted


def default_response_type(order_type: Type) -> str:
    return "FULL" if order_type in {Type.LIMIT, Type.MARKET} else "ACK"


def prevention(parameters: Parameters) -> Prevention:
    wanted = read.optional(parameters, "selfTradePreventionMode")
    if wanted is None:
        return Prevention.EXPIRE_MAKER
    if wanted not in PREVENTION_MODES:
        raise VenueError(-1130, "Data sent for parameter 'selfTradePreventionMode' is not valid.")
    return Prevention(wanted)


def cancel_restriction(parameters: Parameters) -> Status | None:
    wanted = read.optional(parameters, "cancelRestrictions")
    if wanted is None:
        return None
    statuses = {"ONLY_NEW": Status.NEW, "ONLY_PARTIALLY_FILLED": Status.PARTIALLY_FILLED}
    if wanted not in statuses:
        raise VenueError(
            -1145, "Invalid cancelRestrictions; it has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`."
        )
    return statuses[wanted]


# Order lists


def new_oco(parameters: Parameters, listed: Container[str], ids: IdSource) -> NewList:
    """POST /api/v3/orderList/oco: a leg above and a leg below."""
    symbol = read.symbol_of(parameters, listed)
    side = _side(parameters, "side")
    quantity = read.decimal8(parameters, "quantity")
    legs = [leg(parameters, _list_names(place), symbol, side, ids, quantity=quantity) for place in ("above", "below")]
    return NewList(Contingency.OCO, _list_id(parameters, ids), tuple(legs))


def old_oco(parameters: Parameters, listed: Container[str], ids: IdSource) -> NewList:
    """POST /api/v3/order/oco, deprecated: a LIMIT_MAKER and a stop loss, with a limit when stopLimitPrice is sent."""
    symbol = read.symbol_of(parameters, listed)
    side = _side(parameters, "side")
    quantity = read.decimal8(parameters, "quantity")
    limit_names = Names(
        client_id="limitClientOrderId",
        icebergQty="limitIcebergQty",
        strategyId="limitStrategyId",
        strategyType="limitStrategyType",
    )
    stop_names = Names(
        price="stopLimitPrice",
        timeInForce="stopLimitTimeInForce",
        icebergQty="stopIcebergQty",
        client_id="stopClientOrderId",
        strategyId="stopStrategyId",
        strategyType="stopStrategyType",
    )
    is_limited = read.optional(parameters, "stopLimitPrice") is not None
    stop_type = Type.STOP_LOSS_LIMIT if is_limited else Type.STOP_LOSS
    limit = leg(parameters, limit_names, symbol, side, ids, order_type=Type.LIMIT_MAKER, quantity=quantity)
    stop = leg(parameters, stop_names, symbol, side, ids, order_type=stop_type, quantity=quantity)
    legs = (limit, stop) if side is Side.SELL else (stop, limit)
    return NewList(Contingency.OCO, _list_id(parameters, ids), legs)


def new_oto(parameters: Parameters, listed: Container[str], ids: IdSource) -> NewList:
    """POST /api/v3/orderList/oto: a working order, then a pending one."""
    symbol = read.symbol_of(parameters, listed)
    working = leg(parameters, _list_names("working"), symbol, _side(parameters, "workingSide"), ids)
    pending = leg(parameters, _list_names("pending"), symbol, _side(parameters, "pendingSide"), ids)
    return NewList(Contingency.OTO, _list_id(parameters, ids), (working, pending))


def new_otoco(parameters: Parameters, listed: Container[str], ids: IdSource) -> NewList:
    """POST /api/v3/orderList/otoco: a working order, then a pair."""
    symbol = read.symbol_of(parameters, listed)
    working = leg(parameters, _list_names("working"), symbol, _side(parameters, "workingSide"), ids)
    side = _side(parameters, "pendingSide")
    quantity = read.decimal8(parameters, "pendingQuantity")
    pair = [
        leg(parameters, _list_names(place), symbol, side, ids, quantity=quantity)
        for place in ("pendingAbove", "pendingBelow")
    ]
    return NewList(Contingency.OTO, _list_id(parameters, ids), (working, *pair))


def _list_names(place: str) -> Names:
    return Names(place, client_id=f"{place}ClientOrderId")


def _list_id(parameters: Parameters, ids: IdSource) -> str:
    return read.new_client_id(parameters, ids, "listClientOrderId")


# Parts of an order


def _side(parameters: Parameters, name: str) -> Side:
    return read.choice(parameters, name, Side, -1117, "Invalid side.")


def _quantities(parameters: Parameters, names: Names, order_type: Type) -> tuple[int, int]:
    """(quantity, quoteOrderQty); one of them is 0."""
    if read.optional(parameters, names("quoteOrderQty")) is None:
        return read.decimal8(parameters, names("quantity")), 0
    if order_type is not Type.MARKET or read.optional(parameters, names("quantity")) is not None:
        raise superfluous_parameter(names("quoteOrderQty"))
    budget = read.decimal8(parameters, names("quoteOrderQty"))
    if not budget:
        raise VenueError(-1013, "Invalid quoteOrderQty.")
    return 0, budget


def _time_in_force(parameters: Parameters, names: Names, order_type: Type) -> TimeInForce:
    if order_type in NEEDS_TIME_IN_FORCE:
        return read.choice(parameters, names("timeInForce"), TimeInForce, -1115, "Invalid timeInForce.")
    if read.optional(parameters, names("timeInForce")) is not None:
        raise superfluous_parameter(names("timeInForce"))
    return TimeInForce.GTC


def _price(parameters: Parameters, names: Names, order_type: Type) -> int:
    if order_type in NEEDS_PRICE:
        return read.decimal8(parameters, names("price"))
    if read.optional(parameters, names("price")) is not None:
        raise superfluous_parameter(names("price"))
    return 0


def _stop(parameters: Parameters, names: Names, order_type: Type) -> tuple[int, int]:
    """(stopPrice, trailingDelta): a contingent order has at least one of them."""
    stop_name, delta_name = names("stopPrice"), names("trailingDelta")
    if not order_type.is_contingent:
        # The old OCO has one stopPrice for its two legs: it belongs to the other one.
        if names("client_id") != "limitClientOrderId":
            for name in (stop_name, delta_name):
                if read.optional(parameters, name) is not None:
                    raise superfluous_parameter(name)
        return 0, 0
    delta = read.integer(parameters, delta_name)
    if read.optional(parameters, stop_name) is None:
        if delta is None:
            raise missing_parameter(stop_name)
        return 0, delta
    return read.decimal8(parameters, stop_name), delta or 0


def _strategy_type(parameters: Parameters, names: Names) -> int | None:
    value = read.integer(parameters, names("strategyType"))
    if value is not None and value < MIN_STRATEGY_TYPE:
        raise VenueError(-1134, f"`{names('strategyType')}` was less than {MIN_STRATEGY_TYPE}.")
    return value
