"""A market played back from recorded Binance frames, of spot or of a USD-M perpetual.

One frame a line: the recorder's receive time in ns, a space, the combined-stream JSON; the REST snapshot stands
inline, unwrapped, where it arrived. Playback starts at the snapshot, keeps the recorded pace times `speed`, and
loops. On pass k every update id and trade id is the recorded one plus k * PASS_SHIFT (USDM_PASS_SHIFT for a perpetual),
so ids never go back and `id mod PASS_SHIFT` finds the recorded frame. Event times are moved to now.

A USD-M recording is told by its depth frames' pu: it plays as the perpetual's market, and the venue has no spot then.
Its update ids have gaps by design; that each pu is the u before it says that nothing is missing. The first diff played
may start before the snapshot, as Binance's rule allows.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from core.types.clock import NS_PER_MS, NS_PER_S, Clock
from core.venues.paper.book import LevelBook
from core.venues.paper.decimals import parse8
from core.venues.paper.errors import MarketSourceError
from core.venues.paper.events import BookTicker, DepthDiff, Level, MarketEvent, Publish, StartBook, Trade
from core.venues.paper.rules import RULES
from core.venues.paper.usdm.rules import CONTRACTS

PREFIX = "recording:"
PASS_SHIFT = 10**12
USDM_PASS_SHIFT = 10**13
"""A perpetual's update ids are above 10**12; both stay below 2**53 for hundreds of passes."""
GZIP_MAGIC = b"\x1f\x8b"
MAX_FRAMES_PER_TURN = 200
"""Frames published without giving way to the event loop."""
MIN_SLEEP_NS = NS_PER_MS
MAX_LAG_NS = NS_PER_S // 2
"""Playback that falls further behind its schedule than this moves the schedule instead of hurrying after it."""


class _Data(msgspec.Struct, gc=False):
    e: str = ""
    E: int = 0
    s: str = ""
    U: int = 0
    u: int = 0
    pu: int | None = None
    T: int = 0
    t: int = 0
    p: str = ""
    q: str = ""
    m: bool = False
    B: str = ""
    A: str = ""
    b: msgspec.Raw = msgspec.Raw()
    a: msgspec.Raw = msgspec.Raw()


class _Frame(msgspec.Struct, gc=False):
    stream: str = ""
    data: _Data | None = None
    lastUpdateId: int | None = None
    E: int | None = None
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


_FRAME = msgspec.json.Decoder(_Frame)
_LEVELS = msgspec.json.Decoder(list[tuple[str, str]])
_TEXT = msgspec.json.Decoder(str)


class _Line(msgspec.Struct, frozen=True, gc=False):
    """A decoded line: where it stands, when it was received, and its event with recorded ids and times.

    previous_id is the pu of a futures depth diff; is_usdm None where the frame is the same for both products.
    """

    file_index: int
    number: int
    recv_ns: int
    event: MarketEvent | StartBook
    previous_id: int | None = None
    is_usdm: bool | None = None


class RecordingMarket:
    """Plays recording files in order. `open` reads up to the snapshot only; the rest is decoded as it is played."""

    def __init__(self, files: list[Path], speed: Decimal, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._speed = speed
        self._numerator, self._denominator = speed.as_integer_ratio()
        self._symbol = ""
        self._is_usdm: bool | None = None
        self._publish_usdm: Publish | None = None
        self._start: StartBook | None = None
        self._start_line: _Line | None = None
        self._start_event_ms = 0
        self._tickers_up_to_start: list[BookTicker] = []
        self._tickers_after_start: list[BookTicker] = []
        self._book = LevelBook()
        self._pass = 0
        self._first_trade_id = 0
        self._last_trade_id = 0
        self._recorded_ns = 0
        self._frames = 0

    @property
    def symbols(self) -> tuple[str, ...]:
        """The spot symbols; none when the recording is a perpetual's."""
        return () if self._is_usdm else (self._symbol,)

    @property
    def _pass_shift(self) -> int:
        return USDM_PASS_SHIFT if self._is_usdm else PASS_SHIFT

    def usdm_books(self) -> tuple[StartBook, ...]:
        """After `open`: the perpetual's book, when the recording is one's."""
        assert self._start is not None, "open() comes first"
        return (self._start,) if self._is_usdm else ()

    def set_usdm_publish(self, publish: Publish) -> None:
        """Where a perpetual's events go; `play`'s own publish has spot's."""
        self._publish_usdm = publish

    def describe(self) -> dict[str, Any]:
        return {
            "source": "recording",
            "files": [file.name for file in self._files],
            "symbols": list(self.symbols),
            "usdmSymbols": [self._symbol] if self._is_usdm else [],
            "pass": self._pass,
            "updateIdShift": self._pass * self._pass_shift,
            "speed": str(self._speed),
            "recordedTimeNs": self._recorded_ns,
            "framesPlayed": self._frames,
        }

    def open(self) -> tuple[StartBook, ...]:
        for index, file in enumerate(self._files):
            self._check(index, file)
        before: list[tuple[DepthDiff, int | None]] = []
        tickers: list[BookTicker] = []
        event_ns, event_recv_ns = 0, 0
        for line in self._lines():
            event = line.event
            if isinstance(event, StartBook):
                self._settle_start(line, event, before, tickers)
                self._start_event_ms = (event_ns + line.recv_ns - event_recv_ns) // NS_PER_MS
                assert self._start is not None
                return () if self._is_usdm else (self._start,)
            if isinstance(event, BookTicker):
                tickers.append(event)
            else:
                event_ns, event_recv_ns = event.event_ms * NS_PER_MS, line.recv_ns
            if isinstance(event, DepthDiff):
                before.append((event, line.previous_id))
        names = ", ".join(str(file) for file in self._files)
        raise MarketSourceError(f"recording {names}: holds no order book snapshot (lastUpdateId); record it with one")

    def _settle_start(
        self,
        line: _Line,
        snapshot: StartBook,
        before: list[tuple[DepthDiff, int | None]],
        tickers: list[BookTicker],
    ) -> None:
        """Binance's rule: drop what the snapshot has, the first diff applied must continue it."""
        book = LevelBook()
        book.load(snapshot)
        for diff, previous_id in before:
            if diff.last_id <= book.last_id:
                continue
            if not _continues(book, diff, previous_id):
                raise self._broken(line, f"updates {book.last_id + 1}..{diff.first_id - 1} are missing at the snapshot")
            book.apply(diff)
        self._symbol = tickers[-1].symbol if tickers else before[-1][0].symbol if before else self._first_symbol(line)
        listed = CONTRACTS if self._is_usdm else RULES
        if self._symbol not in listed:
            raise self._broken(line, f"symbol {self._symbol} is not listed here; listed are {', '.join(listed)}")
        self._tickers_up_to_start = [ticker for ticker in tickers if ticker.update_id <= book.last_id][-1:]
        self._tickers_after_start = [ticker for ticker in tickers if ticker.update_id > book.last_id]
        newest = self._tickers_after_start[-1] if self._tickers_after_start else None
        self._start = msgspec.structs.replace(book.snapshot(self._symbol), ticker=newest)
        self._start_line = line
        self._recorded_ns = line.recv_ns

    def _first_symbol(self, start: _Line) -> str:
        for line in self._lines():
            if not isinstance(line.event, StartBook):
                return line.event.symbol
        raise self._broken(start, "there is nothing but a snapshot in it")

    async def play(self, publish: Publish) -> None:
        assert self._start is not None, "open() comes first"
        assert self._start_line is not None
        if self._is_usdm:
            assert self._publish_usdm is not None, "a perpetual's recording needs set_usdm_publish() first"
            publish = self._publish_usdm
        while True:
            schedule = _Schedule(self._clock, self._start_line.recv_ns, self._start_event_ms, self)
            shift = self._pass * self._pass_shift
            if self._pass:
                self._bridge(publish, shift, schedule)
            self._book.load(self._start)
            is_played = False
            for line in self._lines():
                if (line.file_index, line.number) <= (self._start_line.file_index, self._start_line.number):
                    continue
                if isinstance(line.event, StartBook):
                    continue
                await schedule.wait_for(line.recv_ns)
                self._play_one(line, shift, schedule, publish)
                is_played = True
            if not is_played:
                raise self._broken(self._start_line, "nothing follows its snapshot")
            self._pass += 1

    def _play_one(self, line: _Line, shift: int, schedule: _Schedule, publish: Publish) -> None:
        event = line.event
        assert not isinstance(event, StartBook)
        if event.symbol != self._symbol:
            raise self._broken(line, f"symbol {event.symbol} in a recording of {self._symbol}; give one symbol")
        self._recorded_ns = line.recv_ns
        self._frames += 1
        if isinstance(event, DepthDiff):
            if event.last_id <= self._book.last_id:
                return
            if not _continues(self._book, event, line.previous_id):
                raise self._broken(
                    line, f"depth updates {self._book.last_id + 1}..{event.first_id - 1} are missing before it"
                )
            # A diff that the snapshot cuts through would look like a gap to those who saw the pass before.
            first_id = max(event.first_id, self._book.last_id + 1) if shift else event.first_id
            self._book.apply(event)
            event = msgspec.structs.replace(
                event,
                event_ms=schedule.event_ms(event.event_ms),
                first_id=first_id + shift,
                last_id=event.last_id + shift,
            )
        elif isinstance(event, BookTicker):
            event = msgspec.structs.replace(event, update_id=event.update_id + shift) if shift else event
        else:
            event = msgspec.structs.replace(
                event,
                event_ms=schedule.event_ms(event.event_ms),
                trade_ms=schedule.event_ms(event.trade_ms),
                trade_id=self._unbroken_trade_id(event.trade_id),
            )
        publish(event)

    def _unbroken_trade_id(self, recorded_id: int) -> int:
        """A pass goes on counting where the one before ended: a jump would tell of trades that were missed."""
        if not self._pass:
            self._first_trade_id = self._first_trade_id or recorded_id
            self._last_trade_id = recorded_id
        return recorded_id + self._pass * (self._last_trade_id - self._first_trade_id + 1)

    def _bridge(self, publish: Publish, shift: int, schedule: _Schedule) -> None:
        """One diff that turns the last book of a pass into the first one of the next, and the recorded tickers around
        it: a ticker is never later than the diff that has its update."""
        start = self._start
        assert start is not None
        for ticker in self._tickers_up_to_start:
            publish(msgspec.structs.replace(ticker, update_id=ticker.update_id + shift))
        publish(
            DepthDiff(
                symbol=self._symbol,
                event_ms=schedule.event_ms(self._start_event_ms),
                first_id=self._book.last_id + shift - self._pass_shift + 1,
                last_id=start.last_id + shift,
                bids=_difference(self._book.bids, dict(start.bids)),
                asks=_difference(self._book.asks, dict(start.asks)),
            )
        )
        for ticker in self._tickers_after_start:
            publish(msgspec.structs.replace(ticker, update_id=ticker.update_id + shift))

    # Reading

    def _check(self, index: int, file: Path) -> None:
        """The cheap checks that tell at start what is wrong with a file."""
        try:
            with _open(file) as lines:
                first = next(iter(lines), b"")
        except FileNotFoundError as error:
            raise MarketSourceError(f"recording {file}: no such file; correct settings key market.source") from error
        except (OSError, EOFError, zlib.error) as error:
            raise MarketSourceError(f"recording {file}: can't be read: {error}") from error
        if not first:
            raise MarketSourceError(f"recording {file}: is empty; give a recording of Binance frames")
        self._decode(index, 1, first)

    def _lines(self) -> Iterator[_Line]:
        """Every frame of every file, in order. Raises MarketSourceError naming file and line."""
        for index, file in enumerate(self._files):
            number = 0
            try:
                with _open(file) as lines:
                    for number, raw in enumerate(lines, 1):
                        yield self._decode(index, number, raw)
            except (OSError, EOFError, zlib.error) as error:
                raise MarketSourceError(f"recording {file}: can't be read after line {number}: {error}") from error

    def _decode(self, index: int, number: int, raw: bytes) -> _Line:
        try:
            received, _, text = raw.partition(b" ")
            recv_ns = int(received)
            frame = _FRAME.decode(text)
            event = _event(frame)
            is_usdm = _is_usdm(frame)
            if is_usdm is not None and self._is_usdm not in {None, is_usdm}:
                raise ValueError("spot and USD-M frames together; give recordings of one product")
        except (ValueError, msgspec.DecodeError) as error:
            raise MarketSourceError(
                f"recording {self._files[index]}, line {number}: not a frame of a Binance recording ({error}); "
                "each line is `<receive time in ns> <combined stream JSON>` with depth, bookTicker and trade of spot "
                "or of a USD-M perpetual"
            ) from error
        if is_usdm is not None:
            self._is_usdm = is_usdm
        return _Line(index, number, recv_ns, event, frame.data.pu if frame.data is not None else None, is_usdm)

    def _broken(self, line: _Line, what: str) -> MarketSourceError:
        return MarketSourceError(f"recording {self._files[line.file_index]}, line {line.number}: {what}")

    def scaled_ns(self, recorded_ns: int) -> int:
        """A recorded duration at the playback's speed."""
        return recorded_ns * self._denominator // self._numerator


class _Schedule:
    """When one pass's frames are due, and what their times become."""

    def __init__(self, clock: Clock, recv_ns: int, event_ms: int, market: RecordingMarket) -> None:
        self._clock = clock
        self._market = market
        self._recv_ns = recv_ns
        self._event_ms = event_ms
        self._start_ns = clock.now_ns()
        self._now_ms = self._start_ns // NS_PER_MS
        self._turn = 0

    async def wait_for(self, recv_ns: int) -> None:
        due_ns = self._start_ns + self._market.scaled_ns(recv_ns - self._recv_ns)
        now_ns = self._clock.now_ns()
        self._turn += 1
        if due_ns - now_ns > MIN_SLEEP_NS:
            self._turn = 0
            await asyncio.sleep((due_ns - now_ns) / NS_PER_S)
            now_ns = self._clock.now_ns()
        elif self._turn >= MAX_FRAMES_PER_TURN:
            self._turn = 0
            await asyncio.sleep(0)
        if now_ns - due_ns > MAX_LAG_NS:
            self._start_ns += now_ns - due_ns
        self._now_ms = max(self._now_ms, now_ns // NS_PER_MS)

    def event_ms(self, recorded_ms: int) -> int:
        """A recorded event time moved to now; never in the future."""
        elapsed_ns = self._market.scaled_ns((recorded_ms - self._event_ms) * NS_PER_MS)
        return min(self._now_ms, (self._start_ns + elapsed_ns) // NS_PER_MS)


def _event(frame: _Frame) -> MarketEvent | StartBook:
    """Raises ValueError for what is none of the recorded streams."""
    data = frame.data
    if data is None:
        if frame.lastUpdateId is None:
            raise ValueError("neither a stream frame nor a snapshot")
        return StartBook("", frame.lastUpdateId, _levels(frame.bids), _levels(frame.asks))
    name = frame.stream.partition("@")[2]
    if name.startswith("depth"):
        return DepthDiff(
            data.s, data.E, data.U, data.u, _levels(_LEVELS.decode(data.b)), _levels(_LEVELS.decode(data.a))
        )
    if name == "bookTicker":
        return BookTicker(
            data.s, data.u, parse8(_TEXT.decode(data.b)), parse8(data.B), parse8(_TEXT.decode(data.a)), parse8(data.A)
        )
    if name == "trade":
        return Trade(data.s, data.E, data.T, data.t, parse8(data.p), parse8(data.q), data.m)
    raise ValueError(f"stream {frame.stream!r} is none of depth, bookTicker, trade")


def _is_usdm(frame: _Frame) -> bool | None:
    """By what only one of the products sends; None for trades, which look the same."""
    data = frame.data
    if data is None:
        return frame.E is not None
    name = frame.stream.partition("@")[2]
    if name.startswith("depth"):
        return data.pu is not None
    return bool(data.e) if name == "bookTicker" else None


def _continues(book: LevelBook, diff: DepthDiff, previous_id: int | None) -> bool:
    """Whether nothing is missing between the book and the diff: U follows on spot, pu on futures; a diff that the
    book's last id lies within is a snapshot's first one."""
    if diff.first_id <= book.last_id + 1:
        return True
    return previous_id is not None and previous_id == book.last_id


def _levels(texts: list[tuple[str, str]]) -> tuple[Level, ...]:
    return tuple([(parse8(price), parse8(quantity)) for price, quantity in texts])


def _difference(before: dict[int, int], after: dict[int, int]) -> tuple[Level, ...]:
    changed = [(price, quantity) for price, quantity in after.items() if before.get(price) != quantity]
    gone = [(price, 0) for price in before if price not in after]
    return tuple(sorted(changed + gone))


def _open(file: Path) -> Any:
    with file.open("rb") as probe:
        is_gzip = probe.read(2) == GZIP_MAGIC
    return gzip.open(file, "rb") if is_gzip else file.open("rb")


def recording_files(source: str) -> list[Path]:
    """The files of a `recording:<file>[,<file>...]` source.

    Raises MarketSourceError when it names none.
    """
    names = [name.strip() for name in source.removeprefix(PREFIX).split(",")]
    files = [Path(name).expanduser() for name in names if name]
    if not files:
        raise MarketSourceError(f"settings key market.source: {source!r} names no file; give recording:<file>[,<file>]")
    return files
