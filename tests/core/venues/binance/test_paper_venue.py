"""The spot adapter against the paper venue, whole: both kinds of keys, both ways to the user data stream, a venue whose
clock is wrong, and one that says 429."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.types.clock import NS_PER_S, Clock, ManualClock, SystemClock
from core.types.codes import ReasonCode
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.endpoints import Priority
from core.venues.paper.server import PaperVenue
from core.venues.paper.signing import Credentials
from core.venues.ports import (
    SubmitRefused,
    Submitted,
    UserStreamLost,
    VenueRateLimitedError,
    VenueUnavailableError,
)
from tests.core.venues.binance.support import DEADLINE_S, Listener
from tests.core.venues.paper.support import CREDENTIALS, Client, ScriptedMarket

ED25519_KEY = Ed25519PrivateKey.generate()
PEM = ED25519_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC_PEM = ED25519_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
ED25519 = Credentials("ed25519-key", public_key_pem=PUBLIC_PEM)
SECRETS = {CREDENTIALS.key: CREDENTIALS.secret, ED25519.key: PEM}


class MovableClock:
    """The venue's clock, which a test sets apart from ours."""

    def __init__(self, ahead_s: int) -> None:
        self.ahead_s = ahead_s

    def now_ns(self) -> int:
        return SystemClock().now_ns() + self.ahead_s * NS_PER_S


def still_clock() -> ManualClock:
    """Give it to venue and adapter: no window of the limits turns while the test runs, however long that takes."""
    return ManualClock(SystemClock().now_ns())


@asynccontextmanager
async def paper(folder: Path, clock: Clock | None = None) -> AsyncIterator[PaperVenue]:
    file = folder / "venue.sqlite3"
    async with PaperVenue(ScriptedMarket(), file, CREDENTIALS, clock=clock, more_credentials=(ED25519,)) as venue:
        yield venue


@asynccontextmanager
async def spot(
    venue: PaperVenue, key: str = CREDENTIALS.key, clock: ManualClock | None = None, **options: Any
) -> AsyncIterator[BinanceSpot]:
    """clock: its time in every respect, the monotonic one too."""
    adapter = BinanceSpot(
        venue.base_url,
        key,
        options.pop("secret", None) or SECRETS[key],
        clock or SystemClock(),
        venue="paper",
        websocket_url=venue.websocket_url,
        read_timeout_s=options.pop("read_timeout_s", DEADLINE_S),
        random=Random(1),
        **options,
    )
    if clock is not None:
        adapter.rest.clock._monotonic_ns = clock.now_ns
    try:
        yield adapter
    finally:
        await adapter.aclose()


def order(client_order_id: str, price: str, quantity: str = "0.5", **changes: Any) -> OrderIntent:
    """At spot's scales: tick 0.01, step 0.00001."""
    limit, gtc = OrderType.LIMIT, TimeInForce.GTC
    scaled = int(Decimal(price).scaleb(2)), int(Decimal(quantity).scaleb(5))
    intent = OrderIntent("acct", "paper", "BTCUSDT", Side.BUY, limit, gtc, scaled[1], scaled[0], 2, 5, client_order_id)
    return msgspec.structs.replace(intent, **changes)


@pytest.mark.parametrize("key", [CREDENTIALS.key, ED25519.key])
@pytest.mark.parametrize("by_subscription", [False, True])
async def test_a_trade_with_either_kind_of_key_and_over_either_user_data_stream(
    tmp_path: Path, key: str, by_subscription: bool
) -> None:
    async with paper(tmp_path) as venue:
        api_url = f"{venue.websocket_url}/ws-api/v3" if by_subscription else ""
        async with spot(venue, key, websocket_api_url=api_url) as adapter, Listener(adapter) as listener:
            submitted = await adapter.submit(order("crossing", "100.01", "1.5"))
            assert isinstance(submitted, Submitted)
            reports = await listener.until(OrderStatus.FILLED)
            fills = [report.trade for report in reports if report.trade is not None]
            assert [(fill.price, fill.quantity) for fill in fills] == [(10_000, 100_000), (10_001, 50_000)]
            assert await adapter.trades_of("BTCUSDT", submitted.venue_order_id) == fills


@pytest.mark.parametrize("ahead_s", [-600, 600])
async def test_a_venue_minutes_apart_is_traded_with_and_its_offset_reported(tmp_path: Path, ahead_s: int) -> None:
    clock = MovableClock(ahead_s)
    offsets_ms: list[int] = []
    async with paper(tmp_path, clock) as venue, spot(venue) as adapter:
        adapter.rest.report_clock_offset(offsets_ms.append)
        assert isinstance(await adapter.submit(order("apart", "90")), Submitted)
        assert len(offsets_ms) == 1
        assert abs(offsets_ms[0] - ahead_s * 1_000) <= adapter.rest.clock_uncertainty_ms + 20

        clock.ahead_s = 0
        refused = await adapter.submit(order("jumped", "90"))
        assert isinstance(refused, SubmitRefused)
        assert refused.refusal.actual == "-1021"
        assert isinstance(await adapter.submit(order("again", "90")), Submitted)
        clock.ahead_s = ahead_s
        assert {item.client_order_id for item in await adapter.open_orders("BTCUSDT")} == {"apart", "again"}
        clock.ahead_s = 0
        await adapter.cancel("BTCUSDT", "apart")
        assert [item.client_order_id for item in await adapter.open_orders("BTCUSDT")] == ["again"]


@pytest.mark.parametrize(
    ("key", "secret", "expected"),
    [
        ("not-the-key", "s", r"-2015.*'venue-paper'"),
        (CREDENTIALS.key, "not-the-secret", r"-1022.*venue-paper\.secret doesn't belong"),
        (CREDENTIALS.key, PEM, r"-1022.*venue-paper\.pem doesn't belong"),
    ],
)
async def test_a_wrong_key_is_named_by_every_kind_of_call(tmp_path: Path, key: str, secret: str, expected: str) -> None:
    async with paper(tmp_path) as venue, spot(venue, key, secret=secret) as adapter:
        with pytest.raises(VenueUnavailableError, match=expected):
            await adapter.balances()
        refused = await adapter.submit(order("one", "90"))
        assert isinstance(refused, SubmitRefused)
        assert "venue-paper" in refused.refusal.message


async def test_a_wrong_symbol_is_named(tmp_path: Path) -> None:
    async with paper(tmp_path) as venue, spot(venue) as adapter:
        for call in (adapter.open_orders("NOPEUSDT"), adapter.klines("NOPEUSDT", "1m", 0, 1)):
            with pytest.raises(VenueUnavailableError, match="'NOPEUSDT'"):
                await call
        refused = await adapter.submit(order("one", "90", symbol="NOPEUSDT"))
        assert isinstance(refused, SubmitRefused)
        assert "'NOPEUSDT'" in refused.refusal.message


async def test_a_busy_client_gives_way_by_itself_and_never_meets_a_429(tmp_path: Path) -> None:
    clock = still_clock()
    async with paper(tmp_path, clock) as venue, spot(venue, clock=clock) as adapter:
        limiter = adapter.rest.limiter
        await adapter.rest.sync_time()

        async def ask() -> None:
            whole = {"symbol": "BTCUSDT", "limit": "5000"}
            await adapter.rest.once("GET", "/api/v3/depth", whole, answer=msgspec.Raw, priority=Priority.BACKGROUND)

        for _ in range(11):  # of weight 250 each, after 3 for the time
            await ask()
        with pytest.raises(VenueRateLimitedError, match="BACKGROUND gives way at 50 %"):
            await ask()
        assert limiter.rate_exceeded_count == 0
        assert isinstance(await adapter.submit(order("one", "90")), Submitted)
        await adapter.cancel("BTCUSDT", "one")
        state = limiter.state()
        assert (state.is_blocked, state.counters["BACKGROUND"].refused) == (False, 1)


async def test_an_address_that_others_have_used_up_is_found_out_and_left_alone(tmp_path: Path) -> None:
    clock = still_clock()
    async with paper(tmp_path, clock) as venue, spot(venue, clock=clock) as adapter:
        assert isinstance(await adapter.submit(order("before", "90")), Submitted)
        other = Client(venue.base_url)
        while (await other.http.get("/api/v3/depth?symbol=BTCUSDT&limit=5000")).status_code != 429:
            pass
        told = await adapter.submit(order("told", "90"))
        assert isinstance(told, SubmitRefused)
        assert told.refusal.code is ReasonCode.ORDER_RATE_LIMITED
        assert adapter.rest.limiter.rate_exceeded_count == 1
        held = await adapter.submit(order("held", "90"))
        assert isinstance(held, SubmitRefused)
        assert "nothing was sent" in held.refusal.message
        state = adapter.rest.limiter.state()
        assert state.is_blocked
        assert 0 < state.blocked_for_s <= 60
        await other.http.aclose()


async def test_bars_are_the_venues_own(tmp_path: Path) -> None:
    async with paper(tmp_path) as venue, spot(venue) as adapter:
        bars = await adapter.klines("BTCUSDT", "1m", SystemClock().now_ns() - 600 * NS_PER_S, 10)
        assert all(bar.close_time_ns - bar.open_time_ns == 60 * NS_PER_S - 1 for bar in bars)
        assert all(not bar.closed for bar in bars[-1:])


async def test_a_stopped_venue_is_a_loss_of_the_stream_and_orders_are_refused(tmp_path: Path) -> None:
    async with paper(tmp_path) as venue, spot(venue) as adapter, Listener(adapter) as listener:
        assert isinstance(await adapter.submit(order("before", "90")), Submitted)
        await listener.until(OrderStatus.ACCEPTED)
        await venue.__aexit__(None, None, None)
        await listener.until(UserStreamLost)
        refused = await adapter.submit(order("after", "90"))
        assert isinstance(refused, SubmitRefused)
        assert refused.refusal.code is ReasonCode.RISK_VENUE_DISCONNECTED
