"""A paper venue and an engine as processes of their own, which can be killed and started again at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from core.config import Settings
from core.runtime.address import engine_address
from core.runtime.client import EngineClient
from core.types.codes import RefusalError
from core.types.views import EngineStatusView
from tests.core.engine_support import NO_NATS, TOKEN, make_home, settings_for
from tests.crash.products import Product
from tests.ports import unused_port

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.02
LOG_TAIL_BYTES = 4_000


class Process:
    """One of the service's processes. Its log goes on over its lives."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Begin; whether it serves is for others to find out."""
        assert not self.is_alive
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "api.processes", self.name, env=self._environment, stdout=log, stderr=log
            )

    async def kill(self) -> None:
        """kill -9, wherever it is."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """As an operator would."""
        await self._end(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Such as SIGSTOP and SIGCONT: it is there, and doesn't answer."""
        assert self._process is not None
        self._process.send_signal(number)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await self._process.wait()

    def last_words(self) -> str:
        return self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


class Session:
    """A home with an engine and its venue. The venue keeps its port over its lives, as a real one its address."""

    def __init__(self, home: Path, product: Product, *, recv_window_ms: int, nats_url: str = NO_NATS) -> None:
        make_home(home)
        (home / "logs").mkdir(mode=0o700)
        port = unused_port()
        self.rest_url = f"http://127.0.0.1:{port}"
        variables = {
            "VELOZ_VENUE__PORT": str(port),
            "VELOZ_VENUE__REST_URL": self.rest_url,
            "VELOZ_VENUE__PRODUCT": product.name,
            "VELOZ_VENUE__WEBSOCKET_URL": f"ws://127.0.0.1:{port}{product.path}",
            "VELOZ_VENUE__WEBSOCKET_API_URL": f"ws://127.0.0.1:{port}{product.api_path}",
            "VELOZ_VENUE__RECV_WINDOW_MS": str(recv_window_ms),
        }
        self.settings: Settings = settings_for(home, **variables)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("VELOZ_")}
        environment = {**inherited, "VELOZ_HOME": str(home), "VELOZ_NATS__URL": nats_url, **variables}
        self.venue = Process("venue", environment, home / "logs" / "venue.log")
        self.engine = Process("engine", environment, home / "logs" / "engine.log")
        self.client = EngineClient(engine_address(self.settings), TOKEN)

    async def start_venue(self) -> None:
        """Return once it answers."""
        await self.venue.start()
        port = int(self.rest_url.rpartition(":")[2])
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                assert self.venue.is_alive, f"the venue ended: {self.venue.last_words()}"
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(POLL_S)

    async def engine_ready(self) -> EngineStatusView:
        """Once it serves, is of one mind with its venue and has every book. Raises AssertionError with its last
        words."""
        status: EngineStatusView | None = None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    assert self.engine.is_alive, f"the engine ended: {self.engine.last_words()}"
                    with contextlib.suppress(RefusalError):
                        status = await self.client.status()
                        books = status.books.values()
                        if status.venue_connected and books and all(state == "LIVE" for state in books):
                            return status
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(
                f"the engine wasn't ready within {START_TIMEOUT_S} s; {status}: {self.engine.last_words()}"
            ) from None

    async def close(self) -> None:
        await self.client.close()
        for process in (self.engine, self.venue):
            if process.is_alive:
                await process.stop()
