"""USD-M's wire format where it differs from spot's, and its translation.

Field names are the venue's (https://developers.binance.com/docs/derivatives/usds-margined-futures).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.types.instruments import Instrument
from core.types.money import parse_scaled
from core.types.orders import Side
from core.venues.binance.wire import event_ns, finite, own_trade, short
from core.venues.ports import VenueFunding, VenueTrade

PERPETUAL = "PERPETUAL"


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


class SymbolConfig(msgspec.Struct, rename="camel"):
    symbol: str
    leverage: int
    margin_type: str = "CROSSED"


class Income(msgspec.Struct, rename="camel"):
    """An entry of /fapi/v1/income. tran_id is unique within a type of income."""

    symbol: str
    income_type: str
    income: str
    asset: str
    time: int
    tran_id: int | str


class SymbolBrackets(msgspec.Struct):
    symbol: str
    brackets: list[Bracket]


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


class PositionDetail(msgspec.Struct, frozen=True):
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
    positions: tuple[PositionDetail, ...]
    ts_event_ns: int


def trade_of(body: UserTrade, instrument: Instrument, client_order_id: str) -> VenueTrade:
    """Raises ValueError for another symbol's trade and for amounts that no fill has."""
    return own_trade(
        instrument,
        symbol=body.symbol,
        trade_id=body.id,
        venue_order_id=str(body.order_id),
        client_order_id=client_order_id,
        side=Side(body.side),
        price=body.price,
        quantity=body.qty,
        fee=body.commission,
        fee_asset=body.commission_asset,
        is_maker=body.maker,
        ts_event_ms=body.time,
    )


def position_of(body: PositionRisk, instrument: Instrument) -> PositionDetail:
    liquidation_price = finite(body.liquidation_price)
    return PositionDetail(
        symbol=body.symbol,
        quantity=parse_scaled(body.position_amt, instrument.quantity_scale),
        entry_price=finite(body.entry_price),
        unrealised_pnl=finite(body.un_realized_profit),
        mark_price=finite(body.mark_price),
        liquidation_price=liquidation_price or None,
        ts_event_ns=event_ns(body.update_time),
    )


def position_update_of(body: _PositionUpdate, instrument: Instrument, ts_event_ns: int) -> PositionDetail:
    return PositionDetail(
        symbol=body.s,
        quantity=parse_scaled(body.pa, instrument.quantity_scale),
        entry_price=finite(body.ep),
        unrealised_pnl=finite(body.up),
        mark_price=None,
        liquidation_price=None,
        ts_event_ns=ts_event_ns,
    )


def funding_of(body: Income) -> VenueFunding:
    return VenueFunding(
        body.symbol,
        short(str(body.tran_id), "tranId"),
        finite(body.income),
        short(body.asset, "asset"),
        event_ns(body.time),
    )
