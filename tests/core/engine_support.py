"""A real engine process in this loop: real journal, gRPC over a unix socket, the real paper venue, no NATS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import pytest

from core.authority.proposal import Proposal
from core.authority.roster import render_signed_roster
from core.authority.signatures import public_key_hex
from core.config import Settings, load_settings
from core.runtime.address import engine_address
from core.runtime.client import EngineClient
from core.runtime.engine import main
from core.types.clock import NS_PER_S, SystemClock
from core.types.events import JournalEvent
from core.types.ids import SystemIdSource, new_trace
from core.types.money import decimal_text
from core.types.views import ExecutionOutcomeView
from core.venues.paper.server import PaperVenue
from tests.core.approvals import ACCOUNT, ROOT_SEED, approve, proposal, rules_document, signed_roster

TOKEN = "ab" * 32
NO_NATS = "nats://127.0.0.1:9"
WAIT_S = 60.0
# A book isn't stale because the machine, which is the venue's too, has stalled.
RISK_TOML = rules_document(
    max_notional_per_order_quote='"100000"',
    max_deviation_bps="100",
    max_depth_share_bps="10000",
    book_stale_after_ms="60000",
    repeated_intent="{count = 1000, window_ms = 1000}",
)


def make_home(home: Path) -> None:
    """What the first run leaves for an engine and its venue."""
    secrets = home / "secrets"
    for folder in (secrets, home / "run"):
        folder.mkdir(mode=0o700, parents=True)
    for name, value in {
        "engine-control.token": TOKEN,
        "nats.token": "unused",
        "root.pub": public_key_hex(ROOT_SEED),
        "root.key": ROOT_SEED,
        "venue-paper.key": "test-key-" + "k" * 32,
        "venue-paper.secret": "test-secret-" + "s" * 32,
    }.items():
        (secrets / name).write_text(value)
    (home / "roster.json").write_bytes(render_signed_roster(signed_roster()))
    (home / "risk.toml").write_text(RISK_TOML)


def settings_for(home: Path, **variables: str) -> Settings:
    return load_settings(home, {"VELOZ_NATS__URL": NO_NATS, **variables})


class RunningEngine:
    """One life of an engine, with a client to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = EngineClient(engine_address(settings), TOKEN)
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ready = asyncio.Event()
        self.task = asyncio.create_task(main(self.settings, self.stop, ready.set))
        waiting = asyncio.create_task(ready.wait())
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            await self.task

    async def close(self) -> None:
        await self.client.close()
        self.stop.set()
        if self.task is not None:
            async with asyncio.timeout(WAIT_S):
                await self.task

    async def event(self, matches: Callable[[JournalEvent], bool], after_sequence: int = 0) -> Any:
        """The first journaled event behind a sequence that matches, past or still to come."""
        async with asyncio.timeout(WAIT_S):
            async with contextlib.aclosing(self.client.stream_journal(after_sequence)) as entries:
                async for entry in entries:
                    event = entry.event()
                    if matches(event):
                        return event
        raise AssertionError("the stream ended")

    async def propose(self, **changes: Any) -> Proposal:
        """A proposal at the live market: by default a BUY of 0.01 BTC that crosses the spread."""
        ticker = await self.client.ticker("BTCUSDT")
        mid = (ticker.bid_price + ticker.ask_price) / 2
        now_ns = SystemClock().now_ns()
        values: dict[str, Any] = {
            "suggestion_id": SystemIdSource().new_ulid(),
            "quantity": "0.01",
            "price": decimal_text((ticker.ask_price * Decimal("1.002")).quantize(Decimal("0.01"), ROUND_DOWN)),
            "reference_price": decimal_text(mid),
            "max_deviation_bps": "100",
            "created_at_ns": str(now_ns),
            "expires_at_ns": str(now_ns + 60 * NS_PER_S),
        }
        return proposal(**{**values, **changes})

    async def execute(self, what: Proposal) -> ExecutionOutcomeView:
        return await self.client.execute_approval(*approve(what), new_trace(SystemIdSource()))

    async def position(self) -> Decimal:
        positions = await self.client.positions(ACCOUNT)
        return positions[0].quantity if positions else Decimal(0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_home(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
async def venue(home: Path) -> AsyncIterator[PaperVenue]:
    async with PaperVenue.from_settings(settings_for(home, VELOZ_VENUE__PORT="0")) as running:
        yield running


@pytest.fixture
def settings(home: Path, venue: PaperVenue) -> Settings:
    return settings_for(home, VELOZ_VENUE__REST_URL=venue.base_url, VELOZ_VENUE__WEBSOCKET_URL=venue.websocket_url)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[RunningEngine]:
    running = RunningEngine(settings)
    await running.start()
    try:
        yield running
    finally:
        await running.close()
