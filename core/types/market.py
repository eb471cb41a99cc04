"""Market data as the engine reads it: one struct per message kind, ints at the instrument's scales.

ts_event_ns is the venue's own time of the event, ts_init_ns the engine's clock when the message arrived. Where the
venue states no time (spot bookTicker, the REST depth snapshot), ts_event_ns equals ts_init_ns. What a public quantity
has below the instrument's quantity scale is cut off.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

Level = tuple[int, int]
"""(price, quantity); in a DepthUpdate a quantity of zero removes the level."""


class DepthUpdateLike(Protocol):
    """A depth message as the sync and the books need it: `DepthUpdate` here, or the native `core._native.DepthFrame`,
    whose levels become Python objects only when they are asked for."""

    @property
    def symbol(self) -> str: ...
    @property
    def first_update_id(self) -> int: ...
    @property
    def last_update_id(self) -> int: ...
    @property
    def previous_update_id(self) -> int | None: ...
    @property
    def bids(self) -> tuple[Level, ...]: ...
    @property
    def asks(self) -> tuple[Level, ...]: ...
    @property
    def ts_event_ns(self) -> int: ...
    @property
    def ts_init_ns(self) -> int: ...


class DepthSnapshotLike(Protocol):
    """A depth snapshot: `DepthSnapshot` here, or the native `core._native.SnapshotFrame`."""

    @property
    def symbol(self) -> str: ...
    @property
    def last_update_id(self) -> int: ...
    @property
    def bids(self) -> tuple[Level, ...]: ...
    @property
    def asks(self) -> tuple[Level, ...]: ...
    @property
    def is_complete(self) -> bool: ...
    @property
    def ts_event_ns(self) -> int: ...
    @property
    def ts_init_ns(self) -> int: ...


class DepthSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The book as the venue's REST interface gives it. Bids best first, asks best first.

    is_complete: the venue's whole book; else it was cut at a number of levels, and nothing is known beyond them.
    """

    symbol: str
    last_update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    ts_event_ns: int
    ts_init_ns: int
    is_complete: bool = False


class DepthUpdate(msgspec.Struct, frozen=True, gc=False):
    """Absolute quantities of the levels that changed in the updates first_update_id (U) to last_update_id (u).

    previous_update_id (pu) is the last id of the message before, where the venue states it (futures); None for spot.
    """

    symbol: str
    first_update_id: int
    last_update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    ts_event_ns: int
    ts_init_ns: int
    previous_update_id: int | None = None


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
