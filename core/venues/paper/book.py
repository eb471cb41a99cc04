"""The market's book as published, and as our orders meet it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from core.types.orders import Side
from core.venues.paper.events import BookTicker, DepthDiff, Level, StartBook


class LevelBook:
    """Price levels of one symbol. Bids and asks are both kept in ascending order of price."""

    def __init__(self) -> None:
        self.last_id = 0
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self._bid_prices: list[int] = []
        self._ask_prices: list[int] = []

    def load(self, start: StartBook) -> None:
        self.last_id = start.last_id
        self.bids = {price: quantity for price, quantity in start.bids if quantity}
        self.asks = {price: quantity for price, quantity in start.asks if quantity}
        self._bid_prices = sorted(self.bids)
        self._ask_prices = sorted(self.asks)

    def apply(self, diff: DepthDiff) -> None:
        for price, quantity in diff.bids:
            self.set_bid(price, quantity)
        for price, quantity in diff.asks:
            self.set_ask(price, quantity)
        self.last_id = diff.last_id

    def set_bid(self, price: int, quantity: int) -> None:
        _set_level(self.bids, self._bid_prices, price, quantity)

    def set_ask(self, price: int, quantity: int) -> None:
        _set_level(self.asks, self._ask_prices, price, quantity)

    @property
    def best_bid(self) -> int | None:
        return self._bid_prices[-1] if self._bid_prices else None

    @property
    def best_ask(self) -> int | None:
        return self._ask_prices[0] if self._ask_prices else None

    def bid_prices(self) -> list[int]:
        """Ascending: the best is last. Not to be changed by the caller."""
        return self._bid_prices

    def ask_prices(self) -> list[int]:
        """Ascending: the best is first. Not to be changed by the caller."""
        return self._ask_prices

    def top(self, limit: int) -> tuple[list[Level], list[Level]]:
        """Up to `limit` levels of bids and of asks, best first."""
        bids = [(price, self.bids[price]) for price in reversed(self._bid_prices[-limit:])]
        asks = [(price, self.asks[price]) for price in self._ask_prices[:limit]]
        return bids, asks

    def snapshot(self, symbol: str) -> StartBook:
        return StartBook(symbol, self.last_id, tuple(self.bids.items()), tuple(self.asks.items()))


def _set_level(levels: dict[int, int], prices: list[int], price: int, quantity: int) -> None:
    if quantity:
        if price not in levels:
            insort(prices, price)
        levels[price] = quantity
    elif price in levels:
        del levels[price]
        del prices[bisect_left(prices, price)]


class _Taken:
    """Quantity of ours out of a level, and what the level displayed then."""

    __slots__ = ("displayed", "quantity")

    def __init__(self, displayed: int) -> None:
        self.displayed = displayed
        self.quantity = 0


class MarketView:
    """The book that our orders meet: the depth book, corrected by a newer best bid and offer, less what we took.

    The depth stream is 100 ms old at worst; bookTicker isn't. While the ticker's update id is the newer one, levels
    better than it are gone and its own level has its quantity. Quantity that we took stays taken until the market
    changes what that level displays.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.book = LevelBook()
        self.ticker: BookTicker | None = None
        self._taken: dict[tuple[Side, int], _Taken] = {}

    def load(self, start: StartBook) -> None:
        self.book.load(start)
        self.ticker = start.ticker
        self._taken.clear()

    def apply_depth(self, diff: DepthDiff) -> None:
        self.book.apply(diff)
        self._forget_refreshed()

    def apply_ticker(self, ticker: BookTicker) -> None:
        self.ticker = ticker
        self._forget_refreshed()

    def displayed(self, side: Side, price: int) -> int:
        """What the market shows at one price on one side of the book (BUY: bids)."""
        ticker = self._newer_ticker()
        if side is Side.BUY:
            if ticker is not None and price >= ticker.bid:
                return ticker.bid_quantity if price == ticker.bid else 0
            return self.book.bids.get(price, 0)
        if ticker is not None and price <= ticker.ask:
            return ticker.ask_quantity if price == ticker.ask else 0
        return self.book.asks.get(price, 0)

    def available(self, side: Side, price: int) -> int:
        """What is displayed, less what we took of it."""
        taken = self._taken.get((side, price))
        return self.displayed(side, price) - (taken.quantity if taken else 0)

    def take(self, side: Side, price: int, quantity: int) -> None:
        """Remove our own consumption from what is available."""
        entry = self._taken.get((side, price))
        if entry is None:
            entry = self._taken[(side, price)] = _Taken(self.displayed(side, price))
        entry.quantity += quantity
        assert entry.quantity <= entry.displayed

    def levels(self, side: Side) -> Iterator[Level]:
        """(price, available quantity) of one side, best first; levels with nothing available are left out."""
        for price in self._prices(side):
            quantity = self.available(side, price)
            if quantity > 0:
                yield price, quantity

    def best(self, side: Side) -> int | None:
        """The best price with something available."""
        return next((price for price, _ in self.levels(side)), None)

    def best_displayed(self, side: Side) -> Level | None:
        """The market's own best level, whatever we took of it."""
        price = next(self._prices(side), None)
        return None if price is None else (price, self.displayed(side, price))

    def _prices(self, side: Side) -> Iterator[int]:
        ticker = self._newer_ticker()
        if side is Side.BUY:
            if ticker is not None and ticker.bid_quantity:
                yield ticker.bid
            for price in reversed(self.book.bid_prices()):
                if ticker is None or price < ticker.bid:
                    yield price
        else:
            if ticker is not None and ticker.ask_quantity:
                yield ticker.ask
            for price in self.book.ask_prices():
                if ticker is None or price > ticker.ask:
                    yield price

    def _newer_ticker(self) -> BookTicker | None:
        ticker = self.ticker
        return ticker if ticker is not None and ticker.update_id > self.book.last_id else None

    def _forget_refreshed(self) -> None:
        if self._taken:
            for side, price in [key for key, entry in self._taken.items() if self.displayed(*key) != entry.displayed]:
                del self._taken[(side, price)]
