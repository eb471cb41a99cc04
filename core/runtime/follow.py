"""What keeps the engine and the venue of one mind: instruments, market data, the user data stream, reconciliation.

The user data stream is primary; asking by REST is the authority when it was away, when an order is UNKNOWN, and
periodically. Start-up is the same path as a reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from core.kernel import decide
from core.kernel.decide import FillReport
from core.kernel.inputs import Balances
from core.market.hub import MarketHub
from core.orders.machine import ImpossibleTransitionError, Order
from core.risk.kill_switch import KillSwitch
from core.runtime.reconcile import FREEZE_REASON, IN_FLIGHT_S, Reconciler
from core.runtime.service import EngineService
from core.runtime.tasks import end
from core.storage.journal import JournalUnavailableError
from core.types.codes import ReasonCode, Refusal
from core.types.instruments import Instrument
from core.types.orders import OrderStatus
from core.types.views import ReconciliationView
from core.venues.ports import (
    ExecutionReport,
    UserEvent,
    UserStreamConnected,
    UserStreamLost,
    VenueOrder,
    VenueTrade,
    VenueUnavailableError,
)

CONNECT_RETRY_S = 0.5
RESOLVE_FIRST_S = 0.2
RESOLVE_CAP_S = 5.0
SWEEP_INTERVAL_S = 30.0
DRIFT_SWEEP_INTERVAL_S = 5.0
"""While the account is frozen because they differ."""
BALANCES_INTERVAL_S = 10.0
BALANCES_COUNT_FOR_S = 60.0
BALANCES_SPACING_S = 1.0
"""Orders change many times a second; asking each time would use up the venue's request weight within 15 s."""
CATCH_UP_RETRY_S = 1.0
HEAL_INTERVAL_S = 1.0
REASON_LENGTH_LIMIT = 512
MS_PER_S = 1_000
ARRIVAL_MARGIN_MS = 2_000
"""On top of recvWindow: a signed time may lie 1 s ahead of the venue's clock, its query may lag behind its book."""

FeedRunner = Callable[[MarketHub, asyncio.Event], Awaitable[None]]
HubBuilder = Callable[[], MarketHub]

_log = structlog.get_logger("engine.follow")


class Unanswered:
    """How long this process has known of each submit, and each amendment, that it has no answer to.

    By the loop's clock, which nobody sets: the engine's own may be put an hour ahead, which proves nothing, or stand
    still for an hour after it was put back. Both were over when they were first looked at here, so a restart counts
    from its own beginning: longer than needed, never too short.
    """

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._since: dict[str, tuple[object, float]] = {}

    def waited_s(self, order: Order, now_s: float) -> float:
        """As of now_s. An order that has changed waits for another answer, and begins anew."""
        order_id = order.intent.client_order_id
        awaited: object
        if order.status in {OrderStatus.INTENDED, OrderStatus.UNKNOWN}:
            awaited = (order.status, order.unresolved_since_ns)
        elif order.pending_amend is not None:
            awaited = (order.pending_amend, order.updated_ns)
        else:
            self._since.pop(order_id, None)
            return 0.0
        known, since_s = self._since.get(order_id, (None, now_s))
        if known != awaited:
            since_s = now_s
        self._since[order_id] = (awaited, since_s)
        return now_s - since_s

    def is_over(self, waited_s: float) -> bool:
        """Whether what was sent can't arrive any more."""
        return waited_s > self.window_s


class VenueFollower:
    """Follows one venue for one engine until it is stopped.

    build_hub makes a hub of the kernel's instruments; run_feed feeds it until its event is set.
    """

    def __init__(
        self, service: EngineService, build_hub: HubBuilder, run_feed: FeedRunner, recv_window_ms: int
    ) -> None:
        self._service = service
        self._build_hub = build_hub
        self._run_feed = run_feed
        self._unanswered = Unanswered((recv_window_ms + ARRIVAL_MARGIN_MS) / MS_PER_S)
        self._resolving: set[str] = set()
        self._balances_due = asyncio.Event()
        self._balances_asked_s = 0.0
        self._catching_up: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[None]
        self._tasks: set[asyncio.Task[None]] = set()
        self._reconciler = Reconciler(service, self.reconcile, self._fill)
        service.dispatcher.on_order_changed = self.order_changed
        service.reconciler = self._reconcile_all

    async def run(self, stop: asyncio.Event) -> None:
        """Until stop is set. The venue may be down at the start, and go and come back.

        Raises what a task couldn't handle, InstrumentScaleChangedError among it.
        """
        stopping = asyncio.create_task(stop.wait())
        self._failed = asyncio.get_running_loop().create_future()
        self._start(self._follow(stop), self._heal())
        try:
            while not stopping.done():
                waiting: set[asyncio.Future[Any]] = {stopping, self._failed, *self._tasks}
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._failed in done:
                    self._failed.result()
                for task in self._tasks & done:
                    self._tasks.discard(task)
                    task.result()
        finally:
            self._service.surroundings.venue_connected = False
            self._stop_catching_up()
            await end([stopping, *self._tasks])

    def order_changed(self, order_id: str) -> None:
        """An order has news: its exposure is due for a look, and an unknown one for a question to the venue."""
        self._balances_due.set()
        order = self._service.kernel.orders.get(order_id)
        if order is not None and order.status is OrderStatus.UNKNOWN and order_id not in self._resolving:
            self._resolving.add(order_id)
            self._service.dispatcher.spawn(self._resolve(order_id), "resolve", order_id)

    async def reconcile(self, order_id: str) -> None:
        """Ask the venue what became of one order, and record what it says.

        Raises VenueUnavailableError, JournalUnavailableError.
        """
        service, orders = self._service, self._service.kernel.orders
        asked_of = orders.get(order_id)
        if asked_of is None:
            # It has ended and left memory.
            return
        waited_s = self._unanswered.waited_s(asked_of, asyncio.get_running_loop().time())
        seen = await service.venue.order(asked_of.intent.symbol, order_id)
        order = orders.get(order_id, asked_of)
        if seen is None:
            await self._not_there(order, waited_s)
            return
        if seen.status is not OrderStatus.REJECTED:
            await service.record(
                lambda now_ns: decide.decide_accepted(service.kernel, order_id, seen.venue_order_id, now_ns)
            )
        if seen.filled_quantity > order.filled_quantity:
            await self._take_over_more(seen)
            for trade in await service.venue.trades_of(order.intent.symbol, seen.venue_order_id):
                await self._fill(trade, order_id)
        await self._take_over_terms(seen, asked_of, waited_s)
        await self._close_if_over(seen, "reconciled with the venue")
        self._found(asked_of)
        service.dispatcher.on_order_changed(order_id)

    async def _follow(self, stop: asyncio.Event) -> None:
        await self._load_instruments()
        service = self._service
        service.surroundings.hub = self._build_hub()
        for order in service.kernel.open_orders():
            self.order_changed(order.intent.client_order_id)
        self._start(self._feed(stop), self._user_events(), self._sweep(), self._keep_balances())

    def _start(self, *work: Coroutine[Any, Any, None]) -> None:
        self._tasks.update(asyncio.create_task(part) for part in work)

    async def _load_instruments(self) -> None:
        service, said = self._service, False
        while True:
            try:
                await self._record_instruments(await service.venue.instruments())
                return
            except (VenueUnavailableError, JournalUnavailableError) as error:
                if not said:
                    _log.warning(
                        "venue_unavailable", error=str(error), cure="retrying; start the venue or mend its URL"
                    )
                    said = True
            await asyncio.sleep(CONNECT_RETRY_S)

    async def _record_instruments(self, loaded: tuple[Instrument, ...]) -> None:
        service = self._service
        await service.record(lambda now_ns: decide.decide_instruments(service.kernel, loaded, now_ns))
        _log.info("instruments_loaded", count=len(loaded))

    async def _feed(self, stop: asyncio.Event) -> None:
        await self._run_feed(self._service.hub, stop)

    async def _user_events(self) -> None:
        async for event in self._service.venue.user_events():
            try:
                await self._user_event(event)
            except JournalUnavailableError as error:
                _log.error("user_event_not_recorded", error=str(error))
            except ImpossibleTransitionError as error:
                await self._halt(error)

    async def _user_event(self, event: UserEvent) -> None:
        match event:
            case ExecutionReport():
                await self._report(event)
            case UserStreamConnected():
                self._stop_catching_up()
                self._catching_up = asyncio.create_task(self._catch_up())
                self._catching_up.add_done_callback(self._caught_up)
            case UserStreamLost():
                self._stop_catching_up()
                self._lost()
                _log.warning("user_stream_lost", detail=event.detail)

    async def _catch_up(self) -> None:
        """What happened while the stream was away; only then does the engine count as connected."""
        while True:
            if await self._sweep_once("start") and await self._knows_balances():
                break
            await asyncio.sleep(CATCH_UP_RETRY_S)
        self._service.surroundings.venue_connected = True
        self._service.surroundings.lost_since_ns = None
        self._balances_due.set()
        _log.info("venue_connected", open_orders=len(self._service.kernel.open_order_ids))

    def _lost(self) -> None:
        around = self._service.surroundings
        if around.venue_connected:
            around.lost_since_ns = self._service.clock.now_ns()
        around.venue_connected = False

    def _caught_up(self, task: asyncio.Task[None]) -> None:
        """What nobody expected ends the engine, as in every other task of it, and isn't lost with this one."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _stop_catching_up(self) -> None:
        if self._catching_up is not None:
            self._catching_up.cancel()

    async def _sweep_once(self, cause: str) -> bool:
        """Everything that the venue shows beside everything that is here, and what differs mended."""
        if not self._service.kernel.listed:
            # The venue hasn't told its instruments yet: there is nothing to compare by.
            return False
        try:
            await self._reconciler.run(dry_run=False, requested_by=f"engine:{cause}")
        except (VenueUnavailableError, JournalUnavailableError) as error:
            _log.warning("not_reconciled", error=str(error))
            return False
        except ImpossibleTransitionError as error:
            await self._halt(error)
        self._cancel_again()
        return True

    async def _report(self, report: ExecutionReport) -> None:
        service, seen = self._service, report.order
        order_id = seen.client_order_id
        # The account may trade outside of this engine, and that counts.
        if order_id not in service.kernel.orders and not await self._adopt(seen):
            _log.warning("foreign_order", client_order_id=order_id, symbol=seen.symbol, status=seen.status)
            return
        before = service.kernel.orders[order_id]
        if seen.status is not OrderStatus.REJECTED:
            await service.record(
                lambda now_ns: decide.decide_accepted(service.kernel, order_id, seen.venue_order_id, now_ns)
            )
        if report.trade is not None:
            await self._take_over_more(seen)
            await self._fill(report.trade, order_id)
        order = service.kernel.orders.get(order_id)
        if order is not None and order.filled_quantity < seen.filled_quantity:
            service.dispatcher.spawn(self._reconcile_missed(order_id), "reconcile", order_id)
        else:
            await self._close_if_over(seen, report.reason)
        self._found(before)
        service.dispatcher.on_order_changed(order_id)

    async def _adopt(self, seen: VenueOrder) -> bool:
        if self._service.kernel.knows_order(seen.client_order_id):
            # One of ours that is long over: what there is to say of it was said.
            return False
        try:
            return await self._reconciler.adopt(seen) and seen.client_order_id in self._service.kernel.orders
        except VenueUnavailableError as error:
            _log.warning("order_not_adopted", client_order_id=seen.client_order_id, error=str(error))
            return False

    async def _reconcile_all(self, dry_run: bool, requested_by: str) -> ReconciliationView:
        return await self._reconciler.run(dry_run=dry_run, requested_by=requested_by)

    async def _reconcile_missed(self, order_id: str) -> None:
        try:
            await self.reconcile(order_id)
        except (VenueUnavailableError, JournalUnavailableError) as error:
            _log.warning("not_reconciled", client_order_id=order_id, error=str(error))
        except ImpossibleTransitionError as error:
            await self._halt(error)

    async def _halt(self, error: ImpossibleTransitionError) -> None:
        """The venue contradicts itself or us: nothing more is sent until a human has looked."""
        _log.error("venue_contradicts", error=str(error))
        await self._service.set_kill_switch(
            KillSwitch.HALTED, f"engine:{self._service.kernel.engine_id}", str(error)[:REASON_LENGTH_LIMIT]
        )

    async def _fill(self, trade: VenueTrade, order_id: str) -> None:
        service = self._service
        report = FillReport(
            client_order_id=order_id,
            venue_order_id=trade.venue_order_id,
            trade_id=trade.trade_id,
            price=trade.price,
            quantity=trade.quantity,
            fee=trade.fee,
            fee_asset=trade.fee_asset,
            is_maker=trade.is_maker,
            venue_ts_ns=trade.ts_event_ns,
        )
        await service.record(lambda now_ns: decide.decide_fill(service.kernel, report, now_ns))

    async def _take_over_more(self, seen: VenueOrder) -> None:
        """What fills an order that was made larger may outrun the answer to the amendment."""
        service, order_id = self._service, seen.client_order_id
        order = service.kernel.orders.get(order_id)
        if order is None or seen.quantity is None:
            return
        intent = order.intent
        if not seen.quantity > intent.quantity <= seen.filled_quantity:
            return
        quantity, price = seen.quantity, seen.price if intent.order_type.has_limit_price else None
        await service.record(lambda now_ns: decide.decide_amended(service.kernel, order_id, quantity, price, now_ns))

    async def _take_over_terms(self, seen: VenueOrder, asked_of: Order, waited_s: float) -> None:
        """An amendment whose answer was lost: the order's own state at the venue tells what became of it."""
        service, order_id = self._service, seen.client_order_id
        order = service.kernel.orders.get(order_id, asked_of)
        if order.status not in {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED} or seen.quantity is None:
            return
        has_changed = (order.intent, order.pending_amend) != (asked_of.intent, asked_of.pending_amend)
        if has_changed or seen.filled_quantity < order.filled_quantity:
            # It changed while the venue was asked, or the answer stands behind the fills: what it said may be older.
            return
        quantity, price = seen.quantity, seen.price if order.intent.order_type.has_limit_price else None
        if (quantity, price) != (order.intent.quantity, order.intent.price):
            await service.record(
                lambda now_ns: decide.decide_amended(service.kernel, order_id, quantity, price, now_ns)
            )
        elif order.pending_amend is not None and self._unanswered.is_over(waited_s):
            refusal = Refusal(ReasonCode.ORDER_NEVER_ARRIVED, "The amendment never reached the venue. Ask again.")
            await service.record(lambda now_ns: decide.decide_amend_refused(service.kernel, order_id, refusal, now_ns))

    def _cancel_again(self) -> None:
        """What the venue never got, for an outage or because the engine was killed before it left, is asked again."""
        for order in self._service.kernel.open_orders():
            self._cancel_unwanted(order)

    def _found(self, before: Order) -> None:
        """An order without an answer turned out to be there: a cancel that came before found nothing at the venue."""
        if before.status is OrderStatus.UNKNOWN:
            self._cancel_unwanted(self._service.kernel.orders[before.intent.client_order_id])

    def _cancel_unwanted(self, order: Order) -> None:
        service = self._service
        if order.status not in {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}:
            return
        switch = service.kernel.effective_kill_switch(order.intent.account_id)
        if order.cancel_requested or switch is KillSwitch.HALTED:
            service.dispatcher.cancel_once(order.intent.symbol, order.intent.client_order_id)

    async def _close_if_over(self, seen: VenueOrder, reason: str) -> None:
        service, order_id = self._service, seen.client_order_id
        order = service.kernel.orders.get(order_id)
        if order is None or order.filled_quantity < seen.filled_quantity:
            # The missing trades come first: the next sweep asks again.
            return
        if seen.status in {OrderStatus.CANCELED, OrderStatus.EXPIRED}:
            await service.record(
                lambda now_ns: decide.decide_closed(service.kernel, order_id, seen.status, reason, now_ns)
            )
        elif seen.status is OrderStatus.REJECTED:
            refusal = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, f"The venue rejected the order: {reason}")
            await service.record(lambda now_ns: decide.decide_rejected(service.kernel, order_id, refusal, now_ns))

    async def _not_there(self, order: Order, waited_s: float) -> None:
        """Absence proves nothing before the last moment at which the venue could still take the order (I5)."""
        service, order_id = self._service, order.intent.client_order_id
        if order.status is OrderStatus.INTENDED:
            if waited_s > IN_FLIGHT_S:
                # Its answer came when the journal couldn't take it.
                detail = "the answer to the submit couldn't be recorded"
                await service.record(lambda now_ns: decide.decide_unknown(service.kernel, order_id, detail, now_ns))
            return
        if order.status is not OrderStatus.UNKNOWN:
            _log.error("order_missing_at_venue", client_order_id=order_id, status=order.status)
            return
        if not self._unanswered.is_over(waited_s):
            return
        refusal = Refusal(
            ReasonCode.ORDER_NEVER_ARRIVED,
            "The venue doesn't know the order, and it can't arrive any more. Ask for a new suggestion.",
            limit=str(round(self._unanswered.window_s * MS_PER_S)),
            actual=str(round(waited_s * MS_PER_S)),
            unit="ms",
        )
        await service.record(lambda now_ns: decide.decide_rejected(service.kernel, order_id, refusal, now_ns))

    async def _resolve(self, order_id: str) -> None:
        delay_s, orders = RESOLVE_FIRST_S, self._service.kernel.orders
        try:
            while (order := orders.get(order_id)) is not None and order.status is OrderStatus.UNKNOWN:
                await self._reconcile_missed(order_id)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RESOLVE_CAP_S)
        finally:
            self._resolving.discard(order_id)
        _log.info("order_resolved", client_order_id=order_id, status=None if order is None else order.status)

    async def _sweep(self) -> None:
        while True:
            frozen = self._service.kernel.frozen.get(self._service.surroundings.account_id, "")
            await asyncio.sleep(DRIFT_SWEEP_INTERVAL_S if frozen.startswith(FREEZE_REASON) else SWEEP_INTERVAL_S)
            await self._sweep_once("sweep")

    async def _keep_balances(self) -> None:
        while True:
            self._balances_due.clear()
            if not await self._read_balances():
                await asyncio.sleep(CATCH_UP_RETRY_S)
                continue
            await asyncio.sleep(BALANCES_SPACING_S)
            # Not wait_for: before Python 3.12 it loses a cancellation that meets the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BALANCES_INTERVAL_S):
                    await self._balances_due.wait()

    async def _knows_balances(self) -> bool:
        return self._service.surroundings.balances is not None or await self._read_balances()

    async def _read_balances(self) -> bool:
        """Whether the venue told them. Those it told last count for a while, less all that our orders took since; after
        that only what reduces is taken."""
        service, asked_s = self._service, asyncio.get_running_loop().time()
        as_of_ns = service.clock.now_ns()
        try:
            service.surroundings.balances = Balances(await service.venue.balances(), as_of_ns)
        except VenueUnavailableError as error:
            _log.warning("balances_not_told", error=str(error))
            if asyncio.get_running_loop().time() >= self._balances_asked_s + BALANCES_COUNT_FOR_S:
                service.surroundings.balances = None
            return False
        self._balances_asked_s = asked_s
        return True

    async def _heal(self) -> None:
        """When the journal takes records again, write what is owed and ask the venue what was missed.

        Failures are counted, because a command that comes first may find the journal mended and leave no error behind.
        """
        service, made_good = self._service, 0
        while True:
            await asyncio.sleep(HEAL_INTERVAL_S)
            failures = service.sequencer.failures
            if failures == made_good:
                continue
            try:
                await service.sequencer.settle()
            except JournalUnavailableError:
                continue
            if await self._sweep_once("journal healed"):
                made_good = failures
