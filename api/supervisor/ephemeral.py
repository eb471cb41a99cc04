"""`python -m api.supervisor.ephemeral -- <command>`: a whole service for the time that one command takes.

Its home is a fresh folder, its ports are free ones, its market is synthetic with a fixed seed; all of it is gone
afterwards. The command finds it through VELOZ_HOME and VELOZ_URL. The exit code is the command's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from api.supervisor.placement import forget_cluster
from core.config import HomePaths

READY_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60
EXIT_NO_SERVICE = 69  # EX_UNAVAILABLE
SERVE = """
import asyncio, sys
from api.supervisor.supervisor import UpOptions, run_up
from core.config import load_settings
options = UpOptions(market="synthetic", port=0, venue_port=0, json_lines=True)
sys.exit(asyncio.run(run_up(load_settings(), options, sys.stdout)))
"""


class ServiceFailedError(Exception):
    """The service didn't get ready; the message is its own."""


class EphemeralService:
    """A context manager: enter to start, leave to stop and delete. environment is for the command that uses it."""

    def __init__(self) -> None:
        # Short and directly below the temp folder: a socket path holds about 100 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="veloz-"))
        self.description: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Ours, pointed at the service."""
        return {**self._own_environment(), "VELOZ_URL": str(self.description["api_url"])}

    def __enter__(self) -> EphemeralService:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE], stdout=subprocess.PIPE, text=True, env=self._own_environment()
        )
        timer = threading.Timer(READY_TIMEOUT_S, self._process.terminate)
        timer.start()
        complaint = "it ended without a word"
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                timer.cancel()
                self.description = event
                # Nobody reads on: keep the pipe from filling up.
                threading.Thread(target=self._process.stdout.read, daemon=True).start()
                return self
            if event["event"] == "error":
                complaint = event["message"]
        timer.cancel()
        self.__exit__()
        raise ServiceFailedError(f"the service didn't start: {complaint}")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        forget_cluster(HomePaths(self.home).postgres)
        shutil.rmtree(self.home, ignore_errors=True)

    def _own_environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("VELOZ_")}
        recordings = {name: os.environ[name] for name in ("VELOZ_RECORDINGS",) if name in os.environ}
        return {**ours, **recordings, "VELOZ_HOME": str(self.home)}


def main(command: list[str]) -> int:
    """Run the command beside a service of its own."""
    if not command:
        print("usage: python -m api.supervisor.ephemeral -- <command>", file=sys.stderr)
        return 64
    try:
        with EphemeralService() as service:
            return subprocess.run(command, env=service.environment, check=False).returncode
    except ServiceFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_NO_SERVICE


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(arguments[1:] if arguments[:1] == ["--"] else arguments))
