"""Binance's user data stream: what becomes of our orders, as it happens.

Reached in one of two ways. By listen key: made and kept alive by REST, heard at /ws/<key>; USD-M's way, and spot's
until 2026-02-20. By a signed subscription on the WebSocket API: spot's way since.
(https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/user-data-stream-requests)

A stream that was lost says so once, and says when it is complete again: what happened between is to be asked for by
REST. A message that can't be read is a loss too, because it may have been a fill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from core.types.instruments import Product
from core.venues.binance.backoff import Backoff, is_loopback
from core.venues.binance.endpoints import Priority
from core.venues.binance.errors import CODE_LISTEN_KEY_UNKNOWN, BinanceApiError
from core.venues.binance.rest import BinanceRest
from core.venues.binance.signing import signed_parameters
from core.venues.binance.wire import UNREADABLE, ErrorBody, ListenKey, UserMessage
from core.venues.ports import (
    UserEvent,
    UserStreamConnected,
    UserStreamLost,
    VenueRateLimitedError,
    VenueUnavailableError,
)

SUBSCRIBE = "userDataStream.subscribe.signature"
SUBSCRIBE_TIMEOUT_S = 5.0
SUBSCRIBED_STATUS = 200
LISTEN_KEY_KEEPALIVE_S = 25 * 60.0
"""A listen key ends after 60 minutes without a keepalive; two may fail."""
KEEPALIVE_RETRY_S = 60.0
RECONNECT_BASE_S = 0.2
RECONNECT_CAP_S = 10.0
STABLE_AFTER_S = 5.0
OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
PING_INTERVAL_S = 15.0
PING_TIMEOUT_S = 15.0
MAX_MESSAGE_BYTES = 1 << 20
QUEUE_LIMIT_FRAMES = 256
ENDED = frozenset({"listenKeyExpired", "eventStreamTerminated", "serverShutdown"})
"""The venue says that no more will come."""

Interpreter = Callable[[str, bytes], Awaitable[tuple[UserEvent, ...]]]
"""From a message's kind and bytes to what it means; raises MsgspecError, ValueError or KeyError for one that makes no
sense."""

_KIND = msgspec.json.Decoder(UserMessage)
_WIRE_LOG = logging.getLogger("venues.binance.websocket")
_WIRE_LOG.setLevel(logging.WARNING)  # below, the library logs paths and frames: listen keys, API keys, signatures
_log = structlog.get_logger("venues.binance.user_stream")


WRITE_LIMIT_BYTES = 32 * 1024


def open_websocket(
    url: str,
    *,
    write_limit_bytes: int = WRITE_LIMIT_BYTES,
    create_connection: type[ClientConnection] = ClientConnection,
) -> connect:
    """A WebSocket of this venue: bounded, uncompressed, pinged; reached directly when it is on this machine.

    What is written beyond write_limit_bytes goes to the system at once, the rest when the loop comes round.
    """
    return connect(
        url,
        proxy=None if is_loopback(url) else True,
        compression=None,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=PING_INTERVAL_S,
        ping_timeout=PING_TIMEOUT_S,
        max_size=MAX_MESSAGE_BYTES,
        max_queue=QUEUE_LIMIT_FRAMES,
        write_limit=write_limit_bytes,
        logger=_WIRE_LOG,
        create_connection=create_connection,
    )


class _ApiAnswer(msgspec.Struct):
    """An answer of the WebSocket API; events have no status."""

    id: str | int | None = None
    status: int = 0
    error: ErrorBody | None = None


class UserStream:
    """The user data stream of one API key: by signed subscription when websocket_api_url is given, else by listen key
    at websocket_url."""

    def __init__(
        self,
        websocket_url: str,
        rest: BinanceRest,
        interpret: Interpreter,
        *,
        websocket_api_url: str = "",
        keepalive_s: float = LISTEN_KEY_KEEPALIVE_S,
        random: Random | None = None,
    ) -> None:
        self._websocket_url = websocket_url.rstrip("/")
        self._websocket_api_url = websocket_api_url
        self._rest = rest
        self._interpret = interpret
        self._keepalive_s = keepalive_s
        self._backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S, random)

    async def events(self) -> AsyncIterator[UserEvent]:
        """Connects, reconnects with backoff, and never ends by itself."""
        loop = asyncio.get_running_loop()
        lost = False
        while True:
            connected_at: float | None = None
            wait_s = 0.0
            try:
                async with self._subscribed() as connection:
                    connected_at = loop.time()
                    lost = False
                    yield UserStreamConnected()
                    while True:
                        for event in await self._read(await connection.recv(decode=False)):
                            yield event
            except (VenueUnavailableError, WebSocketException, OSError, TimeoutError) as error:
                detail = f"{type(error).__name__}: {error}"
                if isinstance(error, VenueRateLimitedError):
                    wait_s = error.retry_after_s
            if not lost:
                lost = True
                yield UserStreamLost(detail)
            if connected_at is not None and loop.time() - connected_at > STABLE_AFTER_S:
                self._backoff.reset()
            await asyncio.sleep(max(wait_s, self._backoff.next_s()))

    def _subscribed(self) -> AbstractAsyncContextManager[ClientConnection]:
        return self._by_subscription() if self._websocket_api_url else self._by_listen_key()

    @asynccontextmanager
    async def _by_listen_key(self) -> AsyncIterator[ClientConnection]:
        key = await self._rest.once("POST", self._rest.paths.listen_key, answer=ListenKey)
        async with open_websocket(f"{self._websocket_url}/ws/{key.listen_key}") as connection:
            keepalive = asyncio.create_task(self._keep_alive(key.listen_key, connection))
            try:
                yield connection
            finally:
                keepalive.cancel()

    @asynccontextmanager
    async def _by_subscription(self) -> AsyncIterator[ClientConnection]:
        rest = self._rest
        assert rest.credential is not None, "a user data stream needs a key"
        await rest.ensure_time(SUBSCRIBE, Priority.RECONCILE)
        async with rest.leave_to_send("WS", SUBSCRIBE), open_websocket(self._websocket_api_url) as connection:
            parameters = signed_parameters(
                rest.credential, {"recvWindow": rest.recv_window_ms, "timestamp": rest.clock.now_ms()}
            )
            request = {"id": SUBSCRIBE, "method": SUBSCRIBE, "params": parameters}
            await connection.send(msgspec.json.encode(request), text=True)
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                await self._confirmation(connection)
            yield connection

    async def _confirmation(self, connection: ClientConnection) -> None:
        while True:
            frame = await connection.recv(decode=False)
            try:
                answer = msgspec.json.decode(frame, type=_ApiAnswer)
            except UNREADABLE as error:
                raise VenueUnavailableError(f"{SUBSCRIBE}: the answer can't be read: {error}") from error
            if answer.id != SUBSCRIBE:
                continue
            if answer.status != SUBSCRIBED_STATUS:
                body = answer.error or ErrorBody(0, "no error body")
                raise self._rest.failure(SUBSCRIBE, answer.status, body, {}, "")
            return

    async def _read(self, frame: bytes) -> tuple[UserEvent, ...]:
        try:
            message = _KIND.decode(frame)
            wrapped = bytes(message.event) or bytes(message.data)
            if wrapped:
                frame, message = wrapped, _KIND.decode(wrapped)
            events = await self._interpret(message.kind, frame)
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            _log.error("user_message_unreadable", error=str(error), size_bytes=len(frame))
            return UserStreamLost(f"a message could not be read: {error}"), UserStreamConnected()
        if message.kind in ENDED:
            raise VenueUnavailableError(f"user data stream: the venue has ended it ({message.kind})")
        return events

    async def _keep_alive(self, listen_key: str, connection: ClientConnection) -> None:
        """Prolong the key; when the venue says that it is gone, close the connection so that a new one is made."""
        # USD-M knows the key by the API key that made it.
        parameters = {"listenKey": listen_key} if self._rest.product is Product.SPOT else {}
        delay_s = self._keepalive_s
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self._rest.once("PUT", self._rest.paths.listen_key, parameters, answer=msgspec.Raw)
                delay_s = self._keepalive_s
            except VenueUnavailableError as error:
                _log.warning("listen_key_keepalive_failed", error=str(error))
                if isinstance(error, BinanceApiError) and error.code == CODE_LISTEN_KEY_UNKNOWN:
                    await connection.close()
                    return
                delay_s = min(KEEPALIVE_RETRY_S, self._keepalive_s)
