"""A first pass over recordings: which symbols of which product they hold, at which scales, and whose each snapshot is.

No exchange information is needed: an instrument's scales are the most decimal places that its prices and quantities
have anywhere in the files, trailing zeros aside. The price of that is reading each file twice.

A snapshot of spot or USD-M doesn't say its symbol. Where several symbols of a product are recorded together it is
given to the one whose update ids lie nearest at that place, and among equals to the one whose price lies nearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from pathlib import Path

import msgspec

from core.storage import frames
from core.storage.frames import Data, Kind, SnapshotBody
from core.storage.recording import Line, Problems, RecordingError, read_lines
from core.types.clock import format_utc_us
from core.types.instruments import Instrument, Product
from core.types.money import MAX_SCALE

Market = tuple[Product, str]
"""A product and a symbol: one order book."""

MAX_MARKETS = 2_000


class MarketScan(msgspec.Struct):
    """What the files hold of one market. Ids are those of its depth messages."""

    product: Product
    symbol: str
    price_scale: int = 0
    quantity_scale: int = 0
    depth_messages: int = 0
    snapshots: int = 0
    last_update_id: int = 0
    last_price: str = ""

    def instrument(self, venue: str) -> Instrument:
        """An instrument for reading alone: its steps are one unit at the scales, its limits none."""
        return Instrument(
            venue=venue,
            symbol=self.symbol,
            base_asset="",
            quote_asset="",
            price_scale=self.price_scale,
            quantity_scale=self.quantity_scale,
            tick_size=1,
            lot_size=1,
            min_quantity=1,
            max_quantity=2**63 - 1,
            min_notional=0,
            product=self.product,
        )


class FileScan(msgspec.Struct):
    """One file's frames and the range of their receive times."""

    path: Path
    frames: int = 0
    first_ns: int = 0
    last_ns: int = 0


class _OpenSnapshot(msgspec.Struct):
    """A snapshot whose symbol isn't settled: per candidate the distance to its last id before."""

    place: tuple[int, int]
    product_is_futures: bool
    update_id: int
    best_bid: str
    before: dict[Market, int]


class Scan:
    """What is known of a set of files after the first pass."""

    def __init__(self, files: list[FileScan], problems: Problems) -> None:
        self.files = files
        self.problems = problems
        self.markets: dict[Market, MarketScan] = {}
        self.snapshot_markets: dict[tuple[int, int], Market] = {}
        self.products: dict[str, list[Product]] = {}

    @property
    def first_ns(self) -> int:
        return min(file.first_ns for file in self.files)

    @property
    def last_ns(self) -> int:
        return max(file.last_ns for file in self.files)

    def market_of(self, kind: Kind, body: Data) -> Market | None:
        """Whose frame this is. None for a symbol that no readable frame has settled."""
        products = self.products.get(body.s)
        if not products:
            return None
        if len(products) == 1:
            return products[0], body.s
        futures = frames.is_futures(kind, body)
        if futures is None:
            return None
        return frames.product_of(body.s, body.ps, futures), body.s

    def lines(self, problems: Problems | None = None) -> Iterator[Line]:
        """Every line of every file by receive time; files that don't overlap are read one after the other."""
        problems = problems or Problems()
        readers = [read_lines(file.path, problems, index) for index, file in enumerate(self.files)]
        overlap = any(
            after.first_ns < before.last_ns for before, after in zip(self.files, self.files[1:], strict=False)
        )
        if overlap:
            yield from merge(*readers, key=lambda line: line.recv_ns)
            return
        for reader in readers:
            yield from reader


def scan_files(paths: list[Path]) -> Scan:
    """Read the files once. They may be given in any order: that of their first receive times counts.

    Raises RecordingError: no file, an unreadable one, or prices beyond what a scaled int holds.
    """
    if not paths:
        raise RecordingError("no file was named; name one or more recordings")
    problems = Problems()
    found = []
    for path in paths:
        first = next(iter(read_lines(path, Problems())))
        found.append(FileScan(path, first_ns=first.recv_ns))
    found.sort(key=lambda file: file.first_ns)
    scan = Scan(found, problems)
    scanning = _Scanning(scan)
    for index, file in enumerate(found):
        for line in read_lines(file.path, problems, index):
            file.frames += 1
            file.first_ns = min(file.first_ns, line.recv_ns)
            file.last_ns = max(file.last_ns, line.recv_ns)
            scanning.read(line)
    scanning.settle()
    return scan


class _Scanning:
    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._open: list[_OpenSnapshot] = []
        self._first_after: dict[Market, list[tuple[tuple[int, int], int]]] = {}
        self._awaits: set[Market] = set()
        self._places: dict[Market, tuple[str, str]] = {}
        self._unsettled_scales: dict[bool, list[tuple[tuple[int, int], int, int]]] = {}

    def read(self, line: Line) -> None:
        try:
            kind, body = frames.parse(line.payload)
            if body is None:
                return
            if isinstance(body, SnapshotBody):
                self._snapshot(line, body)
            else:
                self._message(line, kind, body)
        except ValueError as error:
            self._scan.problems.add(self._scan.files[line.file].path, line.number, f"unreadable frame: {error}")

    def _message(self, line: Line, kind: Kind, body: Data) -> None:
        futures = frames.is_futures(kind, body)
        if futures is None:
            products = self._scan.products.get(body.s, [])
            if len(products) != 1:
                return
            product = products[0]
        else:
            product = frames.product_of(body.s, body.ps, futures)
        market = self._market(product, body.s)
        if kind is Kind.DEPTH:
            sides = (frames.levels(body.b), frames.levels(body.a))
            for side in sides:
                _widen(market, side)
            key = (product, body.s)
            if key in self._awaits:
                self._awaits.discard(key)
                self._first_after.setdefault(key, []).append(((line.file, line.number), body.U))
            market.depth_messages += 1
            market.last_update_id = body.u
            if sides[0]:
                market.last_price = sides[0][0][0]
        elif kind is Kind.BOOK_TICKER:
            prices = (frames.text(body.b), frames.text(body.a))
            _widen(market, [(prices[0], frames.text(body.B)), (prices[1], frames.text(body.A))])
            market.last_price = prices[0]
        elif body.X != "NA":
            _widen(market, [(frames.text(body.p), frames.text(body.q))])

    def _snapshot(self, line: Line, body: SnapshotBody) -> None:
        futures = bool(body.E or body.symbol)
        place = (line.file, line.number)
        if body.symbol:
            product = frames.product_of(body.symbol, None, True)
            self._settle_one(place, (product, body.symbol), body)
            return
        before = {
            key: market.last_update_id
            for key, market in self._scan.markets.items()
            if (key[0] is not Product.SPOT) == futures and market.depth_messages
        }
        self._awaits.update(key for key in self._scan.markets if (key[0] is not Product.SPOT) == futures)
        price = places = 0
        for side in (body.bids, body.asks):
            for level_price, quantity in side:
                price = max(price, frames.places_of(level_price))
                places = max(places, frames.places_of(quantity))
        self._open.append(
            _OpenSnapshot(place, futures, body.lastUpdateId, body.bids[0][0] if body.bids else "0", before)
        )
        self._unsettled_scales.setdefault(futures, []).append((place, price, places))

    def _settle_one(self, place: tuple[int, int], key: Market, body: SnapshotBody) -> None:
        market = self._market(*key)
        for side in (body.bids, body.asks):
            _widen(market, side)
        market.snapshots += 1
        self._scan.snapshot_markets[place] = key

    def settle(self) -> None:
        scales = {
            place: (price, quantity) for found in self._unsettled_scales.values() for place, price, quantity in found
        }
        for snapshot in self._open:
            candidates = [
                key
                for key, market in self._scan.markets.items()
                if (key[0] is not Product.SPOT) == snapshot.product_is_futures and market.depth_messages
            ]
            if not candidates:
                continue
            key = min(candidates, key=lambda market: self._distance(snapshot, market))
            market = self._scan.markets[key]
            market.snapshots += 1
            price, quantity = scales[snapshot.place]
            market.price_scale = max(market.price_scale, price)
            market.quantity_scale = max(market.quantity_scale, quantity)
            self._scan.snapshot_markets[snapshot.place] = key
        for market in self._scan.markets.values():
            _check_scales(market)

    def _distance(self, snapshot: _OpenSnapshot, key: Market) -> tuple[int, float]:
        """How far the snapshot's id lies from the market's ids at that place, then how far its price."""
        ids = [snapshot.before[key]] if key in snapshot.before else []
        ids += [first for place, first in self._first_after.get(key, []) if place > snapshot.place][:1]
        outside = min((abs(snapshot.update_id - known) for known in ids), default=2**62)
        if len(ids) == 2 and ids[0] - 1 <= snapshot.update_id <= ids[1]:
            outside = 0
        price, last = float(snapshot.best_bid), float(self._scan.markets[key].last_price or 0)
        return outside, abs(price - last) / (price or 1.0)

    def _market(self, product: Product, symbol: str) -> MarketScan:
        key = (product, symbol)
        market = self._scan.markets.get(key)
        if market is None:
            if len(self._scan.markets) >= MAX_MARKETS:
                raise RecordingError(f"more than {MAX_MARKETS} symbols in one replay; replay fewer files together")
            market = self._scan.markets[key] = MarketScan(product, symbol)
            self._scan.products.setdefault(symbol, []).append(product)
            # Its first depth message may settle whose a snapshot before it was.
            self._awaits.add(key)
        return market


def _widen(market: MarketScan, levels: list[tuple[str, str]]) -> None:
    price_scale, quantity_scale = market.price_scale, market.quantity_scale
    for price, quantity in levels:
        if (places := frames.places_of(price)) > price_scale:
            price_scale = places
        if (places := frames.places_of(quantity)) > quantity_scale:
            quantity_scale = places
    market.price_scale, market.quantity_scale = price_scale, quantity_scale


def _check_scales(market: MarketScan) -> None:
    if max(market.price_scale, market.quantity_scale) > MAX_SCALE:
        raise RecordingError(
            f"{market.symbol}: prices with {market.price_scale} and quantities with {market.quantity_scale} decimal "
            f"places; at most {MAX_SCALE} can be held. Check the recording"
        )


def describe_range(first_ns: int, last_ns: int) -> str:
    """The range of receive times, for people."""
    return f"{format_utc_us(first_ns)[:19]}Z to {format_utc_us(last_ns)[:19]}Z"
