"""Reading request parameters with Binance's refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from core.types.ids import IdSource
from core.venues.paper.decimals import SCALE, parse8
from core.venues.paper.errors import VenueError, illegal_characters, invalid_symbol, missing_parameter

SYMBOL_LEGAL = "^[A-Z0-9-_.]{1,20}$"
SYMBOLS_LEGAL = '^\\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\\]$'
CLIENT_ID_LEGAL = "^[a-zA-Z0-9-_]{1,36}$"
DECIMAL_LEGAL = "^([0-9]{1,20})(\\.[0-9]{1,20})?$"
INTEGER_LEGAL = "^[0-9]{1,20}$"
MAX_INTEGER = 2**63 - 1
GENERATED_ID_LENGTH = 22
FIRST_MICROSECOND_TIMESTAMP = 10**14
"""A time above this (the year 5138 in milliseconds) is in microseconds."""

_SYMBOL = re.compile(SYMBOL_LEGAL)
_CLIENT_ID = re.compile(CLIENT_ID_LEGAL)
_DECIMAL = re.compile(DECIMAL_LEGAL)
_INTEGER = re.compile(INTEGER_LEGAL)

Choice = TypeVar("Choice", bound=StrEnum)


class Parameters(dict[str, str]):
    """A request's parameters, which remembers what was read of it: Binance refuses what it doesn't know."""

    def __init__(self, *given: Any, **named: str) -> None:
        super().__init__(*given, **named)
        self._read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        return super().get(name, default)

    def all_read(self) -> None:
        """To be called before anything is changed. Raises VenueError -1101 or -1104."""
        known = sum(name in self._read for name in self)
        if known == len(self):
            return
        if not known:
            raise VenueError(-1101, f"Too many parameters; expected '0' and received '{len(self)}'.")
        raise VenueError(
            -1104, f"Not all sent parameters were read; read '{known}' parameter(s) but was sent '{len(self)}'."
        )


def optional(parameters: Parameters, name: str) -> str | None:
    """None when it wasn't sent. Raises VenueError -1105 when it was sent without a value."""
    value: str | None = parameters.get(name)
    if value == "":
        raise VenueError(-1105, f"Parameter '{name}' was empty.")
    return value


def required(parameters: Parameters, name: str) -> str:
    value: str = parameters.get(name, "")
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
    return None if optional(parameters, "symbol") is None else symbol_of(parameters, listed)


def symbols_of(parameters: Parameters, listed: Container[str]) -> list[str] | None:
    """The `symbols` list, as JSON; None when it wasn't sent. Raises VenueError -1100, -1121, -1128 or -1151."""
    text = optional(parameters, "symbols")
    if text is None:
        return None
    if optional(parameters, "symbol") is not None:
        raise bad_combination()
    try:
        names = msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError as error:
        raise illegal_characters("symbols", SYMBOLS_LEGAL) from error
    if not names:
        raise illegal_characters("symbols", SYMBOLS_LEGAL)
    if len(set(names)) < len(names):
        raise VenueError(-1151, "Symbol is present multiple times in the list.")
    if not all(name in listed for name in names):
        raise invalid_symbol()
    return names


def integer(parameters: Parameters, name: str) -> int | None:
    text = optional(parameters, name)
    if text is None:
        return None
    if not _INTEGER.match(text):
        raise illegal_characters(name, INTEGER_LEGAL)
    if int(text) > MAX_INTEGER:
        raise overflow(name)
    return int(text)


def time_ms(parameters: Parameters, name: str) -> int | None:
    """A time in milliseconds; it may be sent in microseconds."""
    value = integer(parameters, name)
    return value // 1_000 if value is not None and value >= FIRST_MICROSECOND_TIMESTAMP else value


def time_range(parameters: Parameters) -> tuple[int | None, int | None]:
    """startTime and endTime. Raises VenueError -1128 when the end is before the start."""
    start_ms, end_ms = time_ms(parameters, "startTime"), time_ms(parameters, "endTime")
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        raise bad_combination()
    return start_ms, end_ms


def limit_of(parameters: Parameters, default: int, maximum: int) -> int:
    limit = integer(parameters, "limit")
    if limit is None:
        return default
    if limit == 0:
        raise VenueError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, maximum)


def boolean(parameters: Parameters, name: str, default: bool) -> bool:
    text = optional(parameters, name)
    if text is None:
        return default
    if text.lower() not in {"true", "false"}:
        raise illegal_characters(name, "^(true|false)$")
    return text.lower() == "true"


def choice(parameters: Parameters, name: str, choices: Callable[[str], Choice], code: int, message: str) -> Choice:
    """A required word. Raises VenueError with the given code when it is none of the choices."""
    try:
        return choices(required(parameters, name))
    except ValueError as error:
        raise VenueError(code, message) from error


def client_id(parameters: Parameters, name: str) -> str | None:
    text = optional(parameters, name)
    if text is not None and not _CLIENT_ID.match(text):
        raise illegal_characters(name, CLIENT_ID_LEGAL)
    return text


def new_client_id(parameters: Parameters, ids: IdSource, name: str = "newClientOrderId") -> str:
    """The given id, or one made up."""
    return client_id(parameters, name) or ids.new_ulid()[-GENERATED_ID_LENGTH:]


def decimal8(parameters: Parameters, name: str) -> int:
    """A required decimal as int at scale 8."""
    text = required(parameters, name)
    if not _DECIMAL.match(text):
        raise illegal_characters(name, DECIMAL_LEGAL)
    whole, _, rest = text.partition(".")
    if len(rest.rstrip("0")) > SCALE:
        raise VenueError(-1111, f"Parameter '{name}' has too much precision.")
    value = parse8(f"{whole}.{rest[:SCALE].ljust(SCALE, '0')}")
    if value > MAX_INTEGER:
        raise overflow(name)
    return value


def optional_decimal8(parameters: Parameters, name: str) -> int:
    """0 when it wasn't sent."""
    return 0 if optional(parameters, name) is None else decimal8(parameters, name)


def order_reference(
    parameters: Parameters, id_name: str = "orderId", client_name: str = "origClientOrderId"
) -> tuple[int | None, str | None]:
    """An order's two ids; at least one."""
    order_id, client_order_id = integer(parameters, id_name), client_id(parameters, client_name)
    if order_id is None and client_order_id is None:
        raise VenueError(-1102, f"Param '{client_name}' or '{id_name}' must be sent, but both were empty/null!")
    return order_id, client_order_id


def bad_combination() -> VenueError:
    return VenueError(-1128, "Combination of optional parameters invalid.")


def overflow(name: str) -> VenueError:
    return VenueError(-1108, f"Parameter '{name}' overflowed.")
