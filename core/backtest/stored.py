"""Bars from recorded trades in the catalog. Exact, and only bars of which every trade was recorded.

Trade ids are consecutive, so a hole in them tells that trades are missing, and no hole across minutes without a trade
that nothing happened in them: those are flat bars without volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from core.backtest.bars import BARS_LIMIT, BarSeries, BarsError, Row
from core.backtest.recorded import Recorded
from core.market.intervals import Interval
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
    parts = catalog.parts(recorded.venue, instrument.symbol, Kind(recorded.kind))
    rows = (
        row
        for row in _whole(_pieces(parts, instrument, width_ns), width_ns)
        if row[0] >= from_ns and row[0] + width_ns <= until_ns
    )
    return BarSeries(instrument, interval, f"recorded:{recorded.venue}:{recorded.kind}", rows)


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
    table = read_part(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}

    def column(name: str, scale: int | None = None, own: str = "") -> Ints:
        values: Ints = table.column(name).to_numpy()
        if scale is None:
            return values
        return _rescaled(values, int(metadata[f"{METADATA_PREFIX}{own}"]), scale, path)

    return (
        column("trade_id"),
        column("ts_event_ns"),
        column("price", instrument.price_scale, "price_scale"),
        column("quantity", instrument.quantity_scale, "quantity_scale"),
    )


def _rescaled(values: Ints, scale: int, wanted: int, path: Path) -> Ints:
    if scale <= wanted:
        finer: Ints = values * 10 ** (wanted - scale)
        return finer
    power = 10 ** (scale - wanted)
    if np.any(values % power):
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
