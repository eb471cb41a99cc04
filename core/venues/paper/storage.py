"""The account's state on disk: one SQLite file, one transaction per order event, durable before anyone is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from core.venues.paper.balances import Balances
from core.venues.paper.errors import PaperVenueError
from core.venues.paper.orders import Amendment, Fill, ListReport, Order, OrderList, PreventedMatch, Report
from core.venues.paper.working import Counters

SCHEMA_VERSION = 2
MAX_ROWS_PER_QUERY = 1_000
"""Binance's limit for allOrders and myTrades."""

SCHEMA = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE balances (asset TEXT PRIMARY KEY, free INTEGER NOT NULL CHECK (free >= 0),
    locked INTEGER NOT NULL CHECK (locked >= 0)) WITHOUT ROWID;
CREATE TABLE orders (order_id INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL, symbol TEXT NOT NULL,
    side TEXT NOT NULL, order_type TEXT NOT NULL, time_in_force TEXT NOT NULL, price INTEGER NOT NULL,
    quantity INTEGER NOT NULL, quote_quantity INTEGER NOT NULL, executed INTEGER NOT NULL,
    cumulative_quote INTEGER NOT NULL, status TEXT NOT NULL, created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL, locked INTEGER NOT NULL, CHECK (executed <= quantity));
CREATE INDEX orders_by_client_id ON orders (client_order_id, order_id);
CREATE INDEX orders_by_symbol ON orders (symbol, order_id);
CREATE INDEX orders_open ON orders (order_id) WHERE status IN ('NEW', 'PARTIALLY_FILLED');
CREATE TABLE trades (trade_id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders, symbol TEXT NOT NULL,
    side TEXT NOT NULL, price INTEGER NOT NULL, quantity INTEGER NOT NULL, quote_quantity INTEGER NOT NULL,
    commission INTEGER NOT NULL, commission_asset TEXT NOT NULL, is_maker INTEGER NOT NULL, time_ms INTEGER NOT NULL);
CREATE INDEX trades_by_symbol ON trades (symbol, trade_id);
CREATE INDEX trades_by_order ON trades (order_id, trade_id);
"""

MIGRATION_TO_2 = """
ALTER TABLE orders ADD COLUMN stop_price INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN trailing_delta INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN iceberg_quantity INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN self_trade_prevention TEXT NOT NULL DEFAULT 'EXPIRE_MAKER';
ALTER TABLE orders ADD COLUMN list_id INTEGER NOT NULL DEFAULT -1;
ALTER TABLE orders ADD COLUMN is_working INTEGER NOT NULL DEFAULT 1;
ALTER TABLE orders ADD COLUMN working_ms INTEGER NOT NULL DEFAULT -1;
ALTER TABLE orders ADD COLUMN extreme INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN trailing_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN strategy_id INTEGER;
ALTER TABLE orders ADD COLUMN strategy_type INTEGER;
ALTER TABLE orders ADD COLUMN prevented INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN prevented_match_id INTEGER;
ALTER TABLE orders ADD COLUMN amendments INTEGER NOT NULL DEFAULT 0;
UPDATE orders SET working_ms = created_ms;
ALTER TABLE trades ADD COLUMN list_id INTEGER NOT NULL DEFAULT -1;
DROP INDEX orders_open;
CREATE INDEX orders_open ON orders (order_id) WHERE status IN ('NEW', 'PARTIALLY_FILLED', 'PENDING_NEW');
CREATE TABLE order_lists (list_id INTEGER PRIMARY KEY, client_list_id TEXT NOT NULL, is_open INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX order_lists_by_client_id ON order_lists (client_list_id, list_id);
CREATE INDEX order_lists_open ON order_lists (list_id) WHERE is_open;
CREATE TABLE prevented_matches (match_id INTEGER PRIMARY KEY, symbol TEXT NOT NULL, taker_order_id INTEGER NOT NULL,
    maker_order_id INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE amendments (execution_id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX amendments_by_order ON amendments (order_id, execution_id);
"""

NOT_STORED = {"ahead", "visible"}
"""Both begin anew when the order joins the market's queue again."""
ORDER_FIELDS = tuple(name for name in Order.__struct_fields__ if name not in NOT_STORED)
ORDER_COLUMNS = ", ".join(ORDER_FIELDS)
TRADE_FIELDS = Fill.__struct_fields__
TRADE_COLUMNS = ", ".join(TRADE_FIELDS)
PUT_ORDER = f"REPLACE INTO orders ({ORDER_COLUMNS}) VALUES ({','.join('?' * len(ORDER_FIELDS))})"  # noqa: S608
PUT_TRADE = f"INSERT INTO trades ({TRADE_COLUMNS}) VALUES ({','.join('?' * len(TRADE_FIELDS))})"  # noqa: S608


class Storage:
    """Owns the file while the process lives: a second venue on the same file is refused.

    When `commit` returns, the event survives kill -9 and a power cut (WAL, synchronous=FULL).
    """

    def __init__(self, file: Path, starting_balances: dict[str, int]) -> None:
        """Raises PaperVenueError when the file can't be used."""
        self._file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(file, isolation_level=None, timeout=0)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._open(starting_balances)
        except (sqlite3.Error, OSError) as error:
            is_locked = "locked" in str(error)
            cure = "stop the other venue that uses it" if is_locked else "make it writable, or move it away"
            raise PaperVenueError(f"paper venue state {file}: {error}; {cure}") from error

    def _open(self, starting_balances: dict[str, int]) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in {0, 1, SCHEMA_VERSION}:
            raise PaperVenueError(
                f"paper venue state {self._file}: made by a newer release (schema {version}, this one knows "
                f"{SCHEMA_VERSION}); start the newer release, or move the file away to begin a new account"
            )
        if version == 0:
            rows = ", ".join(f"('{asset}', {amount}, 0)" for asset, amount in starting_balances.items())
            self._db.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} {MIGRATION_TO_2} INSERT INTO balances VALUES {rows}; "  # noqa: S608
                f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
        elif version == 1:
            self._db.executescript(f"BEGIN IMMEDIATE; {MIGRATION_TO_2} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        else:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    def load_balances(self) -> Balances:
        balances = Balances()
        for asset, free, locked in self._db.execute("SELECT asset, free, locked FROM balances ORDER BY asset"):
            balances.restore(asset, free, locked)
        return balances

    def load_counters(self) -> Counters:
        return Counters(**dict(self._db.execute("SELECT name, value FROM counters").fetchall()))

    def commit(
        self,
        reports: Sequence[Report],
        balances: Balances,
        counters: Counters,
        lists: Sequence[ListReport] = (),
        touched: Sequence[Order] = (),
    ) -> None:
        """Write one event whole; touched are orders that changed after their last report, if they have one.

        Raises PaperVenueError: memory is then ahead of the disk and the venue must stop.
        """
        orders = {one.order.order_id: one.order for one in reports} | {order.order_id: order for order in touched}
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(PUT_ORDER, [_order_row(order) for order in orders.values()])
            self._db.executemany(PUT_TRADE, [_trade_row(report.fill) for report in reports if report.fill])
            self._put_lists(lists)
            self._put_annals(reports)
            for asset in balances.changed:
                balance = balances.of(asset)
                self._db.execute("REPLACE INTO balances VALUES (?,?,?)", (asset, balance.free, balance.locked))
            self._db.executemany("REPLACE INTO counters VALUES (?,?)", msgspec.structs.asdict(counters).items())
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise PaperVenueError(
                f"paper venue state {self._file}: {error}; the venue stops, since it can't promise what it can't "
                "write. Make room or repair the disk, then start again"
            ) from error

    def _put_lists(self, lists: Sequence[ListReport]) -> None:
        rows = [
            (one.list_id, one.client_list_id, one.is_open, one.created_ms, msgspec.json.encode(one))
            for one in (report.orders for report in lists)
        ]
        self._db.executemany("REPLACE INTO order_lists VALUES (?,?,?,?,?)", rows)

    def _put_annals(self, reports: Sequence[Report]) -> None:
        """What is only ever looked up: prevented matches and amendments."""
        matches = [one.prevented for one in reports if one.prevented]
        self._db.executemany(
            "REPLACE INTO prevented_matches VALUES (?,?,?,?,?)",
            [
                (one.match_id, one.symbol, one.taker_order_id, one.maker_order_id, msgspec.json.encode(one))
                for one in matches
            ],
        )
        amendments = [one.amendment for one in reports if one.amendment]
        self._db.executemany(
            "INSERT INTO amendments VALUES (?,?,?)",
            [(one.execution_id, one.order_id, msgspec.json.encode(one)) for one in amendments],
        )

    def open_orders(self) -> list[Order]:
        return self._orders("WHERE status IN ('NEW', 'PARTIALLY_FILLED', 'PENDING_NEW') ORDER BY order_id", ())

    def order(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order | None:
        """The newest order with these ids; None when there is none."""
        conditions: list[str] = ["symbol = ?"]
        values: list[object] = [symbol]
        if order_id is not None:
            conditions.append("order_id = ?")
            values.append(order_id)
        if client_order_id is not None:
            conditions.append("client_order_id = ?")
            values.append(client_order_id)
        found = self._orders(f"WHERE {' AND '.join(conditions)} ORDER BY order_id DESC LIMIT 1", values)
        return found[0] if found else None

    def orders(
        self, symbol: str, from_id: int | None, start_ms: int | None, end_ms: int | None, limit: int
    ) -> list[Order]:
        """Oldest first; without from_id and start the newest `limit`."""
        values = (symbol, from_id or 0, start_ms or 0, end_ms or 2**62, min(limit, MAX_ROWS_PER_QUERY))
        is_newest = from_id is None and start_ms is None
        found = self._orders(
            "WHERE symbol = ? AND order_id >= ? AND created_ms BETWEEN ? AND ? "
            f"ORDER BY order_id {'DESC' if is_newest else 'ASC'} LIMIT ?",
            values,
        )
        return sorted(found, key=lambda order: order.order_id)

    def trades(
        self,
        symbol: str,
        order_id: int | None,
        from_id: int | None,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
    ) -> list[Fill]:
        """Oldest first; without from_id and start the newest `limit`."""
        is_newest = from_id is None and start_ms is None
        rows = self._db.execute(
            f"SELECT {TRADE_COLUMNS} FROM trades WHERE symbol = ? AND (? IS NULL OR order_id = ?) AND trade_id >= ? "  # noqa: S608
            f"AND time_ms BETWEEN ? AND ? ORDER BY trade_id {'DESC' if is_newest else 'ASC'} LIMIT ?",
            (
                symbol,
                order_id,
                order_id,
                from_id or 0,
                start_ms or 0,
                end_ms or 2**62,
                min(limit, MAX_ROWS_PER_QUERY),
            ),
        )
        return sorted((_trade(row) for row in rows), key=lambda fill: fill.trade_id)

    def open_lists(self) -> list[OrderList]:
        return self._lists("WHERE is_open ORDER BY list_id", ())

    def order_list(self, list_id: int | None, client_list_id: str | None) -> OrderList | None:
        """The newest list with this id, or this client id; None when there is none."""
        if list_id is not None:
            found = self._lists("WHERE list_id = ?", (list_id,))
        else:
            found = self._lists("WHERE client_list_id = ? ORDER BY list_id DESC LIMIT 1", (client_list_id,))
        return found[0] if found else None

    def order_lists(self, from_id: int | None, start_ms: int | None, end_ms: int | None, limit: int) -> list[OrderList]:
        """Oldest first; without from_id and start the newest `limit`."""
        is_newest = from_id is None and start_ms is None
        found = self._lists(
            "WHERE list_id >= ? AND created_ms BETWEEN ? AND ? "
            f"ORDER BY list_id {'DESC' if is_newest else 'ASC'} LIMIT ?",
            (from_id or 0, start_ms or 0, end_ms or 2**62, min(limit, MAX_ROWS_PER_QUERY)),
        )
        return sorted(found, key=lambda one: one.list_id)

    def prevented_matches(
        self, symbol: str, match_id: int | None, order_id: int | None, from_id: int, limit: int
    ) -> list[PreventedMatch]:
        rows = self._db.execute(
            "SELECT body FROM prevented_matches WHERE symbol = ?1 AND (?2 IS NULL OR match_id = ?2) AND match_id >= ?3 "
            "AND (?4 IS NULL OR taker_order_id = ?4 OR maker_order_id = ?4) ORDER BY match_id LIMIT ?5",
            (symbol, match_id, from_id, order_id, min(limit, MAX_ROWS_PER_QUERY)),
        )
        return [msgspec.json.decode(body, type=PreventedMatch) for (body,) in rows]

    def amendments(self, order_id: int, from_id: int, limit: int) -> list[Amendment]:
        rows = self._db.execute(
            "SELECT body FROM amendments WHERE order_id = ? AND execution_id >= ? ORDER BY execution_id LIMIT ?",
            (order_id, from_id, min(limit, MAX_ROWS_PER_QUERY)),
        )
        return [msgspec.json.decode(body, type=Amendment) for (body,) in rows]

    def _lists(self, where: str, values: Iterable[object]) -> list[OrderList]:
        rows = self._db.execute(f"SELECT body FROM order_lists {where}", tuple(values))  # noqa: S608
        return [msgspec.json.decode(body, type=OrderList) for (body,) in rows]

    def _orders(self, where: str, values: Iterable[object]) -> list[Order]:
        rows = self._db.execute(f"SELECT {ORDER_COLUMNS} FROM orders {where}", tuple(values))  # noqa: S608
        return [msgspec.convert(dict(zip(ORDER_FIELDS, row, strict=True)), Order, strict=False) for row in rows]


def _order_row(order: Order) -> tuple[object, ...]:
    return tuple(getattr(order, name) for name in ORDER_FIELDS)


def _trade_row(fill: Fill) -> tuple[object, ...]:
    return tuple(getattr(fill, name) for name in TRADE_FIELDS)


def _trade(row: tuple[Any, ...]) -> Fill:
    return msgspec.convert(dict(zip(TRADE_FIELDS, row, strict=True)), Fill, strict=False)
