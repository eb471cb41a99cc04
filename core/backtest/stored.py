"""Bars from recorded trades, or from imported klines, in the catalog. Exact, and only bars that are whole.

Trade ids are consecutive, so a hole in them tells that trades are missing, and no hole across minutes without a trade
that nothing happened in them: those are flat bars without volume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.backtest.bars import BARS_LIMIT, BarSeries, BarsError, Row
from core.backtest.recorded import Recorded
from core.market.intervals import NS_PER_MINUTE, Interval
from core.storage.catalog import Catalog
from core.storage.frames import Kind
from core.storage.parquet import METADATA_PREFIX, read_part
from core.types.instruments import Instrument

TRADES_LIMIT = 50_000_000
"""Read for one backtest."""

Ints = npt.NDArray[np.int64]


class _Piece(NamedTuple):
    """A bar of some trades, and the ids of the first and the last."""

    opens_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    first_id: int
    last_id: int
    trades: int


def recorded_bars(
    catalog: Catalog, recorded: Recorded, instrument: Instrument, interval: str, from_ns: int, until_ns: int
) -> BarSeries:
    """Whole bars from from_ns up to until_ns. Raises BarsError, CatalogError, OSError."""
    width_ns = Interval.parse(interval).width_ns
    assert width_ns is not None, "an interval of a backtest has a width"
    kind = Kind(recorded.kind)
    parts = catalog.parts(recorded.venue, instrument.symbol, kind)
    if kind is Kind.KLINE:
        whole = _joined_minutes(_minutes(parts, instrument), width_ns)
    else:
        whole = _whole(_pieces(parts, instrument, width_ns), width_ns)
    rows = (row for row in whole if row[0] >= from_ns and row[0] + width_ns <= until_ns)
    return BarSeries(instrument, interval, f"recorded:{recorded.venue}:{recorded.kind}", rows)


def _minutes(parts: Sequence[Path], instrument: Instrument) -> Iterator[Row]:
    """Each minute once, in order; what two files hold alike counts once."""
    last_ns = -1
    for path in sorted(parts):
        table, price, quantity = _table(path, instrument)
        columns = (
            table.column("open_time_ns").to_numpy(),
            *(price(table.column(name).to_numpy()) for name in ("open", "high", "low", "close")),
            quantity(table.column("volume").to_numpy()),
        )
        for row in zip(*(column.tolist() for column in columns), strict=True):
            if row[0] > last_ns:
                last_ns = row[0]
                yield row


def _joined_minutes(minutes: Iterator[Row], width_ns: int) -> Iterator[Row]:
    """Longer bars of minutes that are all there."""
    for opens_ns, group in groupby(minutes, lambda row: row[0] // width_ns * width_ns):
        held = list(group)
        if len(held) * NS_PER_MINUTE == width_ns:
            yield (
                opens_ns,
                held[0][1],
                max(row[2] for row in held),
                min(row[3] for row in held),
                held[-1][4],
                sum(row[5] for row in held),
            )


def _pieces(parts: Sequence[Path], instrument: Instrument, width_ns: int) -> Iterator[_Piece]:
    last_id, last_ns, trades = -1, 0, 0
    for path in parts:
        ids, times, prices, quantities = _columns(path, instrument)
        order = np.lexsort((ids,))
        ids, times, prices, quantities = ids[order], times[order], prices[order], quantities[order]
        # What was recorded twice, over a restart of the recorder, counts once.
        new = np.flatnonzero((ids > last_id) & (np.diff(ids, prepend=last_id) != 0))
        if not len(new):
            continue
        trades += len(new)
        if trades > TRADES_LIMIT:
            raise BarsError(f"more than {TRADES_LIMIT} trades; choose a shorter time")
        # A trade whose time lies before that of the one before it counts as of that.
        times = np.maximum.accumulate(np.maximum(times[new], last_ns))
        last_id, last_ns = int(ids[-1]), int(times[-1])
        yield from _grouped(ids[new], times, prices[new], quantities[new], width_ns)


def _columns(path: Path, instrument: Instrument) -> tuple[Ints, Ints, Ints, Ints]:
    table, price, quantity = _table(path, instrument)
    ids: Ints = table.column("trade_id").to_numpy()
    times: Ints = table.column("ts_event_ns").to_numpy()
    return ids, times, price(table.column("price").to_numpy()), quantity(table.column("quantity").to_numpy())


def _table(path: Path, instrument: Instrument) -> tuple[Any, Callable[[Ints], Ints], Callable[[Ints], Ints]]:
    """A file's rows, and what brings its prices and quantities to the instrument's scales."""
    table = read_part(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}

    def price(values: Ints) -> Ints:
        return _rescaled(values, int(metadata[f"{METADATA_PREFIX}price_scale"]), instrument.price_scale, path)

    def quantity(values: Ints) -> Ints:
        scale = int(metadata[f"{METADATA_PREFIX}quantity_scale"])
        return _rescaled(values, scale, instrument.quantity_scale, path, is_cut=True)

    return table, price, quantity


def _rescaled(values: Ints, scale: int, wanted: int, path: Path, *, is_cut: bool = False) -> Ints:
    """is_cut: what is finer is cut off, as the engine does with public quantities. Raises BarsError otherwise."""
    if scale <= wanted:
        finer: Ints = values * 10 ** (wanted - scale)
        return finer
    power = 10 ** (scale - wanted)
    if not is_cut and np.any(values % power):
        raise BarsError(f"{path.name} has digits that the instrument of today doesn't have")
    coarser: Ints = values // power
    return coarser


def _grouped(ids: Ints, times: Ints, prices: Ints, quantities: Ints, width_ns: int) -> Iterator[_Piece]:
    opens = times // width_ns * width_ns
    starts = np.flatnonzero(np.diff(opens, prepend=opens[0] - 1))
    ends = np.append(starts[1:], len(opens)) - 1
    columns: list[Any] = [
        opens[starts],
        prices[starts],
        np.maximum.reduceat(prices, starts),
        np.minimum.reduceat(prices, starts),
        prices[ends],
        np.add.reduceat(quantities, starts),
        ids[starts],
        ids[ends],
        ends - starts + 1,
    ]
    return (_Piece(*values) for values in zip(*(column.tolist() for column in columns), strict=True))


def _whole(pieces: Iterator[_Piece], width_ns: int) -> Iterator[Row]:
    """The bars without a hole in or at them. Whether the first and the last are whole isn't known."""
    held: _Piece | None = None
    is_known = False
    for piece in pieces:
        if held is None:
            held = piece
            continue
        follows = piece.first_id == held.last_id + 1
        if piece.opens_ns == held.opens_ns:
            held = _joined(held, piece)
            continue
        if is_known and follows and _has_all(held):
            yield (held.opens_ns, held.open, held.high, held.low, held.close, held.volume)
        if follows:
            if (piece.opens_ns - held.opens_ns) // width_ns > BARS_LIMIT:
                raise BarsError("the recorded trades lie too far apart")
            for opens_ns in range(held.opens_ns + width_ns, piece.opens_ns, width_ns):
                yield (opens_ns, held.close, held.close, held.close, held.close, 0)
        held, is_known = piece, follows


def _has_all(piece: _Piece) -> bool:
    return piece.trades == piece.last_id - piece.first_id + 1


def _joined(first: _Piece, then: _Piece) -> _Piece:
    return _Piece(
        first.opens_ns,
        first.open,
        max(first.high, then.high),
        min(first.low, then.low),
        then.close,
        first.volume + then.volume,
        first.first_id,
        then.last_id,
        first.trades + then.trades,
    )
