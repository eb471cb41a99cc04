"""The symbols of one connection: kept connected, kept subscribed, and carried over to a new connection in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random, SystemRandom
from typing import Any, Protocol

import structlog
from websockets.exceptions import ConnectionClosed, WebSocketException

from core.venues.binance.backoff import AttemptBudget, Backoff
from core.venues.binance.connection import (
    SERVER_SHUTDOWN,
    ConnectionView,
    FeedCounters,
    FeedTimes,
    MarketConnection,
    ProductStreams,
    SubscriptionError,
    open_market,
)
from core.venues.binance.feed_handover import Handover
from core.venues.binance.frames import Message

LOST = (WebSocketException, OSError, TimeoutError)
SHUTDOWN_MARK = SERVER_SHUTDOWN.encode()

_log = structlog.get_logger("venues.binance.feed")


class ShardOwner(Protocol):
    """What a shard tells of its symbols. Nothing here blocks or raises."""

    def read(self, frame: bytes) -> Message | None:
        """The message of a frame; None for one that is no market data, or can't be read and has been counted."""
        ...

    def deliver(self, message: Message) -> None: ...
    def opened(self, symbols: Sequence[str]) -> None:
        """Their streams are about to start."""
        ...

    def subscribed(self, symbols: Sequence[str]) -> None:
        """Their streams flow: now a snapshot is of use."""
        ...

    def refused(self, error: SubscriptionError) -> None: ...
    def closed(self, symbols: Sequence[str]) -> None:
        """Their streams have ended."""
        ...


class _Held:
    """A connection with the tasks that read it and keep its subscriptions."""

    def __init__(self, connection: MarketConnection, keep: Callable[[MarketConnection], Awaitable[None]]) -> None:
        self.connection = connection
        self.reading = asyncio.create_task(connection.read())
        self._keeping = asyncio.ensure_future(keep(connection))
        for task in (self.reading, self._keeping):
            # Whoever waits for them may be cancelled first, and then nobody asks how they ended.
            task.add_done_callback(_heard)

    @property
    def has_ended(self) -> bool:
        return self.reading.done()

    async def until_due(self, timeout_s: float, *, heeds_shutdown: bool) -> None:
        """Until it ends, is timeout_s old, or (if it heeds that) the venue says that it is about to end it."""
        warned = asyncio.create_task(self.connection.shutting_down.wait())
        waiting: set[asyncio.Future[Any]] = {self.reading, self._keeping}
        if heeds_shutdown:
            waiting.add(warned)
        try:
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            warned.cancel()
        if self._keeping.done():
            self._keeping.result()
            await asyncio.wait({self.reading})

    async def aclose(self) -> None:
        self._keeping.cancel()
        await self.connection.close()
        await asyncio.gather(self._keeping, self.reading, return_exceptions=True)


def _heard(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


class Shard:
    """Keeps the streams of `symbols` coming until cancelled. Change what it follows with `follow` and `leave`."""

    def __init__(
        self,
        websocket_url: str,
        streams: ProductStreams,
        owner: ShardOwner,
        counters: FeedCounters,
        times: FeedTimes,
        budget: AttemptBudget,
        random: Random | None,
    ) -> None:
        self.symbols: dict[str, None] = {}
        self._websocket_url = websocket_url
        self._streams = streams
        self._owner = owner
        self._counters = counters
        self._times = times
        self._budget = budget
        self._random = random or SystemRandom()
        self._backoff = Backoff(times.reconnect_base_s, times.reconnect_cap_s, random)
        self._current: MarketConnection | None = None
        self._next: MarketConnection | None = None
        self._started: set[str] = set()
        self._refused: set[str] = set()
        self._again: set[str] = set()
        self._keepers: set[asyncio.Event] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_connected(self) -> bool:
        return self._current is not None

    @property
    def room(self) -> int:
        """How many symbols more it takes."""
        return self._streams.symbols_per_connection - len(self.symbols)

    def follow(self, symbols: Sequence[str]) -> None:
        self.symbols.update(dict.fromkeys(symbols))
        self._refused.difference_update(symbols)
        self._wake()

    def leave(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self.symbols.pop(symbol, None)
        self._stop(symbols)
        self._wake()

    def resubscribe(self, symbol: str) -> None:
        """Leave the symbol's streams and ask for them anew: the venue seems to have forgotten them."""
        if self._current is not None and symbol in self._current.subscribed:
            self._counters.resubscriptions += 1
            self._again.add(symbol)
            self._wake()

    def check_alive(self) -> None:
        for connection in (self._current, self._next):
            if connection is not None:
                connection.check_alive()

    def view(self) -> ConnectionView:
        connection = self._current
        now_s = asyncio.get_running_loop().time()
        return ConnectionView(
            url=self._websocket_url.rstrip("/") + self._streams.path,
            is_open=connection is not None,
            is_handing_over=self._next is not None,
            symbols=len(self.symbols),
            subscribed=len(connection.subscribed) if connection else 0,
            frames=connection.frames if connection else 0,
            received_bytes=connection.received_bytes if connection else 0,
            age_s=now_s - connection.opened_s if connection else 0.0,
            silent_s=now_s - connection.last_frame_s if connection else 0.0,
        )

    async def run(self) -> None:
        """Connected for ever: after a loss with exponential backoff and full jitter."""
        loop = asyncio.get_running_loop()
        was_open = False
        try:
            while True:
                opened_s: float | None = None
                try:
                    connection = await self._open(self._on_frame)
                    opened_s = loop.time()
                    self._counters.reconnects += was_open
                    was_open = True
                    await self._hold(connection)
                except LOST as error:
                    _log.warning("market_stream_lost", error=f"{type(error).__name__}: {error}")
                if opened_s is not None and loop.time() - opened_s > self._times.stable_after_s:
                    self._backoff.reset()
                await asyncio.sleep(self._backoff.next_s())
        finally:
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _open(self, on_frame: Callable[[bytes], None]) -> MarketConnection:
        while wait_s := self._budget.take(asyncio.get_running_loop().time()):
            _log.warning("market_stream_attempts_used_up", wait_s=wait_s)
            await asyncio.sleep(wait_s)
        return await open_market(self._websocket_url, self._streams, self._counters, self._times, on_frame)

    async def _hold(self, connection: MarketConnection) -> None:
        """Follow a connection and its successors until one is lost. Raises what ended it."""
        self._current = connection
        self._refused.clear()
        held = _Held(connection, self._keep_subscribed)
        due_s, heeds_shutdown = self._rollover_s(), True
        try:
            while True:
                await held.until_due(due_s, heeds_shutdown=heeds_shutdown)
                if held.has_ended:
                    held.reading.result()
                successor = await self._roll_over(held)
                if successor is None:
                    due_s, heeds_shutdown = self._times.rollover_retry_s, False
                    continue
                self._retire(held)
                held = successor
                due_s, heeds_shutdown = self._rollover_s(), True
        finally:
            # The readers of the book hear first, the closing handshake may take its time.
            self._current = None
            self._stop(tuple(self._started))
            await held.aclose()

    def _rollover_s(self) -> float:
        return self._times.rollover_after_s - self._random.uniform(0, self._times.rollover_jitter_s)

    async def _roll_over(self, old: _Held) -> _Held | None:
        """A new connection that carries on where the old one stands; None when there is none, and nothing has changed.

        When the old connection is lost meanwhile, the new one takes over as it is: gaps are found by the books.
        """
        progress = asyncio.Event()
        handover = Handover(self._owner.deliver, progress.set)
        try:
            connection = await self._open_beside(old, lambda frame: self._pass(frame, handover.from_new))
        except LOST as error:
            self._counters.rollovers_failed += 1
            _log.warning("market_stream_rollover_failed", error=f"{type(error).__name__}: {error}")
            return None
        if connection is None:
            return None
        old.connection.on_frame = lambda frame: self._pass(frame, handover.from_old)
        self._next = connection
        new = _Held(connection, self._keep_subscribed)
        has_succeeded = False
        try:
            for held in (old, new):
                held.reading.add_done_callback(lambda _task: progress.set())
            has_succeeded = await self._joined(old, new, handover, progress)
            if has_succeeded:
                self._switch(old.connection, connection, handover)
        finally:
            self._next = None
            if not has_succeeded:
                old.connection.on_frame = self._on_frame
                self._retire(new)
        if not has_succeeded:
            self._counters.rollovers_failed += 1
            _log.warning("market_stream_rollover_failed", error="the new connection did not bring every stream")
            return None
        return new

    async def _open_beside(self, old: _Held, on_frame: Callable[[bytes], None]) -> MarketConnection | None:
        """None when the old connection ended before the new one was open."""
        opening = asyncio.create_task(self._open(on_frame))
        try:
            await asyncio.wait({opening, old.reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not opening.done():
                opening.cancel()
        return await opening if opening.done() else None

    async def _joined(self, old: _Held, new: _Held, handover: Handover, progress: asyncio.Event) -> bool:
        """Whether the new connection is to take over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._times.handover_limit_s):
                while not (old.has_ended or new.has_ended or handover.is_overdue):
                    followed = [symbol for symbol in self.symbols if symbol in self._started]
                    if handover.has_joined(followed) and new.connection.subscribed.issuperset(followed):
                        return True
                    progress.clear()
                    await progress.wait()
        if new.has_ended:
            return False
        if old.has_ended or handover.is_overdue:
            return True
        # Streams on which neither connection has brought anything are quiet, and nothing of them can be lost.
        return new.connection.subscribed.issuperset(self._started) and not handover.is_missing(self._started)

    def _switch(self, old: MarketConnection, new: MarketConnection, handover: Handover) -> None:
        old.on_frame = _ignore
        new.on_frame = self._on_frame
        self._current = new
        self._counters.rollovers += 1
        self._stop([symbol for symbol in self._started if symbol not in new.subscribed])
        carried = [symbol for symbol in self.symbols if symbol in new.subscribed]
        self._start(carried)
        handover.finish()
        self._owner.subscribed(carried)
        _log.info("market_stream_rolled_over", symbols=len(carried))

    def _retire(self, held: _Held) -> None:
        task = asyncio.create_task(held.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _keep_subscribed(self, connection: MarketConnection) -> None:
        """Hold the connection's subscriptions to `symbols`, until it ends."""
        changed = asyncio.Event()
        self._keepers.add(changed)
        try:
            while True:
                changed.clear()
                again = {symbol for symbol in self._again if connection is self._current}
                self._again -= again
                await connection.unsubscribe([s for s in connection.subscribed if s not in self.symbols or s in again])
                for batch in connection.batches([s for s in self.symbols if s not in self._refused]):
                    await self._subscribe(connection, batch)
                await changed.wait()
        except TimeoutError:
            connection.abort("no answer to a request")
        except ConnectionClosed:
            return
        finally:
            self._keepers.discard(changed)

    async def _subscribe(self, connection: MarketConnection, batch: Sequence[str]) -> None:
        wanted = [symbol for symbol in batch if symbol in self.symbols and symbol not in connection.subscribed]
        if not wanted:
            return
        if connection is self._current:
            self._start(wanted)
        try:
            await connection.subscribe(wanted)
        except SubscriptionError as error:
            self._refused.update(error.symbols)
            if connection is self._current:
                self._stop(error.symbols)
            self._owner.refused(error)
        if connection is self._current:
            self._owner.subscribed([symbol for symbol in wanted if symbol in connection.subscribed])

    def _start(self, symbols: Sequence[str]) -> None:
        new = [symbol for symbol in symbols if symbol not in self._started]
        self._started.update(new)
        self._owner.opened(new)

    def _stop(self, symbols: Sequence[str]) -> None:
        ended = [symbol for symbol in symbols if symbol in self._started]
        self._started.difference_update(ended)
        self._owner.closed(ended)

    def _wake(self) -> None:
        for changed in self._keepers:
            changed.set()

    def _on_frame(self, frame: bytes) -> None:
        self._pass(frame, self._owner.deliver)

    def _pass(self, frame: bytes, take: Callable[[Message], None]) -> None:
        message = self._owner.read(frame)
        if message is not None:
            take(message)
        elif SHUTDOWN_MARK in frame and self._current is not None:
            self._current.shutting_down.set()


def _ignore(_frame: bytes) -> None:
    """What an old connection still says once the new one has taken over."""
