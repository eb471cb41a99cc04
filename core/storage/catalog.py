"""The folder of recorded market data: what is in it, and whether it is still what was written.

    <root>/venue=<v>/symbol=<s>/type=<t>/day=<YYYY-MM-DD>/part-*.parquet    days are UTC, by receive time
    <root>/raw/venue=<v>/day=<YYYY-MM-DD>/*.gz                              raw frames
    <root>/imports/<sha256>.json                                            which sources have been imported

Each folder of files has a manifest.json with every file's SHA-256, rows and ranges. A file is written under another
name, synced and renamed, then listed: what isn't listed was never finished.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from core.storage.atomic import TEMPORARY_SUFFIX, folder_lock, replace_file, sha256_of
from core.storage.frames import Kind
from core.types.clock import NS_PER_S

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
RAW = "raw"
IMPORTS = "imports"
PARTIAL_SUFFIX = ".partial"
DATA_SUFFIXES = (".parquet", ".gz", ".frames")
MAX_FINDINGS = 1_000
UNFINISHED_CURE = "the next recording of its venue here takes it over; or import it"
FRESH_S = 120
"""A file that was put in place within this time may be about to be listed by its writer."""


class CatalogError(Exception):
    """The catalog can't be used. The message names the file and the cure."""


class Part(msgspec.Struct, frozen=True):
    """One file. Ids are update ids, or trade ids; gaps is how often the depth sequence breaks inside of it."""

    file: str
    sha256: str
    bytes: int
    rows: int
    first_ns: int
    last_ns: int
    first_id: int = 0
    last_id: int = 0
    gaps: int = 0
    schema_version: int = 0
    source_sha256: str = ""
    torn: bool = False


class Manifest(msgspec.Struct):
    """sha256 is that of the parts as JSON; empty where an earlier release wrote it."""

    version: int = MANIFEST_VERSION
    parts: list[Part] = []
    sha256: str = ""


class Holding(msgspec.Struct, frozen=True):
    """What the catalog has of one type of one symbol; symbol is empty for raw frames."""

    venue: str
    symbol: str
    type: str
    days: list[str]
    files: int
    rows: int
    bytes: int
    first_ns: int
    last_ns: int


class Finding(msgspec.Struct, frozen=True):
    """What verification found. is_damage: the data isn't what was written; else it was incomplete from the start."""

    file: str
    what: str
    cure: str
    is_damage: bool = True


class Verification(msgspec.Struct, frozen=True):
    files: int
    rows: int
    bytes: int
    depth_gaps: int
    findings: list[Finding]

    @property
    def is_sound(self) -> bool:
        return not any(finding.is_damage for finding in self.findings)


def day_of(moment_ns: int) -> str:
    """The UTC day of a time, YYYY-MM-DD."""
    return datetime.fromtimestamp(moment_ns // NS_PER_S, UTC).strftime("%Y-%m-%d")


def read_manifest(folder: Path) -> Manifest:
    """Empty when there is none. Raises CatalogError for one that can't be read."""
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise CatalogError(
            f"{path}: can't be read ({error}); restore it from a copy, or import the data again"
        ) from error
    if manifest.version != MANIFEST_VERSION:
        raise CatalogError(
            f"{path}: is of version {manifest.version}, this release reads {MANIFEST_VERSION}; upgrade VeloZ"
        )
    if manifest.sha256 and manifest.sha256 != _digest(manifest.parts):
        raise CatalogError(
            f"{path}: was changed since it was written; restore it from a copy, or import the data again"
        )
    return manifest


def _digest(parts: list[Part]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def list_part(folder: Path, part: Part) -> None:
    """Add a finished file to its folder's manifest, in place of an entry of the same name."""
    with folder_lock(folder):
        manifest = read_manifest(folder)
        manifest.parts = [known for known in manifest.parts if known.file != part.file] + [part]
        manifest.parts.sort(key=lambda known: (known.first_ns, known.file))
        manifest.sha256 = _digest(manifest.parts)
        replace_file(folder / MANIFEST, lambda path: _write(path, msgspec.json.encode(manifest)))


class Catalog:
    """One root folder. Nothing is created before something is stored."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def partition(self, venue: str, symbol: str, kind: Kind, day: str) -> Path:
        """Names are escaped, so that none leaves the root."""
        names = (f"venue={_escaped(venue)}", f"symbol={_escaped(symbol)}", f"type={kind.value}", f"day={day}")
        return self.root.joinpath(*names)

    def raw_folder(self, venue: str, day: str) -> Path:
        return self.root / RAW / f"venue={_escaped(venue)}" / f"day={day}"

    def was_imported(self, source_sha256: str) -> bool:
        return (self.root / IMPORTS / f"{source_sha256}.json").exists()

    def note_import(self, source_sha256: str, note: dict[str, object]) -> None:
        """The last step of an import: before it the import is done again, over the same names."""
        replace_file(
            self.root / IMPORTS / f"{source_sha256}.json", lambda path: _write(path, msgspec.json.encode(note))
        )

    def parts(self, venue: str, symbol: str, kind: Kind) -> list[Path]:
        """The Parquet files of one type of one symbol, in order of time."""
        found = []
        for folder in sorted(self.partition(venue, symbol, kind, "*").parent.glob("day=*")):
            found += [folder / part.file for part in read_manifest(folder).parts]
        return found

    def raw_files(self, venue: str) -> list[Path]:
        """The raw frames of one venue, in order of time."""
        found = []
        for folder in sorted((self.root / RAW / f"venue={_escaped(venue)}").glob("day=*")):
            found += [folder / part.file for part in read_manifest(folder).parts]
        return found

    def unfinished(self) -> list[Path]:
        """Raw files that are being recorded, or whose recorder died."""
        return sorted((self.root / RAW).rglob(f"*{PARTIAL_SUFFIX}"))

    def holdings(self) -> list[Holding]:
        """What is there, by the manifests alone. Raises CatalogError."""
        groups: dict[tuple[str, str, str], list[tuple[str, Part]]] = {}
        for folder in self._folders():
            names = dict(piece.split("=", 1) for piece in folder.relative_to(self.root).parts if "=" in piece)
            key = (unquote(names.get("venue", "")), unquote(names.get("symbol", "")), names.get("type", RAW))
            for part in read_manifest(folder).parts:
                groups.setdefault(key, []).append((names.get("day", ""), part))
        return [
            Holding(
                *key,
                days=sorted({day for day, _ in parts}),
                files=len(parts),
                rows=sum(part.rows for _, part in parts),
                bytes=sum(part.bytes for _, part in parts),
                first_ns=min(part.first_ns for _, part in parts),
                last_ns=max(part.last_ns for _, part in parts),
            )
            for key, parts in sorted(groups.items())
        ]

    def verify(self) -> Verification:
        """Read every byte: checksums, schema versions, row counts, and the sequence of depth messages."""
        return _Verifying(self).run()

    def _folders(self) -> Iterator[Path]:
        """Every folder that holds files or a manifest."""
        patterns = (*(f"*{suffix}" for suffix in (*DATA_SUFFIXES, PARTIAL_SUFFIX)), MANIFEST)
        found = {path.parent for pattern in patterns for path in self.root.rglob(pattern)}
        yield from sorted(found)


class _Verifying:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._findings: list[Finding] = []
        self._files = self._rows = self._bytes = self._gaps = 0
        self._ends: dict[Path, tuple[Path, int]] = {}

    def run(self) -> Verification:
        for folder in self._catalog._folders():
            try:
                manifest = read_manifest(folder)
            except CatalogError as error:
                what, _, cure = str(error).removeprefix(f"{folder / MANIFEST}: ").partition("; ")
                self._find(folder / MANIFEST, what, cure)
                continue
            self._unlisted(folder, {part.file for part in manifest.parts})
            for part in manifest.parts:
                self._part(folder / part.file, part)
        return Verification(self._files, self._rows, self._bytes, self._gaps, self._findings)

    def _find(self, path: Path, what: str, cure: str, is_damage: bool = True) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(str(path), what, cure, is_damage))

    def _unlisted(self, folder: Path, listed: set[str]) -> None:
        for path in sorted(folder.iterdir()):
            if path.name in listed or path.name.startswith(".") or path.suffix == TEMPORARY_SUFFIX:
                continue
            if path.suffix == PARTIAL_SUFFIX:
                self._find(path, "isn't finished: it is being recorded, or its recorder died", UNFINISHED_CURE, False)
            elif path.suffix in DATA_SUFFIXES and time.time() - path.stat().st_mtime > FRESH_S:
                self._find(
                    path, "is in no manifest: its import was not finished", "import its source again, or remove it"
                )

    def _part(self, path: Path, part: Part) -> None:
        self._files += 1
        try:
            size_bytes, digest = path.stat().st_size, sha256_of(path)
        except OSError as error:
            self._find(
                path, f"can't be read: {error.strerror or error}", "restore it from a copy, or import its source again"
            )
            return
        self._bytes += size_bytes
        self._rows += part.rows
        if digest != part.sha256 or size_bytes != part.bytes:
            self._find(
                path,
                f"was changed: SHA-256 {digest} over {size_bytes} bytes, written were {part.sha256} and {part.bytes}",
                "restore it from a copy, or import its source again",
            )
        elif path.suffix == ".parquet":
            self._parquet(path, part)
        elif part.torn:
            self._find(path, "has a torn tail: its writer died", "what stands before it is whole", False)

    def _parquet(self, path: Path, part: Part) -> None:
        from core.storage import parquet

        try:
            metadata, rows = parquet.metadata_of(path)
            version = int(metadata.get("schema_version", "0"))
            ids = (
                parquet.depth_ids(path) if metadata.get("type") == Kind.DEPTH and version == part.schema_version else []
            )
        except (OSError, ValueError) as error:
            self._find(path, f"is no readable Parquet file: {error}", "import its source again")
            return
        if version != parquet.SCHEMA_VERSION or version != part.schema_version:
            self._find(
                path,
                f"is of schema version {version}, this release reads {parquet.SCHEMA_VERSION}",
                "import its source again with this release",
            )
        elif rows != part.rows:
            self._find(path, f"has {rows} rows, written were {part.rows}", "import its source again")
        elif ids:
            self._sequence(path, part, ids)

    def _sequence(self, path: Path, part: Part, ids: list[tuple[int, int, int | None]]) -> None:
        from core.storage.parquet import follows

        symbol_folder = path.parent.parent
        last = self._ends.get(symbol_folder)
        found = 0
        for (_, last_id, _), (first_id, _, previous_id) in pairwise(ids):
            if not follows(first_id, previous_id, last_id):
                found += 1
        if found != part.gaps:
            self._find(
                path, f"breaks its depth sequence {found} times, when written {part.gaps}", "import its source again"
            )
        elif found:
            self._find(
                path, f"{found} gaps in its depth sequence, since it was recorded", "replay from a snapshot", False
            )
        if last is not None and not follows(ids[0][0], ids[0][2], last[1]):
            self._gaps += 1
            self._find(
                path, f"doesn't continue {last[0].name}: not recorded in between", "replay from a snapshot", False
            )
        self._gaps += found
        self._ends[symbol_folder] = (path, ids[-1][1])


def _escaped(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
