"""Parts of the paper venue's tests: a scripted market, and a small Binance client of our own making."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import httpx2

from core.types.clock import NS_PER_MS, NS_PER_S, Clock, ManualClock, SystemClock
from core.venues.paper.events import MarketEvent, Publish, StartBook
from core.venues.paper.signing import Credentials, sign

UNIT = 10**8
CREDENTIALS = Credentials("test-key", "test-secret")
ANSWER_TIMEOUT_S = 60
MIDDLE_OF_A_MINUTE_NS = 1_790_000_010 * NS_PER_S


def still_clock() -> ManualClock:
    """A venue's clock on which no window, interval or day turns while a test runs, however long that takes."""
    return ManualClock(MIDDLE_OF_A_MINUTE_NS)


def d(text: str) -> int:
    """A decimal at scale 8."""
    whole, _, rest = text.partition(".")
    return int(whole) * UNIT + int((rest or "0").ljust(8, "0"))


def start_book() -> StartBook:
    return StartBook(
        "BTCUSDT",
        100,
        ((d("99.99"), d("2")), (d("99.98"), d("3"))),
        ((d("100.00"), d("1")), (d("100.01"), d("2"))),
    )


class ScriptedMarket:
    """A market source whose events the test pushes itself."""

    symbols = ("BTCUSDT",)

    def __init__(self) -> None:
        self.queue: asyncio.Queue[MarketEvent] = asyncio.Queue()

    def open(self) -> tuple[StartBook, ...]:
        return (start_book(),)

    async def play(self, publish: Publish) -> None:
        while True:
            publish(await self.queue.get())

    def describe(self) -> dict[str, Any]:
        return {"source": "scripted"}


class Client:
    """Signs as Binance's documentation says, nothing more."""

    def __init__(self, base_url: str, credentials: Credentials = CREDENTIALS, clock: Clock | None = None) -> None:
        """clock: the venue's, where that isn't the machine's."""
        self.http = httpx2.AsyncClient(base_url=base_url, timeout=ANSWER_TIMEOUT_S)
        self._credentials = credentials
        self._clock = clock or SystemClock()

    async def signed(self, method: str, path: str, **parameters: Any) -> httpx2.Response:
        parameters.setdefault("timestamp", self._clock.now_ns() // NS_PER_MS)
        query = urlencode(parameters)
        return await self.http.request(
            method,
            f"{path}?{query}&signature={sign(self._credentials.secret, query)}",
            headers={"X-MBX-APIKEY": self._credentials.key},
        )

    async def order(self, **parameters: Any) -> httpx2.Response:
        return await self.signed("POST", "/api/v3/order", symbol="BTCUSDT", **parameters)
