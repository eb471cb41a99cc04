"""A real PostgreSQL 18 with pgvector, all roles and the migrated schema, for everyone's tests.

One server a session; each test gets a database of its own, copied from a migrated template. Use the fixture `postgres`
of tests/conftest.py, or PostgresServer.create_database() for a longer-lived database.
"""

from __future__ import annotations

import gc
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from api.supervisor.postgres import SUPERUSER, EmbeddedPostgres
from api.supervisor.provision import DATABASE, grant_database
from core.config import Settings
from core.storage.database import DatabaseRole, role_url
from core.storage.migrate import upgrade

DEMO_TENANCY = """
INSERT INTO firms (id, name) VALUES ('firm-demo', 'Demo firm');
INSERT INTO desks (id, firm_id, name) VALUES ('desk-demo', 'firm-demo', 'Demo desk');
INSERT INTO accounts (id, desk_id, name, venue, key_reference, mode)
VALUES ('acct-demo', 'desk-demo', 'Demo account', 'paper', 'venue-paper', 'PAPER');
INSERT INTO users (id, firm_id, username, display_name, password_hash, role) VALUES
    ('user-trader', 'firm-demo', 'trader', 'Terry Trader', '!', 'trader'),
    ('user-approver', 'firm-demo', 'approver', 'Ada Approver', '!', 'approver'),
    ('user-compliance', 'firm-demo', 'compliance', 'Cleo Compliance', '!', 'compliance');
INSERT INTO account_grants (user_id, account_id)
SELECT id, 'acct-demo' FROM users;
"""


@dataclass(frozen=True)
class PostgresDatabase:
    """One migrated database. url names host and database only; passwords are files in `secrets`."""

    name: str
    url: str
    secrets: Path

    def password(self, role: DatabaseRole | str) -> str:
        return (self.secrets / f"postgres-{role}.password").read_text().strip()

    def dsn(self, role: DatabaseRole | str) -> str:
        """For psycopg.connect."""
        url = role_url(self.url, role, self.password(role)).set(drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def connect(self, role: DatabaseRole | str) -> psycopg.Connection[Any]:
        """A sync connection in autocommit mode; close it, or use it as a context manager."""
        return psycopg.connect(self.dsn(role), autocommit=True)

    def settings(self, home: Path, **sections: Any) -> Settings:
        """Settings for processes under test, with this database's secrets copied into home/secrets."""
        folder = home / "secrets"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for source in self.secrets.iterdir():
            target = folder / source.name
            if not target.exists():
                target.write_bytes(source.read_bytes())
                target.chmod(0o600)
        return Settings(home=home, database={"url": self.url}, **sections)

    def seed_demo_tenancy(self) -> None:
        """Firm, desk, account and users of the demo; their passwords match nothing."""
        with self.connect(DatabaseRole.OWNER) as connection:
            connection.execute(DEMO_TENANCY)


class PostgresServer:
    """The service's own embedded PostgreSQL in a short temporary folder, without fsync: tests cut no power."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="vzpg", dir="/tmp"))
        self.secrets = self.root / "secrets"
        self._server = EmbeddedPostgres(self.root / "postgres", self.root / "s", self.secrets)

    def start(self) -> None:
        """From the main thread."""
        self._server.start()
        for name in ("audit-kek.key", "results.key", "jwt.key", "metrics.token"):
            path = self.secrets / name
            path.write_text(secrets.token_hex(32))
            path.chmod(0o600)
        with self.connect_superuser() as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            # Its transactions, in whichever database, would hold back what is numbered at that moment.
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
        upgrade(PostgresDatabase(DATABASE, self.url_of(DATABASE), self.secrets).dsn(DatabaseRole.OWNER))

    def stop(self) -> None:
        self._server.stop()
        self._server.discard()
        shutil.rmtree(self.root)

    def url_of(self, database: str) -> str:
        return make_url(self._server.url).set(database=database).render_as_string()

    def create_database(self) -> PostgresDatabase:
        """A fresh copy of the migrated template."""
        name = f"test_{secrets.token_hex(6)}"
        with self.connect_superuser() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER veloz_owner STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(DATABASE)
                )
            )
            grant_database(connection, name)
        return PostgresDatabase(name, self.url_of(name), self.secrets)

    def drop_database(self, database: PostgresDatabase) -> None:
        # A connect that was cancelled half-way keeps its socket until collected, and DROP waits for its backend.
        gc.collect()
        with self.connect_superuser() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def connect_superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        password = (self.secrets / "postgres-superuser.password").read_text().strip()
        return psycopg.connect(self.url_of(database), user=SUPERUSER, password=password, autocommit=True)
