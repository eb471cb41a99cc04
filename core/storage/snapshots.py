"""Snapshots of the kernel's state beside the journal, so that a start needn't replay everything.

A file holds the magic, length u32 LE and CRC32C u32 LE of a JSON header, the header, and the state's bytes. It is
written under another name, synced and renamed, so that a crash leaves the old files or the new one.

What is verified when: reading verifies the file's own checksums; Journal.open and newest_snapshot also that the hash
is the one that the journal's chain has at that sequence. One that fails is skipped with a warning: the next older one
or the journal's beginning serves, and costs time alone. SNAPSHOTS_KEPT are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator
from typing import Protocol

import google_crc32c
import msgspec
import structlog

from core.storage.journal_errors import JournalDamagedError, JournalDroppedError
from core.storage.journal_files import JournalFolder
from core.storage.journal_segments import Anchor

SNAPSHOT_SUFFIX = ".snapshot"
TEMPORARY_SUFFIX = ".snapshot.tmp"
SNAPSHOTS_KEPT = 3
SNAPSHOT_SCHEMA = "veloz.snapshot/1"
MAGIC = b"VELOZS01"
HEADER_LIMIT_BYTES = 4_096
_FRAME = struct.Struct("<II")

_log = structlog.get_logger("engine.snapshots")


class SnapshotHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the state is of, and how to tell that it is whole."""

    schema: str
    engine_id: str
    epoch: int
    sequence: int
    journal_hash_hex: str
    state_digest_hex: str
    length_bytes: int
    sha256_hex: str


class Snapshot(msgspec.Struct, frozen=True):
    """A sound snapshot; state is what the kernel's snapshot() returned."""

    name: str
    header: SnapshotHeader
    state: bytes

    @property
    def sequence(self) -> int:
        return self.header.sequence

    @property
    def anchor(self) -> Anchor:
        """The place in the journal's chain that it was taken at."""
        return Anchor(self.header.sequence, bytes.fromhex(self.header.journal_hash_hex))


class BadSnapshotError(Exception):
    """The file isn't a whole snapshot of this engine."""


class Chain(Protocol):
    """The journal, as far as it is needed here."""

    @property
    def engine_id(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    def hash_at(self, sequence: int) -> bytes: ...


def write_snapshot(
    folder: JournalFolder, engine_id: str, epoch: int, at: Anchor, state_digest_hex: str, state: bytes
) -> SnapshotHeader:
    """Put a snapshot of the state at a durable record (journal.head at that moment) in place, and drop the oldest.

    May run in any thread beside the journal. Raises OSError: then nothing that was there is lost.
    """
    header = SnapshotHeader(
        SNAPSHOT_SCHEMA,
        engine_id,
        epoch,
        at.sequence,
        at.hash.hex(),
        state_digest_hex,
        len(state),
        hashlib.sha256(state).hexdigest(),
    )
    body = msgspec.json.encode(header)
    name = f"{at.sequence:016d}-{epoch:08d}"
    for left_over in folder.names(TEMPORARY_SUFFIX):
        folder.remove(left_over)
    file = folder.create(name + TEMPORARY_SUFFIX)
    try:
        file.write(0, MAGIC + _FRAME.pack(len(body), google_crc32c.value(body)) + body + state)
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):
            folder.remove(name + TEMPORARY_SUFFIX)
        raise
    finally:
        file.close()
    folder.rename(name + TEMPORARY_SUFFIX, name + SNAPSHOT_SUFFIX)
    folder.sync_names()
    for old in folder.names(SNAPSHOT_SUFFIX)[:-SNAPSHOTS_KEPT]:
        folder.remove(old)
    return header


def newest_snapshot(folder: JournalFolder, journal: Chain) -> Snapshot | None:
    """The newest sound snapshot whose hash is the journal's at that record, with every record behind it at hand."""
    for snapshot in sound_snapshots(folder, journal.engine_id):
        try:
            if snapshot.sequence <= journal.sequence and journal.hash_at(snapshot.sequence) == snapshot.anchor.hash:
                return snapshot
        except (JournalDamagedError, JournalDroppedError) as error:
            _skipped(folder, snapshot.name, str(error))
        else:
            _skipped(folder, snapshot.name, "it isn't of this journal")
    return None


def anchors(folder: JournalFolder, engine_id: str) -> Iterator[Anchor]:
    """The places that sound snapshots vouch for, newest first."""
    return (snapshot.anchor for snapshot in sound_snapshots(folder, engine_id))


def sound_snapshots(folder: JournalFolder, engine_id: str) -> Iterator[Snapshot]:
    """Newest first; whether they are of this journal isn't known yet."""
    for name in reversed(folder.names(SNAPSHOT_SUFFIX)):
        try:
            snapshot = read_snapshot(folder, name)
            if snapshot.header.engine_id != engine_id:
                raise BadSnapshotError(f"it is of engine {snapshot.header.engine_id!r}")
        except (BadSnapshotError, OSError) as error:
            _skipped(folder, name, str(error))
        else:
            yield snapshot


def read_snapshot(folder: JournalFolder, name: str) -> Snapshot:
    """Raises BadSnapshotError, OSError."""
    file = folder.open(name)
    try:
        data = file.read(0, file.size())
    finally:
        file.close()
    start = len(MAGIC) + _FRAME.size
    if len(data) < start or not data.startswith(MAGIC):
        raise BadSnapshotError(f"it doesn't start with {MAGIC!r}")
    length, checksum = _FRAME.unpack_from(data, len(MAGIC))
    body, state = data[start : start + length], data[start + length :]
    if length > HEADER_LIMIT_BYTES or google_crc32c.value(body) != checksum:
        raise BadSnapshotError("its header's checksum is wrong")
    try:
        header = msgspec.json.decode(body, type=SnapshotHeader)
    except msgspec.MsgspecError as error:
        raise BadSnapshotError(f"its header can't be read: {error}") from error
    if header.schema != SNAPSHOT_SCHEMA:
        raise BadSnapshotError(f"its schema is {header.schema!r}, this engine reads {SNAPSHOT_SCHEMA!r}")
    if len(state) != header.length_bytes or hashlib.sha256(state).hexdigest() != header.sha256_hex:
        raise BadSnapshotError("its state isn't what was written")
    return Snapshot(name, header, state)


def _skipped(folder: JournalFolder, name: str, problem: str) -> None:
    _log.warning("snapshot_skipped", path=folder.path(name), problem=problem)
