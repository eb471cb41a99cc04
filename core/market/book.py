"""A plain Python order book of one instrument: the oracle that the native `core._native.OrderBook` is held against.

Prices and quantities are ints at the instrument's scales. The book knows nothing of sequences or time: core.market.sync
decides what may be applied to it.

After a snapshot that was cut at a number of levels the book knows a range of prices only, from bid_floor to
ask_ceiling: updates outside of it are left out, and nothing outside is ever shown, swept or digested
(docs/decisions/0006).
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.types.market import DepthSnapshotLike, DepthUpdateLike, Level

MAX_LEVELS_PER_SIDE = 20_000
"""Beyond this the levels farthest from the market are forgotten, and the known range ends there: a venue's dust must
not fill the memory."""
MAX_INT = 2**63 - 1
"""The largest price, quantity and update id."""
MAX_NOTIONAL = 2**127 - 1
DIGEST_TAG = b"veloz.book/1\0"


class BookSide:
    """Price levels of one side, held ascending by key; bids use the negated price, so that the best comes first."""

    __slots__ = ("_keys", "_last_known_key", "_max_levels", "_quantities", "_sign")

    def __init__(self, sign: int, max_levels: int) -> None:
        self._sign = sign
        self._max_levels = max_levels
        self._keys: list[int] = []
        self._quantities: dict[int, int] = {}
        self._last_known_key: int | None = None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def last_known_price(self) -> int | None:
        """The price beyond which nothing is known; None when the whole side is."""
        return None if self._last_known_key is None else self._last_known_key * self._sign

    def replace(self, levels: Iterable[Level], *, is_complete: bool) -> None:
        given = {price * self._sign: quantity for price, quantity in levels}
        self._quantities = {key: quantity for key, quantity in given.items() if quantity}
        self._keys = sorted(self._quantities)
        self._last_known_key = None if is_complete or not self._keys else self._keys[-1]
        self._prune()

    def apply(self, levels: Sequence[Level]) -> None:
        quantities, keys, sign, last_known_key = self._quantities, self._keys, self._sign, self._last_known_key
        for price, quantity in levels:
            key = price * sign
            if last_known_key is not None and key > last_known_key:
                continue
            if quantity:
                if key not in quantities:
                    insort(keys, key)
                quantities[key] = quantity
            elif quantities.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]
        self._prune()

    def best(self) -> Level | None:
        if not self._keys:
            return None
        key = self._keys[0]
        return key * self._sign, self._quantities[key]

    def top(self, count: int) -> tuple[Level, ...]:
        return tuple([(key * self._sign, self._quantities[key]) for key in self._keys[:count]])

    def sweep(self, quantity: int) -> tuple[int, int, int | None, int]:
        remaining, notional, levels = quantity, 0, 0
        worst: int | None = None
        for key in self._keys:
            if not remaining:
                break
            worst = key * self._sign
            taken = min(remaining, self._quantities[key])
            notional += taken * worst
            remaining -= taken
            levels += 1
        return quantity - remaining, notional, worst, levels

    def sweep_notional(self, notional: int) -> tuple[int, int, int | None, int]:
        filled, spent, levels = 0, 0, 0
        worst: int | None = None
        for key in self._keys:
            price, available = key * self._sign, self._quantities[key]
            taken = min(available, (notional - spent) // price)
            if not taken:
                break
            worst = price
            filled += taken
            spent += taken * price
            levels += 1
            if taken < available:
                break
        return filled, spent, worst, levels

    def _prune(self) -> None:
        if len(self._keys) <= self._max_levels:
            return
        for key in self._keys[self._max_levels :]:
            del self._quantities[key]
        del self._keys[self._max_levels :]
        self._last_known_key = self._keys[-1]


class OrderBook:
    """Both sides of one instrument, and the last update id that they include (0: nothing yet)."""

    __slots__ = ("_asks", "_bids", "last_update_id")

    def __init__(self, max_levels_per_side: int = MAX_LEVELS_PER_SIDE) -> None:
        if max_levels_per_side < 1:
            raise ValueError("max_levels_per_side must be at least 1")
        self._bids = BookSide(-1, max_levels_per_side)
        self._asks = BookSide(1, max_levels_per_side)
        self.last_update_id = 0

    @property
    def bid_floor(self) -> int | None:
        """The lowest bid price of which anything is known; None when all are."""
        return self._bids.last_known_price

    @property
    def ask_ceiling(self) -> int | None:
        """The highest ask price of which anything is known; None when all are."""
        return self._asks.last_known_price

    def apply_snapshot(self, snapshot: DepthSnapshotLike) -> None:
        """Hold these levels and no others.

        Raises TypeError or ValueError for levels that are none, before anything changes.
        """
        bids, asks, update_id = _checked(snapshot)
        is_complete = snapshot.is_complete
        if not isinstance(is_complete, bool):
            raise TypeError(f"is_complete must be a bool, not {type(is_complete).__name__}")
        self._bids.replace(bids, is_complete=is_complete)
        self._asks.replace(asks, is_complete=is_complete)
        self.last_update_id = update_id

    def apply_update(self, update: DepthUpdateLike) -> None:
        """Set the quantities of these levels; zero removes.

        Raises TypeError or ValueError for levels that are none, before anything changes.
        """
        bids, asks, update_id = _checked(update)
        self._bids.apply(bids)
        self._asks.apply(asks)
        self.last_update_id = update_id

    def best(self) -> tuple[int, int, int, int] | None:
        """Bid price, bid quantity, ask price, ask quantity; None while either side is empty."""
        bid, ask = self._bids.best(), self._asks.best()
        return None if bid is None or ask is None else (*bid, *ask)

    def best_bid(self) -> Level | None:
        return self._bids.best()

    def best_ask(self) -> Level | None:
        return self._asks.best()

    def top(self, count: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Bids and asks as (price, quantity), best first, at most count each."""
        _check(count, "a number of levels", 0, MAX_INT)
        return self._bids.top(count), self._asks.top(count)

    def top_arrays(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bids and asks as read-only (n, 2) arrays of price and quantity, best first, at most count each."""
        bids, asks = (np.array(side, dtype=np.int64).reshape(-1, 2) for side in self.top(count))
        bids.flags.writeable = asks.flags.writeable = False
        return bids, asks

    def level_counts(self) -> tuple[int, int]:
        """Levels of bids and of asks."""
        return len(self._bids), len(self._asks)

    def is_crossed(self) -> bool:
        """True when the best bid is at or above the best ask: no venue's book is, so messages were lost."""
        bid, ask = self._bids.best(), self._asks.best()
        return bid is not None and ask is not None and bid[0] >= ask[0]

    def sweep(self, is_buy: bool, quantity: int) -> tuple[int, int, int | None, int]:
        """What an order for quantity would take from the other side: filled, notional, worst price, levels.

        filled below quantity means that the book ran out; the worst price is None when nothing was filled. Raises
        ValueError for a negative quantity.
        """
        _check(quantity, "a quantity", 0, MAX_INT)
        return (self._asks if is_buy else self._bids).sweep(quantity)

    def sweep_notional(self, is_buy: bool, notional: int) -> tuple[int, int, int | None, int]:
        """As sweep, for the largest quantity whose notional (price x quantity) is at most `notional`."""
        _check(notional, "a notional", 0, MAX_NOTIONAL)
        return (self._asks if is_buy else self._bids).sweep_notional(notional)

    def imbalance(self, levels: int) -> tuple[int, int]:
        """Quantity of the best `levels` bids and of the best `levels` asks."""
        bids, asks = self.top(levels)
        return sum(quantity for _, quantity in bids), sum(quantity for _, quantity in asks)

    def microprice(self) -> tuple[int, int] | None:
        """Best bid and offer, each weighted with the other's quantity: (numerator, denominator), at the price's scale.

        Exact; None while either side is empty.
        """
        best = self.best()
        if best is None:
            return None
        bid_price, bid_quantity, ask_price, ask_quantity = best
        return bid_price * ask_quantity + ask_price * bid_quantity, bid_quantity + ask_quantity

    def canonical_bytes(self) -> bytes:
        """Tag, update id, and per side its number of levels and each price and quantity, best first; little-endian
        64-bit."""
        bids, asks = self.top(MAX_INT)
        numbers = [self.last_update_id]
        for side in (bids, asks):
            numbers.append(len(side))
            for level in side:
                numbers.extend(level)
        return DIGEST_TAG + struct.pack(f"<{len(numbers)}q", *numbers)

    def digest(self) -> str:
        """Hex SHA-256 of canonical_bytes: equal books have equal digests."""
        return hashlib.sha256(self.canonical_bytes()).hexdigest()


def _checked(message: DepthSnapshotLike | DepthUpdateLike) -> tuple[list[Level], list[Level], int]:
    bids = [_checked_level(level) for level in message.bids]
    asks = [_checked_level(level) for level in message.asks]
    _check(message.last_update_id, "last_update_id", 0, MAX_INT)
    return bids, asks, message.last_update_id


def _checked_level(level: Level) -> Level:
    if not isinstance(level, tuple | list) or len(level) != 2:
        raise TypeError(f"a level must be (price, quantity), not {level!r}")
    price, quantity = level
    _check(price, "a level's price", 1, MAX_INT)
    _check(quantity, "a level's quantity", 0, MAX_INT)
    return price, quantity


def _check(value: int, what: str, lowest: int, highest: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not lowest <= value <= highest:
        raise ValueError(f"{what} must be from {lowest} to {highest}, not {value}")
