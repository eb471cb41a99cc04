"""A plain Python order book of one instrument: the reference that any faster one is held against.

Prices and quantities are ints at the instrument's scales. The book knows nothing of sequences or time: core.market.sync
decides what may be applied to it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

import msgspec

from core.types.market import DepthSnapshot, DepthUpdate, Level
from core.types.orders import Side

MAX_LEVELS_PER_SIDE = 20_000
"""Beyond this the levels farthest from the market are forgotten: a venue's dust must not fill the memory."""


class Best(msgspec.Struct, frozen=True, gc=False):
    """Best bid and offer with their quantities."""

    bid_price: int
    bid_quantity: int
    ask_price: int
    ask_quantity: int


class Sweep(msgspec.Struct, frozen=True, gc=False):
    """What a marketable order would take: quantity at quantity_scale, notional at notional scale.

    worst_price is None when nothing was filled. filled below what was asked means that the book ran out.
    """

    filled: int
    notional: int
    worst_price: int | None
    levels: int


class BookSide:
    """Price levels of one side, held ascending by key; bids use the negated price, so that the best comes first."""

    __slots__ = ("_keys", "_quantities", "_sign")

    def __init__(self, side: Side) -> None:
        self._sign = -1 if side is Side.BUY else 1
        self._keys: list[int] = []
        self._quantities: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, levels: Iterable[Level]) -> None:
        given = {price * self._sign: quantity for price, quantity in levels}
        self._quantities = {key: quantity for key, quantity in given.items() if quantity}
        self._keys = sorted(self._quantities)
        self._prune()

    def apply(self, levels: Sequence[Level]) -> None:
        quantities, keys, sign = self._quantities, self._keys, self._sign
        for price, quantity in levels:
            key = price * sign
            if quantity:
                if key not in quantities:
                    insort(keys, key)
                quantities[key] = quantity
            elif quantities.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]
        if len(keys) > MAX_LEVELS_PER_SIDE:
            self._prune()

    def best(self) -> Level | None:
        if not self._keys:
            return None
        key = self._keys[0]
        return key * self._sign, self._quantities[key]

    def top(self, count: int) -> tuple[Level, ...]:
        return tuple((key * self._sign, self._quantities[key]) for key in self._keys[:count])

    def sweep(self, quantity: int) -> Sweep:
        remaining, notional, levels = quantity, 0, 0
        worst: int | None = None
        for key in self._keys:
            if remaining <= 0:
                break
            worst = key * self._sign
            taken = min(remaining, self._quantities[key])
            notional += taken * worst
            remaining -= taken
            levels += 1
        return Sweep(quantity - remaining, notional, worst, levels)

    def _prune(self) -> None:
        for key in self._keys[MAX_LEVELS_PER_SIDE:]:
            del self._quantities[key]
        del self._keys[MAX_LEVELS_PER_SIDE:]


class OrderBook:
    """Both sides of one instrument, and the last update id that they include (0: nothing yet)."""

    __slots__ = ("asks", "bids", "last_update_id")

    def __init__(self) -> None:
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.last_update_id = 0

    def apply_snapshot(self, snapshot: DepthSnapshot) -> None:
        self.bids.replace(snapshot.bids)
        self.asks.replace(snapshot.asks)
        self.last_update_id = snapshot.last_update_id

    def apply_update(self, update: DepthUpdate) -> None:
        self.bids.apply(update.bids)
        self.asks.apply(update.asks)
        self.last_update_id = update.last_update_id

    def best(self) -> Best | None:
        """None while either side is empty."""
        bid, ask = self.bids.best(), self.asks.best()
        return None if bid is None or ask is None else Best(*bid, *ask)

    def top(self, count: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Bids and asks, best first, at most count each."""
        return self.bids.top(count), self.asks.top(count)

    def is_crossed(self) -> bool:
        """True when the best bid is at or above the best ask: no venue's book is, so messages were lost."""
        bid, ask = self.bids.best(), self.asks.best()
        return bid is not None and ask is not None and bid[0] >= ask[0]

    def sweep(self, side: Side, quantity: int) -> Sweep:
        """What an order of `side` for quantity would take from the other side, best first."""
        return (self.asks if side is Side.BUY else self.bids).sweep(quantity)

    def digest(self) -> str:
        """Hex SHA-256 over update id and every level: equal books have equal digests."""
        return hashlib.sha256(
            msgspec.json.encode((self.last_update_id, self.bids.top(len(self.bids)), self.asks.top(len(self.asks))))
        ).hexdigest()
