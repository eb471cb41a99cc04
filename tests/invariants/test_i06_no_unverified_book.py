"""I6: a lost depth message makes the book STALE, and risk denies until it is in step with the venue again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.types.codes import ReasonCode
from core.types.events import OrderFilled
from core.types.orders import OrderStatus
from core.venues.binance.rest import BinanceRest
from tests.core.engine_support import RunningEngine
from tests.invariants.support import MovableMarket, engine_on, orders_at


async def state_is(engine: RunningEngine, state: str) -> None:
    while (await engine.client.status()).books.get("BTCUSDT") != state:
        pass


async def test_one_lost_depth_message_stops_orders_until_the_book_is_verified_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = asyncio.Event()
    snapshots.set()
    read: Any = BinanceRest.read

    async def slow_read(rest: BinanceRest, path: str, *arguments: Any, **options: Any) -> Any:
        if path == "/api/v3/depth":
            await snapshots.wait()
        return await read(rest, path, *arguments, **options)

    monkeypatch.setattr(BinanceRest, "read", slow_read)
    market = MovableMarket(60_000)
    async with engine_on(market, home) as (engine, venue):
        publish = venue.exchange.hub.publish
        lost: list[str] = []

        def lossy(name: str, payload: str) -> None:
            if name == "btcusdt@depth@100ms" and not lost:
                lost.append(payload)
                return
            publish(name, payload)

        what = await engine.propose()
        snapshots.clear()
        monkeypatch.setattr(venue.exchange.hub, "publish", lossy)
        async with asyncio.timeout(60):
            await state_is(engine, "STALE")
        assert lost

        refused = await engine.execute(what)
        assert refused.refusal is not None
        assert refused.refusal.code is ReasonCode.MARKET_BOOK_STALE
        assert (await engine.client.order_book("BTCUSDT", 1)).state == "STALE", "readers are told too"
        assert await orders_at(venue, engine.settings) == []

        snapshots.set()
        async with asyncio.timeout(60):
            await state_is(engine, "LIVE")
        assert (await engine.execute(await engine.propose())).refusal is None
        await engine.event(lambda event: isinstance(event, OrderFilled) and event.status is OrderStatus.FILLED)
