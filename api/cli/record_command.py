"""What `veloz record` does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

import msgspec
import structlog
import typer

from api.cli.data_commands import catalog_at
from api.cli.session import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, CommandError
from core.config.paths import HomePaths, default_home
from core.storage.importing import Imported
from core.types.clock import SystemClock
from core.types.instruments import Product
from core.venues.binance.environments import MAINNET, TESTNET, environment_of
from core.venues.binance.recorder import (
    Recorder,
    RecorderCounters,
    RecorderError,
    RecorderUsageError,
    RecorderVenueError,
)
from core.venues.binance.rest import BinanceRest

VENUES = {
    "paper": (Product.SPOT, ""),
    "paper-usdm": (Product.USDM, ""),
    "binance": (Product.SPOT, MAINNET),
    "binance-usdm": (Product.USDM, MAINNET),
    "binance-testnet": (Product.SPOT, TESTNET),
    "binance-usdm-testnet": (Product.USDM, TESTNET),
}
PAPER_STREAM_PATHS = {Product.SPOT: "", Product.USDM: "/usdm"}


def record(
    *,
    venue: str,
    symbols: str,
    out: Path | None,
    duration_s: float,
    rotate_s: int,
    rest_url: str,
    websocket_url: str,
    as_json: bool,
) -> None:
    """Runs until Ctrl-C, SIGTERM or duration_s. Exit code 3 when the venue can't be reached, 2 for wrong usage, 1 when
    the catalog can't be written."""
    known = VENUES.get(venue)
    if known is None:
        raise CommandError("RECORD_VENUE_UNKNOWN", f"--venue {venue}: known are {', '.join(VENUES)}.", EXIT_USAGE)
    product, environment = known
    names = [name.strip().upper() for name in symbols.split(",") if name.strip()]
    if not names:
        raise CommandError(
            "RECORD_SYMBOLS_MISSING", "--symbols names none. Say for example BTCUSDT,ETHUSDT.", EXIT_USAGE
        )
    rest_url, websocket_url = _urls(product, environment, rest_url, websocket_url)
    # stdout is for the result alone.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    catalog = catalog_at(out)

    def told(imported: Imported) -> None:
        if not as_json:
            rows = ", ".join(f"{count:,} {name}" for name, count in sorted(imported.rows.items()))
            typer.echo(f"{imported.source}: {rows}", err=True)

    async def run() -> RecorderCounters:
        rest = BinanceRest(rest_url, SystemClock(), product=product)
        try:
            recorder = Recorder(
                catalog, venue, rest, websocket_url, names, SystemClock(), rotate_s=rotate_s, on_imported=told
            )
            await recorder.check_symbols()
            if not as_json:
                until = f"for {duration_s:g} s" if duration_s else "until Ctrl-C"
                typer.echo(f"Recording {', '.join(names)} of {venue} into {catalog.root} {until}.", err=True)
            await recorder.run(_stop_event(duration_s))
        finally:
            await rest.aclose()
        return recorder.counters

    try:
        counters = asyncio.run(run())
    except RecorderError as error:
        raise CommandError("RECORD_FAILED", str(error), _exit_code(error)) from error
    if as_json:
        typer.echo(json.dumps({"data": str(catalog.root), "venue": venue, **msgspec.to_builtins(counters)}))
    else:
        where = f" --data {out}" if out else ""
        typer.echo(
            f"{counters.frames:,} frames, {counters.snapshots} snapshots, {counters.gaps} gaps, "
            f"{counters.connections} connections. Look at it: veloz data ls{where}; check it: veloz data verify{where}"
        )


def _exit_code(error: RecorderError) -> int:
    if isinstance(error, RecorderUsageError):
        return EXIT_USAGE
    return EXIT_UNREACHABLE if isinstance(error, RecorderVenueError) else EXIT_REFUSED


def _urls(product: Product, environment: str, rest_url: str, websocket_url: str) -> tuple[str, str]:
    if environment:
        found = environment_of(product, environment).overridden(rest_url=rest_url, websocket_url=websocket_url)
        return found.rest_url, found.public_stream_url
    if rest_url and websocket_url:
        return rest_url, websocket_url
    paths = HomePaths(default_home())
    try:
        endpoints = json.loads(paths.service_file.read_text())["endpoints"]
        served = str(endpoints["venue_rest_url"]), str(endpoints["venue_websocket_url"])
    except (OSError, ValueError, KeyError):
        raise CommandError(
            "SERVICE_NOT_RUNNING",
            f"No service runs for {paths.home}, so there is no paper venue. Start it with `veloz up`, or name one with "
            "--rest-url and --websocket-url.",
            EXIT_UNREACHABLE,
        ) from None
    return rest_url or served[0], websocket_url or served[1] + PAPER_STREAM_PATHS[product]


def _stop_event(duration_s: float) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    if duration_s:
        loop.call_later(duration_s, stop.set)
    return stop
