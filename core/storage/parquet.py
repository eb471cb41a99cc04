"""Market data as Parquet: one row a message, levels as lists, ints at scales that stand in the file's metadata.

Schema version 1, by type:

    depth       ts_init_ns, ts_event_ns, first_update_id, last_update_id, previous_update_id (null for spot),
                bid_prices, bid_quantities, ask_prices, ask_quantities (lists; a quantity of 0 removes the level)
    snapshot    ts_init_ns, ts_event_ns, last_update_id, and the same four lists, best first
    bookTicker  ts_init_ns, ts_event_ns, update_id, bid_price, bid_quantity, ask_price, ask_quantity
    trade       ts_init_ns, ts_event_ns, trade_id, price, quantity, is_buyer_maker; aggTrade the same
    kline       open_time_ns, open, high, low, close, volume, of one minute (core.storage.kline_files)

A message's levels stay together, because that is how a backtest applies them. ts_init_ns is the receive time; where the
venue states no time ts_event_ns equals it. Metadata: veloz.schema_version, venue, product, symbol, type, price_scale,
quantity_scale, source_sha256. Scales may differ between files of one symbol: they are those of the source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.storage import frames
from core.storage.frames import Data, Kind, SnapshotBody
from core.types.clock import NS_PER_MS

SCHEMA_VERSION = 1
METADATA_PREFIX = "veloz."
MAX_INT64 = 2**63 - 1

_TIMES = ("ts_init_ns", "ts_event_ns")
_LISTS = ("bid_prices", "bid_quantities", "ask_prices", "ask_quantities")
_TRADE = (*_TIMES, "trade_id", "price", "quantity", "is_buyer_maker")
COLUMNS: dict[Kind, tuple[str, ...]] = {
    Kind.DEPTH: (*_TIMES, "first_update_id", "last_update_id", "previous_update_id", *_LISTS),
    Kind.SNAPSHOT: (*_TIMES, "last_update_id", *_LISTS),
    Kind.BOOK_TICKER: (*_TIMES, "update_id", "bid_price", "bid_quantity", "ask_price", "ask_quantity"),
    Kind.TRADE: _TRADE,
    Kind.AGG_TRADE: _TRADE,
    Kind.KLINE: ("open_time_ns", "open", "high", "low", "close", "volume"),
}


def schema_of(kind: Kind) -> pa.Schema:
    """The columns of a type at SCHEMA_VERSION."""
    fields = []
    for name in COLUMNS[kind]:
        if name in _LISTS:
            fields.append(pa.field(name, pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False))
        elif name == "is_buyer_maker":
            fields.append(pa.field(name, pa.bool_(), nullable=False))
        else:
            fields.append(pa.field(name, pa.int64(), nullable=name == "previous_update_id"))
    return pa.schema(fields)


class PartBuilder:
    """Collects the rows of one file to be."""

    def __init__(self, kind: Kind, price_scale: int, quantity_scale: int) -> None:
        self.kind = kind
        self.price_scale, self.quantity_scale = price_scale, quantity_scale
        self.rows = 0
        self.values = 0
        self.first_ns = self.last_ns = 0
        self.first_id = self.last_id = 0
        self.gaps = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in COLUMNS[kind]}
        self._offsets: dict[str, list[int]] = {name: [0] for name in _LISTS}

    def add(self, recv_ns: int, body: Data | SnapshotBody) -> None:
        """One message. Raises ValueError; nothing of the message is kept then."""
        if isinstance(body, SnapshotBody):
            values: dict[str, Any] = {"last_update_id": body.lastUpdateId}
            lists = self._levels(body.bids, body.asks)
            first_id = last_id = body.lastUpdateId
            event_ms = body.E
        elif self.kind is Kind.DEPTH:
            values = {"first_update_id": body.U, "last_update_id": body.u, "previous_update_id": body.pu}
            lists = self._levels(frames.levels(body.b), frames.levels(body.a))
            first_id, last_id, event_ms = body.U, body.u, body.E
            if self.rows and not follows(body.U, body.pu, self.last_id):
                self.gaps += 1
        elif self.kind is Kind.BOOK_TICKER:
            values = {
                "update_id": body.u,
                "bid_price": self._price(frames.text(body.b)),
                "bid_quantity": self._quantity(frames.text(body.B)),
                "ask_price": self._price(frames.text(body.a)),
                "ask_quantity": self._quantity(frames.text(body.A)),
            }
            lists, first_id, last_id, event_ms = {}, body.u, body.u, body.E
        else:
            trade_id = body.t if self.kind is Kind.TRADE else int(bytes(body.a))
            values = {
                "trade_id": trade_id,
                "price": self._price(frames.text(body.p)),
                "quantity": self._quantity(frames.text(body.q)),
                "is_buyer_maker": body.m,
            }
            lists, first_id, last_id, event_ms = {}, trade_id, trade_id, body.T
        values["ts_init_ns"], values["ts_event_ns"] = recv_ns, event_ms * NS_PER_MS or recv_ns
        if not self.rows:
            self.first_ns, self.first_id = recv_ns, first_id
        self.last_ns, self.last_id = max(self.last_ns, recv_ns), last_id
        self.rows += 1
        for name, value in values.items():
            self._columns[name].append(value)
        for name, items in lists.items():
            self._columns[name].extend(items)
            self._offsets[name].append(len(self._columns[name]))
            self.values += len(items)

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """Raises OSError."""
        schema = schema_of(self.kind)
        arrays: list[pa.Array] = []
        for field in schema:
            values = self._columns[field.name]
            if field.name in _LISTS:
                flat = pa.array(values, pa.int64())
                offsets = pa.array(self._offsets[field.name], pa.int32())
                arrays.append(pa.ListArray.from_arrays(offsets, flat, type=field.type))
            else:
                arrays.append(pa.array(values, field.type))
        own = {
            "schema_version": str(SCHEMA_VERSION),
            "type": self.kind.value,
            "price_scale": str(self.price_scale),
            "quantity_scale": str(self.quantity_scale),
            **metadata,
        }
        named = schema.with_metadata({f"{METADATA_PREFIX}{name}": value for name, value in own.items()})
        pq.write_table(pa.Table.from_arrays(arrays, schema=named), path, compression="zstd")

    def _levels(self, bids: frames.Texts, asks: frames.Texts) -> dict[str, list[int]]:
        return {
            "bid_prices": [self._price(price) for price, _ in bids],
            "bid_quantities": [self._quantity(quantity) for _, quantity in bids],
            "ask_prices": [self._price(price) for price, _ in asks],
            "ask_quantities": [self._quantity(quantity) for _, quantity in asks],
        }

    def _price(self, number: str) -> int:
        return _fitting(frames.scaled(number, self.price_scale), number)

    def _quantity(self, number: str) -> int:
        return _fitting(frames.scaled(number, self.quantity_scale), number)


def _fitting(value: int, number: str) -> int:
    if value > MAX_INT64:
        raise ValueError(f"{number[:40]} is beyond 63 bits at its scale")
    return value


def follows(first_id: int, previous_id: int | None, last_id: int) -> bool:
    """Whether a depth message continues the one that ended at last_id: pu of futures, U of spot."""
    return previous_id == last_id if previous_id is not None else first_id == last_id + 1


def metadata_of(path: Path) -> tuple[dict[str, str], int]:
    """VeloZ's own metadata of a file, and its rows. Raises OSError and ValueError (pa.ArrowInvalid)."""
    footer = pq.read_metadata(path)
    found = {
        key.decode().removeprefix(METADATA_PREFIX): value.decode()
        for key, value in (footer.metadata or {}).items()
        if key.startswith(METADATA_PREFIX.encode())
    }
    return found, footer.num_rows


def depth_ids(path: Path) -> list[tuple[int, int, int | None]]:
    """(first, last, previous) of every depth message of a file."""
    table = pq.read_table(path, columns=["first_update_id", "last_update_id", "previous_update_id"])
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def read_part(path: Path) -> pa.Table:
    """The rows of one file; its scales are in the schema's metadata. Raises OSError and ValueError."""
    return pq.read_table(path)
