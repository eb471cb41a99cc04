"""The one writer: decided in turn, durable in groups, undone as a whole, and safety never waits for a disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from core.authority.proposal import KILL_SWITCH_PROPOSAL_SCHEMA, Proposed
from core.authority.session import grant_bytes, sign_session
from core.kernel import decide, decide_approvals
from core.kernel.decide_authority import decide_session_close, decide_session_open
from core.kernel.effects import CancelOrder, Effect, SubmitOrder
from core.kernel.kernel import Kernel
from core.orders.machine import ImpossibleTransitionError
from core.risk.kill_switch import KillSwitch
from core.runtime.sequencer import Recorded, Sequencer
from core.storage.journal import Journal, JournalUnavailableError
from core.storage.journal_group import Records
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    JournalEvent,
    KillSwitchChanged,
    OrderClosed,
)
from core.types.orders import client_order_id
from tests.core.approvals import ENGINE_ID, LIVE_INPUTS, NOW_NS, TRADER_SEED, approve, proposal, started_events
from tests.core.authority.proposals import example, order_proposal
from tests.core.kernel.desk import grant
from tests.core.kernel.test_proposed_orders import PLAIN
from tests.core.storage.faults import MemoryDisk

WAIT_S = 60.0


class Clock:
    """Each look is a moment later."""

    def __init__(self) -> None:
        self.ns = NOW_NS

    def now_ns(self) -> int:
        self.ns += 1
        return self.ns


class Rig:
    """A kernel and its journal on a disk that can be broken; performed keeps what was acted upon, in order."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.journal = Journal.open(self.disk.folder(), ENGINE_ID)
        self.kernel = Kernel()
        self.performed: list[Effect] = []
        self.published: list[JournalEvent] = []
        self.prepared: list[Effect] = []
        self.sequencer = Sequencer(self.kernel, self.journal, Clock(), self)

    def prepare(self, effects: Iterable[Effect]) -> bool:
        self.prepared.extend(effects)
        return bool(self.prepared)

    def drop(self) -> None:
        self.prepared.clear()

    def send(self, effects: Iterable[Effect]) -> None:
        self.performed.extend(effect for effect in effects if isinstance(effect, SubmitOrder))

    def perform(self, effects: Iterable[Effect]) -> None:
        self.performed.extend(effect for effect in effects if not isinstance(effect, SubmitOrder))

    def publish(self, records: Records) -> None:
        self.published.extend(entry.event() for entry in records)

    def acts(self, kind: type[Effect]) -> list[Effect]:
        return [effect for effect in self.performed if isinstance(effect, kind)]

    async def approve(self, suggestion_id: str) -> str:
        """An approved order, recorded; its client order id."""
        what = proposal(suggestion_id=suggestion_id)
        recorded = await self.sequencer.record(self.approval_of(what))
        assert isinstance(recorded, Recorded), recorded
        (event,) = recorded.events
        assert isinstance(event, ApprovalDecided)
        assert event.refusal is None
        return client_order_id(event.digest_hex)

    def approval_of(self, what: Proposed) -> Callable[[int], Refusal | tuple[JournalEvent, ...]]:
        """Its decision, at a venue that has no conditional orders."""
        canonical, digest_hex, signatures = approve(what)

        def decision(now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
            decided = decide_approvals.decide_approval(
                self.kernel,
                canonical,
                digest_hex,
                signatures,
                trace_id=None,
                inputs=LIVE_INPUTS,
                capabilities=PLAIN,
                now_ns=now_ns,
            )
            return decided if isinstance(decided, Refusal) else (decided,)

        return decision

    async def cancel(self, order_id: str) -> Recorded | Refusal:
        return await self.sequencer.record_safety(
            lambda now_ns: decide.decide_cancel(self.kernel, order_id, "trader", None, now_ns)
        )

    async def tighten(self, state: KillSwitch) -> Recorded | Refusal:
        return await self.sequencer.record_safety(
            lambda now_ns: decide.decide_kill_switch(self.kernel, state, "trader", "drill", None, now_ns)
        )

    def assert_replays(self) -> None:
        """What the journal holds is what the kernel is."""
        replayed = Kernel()
        replayed.replay(entry.event() for entry in self.journal.entries())
        assert replayed.sequence == self.kernel.sequence == self.journal.sequence
        assert replayed.state_digest() == self.kernel.state_digest()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.sequencer.record(lambda _now_ns: started_events())
    rig.performed.clear()
    yield rig
    await rig.journal.close()


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


async def test_nothing_happens_before_its_record_is_durable(rig: Rig) -> None:
    gate = rig.disk.hang_sync()
    asking = asyncio.create_task(rig.approve("sug-1"))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    assert rig.performed == []
    gate.set()
    await asking
    assert len(rig.acts(SubmitOrder)) == 1
    rig.assert_replays()


async def test_what_isnt_durable_yet_is_made_ready_and_not_acted_upon(rig: Rig) -> None:
    gate = rig.disk.hang_sync()
    asking = asyncio.create_task(rig.approve("sug-1"))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    assert [type(effect) for effect in rig.prepared].count(SubmitOrder) == 1
    assert rig.performed == []
    rig.disk.sync_errors.append(OSError(errno.EIO, "Input/output error"))
    gate.set()
    with pytest.raises(JournalUnavailableError):
        await asking
    assert rig.acts(SubmitOrder) == []


async def test_what_waits_while_the_disk_works_shares_one_sync(rig: Rig) -> None:
    gate = rig.disk.hang_sync()
    first = asyncio.create_task(rig.approve("sug-0"))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    before = rig.disk.syncs
    rest = [asyncio.create_task(rig.cancel("nope")) for _ in range(3)]
    orders = [asyncio.create_task(rig.tighten(KillSwitch.REDUCE_ONLY)), asyncio.create_task(rig.approve("sug-0"))]
    gate.set()
    order_id, *others = await asyncio.gather(first, *rest, orders[0])
    assert order_id in rig.kernel.orders
    assert all(isinstance(other, Refusal) for other in others[:3])
    with pytest.raises(AssertionError):
        await orders[1]  # its approval was consumed by the first
    assert rig.disk.syncs - before <= 2
    rig.assert_replays()


async def test_a_batch_that_cant_be_written_is_undone_as_a_whole(rig: Rig) -> None:
    before = rig.kernel.state_digest()
    rig.disk.write_errors.append(disk_full())
    outcomes = await asyncio.gather(rig.approve("sug-1"), rig.approve("sug-2"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [JournalUnavailableError, JournalUnavailableError]
    assert rig.kernel.state_digest() == before
    assert rig.acts(SubmitOrder) == []
    await rig.approve("sug-1")
    assert len(rig.acts(SubmitOrder)) == 1
    rig.assert_replays()


async def test_one_that_contradicts_what_is_known_leaves_its_neighbours_alone(rig: Rig) -> None:
    order_id = await rig.approve("sug-1")

    def accepted(venue_order_id: str) -> asyncio.Future[Recorded | Refusal]:
        return asyncio.ensure_future(
            rig.sequencer.record(lambda now_ns: decide.decide_accepted(rig.kernel, order_id, venue_order_id, now_ns))
        )

    first, contradiction, same = accepted("77"), accepted("78"), accepted("77")
    await asyncio.gather(first, same)
    with pytest.raises(ImpossibleTransitionError):
        await contradiction
    assert rig.kernel.orders[order_id].venue_order_id == "77"
    rig.assert_replays()


async def test_a_safety_command_doesnt_wait_for_a_disk_that_hangs(rig: Rig) -> None:
    order_id = await rig.approve("sug-1")
    gate = rig.disk.hang_sync()
    hanging = asyncio.create_task(rig.approve("sug-2"))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    async with asyncio.timeout(WAIT_S):
        assert isinstance(await rig.cancel(order_id), Recorded)
        await rig.tighten(KillSwitch.CANCEL_ONLY)
    assert rig.acts(CancelOrder) == [CancelOrder("paper", "BTCUSDT", order_id)]
    assert rig.kernel.kill_switch is KillSwitch.CANCEL_ONLY
    assert not hanging.done()
    gate.set()
    await hanging
    await rig.sequencer.settle()
    assert sum(isinstance(event, KillSwitchChanged) for event in rig.published) == 1, "with its record, not before"
    assert rig.published == [entry.event() for entry in rig.journal.entries()]
    rig.assert_replays()


async def test_a_cancel_whose_own_record_hangs_is_asked_for_once(rig: Rig) -> None:
    order_id = await rig.approve("sug-1")
    gate = rig.disk.hang_sync()
    cancelling = asyncio.create_task(rig.cancel(order_id))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    async with asyncio.timeout(WAIT_S):
        assert isinstance(await cancelling, Recorded)
    gate.set()
    await rig.sequencer.stop()
    await rig.sequencer.record(lambda _now_ns: ())
    assert rig.acts(CancelOrder) == [CancelOrder("paper", "BTCUSDT", order_id)]
    rig.assert_replays()


@pytest.mark.parametrize("safety_first", [False, True])
async def test_what_went_ahead_stays_when_the_batch_before_it_is_undone(rig: Rig, safety_first: bool) -> None:
    """given a disk that hangs and then fails, safety commands are kept and recorded later; the order is undone."""
    order_id = await rig.approve("sug-1")
    gate = rig.disk.hang_sync()
    first = asyncio.create_task(rig.tighten(KillSwitch.REDUCE_ONLY) if safety_first else rig.approve("sug-2"))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    async with asyncio.timeout(WAIT_S):
        await rig.cancel(order_id)
        await rig.tighten(KillSwitch.CANCEL_ONLY)
    # The write came through, its sync didn't: the journal is dead until the next start.
    rig.disk.sync_errors.append(OSError(errno.EIO, "Input/output error"))
    gate.set()
    if safety_first:
        assert isinstance(await first, Recorded)
    else:
        with pytest.raises(JournalUnavailableError):
            await first
    assert rig.sequencer.owes
    assert rig.kernel.kill_switch is KillSwitch.CANCEL_ONLY
    assert rig.kernel.orders[order_id].cancel_requested
    assert len(rig.kernel.orders) == 1
    halted = await rig.tighten(KillSwitch.HALTED)
    assert isinstance(halted, Recorded)
    assert [type(event) for event in halted.events] == [KillSwitchChanged]
    assert (halted.entries, halted.first_sequence) == ((), None)


async def test_an_approved_halt_stays_without_the_end_of_an_order_that_never_was(rig: Rig) -> None:
    """given a stop on its way to a disk that hangs and then fails, and an approved HALTED that ended it meanwhile, the
    switch stays thrown and its approval used; only the stop was never there."""
    gate = rig.disk.hang_sync()
    stop = order_proposal(suggestion_id="sug-stop", order_type="STOP", price="", stop_price="61000")
    held = asyncio.ensure_future(rig.sequencer.record(rig.approval_of(stop)))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    halt = example(KILL_SWITCH_PROPOSAL_SCHEMA, suggestion_id="sug-halt", scope="engine")
    async with asyncio.timeout(WAIT_S):
        outcome = await rig.sequencer.record_safety(rig.approval_of(halt))
    assert isinstance(outcome, Recorded)
    (decided,) = outcome.events
    assert isinstance(decided, ApprovalDecided)
    assert [type(event) for event in decided.caused] == [KillSwitchChanged, CancelRequested, OrderClosed]
    rig.disk.sync_errors.append(OSError(errno.EIO, "Input/output error"))
    gate.set()
    with pytest.raises(JournalUnavailableError):
        await held
    assert rig.kernel.kill_switch is KillSwitch.HALTED
    assert dict(rig.kernel.consumed) == {"sug-halt": 1}
    assert dict(rig.kernel.orders) == {}
    assert rig.sequencer.owes
    again = await rig.sequencer.record_safety(rig.approval_of(halt))
    assert isinstance(again, Refusal)
    assert again.code is ReasonCode.APPROVAL_ALREADY_CONSUMED


async def test_the_end_of_a_session_whose_opening_is_undone_goes_with_it(rig: Rig) -> None:
    """given a session that is closed while its opening is on its way to a disk that fails, both never were."""
    what = grant()
    signed = bytes(sign_session(TRADER_SEED, what))
    gate = rig.disk.hang_sync()
    opening = asyncio.ensure_future(
        rig.sequencer.record(
            lambda now_ns: decide_session_open(rig.kernel, grant_bytes(what), "trader", signed, now_ns)
        )
    )
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    async with asyncio.timeout(WAIT_S):
        await rig.sequencer.record_safety(
            lambda now_ns: decide_session_close(rig.kernel, what.session_id, "user-trader", "", now_ns)
        )
    rig.disk.sync_errors.append(OSError(errno.EIO, "Input/output error"))
    gate.set()
    with pytest.raises(JournalUnavailableError):
        await opening
    assert what.session_id not in rig.kernel.sessions
    assert not rig.sequencer.owes
    assert isinstance(await rig.tighten(KillSwitch.HALTED), Recorded)


async def test_safety_is_recorded_before_what_comes_after_it(rig: Rig) -> None:
    rig.disk.write_errors.extend([disk_full(), disk_full()])
    assert isinstance(await rig.tighten(KillSwitch.REDUCE_ONLY), Recorded)
    assert rig.kernel.kill_switch is KillSwitch.REDUCE_ONLY
    assert rig.journal.sequence < rig.kernel.sequence
    with pytest.raises(JournalUnavailableError):
        await rig.sequencer.settle()
    await rig.sequencer.settle()
    assert not rig.sequencer.owes
    rig.assert_replays()


async def test_a_refusal_is_an_answer_and_no_record(rig: Rig) -> None:
    before = rig.journal.sequence
    refused = await rig.cancel("nope")
    assert isinstance(refused, Refusal)
    assert refused.code is ReasonCode.ORDER_UNKNOWN
    assert rig.journal.sequence == before


async def test_between_batches_the_state_is_durable_as_a_whole(rig: Rig) -> None:
    asking = [asyncio.create_task(rig.approve(f"sug-{n}")) for n in range(3)]
    sequences = await rig.sequencer.between_batches(lambda: (rig.kernel.sequence, rig.journal.sequence))
    assert sequences[0] == sequences[1]
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert outcomes[0] in rig.kernel.orders
    rig.assert_replays()


async def test_a_caller_that_goes_away_interrupts_nothing(rig: Rig) -> None:
    gate = rig.disk.hang_sync()
    asking = asyncio.create_task(rig.approve("sug-1"))
    await asyncio.to_thread(rig.disk.syncing.wait, WAIT_S)
    asking.cancel()
    gate.set()
    await asyncio.gather(asking, return_exceptions=True)
    await rig.sequencer.between_batches(lambda: None)
    assert len(rig.acts(SubmitOrder)) == 1
    rig.assert_replays()
