"""The bars that a backtest is run over: columns of ints at the instrument's scales, checked once, with a digest."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from core.market.coverage import Range
from core.market.intervals import Interval
from core.types.clock import NS_PER_S
from core.types.instruments import Instrument

INTERVALS = ("1m", "5m", "15m", "1h", "4h", "1d")
BARS_LIMIT = 530_000
"""A leap year of minutes. docs/backtests.md tells how long that takes."""
GAPS_SHOWN_LIMIT = 20
DIGEST_DOMAIN_TAG = b"veloz/backtest-bars/v1\x00"
DIGEST_CHUNK_BARS = 10_000

Row = tuple[int, int, int, int, int, int]
"""open_time_ns, open, high, low, close, volume."""


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One closed bar. Prices at price_scale, volume at quantity_scale; closes_ns is the first moment after it."""

    opens_ns: int
    closes_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int


class BarsError(ValueError):
    """Bars that no backtest can be run over. The message names the bar."""


class BarSeries:
    """Closed bars of one instrument and one interval, oldest first; some may be missing in between.

    source says where they are from, such as `engine` or `recorded:trade`. Raises BarsError.
    """

    def __init__(self, instrument: Instrument, interval: str, source: str, rows: Iterable[Row]) -> None:
        if interval not in INTERVALS:
            raise BarsError(f"interval {interval[:16]!r} isn't one of {', '.join(INTERVALS)}")
        width_ns = Interval.parse(interval).width_ns
        assert width_ns is not None, "months aren't among INTERVALS"
        self.instrument = instrument
        self.interval = interval
        self.source = source
        self.width_ns: int = width_ns
        self._columns: tuple[array[int], ...] = tuple(array("q") for _ in range(6))
        self._fill(rows)

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Bar]:
        width_ns = self.width_ns
        for opens_ns, first, high, low, close, volume in zip(*self._columns, strict=True):
            yield Bar(opens_ns, opens_ns + width_ns, first, high, low, close, volume)

    def rows(self) -> list[Row]:
        return list(zip(*self._columns, strict=True))

    @property
    def from_ns(self) -> int:
        return self._columns[0][0]

    @property
    def until_ns(self) -> int:
        """The first moment after the last bar."""
        return self._columns[0][-1] + self.width_ns

    @property
    def bars_per_year(self) -> float:
        """Of a year of 365 days, in which the market never closes."""
        return Interval.parse(self.interval).bars_per_year

    def gaps(self) -> list[Range]:
        """The stretches (from_ns, until_ns) between the first and the last bar of which there is none."""
        times = self._columns[0]
        return [(before + self.width_ns, after) for before, after in pairwise(times) if after - before != self.width_ns]

    def digest(self) -> str:
        """Hex SHA-256 over the instrument, the interval and every bar: the same data has the same."""
        header = (msgspec.to_builtins(self.instrument), self.interval)
        digest = hashlib.sha256(DIGEST_DOMAIN_TAG + msgspec.json.encode(header))
        for start in range(0, len(self), DIGEST_CHUNK_BARS):
            chunk = [column[start : start + DIGEST_CHUNK_BARS].tolist() for column in self._columns]
            digest.update(msgspec.json.encode(chunk))
        return digest.hexdigest()

    def _fill(self, rows: Iterable[Row]) -> None:
        before_ns = -self.width_ns
        for count, row in enumerate(rows):
            opens_ns, first, high, low, close, volume = row
            if count >= BARS_LIMIT:
                raise BarsError(f"more than {BARS_LIMIT} bars; choose a shorter time or a longer interval")
            if opens_ns % self.width_ns or opens_ns < before_ns + self.width_ns:
                raise BarsError(f"bar {count} at {opens_ns // NS_PER_S} s doesn't follow the one before it")
            if not (0 < low <= min(first, close) and max(first, close) <= high and volume >= 0):
                raise BarsError(f"bar {count} at {opens_ns // NS_PER_S} s has prices or a volume that can't be")
            try:
                for column, value in zip(self._columns, row, strict=True):
                    column.append(value)
            except OverflowError as error:
                raise BarsError(f"bar {count} at {opens_ns // NS_PER_S} s is beyond 63 bits") from error
            before_ns = opens_ns
