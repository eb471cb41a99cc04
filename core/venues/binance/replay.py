"""Recorded frames through the engine's live path, under the recording's own clock, held to a truth of plain code.

Each line's receive time moves the clock; frames go through `FrameReader` and `dispatch` into a `MarketHub` as in the
live feed, the hub's clock ticks as often as there, and the snapshots that it asks for are answered after a latency
with the venue's book as it was halfway: rebuilt from the untouched frames. Faults touch WebSocket frames alone. Inline
snapshots arrive where they were recorded.

Products are recognised by the frames and kept apart: one hub each. A pass after the first repeats the files with ids
and times moved on, as a connection that was closed and opened anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from pathlib import Path
from typing import NamedTuple

import msgspec

from core.market.hub import MarketHub
from core.market.sync import BookState, RequestSnapshot, StaleReason, StateChanged, SyncOutput
from core.storage import frames
from core.storage.frames import Data, Kind, SnapshotBody
from core.storage.recording import Line, RecordingError
from core.storage.scan import MarketScan, Scan, scan_files
from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.types.instruments import Product
from core.types.market import BookTicker, Trade
from core.venues.binance.frames import FrameError, FrameReader, dispatch
from core.venues.binance.replay_checks import BookChecks, Figures
from core.venues.binance.replay_faults import FaultRates, Faults
from core.venues.binance.replay_truth import TruthBook, read_snapshot, read_update, rest_body

PASS_SHIFT = 10**12
"""Update and trade ids of pass k are the recorded ones plus k times this."""
PASS_PAUSE_NS = 100 * NS_PER_MS
TICK_NS = 100 * NS_PER_MS
"""As often as the live feed lets the clock speak."""
LONGEST_TICKED_NS = 120 * NS_PER_S
"""Of a longer pause in a recording only the first part is ticked: after it nothing changes by time alone."""
DEFAULT_STALE_AFTER_MS = 2_000
DEFAULT_SNAPSHOT_LATENCY_MS = 50
DEFAULT_SNAPSHOT_LEVELS = 1_000
MAX_SNAPSHOT_LEVELS = 5_000
PROGRESS_FRAMES = 20_000
MAX_WARNINGS = 50

_IDS = re.compile(rb'"(U|u|pu|lastUpdateId|t|a)":\s*(\d+)')
_TIMES = re.compile(rb'"(E|T)":\s*(\d+)')


class ReplayOptions(msgspec.Struct, frozen=True):
    """stale_after_ms: the hub's limit of silence. duration_s: repeat the files until so much market time has passed."""

    faults: FaultRates = FaultRates()
    verify: bool = False
    snapshot_latency_ms: int = DEFAULT_SNAPSHOT_LATENCY_MS
    snapshot_levels: int = DEFAULT_SNAPSHOT_LEVELS
    stale_after_ms: int = DEFAULT_STALE_AFTER_MS
    passes: int = 1
    duration_s: float = 0.0


class SymbolResult(msgspec.Struct, frozen=True):
    """Of one order book. state is that at the end."""

    product: str
    symbol: str
    state: str
    depth_messages: int
    gaps: int
    resyncs: int
    refreshes: int
    stale_ns: int
    bbo_checked: int
    bbo_mismatches: int
    book_checked: int
    book_mismatches: int


class ReplayResult(msgspec.Struct, frozen=True):
    """frames, depth_messages and levels are what the live path was given; frames_read what the files hold.

    bbo_*: the rebuilt best bid and offer against bookTicker, wherever both are of the same update id; bbo_unknown of
    them differ at prices that the recording says nothing of. recording_bbo_*: the same for the truth, from the
    untouched frames. book_*: the served book against the truth, with verify. stale_ns: summed over symbols, the time
    that a book wasn't LIVE after it first was.
    """

    frames: int
    depth_messages: int
    levels: int
    gaps: int
    resyncs: int
    bbo_checked: int
    bbo_mismatches: int
    stale_ns: int
    first_ns: int
    last_ns: int
    frames_read: int
    refreshes: int
    bbo_unknown: int
    recording_bbo_checked: int
    recording_bbo_mismatches: int
    book_checked: int
    book_mismatches: int
    dropped: int
    duplicated: int
    reordered: int
    unreadable: int
    other_frames: int
    inline_snapshots: int
    served_snapshots: int
    passes: int
    market_time_ns: int
    symbols: list[SymbolResult]
    warnings: list[str]

    @property
    def is_clean(self) -> bool:
        return not (self.bbo_mismatches or self.book_mismatches or self.recording_bbo_mismatches)


class Sent(NamedTuple):
    """A WebSocket frame on its way: in which product's connection (None: nobody's here), its bytes, and how many level
    updates it holds."""

    lane: _Lane | None
    payload: bytes
    levels: int


class _Followed:
    """One order book under replay, its truth, and the snapshot that is on its way to it."""

    def __init__(self, scan: MarketScan, verify: bool) -> None:
        self.scan = scan
        self.truth = TruthBook()
        self.checks = BookChecks(scan.price_scale, scan.quantity_scale, verify)
        self.is_fetching = False
        self.is_waiting = False
        self.was_live = False
        self.stale_since_ns: int | None = None
        self.stale_ns = 0
        self.depth_messages = 0
        self.hole_told = False

    def forget(self) -> None:
        """Another connection, with other ids: nothing that is known goes on."""
        self.truth = TruthBook()
        self.checks.forget()
        self.is_waiting = self.is_fetching = False


class _Lane:
    """One product: its hub, its reader and its books."""

    def __init__(self, product: Product, scans: list[MarketScan], clock: ManualClock, options: ReplayOptions) -> None:
        self.product = product
        instruments = [scan.instrument(f"binance-{product.value.lower()}") for scan in scans]
        self.reader = FrameReader()
        for instrument in instruments:
            self.reader.add(instrument)
        self.books = {scan.symbol: _Followed(scan, options.verify) for scan in scans}
        self.clock = clock
        self._stale_after_ns = options.stale_after_ms * NS_PER_MS
        self.hub = MarketHub(instruments, clock, options.stale_after_ms, self._on_state)

    def _on_state(self, changed: StateChanged) -> None:
        book, now_ns = self.books[changed.symbol], self.clock.now_ns()
        if changed.current is BookState.LIVE:
            book.was_live = True
            if book.stale_since_ns is not None:
                book.stale_ns += now_ns - book.stale_since_ns
                book.stale_since_ns = None
        elif book.was_live and book.stale_since_ns is None:
            book.stale_since_ns = now_ns
            if changed.reason is StaleReason.SILENCE:
                # Readers saw it STALE from the moment that the silence was too long, not from the tick that told.
                last_ns = self.hub.order_book(changed.symbol, 1).as_of_ns
                book.stale_since_ns = min(now_ns, last_ns + self._stale_after_ns)


class Replay:
    """One replay of a set of files. Raises RecordingError when they can't be replayed: see the message."""

    def __init__(
        self, paths: list[Path], options: ReplayOptions, on_progress: Callable[[int, int, int], None] | None = None
    ) -> None:
        self._options = options
        self._on_progress = on_progress
        self.scan: Scan = scan_files(paths)
        self._refuse_what_has_no_book()
        self._clock = ManualClock(self.scan.first_ns)
        followed: dict[Product, list[MarketScan]] = {}
        for market in self.scan.markets.values():
            if market.depth_messages:
                followed.setdefault(market.product, []).append(market)
        self._lanes = {
            product: _Lane(product, scans, self._clock, options) for product, scans in sorted(followed.items())
        }
        self._faults: Faults[Sent] = Faults(options.faults)
        self._figures = Figures()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._next_tick_ns = self._clock.now_ns() + TICK_NS
        self._warnings: list[str] = []

    def run(self) -> ReplayResult:
        """Replay to the end. Raises RecordingError when a file changes or breaks meanwhile."""
        options, first_ns = self._options, self.scan.first_ns
        length_ns = self.scan.last_ns - first_ns + PASS_PAUSE_NS
        duration_ns = int(options.duration_s * NS_PER_S)
        passes, is_over = 0, False
        while not is_over:
            self._open(passes)
            for line in self.scan.lines():
                recv_ns = line.recv_ns + passes * length_ns
                is_over = bool(duration_ns) and recv_ns - first_ns > duration_ns
                if is_over:
                    break
                self._line(line, recv_ns, passes, passes * length_ns)
            for sent in self._faults.flush():
                self._arrive(sent)
            passes += 1
            is_over = is_over or (not duration_ns and passes >= options.passes)
        return self._result(passes)

    def _refuse_what_has_no_book(self) -> None:
        names = ", ".join(str(file.path) for file in self.scan.files)
        books = [market for market in self.scan.markets.values() if market.depth_messages]
        if not books:
            raise RecordingError(f"{names}: holds no depth messages; record the @depth stream of a symbol")
        if not any(market.snapshots for market in books):
            raise RecordingError(
                f"{names}: holds no order book snapshot (a line with lastUpdateId), so no book can be built; "
                "name the file that the recording begins with as well"
            )

    def _open(self, number: int) -> None:
        """The connection opens (again): what was on its way is gone."""
        self._due.clear()
        for lane in self._lanes.values():
            if number:
                self._act(lane, lane.hub.on_stream_closed(lane.books))
            for book in lane.books.values():
                book.forget()
            self._act(lane, lane.hub.on_stream_opened(lane.books))

    # one line

    def _line(self, line: Line, recv_ns: int, number: int, moved_ns: int) -> None:
        self._advance(recv_ns)
        figures = self._figures
        payload = _moved(line.payload, number * PASS_SHIFT, moved_ns // NS_PER_MS) if number else line.payload
        try:
            kind, body = frames.parse(payload)
        except ValueError:
            kind, body = Kind.OTHER, None
        if isinstance(body, SnapshotBody):
            figures.inline_snapshots += 1
            self._inline_snapshot(line, payload, body)
            return
        figures.frames_read += 1
        market = None if body is None else self.scan.market_of(kind, body)
        lane = None if market is None else self._lanes.get(market[0])
        levels = 0
        if lane is not None and market is not None and body is not None and market[1] in lane.books:
            book = lane.books[market[1]]
            levels = self._untouched(line, kind, body, book)
            self._serve_waiting(lane, book)
        sent = Sent(lane, payload, levels)
        if self._options.faults.any:
            for arriving in self._faults.deliver(sent):
                self._arrive(arriving)
        else:
            self._arrive(sent)
        if figures.frames_read % PROGRESS_FRAMES == 0 and self._on_progress is not None:
            self._on_progress(figures.frames_read, recv_ns - self.scan.first_ns, number)

    def _untouched(self, line: Line, kind: Kind, body: Data, book: _Followed) -> int:
        """Tell the truth of a frame before any fault touches it. How many level updates it holds."""
        scan = book.scan
        try:
            if kind is Kind.BOOK_TICKER:
                book.checks.true_ticker(book.truth, body)
            elif kind is Kind.DEPTH:
                update = read_update(body, scan.price_scale, scan.quantity_scale, 0, (line.file, line.number))
                book.truth.apply(update)
                book.checks.operation(update)
                book.checks.true_book(book.truth)
                self._tell_hole(book)
                return len(update.bids) + len(update.asks)
        except ValueError as error:
            self._warn(f"{self._place(line.file, line.number)}: unreadable: {error}")
        return 0

    def _tell_hole(self, book: _Followed) -> None:
        hole = book.truth.hole
        if hole is None or book.truth.is_known:
            book.hole_told = False
        elif not book.hole_told:
            book.hole_told = True
            self._warn(
                f"{self._place(*hole.place)}: depth messages of {book.scan.symbol} are missing before update "
                f"{hole.first}; its book can't be known until they or another recorded snapshot come"
            )

    def _inline_snapshot(self, line: Line, payload: bytes, body: SnapshotBody) -> None:
        key = self.scan.snapshot_markets.get((line.file, line.number))
        lane = None if key is None else self._lanes.get(key[0])
        if key is None or lane is None or key[1] not in lane.books:
            return
        book = lane.books[key[1]]
        scan = book.scan
        try:
            snapshot = read_snapshot(body, scan.price_scale, scan.quantity_scale, 0)
        except ValueError as error:
            self._warn(f"{self._place(line.file, line.number)}: unreadable snapshot: {error}")
            return
        book.truth.apply(snapshot)
        book.checks.operation(snapshot)
        self._deliver_snapshot(lane, scan.symbol, payload, snapshot.limit)
        self._serve_waiting(lane, book)

    # the live path

    def _arrive(self, sent: Sent) -> None:
        figures = self._figures
        figures.frames += 1
        lane = sent.lane
        if lane is None:
            self._arrive_unrecognised(sent.payload)
            return
        try:
            message = lane.reader.read(sent.payload, self._clock.now_ns())
        except FrameError:
            figures.unreadable += 1
            return
        if message is None:
            figures.other_frames += 1
            return
        outputs = dispatch(lane.hub, message)
        book = lane.books[message.symbol]
        if isinstance(message, BookTicker):
            book.checks.ticker(message, book.truth)
        elif not isinstance(message, Trade):
            book.depth_messages += 1
            figures.depth_messages += 1
            figures.levels += sent.levels
            self._check(lane, book)
        if outputs:
            self._act(lane, outputs)

    def _arrive_unrecognised(self, payload: bytes) -> None:
        """Of a stream or a symbol that isn't followed, or no JSON: every connection would get to see it."""
        try:
            for lane in self._lanes.values():
                lane.reader.read(payload, self._clock.now_ns())
        except FrameError:
            self._figures.unreadable += 1
        else:
            self._figures.other_frames += 1

    def _check(self, lane: _Lane, book: _Followed) -> None:
        found = book.checks.served(lane.hub, book.scan.symbol, book.truth)
        if found is not None:
            self._warn(f"{lane.product} {book.scan.symbol} at {self._clock.now_ns()}: {found}")

    def _act(self, lane: _Lane, outputs: tuple[SyncOutput, ...]) -> None:
        for output in outputs:
            if isinstance(output, RequestSnapshot):
                self._request(lane, output.symbol)

    # the venue's REST interface

    def _request(self, lane: _Lane, symbol: str) -> None:
        book = lane.books[symbol]
        if book.is_fetching:
            return
        book.is_fetching = True
        self._at(self._options.snapshot_latency_ms * NS_PER_MS // 2, lambda: self._serve(lane, symbol))

    def _serve(self, lane: _Lane, symbol: str) -> None:
        """The request has reached the venue: its book at this moment is what will arrive."""
        book = lane.books[symbol]
        if not book.truth.is_known:
            book.is_fetching, book.is_waiting = False, True
            return
        scan = book.scan
        body, limit = rest_body(book.truth, self._options.snapshot_levels, scan.price_scale, scan.quantity_scale)
        latency_ns = self._options.snapshot_latency_ms * NS_PER_MS
        self._at(latency_ns - latency_ns // 2, lambda: self._answer(lane, symbol, body, limit))

    def _serve_waiting(self, lane: _Lane, book: _Followed) -> None:
        """What the venue couldn't serve is asked for again when its book is known."""
        if book.is_waiting and book.truth.is_known:
            book.is_waiting = False
            if lane.hub.needs_snapshot(book.scan.symbol):
                self._request(lane, book.scan.symbol)

    def _answer(self, lane: _Lane, symbol: str, body: bytes, limit: int) -> None:
        lane.books[symbol].is_fetching = False
        self._figures.served_snapshots += 1
        self._deliver_snapshot(lane, symbol, body, limit)
        if lane.hub.needs_snapshot(symbol):
            self._request(lane, symbol)

    def _deliver_snapshot(self, lane: _Lane, symbol: str, body: bytes, limit: int) -> None:
        try:
            snapshot = lane.reader.read_snapshot(body, symbol, limit, self._clock.now_ns())
        except FrameError as error:
            self._warn(f"snapshot of {symbol}: {error}")
            return
        self._act(lane, lane.hub.on_snapshot(snapshot))
        self._check(lane, lane.books[symbol])

    # time

    def _at(self, delay_ns: int, action: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._due, (self._clock.now_ns() + delay_ns, self._order, action))

    def _advance(self, until_ns: int) -> None:
        """Let time pass to the next receive time: what is due meanwhile happens in its order."""
        if until_ns - self._clock.now_ns() > LONGEST_TICKED_NS:
            self._pass_until(self._clock.now_ns() + LONGEST_TICKED_NS)
            self._next_tick_ns = until_ns
        self._pass_until(until_ns)

    def _pass_until(self, until_ns: int) -> None:
        while True:
            due_ns = self._due[0][0] if self._due else until_ns + 1
            moment_ns = min(due_ns, self._next_tick_ns)
            if moment_ns > until_ns:
                break
            self._move_to(moment_ns)
            if due_ns <= self._next_tick_ns:
                heappop(self._due)[2]()
            else:
                self._next_tick_ns += TICK_NS
                for lane in self._lanes.values():
                    self._act(lane, lane.hub.on_time())
        self._move_to(until_ns)

    def _move_to(self, moment_ns: int) -> None:
        self._clock.advance_ns(max(0, moment_ns - self._clock.now_ns()))

    # telling

    def _place(self, file: int, number: int) -> str:
        return f"{self.scan.files[file].path}, line {number}"

    def _warn(self, text: str) -> None:
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.append(text)

    def _symbols(self) -> Iterator[tuple[_Followed, SymbolResult]]:
        now_ns = self._clock.now_ns()
        for lane in self._lanes.values():
            counters, states = lane.hub.counters(), lane.hub.book_states()
            for symbol, book in lane.books.items():
                sync, checks = counters[symbol].sync, book.checks
                open_ns = 0 if book.stale_since_ns is None else now_ns - book.stale_since_ns
                yield (
                    book,
                    SymbolResult(
                        product=lane.product.value,
                        symbol=symbol,
                        state=states[symbol],
                        depth_messages=book.depth_messages,
                        gaps=sync.gaps,
                        resyncs=sync.resyncs,
                        refreshes=sync.refreshes,
                        stale_ns=book.stale_ns + open_ns,
                        bbo_checked=checks.bbo_checked,
                        bbo_mismatches=checks.bbo_mismatches,
                        book_checked=checks.book_checked,
                        book_mismatches=checks.book_mismatches,
                    ),
                )

    def _result(self, passes: int) -> ReplayResult:
        figures, faults = self._figures, self._faults.counters
        both = list(self._symbols())
        symbols = [result for _, result in both]
        checks = [book.checks for book, _ in both]
        for book, result in both:
            if not book.scan.snapshots:
                self._warn(f"{result.product} {result.symbol}: no snapshot of it is recorded, so it has no book")
        warnings = [*(str(problem) for problem in self.scan.problems.kept), *self._warnings]
        return ReplayResult(
            frames=figures.frames,
            depth_messages=figures.depth_messages,
            levels=figures.levels,
            gaps=sum(item.gaps for item in symbols),
            resyncs=sum(item.resyncs for item in symbols),
            bbo_checked=sum(item.bbo_checked for item in symbols),
            bbo_mismatches=sum(item.bbo_mismatches for item in symbols),
            stale_ns=sum(item.stale_ns for item in symbols),
            first_ns=self.scan.first_ns,
            last_ns=self._clock.now_ns(),
            frames_read=figures.frames_read,
            refreshes=sum(item.refreshes for item in symbols),
            bbo_unknown=sum(item.bbo_unknown for item in checks),
            recording_bbo_checked=sum(item.recording_bbo_checked for item in checks),
            recording_bbo_mismatches=sum(item.recording_bbo_mismatches for item in checks),
            book_checked=sum(item.book_checked for item in symbols),
            book_mismatches=sum(item.book_mismatches for item in symbols),
            dropped=faults.dropped,
            duplicated=faults.duplicated,
            reordered=faults.reordered,
            unreadable=figures.unreadable,
            other_frames=figures.other_frames,
            inline_snapshots=figures.inline_snapshots,
            served_snapshots=figures.served_snapshots,
            passes=passes,
            market_time_ns=self._clock.now_ns() - self.scan.first_ns,
            symbols=symbols,
            warnings=warnings,
        )


def _moved(payload: bytes, shift: int, moved_ms: int) -> bytes:
    """A frame of a later pass: ids and times moved on."""
    payload = _IDS.sub(lambda found: b'"%s":%d' % (found[1], int(found[2]) + shift), payload)
    return _TIMES.sub(lambda found: b'"%s":%d' % (found[1], int(found[2]) + moved_ms), payload)
