"""The ledger's process: one instance by database lock, its loops, and coming back after what it needs went away."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.ledger.expiry import BATCH_LIMIT_SUGGESTIONS, expire_suggestions
from api.ledger.numbering import Numbering
from api.ledger.progress import ledger_progress
from api.ledger.projection import JournalGapError, Projection, ProjectionBusyError, StoreReview
from api.ledger.source import LedgerJournal, as_generator
from api.reviews.service import review_writer
from audit.store import audit_redactor
from core.config import Settings
from core.runtime.address import engine_address
from core.runtime.client import EngineClient
from core.storage.database import DatabaseRole, DatabaseUnavailableError, create_engine, database_errors
from core.text.redaction import Redactor
from core.types.codes import RefusalError
from core.types.ids import SystemIdSource
from core.types.views import KlineView
from knowledge.reviews import PriceRange

LEDGER_LOCK_KEY = 0x76656C6F7A02  # "veloz", 2
LOCK_POLL_S = 0.5
LOCK_CHECK_S = 1.0
LOCK_CHECK_TIMEOUT_S = 5.0
NUMBERING_POLL_S = 0.1
EXPIRY_POLL_S = 1.0
REPORT_INTERVAL_S = 5.0
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 5.0
BACKOFF_DOUBLINGS_LIMIT = 6
KLINE_INTERVAL = "1m"
KLINES_LIMIT = 500

_log = structlog.get_logger("ledger")
_TRY_LOCK = text("SELECT pg_try_advisory_lock(:key)")
_ALIVE = text("SELECT 1")


class KlineSource(Protocol):
    async def klines(self, symbol: str, interval: str, limit: int) -> list[KlineView]: ...


class Ledger:
    """Numbers, projects and expires, while it holds the database's lock."""

    def __init__(
        self,
        engine: AsyncEngine,
        journal: LedgerJournal,
        engine_id: str,
        redactor: Redactor,
        store_review: StoreReview | None = None,
    ) -> None:
        self._engine = engine
        self._engine_id = engine_id
        self._journal = journal
        self._redactor = redactor
        self._numbering = Numbering(engine)
        self._projection = Projection(engine, engine_id, redactor, store_review)

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Until stop. ready is called once, when this instance holds the lock for the first time."""
        serving = asyncio.create_task(self._serve(_once(ready)), name="ledger")
        stopping = asyncio.create_task(stop.wait(), name="ledger-stop")
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving  # only a programming error gets out
        finally:
            for task in (serving, stopping):
                task.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)

    async def _serve(self, ready: Callable[[], None]) -> None:
        backoff = Backoff()
        while True:
            try:
                async with self._lock() as connection:
                    _log.info("ledger_serving")
                    ready()
                    backoff.reset()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._watch_lock(connection))
                        group.create_task(self._number())
                        group.create_task(self._project())
                        group.create_task(self._expire())
                        group.create_task(self._report())
            except* DatabaseUnavailableError as group_error:
                first = group_error.exceptions[0]
                _log.warning("database_unavailable", detail=str(first))
            await backoff.wait()

    @contextlib.asynccontextmanager
    async def _lock(self) -> AsyncIterator[AsyncConnection]:
        """Wait for the session-level lock and hold it; it ends with its connection, whatever happens to us."""
        waiting = False
        with database_errors():
            async with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                while not await connection.scalar(_TRY_LOCK, {"key": LEDGER_LOCK_KEY}):
                    if not waiting:
                        _log.info("ledger_waiting", reason="another ledger holds the lock")
                        waiting = True
                    await asyncio.sleep(LOCK_POLL_S)
                try:
                    yield connection
                finally:
                    await connection.invalidate()  # back in the pool it would keep the lock

    async def _watch_lock(self, connection: AsyncConnection) -> None:
        while True:
            await asyncio.sleep(LOCK_CHECK_S)
            try:
                with database_errors():
                    async with asyncio.timeout(LOCK_CHECK_TIMEOUT_S):
                        await connection.execute(_ALIVE)
            except TimeoutError as error:
                raise DatabaseUnavailableError("the connection that holds the ledger's lock is silent") from error

    async def _number(self) -> None:
        while True:
            if await self._numbering.number_arrived() == 0:
                await asyncio.sleep(NUMBERING_POLL_S)

    async def _expire(self) -> None:
        while True:
            try:
                now_ns = await self._journal.now_ns()
            except RefusalError as error:
                # Nothing can be approved meanwhile either.
                _log.debug("expiry_waits", code=error.refusal.code.value)
                await asyncio.sleep(EXPIRY_POLL_S)
                continue
            if await expire_suggestions(self._engine, self._redactor, now_ns) < BATCH_LIMIT_SUGGESTIONS:
                await asyncio.sleep(EXPIRY_POLL_S)

    async def _report(self) -> None:
        while True:
            try:
                await self._journal.report_ledger(await ledger_progress(self._engine, self._engine_id))
            except RefusalError as error:
                _log.debug("progress_not_told", code=error.refusal.code.value, detail=error.refusal.message)
            await asyncio.sleep(REPORT_INTERVAL_S)

    async def _project(self) -> None:
        backoff = Backoff()
        while True:
            try:
                cursor = await self._projection.cursor()
                async with contextlib.aclosing(as_generator(self._journal.stream_journal(cursor))) as entries:
                    async for entry in entries:
                        await self._projection.project(entry)
                        backoff.reset()
                _log.info("journal_ended", detail="the engine closed the stream")
            except DatabaseUnavailableError:
                raise
            except JournalGapError as error:
                _log.error("journal_gap", detail=str(error))
            except ProjectionBusyError as error:
                _log.info("projection_waiting", detail=str(error))
            except RefusalError as error:
                _log.warning("engine_unavailable", code=error.refusal.code.value, detail=error.refusal.message)
            except Exception:
                # One entry that can't be projected stops the projection, never the numbering; the cursor stays at it.
                _log.exception("projection_failed")
            await backoff.wait()


class Backoff:
    """Exponential with full jitter, from BACKOFF_MIN_S to BACKOFF_MAX_S."""

    def __init__(self) -> None:
        self._attempts = 0

    def reset(self) -> None:
        self._attempts = 0

    async def wait(self) -> None:
        ceiling_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2**self._attempts)
        self._attempts = min(self._attempts + 1, BACKOFF_DOUBLINGS_LIMIT)
        await asyncio.sleep(random.uniform(BACKOFF_MIN_S / 2, ceiling_s))  # noqa: S311


class PriceHistory:
    """Highs and lows while a position was held, for its review, as far as the engine still has them."""

    def __init__(self, client: KlineSource) -> None:
        self._client = client

    async def __call__(self, _venue: str, symbol: str, from_ns: int, to_ns: int) -> tuple[PriceRange, ...]:
        """Empty when the engine doesn't answer, or when its klines begin after from_ns: half a range misleads."""
        try:
            klines = await self._client.klines(symbol, KLINE_INTERVAL, KLINES_LIMIT)
        except RefusalError as error:
            _log.warning("review_without_prices", symbol=symbol, code=error.refusal.code.value)
            return ()
        held = [kline for kline in klines if kline.close_time_ns >= from_ns and kline.open_time_ns <= to_ns]
        if not held or min(kline.open_time_ns for kline in held) > from_ns:
            return ()
        return tuple(PriceRange(kline.high, kline.low) for kline in held)


async def main(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Run the ledger until stop is set. Raises ConfigurationError for missing secrets or a missing database URL."""
    engine = create_engine(settings, DatabaseRole.LEDGER)
    redactor = audit_redactor(bytes.fromhex(settings.read_secret("audit-kek.key")))
    client = EngineClient(engine_address(settings), settings.read_secret("engine-control.token"))
    try:
        store_review = review_writer(SystemIdSource(), redactor=redactor, ranges=PriceHistory(client))
        await Ledger(engine, client, settings.engine.engine_id, redactor, store_review).run(stop, ready)
    finally:
        await client.close()
        await engine.dispose()


def _once(call: Callable[[], None]) -> Callable[[], None]:
    called = False

    def once() -> None:
        nonlocal called
        if not called:
            called = True
            call()

    return once
