"""`python -m api.supervisor.init`: what `veloz up` does before it starts anything, for services that others start.

Two calls, because a server needs its password before it runs and the schema needs the server:
`init files --give engine=/folder ...` makes keys, limits and roster, and hands every service only what it reads;
`init database` creates roles and database at database.url (while secrets/postgres-superuser.password exists), migrates
and seeds. Both may be repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg

from api.supervisor.files import private_folder, write_durably
from api.supervisor.first_run import demo_logins, prepare_home
from api.supervisor.nats import external_configuration
from api.supervisor.provision import Connection, provision
from api.supervisor.schema import migrate_and_seed
from core.config import ConfigurationError, HomePaths, Settings, load_settings

DATABASE_TIMEOUT_S = 60.0
RETRY_S = 0.2
ADMINISTRATOR = "postgres"
SHARED_FILE_MODE = 0o644  # servers of others run as users of their own; their folder is theirs alone

VENUE_SECRETS = ("venue-paper.key", "venue-paper.secret")
CANCELLER_SECRETS = ("venue-paper-cancel.key", "venue-paper-cancel.secret")
# Which secrets each service reads. A service that isn't listed under a key can't leak it.
SERVICE_SECRETS: Mapping[str, tuple[str, ...]] = {
    "venue": (*VENUE_SECRETS, *CANCELLER_SECRETS),
    "engine": ("engine-control.token", "nats.token", "root.pub", *VENUE_SECRETS),
    "ledger": ("audit-kek.key", "engine-control.token", "postgres-ledger.password"),
    "api": (
        "audit-kek.key",
        "engine-control.token",
        "jwt.key",
        "metrics.token",
        "nats.token",
        "postgres-api.password",
        "postgres-audit_writer.password",
        "results.key",
    ),
}
SERVICE_FILES: Mapping[str, tuple[str, ...]] = {"engine": ("roster.json", "risk.toml")}
SERVERS = ("postgres", "nats")


def run_init(settings: Settings) -> None:
    """Files and database in one: for a first run beside servers that already run.

    Raises ConfigurationError, psycopg.Error, MigrationError, OSError.
    """
    prepare_home(settings.paths)
    prepare_database(settings)


def give(paths: HomePaths, service: str, folder: Path) -> None:
    """Put into folder (the service's own VELOZ_HOME) what that service reads. Limits and roster aren't replaced."""
    if service == "postgres":
        content = paths.secret("postgres-superuser.password").read_text()
        write_durably(folder / "superuser.password", content, SHARED_FILE_MODE)
        return
    if service == "nats":
        token = paths.secret("nats.token").read_text().strip()
        write_durably(folder / "nats.conf", external_configuration(token), SHARED_FILE_MODE)
        return
    secrets = private_folder(folder / "secrets")
    for name in SERVICE_SECRETS[service]:
        write_durably(secrets / name, paths.secret(name).read_text())
    for name in SERVICE_FILES.get(service, ()):
        if not (folder / name).exists():
            write_durably(folder / name, (paths.home / name).read_text())


def prepare_database(settings: Settings) -> None:
    """Roles, database, schema and demo tenancy at database.url; waits until the server answers."""
    if not settings.database.url:
        raise ConfigurationError(
            "database.url is empty: set VELOZ_DATABASE__URL, or use `veloz up`, which brings its own."
        )
    if settings.paths.secret("postgres-superuser.password").exists():
        provision(lambda database: _connect_administrator(settings, database), settings.paths.secrets)
    migrate_and_seed(settings)


def _connect_administrator(settings: Settings, database: str) -> Connection:
    password = settings.read_secret("postgres-superuser.password")
    deadline = time.monotonic() + DATABASE_TIMEOUT_S
    while True:
        try:
            return psycopg.connect(
                settings.database.url, user=ADMINISTRATOR, password=password, dbname=database, connect_timeout=5
            )
        except psycopg.OperationalError as error:
            if "authentication failed" in str(error) or time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_S)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m api.supervisor.init", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files")
    files.add_argument("--give", action="append", default=[], metavar="SERVICE=FOLDER")
    commands.add_parser("database")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        if options.command == "database":
            prepare_database(settings)
            for login in demo_logins(settings.paths):
                print(f"login {login['username']}  role {login['role']}  password in {settings.paths.demo_logins}")
            return 0
        prepare_home(settings.paths)
        for pair in options.give:
            service, separator, folder = pair.partition("=")
            if not separator or service not in {*SERVICE_SECRETS, *SERVERS}:
                parser.error(f"--give {pair}: SERVICE=FOLDER, SERVICE one of {', '.join((*SERVICE_SECRETS, *SERVERS))}")
            give(settings.paths, service, Path(folder))
    except (ConfigurationError, OSError, psycopg.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 78 if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
