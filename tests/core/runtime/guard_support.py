"""An engine's service with a clock, an account and a venue that a test sets by hand, on a disk that it can break."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from core.authority.signatures import public_key_hex
from core.kernel import decide
from core.kernel.decide import FillReport
from core.kernel.inputs import Balances
from core.kernel.kernel import Kernel
from core.market.hub import MarketHub
from core.runtime.guard import Guard
from core.runtime.reconcile import adopted
from core.runtime.sequencer import Recorded
from core.runtime.service import EngineService
from core.storage.journal import Journal
from core.types.clock import NS_PER_S
from core.types.events import EquityObserved, JournalEvent
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.ports import Amended, Submitted, VenueOrder, VenuePosition, VenueTrade
from tests.core.approvals import ACCOUNT, BTC, ENGINE_ID, NOW_NS, ROOT_SEED, RULES, started_events
from tests.core.kernel.desk import ABLE
from tests.core.storage.faults import MemoryDisk


class HandClock:
    def __init__(self) -> None:
        self.ns = NOW_NS

    def now_ns(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += int(seconds * NS_PER_S)


class TakingVenue:
    """Takes every order, and remembers what it was asked."""

    capabilities = ABLE

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.amended: list[tuple[str, int, int | None]] = []
        self.held: list[VenuePosition] = []

    async def balances(self) -> dict[str, Decimal]:
        return {}

    async def positions(self) -> list[VenuePosition]:
        return self.held

    def now_ns(self) -> int | None:
        return None

    async def all_open_orders(self) -> list[VenueOrder]:
        return []

    async def trades_since(self, _symbol: str, _since_ns: int) -> list[VenueTrade]:
        return []

    async def submit(self, intent: OrderIntent) -> Submitted:
        self.submitted.append(intent.client_order_id)
        return Submitted(f"v{len(self.submitted)}")

    async def amend(self, intent: OrderIntent, quantity: int, price: int | None) -> Amended:
        self.amended.append((intent.client_order_id, quantity, price))
        return Amended(quantity, price)

    async def cancel(self, _symbol: str, client_order_id: str) -> None:
        self.cancelled.append(client_order_id)


class NoBus:
    def publish_trading(self, messages: Sequence[tuple[str, bytes, str]]) -> None:
        pass


class Watched:
    """An engine whose account is worth a million USDT until a test says otherwise."""

    def __init__(self, rules: str = RULES, venue: Any = None) -> None:
        self.clock = HandClock()
        self.disk = MemoryDisk()
        self.venue: Any = TakingVenue() if venue is None else venue
        self.journal = Journal.open(self.disk.folder(), ENGINE_ID)
        self.service = EngineService(
            Kernel(),
            self.journal,
            self.venue,
            MarketHub([BTC], self.clock, 2_000),
            self.clock,
            NoBus(),
            account_id=ACCOUNT,
            root_public_key_hex=public_key_hex(ROOT_SEED),
        )
        self.kernel = self.service.kernel
        self.guard = Guard(self.service)
        self._rules = rules

    async def start(self) -> None:
        events = [event for event in started_events(rules=self._rules) if not isinstance(event, EquityObserved)]
        await self.record(*events)
        self.worth("1000000")
        await self.guard.look()

    async def record(self, *events: JournalEvent) -> None:
        recorded = await self.service.sequencer.record(lambda _now_ns: events)
        assert isinstance(recorded, Recorded)

    async def traded(self, side: Side) -> None:
        """A tenth of a BTC at 60,000, placed at the venue by somebody."""
        order_id = f"by-hand-{side}"
        seen = VenueOrder(
            "BTCUSDT",
            order_id,
            f"v-{order_id}",
            OrderStatus.ACCEPTED,
            0,
            self.clock.ns,
            side,
            OrderType.LIMIT,
            TimeInForce.GTC,
            10_000,
            6_000_000,
        )
        event = adopted(self.kernel, seen, ACCOUNT, "paper", self.clock.ns)
        assert event is not None
        await self.record(event)
        await self.record(*self.fill(order_id))

    def fill(self, order_id: str) -> tuple[JournalEvent, ...]:
        """All of an order, at its price."""
        order = self.kernel.orders[order_id]
        report = FillReport(
            order_id,
            order.venue_order_id or "",
            self.kernel.sequence,
            order.intent.price or 0,
            order.remaining_quantity,
            Decimal(0),
            "USDT",
            False,
            self.clock.ns,
        )
        return decide.decide_fill(self.kernel, report, self.clock.ns)

    def worth(self, amount: str) -> None:
        self.service.surroundings.balances = Balances({"USDT": Decimal(amount)}, self.clock.ns)

    async def look_after(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        await self.guard.look()

    @property
    def switch(self) -> str:
        """What holds for the account."""
        return str(self.kernel.effective_kill_switch(ACCOUNT))

    async def close(self) -> None:
        await self.service.stop()
        await self.journal.close()
