"""Waits of one length share a timer, and each ends when its own time is over."""

from __future__ import annotations

import asyncio

import pytest

from audit.deadlines import KEPT_AT_LEAST, Deadlines

LONG_S = 3_600.0


class Wait:
    def __init__(self, deadlines: Deadlines) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadlines.add(self)

    def done(self) -> bool:
        return self.future.done()

    def expire(self) -> None:
        self.future.set_exception(TimeoutError())


async def test_what_is_not_done_in_time_ends_and_the_next_one_too() -> None:
    deadlines = Deadlines(0.01)
    for _ in range(2):
        futures = [Wait(deadlines).future for _ in range(3)]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 3


async def test_one_ends_at_its_own_time_and_not_with_those_before_it() -> None:
    loop, deadlines = asyncio.get_running_loop(), Deadlines(0.02)
    first = Wait(deadlines).future
    with pytest.raises(TimeoutError):
        await first
    began_s = loop.time()
    ended, later = Wait(deadlines).future, Wait(deadlines).future
    ended.set_result(None)
    with pytest.raises(TimeoutError):
        await later
    assert loop.time() - began_s >= 0.02
    assert ended.result() is None


async def test_what_is_done_or_cancelled_stays_so() -> None:
    deadlines = Deadlines(LONG_S)
    done, cancelled, waiting = (Wait(deadlines).future for _ in range(3))
    done.set_result(None)
    cancelled.cancel()
    deadlines.end()
    assert done.result() is None
    assert cancelled.cancelled()
    assert isinstance(waiting.exception(), TimeoutError)


async def test_what_is_done_is_not_kept() -> None:
    deadlines = Deadlines(LONG_S)
    for _ in range(100):
        Wait(deadlines).future.set_result(None)
    assert len(deadlines._waiting) == 1
    deadlines.end()


async def test_what_is_done_behind_one_that_is_not_is_not_kept_either() -> None:
    deadlines = Deadlines(LONG_S)
    first = Wait(deadlines).future
    for _ in range(10 * KEPT_AT_LEAST):
        Wait(deadlines).future.set_result(None)
    last = Wait(deadlines).future
    assert len(deadlines._waiting) <= KEPT_AT_LEAST + 1
    deadlines.end()
    assert [type(future.exception()) for future in (first, last)] == [TimeoutError] * 2


async def test_none_that_is_not_done_is_lost_however_many_there_are() -> None:
    deadlines = Deadlines(0.01)
    waits = [Wait(deadlines).future for _ in range(3 * KEPT_AT_LEAST)]
    outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TimeoutError}
