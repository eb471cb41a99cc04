"""I10: the kill switch needs the engine and nothing else: no API, no database, no NATS, no copilot."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from core.config import Settings
from core.types.codes import ReasonCode
from core.venues.paper.server import PaperVenue
from tests.core.engine_support import NO_NATS, RunningEngine
from tests.invariants.support import orders_at

READY_LIMIT_S = 60
STOP_LIMIT_S = 30
"""The stop itself takes a fraction of a second: this is what a machine may stall for, and far from never."""


def spawn(settings: Settings) -> subprocess.Popen[bytes]:
    """`python -m api.processes engine` alone; every URL but the venue's leads nowhere."""
    environment = {
        "PATH": os.environ["PATH"],
        "VELOZ_HOME": str(settings.home),
        "VELOZ_VENUE__REST_URL": settings.venue.rest_url,
        "VELOZ_VENUE__WEBSOCKET_URL": settings.venue.websocket_url,
        "VELOZ_NATS__URL": NO_NATS,
        "VELOZ_DATABASE__URL": "postgresql:///veloz?host=/nonexistent",
    }
    command = [sys.executable, "-m", "api.processes", "engine"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def engine_process(settings: Settings) -> AsyncIterator[subprocess.Popen[bytes]]:
    process = spawn(settings)
    try:
        async with asyncio.timeout(READY_LIMIT_S):
            while not (settings.paths.run / "engine.ready").exists():
                assert process.poll() is None
                await asyncio.sleep(0.02)
        yield process
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait, READY_LIMIT_S) in {0, -signal.SIGKILL}


def touch_the_file(settings: Settings, _: subprocess.Popen[bytes]) -> None:
    (settings.paths.run / "KILL").touch()


def send_the_signal(_: Settings, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGUSR1)


@pytest.mark.parametrize("kill", [touch_the_file, send_the_signal])
async def test_a_file_or_a_signal_stops_an_engine_that_is_alone(
    settings: Settings, venue: PaperVenue, kill: Callable[[Settings, subprocess.Popen[bytes]], None]
) -> None:
    async with engine_process(settings) as process:
        engine = RunningEngine(settings)
        ticker = await engine.client.ticker("BTCUSDT")
        resting = await engine.execute(await engine.propose(price=str(int(ticker.bid_price * 97 / 100))))
        assert resting.refusal is None
        while [order["status"] for order in await orders_at(venue, settings)] != ["NEW"]:
            pass

        kill(settings, process)

        async with asyncio.timeout(STOP_LIMIT_S):
            while [order["status"] for order in await orders_at(venue, settings)] != ["CANCELED"]:
                pass
        refused = await engine.execute(await engine.propose())
        assert refused.refusal is not None
        assert refused.refusal.code is ReasonCode.RISK_KILL_SWITCH_ACTIVE
        assert len(await orders_at(venue, settings)) == 1
        await engine.client.close()


async def test_a_restart_does_not_undo_a_stop(settings: Settings) -> None:
    async with engine_process(settings) as process:
        process.send_signal(signal.SIGUSR1)
        engine = RunningEngine(settings)
        async with asyncio.timeout(STOP_LIMIT_S):
            while (await engine.client.status()).kill_switch != "HALTED":
                pass
        process.kill()
        process.wait()
        await engine.client.close()
        (settings.paths.run / "engine.ready").unlink()
        again = RunningEngine(settings)
        await again.start()
        try:
            assert (await again.client.status()).kill_switch == "HALTED"
        finally:
            await again.close()
