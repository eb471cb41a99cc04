"""The venue as one life of the engine reaches it: a VenuePort over a network that loses, delays, doubles and reorders.

A request's fate is drawn when it leaves. What has left goes on when its sender dies; an answer for a dead process
reaches nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any, TypeVar

from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderType, TimeInForce
from core.types.venues import VenueCapabilities
from core.venues.ports import (
    Amended,
    AmendRefused,
    AmendResult,
    AmendUnknown,
    ExecutionReport,
    SubmitRefused,
    SubmitResult,
    Submitted,
    SubmitUnknown,
    UserEvent,
    UserStreamConnected,
    UserStreamLost,
    VenueFunding,
    VenueOrder,
    VenuePosition,
    VenueTrade,
    VenueUnavailableError,
)
from tests.simulation.exchange import Exchange, Held, VenueRefusalError, terms_of
from tests.simulation.loop import Scheduler, SimLoop
from tests.simulation.plan import ANSWER_TIMEOUT_NS, MS, READ_TIMEOUT_NS, RECV_WINDOW_MS, Plan, S

T = TypeVar("T")
RECONNECT_NS = (20 * MS, 700 * MS)


class NoAnswerError(VenueUnavailableError):
    """Sent, and nothing came back that proves anything."""


class NotSentError(VenueUnavailableError):
    """Nothing left: there was no connection."""


class Network:
    """Between the engine's lives and the exchange. faulty is switched off to let everything heal."""

    def __init__(self, plan: Plan, scheduler: Scheduler, exchange: Exchange, counted: Callable[[str], None]) -> None:
        self.plan = plan
        self.scheduler = scheduler
        self.exchange = exchange
        self.random = Random(f"veloz simulation network {plan.seed}")
        self.is_faulty = True
        self.is_out = False
        self.counted = counted
        self.told: Callable[[str], None] = lambda _what: None
        self.stream: UserStream | None = None
        exchange.on_report = self._reported

    def latency_ns(self) -> int:
        return self.random.randint(self.plan.latency_ns // 4, self.plan.latency_ns * 2)

    def happens(self, share: float, what: str) -> bool:
        """Whether a fault of the plan's strikes now."""
        if not self.is_faulty or not share or self.random.random() >= share:
            return False
        self.counted(what)
        return True

    def set_outage(self, is_out: bool) -> None:
        self.is_out = is_out
        if is_out and self.stream is not None:
            self.stream.lose("the venue is down")

    def break_stream(self) -> None:
        if self.stream is not None:
            self.stream.lose("the connection was reset")

    def _reported(self, report: ExecutionReport) -> None:
        order = report.order
        self.told(f"  venue {report.reason} {order.client_order_id} {order.filled_quantity}/{order.quantity}")
        if self.stream is not None:
            self.stream.report(report)


class UserStream:
    """The user data stream of one life of the engine."""

    def __init__(self, network: Network, loop: SimLoop) -> None:
        self._network = network
        self._loop = loop
        self._events: deque[UserEvent] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._connection = 0
        self._last_delivery_ns = 0
        self.is_connected = False
        network.stream = self
        self._reconnect()

    def __aiter__(self) -> UserStream:
        return self

    async def __anext__(self) -> UserEvent:
        while not self._events:
            self._waiting = self._loop.create_future()
            await self._waiting
        return self._events.popleft()

    def report(self, report: ExecutionReport) -> None:
        network, plan = self._network, self._network.plan
        if not self.is_connected or network.happens(plan.stream_lost, "stream message lost"):
            return
        times = 2 if network.happens(plan.stream_doubled, "stream message doubled") else 1
        for _ in range(times):
            due_ns = network.scheduler.now_ns + network.latency_ns()
            if network.happens(plan.stream_reordered, "stream message reordered"):
                due_ns += network.latency_ns() * 4
            else:
                self._last_delivery_ns = due_ns = max(due_ns, self._last_delivery_ns)
            self._deliver(due_ns, report)

    def lose(self, detail: str) -> None:
        if self.is_connected:
            self.is_connected = False
            self._connection += 1
            self._network.counted("stream lost")
            self._put(UserStreamLost(detail))
            self._reconnect()

    def _reconnect(self) -> None:
        self._network.scheduler.after(self._network.random.randint(*RECONNECT_NS), self._connect)

    def _connect(self) -> None:
        if self._loop.is_dead or self.is_connected:
            return
        if self._network.is_out:
            self._reconnect()
            return
        self.is_connected = True
        self._put(UserStreamConnected())

    def _deliver(self, due_ns: int, event: UserEvent) -> None:
        connection = self._connection

        def arrive() -> None:
            if connection == self._connection:
                self._put(event)

        self._network.scheduler.at(due_ns, arrive)

    def _put(self, event: UserEvent) -> None:
        if self._loop.is_dead:
            return
        self._events.append(event)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class SimVenue:
    """The VenuePort of one life. on_submit and on_amend hear of each as it leaves."""

    def __init__(
        self,
        network: Network,
        loop: SimLoop,
        on_submit: Callable[[OrderIntent], None],
        on_amend: Callable[[str, int, int | None], None],
    ) -> None:
        self._network = network
        self._exchange = network.exchange
        self._loop = loop
        self._on_submit = on_submit
        self._on_amend = on_amend
        self.stream: UserStream | None = None

    @property
    def capabilities(self) -> VenueCapabilities:
        return VenueCapabilities(
            order_types=frozenset({OrderType.LIMIT, OrderType.MARKET}),
            times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK}),
            can_amend_quantity=True,
            can_amend_price=self._exchange.amends_prices,
        )

    def now_ns(self) -> int | None:
        return self._exchange.now_ns()

    async def instruments(self) -> tuple[Instrument, ...]:
        return await self._read(lambda: tuple(self._exchange.instruments.values()))

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        if self._loop.is_dead:
            return await self._loop.create_future()  # type: ignore[no-any-return]
        self._on_submit(intent)
        signed_ns = self._network.scheduler.now_ns

        def place() -> Held:
            if self._network.scheduler.now_ns > signed_ns + RECV_WINDOW_MS * MS:
                raise VenueRefusalError("-1021 Timestamp for this request is outside of the recvWindow.")
            return self._exchange.place(terms_of(intent))

        try:
            held = await self._call(place, "submit", may_be_late=True)
        except VenueRefusalError as error:
            if "Duplicate" in str(error):
                return SubmitUnknown(str(error))
            return SubmitRefused(_refusal(str(error)))
        except NotSentError as error:
            return SubmitRefused(Refusal(ReasonCode.RISK_VENUE_DISCONNECTED, str(error)))
        except VenueUnavailableError as error:
            return SubmitUnknown(str(error))
        return Submitted(held.venue_order_id)

    async def cancel(self, symbol: str, client_order_id: str) -> None:
        try:
            await self._call(lambda: self._exchange.cancel(client_order_id), "cancel")
        except VenueRefusalError as error:
            raise RefusalError(Refusal(ReasonCode.ORDER_UNKNOWN, f"{symbol}: {error}")) from error

    async def amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        if self._loop.is_dead:
            return await self._loop.create_future()  # type: ignore[no-any-return]
        self._on_amend(intent.client_order_id, quantity, price)
        signed_ns = self._network.scheduler.now_ns

        def amend() -> Held:
            if self._network.scheduler.now_ns > signed_ns + RECV_WINDOW_MS * MS:
                raise VenueRefusalError("-1021 Timestamp for this request is outside of the recvWindow.")
            return self._exchange.amend(intent.client_order_id, quantity, price)

        try:
            await self._call(amend, "amend", may_be_late=True)
        except (VenueRefusalError, NotSentError) as error:
            return AmendRefused(_refusal(str(error)))
        except VenueUnavailableError as error:
            return AmendUnknown(str(error))
        return Amended(quantity, price)

    async def cancel_all(self, symbol: str) -> None:
        for order in await self.open_orders(symbol):
            await self.cancel(symbol, order.client_order_id)

    async def order(self, symbol: str, client_order_id: str) -> VenueOrder | None:
        def look() -> VenueOrder | None:
            held = self._exchange.orders.get(client_order_id)
            if held is None or held.terms.symbol != symbol:
                return None
            return self._exchange.view_at(held, self._shown_ns())

        return await self._read(look)

    async def order_by_venue_id(self, symbol: str, venue_order_id: str) -> VenueOrder | None:
        def look() -> VenueOrder | None:
            views = (self._exchange.view_at(held, self._shown_ns()) for held in self._exchange.history)
            found = (view for view in views if view is not None and view.venue_order_id == venue_order_id)
            return next((view for view in found if view.symbol == symbol), None)

        return await self._read(look)

    async def open_orders(self, symbol: str) -> list[VenueOrder]:
        return [order for order in await self.all_open_orders() if order.symbol == symbol]

    async def all_open_orders(self) -> list[VenueOrder]:
        def look() -> list[VenueOrder]:
            views = (self._exchange.view_at(held, self._shown_ns()) for held in self._exchange.history)
            return [view for view in views if view is not None and not view.status.is_final]

        return await self._read(look)

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]:
        return await self._read(lambda: [t for t in self._trades(symbol) if t.venue_order_id == venue_order_id])

    async def trades_since(self, symbol: str, since_ns: int) -> list[VenueTrade]:
        return await self._read(lambda: [t for t in self._trades(symbol) if t.ts_event_ns >= since_ns])

    async def balances(self) -> dict[str, Decimal]:
        return await self._read(self._exchange.balances)

    async def positions(self) -> list[VenuePosition]:
        return []

    async def funding_since(self, _since_ns: int) -> list[VenueFunding]:
        return []

    def user_events(self) -> UserStream:
        self.stream = UserStream(self._network, self._loop)
        return self.stream

    def _trades(self, symbol: str) -> list[VenueTrade]:
        shown_ns = self._shown_ns()
        return [trade for trade in self._exchange.trades if trade.symbol == symbol and trade.ts_event_ns <= shown_ns]

    def _shown_ns(self) -> int:
        """What a query shows may stand a little behind the book, and each query differently."""
        network = self._network
        lag_ns = network.random.randint(0, network.plan.query_lag_ns) if network.is_faulty else 0
        return self._exchange.now_ns() - lag_ns

    async def _read(self, work: Callable[[], T]) -> T:
        return await self._call(work, "read")

    async def _call(self, work: Callable[[], T], kind: str, *, may_be_late: bool = False) -> T:
        """One request, one attempt. Raises VenueRefusalError, NotSentError, NoAnswerError."""
        network, plan, scheduler = self._network, self._network.plan, self._network.scheduler
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._loop.is_dead:
            await answer
        is_refused = network.is_out and network.random.random() < 0.5
        if is_refused:
            network.counted("connection refused")
            scheduler.after(network.latency_ns(), lambda: _set(answer, NotSentError("connection refused"), self._loop))
            return await answer  # type: ignore[no-any-return]

        def arrive() -> None:
            try:
                result: object = work()
            except VenueRefusalError as error:
                result = error
            if network.happens(plan.answer_lost, f"{kind} answer lost"):
                return
            scheduler.after(network.latency_ns(), lambda: _set(answer, result, self._loop))

        lost = network.is_out or network.happens(plan.request_lost, f"{kind} request lost")
        if network.happens(plan.unknown_answer, f"{kind} answered -1007"):
            # Sent to the venue's insides, which may or may not have carried it out.
            scheduler.after(network.latency_ns(), lambda: _set(answer, NoAnswerError("-1007 Timeout"), self._loop))
            lost = lost or network.random.random() < 0.5
        else:
            patience_ns = READ_TIMEOUT_NS if kind == "read" else ANSWER_TIMEOUT_NS
            scheduler.after(patience_ns, lambda: _set(answer, NoAnswerError("no answer in time"), self._loop))
        if not lost:
            delay_ns = network.latency_ns()
            if may_be_late and network.happens(plan.late_arrival, f"{kind} arrived late"):
                delay_ns += network.random.randint(1 * S, RECV_WINDOW_MS * MS + 1 * S)
            scheduler.after(delay_ns, arrive)
        return await answer  # type: ignore[no-any-return]


def _set(answer: asyncio.Future[Any], outcome: object, loop: SimLoop) -> None:
    if loop.is_dead or answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _refusal(told: str) -> Refusal:
    code = told.split(" ", 1)[0]
    return Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, f"The venue refused: {told}", actual=code, unit="venue_code")
