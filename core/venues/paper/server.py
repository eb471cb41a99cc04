"""The paper venue's process: REST and WebSocket on one port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from core.config import Settings
from core.types.clock import Clock, SystemClock
from core.types.ids import IdSource, SystemIdSource
from core.venues.paper.accounts import STARTING_BALANCES
from core.venues.paper.endpoints import is_microseconds
from core.venues.paper.errors import PaperVenueError, VenueError
from core.venues.paper.events import MarketSource
from core.venues.paper.exchange import Exchange
from core.venues.paper.market_live import LIVE_PREFIX, LiveMarket
from core.venues.paper.market_recording import PREFIX, RecordingMarket, recording_files
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.rest import Rest
from core.venues.paper.signing import Credentials
from core.venues.paper.storage import Storage
from core.venues.paper.streams import DEFAULT_CONNECTION_LIFE_S, POLICY_VIOLATION
from core.venues.paper.usdm.marks import FundingTerms
from core.venues.paper.usdm.venue import UsdmVenue
from core.venues.paper.websocket_api import WebSocketApi

log = structlog.get_logger("venue")

STATE_FILE = Path("venue") / "venue.sqlite3"
BACKLOG = 128
MAX_INBOUND_MESSAGE_BYTES = 64 * 1024
SHUTDOWN_TIMEOUT_S = 2
PING_INTERVAL_S = 20.0
PONG_TIMEOUT_S = 60.0


class PaperVenue:
    """A running venue: `async with PaperVenue(...) as venue`, then venue.base_url and venue.websocket_url.

    The market starts when the context is entered. `failed` resolves to the error when the venue can't go on.
    Entering raises PaperVenueError: a taken port, a bad source, unusable state.
    """

    def __init__(
        self,
        source: MarketSource,
        state_file: Path,
        credentials: Credentials,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        starting_balances: dict[str, int] | None = None,
        usdm_funding: FundingTerms | None = None,
        more_credentials: Sequence[Credentials] = (),
        connection_life_s: float = DEFAULT_CONNECTION_LIFE_S,
    ) -> None:
        """more_credentials: further keys of the same account. connection_life_s: how long a WebSocket may live."""
        self._source = source
        self._state_file = state_file
        self._credentials = credentials
        self._all_credentials = (credentials, *more_credentials)
        for one in self._all_credentials:
            one.check()
        self._connection_life_s = connection_life_s
        self._host = host
        self._port = port
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIdSource()
        self._starting_balances = starting_balances or STARTING_BALANCES
        self._usdm_funding = usdm_funding
        self._closing: contextlib.AsyncExitStack = contextlib.AsyncExitStack()

    @classmethod
    def from_settings(cls, settings: Settings) -> PaperVenue:
        """Raises ConfigurationError and PaperVenueError."""
        clock = SystemClock()
        market = settings.market
        source: MarketSource
        if market.source.startswith(PREFIX):
            source = RecordingMarket(recording_files(market.source), market.speed, clock)
        elif market.source.startswith(LIVE_PREFIX):
            symbols = tuple(filter(None, market.source.removeprefix(LIVE_PREFIX).upper().split(",")))
            source = LiveMarket(symbols, market.live_rest_url, market.live_websocket_url, clock)
        else:
            source = SyntheticMarket(market.seed, market.speed, clock)
        credentials = Credentials(settings.read_secret("venue-paper.key"), settings.read_secret("venue-paper.secret"))
        return cls(
            source,
            settings.home / STATE_FILE,
            credentials,
            host=settings.venue.host,
            port=settings.venue.port,
            clock=clock,
            more_credentials=_cancelling_credentials(settings),
        )

    async def __aenter__(self) -> PaperVenue:
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        async with contextlib.AsyncExitStack() as stack:
            listener = _listen(self._host, self._port)
            stack.callback(listener.close)
            self.port: int = listener.getsockname()[1]
            books = await asyncio.to_thread(self._source.open)
            storage = Storage(self._state_file, self._starting_balances)
            stack.callback(storage.close)
            self.exchange = Exchange(self._source, books, storage, self._clock, self._fail, self._connection_life_s)
            self.usdm: UsdmVenue | None = UsdmVenue.open(
                self._source,
                self._state_file,
                self._all_credentials,
                self._ids,
                self._clock,
                self._fail,
                stack,
                spot_middle=self._spot_middle,
                funding=self._usdm_funding,
            )
            server = _Server(self._config())
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            stack.push_async_callback(_stop_server, server, serving)
            works = [self._play(), self.exchange.keep_house()]
            if self.usdm is not None:
                works.append(self._keep_usdm_house(self.usdm))
                stack.callback(self.usdm.exchange.hub.close)
            for work in works:
                stack.push_async_callback(_cancel, asyncio.create_task(work))
            stack.callback(self.exchange.hub.close)
            await server.has_started(serving)
            self._closing = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    @property
    def base_url(self) -> str:
        """For REST: http://host:port."""
        return f"http://{_url_host(self._host)}:{self.port}"

    @property
    def websocket_url(self) -> str:
        """For WebSocket: ws://host:port."""
        return f"ws://{_url_host(self._host)}:{self.port}"

    @property
    def usdm_websocket_url(self) -> str:
        """For USD-M WebSocket: ws://host:port/usdm. USD-M REST is at base_url."""
        return f"{self.websocket_url}/usdm"

    def _config(self) -> uvicorn.Config:
        rest = Rest(self.exchange, self._all_credentials, self._ids)
        websocket_api = WebSocketApi(self.exchange, rest, self._all_credentials)
        app = Starlette(
            routes=[
                *rest.routes(),
                *(self.usdm.routes() if self.usdm is not None else ()),
                WebSocketRoute("/ws-api/v3", websocket_api.serve),
                WebSocketRoute("/stream", self._combined),
                WebSocketRoute("/ws", self._raw),
                WebSocketRoute("/ws/{streams:path}", self._raw),
            ],
            exception_handlers={404: _not_found, 405: _not_found, Exception: _internal_error},
        )
        return uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=MAX_INBOUND_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=PONG_TIMEOUT_S,
            lifespan="off",
            log_config=None,
            # uvicorn's info lines hold whole paths, and a listen key is part of a path.
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )

    async def _combined(self, websocket: WebSocket) -> None:
        names = _streams_of(websocket.scope["query_string"].decode("latin-1"))
        await self._serve_streams(websocket, names, is_combined=True)

    async def _raw(self, websocket: WebSocket) -> None:
        names = [name for name in websocket.path_params.get("streams", "").split("/") if name]
        await self._serve_streams(websocket, names, is_combined=False)

    async def _serve_streams(self, websocket: WebSocket, names: list[str], *, is_combined: bool) -> None:
        try:
            in_micro = is_microseconds(websocket.query_params.get("timeUnit"))
        except VenueError as refusal:
            await websocket.close(POLICY_VIOLATION, refusal.message)
            return
        await self.exchange.hub.serve(websocket, names, is_combined, in_micro)

    async def _play(self) -> None:
        try:
            await self._source.play(self.exchange.on_market)
        except Exception as error:
            log.exception("market_failed")
            self._fail(error)

    async def _keep_usdm_house(self, usdm: UsdmVenue) -> None:
        try:
            await usdm.exchange.keep_house()
        except Exception as error:
            log.exception("usdm_housekeeping_failed")
            self._fail(error)

    def _spot_middle(self, symbol: str) -> int:
        """The index that the perpetuals follow; 0 without that spot market."""
        data = self.exchange.symbols.get(symbol)
        if data is None:
            return 0
        (bid, _), (ask, _) = data.best()
        return (bid + ask) // 2 if bid and ask else 0

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_result(error)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process that embeds it has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._is_serving.set()

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_serving = asyncio.Event()

    async def has_started(self, serving: asyncio.Task[None]) -> None:
        started = asyncio.create_task(self._is_serving.wait())
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if not self._is_serving.is_set():
            started.cancel()
            await serving
            raise PaperVenueError("paper venue: its web server ended while it started; see the log")


async def _stop_server(server: _Server, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    await serving


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _listen(host: str, port: int) -> socket.socket:
    """Raises PaperVenueError when the port can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        taken = "another process has it" if error.errno == errno.EADDRINUSE else error.strerror
        raise PaperVenueError(
            f"paper venue: can't listen on {host}:{port}: {taken}. Stop that process, or set another port: "
            "venue.port in veloz.toml or VELOZ_VENUE__PORT (0 takes any free one)"
        ) from error
    return listener


def _cancelling_credentials(settings: Settings) -> tuple[Credentials, ...]:
    """The emergency canceller's key, where there is one: it may ask and cancel. Raises ConfigurationError."""
    name = "venue-paper-cancel"
    if not settings.paths.secret(f"{name}.key").exists():
        return ()
    key, secret = settings.read_secret(f"{name}.key"), settings.read_secret(f"{name}.secret")
    return (Credentials(key, secret, can_only_cancel=True),)


def _streams_of(query: str) -> list[str]:
    """The `streams` of a query. A plus is a plus there, as in kline_1d@+08:00."""
    values = dict(pair.partition("=")[::2] for pair in query.split("&"))
    return [name for name in unquote(values.get("streams", "")).split("/") if name]


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _not_found(_: HttpRequest, __: Exception) -> Response:
    return Response(b'{"code":-1000,"msg":"No such endpoint."}', 404, media_type="application/json")


async def _internal_error(_: HttpRequest, __: Exception) -> Response:
    return Response(
        b'{"code":-1000,"msg":"An unknown error occurred while processing the request."}',
        500,
        media_type="application/json",
    )


async def main(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Run the venue until `stop` is set; calls ready() once it serves.

    Raises PaperVenueError and ConfigurationError.
    """
    async with PaperVenue.from_settings(settings) as venue:
        log.info("venue_ready", url=venue.base_url, market=settings.market.source, symbols=list(venue.exchange.symbols))
        ready()
        stopping = asyncio.create_task(stop.wait())
        ends: set[asyncio.Future[Any]] = {stopping, venue.failed}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if venue.failed.done():
            raise venue.failed.result()
    log.info("venue_stopped")
