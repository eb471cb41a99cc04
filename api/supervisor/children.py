"""One supervised child: spawn, readiness, restart with backoff, stop.

Everything here runs in the main thread: a child's death signal is bound to the thread that spawned it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from api.processes import EXIT_CONFIGURATION
from api.supervisor.backoff import Backoff
from api.supervisor.nats import NatsError
from api.supervisor.postgres import PostgresError
from api.supervisor.spawning import die_with_parent, signal_group

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 9.0  # one second more than a child gives itself
KILL_TIMEOUT_S = 5.0
STATUS_MAX_BYTES = 16_384
MAX_FAILED_STARTS = 3  # before it was ever ready: then starting the service has failed
LOG_TAIL_BYTES = 1_500
SPARE_DELAY_S = 5.0  # after it became ready: a start has better use for the processor


class ChildFailedError(Exception):
    """A child that can't be started; the message says why and where its log is."""


class Program(Protocol):
    """What a child runs."""

    name: str
    log_file: Path
    stop_signal: signal.Signals

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it, as leader of a process group of its own."""
        ...

    async def wait_ready(self) -> None:
        """Return when it can serve. Raises ChildFailedError when it says that it can't."""
        ...

    def release(self) -> None:
        """What it depends on is there: it may go."""
        ...

    def prepare_spare(self) -> None:
        """Have a second one wait, loaded, to take over at once. Does nothing where starting is cheap."""
        ...

    def end_spare(self) -> None: ...

    @property
    def spare_pid(self) -> int | None: ...


class Child:
    """A program that is kept running from start() to stop(). on_change is told of every change, in words."""

    def __init__(self, program: Program, on_change: Callable[[Child, str], None], randomness: random.Random) -> None:
        self.program = program
        self.name = program.name
        self.restarts = 0
        self.is_ready = False
        self.failure: ChildFailedError | None = None
        self._on_change = on_change
        self._backoff = Backoff(randomness)
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._ever_ready = False
        self._spare_timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """None while it isn't running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Begin to keep it running."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")
        self._keeper.add_done_callback(self._on_keeper_done)

    def reap(self) -> None:
        """Look whether it ended: call on SIGCHLD."""
        if self._process is not None and self._process.poll() is not None:
            self._exited.set()

    async def wait_ready(self) -> None:
        """Return when it was ready for the first time. Raises ChildFailedError."""
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure

    async def stop(self) -> None:
        """Ask it to stop, wait, kill what is left. Idempotent."""
        self._stopping.set()
        self._end_spare()
        if self._process is not None and self._process.poll() is None:
            # The program itself is asked; its own children (PostgreSQL's backends) are its to stop.
            self._process.send_signal(self.program.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wait_exit(), STOP_TIMEOUT_S)
        await self._kill_rest()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    def kill(self) -> None:
        """At once, whole process group."""
        self._stopping.set()
        self._end_spare()
        if self._process is not None and self._process.poll() is None:
            signal_group(self._process.pid, signal.SIGKILL)

    async def _kill_rest(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        signal_group(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wait_exit(), KILL_TIMEOUT_S)

    async def _wait_exit(self) -> None:
        self.reap()
        await self._exited.wait()

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            healthy_s = await self._live()
            if self._stopping.is_set() or self.failure is not None:
                return
            delay_s = self._backoff.next_delay_s(healthy_s)
            code = self._process.returncode if self._process is not None else None
            self.restarts += 1
            self._on_change(self, f"{self.name} {_ending(code)}; restart {self.restarts} in {delay_s:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    def _on_keeper_done(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self.failure = ChildFailedError(f"supervising {self.name} failed: {error!r}. This is a bug in VeloZ.")
            self.failure.__cause__ = error
            self._settled.set()
            self._on_change(self, str(self.failure))

    async def _live(self) -> float:
        """One life of the child: how long it was ready, in seconds."""
        self._exited.clear()
        self._process = None
        try:
            self._process = self.program.spawn()
        except OSError as error:
            self._fail(ChildFailedError(f"{self.name} can't be started: {error}"))
            return 0.0
        self.reap()  # it may have ended before we had its pid
        ready = asyncio.create_task(self.program.wait_ready(), name=f"readiness of {self.name}")
        exited = asyncio.create_task(self._exited.wait())
        reason: str | None = None
        healthy_since: float | None = None
        try:
            await asyncio.wait({ready, exited}, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if exited.done() and not ready.done():
                await asyncio.wait({ready}, timeout=1.0)  # its last words may still be in the pipe
            if ready.done() and ready.exception() is None:
                healthy_since = time.monotonic()
                self._became_ready()
                await exited
            elif ready.done():
                reason = str(ready.exception())
                await asyncio.wait({exited}, timeout=STOP_TIMEOUT_S)  # its exit code tells whether to try again
            if not exited.done():
                reason = reason or f"not ready within {READY_TIMEOUT_S:g} s"
                await self._kill_rest()
        finally:
            ready.cancel()
            exited.cancel()
        self.is_ready = False
        if healthy_since is None:
            self._failed_start(reason)
            return 0.0
        return time.monotonic() - healthy_since

    def _became_ready(self) -> None:
        self.is_ready = True
        again = self._ever_ready
        self._ever_ready = True
        self._settled.set()
        self._spare_timer = asyncio.get_running_loop().call_later(SPARE_DELAY_S, self._prepare_spare)
        if again:
            self._on_change(self, f"{self.name} is ready again (pid {self.pid})")

    def _prepare_spare(self) -> None:
        if not self._stopping.is_set() and self.is_ready:
            self.program.prepare_spare()

    def _end_spare(self) -> None:
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        self.program.end_spare()

    def _failed_start(self, reason: str | None) -> None:
        code = self._process.returncode if self._process is not None else None
        told = reason or _tail(self.program.log_file)
        if code == EXIT_CONFIGURATION:
            self._fail(ChildFailedError(f"{self.name} doesn't start with this configuration: {told}"))
        elif not self._ever_ready and self.restarts + 1 >= MAX_FAILED_STARTS and not self._stopping.is_set():
            self._fail(
                ChildFailedError(
                    f"{self.name} {_ending(code)} before it was ready: {told}\nSee {self.program.log_file}"
                )
            )

    def _fail(self, failure: ChildFailedError) -> None:
        self.failure = failure
        self._settled.set()
        self._on_change(self, str(failure))


class _Life:
    """One spawned process with the supervisor's ends of its pipes."""

    def __init__(self, process: subprocess.Popen[bytes], control: int, status: int) -> None:
        self.process = process
        self.status = status
        self._control = control

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def go(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended; the keeper sees that
            os.write(self._control, b"go\n")

    def close(self) -> None:
        for descriptor in (self._control, self.status):
            os.close(descriptor)


class PythonProgram:
    """One of our own processes, gated: it imports at once and goes on when released.

    With keeps_spare a second one waits with everything loaded, so that a restart takes as long as opening the port.
    """

    stop_signal = signal.SIGTERM

    def __init__(
        self, name: str, environment: Mapping[str, str], log_file: Path, folder: Path, *, keeps_spare: bool = False
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._environment = dict(environment)
        self._folder = folder
        self._released = False
        self._keeps_spare = keeps_spare
        self._life: _Life | None = None
        self._spare: _Life | None = None

    @property
    def command(self) -> list[str]:
        """Without -P a folder named like one of our packages, in the working directory, would be imported instead."""
        return [sys.executable, "-P", "-m", "api.processes", self.name]

    @property
    def spare_pid(self) -> int | None:
        return self._spare.process.pid if self._spare is not None and self._spare.is_alive else None

    def spawn(self) -> subprocess.Popen[bytes]:
        if self._life is not None:
            self._life.close()
            self._life = None
        self._life = self._take_spare() or self._launch()
        if self._released:
            self._life.go()
        return self._life.process

    def release(self) -> None:
        self._released = True
        if self._life is not None:
            self._life.go()

    async def wait_ready(self) -> None:
        assert self._life is not None, "spawn() comes first"
        line = await _first_line(self._life.status)
        if line == "ready":
            return
        if line.startswith("failed "):
            raise ChildFailedError(json.loads(line.removeprefix("failed ")))
        raise ChildFailedError(_tail(self.log_file) or "it ended without a word")

    def prepare_spare(self) -> None:
        if self._keeps_spare and self.spare_pid is None:
            self.end_spare()
            with contextlib.suppress(OSError):  # then the next restart is a slow one
                self._spare = self._launch("--spare")

    def end_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()
            if spare.is_alive:
                signal_group(spare.process.pid, signal.SIGKILL)
            spare.process.wait()

    def _take_spare(self) -> _Life | None:
        if self.spare_pid is None:
            self.end_spare()
            return None
        spare, self._spare = self._spare, None
        return spare

    def _launch(self, *options: str) -> _Life:
        control_read, control = os.pipe()
        status, status_write = os.pipe()
        os.set_blocking(status, False)
        pipes = ["--control-fd", str(control_read), "--status-fd", str(status_write)]
        try:
            with self.log_file.open("ab") as log:
                self.log_file.chmod(0o600)
                process = subprocess.Popen(
                    [*self.command, *pipes, *options],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
                    env=self._environment, cwd=self._folder, umask=0o077, pass_fds=(control_read, status_write),
                    preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (one system call, no lock)
                )  # fmt: skip
        except OSError:
            os.close(control)
            os.close(status)
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
        return _Life(process, control, status)


class Server(Protocol):
    """EmbeddedPostgres or EmbeddedNats, prepared."""

    @property
    def log_file(self) -> Path: ...
    def spawn(self) -> subprocess.Popen[bytes]: ...
    def wait_ready(self) -> None: ...


class ServerProgram:
    """An embedded server; it depends on nothing, so it is never gated."""

    def __init__(self, name: str, server: Server, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log_file = server.log_file
        self.stop_signal = stop_signal
        self._server = server

    def spawn(self) -> subprocess.Popen[bytes]:
        return self._server.spawn()

    async def wait_ready(self) -> None:
        try:
            await asyncio.to_thread(self._server.wait_ready)
        except (PostgresError, NatsError) as error:
            raise ChildFailedError(str(error)) from error

    def release(self) -> None:
        pass

    def prepare_spare(self) -> None:
        pass

    def end_spare(self) -> None:
        pass

    @property
    def spare_pid(self) -> int | None:
        return None


async def _first_line(descriptor: int) -> str:
    """What a non-blocking pipe says up to its first newline or its end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    content = b""
    try:
        while b"\n" not in content and len(content) < STATUS_MAX_BYTES:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                if not (more := os.read(descriptor, STATUS_MAX_BYTES)):
                    break
                content += more
    finally:
        loop.remove_reader(descriptor)
    return content.partition(b"\n")[0].decode(errors="replace")


def _ending(code: int | None) -> str:
    if code is None:
        return "ended"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _tail(log_file: Path) -> str:
    try:
        with log_file.open("rb") as log:
            log.seek(max(0, log_file.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
    except OSError:
        return ""
