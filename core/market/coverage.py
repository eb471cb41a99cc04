"""What a series of bars knows: the stretches of time of which it has every trade, and the trades that it misses."""

from __future__ import annotations

from collections.abc import Iterable

MAX_RANGES = 1_440
"""Stretches kept apart; beyond it the oldest are forgotten."""
MAX_GAPS = 256
"""Gaps in the trades kept apart; beyond it all count as one that nothing fills."""

Range = tuple[int, int]
"""From a nanosecond up to, and without, another."""


class Ranges:
    """A sorted set of stretches of time that don't touch each other."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []

    def __iter__(self) -> Iterable[Range]:
        return iter(self._ranges)

    def add(self, from_ns: int, until_ns: int) -> None:
        if from_ns >= until_ns:
            return
        ranges = self._ranges
        if ranges and ranges[-1][1] == from_ns:
            ranges[-1] = (ranges[-1][0], until_ns)
            return
        before = [item for item in ranges if item[1] < from_ns]
        after = [item for item in ranges if item[0] > until_ns]
        touching = ranges[len(before) : len(ranges) - len(after)]
        joined = (min([from_ns, *(a for a, _ in touching)]), max([until_ns, *(b for _, b in touching)]))
        self._ranges = [*before, joined, *after][-MAX_RANGES:]

    def remove(self, from_ns: int, until_ns: int) -> None:
        kept: list[Range] = []
        for start, end in self._ranges:
            kept += [part for part in ((start, min(end, from_ns)), (max(start, until_ns), end)) if part[0] < part[1]]
        self._ranges = kept

    def forget_before(self, ts_ns: int) -> None:
        ranges = self._ranges
        if ranges and ranges[0][0] < ts_ns <= ranges[0][1] - 1:
            ranges[0] = (ts_ns, ranges[0][1])
        elif ranges and ranges[0][0] < ts_ns:
            self.remove(0, ts_ns)

    def holds(self, from_ns: int, until_ns: int) -> bool:
        return any(start <= from_ns and until_ns <= end for start, end in reversed(self._ranges))

    def holes(self, until_ns: int) -> list[Range]:
        """What lies between the stretches, and from the last one to until_ns."""
        found, edge = [], None
        for start, end in self._ranges:
            if edge is not None:
                found.append((edge, start))
            edge = end
        if edge is not None and edge < until_ns:
            found.append((edge, until_ns))
        return found


class _Gap:
    """Trades missed after the one at from_ns and before the one at until_ns; ids is empty when nobody knows which."""

    __slots__ = ("found", "from_ns", "ids", "until_ns")

    def __init__(self, from_ns: int, until_ns: int, ids: range) -> None:
        self.from_ns = from_ns
        self.until_ns = until_ns
        self.ids = ids
        self.found: set[int] = set()

    @property
    def is_filled(self) -> bool:
        return 0 < len(self.ids) == len(self.found)


class Gaps:
    """The trades that were missed lately. A gap is filled when all of its trades came after all."""

    def __init__(self) -> None:
        self._gaps: list[_Gap] = []

    def open(self, from_ns: int, until_ns: int, ids: range = range(0)) -> None:
        self._gaps.append(_Gap(from_ns, until_ns, ids))
        if len(self._gaps) > MAX_GAPS:
            from_ns = min(gap.from_ns for gap in self._gaps)
            until_ns = max(gap.until_ns for gap in self._gaps)
            self._gaps = [_Gap(from_ns, until_ns, range(0))]

    def fill(self, trade_id: int) -> bool:
        """Whether this trade was missed until now."""
        for gap in self._gaps:
            if trade_id in gap.ids and trade_id not in gap.found:
                gap.found.add(trade_id)
                if gap.is_filled:
                    self._gaps.remove(gap)
                return True
        return False

    def touch(self, from_ns: int, until_ns: int) -> bool:
        return any(gap.until_ns >= from_ns and gap.from_ns < until_ns for gap in self._gaps)

    def forget_before(self, ts_ns: int) -> None:
        if self._gaps:
            self._gaps = [gap for gap in self._gaps if gap.until_ns >= ts_ns]
