"""The log's numbers: from 0, without gaps, in order of arrival, with any interleaving of writers."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.ledger import numbering
from api.ledger.numbering import Numbering
from audit.record import leaf_hash
from tests.postgres import PostgresDatabase

INSERT = """
INSERT INTO audit.inbox (record_id, record, leaf_hash, occurred_at_ns, actor, action, resource, outcome, trace_id)
VALUES (%s, %s, %s, 1, 'ledger', 'auth.login', 'session', 'ok', 'trace-1')
"""
WRITERS = 6
RECORDS_PER_WRITER_LIMIT = 5_000
ROUNDS = 8


def insert(connection: psycopg.Connection[Any], record_id: str) -> None:
    record = record_id.encode()
    connection.execute(INSERT, (record_id, record, leaf_hash(record)))


def numbered(database: PostgresDatabase) -> list[tuple[int, str]]:
    with database.connect("ledger") as connection:
        return connection.execute("SELECT sequence, record_id FROM audit.log ORDER BY sequence").fetchall()


def by_arrival(database: PostgresDatabase) -> list[tuple[int, str]]:
    with database.connect("ledger") as connection:
        rows = connection.execute("SELECT record_id FROM audit.inbox ORDER BY arrival").fetchall()
    return [(index, record_id) for index, (record_id,) in enumerate(rows)]


async def test_a_record_that_is_overtaken_keeps_its_place(
    database: PostgresDatabase, ledger_engine: AsyncEngine
) -> None:
    log = Numbering(ledger_engine)
    with database.connect("audit_writer") as slow, database.connect("audit_writer") as fast:
        slow.execute("BEGIN")
        insert(slow, "first")
        insert(fast, "second")
        assert await log.number_arrived() == 0
        assert await log.number_arrived() == 0
        slow.execute("COMMIT")
    assert await log.number_arrived() == 2
    assert numbered(database) == [(0, "first"), (1, "second")]


async def test_a_record_that_is_rolled_back_leaves_no_gap(
    database: PostgresDatabase, ledger_engine: AsyncEngine
) -> None:
    log = Numbering(ledger_engine)
    with database.connect("audit_writer") as one, database.connect("audit_writer") as other:
        one.execute("BEGIN")
        insert(one, "never")
        insert(other, "kept")
        assert await log.number_arrived() == 0
        one.execute("ROLLBACK")
    assert await log.number_arrived() == 1
    assert numbered(database) == [(0, "kept")]


async def test_a_writer_that_starts_afterwards_holds_nothing_back(
    database: PostgresDatabase, ledger_engine: AsyncEngine
) -> None:
    log = Numbering(ledger_engine)
    with database.connect("audit_writer") as one, database.connect("audit_writer") as later:
        one.execute("BEGIN")
        insert(one, "first")
        insert(later, "second")
        assert await log.number_arrived() == 0  # looked: what is below the second is not settled
        later.execute("BEGIN")
        insert(later, "third")
        one.execute("COMMIT")
        assert await log.number_arrived() == 2
        later.execute("COMMIT")
    assert await log.number_arrived() == 1
    assert numbered(database) == [(0, "first"), (1, "second"), (2, "third")]


async def test_numbering_goes_on_where_a_killed_ledger_left_off(
    database: PostgresDatabase, ledger_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbering, "BATCH_LIMIT_RECORDS", 2)
    with database.connect("audit_writer") as connection:
        for number in range(5):
            insert(connection, f"record-{number}")
    assert await Numbering(ledger_engine).number_arrived() == 2
    assert await Numbering(ledger_engine).number_arrived() == 2
    assert await Numbering(ledger_engine).number_arrived() == 1
    assert await Numbering(ledger_engine).number_arrived() == 0
    assert numbered(database) == [(number, f"record-{number}") for number in range(5)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_concurrent_writers_are_numbered_in_order_of_arrival(
    database: PostgresDatabase, ledger_engine: AsyncEngine, seed: int
) -> None:
    enough = threading.Event()

    def write(writer: int) -> None:
        chance = random.Random(f"{seed}/{writer}")
        with database.connect("audit_writer") as connection:
            for number in range(RECORDS_PER_WRITER_LIMIT):
                if enough.is_set():
                    return
                connection.execute("BEGIN")
                insert(connection, f"{seed}-{writer}-{number}")
                if chance.random() < 0.3:
                    insert(connection, f"{seed}-{writer}-{number}-more")
                connection.execute("ROLLBACK" if chance.random() < 0.2 else "COMMIT")

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in writers:
        thread.start()
    log, rounds = Numbering(ledger_engine), 0
    while rounds < ROUNDS and any(thread.is_alive() for thread in writers):
        rounds += await log.number_arrived() > 0
    enough.set()
    for thread in writers:
        await asyncio.to_thread(thread.join)
    assert rounds == ROUNDS, "the writers were done before numbering was: the test proves nothing"
    while await log.number_arrived():
        pass
    assert numbered(database) == by_arrival(database), f"seed {seed}"
