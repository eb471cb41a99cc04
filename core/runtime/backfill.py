"""Klines from before the engine's time, and of the minutes whose trades it missed: the venue's own, over REST."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from core.market.bars import Kline
from core.market.hub import KLINE_HISTORY_BARS, MarketHub
from core.types.clock import NS_PER_S, Clock
from core.venues.ports import VenueUnavailableError

INTERVAL = "1m"
NS_PER_MINUTE = 60 * NS_PER_S
CHECK_INTERVAL_S = 5.0
RETRY_NS = 60 * NS_PER_S
"""A hole that the venue couldn't fill is asked for again after so long."""

_log = structlog.get_logger("runtime.backfill")


class KlineSource(Protocol):
    async def klines(self, symbol: str, interval: str, start_ns: int, limit: int) -> list[Kline]:
        """Raises VenueUnavailableError."""
        ...


class KlineBackfill:
    """Seeds one hub from a venue."""

    def __init__(self, venue: KlineSource, hub: MarketHub, clock: Clock) -> None:
        self._venue = venue
        self._hub = hub
        self._clock = clock
        self._asked_ns: dict[str, int] = {}

    async def begin(self, symbol: str) -> None:
        """What the hub keeps of the time before now. Raises VenueUnavailableError."""
        start_ns = self._clock.now_ns() - KLINE_HISTORY_BARS * NS_PER_MINUTE
        await self._seed(symbol, start_ns, KLINE_HISTORY_BARS)

    async def keep(self) -> None:
        """Fill holes as they show, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            for symbol in self._hub.symbols:
                await self._fill(symbol)

    async def _fill(self, symbol: str) -> None:
        holes = self._hub.kline_holes(symbol)
        now_ns = self._clock.now_ns()
        if not holes or now_ns - self._asked_ns.get(symbol, 0) < RETRY_NS:
            return
        self._asked_ns[symbol] = now_ns
        from_ns, until_ns = holes[0][0], holes[-1][1]
        minutes = min(KLINE_HISTORY_BARS, -(-(until_ns - from_ns) // NS_PER_MINUTE) + 1)
        try:
            await self._seed(symbol, from_ns - from_ns % NS_PER_MINUTE, minutes)
        except VenueUnavailableError as error:
            _log.warning("klines_not_filled", symbol=symbol, error=str(error))

    async def _seed(self, symbol: str, start_ns: int, limit: int) -> None:
        bars = await self._venue.klines(symbol, INTERVAL, start_ns, limit)
        closed = [bar for bar in bars if bar.closed]
        self._hub.seed_klines(symbol, closed)
        _log.info("klines_seeded", symbol=symbol, bars=len(closed))
