"""One deadline for many waits of the same length: a timer for all of them instead of one for each."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

KEPT_AT_LEAST = 1_024


class Expiring(Protocol):
    """What waits. expire MUST make it done, and is not called when it is."""

    def done(self) -> bool: ...

    def expire(self) -> None: ...


class Deadlines:
    """Ends what isn't done deadline_s after it was added. Of what is done no more is kept than of what isn't, or
    KEPT_AT_LEAST."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._waiting: deque[tuple[float, Expiring]] = deque()
        self._sweep_at = KEPT_AT_LEAST
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: Expiring) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._deadline_s
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        if len(self._waiting) >= self._sweep_at:  # behind one that isn't done
            self._waiting = deque(each for each in self._waiting if not each[1].done())
            self._sweep_at = max(KEPT_AT_LEAST, 2 * len(self._waiting))
        self._waiting.append((due_s, waiting))
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._expire)

    def end(self) -> None:
        """Nothing more is waited for: what isn't done yet ends now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            _end(self._waiting.popleft()[1])

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= loop.time()):
            _end(self._waiting.popleft()[1])
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._expire)


def _end(waiting: Expiring) -> None:
    if not waiting.done():
        waiting.expire()
