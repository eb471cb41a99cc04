"""Bring the schema up to date: Alembic without an ini file, over sync psycopg, as the owner role."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, NullPool, create_engine, exc, make_url, text

import core
from core.storage.database import DRIVER, DatabaseUnavailableError

OWNER_ROLE = "veloz_owner"
MIGRATIONS_FOLDER = Path(core.__file__).parent.parent / "migrations"
MIGRATION_LOCK_KEY = 0x76656C6F7A01  # "veloz", 1
MIGRATION_LOCK_TIMEOUT_MS = 60_000
CONNECT_TIMEOUT_S = 3


class MigrationError(Exception):
    """The schema can't be brought up to date; the message names what is missing and the cure."""


def upgrade(dsn: str, revision: str = "head") -> None:
    """Migrate the database of dsn (a URL with user veloz_owner and password) up to revision.

    Safe to run from several processes at once: one migrates, the others wait and find nothing to do. All of it is one
    transaction. Raises MigrationError, DatabaseUnavailableError.
    """
    if not MIGRATIONS_FOLDER.is_dir():
        raise MigrationError(f"{MIGRATIONS_FOLDER} is missing: this installation is incomplete. Reinstall veloz.")
    url = make_url(dsn).set(drivername=DRIVER)
    engine = create_engine(
        url, poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": CONNECT_TIMEOUT_S}
    )
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = {MIGRATION_LOCK_TIMEOUT_MS}"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK_KEY})
            _check_prerequisites(connection)
            command.upgrade(_config(connection), revision)
    except exc.OperationalError as error:
        raise DatabaseUnavailableError(str(error.orig).strip().split("\n", maxsplit=1)[0]) from error
    finally:
        engine.dispose()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _check_prerequisites(connection: Connection) -> None:
    user = connection.scalar(text("SELECT current_user"))
    database = connection.scalar(text("SELECT current_database()"))
    if user != OWNER_ROLE:
        raise MigrationError(f"migrations run as {OWNER_ROLE}, not as {user}: give that role in the URL.")
    missing = connection.scalars(
        text(
            "SELECT name FROM unnest(ARRAY['veloz_api', 'veloz_audit_writer', 'veloz_ledger']) AS name "
            "WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) ORDER BY name"
        )
    ).all()
    if missing:
        raise MigrationError(
            f"database {database}: role {', '.join(missing)} is missing. The embedded PostgreSQL gets its roles from "
            "`veloz up`; on a server of your own its administrator creates them: CREATE ROLE <name> LOGIN PASSWORD ..."
        )
    if connection.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")) == 0:
        raise MigrationError(
            f"database {database}: extension vector (pgvector) is missing. As the server's administrator run "
            f"CREATE EXTENSION vector; in {database}, then start again."
        )
