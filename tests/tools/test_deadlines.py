"""A tool's deadline does what asyncio.timeout does: each case is asked of both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tools.deadlines import ToolDeadlines

SHORT_MS, LONG_MS = 10, 3_600_000
Within = Callable[[int], AbstractAsyncContextManager[Any]]


@pytest.fixture(params=["ours", "asyncio"])
def within(request: pytest.FixtureRequest) -> Within:
    return ToolDeadlines().within if request.param == "ours" else lambda timeout_ms: asyncio.timeout(timeout_ms / 1_000)


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def outcome_of(doing: Awaitable[Any]) -> str:
    try:
        return str(await doing)
    except BaseException as error:
        return type(error).__name__


async def test_what_takes_too_long_is_stopped_and_says_so(within: Within) -> None:
    stopped: list[str] = []

    async def tool() -> str:
        async with within(SHORT_MS):
            try:
                await never()
            except asyncio.CancelledError:
                stopped.append("cancelled")
                raise
        return "went on"

    for _ in range(2):
        assert await outcome_of(tool()) == "TimeoutError"
    assert stopped == ["cancelled"] * 2


async def test_what_is_done_in_time_is_never_stopped(within: Within) -> None:
    async def tool() -> str:
        async with within(SHORT_MS):
            pass
        async with asyncio.timeout(SHORT_MS * 3 / 1_000):
            await never()
        return "went on"

    # Beyond the first deadline only the second one counts.
    task = asyncio.create_task(tool())
    assert await outcome_of(task) == "TimeoutError"
    assert task.cancelling() == 0


async def test_an_error_of_the_tool_comes_out_as_it_is(within: Within) -> None:
    async def tool(error: BaseException) -> None:
        async with within(LONG_MS):
            raise error

    assert await outcome_of(tool(KeyError())) == "KeyError"
    assert await outcome_of(tool(TimeoutError("its own"))) == "TimeoutError"


async def test_who_is_cancelled_from_outside_stays_cancelled(within: Within) -> None:
    entered = asyncio.Event()

    async def tool() -> None:
        async with within(LONG_MS):
            entered.set()
            await never()

    task = asyncio.create_task(tool())
    await entered.wait()
    task.cancel()
    assert await outcome_of(task) == "CancelledError"
    assert task.cancelled()


async def test_who_is_cancelled_by_both_stays_cancelled(within: Within) -> None:
    async def tool() -> None:
        async with within(SHORT_MS):
            try:
                await never()
            except asyncio.CancelledError:
                task.cancel()
                raise

    task = asyncio.create_task(tool())
    assert await outcome_of(task) == "CancelledError"


async def test_of_two_deadlines_the_one_that_is_over_speaks(within: Within) -> None:
    async def tool() -> str:
        async with within(LONG_MS):
            try:
                async with within(SHORT_MS):
                    await never()
            except TimeoutError:
                return "the inner one"
        return "went on"

    assert await outcome_of(tool()) == "the inner one"


async def test_a_tool_that_swallows_its_cancellation_has_had_its_time_all_the_same() -> None:
    deadline = ToolDeadlines().within(SHORT_MS)
    async with deadline:
        with contextlib.suppress(asyncio.CancelledError):
            await never()
    assert deadline.has_expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_calls_of_one_length_share_a_timer_and_each_is_stopped_in_its_own_time() -> None:
    deadlines, loop = ToolDeadlines(), asyncio.get_running_loop()
    ended_s: dict[int, float] = {}

    async def tool(number: int) -> None:
        began_s = loop.time()
        try:
            async with deadlines.within(SHORT_MS * number):
                await never()
        except TimeoutError:
            ended_s[number] = loop.time() - began_s

    await asyncio.gather(*(tool(number) for number in (3, 1, 2, 1)))
    assert list(ended_s) == [1, 2, 3]
    assert all(took_s >= SHORT_MS * number / 1_000 for number, took_s in ended_s.items())
