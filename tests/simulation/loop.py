"""Virtual time, and an asyncio event loop in it: one thread, no sleeping, the same order of steps every time.

A Scheduler holds what happens when; a SimLoop is one process's event loop on it. A process dies by its loop's dying:
what it still had to do never happens. Callbacks of one loop keep the order that asyncio promises; what varies with the
seed is when things happen, and how long each step takes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

NS_PER_S = 1_000_000_000
STEP_NS = 1_000
"""What one step of a process takes."""
UNWINDING_LIMIT = 1_000
"""How many rounds a dead process's coroutines have to come to their ends."""


class ProcessKilledError(BaseException):
    """Raised where a process is killed in the middle of a step. Nothing of the process may catch it."""


class Scheduler:
    """What happens when, in virtual time. Equal times keep the order in which they were asked for."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when_ns: int, work: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(when_ns, self.now_ns), self._count, work))

    def after(self, delay_ns: int, work: Callable[[], None]) -> None:
        self.at(self.now_ns + delay_ns, work)

    def run_next(self, until_ns: int) -> bool:
        """Let time go on to the next event; False when there is none up to until_ns, and time stands there."""
        if not self._heap or self._heap[0][0] > until_ns:
            self.now_ns = max(self.now_ns, until_ns)
            return False
        when_ns, _, work = heapq.heappop(self._heap)
        self.now_ns = max(self.now_ns, when_ns)
        work()
        return True


class SimLoop(asyncio.AbstractEventLoop):
    """One process's event loop. crashed tells of what no handler took care of."""

    def __init__(self, scheduler: Scheduler, crashed: Callable[[str], None]) -> None:
        self.steps = 0
        self.is_dead = False
        self._scheduler = scheduler
        self._crashed = crashed
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # driving it

    @property
    def is_busy(self) -> bool:
        return bool(self._ready)

    def step(self) -> None:
        """Run the next callback that is due."""
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        self.steps += 1
        self._scheduler.now_ns += STEP_NS
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)

    def die(self) -> None:
        """The process is gone. Its coroutines are unwound here, where nothing that they do reaches the world."""
        self.is_dead = True
        asyncio._set_running_loop(self)
        try:
            for _ in range(UNWINDING_LIMIT):
                for task in list(self._tasks):
                    task.cancel()
                if not self._ready:
                    break
                for _ in range(len(self._ready)):
                    handle = self._ready.popleft()
                    if not handle.cancelled():
                        handle._run()
        finally:
            asyncio._set_running_loop(None)
            assert not self._tasks, "a task of a dead process doesn't end"
            self._ready.clear()

    # what asyncio asks of a loop

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            self._scheduler.at(round(when * NS_PER_S), lambda: self._due(handle))
        return handle

    def time(self) -> float:
        return self._scheduler.now_ns / NS_PER_S

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """What would run in a thread runs whole, in a step of its own."""
        done = self.create_future()

        def run() -> None:
            try:
                result = function(*args)
            except Exception as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        self.call_soon(run)
        return done

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_dead:
            error = context.get("exception")
            self._crashed(f"{context.get('message')}: {type(error).__name__}: {error}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if not self.is_dead and not handle.cancelled():
            self._ready.append(handle)


def run_for(loop: SimLoop, scheduler: Scheduler, duration_s: float) -> None:
    """Let a loop run for so long in virtual time."""
    until_ns = scheduler.now_ns + round(duration_s * NS_PER_S)
    while True:
        while loop.is_busy:
            loop.step()
        if not scheduler.run_next(until_ns):
            return
