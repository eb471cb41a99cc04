"""The frame around every process: gate, readiness, stop, exit codes. Real processes with a stand-in body."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BODY = """
from core.config import ConfigurationError
async def main(settings, stop, ready):
    {body}
"""
RUNNER = """
import sys
from api import processes
processes.MODULES["venue"] = "body"
processes.STOP_TIMEOUT_S = {stop_timeout_s}
processes.leave(processes.main(sys.argv[1:]))
"""
SERVES = "ready(); await stop.wait()"
HANGS = "import time; ready(); await stop.wait(); time.sleep(600)"
SOON_S, PATIENCE_S = 0.5, 60


class Started:
    """A process with the supervisor's ends of its pipes."""

    def __init__(self, folder: Path, body: str, environment: dict[str, str] | None = None) -> None:
        # Nothing but a stop that hangs may take it for one, however slow the machine is.
        stop_timeout_s = SOON_S if body == HANGS else PATIENCE_S
        (folder / "body.py").write_text(BODY.format(body=body))
        control, self.control = os.pipe()
        self.status, status = os.pipe()
        runner = RUNNER.format(stop_timeout_s=stop_timeout_s)
        self.process = subprocess.Popen(
            [sys.executable, "-c", runner, "venue", "--control-fd", str(control), "--status-fd", str(status)],
            pass_fds=(control, status),
            cwd=folder,
            env={"PATH": os.environ["PATH"], "VELOZ_HOME": str(folder), **(environment or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(control)
        os.close(status)
        self.told = os.fdopen(self.status)

    def go(self) -> None:
        os.write(self.control, b"go\n")

    def close_control(self) -> None:
        os.close(self.control)
        self.control = -1

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE_S)


Start = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Started] = []

    def begin(body: str, environment: dict[str, str] | None = None) -> Started:
        started.append(Started(tmp_path, body, environment))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()
        one.told.close()
        if one.control >= 0:
            os.close(one.control)
        assert one.process.stderr is not None
        one.process.stderr.close()


def test_it_goes_when_told_and_says_when_it_is_ready(start: Start) -> None:
    process = start(SERVES)
    process.go()
    assert process.told.readline() == "ready\n"
    process.process.send_signal(signal.SIGTERM)
    assert process.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_hangs_ends_all_the_same(start: Start, number: signal.Signals) -> None:
    process = start(HANGS)
    process.go()
    assert process.told.readline() == "ready\n"
    process.process.send_signal(number)
    assert process.exit_code() == 75


def test_a_busy_worker_thread_does_not_hold_up_a_stop(start: Start) -> None:
    process = start("import asyncio, time; asyncio.ensure_future(asyncio.to_thread(time.sleep, 600)); " + SERVES)
    process.go()
    assert process.told.readline() == "ready\n"
    process.process.send_signal(signal.SIGTERM)
    assert process.exit_code() == 0


def test_it_follows_its_supervisor_before_it_goes(start: Start) -> None:
    process = start(SERVES)
    process.close_control()
    assert process.exit_code() == 0


def test_it_follows_its_supervisor_while_it_runs(start: Start) -> None:
    process = start(SERVES)
    process.go()
    assert process.told.readline() == "ready\n"
    process.close_control()
    assert process.exit_code() == 0


def test_wrong_configuration_exits_78_and_is_told(start: Start) -> None:
    process = start("raise ConfigurationError('veloz.toml: key x: wrong')")
    process.go()
    told = process.told.readline()
    assert json.loads(told.removeprefix("failed ")) == "veloz.toml: key x: wrong"
    assert process.exit_code() == 78


def test_a_market_that_cannot_be_played_is_wrong_configuration(start: Start) -> None:
    process = start("from core.venues.paper.errors import MarketSourceError; raise MarketSourceError('no such symbol')")
    process.go()
    assert json.loads(process.told.readline().removeprefix("failed ")) == "no such symbol"
    assert process.exit_code() == 78


def test_an_unknown_setting_exits_78_before_it_goes(start: Start) -> None:
    process = start(SERVES, {"VELOZ_API__PROT": "1"})
    assert "VELOZ_API__PROT" in process.told.readline()
    assert process.exit_code() == 78


@pytest.mark.parametrize("body", ["raise RuntimeError('broken')", "ready()", "return"])
def test_ending_unasked_is_a_failure(start: Start, body: str) -> None:
    process = start(body)
    process.go()
    assert process.exit_code() == 70
