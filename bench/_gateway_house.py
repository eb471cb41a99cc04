"""A gateway as the api wires it, over a PostgreSQL of its own that syncs, and an engine that answers at once."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from api.results.conversations import SqlConversations
from api.results.repository import SqlReleases
from api.supervisor.postgres import EmbeddedPostgres
from audit.keys import PersonKeys
from audit.store import PostgresAuditSink, audit_redactor
from audit.trail import AuditTrail
from core.config import Settings
from core.storage.database import DatabaseRole, create_engine, scoped_session, settings_url
from core.storage.migrate import upgrade
from core.types.clock import SystemClock
from core.types.ids import SystemIdSource, new_trace
from core.types.views import InstrumentView, TickerView
from tools.composition import build_gateway
from tools.contracts import Principal, Role, ToolCall
from tools.limits import GatewayLimits, Limiter
from tools.pipeline import ToolGateway
from tools.registry import ToolContext

TOOL = "get_ticker"
ARGUMENTS = {"symbol": "BTCUSDT"}
TRADER = Principal("user-bench", "bench", Role.TRADER, ("acct-bench",))
UNBOUND_TOKENS = 10**9
IDS = SystemIdSource()


class AnsweringEngine:
    """Answers at once: what is measured is the way there and back."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        step, lot = Decimal("0.01"), Decimal("0.00001")
        self._instruments = [
            InstrumentView("paper", "BTCUSDT", "BTC", "USDT", step, lot, lot, Decimal(9_000), Decimal(5), 2, 5, 1)
        ]

    def __getattr__(self, name: str) -> Any:
        async def absent(*_arguments: Any) -> Any:
            raise AssertionError(f"{name} isn't measured")

        return absent

    async def instruments(self) -> list[InstrumentView]:
        return self._instruments

    async def ticker(self, symbol: str) -> TickerView:
        now_ns = self._clock.now_ns()
        bid, ask, size = Decimal("59999.99"), Decimal("60000.01"), Decimal("1.25")
        return TickerView(symbol, bid, size, ask, size, 4_242, Decimal("60000.01"), Decimal("0.2"), now_ns, now_ns)


class House:
    def __init__(self, gateway: ToolGateway, ports: Any, definition: Any) -> None:
        self.gateway = gateway
        self.definition = definition
        self._ports = ports

    async def call(self) -> None:
        """Through the gateway."""
        result = await self.gateway.call(ToolCall(IDS.new_ulid(), TOOL, dict(ARGUMENTS), TRADER, new_trace(IDS)))
        assert result.refusal is None, result.refusal

    async def call_directly(self) -> None:
        """The tool's own function, on arguments that somebody has checked already."""
        context = ToolContext(self._ports, TRADER, "", new_trace(IDS), None, IDS.new_ulid())
        await self.definition.run(context, self.definition.input_model(**ARGUMENTS))


@contextmanager
def running_postgres(folder: Path) -> Iterator[Settings]:
    """Migrated, as `veloz up` starts it: synchronous_commit and fsync are on."""
    home = Path(tempfile.mkdtemp(prefix="gateway-bench-", dir=folder))
    home.chmod(0o755)
    secret_folder = home / "secrets"
    sockets = Path(tempfile.mkdtemp(prefix="vzgb", dir="/tmp"))
    server = EmbeddedPostgres(home / "postgres", sockets, secret_folder)
    try:
        server.start()
        for name in ("audit-kek.key", "results.key"):
            path = secret_folder / name
            path.write_text(secrets.token_hex(32))
            path.chmod(0o600)
        settings = Settings(home=home, database={"url": server.url})
        url = settings_url(settings, DatabaseRole.OWNER).set(drivername="postgresql")
        upgrade(url.render_as_string(hide_password=False))
        yield settings
    finally:
        server.stop()
        server.discard()
        shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncIterator[House]:
    clock = SystemClock()
    api, writer = create_engine(settings, DatabaseRole.API), create_engine(settings, DatabaseRole.AUDIT_WRITER)
    kek = bytes.fromhex(settings.read_secret("audit-kek.key"))
    key = bytes.fromhex(settings.read_secret("results.key"))
    redactor = audit_redactor(kek)
    transactions = partial(scoped_session, api)
    sink = PostgresAuditSink(writer, redactor)
    trail = AuditTrail(sink, PersonKeys(api, kek), clock, IDS)
    gateway = build_gateway(
        engine=AnsweringEngine(),
        suggestions=Absent(),
        releases=SqlReleases(trail, key),
        results=Absent(),
        conversations=SqlConversations(transactions, key),
        reviews=Absent(),
        health=Absent(),
        history=Absent(),
        backtests=Absent(),
        trail=trail,
        clock=clock,
        ids=IDS,
        suggestion_ttl_s=300,
        max_tool_calls_per_run=20,
        mode="PAPER",
        venue="paper",
        redactor=redactor,
        limiter=Limiter(GatewayLimits(20, burst_tokens=UNBOUND_TOKENS, tokens_per_s=UNBOUND_TOKENS), clock),
    )
    try:
        yield House(gateway, gateway._ports, gateway._registry.get(TOOL))
    finally:
        await sink.close()
        await api.dispose()
        await writer.dispose()


class Absent:
    """A port that the measured tool has no use for."""

    def __getattr__(self, name: str) -> Any:
        async def absent(*_arguments: Any, **_named: Any) -> Any:
            raise AssertionError(f"{name} isn't measured")

        return absent


async def written_bytes(connection: psycopg.AsyncConnection[Any]) -> int:
    """What one call makes durable: the median size of its record and its sealed result."""
    row = await (
        await connection.execute(
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY octet_length(i.record) + octet_length(r.ciphertext)) "
            "FROM audit.inbox i JOIN tool_results r ON i.trace_id = r.trace_id"
        )
    ).fetchone()
    assert row is not None
    return int(row[0])
