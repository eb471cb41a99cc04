"""One deadline for many waits of the same length: a timer for all of them instead of one for each."""

from __future__ import annotations

import asyncio
from collections import deque


class Deadlines:
    """Futures that end with TimeoutError when they are not done deadline_s after they were made. What is done is kept
    until those before it are, or at most deadline_s."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def future(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        due_s = loop.time() + self._deadline_s
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        self._waiting.append((due_s, future))
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._expire)
        return future

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


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
