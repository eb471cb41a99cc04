"""What becomes of orders of which the venue hasn't spoken, on a machine whose clock somebody sets (I5)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.kernel.decide import decide_amended
from core.kernel.kernel import Kernel
from core.market.hub import MarketHub
from core.risk.kill_switch import KillSwitch
from core.runtime.follow import (
    ARRIVAL_MARGIN_MS,
    BALANCES_COUNT_FOR_S,
    BALANCES_INTERVAL_S,
    SWEEP_INTERVAL_S,
    VenueFollower,
)
from core.runtime.reconcile import FREEZE_REASON
from core.runtime.reused_ids import ReusedIds
from core.runtime.service import EngineService
from core.storage.journal import Journal, JournalUnavailableError
from core.types.clock import NS_PER_S, ManualClock
from core.types.codes import ReasonCode, refuse
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities
from core.venues.ports import (
    AmendResult,
    AmendUnknown,
    ExecutionReport,
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
from tests.core.approvals import ACCOUNT, BTC, ENGINE_ID, NOW_NS, decide_on, equity, proposal, started_events
from tests.core.storage.faults import MemoryDisk
from tests.simulation.loop import Scheduler, SimLoop, run_for

RECV_WINDOW_MS = 5_000
ARRIVAL_S = (RECV_WINDOW_MS + ARRIVAL_MARGIN_MS) / 1_000
HOUR_NS = 3_600 * NS_PER_S


class Venue:
    """Knows the orders in `shown`, and counts what it is asked."""

    capabilities = VenueCapabilities(frozenset(OrderType), frozenset(TimeInForce), can_amend_quantity=True)

    def __init__(self) -> None:
        self.shown: dict[str, VenueOrder] = {}
        self.numbered: dict[str, VenueOrder] = {}
        self.trades: list[VenueTrade] = []
        self.cancels: list[str] = []
        self.is_answering = True
        self.tells_instruments = True
        self.events: list[UserEvent] = []
        self.clock_ns: Callable[[], int | None] = lambda: None

    def now_ns(self) -> int | None:
        return self.clock_ns()

    async def instruments(self) -> tuple[Instrument, ...]:
        if not self.tells_instruments:
            raise VenueUnavailableError("not yet")
        return (BTC,)

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        if not self.is_answering:
            return SubmitUnknown("no answer")
        self.shown[intent.client_order_id] = shown(intent)
        return Submitted("7")

    async def cancel(self, _symbol: str, client_order_id: str) -> None:
        self.cancels.append(client_order_id)
        if not self.is_answering:
            raise refuse(ReasonCode.ORDER_UNKNOWN, "unknown order")

    async def order(self, _symbol: str, client_order_id: str) -> VenueOrder | None:
        return self.shown.get(client_order_id)

    def fill_a_foreign_order(self, ts_ns: int) -> None:
        """Somebody's market order, by another way: it comes and goes at once."""
        terms = (Side.BUY, OrderType.MARKET, TimeInForce.IOC, 100, None)
        self.shown["web-1"] = VenueOrder("BTCUSDT", "web-1", "8", OrderStatus.FILLED, 100, ts_ns, *terms)
        self.trades.append(
            VenueTrade("BTCUSDT", 5, "8", "web-1", Side.BUY, 6_000_000, 100, Decimal(0), "USDT", False, ts_ns)
        )

    def end(self, order_id: str) -> None:
        self.shown[order_id] = msgspec.structs.replace(self.shown[order_id], status=OrderStatus.CANCELED)

    async def order_by_venue_id(self, _symbol: str, venue_order_id: str) -> VenueOrder | None:
        return self.numbered.get(venue_order_id)

    async def open_orders(self, _symbol: str) -> list[VenueOrder]:
        return [order for order in self.shown.values() if not order.status.is_final]

    async def all_open_orders(self) -> list[VenueOrder]:
        return await self.open_orders("")

    async def trades_of(self, _symbol: str, venue_order_id: str) -> list[VenueTrade]:
        return [trade for trade in self.trades if trade.venue_order_id == venue_order_id]

    async def trades_since(self, _symbol: str, since_ns: int) -> list[VenueTrade]:
        return [trade for trade in self.trades if trade.ts_event_ns >= since_ns]

    async def balances(self) -> dict[str, Decimal]:
        return {"USDT": Decimal(1_000_000)}

    async def positions(self) -> list[VenuePosition]:
        return []

    async def funding_since(self, _since_ns: int) -> list[VenueFunding]:
        return []

    async def amend(self, _intent: OrderIntent, _quantity: int, _price: int | None) -> AmendResult:
        return AmendUnknown("no answer")

    async def cancel_all(self, _symbol: str) -> None:
        raise AssertionError("not asked for here")

    def user_events(self) -> Any:
        return self

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> UserEvent:
        if self.events:
            return self.events.pop(0)
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


class NoBus:
    def publish_trading(self, _messages: Sequence[tuple[str, bytes, str]]) -> None:
        pass


class House:
    """An engine's service and follower on a virtual loop, its clock apart from it."""

    def __init__(self, instruments: tuple[Instrument, ...] = (BTC,)) -> None:
        self.scheduler = Scheduler()
        self.crashes: list[str] = []
        self.loop = SimLoop(self.scheduler, self.crashes.append)
        self.clock = ManualClock(NOW_NS)
        self.venue = Venue()
        self.kernel = Kernel()
        self.disk = MemoryDisk()
        journal = Journal.open(self.disk.folder(), ENGINE_ID, inline=True)
        hub = MarketHub([BTC], self.clock, 2_000)
        venue = ReusedIds(self.venue, self.kernel)
        self.service = EngineService(self.kernel, journal, venue, hub, self.clock, NoBus(), account_id=ACCOUNT)

        async def silent_feed(_hub: MarketHub, until: asyncio.Event) -> None:
            await until.wait()

        self.follower = VenueFollower(self.service, lambda: hub, silent_feed, RECV_WINDOW_MS)
        self.record(lambda: started_events(instruments=instruments))

    def record(self, decision: Callable[[], Any]) -> None:
        self.run(self.service.record(lambda _now_ns: decision()))

    def run(self, work: Any, duration_s: float = 0.0) -> None:
        task = self.loop.create_task(work)
        run_for(self.loop, self.scheduler, duration_s)
        if task.done():
            task.result()
        assert not self.crashes

    def wait(self, duration_s: float) -> None:
        """So much time passes, for the machine's clock too."""
        self.clock.advance_ns(round(duration_s * NS_PER_S))
        run_for(self.loop, self.scheduler, duration_s)
        assert not self.crashes

    def follow(self) -> asyncio.Task[None]:
        return self.loop.create_task(self.follower.run(asyncio.Event()))

    def order(self, **changes: str) -> str:
        """An approved order leaves; its id."""
        decided = decide_on(self.kernel, proposal(**changes), now_ns=self.clock.now_ns())
        self.record(lambda: (decided,))
        assert decided.intent is not None
        return decided.intent.client_order_id

    def status(self, order_id: str) -> OrderStatus:
        return self.kernel.orders[order_id].status


def shown(intent: OrderIntent) -> VenueOrder:
    return VenueOrder(
        intent.symbol,
        intent.client_order_id,
        "7",
        OrderStatus.ACCEPTED,
        0,
        NOW_NS,
        intent.side,
        intent.order_type,
        intent.time_in_force,
        intent.quantity,
        intent.price,
    )


def reports(intent: OrderIntent, quantity: int, fills: tuple[int, ...]) -> Iterator[ExecutionReport]:
    """Fills of an order that now is for this quantity."""
    filled = 0
    for number, part in enumerate(fills, start=1):
        filled += part
        seen = msgspec.structs.replace(
            shown(intent), status=OrderStatus.PARTIALLY_FILLED, filled_quantity=filled, quantity=quantity
        )
        price = intent.price or 0
        trade = VenueTrade(
            intent.symbol,
            number,
            "7",
            intent.client_order_id,
            intent.side,
            price,
            part,
            Decimal(0),
            "BTC",
            True,
            NOW_NS,
        )
        yield ExecutionReport(seen, trade, "TRADE")


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.loop.die()


def test_a_journal_that_heals_before_the_venue_has_told_its_instruments_ends_nothing() -> None:
    house = House(instruments=())
    house.venue.tells_instruments = False
    house.venue.events.append(UserStreamConnected())
    following = house.follow()
    house.disk.write_errors.append(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(JournalUnavailableError):
        house.record(lambda: (equity(),))
    house.wait(5)
    assert not following.done()
    house.venue.tells_instruments = True
    house.wait(5)
    assert house.service.surroundings.venue_connected
    house.loop.die()


def test_an_order_that_cant_arrive_any_more_is_rejected_once_its_time_has_passed(house: House) -> None:
    house.venue.is_answering = False
    order_id = house.order()
    house.wait(ARRIVAL_S - 1)
    assert house.status(order_id) is OrderStatus.UNKNOWN
    house.wait(7)
    assert house.status(order_id) is OrderStatus.REJECTED


def test_a_clock_that_is_set_forward_doesnt_make_an_unknown_order_a_rejected_one(house: House) -> None:
    house.venue.is_answering = False
    order_id = house.order()
    house.clock.advance_ns(HOUR_NS)
    house.wait(ARRIVAL_S - 1)
    assert house.status(order_id) is OrderStatus.UNKNOWN


def test_a_clock_that_stands_still_after_it_was_set_back_leaves_no_order_unknown(house: House) -> None:
    house.venue.is_answering = False
    order_id = house.order()
    run_for(house.loop, house.scheduler, ARRIVAL_S + 6)
    assert house.status(order_id) is OrderStatus.REJECTED


def test_a_restart_gives_an_unknown_order_its_whole_time_again(house: House) -> None:
    house.venue.is_answering = False
    order_id = house.order()
    house.clock.advance_ns(HOUR_NS)
    again = VenueFollower(house.service, lambda: house.service.hub, lambda *_: asyncio.sleep(0), RECV_WINDOW_MS)
    house.run(again.reconcile(order_id))
    assert house.status(order_id) is OrderStatus.UNKNOWN


@pytest.mark.parametrize("halted", [False, True])
def test_a_cancel_that_never_reached_the_venue_is_asked_for_again_at_the_next_look(house: House, halted: bool) -> None:
    order_id = house.order()
    assert house.status(order_id) is OrderStatus.ACCEPTED
    house.venue.is_answering = False
    if halted:
        house.run(house.service.set_kill_switch(KillSwitch.HALTED, "me", "drill"))
    else:
        house.run(house.service.cancel_order(order_id, "me", None))
    assert house.venue.cancels == [order_id]

    house.follow()
    house.wait(SWEEP_INTERVAL_S + 1)

    assert house.venue.cancels == [order_id, order_id]


def test_an_order_that_ended_unseen_is_found_while_the_clock_stands_still(house: House) -> None:
    order_id = house.order()
    house.follow()
    house.venue.end(order_id)
    run_for(house.loop, house.scheduler, SWEEP_INTERVAL_S + 1)
    assert house.status(order_id) is OrderStatus.CANCELED


@pytest.mark.parametrize("fills", [(150,), (100, 50)])
def test_what_fills_an_enlarged_order_may_outrun_the_answer_to_its_amendment(
    house: House, fills: tuple[int, ...]
) -> None:
    order_id = house.order(quantity="0.001")
    house.venue.events = [*reports(house.kernel.orders[order_id].intent, 200, fills)]
    house.follow()
    house.wait(1)
    order = house.kernel.orders[order_id]
    assert (order.status, order.filled_quantity, order.intent.quantity) == (OrderStatus.PARTIALLY_FILLED, 150, 200)
    assert house.kernel.kill_switch is KillSwitch.NORMAL


def test_an_answer_that_stands_behind_the_fills_takes_no_terms_back(house: House) -> None:
    order_id = house.order(quantity="0.001")
    house.venue.events = [*reports(house.kernel.orders[order_id].intent, 200, (100,))]
    house.follow()
    house.wait(1)
    assert house.kernel.orders[order_id].intent.quantity == 200

    house.run(house.follower.reconcile(order_id), 1)

    assert (house.kernel.orders[order_id].intent.quantity, house.status(order_id)) == (
        200,
        OrderStatus.PARTIALLY_FILLED,
    )


def test_a_clock_that_is_set_forward_hides_no_fill_of_an_order_that_came_and_went_unseen(house: House) -> None:
    house.venue.events = [UserStreamConnected()]
    house.follow()
    house.wait(1)
    house.clock.advance_ns(HOUR_NS)
    house.wait(SWEEP_INTERVAL_S + 1)
    house.venue.fill_a_foreign_order(NOW_NS + house.scheduler.now_ns)

    house.wait(SWEEP_INTERVAL_S + 1)

    assert house.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == 100


def test_a_clock_that_is_wrong_from_the_start_hides_no_fill_where_the_venues_time_is_known(house: House) -> None:
    house.venue.clock_ns = lambda: NOW_NS + house.scheduler.now_ns
    house.clock.advance_ns(HOUR_NS)
    house.venue.events = [UserStreamConnected()]
    house.follow()
    house.wait(1)
    house.venue.fill_a_foreign_order(NOW_NS + house.scheduler.now_ns)

    house.wait(SWEEP_INTERVAL_S + 1)

    assert house.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == 100


def test_an_order_of_somebody_else_that_the_venue_tells_of_after_its_first_fills_keeps_its_terms(house: House) -> None:
    """given a foreign order of 300 whose first fill of 100 is told before the order is, when the rest follows, then all
    of it is in the position and nothing halts."""
    house.venue.events = [UserStreamConnected()]
    house.follow()
    house.wait(1)
    house.venue.fill_a_foreign_order(NOW_NS + house.scheduler.now_ns)
    told = msgspec.structs.replace(house.venue.shown.pop("web-1"), status=OrderStatus.PARTIALLY_FILLED, quantity=300)
    house.run(house.service.reconcile(dry_run=False, requested_by="user-trader"), 1)
    assert not house.kernel.knows_order("web-1")
    assert house.kernel.frozen[ACCOUNT].startswith(FREEZE_REASON)

    house.venue.shown["web-1"] = told
    rest = msgspec.structs.replace(house.venue.trades[0], trade_id=6, quantity=200)
    house.venue.trades.append(rest)
    house.wait(SWEEP_INTERVAL_S + 1)

    assert house.kernel.orders["web-1"].intent.quantity == 300
    assert house.kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == 300
    assert (house.kernel.frozen.get(ACCOUNT), house.kernel.kill_switch) == (None, KillSwitch.NORMAL)


def test_what_nobody_expected_while_catching_up_ends_the_engine_and_isnt_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> list[VenueOrder]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(house.venue, "all_open_orders", broken)
    house.venue.events = [UserStreamConnected()]
    following = house.follow()
    house.wait(1)
    assert isinstance(following.exception(), ZeroDivisionError)


def test_an_order_that_nobody_wants_cancelled_isnt(house: House) -> None:
    house.order()
    house.follow()
    house.wait(SWEEP_INTERVAL_S + 1)
    assert house.venue.cancels == []


def test_a_stream_that_is_lost_again_and_again_was_lost_the_first_time(house: House) -> None:
    house.venue.events.append(UserStreamConnected())
    house.follow()
    house.wait(1)
    around = house.service.surroundings
    assert (around.venue_connected, around.lost_since_ns) == (True, None)
    for _ in range(2):
        house.wait(1)
        house.run(house.follower._user_event(UserStreamLost("no route")))
    assert (around.venue_connected, around.lost_since_ns) == (False, house.clock.now_ns() - NS_PER_S)


def test_what_the_venue_said_before_an_amendment_doesnt_undo_it(house: House) -> None:
    order_id = house.order()
    look = house.venue.order

    async def amended_meanwhile(symbol: str, asked_id: str) -> VenueOrder | None:
        seen = await look(symbol, asked_id)
        await house.service.record(lambda now_ns: decide_amended(house.kernel, order_id, 15_000, None, now_ns))
        return seen

    house.venue.order = amended_meanwhile  # type: ignore[method-assign]
    house.run(house.follower.reconcile(order_id))
    assert house.kernel.orders[order_id].intent.quantity == 15_000


def test_without_balances_the_engine_isnt_connected_and_those_it_had_count_for_a_while(house: House) -> None:
    async def unanswered() -> dict[str, Decimal]:
        raise VenueUnavailableError("no route")

    around, look = house.service.surroundings, house.venue.balances
    house.venue.events.append(UserStreamConnected())
    house.venue.balances = unanswered  # type: ignore[method-assign]
    house.follow()
    house.wait(10)
    assert (around.venue_connected, around.balances) == (False, None)

    house.venue.balances = look  # type: ignore[method-assign]
    house.wait(10)
    assert (around.venue_connected, around.balances is None) == (True, False)

    told = around.balances
    house.venue.balances = unanswered  # type: ignore[method-assign]
    house.wait(BALANCES_COUNT_FOR_S - BALANCES_INTERVAL_S - 1)
    assert around.balances == told
    house.wait(2 * BALANCES_INTERVAL_S)
    assert around.balances is None


def test_balances_are_of_the_moment_in_which_they_were_asked_for(house: House) -> None:
    """What changes until the answer is here may not be in it, and stays reserved."""
    asked_ns: list[int] = []
    look = house.venue.balances

    async def slow() -> dict[str, Decimal]:
        asked_ns.append(house.clock.now_ns())
        house.clock.advance_ns(NS_PER_S)
        return await look()

    house.venue.balances = slow  # type: ignore[method-assign]
    house.follow()
    house.wait(1)
    balances = house.service.surroundings.balances
    assert balances is not None
    assert balances.as_of_ns == asked_ns[-1]
