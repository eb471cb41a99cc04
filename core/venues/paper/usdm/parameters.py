"""Reading futures request parameters with Binance's refusals."""

from __future__ import annotations

import re
from collections.abc import Container
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from core.types.ids import IdSource
from core.types.orders import Side
from core.venues.paper.decimals import SCALE, UNIT
from core.venues.paper.errors import VenueError, illegal_characters, invalid_symbol, missing_parameter
from core.venues.paper.usdm import errors
from core.venues.paper.usdm.orders import (
    PositionSide,
    PriceMatch,
    SelfTrade,
    Terms,
    TimeInForce,
    Type,
    WorkingType,
)

SYMBOL_LEGAL = "^[A-Z0-9-_.]{1,20}$"
CLIENT_ID_LEGAL = "^[\\.A-Z\\:/a-z0-9_-]{1,36}$"
DECIMAL_LEGAL = "^([0-9]{1,20})(\\.[0-9]{1,20})?$"
INTEGER_LEGAL = "^[0-9]{1,20}$"
MAX_INTEGER = 2**63 - 1
MAX_BATCH_ORDERS = 5
MAX_BATCH_CANCELS = 10
GENERATED_ID_LENGTH = 22

_SYMBOL = re.compile(SYMBOL_LEGAL)
_CLIENT_ID = re.compile(CLIENT_ID_LEGAL)
_DECIMAL = re.compile(r"^(-?)([0-9]{1,20})(?:\.([0-9]{1,20}))?$")
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


def optional_symbol(parameters: Parameters, listed: Container[str]) -> str | None:
    return symbol_of(parameters, listed) if parameters.get("symbol") else None


def integer(parameters: Parameters, name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not _INTEGER.match(text) or int(text) > MAX_INTEGER:
        raise illegal_characters(name, INTEGER_LEGAL)
    return int(text)


def required_integer(parameters: Parameters, name: str) -> int:
    required(parameters, name)
    value = integer(parameters, name)
    assert value is not None
    return value


def limit_of(parameters: Parameters, default: int, maximum: int) -> int:
    limit = integer(parameters, "limit")
    if limit is None:
        return default
    if limit == 0:
        raise VenueError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, maximum)


def boolean(parameters: Parameters, name: str, default: bool = False) -> bool:
    text = parameters.get(name, "").lower()
    if not text:
        return default
    if text not in {"true", "false"}:
        raise VenueError(-1130, f"Data sent for parameter '{name}' is not valid.")
    return text == "true"


def client_id(parameters: Parameters, name: str) -> str | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if len(text) > 36:
        raise VenueError(-4015, "Client order id length should not be more than 36 chars.")
    if not _CLIENT_ID.match(text):
        raise illegal_characters(name, CLIENT_ID_LEGAL)
    return text


def decimal8(parameters: Parameters, name: str) -> int:
    """A required decimal, maybe negative, as int at scale 8: the sign is for the filters to judge."""
    text = required(parameters, name)
    found = _DECIMAL.match(text)
    if not found:
        raise illegal_characters(name, DECIMAL_LEGAL)
    sign, whole, rest = found.groups()
    rest = (rest or "").rstrip("0")
    if len(rest) > SCALE:
        raise errors.precision()
    value = int(whole) * UNIT + int(rest.ljust(SCALE, "0"))
    return -value if sign else value


def optional_decimal8(parameters: Parameters, name: str) -> int:
    """0 when it isn't sent."""
    return decimal8(parameters, name) if parameters.get(name) else 0


def choice(
    parameters: Parameters, name: str, choices: type[Choice], code: int, message: str, default: Choice | None = None
) -> Choice:
    if default is not None and not parameters.get(name):
        return default
    try:
        return choices(required(parameters, name))
    except ValueError as error:
        raise VenueError(code, message) from error


def order_reference(parameters: Parameters) -> tuple[int | None, str | None]:
    """orderId or origClientOrderId; at least one."""
    order_id, name = integer(parameters, "orderId"), client_id(parameters, "origClientOrderId")
    if order_id is None and name is None:
        raise VenueError(-1102, "Either orderId or origClientOrderId must be sent.")
    return order_id, name


def algo_reference(parameters: Parameters) -> tuple[int | None, str | None]:
    """algoId or clientAlgoId; at least one."""
    algo_id, name = integer(parameters, "algoId"), client_id(parameters, "clientAlgoId")
    if algo_id is None and name is None:
        raise VenueError(-1102, "Either algoId or clientAlgoId must be sent.")
    return algo_id, name


def position_side(parameters: Parameters) -> PositionSide:
    return choice(parameters, "positionSide", PositionSide, -4060, "Invalid position side.", PositionSide.BOTH)


def new_order(parameters: Parameters, listed: Container[str], ids: IdSource) -> Terms:
    """POST /fapi/v1/order's parameters: LIMIT and MARKET. Raises VenueError; -4120 for conditional types."""
    terms = _terms(parameters, listed, ids, "newClientOrderId")
    if terms.order_type.is_conditional:
        raise errors.use_algo_endpoint()
    if parameters.get("stopPrice"):
        raise VenueError(-1106, "Parameter 'stopPrice' sent when not required.")
    if parameters.get("closePosition", "").lower() == "true":
        raise VenueError(-4136, "Target strategy invalid for orderType MARKET,closePosition true")
    terms.quantity = decimal8(parameters, "quantity")
    return terms


def new_algo(parameters: Parameters, listed: Container[str], ids: IdSource) -> Terms:
    """POST /fapi/v1/algoOrder's parameters. Raises VenueError."""
    if required(parameters, "algoType") != "CONDITIONAL":
        raise VenueError(-1130, "Data sent for parameter 'algoType' is not valid.")
    terms = _terms(parameters, listed, ids, "clientAlgoId")
    if not terms.order_type.is_conditional:
        raise VenueError(-1116, "Invalid orderType.")
    terms.is_close_position = boolean(parameters, "closePosition")
    if terms.is_close_position:
        if terms.order_type not in {Type.STOP_MARKET, Type.TAKE_PROFIT_MARKET}:
            raise VenueError(-4136, f"Target strategy invalid for orderType {terms.order_type},closePosition true")
        if parameters.get("quantity"):
            raise VenueError(-4137, "Quantity must be zero with closePosition equals true.")
        if terms.is_reduce_only:
            raise VenueError(-1106, "Parameter 'reduceonly' sent when not required.")
    else:
        terms.quantity = decimal8(parameters, "quantity")
    terms.working_type = choice(
        parameters, "workingType", WorkingType, -4031, "Invalid working type", WorkingType.CONTRACT_PRICE
    )
    terms.is_price_protected = boolean(parameters, "priceProtect")
    if terms.order_type is Type.TRAILING_STOP_MARKET:
        terms.callback_rate = decimal8(parameters, "callbackRate")
        # The documentation's name is activatePrice; clients that come from the old endpoint send activationPrice.
        name = "activatePrice" if parameters.get("activatePrice") else "activationPrice"
        terms.activate_price = optional_decimal8(parameters, name)
    else:
        terms.trigger_price = decimal8(parameters, "triggerPrice")
    return terms


def _terms(parameters: Parameters, listed: Container[str], ids: IdSource, id_name: str) -> Terms:
    """What both endpoints share."""
    symbol = symbol_of(parameters, listed)
    side = choice(parameters, "side", Side, -1117, "Invalid side.")
    order_type = choice(parameters, "type", Type, -1116, "Invalid orderType.")
    if order_type is Type.LIQUIDATION:
        raise VenueError(-1116, "Invalid orderType.")
    match = choice(parameters, "priceMatch", PriceMatch, -1130, "Invalid priceMatch.", PriceMatch.NONE)
    force = TimeInForce.GTC
    if order_type is Type.LIMIT:
        force = choice(parameters, "timeInForce", TimeInForce, -1115, "Invalid timeInForce.")
    elif order_type.is_conditional:
        force = choice(parameters, "timeInForce", TimeInForce, -1115, "Invalid timeInForce.", TimeInForce.GTC)
    elif parameters.get("timeInForce"):
        raise VenueError(-1106, "Parameter 'timeinforce' sent when not required.")
    if force is TimeInForce.GTE_GTC and not order_type.is_conditional:
        raise VenueError(-1115, "Invalid timeInForce.")
    price = 0
    if order_type.is_market:
        if parameters.get("price"):
            raise VenueError(-1106, "Parameter 'price' sent when not required.")
    elif match is PriceMatch.NONE:
        price = decimal8(parameters, "price")
    elif parameters.get("price"):
        raise VenueError(-1106, "Parameter 'price' sent when not required.")
    return Terms(
        client_id=client_id(parameters, id_name) or ids.new_ulid()[-GENERATED_ID_LENGTH:],
        symbol=symbol,
        side=side,
        position_side=position_side(parameters),
        order_type=order_type,
        time_in_force=force,
        price=price,
        is_reduce_only=boolean(parameters, "reduceOnly"),
        price_match=match,
        self_trade=choice(
            parameters,
            "selfTradePreventionMode",
            SelfTrade,
            -1130,
            "Invalid selfTradePreventionMode.",
            SelfTrade.EXPIRE_MAKER,
        ),
        good_till_ms=required_integer(parameters, "goodTillDate") if force is TimeInForce.GTD else 0,
    )


def json_list(parameters: Parameters, name: str, most: int) -> list[Any]:
    """A parameter that is a JSON array. Raises VenueError -1130 or -4082."""
    try:
        found = msgspec.json.decode(required(parameters, name), type=list[Any])
    except msgspec.DecodeError as error:
        raise VenueError(-1130, f"Data sent for parameter '{name}' is not valid.") from error
    if not 1 <= len(found) <= most:
        raise VenueError(-4082, "Invalid number of batch place orders.")
    return found


def of_json(content: Any) -> Parameters:
    """A JSON object's members as request parameters: numbers and booleans as their text. Raises VenueError -1130."""
    if not isinstance(content, dict):
        raise VenueError(-1130, "Data sent for parameter 'batchOrders' is not valid.")
    return {str(name): as_text(value) for name, value in content.items() if value is not None}


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
