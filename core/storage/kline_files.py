"""Minutes' klines from files into the catalog: CSV as Binance publishes it (https://data.binance.vision), also zipped.

Columns: open time in ms (since 2025 in us), open, high, low, close, volume; what follows is left out. A first line of
names is passed over. They are kept as Parquet of type `kline`, a file a UTC day, and nothing is kept of a file of
which a line is wrong.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from core.market.intervals import NS_PER_MINUTE
from core.storage import frames
from core.storage.atomic import replace_file, sha256_of
from core.storage.catalog import Catalog, Part, day_of, list_part
from core.storage.frames import Kind
from core.storage.parquet import METADATA_PREFIX, SCHEMA_VERSION, schema_of
from core.storage.recording import RecordingError
from core.types.clock import NS_PER_MS, NS_PER_US
from core.types.money import MAX_SCALE

ROWS_LIMIT = 1_100_000
"""Of one file: two years."""
BYTES_LIMIT = 512 << 20
"""Of one file, unpacked."""
COLUMNS_NEEDED = 6
MS_DIGITS = 13
US_DIGITS = 16

Kline = tuple[int, int, int, int, int, int]
"""open_time_ns, open, high, low, close, volume at the file's scales."""


class ImportedKlines(msgspec.Struct):
    """What came of one source. skipped: it had been imported before."""

    source: str
    sha256: str
    symbol: str
    venue: str
    rows: int = 0
    first_ns: int = 0
    last_ns: int = 0
    skipped: bool = False


def import_klines(catalog: Catalog, source: Path, symbol: str, venue: str) -> ImportedKlines:
    """Raises RecordingError for a source that can't be used, OSError when the catalog can't be written."""
    try:
        digest = sha256_of(source)
        lines = _lines(source)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise RecordingError(f"{source}: can't be read: {error}; name a CSV file of klines, or a zip of one") from error
    result = ImportedKlines(str(source), digest, symbol, venue)
    note = f"{digest}-{symbol}"
    if catalog.was_imported(note):
        result.skipped = True
        return result
    texts = list(_texts(source, lines))
    if not texts:
        raise RecordingError(f"{source}: holds no klines")
    price_scale = max(frames.places_of(text) for row in texts for text in row[1:5])
    quantity_scale = max(frames.places_of(row[5]) for row in texts)
    if max(price_scale, quantity_scale) > MAX_SCALE:
        raise RecordingError(f"{source}: has more than {MAX_SCALE} decimal places")
    klines = _checked(source, texts, price_scale, quantity_scale)
    scales = {"price_scale": str(price_scale), "quantity_scale": str(quantity_scale)}
    for day, of_day in groupby(klines, lambda kline: day_of(kline[0])):
        _write(catalog, result, day, list(of_day), scales)
    result.rows, result.first_ns, result.last_ns = len(klines), klines[0][0], klines[-1][0]
    catalog.note_import(note, msgspec.to_builtins(result))
    return result


def _lines(source: Path) -> list[str]:
    """Raises OSError, zipfile.BadZipFile, ValueError."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise ValueError(f"the zip holds {len(members)} files instead of one")
            with archive.open(members[0]) as member:
                content = member.read(BYTES_LIMIT + 1)
    else:
        with source.open("rb") as file:
            content = file.read(BYTES_LIMIT + 1)
    if len(content) > BYTES_LIMIT:
        raise ValueError(f"more than {BYTES_LIMIT} bytes")
    return content.decode("ascii").splitlines()


def _texts(source: Path, lines: list[str]) -> Iterator[list[str]]:
    for number, row in enumerate(csv.reader(io.StringIO("\n".join(lines))), start=1):
        if number == 1 and row and not row[0].isdigit():
            continue
        if number > ROWS_LIMIT:
            raise RecordingError(f"{source}: more than {ROWS_LIMIT} lines; split it")
        if len(row) < COLUMNS_NEEDED or len(row[0]) not in {MS_DIGITS, US_DIGITS} or not row[0].isdigit():
            raise RecordingError(f"{source}: line {number}: must be open time, open, high, low, close, volume, ...")
        yield row[:COLUMNS_NEEDED]


def _checked(source: Path, texts: list[list[str]], price_scale: int, quantity_scale: int) -> list[Kline]:
    found: list[Kline] = []
    before_ns = -1
    for number, row in enumerate(texts, start=1):
        opens_ns = int(row[0]) * (NS_PER_MS if len(row[0]) == MS_DIGITS else NS_PER_US)
        try:
            first, high, low, close = (frames.scaled(text, price_scale) for text in row[1:5])
            volume = frames.scaled(row[5], quantity_scale)
        except ValueError as error:
            raise RecordingError(f"{source}: kline {number}: {error}") from error
        if opens_ns % NS_PER_MINUTE or opens_ns <= before_ns:
            raise RecordingError(f"{source}: kline {number}: its time isn't a minute after the one before it")
        if not (0 < low <= min(first, close) and max(first, close) <= high < 1 << 63 and 0 <= volume < 1 << 63):
            raise RecordingError(f"{source}: kline {number}: has prices or a volume that can't be")
        found.append((opens_ns, first, high, low, close, volume))
        before_ns = opens_ns
    return found


def _write(catalog: Catalog, result: ImportedKlines, day: str, klines: list[Kline], scales: dict[str, str]) -> None:
    folder = catalog.partition(result.venue, result.symbol, Kind.KLINE, day)
    path = folder / f"part-{klines[0][0]}-{result.sha256[:8]}.parquet"
    own = {
        "schema_version": str(SCHEMA_VERSION),
        "type": Kind.KLINE.value,
        "venue": result.venue,
        "symbol": result.symbol,
        "interval": "1m",
        "source_sha256": result.sha256,
        **scales,
    }
    schema = schema_of(Kind.KLINE).with_metadata({f"{METADATA_PREFIX}{name}": value for name, value in own.items()})
    arrays = [pa.array(column, pa.int64()) for column in zip(*klines, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    replace_file(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
    list_part(
        folder,
        Part(
            file=path.name,
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            rows=len(klines),
            first_ns=klines[0][0],
            last_ns=klines[-1][0],
            schema_version=SCHEMA_VERSION,
            source_sha256=result.sha256,
        ),
    )
