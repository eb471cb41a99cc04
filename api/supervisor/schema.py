"""Schema and demo tenancy up to date, without the seconds that importing the migration tools costs when they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import psycopg

import core
from api.supervisor.files import write_durably
from api.supervisor.first_run import seed_database
from core.config import Settings

MIGRATIONS_FOLDER = Path(core.__file__).parents[1] / "migrations"
CONNECT_TIMEOUT_S = 5


def migrate_and_seed(settings: Settings) -> bool:
    """Whether there was something to migrate. settings.database.url must be set; runs as the owner role.

    Raises MigrationError, DatabaseUnavailableError, psycopg.Error, ConfigurationError.
    """
    memory = settings.paths.run / "schema.json"
    known = {"files": migrations_digest(), "revision": applied_revision(settings)}
    changed = _remembered(memory) != known or known["revision"] is None
    if changed:
        from core.storage.database import settings_url
        from core.storage.migrate import upgrade

        upgrade(settings_url(settings, "owner").set(drivername="postgresql").render_as_string(hide_password=False))
    seed_database(settings, settings.database.url)
    if changed:
        write_durably(memory, json.dumps(known | {"revision": applied_revision(settings)}) + "\n")
    return changed


def migrations_digest() -> str:
    """Hex SHA-256 over the migrations' files: the same files lead to the same last revision."""
    digest = hashlib.sha256()
    for path in sorted((*MIGRATIONS_FOLDER.rglob("*.py"), *MIGRATIONS_FOLDER.rglob("*.sql"))):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(MIGRATIONS_FOLDER)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def applied_revision(settings: Settings) -> str | None:
    """What the database itself says that it is at; None for an empty one."""
    password = settings.read_secret("postgres-owner.password")
    with psycopg.connect(
        settings.database.url, user="veloz_owner", password=password, connect_timeout=CONNECT_TIMEOUT_S
    ) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    return None if row is None else str(row[0])


def _remembered(memory: Path) -> object:
    try:
        return json.loads(memory.read_text())
    except (OSError, ValueError):
        return None
