"""The audit tables refuse every change: by privilege for the service's roles, by trigger for their owner."""

from __future__ import annotations

import os

import psycopg
import pytest

from audit.record import leaf_hash
from tests.postgres import PostgresDatabase

INSERT = """
INSERT INTO audit.inbox (record_id, record, leaf_hash, occurred_at_ns, actor, action, resource, outcome, trace_id)
VALUES (%s, %s, %s, 1, 'ledger', 'auth.login', 'session', 'ok', 'trace-1')
"""
CHANGES = {
    "audit.inbox": ("UPDATE audit.inbox SET actor = 'x'", "DELETE FROM audit.inbox", "TRUNCATE audit.inbox CASCADE"),
    "audit.log": ("UPDATE audit.log SET sequence = 9", "DELETE FROM audit.log", "TRUNCATE audit.log"),
}
STATEMENTS = [statement for statements in CHANGES.values() for statement in statements]


@pytest.fixture
def one_record(postgres: PostgresDatabase) -> PostgresDatabase:
    record = os.urandom(16)
    with postgres.connect("audit_writer") as connection:
        connection.execute(INSERT, ("record-1", record, leaf_hash(record)))
    with postgres.connect("ledger") as connection:
        connection.execute(
            "INSERT INTO audit.log (sequence, record_id, leaf_hash) VALUES (0, 'record-1', %s)", (leaf_hash(record),)
        )
    return postgres


@pytest.mark.parametrize("role", ["api", "audit_writer", "ledger", "owner"])
def test_no_role_changes_or_removes_a_record(one_record: PostgresDatabase, role: str) -> None:
    with one_record.connect(role) as connection:
        for statement in STATEMENTS:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    with one_record.connect("ledger") as connection:
        assert connection.execute("SELECT actor FROM audit.inbox").fetchall() == [("ledger",)]
        assert connection.execute("SELECT sequence FROM audit.log").fetchall() == [(0,)]


def test_the_owner_is_stopped_by_the_trigger_and_told_why(one_record: PostgresDatabase) -> None:
    with one_record.connect("owner") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        connection.execute("DELETE FROM audit.inbox")
    assert "audit records are append-only: DELETE on audit.inbox is refused" in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM audit.inbox",
        "SELECT count(*) FROM audit.log",
        "SELECT count(*) FROM audit.person_keys",
        "SELECT count(*) FROM users",
        "INSERT INTO audit.log (sequence, record_id, leaf_hash) VALUES (1, 'record-1', '')",
    ],
)
def test_the_writer_may_insert_and_nothing_else(one_record: PostgresDatabase, statement: str) -> None:
    with one_record.connect("audit_writer") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize("role", ["api"])
def test_the_api_cannot_write_records_past_the_writer(one_record: PostgresDatabase, role: str) -> None:
    with one_record.connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(INSERT, ("record-2", b"x", leaf_hash(b"x")))


def test_the_writer_cannot_choose_a_number_that_stops_the_numbering(one_record: PostgresDatabase) -> None:
    chosen = INSERT.replace("(record_id,", "(arrival, record_id,").replace(
        "VALUES (", "OVERRIDING SYSTEM VALUE VALUES (4611686018427387904, "
    )
    for role in ("audit_writer", "ledger"):
        with one_record.connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(chosen, ("record-2", b"x", leaf_hash(b"x")))


@pytest.mark.parametrize(
    ("record_id", "actor"), [("engine-demo:7:order.filled", "user-trader"), ("record-2", "engine:engine-demo")]
)
def test_the_writer_cannot_write_in_the_engines_name(one_record: PostgresDatabase, record_id: str, actor: str) -> None:
    insert = INSERT.replace("'ledger'", "%s")
    with one_record.connect("audit_writer") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(insert, (record_id, b"x", leaf_hash(b"x"), actor))
    with one_record.connect("ledger") as connection:
        connection.execute(insert, (record_id, b"x", leaf_hash(b"x"), actor))
