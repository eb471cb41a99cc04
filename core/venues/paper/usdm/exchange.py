"""The perpetuals behind the wire: market data as published, mark prices, funding, the account, who hears what."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from core.types.clock import Clock
from core.types.orders import Side
from core.venues.paper.book import MarketView
from core.venues.paper.events import BookTicker, Level, MarketEvent, StartBook, Trade
from core.venues.paper.klines import Klines
from core.venues.paper.streams import Hub
from core.venues.paper.usdm.account import STARTING_WALLET, FuturesAccount
from core.venues.paper.usdm.marks import FundingTerms, MarkPrice
from core.venues.paper.usdm.orders import Event, Execution, Order, OrderEvent
from core.venues.paper.usdm.publishing import Publisher, SymbolStreams
from core.venues.paper.usdm.rules import CONTRACTS, ContractRules
from core.venues.paper.usdm.storage import Storage
from core.venues.paper.usdm.user_stream import UserStream

MAX_RECENT_TRADES = 1_000
MAX_FORCE_ORDERS = 100
HOUSEKEEPING_INTERVAL_S = 1.0


class ContractData:
    """One perpetual's public data."""

    def __init__(self, rules: ContractRules, view: MarketView, funding: FundingTerms) -> None:
        self.rules = rules
        self.view = view
        self.trades: deque[Trade] = deque(maxlen=MAX_RECENT_TRADES)
        self.klines = Klines()
        self.mark_klines = Klines()
        self.index_klines = Klines()
        self.price = MarkPrice(rules.symbol, funding)
        self.streams = SymbolStreams(rules.symbol)

    def best(self) -> tuple[Level, Level]:
        """The newest best bid and offer; (0, 0) for an empty side."""
        return self.view.best_displayed(Side.BUY) or (0, 0), self.view.best_displayed(Side.SELL) or (0, 0)

    def middle(self) -> int:
        (bid, _), (ask, _) = self.best()
        return (bid + ask) // 2 if bid and ask else bid or ask

    def last(self) -> int:
        """The last trade's price; 0 before the first one since the start."""
        return self.trades[-1].price if self.trades else 0


class UsdmExchange:
    """Everything of USD-M but the wire format of requests. spot_middle gives the spot market's middle of a symbol, 0
    when the venue has none."""

    def __init__(
        self,
        books: Sequence[StartBook],
        storage: Storage,
        clock: Clock,
        on_fatal: Callable[[Exception], None],
        *,
        spot_middle: Callable[[str], int] = lambda _: 0,
        funding: FundingTerms | None = None,
        starting_wallet: int = STARTING_WALLET,
    ) -> None:
        self.hub = Hub()
        self.storage = storage
        self.funding = funding or FundingTerms()
        self._spot_middle = spot_middle
        symbols = [book.symbol for book in books]
        self.account = FuturesAccount(
            storage, clock, symbols, self.funding, self._on_account_events, on_fatal, starting_wallet
        )
        self.user_stream = UserStream(self.hub, lambda: self.account.ledger, self.now_ms)
        self.contracts = {
            symbol: ContractData(CONTRACTS[symbol], self.account.engine.views[symbol], self.funding)
            for symbol in symbols
        }
        self.force_orders: deque[Order] = deque(maxlen=MAX_FORCE_ORDERS)
        self.publisher = Publisher(self)
        self.account.start(books)
        for symbol, data in self.contracts.items():
            data.streams.start(data.view.book.last_id)
            self.account.ledger.marks[symbol] = self._mark(symbol)
        self.account.match_start()

    def now_ms(self) -> int:
        return self.account.now_ms()

    @property
    def next_funding_ms(self) -> int:
        return self.account.ledger.state.next_funding_ms

    def on_market(self, event: MarketEvent) -> None:
        """Take one market event: publish it, then let our orders meet it."""
        data = self.contracts[event.symbol]
        if isinstance(event, Trade):
            data.trades.append(event)
            closed = data.klines.add(event)
            self.publisher.on_trade(data, event, closed)
        elif isinstance(event, BookTicker):
            self.publisher.on_ticker(data, event)
        else:
            self.publisher.on_depth(data, event)
        self.account.on_market(event, lambda: self._mark(event.symbol))

    def _mark(self, symbol: str) -> int:
        data = self.contracts[symbol]
        return data.price.update(
            data.middle(), self._spot_middle(symbol), data.last(), self.next_funding_ms, self.now_ms()
        )

    def _on_account_events(self, events: Sequence[Event]) -> None:
        self.user_stream.publish(events)
        for event in events:
            if isinstance(event, OrderEvent) and event.execution is Execution.CALCULATED:
                self.force_orders.append(event.order)
                self.publisher.on_force_order(event)

    async def keep_house(self) -> None:
        """Each second: marks, funding, orders' times, and the streams that have a pace of their own."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL_S)
            self.tick()

    def tick(self) -> None:
        now_ms = self.now_ms()
        self.user_stream.expire()
        for data in self.contracts.values():
            data.price.sample(data.middle())
        self.account.on_tick(self._mark)
        if self.account.is_funding_due():
            time_ms = self.next_funding_ms
            self.account.fund([data.price.fund(time_ms) for data in self.contracts.values()])
        for symbol, data in self.contracts.items():
            for klines, price in ((data.mark_klines, data.price.mark), (data.index_klines, data.price.index)):
                if price:
                    klines.add(Trade(symbol, now_ms, now_ms, 0, price, 0, buyer_is_maker=False))
        self.publisher.on_tick()
