"""A run's events in JetStream: the HTTP response is only a reader of this log.

Subject `runs.<run_id>`; the payload carries the run's own number n from 1, because BY_START_SEQUENCE counts the
stream's messages. The expected last subject sequence guards the single writer of each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StorageType, StreamConfig

from core.types.codes import ReasonCode, RefusalError, refuse

STREAM = "RUNS"
SUBJECT_PREFIX = "runs."
RETENTION_S = 7 * 24 * 3600
STREAM_SIZE_LIMIT_BYTES = 1 << 30
PUBLISH_TIMEOUT_S = 2.0
NEXT_EVENT_POLL_S = 1.0
SILENT_POLLS_LIMIT = 5
OVER_POLLS_LIMIT = 2
CONNECT_TIMEOUT_S = 2
CONNECT_RETRY_S = 0.2
TERMINAL_EVENTS = frozenset({"RUN_FINISHED", "RUN_ERROR"})

log = structlog.get_logger("runs")


class LoggedEvent(msgspec.Struct, frozen=True):
    """n counts from 1 within the run; data is the AG-UI event as JSON; is_last says that nothing follows."""

    n: int
    is_last: bool
    data: str


class RunEventLog:
    """Append and read. Raises RefusalError(SERVICE_EVENT_LOG_UNAVAILABLE) while NATS can't be reached.

    start() connects in the background and again whenever the connection is lost.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    def start(self) -> None:
        self._task = asyncio.create_task(self._stay_connected(), name="event-log")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def streams(self) -> JetStreamContext:
        """JetStream over the present connection. A call that would start to answer asks here first."""
        if self._client is None or not self._client.is_connected:
            raise _unavailable()
        return self._client.jetstream(timeout=PUBLISH_TIMEOUT_S)

    def writer(self, run_id: str) -> RunWriter:
        return RunWriter(self, run_id)

    async def read(self, run_id: str, after: int, is_over: Callable[[], Awaitable[bool]]) -> AsyncIterator[LoggedEvent]:
        """Events of the run after number `after`, the stored ones first, then live ones, until the last.

        is_over is asked when the run is silent: a run that has ended by other signs won't get its last event.
        """
        streams = self.streams()
        try:
            subscription = await streams.subscribe(SUBJECT_PREFIX + run_id, ordered_consumer=True)
        except (nats.errors.Error, OSError) as error:
            raise _unavailable() from error
        silent_polls = over_polls = 0
        try:
            while True:
                try:
                    message = await subscription.next_msg(timeout=NEXT_EVENT_POLL_S)
                except (TimeoutError, nats.errors.TimeoutError):
                    if not self.connected:
                        raise _unavailable() from None
                    silent_polls += 1
                    if silent_polls >= SILENT_POLLS_LIMIT:
                        # Twice, because the last event follows the outcome by a moment.
                        over_polls = over_polls + 1 if await is_over() else 0
                    if over_polls >= OVER_POLLS_LIMIT:
                        raise _cut() from None
                    continue
                except nats.errors.Error as error:
                    raise _unavailable() from error
                silent_polls = over_polls = 0
                event = msgspec.json.decode(message.data, type=LoggedEvent)
                if event.n > after:
                    yield event
                if event.is_last:
                    return
        finally:
            await _quietly_unsubscribe(subscription)

    async def _stay_connected(self) -> None:
        while True:
            lost = asyncio.Event()
            client = await self._connect(lost)
            if client is None:
                await asyncio.sleep(CONNECT_RETRY_S)
                continue
            self._client = client
            try:
                await lost.wait()
            finally:
                self._client = None
                await client.close()

    async def _connect(self, lost: asyncio.Event) -> Client | None:
        async def on_lost() -> None:
            lost.set()

        async def on_error(error: Exception) -> None:
            log.warning("event_log_connection", error=str(error))

        client = Client()
        try:
            await client.connect(
                self._url,
                token=self._token,
                name="api-runs",
                allow_reconnect=False,
                connect_timeout=CONNECT_TIMEOUT_S,
                disconnected_cb=on_lost,
                closed_cb=on_lost,
                error_cb=on_error,
            )
            await _prepare(client.jetstream(timeout=PUBLISH_TIMEOUT_S))
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.warning("event_log_unavailable", error=str(error))
            await client.close()
            return None
        return client


class RunWriter:
    """The one writer of a run's log."""

    def __init__(self, events: RunEventLog, run_id: str) -> None:
        self._events = events
        self._subject = SUBJECT_PREFIX + run_id
        self._n = 0
        self._last_sequence = 0
        self._lock = asyncio.Lock()

    async def append(self, event_type: str, data: str) -> None:
        """MUST be awaited before the next append; durable as JetStream is."""
        async with self._lock:
            event = LoggedEvent(self._n + 1, event_type in TERMINAL_EVENTS, data)
            streams = self._events.streams()
            try:
                acknowledgement = await streams.publish(
                    self._subject,
                    msgspec.json.encode(event),
                    headers={"Nats-Expected-Last-Subject-Sequence": str(self._last_sequence)},
                )
            except (nats.errors.Error, OSError, TimeoutError) as error:
                raise _unavailable() from error
            self._n += 1
            self._last_sequence = acknowledgement.seq


async def _prepare(streams: JetStreamContext) -> None:
    config = StreamConfig(
        name=STREAM,
        subjects=[f"{SUBJECT_PREFIX}*"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=RETENTION_S,
        max_bytes=STREAM_SIZE_LIMIT_BYTES,
    )
    try:
        await streams.add_stream(config)
    except nats.js.errors.BadRequestError:
        await streams.update_stream(config)


async def _quietly_unsubscribe(subscription: JetStreamContext.PushSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except (nats.errors.Error, OSError):
        return


def _cut() -> RefusalError:
    return refuse(
        ReasonCode.SERVICE_EVENT_LOG_UNAVAILABLE,
        "The run has ended, but its log lacks the last event. Read its outcome at GET /api/v1/copilot/runs/{id}.",
    )


def _unavailable() -> RefusalError:
    return refuse(
        ReasonCode.SERVICE_EVENT_LOG_UNAVAILABLE,
        "The event log (NATS) can't be reached, so runs can't start or be read. It is restarted by itself; "
        "try again in a few seconds.",
    )
