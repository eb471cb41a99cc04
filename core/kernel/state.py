"""Tables of frozen values, changed in one way, so that a change can be undone, digested and kept in a snapshot.

The digest is the sum, modulo 2^256, of SHA-256 over each (table, key, value): it doesn't depend on the order in which
keys came, and costs what changed since it was last asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

K = TypeVar("K")
V = TypeVar("V")

DIGEST_MODULUS = 1 << 256
DIRTY_LIMIT_ROWS = 50_000
"""Changed rows that are kept track of between two digests; they don't grow with the orders that ever were."""
_ENCODER = msgspec.json.Encoder(order="sorted")


class Table(dict[K, V], Generic[K, V]):
    """Read it as a mapping; only State.put changes it. changed hears of each change, undone ones too; is_added tells
    that snapshots of earlier releases don't have it."""

    def __init__(
        self,
        name: str,
        key_type: Any,
        value_type: Any,
        changed: Callable[[K, V | None, V | None], None] | None = None,
        *,
        is_added: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.changed = changed
        self.is_added = is_added
        self.rows_decoder = msgspec.json.Decoder(list[tuple[key_type, value_type]])


class Savepoint(msgspec.Struct, frozen=True):
    undo_length: int
    sequence: int
    last_ts_ns: int


class State:
    """The tables, how many events made them (sequence), and the latest time of one (last_ts_ns)."""

    def __init__(self, tables: tuple[Table[Any, Any], ...]) -> None:
        self.tables = {table.name: table for table in tables}
        self.sequence = 0
        self.last_ts_ns = 0
        self._undo: list[tuple[Table[Any, Any], Any, Any]] = []
        self._recording = False
        self._dirty: dict[tuple[str, Any], None] = {}
        self._hashes: dict[tuple[str, Any], int] = {}
        self._sum = 0
        self.is_digesting = False
        """Whether was_put does anything."""

    def put(self, table: Table[K, V], key: K, value: V | None) -> None:
        """Set a row, or remove it (None)."""
        old = table.get(key)
        if self._recording:
            self._undo.append((table, key, old))
        self._set(table, key, old, value)

    @property
    def undo(self) -> list[tuple[Table[Any, Any], Any, Any]] | None:
        """For whom changes tables without put: what each row was before, oldest first; None while nothing is kept."""
        return self._undo if self._recording else None

    def was_put(self, table: Table[Any, Any], key: Any) -> None:
        """A row was changed without put."""
        if self.is_digesting:
            self._touch(table, key)

    def begin(self) -> None:
        """From here on changes can be undone, until commit."""
        self._recording = True

    def savepoint(self) -> Savepoint:
        return Savepoint(len(self._undo), self.sequence, self.last_ts_ns)

    def rollback(self, to: Savepoint) -> None:
        """Undo what changed since."""
        while len(self._undo) > to.undo_length:
            table, key, old = self._undo.pop()
            self._set(table, key, table.get(key), old)
        self.sequence, self.last_ts_ns = to.sequence, to.last_ts_ns

    def commit(self) -> None:
        self._undo.clear()
        self._recording = False

    def digest(self) -> str:
        """Hex SHA-256 of the whole state: two replays of one journal have the same after every event."""
        if not self.is_digesting:
            # Keeping track is paid for from the first time on that anybody asks.
            self.is_digesting = True
            self._dirty = {(name, key): None for name, table in self.tables.items() for key in table}
        for name, key in self._dirty:
            self._sum -= self._hashes.pop((name, key), 0)
            value = self.tables[name].get(key)
            if value is not None:
                row = int.from_bytes(hashlib.sha256(_ENCODER.encode((name, key, value))).digest(), "big")
                self._hashes[name, key] = row
                self._sum += row
        self._dirty.clear()
        self._sum %= DIGEST_MODULUS
        whole = b"veloz/state/v1\x00%d\x00%d\x00%d" % (self.sequence, self.last_ts_ns, self._sum)
        return hashlib.sha256(whole).hexdigest()

    def _stop_digesting(self) -> None:
        """Nobody has asked for long: the next digest looks at every row anew."""
        self.is_digesting = False
        self._dirty.clear()
        self._hashes.clear()
        self._sum = 0

    def dump(self) -> dict[str, bytes]:
        """Each table's rows as JSON: unlike MessagePack it has ints beyond 64 bits, and a cost can be one."""
        return {table.name: msgspec.json.encode(list(table.items())) for table in self.tables.values()}

    def load(self, dumped: Mapping[str, bytes], sequence: int, last_ts_ns: int) -> None:
        """Into empty tables. Raises msgspec.MsgspecError, and KeyError for a table that is missing."""
        for table in self.tables.values():
            if table.is_added and table.name not in dumped:
                continue
            for key, value in table.rows_decoder.decode(dumped[table.name]):
                self._set(table, key, None, value)
        self.sequence, self.last_ts_ns = sequence, last_ts_ns

    def _set(self, table: Table[K, V], key: K, old: V | None, value: V | None) -> None:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
        if self.is_digesting:
            self._touch(table, key)
        if table.changed is not None:
            table.changed(key, old, value)

    def _touch(self, table: Table[Any, Any], key: Any) -> None:
        self._dirty[table.name, key] = None
        if len(self._dirty) > DIRTY_LIMIT_ROWS:
            self._stop_digesting()
