"""Raw frames of Binance's market streams into messages: the one path of the live feed, the replay and the recorder.

Reads spot, USD-M and COIN-M, combined (`{"stream": ..., "data": {...}}`) or raw. Depth goes through the native decoder
and never becomes a Python object per level. Field names are the venue's
(https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams).
"""

from __future__ import annotations

import msgspec

from core._native import DepthDecoder, DepthFrame, FrameError, SnapshotFrame
from core.market.hub import MarketHub
from core.market.sync import SyncOutput
from core.types.clock import NS_PER_MS
from core.types.instruments import Instrument
from core.types.market import BookTicker, Trade
from core.types.money import parse_scaled
from core.venues.binance.wire import market_quantity

__all__ = ["FrameError", "FrameReader", "Message", "dispatch"]

HEAD_BYTES = 160
"""Where a frame's kind stands, as the venue writes it; a frame that is written otherwise takes the longer way."""
DEPTH_MARK = b'"depthUpdate"'
TRADE_KINDS = ("trade", "aggTrade")
NOT_TRADED = "NA"
"""The type of a futures trade that changed no book: it has neither price nor quantity."""

Message = DepthFrame | BookTicker | Trade


class _Data(msgspec.Struct, gc=False):
    """The payload of any stream that is read here. b and a are prices in bookTicker, order ids in spot's trade."""

    s: str = ""
    e: str = ""
    E: int = 0
    u: int = 0
    b: str | int | list[object] = ""
    a: str | int | list[object] = ""
    B: str = ""
    A: str = ""
    t: int = 0
    p: str = ""
    q: str = ""
    T: int = 0
    m: bool = False
    X: str = ""


class _Frame(msgspec.Struct, gc=False):
    stream: str = ""
    data: _Data | None = None


_FRAME = msgspec.json.Decoder(_Frame)
_DATA = msgspec.json.Decoder(_Data)
_ANY = msgspec.json.Decoder()


class FrameReader:
    """Reads the depth, bookTicker and trade frames of the instruments that were added; others are None."""

    def __init__(self) -> None:
        self._depth = DepthDecoder()
        self._instruments: dict[str, Instrument] = {}

    def add(self, instrument: Instrument) -> None:
        """Read this instrument's frames at its scales from now on."""
        self._instruments[instrument.symbol] = instrument
        self._depth.add(instrument.symbol, instrument.price_scale, instrument.quantity_scale)

    def remove(self, symbol: str) -> None:
        if self._instruments.pop(symbol, None) is not None:
            self._depth.remove(symbol)

    def read(self, frame: bytes, ts_init_ns: int) -> Message | None:
        """Raises FrameError for bytes that are no JSON, or no sound message of a kind that is read here."""
        if DEPTH_MARK in frame[:HEAD_BYTES]:
            return self._depth.decode(frame, ts_init_ns)
        try:
            outer = _FRAME.decode(frame)
            data = _DATA.decode(frame) if outer.data is None else outer.data
        except (msgspec.MsgspecError, ValueError) as error:
            self._check_not_ours(frame, error)
            return None
        if data.e == "depthUpdate":
            return self._depth.decode(frame, ts_init_ns)
        instrument = self._instruments.get(data.s)
        if instrument is None:
            return None
        try:
            if data.e in TRADE_KINDS:
                return _trade_of(data, instrument, ts_init_ns)
            if data.e == "bookTicker" or (not data.e and data.u):
                return _ticker_of(data, instrument, ts_init_ns)
        except (ValueError, TypeError) as error:
            raise FrameError(f"{data.e or 'bookTicker'} of {data.s}: {error}") from error
        return None

    def read_snapshot(self, body: bytes, symbol: str, limit_levels: int, ts_init_ns: int) -> SnapshotFrame:
        """The body of a REST depth answer. One with limit_levels on a side may have been cut there.

        Raises FrameError.
        """
        return self._depth.decode_snapshot(body, symbol, limit_levels, ts_init_ns)

    def _check_not_ours(self, frame: bytes, error: Exception) -> None:
        """Other streams may hold other types under the same keys: theirs is no error, broken JSON is."""
        try:
            outer = _ANY.decode(frame)
        except (msgspec.MsgspecError, ValueError) as broken:
            raise FrameError(f"not JSON: {broken}") from broken
        if not isinstance(outer, dict):
            return
        data = outer.get("data", outer)
        kind = data.get("e", "") if isinstance(data, dict) else ""
        if kind in {"depthUpdate", "bookTicker", *TRADE_KINDS} and data.get("s") in self._instruments:
            raise FrameError(f"{kind} of {data.get('s')}: {error}") from error


def dispatch(hub: MarketHub, message: Message) -> tuple[SyncOutput, ...]:
    """Tell the hub of one message; what it wants done comes back."""
    if isinstance(message, DepthFrame):
        return hub.on_depth(message)
    if isinstance(message, BookTicker):
        return hub.on_book_ticker(message)
    hub.on_trade(message)
    return ()


def _ticker_of(data: _Data, instrument: Instrument, now_ns: int) -> BookTicker:
    if not isinstance(data.b, str) or not isinstance(data.a, str):
        raise TypeError("it holds no prices")
    if data.u <= 0:
        raise ValueError("it holds no update id")
    price_scale, quantity_scale = instrument.price_scale, instrument.quantity_scale
    return BookTicker(
        data.s,
        data.u,
        parse_scaled(data.b, price_scale),
        market_quantity(data.B, quantity_scale),
        parse_scaled(data.a, price_scale),
        market_quantity(data.A, quantity_scale),
        data.E * NS_PER_MS or now_ns,
        now_ns,
    )


def _trade_of(data: _Data, instrument: Instrument, now_ns: int) -> Trade | None:
    if data.X == NOT_TRADED:
        return None
    trade_id = data.a if data.e == "aggTrade" else data.t
    if not isinstance(trade_id, int) or trade_id <= 0 or data.T <= 0:
        raise ValueError("it holds no trade id or time")
    return Trade(
        data.s,
        trade_id,
        parse_scaled(data.p, instrument.price_scale),
        market_quantity(data.q, instrument.quantity_scale),
        data.m,
        data.T * NS_PER_MS,
        now_ns,
    )
