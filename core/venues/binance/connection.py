"""One WebSocket of Binance's combined market streams: subscriptions with their answers, and whether the peer is alive.

What the venue takes (https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams): 5 inbound messages
a second, pings and pongs among them; 1,024 streams a connection on spot, 200 on futures; 24 hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from core.types.instruments import Product
from core.venues.binance.user_stream import open_websocket
from core.venues.binance.wire import UNREADABLE
from core.venues.ports import VenueUnavailableError

REQUEST_INTERVAL_S = 0.25
"""Four a second: the fifth that the venue takes is for pings and pongs."""
STREAMS_PER_REQUEST = 100
NAMED_SYMBOLS = 10
"""How many symbols an error names."""
COMBINED = b'{"stream"'
SERVER_SHUTDOWN = "serverShutdown"

_log = structlog.get_logger("venues.binance.connection")


class ProductStreams(msgspec.Struct, frozen=True):
    """Where and how the market data of a product is had. The first stream is the one of depth."""

    path: str
    names: tuple[str, ...]
    streams_per_connection: int
    depth_path: str

    @property
    def symbols_per_connection(self) -> int:
        return self.streams_per_connection // len(self.names)

    def of(self, symbol: str) -> list[str]:
        return [f"{symbol.lower()}@{name}" for name in self.names]


STREAMS = {
    Product.SPOT: ProductStreams("/stream", ("depth@100ms", "bookTicker", "trade"), 1_024, "/api/v3/depth"),
    # USD-M routes by path: depth, bookTicker and trade belong to /public; elsewhere they stay silent without an error.
    Product.USDM: ProductStreams("/public/stream", ("depth@100ms", "bookTicker", "trade"), 200, "/fapi/v1/depth"),
    Product.COINM: ProductStreams("/stream", ("depth@100ms", "bookTicker", "trade"), 200, "/dapi/v1/depth"),
}


class FeedTimes(msgspec.Struct, frozen=True):
    """Every delay of the feed, in seconds.

    A connection without a frame for silence_limit_s is pinged, and remade unless the answer comes within
    pong_limit_s; one that stays without frames for quiet_limit_s is remade even so, because a venue can forget a
    subscription. A symbol that isn't LIVE for resubscribe_after_s is subscribed anew. rollover_after_s minus up to
    rollover_jitter_s is the age at which a connection is replaced, before the venue cuts it at 24 hours.
    """

    silence_limit_s: float = 10.0
    pong_limit_s: float = 5.0
    quiet_limit_s: float = 60.0
    answer_limit_s: float = 5.0
    reconnect_base_s: float = 0.2
    reconnect_cap_s: float = 10.0
    stable_after_s: float = 5.0
    rollover_after_s: float = 23 * 3_600 + 50 * 60.0
    rollover_jitter_s: float = 20 * 60.0
    rollover_retry_s: float = 30.0
    handover_limit_s: float = 30.0
    resubscribe_after_s: float = 30.0
    resubscribe_cap_s: float = 900.0
    snapshot_pause_s: float = 0.5
    snapshot_pause_cap_s: float = 30.0
    tick_interval_s: float = 0.1


class FeedCounters(msgspec.Struct):
    """Since the start. connections counts those that were opened, attempts those that were tried; reconnects follow a
    loss, rollovers don't. trades and tickers of an unreadable frame are lost, its depth is found to be a gap."""

    frames: int = 0
    received_bytes: int = 0
    unreadable: int = 0
    attempts: int = 0
    connections: int = 0
    reconnects: int = 0
    rollovers: int = 0
    rollovers_failed: int = 0
    subscriptions: int = 0
    subscriptions_refused: int = 0
    resubscriptions: int = 0
    snapshots: int = 0
    snapshots_failed: int = 0
    rate_limited: int = 0


class ConnectionView(msgspec.Struct, frozen=True):
    """One connection at this moment. silent_s is the time since its last frame."""

    url: str
    is_open: bool
    is_handing_over: bool
    symbols: int
    subscribed: int
    frames: int
    received_bytes: int
    age_s: float
    silent_s: float


class SubscriptionError(VenueUnavailableError):
    """The venue refused streams of these symbols, with its code (0 when it gave none) and words."""

    def __init__(self, symbols: Sequence[str], code: int, message: str) -> None:
        named = ", ".join(symbols[:NAMED_SYMBOLS]) + (", ..." if len(symbols) > NAMED_SYMBOLS else "")
        super().__init__(f"the streams of {named} were refused, venue code {code}: {message}")
        self.symbols = tuple(symbols)
        self.code = code
        self.message = message


class _Control(msgspec.Struct):
    """What isn't market data: an answer to a request, or news of the connection."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: dict[str, object] | None = None
    code: int | None = None
    msg: str = ""
    e: str = ""
    data: msgspec.Raw = msgspec.Raw()


_CONTROL = msgspec.json.Decoder(_Control)


class MarketConnection:
    """An open connection. on_frame gets every frame that isn't an answer; it is cheap and doesn't raise.

    Use `open_market`, then run `read` in a task: it ends when the connection does. `subscribe` and `unsubscribe` need
    that task.
    """

    def __init__(
        self,
        websocket: ClientConnection,
        url: str,
        streams: ProductStreams,
        counters: FeedCounters,
        times: FeedTimes,
        on_frame: Callable[[bytes], None],
    ) -> None:
        self.url = url
        self.on_frame = on_frame
        self.subscribed: set[str] = set()
        self.shutting_down = asyncio.Event()
        self.frames = 0
        self.received_bytes = 0
        self._loop = asyncio.get_running_loop()
        self.opened_s = self.last_frame_s = self._loop.time()
        self._websocket = websocket
        self._streams = streams
        self._counters = counters
        self._times = times
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._requests = 0
        self._sent_s = -REQUEST_INTERVAL_S
        self._sending = asyncio.Lock()
        self._pinging: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Hand on frames until the connection ends. Raises websockets' ConnectionClosed, always."""
        receive, clock, counters = self._websocket.recv, self._loop.time, self._counters
        try:
            while True:
                frame = await receive(decode=False)
                self.last_frame_s = clock()
                size = len(frame)
                self.frames += 1
                self.received_bytes += size
                counters.frames += 1
                counters.received_bytes += size
                if frame.startswith(COMBINED) or not self._control(frame):
                    self.on_frame(frame)
        finally:
            for answer in self._answers.values():
                answer.cancel()

    async def subscribe(self, symbols: Iterable[str]) -> None:
        """All streams of these symbols, as few requests as that takes.

        Raises SubscriptionError when the venue refuses: it names the symbols it refused, the others are subscribed.
        TimeoutError without an answer, ConnectionClosed.
        """
        refused: list[SubscriptionError] = []
        for batch in self.batches([symbol for symbol in symbols if symbol not in self.subscribed]):
            await self._subscribe_batch(batch, refused)
        if refused:
            first = refused[0]
            raise SubscriptionError([name for error in refused for name in error.symbols], first.code, first.message)

    async def unsubscribe(self, symbols: Iterable[str]) -> None:
        """Raises as `subscribe`."""
        for batch in self.batches([symbol for symbol in symbols if symbol in self.subscribed]):
            self.subscribed.difference_update(batch)
            await self._request("UNSUBSCRIBE", batch)

    async def close(self) -> None:
        """Say goodbye; never takes longer than the closing handshake's limit."""
        if self._pinging is not None:
            self._pinging.cancel()
        with suppress(ConnectionClosed, OSError):
            await self._websocket.close()

    def abort(self, reason: str) -> None:
        """Drop the connection without a handshake: its peer is gone, or has lost its mind."""
        _log.warning("market_stream_aborted", reason=reason, url=self.url)
        self._websocket.transport.abort()

    def check_alive(self) -> None:
        """To be called every moment: pings a silent peer, drops one that doesn't answer or stays silent."""
        silent_s = self._loop.time() - self.last_frame_s
        if not self.subscribed or silent_s <= self._times.silence_limit_s:
            return
        if silent_s > self._times.quiet_limit_s:
            self.abort(f"no frame for {silent_s:.1f} s")
        elif self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping())

    async def _ping(self) -> None:
        try:
            async with asyncio.timeout(self._times.pong_limit_s):
                await (await self._websocket.ping())
        except TimeoutError:
            self.abort(f"no frame for {self._times.silence_limit_s} s and no answer to a ping")
        except ConnectionClosed:
            return
        # It is alive: the next ping is due after as long a silence again.
        await asyncio.sleep(self._times.silence_limit_s)

    def batches(self, symbols: Sequence[str]) -> list[Sequence[str]]:
        """Symbols in the portions that one request takes."""
        size = max(1, STREAMS_PER_REQUEST // len(self._streams.names))
        return [symbols[start : start + size] for start in range(0, len(symbols), size)]

    async def _subscribe_batch(self, symbols: Sequence[str], refused: list[SubscriptionError]) -> None:
        """The venue takes a request whole or not at all: halving finds the symbol that it doesn't take."""
        # Frames may come before the answer does.
        self.subscribed.update(symbols)
        try:
            await self._request("SUBSCRIBE", symbols)
            self._counters.subscriptions += len(symbols)
        except SubscriptionError as error:
            self.subscribed.difference_update(symbols)
            if len(symbols) == 1:
                self._counters.subscriptions_refused += 1
                refused.append(error)
                return
            middle = len(symbols) // 2
            await self._subscribe_batch(symbols[:middle], refused)
            await self._subscribe_batch(symbols[middle:], refused)

    async def _request(self, method: str, symbols: Sequence[str]) -> None:
        async with self._sending:
            await asyncio.sleep(self._sent_s + REQUEST_INTERVAL_S - self._loop.time())
            self._requests += 1
            request_id = self._requests
            answer = self._answers[request_id] = self._loop.create_future()
            names = [name for symbol in symbols for name in self._streams.of(symbol)]
            request = {"method": method, "params": names, "id": request_id}
            self._sent_s = self._loop.time()
            try:
                await self._websocket.send(msgspec.json.encode(request), text=True)
                async with asyncio.timeout(self._times.answer_limit_s):
                    await answer
            except _RefusedError as refusal:
                raise SubscriptionError(symbols, refusal.code, refusal.message) from refusal
            finally:
                del self._answers[request_id]

    def _control(self, frame: bytes) -> bool:
        """Whether the frame was an answer or news of the connection, and has been dealt with."""
        try:
            control = _CONTROL.decode(frame)
        except UNREADABLE:
            return False
        if control.e == SERVER_SHUTDOWN:
            self.shutting_down.set()
            return True
        if not isinstance(control.id, int):
            # An error without the id of its request: no answer that anyone waits for.
            if control.error is not None or control.code is not None:
                _log.warning("market_stream_error", frame=frame[:200].decode(errors="replace"))
                return True
            return False
        answer = self._answers.get(control.id)
        if answer is not None and not answer.done():
            if control.error is not None or control.code is not None:
                answer.set_exception(_refusal(control))
            else:
                answer.set_result(None)
        return True


class _RefusedError(Exception):
    """The venue's error answer to a request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def _refusal(control: _Control) -> _RefusedError:
    body = control.error or {"code": control.code, "msg": control.msg}
    code = body.get("code")
    return _RefusedError(code if isinstance(code, int) else 0, str(body.get("msg", ""))[:200])


async def open_market(
    websocket_url: str,
    streams: ProductStreams,
    counters: FeedCounters,
    times: FeedTimes,
    on_frame: Callable[[bytes], None],
) -> MarketConnection:
    """Connect, with nothing subscribed. Raises WebSocketException, OSError, TimeoutError."""
    url = websocket_url.rstrip("/") + streams.path
    counters.attempts += 1
    websocket = await open_websocket(url)
    counters.connections += 1
    return MarketConnection(websocket, url, streams, counters, times, on_frame)
