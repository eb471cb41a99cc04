"""Migrations: what they check, and that they can run again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg import sql

from core.storage.database import DatabaseUnavailableError
from core.storage.migrate import MigrationError, upgrade
from tests.postgres import PostgresDatabase, PostgresServer

VERSIONS = Path(__file__).parents[3] / "migrations" / "versions"
NEWEST = max(path.name for path in VERSIONS.glob("[0-9]*.py"))[:4]


@pytest.fixture
def empty(postgres_server: PostgresServer, postgres: PostgresDatabase) -> PostgresDatabase:
    """The test's own database, without its schema."""
    with postgres_server.connect_superuser() as connection:
        name = sql.Identifier(postgres.name)
        connection.execute(sql.SQL("DROP DATABASE {}").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER veloz_owner").format(name))
    return postgres


def test_without_pgvector_the_error_names_the_cure(empty: PostgresDatabase) -> None:
    with pytest.raises(MigrationError, match="CREATE EXTENSION vector"):
        upgrade(empty.dsn("owner"))


def test_concurrent_upgrades_migrate_once(postgres_server: PostgresServer, empty: PostgresDatabase) -> None:
    with postgres_server.connect_superuser(empty.name) as connection:
        connection.execute("CREATE EXTENSION vector")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: upgrade(empty.dsn("owner")), range(3)))
    with empty.connect("owner") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(NEWEST,)]
        assert connection.execute("SELECT count(*) FROM audit.inbox").fetchone() == (0,)


def test_only_the_owner_migrates(postgres: PostgresDatabase) -> None:
    with pytest.raises(MigrationError, match="veloz_owner"):
        upgrade(postgres.dsn("api"))


def test_an_absent_server_is_a_typed_error() -> None:
    with pytest.raises(DatabaseUnavailableError):
        upgrade("postgresql://veloz_owner:x@/veloz?host=/nonexistent")
