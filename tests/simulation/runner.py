"""Many seeds over the cores, and what became of them together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from tests.simulation.invariants import Broken, Invariant
from tests.simulation.world import Outcome, simulate

SEEDS_PER_TASK = 4
FAILURES_KEPT = 20


class Summary(msgspec.Struct):
    """What a run of seeds came to. counts: how often each fault struck and each state of interest was reached."""

    first: int
    seeds: int = 0
    failed: int = 0
    seconds: float = 0.0
    steps: int = 0
    events: int = 0
    virtual_hours: float = 0.0
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    seeds_with: Counter[str] = msgspec.field(default_factory=Counter)
    failures: list[Outcome] = msgspec.field(default_factory=list)
    last_failure: Outcome | None = None
    """When the seed that was added last is one."""

    @property
    def seeds_per_s(self) -> float:
        return self.seeds / self.seconds if self.seconds else 0.0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.steps += outcome.steps
        self.events += outcome.events
        self.virtual_hours += outcome.virtual_ns / 3_600e9
        self.counts.update(outcome.counts)
        self.seeds_with.update(dict.fromkeys(outcome.counts, 1))
        self.last_failure = None if outcome.broken is None else outcome
        if outcome.broken is not None:
            self.failed += 1
            if len(self.failures) < FAILURES_KEPT:
                self.failures.append(outcome)


def run_seeds(
    first: int, count: int, workers: int | None = None, progress: Callable[[Summary], None] = lambda _summary: None
) -> Summary:
    """Run seeds first .. first + count - 1. progress hears after each. Interrupted, it tells what there is by then."""
    summary = Summary(first)
    begun = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        for outcome in _outcomes(range(first, first + count), min(workers or os.cpu_count() or 1, count)):
            summary.add(outcome)
            summary.seconds = time.monotonic() - begun
            progress(summary)
    return summary


def _outcomes(seeds: range, workers: int) -> Iterator[Outcome]:
    if workers <= 1:
        yield from map(simulate_safely, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(simulate_safely, seeds, SEEDS_PER_TASK)


def simulate_safely(seed: int) -> Outcome:
    """A seed on which the simulation itself fails is a failure with its seed, not the end of the run."""
    try:
        return simulate(seed)
    except Exception:
        return Outcome(seed, Broken(Invariant.ALIVE, traceback.format_exc()), "", 0, 0, 0, {}, ())
