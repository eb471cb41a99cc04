"""A tool's deadline, as asyncio.timeout sets one: the task is cancelled, and TimeoutError comes out.

Tools share a few lengths of time, so a timer for each length does instead of one for each call.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from audit.deadlines import Deadlines

MS_PER_S = 1_000


class Within(AbstractAsyncContextManager[None]):
    """Entered once, by the task that is bounded. has_expired tells afterwards whether the deadline ended it."""

    __slots__ = ("_cancelling", "_deadlines", "_is_over", "_task", "has_expired")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._task: asyncio.Task[object] | None = None
        self._is_over = False
        self.has_expired = False

    def done(self) -> bool:
        return self._is_over

    def expire(self) -> None:
        assert self._task is not None, "only what was entered can expire"
        self._is_over = self.has_expired = True
        self._task.cancel()

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a deadline bounds a task"
        self._task, self._cancelling = task, task.cancelling()
        self._deadlines.add(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None  # it isn't kept for as long as this is
        assert task is not None, "left once, after it was entered"
        self._is_over = True
        # A task that somebody else cancelled as well stays cancelled.
        is_ours = self.has_expired and task.uncancel() <= self._cancelling
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error


class ToolDeadlines:
    """The deadlines of all calls of a gateway."""

    def __init__(self) -> None:
        self._by_timeout_ms: dict[int, Deadlines] = {}

    def within(self, timeout_ms: int) -> Within:
        """Lengths of time are those that the registry's tools state: a few."""
        deadlines = self._by_timeout_ms.get(timeout_ms)
        if deadlines is None:
            deadlines = self._by_timeout_ms[timeout_ms] = Deadlines(timeout_ms / MS_PER_S)
        return Within(deadlines)
