"""`veloz up` as a whole: a real service, killed and stopped in every way."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from api.supervisor.placement import forget_cluster
from api.supervisor.spawning import is_alive

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
VELOZ = Path(sys.executable).with_name("veloz")
EVENT_TIMEOUT_S = 120


class Service:
    """One `veloz up --json-lines` and what it says."""

    def __init__(self, home: Path, *options: str) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("VELOZ_")}
        self.home = home
        self.process = subprocess.Popen(
            [str(VELOZ), "up", "--json-lines", "--port", "0", "--venue-port", "0", *options],
            env={**ours, "VELOZ_HOME": str(home)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._events: Queue[dict[str, Any] | None] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def until(self, event: str, words: str = "") -> dict[str, Any]:
        """The next event of that kind whose message holds words."""
        seen = []
        while (said := self._events.get(timeout=EVENT_TIMEOUT_S)) is not None:
            seen.append(said)
            if said["event"] == event and words in said.get("message", ""):
                return said
        raise AssertionError(f"no {event!r} with {words!r} among {seen}")

    @property
    def description(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.home / "run" / "service.json").read_text())
        return content


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vz-up-"))
    yield folder
    forget_cluster(folder / "postgres")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Service]:
    """Started once, and again when a test ended it."""
    service = Service(home)
    service.until("ready")
    yield service
    service.process.kill()
    service.process.wait()


def descendants(pid: int) -> set[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(tuple(map(int, line.split())) for line in listing.splitlines())  # type: ignore[misc,arg-type]
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_it_says_where_it_is_and_who_may_log_in(service: Service) -> None:
    description = service.description
    assert description["mode"] == "PAPER"
    assert description["api_url"].endswith(f":{description['ports']['api']}")
    assert set(description["pids"]) == {"supervisor", "postgres", "nats", "venue", "engine", "ledger", "api"}
    assert all(is_alive(pid) for pid in description["pids"].values())
    assert (service.home / "run" / "service.json").stat().st_mode & 0o777 == 0o600


def test_no_secret_is_in_the_environment_or_the_arguments_of_a_child(service: Service) -> None:
    secrets = {path.read_text().strip() for path in (service.home / "secrets").iterdir()}
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    for name, pid in service.description["pids"].items():
        visible = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        assert not [secret for secret in secrets if secret in visible], name


def test_a_second_supervisor_is_refused_and_named(service: Service) -> None:
    second = Service(service.home)
    message = second.until("error")["message"]
    assert f"supervisor pid {service.process.pid}" in message
    assert second.process.wait(60) == 1


@pytest.mark.parametrize("name", ["nats", "postgres", "venue", "ledger", "engine", "api"])
def test_a_killed_child_is_back_and_no_other_was_touched(service: Service, name: str) -> None:
    before = service.description
    os.kill(before["pids"][name], signal.SIGKILL)
    assert f"{name} was killed by SIGKILL" in service.until("child", "restart")["message"]
    service.until("child", f"{name} is ready again")
    after = service.description
    assert after["pids"][name] != before["pids"][name]
    assert after["restarts"][name] == before["restarts"][name] + 1
    others = set(before["pids"]) - {name}
    assert {other: after["pids"][other] for other in others} == {other: before["pids"][other] for other in others}


async def test_the_doctor_finds_nothing_failing(service: Service) -> None:
    from api.supervisor.doctor import collect
    from core.config import load_settings

    checks = await collect(load_settings(service.home, {}))
    assert [check for check in checks if check.status == "fail"] == []
    assert {"postgres", "audit append-only", "nats", "venue", "engine", "books", "ledger", "api"} <= {
        check.name for check in checks
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_leaves_no_process_and_no_service_file(home: Path, service: Service, number: signal.Signals) -> None:
    if service.process.poll() is not None:
        service.__init__(home)  # type: ignore[misc]
        service.until("ready")
    family = descendants(service.process.pid)
    assert len(family) > 6
    service.process.send_signal(number)
    service.until("stopped")
    assert service.process.wait(60) == 0
    assert [pid for pid in family if is_alive(pid)] == []
    assert not (home / "run" / "service.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel signal on a parent's death is Linux's")
def test_a_killed_supervisor_leaves_no_process(home: Path) -> None:
    service = Service(home)
    service.until("ready")
    watched = [os.pidfd_open(pid) for pid in descendants(service.process.pid)]
    service.process.kill()
    service.process.wait()
    for descriptor in watched:
        assert select.select([descriptor], [], [], 60)[0]
        os.close(descriptor)


def test_a_taken_port_is_named_before_anything_starts(home: Path) -> None:
    with socket.socket() as occupier:
        occupier.bind(("127.0.0.1", 0))
        occupier.listen()
        port = occupier.getsockname()[1]
        service = Service(home, "--port", str(port))
        assert f"port {port} on 127.0.0.1 is taken" in service.until("error")["message"]
        assert service.process.wait(60) == 1
        assert not descendants(service.process.pid)
