"""The venue's book, rebuilt from untouched frames with plain lists and dicts: the truth that a replay is held to, and
the REST interface that it asks for snapshots.

It shares no code with the decoder, the book and the sync that it judges. What a recording can't tell is told apart from
what it contradicts: a snapshot covers a range of prices, and beyond it only levels that an update has named are known.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from functools import cache
from itertools import islice

import msgspec

from core.storage import frames
from core.storage.frames import Data, SnapshotBody

VENUE_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1_000, 5_000})
"""Depth limits that the venue's REST interface takes; a snapshot with so many levels on a side was cut there."""
LARGEST_UNCUT = 1_000
NUMBERS_KEPT = 1 << 16
RECENT_UPDATES = 5_000
"""Kept to join a snapshot that is older than the stream: minutes of it."""

Best = tuple[int, int, int, int]
"""Bid price, bid quantity, ask price, ask quantity."""
Levels = list[tuple[int, int]]


class Update(msgspec.Struct, frozen=True, gc=False):
    """An untouched depth message. previous is None for spot."""

    first: int
    last: int
    previous: int | None
    bids: Levels
    asks: Levels
    place: tuple[int, int]


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """An untouched inline snapshot. limit: at how many levels it was cut; one more than it has when it wasn't."""

    update_id: int
    bids: Levels
    asks: Levels
    limit: int

    @property
    def is_complete(self) -> bool:
        return max(len(self.bids), len(self.asks)) < self.limit


Operation = Update | Snapshot


class _Side:
    """One side; keys ascend from the best price (bids negated).

    known_to: the last price that a snapshot covered. named: prices beyond it that an update has stated, and the id of
    the first that did. revealed: what only a later snapshot has told of, and no update since: who took a snapshot from
    here before couldn't know of it.
    """

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.quantities: dict[int, int] = {}
        self.known_to: int | None = None
        self.named: dict[int, int] = {}
        self.revealed: set[int] = set()

    def apply(self, levels: Levels, update_id: int) -> None:
        """Set the quantities of these prices; zero removes."""
        sign, known_to, quantities, keys, revealed = self.sign, self.known_to, self.quantities, self.keys, self.revealed
        for price, quantity in levels:
            key = price * sign
            if known_to is not None and key > known_to:
                self.named.setdefault(key, update_id)
            if revealed:
                revealed.discard(key)
            if quantity:
                if key not in quantities:
                    insort(keys, key)
                quantities[key] = quantity
            elif quantities.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]

    def load(self, levels: Levels, is_complete: bool, keep_beyond: bool) -> None:
        """Take a snapshot's levels; keep_beyond: what is known farther out is still true."""
        last = max((price * self.sign for price, _ in levels), default=None)
        beyond = {}
        if keep_beyond and not is_complete and last is not None:
            beyond = {key: quantity for key, quantity in self.quantities.items() if key > last}
        was_known_to, named, revealed = self.known_to, self.named, self.revealed
        stated = {price * self.sign for price, _ in levels}
        self.revealed = set()
        if keep_beyond and was_known_to is not None:
            self.revealed = revealed | {key for key in stated if key > was_known_to and key not in named}
        self.quantities = {price * self.sign: quantity for price, quantity in levels if quantity} | beyond
        self.keys = sorted(self.quantities)
        self.named = {}
        self.known_to = None if is_complete else last
        if keep_beyond and last is not None and not is_complete:
            if was_known_to is None:
                self.known_to = None
            else:
                self.known_to = max(last, was_known_to)
                self.named = {key: first for key, first in named.items() if key > self.known_to}

    def best(self) -> tuple[int, int] | None:
        return (self.keys[0] * self.sign, self.quantities[self.keys[0]]) if self.keys else None

    def top(self, count: int) -> Levels:
        return [(key * self.sign, self.quantities[key]) for key in self.keys[:count]]

    def top_served(self, count: int, served: Sequence[tuple[int, int]]) -> Levels:
        """The best levels, without revealed ones that weren't served."""
        if not self.revealed:
            return self.top(count)
        prices = {price for price, _ in served}
        keys = (key for key in self.keys if key not in self.revealed or key * self.sign in prices)
        return [(key * self.sign, self.quantities[key]) for key in islice(keys, count)]

    def knows(self, price: int, update_id: int) -> bool:
        """Whether by this update anything had told what stands at the price."""
        key = price * self.sign
        if key in self.revealed:
            return False
        return self.known_to is None or key <= self.known_to or self.named.get(key, update_id + 1) <= update_id


class TruthBook:
    """The book after every untouched operation so far. is_known: false before the first snapshot, and from a hole in
    the recording until the next one."""

    def __init__(self) -> None:
        self.bids, self.asks = _Side(-1), _Side(1)
        self.last_update_id = 0
        self.is_known = False
        self.is_complete = False
        self.hole: Update | None = None
        self._joined = False
        self._waiting: Snapshot | None = None
        self._recent: deque[Update] = deque(maxlen=RECENT_UPDATES)

    def apply(self, operation: Operation) -> None:
        if isinstance(operation, Snapshot):
            self._snapshot(operation)
            return
        waiting = self._waiting
        if waiting is not None and operation.last > waiting.update_id:
            self._waiting = None
            # Through a hole in the stream nothing that was known before is still known.
            self.is_known = self.is_known and _follows(operation, self.last_update_id, not self._joined)
            self._load(waiting)
        self._recent.append(operation)
        if self.is_known:
            self._update(operation)
        elif self.hole is not None and self._fills_hole(operation):
            self.is_known = True
            for update in sorted(self._recent, key=lambda update: update.last):
                self._update(update)
                if not self.is_known:
                    break

    def start(self, snapshot: Snapshot) -> list[Update]:
        """Take a snapshot while nothing is known; what came before it and isn't part of it is given back, in order."""
        assert not self.is_known
        later = [update for update in self._recent if update.last > snapshot.update_id]
        for _ in later:
            self._recent.pop()
        self._load(snapshot)
        return later

    def best(self) -> Best | None:
        bid, ask = self.bids.best(), self.asks.best()
        return None if bid is None or ask is None else (*bid, *ask)

    def explains(self, best: Best, update_id: int) -> bool:
        """Whether what was known by this update would show these as best bid and offer: if not, the recording can't
        say."""
        return self.bids.knows(best[0], update_id) and self.asks.knows(best[2], update_id)

    def _snapshot(self, snapshot: Snapshot) -> None:
        if self.is_known and snapshot.update_id > self.last_update_id:
            self._waiting = snapshot
        else:
            self._load(snapshot)

    def _load(self, snapshot: Snapshot) -> None:
        later = [update for update in self._recent if update.last > snapshot.update_id]
        if later and self.is_known and not _follows(later[0], snapshot.update_id, True):
            return
        keep = self.is_known
        self.bids.load(snapshot.bids, snapshot.is_complete, keep)
        self.asks.load(snapshot.asks, snapshot.is_complete, keep)
        self.is_complete = snapshot.is_complete or (keep and self.is_complete)
        self.last_update_id = snapshot.update_id
        self.is_known, self._joined = True, False
        for update in later:
            self._update(update)

    def _fills_hole(self, update: Update) -> bool:
        """A message that was missing has come after all, later than those that follow it."""
        return update.last > self.last_update_id and _follows(update, self.last_update_id, not self._joined)

    def _update(self, update: Update) -> None:
        if update.last <= self.last_update_id:
            return
        if not _follows(update, self.last_update_id, not self._joined):
            self.is_known = False
            self.hole = update
            return
        self._joined = True
        self.bids.apply(update.bids, update.last)
        self.asks.apply(update.asks, update.last)
        self.last_update_id = update.last


def _follows(update: Update, last_update_id: int, is_join: bool) -> bool:
    """Spot: U <= last + 1, as quantities are absolute. Futures: pu = last, or before it after a snapshot."""
    if update.previous is not None:
        return update.previous <= last_update_id if is_join else update.previous == last_update_id
    return update.first <= last_update_id + 1


class LaggingTruth:
    """A second truth that follows the book under test: advanced to exactly the update id that is to be compared."""

    def __init__(self) -> None:
        self.book = TruthBook()
        self._operations: deque[Operation] = deque()

    def add(self, operation: Operation) -> None:
        operations = self._operations
        if len(operations) >= RECENT_UPDATES:
            self.book.apply(operations.popleft())
        place = len(operations)
        # Where it belongs by its id: a book that joins a snapshot may be behind what was recorded before it arrived,
        # and a recording may have messages out of their order.
        while place and _end(operations[place - 1]) > _end(operation):
            place -= 1
        operations.insert(place, operation)

    def reaches(self, update_id: int) -> bool:
        """Whether the truth could be brought to this update id."""
        operations = self._operations
        while operations:
            following = operations[0]
            if isinstance(following, Update) and self.book.last_update_id >= update_id and self.book.is_known:
                break
            operations.popleft()
            if isinstance(following, Snapshot) and not self.book.is_known:
                # The book under test may not have heard yet of what the recording had before the snapshot came.
                operations.extendleft(reversed(self.book.start(following)))
            else:
                self.book.apply(following)
        return self.book.is_known and self.book.last_update_id == update_id


def _end(operation: Operation) -> int:
    return operation.last if isinstance(operation, Update) else operation.update_id


def read_update(data: Data, price_scale: int, quantity_scale: int, shift: int, place: tuple[int, int]) -> Update:
    """Raises ValueError."""
    return Update(
        data.U + shift,
        data.u + shift,
        None if data.pu is None else data.pu + shift,
        _scaled(frames.levels(data.b), price_scale, quantity_scale),
        _scaled(frames.levels(data.a), price_scale, quantity_scale),
        place,
    )


def read_snapshot(body: SnapshotBody, price_scale: int, quantity_scale: int, shift: int) -> Snapshot:
    """Raises ValueError."""
    bids = _scaled(body.bids, price_scale, quantity_scale)
    asks = _scaled(body.asks, price_scale, quantity_scale)
    longest = max(len(bids), len(asks))
    is_cut = longest in VENUE_LIMITS or longest > LARGEST_UNCUT
    return Snapshot(body.lastUpdateId + shift, bids, asks, longest if is_cut else longest + 1)


def rest_body(book: TruthBook, limit_levels: int, price_scale: int, quantity_scale: int) -> tuple[bytes, int]:
    """What the venue's depth endpoint would answer, and the limit to read it with: a recording that holds fewer levels
    than the venue had is never taken for the whole book."""
    bids, asks = book.bids.top(limit_levels), book.asks.top(limit_levels)
    body = {
        "lastUpdateId": book.last_update_id,
        "bids": [[_text(price, price_scale), _text(quantity, quantity_scale)] for price, quantity in bids],
        "asks": [[_text(price, price_scale), _text(quantity, quantity_scale)] for price, quantity in asks],
    }
    limit = limit_levels if book.is_complete else max(len(bids), len(asks), 1)
    return json.dumps(body, separators=(",", ":")).encode(), limit


def _scaled(texts: frames.Texts, price_scale: int, quantity_scale: int) -> Levels:
    prices, quantities = _numbers_at(price_scale), _numbers_at(quantity_scale)
    return [(prices[price], quantities[quantity]) for price, quantity in texts]


class _Numbers(dict[str, int]):
    """Texts that were read before, at one scale: most of a recording's numbers have been."""

    def __init__(self, scale: int) -> None:
        self._scale = scale

    def __missing__(self, text: str) -> int:
        if len(self) >= NUMBERS_KEPT:
            self.clear()
        value = self[text] = frames.scaled(text, self._scale)
        return value


@cache
def _numbers_at(scale: int) -> _Numbers:
    return _Numbers(scale)


def _text(value: int, scale: int) -> str:
    if not scale:
        return str(value)
    digits = str(value).rjust(scale + 1, "0")
    return f"{digits[:-scale]}.{digits[-scale:]}"
