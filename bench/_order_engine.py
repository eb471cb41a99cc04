"""An engine for the benches: the real service, sequencer, journal, dispatcher and adapter, with live books and a
mandate and a session to order under. Its venue is bench/_order_venue.py in a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path

from core.authority.mandate import MANDATE_SCHEMA, mandate_bytes, sign_mandate
from core.authority.roster import sign_roster
from core.authority.session import SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex
from core.kernel import decide
from core.kernel.decide_risk import decide_rules
from core.kernel.inputs import Balances
from core.kernel.kernel import Kernel
from core.market.hub import MarketHub
from core.portfolio.performance import account_day
from core.risk.rules import render_default_rules
from core.runtime.service import EngineService
from core.storage.journal import Journal
from core.storage.journal_files import PosixFolder
from core.types.authority import Mandate, MandateAuthority, SessionGrant
from core.types.clock import MonotonicClock, SystemClock
from core.types.codes import Refusal
from core.types.events import EquityObserved, JournalEvent, Roster, RosterEntry
from core.types.instruments import Instrument
from core.types.market import DepthSnapshot, DepthUpdate, Trade
from core.types.orders import OrderRequest, OrderType, Side, TimeInForce
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.limits import RateLimiter, RateRule

ROOT = Path(__file__).resolve().parents[1]
ENGINE_ID, ACCOUNT, VENUE, STRATEGY, USER = "bench", "acct-bench", "paper", "grid-1", "user-bench"
ROOT_SEED, APPROVER_SEED, SESSION_SEED = "11" * 32, "22" * 32, "33" * 32
MANDATE_ID, SESSION_ID = "mandate-bench", "session-bench"
HOUR_NS = 3_600 * 1_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
MID_PRICE, QUANTITY = 6_000_000, 100
"""60,000.00 and 0.00100."""
BOOK_LEVELS = 200
PLENTY = "1000000000000"
UNLIMITED = 10**9
WAIT_S = 10.0
RULES = {
    "max_notional_per_order_quote": f'"{PLENTY}"',
    "max_position_notional_quote": f'"{PLENTY}"',
    "max_gross_exposure_quote": f'"{PLENTY}"',
    "max_net_exposure_quote": f'"{PLENTY}"',
    "max_open_orders": "100000",
    "max_leverage": f'"{PLENTY}"',
    # The most that a rate can allow, in a window that the busiest engine fills by half.
    "order_rate": "{count = 10000, window_ms = 100}",
    "repeated_intent": "{count = 10000, window_ms = 100}",
    "book_stale_after_ms": "60000",
}


class DeafBus:
    """Nobody listens."""

    def publish_trading(self, messages: Sequence[tuple[str, bytes, str]]) -> None:
        """Drop it."""


def rules_document() -> str:
    """The rules of a first run, so wide that a bench doesn't meet them."""
    lines = []
    for line in render_default_rules().splitlines():
        name = line.partition(" = ")[0]
        lines.append(f"{name} = {RULES[name]}" if name in RULES else line)
    return "\n".join(lines) + "\n"


def instruments() -> tuple[Instrument, ...]:
    return tuple(
        Instrument(VENUE, symbol, symbol[:-4], "USDT", 2, 5, 1, 1, 1, 900_000_000, 1_000_000) for symbol in SYMBOLS
    )


def request(number: int) -> OrderRequest:
    """One of the orders of a strategy that quotes both sides of every symbol, away from the market."""
    side = Side.BUY if number % 2 else Side.SELL
    step = 1_000 + number // 10 % 100
    return OrderRequest(
        request_id=f"r{number}",
        account_id=ACCOUNT,
        venue=VENUE,
        symbol=SYMBOLS[number % len(SYMBOLS)],
        side=side,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        quantity=QUANTITY + number % 7,
        price=MID_PRICE - step if side is Side.BUY else MID_PRICE + step,
        strategy_id=STRATEGY,
    )


BY_MANDATE = MandateAuthority(MANDATE_ID, STRATEGY)


def live_hub(clock: MonotonicClock) -> MarketHub:
    hub = MarketHub(instruments(), clock, 60_000)
    now_ns = clock.now_ns()
    hub.on_stream_opened(SYMBOLS)
    bids = tuple((MID_PRICE - 1 - level, 100_000) for level in range(BOOK_LEVELS))
    asks = tuple((MID_PRICE + 1 + level, 100_000) for level in range(BOOK_LEVELS))
    for symbol in SYMBOLS:
        hub.on_snapshot(DepthSnapshot(symbol, 1, bids, asks, now_ns, now_ns))
    refresh(hub, clock, 2)
    return hub


def refresh(hub: MarketHub, clock: MonotonicClock, update_id: int) -> None:
    """News from every market, so that no book grows stale; update_id follows the one before."""
    now_ns = clock.now_ns()
    for symbol in SYMBOLS:
        hub.on_depth(DepthUpdate(symbol, update_id, update_id, (), (), now_ns, now_ns))
        hub.on_trade(Trade(symbol, update_id, MID_PRICE, 5, True, now_ns, now_ns))


class Engine:
    """The service, and what it stands on."""

    def __init__(self, folder: Path, venue_port: int, clock: MonotonicClock) -> None:
        self.clock = clock
        self.journal = Journal.open(PosixFolder(folder / "journal"), ENGINE_ID)
        self.kernel = Kernel()
        url = f"ws://127.0.0.1:{venue_port}"
        self.adapter = BinanceSpot(
            f"http://127.0.0.1:{venue_port}",
            "bench-key-" + "k" * 32,
            "bench-secret-" + "s" * 32,
            clock,
            venue=VENUE,
            websocket_url=url,
            websocket_api_url=url,
        )
        # How many orders the venue would let through isn't measured here.
        self.adapter.rest.limiter = RateLimiter(
            self.adapter.rest.clock,
            (RateRule("REQUEST_WEIGHT", "MINUTE", 1, UNLIMITED), RateRule("ORDERS", "SECOND", 10, UNLIMITED)),
        )
        self.hub = live_hub(clock)
        self.service = EngineService(
            self.kernel,
            self.journal,
            self.adapter,
            self.hub,
            clock,
            DeafBus(),
            account_id=ACCOUNT,
            root_public_key_hex=public_key_hex(ROOT_SEED),
        )

    async def start(self) -> None:
        now_ns = self.clock.now_ns()
        await self.service.record(self._first_events)
        mandate, grant = _mandate(now_ns), _grant(now_ns)
        for refusal in (
            await self.service.install_mandate(
                mandate_bytes(mandate),
                [(key, sign_mandate(seed, mandate)) for key, seed in (("approver", APPROVER_SEED),)],
            ),
            await self.service.open_session(grant_bytes(grant), "approver", sign_session(APPROVER_SEED, grant)),
        ):
            if refusal is not None:
                raise RuntimeError(str(refusal))
        self.service.surroundings.venue_connected = True
        self.hold(now_ns)
        socket = self.adapter.order_socket
        assert socket is not None
        socket.start()
        async with asyncio.timeout(WAIT_S):
            await socket.ready.wait()

    def hold(self, as_of_ns: int) -> None:
        """The venue tells what the account has: plenty."""
        assets = ("USDT", *(item.base_asset for item in instruments()))
        self.service.surroundings.balances = Balances({asset: Decimal(PLENTY) for asset in assets}, as_of_ns)

    async def quiet(self) -> None:
        """Return when every answer of the venue is taken in."""
        async with asyncio.timeout(WAIT_S):
            while self.service.dispatcher.busy_count:  # noqa: ASYNC110 it has no event for it
                await asyncio.sleep(0)
        await self.service.sequencer.between_batches(lambda: None)

    async def close(self) -> None:
        await self.service.stop()
        await self.adapter.aclose()
        await self.journal.close()

    def _first_events(self, now_ns: int) -> tuple[JournalEvent, ...]:
        kernel = self.kernel
        roster = Roster(
            1,
            (RosterEntry("approver", USER, public_key_hex(APPROVER_SEED), (ACCOUNT,), True),),
            PLENTY * 2,
        )
        rules = decide_rules(kernel, rules_document(), None, now_ns)
        if isinstance(rules, Refusal):
            raise RuntimeError(str(rules))  # noqa: TRY004 a refusal is a value
        day = account_day(now_ns, "UTC")
        return (
            decide.decide_started(
                engine_id=ENGINE_ID,
                epoch=self.journal.epoch,
                environment="local",
                mode="PAPER",
                software_version="bench",
                now_ns=now_ns,
            ),
            *decide.decide_roster(kernel, sign_roster(ROOT_SEED, roster), now_ns),
            *rules,
            *decide.decide_instruments(kernel, instruments(), now_ns),
            EquityObserved(
                ts_ns=now_ns,
                account_id=ACCOUNT,
                day=day,
                day_start_equity=PLENTY,
                peak_equity=PLENTY,
                equity=PLENTY,
            ),
        )


def _mandate(now_ns: int) -> Mandate:
    return Mandate(
        schema=MANDATE_SCHEMA,
        mandate_id=MANDATE_ID,
        engine_id=ENGINE_ID,
        environment="local",
        mode="PAPER",
        account_id=ACCOUNT,
        strategy_id=STRATEGY,
        strategy_digest_hex="00" * 32,
        public_key_hex="",
        venue=VENUE,
        symbols=SYMBOLS,
        max_order_notional_quote=PLENTY,
        max_position_notional_quote=PLENTY,
        max_total_notional_quote=PLENTY,
        max_open_orders="1000000",
        issued_at_ns=str(now_ns),
        expires_at_ns=str(now_ns + HOUR_NS),
        asker_id="user-quant",
    )


def _grant(now_ns: int) -> SessionGrant:
    return SessionGrant(
        schema=SESSION_SCHEMA,
        session_id=SESSION_ID,
        engine_id=ENGINE_ID,
        environment="local",
        mode="PAPER",
        user_id=USER,
        public_key_hex=public_key_hex(SESSION_SEED),
        account_ids=(ACCOUNT,),
        max_order_notional_quote=PLENTY,
        max_total_notional_quote=PLENTY,
        max_orders="1000000000",
        issued_at_ns=str(now_ns),
        expires_at_ns=str(now_ns + HOUR_NS),
    )


@contextmanager
def venue_process() -> Iterator[int]:
    """The port of a venue that runs until the end."""
    command = [sys.executable, str(Path(__file__).with_name("_order_venue.py"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@asynccontextmanager
async def running_engine(folder: Path, venue_port: int) -> AsyncIterator[Engine]:
    engine = Engine(folder, venue_port, MonotonicClock(SystemClock()))
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()
