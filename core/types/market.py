"""Market data as the engine reads it: one struct per message kind, ints at the instrument's scales.

ts_event_ns is the venue's own time of the event, ts_init_ns the engine's clock when the message arrived. Where the
venue states no time (spot bookTicker, the REST depth snapshot), ts_event_ns equals ts_init_ns. What a public quantity
has below the instrument's quantity scale is cut off.
"""

from __future__ import annotations

import msgspec

Level = tuple[int, int]
"""(price, quantity); in a DepthUpdate a quantity of zero removes the level."""


class DepthSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The book as the venue's REST interface gives it. Bids best first, asks best first."""

    symbol: str
    last_update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    ts_event_ns: int
    ts_init_ns: int


class DepthUpdate(msgspec.Struct, frozen=True, gc=False):
    """Absolute quantities of the levels that changed in the updates first_update_id (U) to last_update_id (u)."""

    symbol: str
    first_update_id: int
    last_update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    ts_event_ns: int
    ts_init_ns: int


class BookTicker(msgspec.Struct, frozen=True, gc=False):
    """Best bid and offer after update update_id (u): a stream independent of depth."""

    symbol: str
    update_id: int
    bid_price: int
    bid_quantity: int
    ask_price: int
    ask_quantity: int
    ts_event_ns: int
    ts_init_ns: int


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A public trade. is_buyer_maker: the seller was the aggressor. ts_event_ns is the time of the trade."""

    symbol: str
    trade_id: int
    price: int
    quantity: int
    is_buyer_maker: bool
    ts_event_ns: int
    ts_init_ns: int
