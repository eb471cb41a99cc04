"""Reading request parameters with Binance's refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from enum import StrEnum
from typing import TypeVar

from core.types.ids import IdSource
from core.types.orders import Side
from core.venues.paper.decimals import SCALE, parse8
from core.venues.paper.errors import (
    VenueError,
    illegal_characters,
    invalid_symbol,
    missing_parameter,
    superfluous_parameter,
)
from core.venues.paper.orders import NewOrder, TimeInForce, Type

SYMBOL_LEGAL = "^[A-Z0-9-_.]{1,20}$"
CLIENT_ID_LEGAL = "^[a-zA-Z0-9-_]{1,36}$"
DECIMAL_LEGAL = "^([0-9]{1,20})(\\.[0-9]{1,20})?$"
INTEGER_LEGAL = "^[0-9]{1,20}$"
MAX_INTEGER = 2**63 - 1
STOP_TYPES = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})
NOT_OFFERED = ("icebergQty", "stopPrice", "trailingDelta", "pegPriceType")
GENERATED_ID_LENGTH = 22

_SYMBOL = re.compile(SYMBOL_LEGAL)
_CLIENT_ID = re.compile(CLIENT_ID_LEGAL)
_DECIMAL = re.compile(DECIMAL_LEGAL)
_INTEGER = re.compile(INTEGER_LEGAL)

Parameters = dict[str, str]
Choice = TypeVar("Choice", bound=StrEnum)


def required(parameters: Parameters, name: str) -> str:
    value = parameters.get(name, "")
    if not value:
        raise missing_parameter(name)
    return value


def symbol_of(parameters: Parameters, listed: Container[str]) -> str:
    symbol = required(parameters, "symbol")
    if not _SYMBOL.match(symbol):
        raise illegal_characters("symbol", SYMBOL_LEGAL)
    if symbol not in listed:
        raise invalid_symbol()
    return symbol


def integer(parameters: Parameters, name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not _INTEGER.match(text) or int(text) > MAX_INTEGER:
        raise illegal_characters(name, INTEGER_LEGAL)
    return int(text)


def limit_of(parameters: Parameters, default: int, maximum: int) -> int:
    limit = integer(parameters, "limit")
    if limit is None:
        return default
    if limit == 0:
        raise VenueError(-1128, "Combination of optional parameters invalid. limit must be above 0.")
    return min(limit, maximum)


def client_id(parameters: Parameters, name: str) -> str | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not _CLIENT_ID.match(text):
        raise illegal_characters(name, CLIENT_ID_LEGAL)
    return text


def new_client_id(parameters: Parameters, ids: IdSource) -> str:
    """The given newClientOrderId, or one made up."""
    return client_id(parameters, "newClientOrderId") or ids.new_ulid()[-GENERATED_ID_LENGTH:]


def decimal8(parameters: Parameters, name: str) -> int:
    """A required decimal as int at scale 8."""
    text = required(parameters, name)
    if not _DECIMAL.match(text):
        raise illegal_characters(name, DECIMAL_LEGAL)
    if len(text.partition(".")[2].rstrip("0")) > SCALE:
        raise VenueError(-1111, f"Parameter '{name}' has too much precision.")
    whole, _, rest = text.partition(".")
    try:
        return parse8(f"{whole}.{rest[:SCALE].ljust(SCALE, '0')}")
    except ValueError as error:
        raise illegal_characters(name, DECIMAL_LEGAL) from error


def order_reference(parameters: Parameters) -> tuple[int | None, str | None]:
    """orderId or origClientOrderId; at least one."""
    order_id, client_order_id = integer(parameters, "orderId"), client_id(parameters, "origClientOrderId")
    if order_id is None and client_order_id is None:
        raise VenueError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    return order_id, client_order_id


def new_order(parameters: Parameters, listed: Container[str], ids: IdSource) -> NewOrder:
    """POST /api/v3/order's parameters. Raises VenueError."""
    symbol = symbol_of(parameters, listed)
    side = _choice(parameters, "side", Side, -1117, "Invalid side.")
    if required(parameters, "type") in STOP_TYPES:
        raise VenueError(-1013, "Stop loss orders are not supported for this symbol.")
    order_type = _choice(parameters, "type", Type, -1116, "Invalid orderType.")
    for name in NOT_OFFERED:
        if parameters.get(name):
            raise superfluous_parameter(name)
    force, price, quote_quantity = TimeInForce.GTC, 0, 0
    if order_type is Type.LIMIT:
        force = _choice(parameters, "timeInForce", TimeInForce, -1115, "Invalid timeInForce.")
    elif parameters.get("timeInForce"):
        raise superfluous_parameter("timeInForce")
    if order_type is Type.MARKET:
        if parameters.get("price"):
            raise superfluous_parameter("price")
        if parameters.get("quoteOrderQty"):
            if parameters.get("quantity"):
                raise superfluous_parameter("quoteOrderQty")
            quote_quantity = decimal8(parameters, "quoteOrderQty")
    else:
        if parameters.get("quoteOrderQty"):
            raise superfluous_parameter("quoteOrderQty")
        price = decimal8(parameters, "price")
    return NewOrder(
        symbol=symbol,
        side=side,
        order_type=order_type,
        time_in_force=force,
        price=price,
        quantity=0 if quote_quantity else decimal8(parameters, "quantity"),
        quote_quantity=quote_quantity,
        client_order_id=new_client_id(parameters, ids),
    )


def _choice(parameters: Parameters, name: str, choices: Callable[[str], Choice], code: int, message: str) -> Choice:
    try:
        return choices(required(parameters, name))
    except ValueError as error:
        raise VenueError(code, message) from error
