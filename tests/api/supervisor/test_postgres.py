"""The embedded PostgreSQL: placement, roles, recovery. Every server here is a real one."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.supervisor.placement import Account, PlacementError, place_cluster, place_sockets, postgres_account
from api.supervisor.postgres import EmbeddedPostgres, PostgresError
from api.supervisor.spawning import is_alive

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="placement for another account is for root only")
CHECKOUT = Path(__file__).parents[3]
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="the kernel signal on a parent's death is Linux's")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path below the temp folder: mode 0700, as `mktemp -d` makes it."""
    folder = Path(tempfile.mkdtemp(prefix="vz-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def embedded(home: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(home / "postgres", home / "run", home / "secrets")


def connect(postgres: EmbeddedPostgres, home: Path, role: str) -> psycopg.Connection[tuple[object, ...]]:
    password = (home / "secrets" / f"postgres-{role}.password").read_text().strip()
    return psycopg.connect(postgres.url, user=f"veloz_{role}", password=password, connect_timeout=30)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[EmbeddedPostgres, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="vz-"))
    postgres = embedded(folder)
    postgres.start()
    yield postgres, folder
    postgres.discard()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("role", ["owner", "api", "audit_writer", "ledger"])
def test_each_role_logs_in_and_is_no_superuser(running: tuple[EmbeddedPostgres, Path], role: str) -> None:
    with connect(*running, role) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False, False, False, False)


def test_the_vector_extension_is_there_and_the_owner_may_use_it(running: tuple[EmbeddedPostgres, Path]) -> None:
    with connect(*running, "owner") as connection:
        connection.execute("CREATE TEMPORARY TABLE t (v vector(2))")
        connection.execute("INSERT INTO t VALUES ('[3,4]')")
        row = connection.execute("SELECT v <-> '[0,0]' FROM t").fetchone()
    assert row == (5.0,)


@pytest.mark.parametrize("role", ["api", "audit_writer", "ledger"])
def test_only_the_owner_creates_objects(running: tuple[EmbeddedPostgres, Path], role: str) -> None:
    with connect(*running, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE mine (n int)")


def test_a_wrong_password_is_refused_even_locally(running: tuple[EmbeddedPostgres, Path]) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(running[0].url, user="veloz_api", password="wrong", connect_timeout=30)


def test_locale_checksums_and_listening(running: tuple[EmbeddedPostgres, Path]) -> None:
    with connect(*running, "api") as connection:
        row = connection.execute(
            "SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding), current_setting('data_checksums'),"
            " current_setting('listen_addresses') FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    assert row == ("b", "C.UTF-8", "UTF8", "on", "")


def test_secrets_are_readable_by_their_owner_alone(running: tuple[EmbeddedPostgres, Path]) -> None:
    secrets = running[1] / "secrets"
    modes = {path.name: path.stat().st_mode & 0o777 for path in secrets.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 5
    assert secrets.stat().st_mode & 0o777 == 0o700


def test_data_survives_kill_9_of_the_server(home: Path) -> None:
    postgres = embedded(home)
    postgres.start()
    try:
        with connect(postgres, home, "owner") as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        assert postgres.process is not None
        postgres.process.kill()
        postgres.process.wait()
        postgres.start()
        with connect(postgres, home, "owner") as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (42,)
    finally:
        postgres.discard()


def test_a_lock_file_with_a_strangers_pid_does_not_stop_the_start(home: Path) -> None:
    postgres = embedded(home)
    postgres.start()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert postgres.process is not None
        postgres.process.kill()
        postgres.process.wait()
        lock_file = postgres.data / "postmaster.pid"
        lines = lock_file.read_text().splitlines()
        lines[0] = str(stranger.pid)
        lock_file.write_text("\n".join(lines) + "\n")
        postgres.start()
        assert stranger.poll() is None
        with connect(postgres, home, "api") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        stranger.kill()
        stranger.wait()
        postgres.discard()


def test_a_first_start_cut_off_before_its_end_is_resumed(home: Path) -> None:
    postgres = embedded(home)
    postgres.start()
    try:
        postgres.stop()
        (postgres.data.parent / "provisioned").unlink()
        (home / "secrets" / "postgres-api.password").unlink()
        postgres.start()
        with connect(postgres, home, "api") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        postgres.discard()


def test_lost_secrets_are_an_error_that_names_the_cure(home: Path) -> None:
    postgres = embedded(home)
    postgres.start()
    try:
        postgres.stop()
        (home / "secrets" / "postgres-api.password").write_text("another\n")
        with pytest.raises(PostgresError, match="Restore the secrets"):
            postgres.start()
    finally:
        postgres.discard()


def test_a_path_too_long_for_a_socket_gets_a_short_private_folder(home: Path) -> None:
    deep = home / ("d" * 100)
    place = place_sockets(deep / "run", deep, Account(os.geteuid(), os.getegid(), switch=False))
    try:
        assert len(os.fsencode(place)) < 80
        assert place.stat().st_mode & 0o777 == 0o700
    finally:
        place.rmdir()


@ROOT_ONLY
def test_under_a_closed_folder_the_cluster_moves_and_the_folder_stays_closed(home: Path) -> None:
    closed = home / "closed"
    inner = closed / "home"
    inner.mkdir(parents=True)
    closed.chmod(0o700)
    home.chmod(0o755)
    account = postgres_account()
    place = place_cluster(inner / "postgres", account, clusters=home / "clusters" / "here")
    assert place.is_relative_to(home / "clusters")
    assert closed.stat().st_mode & 0o777 == 0o700
    assert place_cluster(inner / "postgres", account, clusters=home / "elsewhere") == place
    shutil.rmtree(inner)
    inner.mkdir()
    assert place_cluster(inner / "postgres", account, clusters=home / "clusters" / "here") != place


@ROOT_ONLY
def test_our_own_closed_home_becomes_passable_but_not_readable(home: Path) -> None:
    assert home.stat().st_mode & 0o777 == 0o700
    assert place_cluster(home / "postgres", postgres_account()) == home / "postgres"
    assert home.stat().st_mode & 0o777 == 0o711


@ROOT_ONLY
def test_a_planted_folder_is_refused(home: Path) -> None:
    home.chmod(0o755)
    (home / "postgres").mkdir()
    os.chown(home / "postgres", 12345, 12345)
    with pytest.raises(PlacementError, match="not a folder of ours"):
        place_cluster(home / "postgres", postgres_account())


CHILD = """
import sys
from pathlib import Path
from api.supervisor.postgres import EmbeddedPostgres
home = Path(sys.argv[1])
postgres = EmbeddedPostgres(home / "postgres", home / "run", home / "secrets")
postgres.start()
print(postgres.process.pid, flush=True)
sys.stdin.readline()
postgres.stop()
print("stopped", flush=True)
"""


@LINUX_ONLY
def test_a_killed_launcher_takes_the_server_with_it(home: Path) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    watch = os.pidfd_open(pid)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    ended, _, _ = select.select([watch], [], [], 60)
    os.close(watch)
    assert ended
    assert not is_alive(pid)
    embedded(home).discard()


def reachable_interpreter(identity: dict[str, Any], environment: dict[str, str]) -> str | None:
    """This interpreter, or the system's of the same version, whichever runs as that user with our packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        command = [candidate, "-c", "import psycopg"]
        try:
            subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT, env=environment, **identity)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    return None


@ROOT_ONLY
def test_an_ordinary_user_starts_it_too(home: Path) -> None:
    account = postgres_account()
    identity: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": []}
    packages = str(Path(psycopg.__file__).parents[1])
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": packages}
    interpreter = reachable_interpreter(identity, environment)
    if interpreter is None:
        pytest.skip("no interpreter with our packages lies where an ordinary user can reach it")
    os.chown(home, account.uid, account.gid)
    command = [interpreter, "-c", CHILD, str(home)]
    child = subprocess.run(
        command, input="\n", capture_output=True, text=True, check=False, cwd=CHECKOUT, env=environment, **identity
    )
    assert child.stdout.endswith("stopped\n"), child.stderr
    assert (home / "postgres" / "data").stat().st_uid == account.uid
