"""The futures account on disk: a SQLite file of its own, one transaction per change, durable before anyone is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from core.venues.paper.errors import PaperVenueError
from core.venues.paper.usdm.ledger import State
from core.venues.paper.usdm.orders import Algo, Fill, Income, Order, Position, SymbolSettings

SCHEMA_VERSION = 1
MAX_ROWS_PER_QUERY = 1_000
SCHEMA = """
CREATE TABLE account (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE orders (id INTEGER PRIMARY KEY, client_id TEXT NOT NULL, symbol TEXT NOT NULL, is_open INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX orders_by_client_id ON orders (client_id, id);
CREATE INDEX orders_by_symbol ON orders (symbol, id);
CREATE INDEX orders_open ON orders (id) WHERE is_open;
CREATE TABLE algos (id INTEGER PRIMARY KEY, client_id TEXT NOT NULL, symbol TEXT NOT NULL, is_open INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX algos_by_client_id ON algos (client_id, id);
CREATE INDEX algos_open ON algos (id) WHERE is_open;
CREATE TABLE fills (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, symbol TEXT NOT NULL, time_ms INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX fills_by_symbol ON fills (symbol, id);
CREATE TABLE incomes (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, symbol TEXT NOT NULL, time_ms INTEGER NOT NULL,
    body BLOB NOT NULL);
"""
STATE = "state"
NEWEST = 2**62

Row = TypeVar("Row")
Listed = TypeVar("Listed", Order, Algo)


class Changes(msgspec.Struct, frozen=True):
    """All that one change writes."""

    state: State
    orders: Sequence[Order]
    algos: Sequence[Algo]
    fills: Sequence[Fill]
    incomes: Sequence[Income]
    positions: Sequence[Position]
    settings: Sequence[SymbolSettings]


class Storage:
    """Owns the file while the process lives. When `commit` returns, the change survives kill -9 and a power cut."""

    def __init__(self, file: Path) -> None:
        """Raises PaperVenueError when the file can't be used."""
        self._file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(file, isolation_level=None, timeout=0)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise PaperVenueError(
                    f"paper venue futures state {file}: made by a newer release (schema {version}, this one knows "
                    f"{SCHEMA_VERSION}); start the newer release, or move the file away to begin a new account"
                )
            schema = SCHEMA if version == 0 else ""
            self._db.executescript(f"BEGIN IMMEDIATE; {schema} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        except (sqlite3.Error, OSError) as error:
            is_locked = "locked" in str(error)
            cure = "stop the other venue that uses it" if is_locked else "make it writable, or move it away"
            raise PaperVenueError(f"paper venue futures state {file}: {error}; {cure}") from error

    def close(self) -> None:
        self._db.close()

    def commit(self, changes: Changes) -> None:
        """Raises PaperVenueError: memory is then ahead of the disk and the venue must stop."""
        accounts = [(STATE, _body(changes.state))]
        accounts += [(f"position:{one.symbol}:{one.side.value}", _body(one)) for one in changes.positions]
        accounts += [(f"settings:{one.symbol}", _body(one)) for one in changes.settings]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("REPLACE INTO account VALUES (?,?)", accounts)
            self._db.executemany(
                "REPLACE INTO orders VALUES (?,?,?,?,?,?)",
                [
                    (one.order_id, one.client_id, one.symbol, one.status.is_open, one.created_ms, _body(one))
                    for one in changes.orders
                ],
            )
            self._db.executemany(
                "REPLACE INTO algos VALUES (?,?,?,?,?,?)",
                [
                    (
                        one.algo_id,
                        one.client_id,
                        one.symbol,
                        one.status in {"NEW", "TRIGGERED"},
                        one.created_ms,
                        _body(one),
                    )
                    for one in changes.algos
                ],
            )
            self._db.executemany(
                "INSERT INTO fills VALUES (?,?,?,?,?)",
                [(one.trade_id, one.order_id, one.symbol, one.time_ms, _body(one)) for one in changes.fills],
            )
            self._db.executemany(
                "INSERT INTO incomes VALUES (?,?,?,?,?)",
                [(one.tran_id, one.kind, one.symbol, one.time_ms, _body(one)) for one in changes.incomes],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise PaperVenueError(
                f"paper venue futures state {self._file}: {error}; the venue stops, since it can't promise what it "
                "can't write. Make room or repair the disk, then start again"
            ) from error

    def load_state(self) -> State | None:
        """None on a new account."""
        found = self._account(STATE, State)
        return found[0] if found else None

    def load_positions(self) -> list[Position]:
        return self._account("position:", Position)

    def load_settings(self) -> list[SymbolSettings]:
        return self._account("settings:", SymbolSettings)

    def _account(self, prefix: str, kind: type[Row]) -> list[Row]:
        rows = self._db.execute("SELECT body FROM account WHERE substr(name, 1, ?) = ?", (len(prefix), prefix))
        return [msgspec.json.decode(body, type=kind) for (body,) in rows]

    def open_orders(self) -> list[Order]:
        return self._bodies("SELECT body FROM orders WHERE is_open ORDER BY id", (), Order)

    def open_algos(self) -> list[Algo]:
        """Waiting and triggered ones."""
        return self._bodies("SELECT body FROM algos WHERE is_open ORDER BY id", (), Algo)

    def order(self, symbol: str, order_id: int | None, client_id: str | None) -> Order | None:
        """The newest with the id (orderId wins when both are given)."""
        found = self._bodies(
            f"SELECT body FROM orders WHERE symbol = ? AND {'id' if order_id is not None else 'client_id'} = ? "  # noqa: S608
            "ORDER BY id DESC LIMIT 1",
            (symbol, order_id if order_id is not None else client_id),
            Order,
        )
        return found[0] if found else None

    def algo(self, algo_id: int | None, client_id: str | None) -> Algo | None:
        found = self._bodies(
            f"SELECT body FROM algos WHERE {'id' if algo_id is not None else 'client_id'} = ? "  # noqa: S608
            "ORDER BY id DESC LIMIT 1",
            (algo_id if algo_id is not None else client_id,),
            Algo,
        )
        return found[0] if found else None

    def orders(
        self, symbol: str | None, from_id: int | None, start_ms: int | None, end_ms: int | None, limit: int
    ) -> list[Order]:
        """Oldest first; without from_id and start the newest `limit`."""
        return self._history("orders", "created_ms", Order, symbol, None, from_id, start_ms, end_ms, limit)

    def algos(
        self, symbol: str | None, from_id: int | None, start_ms: int | None, end_ms: int | None, limit: int
    ) -> list[Algo]:
        return self._history("algos", "created_ms", Algo, symbol, None, from_id, start_ms, end_ms, limit)

    def trades(
        self,
        symbol: str | None,
        order_id: int | None,
        from_id: int | None,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
    ) -> list[Fill]:
        extra = None if order_id is None else ("order_id", order_id)
        return self._history("fills", "time_ms", Fill, symbol, extra, from_id, start_ms, end_ms, limit)

    def incomes(
        self, symbol: str | None, kind: str | None, start_ms: int | None, end_ms: int | None, limit: int
    ) -> list[Income]:
        extra = None if kind is None else ("kind", kind)
        return self._history("incomes", "time_ms", Income, symbol, extra, None, start_ms, end_ms, limit)

    def _history(
        self,
        table: str,
        time: str,
        kind: type[Row],
        symbol: str | None,
        extra: tuple[str, object] | None,
        from_id: int | None,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
    ) -> list[Row]:
        condition, values = (f"AND {extra[0]} = ? ", [extra[1]]) if extra else ("", [])
        is_newest = from_id is None and start_ms is None
        found = self._bodies(
            f"SELECT body FROM {table} WHERE (? IS NULL OR symbol = ?) {condition}AND id >= ? "  # noqa: S608
            f"AND {time} BETWEEN ? AND ? ORDER BY id {'DESC' if is_newest else 'ASC'} LIMIT ?",
            (
                symbol,
                symbol,
                *values,
                from_id or 0,
                start_ms or 0,
                NEWEST if end_ms is None else end_ms,
                min(limit, MAX_ROWS_PER_QUERY),
            ),
            kind,
        )
        return found[::-1] if is_newest else found

    def _bodies(self, query: str, values: Iterable[object], kind: type[Row]) -> list[Row]:
        rows: list[tuple[Any]] = self._db.execute(query, tuple(values)).fetchall()
        return [msgspec.json.decode(body, type=kind) for (body,) in rows]


def _body(content: object) -> bytes:
    return msgspec.json.encode(content)
