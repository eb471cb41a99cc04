"""The journal's contract on RocksDB, for who runs that anyway. An extra: `veloz[rocksdb]`.

Each record lies under its sequence, chained and with its checksum as in a segment; a group is one batch, written with a
synced write-ahead log, so it is there as a whole or not at all.

What it can't do, and the engine's own journal can:
- tell where a torn tail was cut (torn_tail is always None): RocksDB drops the rest of an unfinished write in silence;
- tell a log whose end is missing from a torn tail: records that were returned would go in silence. A wrong byte stops
  the start;
- start from a snapshot without reading what is before it;
- archive and drop segments;
- keep space for emergencies: on a full disk safety commands can't be recorded until there is space;
- be broken by the simulation's disk: it writes its files itself.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.storage.journal_commit import Commit
from core.storage.journal_errors import (
    JournalDamagedError,
    JournalLockedError,
    JournalUnavailableError,
)
from core.storage.journal_files import FOLDER_MODE, PosixFolder
from core.storage.journal_format import GENESIS_HASH, BadRecordError, decode_record, encode_group
from core.storage.journal_segments import READ_BATCH_RECORDS, Anchor
from core.storage.journal_store import JournalStore
from core.types.events import JournalEntry

DATABASE_FOLDER = "rocksdb"
_KEY = struct.Struct(">Q")
_EPOCH = struct.Struct("<Q")
_META = b"m"
_RECORDS = b"r"


class RocksdbMissingError(Exception):
    """The extra isn't installed."""


class RocksJournal(JournalStore):
    """Open with RocksJournal.open; otherwise as core.storage.journal.Journal."""

    def __init__(self, folder: Path, engine_id: str, *, inline: bool) -> None:
        super().__init__(engine_id, inline=inline)
        self._path = folder / DATABASE_FOLDER
        self._lock = PosixFolder(folder)
        self._database: Any = None
        self._head = Anchor(0, GENESIS_HASH)
        self._dead: str | None = None

    @classmethod
    def open(cls, folder: Path, engine_id: str, *, inline: bool = False) -> RocksJournal:
        """Lock, verify every record, start a new epoch.

        Raises RocksdbMissingError, JournalLockedError, JournalDamagedError, OSError.
        """
        rocks = _rocksdict()
        journal = cls(folder, engine_id, inline=inline)
        try:
            journal._lock.lock()
        except BlockingIOError as error:
            raise JournalLockedError(
                f"{journal._lock.path('lock')}: another engine writes this journal. Stop it, or use another VELOZ_HOME."
            ) from error
        try:
            journal._open(rocks)
            journal._load(rocks)
        except BaseException:
            if journal._database is not None:
                journal._database.close()
            journal._lock.unlock()
            raise
        journal._start()
        return journal

    @property
    def head(self) -> Anchor:
        """The last durable record's sequence and hash, at one moment."""
        return self._head

    @property
    def dead_reason(self) -> str | None:
        """Set once a synced write failed."""
        return self._dead

    def hash_at(self, sequence: int) -> bytes:
        if sequence == 0:
            return GENESIS_HASH
        value = self._database.get(_key(sequence)) if sequence <= self._head.sequence else None
        if value is None:
            raise ValueError(f"the journal ends at record {self._head.sequence}, before {sequence}")
        return _decode(self._path, sequence, value, None)[1]

    def records_after(self, sequence: int) -> RocksReader:
        return RocksReader(self, sequence)

    def read_records(self, first: int, last: int) -> Iterator[JournalEntry]:
        """For the reader. Raises JournalDamagedError."""
        if self._database is None:
            return
        previous = self.hash_at(first - 1)
        for sequence, (_, value) in zip(
            range(first, last + 1), self._database.items(from_key=_key(first)), strict=False
        ):
            epoch, previous, payload = _decode(self._path, sequence, value, previous)
            yield JournalEntry(self.engine_id, epoch, sequence, previous.hex(), payload)

    def _open(self, rocks: Any) -> None:
        self._path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        options = rocks.Options(raw_mode=True)
        options.create_if_missing(True)
        # The default keeps what comes before a damaged place and drops the rest in silence.
        options.set_wal_recovery_mode(rocks.DBRecoveryMode.tolerate_corrupted_tail_records())
        try:
            self._database = rocks.Rdict(str(self._path), options)
        except Exception as error:
            raise JournalDamagedError(
                f"{self._path}: RocksDB can't open the journal: {error}. Nothing was changed. Restore the folder from "
                "a copy; the ledger's projections and the venue's own records tell what it held."
            ) from error

    def _load(self, rocks: Any) -> None:
        owner = self._database.get(_META + b"engine")
        if owner is not None and owner != self.engine_id.encode():
            raise JournalDamagedError(
                f"{self._path}: the journal is of engine {owner.decode()!r}, not {self.engine_id!r}. "
                "Set engine.engine_id back, or use another VELOZ_HOME."
            )
        sequence, digest = 0, GENESIS_HASH
        for key, value in self._database.items(from_key=_RECORDS):
            if key != _key(sequence + 1):
                raise JournalDamagedError(
                    f"{self._path}: record {sequence + 1} of the journal is missing. Restore the folder from a copy."
                )
            sequence += 1
            _, digest, _ = _decode(self._path, sequence, value, digest)
        self._head = Anchor(sequence, digest)
        epoch = self._database.get(_META + b"epoch")
        self.epoch = 1 + (_EPOCH.unpack(epoch)[0] if epoch is not None else 0)
        batch = rocks.WriteBatch(raw_mode=True)
        batch.put(_META + b"engine", self.engine_id.encode())
        batch.put(_META + b"epoch", _EPOCH.pack(self.epoch))
        self._commit(batch)

    def _commit(self, batch: Any) -> None:
        options = _rocksdict().WriteOptions()
        options.sync = True
        self._database.write(batch, options)

    def _write(self, commit: Commit) -> None:
        if self._dead is not None:
            raise JournalUnavailableError(self._dead)
        batch = _rocksdict().WriteBatch(raw_mode=True)
        previous, sequence = self._head.hash, self._head.sequence
        for payload, digest in zip(commit.payloads, commit.hashes, strict=True):
            sequence += 1
            batch.put(_key(sequence), _EPOCH.pack(self.epoch) + encode_group(previous, (payload,))[0])
            previous = digest
        try:
            self._commit(batch)
        except Exception as error:
            # RocksDB itself takes no further write until it is opened again.
            self._dead = (
                f"{self._path}: RocksDB didn't confirm a write: {error}. Mend the disk, then restart the engine."
            )
            raise JournalUnavailableError(self._dead) from error
        self._head = Anchor(sequence, previous)

    def _after_write(self) -> None:
        pass

    def _release(self) -> None:
        self._dead = self._dead or f"{self._path}: the journal is closed. Restart the engine."
        database, self._database = self._database, None
        with contextlib.suppress(Exception):
            # Everything returned is in the synced log; what a close does besides isn't needed.
            database.close()
        self._lock.unlock()


class RocksReader:
    """A place among the records that moves on."""

    def __init__(self, journal: RocksJournal, after_sequence: int) -> None:
        self._journal = journal
        self._sequence = after_sequence

    @property
    def sequence(self) -> int:
        return self._sequence

    def read(self, durable_sequence: int, limit: int = READ_BATCH_RECORDS) -> list[JournalEntry]:
        last = min(durable_sequence, self._sequence + limit)
        entries = list(self._journal.read_records(self._sequence + 1, last)) if self._sequence < last else []
        if entries:
            self._sequence = entries[-1].sequence
        return entries


def _key(sequence: int) -> bytes:
    return _RECORDS + _KEY.pack(sequence)


def _decode(path: Path, sequence: int, value: bytes, previous: bytes | None) -> tuple[int, bytes, bytes]:
    """Epoch, hash and payload. Raises JournalDamagedError."""
    try:
        if len(value) < _EPOCH.size:
            raise BadRecordError("it stops short", incomplete=True)
        record = decode_record(value, _EPOCH.size, previous)
    except BadRecordError as error:
        raise JournalDamagedError(
            f"{path}: record {sequence} is damaged: {error}. Nothing was changed. Restore the folder from a copy; the "
            "ledger's projections and the venue's own records tell what it held."
        ) from error
    return _EPOCH.unpack_from(value)[0], record.hash, record.payload


def _rocksdict() -> Any:
    try:
        import rocksdict
    except ImportError as error:
        raise RocksdbMissingError(
            "the journal is set to RocksDB, and the package rocksdict isn't installed. Install veloz[rocksdb], or use "
            "the engine's own journal."
        ) from error
    return rocksdict
