"""Raw recordings into the catalog: Parquet by venue, symbol, type and day, and the raw frames beside it.

An import is known by its source's SHA-256: the same bytes again add nothing, and one that was interrupted is done
again over the same names.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.storage import frames
from core.storage.atomic import replace_file, sha256_of
from core.storage.catalog import Catalog, Part, day_of, list_part
from core.storage.frames import Kind, SnapshotBody
from core.storage.parquet import SCHEMA_VERSION, PartBuilder
from core.storage.recording import Line, Problems, RecordingError
from core.storage.scan import Market, Scan, scan_files
from core.types.instruments import Product

MAX_PART_ROWS = 50_000
MAX_PART_VALUES = 4_000_000
"""Prices and quantities of one part in memory."""
VENUES = {Product.SPOT: "binance", Product.USDM: "binance-usdm", Product.COINM: "binance-coinm"}


_Keep = Callable[[Catalog, Scan, str | None, str], None]
"""What to do with the raw frames: catalog, scan, venue, SHA-256."""


class Imported(msgspec.Struct):
    """What came of one source. skipped: it had been imported before."""

    source: str
    sha256: str
    skipped: bool = False
    rows: dict[str, int] = {}
    parts: int = 0
    problems: list[str] = []


def import_file(catalog: Catalog, source: Path, venue: str | None = None, *, keep_raw: bool = True) -> Imported:
    """venue: under which name; by default that of each product. keep_raw: copy the source into the catalog as well.

    Raises RecordingError for a source that can't be used, OSError when the catalog can't be written.
    """
    return _import(catalog, source, venue, _keep_raw if keep_raw else None)


def import_recorded(catalog: Catalog, path: Path, venue: str) -> Imported:
    """A sealed raw file that lies in the catalog already: list it, and make Parquet of it. Raises as `import_file`."""
    return _import(catalog, path, venue, lambda _, scan, __, digest: list_raw(path.parent, path, scan, digest))


def _import(catalog: Catalog, source: Path, venue: str | None, keep: _Keep | None) -> Imported:
    try:
        digest = sha256_of(source)
    except OSError as error:
        raise RecordingError(f"{source}: can't be read: {error.strerror or error}; name a recording") from error
    result = Imported(str(source), digest)
    if catalog.was_imported(digest):
        result.skipped = True
        return result
    scan = scan_files([source])
    _Importing(catalog, scan, venue, result).run()
    result.problems = [str(problem) for problem in scan.problems.kept]
    if keep is not None:
        keep(catalog, scan, venue, digest)
    catalog.note_import(digest, msgspec.to_builtins(result))
    return result


class _Importing:
    def __init__(self, catalog: Catalog, scan: Scan, venue: str | None, result: Imported) -> None:
        self._catalog = catalog
        self._scan = scan
        self._venue = venue
        self._result = result
        self._open: dict[tuple[Market, Kind, str], PartBuilder] = {}

    def run(self) -> None:
        for line in self._scan.lines(Problems()):
            try:
                self._line(line)
            except ValueError as error:
                # The scan has told of what it can't read; this is what doesn't fit into the schema.
                self._scan.problems.add(self._scan.files[line.file].path, line.number, f"left out: {error}")
        for key in list(self._open):
            self._close(key)

    def _line(self, line: Line) -> None:
        kind, body = frames.parse(line.payload)
        if body is None:
            return
        if isinstance(body, SnapshotBody):
            market = self._scan.snapshot_markets.get((line.file, line.number))
        else:
            market = self._scan.market_of(kind, body)
            if body.X == "NA":
                return
        if market is None:
            return
        key = (market, kind, day_of(line.recv_ns))
        builder = self._open.get(key)
        if builder is None:
            scan = self._scan.markets[market]
            builder = self._open[key] = PartBuilder(kind, scan.price_scale, scan.quantity_scale)
        builder.add(line.recv_ns, body)
        if builder.rows >= MAX_PART_ROWS or builder.values >= MAX_PART_VALUES:
            self._close(key)

    def _close(self, key: tuple[Market, Kind, str]) -> None:
        (product, symbol), kind, day = key
        builder = self._open.pop(key)
        if not builder.rows:
            return
        venue = self._venue or VENUES[product]
        folder = self._catalog.partition(venue, symbol, kind, day)
        path = folder / f"part-{builder.first_ns}-{self._result.sha256[:8]}.parquet"
        metadata = {
            "venue": venue,
            "product": product.value,
            "symbol": symbol,
            "source_sha256": self._result.sha256,
        }
        replace_file(path, lambda temporary: builder.write(temporary, metadata))
        list_part(
            folder,
            Part(
                file=path.name,
                sha256=sha256_of(path),
                bytes=path.stat().st_size,
                rows=builder.rows,
                first_ns=builder.first_ns,
                last_ns=builder.last_ns,
                first_id=builder.first_id,
                last_id=builder.last_id,
                gaps=builder.gaps,
                schema_version=SCHEMA_VERSION,
                source_sha256=self._result.sha256,
            ),
        )
        self._result.parts += 1
        name = f"{venue}/{symbol}/{kind.value}"
        self._result.rows[name] = self._result.rows.get(name, 0) + builder.rows


def _keep_raw(catalog: Catalog, scan: Scan, venue: str | None, digest: str) -> None:
    source = scan.files[0].path
    products = {market.product for market in scan.markets.values()}
    first = next((product for product in Product if product in products), Product.SPOT)
    folder = catalog.raw_folder(venue or VENUES[first], day_of(scan.first_ns))
    stem = source.name.removesuffix(".gz")
    path = folder / f"{stem}-{digest[:8]}{'.gz' if source.name.endswith('.gz') else '.frames'}"
    replace_file(path, lambda temporary: _copy(source, temporary))
    list_raw(folder, path, scan, digest)


def list_raw(folder: Path, path: Path, scan: Scan, digest: str) -> None:
    """Enter a finished raw file of one scan into its folder's manifest."""
    torn = any("torn tail" in problem.what for problem in scan.problems.kept)
    found = scan.files[0]
    part = Part(path.name, digest, path.stat().st_size, found.frames, found.first_ns, found.last_ns, torn=torn)
    list_part(folder, part)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
