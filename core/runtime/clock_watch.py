"""No order is taken while the engine's clock stands still.

The engine's clock never goes back: where the machine's was set back, it repeats its last value until that has caught
up. Meanwhile nothing ages, neither a book nor an approval, so what depends on age isn't decided.
"""

from __future__ import annotations

from core.types.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from core.types.codes import ReasonCode, Refusal
from core.types.views import ExecutionOutcomeView

CLOCK_BEHIND_LIMIT_NS = NS_PER_S


def clock_refusal(clock: Clock) -> Refusal | None:
    """Why no order may be decided now; None when the clock moves."""
    behind_ns = clock.behind_ns() if isinstance(clock, MonotonicClock) else 0
    if behind_ns <= CLOCK_BEHIND_LIMIT_NS:
        return None
    return Refusal(
        ReasonCode.SERVICE_CLOCK_STEPPED_BACK,
        "The clock of the engine's machine was set back. No order is taken until it has caught up; cancels go on. See "
        "to its time service.",
        limit=str(CLOCK_BEHIND_LIMIT_NS // NS_PER_MS),
        actual=str(behind_ns // NS_PER_MS),
        unit="ms behind",
    )


def refused_by_clock(clock: Clock) -> ExecutionOutcomeView | None:
    """The outcome of an order that isn't decided now."""
    refusal = clock_refusal(clock)
    return None if refusal is None else ExecutionOutcomeView(False, None, None, refusal, (), clock.now_ns())
