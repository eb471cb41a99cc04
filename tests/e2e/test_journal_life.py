"""The journal's whole life in a whole service: killed, archived, dropped, rebuilt from, verified."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import RunningService, eventually

pytestmark = pytest.mark.e2e
LIVES = 3
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def archiving(archive: Path) -> Iterator[RunningService]:
    environment = {"VELOZ_JOURNAL__ARCHIVE": str(archive), "VELOZ_JOURNAL__KEEP_MB": "0"}
    running = RunningService("--market", "synthetic", environment=environment)
    running.start()
    yield running
    running.stop()
    running.remove()


def engine_status(service: RunningService) -> dict[str, Any] | None:
    """What `veloz journal ls` says, once the engine answers."""
    shown = service.veloz("journal", "ls", "--json")
    return shown.json if shown.exit_code == 0 else None


def killed_and_back(service: RunningService) -> None:
    pid = service.description["pids"]["engine"]
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        return service.description["pids"].get("engine") not in {None, pid} and engine_status(service) is not None

    eventually(is_back, WITHIN_S, "the engine runs again")


def test_what_a_killed_engine_wrote_is_archived_dropped_and_rebuilt_from(
    archiving: RunningService, archive: Path
) -> None:
    for _ in range(LIVES - 1):
        killed_and_back(archiving)

    def only_the_newest_is_here() -> dict[str, Any] | None:
        view: dict[str, Any] = archiving.veloz("journal", "archive", "--json").json
        return view if len(view.get("segments", ())) == 1 else None

    view = eventually(only_the_newest_is_here, WITHIN_S, "all but the newest segment are archived and dropped")
    assert view["segments"][0]["first_sequence"] > 1
    assert len(list((archive / "engine-1").glob("*.journal"))) == LIVES - 1

    verified = archiving.veloz("journal", "verify", "--json")
    assert (verified.exit_code, verified.json["first_sequence"], verified.json["problems"]) == (0, 1, [])

    def rebuilt() -> dict[str, Any] | None:
        answer = archiving.veloz("rebuild", "--check", "--json")
        return answer.json if answer.exit_code in {0, 1} and "tables" in answer.json else None

    answer = eventually(rebuilt, WITHIN_S, "the projections are compared with the journal")
    assert answer["equal"], answer

    assert archiving.veloz("reconcile", "--dry-run", "--json").json["differences"] == []
    checks = {check["name"]: check for check in archiving.veloz("doctor", "--json").json["checks"]}
    assert checks["journal"]["status"] == "ok", checks["journal"]
    assert str(archive) in checks["journal"]["detail"]
