"""Records a venue's public market: raw frames as they come, with the REST snapshot that each book needs inline.

Every raw file stands alone: at its start, after a reconnect and after a break in a symbol's depth sequence a snapshot
is fetched that joins the frames in that file. Sealed files are imported into the catalog's Parquet one by one.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import msgspec
import structlog
from websockets.exceptions import InvalidURI, WebSocketException

from core.storage.atomic import folder_lock
from core.storage.catalog import Catalog, CatalogError
from core.storage.importing import Imported, import_recorded
from core.storage.raw_writer import RawWriter, adopt_partials
from core.storage.recording import RecordingError
from core.types.clock import NS_PER_S, Clock
from core.venues.binance.backoff import Backoff
from core.venues.binance.errors import BinanceApiError
from core.venues.binance.rest import BinanceRest
from core.venues.binance.user_stream import open_websocket
from core.venues.binance.wire import UNREADABLE
from core.venues.ports import VenueRateLimitedError, VenueUnavailableError

MAX_SYMBOLS = 50
"""Three streams each, all named in one URL."""
STREAMS = ("depth@100ms", "bookTicker", "trade")
SNAPSHOT_LEVELS = 1_000
CHECK_LEVELS = 5
SNAPSHOT_PAUSE_S = 0.5
SNAPSHOT_CONCURRENCY = 2
SILENCE_LIMIT_S = 30.0
RECONNECT_BASE_S = 0.2
RECONNECT_CAP_S = 10.0
STABLE_AFTER_S = 5.0
DEFAULT_ROTATE_S = 3_600
IMPORT_QUEUE_LIMIT = 1_000
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
LOCK_NAME = ".recorder.lock"
DEPTH_MARK = b'"depthUpdate"'
DEPTH_MARK_WITHIN_BYTES = 160

_log = structlog.get_logger("venues.binance.recorder")


class RecorderError(Exception):
    """The recorder can't start or go on. The message says why, and what to do."""


class RecorderUsageError(RecorderError):
    """What was asked for can't be recorded: a symbol that the venue doesn't know, too many, an address that is none."""


class RecorderVenueError(RecorderError):
    """The venue can't be reached."""


class RecorderCounters(msgspec.Struct):
    """Since the start. gaps are breaks of a depth sequence that were seen while recording."""

    frames: int = 0
    bytes: int = 0
    snapshots: int = 0
    gaps: int = 0
    connections: int = 0
    files: int = 0
    imports_failed: int = 0


class _Head(msgspec.Struct, gc=False):
    s: str = ""
    U: int = 0
    u: int = 0
    pu: int | None = None


class _Frame(msgspec.Struct, gc=False):
    data: _Head = msgspec.field(default_factory=_Head)


class _SnapshotHead(msgspec.Struct):
    lastUpdateId: int


_FRAME = msgspec.json.Decoder(_Frame)


class _Symbol:
    """The depth sequence of one symbol in the current file, and whether its snapshot is still to come.

    followed: the update that the first message of the unbroken sequence follows; a snapshot from there on joins.
    """

    def __init__(self) -> None:
        self.followed: int | None = None
        self.last_update_id: int | None = None
        self.snapshot_id: int | None = None
        self.wanted = asyncio.Event()

    def restart(self) -> None:
        self.followed = self.snapshot_id = None
        self.wanted.set()

    def on_depth(self, head: _Head) -> bool:
        """Whether the sequence broke."""
        followed, last = head.U - 1 if head.pu is None else head.pu, self.last_update_id
        if last is not None and head.u <= last:
            return False
        # A spot message may begin within the last one: its quantities are absolute.
        broke = last is not None and (followed > last if head.pu is None else followed != last)
        self.last_update_id = head.u
        if broke:
            self.restart()
        if self.followed is None:
            self.followed = followed
            if self.snapshot_id is not None and self.snapshot_id < followed:
                self.restart()
                self.followed = followed
        return broke


class Recorder:
    """Records `symbols` of one venue until told to stop.

    venue: the catalog's name for it. websocket_url: the base under which /stream is. on_imported hears of every sealed
    file that has become Parquet, on_written of every frame and snapshot; both are cheap and don't raise.
    """

    def __init__(
        self,
        catalog: Catalog,
        venue: str,
        rest: BinanceRest,
        websocket_url: str,
        symbols: Iterable[str],
        clock: Clock,
        *,
        rotate_s: int = DEFAULT_ROTATE_S,
        random: Random | None = None,
        on_imported: Callable[[Imported], None] | None = None,
        on_written: Callable[[RecorderCounters], None] | None = None,
    ) -> None:
        """Raises RecorderUsageError for no symbols or too many."""
        names = sorted(set(symbols))
        if not 1 <= len(names) <= MAX_SYMBOLS:
            raise RecorderUsageError(
                f"{len(names)} symbols were named; name 1 to {MAX_SYMBOLS}, or start more recorders"
            )
        self._base_url = websocket_url
        streams = "/".join(f"{name.lower()}@{stream}" for name in names for stream in STREAMS)
        self._url = f"{websocket_url.rstrip('/')}/stream?streams={streams}"
        self._catalog = catalog
        self._venue = venue
        self._rest = rest
        self._clock = clock
        self._rotate_ns = rotate_s * NS_PER_S
        self._random = random
        self._on_imported = on_imported
        self._on_written = on_written
        self._symbols = {name: _Symbol() for name in names}
        self._writer: RawWriter | None = None
        self._slot = 0
        self._failed: Exception | None = None
        self._stream_error: Exception | None = None
        self._ending: asyncio.Event = asyncio.Event()
        self._sealed: asyncio.Queue[Path | None] = asyncio.Queue(IMPORT_QUEUE_LIMIT)
        self._snapshot_slots = asyncio.Semaphore(SNAPSHOT_CONCURRENCY)
        self.counters = RecorderCounters()

    async def check_symbols(self) -> None:
        """Ask the venue for each symbol once. Raises RecorderUsageError that names the one it doesn't know, or
        RecorderVenueError that says why it can't be asked."""
        for symbol in self._symbols:
            try:
                await self._depth(symbol, CHECK_LEVELS)
            except BinanceApiError as error:
                raise RecorderUsageError(
                    f"{self._venue} doesn't give the depth of {symbol}: {_sentence(error)} Correct --symbols."
                ) from error
            except VenueUnavailableError as error:
                raise RecorderVenueError(
                    f"{self._venue} can't be reached: {_sentence(error)} Check the URL and the network."
                ) from error

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until stop is set, then seals and imports what there is. Raises RecorderError when the catalog can't be
        written, or another recorder writes this venue into it; RecorderUsageError when the stream's address is none;
        RecorderVenueError when it never opened."""
        folder = self._catalog.raw_folder(self._venue, "*").parent
        try:
            with folder_lock(folder, LOCK_NAME, wait=False):
                await self._record(stop)
            if self._stream_error is not None and not self.counters.connections:
                raise RecorderVenueError(
                    f"nothing was recorded: the stream at {self._base_url} never opened: "
                    f"{_sentence(self._stream_error)} Check the URL and the network."
                )
        except InvalidURI as error:
            raise RecorderUsageError(
                f"{self._base_url} is no address of a stream; name one that begins with ws:// or wss://"
            ) from error
        except BlockingIOError as error:
            raise RecorderError(
                f"{folder}: another recorder writes {self._venue} here; stop it, or record elsewhere (--out)"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    async def _record(self, stop: asyncio.Event) -> None:
        for path in await asyncio.to_thread(adopt_partials, self._catalog, self._venue):
            _log.warning("recording_adopted", file=str(path))
            await self._sealed.put(path)
        importing = asyncio.create_task(self._import_all())
        tasks = [asyncio.create_task(self._stream_forever())]
        tasks += [asyncio.create_task(self._snapshots(name)) for name in self._symbols]
        stopping = asyncio.create_task(stop.wait())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({stopping, ending, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, ending, *tasks):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            try:
                self._seal()
            except OSError as error:
                self._failed = self._failed or error
            await self._sealed.put(None)
            await importing
        for failure in (self._failed, *outcomes):
            if isinstance(failure, Exception):
                raise failure

    # the stream

    async def _stream_forever(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S, self._random)
        while True:
            connected_s: float | None = None
            try:
                async with open_websocket(self._url) as connection:
                    connected_s = loop.time()
                    self._opened()
                    while True:
                        async with asyncio.timeout(SILENCE_LIMIT_S):
                            frame = await connection.recv(decode=False)
                        self._on_frame(frame)
            except InvalidURI:
                raise
            except (WebSocketException, OSError, TimeoutError) as error:
                if self._ending.is_set():
                    return
                self._stream_error = error
                _log.warning("recording_stream_lost", error=f"{type(error).__name__}: {error}")
            if connected_s is not None and loop.time() - connected_s > STABLE_AFTER_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    def _opened(self) -> None:
        self.counters.connections += 1
        for symbol in self._symbols.values():
            symbol.last_update_id = None
            symbol.restart()

    def _on_frame(self, frame: bytes) -> None:
        self.counters.frames += 1
        self._write(frame)
        if DEPTH_MARK not in frame[:DEPTH_MARK_WITHIN_BYTES]:
            return
        try:
            head = _FRAME.decode(frame).data
        except UNREADABLE:
            return
        symbol = self._symbols.get(head.s)
        if symbol is not None and symbol.on_depth(head):
            self.counters.gaps += 1
            _log.warning("recording_gap", symbol=head.s, first_update_id=head.U)

    # snapshots

    async def _snapshots(self, name: str) -> None:
        """Whenever the symbol wants one, fetch snapshots until one joins the frames that are in the file."""
        symbol = self._symbols[name]
        backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S, self._random)
        while True:
            await symbol.wanted.wait()
            try:
                async with self._snapshot_slots:
                    symbol.wanted.clear()
                    body = await self._depth(name, SNAPSHOT_LEVELS)
                update_id = msgspec.json.decode(body, type=_SnapshotHead).lastUpdateId
            except VenueRateLimitedError as error:
                symbol.wanted.set()
                await asyncio.sleep(max(error.retry_after_s, backoff.next_s()))
                continue
            except (VenueUnavailableError, *UNREADABLE) as error:
                symbol.wanted.set()
                _log.warning("recording_snapshot_failed", symbol=name, error=str(error))
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            if symbol.wanted.is_set():
                # The file or the sequence has changed while the answer was on its way.
                continue
            self.counters.snapshots += 1
            self._write(body)
            symbol.snapshot_id = update_id
            if symbol.followed is not None and update_id < symbol.followed:
                symbol.wanted.set()
            await asyncio.sleep(SNAPSHOT_PAUSE_S)

    async def _depth(self, symbol: str, levels: int) -> bytes:
        parameters = {"symbol": symbol, "limit": str(levels)}
        return bytes(await self._rest.read(self._rest.paths.depth, parameters, answer=msgspec.Raw))

    # files

    def _write(self, payload: bytes) -> None:
        now_ns = self._clock.now_ns()
        slot = now_ns // self._rotate_ns
        try:
            if self._writer is None or slot != self._slot:
                self._rotate(now_ns, slot)
            assert self._writer is not None
            self._writer.write(now_ns, payload)
        except OSError as error:
            self._failed = error
            self._ending.set()
            raise
        self.counters.bytes += len(payload)
        if self._on_written is not None:
            self._on_written(self.counters)

    def _rotate(self, now_ns: int, slot: int) -> None:
        is_first = self._writer is None
        self._seal()
        self._writer = RawWriter(self._catalog, self._venue, now_ns)
        self._slot = slot
        if not is_first:
            for symbol in self._symbols.values():
                symbol.restart()

    def _seal(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        path = writer.seal()
        if path is not None:
            self.counters.files += 1
            try:
                self._sealed.put_nowait(path)
            except asyncio.QueueFull:
                self.counters.imports_failed += 1
                _log.error("recording_import_failed", file=str(path), error="too many files wait for it")

    async def _import_all(self) -> None:
        while (path := await self._sealed.get()) is not None:
            try:
                imported = await asyncio.to_thread(import_recorded, self._catalog, path, self._venue)
            except (RecordingError, CatalogError, OSError) as error:
                # The raw frames are what counts, and they are there: they can be imported again.
                self.counters.imports_failed += 1
                _log.error("recording_import_failed", file=str(path), error=str(error))
                continue
            if self._on_imported is not None:
                self._on_imported(imported)

    def _unwritable(self, error: OSError) -> RecorderError:
        cure = "free space, or record elsewhere (--out)" if error.errno in NO_SPACE else "record elsewhere (--out)"
        return RecorderError(f"{error.filename or self._catalog.root}: {error.strerror or error}; {cure}")


def _sentence(error: Exception) -> str:
    return f"{error}".rstrip(".") + "."
