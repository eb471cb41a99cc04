"""Orders, order lists, fills and reports of the venue. Prices, quantities and amounts are ints at scale 8."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.types.orders import Side

NO_LIST = -1


class Type(StrEnum):
    LIMIT = "LIMIT"
    LIMIT_MAKER = "LIMIT_MAKER"
    MARKET = "MARKET"
    STOP_LOSS = "STOP_LOSS"
    STOP_LOSS_LIMIT = "STOP_LOSS_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"

    @property
    def is_contingent(self) -> bool:
        """Waits for a price before it works."""
        return self in {Type.STOP_LOSS, Type.STOP_LOSS_LIMIT, Type.TAKE_PROFIT, Type.TAKE_PROFIT_LIMIT}

    @property
    def is_stop_loss(self) -> bool:
        return self in {Type.STOP_LOSS, Type.STOP_LOSS_LIMIT}

    @property
    def is_market(self) -> bool:
        """Has no price of its own, whether it works at once or when triggered."""
        return self in {Type.MARKET, Type.STOP_LOSS, Type.TAKE_PROFIT}


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class Prevention(StrEnum):
    """selfTradePreventionMode."""

    NONE = "NONE"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"

    @property
    def ends_taker(self) -> bool:
        return self in {Prevention.EXPIRE_TAKER, Prevention.EXPIRE_BOTH}

    @property
    def ends_maker(self) -> bool:
        return self in {Prevention.EXPIRE_MAKER, Prevention.EXPIRE_BOTH}


class Status(StrEnum):
    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"

    @property
    def is_open(self) -> bool:
        return self in {Status.PENDING_NEW, Status.NEW, Status.PARTIALLY_FILLED}


class Execution(StrEnum):
    """executionReport's x."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    REPLACED = "REPLACED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    TRADE_PREVENTION = "TRADE_PREVENTION"


class NewOrder(msgspec.Struct, frozen=True):
    """A checked request. price is 0 for orders without one; one of quantity and quote_quantity is 0.

    stop_price is 0 for none; trailing_delta in basis points, 0 for none; iceberg_quantity is 0 for none.
    """

    symbol: str
    side: Side
    order_type: Type
    time_in_force: TimeInForce
    price: int
    quantity: int
    quote_quantity: int
    client_order_id: str
    stop_price: int = 0
    trailing_delta: int = 0
    iceberg_quantity: int = 0
    self_trade_prevention: Prevention = Prevention.EXPIRE_MAKER
    strategy_id: int | None = None
    strategy_type: int | None = None


class Order(msgspec.Struct, kw_only=True):
    """One order of ours.

    ahead: the displayed quantity that trades before it at its price. visible: what an iceberg still displays.
    is_working: on the book, or done; a contingent order isn't until triggered, a pending one until its turn.
    extreme: the best price since a trailing order began to trail, at trailing_ms; 0 before that.
    """

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
    stop_price: int = 0
    trailing_delta: int = 0
    iceberg_quantity: int = 0
    visible: int = 0
    self_trade_prevention: Prevention = Prevention.EXPIRE_MAKER
    list_id: int = NO_LIST
    is_working: bool = True
    working_ms: int = -1
    extreme: int = 0
    trailing_ms: int = 0
    strategy_id: int | None = None
    strategy_type: int | None = None
    prevented: int = 0
    prevented_match_id: int | None = None
    amendments: int = 0

    @property
    def remaining(self) -> int:
        return self.quantity - self.executed

    def as_request(self) -> NewOrder:
        """What was asked for, as it stands now."""
        return NewOrder(
            symbol=self.symbol,
            side=self.side,
            order_type=self.order_type,
            time_in_force=self.time_in_force,
            price=self.price,
            quantity=self.quantity,
            quote_quantity=self.quote_quantity,
            client_order_id=self.client_order_id,
            stop_price=self.stop_price,
            trailing_delta=self.trailing_delta,
            iceberg_quantity=self.iceberg_quantity,
            self_trade_prevention=self.self_trade_prevention,
            strategy_id=self.strategy_id,
            strategy_type=self.strategy_type,
        )


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
    list_id: int = NO_LIST


class PreventedMatch(msgspec.Struct, frozen=True):
    """Two orders of ours that would have traded with each other; a quantity is 0 for the side that goes on."""

    match_id: int
    symbol: str
    taker_order_id: int
    maker_order_id: int
    price: int
    prevention: Prevention
    taker_quantity: int
    maker_quantity: int
    time_ms: int


class Amendment(msgspec.Struct, frozen=True):
    """A reduction of an order's quantity that kept its place."""

    execution_id: int
    order_id: int
    symbol: str
    old_client_order_id: str
    new_client_order_id: str
    old_quantity: int
    new_quantity: int
    time_ms: int


class Report(msgspec.Struct, frozen=True):
    """One thing that happened to one order; `order` is a copy of it right after.

    canceled_as is the cancel (or amend) request's own id, when there was a request. reason is r, why it was rejected.
    """

    execution_id: int
    execution: Execution
    order: Order
    fill: Fill | None
    time_ms: int
    canceled_as: str | None = None
    prevented: PreventedMatch | None = None
    reason: str = "NONE"
    amendment: Amendment | None = None


class Placed(msgspec.Struct, frozen=True):
    """What became of a new order in the request that placed it."""

    order: Order
    fills: list[Fill]
    prevented: list[PreventedMatch]


class Contingency(StrEnum):
    """OTOCO is an OTO whose second part is a pair."""

    OCO = "OCO"
    OTO = "OTO"


class ListStatusType(StrEnum):
    EXEC_STARTED = "EXEC_STARTED"
    UPDATED = "UPDATED"
    ALL_DONE = "ALL_DONE"


class ListOrderStatus(StrEnum):
    EXECUTING = "EXECUTING"
    ALL_DONE = "ALL_DONE"


class NewList(msgspec.Struct, frozen=True):
    """orders: the pair of an OCO (above first), or the working order of an OTO followed by one or two pending ones."""

    contingency: Contingency
    client_list_id: str
    orders: tuple[NewOrder, ...]


class OrderList(msgspec.Struct, kw_only=True):
    """Orders that depend on each other. order_ids in the order they were given; client_ids beside them."""

    list_id: int
    contingency: Contingency
    client_list_id: str
    symbol: str
    order_ids: tuple[int, ...]
    client_ids: tuple[str, ...]
    status_type: ListStatusType = ListStatusType.EXEC_STARTED
    order_status: ListOrderStatus = ListOrderStatus.EXECUTING
    created_ms: int
    updated_ms: int

    @property
    def is_open(self) -> bool:
        return self.order_status is ListOrderStatus.EXECUTING

    def rivals(self, order_id: int) -> tuple[int, ...]:
        """The orders of which only one may trade with this one's money: the other leg of a pair."""
        pair = self.order_ids if self.contingency is Contingency.OCO else self.order_ids[1:]
        return tuple(other for other in pair if other != order_id) if order_id in pair else ()

    def pending(self, order_id: int) -> tuple[int, ...]:
        """The orders that wait for this one to fill."""
        is_working_order = self.contingency is Contingency.OTO and order_id == self.order_ids[0]
        return self.order_ids[1:] if is_working_order else ()


class ListReport(msgspec.Struct, frozen=True):
    """A change of an order list; `orders` is a copy of it right after."""

    orders: OrderList
    time_ms: int
