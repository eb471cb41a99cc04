"""One writer: what is decided is applied, made durable with what waits beside it, and only then acted upon (I4).

Commands and reports wait in a queue. A batch of them is decided one after the other, each on the state that the ones
before it left, and applied; then the whole batch goes to the journal in one group. When that fails, the batch is undone
as if it had never been asked for. While the disk works on one batch the next one gathers, and nothing holds the loop
for longer than INLINE_WAIT_S.

Safety commands (cancel, tighten, revoke) come first and in batches of their own. They go ahead when they can't be
recorded, or not within SAFETY_PATIENCE_S, and are recorded when the journal heals (I7, I10).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from core.kernel.approval import without_what_never_was
from core.kernel.effects import CancelOrder, Effect
from core.kernel.kernel import Kernel
from core.kernel.state import Savepoint
from core.orders.machine import ImpossibleTransitionError
from core.storage.journal import JournalUnavailableError
from core.storage.journal_group import NO_RECORDS, Records
from core.types.clock import Clock
from core.types.codes import Refusal
from core.types.events import ApprovalDecided, CancelRequested, JournalEntry, JournalEvent, encode_events

BATCH_LIMIT = 256
WAITING_LIMIT = 20_000
INLINE_WAIT_S = 0.002
LOOKING_S = 0.0005
"""Of that, when an order waits to be sent: a quick disk is over before this thread would have been woken."""
SAFETY_PATIENCE_S = 0.2
WAITED_FOR_RECORDS = 16
"""While more than these are written there is other work: the venue's answers to the group before."""
UNRECORDED_LIMIT = 1_000

Decision = Callable[[int], Sequence[JournalEvent] | Refusal]

T = TypeVar("T")
_log = structlog.get_logger("engine.sequencer")


class Commit(Protocol):
    """One group on its way to the disk."""

    def wait(self, timeout_s: float, looking_s: float = 0.0) -> bool: ...
    def confirm(self) -> None: ...
    def result(self) -> Records: ...
    def notify(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None: ...


class GroupJournal(Protocol):
    """core.storage.journal.Journal, as far as it is needed here."""

    @property
    def sequence(self) -> int: ...
    def expect(self) -> None: ...
    def begin(self, payloads: Sequence[bytes], *, emergency: bool = False) -> Commit: ...


class Acting(Protocol):
    """Who does what events ask for. Nothing of it may block or raise."""

    def prepare(self, effects: Iterable[Effect]) -> bool:
        """Make ready, while the disk works, what send will need. MUST NOT let anything of it out. Whether there is
        anything that send will do."""
        ...

    def drop(self) -> None:
        """What was made ready last isn't to be sent."""
        ...

    def send(self, effects: Iterable[Effect]) -> None:
        """Submit the orders among these effects: their records are durable (I4)."""
        ...

    def perform(self, effects: Iterable[Effect]) -> None:
        """Everything but submits."""
        ...

    def publish(self, records: Records) -> None:
        """Tell others of what became durable."""
        ...


class Recorded(msgspec.Struct, frozen=True):
    """What became durable: the records of a group from position on, none of them for a safety command that went ahead
    without its record."""

    events: tuple[JournalEvent, ...]
    group: Records = NO_RECORDS
    position: int = 0

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        return self.group[self.position : self.position + len(self.events)]

    @property
    def first_sequence(self) -> int | None:
        return self.group.first_sequence + self.position if len(self.group) else None


Outcome = Recorded | Refusal | Exception


class _Item(msgspec.Struct, eq=False):
    decision: Decision
    done: asyncio.Future[Recorded | Refusal] | None
    then: Callable[[Outcome], None] | None = None
    events: tuple[JournalEvent, ...] = ()
    effects: tuple[tuple[Effect, ...], ...] = ()
    performed: bool = False


class _Flight(msgspec.Struct, eq=False):
    items: list[_Item]
    is_safety: bool
    base: Savepoint
    owed: int
    began_s: float
    commit: Commit | None = None
    effects: list[Effect] = []
    """Those that haven't gone ahead."""


class Sequencer:
    """The only one that changes the kernel."""

    def __init__(self, kernel: Kernel, journal: GroupJournal, clock: Clock, acting: Acting) -> None:
        self.failures = 0
        self.error: str | None = None
        self.gathered: dict[Any, Any] | None = None
        """What was looked up for the batch that is being decided, for the next of its decisions: nothing but the kernel
        changes meanwhile. None between batches."""
        self.keep_owed: Callable[[int, Sequence[JournalEvent]], None] | None = None
        """Who keeps for the next start what went ahead of a journal that holds so many records; it may not block."""
        self._owed_is_kept = False
        self._kernel = kernel
        self._journal = journal
        self._clock = clock
        self._acting = acting
        self._waiting: deque[_Item] = deque()
        self._safety: deque[_Item] = deque()
        self._unrecorded: deque[JournalEvent] = deque()
        self._between: deque[Callable[[], None]] = deque()
        self._flight: _Flight | None = None
        self._scheduled = False
        self._patience: asyncio.TimerHandle | None = None

    @property
    def owes(self) -> bool:
        """Whether safety commands went ahead that the journal doesn't hold yet."""
        return bool(self._unrecorded)

    def record(self, decision: Decision) -> Awaitable[Recorded | Refusal]:
        """Decide on the engine's clock when its turn comes; to be awaited until what was decided is durable.

        Raises JournalUnavailableError (what was decided is then not so), ImpossibleTransitionError for a report that
        contradicts what is known, and what the decision raises. Once begun it goes on without its caller.
        """
        if len(self._waiting) >= WAITING_LIMIT:
            raise _too_many_waiting()
        return self._enter(self._waiting, decision)

    def record_then(self, decision: Decision, then: Callable[[Outcome], None]) -> None:
        """As record, for whom a coroutine costs too much: then hears of the outcome, or of the error that record would
        raise, in a step of the loop of its own."""
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= WAITING_LIMIT:
            loop.call_soon(then, _too_many_waiting())
        else:
            self._queue(loop, self._waiting, _Item(decision, None, then))

    def record_safety(self, decision: Decision) -> Awaitable[Recorded | Refusal]:
        """The same for a command that only reduces: it goes ahead without its record when there can't be one."""
        return self._enter(self._safety, decision)

    async def between_batches(self, work: Callable[[], T]) -> T:
        """Run something on a state that is durable as a whole: between two batches, and nothing owed.

        Raises JournalUnavailableError while something is owed that can't be written, and what the work raises.
        """
        await self.settle()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def run() -> None:
            try:
                if not self.owes:
                    result = work()
                    if not done.done():
                        done.set_result(result)
                elif not done.done():
                    done.set_exception(JournalUnavailableError("safety commands wait for their record"))
            except Exception as error:
                if not done.done():
                    done.set_exception(error)

        self._between.append(run)
        if self._flight is None:
            self._schedule(asyncio.get_running_loop())
        return await done

    async def settle(self) -> None:
        """Write what is owed. Raises JournalUnavailableError while it isn't possible."""
        if self._unrecorded:
            await self.record(lambda _now_ns: ())

    async def stop(self) -> None:
        """Return once nothing is on its way to the disk."""
        while self._flight is not None or self._waiting or self._safety:
            await self.record(lambda _now_ns: ())

    def _enter(self, queue: deque[_Item], decision: Decision) -> asyncio.Future[Recorded | Refusal]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Recorded | Refusal] = loop.create_future()
        self._queue(loop, queue, _Item(decision, done))
        return done

    def _queue(self, loop: asyncio.AbstractEventLoop, queue: deque[_Item], item: _Item) -> None:
        queue.append(item)
        if self._flight is None:
            self._schedule(loop)
        elif queue is self._safety:
            self._watch_patience(loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._journal.expect()
            # What is ready to ask by now shares this sync.
            loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        while self._between and self._flight is None:
            self._between.popleft()()
        while self._flight is None and (self._safety or self._waiting):
            flight = self._decide()
            payloads = encode_events([*self._unrecorded, *[event for item in flight.items for event in item.events]])
            if not payloads:
                self._kernel.commit()
                for item in flight.items:
                    _finish(item, Recorded(()))
                continue
            self._flight = flight
            try:
                flight.commit = self._journal.begin(payloads, emergency=flight.is_safety)
            except JournalUnavailableError as error:
                self._failed(error)
                continue
            flight.effects = _effects_of(flight)
            is_awaited = self._acting.prepare(flight.effects)
            is_waited_for = len(payloads) <= WAITED_FOR_RECORDS
            if is_waited_for and flight.commit.wait(INLINE_WAIT_S, LOOKING_S if is_awaited else 0.0):
                self._landed()
            else:
                flight.commit.notify(loop, self._landed_later)
                if flight.is_safety or self._safety:
                    self._watch_patience(loop)

    def _decide(self) -> _Flight:
        """Decide and apply the next batch. Those that fail or are refused have their answer when it returns."""
        kernel, is_safety = self._kernel, bool(self._safety)
        queue = self._safety if is_safety else self._waiting
        kernel.begin()
        flight = _Flight([], is_safety, kernel.savepoint(), len(self._unrecorded), asyncio.get_running_loop().time())
        # All of a batch is decided at one time.
        now_ns, self.gathered = self._clock.now_ns(), {}
        try:
            while queue and len(flight.items) < BATCH_LIMIT:
                item = queue.popleft()
                if self._decide_one(item, now_ns):
                    flight.items.append(item)
        finally:
            self.gathered = None
        return flight

    def _decide_one(self, item: _Item, now_ns: int) -> bool:
        kernel = self._kernel
        before = kernel.savepoint()
        try:
            events = item.decision(now_ns)
            if isinstance(events, Refusal):
                _finish(item, events)
                return False
            item.events = tuple(events)
            item.effects = tuple([kernel.apply(event) for event in item.events])
        except Exception as error:
            kernel.rollback(before)
            _fail(item, error)
            return False
        return True

    def _landed_later(self) -> None:
        self._landed()
        if self._safety or self._waiting or self._between:
            self._schedule(asyncio.get_running_loop())

    def _landed(self) -> None:
        flight = self._flight
        assert flight is not None
        assert flight.commit is not None
        try:
            flight.commit.confirm()
        except JournalUnavailableError as error:
            self._failed(error)
            return
        self._flight = None
        # Before all else: somebody waits for it, and for nothing that follows here.
        effects = flight.effects
        self._acting.send(effects)
        self._kernel.commit()
        records = flight.commit.result()
        if self.error is not None:
            _log.info("journal_available_again", recorded_late=flight.owed)
            self.error = None
        for _ in range(flight.owed):
            self._unrecorded.popleft()
        assert self._kernel.sequence - len(self._unrecorded) == self._journal.sequence
        if self._owed_is_kept:
            self._keep_owed()
        self._acting.publish(records)
        self._acting.perform(effects)
        position = flight.owed
        for item in flight.items:
            _finish(item, Recorded(item.events, records, position))
            position += len(item.events)

    def _failed(self, error: JournalUnavailableError) -> None:
        flight = self._flight
        assert flight is not None
        self._flight = None
        self._acting.drop()
        if self.error is None:
            _log.error("journal_unavailable", error=str(error))
        self.error = str(error)
        self.failures += 1
        self._kernel.rollback(flight.base)
        self._kernel.commit()
        self._apply_again(flight)
        for item in flight.items:
            if item.performed:
                continue
            if flight.is_safety:
                self._go_ahead(item)
            else:
                _fail(item, JournalUnavailableError(str(error)))
        self._keep_owed()

    def _keep_owed(self) -> None:
        """All that went ahead without its record, in order: also what is on its way to a disk that hangs."""
        if self.keep_owed is None:
            return
        ahead, flight = list(self._unrecorded), self._flight
        if flight is not None:
            on_its_way = [event for item in flight.items if item.performed for event in item.events]
            ahead[flight.owed : flight.owed] = on_its_way
        if ahead or self._owed_is_kept:
            self._owed_is_kept = bool(ahead)
            self.keep_owed(self._journal.sequence, ahead)

    def _apply_again(self, flight: _Flight) -> None:
        """What went ahead while the undone batch was on its way stays so; the events before it were never undone."""
        ahead = [event for item in flight.items if item.performed for event in item.events]
        ahead.extend(list(self._unrecorded)[flight.owed :])
        while len(self._unrecorded) > flight.owed:
            self._unrecorded.pop()
        for asked in ahead:
            event = without_what_never_was(self._kernel, asked) if isinstance(asked, ApprovalDecided) else asked
            if self._still_applies(event):
                self._unrecorded.append(event)

    def _still_applies(self, event: JournalEvent) -> bool:
        """Apply it, as a whole or not at all."""
        kernel = self._kernel
        kernel.begin()
        before = kernel.savepoint()
        try:
            kernel.apply(event)
        except ImpossibleTransitionError as error:
            # A cancel of an order that, as it turned out, was never intended.
            _log.warning("unrecorded_dropped", error=str(error))
            kernel.rollback(before)
            return False
        finally:
            kernel.commit()
        return True

    def _go_ahead(self, item: _Item) -> None:
        """Act without a record: in memory at once, in the journal before anything that comes after."""
        try:
            events = item.decision(self._clock.now_ns())
            if isinstance(events, Refusal):
                _finish(item, events)
                return
            for event in events:
                self._go_ahead_with(event)
        except Exception as error:
            _fail(item, error)
            return
        _finish(item, Recorded(tuple(events)))

    def _go_ahead_with(self, event: JournalEvent) -> None:
        if isinstance(event, CancelRequested) and len(self._unrecorded) >= UNRECORDED_LIMIT:
            # Carried out all the same; that it was asked for, only the log tells. Tightenings are few.
            _log.error("unrecorded_limit_reached", limit=UNRECORDED_LIMIT, cancel=event.client_order_id)
            intent = self._kernel.orders[event.client_order_id].intent
            self._acting.perform((CancelOrder(intent.venue, intent.symbol, event.client_order_id),))
            return
        effects = self._kernel.apply(event)
        self._unrecorded.append(event)
        self._acting.perform(effects)

    def _watch_patience(self, loop: asyncio.AbstractEventLoop) -> None:
        flight = self._flight
        assert flight is not None
        if self._patience is not None:
            self._patience.cancel()
        self._patience = loop.call_at(flight.began_s + SAFETY_PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        """The disk hangs: what only reduces doesn't wait for it."""
        self._patience = None
        flight = self._flight
        if flight is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < flight.began_s + SAFETY_PATIENCE_S:
            self._watch_patience(loop)
            return
        if flight.is_safety:
            for item in flight.items:
                if not item.performed:
                    item.performed = True
                    for effects in item.effects:
                        self._acting.perform(effects)
                    _finish(item, Recorded(item.events))
            flight.effects = []
            self._acting.drop()
        while self._safety:
            self._go_ahead(self._safety.popleft())
        self._keep_owed()


def _effects_of(flight: _Flight) -> list[Effect]:
    # Every order asks for this: loops within loops take half as long as a generator of generators.
    found: list[Effect] = []
    for item in flight.items:
        for effects in item.effects:
            found += effects
    return found


def _too_many_waiting() -> JournalUnavailableError:
    return JournalUnavailableError(f"{WAITING_LIMIT} commands are waiting for the disk already")


def _finish(item: _Item, outcome: Recorded | Refusal) -> None:
    if item.then is not None:
        asyncio.get_running_loop().call_soon(item.then, outcome)
    elif item.done is not None and not item.done.done():
        item.done.set_result(outcome)


def _fail(item: _Item, error: Exception) -> None:
    if item.then is not None:
        asyncio.get_running_loop().call_soon(item.then, error)
    elif item.done is not None and not item.done.done():
        item.done.set_exception(error)
        # The caller may have gone; its error isn't one that nobody looked at.
        item.done.exception()
