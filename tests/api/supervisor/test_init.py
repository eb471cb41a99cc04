"""Services that others start: what `init` hands out is enough for each process, and nothing more is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.supervisor import init
from api.supervisor.nats import EmbeddedNats
from api.supervisor.postgres import EmbeddedPostgres
from core.config import HomePaths, load_settings
from tests.ports import unused_port

CHECKOUT = Path(__file__).parents[3]
READY_TIMEOUT_S = 90


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short and below the temp folder: socket paths are limited."""
    place = Path(tempfile.mkdtemp(prefix="vz-init-"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Somebody else's server, as far as init is concerned: with an administrator's password and nothing of ours."""
    (folder / "server").mkdir()
    server = EmbeddedPostgres(folder / "server" / "postgres", folder / "server" / "run", folder / "server" / "secrets")
    server.start()
    with psycopg.connect(server.url, user="postgres", password=administrator(folder), dbname="postgres") as connection:
        connection.autocommit = True
        connection.execute("DROP DATABASE veloz WITH (FORCE)")
        for role in ("owner", "api", "audit_writer", "ledger"):
            connection.execute(f"DROP OWNED BY veloz_{role}; DROP ROLE veloz_{role}")  # type: ignore[call-overload]
    yield server
    server.discard()


def administrator(folder: Path) -> str:
    return (folder / "server" / "secrets" / "postgres-superuser.password").read_text().strip()


@pytest.fixture(scope="module")
def master(folder: Path, postgres: EmbeddedPostgres) -> Path:
    """A master home after `init files` and `init database`, each run twice."""
    home = folder / "master"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "postgres-superuser.password").write_text(administrator(folder))
    given = [f"--give={name}={folder / name}" for name in (*init.SERVICE_SECRETS, *init.SERVERS)]
    for name in (*init.SERVICE_SECRETS, *init.SERVERS):
        (folder / name).mkdir()
    for _ in range(2):
        run(home, "api.supervisor.init", "files", *given)
        run(home, "api.supervisor.init", "database", VELOZ_DATABASE__URL=postgres.url)
    return home


def run(home: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env={"PATH": os.environ["PATH"], "VELOZ_HOME": str(home), **settings},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("name", init.SERVICE_SECRETS)
def test_a_service_gets_its_secrets_and_no_others(master: Path, folder: Path, name: str) -> None:
    files = {str(path.relative_to(folder / name)) for path in (folder / name).rglob("*") if path.is_file()}
    expected = {f"secrets/{secret}" for secret in init.SERVICE_SECRETS[name]} | set(init.SERVICE_FILES.get(name, ()))
    assert expected <= files
    assert {file for file in files if file.startswith("secrets/")} <= expected
    modes = {path.stat().st_mode & 0o777 for path in (folder / name / "secrets").iterdir()}
    assert modes == {0o600}


def test_only_engine_and_venue_hold_venue_keys_and_nobody_the_root_key() -> None:
    holders = {name for name, secrets in init.SERVICE_SECRETS.items() if "venue-paper.secret" in secrets}
    assert holders == {"engine", "venue"}
    assert not [name for name, secrets in init.SERVICE_SECRETS.items() if "root.key" in secrets]


def test_limits_that_an_operator_changed_stay(master: Path, folder: Path) -> None:
    limits = folder / "engine" / "risk.toml"
    changed = limits.read_text().replace('"1000000"', '"5000"')
    limits.write_text(changed)
    init.give(HomePaths(master), "engine", folder / "engine")
    assert limits.read_text() == changed


@pytest.mark.timeout(300)
def test_every_process_runs_on_what_it_was_given(master: Path, folder: Path, postgres: EmbeddedPostgres) -> None:
    nats = EmbeddedNats(folder / "nats-data", master / "secrets")
    nats.start()
    venue, engine, api = (unused_port() for _ in range(3))
    addresses = {
        "VELOZ_DATABASE__URL": postgres.url,
        "VELOZ_NATS__URL": nats.url,
        "VELOZ_VENUE__PORT": str(venue),
        "VELOZ_VENUE__REST_URL": f"http://127.0.0.1:{venue}",
        "VELOZ_VENUE__WEBSOCKET_URL": f"ws://127.0.0.1:{venue}",
        "VELOZ_ENGINE__LISTEN": f"127.0.0.1:{engine}",
        "VELOZ_API__PORT": str(api),
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name in init.SERVICE_SECRETS:
            environment = {"PATH": os.environ["PATH"], "VELOZ_HOME": str(folder / name), **addresses}
            with (folder / f"{name}.log").open("wb") as log:
                command = [sys.executable, "-m", "api.processes", name]
                processes.append(subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=log, stderr=log))
            becomes_healthy(name, environment, processes[-1], folder / f"{name}.log")
        for process in reversed(processes):
            process.terminate()
            assert process.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
        nats.stop()


def becomes_healthy(name: str, environment: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    """By the same check that the containers use; its own start-up paces the attempts."""
    from time import monotonic

    deadline = monotonic() + READY_TIMEOUT_S
    while monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        command = [sys.executable, "-m", "api.supervisor.healthcheck", name]
        if subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, check=False).returncode == 0:
            return
    raise AssertionError(f"{name} isn't healthy: {log.read_text()[-3000:]}")


def test_a_missing_database_url_names_the_cure(master: Path) -> None:
    from core.config import ConfigurationError

    with pytest.raises(ConfigurationError, match="VELOZ_DATABASE__URL"):
        init.prepare_database(load_settings(master, {}))
