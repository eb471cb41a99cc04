"""The catalog: what was written can be listed, read back, and proved to be unchanged."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from core.storage import atomic
from core.storage.catalog import MANIFEST, Catalog, CatalogError, Manifest, read_manifest
from core.storage.frames import Kind
from core.storage.importing import import_file
from core.storage.parquet import SCHEMA_VERSION, read_part
from core.storage.raw_writer import RawWriter, adopt_partials
from core.storage.recording import Problems, RecordingError, read_lines
from core.types.clock import NS_PER_S
from core.types.instruments import Product
from tests.core.venues.binance.market_lines import START_NS, LineMarket, market, merged, write


@pytest.fixture
def filled(tmp_path: Path) -> Catalog:
    """A catalog with one imported file of two products."""
    catalog = Catalog(tmp_path / "data")
    lines = merged(market(Product.SPOT, "BTCUSDT", 1, after=30), market(Product.COINM, "BTCUSD_PERP", 2, after=30))
    import_file(catalog, write(tmp_path / "day.gz", lines))
    return catalog


def files(catalog: Catalog, suffix: str) -> list[Path]:
    return sorted(catalog.root.rglob(f"*{suffix}"))


def age(path: Path) -> None:
    """As if it had been there for long."""
    os.utime(path, (1, 1))


def test_holdings_are_by_venue_symbol_type_and_day(filled: Catalog) -> None:
    holdings = {(item.venue, item.symbol, item.type): item for item in filled.holdings()}
    kinds = ["bookTicker", "depth", "snapshot", "trade"]
    assert set(holdings) == {
        *(("binance", "BTCUSDT", kind) for kind in kinds),
        *(("binance-coinm", "BTCUSD_PERP", kind) for kind in kinds),
        ("binance", "", "raw"),
    }
    depth = holdings["binance", "BTCUSDT", "depth"]
    assert (depth.rows, depth.days, depth.files) == (35, ["2024-08-09"], 1)
    assert START_NS <= depth.first_ns < depth.last_ns
    folder = "venue=binance-coinm/symbol=BTCUSD_PERP/type=depth/day=2024-08-09"
    assert [path.parent.relative_to(filled.root).as_posix() for path in files(filled, ".parquet")].count(folder) == 1


def test_parquet_holds_the_messages_as_ints_at_the_scales_of_its_metadata(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "data")
    source = LineMarket(Product.USDM, "ETHUSDT", 3).snapshot().steps(3)
    import_file(catalog, write(tmp_path / "day", source.lines), "elsewhere")
    depth = read_part(catalog.parts("elsewhere", "ETHUSDT", Kind.DEPTH)[0])
    metadata = {key.decode(): value.decode() for key, value in depth.schema.metadata.items()}
    assert (metadata["veloz.price_scale"], metadata["veloz.quantity_scale"]) == ("2", "3")
    assert metadata["veloz.schema_version"] == str(SCHEMA_VERSION)
    assert (metadata["veloz.product"], metadata["veloz.symbol"]) == ("USDM", "ETHUSDT")
    frames = [msgspec.json.decode(line.partition(b" ")[2])["data"] for line in source.lines if b"@depth" in line]
    for row, data in zip(depth.to_pylist(), frames, strict=True):
        assert (row["first_update_id"], row["last_update_id"], row["previous_update_id"]) == (
            data["U"],
            data["u"],
            data["pu"],
        )
        assert row["bid_prices"] == [int(price.replace(".", "")) for price, _ in data["b"]]
        assert row["ask_quantities"] == [int(quantity.replace(".", "")) for _, quantity in data["a"]]
        assert row["ts_event_ns"] == data["E"] * 10**6
    tickers = read_part(catalog.parts("elsewhere", "ETHUSDT", Kind.BOOK_TICKER)[0])
    assert tickers.num_rows == sum(b"@bookTicker" in line for line in source.lines)


def test_the_same_source_again_adds_nothing(filled: Catalog, tmp_path: Path) -> None:
    before = filled.holdings()
    again = import_file(filled, tmp_path / "day.gz")
    assert again.skipped
    assert filled.holdings() == before


def test_an_import_that_was_interrupted_is_done_again_over_the_same_names(filled: Catalog, tmp_path: Path) -> None:
    before = filled.holdings()
    for note in (filled.root / "imports").iterdir():
        note.unlink()
    part = files(filled, ".parquet")[0]
    read_manifest(part.parent)
    (part.parent / MANIFEST).unlink()
    assert not import_file(filled, tmp_path / "day.gz").skipped
    assert filled.holdings() == before
    assert filled.verify().is_sound


def test_a_day_ends_at_midnight_utc(tmp_path: Path) -> None:
    source = market(Product.SPOT, "BTCUSDT", 1, after=30)
    lines = []
    for line in source.lines:
        received, _, payload = line.partition(b" ")
        lines.append(b"%d %s" % (int(received) - 2 * NS_PER_S, payload))
    catalog = Catalog(tmp_path / "data")
    import_file(catalog, write(tmp_path / "night", lines))
    depth = next(item for item in catalog.holdings() if item.type == "depth")
    assert depth.days == ["2024-08-08", "2024-08-09"]
    assert depth.rows == 35
    verified = catalog.verify()
    assert (verified.depth_gaps, verified.findings) == (0, [])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite_with_version(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"veloz.schema_version": b"99", b"veloz.type": b"depth"}), path)
    relist(path)


def drop_rows(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)
    relist(path)


def relist(path: Path) -> None:
    """Have the manifest vouch for the file as it is now."""
    manifest = msgspec.json.decode((path.parent / MANIFEST).read_bytes(), type=Manifest)
    manifest.parts = [
        msgspec.structs.replace(part, sha256=atomic.sha256_of(path), bytes=path.stat().st_size)
        for part in manifest.parts
    ]
    manifest.sha256 = ""
    (path.parent / MANIFEST).write_bytes(msgspec.json.encode(manifest))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, "was changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "was changed"),
        (lambda path: path.unlink(), "can't be read"),
        (rewrite_with_version, "schema version 99"),
        (drop_rows, "rows, written were"),
    ],
)
@pytest.mark.parametrize("kind", ["depth", "trade"])
def test_damage_is_found_and_names_the_file(
    filled: Catalog, damage: Callable[[Path], None], says: str, kind: str
) -> None:
    path = next(path for path in files(filled, ".parquet") if f"type={kind}" in str(path))
    damage(path)
    verified = filled.verify()
    assert not verified.is_sound
    (finding,) = [finding for finding in verified.findings if finding.is_damage]
    assert (finding.file, says in finding.what, bool(finding.cure)) == (str(path), True, True)


def test_damage_to_raw_frames_and_to_a_manifest_is_found(filled: Catalog) -> None:
    raw = files(filled, ".gz")[0]
    flip(raw)
    manifest = next(path for path in files(filled, MANIFEST) if "type=trade" in str(path))
    manifest.write_bytes(manifest.read_bytes()[:-5])
    assert {finding.file for finding in filled.verify().findings} == {str(raw), str(manifest)}
    with pytest.raises(CatalogError, match="can't be read"):
        filled.holdings()


def test_a_file_that_no_manifest_lists_is_told(filled: Catalog) -> None:
    part = files(filled, ".parquet")[0]
    stray = part.with_name("part-1.parquet")
    stray.write_bytes(part.read_bytes())
    assert filled.verify().is_sound
    age(stray)
    assert [finding.file for finding in filled.verify().findings] == [str(stray)]


def test_a_gap_that_was_recorded_is_told_and_is_no_damage(tmp_path: Path) -> None:
    lines = market(Product.SPOT, "BTCUSDT", 1, after=30).lines
    depth = [line for line in lines if b"@depth" in line]
    lines.remove(depth[20])
    catalog = Catalog(tmp_path / "data")
    import_file(catalog, write(tmp_path / "day", lines))
    verified = catalog.verify()
    assert (verified.is_sound, verified.depth_gaps) == (True, 1)
    assert [(finding.is_damage, "1 gaps" in finding.what) for finding in verified.findings] == [(False, True)]


def test_names_from_frames_never_leave_the_root(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "data")
    import_file(catalog, write(tmp_path / "day", market(Product.SPOT, "../../X", 1, after=3).lines))
    assert next(item.symbol for item in catalog.holdings() if item.symbol) == "../../X"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "day"}


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    for name, content in (("none", None), ("empty", b""), ("text", b"hello\nyou\nthere\n")):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RecordingError, match=name):
            import_file(Catalog(tmp_path / "data"), path)


# raw files


def test_raw_frames_are_read_as_they_were_written(tmp_path: Path) -> None:
    writer = RawWriter(Catalog(tmp_path), "venue", START_NS)
    writer.write(START_NS, b'{"a":1}')
    writer.write(START_NS + 5, b'{"a":\n2}')
    path = writer.seal()
    assert path is not None
    assert [(line.recv_ns, line.number, line.payload) for line in read_lines(path, Problems())] == [
        (START_NS, 1, b'{"a":1}'),
        (START_NS + 5, 2, b'{"a": 2}'),
    ]
    assert gzip.decompress(path.read_bytes()).count(b"\n") == 2


def test_a_writer_that_died_leaves_what_was_flushed(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    writer = RawWriter(catalog, "venue", START_NS)
    for number in range(200):
        writer.write(START_NS + number * NS_PER_S // 10, b'{"number":%d}' % number)
    # No seal: as after a kill.
    (path,) = adopt_partials(catalog, "venue")
    problems = Problems()
    found = list(read_lines(path, problems))
    assert 180 < len(found) <= 200
    assert "torn tail" in problems.kept[0].what


def test_an_empty_raw_file_is_not_kept(tmp_path: Path) -> None:
    assert RawWriter(Catalog(tmp_path), "venue", START_NS).seal() is None
    assert files(Catalog(tmp_path), ".gz") == []


def test_members_of_gzip_may_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "two.gz"
    path.write_bytes(gzip.compress(b'1 {"a":1}\n') + gzip.compress(b'2 {"b":2}\n'))
    assert [line.recv_ns for line in read_lines(path, Problems())] == [1, 2]


def test_damage_inside_of_compressed_data_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "day.gz", market(Product.SPOT, "BTCUSDT", 1).lines)
    flip(path)
    with pytest.raises(RecordingError, match=r"day\.gz.*damaged"):
        list(read_lines(path, Problems()))


def test_a_manifest_that_was_changed_is_found(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "data")
    import_file(catalog, write(tmp_path / "day", market(Product.SPOT, "BTCUSDT", 1).lines))
    assert catalog.verify().is_sound
    for path in files(catalog, "manifest.json"):
        written = path.read_bytes()
        path.write_bytes(written.replace(b'"first_ns":1', b'"first_ns":2', 1))
        (finding,) = catalog.verify().findings
        assert (finding.file, finding.is_damage) == (str(path), True)
        assert "was changed" in finding.what
        assert "import" in finding.cure
        path.write_bytes(written)
    assert catalog.verify().findings == []


def test_what_a_dead_writer_left_is_told_and_what_cannot_be_read_is_never_removed(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    writer = RawWriter(catalog, "venue", START_NS)
    for number in range(100):
        writer.write(START_NS + number * NS_PER_S // 10, b'{"number":%d}' % number)
    (partial,) = catalog.unfinished()
    # A gzip header, and then no compressed data.
    partial.write_bytes(partial.read_bytes()[:10] + b"\xff" * 50)
    (finding,) = catalog.verify().findings
    assert (finding.file, finding.is_damage) == (str(partial), False)
    assert adopt_partials(catalog, "venue") == []
    assert catalog.unfinished() == [partial]
