"""Market data from the exchange's quotes into the hub of whichever life is up."""

from __future__ import annotations

from collections.abc import Callable

from core.market.hub import MarketHub
from core.types.clock import Clock
from core.types.market import DepthSnapshot, DepthUpdate, Trade
from tests.simulation.exchange import Exchange
from tests.simulation.loop import SimLoop


class Feed:
    """Depth and trades of every symbol. A silent feed tells nothing: the books grow stale."""

    def __init__(self, exchange: Exchange) -> None:
        self.is_silent = False
        self.mids: list[tuple[int, dict[str, int]]] = []
        self._exchange = exchange
        self._hub: MarketHub | None = None
        self._loop: SimLoop | None = None
        self._clock: Clock | None = None
        self._shown: dict[str, dict[bool, dict[int, int]]] = {}
        self._trades = 0
        self._updated: Callable[[str], None] = lambda _symbol: None

    def attach(self, hub: MarketHub, loop: SimLoop, clock: Clock, updated: Callable[[str], None]) -> None:
        """updated hears of each symbol that has news."""
        self._hub, self._loop, self._clock, self._updated = hub, loop, clock, updated
        hub.on_stream_opened(hub.symbols)
        for symbol in hub.symbols:
            bids, asks = self._exchange.levels(symbol)
            update_id = self._exchange.quotes[symbol].update_id
            now_ns = clock.now_ns()
            hub.on_snapshot(DepthSnapshot(symbol, update_id, bids, asks, now_ns, now_ns, is_complete=True))
            self._shown[symbol] = {True: dict(bids), False: dict(asks)}
        self._note(clock.now_ns())

    def moved(self, symbol: str) -> None:
        """The quote of a symbol has changed."""
        loop = self._loop
        if loop is not None and not loop.is_dead and not self.is_silent:
            loop.call_soon(self._tell, symbol)

    def _tell(self, symbol: str) -> None:
        hub, clock = self._hub, self._clock
        assert hub is not None
        assert clock is not None
        quote = self._exchange.quotes[symbol]
        bids, asks = self._exchange.levels(symbol)
        shown, now_ns = self._shown[symbol], clock.now_ns()
        known = hub.scaled_book(symbol, 1).last_update_id
        if quote.update_id <= known:
            return
        changes = []
        for is_bid, levels in ((True, dict(bids)), (False, dict(asks))):
            gone = {price: 0 for price in shown[is_bid] if price not in levels}
            changes.append(tuple({**gone, **levels}.items()))
            shown[is_bid] = levels
        hub.on_depth(DepthUpdate(symbol, known + 1, quote.update_id, changes[0], changes[1], now_ns, now_ns))
        self._trades += 1
        hub.on_trade(Trade(symbol, self._trades, quote.bid, 1, False, now_ns, now_ns))
        self._note(now_ns)
        self._updated(symbol)

    def _note(self, now_ns: int) -> None:
        """What every book shows from now on, in twice the mid: bid + ask."""
        shown = {symbol: max(sides[True]) + min(sides[False]) for symbol, sides in self._shown.items()}
        self.mids.append((now_ns, shown))
