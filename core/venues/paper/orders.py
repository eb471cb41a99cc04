"""Orders, fills and reports of the venue. Prices, quantities and amounts are ints at scale 8."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.types.orders import Side


class Type(StrEnum):
    LIMIT = "LIMIT"
    LIMIT_MAKER = "LIMIT_MAKER"
    MARKET = "MARKET"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class Status(StrEnum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"

    @property
    def is_open(self) -> bool:
        return self in {Status.NEW, Status.PARTIALLY_FILLED}


class Execution(StrEnum):
    """executionReport's x."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    TRADE_PREVENTION = "TRADE_PREVENTION"


class NewOrder(msgspec.Struct, frozen=True):
    """A checked request. price is 0 for MARKET; one of quantity and quote_quantity is 0."""

    symbol: str
    side: Side
    order_type: Type
    time_in_force: TimeInForce
    price: int
    quantity: int
    quote_quantity: int
    client_order_id: str


class Order(msgspec.Struct, kw_only=True):
    """One order of ours. `ahead` is the displayed quantity that trades before it at its price."""

    order_id: int
    client_order_id: str
    symbol: str
    side: Side
    order_type: Type
    time_in_force: TimeInForce
    price: int
    quantity: int
    quote_quantity: int
    executed: int = 0
    cumulative_quote: int = 0
    status: Status = Status.NEW
    created_ms: int
    updated_ms: int
    locked: int = 0
    ahead: int = 0

    @property
    def remaining(self) -> int:
        return self.quantity - self.executed


class Fill(msgspec.Struct, frozen=True):
    trade_id: int
    order_id: int
    symbol: str
    side: Side
    price: int
    quantity: int
    quote_quantity: int
    commission: int
    commission_asset: str
    is_maker: bool
    time_ms: int


class Report(msgspec.Struct, frozen=True):
    """One thing that happened to one order; `order` is a copy of it right after.

    canceled_as is the cancel request's own id, when there was a request.
    """

    execution_id: int
    execution: Execution
    order: Order
    fill: Fill | None
    time_ms: int
    canceled_as: str | None = None
