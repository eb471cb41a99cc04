"""Faults of a WebSocket connection, by rate and seed: frames that are lost, doubled, or overtaken by later ones."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

REORDER_SPAN_FRAMES = 100
"""A frame that is held back comes up to so many frames later: enough for several depth messages to overtake it."""


class FaultRates(msgspec.Struct, frozen=True):
    """Probabilities from 0 to 1, each applied to every frame by itself; first_frames: to so many only, 0 is to all."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    seed: int = 0
    span_frames: int = REORDER_SPAN_FRAMES
    first_frames: int = 0

    @property
    def any(self) -> bool:
        return bool(self.drop or self.duplicate or self.reorder)


class FaultCounters(msgspec.Struct):
    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0


class Faults(Generic[T]):
    """Deterministic: the same rates, seed and frames give the same deliveries."""

    def __init__(self, rates: FaultRates) -> None:
        self.counters = FaultCounters()
        self._rates = rates
        self._random = Random(rates.seed)  # noqa: S311
        self._held: list[tuple[int, int, T]] = []
        self._position = 0
        self._order = 0

    def deliver(self, frame: T) -> Iterator[T]:
        """What arrives now that this frame was sent: none, one, or several, of which some were sent earlier."""
        rates, random = self._rates, self._random
        self._position += 1
        if rates.first_frames and self._position > rates.first_frames:
            yield from self._overdue()
            yield frame
            return
        if random.random() < rates.drop:
            self.counters.dropped += 1
        else:
            copies = 1
            if random.random() < rates.duplicate:
                self.counters.duplicated += 1
                copies = 2
            for _ in range(copies):
                if random.random() < rates.reorder:
                    self.counters.reordered += 1
                    self._order += 1
                    due = self._position + random.randint(1, rates.span_frames)
                    heappush(self._held, (due, self._order, frame))
                else:
                    yield frame
        yield from self._overdue()

    def _overdue(self) -> Iterator[T]:
        while self._held and self._held[0][0] <= self._position:
            yield heappop(self._held)[2]

    def flush(self) -> Iterator[T]:
        """What was still held back at the end."""
        while self._held:
            yield heappop(self._held)[2]
