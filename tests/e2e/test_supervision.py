"""Whatever dies comes back, and says so meanwhile; nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import RunningService, eventually

pytestmark = pytest.mark.e2e

RESTORE_LIMIT_S = 10
WARM_START_LIMIT_S = 5
QUESTION = "what is the spread on BTCUSDT?"
CHILDREN = ("postgres", "nats", "venue", "engine", "ledger", "api")


@pytest.fixture(scope="module")
def synthetic() -> Iterator[RunningService]:
    running = RunningService()
    running.start()
    yield running
    running.stop()
    running.remove()


@pytest.mark.parametrize("child", CHILDREN)
def test_a_killed_child_is_restored_within_ten_seconds(synthetic: RunningService, child: str) -> None:
    before = synthetic.description["pids"][child]
    os.kill(before, signal.SIGKILL)
    codes = []

    def answered() -> bool:
        asked = synthetic.veloz("ask", QUESTION, "--json")
        if asked.exit_code == 0:
            pid = synthetic.description["pids"][child]
            return bool(pid != before)
        codes.append(asked.error_code)
        assert asked.json["error"]["message"]
        return False

    eventually(
        answered, RESTORE_LIMIT_S, f"an answer after {child} was killed; codes meanwhile: {codes}\n{synthetic.logs()}"
    )
    assert all(code.startswith(("SERVICE_", "STREAM_", "MARKET_")) for code in codes), codes


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_ctrl_c_leaves_no_process_and_the_second_start_is_warm() -> None:
    running = RunningService()
    try:
        running.start()
        pids = [pid for name, pid in running.description["pids"].items() if name != "supervisor"]
        assert all(map(_alive, pids))
        assert running.stop() == 0
        assert not [pid for pid in pids if _alive(pid)]
        assert running.start() < WARM_START_LIMIT_S
        running.stop()
    finally:
        running.remove()
