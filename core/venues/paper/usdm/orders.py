"""Orders, conditional (algo) orders, fills, positions and what is told of them. Ints at scale 8."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from core.types.orders import Side


class Type(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP = "STOP"
    STOP_MARKET = "STOP_MARKET"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_MARKET = "TAKE_PROFIT_MARKET"
    TRAILING_STOP_MARKET = "TRAILING_STOP_MARKET"
    LIQUIDATION = "LIQUIDATION"

    @property
    def is_conditional(self) -> bool:
        return self not in {Type.LIMIT, Type.MARKET, Type.LIQUIDATION}

    @property
    def is_market(self) -> bool:
        return self not in {Type.LIMIT, Type.STOP, Type.TAKE_PROFIT}

    @property
    def is_stop(self) -> bool:
        return self in {Type.STOP, Type.STOP_MARKET}


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTX = "GTX"
    GTD = "GTD"
    GTE_GTC = "GTE_GTC"

    @property
    def may_rest(self) -> bool:
        return self not in {TimeInForce.IOC, TimeInForce.FOK}


class PositionSide(StrEnum):
    BOTH = "BOTH"
    LONG = "LONG"
    SHORT = "SHORT"


class WorkingType(StrEnum):
    CONTRACT_PRICE = "CONTRACT_PRICE"
    MARK_PRICE = "MARK_PRICE"


class SelfTrade(StrEnum):
    """NONE is taken as EXPIRE_MAKER: two orders of this account never trade with each other here."""

    NONE = "NONE"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"


class PriceMatch(StrEnum):
    NONE = "NONE"
    OPPONENT = "OPPONENT"
    OPPONENT_5 = "OPPONENT_5"
    OPPONENT_10 = "OPPONENT_10"
    OPPONENT_20 = "OPPONENT_20"
    QUEUE = "QUEUE"
    QUEUE_5 = "QUEUE_5"
    QUEUE_10 = "QUEUE_10"
    QUEUE_20 = "QUEUE_20"

    @property
    def level(self) -> int:
        """Counted from 1, the best."""
        return int(self.value.partition("_")[2] or 1)


class MarginType(StrEnum):
    CROSSED = "CROSSED"
    ISOLATED = "ISOLATED"


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


class AlgoStatus(StrEnum):
    NEW = "NEW"
    CANCELED = "CANCELED"
    TRIGGERING = "TRIGGERING"
    TRIGGERED = "TRIGGERED"
    FINISHED = "FINISHED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"

    @property
    def is_open(self) -> bool:
        return self is AlgoStatus.NEW


class Execution(StrEnum):
    """ORDER_TRADE_UPDATE's x. CALCULATED is a fill of a liquidation."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    AMENDMENT = "AMENDMENT"
    CALCULATED = "CALCULATED"


class Terms(msgspec.Struct, kw_only=True):
    """What the account asked for, of orders and of conditional orders alike. price is 0 where the type has none;
    quantity is 0 with close_position."""

    client_id: str
    symbol: str
    side: Side
    position_side: PositionSide = PositionSide.BOTH
    order_type: Type
    time_in_force: TimeInForce = TimeInForce.GTC
    quantity: int = 0
    price: int = 0
    is_reduce_only: bool = False
    is_close_position: bool = False
    is_price_protected: bool = False
    trigger_price: int = 0
    working_type: WorkingType = WorkingType.CONTRACT_PRICE
    price_match: PriceMatch = PriceMatch.NONE
    self_trade: SelfTrade = SelfTrade.EXPIRE_MAKER
    good_till_ms: int = 0
    activate_price: int = 0
    callback_rate: int = 0
    """In percent."""


class Order(Terms, kw_only=True):
    """One order of ours at the matching core. `ahead` is the displayed quantity that trades before it at its price.
    original_type differs from order_type once a conditional order has placed this one."""

    order_id: int
    original_type: Type
    executed: int = 0
    cumulative_quote: int = 0
    status: Status = Status.NEW
    created_ms: int
    updated_ms: int
    ahead: int = 0
    algo_id: int = 0
    modifications: int = 0

    @property
    def remaining(self) -> int:
        return self.quantity - self.executed

    @property
    def is_closing(self) -> bool:
        """Whether it may only reduce the position: by its flag, or as the closing side in hedge mode."""
        if self.position_side is PositionSide.BOTH:
            return self.is_reduce_only
        return (self.side is Side.SELL) == (self.position_side is PositionSide.LONG)


class Algo(Terms, kw_only=True):
    """One conditional order. peak is the best price since activation of a trailing stop; 0 before it."""

    algo_id: int
    status: AlgoStatus = AlgoStatus.NEW
    created_ms: int
    updated_ms: int
    triggered_ms: int = 0
    order_id: int = 0
    peak: int = 0
    reason: str = ""


class Fill(msgspec.Struct, frozen=True):
    trade_id: int
    order_id: int
    symbol: str
    side: Side
    position_side: PositionSide
    price: int
    quantity: int
    quote_quantity: int
    realised: int
    commission: int
    is_maker: bool
    time_ms: int


class Income(msgspec.Struct, frozen=True):
    """One movement of the wallet: TRANSFER, REALIZED_PNL, COMMISSION, FUNDING_FEE or INSURANCE_CLEAR."""

    tran_id: int
    kind: str
    symbol: str
    amount: int
    time_ms: int
    trade_id: int = 0
    info: str = ""


class Position(msgspec.Struct):
    """amount and cost are signed, negative when short; cost is what the open amount was entered for.

    carried is fees paid less profit realised since the position was last flat: the break-even price covers it.
    """

    symbol: str
    side: PositionSide
    amount: int = 0
    cost: int = 0
    isolated: int = 0
    carried: int = 0
    updated_ms: int = 0


class SymbolSettings(msgspec.Struct):
    symbol: str
    leverage: int
    margin_type: MarginType = MarginType.CROSSED


class OrderEvent(msgspec.Struct, frozen=True):
    """`order` is a copy right after what happened."""

    execution: Execution
    order: Order
    fill: Fill | None
    time_ms: int


class AlgoEvent(msgspec.Struct, frozen=True):
    algo: Algo
    order: Order | None
    time_ms: int


class PositionView(msgspec.Struct, frozen=True):
    """A position as an event shows it."""

    position: Position
    unrealised: int
    realised: int
    margin_type: MarginType
    mark: int
    maintenance: int


class AccountEvent(msgspec.Struct, frozen=True):
    """ACCOUNT_UPDATE: why the wallet or a position changed. balance_change leaves out profits and fees."""

    reason: str
    wallet: int
    cross_wallet: int
    balance_change: int
    positions: tuple[PositionView, ...]
    time_ms: int
    has_balance: bool = True


class LeverageEvent(msgspec.Struct, frozen=True):
    symbol: str
    leverage: int
    time_ms: int


class MarginCallEvent(msgspec.Struct, frozen=True):
    cross_wallet: int
    positions: tuple[PositionView, ...]
    time_ms: int


Event = OrderEvent | AlgoEvent | AccountEvent | LeverageEvent | MarginCallEvent
