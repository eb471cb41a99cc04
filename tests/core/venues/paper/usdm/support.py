"""Parts of the futures venue's tests: a scripted perpetual, and a bench without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.types.clock import NS_PER_MS
from core.types.orders import Side
from core.venues.paper.events import BookTicker, DepthDiff, MarketEvent, Publish, StartBook, Trade
from core.venues.paper.usdm.exchange import UsdmExchange
from core.venues.paper.usdm.marks import FundingTerms
from core.venues.paper.usdm.orders import Event, Order, Terms, TimeInForce, Type
from core.venues.paper.usdm.storage import Storage
from core.venues.paper.usdm.user_stream import messages
from tests.core.venues.paper.support import d

START_MS = 1_800_000_000_000
SYMBOL = "BTCUSDT"
NO_FUNDING = FundingTerms(rate=0)


def perpetual_book() -> StartBook:
    """Best bid 60000.00, best ask 60000.10; ten coins on each side."""
    return StartBook(
        SYMBOL,
        100,
        ((d("60000"), d("2")), (d("59999.9"), d("3")), (d("59990"), d("5"))),
        ((d("60000.1"), d("2")), (d("60000.2"), d("3")), (d("60010"), d("5"))),
    )


def quotes(bid: str, ask: str, update_id: int, quantity: str = "5") -> DepthDiff:
    """The whole book replaced by one level a side, whatever it was between 50000 and 70000."""
    gone = tuple((d(price), 0) for price in ("60000", "59999.9", "59990"))
    gone_asks = tuple((d(price), 0) for price in ("60000.1", "60000.2", "60010"))
    return DepthDiff(
        SYMBOL, START_MS, update_id, update_id, (*gone, (d(bid), d(quantity))), (*gone_asks, (d(ask), d(quantity)))
    )


def trade(
    price: str, quantity: str = "0.001", *, trade_id: int = 1, is_sell: bool = False, at_ms: int = START_MS
) -> Trade:
    return Trade(SYMBOL, at_ms, at_ms, trade_id, d(price), d(quantity), buyer_is_maker=is_sell)


def ticker(bid: str, ask: str, update_id: int, quantity: str = "5") -> BookTicker:
    return BookTicker(SYMBOL, update_id, d(bid), d(quantity), d(ask), d(quantity))


class TestClock:
    """A clock that the test moves."""

    __test__ = False

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ns(self) -> int:
        return self.ms * NS_PER_MS


class Bench:
    """The futures exchange without sockets: the test moves the clock and the market, and reads the events."""

    def __init__(self, file: Path, funding: FundingTerms = NO_FUNDING, wallet: str = "100000") -> None:
        self.clock = TestClock()
        self.failures: list[Exception] = []
        self.told: list[Event] = []
        self.storage = Storage(file)
        self.exchange = UsdmExchange(
            (perpetual_book(),),
            self.storage,
            self.clock,
            self.failures.append,
            funding=funding,
            starting_wallet=d(wallet),
        )
        self.account = self.exchange.account
        self.ledger = self.account.ledger
        publish = self.account._publish

        def hear(events: Sequence[Event]) -> None:
            self.told += events
            publish(events)

        self.account._publish = hear
        self._last_id = 100
        self._client = 0

    def close(self) -> None:
        self.storage.close()

    def quote(self, bid: str, ask: str, quantity: str = "5") -> None:
        """The market's best bid and offer become these, by a newer bookTicker; the last trade is at the bid."""
        self._last_id += 1
        self.exchange.on_market(ticker(bid, ask, self._last_id, quantity))
        self.exchange.on_market(trade(bid, trade_id=self._last_id, is_sell=True, at_ms=self.clock.ms))

    def order(self, side: Side, quantity: str, price: str = "", **terms: Any) -> Order:
        return self.account.place(self.terms(side, quantity, price, **terms))

    def terms(self, side: Side, quantity: str, price: str = "", **terms: Any) -> Terms:
        self._client += 1
        kind = terms.pop("order_type", Type.LIMIT if price else Type.MARKET)
        return Terms(
            client_id=terms.pop("client_id", f"t-{self._client}"),
            symbol=SYMBOL,
            side=side,
            order_type=kind,
            time_in_force=terms.pop("time_in_force", TimeInForce.GTC),
            quantity=d(quantity) if quantity else 0,
            price=d(price) if price else 0,
            **terms,
        )

    def messages(self) -> list[dict[str, Any]]:
        """What the user's stream would have said since the last call."""
        told, self.told = self.told, []
        return [message for event in told for message in messages(event, self.ledger)]


class ScriptedPerpetual:
    """A market source with a perpetual only, whose events the test pushes itself."""

    symbols: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._publish: Publish | None = None

    def open(self) -> tuple[StartBook, ...]:
        return ()

    def usdm_books(self) -> tuple[StartBook, ...]:
        return (perpetual_book(),)

    def set_usdm_publish(self, publish: Publish) -> None:
        self._publish = publish

    def push(self, *events: MarketEvent) -> None:
        assert self._publish is not None
        for event in events:
            self._publish(event)

    async def play(self, publish: Publish) -> None:
        await asyncio.Event().wait()

    def describe(self) -> dict[str, Any]:
        return {"source": "scripted"}
