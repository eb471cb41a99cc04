"""What a market says, whether recorded or synthetic. Prices and quantities are ints at scale 8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

Level = tuple[int, int]
"""(price, quantity); quantity 0 removes the level."""


class DepthDiff(msgspec.Struct, frozen=True, gc=False):
    """Levels as they are after update last_id; covers updates first_id..last_id."""

    symbol: str
    event_ms: int
    first_id: int
    last_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class BookTicker(msgspec.Struct, frozen=True, gc=False):
    """Best bid and offer after update update_id."""

    symbol: str
    update_id: int
    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A public trade. buyer_is_maker: a seller hit the bid."""

    symbol: str
    event_ms: int
    trade_ms: int
    trade_id: int
    price: int
    quantity: int
    buyer_is_maker: bool


class StartBook(msgspec.Struct, frozen=True):
    """The whole book of a symbol when the market starts; ticker is newer than the book, or None."""

    symbol: str
    last_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    ticker: BookTicker | None = None


MarketEvent = DepthDiff | BookTicker | Trade
Publish = Callable[[MarketEvent], None]


class MarketSource(Protocol):
    """Drives a venue's market."""

    @property
    def symbols(self) -> tuple[str, ...]: ...

    def open(self) -> tuple[StartBook, ...]:
        """Blocking: check the source and give the books to start from. Raises PaperVenueError."""
        ...

    async def play(self, publish: Publish) -> None:
        """Publish events at their pace until cancelled. Raises PaperVenueError when the source is broken."""
        ...

    def describe(self) -> dict[str, Any]:
        """What `GET /paper/v1/market` tells."""
        ...
