"""Binance spot's market data into a MarketHub: one combined stream, and the snapshots that the hub asks for.

Each symbol is resynced by itself; the connection is remade only when it is lost, silent, or closed by the venue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from core.market.hub import MarketHub
from core.market.sync import RequestSnapshot, StateChanged, SyncOutput
from core.types.clock import NS_PER_MS, Clock
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate, Trade
from core.types.money import parse_scaled
from core.venues.binance import wire
from core.venues.binance.backoff import Backoff
from core.venues.binance.rest import BinanceRest
from core.venues.binance.user_stream import open_websocket
from core.venues.ports import VenueUnavailableError

MAX_SYMBOLS = 300
"""Three streams each; the venue takes 1,024 streams a connection."""
DEPTH_LIMIT_LEVELS = 1_000
SNAPSHOT_CONCURRENCY = 2
SNAPSHOT_PAUSE_S = 0.5
"""Between two snapshots of one symbol: a book that keeps breaking must not use up the request weight."""
TICK_INTERVAL_S = 0.1
SILENCE_LIMIT_S = 10.0
"""A connection without any frame for this long is remade."""
RECONNECT_BASE_S = 0.2
RECONNECT_CAP_S = 10.0
STABLE_AFTER_S = 5.0

_log = structlog.get_logger("venues.binance.feed")


class _Data(msgspec.Struct, gc=False):
    """The payload of any of the three streams. b and a are prices in bookTicker, levels in depth, and order ids
    in trade."""

    s: str
    e: str = ""
    E: int = 0
    u: int = 0
    U: int = 0
    b: str | list[tuple[str, str]] | int = ""
    a: str | list[tuple[str, str]] | int = ""
    B: str = ""
    A: str = ""
    t: int = 0
    p: str = ""
    q: str = ""
    T: int = 0
    m: bool = False


class _Frame(msgspec.Struct, gc=False):
    data: _Data | None = None


_FRAME = msgspec.json.Decoder(_Frame)


class FeedCounters(msgspec.Struct):
    """Since the start."""

    frames: int = 0
    unreadable: int = 0
    connections: int = 0
    snapshots: int = 0
    snapshots_failed: int = 0


class BinanceMarketFeed:
    """Feeds depth@100ms, bookTicker and trade of `symbols` into `hub`, until told to stop.

    on_update is called with the symbol after each ticker and trade; it has to be cheap and must not raise.
    """

    def __init__(
        self,
        websocket_url: str,
        rest: BinanceRest,
        hub: MarketHub,
        symbols: Sequence[str],
        clock: Clock,
        on_update: Callable[[str], None] | None = None,
        *,
        random: Random | None = None,
    ) -> None:
        if not 1 <= len(symbols) <= MAX_SYMBOLS:
            raise ValueError(f"1 to {MAX_SYMBOLS} symbols a feed, given are {len(symbols)}; start another feed")
        streams = "/".join(
            f"{symbol.lower()}@{stream}" for symbol in symbols for stream in ("depth@100ms", "bookTicker", "trade")
        )
        self._url = f"{websocket_url.rstrip('/')}/stream?streams={streams}"
        self._rest = rest
        self._hub = hub
        self._clock = clock
        self._on_update = on_update
        self._random = random
        self._instruments = {symbol: hub.instrument(symbol) for symbol in symbols}
        self._connection: ClientConnection | None = None
        self._last_frame_s = 0.0
        self._snapshot_slots = asyncio.Semaphore(SNAPSHOT_CONCURRENCY)
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._fetched_s: dict[str, float] = {}
        self._group: asyncio.TaskGroup | None = None
        self.counters = FeedCounters()

    @property
    def connected(self) -> bool:
        """Whether the stream is open. A book may be stale all the same: ask the hub."""
        return self._connection is not None

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until stop is set; reconnects with exponential backoff and full jitter."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = [group.create_task(self._stream_forever()), group.create_task(self._tick_forever())]
            try:
                await stop.wait()
            finally:
                for task in tasks:
                    task.cancel()

    async def _stream_forever(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S, self._random)
        while True:
            connected_s: float | None = None
            try:
                async with open_websocket(self._url) as connection:
                    connected_s = self._last_frame_s = loop.time()
                    self._opened(connection)
                    while True:
                        frame = await connection.recv(decode=False)
                        self._last_frame_s = loop.time()
                        self._handle(frame)
            except (WebSocketException, OSError, TimeoutError) as error:
                _log.warning("market_stream_lost", error=f"{type(error).__name__}: {error}")
            finally:
                if connected_s is not None:
                    self._closed()
            if connected_s is not None and loop.time() - connected_s > STABLE_AFTER_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_INTERVAL_S)
            self._act(self._hub.on_time())
            connection = self._connection
            if connection is not None and loop.time() - self._last_frame_s > SILENCE_LIMIT_S:
                _log.warning("market_stream_silent", silence_limit_s=SILENCE_LIMIT_S)
                await connection.close()

    def _opened(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.counters.connections += 1
        self._act(self._hub.on_stream_opened(self._instruments))

    def _closed(self) -> None:
        self._connection = None
        # A snapshot that is still on its way may be of another life of the venue.
        for task in self._fetches.values():
            task.cancel()
        self._fetches.clear()
        self._act(self._hub.on_stream_closed(self._instruments))

    def _handle(self, frame: bytes) -> None:
        self.counters.frames += 1
        try:
            message = self._decode(frame)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            # An unread depth message is a gap: the next one makes the book stale.
            self.counters.unreadable += 1
            _log.error("market_frame_unreadable", error=str(error), frame=frame[:200].decode(errors="replace"))
            return
        if message is None:
            return
        if isinstance(message, DepthUpdate):
            self._act(self._hub.on_depth(message))
            return
        if isinstance(message, Trade):
            self._hub.on_trade(message)
        else:
            self._act(self._hub.on_book_ticker(message))
        if self._on_update is not None:
            self._on_update(message.symbol)

    def _decode(self, frame: bytes) -> DepthUpdate | BookTicker | Trade | None:
        now_ns = self._clock.now_ns()
        data = _FRAME.decode(frame).data
        instrument = None if data is None else self._instruments.get(data.s)
        if data is None or instrument is None:
            return None
        if data.e == "depthUpdate":
            return _depth_of(data, instrument, now_ns)
        if data.e == "trade":
            return _trade_of(data, instrument, now_ns)
        return _ticker_of(data, instrument, now_ns)

    def _act(self, outputs: tuple[SyncOutput, ...]) -> None:
        for output in outputs:
            if isinstance(output, StateChanged):
                _log.info("book_state_changed", symbol=output.symbol, state=output.current.value, reason=output.reason)
            elif isinstance(output, RequestSnapshot):
                self._fetch(output.symbol)

    def _fetch(self, symbol: str) -> None:
        task = self._fetches.get(symbol)
        if self._connection is None or symbol not in self._instruments or (task is not None and not task.done()):
            return
        assert self._group is not None
        self._fetches[symbol] = self._group.create_task(self._fetch_until_joined(symbol))

    async def _fetch_until_joined(self, symbol: str) -> None:
        loop = asyncio.get_running_loop()
        instrument = self._instruments[symbol]
        backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S, self._random)
        while self._hub.needs_snapshot(symbol):
            async with self._snapshot_slots:
                await asyncio.sleep(self._fetched_s.get(symbol, -SNAPSHOT_PAUSE_S) + SNAPSHOT_PAUSE_S - loop.time())
                self._fetched_s[symbol] = loop.time()
                try:
                    snapshot = await fetch_depth(self._rest, instrument, self._clock)
                except VenueUnavailableError as error:
                    self.counters.snapshots_failed += 1
                    _log.warning("snapshot_failed", symbol=symbol, error=str(error))
                    snapshot = None
            if snapshot is None:
                await asyncio.sleep(backoff.next_s())
                continue
            self.counters.snapshots += 1
            self._act(self._hub.on_snapshot(snapshot))


async def fetch_depth(rest: BinanceRest, instrument: Instrument, clock: Clock) -> DepthSnapshot:
    """GET /api/v3/depth, at most DEPTH_LIMIT_LEVELS a side. Raises VenueUnavailableError."""
    parameters = {"symbol": instrument.symbol, "limit": str(DEPTH_LIMIT_LEVELS)}
    body = await rest.read("/api/v3/depth", parameters, answer=wire.DepthBody)
    return wire.readable(wire.snapshot_of, body, instrument, clock.now_ns())


def _depth_of(data: _Data, instrument: Instrument, now_ns: int) -> DepthUpdate:
    if not isinstance(data.b, list) or not isinstance(data.a, list):
        raise TypeError("depthUpdate without lists of levels")
    price_scale, quantity_scale = instrument.price_scale, instrument.quantity_scale
    return DepthUpdate(
        data.s,
        data.U,
        data.u,
        wire.levels_of(data.b, price_scale, quantity_scale),
        wire.levels_of(data.a, price_scale, quantity_scale),
        data.E * NS_PER_MS,
        now_ns,
    )


def _ticker_of(data: _Data, instrument: Instrument, now_ns: int) -> BookTicker:
    if not isinstance(data.b, str) or not isinstance(data.a, str):
        raise TypeError("bookTicker without prices")
    price_scale, quantity_scale = instrument.price_scale, instrument.quantity_scale
    return BookTicker(
        data.s,
        data.u,
        parse_scaled(data.b, price_scale),
        wire.market_quantity(data.B, quantity_scale),
        parse_scaled(data.a, price_scale),
        wire.market_quantity(data.A, quantity_scale),
        now_ns,
        now_ns,
    )


def _trade_of(data: _Data, instrument: Instrument, now_ns: int) -> Trade:
    return Trade(
        data.s,
        data.t,
        parse_scaled(data.p, instrument.price_scale),
        wire.market_quantity(data.q, instrument.quantity_scale),
        data.m,
        data.T * NS_PER_MS,
        now_ns,
    )
