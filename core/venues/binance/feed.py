"""Binance's market data into a MarketHub: combined streams of many symbols, and the snapshots that the hub asks for.

Each symbol is resynced by itself. The symbols are spread over as many connections as the venue's limit of streams
takes; a symbol's streams stay together. A connection is replaced before the venue ends it, without a hole
(`feed_handover`), and remade when it is lost, silent, or closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random

import structlog

from core.market.hub import MarketHub
from core.market.sync import BookState, RequestSnapshot, StateChanged, SyncOutput
from core.types.clock import Clock
from core.types.instruments import Product
from core.types.market import BookTicker, Trade
from core.venues.binance.backoff import AttemptBudget, Backoff
from core.venues.binance.connection import STREAMS, ConnectionView, FeedCounters, FeedTimes, SubscriptionError
from core.venues.binance.feed_shard import Shard
from core.venues.binance.feed_snapshots import SnapshotFetcher
from core.venues.binance.frames import FrameError, FrameReader, Message, dispatch
from core.venues.binance.rest import BinanceRest
from core.venues.ports import VenueUnavailableError

MAX_SYMBOLS = 2_000
SUBSCRIBE_LIMIT_S = 15.0
"""How long `subscribe` waits for the venue's word."""
UNREADABLE_LOGGED = 10
UNREADABLE_LOG_SHARE = 1_000
"""The first UNREADABLE_LOGGED unreadable frames are logged, then every UNREADABLE_LOG_SHARE-th."""
BACKFILL_ATTEMPTS = 5
BACKFILL_RETRY_S = 1.0
BACKFILL_RETRY_CAP_S = 30.0

_log = structlog.get_logger("venues.binance.feed")


class BinanceMarketFeed:
    """Feeds depth, bookTicker and trades of `symbols` into `hub`, until told to stop.

    The symbols are instruments of the hub, all of one product. on_update is called with the symbol after each ticker
    and trade; it has to be cheap and must not raise. priority says whose snapshot comes first, the smallest first.
    backfill is awaited once for each symbol when its trades flow, to seed its klines, say; it may raise
    VenueUnavailableError and is tried BACKFILL_ATTEMPTS times. A budget of attempts may be shared with others that
    connect to the venue from this address.
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
        times: FeedTimes | None = None,
        budget: AttemptBudget | None = None,
        priority: Callable[[str], int] | None = None,
        backfill: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        if not symbols:
            raise ValueError("a feed needs at least one symbol")
        self._websocket_url = websocket_url
        self._hub = hub
        self._clock = clock
        self._on_update = on_update
        self._random = random
        self._times = times or FeedTimes()
        self._budget = budget or AttemptBudget()
        self._backfill = backfill
        self._product: Product = hub.instrument(symbols[0]).product
        self._streams = STREAMS[self._product]
        self._reader = FrameReader()
        self._shards: dict[Shard, asyncio.Task[None] | None] = {}
        self._shard_of: dict[str, Shard] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._backfilled: set[str] = set()
        self._not_live_since_s: dict[str, tuple[float, float]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.counters = FeedCounters()
        self.rejected: dict[str, str] = {}
        """Symbols whose streams the venue refused, and its words. They are tried again with the next connection."""
        self.snapshots = SnapshotFetcher(
            rest,
            self._streams.depth_path,
            hub,
            self._reader,
            clock,
            self._act,
            self.counters,
            self._times,
            random=random,
            priority=priority,
        )
        self._place(symbols)

    @property
    def connected(self) -> bool:
        """Whether all streams are open. A book may be stale all the same: ask the hub."""
        return all(shard.is_connected for shard in self._shards)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._shard_of)

    @property
    def connections(self) -> tuple[ConnectionView, ...]:
        return tuple(shard.view() for shard in self._shards)

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until stop is set; reconnects with exponential backoff and full jitter."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = [group.create_task(self._tick_forever()), group.create_task(self.snapshots.run())]
            for shard in self._shards:
                self._shards[shard] = group.create_task(shard.run())
            try:
                await stop.wait()
            finally:
                self._group = None
                for task in (*tasks, *self._shards.values()):
                    if task is not None:
                        task.cancel()
                for waiting in self._waiting.values():
                    waiting.cancel()

    async def subscribe(self, symbols: Sequence[str]) -> None:
        """Follow more symbols while running; returns when the venue has confirmed their streams.

        Raises RefusalError for one that the hub doesn't hold, ValueError for one of another product, SubscriptionError
        naming those that the venue refused (the others are followed), VenueUnavailableError when it hasn't answered
        within SUBSCRIBE_LIMIT_S: they are subscribed when the connection is back.
        """
        assert self._group is not None, "subscribe while run() runs"
        new = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self._shard_of]
        self._check(new)
        loop = asyncio.get_running_loop()
        waiting = {symbol: loop.create_future() for symbol in new}
        self._waiting.update(waiting)
        for shard in self._place(new):
            if self._shards[shard] is None:
                self._shards[shard] = self._group.create_task(shard.run())
        if not waiting:
            return
        done, pending = await asyncio.wait(waiting.values(), timeout=SUBSCRIBE_LIMIT_S)
        for symbol in waiting:
            self._waiting.pop(symbol, None)
        refusals = [error for future in done if isinstance(error := future.exception(), SubscriptionError)]
        if refusals:
            refused = [symbol for symbol in new if symbol in {name for error in refusals for name in error.symbols}]
            self._remove(refused)
            raise SubscriptionError(refused, refusals[0].code, refusals[0].message)
        if pending:
            late = [symbol for symbol, future in waiting.items() if future in pending]
            raise VenueUnavailableError(
                f"the streams of {', '.join(late[:10])} were not confirmed within {SUBSCRIBE_LIMIT_S:.0f} s; "
                "they are subscribed when the connection is back"
            )

    async def unsubscribe(self, symbols: Sequence[str]) -> None:
        """Follow these no longer: their books are STALE from now on. Symbols that aren't followed are passed over."""
        self._remove([symbol for symbol in symbols if symbol in self._shard_of])

    # what the shards tell

    def read(self, frame: bytes) -> Message | None:
        try:
            return self._reader.read(frame, self._clock.now_ns())
        except FrameError as error:
            # A loss: of depth the next message shows the gap, of trades the next id does.
            self.counters.unreadable += 1
            count = self.counters.unreadable
            if count <= UNREADABLE_LOGGED or count % UNREADABLE_LOG_SHARE == 0:
                text = frame[:200].decode(errors="replace")
                _log.error("market_frame_unreadable", error=str(error), frame=text, unreadable=count)
            return None

    def deliver(self, message: Message) -> None:
        outputs = dispatch(self._hub, message)
        if outputs:
            self._act(outputs)
        if self._on_update is not None and isinstance(message, BookTicker | Trade):
            self._on_update(message.symbol)

    def opened(self, symbols: Sequence[str]) -> None:
        # The snapshots that this asks for are of use only once the streams are confirmed: see subscribed.
        self._log_changes(self._hub.on_stream_opened(symbols))

    def subscribed(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self.rejected.pop(symbol, None)
            if self._hub.needs_snapshot(symbol):
                self.snapshots.request(symbol)
            waiting = self._waiting.get(symbol)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            if self._backfill is not None and symbol not in self._backfilled and self._group is not None:
                self._backfilled.add(symbol)
                self._group.create_task(self._fill(symbol))

    def refused(self, error: SubscriptionError) -> None:
        _log.error("market_streams_refused", symbols=list(error.symbols), code=error.code, message=error.message)
        for symbol in error.symbols:
            self.rejected[symbol] = str(error)
            waiting = self._waiting.get(symbol)
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    def closed(self, symbols: Sequence[str]) -> None:
        # A snapshot that is still on its way may be of another life of the venue.
        self.snapshots.forget(symbols)
        self._log_changes(self._hub.on_stream_closed(symbols))

    # what the feed does

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self._times.tick_interval_s)
            self._act(self._hub.on_time())
            for shard in self._shards:
                shard.check_alive()
            self._look_for_the_forgotten()

    def _look_for_the_forgotten(self) -> None:
        """Where a book doesn't become LIVE although its snapshots come, its streams don't: ask for them anew."""
        now_s = asyncio.get_running_loop().time()
        states = self._hub.book_states()
        for symbol, shard in self._shard_of.items():
            if states[symbol] == BookState.LIVE or not shard.is_connected or symbol in self.snapshots.failures:
                self._not_live_since_s.pop(symbol, None)
                continue
            since_s, limit_s = self._not_live_since_s.setdefault(symbol, (now_s, self._times.resubscribe_after_s))
            if now_s - since_s > limit_s:
                self._not_live_since_s[symbol] = now_s, min(limit_s * 2, self._times.resubscribe_cap_s)
                shard.resubscribe(symbol)

    async def _fill(self, symbol: str) -> None:
        assert self._backfill is not None
        backoff = Backoff(BACKFILL_RETRY_S, BACKFILL_RETRY_CAP_S, self._random)
        for attempt in range(1, BACKFILL_ATTEMPTS + 1):
            try:
                await self._backfill(symbol)
            except VenueUnavailableError as error:
                _log.warning("backfill_failed", symbol=symbol, error=str(error), attempt=attempt)
                await asyncio.sleep(backoff.next_s())
            else:
                return

    def _check(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            product = self._hub.instrument(symbol).product
            if product is not self._product:
                raise ValueError(f"{symbol} is {product}, this feed follows {self._product}; give it a feed of its own")

    def _place(self, symbols: Sequence[str]) -> list[Shard]:
        """Give each symbol a connection with room; the shards that are new to their symbols."""
        self._check(symbols)
        if len(self._shard_of) + len(symbols) > MAX_SYMBOLS:
            raise ValueError(f"at most {MAX_SYMBOLS} symbols a feed; start another feed for the rest")
        placed: dict[Shard, list[str]] = {}
        rooms = {shard: shard.room for shard in self._shards}
        for symbol in symbols:
            shard = next((shard for shard, room in rooms.items() if room > 0), None)
            if shard is None:
                shard = Shard(
                    self._websocket_url,
                    self._streams,
                    self,
                    self.counters,
                    self._times,
                    self._budget,
                    self._random,
                )
                self._shards[shard] = None
                rooms[shard] = shard.room
            rooms[shard] -= 1
            placed.setdefault(shard, []).append(symbol)
            self._shard_of[symbol] = shard
            self._reader.add(self._hub.instrument(symbol))
        for shard, own in placed.items():
            shard.follow(own)
        return list(placed)

    def _remove(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            shard = self._shard_of.pop(symbol)
            shard.leave([symbol])
            self._reader.remove(symbol)
            self.rejected.pop(symbol, None)
            self._not_live_since_s.pop(symbol, None)
            if not shard.symbols:
                task = self._shards.pop(shard)
                if task is not None:
                    task.cancel()

    def _act(self, outputs: tuple[SyncOutput, ...]) -> None:
        self._log_changes(outputs)
        for output in outputs:
            if isinstance(output, RequestSnapshot):
                shard = self._shard_of.get(output.symbol)
                if shard is not None and shard.is_connected:
                    self.snapshots.request(output.symbol)

    def _log_changes(self, outputs: tuple[SyncOutput, ...]) -> None:
        for output in outputs:
            if isinstance(output, StateChanged):
                _log.info("book_state_changed", symbol=output.symbol, state=output.current.value, reason=output.reason)
