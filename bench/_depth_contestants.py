"""Who takes part in bench/depth.py, and the process that each of them runs in.

A contestant gets frames as received and does for each what a trader's process has to: decode, check the sequence,
apply, and say best bid and offer. Until the snapshot comes, messages are kept; then the venue's rule joins both
(https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import gzip
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402

LEAST_TIMED_S = 0.5
"""A round repeats its pass until it took this much processor time, so that the clock's grain doesn't matter."""
BOOKS_FOR_MEMORY = 4
"""Kept side by side while their memory is measured: the allocator's slack is shared among them."""
STALE_AFTER_MS = 3_600_000

Levels = list[tuple[int, int]]


class Frame(NamedTuple):
    ts_ns: int
    is_snapshot: bool
    raw: bytes


class Recording(NamedTuple):
    """A symbol's depth frames, and the decimal places that hold every number in them."""

    frames: list[Frame]
    symbol: str
    price_scale: int
    quantity_scale: int
    levels: int
    snapshot_levels: int


class Contestant:
    """One book from its first message on. Peers hold floats, which bring their own rounding into books: results are
    rounded to the recording's places."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def feed(self, frames: list[Frame]) -> None:
        """Every frame in turn, best bid and offer after each."""
        raise NotImplementedError

    def result(self) -> tuple[Levels, Levels]:
        """All bids and asks as ints at the recording's scales, best first."""
        raise NotImplementedError

    def scaled(self, price: float, quantity: float) -> tuple[int, int]:
        return round(price * 10**self.recording.price_scale), round(quantity * 10**self.recording.quantity_scale)


class Veloz(Contestant):
    """As the live path does it: native decoder, core.market.sync, native book."""

    def __init__(self, recording: Recording) -> None:
        from core._native import DepthDecoder, OrderBook
        from core.market.sync import DepthSync

        super().__init__(recording)
        self.decoder = DepthDecoder()
        self.decoder.add(recording.symbol, recording.price_scale, recording.quantity_scale)
        self.sync = DepthSync(recording.symbol, STALE_AFTER_MS, OrderBook)
        self.sync.on_stream_opened(0)

    def feed(self, frames: list[Frame]) -> None:
        decode, sync, symbol = self.decoder.decode, self.sync, self.recording.symbol
        # The peers take the snapshot for the whole book: here too, so that all keep the same levels.
        limit = self.recording.snapshot_levels + 1
        for ts_ns, is_snapshot, raw in frames:
            if is_snapshot:
                sync.on_snapshot(self.decoder.decode_snapshot(raw, symbol, limit, ts_ns))
            else:
                sync.on_depth(decode(raw, ts_ns))  # type: ignore[arg-type]
            sync.book.best()

    def result(self) -> tuple[Levels, Levels]:
        from core.market.sync import BookState

        counters = self.sync.counters
        if self.sync.state is not BookState.LIVE or counters.gaps or counters.crossed:
            raise SystemExit(f"veloz: the book is {self.sync.state} {self.sync.reason}: {counters}")
        bids, asks = self.sync.book.top(2**31)
        return list(bids), list(asks)


class _Depth(msgspec.Struct, gc=False):
    """Prices and quantities become floats within msgspec: the quickest way from text to numbers there is in Python."""

    U: int
    u: int
    E: int
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]
    pu: int | None = None


class _Combined(msgspec.Struct, gc=False):
    data: _Depth


class _Snapshot(msgspec.Struct, gc=False, rename="camel"):
    last_update_id: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


class _Sequenced(Contestant):
    """The venue's rule, for books that have none."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording)
        self.last_update_id = 0
        self.is_joined = False
        self.waiting: list[_Depth] = []
        self.decode = msgspec.json.Decoder(_Combined, strict=False).decode
        self.decode_snapshot = msgspec.json.Decoder(_Snapshot, strict=False).decode

    def feed(self, frames: list[Frame]) -> None:
        decode, on_depth, best = self.decode, self.on_depth, self.best
        for _, is_snapshot, raw in frames:
            if is_snapshot:
                self.on_snapshot(self.decode_snapshot(raw))
            else:
                on_depth(decode(raw).data)
            best()

    def on_snapshot(self, snapshot: _Snapshot) -> None:
        self.load(snapshot)
        self.last_update_id, self.is_joined = snapshot.last_update_id, False
        waiting, self.waiting = self.waiting, []
        for message in waiting:
            self.on_depth(message)

    def on_depth(self, message: _Depth) -> None:
        last = self.last_update_id
        if not last:
            self.waiting.append(message)
            return
        if message.u <= last:
            return
        follows = message.U - 1 if message.pu is None else message.pu
        if follows != last and (self.is_joined or follows > last):
            raise SystemExit(f"{type(self).__name__}: a gap before update {message.U}")
        self.is_joined = True
        self.last_update_id = message.u
        self.apply(message)

    def load(self, snapshot: _Snapshot) -> None:
        raise NotImplementedError

    def apply(self, message: _Depth) -> None:
        raise NotImplementedError

    def best(self) -> object:
        raise NotImplementedError


class SortedDicts(_Sequenced):
    """Two sortedcontainers.SortedDict, price to quantity, changed in place. A price that is held is set by the plain
    dict's own method, which spares SortedDict's look for a new key."""

    def __init__(self, recording: Recording) -> None:
        from sortedcontainers import SortedDict

        super().__init__(recording)
        self.bids, self.asks = SortedDict(), SortedDict()

    def load(self, snapshot: _Snapshot) -> None:
        for side, levels in ((self.bids, snapshot.bids), (self.asks, snapshot.asks)):
            side.clear()
            side.update(levels)

    def apply(self, message: _Depth) -> None:
        set_held = dict.__setitem__
        for side, levels in ((self.bids, message.b), (self.asks, message.a)):
            pop = side.pop
            for price, quantity in levels:
                if not quantity:
                    pop(price, None)
                elif price in side:
                    set_held(side, price, quantity)
                else:
                    side[price] = quantity

    def best(self) -> object:
        return (self.bids.peekitem(-1), self.asks.peekitem(0)) if self.bids and self.asks else None

    def result(self) -> tuple[Levels, Levels]:
        return [self.scaled(*item) for item in reversed(self.bids.items())], [
            self.scaled(*item) for item in self.asks.items()
        ]


class Nautilus(_Sequenced):
    """nautilus_trader's OrderBook: an OrderBookDelta for each level, by from_raw, which spares the Price and Quantity
    objects, and applied in one batch a message."""

    def __init__(self, recording: Recording) -> None:
        from nautilus_trader.model.book import OrderBook
        from nautilus_trader.model.data import OrderBookDelta, OrderBookDeltas
        from nautilus_trader.model.enums import BookAction, BookType, OrderSide
        from nautilus_trader.model.identifiers import InstrumentId
        from nautilus_trader.model.objects import FIXED_PRECISION

        super().__init__(recording)
        self.id = InstrumentId.from_str(f"{recording.symbol}.BINANCE")
        self.book = OrderBook(self.id, BookType.L2_MBP)
        self.make, self.make_batch = OrderBookDelta.from_raw, OrderBookDeltas
        self.set, self.remove = BookAction.UPDATE, BookAction.DELETE
        self.buy, self.sell = OrderSide.BUY, OrderSide.SELL
        self.price_unit = 10**recording.price_scale
        self.quantity_unit = 10**recording.quantity_scale
        self.raw_per_price = 10 ** (FIXED_PRECISION - recording.price_scale)
        self.raw_per_quantity = 10 ** (FIXED_PRECISION - recording.quantity_scale)

    def load(self, snapshot: _Snapshot) -> None:
        self.book.clear(0, 0)
        self.apply_levels(snapshot.bids, snapshot.asks, snapshot.last_update_id, 0)

    def apply(self, message: _Depth) -> None:
        self.apply_levels(message.b, message.a, message.u, message.E * 1_000_000)

    def apply_levels(
        self, bids: list[tuple[float, float]], asks: list[tuple[float, float]], sequence: int, ts_ns: int
    ) -> None:
        make, set_, remove, instrument_id = self.make, self.set, self.remove, self.id
        price_scale, quantity_scale = self.recording.price_scale, self.recording.quantity_scale
        price_unit, quantity_unit = self.price_unit, self.quantity_unit
        raw_per_price, raw_per_quantity = self.raw_per_price, self.raw_per_quantity
        deltas = [
            make(
                instrument_id,
                set_ if quantity else remove,
                side,
                int(price * price_unit + 0.5) * raw_per_price,
                price_scale,
                int(quantity * quantity_unit + 0.5) * raw_per_quantity,
                quantity_scale,
                0,
                0,
                sequence,
                ts_ns,
                ts_ns,
            )
            for side, levels in ((self.buy, bids), (self.sell, asks))
            for price, quantity in levels
        ]
        if deltas:
            self.book.apply_deltas(self.make_batch(instrument_id, deltas))

    def best(self) -> object:
        book = self.book
        return book.best_bid_price(), book.best_bid_size(), book.best_ask_price(), book.best_ask_size()

    def result(self) -> tuple[Levels, Levels]:
        bids, asks = (
            [self.scaled(float(level.price), float(level.size())) for level in side]
            for side in (self.book.bids(), self.book.asks())
        )
        return bids, asks


class Ccxt(Contestant):
    """ccxt.pro's own Binance class: its handle_order_book gets the decoded JSON, its fetch_order_book_snapshot the
    snapshot in the place of a REST answer."""

    def __init__(self, recording: Recording) -> None:
        import ccxt.pro

        super().__init__(recording)
        self.is_futures = b'"pu":' in next(frame.raw for frame in recording.frames if not frame.is_snapshot)[:300]
        kind = "swap" if self.is_futures else "spot"
        self.exchange: Any = ccxt.pro.binance({"options": {"defaultType": kind}})
        # Both kinds are there, as after load_markets: the handler then looks for the right one.
        self.exchange.set_markets([_ccxt_market(recording.symbol, name) for name in ("spot", "swap")])
        self.symbol = self.exchange.safe_market(recording.symbol, None, None, kind)["symbol"]
        self.client = SimpleNamespace(
            url="wss://fstream.binance.com/ws" if self.is_futures else "wss://stream.binance.com:9443/stream",
            subscriptions={},
            resolve=lambda result, message_hash: result,
            reject=self.on_error,
        )
        self.exchange.orderbooks[self.symbol] = self.exchange.order_book({}, 1_000)
        self.decode = msgspec.json.decode

    def feed(self, frames: list[Frame]) -> None:
        decode, handle, client = self.decode, self.exchange.handle_order_book, self.client
        book = self.exchange.orderbooks[self.symbol]
        bids, asks = book["bids"], book["asks"]
        for _, is_snapshot, raw in frames:
            if is_snapshot:
                asyncio.run(self.on_snapshot(decode(raw)))
            else:
                handle(client, decode(raw)["data"])
            if bids and asks:
                bids[0], asks[0]

    async def on_snapshot(self, body: dict[str, Any]) -> None:
        async def answer(*_: object) -> object:
            book = self.exchange.parse_order_book(body, self.symbol)
            book["nonce"] = body["lastUpdateId"]
            return book

        self.exchange.fetch_rest_order_book_safe = answer
        subscription = {"symbol": self.symbol, "type": "future" if self.is_futures else "spot", "limit": 1_000}
        await self.exchange.fetch_order_book_snapshot(self.client, {}, subscription)

    def on_error(self, error: Exception, *_: object) -> None:
        raise SystemExit(f"ccxt: {error!r}")

    def result(self) -> tuple[Levels, Levels]:
        book = self.exchange.orderbooks[self.symbol]
        last = msgspec.json.decode(self.recording.frames[-1].raw)["data"]["u"]
        if book["nonce"] != last:
            raise SystemExit(f"ccxt: the book stands at update {book['nonce']}, not at {last}")
        bids, asks = ([self.scaled(*level) for level in list(book[side])] for side in ("bids", "asks"))
        return bids, asks


def _ccxt_market(symbol: str, kind: str) -> dict[str, Any]:
    base, quote = symbol[:3], symbol[3:]
    return {
        "id": symbol,
        "symbol": f"{base}/{quote}" + (f":{quote}" if kind == "swap" else ""),
        "base": base,
        "quote": quote,
        "baseId": base,
        "quoteId": quote,
        "type": kind,
        "spot": kind == "spot",
        "swap": kind == "swap",
        "future": False,
        "option": False,
    }


CONTESTANTS: dict[str, Callable[[Recording], Contestant]] = {
    "veloz": Veloz,
    "sortedcontainers": SortedDicts,
    "ccxt": Ccxt,
    "nautilus_trader": Nautilus,
}


def read_recording(files: list[Path]) -> Recording:
    """Raises SystemExit for files that hold no depth messages and a snapshot of one symbol."""
    frames: list[Frame] = []
    symbols: set[str] = set()
    price_scale = quantity_scale = levels = snapshot_levels = 0
    for ts_ns, raw in _lines(files):
        is_snapshot = b'"lastUpdateId"' in raw[:160]
        if not is_snapshot and b'"depthUpdate"' not in raw[:160]:
            continue
        message = msgspec.json.decode(raw)
        data = message if is_snapshot else message["data"]
        sides = (data["bids"], data["asks"]) if is_snapshot else (data["b"], data["a"])
        for price, quantity in (level for side in sides for level in side):
            price_scale = max(price_scale, len(price.partition(".")[2].rstrip("0")))
            quantity_scale = max(quantity_scale, len(quantity.partition(".")[2].rstrip("0")))
        if is_snapshot:
            snapshot_levels = max(snapshot_levels, *map(len, sides))
        else:
            symbols.add(data["s"])
            levels += sum(map(len, sides))
        frames.append(Frame(ts_ns, is_snapshot, raw))
    if len(symbols) != 1 or not snapshot_levels:
        names = ", ".join(map(str, files))
        raise SystemExit(f"{names}: needs depth messages of one symbol and a snapshot; has {sorted(symbols)}")
    return Recording(frames, symbols.pop(), price_scale, quantity_scale, levels, snapshot_levels)


def _lines(files: list[Path]) -> Iterator[tuple[int, bytes]]:
    for file in files:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for line in lines:
                ts_ns, _, raw = line.partition(b" ")
                yield int(ts_ns), raw.rstrip()


def _resident_bytes() -> int:
    """Of this process, after what can be given back has been."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _peak_bytes() -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)


def _timed(make: Callable[[Recording], Contestant], recording: Recording) -> dict[str, object]:
    passes, spent = 0, 0.0
    while spent < LEAST_TIMED_S:
        contestant = make(recording)
        gc.collect()
        start = time.process_time()
        contestant.feed(recording.frames)
        spent += time.process_time() - start
        passes += 1
    bids, asks = contestant.result()
    digest = hashlib.sha256(json.dumps([bids, asks]).encode()).hexdigest()
    return {"cpu_s": spent / passes, "digest": digest, "book_levels": len(bids) + len(asks)}


def _measured(make: Callable[[Recording], Contestant], recording: Recording) -> dict[str, object]:
    """What a whole book keeps, and the peak while the books were built."""
    contestants = [make(recording) for _ in range(BOOKS_FOR_MEMORY)]
    before = _resident_bytes()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    for contestant in contestants:
        contestant.feed(recording.frames)
    peak = _peak_bytes()
    after = _resident_bytes()
    return {
        "memory_bytes": (after - before) // BOOKS_FOR_MEMORY,
        "peak_growth_bytes": None if peak is None else peak - before,
    }


def serve(name: str, files: list[Path], core: int | None) -> None:
    """Answer each line on stdin, `time` or `memory`, with one JSON object."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    recording, make = read_recording(files), CONTESTANTS[name]
    make(recording).feed(recording.frames[:50])
    gc.collect()
    gc.freeze()
    ready = {"levels": recording.levels, "frames": len(recording.frames), "symbol": recording.symbol}
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        task = _measured if line.strip() == "memory" else _timed
        print(json.dumps(task(make, recording)), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], [Path(name) for name in sys.argv[3:]], None if sys.argv[2] == "any" else int(sys.argv[2]))
