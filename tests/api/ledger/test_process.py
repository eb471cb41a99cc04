"""The ledger as a whole: one instance, and back after what it needs went away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.ledger import process
from api.ledger.expiry import expire_suggestions
from api.ledger.process import Ledger, PriceHistory
from audit.record import parse_record
from core.storage.database import DatabaseUnavailableError, create_engine, transaction
from core.text.redaction import Redactor
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, refuse
from core.types.orders import OrderStatus
from core.types.views import KlineView
from tests.api.ledger.journal import ENGINE_ID, MemoryJournal, approval, fill, started
from tests.postgres import PostgresDatabase

WAIT_S = 60


@asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[asyncio.Event]:
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(ledger.run(stop, ready.set))
    try:
        yield ready
    finally:
        stop.set()
        await asyncio.wait_for(task, WAIT_S)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                if await condition():
                    return
            except DatabaseUnavailableError:
                pass
            await asyncio.sleep(0.01)


def count(engine: AsyncEngine, query: str, expected: int) -> Callable[[], Awaitable[bool]]:
    async def counted() -> bool:
        async with transaction(engine) as connection:
            return bool(await connection.scalar(text(query)) == expected)

    return counted


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def ledger(ledger_engine: AsyncEngine, journal: MemoryJournal, scope_key: bytes) -> Ledger:
    return Ledger(ledger_engine, journal, ENGINE_ID, Redactor(scope_key))


async def test_it_projects_and_numbers_what_the_engine_journals(
    ledger: Ledger, ledger_engine: AsyncEngine, journal: MemoryJournal
) -> None:
    await journal.append(started(), approval())
    async with running(ledger) as ready:
        await asyncio.wait_for(ready.wait(), WAIT_S)
        await journal.append(fill(1, 50_000, OrderStatus.FILLED))
        await until(count(ledger_engine, "SELECT count(*) FROM audit.log", 4))
    async with transaction(ledger_engine) as connection:
        sequences = await connection.scalars(text("SELECT sequence FROM audit.log ORDER BY sequence"))
        assert list(sequences) == [0, 1, 2, 3]


async def test_it_reads_on_after_the_engine_was_away(
    ledger: Ledger, ledger_engine: AsyncEngine, journal: MemoryJournal
) -> None:
    async with running(ledger):
        await journal.append(started())
        await until(count(ledger_engine, "SELECT count(*) FROM audit.log", 1))
        journal.fail_next = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "gone")
        await journal.append(approval())
        await until(count(ledger_engine, "SELECT count(*) FROM orders", 1))
    assert journal.streams == 2


async def test_it_comes_back_after_the_database_cut_its_connections(
    ledger: Ledger, ledger_engine: AsyncEngine, journal: MemoryJournal, database: PostgresDatabase
) -> None:
    async with running(ledger):
        await journal.append(started())
        await until(count(ledger_engine, "SELECT count(*) FROM audit.log", 1))
        with database.connect("ledger") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = 'veloz_ledger' AND pid <> pg_backend_pid() AND datname = current_database()"
            )
        await journal.append(approval())
        await until(count(ledger_engine, "SELECT count(*) FROM audit.log", 3))
    async with transaction(ledger_engine) as connection:
        assert await connection.scalar(text("SELECT count(*) FROM orders")) == 1


async def test_a_second_instance_waits_for_the_first(
    ledger: Ledger,
    journal: MemoryJournal,
    database: PostgresDatabase,
    tmp_path: Path,
    scope_key: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "LOCK_POLL_S", 0.02)
    refusals = asyncio.Event()
    other = create_engine(database.settings(tmp_path), "ledger")
    second = Ledger(other, journal, ENGINE_ID, Redactor(scope_key))
    monkeypatch.setattr(process._log, "info", lambda event, **_: refusals.set() if event == "ledger_waiting" else None)
    async with running(ledger) as first_ready:
        await asyncio.wait_for(first_ready.wait(), WAIT_S)
        stop, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(second.run(stop, ready.set))
        await asyncio.wait_for(refusals.wait(), WAIT_S)
        assert not ready.is_set()
    await asyncio.wait_for(ready.wait(), WAIT_S)
    stop.set()
    await task
    await other.dispose()


async def test_pending_suggestions_expire_with_a_record(
    database: PostgresDatabase, ledger_engine: AsyncEngine, scope_key: bytes
) -> None:
    insert = """
        INSERT INTO suggestions (id, version, account_id, asker_id, run_id, trace_id, status, proposal, digest,
                                 pre_trade, expires_at)
        VALUES (%s, 1, 'acct-demo', 'user-trader', 'run-1', 'trace-1', %s, '', 'ab', '{}',
                to_timestamp(1800000000) + %s * interval '1 second')
    """
    now_ns = 1_800_000_000 * NS_PER_S
    with database.connect("owner") as connection:
        connection.execute(insert, ("due", "pending", -1))
        connection.execute(insert, ("later", "pending", 3_600))
        connection.execute(insert, ("decided", "approved", -1))
    assert await expire_suggestions(ledger_engine, Redactor(scope_key), now_ns - NS_PER_S - 1_000) == 0
    assert await expire_suggestions(ledger_engine, Redactor(scope_key), now_ns) == 1
    assert await expire_suggestions(ledger_engine, Redactor(scope_key), now_ns) == 0
    with database.connect("ledger") as connection:
        statuses = dict(connection.execute("SELECT id, status FROM suggestions").fetchall())
        [(record,)] = connection.execute("SELECT record FROM audit.inbox").fetchall()
    assert statuses == {"due": "expired", "later": "pending", "decided": "approved"}
    expired = parse_record(record)
    assert (expired.action.value, expired.suggestion_id, expired.trace_id) == ("suggestion.expired", "due", "trace-1")


async def test_it_numbers_while_no_engine_answers(database: PostgresDatabase, tmp_path: Path) -> None:
    settings = database.settings(tmp_path)
    settings.paths.secret("engine-control.token").write_text("token")
    with database.connect("audit_writer") as connection:
        connection.execute(
            "INSERT INTO audit.inbox (record_id, record, leaf_hash, occurred_at_ns, actor, action, resource, outcome, "
            "trace_id) VALUES ('r-1', '', sha256('\\x00'), 1, 'x', 'auth.login', 'session', 'ok', 'trace-1')"
        )
    engine = create_engine(settings, "ledger")
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(process.main(settings, stop, ready.set))
    await asyncio.wait_for(ready.wait(), WAIT_S)
    await until(count(engine, "SELECT count(*) FROM audit.log", 1))
    stop.set()
    await asyncio.wait_for(task, WAIT_S)
    await engine.dispose()


async def test_a_price_range_that_begins_too_late_is_not_used() -> None:
    class Klines:
        def __init__(self, *opens_s: int) -> None:
            self._opens_s = opens_s

        async def klines(self, symbol: str, interval: str, limit: int) -> list[KlineView]:
            assert (symbol, interval) == ("BTCUSDT", "1m")
            price, none = Decimal(64_000), Decimal(0)
            return [
                KlineView(
                    at * NS_PER_S, (at + 60) * NS_PER_S - 1, price, price + at, price - at, price, none, none, 1, True
                )
                for at in self._opens_s
            ]

    history = PriceHistory(Klines(0, 60, 120, 180))
    held = await history("paper", "BTCUSDT", 70 * NS_PER_S, 130 * NS_PER_S)
    assert [span.high for span in held] == [Decimal(64_060), Decimal(64_120)]
    assert await PriceHistory(Klines(120, 180))("paper", "BTCUSDT", 70 * NS_PER_S, 130 * NS_PER_S) == ()
    assert await PriceHistory(Klines())("paper", "BTCUSDT", 70 * NS_PER_S, 130 * NS_PER_S) == ()
