"""Acting upon what is durable: submits, cancels, amendments and messages, each in a task of its own (I4, I5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from itertools import islice
from typing import Any, Protocol

import msgspec
import structlog

from core.kernel import decide
from core.kernel.effects import AmendOrder, CancelOrder, Effect, PublishTrading, ReviewGroup, SubmitOrder
from core.kernel.kernel import Kernel
from core.risk.kill_switch import KillSwitch
from core.runtime.sequencer import Sequencer
from core.storage.journal import JournalUnavailableError
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.events import JournalEntry, JournalEvent
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
PREPARED_LIMIT = 8
"""Orders of one batch that are made ready while the disk works: it takes about as long as a sync."""

_log = structlog.get_logger("engine.dispatch")


class TradingBus(Protocol):
    """Where events go for others to hear. MUST NOT block or raise."""

    def publish_trading(self, subject: str, payload: bytes, message_id: str) -> None: ...


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
        self._prepared: dict[str, object | None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelling: dict[str, int] = {}

    @property
    def busy_count(self) -> int:
        """How many calls to the venue and their records are under way."""
        return len(self._tasks)

    def prepare(self, effects: Iterable[Effect]) -> None:
        """Make ready, while the disk works, what perform will send if it may: nothing of it leaves."""
        if self._prompt is not None:
            orders = islice((effect.intent for effect in effects if isinstance(effect, SubmitOrder)), PREPARED_LIMIT)
            self._prepared = {intent.client_order_id: self._prepare_one(self._prompt, intent) for intent in orders}

    def _prepare_one(self, venue: PromptVenue, intent: OrderIntent) -> object | None:
        try:
            return venue.prepare(intent)
        except Exception:
            # The long way will tell what is wrong.
            _log.exception("prepare_failed", client_order_id=intent.client_order_id)
            return None

    def perform(self, effects: tuple[Effect, ...], entry: JournalEntry | None) -> None:
        """Begin what the effects ask for. entry is None for what went ahead without its record."""
        for effect in effects:
            match effect:
                case SubmitOrder():
                    self._begin(effect.intent)
                case CancelOrder():
                    self.spawn(self.cancel(effect.symbol, effect.client_order_id), "cancel", effect.client_order_id)
                case AmendOrder():
                    self.spawn(self._amend(effect), "amend", effect.intent.client_order_id)
                case ReviewGroup():
                    self.on_group_changed(effect.client_order_id)
                case PublishTrading():
                    if entry is not None:
                        self._publish(effect.event, entry)

    def spawn(self, work: Coroutine[Any, Any, None], what: str, subject: str) -> None:
        """Run in the background; an error is logged, never lost. Their number is bounded where commands come in."""
        task = asyncio.create_task(work, name=f"{what} {subject}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def stop(self) -> None:
        """Let running calls end, then cancel the rest. An intent without a result is resolved at the next start."""
        if self._tasks:
            _, running = await asyncio.wait(set(self._tasks), timeout=STOP_TIMEOUT_S)
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

    def _begin(self, intent: OrderIntent) -> None:
        """The order's bytes are on the socket when it returns, where the venue can do that."""
        order_id, venue = intent.client_order_id, self._prompt
        begun: Awaitable[SubmitResult] | None = None
        if venue is not None and self._stopped(intent) is None:
            prepared = self._prepared.pop(order_id, None) or self._prepare_one(venue, intent)
            try:
                begun = venue.begin(intent, prepared)
            except Exception as error:
                # Whatever went wrong here, the order may be live (I5).
                _log.exception("submit_failed", client_order_id=order_id)
                begun = _unknown(f"{type(error).__name__}: {error}")
        self.spawn(self._submit(intent, begun), "submit", order_id)

    async def _submit(self, intent: OrderIntent, begun: Awaitable[SubmitResult] | None) -> None:
        """begun: the order was sent already, and this is its answer."""
        order_id = intent.client_order_id
        refusal = self._stopped(intent) if begun is None else None
        result: SubmitResult = SubmitRefused(refusal) if refusal is not None else await self._send_once(intent, begun)
        if isinstance(result, SubmitUnknown):
            _log.warning("order_unknown", client_order_id=order_id, detail=result.detail)
        await self._record_answer(order_id, lambda now_ns: self._answered(order_id, result, now_ns))
        self.on_order_changed(order_id)
        order = self._kernel.orders.get(order_id)
        if order is None or order.status.is_final:
            return
        if order.cancel_requested or self._kernel.effective_kill_switch(intent.account_id) is KillSwitch.HALTED:
            # A cancel that overtook its order found nothing at the venue.
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

    async def _send_once(self, intent: OrderIntent, begun: Awaitable[SubmitResult] | None) -> SubmitResult:
        try:
            if begun is not None:
                # Its answer has a time limit of its own.
                return await begun
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
            _log.error("answer_not_recorded", client_order_id=order_id, error=str(error))

    def _publish(self, event: JournalEvent, entry: JournalEntry) -> None:
        kind = str(event.__struct_config__.tag)
        body = {
            "engine_id": entry.engine_id,
            "epoch": entry.epoch,
            "sequence": entry.sequence,
            "hash_hex": entry.hash_hex,
            "event": msgspec.Raw(entry.payload),
        }
        self._bus.publish_trading(
            f"trading.{entry.engine_id}.{kind}", msgspec.json.encode(body), f"{entry.engine_id}:{entry.sequence}"
        )

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


async def _unknown(detail: str) -> SubmitResult:
    return SubmitUnknown(detail)
