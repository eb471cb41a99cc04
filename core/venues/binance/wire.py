"""Binance spot's wire format, as far as it is read here, and its translation; much of it is USD-M's as well.

Field names are the venue's (https://developers.binance.com/docs/binance-spot-api-docs); prices and quantities are
decimal text, times milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import ParamSpec, TypeVar

import msgspec

from core.market.klines import Kline
from core.types.clock import NS_PER_MS
from core.types.instruments import Instrument, Product
from core.types.market import Level
from core.types.money import MAX_SCALE, parse_scaled
from core.types.orders import OrderStatus, Side
from core.venues.binance.limits import RateRule
from core.venues.ports import VenueTrade, VenueUnavailableError

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
"""What msgspec raises for bytes that make no sense; text that is no UTF-8 is an error of Python's own."""

P = ParamSpec("P")
T = TypeVar("T")

TRADING = "TRADING"
MAX_QUANTITY_63_BITS = 2**63 - 1
MAX_AMOUNT_LENGTH = 64
MAX_AMOUNT_EXPONENT = 30
MAX_TIME_MS = 10**13 - 1
"""In the year 2286: times in ns stay within 64 bits."""
MAX_ID_LENGTH = 64
"""Binance's clientOrderId has at most 36 characters."""

STATUSES = {
    "NEW": OrderStatus.ACCEPTED,
    "PENDING_NEW": OrderStatus.ACCEPTED,
    "PENDING_CANCEL": OrderStatus.ACCEPTED,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
}


class ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


class ServerTime(msgspec.Struct):
    serverTime: int


class Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    tick_size: str = ""
    step_size: str = ""
    min_qty: str = ""
    max_qty: str = ""
    min_notional: str = ""
    notional: str = ""


class SymbolInfo(msgspec.Struct, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[Filter]
    contract_type: str = ""


class ExchangeInfo(msgspec.Struct, rename="camel"):
    symbols: list[SymbolInfo]
    rate_limits: list[RateRule] = []


class KlineRow(msgspec.Struct, array_like=True):
    """A row of klines."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_ms: int
    quote_volume: str
    trades: int
    taker_buy_volume: str
    taker_buy_quote_volume: str


class MyTrade(msgspec.Struct, rename="camel"):
    symbol: str
    id: int
    order_id: int
    price: str
    qty: str
    commission: str
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool


class Balance(msgspec.Struct):
    asset: str
    free: str
    locked: str


class Account(msgspec.Struct):
    balances: list[Balance]


class ListenKey(msgspec.Struct, rename="camel"):
    listen_key: str


class UserMessage(msgspec.Struct, rename={"kind": "e"}):
    """The kind of a user data stream message; what follows is decoded by kind. The WebSocket API wraps it as event,
    a combined stream as data."""

    kind: str = ""
    event: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


def readable(translate: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a translation below. Raises VenueUnavailableError when the venue's answer makes no sense to it."""
    try:
        return translate(*arguments, **named)
    except (ValueError, ArithmeticError) as error:
        raise VenueUnavailableError(f"the venue's answer can't be read: {error}") from error


def instrument_of(info: SymbolInfo, venue: str, product: Product = Product.SPOT) -> Instrument:
    """Raises ValueError when a filter that is needed is missing or out of form: no limit defaults to none (I11)."""
    filters = {item.filter_type: item for item in info.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
    if price is None or lot is None or notional is None:
        raise ValueError(f"{info.symbol}: PRICE_FILTER, LOT_SIZE and NOTIONAL are all needed, has {sorted(filters)}")
    price_scale, quantity_scale = scale_of(price.tick_size), scale_of(lot.step_size)
    tick, step = parse_scaled(price.tick_size, price_scale), parse_scaled(lot.step_size, quantity_scale)
    if tick <= 0 or step <= 0:
        raise ValueError(f"{info.symbol}: tick {price.tick_size} and step {lot.step_size} must be positive")
    return Instrument(
        venue=venue,
        symbol=info.symbol,
        base_asset=info.base_asset,
        quote_asset=info.quote_asset,
        price_scale=price_scale,
        quantity_scale=quantity_scale,
        tick_size=tick,
        lot_size=step,
        min_quantity=parse_scaled(lot.min_qty, quantity_scale),
        max_quantity=min(int(finite(lot.max_qty).scaleb(quantity_scale)), MAX_QUANTITY_63_BITS),
        # USD-M's MIN_NOTIONAL calls it notional.
        min_notional=parse_scaled(notional.min_notional or notional.notional, price_scale + quantity_scale),
        product=product,
    )


def scale_of(step: str) -> int:
    """Decimal places of a tick or step, trailing zeros aside: ``0.01000000`` is 2.

    Raises ValueError for more than MAX_SCALE.
    """
    scale = len(step.partition(".")[2].rstrip("0"))
    if scale > MAX_SCALE:
        raise ValueError(f"step {step!r} has more than {MAX_SCALE} decimal places")
    return scale


def levels_of(levels: Sequence[Sequence[str]], price_scale: int, quantity_scale: int) -> tuple[Level, ...]:
    """Raises ValueError when a price has more places than its scale; quantities are as `market_quantity` reads them."""
    return tuple([(parse_scaled(level[0], price_scale), market_quantity(level[1], quantity_scale)) for level in levels])


def market_quantity(text: str, scale: int) -> int:
    """A quantity of the public market, without the part below the instrument's step.

    Books do hold such quantities: orders from before a step was made coarser (BTCUSDT on 2024-08-08 had 25.426189 at a
    step of 0.00001). Rounding down never promises liquidity that isn't there.
    """
    whole, _, fraction = text.partition(".")
    return parse_scaled(f"{whole}.{fraction[:scale]}", scale)


def status_of(text: str) -> OrderStatus:
    """Raises ValueError for a status that this release doesn't know."""
    status = STATUSES.get(text)
    if status is None:
        raise ValueError(f"unknown order status {text[:32]!r}")
    return status


def kline_of(row: KlineRow, instrument: Instrument, now_ms: int) -> Kline:
    """A bar is closed once its last millisecond has passed at the venue."""
    price_scale, quantity_scale = instrument.price_scale, instrument.quantity_scale
    return Kline(
        open_time_ns=row.open_ms * NS_PER_MS,
        close_time_ns=(row.close_ms + 1) * NS_PER_MS - 1,
        open=parse_scaled(row.open, price_scale),
        high=parse_scaled(row.high, price_scale),
        low=parse_scaled(row.low, price_scale),
        close=parse_scaled(row.close, price_scale),
        volume=market_quantity(row.volume, quantity_scale),
        quote_volume=market_quantity(row.quote_volume, price_scale + quantity_scale),
        trades=row.trades,
        closed=row.close_ms < now_ms,
        taker_buy_volume=market_quantity(row.taker_buy_volume, quantity_scale),
        taker_buy_quote_volume=market_quantity(row.taker_buy_quote_volume, price_scale + quantity_scale),
    )


def trade_of(body: MyTrade, instrument: Instrument, client_order_id: str) -> VenueTrade:
    """Raises ValueError for another symbol's trade and for amounts that no fill has."""
    return own_trade(
        instrument,
        symbol=body.symbol,
        trade_id=body.id,
        venue_order_id=str(body.order_id),
        client_order_id=client_order_id,
        side=Side.BUY if body.is_buyer else Side.SELL,
        price=body.price,
        quantity=body.qty,
        fee=body.commission,
        fee_asset=body.commission_asset,
        is_maker=body.is_maker,
        ts_event_ms=body.time,
    )


def own_trade(
    instrument: Instrument,
    *,
    symbol: str,
    trade_id: int,
    venue_order_id: str,
    client_order_id: str,
    side: Side,
    price: str,
    quantity: str,
    fee: str,
    fee_asset: str,
    is_maker: bool,
    ts_event_ms: int,
) -> VenueTrade:
    """A fill of ours. Raises ValueError for another symbol's and for amounts that no fill has."""
    trade = VenueTrade(
        symbol=symbol,
        trade_id=trade_id,
        venue_order_id=venue_order_id,
        client_order_id=short(client_order_id, "clientOrderId"),
        side=side,
        price=parse_scaled(price, instrument.price_scale),
        quantity=parse_scaled(quantity, instrument.quantity_scale),
        fee=finite(fee),
        fee_asset=short(fee_asset, "commissionAsset"),
        is_maker=is_maker,
        ts_event_ns=event_ns(ts_event_ms),
    )
    if symbol != instrument.symbol:
        raise ValueError(f"a trade of {symbol[:32]!r} where {instrument.symbol} was asked for")
    if trade.quantity <= 0 or trade.price <= 0 or trade_id < 0:
        raise ValueError(f"trade {trade_id} of {quantity[:40]} at {price[:40]} can't be one")
    return trade


def finite(text: str) -> Decimal:
    """An amount of an asset. Raises ValueError for NaN, infinities, what is no number, and numbers that nobody owns:
    writing out 1e999999999 takes a gigabyte."""
    try:
        value = Decimal(text) if len(text) <= MAX_AMOUNT_LENGTH else Decimal("NaN")
    except ArithmeticError as error:
        raise ValueError(f"{text[:40]!r} is no amount") from error
    if not value.is_finite() or (value and abs(value.adjusted()) > MAX_AMOUNT_EXPONENT):
        raise ValueError(f"{text[:40]!r} is no amount")
    return value


def event_ns(ts_ms: int) -> int:
    """A time of the venue's in ns. Raises ValueError for one that can't be: it would not fit into 64 bits."""
    if not 0 <= ts_ms <= MAX_TIME_MS:
        raise ValueError(f"{ts_ms} ms is no time")
    return ts_ms * NS_PER_MS


def short(text: str, name: str) -> str:
    """An identifier of the venue's or ours. Raises ValueError for one that is longer than any is."""
    if len(text) > MAX_ID_LENGTH:
        raise ValueError(f"{name} has {len(text)} characters")
    return text
