"""A part of the house is broken: what is asked is refused with a code, nothing is executed, and it heals by itself.

The real gateway, engine, paper venue and PostgreSQL; a broken policy file has its row in tests/api/policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from core.config import Settings
from core.runtime import client as client_module
from core.runtime import engine as engine_module
from core.runtime.address import engine_address
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode
from core.types.events import OrderAccepted, OrderFilled
from core.venues.paper.server import PaperVenue
from tests.api.gateway_support import GatewayService, open_gateway
from tests.core.engine_support import RunningEngine, engine, home, settings, venue
from tests.invariants.support import orders_at
from tests.postgres import PostgresDatabase, PostgresServer

__all__ = ["engine", "home", "settings", "venue"]

ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "price_anchor": "ask", "offset_bps": "10"}
HEALS_WITHIN_S = 60
DISK_FULL = """
CREATE FUNCTION audit.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON audit.inbox FOR EACH ROW EXECUTE FUNCTION audit.full_disk();
"""


@pytest.fixture
async def service(engine: RunningEngine, postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[GatewayService]:
    async with open_gateway(engine, postgres, tmp_path / "sql") as opened:
        yield opened


async def refused(service: GatewayService) -> set[ReasonCode]:
    """Every way of asking is refused and shows nothing; the codes."""
    codes = set()
    for tool, arguments in (("get_ticker", {"symbol": "BTCUSDT"}), ("suggest_order", ORDER)):
        result = await service.ask(tool, **arguments)
        assert result.refusal is not None, tool
        assert result.data == {}
        codes.add(result.refusal.code)
    return codes


async def heals(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HEALS_WITHIN_S):
        while not await ask():
            pass


async def answers(service: GatewayService) -> bool:
    return (await service.ask("get_ticker", symbol="BTCUSDT")).refusal is None


async def test_a_full_disk_under_the_audit_trail(
    service: GatewayService, settings: Settings, venue: PaperVenue, postgres: PostgresDatabase
) -> None:
    assert await answers(service)
    with postgres.connect("owner") as connection:
        connection.execute(DISK_FULL)
        assert await refused(service) == {ReasonCode.SERVICE_AUDIT_UNAVAILABLE}
        assert connection.execute("SELECT count(*) FROM suggestions").fetchone() == (0,)
        assert await orders_at(venue, settings) == []
        connection.execute("DROP TRIGGER full_disk ON audit.inbox")
    assert await answers(service)
    assert (await service.ask("suggest_order", **ORDER)).refusal is None


async def test_postgresql_is_stopped_and_started_again(
    engine: RunningEngine, settings: Settings, venue: PaperVenue, tmp_path: Path
) -> None:
    server = PostgresServer()
    server.start()
    try:
        async with open_gateway(engine, server.create_database(), tmp_path / "sql") as service:
            assert await answers(service)
            server._server.stop()
            codes = await refused(service)
            assert codes <= {ReasonCode.SERVICE_AUDIT_UNAVAILABLE, ReasonCode.SERVICE_DATABASE_UNAVAILABLE}
            assert await orders_at(venue, settings) == []
            server._server.start()
            await heals(lambda: answers(service))
            assert (await service.ask("suggest_order", **ORDER)).refusal is None
    finally:
        server.stop()


class Hanging(grpc.GenericRpcHandler):
    """Takes every call and never answers, as an engine does that was stopped by SIGSTOP with its calls under way."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        async def never(_request: bytes, _context: Any) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(never)


async def test_the_engine_hangs(
    service: GatewayService,
    engine: RunningEngine,
    settings: Settings,
    venue: PaperVenue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert engine.task is not None
    assert await answers(service)
    engine.stop.set()
    await engine.task
    hanging = grpc.aio.server()
    hanging.add_generic_rpc_handlers((Hanging(),))
    hanging.add_insecure_port(engine_address(settings))
    await hanging.start()
    async with asyncio.timeout(HEALS_WITHIN_S):
        await engine.client._channel.channel_ready()
    try:
        with monkeypatch.context() as patched:
            for name in ("READ_DEADLINE_S", "CHECK_DEADLINE_S"):
                patched.setattr(client_module, name, 0.5)
            codes = await refused(service)
    finally:
        await hanging.stop(None)
    assert codes <= {ReasonCode.SERVICE_ENGINE_UNAVAILABLE, ReasonCode.TOOL_DEADLINE_EXCEEDED}
    assert await orders_at(venue, settings) == []
    engine.stop.clear()
    await engine.start()
    await heals(lambda: answers(service))


class SetClock(SystemClock):
    """The machine's clock, set by offset_ns."""

    offset_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + SetClock.offset_ns


async def test_the_clock_of_the_engines_machine_is_set_back(
    settings: Settings, venue: PaperVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SystemClock", SetClock)
    monkeypatch.setattr(SetClock, "offset_ns", 0)
    engine = RunningEngine(settings)
    await engine.start()
    try:
        ticker = await engine.client.ticker("BTCUSDT")
        resting = await engine.execute(await engine.propose(price=str(int(ticker.bid_price * 97 / 100))))
        await engine.event(lambda event: isinstance(event, OrderAccepted))
        proposal = await engine.propose()
        SetClock.offset_ns = -60 * NS_PER_S
        outcome = await engine.execute(proposal)
        assert outcome.refusal is not None
        assert outcome.refusal.code is ReasonCode.SERVICE_CLOCK_STEPPED_BACK
        assert not outcome.consumed
        assert len(await orders_at(venue, settings)) == 1
        assert resting.client_order_id is not None
        assert await engine.client.cancel_order(resting.client_order_id, "user-trader") is None, "cancels go on"
        SetClock.offset_ns = 0
        assert (await engine.execute(proposal)).refusal is None, "the approval wasn't used up"
        await engine.event(lambda event: isinstance(event, OrderFilled))
    finally:
        SetClock.offset_ns = 0
        await engine.close()
