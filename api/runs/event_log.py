"""A run's events in JetStream: the HTTP response is only a reader of this log.

Subject `runs.<run_id>`; the payload carries the run's own number n from 1, because BY_START_SEQUENCE counts the
stream's messages. The expected last subject sequence guards the single writer of each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import nats.errors
import nats.js.errors
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
TERMINAL_EVENTS = frozenset({"RUN_FINISHED", "RUN_ERROR"})


class LoggedEvent(msgspec.Struct, frozen=True):
    """n counts from 1 within the run; data is the AG-UI event as JSON; is_last says that nothing follows."""

    n: int
    is_last: bool
    data: str


class RunEventLog:
    """Append and read. Raises RefusalError(SERVICE_EVENT_LOG_UNAVAILABLE) when NATS can't be reached."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._streams: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)

    async def prepare(self) -> None:
        """Create the stream, or take it as it is."""
        config = StreamConfig(
            name=STREAM,
            subjects=[f"{SUBJECT_PREFIX}*"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=RETENTION_S,
            max_bytes=STREAM_SIZE_LIMIT_BYTES,
        )
        try:
            await self._streams.add_stream(config)
        except nats.js.errors.BadRequestError:
            await self._streams.update_stream(config)
        except (nats.errors.Error, OSError) as error:
            raise _unavailable() from error

    def writer(self, run_id: str) -> RunWriter:
        return RunWriter(self._client, self._streams, run_id)

    async def read(self, run_id: str, after: int) -> AsyncIterator[LoggedEvent]:
        """Events of the run after number `after`, the stored ones first, then live ones, until the last."""
        if not self._client.is_connected:
            raise _unavailable()
        try:
            subscription = await self._streams.subscribe(SUBJECT_PREFIX + run_id, ordered_consumer=True)
        except (nats.errors.Error, OSError) as error:
            raise _unavailable() from error
        try:
            while True:
                try:
                    message = await subscription.next_msg(timeout=NEXT_EVENT_POLL_S)
                except (TimeoutError, nats.errors.TimeoutError):
                    if not self._client.is_connected:
                        raise _unavailable() from None
                    continue
                except nats.errors.Error as error:
                    raise _unavailable() from error
                event = msgspec.json.decode(message.data, type=LoggedEvent)
                if event.n > after:
                    yield event
                if event.is_last:
                    return
        finally:
            await _quietly_unsubscribe(subscription)


class RunWriter:
    """The one writer of a run's log."""

    def __init__(self, client: Client, streams: JetStreamContext, run_id: str) -> None:
        self._client = client
        self._streams = streams
        self._subject = SUBJECT_PREFIX + run_id
        self._n = 0
        self._last_sequence = 0
        self._lock = asyncio.Lock()

    async def append(self, event_type: str, data: str) -> None:
        """MUST be awaited before the next append; durable as JetStream is."""
        async with self._lock:
            event = LoggedEvent(self._n + 1, event_type in TERMINAL_EVENTS, data)
            if not self._client.is_connected:
                raise _unavailable()
            try:
                acknowledgement = await self._streams.publish(
                    self._subject,
                    msgspec.json.encode(event),
                    headers={"Nats-Expected-Last-Subject-Sequence": str(self._last_sequence)},
                )
            except (nats.errors.Error, OSError, TimeoutError) as error:
                raise _unavailable() from error
            self._n += 1
            self._last_sequence = acknowledgement.seq


async def _quietly_unsubscribe(subscription: JetStreamContext.PushSubscription) -> None:
    try:
        await subscription.unsubscribe()
    except (nats.errors.Error, OSError):
        return


def _unavailable() -> RefusalError:
    return refuse(
        ReasonCode.SERVICE_EVENT_LOG_UNAVAILABLE,
        "The event log (NATS) can't be reached, so runs can't start or be read. It is restarted by itself; "
        "try again in a few seconds.",
    )
