"""USD-M's wire format where it differs from spot's, and its translation.

Field names are the venue's (https://developers.binance.com/docs/derivatives/usds-margined-futures).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.types.clock import NS_PER_MS
from core.types.instruments import Instrument
from core.types.money import decimal_text, from_scaled, parse_scaled
from core.types.orders import OrderIntent, OrderType, Side
from core.venues.binance.wire import status_of
from core.venues.ports import ExecutionReport, VenueOrder, VenueTrade

PERPETUAL = "PERPETUAL"
POST_ONLY = "GTX"


class UserTrade(msgspec.Struct, rename="camel"):
    symbol: str
    id: int
    order_id: int
    side: str
    price: str
    qty: str
    commission: str
    commission_asset: str
    time: int
    maker: bool


class AssetBalance(msgspec.Struct):
    """An entry of /fapi/v3/balance; balance is the wallet's, without unrealised profit."""

    asset: str
    balance: str


class PositionRisk(msgspec.Struct, rename="camel"):
    symbol: str
    position_amt: str
    entry_price: str
    mark_price: str
    un_realized_profit: str
    liquidation_price: str
    position_side: str = "BOTH"
    margin_asset: str = ""
    update_time: int = 0


class Bracket(msgspec.Struct, rename="camel", frozen=True):
    """A step of notional with the highest leverage and the maintenance margin within it."""

    bracket: int
    initial_leverage: int
    notional_floor: Decimal
    notional_cap: Decimal
    maint_margin_ratio: Decimal
    cum: Decimal


class SymbolBrackets(msgspec.Struct):
    symbol: str
    brackets: list[Bracket]


class OrderUpdate(msgspec.Struct):
    """The order within ORDER_TRADE_UPDATE. c is always the order's own client id."""

    s: str
    c: str
    S: str
    x: str
    X: str
    i: int
    l: str  # noqa: E741
    z: str
    L: str
    T: int
    t: int
    m: bool
    n: str | None = None
    N: str | None = None
    er: str | int = ""


class OrderTradeUpdate(msgspec.Struct):
    o: OrderUpdate


class _BalanceUpdate(msgspec.Struct):
    a: str
    wb: str


class _PositionUpdate(msgspec.Struct):
    s: str
    pa: str
    ep: str
    up: str
    ps: str = "BOTH"


class _AccountData(msgspec.Struct):
    m: str
    B: list[_BalanceUpdate] = []
    P: list[_PositionUpdate] = []


class AccountUpdateMessage(msgspec.Struct):
    T: int
    a: _AccountData


class VenuePosition(msgspec.Struct, frozen=True):
    """A position as the venue sees it. quantity is at the instrument's scale, negative when short; mark and
    liquidation price are None where the message doesn't hold them, or there is none."""

    symbol: str
    quantity: int
    entry_price: Decimal
    unrealised_pnl: Decimal
    mark_price: Decimal | None
    liquidation_price: Decimal | None
    ts_event_ns: int


class AccountUpdate(msgspec.Struct, frozen=True):
    """What changed on the account: wallet balances by asset, and positions, of those that changed only.

    reason is the venue's word: ORDER, FUNDING_FEE, DEPOSIT and so on.
    """

    reason: str
    balances: dict[str, Decimal]
    positions: tuple[VenuePosition, ...]
    ts_event_ns: int


def order_parameters(intent: OrderIntent) -> dict[str, str]:
    """An intent as the parameters of POST /fapi/v1/order, in one-way mode, to be acknowledged only.

    Raises ValueError for what USD-M orders can't say.
    """
    parameters = {
        "symbol": intent.symbol,
        "side": intent.side.value,
        "type": intent.order_type.value,
        "quantity": decimal_text(from_scaled(intent.quantity, intent.quantity_scale)),
        "newClientOrderId": intent.client_order_id,
        "newOrderRespType": "ACK",
    }
    if intent.reduce_only:
        parameters["reduceOnly"] = "true"
    if intent.order_type is OrderType.MARKET:
        return parameters
    if intent.price is None:
        raise ValueError("a LIMIT order needs a price")
    parameters["price"] = decimal_text(from_scaled(intent.price, intent.price_scale))
    parameters["timeInForce"] = POST_ONLY if intent.post_only else intent.time_in_force.value
    return parameters


def trade_of(body: UserTrade, instrument: Instrument, client_order_id: str) -> VenueTrade:
    return VenueTrade(
        symbol=body.symbol,
        trade_id=body.id,
        venue_order_id=str(body.order_id),
        client_order_id=client_order_id,
        side=Side(body.side),
        price=parse_scaled(body.price, instrument.price_scale),
        quantity=parse_scaled(body.qty, instrument.quantity_scale),
        fee=Decimal(body.commission),
        fee_asset=body.commission_asset,
        is_maker=body.maker,
        ts_event_ns=body.time * NS_PER_MS,
    )


def report_of(message: OrderUpdate, instrument: Instrument) -> ExecutionReport:
    """An ORDER_TRADE_UPDATE; trade is set when it carries a fill (x is TRADE)."""
    ts_event_ns = message.T * NS_PER_MS
    order = VenueOrder(
        message.s,
        message.c,
        str(message.i),
        status_of(message.X),
        parse_scaled(message.z, instrument.quantity_scale),
        ts_event_ns,
    )
    trade = None
    if message.x == "TRADE":
        trade = VenueTrade(
            symbol=message.s,
            trade_id=message.t,
            venue_order_id=str(message.i),
            client_order_id=message.c,
            side=Side(message.S),
            price=parse_scaled(message.L, instrument.price_scale),
            quantity=parse_scaled(message.l, instrument.quantity_scale),
            fee=Decimal(message.n or "0"),
            fee_asset=message.N or "",
            is_maker=message.m,
            ts_event_ns=ts_event_ns,
        )
    reason = str(message.er)
    return ExecutionReport(order, trade, "" if reason in {"0", "NONE"} else reason)


def position_of(body: PositionRisk, instrument: Instrument) -> VenuePosition:
    liquidation_price = Decimal(body.liquidation_price)
    return VenuePosition(
        symbol=body.symbol,
        quantity=parse_scaled(body.position_amt, instrument.quantity_scale),
        entry_price=Decimal(body.entry_price),
        unrealised_pnl=Decimal(body.un_realized_profit),
        mark_price=Decimal(body.mark_price),
        liquidation_price=liquidation_price or None,
        ts_event_ns=body.update_time * NS_PER_MS,
    )


def position_update_of(body: _PositionUpdate, instrument: Instrument, ts_event_ns: int) -> VenuePosition:
    return VenuePosition(
        symbol=body.s,
        quantity=parse_scaled(body.pa, instrument.quantity_scale),
        entry_price=Decimal(body.ep),
        unrealised_pnl=Decimal(body.up),
        mark_price=None,
        liquidation_price=None,
        ts_event_ns=ts_event_ns,
    )
