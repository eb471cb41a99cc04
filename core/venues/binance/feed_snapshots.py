"""Depth snapshots by REST: the few that may be asked for at a time, those first that matter most.

A symbol whose snapshots fail waits by itself and holds no place; a rate limit (429, 418) stops all of them for as long
as the venue asks, because it is the address that is limited. Until its snapshot has come a book stays what it is: not
LIVE.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random

import msgspec
import structlog

from core.market.hub import MarketHub
from core.market.sync import SyncOutput
from core.types.clock import Clock
from core.types.market import DepthSnapshotLike
from core.venues.binance.backoff import Backoff
from core.venues.binance.connection import FeedCounters, FeedTimes
from core.venues.binance.frames import FrameError, FrameReader
from core.venues.binance.rest import BinanceRest
from core.venues.ports import VenueRateLimitedError, VenueUnavailableError

DEPTH_LIMIT_LEVELS = 1_000
SNAPSHOT_CONCURRENCY = 4
RATE_LIMIT_PAUSE_S = 30.0
"""When a 429 or 418 doesn't say how long to wait."""
RATE_LIMIT_PAUSE_CAP_S = 3 * 24 * 3_600.0
"""The venue's longest ban."""
LOG_SHARE = 20
"""Of the failures of one symbol, the first and then every LOG_SHARE-th is logged."""

_log = structlog.get_logger("venues.binance.snapshots")


class _Wanted(msgspec.Struct):
    """A symbol whose book waits for a snapshot. due_s is on the loop's clock."""

    due_s: float
    order: int
    failures: int = 0


class _Past(msgspec.Struct):
    """When a symbol's snapshot was last asked for, and how long its next has to stay away from it."""

    asked_s: float
    pause_s: float


class SnapshotFetcher:
    """Fetches what `request` asks for while `run` runs. act takes what the hub wants done after a snapshot.

    priority gives a symbol's urgency, the smallest first; None treats all alike.
    """

    def __init__(
        self,
        rest: BinanceRest,
        path: str,
        hub: MarketHub,
        reader: FrameReader,
        clock: Clock,
        act: Callable[[tuple[SyncOutput, ...]], None],
        counters: FeedCounters,
        times: FeedTimes,
        *,
        random: Random | None = None,
        priority: Callable[[str], int] | None = None,
    ) -> None:
        self._rest = rest
        self._path = path
        self._hub = hub
        self._reader = reader
        self._clock = clock
        self._act = act
        self._counters = counters
        self._times = times
        self._random = random
        self._priority = priority or (lambda _symbol: 0)
        self._wanted: dict[str, _Wanted] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._past: dict[str, _Past] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._paused_until_s = 0.0
        self._requests = 0
        self._wake = asyncio.Event()
        self.failures: dict[str, str] = {}
        """Why the last snapshot of a symbol failed, until one succeeds."""

    @property
    def paused_s(self) -> float:
        """How long the venue's rate limit still holds all snapshots back."""
        return max(0.0, self._paused_until_s - asyncio.get_running_loop().time())

    def request(self, symbol: str) -> None:
        """Fetch a snapshot of this symbol as soon as its turn comes. Asking twice is asking once."""
        if symbol in self._wanted:
            return
        now_s = asyncio.get_running_loop().time()
        past = self._past.get(symbol)
        if past is None or now_s - past.asked_s > 2 * self._times.snapshot_pause_cap_s:
            self._past[symbol] = past = _Past(now_s, 0.0)
        self._requests += 1
        self._wanted[symbol] = _Wanted(past.asked_s + past.pause_s, self._requests)
        self._wake.set()

    def forget(self, symbols: Iterable[str]) -> None:
        """No snapshot of these is of use any more, not even one that is on its way."""
        for symbol in symbols:
            self._wanted.pop(symbol, None)
            task = self._fetching.pop(symbol, None)
            if task is not None:
                task.cancel()

    async def run(self) -> None:
        """Fetch for ever, SNAPSHOT_CONCURRENCY at a time."""
        slots = asyncio.Semaphore(SNAPSHOT_CONCURRENCY)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                symbol = await self._next()
                task = self._fetching[symbol] = group.create_task(self._fetch(symbol))
                task.add_done_callback(lambda _task: slots.release())

    async def _next(self) -> str:
        loop = asyncio.get_running_loop()
        while True:
            now_s = loop.time()
            ready = [
                (self._priority(symbol), wanted.failures, wanted.order, symbol)
                for symbol, wanted in self._wanted.items()
                if wanted.due_s <= now_s and symbol not in self._fetching
            ]
            if ready and now_s >= self._paused_until_s:
                return min(ready)[-1]
            dues = [wanted.due_s for symbol, wanted in self._wanted.items() if symbol not in self._fetching]
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(max(min(dues), self._paused_until_s) if dues else None):
                    await self._wake.wait()

    async def _fetch(self, symbol: str) -> None:
        loop = asyncio.get_running_loop()
        past = self._past[symbol]
        past.asked_s = loop.time()
        # A book that keeps breaking must not use up the request weight of all: its pauses grow.
        pause_s = max(past.pause_s * 2, self._times.snapshot_pause_s)
        past.pause_s = min(pause_s, self._times.snapshot_pause_cap_s)
        try:
            snapshot = await self._read(symbol)
        except (VenueUnavailableError, FrameError) as error:
            self._failed(symbol, error)
        else:
            self._counters.snapshots += 1
            self._backoffs.pop(symbol, None)
            self.failures.pop(symbol, None)
            self._wanted.pop(symbol, None)
            self._act(self._hub.on_snapshot(snapshot))
        finally:
            if self._fetching.get(symbol) is asyncio.current_task():
                del self._fetching[symbol]
            self._wake.set()

    async def _read(self, symbol: str) -> DepthSnapshotLike:
        parameters = {"symbol": symbol, "limit": str(DEPTH_LIMIT_LEVELS)}
        body = await self._rest.once("GET", self._path, parameters, answer=msgspec.Raw)
        return self._reader.read_snapshot(bytes(body), symbol, DEPTH_LIMIT_LEVELS, self._clock.now_ns())

    def _failed(self, symbol: str, error: Exception) -> None:
        loop = asyncio.get_running_loop()
        self._counters.snapshots_failed += 1
        self.failures[symbol] = f"{symbol}: {error}"
        wanted = self._wanted.get(symbol)
        if isinstance(error, VenueRateLimitedError):
            self._counters.rate_limited += 1
            pause_s = min(error.retry_after_s or RATE_LIMIT_PAUSE_S, RATE_LIMIT_PAUSE_CAP_S)
            self._paused_until_s = max(self._paused_until_s, loop.time() + pause_s)
            _log.warning("snapshots_rate_limited", symbol=symbol, error=str(error), pause_s=pause_s)
            return
        if wanted is None:
            return
        backoff = self._backoffs.setdefault(
            symbol, Backoff(self._times.reconnect_base_s, self._times.snapshot_pause_cap_s, self._random)
        )
        wanted.due_s = loop.time() + backoff.next_s()
        if wanted.failures % LOG_SHARE == 0:
            _log.warning("snapshot_failed", symbol=symbol, error=str(error), failures=wanted.failures + 1)
        wanted.failures += 1
