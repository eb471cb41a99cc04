"""`make simulate`: run seeds, show how it goes, and of each failure the one command that shows it again."""

from __future__ import annotations

import argparse
import sys

import msgspec

from tests.simulation.runner import Summary, run_seeds
from tests.simulation.world import TOLD_KEPT, simulate

PROGRESS_EVERY = 20
LINE_EVERY = 500
"""Where nobody watches a terminal, of how many seeds there is a line."""
CLEAR = "\r\033[K"


def main() -> int:
    options = _options()
    if options.trace:
        outcome = simulate(options.seed, told_kept=None)
        print("\n".join(outcome.last))
        print(outcome.message() if outcome.broken else f"seed {options.seed}: every invariant holds")
        return 1 if outcome.broken else 0
    is_shown = sys.stderr.isatty()

    def progress(summary: Summary) -> None:
        if summary.last_failure is not None:
            print(summary.last_failure.message(), end="\n\n", file=sys.stderr, flush=True)
        every = PROGRESS_EVERY if is_shown else LINE_EVERY
        if summary.seeds % every == 0 or summary.seeds == options.seeds:
            told = f"{summary.seeds}/{options.seeds} seeds, {summary.failed} failed, {summary.seeds_per_s:.1f} a second"
            start, end = (CLEAR, "") if is_shown else ("", "\n")
            print(f"{start}{told}", end=end, file=sys.stderr, flush=True)

    summary = run_seeds(options.seed, options.seeds, options.workers, progress)
    if is_shown:
        print(CLEAR, end="", file=sys.stderr)
    if options.json:
        print(msgspec.json.encode(_figures(summary)).decode())
    else:
        _show(summary)
    return 1 if summary.failed or summary.seeds < options.seeds else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--workers", type=int, default=None, help="processes; the number of cores by default")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    trace_help = f"run --seed alone and show all that happens, not the last {TOLD_KEPT} things"
    parser.add_argument("--trace", action="store_true", help=trace_help)
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    return options


def _figures(summary: Summary) -> dict[str, object]:
    return {
        "first_seed": summary.first,
        "seeds": summary.seeds,
        "failed": summary.failed,
        "seconds": round(summary.seconds, 1),
        "seeds_per_s": round(summary.seeds_per_s, 2),
        "steps": summary.steps,
        "events": summary.events,
        "virtual_hours": round(summary.virtual_hours, 1),
        "counts": dict(sorted(summary.counts.items())),
        "failures": [
            {"seed": item.seed, "invariant": item.broken.invariant, "detail": item.broken.detail}
            for item in summary.failures
            if item.broken is not None
        ],
    }


def _show(summary: Summary) -> None:
    print(f"{'times':>9}  {'seeds':>7}  what")
    for what, times in sorted(summary.counts.items()):
        print(f"{times:>9}  {summary.seeds_with[what]:>7}  {what}")
    print(
        f"\n{summary.seeds} seeds from {summary.first}: {summary.failed} failed; {summary.seconds:.1f} s, "
        f"{summary.seeds_per_s:.1f} seeds a second, {summary.events} events in {summary.virtual_hours:.1f} hours of "
        "virtual time"
    )


if __name__ == "__main__":
    sys.exit(main())
