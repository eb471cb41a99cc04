"""The futures venue that the independent clients trade on: a scripted perpetual, so that figures can be had by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.venues.paper.events import DepthDiff
from core.venues.paper.server import PaperVenue
from core.venues.paper.usdm.marks import FundingTerms
from tests.core.venues.paper.support import CREDENTIALS, d
from tests.core.venues.paper.usdm.support import ScriptedPerpetual, ticker, trade

TIMEOUT_S = 60.0
FLOW_INTERVAL_S = 0.02
TAKER, MAKER = Decimal("0.0005"), Decimal("0.0002")
START = Decimal(100_000)


class Desk:
    """The running venue, its market, and a flow that keeps the market's events coming at the set quote."""

    def __init__(self, venue: PaperVenue, market: ScriptedPerpetual) -> None:
        self.venue = venue
        self._market = market
        self._ids = itertools.count(200, 2)
        self._quote = ("60000.0", "60000.1")

    def quote(self, bid: str, ask: str) -> None:
        """The best bid and offer, and a trade at the bid."""
        self._quote = bid, ask
        self._push()

    def _push(self) -> None:
        update_id = next(self._ids)
        bid, ask = self._quote
        far = ((d("50000"), d("1") * (1 + update_id % 2)),)
        self._market.push(
            DepthDiff("BTCUSDT", 0, update_id, update_id, far, ()),
            ticker(bid, ask, update_id + 1),
            trade(bid, trade_id=update_id, is_sell=True),
        )

    async def flow(self) -> None:
        while True:
            self._push()
            await asyncio.sleep(FLOW_INTERVAL_S)

    @property
    def mark(self) -> Decimal:
        assert self.venue.usdm is not None
        return Decimal(self.venue.usdm.exchange.account.ledger.marks["BTCUSDT"]) / 10**8


@contextlib.asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    """A venue with a perpetual that costs 60000.00 / 60000.10 and pays no funding."""
    market = ScriptedPerpetual()
    venue = PaperVenue(market, folder / "venue.sqlite3", CREDENTIALS, usdm_funding=FundingTerms(rate=0))
    async with venue:
        here = Desk(venue, market)
        flowing = asyncio.create_task(here.flow())
        try:
            yield here
        finally:
            flowing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flowing


class Heard:
    """Events of a stream, to be waited for."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._more = asyncio.Event()

    def __call__(self, event: Any) -> None:
        self.events.append(event)
        self._more.set()

    async def until(self, is_it: Callable[[Any], bool]) -> Any:
        """The first event that fits, among those heard already too."""
        async with asyncio.timeout(TIMEOUT_S):
            at = 0
            while True:
                for event in self.events[at:]:
                    at += 1
                    if is_it(event):
                        return event
                self._more.clear()
                await self._more.wait()
