"""The account's state on disk: one SQLite file, one transaction per order event, durable before anyone is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.types.orders import Side
from core.venues.paper.balances import Balances
from core.venues.paper.errors import PaperVenueError
from core.venues.paper.matching import Counters
from core.venues.paper.orders import Fill, Order, Report, Status, TimeInForce, Type

SCHEMA_VERSION = 1
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

ORDER_COLUMNS = (
    "order_id, client_order_id, symbol, side, order_type, time_in_force, price, quantity, quote_quantity, executed, "
    "cumulative_quote, status, created_ms, updated_ms, locked"
)
TRADE_COLUMNS = (
    "trade_id, order_id, symbol, side, price, quantity, quote_quantity, commission, commission_asset, is_maker, time_ms"
)
PUT_ORDER = (
    f"INSERT INTO orders ({ORDER_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (order_id) DO UPDATE SET "  # noqa: S608
    "quantity=excluded.quantity, executed=excluded.executed, cumulative_quote=excluded.cumulative_quote, "
    "status=excluded.status, updated_ms=excluded.updated_ms, locked=excluded.locked"
)
PUT_TRADE = f"INSERT INTO trades ({TRADE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608


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
        if version not in {0, SCHEMA_VERSION}:
            raise PaperVenueError(
                f"paper venue state {self._file}: made by a newer release (schema {version}, this one knows "
                f"{SCHEMA_VERSION}); start the newer release, or move the file away to begin a new account"
            )
        if version == 0:
            rows = ", ".join(f"('{asset}', {amount}, 0)" for asset, amount in starting_balances.items())
            self._db.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} INSERT INTO balances VALUES {rows}; "  # noqa: S608
                f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
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

    def commit(self, reports: Sequence[Report], balances: Balances, counters: Counters) -> None:
        """Write one event whole. Raises PaperVenueError: memory is then ahead of the disk and the venue must stop."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for order in {report.order.order_id: report.order for report in reports}.values():
                self._db.execute(PUT_ORDER, _order_row(order))
            self._db.executemany(PUT_TRADE, [_trade_row(report.fill) for report in reports if report.fill])
            for asset in balances.changed:
                balance = balances.of(asset)
                self._db.execute("REPLACE INTO balances VALUES (?,?,?)", (asset, balance.free, balance.locked))
            self._db.executemany(
                "REPLACE INTO counters VALUES (?,?)",
                [
                    ("order_id", counters.order_id),
                    ("trade_id", counters.trade_id),
                    ("execution_id", counters.execution_id),
                ],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise PaperVenueError(
                f"paper venue state {self._file}: {error}; the venue stops, since it can't promise what it can't "
                "write. Make room or repair the disk, then start again"
            ) from error

    def open_orders(self) -> list[Order]:
        return self._orders("WHERE status IN ('NEW', 'PARTIALLY_FILLED') ORDER BY order_id", ())

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

    def _orders(self, where: str, values: Iterable[object]) -> list[Order]:
        rows = self._db.execute(f"SELECT {ORDER_COLUMNS} FROM orders {where}", tuple(values))  # noqa: S608
        return [_order(row) for row in rows]


def _order_row(order: Order) -> tuple[object, ...]:
    return (
        order.order_id,
        order.client_order_id,
        order.symbol,
        order.side.value,
        order.order_type.value,
        order.time_in_force.value,
        order.price,
        order.quantity,
        order.quote_quantity,
        order.executed,
        order.cumulative_quote,
        order.status.value,
        order.created_ms,
        order.updated_ms,
        order.locked,
    )


def _order(row: tuple[Any, ...]) -> Order:
    fields = dict(zip(ORDER_COLUMNS.split(", "), row, strict=True))
    fields |= {
        "side": Side(fields["side"]),
        "order_type": Type(fields["order_type"]),
        "time_in_force": TimeInForce(fields["time_in_force"]),
        "status": Status(fields["status"]),
    }
    return Order(**fields)


def _trade_row(fill: Fill) -> tuple[object, ...]:
    return (
        fill.trade_id,
        fill.order_id,
        fill.symbol,
        fill.side.value,
        fill.price,
        fill.quantity,
        fill.quote_quantity,
        fill.commission,
        fill.commission_asset,
        int(fill.is_maker),
        fill.time_ms,
    )


def _trade(row: tuple[Any, ...]) -> Fill:
    fields = dict(zip(TRADE_COLUMNS.split(", "), row, strict=True))
    fields |= {"side": Side(fields["side"]), "is_maker": bool(fields["is_maker"])}
    return Fill(**fields)
