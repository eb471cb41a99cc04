"""Parts of the feed's tests: a venue that plays frames and answers subscriptions, and a feed at work on a hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, Protocol

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from core.market.hub import MarketHub
from core.market.sync import StateChanged
from core.types.clock import NS_PER_MS, Clock, SystemClock
from core.types.instruments import Instrument, Product
from core.venues.binance.backoff import AttemptBudget
from core.venues.binance.connection import FeedTimes
from core.venues.binance.feed import BinanceMarketFeed
from core.venues.binance.rest import BinanceRest
from tests.core.venues.binance.support import DEADLINE_S, Signal

Send = Callable[[bytes], Awaitable[None]]
Play = Callable[[Send], Awaitable[None]]

PATIENCE_S = 120.0
MOMENT_NS = 100 * NS_PER_MS
QUICK = FeedTimes(
    silence_limit_s=PATIENCE_S,
    pong_limit_s=PATIENCE_S,
    quiet_limit_s=PATIENCE_S,
    answer_limit_s=PATIENCE_S,
    reconnect_base_s=0.01,
    reconnect_cap_s=0.05,
    snapshot_pause_s=0.02,
    snapshot_pause_cap_s=0.1,
    tick_interval_s=0.02,
)
"""The feed's delays cut down, so that tests see in a moment what takes longer; limits on others' silence are drawn out,
so that a machine that stalls isn't taken for a dead peer."""


class PatientClock:
    """The machine's clock, to which a machine that stalled for seconds between two looks has stalled for a moment.

    For tests that are about a short silence of one among others: the others aren't silent because the machine is.
    """

    def __init__(self) -> None:
        self._source = SystemClock()
        self._seen_ns = self._now_ns = self._source.now_ns()

    def now_ns(self) -> int:
        seen_ns = self._source.now_ns()
        self._now_ns += min(seen_ns - self._seen_ns, MOMENT_NS)
        self._seen_ns = seen_ns
        return self._now_ns


def instrument(symbol: str = "BTCUSDT", product: Product = Product.SPOT) -> Instrument:
    return Instrument("paper", symbol, symbol[:-4], "USDT", 2, 5, 1, 1, 1, 900_000_000, 50_000_000, product=product)


BTCUSDT = instrument()


class Venue(Protocol):
    """Where to reach it: a player, the paper venue, or a proxy before one of them."""

    @property
    def base_url(self) -> str: ...
    @property
    def websocket_url(self) -> str: ...


class FramePlayer:
    """A venue that answers depth requests with `snapshot(symbol)`, and subscriptions, and plays frames to each client.

    play is called for every connection once something is subscribed; when it returns, the connection is closed. A
    request that holds a symbol of `unknown` is refused, as the venue's own would be, whole.
    """

    def __init__(self, snapshot: Callable[[str], bytes], play: Play, unknown: Sequence[str] = ()) -> None:
        self._snapshot = snapshot
        self._play = play
        self._server: Server | None = None
        self._playing: set[asyncio.Task[object]] = set()
        self.unknown = set(unknown)
        self.answers = True
        self.snapshots: list[str] = []
        self.paths: list[str] = []
        self.depth_paths: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.signal = Signal()
        self.open = 0

    async def __aenter__(self) -> FramePlayer:
        self._server = await serve(
            self._stream, "127.0.0.1", 0, process_request=self._http, compression=None, close_timeout=1
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.base_url, self.websocket_url = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        for task in self._playing:
            task.cancel()
        self._server.close()
        await self._server.wait_closed()

    def _http(self, _: ServerConnection, request: Request) -> Response | None:
        if "/depth?" not in request.path:
            return None
        symbol = request.path.partition("symbol=")[2].partition("&")[0]
        self.snapshots.append(symbol)
        self.depth_paths.append(request.path)
        self.signal.ring()
        body = self._snapshot(symbol)
        headers = Headers({"content-type": "application/json", "content-length": str(len(body)), "connection": "close"})
        return Response(200, "OK", headers, body)

    async def _stream(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        self.open += 1
        subscribed = asyncio.Event()

        async def send(frame: bytes) -> None:
            await connection.send(frame, text=True)

        async def play() -> None:
            await subscribed.wait()
            with suppress(ConnectionClosed):
                await self._play(send)
            await connection.close()

        task = asyncio.create_task(play())
        self._playing.add(task)
        try:
            while True:
                request = msgspec.json.decode(await connection.recv())
                self.requests.append(request)
                if self.answers:
                    await send(self._answer(request))
                    subscribed.set()
                self.signal.ring()
        except ConnectionClosed:
            return
        finally:
            self.open -= 1
            task.cancel()
            self._playing.discard(task)
            self.signal.ring()

    def _answer(self, request: dict[str, Any]) -> bytes:
        symbols = {name.partition("@")[0].upper() for name in request["params"]}
        if request["method"] == "SUBSCRIBE" and symbols & self.unknown:
            error = {"code": 2, "msg": "Invalid request: unknown stream"}
            return msgspec.json.encode({"error": error, "id": request["id"]})
        return msgspec.json.encode({"result": None, "id": request["id"]})


class WatchedBudget(AttemptBudget):
    """Tells of each attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.attempted = asyncio.Event()

    def take(self, now_s: float) -> float:
        self.attempted.set()
        return super().take(now_s)


class Follower:
    """A feed at work on a hub, and all that it told."""

    def __init__(
        self,
        venue: Venue,
        instruments: Sequence[Instrument] = (BTCUSDT,),
        followed: Sequence[str] | None = None,
        stale_after_ms: int = int(PATIENCE_S * 1_000),
        times: FeedTimes = QUICK,
        clock: Clock | None = None,
        budget: AttemptBudget | None = None,
        priority: Callable[[str], int] | None = None,
        backfill: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._budget = budget or WatchedBudget()
        self.signal = Signal()
        self.changes: list[StateChanged] = []
        self.updates = 0
        self.hub = MarketHub(instruments, clock, stale_after_ms, self._changed)
        self.rest = BinanceRest(venue.base_url, clock, product=instruments[0].product, random=Random(1))
        self.feed = BinanceMarketFeed(
            venue.websocket_url,
            self.rest,
            self.hub,
            [item.symbol for item in instruments] if followed is None else followed,
            clock,
            self._updated,
            random=Random(1),
            times=times,
            budget=self._budget,
            priority=priority,
            backfill=backfill,
        )

    def _changed(self, change: StateChanged) -> None:
        self.changes.append(change)
        self.signal.ring()

    def _updated(self, symbol: str) -> None:
        assert symbol in self.hub.symbols
        self.updates += 1
        self.signal.ring()

    async def attempted(self, count: int) -> None:
        """Until the feed has tried to connect so often; nothing else tells of an attempt that leads nowhere."""
        assert isinstance(self._budget, WatchedBudget)
        while self.feed.counters.attempts < count:
            await asyncio.wait_for(self._budget.attempted.wait(), DEADLINE_S)
            self._budget.attempted.clear()

    @property
    def states(self) -> list[tuple[str, str | None]]:
        return [(change.current.value, change.reason and change.reason.value) for change in self.changes]

    def states_of(self, symbol: str) -> list[tuple[str, str | None]]:
        return [
            (change.current.value, change.reason and change.reason.value)
            for change in self.changes
            if change.symbol == symbol
        ]

    def is_live(self, *symbols: str) -> bool:
        states = self.hub.book_states()
        return all(states[symbol] == "LIVE" for symbol in symbols or states)

    async def live(self, *symbols: str) -> None:
        await self.signal.until(lambda: self.is_live(*symbols))


@asynccontextmanager
async def following(venue: Venue, **named: Any) -> AsyncIterator[Follower]:
    """A running feed; when it ends, no task of its own is left."""
    before = asyncio.all_tasks()
    follower = Follower(venue, **named)
    stop = asyncio.Event()
    running = asyncio.create_task(follower.feed.run(stop))
    try:
        yield follower
    finally:
        stop.set()
        await running
        await follower.rest.aclose()
    assert not any(view.is_open for view in follower.feed.connections)
    own = [task for task in asyncio.all_tasks() - before if "binance" in repr(task.get_coro())]
    assert not own, f"tasks of the feed are left: {own}"


def depth_frame(
    first: int,
    last: int,
    bids: Sequence[Sequence[str]] = (),
    asks: Sequence[Sequence[str]] = (),
    symbol: str = "BTCUSDT",
    previous: int | None = None,
) -> bytes:
    data: dict[str, object] = {"e": "depthUpdate", "E": 1, "s": symbol, "U": first, "u": last}
    if previous is not None:
        data["pu"] = previous
    return msgspec.json.encode({"stream": f"{symbol.lower()}@depth@100ms", "data": data | {"b": bids, "a": asks}})


def trade_frame(trade_id: int, symbol: str = "BTCUSDT") -> bytes:
    data = {"e": "trade", "E": 1, "s": symbol, "t": trade_id, "p": "100.00", "q": "1.00000", "T": 1, "m": True}
    return msgspec.json.encode({"stream": f"{symbol.lower()}@trade", "data": data})


def snapshot_body(update_id: int) -> bytes:
    return msgspec.json.encode(
        {"lastUpdateId": update_id, "bids": [["100.00", "1.00000000"]], "asks": [["100.01", "2.00000000"]]}
    )
