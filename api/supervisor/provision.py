"""Roles, database and extension: what only the server's administrator can create, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from api.supervisor.files import ensure_secret, new_password

DATABASE = "veloz"
ROLES = ("owner", "api", "audit_writer", "ledger")
ATTRIBUTES = sql.SQL("LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT")

Connection = psycopg.Connection[tuple[Any, ...]]


def provision(connect: Callable[[str], Connection], secrets: Path) -> None:
    """Bring a server to where the migrations can start; every step may find its work done.

    connect gives an administrator's connection to the database it is called with. Raises psycopg.Error.
    """
    with connect("postgres") as connection:
        connection.autocommit = True
        for role in ROLES:
            _create_role(connection, role, secrets)
        if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER veloz_owner")
        connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        grant_database(connection, DATABASE)
    with connect(DATABASE) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        connection.execute("GRANT USAGE ON SCHEMA public TO veloz_api, veloz_audit_writer, veloz_ledger")


def grant_database(connection: Connection, database: str) -> None:
    """Who may connect to it. A rebuild of the projections sets the old rows aside in temporary tables."""
    name = sql.Identifier(database)
    for statement in (
        "REVOKE ALL ON DATABASE {} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {} TO veloz_api, veloz_audit_writer, veloz_ledger",
        "GRANT TEMPORARY ON DATABASE {} TO veloz_ledger",
    ):
        connection.execute(sql.SQL(statement).format(name))


def _create_role(connection: Connection, role: str, secrets: Path) -> None:
    name = f"veloz_{role}"
    password = ensure_secret(secrets / f"postgres-{role}.password", new_password)
    known = _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", name)
    # The verifier is computed here, so that the password reaches no server log.
    encrypt = connection.pgconn.encrypt_password
    verifier = encrypt(password.encode(), name.encode(), b"scram-sha-256").decode(connection.info.encoding)
    connection.execute(
        sql.SQL("{} ROLE {} {} PASSWORD {}").format(
            sql.SQL("ALTER" if known else "CREATE"), sql.Identifier(name), ATTRIBUTES, sql.Literal(verifier)
        )
    )


def _exists(connection: Connection, query: LiteralString, value: str) -> bool:
    return connection.execute(query, (value,)).fetchone() is not None
