"""The user data stream's messages about orders, spot's and USD-M's, and their translation.

https://developers.binance.com/docs/binance-spot-api-docs/user-data-stream and
https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams/Event-Order-Update.
"""

from __future__ import annotations

import msgspec

from core.types.instruments import Instrument
from core.types.orders import Side
from core.venues.binance.wire import own_trade
from core.venues.binance.wire_orders import terms_of, venue_order
from core.venues.ports import ExecutionReport

TRADE = "TRADE"
MAX_REASON_LENGTH = 200
NO_REASON = frozenset({"", "0", "NONE"})


class ExecutionReportMessage(msgspec.Struct):
    """`executionReport`. c is the id of the last request: for a cancel C holds the order's own."""

    s: str
    c: str
    S: str
    x: str
    X: str
    r: str
    i: int
    l: str  # noqa: E741
    z: str
    L: str
    T: int
    t: int
    m: bool
    C: str = ""
    n: str | None = None
    N: str | None = None
    o: str = ""
    f: str = ""
    q: str = ""
    p: str = ""
    P: str = ""
    d: int = 0


class OrderUpdate(msgspec.Struct):
    """The order within ORDER_TRADE_UPDATE. c is always the order's own client id; o becomes MARKET once a conditional
    order has triggered, ot stays."""

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
    o: str = ""
    f: str = ""
    q: str = ""
    p: str = ""
    sp: str = ""
    R: bool = False


class OrderTradeUpdate(msgspec.Struct):
    o: OrderUpdate


def spot_report(message: ExecutionReportMessage, instrument: Instrument) -> ExecutionReport:
    """trade is set when the message carries a fill. Raises ValueError for one that makes no sense."""
    return _report(
        message, instrument, message.C or message.c, message.r, stop_price=message.P, is_trailing=message.d > 0
    )


def usdm_report(message: OrderUpdate, instrument: Instrument) -> ExecutionReport:
    """As `spot_report`."""
    return _report(message, instrument, message.c, str(message.er), stop_price=message.sp, reduce_only=message.R)


def _report(
    message: ExecutionReportMessage | OrderUpdate,
    instrument: Instrument,
    client_order_id: str,
    reason: str,
    *,
    stop_price: str,
    is_trailing: bool = False,
    reduce_only: bool = False,
) -> ExecutionReport:
    terms = terms_of(
        instrument,
        side=message.S,
        order_type=message.o,
        time_in_force=message.f,
        quantity=message.q,
        price=message.p,
        stop_price=stop_price,
        is_trailing=is_trailing,
        reduce_only=reduce_only,
    )
    order = venue_order(
        instrument,
        terms,
        symbol=message.s,
        client_order_id=client_order_id,
        venue_order_id=message.i,
        status=message.X,
        filled=message.z,
        ts_event_ms=message.T,
    )
    trade = None
    if message.x == TRADE:
        trade = own_trade(
            instrument,
            symbol=message.s,
            trade_id=message.t,
            venue_order_id=str(message.i),
            client_order_id=client_order_id,
            side=Side(message.S),
            price=message.L,
            quantity=message.l,
            fee=message.n or "0",
            fee_asset=message.N or "",
            is_maker=message.m,
            ts_event_ms=message.T,
        )
        if trade.quantity > order.filled_quantity:
            raise ValueError(f"trade {message.t} is larger than what its order has filled")
    return ExecutionReport(order, trade, "" if reason in NO_REASON else reason[:MAX_REASON_LENGTH])
