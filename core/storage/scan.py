"""A first pass over recordings: which symbols of which product they hold, at which scales, and whose each snapshot is.

No exchange information is needed: an instrument's scales are the most decimal places that its prices and quantities
have anywhere in the files, trailing zeros aside. The price of that is reading each file twice.

A snapshot of spot or USD-M doesn't say its symbol. Where several symbols are recorded together it is given to the one
whose depth messages had just stated the same levels; where none had, to the one whose price and update ids lie nearest.
Ids alone don't tell: futures number the updates of all symbols together.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from pathlib import Path

import msgspec

from core.storage import frames
from core.storage.frames import Data, Kind, SnapshotBody, Texts
from core.storage.recording import Line, Problems, RecordingError, read_lines
from core.types.clock import format_utc_us
from core.types.instruments import Instrument, Product
from core.types.money import MAX_SCALE

Market = tuple[Product, str]
"""A product and a symbol: one order book."""

MAX_MARKETS = 2_000
EVIDENCE_LEVELS = 128
"""Levels kept of each market, as last stated, to recognise its snapshots by."""
EVIDENCE_MESSAGES = 100
"""A market that is alone after so many messages needs none."""
EVIDENCE_PER_SIDE = 4
"""Taken from either end of a message's side: one of them is near the market."""
FAR_SHARE = 0.1
"""A snapshot whose best bid is farther than this from a market's price is hardly that market's."""
FAR_UPDATES = 10**6
"""Nor one whose update id is farther than this from the market's: minutes of the busiest."""


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


class _Candidate(msgspec.Struct, frozen=True):
    """A market when a snapshot came. evidence: 0 its last messages stated the same levels, 1 unknown, 2 others."""

    last_update_id: int
    price: str
    evidence: int


class _OpenSnapshot(msgspec.Struct):
    """A snapshot whose symbol isn't settled, with the markets that were known when it came."""

    place: tuple[int, int]
    symbol: str
    is_futures: bool
    update_id: int
    best_bid: str
    price_scale: int
    quantity_scale: int
    before: dict[Market, _Candidate]


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
        self._first_after: dict[Market, list[tuple[tuple[int, int], int, str]]] = {}
        self._awaits: set[Market] = set()
        self._stated: dict[Market, dict[tuple[bool, int], tuple[int, int]]] = {}

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
                price = sides[0][0][0] if sides[0] else market.last_price
                self._first_after.setdefault(key, []).append(((line.file, line.number), body.U, price))
            market.depth_messages += 1
            market.last_update_id = body.u
            if len(self._scan.markets) > 1 or market.depth_messages <= EVIDENCE_MESSAGES:
                self._note(key, body.u, sides)
            if sides[0]:
                market.last_price = sides[0][0][0]
        elif kind is Kind.BOOK_TICKER:
            prices = (frames.text(body.b), frames.text(body.a))
            _widen(market, [(prices[0], frames.text(body.B)), (prices[1], frames.text(body.A))])
            market.last_price = prices[0]
            if len(self._scan.markets) > 1:
                sizes = frames.text(body.B), frames.text(body.A)
                self._note((product, body.s), body.u, ([(prices[0], sizes[0])], [(prices[1], sizes[1])]))
        elif body.X != "NA":
            _widen(market, [(frames.text(body.p), frames.text(body.q))])

    def _note(self, key: Market, update_id: int, sides: tuple[Texts, Texts]) -> None:
        """Keep some of the levels that a message states, to tell the markets of a recording apart."""
        stated = self._stated.setdefault(key, {})
        for is_bid, side in zip((True, False), sides, strict=True):
            few = side if len(side) <= 2 * EVIDENCE_PER_SIDE else side[:EVIDENCE_PER_SIDE] + side[-EVIDENCE_PER_SIDE:]
            for price, quantity in few:
                level = is_bid, frames.scaled(price, MAX_SCALE)
                known = stated.pop(level, None)
                value = update_id, frames.scaled(quantity, MAX_SCALE)
                stated[level] = value if known is None or known[0] <= update_id else known
        while len(stated) > EVIDENCE_LEVELS:
            del stated[next(iter(stated))]

    def _snapshot(self, line: Line, body: SnapshotBody) -> None:
        before = {
            key: _Candidate(market.last_update_id, market.last_price, self._evidence(key, body))
            for key, market in self._scan.markets.items()
            if market.depth_messages and not (body.symbol and body.symbol != key[1])
        }
        self._awaits.update(self._scan.markets)
        price = places = 0
        for side in (body.bids, body.asks):
            for level_price, quantity in side:
                price = max(price, frames.places_of(level_price))
                places = max(places, frames.places_of(quantity))
        self._open.append(
            _OpenSnapshot(
                place=(line.file, line.number),
                symbol=body.symbol,
                is_futures=bool(body.E or body.symbol),
                update_id=body.lastUpdateId,
                best_bid=body.bids[0][0] if body.bids else "0",
                price_scale=price,
                quantity_scale=places,
                before=before,
            )
        )

    def _evidence(self, key: Market, body: SnapshotBody) -> int:
        """What the market's last messages say of the levels that the snapshot covers."""
        agree = differ = 0
        held = {}
        for is_bid, side in ((True, body.bids), (False, body.asks)):
            levels = {frames.scaled(price, MAX_SCALE): frames.scaled(size, MAX_SCALE) for price, size in side}
            held[is_bid] = levels, (min if is_bid else max)(levels, default=0)
        for (is_bid, price), (update_id, quantity) in self._stated.get(key, {}).items():
            levels, last = held[is_bid]
            if update_id > body.lastUpdateId or not levels or (price < last if is_bid else price > last):
                continue
            if levels.get(price, 0) == quantity:
                # That both have nothing at a price says little.
                agree += quantity > 0
            else:
                differ += 1
        return 1 if agree == differ else 2 if differ > agree else 0

    def settle(self) -> None:
        # Those that are recognised come first: what is left is shared out among the markets that have none.
        for snapshot in sorted(self._open, key=_best_evidence):
            key = self._market_of(snapshot)
            if key is None:
                continue
            market = self._scan.markets[key]
            market.snapshots += 1
            market.price_scale = max(market.price_scale, snapshot.price_scale)
            market.quantity_scale = max(market.quantity_scale, snapshot.quantity_scale)
            self._scan.snapshot_markets[snapshot.place] = key
        for market in self._scan.markets.values():
            _check_scales(market)

    def _market_of(self, snapshot: _OpenSnapshot) -> Market | None:
        books = [key for key, market in self._scan.markets.items() if market.depth_messages]
        if snapshot.symbol:
            books = [key for key in books if key[1] == snapshot.symbol]
        # A snapshot without the times that futures state is spot's, where there is any spot.
        alike = [key for key in books if (key[0] is not Product.SPOT) == snapshot.is_futures]
        return min(alike or books, key=lambda key: self._unlikeliness(snapshot, key), default=None)

    def _unlikeliness(self, snapshot: _OpenSnapshot, key: Market) -> tuple[int, bool, int, bool, int, int, float]:
        """What the levels say, whether the price or the ids are another's, whether it joins the messages around it, the
        snapshots that the market has, then how far ids and price lie."""
        before = snapshot.before.get(key)
        after = next((found for found in self._first_after.get(key, []) if found[0] > snapshot.place), None)
        ids = [*([before.last_update_id] if before else []), *([after[1]] if after else [])]
        outside = min((abs(snapshot.update_id - known) for known in ids), default=2**62)
        if len(ids) == 2 and ids[0] - 1 <= snapshot.update_id <= ids[1]:
            outside = 0
        known_price = before.price if before and before.price else after[2] if after else ""
        price = float(snapshot.best_bid)
        share = abs(price - float(known_price or 0)) / (price or 1.0)
        evidence = before.evidence if before else 1
        known = self._scan.markets[key].snapshots
        return evidence, share > FAR_SHARE, outside // FAR_UPDATES, outside > 0, known, outside, share

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


def _best_evidence(snapshot: _OpenSnapshot) -> int:
    return min((candidate.evidence for candidate in snapshot.before.values()), default=1)


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
