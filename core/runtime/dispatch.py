"""Acting upon what is durable: submits, cancels, amendments and messages (I4, I5).

A submit to a venue that can take it at once is no task: its bytes leave with those of its group, and its answer is
recorded as it comes. All else runs in a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from core.kernel import decide
from core.kernel.effects import AmendOrder, CancelOrder, Effect, ReviewGroup, SubmitOrder
from core.kernel.kernel import Kernel
from core.risk.kill_switch import KillSwitch
from core.runtime.sequencer import Outcome, Sequencer
from core.storage.journal import JournalUnavailableError
from core.storage.journal_group import Records, TradingMessage
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.events import JournalEvent
from core.types.orders import OrderIntent, Side
from core.venues.ports import (
    Amended,
    AmendRefused,
    AmendResult,
    AmendUnknown,
    PromptVenue,
    SubmitRefused,
    SubmitResult,
    Submitted,
    SubmitUnknown,
    VenuePort,
    VenueUnavailableError,
)

SUBMIT_TIMEOUT_S = 15.0
CANCEL_ATTEMPTS = 5
CANCEL_RETRY_S = 0.5
STOP_TIMEOUT_S = 5.0
ANSWERS_LIMIT = 256
"""Of the answers that came at once, so many are decided as one."""

_log = structlog.get_logger("engine.dispatch")


class TradingBus(Protocol):
    """Where events go for others to hear. MUST NOT block or raise."""

    def publish_trading(self, messages: Sequence[TradingMessage]) -> None: ...


class _Prepared(msgspec.Struct, eq=False):
    """Orders that the venue has made ready, by their ids too."""

    intents: Sequence[OrderIntent]
    accounts: set[str]
    sent: dict[str, OrderIntent]
    ready: object


class Dispatcher:
    """Carries out effects. on_order_changed hears of each order that has news, review of each group that has."""

    def __init__(self, kernel: Kernel, venue: VenuePort, bus: TradingBus) -> None:
        self.on_order_changed: Callable[[str], None] = lambda _order_id: None
        self.on_group_changed: Callable[[str], None] = lambda _order_id: None
        self.sequencer: Sequencer
        self._kernel = kernel
        self._venue = venue
        self._bus = bus
        self._prompt = venue if isinstance(venue, PromptVenue) else None
        self._prepared: _Prepared | None = None
        self._sent: dict[str, OrderIntent] = {}
        """Orders that were begun and whose answers aren't recorded yet."""
        self._all_recorded: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelling: dict[str, int] = {}

    @property
    def busy_count(self) -> int:
        """How many calls to the venue and their records are under way."""
        return len(self._tasks) + len(self._sent)

    def prepare(self, effects: Iterable[Effect]) -> bool:
        """Make ready, while the disk works, what send will need: nothing of it leaves. Whether there is an order."""
        self.drop()
        intents = [effect.intent for effect in effects if type(effect) is SubmitOrder]
        if not intents:
            return False
        if self._prompt is not None:
            self._prepared = self._prepare(self._prompt, intents)
        return True

    def _prepare(self, venue: PromptVenue, intents: Sequence[OrderIntent]) -> _Prepared | None:
        try:
            ready = venue.prepare(intents, self._take_answers)
        except Exception:
            # The long way will tell what is wrong.
            _log.exception("prepare_failed", client_order_ids=[intent.client_order_id for intent in intents])
            return None
        if ready is None:
            return None
        accounts = {intent.account_id for intent in intents}
        return _Prepared(intents, accounts, {intent.client_order_id: intent for intent in intents}, ready)

    def drop(self) -> None:
        """What was made ready isn't to be sent."""
        if self._prepared is not None:
            assert self._prompt is not None, "it has prepared them"
            self._prompt.withdraw(self._prepared.ready)
            self._prepared = None

    def send(self, effects: Iterable[Effect]) -> None:
        """Submit the orders among these effects. Their bytes are on the socket when it returns, where the venue can do
        that."""
        intents = [effect.intent for effect in effects if type(effect) is SubmitOrder]
        if not intents:
            return
        for intent in intents if self._prompt is None else self._begin_at_once(self._prompt, intents):
            self.spawn(self._submit(intent), "submit", intent.client_order_id)

    def perform(self, effects: Iterable[Effect]) -> None:
        """Begin what else the effects ask for."""
        for effect in effects:
            match effect:
                case SubmitOrder():
                    continue
                case CancelOrder():
                    self.spawn(self.cancel(effect.symbol, effect.client_order_id), "cancel", effect.client_order_id)
                case AmendOrder():
                    self.spawn(self._amend(effect), "amend", effect.intent.client_order_id)
                case ReviewGroup():
                    self.on_group_changed(effect.client_order_id)

    def publish(self, records: Records) -> None:
        """Tell others of what became durable."""
        self._bus.publish_trading(records.trading_messages())

    def spawn(self, work: Coroutine[Any, Any, None], what: str, subject: str) -> None:
        """Run in the background; an error is logged, never lost. Their number is bounded where commands come in."""
        task = asyncio.create_task(work, name=f"{what} {subject}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def stop(self) -> None:
        """Let running calls end, then cancel the rest. An intent without a result is resolved at the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while self._sent or self._tasks:
                    self._all_recorded = asyncio.Event()
                    if self._sent:
                        await self._all_recorded.wait()
                    if self._tasks:
                        await asyncio.wait(set(self._tasks))
        self._sent.clear()
        running = set(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def cancel_once(self, symbol: str, order_id: str) -> None:
        """Begin to cancel, unless that is under way."""
        if order_id not in self._cancelling:
            self.spawn(self.cancel(symbol, order_id), "cancel", order_id)

    async def cancel(self, symbol: str, order_id: str) -> None:
        """Ask the venue to, CANCEL_ATTEMPTS times at most; what is open after that is found by reconciliation."""
        self._cancelling[order_id] = self._cancelling.get(order_id, 0) + 1
        try:
            await self._ask_to_cancel(symbol, order_id)
        finally:
            self._cancelling[order_id] -= 1
            if not self._cancelling[order_id]:
                del self._cancelling[order_id]
        self.on_order_changed(order_id)

    async def _ask_to_cancel(self, symbol: str, order_id: str) -> None:
        for attempt in range(1, CANCEL_ATTEMPTS + 1):
            try:
                await self._venue.cancel(symbol, order_id)
                break
            except RefusalError as error:
                _log.info("cancel_refused", client_order_id=order_id, reason=str(error))
                break
            except VenueUnavailableError as error:
                _log.warning("cancel_unanswered", client_order_id=order_id, attempt=attempt, reason=str(error))
                await asyncio.sleep(CANCEL_RETRY_S * attempt)

    def _begin_at_once(self, venue: PromptVenue, intents: list[OrderIntent]) -> Sequence[OrderIntent]:
        """Those that go another way: the venue can't take them at once, or the switch was thrown."""
        if self._prepared is not None and self._prepared.intents != intents:
            self.drop()
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return intents
        for account_id in prepared.accounts:
            if self._kernel.effective_kill_switch(account_id) is not KillSwitch.NORMAL:
                # Each asks for itself whether it may go.
                venue.withdraw(prepared.ready)
                return intents
        self._sent |= prepared.sent
        try:
            left = venue.begin(prepared.ready)
        except Exception as error:
            # Whatever went wrong here, the orders may be live (I5).
            _log.exception("submit_failed", client_order_ids=list(prepared.sent))
            unknown = SubmitUnknown(f"{type(error).__name__}: {error}")
            self._take_answers([(intent, unknown) for intent in intents])
            return ()
        for intent in left:
            del self._sent[intent.client_order_id]
        return left

    def _take_answers(self, answers: Sequence[tuple[OrderIntent, SubmitResult]]) -> None:
        # What isn't waited for came after the stop.
        awaited = [answer for answer in answers if answer[0].client_order_id in self._sent]
        for start in range(0, len(awaited), ANSWERS_LIMIT):
            self._record_answers(awaited[start : start + ANSWERS_LIMIT])

    def _record_answers(self, answers: Sequence[tuple[OrderIntent, SubmitResult]]) -> None:
        """As one, because they mostly come in bursts and are acknowledgements."""

        def decision(now_ns: int) -> list[JournalEvent]:
            events: list[JournalEvent] = []
            for intent, result in answers:
                events += self._answered(intent.client_order_id, result, now_ns)
            return events

        for intent, result in answers:
            _tell_unknown(intent.client_order_id, result)
        self.sequencer.record_then(decision, partial(self._answers_recorded, answers))

    def _answers_recorded(self, answers: Sequence[tuple[OrderIntent, SubmitResult]], outcome: Outcome) -> None:
        if isinstance(outcome, Exception) and not isinstance(outcome, JournalUnavailableError) and len(answers) > 1:
            # One of them contradicts what is known; the others are none the worse for it.
            for answer in answers:
                self._record_answers([answer])
            return
        halted: dict[str, bool] = {}
        for intent, _ in answers:
            is_awaited = self._sent.pop(intent.client_order_id, None) is not None
            self._answer_recorded(intent, outcome, halted, is_awaited=is_awaited)
        if not self._sent and self._all_recorded is not None:
            self._all_recorded.set()

    def _answer_recorded(
        self, intent: OrderIntent, outcome: Outcome, halted: dict[str, bool], *, is_awaited: bool
    ) -> None:
        order_id = intent.client_order_id
        if isinstance(outcome, JournalUnavailableError):
            _tell_not_recorded(order_id, outcome)
        elif isinstance(outcome, Exception):
            _log.error("task_failed", task=f"submit {order_id}", error=f"{type(outcome).__name__}: {outcome}")
            return
        if not is_awaited:
            # Recorded, but after the stop: nothing more is begun.
            return
        self.on_order_changed(order_id)
        if self._is_to_be_cancelled(intent, halted):
            self.spawn(self.cancel(intent.symbol, order_id), "cancel", order_id)

    def _is_to_be_cancelled(self, intent: OrderIntent, halted: dict[str, bool]) -> bool:
        """A cancel that overtook its order found nothing at the venue. halted: by account, as found in this step."""
        account_id = intent.account_id
        is_halted = halted.get(account_id)
        if is_halted is None:
            is_halted = self._kernel.effective_kill_switch(account_id) is KillSwitch.HALTED
            halted[account_id] = is_halted
        order = self._kernel.orders.get(intent.client_order_id)
        return order is not None and (is_halted or order.cancel_requested) and not order.status.is_final

    async def _submit(self, intent: OrderIntent) -> None:
        order_id = intent.client_order_id
        refusal = self._stopped(intent)
        result: SubmitResult = SubmitRefused(refusal) if refusal is not None else await self._submit_once(intent)
        _tell_unknown(order_id, result)
        await self._record_answer(order_id, lambda now_ns: self._answered(order_id, result, now_ns))
        self.on_order_changed(order_id)
        if self._is_to_be_cancelled(intent, {}):
            await self.cancel(intent.symbol, order_id)

    def _stopped(self, intent: OrderIntent) -> Refusal | None:
        """The switch was thrown between the decision and here: nothing has left yet."""
        switch = self._kernel.effective_kill_switch(intent.account_id)
        if switch is KillSwitch.NORMAL or (switch is KillSwitch.REDUCE_ONLY and self._reduces(intent)):
            return None
        return _thrown("order", switch)

    def _reduces(self, intent: OrderIntent) -> bool:
        position = self._kernel.positions.get((intent.account_id, intent.venue, intent.symbol))
        held = 0 if position is None else position.quantity
        return intent.quantity <= (held if intent.side is Side.SELL else -held)

    def _answered(self, order_id: str, result: SubmitResult, now_ns: int) -> tuple[JournalEvent, ...]:
        match result:
            case Submitted():
                return decide.decide_accepted(self._kernel, order_id, result.venue_order_id, now_ns)
            case SubmitRefused():
                return decide.decide_rejected(self._kernel, order_id, result.refusal, now_ns)
            case SubmitUnknown():
                return decide.decide_unknown(self._kernel, order_id, result.detail, now_ns)

    async def _submit_once(self, intent: OrderIntent) -> SubmitResult:
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                return await self._venue.submit(intent)
        except TimeoutError:
            return SubmitUnknown(f"no answer within {SUBMIT_TIMEOUT_S} s")
        except Exception as error:
            # Whatever went wrong here, the order may be live (I5).
            _log.exception("submit_failed", client_order_id=intent.client_order_id)
            return SubmitUnknown(f"{type(error).__name__}: {error}")

    async def _amend(self, effect: AmendOrder) -> None:
        order_id = effect.intent.client_order_id
        refusal = self._amend_stopped(effect)
        result: AmendResult = AmendRefused(refusal) if refusal is not None else await self._amend_once(effect)
        if isinstance(result, AmendUnknown):
            _log.warning("amendment_unknown", client_order_id=order_id, detail=result.detail)
        else:
            await self._record_answer(order_id, lambda now_ns: self._amended(order_id, result, now_ns))
        self.on_order_changed(order_id)

    def _amend_stopped(self, effect: AmendOrder) -> Refusal | None:
        switch, intent = self._kernel.effective_kill_switch(effect.intent.account_id), effect.intent
        lowers = effect.quantity <= intent.quantity and effect.price == intent.price
        if switch is KillSwitch.NORMAL or (switch is KillSwitch.REDUCE_ONLY and lowers):
            return None
        return _thrown("amendment", switch)

    async def _amend_once(self, effect: AmendOrder) -> AmendResult:
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                return await self._venue.amend(effect.intent, effect.quantity, effect.price)
        except TimeoutError:
            return AmendUnknown(f"no answer within {SUBMIT_TIMEOUT_S} s")
        except Exception as error:
            _log.exception("amend_failed", client_order_id=effect.intent.client_order_id)
            return AmendUnknown(f"{type(error).__name__}: {error}")

    def _amended(self, order_id: str, result: Amended | AmendRefused, now_ns: int) -> tuple[JournalEvent, ...]:
        if isinstance(result, Amended):
            return decide.decide_amended(self._kernel, order_id, result.quantity, result.price, now_ns)
        return decide.decide_amend_refused(self._kernel, order_id, result.refusal, now_ns)

    async def _record_answer(self, order_id: str, decision: Callable[[int], tuple[JournalEvent, ...]]) -> None:
        """An answer that can't be recorded isn't lost: reconciliation asks the venue when the journal heals."""
        try:
            await self.sequencer.record(decision)
        except JournalUnavailableError as error:
            _tell_not_recorded(order_id, error)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", task=task.get_name(), error=f"{type(error).__name__}: {error}")


def _thrown(what: str, switch: KillSwitch) -> Refusal:
    return Refusal(
        ReasonCode.RISK_KILL_SWITCH_ACTIVE,
        f"The kill switch was thrown before the {what} was sent.",
        limit=KillSwitch.NORMAL,
        actual=switch,
    )


def _tell_unknown(order_id: str, result: SubmitResult) -> None:
    if isinstance(result, SubmitUnknown):
        _log.warning("order_unknown", client_order_id=order_id, detail=result.detail)


def _tell_not_recorded(order_id: str, error: JournalUnavailableError) -> None:
    """The answer isn't lost: reconciliation asks the venue when the journal heals."""
    _log.error("answer_not_recorded", client_order_id=order_id, error=str(error))
