"""What of the market leaves the engine for those who listen."""

from __future__ import annotations

import msgspec

from core.market.sync import BookState, StaleReason, StateChanged
from core.runtime.market import MarketPublisher
from core.runtime.service import EngineService


class Bus:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, str, object]] = []

    def publish_market(self, venue: str, symbol: str, kind: str, payload: bytes) -> None:
        self.published.append((venue, symbol, kind, msgspec.json.decode(payload)))


def test_every_change_of_a_books_state_is_told_with_its_reason() -> None:
    bus = Bus()
    publisher = MarketPublisher(EngineService.__new__(EngineService), bus, "paper")
    publisher.state_changed(StateChanged("BTCUSDT", BookState.SYNCING, BookState.LIVE, None, 5))
    publisher.state_changed(StateChanged("BTCUSDT", BookState.LIVE, BookState.STALE, StaleReason.GAP, 6))
    live = {"symbol": "BTCUSDT", "previous": "SYNCING", "current": "LIVE", "reason": None, "ts_ns": 5}
    gap = {"symbol": "BTCUSDT", "previous": "LIVE", "current": "STALE", "reason": "GAP", "ts_ns": 6}
    assert bus.published == [("paper", "BTCUSDT", "book_state", live), ("paper", "BTCUSDT", "book_state", gap)]
