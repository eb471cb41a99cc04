"""One connection for a writer whose every statement is a commit: prepared statements, straight through libpq.

psycopg's cursors adapt parameters and wait for answers through several tasks and timers, which costs a small statement
as much as its commit. Here parameters come as PostgreSQL's binary format, and the answer is a callback of the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.storage.database import DatabaseUnavailableError, database_errors

IDLE_LIMIT_S = 0.5
BROKEN = float("-inf")

Done = Callable[[Exception | None], None]

_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE, ExecStatus.NONFATAL_ERROR)


class DirectConnection:
    """Opened by open(), and again after it broke. One that lay idle is tried first, so that a database which was
    restarted meanwhile fails nobody. One statement at a time; statements are those that it was made with."""

    def __init__(self, engine: AsyncEngine, statements: Mapping[str, str]) -> None:
        """statements by name, with parameters $1, $2, ... whose types the text states."""
        self._engine = engine
        self._statements = statements
        self._held: AsyncConnection | None = None
        self._driver: psycopg.AsyncConnection[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: Done | None = None
        self._failure: psycopg.Error | None = None
        self._socket = -1
        self._used_s = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether start may be called: open, nothing under way, and not idle for so long that it has to be tried."""
        return self._driver is not None and self._done is None and time.monotonic() - self._used_s < IDLE_LIMIT_S

    async def open(self) -> None:
        """Make it ready. Raises DatabaseUnavailableError."""
        assert self._done is None, "a statement is under way"
        with database_errors():
            if self._driver is not None and await self._answers(self._driver):
                return
            await self._connect()

    def start(self, statement: str, values: Sequence[bytes | None], done: Done) -> None:
        """Send it; done is called once, later, by the loop: with None when it was committed, DatabaseUnavailableError
        when that isn't known (the connection is then no longer ready), another psycopg.Error when it was refused.

        values are in PostgreSQL's binary format.
        """
        assert self._driver is not None, "open it first"
        assert self._loop is not None
        assert self._done is None, "a statement is under way"
        pgconn = self._driver.pgconn
        self._done, self._failure = done, None
        try:
            pgconn.send_query_prepared(statement.encode(), values, [Format.BINARY] * len(values))
            is_sent = pgconn.flush() == 0
        except psycopg.Error as error:
            self._loop.call_soon(self._broke, error)
            return
        if not is_sent:
            self._loop.add_writer(self._socket, self._writable)

    async def execute(self, statement: str, values: Sequence[bytes | None]) -> None:
        """Durable on return. Raises what start tells."""
        await self.open()
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if not outcome.done():
                outcome.set_result(None) if error is None else outcome.set_exception(error)

        self.start(statement, values, done)
        await outcome

    async def close(self) -> None:
        """What is under way is given up; whether it was committed isn't known."""
        self._done = None
        await self._discard()

    def _readable(self) -> None:
        """An answer, or that the server has gone, which may come while nothing is under way."""
        assert self._driver is not None
        pgconn = self._driver.pgconn
        try:
            pgconn.consume_input()
            while self._done is not None and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    self._finish(self._failure)
                    return
                if result.status in _FAILED and self._failure is None:
                    self._failure = error_from_result(result)
        except psycopg.Error as error:
            self._broke(self._failure or error)

    def _writable(self) -> None:
        assert self._driver is not None
        assert self._loop is not None
        try:
            if self._driver.pgconn.flush() == 0:
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._broke(error)

    def _finish(self, error: psycopg.Error | None) -> None:
        if error is not None and isinstance(error, _LOST):
            self._broke(error)
            return
        self._used_s = time.monotonic()
        self._tell(error)

    def _broke(self, error: psycopg.Error) -> None:
        """What it was in the middle of isn't known: it isn't used again."""
        self._unwatch()
        self._used_s = BROKEN
        self._tell(DatabaseUnavailableError((str(error).strip().splitlines() or [type(error).__name__])[0]))

    def _tell(self, error: Exception | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(error)

    def _watch(self, driver: psycopg.AsyncConnection[Any]) -> None:
        """For as long as the connection is open: a loop takes several times as long to begin and end it each time."""
        self._loop, self._socket = asyncio.get_running_loop(), driver.pgconn.socket
        self._loop.add_reader(self._socket, self._readable)

    def _unwatch(self) -> None:
        if self._loop is not None and self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = -1

    async def _answers(self, driver: psycopg.AsyncConnection[Any]) -> bool:
        if self._used_s != BROKEN and driver.pgconn.status == ConnStatus.OK:
            if time.monotonic() - self._used_s < IDLE_LIMIT_S:
                return True
            self._unwatch()
            try:
                await driver.execute("SELECT 1")
            except (psycopg.OperationalError, psycopg.InterfaceError, ConnectionError):
                pass
            else:
                self._watch(driver)
                self._used_s = time.monotonic()
                return True
        await self._discard()
        return False

    async def _connect(self) -> None:
        self._held = await self._engine.connect()
        try:
            driver: psycopg.AsyncConnection[Any] | None = (await self._held.get_raw_connection()).driver_connection
            assert driver is not None, "a connection that was just opened has its driver's"
            await driver.rollback()
            await driver.set_autocommit(True)
            for name, text in self._statements.items():
                await driver.execute(f"PREPARE {name} AS {text}".encode())
        except BaseException:
            await self._discard()
            raise
        self._driver = driver
        self._watch(driver)
        self._used_s = time.monotonic()

    async def _discard(self) -> None:
        """It isn't given back to the pool: what it was in the middle of isn't known."""
        self._unwatch()
        held, self._held, self._driver = self._held, None, None
        if held is not None:
            await held.invalidate()
            await held.close()
