"""A whole service for the tests: `veloz up` in a home of its own, on free ports, driven by its own command line."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

VELOZ = Path(sys.executable).parent / "veloz"
READY_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 90
POLL_S = 0.05

T = TypeVar("T")


class CommandResult:
    """What a command printed, and its exit code."""

    def __init__(self, completed: subprocess.CompletedProcess[str]) -> None:
        self.exit_code = completed.returncode
        self.text = completed.stdout
        self.errors = completed.stderr

    @property
    def json(self) -> Any:
        assert self.text.strip(), f"the command printed nothing; its errors: {self.errors}"
        return json.loads(self.text)

    @property
    def error_code(self) -> str:
        return str(self.json["error"]["code"])


class RunningService:
    """One `veloz up`."""

    def __init__(self, *options: str, environment: dict[str, str] | None = None) -> None:
        # A short path of our own: socket paths are limited to 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="veloz-e2e-"))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VELOZ_")},
            **(environment or {}),
            "VELOZ_HOME": str(self.home),
        }
        self._options = options
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Start it; returns the seconds until it was ready."""
        started = time.monotonic()
        command = [str(VELOZ), "up", "--port", "0", "--venue-port", "0", "--json-lines", *self._options]
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines = []
        while time.monotonic() - started < READY_TIMEOUT_S:
            assert self.process.stdout is not None
            if not select.select([self.process.stdout], [], [], POLL_S)[0]:
                continue
            line = self.process.stdout.readline()
            if not line:
                break
            lines.append(line)
            if line.startswith("{") and json.loads(line).get("event") == "ready":
                return time.monotonic() - started
        self.stop()
        raise AssertionError("the service did not become ready:\n" + "".join(lines) + self.logs())

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode

    def remove(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def description(self) -> dict[str, Any]:
        """What the supervisor says about itself."""
        content: dict[str, Any] = json.loads((self.home / "run" / "service.json").read_text())
        return content

    @property
    def url(self) -> str:
        return str(self.description["api_url"])

    def password(self, username: str) -> str:
        logins = json.loads((self.home / "demo-logins.json").read_text())["logins"]
        return str(next(login["password"] for login in logins if login["username"] == username))

    def veloz(self, *arguments: str) -> CommandResult:
        """Run one command against this service."""
        completed = subprocess.run(
            [str(VELOZ), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return CommandResult(completed)

    def has_spare(self) -> bool:
        """A second api process has loaded everything and waits to take over."""
        return '"spare_loaded"' in (self.home / "logs" / "api.log").read_text()

    def logs(self) -> str:
        """The end of each log, for a failed test."""
        folder = self.home / "logs"
        if not folder.is_dir():
            return ""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3_000:]}" for path in sorted(folder.glob("*.log")))


def eventually(attempt: Callable[[], T | None], within_s: float, what: str) -> T:
    """The first truthy result of attempt, tried until within_s has passed."""
    deadline = time.monotonic() + within_s
    while True:
        result = attempt()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        select.select([], [], [], POLL_S)
