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

from core.types.market import DepthSnapshotLike, DepthUpdateLike, Level

MAX_LEVELS_PER_SIDE = 20_000
"""Beyond this the levels farthest from the market are forgotten, and the known range ends there: a venue's dust must
not fill the memory."""
DIGEST_TAG = b"veloz.book/1\0"


class BookSide:
    """Price levels of one side, held ascending by key; bids use the negated price, so that the best comes first."""

    __slots__ = ("_keys", "_last_known_key", "_quantities", "_sign")

    def __init__(self, sign: int) -> None:
        self._sign = sign
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
        if len(keys) > MAX_LEVELS_PER_SIDE:
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
            if remaining <= 0:
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
            taken = available if price <= 0 else min(available, (notional - spent) // price)
            if taken <= 0:
                break
            worst = price
            filled += taken
            spent += taken * price
            levels += 1
            if taken < available:
                break
        return filled, spent, worst, levels

    def _prune(self) -> None:
        if len(self._keys) <= MAX_LEVELS_PER_SIDE:
            return
        for key in self._keys[MAX_LEVELS_PER_SIDE:]:
            del self._quantities[key]
        del self._keys[MAX_LEVELS_PER_SIDE:]
        self._last_known_key = self._keys[-1]


class OrderBook:
    """Both sides of one instrument, and the last update id that they include (0: nothing yet)."""

    __slots__ = ("_asks", "_bids", "last_update_id")

    def __init__(self) -> None:
        self._bids = BookSide(-1)
        self._asks = BookSide(1)
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
        """Replace everything."""
        self._bids.replace(snapshot.bids, is_complete=snapshot.is_complete)
        self._asks.replace(snapshot.asks, is_complete=snapshot.is_complete)
        self.last_update_id = snapshot.last_update_id

    def apply_update(self, update: DepthUpdateLike) -> None:
        """Set the quantities of the levels that changed; zero removes a level."""
        self._bids.apply(update.bids)
        self._asks.apply(update.asks)
        self.last_update_id = update.last_update_id

    def best(self) -> tuple[int, int, int, int] | None:
        """Bid price, bid quantity, ask price, ask quantity; None while either side is empty."""
        bid, ask = self._bids.best(), self._asks.best()
        return None if bid is None or ask is None else (*bid, *ask)

    def best_bid(self) -> Level | None:
        return self._bids.best()

    def best_ask(self) -> Level | None:
        return self._asks.best()

    def top(self, count: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Bids and asks, best first, at most count each."""
        return self._bids.top(count), self._asks.top(count)

    def level_counts(self) -> tuple[int, int]:
        """Levels of bids and of asks."""
        return len(self._bids), len(self._asks)

    def is_crossed(self) -> bool:
        """True when the best bid is at or above the best ask: no venue's book is, so messages were lost."""
        bid, ask = self._bids.best(), self._asks.best()
        return bid is not None and ask is not None and bid[0] >= ask[0]

    def sweep(self, is_buy: bool, quantity: int) -> tuple[int, int, int | None, int]:
        """What an order for quantity would take from the other side: filled, notional, worst price, levels."""
        return (self._asks if is_buy else self._bids).sweep(quantity)

    def sweep_notional(self, is_buy: bool, notional: int) -> tuple[int, int, int | None, int]:
        """The largest quantity whose notional is at most `notional`: filled, notional, worst price, levels."""
        return (self._asks if is_buy else self._bids).sweep_notional(notional)

    def imbalance(self, levels: int) -> tuple[int, int]:
        """Quantity of the best `levels` bids and of the best `levels` asks."""
        bids, asks = self.top(levels)
        return sum(quantity for _, quantity in bids), sum(quantity for _, quantity in asks)

    def canonical_bytes(self) -> bytes:
        """Tag, update id, and per side its number of levels and each price and quantity, best first; little-endian
        64-bit."""
        bids, asks = self.top(MAX_LEVELS_PER_SIDE)
        numbers = [self.last_update_id]
        for side in (bids, asks):
            numbers.append(len(side))
            for level in side:
                numbers.extend(level)
        return DIGEST_TAG + struct.pack(f"<{len(numbers)}q", *numbers)

    def digest(self) -> str:
        """Hex SHA-256 of canonical_bytes: equal books have equal digests."""
        return hashlib.sha256(self.canonical_bytes()).hexdigest()
