"""What following a market costs: CPU of the engine's side for many symbols, over a real WebSocket from another process.

The load is the recorded BTCUSDT market when VELOZ_RECORDINGS (default ../shared/recordings) has it and a minute is
enough, else one made here, told under as many names as asked for: half of the messages are depth. The books are
verified as always; a figure with a gap in it is worth nothing, so gaps are printed too.

CPU is user and system time of this process over wall time, after all books are LIVE, on uvloop as the engine runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import structlog
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from core.market.hub import MarketHub
from core.market.sync import BookState, StateChanged
from core.types.clock import SystemClock
from core.types.instruments import Instrument
from core.venues.binance.feed import BinanceMarketFeed
from core.venues.binance.limits import RateLimiter, RateRule
from core.venues.binance.rest import BinanceRest

ROOT = Path(__file__).resolve().parents[1]
RECORDING = "spot_btcusdt_20240808.gz"
START_LIMIT_S = 60.0
PACE_S = 0.02
FRAMES_KEPT = 60_000
RECORDED_LIMIT_S = 60.0
"""A book that starts from one cut snapshot doesn't last longer than the recording's market stays near."""
SYNTHETIC_VARIETY = 500
BOOK_LEVELS = 1_000
BASE_PRICE = 6_000_000
"""In cents."""


def symbol_name(number: int) -> str:
    return f"A{number:03}USDT"


# the server, in a process of its own


def recorded_frames() -> tuple[bytes, list[bytes]] | None:
    """A snapshot and the frames around it; None when there is no recording."""
    folder = Path(os.environ.get("VELOZ_RECORDINGS", ROOT.parent / "shared" / "recordings"))
    if not (folder / RECORDING).is_file():
        return None
    snapshot = b""
    frames: list[bytes] = []
    for path in sorted(folder.glob("spot_btcusdt_*.gz")):
        with gzip.open(path) as file:
            for line in file:
                frame = line.partition(b" ")[2].rstrip()
                if frame.startswith(b'{"lastUpdateId"'):
                    snapshot = frame
                elif len(frames) < FRAMES_KEPT:
                    frames.append(frame)
    return snapshot, frames


class RecordedLoad:
    """The recorded market, thinned to one ticker or trade for each depth message. It ends when the recording does."""

    def __init__(self, snapshot: bytes, frames: list[bytes]) -> None:
        self.snapshot = snapshot
        last_id = json.loads(snapshot)["lastUpdateId"]
        depth = [frame for frame in frames if b"@depth" in frame[:60]]
        start = next(n for n, frame in enumerate(depth) if json.loads(frame)["data"]["u"] > last_id)
        others = [frame for frame in frames if b"@depth" not in frame[:60]]
        self._depth, self._others = depth[start:], others[:: max(1, len(others) // (len(depth) - start))]
        self.length = 2 * min(len(self._depth), len(self._others))

    def frame(self, name: bytes, number: int) -> bytes:
        frame = (self._others if number % 2 else self._depth)[number // 2]
        return frame.replace(b"btcusdt", name, 1).replace(b"BTCUSDT", name.upper(), 1)


class SyntheticLoad:
    """Frames of the venue's form and of usual size, without end: 30 levels a depth message, every other frame one."""

    length = sys.maxsize

    def __init__(self, random: Random) -> None:
        bids = [self._level(BASE_PRICE - 1 - n, 1.0) for n in range(BOOK_LEVELS)]
        asks = [self._level(BASE_PRICE + n, 1.0) for n in range(BOOK_LEVELS)]
        self.snapshot = json.dumps({"lastUpdateId": 0, "bids": bids, "asks": asks}).encode()
        self._changes = [
            tuple(
                json.dumps([self._level(BASE_PRICE + sign * random.randint(2, 900), 2.5) for _ in range(15)])
                for sign in (-1, 1)
            )
            for _ in range(SYNTHETIC_VARIETY)
        ]

    @staticmethod
    def _level(price: int, quantity: float) -> list[str]:
        return [f"{price // 100}.{price % 100:02}000000", f"{quantity:.8f}"]

    def frame(self, name: bytes, number: int) -> bytes:
        symbol, turn = name.decode(), number // 2
        now_ms = time.time_ns() // 1_000_000
        if number % 2 == 0:
            bids, asks = self._changes[turn % SYNTHETIC_VARIETY]
            stream, last = "depth@100ms", (turn + 1) * 20
            data = (
                f'"e":"depthUpdate","E":{now_ms},"s":"{symbol.upper()}","U":{last - 19},"u":{last},'
                f'"b":{bids},"a":{asks}'
            )
        else:
            stream = "trade"
            data = (
                f'"e":"trade","E":{now_ms},"s":"{symbol.upper()}","t":{turn + 1},"p":"60000.00000000",'
                f'"q":"0.01000000","T":{now_ms},"m":true,"M":true'
            )
        return f'{{"stream":"{symbol}@{stream}","data":{{{data}}}}}'.encode()


class LoadServer:
    """Sends each subscribed symbol `rate` messages a second: as many of depth as of the other kinds together."""

    def __init__(self, load: RecordedLoad | SyntheticLoad, rate: float) -> None:
        self._load = load
        self._rate = rate

    def http(self, _: ServerConnection, request: Request) -> Response | None:
        if "/depth?" not in request.path:
            return None
        snapshot = self._load.snapshot
        headers = Headers({"content-length": str(len(snapshot)), "connection": "close"})
        return Response(200, "OK", headers, snapshot)

    async def stream(self, connection: ServerConnection) -> None:
        names: dict[bytes, float] = {}
        playing = asyncio.create_task(self._play(connection, names))
        try:
            while True:
                request = json.loads(await connection.recv())
                await connection.send(json.dumps({"result": None, "id": request["id"]}))
                for name in request["params"]:
                    names.setdefault(name.partition("@")[0].encode(), time.monotonic())
        except ConnectionClosed:
            return
        finally:
            playing.cancel()

    async def _play(self, connection: ServerConnection, names: dict[bytes, float]) -> None:
        """Each symbol's clock starts with its subscription: its frames come spread evenly, not all symbols at once."""
        sent: dict[bytes, int] = {}
        while True:
            await asyncio.sleep(PACE_S)
            now_s = time.monotonic()
            for offset, (name, since_s) in enumerate(tuple(names.items())):
                due = min(self._load.length, int((now_s - since_s) * self._rate + offset / len(names)))
                for number in range(sent.get(name, 0), due):
                    await connection.send(self._load.frame(name, number), text=True)
                sent[name] = max(due, sent.get(name, 0))


def make_load(rate: float, duration_s: float) -> RecordedLoad | SyntheticLoad:
    """The recording when there is one that lasts as long, else the synthetic load."""
    recorded = recorded_frames()
    if recorded is not None and duration_s <= RECORDED_LIMIT_S:
        load = RecordedLoad(*recorded)
        if load.length >= rate * (duration_s + START_LIMIT_S):
            return load
    return SyntheticLoad(Random(1))  # noqa: S311 a load, not a key


async def serve_load(rate: float, duration_s: float) -> None:
    kind = make_load(rate, duration_s)
    load = LoadServer(kind, rate)
    async with serve(load.stream, "127.0.0.1", 0, process_request=load.http, compression=None) as server:
        print(server.sockets[0].getsockname()[1], type(kind).__name__, flush=True)
        await asyncio.to_thread(sys.stdin.read)


# what is measured


def rss_bytes() -> int:
    """Resident memory now, where the system tells; else its peak."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(port: int, load: str, symbols: int, rate: float, duration_s: float) -> dict[str, object]:
    clock = SystemClock()
    names = [symbol_name(number) for number in range(symbols)]
    instruments = [Instrument("bench", name, name[:-4], "USDT", 2, 5, 1, 1, 1, 2**62, 1) for name in names]
    all_live, live = asyncio.Event(), set[str]()

    def on_state_changed(change: StateChanged) -> None:
        (live.add if change.current is BookState.LIVE else live.discard)(change.symbol)
        if len(live) == symbols:
            all_live.set()

    hub = MarketHub(instruments, clock, 5_000, on_state_changed)

    rest = BinanceRest(f"http://127.0.0.1:{port}", clock)
    # 200 snapshots at once weigh more than the venue gives in a minute; how they are spread isn't measured here.
    rest.limiter = RateLimiter(rest.clock, (RateRule("REQUEST_WEIGHT", "MINUTE", 1, 10**9),))
    feed = BinanceMarketFeed(f"ws://127.0.0.1:{port}", rest, hub, names, clock)
    stop = asyncio.Event()
    running = asyncio.create_task(feed.run(stop))
    async with asyncio.timeout(START_LIMIT_S):
        await all_live.wait()
    started_s, started_cpu_s, started_frames = time.monotonic(), cpu_s(), feed.counters.frames
    await asyncio.sleep(duration_s)
    elapsed_s, used_s = time.monotonic() - started_s, cpu_s() - started_cpu_s
    frames = feed.counters.frames - started_frames
    result = {
        "benchmark": "feed",
        "symbols": symbols,
        "messages_per_s": round(frames / elapsed_s, 1),
        "cpu_percent_of_one_core": round(100 * used_s / elapsed_s, 2),
        "cpu_us_per_message": round(1e6 * used_s / max(1, frames), 1),
        "rss_bytes": rss_bytes(),
        "gaps": sum(counters.sync.gaps for counters in hub.counters().values()),
        "unreadable": feed.counters.unreadable,
        "live_symbols": sum(state == "LIVE" for state in hub.book_states().values()),
        "connections": feed.counters.connections,
        "duration_s": round(elapsed_s, 1),
        "load": load,
    }
    stop.set()
    await running
    await rest.aclose()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second and symbol")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds measured")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if options.serve:
        asyncio.run(serve_load(options.rate, options.duration))
        return 0
    command = [sys.executable, __file__, "--serve", "--rate", str(options.rate), "--duration", str(options.duration)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        port, load = server.stdout.readline().decode().split()
        measured = measure(int(port), load, options.symbols, options.rate, options.duration)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(measured)
        server.terminate()
    print(json.dumps(result) if options.json else json.dumps(result, indent=2), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
