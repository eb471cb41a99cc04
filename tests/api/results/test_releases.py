"""I7 at its narrowest place: a result and its record become durable in one commit, or its caller is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest

from core.storage.database import DatabaseRole
from core.types.codes import ReasonCode, RefusalError
from tests.api.sql_doubles import ACCOUNT, Shelf, seeded, shelf
from tests.postgres import PostgresDatabase
from tests.tools.people import IDS, NOW_NS
from tools.pipeline import result_digest
from tools.ports import StoredResult

IN_FLIGHT = 64


@pytest.fixture
async def desk(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Shelf]:
    async with seeded(postgres, tmp_path) as database, shelf(postgres, database, tmp_path) as desk:
        yield desk


def result(call_id: str | None = None, account_id: str | None = ACCOUNT) -> StoredResult:
    data = {"note": "text"}
    return StoredResult(
        call_id=call_id or IDS.new_ulid(),
        run_id=None,
        trace_id="trace",
        user_id="user-trader",
        account_id=account_id,
        tool="get_ticker",
        digest_hex=result_digest(data),
        canonical=msgspec.json.encode(data),
        created_at_ns=NOW_NS,
    )


def counts(postgres: PostgresDatabase) -> tuple[int, int]:
    """Records and results."""
    with postgres.connect(DatabaseRole.OWNER) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM audit.inbox), (SELECT count(*) FROM tool_results)"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


@contextmanager
def away(postgres: PostgresDatabase, table: str) -> Iterator[None]:
    """The table takes nothing."""
    schema, _, name = table.rpartition(".")
    prefix = f"{schema}." if schema else ""
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE {prefix}away RENAME TO {name}")


async def test_record_and_result_share_one_commit(desk: Shelf, postgres: PostgresDatabase) -> None:
    await desk.put(result())
    with postgres.connect(DatabaseRole.OWNER) as connection:
        [(same,)] = connection.execute("SELECT i.xmin = r.xmin FROM audit.inbox i, tool_results r").fetchall()
    assert same is True


async def test_concurrent_releases_share_commits_and_each_is_durable_when_it_returns(
    desk: Shelf, postgres: PostgresDatabase
) -> None:
    absent: list[str] = []

    async def one(number: int) -> None:
        stored = result(account_id=ACCOUNT if number % 2 else None)
        await desk.put(stored)
        with postgres.connect(DatabaseRole.OWNER) as connection:
            found = connection.execute("SELECT 1 FROM tool_results WHERE call_id = %s", [stored.call_id]).fetchall()
        if found != [(1,)]:
            absent.append(stored.call_id)

    await asyncio.gather(*(one(number) for number in range(IN_FLIGHT)))
    assert absent == []
    with postgres.connect(DatabaseRole.OWNER) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT xmin::text) FROM audit.inbox").fetchone()
    assert row is not None
    assert row[0] == IN_FLIGHT
    assert row[1] <= IN_FLIGHT // 4


@pytest.mark.parametrize("table", ["audit.inbox", "tool_results"])
async def test_where_either_cannot_be_written_neither_is_every_caller_is_refused_and_it_heals(
    desk: Shelf, postgres: PostgresDatabase, table: str
) -> None:
    await desk.put(result())
    with away(postgres, table):
        outcomes = await asyncio.gather(*(desk.put(result()) for _ in range(8)), return_exceptions=True)
    assert len(outcomes) == 8
    for outcome in outcomes:
        assert isinstance(outcome, RefusalError)
        assert outcome.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert counts(postgres) == (1, 1)
    await desk.put(result())
    assert counts(postgres) == (2, 2)


async def test_a_call_id_that_was_used_fails_alone_and_leaves_no_record(
    desk: Shelf, postgres: PostgresDatabase
) -> None:
    first = result()
    await desk.put(first)
    outcomes = await asyncio.gather(
        *(desk.put(each) for each in (result(), result(first.call_id), result())), return_exceptions=True
    )
    assert [outcome and outcome.refusal.code for outcome in outcomes] == [None, ReasonCode.REQUEST_INVALID, None]  # type: ignore[union-attr]
    assert counts(postgres) == (3, 3)


async def test_a_connection_that_died_while_idle_fails_nobody(
    desk: Shelf, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.storage.direct.IDLE_LIMIT_S", 0.0)
    for number in range(3):
        await desk.put(result())
        assert counts(postgres) == (number + 1, number + 1)
        end_writers(postgres)


async def test_a_connection_that_dies_at_work_refuses_its_batch_and_the_next_one_is_written(
    desk: Shelf, postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.storage.direct.IDLE_LIMIT_S", 3_600.0)
    await desk.put(result())
    end_writers(postgres)
    with pytest.raises(RefusalError) as caught:
        await desk.put(result())
    assert caught.value.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert counts(postgres) == (1, 1)
    await desk.put(result())
    assert counts(postgres) == (2, 2)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM tool_results",
        "UPDATE tool_results SET tool = 'other'",
        "DELETE FROM tool_results",
        "TRUNCATE tool_results",
        "INSERT INTO tool_results (call_id, created_at) VALUES ('x', clock_timestamp())",
    ],
)
async def test_the_audit_writer_may_add_results_and_nothing_else(
    desk: Shelf, postgres: PostgresDatabase, statement: str
) -> None:
    await desk.put(result())
    with postgres.connect(DatabaseRole.AUDIT_WRITER) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def end_writers(postgres: PostgresDatabase) -> None:
    with postgres.connect(DatabaseRole.OWNER) as connection:
        pids = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'veloz_audit_writer' AND datname = current_database()"
        ).fetchall()
    with postgres.connect(DatabaseRole.AUDIT_WRITER) as connection:
        for (pid,) in pids:
            assert connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)
