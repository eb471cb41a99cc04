"""`veloz doctor`: what works, what doesn't, and what to do about it. Looks from outside, changes nothing."""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, LiteralString
from urllib.parse import urlsplit

import psycopg

from api.supervisor.nats import greet
from api.supervisor.preflight import PreflightError, check_disk, check_native, check_python
from api.supervisor.spawning import is_alive
from core.config import ConfigurationError, Settings
from core.risk.kill_switch import KillSwitch
from core.types.codes import RefusalError
from core.types.orders import OrderStatus
from core.types.views import OrderView, RiskStateView

DIGEST_DIGITS_SHOWN = 12
CHECK_TIMEOUT_S = 5.0
LAG_WARNING_RECORDS = 100
FORBIDDEN_CHANGES: tuple[tuple[str, LiteralString], ...] = (
    ("UPDATE ON audit.inbox", "UPDATE audit.inbox SET actor = actor WHERE false"),
    ("DELETE ON audit.inbox", "DELETE FROM audit.inbox WHERE false"),
    ("TRUNCATE ON audit.inbox", "TRUNCATE audit.inbox"),
    ("UPDATE ON audit.log", "UPDATE audit.log SET record_id = record_id WHERE false"),
    ("DELETE ON audit.log", "DELETE FROM audit.log WHERE false"),
    ("TRUNCATE ON audit.log", "TRUNCATE audit.log"),
)
BOUND_ROLES = ("api", "audit_writer", "ledger")
START = "Start the service with `veloz up` (or `make run`)."
LOOK = "See the log in VELOZ_HOME/logs; the supervisor restarts what died. If it doesn't come back: stop and start."

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One finding. cure is empty when there is nothing to do."""

    name: str
    status: Status
    detail: str
    cure: str = ""


class FindingError(Exception):
    def __init__(self, detail: str, cure: str, status: Status = "fail") -> None:
        super().__init__(detail)
        self.cure = cure
        self.status: Status = status


def _warning(detail: str, cure: str) -> FindingError:
    return FindingError(detail, cure, "warn")


async def collect(settings: Settings) -> list[Check]:
    """Every check, in the order in which to read them. Never raises for what it finds."""
    checks = [
        await _attempt("python", _python, settings),
        await _attempt("native", _native, settings),
        await _attempt("disk", _disk, settings),
        await _attempt("policy", _policy, settings),
        await _attempt("journal backend", _journal_backend, settings),
    ]
    service = _service(settings)
    if service is None:
        detail = f"no service runs for {settings.home}"
        return [*checks, Check("supervisor", "fail", detail, START)]
    settings = _as_running(settings, service)
    checks.append(await _attempt("supervisor", _supervisor, settings, service))
    checks += [_process(name, service) for name in service["pids"] if name != "supervisor"]
    probes: Sequence[tuple[str, Callable[..., Awaitable[str]]]] = (
        ("ports", _ports),
        ("postgres", _postgres),
        ("audit append-only", _append_only),
        ("nats", _nats),
        ("venue", _venue),
        ("engine", _engine),
        ("trading", _trading),
        ("books", _books),
        ("journal", _journal),
        ("ledger", _ledger),
        ("api", _api),
    )
    checks += await asyncio.gather(*(_attempt(name, probe, settings) for name, probe in probes))
    return checks


async def _attempt(name: str, probe: Callable[..., Awaitable[str]], *arguments: Any) -> Check:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return Check(name, "ok", await probe(*arguments))
    except FindingError as error:
        return Check(name, error.status, str(error), error.cure)
    except PreflightError as error:
        what, _, cure = str(error).partition(". ")
        return Check(name, "fail", what, cure)
    except ConfigurationError as error:
        return Check(name, "fail", str(error), "Correct the configuration, then start again.")
    except TimeoutError:
        return Check(name, "fail", f"no answer within {CHECK_TIMEOUT_S:g} s", LOOK)
    except RefusalError as error:
        return Check(name, "fail", str(error), LOOK)
    except Exception as error:  # a probe must never hide the others' findings
        first = (str(error).strip().splitlines() or [""])[0]
        return Check(name, "fail", f"{type(error).__name__}: {first}", LOOK)


# Without a service


async def _python(_: Settings) -> str:
    check_python()
    return f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"


async def _native(_: Settings) -> str:
    check_native()
    from core._native import parse_scaled

    if parse_scaled("1.25", 2) != 125:
        raise FindingError("core._native computes wrongly", "Run `make native`.")
    return "core._native loads and computes"


async def _policy(settings: Settings) -> str:
    """Whether the gateway's policy file could be used."""
    from tools.catalogue import build_registry
    from tools.policy import default_policy, load_policy, tool_facts
    from tools.policy_document import PolicyFileError
    from tools.policy_gaps import gaps_of

    file, registry = settings.paths.policy_file, build_registry()
    if not file.exists():
        return f"the one that VeloZ comes with, version {default_policy().version}"
    try:
        policy = load_policy(file.read_text(encoding="utf-8"), file.name, tool_facts(registry))
    except (PolicyFileError, OSError, UnicodeDecodeError) as error:
        cure = f"Until it is corrected nothing is allowed: `veloz policy check {file}`."
        raise FindingError(str(error), cure) from error
    gaps = gaps_of(policy, (tool.name for tool in registry))
    if not gaps.is_empty:
        raise _warning(
            f"{file.name} has no rule for some tools: {gaps.summary}",
            f"`veloz policy check {file}` shows the lines to add.",
        )
    return f"{file.name} version {policy.version}, digest {policy.digest_hex[:DIGEST_DIGITS_SHOWN]}"


async def _journal_backend(settings: Settings) -> str:
    """Whether the journal that the settings ask for could be opened here."""
    if settings.journal.backend == "rocksdb" and find_spec("rocksdict") is None:
        raise FindingError(
            "journal.backend is rocksdb, and the package rocksdict isn't installed",
            'Install veloz[rocksdb], or set journal.backend = "segments" before the first start.',
        )
    return settings.journal.backend


async def _disk(settings: Settings) -> str:
    folder = settings.home if settings.home.exists() else settings.home.parent
    check_disk(folder)
    return f"{folder} has room"


def _service(settings: Settings) -> dict[str, Any] | None:
    try:
        service: dict[str, Any] = json.loads(settings.paths.service_file.read_text())
    except (OSError, ValueError):
        return None
    return service


def _as_running(settings: Settings, service: dict[str, Any]) -> Settings:
    """Settings with the addresses that the running service settled on."""
    values = settings.model_dump()
    endpoints = service["endpoints"]
    values["database"]["url"] = endpoints["database_url"]
    values["nats"]["url"] = endpoints["nats_url"]
    values["venue"]["rest_url"] = endpoints["venue_rest_url"]
    values["venue"]["websocket_url"] = endpoints["venue_websocket_url"]
    values["engine"]["listen"] = endpoints["engine"]
    values["api"]["port"] = service["ports"]["api"]
    values["venue"]["port"] = service["ports"]["venue"]
    return Settings(**values)


# Processes


async def _supervisor(settings: Settings, service: dict[str, Any]) -> str:
    pid = service["pids"]["supervisor"]
    if not is_alive(pid):
        raise FindingError(f"the supervisor (pid {pid}) was killed; its children ended with it", START)
    if service["status"] != "ready":
        raise _warning(f"pid {pid}, {service['status']}", "Wait a moment, then look again.")
    return f"pid {pid}, up since {service['started_at']}"


def _process(name: str, service: dict[str, Any]) -> Check:
    pid = service["pids"][name]
    restarts = service["restarts"].get(name, 0)
    title = f"process {name}"
    if pid is None or not is_alive(pid):
        return Check(title, "fail", f"isn't running; restarted {restarts} times so far", LOOK)
    if restarts:
        return Check(
            title, "warn", f"pid {pid}, restarted {restarts} times", f"See VELOZ_HOME/logs/{name}.log for why."
        )
    return Check(title, "ok", f"pid {pid}")


async def _ports(settings: Settings) -> str:
    places = {"api": (settings.api.host, settings.api.port), "venue": (settings.venue.host, settings.venue.port)}
    for name, (host, port) in places.items():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1" if host == "0.0.0.0" else host, port)  # noqa: S104
        except OSError as error:
            raise FindingError(f"nothing listens for {name} at {host}:{port} ({error.strerror})", LOOK) from error
        writer.close()
    return ", ".join(f"{name} {host}:{port}" for name, (host, port) in places.items())


# PostgreSQL


async def _connect(settings: Settings, role: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    return await psycopg.AsyncConnection.connect(
        settings.database.url,
        user=f"veloz_{role}",
        password=settings.read_secret(f"postgres-{role}.password"),
        connect_timeout=int(CHECK_TIMEOUT_S),
        application_name="veloz-doctor",
    )


async def _postgres(settings: Settings) -> str:
    for role in ("owner", *BOUND_ROLES):
        async with await _connect(settings, role) as connection:
            cursor = await connection.execute(
                "SELECT current_setting('server_version'), rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls,"
                " (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
                " FROM pg_roles WHERE rolname = current_user"
            )
            row = await cursor.fetchone()
        if row is None or row[1]:
            cure = f"As its administrator: ALTER ROLE veloz_{role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;"
            raise FindingError(f"role veloz_{role} has administrator's rights", cure)
    if row is None or row[2] is None:
        raise FindingError("the extension vector is missing", "As its administrator: CREATE EXTENSION vector;")
    return f"PostgreSQL {row[0]}, pgvector {row[2]}, {len(BOUND_ROLES) + 1} roles without administrator's rights"


async def _append_only(settings: Settings) -> str:
    """Tried for real, each in a transaction that is rolled back whatever happens."""
    tried = 0
    for role in BOUND_ROLES:
        async with await _connect(settings, role) as connection:
            await connection.set_autocommit(True)
            await connection.execute("SET lock_timeout = '1s'")
            for privilege, statement in FORBIDDEN_CHANGES:
                if not await _is_refused(connection, statement):
                    raise FindingError(
                        f"veloz_{role} holds {privilege}: the audit trail can be changed",
                        f"As veloz_owner: REVOKE {privilege} FROM veloz_{role}; then find out who granted it.",
                    )
                tried += 1
    return f"UPDATE, DELETE and TRUNCATE refused to {', '.join(BOUND_ROLES)} ({tried} attempts)"


async def _is_refused(connection: psycopg.AsyncConnection[tuple[Any, ...]], statement: LiteralString) -> bool:
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


async def _ledger(settings: Settings) -> str:
    status = await _engine_status(settings)
    async with await _connect(settings, "api") as connection:
        cursor = await connection.execute(
            "SELECT name, sequence FROM projection_cursors WHERE engine_id = %s ORDER BY sequence", (status.engine_id,)
        )
        rows = await cursor.fetchall()
    if not rows:
        raise _warning("has projected nothing of this engine yet", "Wait a moment, then look again.")
    name, sequence = rows[0]
    lag = status.journal_sequence - int(sequence)
    if lag > LAG_WARNING_RECORDS:
        raise _warning(f"projection {name} is {lag} records behind the engine's journal", LOOK)
    return f"{max(lag, 0)} records behind the engine's journal ({status.journal_sequence})"


# NATS, venue, engine, api


async def _nats(settings: Settings) -> str:
    place = urlsplit(settings.nats.url)
    information = await asyncio.to_thread(
        greet, place.hostname or "127.0.0.1", place.port or 4222, settings.read_secret("nats.token")
    )
    if information.get("jetstream") is not True:
        raise FindingError("NATS runs without JetStream", "Start it with JetStream (nats-server -js).")
    return f"NATS {information.get('version')} with JetStream at {settings.nats.url}"


async def _venue(settings: Settings) -> str:
    status, _ = await _get(settings.venue.rest_url, "/api/v3/ping")
    if status != 200:
        raise FindingError(f"{settings.venue.rest_url} answers {status} to a ping", LOOK)
    return f"{settings.venue.kind} answers at {settings.venue.rest_url}"


async def _engine_status(settings: Settings) -> Any:
    from core.runtime.client import EngineClient

    client = EngineClient(settings.engine.listen, settings.read_secret("engine-control.token"))
    try:
        return await client.status()
    finally:
        await client.close()


async def _engine(settings: Settings) -> str:
    import grpc.aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with grpc.aio.insecure_channel(settings.engine.listen) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=CHECK_TIMEOUT_S
        )
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise FindingError(f"health is {name}", LOOK)
    status = await _engine_status(settings)
    if not status.venue_connected:
        raise FindingError("the engine isn't connected to its venue", LOOK)
    detail = f"{status.engine_id} epoch {status.epoch}, {status.mode}, kill switch {status.kill_switch}"
    return f"{detail}, journal at {status.journal_sequence}"


async def _trading(settings: Settings) -> str:
    from core.runtime.client import EngineClient

    account_id = settings.engine.account_id
    client = EngineClient(settings.engine.listen, settings.read_secret("engine-control.token"))
    try:
        state = await client.risk_state(account_id)
        orders = await client.orders(account_id)
    finally:
        await client.close()
    return trading_finding(state, orders, kill_file_exists=(settings.paths.run / "KILL").exists())


def trading_finding(state: RiskStateView, orders: Sequence[OrderView], *, kill_file_exists: bool) -> str:
    """What keeps the account from trading, the gravest first. Raises FindingError with a warning and its cure."""
    account_id = state.account_id
    if kill_file_exists:
        raise _warning(
            "run/KILL halts the engine", 'Look at what it says; remove it, then `veloz thaw --reason "..."`.'
        )
    if state.kill_switch != KillSwitch.NORMAL:
        scope = "" if state.engine_kill_switch == state.kill_switch else f" --account {account_id}"
        raise _warning(
            f"{account_id} is {state.kill_switch}", f'When that is over: `veloz thaw{scope} --reason "..."`.'
        )
    if state.frozen_reason is not None:
        raise _warning(
            f"{account_id} is frozen: {state.frozen_reason}",
            "`veloz reconcile --dry-run` shows both sides; look at the venue's own page.",
        )
    unknown = [order.client_order_id for order in orders if order.status is OrderStatus.UNKNOWN]
    if unknown:
        raise _warning(
            f"the venue hasn't said what became of {', '.join(unknown[:3])}", "It is asked; `veloz orders list` shows."
        )
    timer = "off" if state.dead_mans_timer_s is None else f"{state.dead_mans_timer_left_s} s left"
    detail = f"{account_id} trades, {len(orders)} open orders, rules version {state.rules_version}"
    return f"{detail}, dead man's timer {timer}"


async def _journal(settings: Settings) -> str:
    from core.runtime.client import EngineClient

    status = await _engine_status(settings)
    if status.journal_problem is not None:
        raise FindingError(
            f"no record can be written, so no order is taken: {status.journal_problem}",
            "Make room on its disk, or mend it; it heals by itself unless the message says to restart the engine.",
        )
    client = EngineClient(settings.engine.listen, settings.read_secret("engine-control.token"))
    try:
        view = await client.journal()
    finally:
        await client.close()
    if view.problem is not None:
        raise _warning(f"it can't be archived: {view.problem}", "Mend that, then `veloz journal archive`.")
    size_mb = sum(segment.size_bytes for segment in view.segments) / 2**20
    detail = f"records {status.journal_first_sequence} to {view.sequence} here, {size_mb:.1f} MiB"
    if status.journal_torn_tail is not None:
        # A crash leaves one; nothing of it was ever confirmed.
        detail += f"; its last start cut off an unfinished write: {status.journal_torn_tail}"
    return detail if view.archive is None else f"{detail}, archived in {view.archive}"


async def _books(settings: Settings) -> str:
    books: dict[str, str] = (await _engine_status(settings)).books
    stale = sorted(symbol for symbol, state in books.items() if state != "LIVE")
    if stale:
        raise _warning(
            f"not live: {', '.join(stale)}", "They resync by themselves; orders on them are refused meanwhile."
        )
    if not books:
        raise _warning(
            "the engine follows no book: its market has no spot instrument, as a recording of USD-M has none",
            "Give it one with spot: `veloz up --market synthetic`, or a recording of spot.",
        )
    return f"live: {', '.join(sorted(books))}"


async def _api(settings: Settings) -> str:
    base = f"http://{'127.0.0.1' if settings.api.host == '0.0.0.0' else settings.api.host}:{settings.api.port}"  # noqa: S104
    for path in ("/healthz", "/readyz"):
        status, body = await _get(base, path)
        if status != 200:
            raise FindingError(f"{path} answers {status}: {body.decode(errors='replace')[:300]}", LOOK)
    return f"{base} is ready"


async def _get(base: str, path: str) -> tuple[int, bytes]:
    import httpx2

    async with httpx2.AsyncClient(base_url=base, timeout=CHECK_TIMEOUT_S, trust_env=False) as client:
        answer = await client.get(path)
    return answer.status_code, answer.content
