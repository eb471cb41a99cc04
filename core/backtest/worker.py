"""`python -m core.backtest.worker`: one backtest in a process of its own, so that it can be stopped at any moment.

One job as JSON comes in on standard input; on standard output go lines of JSON: `{"progress": 12}`, then one with
`report` and `digest`, or with `refusal`. When nobody reads any more, it ends.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.backtest.bars import BarSeries
from core.backtest.job import Job, Line, too_few
from core.backtest.report import report_digest
from core.backtest.running import TooFewBarsError, run_backtest
from core.backtest.trading import ORDERS_LIMIT, TooManyOrdersError
from core.storage.catalog import Catalog, CatalogError
from core.types.codes import ReasonCode, Refusal

NICENESS = 10
"""Whoever trades comes first."""
CPU_LIMIT_S = 180
"""Whatever happens to whom started it; the deadline is shorter."""
MEMORY_LIMIT_BYTES = 4 << 30
JOB_LIMIT_BYTES = 16 << 20


class Tell:
    """Writes lines; ends the process when nobody reads them."""

    def __call__(self, line: Line) -> None:
        try:
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(1)


def series_of(job: Job) -> BarSeries:
    if job.stored is None:
        return BarSeries(job.instrument, job.interval, job.source, job.rows)
    # Parquet takes longer to load than most runs, and bars that are given need none.
    from core.backtest.stored import recorded_bars

    stored = job.stored
    catalog = Catalog(Path(stored.root))
    return recorded_bars(catalog, stored.recorded, job.instrument, job.interval, stored.from_ns, stored.until_ns)


def answer(job: Job, tell: Callable[[Line], None]) -> Line:
    """Run it; what stands in the way becomes a refusal."""
    told = -1

    def on_progress(done: int, whole: int) -> bool:
        nonlocal told
        percent = done * 100 // whole
        if percent > told:
            told = percent
            tell(Line(progress=percent))
        return True

    try:
        report = run_backtest(series_of(job), job.specification, on_progress=on_progress)
    except TooFewBarsError as error:
        return Line(refusal=too_few(error.needed, error.there))
    except TooManyOrdersError:
        return Line(
            refusal=Refusal(
                ReasonCode.TOOL_ARGUMENTS_INVALID,
                "The strategy asks for more orders than a backtest may. Choose a longer interval or slower parameters.",
                limit=str(ORDERS_LIMIT),
                unit="orders",
            )
        )
    except (ValueError, CatalogError, OSError) as error:
        return Line(refusal=Refusal(ReasonCode.TOOL_ARGUMENTS_INVALID, f"It can't be run: {error}."[:500]))
    return Line(report=report, digest=report_digest(report))


def main() -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    given = sys.stdin.buffer.read(JOB_LIMIT_BYTES + 1)
    if len(given) > JOB_LIMIT_BYTES:
        raise SystemExit(f"a job is at most {JOB_LIMIT_BYTES} bytes")
    tell = Tell()
    tell(answer(msgspec.json.decode(given, type=Job), tell))


if __name__ == "__main__":
    main()
