"""The shell around the kernel: one writer that decides, makes durable, applies, and only then acts (I4).

Every command and every report of the venue passes `_commit` under one lock. What an event asks of the world (submit,
cancel, publish) runs in tasks of its own afterwards. A caller that goes away interrupts nothing that has begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from core.authority.proposal import Proposal
from core.authority.verify import read_proposal
from core.kernel import decide
from core.kernel.decide import Balances, DecisionInputs
from core.kernel.effects import CancelOrder, Effect, PublishTrading, SubmitOrder
from core.kernel.kernel import Kernel
from core.market.hub import NO_BOOK_AGE_MS, MarketHub
from core.risk.kill_switch import KillSwitch
from core.runtime import views
from core.storage.journal import Journal, JournalUnavailableError
from core.types.clock import Clock
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.events import CancelRequested, JournalEntry, JournalEvent, MarketInputs, encode_event
from core.types.ids import TraceContext
from core.types.orders import OrderIntent, OrderType, Side
from core.types.views import (
    EngineStatusView,
    ExecutionOutcomeView,
    InstrumentView,
    OrderView,
    PositionView,
    PreTradeView,
    RiskStateView,
)
from core.venues.ports import SubmitRefused, SubmitResult, Submitted, SubmitUnknown, VenuePort, VenueUnavailableError

SUBMIT_TIMEOUT_S = 15.0
CANCEL_ATTEMPTS = 5
CANCEL_RETRY_S = 0.5
UNRECORDED_LIMIT = 1_000
BACKGROUND_TASKS_LIMIT = 10_000
STOP_TIMEOUT_S = 5.0

NO_MARKET = MarketInputs(
    bid_price=None,
    ask_price=None,
    mid_price=None,
    book_state="NONE",
    book_update_id=0,
    book_age_ms=NO_BOOK_AGE_MS,
)

T = TypeVar("T")
_log = structlog.get_logger("engine")


class TradingBus(Protocol):
    """Where events go for others to hear. MUST NOT block or raise."""

    def publish_trading(self, subject: str, payload: bytes, message_id: str) -> None: ...


class EngineService:
    """One engine. hub, venue_connected and balances are set by those who follow the venue."""

    def __init__(
        self,
        kernel: Kernel,
        journal: Journal,
        venue: VenuePort,
        hub: MarketHub,
        clock: Clock,
        bus: TradingBus,
    ) -> None:
        self.kernel = kernel
        self.journal = journal
        self.venue = venue
        self.hub = hub
        self.clock = clock
        self.bus = bus
        self.venue_connected = False
        self.balances: Balances | None = None
        self.journal_error: str | None = None
        self.journal_failures = 0
        self.on_order_changed: Callable[[str], None] = lambda _order_id: None
        self._lock = asyncio.Lock()
        self._unrecorded: deque[JournalEvent] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()

    # commands

    async def check_proposal(self, canonical: bytes) -> PreTradeView:
        """Risk's first run (I3). Changes nothing."""
        inputs = self._inputs_for(canonical)
        now_ns = self.clock.now_ns()
        decision = decide.decide_check(self.kernel, canonical, inputs, now_ns)
        return views.pre_trade_view(decision, inputs.market.mid_price, now_ns)

    async def execute_approval(
        self,
        canonical: bytes,
        digest_hex: str,
        signatures: Sequence[tuple[str, bytes]],
        trace: TraceContext | None,
    ) -> ExecutionOutcomeView:
        """Consume an approval once, durably, and send its order. Answers before the venue does."""
        return await self._finish(self._execute(canonical, digest_hex, signatures, trace))

    async def cancel_order(self, order_id: str, requested_by: str, trace: TraceContext | None) -> Refusal | None:
        """A safety command: it goes ahead even when it can't be recorded."""
        return await self._finish(self._cancel_command(order_id, requested_by, trace))

    async def set_kill_switch(
        self, state: KillSwitch, requested_by: str, reason: str, trace: TraceContext | None = None
    ) -> Refusal | None:
        """Tighten the kill switch; it works even when it can't be recorded. Loosening is refused."""
        return await self._finish(self._tighten(state, requested_by, reason, trace))

    async def record(self, decision: Callable[[int], Sequence[JournalEvent]]) -> tuple[JournalEntry, ...]:
        """Decide under the lock, on the engine's clock, and commit what was decided.

        Raises JournalUnavailableError; what was decided is then not so.
        """
        return await self._finish(self._decide_and_commit(decision))

    # readers

    def status(self) -> EngineStatusView:
        kernel = self.kernel
        return EngineStatusView(
            engine_id=kernel.engine_id,
            epoch=kernel.epoch,
            environment=kernel.environment,
            mode=kernel.mode,
            journal_sequence=self.journal.sequence,
            venue_connected=self.venue_connected,
            kill_switch=kernel.kill_switch,
            roster_version=kernel.roster.version,
            books=self.hub.book_states(),
            now_ns=self.clock.now_ns(),
        )

    def instruments(self) -> list[InstrumentView]:
        return views.instrument_views(self.kernel)

    def positions(self, account_id: str) -> list[PositionView]:
        return views.position_views(self.kernel, account_id, self._mark_price, self.clock.now_ns())

    def open_orders(self, account_id: str) -> list[OrderView]:
        return views.open_order_views(self.kernel, account_id, self.clock.now_ns())

    def risk_state(self, account_id: str) -> RiskStateView:
        return views.risk_state_view(self.kernel, account_id, self.venue_connected, self.clock.now_ns())

    # the life of the shell

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run in the background; an error is logged, never lost."""
        if len(self._tasks) >= BACKGROUND_TASKS_LIMIT:
            work.close()
            _log.error("too_many_tasks", refused=name, limit=BACKGROUND_TASKS_LIMIT)
            return
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def stop(self) -> None:
        """Let running submits end, then cancel the rest. An intent without a result is resolved at the next start."""
        if self._tasks:
            _, running = await asyncio.wait(set(self._tasks), timeout=STOP_TIMEOUT_S)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def record_what_is_missing(self) -> None:
        """Write safety commands that went ahead unrecorded. Raises JournalUnavailableError while it isn't possible."""
        if self._unrecorded:
            await self.record(lambda _now_ns: ())

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _execute(
        self,
        canonical: bytes,
        digest_hex: str,
        signatures: Sequence[tuple[str, bytes]],
        trace: TraceContext | None,
    ) -> ExecutionOutcomeView:
        async with self._lock:
            now_ns = self.clock.now_ns()
            decided = decide.decide_approval(
                self.kernel,
                canonical,
                digest_hex,
                signatures,
                trace_id=None if trace is None else trace.trace_id,
                inputs=self._inputs_for(canonical),
                now_ns=now_ns,
            )
            if isinstance(decided, Refusal):
                _log.warning("approval_refused", code=decided.code, digest=digest_hex[:64])
                return ExecutionOutcomeView(False, None, None, decided, (), now_ns)
            try:
                (entry,) = await self._commit((decided,))
            except JournalUnavailableError as error:
                return ExecutionOutcomeView(False, None, None, _journal_refusal(error), (), now_ns)
        return ExecutionOutcomeView(
            consumed=True,
            journal_sequence=entry.sequence,
            client_order_id=None if decided.intent is None else decided.intent.client_order_id,
            refusal=decided.refusal,
            checks=views.check_views(decided.checks),
            as_of_ns=now_ns,
        )

    async def _cancel_command(self, order_id: str, requested_by: str, trace: TraceContext | None) -> Refusal | None:
        async with self._lock:
            decided = decide.decide_cancel(
                self.kernel, order_id, requested_by, None if trace is None else trace.trace_id, self.clock.now_ns()
            )
            if isinstance(decided, Refusal):
                return decided
            await self._commit_safety((decided,))
        return None

    async def _tighten(
        self, state: KillSwitch, requested_by: str, reason: str, trace: TraceContext | None
    ) -> Refusal | None:
        async with self._lock:
            decided = decide.decide_kill_switch(
                self.kernel, state, requested_by, reason, None if trace is None else trace.trace_id, self.clock.now_ns()
            )
            if isinstance(decided, Refusal):
                return decided
            if decided:
                _log.warning("kill_switch", state=state, requested_by=requested_by, reason=reason)
            await self._commit_safety(decided)
        return None

    async def _decide_and_commit(self, decision: Callable[[int], Sequence[JournalEvent]]) -> tuple[JournalEntry, ...]:
        async with self._lock:
            return await self._commit(decision(self.clock.now_ns()))

    async def _commit_safety(self, events: Sequence[JournalEvent]) -> None:
        try:
            await self._commit(events)
        except JournalUnavailableError:
            for event in events:
                if isinstance(event, CancelRequested) and len(self._unrecorded) >= UNRECORDED_LIMIT:
                    # Carried out all the same; that it was asked for, only the log tells. Tightenings are few.
                    _log.error("unrecorded_limit_reached", limit=UNRECORDED_LIMIT, cancel=event.client_order_id)
                    symbol = self.kernel.orders[event.client_order_id].intent.symbol
                    self.spawn(self._cancel(symbol, event.client_order_id), f"cancel {event.client_order_id}")
                    continue
                # In memory at once, in the journal before anything that comes after.
                self._unrecorded.append(event)
                self._perform_all(self.kernel.apply(event), None)

    async def _commit(self, events: Sequence[JournalEvent]) -> tuple[JournalEntry, ...]:
        """Durable first, then applied, then acted upon. The lock must be held.

        Raises JournalUnavailableError, and ImpossibleTransitionError for a report that contradicts what is known.
        """
        owed = len(self._unrecorded)
        if not events and not owed:
            return ()
        for event in events:
            self.kernel.check(event)
        try:
            entries = await self.journal.append([encode_event(event) for event in (*self._unrecorded, *events)])
        except JournalUnavailableError as error:
            if self.journal_error is None:
                _log.error("journal_unavailable", error=str(error))
            self.journal_error = str(error)
            self.journal_failures += 1
            raise
        if self.journal_error is not None:
            _log.info("journal_available_again", recorded_late=owed)
            self.journal_error = None
        for event, entry in zip(tuple(self._unrecorded), entries[:owed], strict=True):
            self._publish(event, entry)
        self._unrecorded.clear()
        for event, entry in zip(events, entries[owed:], strict=True):
            self._perform_all(self.kernel.apply(event), entry)
        assert self.kernel.sequence == self.journal.sequence
        return entries[owed:]

    def _perform_all(self, effects: tuple[Effect, ...], entry: JournalEntry | None) -> None:
        for effect in effects:
            match effect:
                case SubmitOrder():
                    self.spawn(self._submit(effect.intent), f"submit {effect.intent.client_order_id}")
                case CancelOrder():
                    self.spawn(self._cancel(effect.symbol, effect.client_order_id), f"cancel {effect.client_order_id}")
                case PublishTrading():
                    if entry is not None:
                        self._publish(effect.event, entry)

    def _publish(self, event: JournalEvent, entry: JournalEntry) -> None:
        kind = str(event.__struct_config__.tag)
        body = {
            "engine_id": entry.engine_id,
            "epoch": entry.epoch,
            "sequence": entry.sequence,
            "hash_hex": entry.hash_hex,
            "event": msgspec.Raw(entry.payload),
        }
        self.bus.publish_trading(
            f"trading.{entry.engine_id}.{kind}", msgspec.json.encode(body), f"{entry.engine_id}:{entry.sequence}"
        )

    async def _submit(self, intent: OrderIntent) -> None:
        order_id = intent.client_order_id
        if self.kernel.kill_switch.tightness >= KillSwitch.CANCEL_ONLY.tightness:
            # The switch was thrown between the decision and here: nothing has left yet.
            result: SubmitResult = SubmitRefused(
                Refusal(ReasonCode.RISK_KILL_SWITCH_ACTIVE, "The kill switch was thrown before the order was sent.")
            )
        else:
            result = await self._send_once(intent)
        match result:
            case Submitted():
                await self.record(
                    lambda now_ns: decide.decide_accepted(self.kernel, order_id, result.venue_order_id, now_ns)
                )
            case SubmitRefused():
                await self.record(lambda now_ns: decide.decide_rejected(self.kernel, order_id, result.refusal, now_ns))
            case SubmitUnknown():
                _log.warning("order_unknown", client_order_id=order_id, detail=result.detail)
                await self.record(lambda now_ns: decide.decide_unknown(self.kernel, order_id, result.detail, now_ns))
        self.on_order_changed(order_id)
        order = self.kernel.orders[order_id]
        stopped = order.cancel_requested or self.kernel.kill_switch is KillSwitch.HALTED
        if stopped and not order.status.is_final:
            # A cancel that overtook its order found nothing at the venue.
            await self._cancel(intent.symbol, order_id)

    async def _send_once(self, intent: OrderIntent) -> SubmitResult:
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                return await self.venue.submit(intent)
        except TimeoutError:
            return SubmitUnknown(f"no answer within {SUBMIT_TIMEOUT_S} s")
        except Exception as error:
            # Whatever went wrong here, the order may be live (I5).
            _log.exception("submit_failed", client_order_id=intent.client_order_id)
            return SubmitUnknown(f"{type(error).__name__}: {error}")

    async def _cancel(self, symbol: str, order_id: str) -> None:
        for attempt in range(1, CANCEL_ATTEMPTS + 1):
            try:
                await self.venue.cancel(symbol, order_id)
                break
            except RefusalError as error:
                _log.info("cancel_refused", client_order_id=order_id, reason=str(error))
                break
            except VenueUnavailableError as error:
                _log.warning("cancel_unanswered", client_order_id=order_id, attempt=attempt, reason=str(error))
                await asyncio.sleep(CANCEL_RETRY_S * attempt)
        self.on_order_changed(order_id)

    def _inputs_for(self, canonical: bytes) -> DecisionInputs:
        proposal = read_proposal(canonical)
        if isinstance(proposal, Refusal) or (proposal.venue, proposal.symbol) not in self.kernel.listed:
            return DecisionInputs(NO_MARKET, self.venue_connected)
        try:
            market = self.hub.market_inputs(proposal.symbol)
        except RefusalError:
            return DecisionInputs(NO_MARKET, self.venue_connected, balances=self.balances)
        worst_price, depth_quantity = self._sweep(proposal)
        return DecisionInputs(market, self.venue_connected, worst_price, depth_quantity, self.balances)

    def _sweep(self, proposal: Proposal) -> tuple[Decimal | None, Decimal | None]:
        if proposal.order_type != OrderType.MARKET:
            return None, None
        try:
            estimate = self.hub.estimate_execution(proposal.symbol, Side(proposal.side), Decimal(proposal.quantity))
        except RefusalError:
            return None, None
        return estimate.worst_price, estimate.filled_quantity

    def _mark_price(self, symbol: str) -> Decimal | None:
        try:
            return self.hub.mark_price(symbol)
        except RefusalError:
            return None

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", task=task.get_name(), error=f"{type(error).__name__}: {error}")


def _journal_refusal(error: JournalUnavailableError) -> Refusal:
    return Refusal(
        ReasonCode.SERVICE_JOURNAL_UNAVAILABLE,
        f"The engine can't record orders, so it takes none: {error} Nothing was sent.",
    )
