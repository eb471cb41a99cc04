"""Keeping a child running. The children are real processes, small ones."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from api.supervisor import children
from api.supervisor.backoff import FIRST_DELAY_S, HEALTHY_AFTER_S, MAX_DELAY_S, Backoff
from api.supervisor.children import Child, ChildFailedError, PythonProgram
from api.supervisor.spawning import is_alive

WAIT_S = 60
PROLOGUE = """
import os, signal, sys, time
control, status = int(sys.argv[2]), int(sys.argv[4])
def tell(line):
    os.write(status, line.encode() + b"\\n")
"""
SERVES = "tell('ready'); signal.pause()"
IGNORES_SIGTERM = "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell('ready')\nwhile True: signal.pause()"


class Script(PythonProgram):
    """A child that runs a few lines with the pipes of a real one."""

    def __init__(self, script: str, folder: Path) -> None:
        super().__init__("dummy", {"PATH": os.environ["PATH"]}, folder / "dummy.log", folder)
        self._script = PROLOGUE + script

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-S", "-E", "-c", self._script]


class Stage:
    """Children of one test and what was said of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []
        self.said: asyncio.Queue[str] = asyncio.Queue()

    def child(self, script: str) -> Child:
        child = Child(Script(script, self.folder), lambda _, message: self.said.put_nowait(message), random.Random(7))
        self.children.append(child)
        child.start()
        child.program.release()
        return child

    def reap(self) -> None:
        for child in self.children:
            child.reap()

    async def hears(self, words: str) -> str:
        async with asyncio.timeout(WAIT_S):
            while words not in (message := await self.said.get()):
                pass
        return message


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, stage.reap)
    yield stage
    for child in stage.children:
        await child.stop()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)


async def test_a_killed_child_is_back_and_it_is_said(stage: Stage) -> None:
    child = stage.child(SERVES)
    await child.wait_ready()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert "was killed by SIGKILL; restart 1" in await stage.hears("restart")
    assert "ready again" in await stage.hears("ready")
    assert child.pid not in {None, first}
    assert child.restarts == 1


async def test_wrong_configuration_is_told_and_never_tried_again(stage: Stage) -> None:
    child = stage.child("tell('failed ' + chr(34) + 'veloz.toml: no such setting' + chr(34)); sys.exit(78)")
    with pytest.raises(ChildFailedError, match=r"configuration: veloz\.toml: no such setting"):
        await child.wait_ready()
    assert child.restarts == 0
    assert child.pid is None


async def test_a_child_that_never_gets_ready_fails_with_the_end_of_its_log(stage: Stage) -> None:
    child = stage.child("print('no such device', flush=True); sys.exit(3)")
    with pytest.raises(ChildFailedError, match=r"ended with code 3 before it was ready: .*no such device"):
        await child.wait_ready()
    assert child.restarts == children.MAX_FAILED_STARTS - 1


async def test_it_waits_for_go(stage: Stage) -> None:
    child = Child(
        Script("os.read(control, 3) == b'go\\n' and tell('ready'); signal.pause()", stage.folder),
        lambda *_: None,
        random.Random(7),
    )
    stage.children.append(child)
    child.start()
    waiting = asyncio.ensure_future(child.wait_ready())
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    child.program.release()
    async with asyncio.timeout(WAIT_S):
        await waiting


async def test_a_released_child_needs_no_second_release_after_a_restart(stage: Stage) -> None:
    child = stage.child("os.read(control, 3) == b'go\\n' and tell('ready'); signal.pause()")
    await child.wait_ready()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await stage.hears("ready again")


async def test_a_child_that_does_not_stop_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "STOP_TIMEOUT_S", 0.2)
    child = stage.child(IGNORES_SIGTERM)
    await child.wait_ready()
    pid = child.pid
    assert pid is not None
    await child.stop()
    assert not is_alive(pid)
    assert child.restarts == 0


async def test_kill_takes_the_childs_own_children_too(stage: Stage) -> None:
    child = stage.child("pid = os.fork()\nif pid: tell('ready')\nwhile True: signal.pause()")
    await child.wait_ready()
    assert child.pid is not None
    ended = [os.pidfd_open(pid) for pid in group_of(child.pid)] if sys.platform == "linux" else []
    child.kill()
    await child.stop()
    for descriptor in ended:
        assert select.select([descriptor], [], [], WAIT_S)[0]
        os.close(descriptor)


def group_of(leader: int) -> list[int]:
    """Processes of the group that leader leads."""
    listing = subprocess.run(["ps", "-eo", "pid=,pgid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    members = [pid for pid, group in pairs if group == leader]
    assert len(members) == 2
    return members


ORPHAN = """
import asyncio, random, sys
from pathlib import Path
from api.supervisor.children import Child
from tests.api.supervisor.test_children import IGNORES_SIGTERM, Script

async def main():
    child = Child(Script(IGNORES_SIGTERM, Path(sys.argv[1])), lambda *_: None, random.Random(1))
    child.start()
    await child.wait_ready()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel signal on a parent's death is Linux's")
def test_a_killed_supervisor_leaves_no_child(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    supervisor = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path)], stdout=subprocess.PIPE, cwd=root)
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    watch = os.pidfd_open(pid)
    supervisor.kill()
    supervisor.wait()
    assert select.select([watch], [], [], WAIT_S)[0]
    os.close(watch)


class TestBackoff:
    def delays(self, seed: int, healthy_s: Callable[[int], float], n: int = 12) -> list[float]:
        backoff = Backoff(random.Random(seed))
        return [backoff.next_delay_s(healthy_s(i)) for i in range(n)]

    @pytest.mark.parametrize("seed", range(20))
    def test_it_grows_from_at_once_to_the_limit(self, seed: int) -> None:
        delays = self.delays(seed, lambda _: 0.0)
        assert delays[0] <= FIRST_DELAY_S
        assert max(delays) <= MAX_DELAY_S
        assert delays[-1] >= MAX_DELAY_S / 2

    @pytest.mark.parametrize("seed", range(5))
    def test_a_healthy_while_is_forgiven(self, seed: int) -> None:
        delays = self.delays(seed, lambda i: HEALTHY_AFTER_S if i == 8 else 0.0, 9)
        assert delays[7] > FIRST_DELAY_S >= delays[8]


def _spare_of(child: Child) -> int:
    child.program.prepare_spare()
    assert child.program.spare_pid is not None
    return child.program.spare_pid


WAITS_FOR_GO = "os.read(control, 3); tell('ready'); signal.pause()"


class Spared(Script):
    def __init__(self, script: str, folder: Path) -> None:
        super().__init__(script, folder)
        self._keeps_spare = True


def _spared_child(stage: Stage) -> Child:
    program = Spared(WAITS_FOR_GO, stage.folder)
    child = Child(program, lambda _, message: stage.said.put_nowait(message), random.Random(7))
    stage.children.append(child)
    child.start()
    program.release()
    return child


async def test_a_spare_takes_over_when_its_child_is_killed(stage: Stage) -> None:
    child = _spared_child(stage)
    await child.wait_ready()
    spare = _spare_of(child)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await stage.hears("is ready again")
    assert child.pid == spare
    assert child.program.spare_pid is None


async def test_a_dead_spare_is_passed_over(stage: Stage) -> None:
    child = _spared_child(stage)
    await child.wait_ready()
    spare = _spare_of(child)
    os.kill(spare, signal.SIGKILL)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await stage.hears("is ready again")
    assert child.pid is not None
    assert child.pid != spare


async def test_a_stop_ends_the_spare_too(stage: Stage) -> None:
    child = _spared_child(stage)
    await child.wait_ready()
    spare = _spare_of(child)
    await child.stop()
    assert not is_alive(spare)
