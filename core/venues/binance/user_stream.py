"""Binance's user data stream: what becomes of our orders, as it happens.

A stream that was lost says so once, and says when it is complete again: what happened between is to be asked for by
REST. A message that can't be read is a loss too, because it may have been a fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from core.types.instruments import Instrument
from core.venues.binance.backoff import Backoff, is_loopback
from core.venues.binance.rest import BinanceRest
from core.venues.binance.wire import ExecutionReportMessage, ListenKey, UserMessage, report_of
from core.venues.ports import (
    ExecutionReport,
    UserEvent,
    UserStreamConnected,
    UserStreamLost,
    VenueUnavailableError,
)

USER_STREAM_PATH = "/api/v3/userDataStream"
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
CODE_LISTEN_KEY_UNKNOWN = -1125

_KIND = msgspec.json.Decoder(UserMessage)
_REPORT = msgspec.json.Decoder(ExecutionReportMessage)
_log = structlog.get_logger("venues.binance.user_stream")


def open_websocket(url: str) -> connect:
    """A WebSocket of this venue: bounded, uncompressed, pinged; reached directly when it is on this machine."""
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
    )


class UserStream:
    """The user data stream of one API key. instrument_of gives the scales of a symbol; it raises KeyError for one that
    the venue doesn't list."""

    def __init__(
        self,
        websocket_url: str,
        rest: BinanceRest,
        instrument_of: Callable[[str], Awaitable[Instrument]],
        *,
        keepalive_s: float = LISTEN_KEY_KEEPALIVE_S,
        random: Random | None = None,
    ) -> None:
        self._websocket_url = websocket_url.rstrip("/")
        self._rest = rest
        self._instrument_of = instrument_of
        self._keepalive_s = keepalive_s
        self._backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S, random)

    async def events(self) -> AsyncIterator[UserEvent]:
        """Connects, reconnects with backoff, and never ends by itself."""
        loop = asyncio.get_running_loop()
        lost = False
        while True:
            connected_at: float | None = None
            detail = "the venue closed the stream"
            try:
                key = await self._rest.once("POST", USER_STREAM_PATH, answer=ListenKey)
                async with open_websocket(f"{self._websocket_url}/ws/{key.listen_key}") as connection:
                    keepalive = asyncio.create_task(self._keep_alive(key.listen_key, connection))
                    try:
                        connected_at = loop.time()
                        lost = False
                        yield UserStreamConnected()
                        while True:
                            for event in await self._read(await connection.recv(decode=False)):
                                yield event
                    finally:
                        keepalive.cancel()
            except (VenueUnavailableError, WebSocketException, OSError, TimeoutError) as error:
                detail = f"{type(error).__name__}: {error}"
            if not lost:
                lost = True
                yield UserStreamLost(detail)
            if connected_at is not None and loop.time() - connected_at > STABLE_AFTER_S:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next_s())

    async def _read(self, frame: bytes) -> tuple[UserEvent, ...]:
        try:
            kind = _KIND.decode(frame).kind
            if kind == "executionReport":
                return (await self._report(frame),)
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            _log.error("user_message_unreadable", error=str(error), size_bytes=len(frame))
            return UserStreamLost(f"a message could not be read: {error}"), UserStreamConnected()
        if kind == "listenKeyExpired":
            raise VenueUnavailableError("user data stream: the listen key has expired")
        return ()

    async def _report(self, frame: bytes) -> ExecutionReport:
        message = _REPORT.decode(frame)
        return report_of(message, await self._instrument_of(message.s))

    async def _keep_alive(self, listen_key: str, connection: ClientConnection) -> None:
        """Prolong the key; when the venue says that it is gone, close the connection so that a new one is made."""
        delay_s = self._keepalive_s
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self._rest.once("PUT", USER_STREAM_PATH, {"listenKey": listen_key}, answer=msgspec.Raw)
                delay_s = self._keepalive_s
            except VenueUnavailableError as error:
                _log.warning("listen_key_keepalive_failed", error=str(error))
                if getattr(error, "code", 0) == CODE_LISTEN_KEY_UNKNOWN:
                    await connection.close()
                    return
                delay_s = min(KEEPALIVE_RETRY_S, self._keepalive_s)
