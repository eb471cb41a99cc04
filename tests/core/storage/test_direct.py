"""A connection for a writer: durable or refused, ready again after both, and known to be broken when it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from core.storage.database import DatabaseUnavailableError, create_engine
from core.storage.direct import DirectConnection
from tests.postgres import PostgresDatabase

STATEMENTS = {
    "add": "INSERT INTO firms (id, name) VALUES ($1::text, $2::text)",
    "add_slowly": "INSERT INTO firms (id, name) SELECT $1::text, 'slow' FROM pg_sleep(60)",
}


@pytest.fixture
async def connection(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[DirectConnection]:
    engine = create_engine(postgres.settings(tmp_path), "owner")
    opened = DirectConnection(engine, STATEMENTS)
    await opened.open()
    yield opened
    await opened.close()
    await engine.dispose()


def firms(postgres: PostgresDatabase) -> dict[str, int]:
    with postgres.connect("owner") as connection:
        return dict(connection.execute("SELECT id, length(name) FROM firms WHERE id LIKE 'f-%'").fetchall())


async def test_what_was_sent_is_there_when_it_is_told(connection: DirectConnection, postgres: PostgresDatabase) -> None:
    for number in range(3):
        await connection.execute("add", [f"f-{number}".encode(), b"name"])
        assert connection.is_ready
        assert len(firms(postgres)) == number + 1


async def test_what_no_socket_takes_at_once_is_sent_in_parts(
    connection: DirectConnection, postgres: PostgresDatabase
) -> None:
    await connection.execute("add", [b"f-large", b"x" * 20_000_000])
    assert firms(postgres) == {"f-large": 20_000_000}


async def test_what_the_database_refuses_says_so_and_the_next_one_is_written(
    connection: DirectConnection, postgres: PostgresDatabase
) -> None:
    await connection.execute("add", [b"f-1", b"name"])
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        await connection.execute("add", [b"f-1", b"other"])
    assert caught.value.diag.constraint_name == "firms_pkey"
    assert connection.is_ready
    await connection.execute("add", [b"f-2", b"name"])
    assert firms(postgres) == {"f-1": 4, "f-2": 4}


async def test_while_one_is_under_way_it_is_not_ready(connection: DirectConnection) -> None:
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    connection.start("add", [b"f-1", b"name"], told.set_result)
    assert not connection.is_ready
    assert not told.done()
    assert await told is None
    assert connection.is_ready


async def test_a_connection_that_breaks_is_told_and_opened_anew(
    connection: DirectConnection, postgres: PostgresDatabase
) -> None:
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    connection.start("add_slowly", [b"f-slow"], told.set_result)
    with postgres.connect("owner") as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert isinstance(await told, DatabaseUnavailableError)
    assert not connection.is_ready
    await connection.execute("add", [b"f-1", b"name"])
    assert firms(postgres) == {"f-1": 4}


async def test_a_statement_that_takes_too_long_breaks_the_connection(
    postgres: PostgresDatabase, tmp_path: Path
) -> None:
    engine = create_engine(postgres.settings(tmp_path), "owner", statement_timeout_ms=50)
    opened = DirectConnection(engine, STATEMENTS)
    with pytest.raises(DatabaseUnavailableError, match="statement timeout"):
        await opened.execute("add_slowly", [b"f-slow"])
    assert not opened.is_ready
    await opened.execute("add", [b"f-1", b"name"])
    assert firms(postgres) == {"f-1": 4}
    await opened.close()
    await engine.dispose()


async def test_closing_gives_up_what_is_under_way_and_tells_nobody(connection: DirectConnection) -> None:
    told: list[Exception | None] = []
    connection.start("add_slowly", [b"f-slow"], told.append)
    await connection.close()
    assert told == []
    assert not connection.is_ready


async def test_an_absent_database_is_told(postgres: PostgresDatabase, tmp_path: Path) -> None:
    settings = postgres.settings(tmp_path / "gone")
    url = f"postgresql:///veloz?host={tmp_path}"
    database = settings.database.model_copy(update={"url": url})
    engine = create_engine(settings.model_copy(update={"database": database}), "owner")
    with pytest.raises(DatabaseUnavailableError):
        await DirectConnection(engine, STATEMENTS).open()
    await engine.dispose()
