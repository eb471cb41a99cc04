"""What `veloz data` and `veloz record` do."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError
from api.cli.text import printable
from core.config.paths import default_home
from core.storage.catalog import UNFINISHED_CURE, Catalog, CatalogError
from core.storage.recording import RecordingError
from core.types.clock import NS_PER_S, format_utc_us

if TYPE_CHECKING:
    from core.venues.binance.replay import ReplayResult

DATA_FOLDER = "data"
SYMBOL = re.compile(r"[A-Z0-9_]{1,32}")
VENUE = re.compile(r"[a-z0-9-]{1,32}")
PROGRESS_INTERVAL_S = 1.0


def catalog_at(root: Path | None) -> Catalog:
    return Catalog(root or default_home() / DATA_FOLDER)


def _existing(root: Path | None) -> Catalog:
    """Raises CommandError for a folder that was named and isn't there."""
    if root is not None and not root.is_dir():
        what = "is no folder" if root.exists() else "no such folder"
        raise CommandError("DATA_FOLDER_MISSING", f"{root}: {what}; name a catalog with --data.", EXIT_USAGE)
    return catalog_at(root)


def list_data(root: Path | None, as_json: bool) -> None:
    catalog = _existing(root)
    try:
        holdings = catalog.holdings()
    except (CatalogError, OSError) as error:
        raise CommandError("DATA_CATALOG_UNREADABLE", str(error), EXIT_REFUSED) from error
    if as_json:
        unfinished = [str(path) for path in catalog.unfinished()]
        listed = {"data": str(catalog.root), "holdings": msgspec.to_builtins(holdings), "unfinished": unfinished}
        typer.echo(json.dumps(listed))
        return
    for path in catalog.unfinished():
        typer.secho(printable(f"! {path}: isn't finished; {UNFINISHED_CURE}"), fg="yellow", err=True)
    if not holdings:
        typer.echo(f"Nothing is recorded in {catalog.root}. Start with: veloz record --venue paper --symbols BTCUSDT")
        return
    typer.echo(
        f"{'venue':<14} {'symbol':<16} {'type':<11} {'days':<23} {'rows':>12} {'bytes':>14}  first to last (UTC)"
    )
    for item in holdings:
        days = item.days[0] if len(item.days) == 1 else f"{item.days[0]} to {item.days[-1][5:]}"
        times = f"{_second(item.first_ns)} to {_second(item.last_ns)}"
        symbol = item.symbol or "(all)"
        typer.echo(
            printable(
                f"{item.venue:<14} {symbol:<16} {item.type:<11} {days:<23} {item.rows:>12,} {item.bytes:>14,}  {times}"
            )
        )


def import_klines(root: Path | None, files: list[Path], symbol: str, venue: str, as_json: bool) -> None:
    from core.storage.kline_files import import_klines as take_in

    if not SYMBOL.fullmatch(symbol) or not VENUE.fullmatch(venue):
        raise CommandError("REQUEST_INVALID", "--symbol must look like BTCUSDT, --venue like binance.", EXIT_USAGE)
    done = []
    for file in files:
        try:
            imported = take_in(catalog_at(root), file, symbol, venue)
        except (RecordingError, CatalogError) as error:
            raise CommandError("DATA_FILE_UNUSABLE", str(error), EXIT_USAGE) from error
        except OSError as error:
            raise CommandError("DATA_CATALOG_UNWRITABLE", f"{error}; name another folder with --data.") from error
        done.append(imported)
        if not as_json:
            what = "was there already" if imported.skipped else f"{imported.rows:,} minutes"
            typer.echo(printable(f"{file}: {what}"))
    if as_json:
        typer.echo(json.dumps({"imported": msgspec.to_builtins(done)}))


def import_data(root: Path | None, files: list[Path], venue: str | None, keep_raw: bool, as_json: bool) -> None:
    from core.storage.importing import import_file

    catalog = catalog_at(root)
    done = []
    for file in files:
        try:
            imported = import_file(catalog, file, venue, keep_raw=keep_raw)
        except (RecordingError, CatalogError) as error:
            raise CommandError("DATA_FILE_UNUSABLE", str(error), EXIT_USAGE) from error
        except OSError as error:
            raise CommandError(
                "DATA_CATALOG_UNWRITABLE",
                f"{error.filename or catalog.root}: {error.strerror}; free space or name another folder with --data",
            ) from error
        done.append(imported)
        if not as_json:
            _told_import(imported.source, imported.skipped, imported.rows, imported.problems)
    if as_json:
        typer.echo(json.dumps({"data": str(catalog.root), "imported": msgspec.to_builtins(done)}))


def _told_import(source: str, skipped: bool, rows: dict[str, int], problems: list[str]) -> None:
    if skipped:
        typer.echo(f"{source}: had been imported before; nothing added")
        return
    typer.echo(f"{source}: " + (", ".join(f"{count:,} {name}" for name, count in sorted(rows.items())) or "no rows"))
    for problem in problems:
        typer.secho(f"  {printable(problem)}", fg="yellow", err=True)


def verify_data(root: Path | None, as_json: bool) -> None:
    catalog = _existing(root)
    try:
        found = catalog.verify()
    except OSError as error:
        raise CommandError("DATA_CATALOG_UNREADABLE", f"{error.filename}: {error.strerror}") from error
    if as_json:
        typer.echo(json.dumps({"data": str(catalog.root), "sound": found.is_sound, **msgspec.to_builtins(found)}))
    else:
        typer.echo(f"{found.files} files, {found.rows:,} rows, {found.bytes:,} bytes, {found.depth_gaps} gaps in depth")
        for finding in found.findings:
            mark, colour = ("✗", "red") if finding.is_damage else ("!", "yellow")
            typer.secho(printable(f"{mark} {finding.file}: {finding.what}; {finding.cure}."), fg=colour)
        if not found.files and found.is_sound:
            typer.echo(f"Nothing is recorded in {catalog.root}.")
        elif found.is_sound:
            typer.secho("✓ All of it is what was written.", fg="green")
    if not found.is_sound:
        raise typer.Exit(EXIT_REFUSED)


def replay(
    files: list[Path],
    *,
    verify: bool,
    rates: tuple[float, float, float],
    reorder_span: int,
    fault_frames: int,
    seed: int,
    snapshot_latency_ms: int,
    snapshot_levels: int,
    stale_after_ms: int,
    passes: int,
    duration_s: float,
    as_json: bool,
) -> None:
    """Exit code 1 with --verify when anything differs, 2 for files that can't be replayed."""
    from core.venues.binance.replay import Replay, ReplayOptions
    from core.venues.binance.replay_faults import FaultRates

    drop, duplicate, reorder = rates
    options = ReplayOptions(
        faults=FaultRates(drop, duplicate, reorder, seed, reorder_span, fault_frames),
        verify=verify,
        snapshot_latency_ms=snapshot_latency_ms,
        snapshot_levels=snapshot_levels,
        stale_after_ms=stale_after_ms,
        passes=passes,
        duration_s=duration_s,
    )
    started_s = time.monotonic()
    progress = _Progress()
    try:
        run = Replay(_expanded(files), options, progress.told)
        rss_start = rss_bytes()
        result = run.run()
    except RecordingError as error:
        raise CommandError("DATA_FILE_UNUSABLE", str(error), EXIT_USAGE) from error
    finally:
        progress.end()
    measured = {
        "rss_bytes_start": rss_start,
        "rss_bytes_first_pass": progress.rss_first_pass or rss_bytes(),
        "rss_bytes_end": rss_bytes(),
        "seconds": round(time.monotonic() - started_s, 3),
    }
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(result) | measured))
    else:
        _show(result, verify, measured)
    if verify and not result.is_clean:
        raise typer.Exit(EXIT_REFUSED)


def _expanded(files: list[Path]) -> list[Path]:
    """A folder stands for the raw frames in it."""
    found: list[Path] = []
    for file in files:
        if file.is_dir():
            inside = sorted(path for suffix in ("*.gz", "*.frames") for path in file.rglob(suffix))
            if not inside:
                raise RecordingError(f"{file}: holds no raw frames (*.gz); name a recording, or a folder of them")
            found += inside
        else:
            found.append(file)
    return found


class _Progress:
    """One line on a terminal's stderr, once a second."""

    def __init__(self) -> None:
        self.rss_first_pass = 0
        self._shown_s = time.monotonic()
        self._is_shown = False

    def told(self, frames: int, market_ns: int, passes: int) -> None:
        if passes == 1 and not self.rss_first_pass:
            self.rss_first_pass = rss_bytes()
        now_s = time.monotonic()
        if now_s - self._shown_s < PROGRESS_INTERVAL_S or not sys.stderr.isatty():
            return
        self._shown_s, self._is_shown = now_s, True
        sys.stderr.write(f"\r{frames:,} frames, {market_ns // NS_PER_S:,} s of market time ")
        sys.stderr.flush()

    def end(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\033[K")


def _show(result: ReplayResult, verify: bool, measured: dict[str, float]) -> None:
    faults = ""
    if result.dropped or result.duplicated or result.reordered:
        faults = f" ({result.dropped:,} dropped, {result.duplicated:,} doubled, {result.reordered:,} late)"
    typer.echo(f"{result.frames:,} frames, {result.market_time_ns / NS_PER_S:,.1f} s of market time{faults}")
    typer.echo(f"{result.depth_messages:,} depth messages, {result.levels:,} levels, in {measured['seconds']} s")
    typer.echo(
        f"gaps {result.gaps}, resyncs {result.resyncs}, refreshes {result.refreshes}, "
        f"not LIVE for {result.stale_ns / NS_PER_S:.3f} s"
    )
    typer.echo(f"best bid and offer: {result.bbo_checked:,} compared with bookTicker, {result.bbo_mismatches} differ")
    if verify:
        typer.echo(f"book: {result.book_checked:,} compared with the truth, {result.book_mismatches} differ")
    for book in result.symbols:
        typer.echo(printable(f"  {book.product} {book.symbol}: {book.state}, {book.depth_messages:,} depth messages"))
    for warning in result.warnings:
        typer.secho(printable(warning), fg="yellow", err=True)
    if verify:
        clean = result.is_clean
        typer.secho(
            "✓ Nothing that was served as LIVE differs." if clean else "✗ Something differs: see above.",
            fg="green" if clean else "red",
        )


def rss_bytes() -> int:
    """The process's resident memory; on systems without /proc the most that it ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1_024
    import os

    return pages * os.sysconf("SC_PAGE_SIZE")


def _second(moment_ns: int) -> str:
    return format_utc_us(moment_ns)[:19]
