"""A venue that takes orders at once: sent when durable, together, answered once, unknown rather than lost (I4, I5)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from core.kernel import decide
from core.risk.kill_switch import KillSwitch
from core.runtime import dispatch
from core.storage.journal import JournalUnavailableError
from core.types.codes import ReasonCode, Refusal
from core.types.events import JournalEvent, OrderAccepted, OrderBecameUnknown, OrderRejected
from core.types.orders import OrderIntent, OrderStatus
from core.venues.ports import SubmitRefused, SubmitResult, Submitted, SubmitUnknown, Told
from tests.core.approvals import ACCOUNT
from tests.core.runtime.guard_support import TakingVenue, Watched
from tests.core.runtime.test_switch_in_flight import approved

WAIT_S = 60.0


class PromptVenue(TakingVenue):
    """Sends with begin and answers when told to. can_begin: whether it takes orders at once now; fault is raised by the
    call that it is named after. ready: what was prepared and neither begun nor withdrawn."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[list[str]] = []
        self.ready: list[object] = []
        self.can_begin = True
        self.can_prepare = True
        self.fault = ""
        self._told: dict[str, tuple[OrderIntent, Told]] = {}

    def prepare(self, intents: Sequence[OrderIntent], told: Told) -> object | None:
        self._break("prepare")
        if not self.can_prepare:
            return None
        self.ready.append((list(intents), told))
        return self.ready[-1]

    def begin(self, prepared: Any) -> Sequence[OrderIntent]:
        self._take(prepared)
        self._break("begin")
        intents, told = prepared
        if not self.can_begin:
            found: Sequence[OrderIntent] = intents
            return found
        self._told |= {intent.client_order_id: (intent, told) for intent in intents}
        self.flushed.append([intent.client_order_id for intent in intents])
        return []

    def withdraw(self, prepared: object) -> None:
        self._take(prepared)

    def _take(self, prepared: object) -> None:
        (at,) = (at for at, one in enumerate(self.ready) if one is prepared)
        del self.ready[at]

    def answer(self, order_id: str, result: SubmitResult) -> None:
        self.answer_at_once({order_id: result})

    def answer_at_once(self, results: dict[str, SubmitResult]) -> None:
        taken = [(*self._told.pop(order_id), result) for order_id, result in results.items()]
        taken[0][1]([(intent, result) for intent, _, result in taken])

    def _break(self, call: str) -> None:
        if self.fault == call:
            raise RuntimeError("planted")


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    running = Watched(venue=PromptVenue())
    await running.start()
    yield running
    await running.close()


async def placed(watched: Watched, count: int = 1) -> list[str]:
    """Orders that were decided together and are durable."""
    decided = [approved(watched, suggestion_id=f"sug-{number}") for number in range(count)]
    await watched.record(*decided)
    return [event.intent.client_order_id for event in decided]


async def events_after(watched: Watched) -> list[JournalEvent]:
    """What was journaled, once every answer is recorded."""
    async with asyncio.timeout(WAIT_S):
        await watched.service.dispatcher.stop()
    return [entry.event() for entry in watched.journal.entries()]


async def test_orders_of_one_group_leave_together_and_each_answer_is_recorded(watched: Watched) -> None:
    first, second = await placed(watched, 2)
    assert watched.venue.flushed == [[first, second]]
    assert watched.service.dispatcher.busy_count == 2
    for order_id in (second, first):
        watched.venue.answer(order_id, Submitted(f"v-{order_id}"))
    accepted = [event for event in await events_after(watched) if isinstance(event, OrderAccepted)]
    assert [(event.client_order_id, event.venue_order_id) for event in accepted] == [
        (second, f"v-{second}"),
        (first, f"v-{first}"),
    ]
    assert watched.venue.submitted == []


async def test_of_answers_that_come_at_once_one_that_contradicts_leaves_the_others_recorded(watched: Watched) -> None:
    """The user data stream has named it otherwise: what the answer says of it can't be."""
    first, second, third = await placed(watched, 3)
    await watched.service.record(lambda now_ns: decide.decide_accepted(watched.kernel, second, "v-other", now_ns))
    written = watched.journal.sequence
    watched.venue.answer_at_once({order_id: Submitted(f"v-{order_id}") for order_id in (first, second, third)})
    await events_after(watched)
    assert watched.journal.sequence == written + 2
    named = [watched.kernel.orders[order_id].venue_order_id for order_id in (first, second, third)]
    assert named == [f"v-{first}", "v-other", f"v-{third}"]
    assert watched.service.dispatcher.busy_count == 0


async def test_of_answers_that_come_at_once_each_is_told_as_it_is(watched: Watched) -> None:
    first, second, third = await placed(watched, 3)
    refusal = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no")
    results: dict[str, SubmitResult] = {
        first: SubmitRefused(refusal),
        second: SubmitUnknown("no answer"),
        third: Submitted("v3"),
    }
    watched.venue.answer_at_once(results)
    await events_after(watched)
    statuses = [watched.kernel.orders[order_id].status for order_id in (first, second, third)]
    assert statuses == [OrderStatus.REJECTED, OrderStatus.UNKNOWN, OrderStatus.ACCEPTED]


async def test_nothing_is_begun_before_its_record_is_durable(watched: Watched) -> None:
    gate = watched.disk.hang_sync()
    placing = asyncio.create_task(placed(watched))
    await asyncio.to_thread(watched.disk.syncing.wait, WAIT_S)
    assert watched.venue.flushed == []
    gate.set()
    (order_id,) = await placing
    assert watched.venue.flushed == [[order_id]]
    watched.venue.answer(order_id, Submitted("v1"))


@pytest.mark.parametrize(
    ("fault", "unable", "goes_the_long_way"),
    [("", "can_begin", True), ("", "can_prepare", True), ("prepare", "", True), ("begin", "", False)],
)
async def test_an_order_that_cant_be_begun_is_submitted_once_or_unknown(
    watched: Watched, fault: str, unable: str, goes_the_long_way: bool
) -> None:
    """What fails in begin may have left: it is never sent another way."""
    watched.venue.fault = fault
    watched.venue.can_begin, watched.venue.can_prepare = unable != "can_begin", unable != "can_prepare"
    (order_id,) = await placed(watched)
    await events_after(watched)
    assert watched.venue.submitted == ([order_id] if goes_the_long_way else [])
    expected = OrderStatus.ACCEPTED if goes_the_long_way else OrderStatus.UNKNOWN
    assert watched.kernel.orders[order_id].status is expected


async def test_what_was_made_ready_for_a_group_that_the_disk_refused_is_withdrawn(watched: Watched) -> None:
    watched.disk.write_errors.append(OSError(errno.EIO, "planted"))
    with pytest.raises(JournalUnavailableError):
        await placed(watched)
    assert watched.venue.ready == []
    assert watched.venue.flushed == []


async def test_an_order_without_an_answer_is_unknown(watched: Watched) -> None:
    (order_id,) = await placed(watched)
    assert watched.kernel.orders[order_id].status is OrderStatus.INTENDED
    watched.venue.answer(order_id, SubmitUnknown("no answer"))
    told = [event for event in await events_after(watched) if isinstance(event, OrderBecameUnknown)]
    assert [event.detail for event in told] == ["no answer"]
    assert watched.venue.submitted == []


async def test_a_switch_thrown_while_the_disk_works_holds_the_order_back(watched: Watched) -> None:
    decided: Any = approved(watched)

    def thrown_then_decided(now_ns: int) -> tuple[JournalEvent, ...]:
        switch = decide.decide_kill_switch(
            watched.kernel, KillSwitch.HALTED, "user-trader", "now", None, now_ns, account_id=ACCOUNT
        )
        assert isinstance(switch, tuple)
        return (decided, *switch)

    await watched.service.sequencer.record(thrown_then_decided)
    refused = [event for event in await events_after(watched) if isinstance(event, OrderRejected)]
    assert [event.refusal.code for event in refused] == [ReasonCode.RISK_KILL_SWITCH_ACTIVE]
    assert watched.venue.flushed == []
    assert watched.venue.ready == []
    assert watched.venue.submitted == []


async def test_an_order_whose_cancel_came_first_is_cancelled_once_it_is_there(watched: Watched) -> None:
    (order_id,) = await placed(watched)
    await watched.service.cancel_order(order_id, "user-trader", None)
    asked = len(watched.venue.cancelled)
    watched.venue.answer(order_id, Submitted("v1"))
    await events_after(watched)
    assert watched.venue.cancelled[asked:] == [order_id]


async def test_an_answer_that_is_recorded_after_the_stop_begins_nothing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "STOP_TIMEOUT_S", 0.0)
    (order_id,) = await placed(watched)
    await watched.service.cancel_order(order_id, "user-trader", None)
    asked = list(watched.venue.cancelled)
    gate = watched.disk.hang_sync()
    watched.venue.answer(order_id, Submitted("v1"))
    await asyncio.to_thread(watched.disk.syncing.wait, WAIT_S)
    await watched.service.dispatcher.stop()
    gate.set()
    await watched.service.sequencer.between_batches(lambda: None)
    await asyncio.sleep(0)
    assert watched.kernel.orders[order_id].status is OrderStatus.ACCEPTED
    assert watched.venue.cancelled == asked
    assert watched.service.dispatcher.busy_count == 0


async def test_an_answer_after_the_stop_changes_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "STOP_TIMEOUT_S", 0.0)
    (order_id,) = await placed(watched)
    await watched.service.dispatcher.stop()
    watched.venue.answer(order_id, Submitted("v1"))
    await watched.service.sequencer.between_batches(lambda: None)
    assert watched.kernel.orders[order_id].status is OrderStatus.INTENDED
    assert watched.service.dispatcher.busy_count == 0
