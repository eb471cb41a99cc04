"""Writes raw frames in the recordings' format, so that a crash costs the last moments at most.

A file is written under a partial name and flushed to stable storage at least every FLUSH_INTERVAL_NS; sealing it ends
the compressed stream and gives it its name. What a writer that died left behind is read up to its torn tail.
"""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

from core.storage.atomic import sync_folder
from core.storage.catalog import PARTIAL_SUFFIX, Catalog, day_of
from core.storage.recording import EmptyRecordingError, Problems, RecordingError, read_lines
from core.types.clock import NS_PER_S

FLUSH_INTERVAL_NS = NS_PER_S
COMPRESSION_LEVEL = 6


class RawWriter:
    """One file of one venue. Every call may raise OSError."""

    def __init__(self, catalog: Catalog, venue: str, now_ns: int) -> None:
        folder = catalog.raw_folder(venue, day_of(now_ns))
        folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.fromtimestamp(now_ns // NS_PER_S, UTC).strftime("%H%M%S")
        self.path = folder / f"{stamp}-{now_ns}.gz"
        self._partial = self.path.with_name(self.path.name + PARTIAL_SUFFIX)
        self._file = self._partial.open("xb")
        self._stream = gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION_LEVEL, fileobj=self._file)
        self._flushed_ns = now_ns
        self.frames = 0
        self.frame_bytes = 0

    def write(self, recv_ns: int, payload: bytes) -> None:
        """One frame as it came. JSON holds no line break outside of what may be a space as well."""
        if b"\n" in payload or b"\r" in payload:
            payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
        self._stream.write(b"%d %s\n" % (recv_ns, payload))
        self.frames += 1
        self.frame_bytes += len(payload)
        if recv_ns - self._flushed_ns >= FLUSH_INTERVAL_NS:
            self.flush(recv_ns)

    def flush(self, now_ns: int) -> None:
        """What was written so far is on stable storage, and can be read even if nothing follows."""
        self._flushed_ns = now_ns
        self._stream.flush()
        self._file.flush()
        os.fsync(self._file.fileno())

    def seal(self) -> Path | None:
        """End the file and give it its name; None when it held nothing and is gone."""
        self._stream.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if not self.frames:
            self._partial.unlink()
            return None
        self._partial.rename(self.path)
        sync_folder(self.path.parent)
        return self.path


def adopt_partials(catalog: Catalog, venue: str) -> list[Path]:
    """Give what a writer that died left behind its name; what holds no frame is removed, what can't be read stays.

    Only for who holds the venue's lock: nobody writes now.
    """
    root = catalog.raw_folder(venue, "*").parent
    adopted = []
    for partial in sorted(root.glob(f"day=*/*{PARTIAL_SUFFIX}")):
        try:
            next(read_lines(partial, Problems()))
        except EmptyRecordingError:
            partial.unlink()
            continue
        except RecordingError:
            # What can't be read isn't ours to throw away: `veloz data verify` tells of it.
            continue
        path = partial.with_name(partial.name.removesuffix(PARTIAL_SUFFIX))
        partial.rename(path)
        sync_folder(path.parent)
        adopted.append(path)
    return adopted
