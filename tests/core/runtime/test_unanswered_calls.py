"""What becomes of a call to the venue that isn't answered: a submit is never repeated, a cancel is, and what nobody
wants any more is cancelled as soon as it is known to be there (I5, I10)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from core.risk.kill_switch import KillSwitch
from core.runtime.dispatch import SUBMIT_TIMEOUT_S
from core.runtime.follow import SWEEP_INTERVAL_S
from core.types.orders import OrderIntent, OrderStatus
from core.venues.ports import ExecutionReport, SubmitResult, Submitted, SubmitUnknown, VenueUnavailableError
from tests.core.runtime.test_follow import House, Venue, shown


class SlowVenue(Venue):
    """Takes each order, and answers when a test lets it; the first unreachable_for cancels don't get there."""

    def __init__(self) -> None:
        super().__init__()
        self.submits: list[str] = []
        self.answer: asyncio.Future[SubmitResult] | None = None
        self.unreachable_for = 0

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        self.submits.append(intent.client_order_id)
        self.shown[intent.client_order_id] = shown(intent)
        self.answer = asyncio.get_running_loop().create_future()
        return await self.answer

    async def cancel(self, symbol: str, client_order_id: str) -> None:
        await super().cancel(symbol, client_order_id)
        if len(self.cancels) <= self.unreachable_for:
            raise VenueUnavailableError("no route")
        self.end(client_order_id)


class SlowHouse(House):
    def __init__(self) -> None:
        super().__init__()
        self.slow = SlowVenue()
        self.venue = self.service.venue = self.service.dispatcher._venue = self.slow

    def answered(self, result: SubmitResult) -> None:
        assert self.slow.answer is not None
        self.slow.answer.set_result(result)
        self.wait(0)

    def halted(self) -> None:
        self.run(self.service.set_kill_switch(KillSwitch.HALTED, "me", "drill"))

    def cancelled(self, order_id: str) -> None:
        self.run(self.service.cancel_order(order_id, "me", None))


@pytest.fixture
def house() -> Iterator[SlowHouse]:
    house = SlowHouse()
    yield house
    house.loop.die()


def test_a_submit_without_an_answer_is_unknown_and_sent_once(house: SlowHouse) -> None:
    order_id = house.order()
    house.slow.shown.clear()
    house.wait(SUBMIT_TIMEOUT_S - 1)
    assert house.status(order_id) is OrderStatus.INTENDED
    house.wait(2)
    assert house.status(order_id) is OrderStatus.UNKNOWN
    house.wait(2 * SUBMIT_TIMEOUT_S)
    assert house.slow.submits == [order_id]


@pytest.mark.parametrize("thrown", ["halted", "cancelled"])
def test_an_order_that_nobody_wants_any_more_is_cancelled_when_its_answer_comes(house: SlowHouse, thrown: str) -> None:
    order_id = house.order()
    house.slow.is_answering = False
    house.halted() if thrown == "halted" else house.cancelled(order_id)
    house.slow.is_answering = True
    before = len(house.slow.cancels)
    house.answered(Submitted("7"))
    assert house.slow.cancels[before:] == [order_id]


@pytest.mark.parametrize("thrown", ["halted", "cancelled"])
@pytest.mark.parametrize("told_by", ["the venue when asked", "the account's stream"])
def test_an_unknown_order_that_nobody_wants_any_more_is_cancelled_when_it_turns_out_to_be_there(
    house: SlowHouse, thrown: str, told_by: str
) -> None:
    house.follow()
    order_id = house.order()
    house.slow.is_answering = False
    house.halted() if thrown == "halted" else house.cancelled(order_id)
    order = house.slow.shown.pop(order_id)
    house.answered(SubmitUnknown("-1007"))
    house.wait(1)
    assert house.status(order_id) is OrderStatus.UNKNOWN
    before, house.slow.is_answering = len(house.slow.cancels), True
    if told_by == "the venue when asked":
        house.slow.shown[order_id] = order
    else:
        house.run(house.follower._report(ExecutionReport(order, None, "NEW")))
    house.wait(SWEEP_INTERVAL_S / 6)
    assert house.slow.cancels[before:] == [order_id]


def test_a_cancel_that_doesnt_get_there_is_asked_for_again_at_once(house: SlowHouse) -> None:
    order_id = house.order()
    house.answered(Submitted("7"))
    house.slow.unreachable_for = 2
    house.cancelled(order_id)
    house.wait(SWEEP_INTERVAL_S / 6)
    assert house.slow.cancels == [order_id] * 3
