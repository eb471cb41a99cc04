"""No call goes ahead under a time that has passed already.

A clock that was set back would put records before those that they follow, and let limits and windows begin anew. So no
call goes ahead until the clock has caught up with what it said before, or agrees with the engine's: then it was wrong
before and is right now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.types.clock import NS_PER_MS, NS_PER_S, Clock
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.views import EngineStatusView

STEP_LIMIT_NS = NS_PER_S
AGREEMENT_LIMIT_NS = 2 * NS_PER_S


class ClockGuard:
    """Watches one clock. engine_status asks the engine, whose clock never goes back."""

    def __init__(self, clock: Clock, engine_status: Callable[[], Awaitable[EngineStatusView]]) -> None:
        self._clock = clock
        self._engine_status = engine_status
        self._latest_ns = clock.now_ns()

    def goes_on(self, now_ns: int) -> bool:
        """Whether now_ns, which the clock has just told, follows what it told before; if not, check() it."""
        if now_ns < self._latest_ns:
            return False
        self._latest_ns = now_ns
        return True

    async def check(self) -> None:
        """Raises RefusalError(SERVICE_CLOCK_STEPPED_BACK)."""
        now_ns = self._clock.now_ns()
        behind_ns = self._latest_ns - now_ns
        if behind_ns > STEP_LIMIT_NS and not await self._agrees_with_the_engine(now_ns):
            raise refuse(
                ReasonCode.SERVICE_CLOCK_STEPPED_BACK,
                "The clock of this service's machine was set back, so no tool is called until it has caught "
                "up or agrees with the engine's. See to its time service.",
                limit=str(STEP_LIMIT_NS // NS_PER_MS),
                actual=str(behind_ns // NS_PER_MS),
                unit="ms behind",
            )
        self._latest_ns = max(self._latest_ns, now_ns) if behind_ns <= STEP_LIMIT_NS else now_ns

    async def _agrees_with_the_engine(self, now_ns: int) -> bool:
        try:
            status = await self._engine_status()
        except RefusalError:
            return False
        return abs(status.now_ns - now_ns) <= AGREEMENT_LIMIT_NS
