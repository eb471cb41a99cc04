"""`python -m api.processes venue|engine|ledger|api`: one process of the service, until SIGTERM or SIGINT.

The supervisor passes two pipes. Down the control pipe comes `go`, so that imports (most of a start) overlap with
waiting for what the process depends on; its end means that the supervisor is gone, and the process follows. Up the
status pipe goes `ready`, or `failed <reason as JSON>`. Without the pipes (containers, by hand) it goes at once, and
readiness is a file in VELOZ_HOME/run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from core.config import ConfigurationError, Settings, load_settings

Main = Callable[[Settings, asyncio.Event, Callable[[], None]], Awaitable[None]]

MODULES = {
    "venue": "core.venues.paper.server",
    "engine": "core.runtime.engine",
    "ledger": "api.ledger.process",
    "api": "api.app",
}
# What a process raises for configuration that doesn't start (I11), by name, so that no process imports another's parts.
CONFIGURATION_ERRORS = frozenset({"ConfigurationError", "RiskLimitsError", "RosterError", "MarketSourceError"})
STOP_TIMEOUT_S = 8.0
EXIT_OK = 0
EXIT_FAILED = 70  # EX_SOFTWARE
EXIT_STUCK = 75  # EX_TEMPFAIL
EXIT_CONFIGURATION = 78  # EX_CONFIG: starting it again won't help


class Supervision:
    """This process's ends of the supervisor's pipes."""

    def __init__(self, control: int | None, status: int | None) -> None:
        self._status = status
        self.ready_file: Path | None = None
        self._go = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        if control is None:
            self._go.set()
        else:
            threading.Thread(target=self._listen, args=(control,), name="supervision", daemon=True).start()

    def wait_for_go(self) -> None:
        """Return once everything that this process needs is there."""
        self._go.wait()

    def stops(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        """From now on the end of the supervisor sets stop; until now it ended the process."""
        self._loop, self._stop = loop, stop

    def ready(self) -> None:
        """Say that the process can serve. Only the first call counts."""
        self._tell("ready")

    def failed(self, reason: str) -> None:
        """Say why it can't. Nothing after ready() is told."""
        self._tell(f"failed {json.dumps(reason)}")

    def _tell(self, line: str) -> None:
        if self._status is None:
            if line == "ready" and self.ready_file is not None:
                self.ready_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.ready_file.touch()
            return
        status, self._status = self._status, None
        with contextlib.suppress(BrokenPipeError), os.fdopen(status, "w") as pipe:
            pipe.write(line + "\n")

    def _listen(self, control: int) -> None:
        with os.fdopen(control) as pipe:
            for line in pipe:
                if line.strip() == "go":
                    self._go.set()
        if self._loop is None or self._stop is None:
            os._exit(EXIT_OK)
        with contextlib.suppress(RuntimeError):  # the loop has closed: we are ending anyway
            self._loop.call_soon_threadsafe(self._stop.set)
        _exit_after(STOP_TIMEOUT_S)


def main(arguments: list[str] | None = None) -> int:
    """Run one process; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m api.processes", description=__doc__)
    parser.add_argument("name", choices=MODULES)
    parser.add_argument("--control-fd", type=int, help="set by the supervisor")
    parser.add_argument("--status-fd", type=int, help="set by the supervisor")
    parser.add_argument("--spare", action="store_true", help="load everything before waiting to take over")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    supervision = Supervision(options.control_fd, options.status_fd)
    try:
        settings = load_settings()
        supervision.ready_file = ready_file(settings, options.name)
        supervision.ready_file.unlink(missing_ok=True)
        _configure_logging(options.name, settings)
        run = _import_main(options.name)
        if options.spare:
            _load_ahead(options.name)
        supervision.wait_for_go()
        return _run(run, settings, supervision, options.name)
    except Exception as error:
        if not _is_configuration_error(error):
            supervision.failed(f"{type(error).__name__}: {error}")
            _log_failure(options.name)
            return EXIT_FAILED
        supervision.failed(str(error))
        print(f"{options.name}: {error}", file=sys.stderr, flush=True)
        return EXIT_CONFIGURATION


def ready_file(settings: Settings, name: str) -> Path:
    """Exists while a process without a supervisor is ready."""
    return settings.paths.run / f"{name}.ready"


def _import_main(name: str) -> Main:
    """What the import makes stays for good: collecting meanwhile, or ever again, would cost time for nothing (a tenth
    of a start)."""
    gc.disable()
    try:
        main: Main = importlib.import_module(MODULES[name]).main
        gc.freeze()
    finally:
        gc.enable()
    return main


def _load_ahead(name: str) -> None:
    """What the process would load after its start. A spare that can't is still a spare."""
    load_ahead: Callable[[], None] = getattr(importlib.import_module(MODULES[name]), "load_ahead", lambda: None)
    try:
        load_ahead()
    except Exception:
        _log_failure(name)


def _configure_logging(name: str, settings: Settings) -> None:
    from audit.logs import configure_logging

    configure_logging(name, settings.log_level)


def _log_failure(name: str) -> None:
    import structlog

    structlog.get_logger(name).exception("process_failed")


def _is_configuration_error(error: BaseException) -> bool:
    if isinstance(error, ConfigurationError):
        return True
    return any(kind.__name__ in CONFIGURATION_ERRORS for kind in type(error).__mro__)


def _run(run: Main, settings: Settings, supervision: Supervision, name: str) -> int:
    # Not closed: that would wait for whatever a worker thread is busy with (see leave()).
    return asyncio.Runner(loop_factory=_loop_factory()).run(_until_stopped(run, settings, supervision, name))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _until_stopped(run: Main, settings: Settings, supervision: Supervision, name: str) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    supervision.stops(loop, stop)

    def on_signal() -> None:
        if stop.is_set():
            os._exit(EXIT_STUCK)  # asked twice: at once
        stop.set()
        _exit_after(STOP_TIMEOUT_S)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await run(settings, stop, supervision.ready)
    if stop.is_set():
        return EXIT_OK
    supervision.failed(f"{name} ended without being asked to")
    return EXIT_FAILED


def _exit_after(timeout_s: float) -> None:
    """A stop that hangs ends all the same, whatever hangs."""

    def end() -> None:
        print(f"not stopped within {timeout_s:g} s: ending by force", file=sys.stderr, flush=True)
        os._exit(EXIT_STUCK)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()


def leave(code: int) -> NoReturn:
    """End now. The process has closed what it holds; a worker thread may still warm something up, for seconds."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
