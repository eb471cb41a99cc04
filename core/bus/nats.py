"""The engine's way to NATS: market data (latest wins) and trading events (JetStream).

Nothing here blocks or stops the engine. While NATS is away, or slower than the engine, what can't be published is
dropped and counted: market data is stale anyway, and the journal is where trading events can be read again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

import msgspec
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError

TRADING_STREAM = "TRADING"
TRADING_SUBJECTS = "trading.>"
MARKET_FLUSH_INTERVAL_S = 0.1
TRADING_QUEUE_LIMIT = 10_000
TRADING_MAX_AGE_S = 7 * 86_400
TRADING_MAX_BYTES = 256 * 1024 * 1024
DUPLICATE_WINDOW_S = 120
CONNECT_TIMEOUT_S = 2
CONNECT_RETRY_S = 0.5
PUBLISH_TIMEOUT_S = 2.0
PUBLISH_ATTEMPTS = 3
CLOSE_TIMEOUT_S = 2.0
CANCEL_AGAIN_S = 0.1
RECONNECT_TIME_WAIT_S = 0

_log = structlog.get_logger("bus")


class BusCounters(msgspec.Struct):
    """Since the start. dropped is what no reader of NATS will see."""

    published: int = 0
    market_dropped: int = 0
    trading_dropped: int = 0
    connections: int = 0


class NatsBus:
    """Publishing that never waits. Start it with start, end it with stop."""

    def __init__(self, url: str, token: str, name: str) -> None:
        self._url = url
        self._token = token
        self._name = name
        self._client: Client | None = None
        self._market: dict[str, bytes] = {}
        self._trading: deque[tuple[str, bytes, str]] = deque()
        self._trading_waits = asyncio.Event()
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._lost = asyncio.Event()
        self._stopping = False
        self.counters = BusCounters()

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    def start(self) -> None:
        self._tasks = [asyncio.create_task(part()) for part in (self._connect, self._send_market, self._send_trading)]

    async def stop(self) -> None:
        self._stopping = True
        waiting = set(self._tasks)
        while waiting:
            # nats-py swallows a cancellation that meets it while it connects, so one may not be enough.
            for task in waiting:
                task.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
        await self._close()

    def publish_market(self, venue: str, symbol: str, kind: str, payload: bytes) -> None:
        """To `market.<venue>.<symbol>.<kind>`, at most once in MARKET_FLUSH_INTERVAL_S each; the latest wins."""
        self._market[f"market.{venue}.{symbol}.{kind}"] = payload

    def publish_trading(self, messages: Sequence[tuple[str, bytes, str]]) -> None:
        """Each as (subject, payload, message id), to a subject under `trading.`, in order; the id lets JetStream leave
        out what it has already."""
        self._trading.extend(messages)
        while len(self._trading) > TRADING_QUEUE_LIMIT:
            self._trading.popleft()
            self.counters.trading_dropped += 1
        self._trading_waits.set()

    async def _connect(self) -> None:
        while not self._stopping:
            self._lost.clear()
            client = Client()
            try:
                await client.connect(
                    self._url,
                    token=self._token or None,
                    name=self._name,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    # This loop reconnects: the library's own buffer would fill unseen. Its wait is 2 s by default.
                    reconnect_time_wait=RECONNECT_TIME_WAIT_S,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    closed_cb=self._on_lost,
                    disconnected_cb=self._on_lost,
                    error_cb=self._on_error,
                )
                await self._ensure_stream(client)
            except (NatsError, OSError, TimeoutError) as error:
                _log.debug("nats_unreachable", error=str(error))
                await _close(client)
                await asyncio.sleep(CONNECT_RETRY_S)
                continue
            self._client = client
            self.counters.connections += 1
            self._ready.set()
            _log.info("nats_connected")
            await self._lost.wait()
            self._ready.clear()
            _log.warning("nats_lost")
            await self._close()

    async def _ensure_stream(self, client: Client) -> None:
        config = StreamConfig(
            name=TRADING_STREAM,
            subjects=[TRADING_SUBJECTS],
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            max_age=TRADING_MAX_AGE_S,
            max_bytes=TRADING_MAX_BYTES,
            duplicate_window=DUPLICATE_WINDOW_S,
        )
        manager = client.jsm()
        try:
            await manager.add_stream(config)
        except BadRequestError:
            # It exists with other limits, set by a release before this one.
            await manager.update_stream(config)

    async def _send_market(self) -> None:
        while True:
            await asyncio.sleep(MARKET_FLUSH_INTERVAL_S)
            waiting, self._market = self._market, {}
            client = self._client
            for subject, payload in waiting.items():
                try:
                    if client is None or not client.is_connected:
                        raise NatsError
                    await client.publish(subject, payload)
                    self.counters.published += 1
                except (NatsError, OSError):
                    self.counters.market_dropped += 1

    async def _send_trading(self) -> None:
        attempts = 0
        while True:
            await self._trading_waits.wait()
            await self._ready.wait()
            if not self._trading:
                self._trading_waits.clear()
                continue
            subject, payload, message_id = event = self._trading.popleft()
            attempts += 1
            if await self._publish_durably(subject, payload, message_id):
                attempts = 0
            elif attempts < PUBLISH_ATTEMPTS and len(self._trading) < TRADING_QUEUE_LIMIT:
                # The message id makes a repeat harmless.
                self._trading.appendleft(event)
                await asyncio.sleep(CONNECT_RETRY_S)
            else:
                attempts = 0
                self.counters.trading_dropped += 1

    async def _publish_durably(self, subject: str, payload: bytes, message_id: str) -> bool:
        client = self._client
        if client is None or not client.is_connected:
            return False
        try:
            await client.jetstream().publish(
                subject, payload, timeout=PUBLISH_TIMEOUT_S, headers={"Nats-Msg-Id": message_id}
            )
        except (NatsError, OSError, TimeoutError) as error:
            _log.warning("trading_event_not_published", subject=subject, message_id=message_id, error=str(error))
            return False
        self.counters.published += 1
        return True

    async def _on_lost(self) -> None:
        self._lost.set()

    async def _on_error(self, error: Exception) -> None:
        _log.debug("nats_error", error=str(error))

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _close(client)


async def _close(client: Client) -> None:
    with contextlib.suppress(NatsError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.close()
