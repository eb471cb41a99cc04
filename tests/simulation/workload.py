"""What people, strategies and the world do to the engine: one action at a time, drawn from the seed.

Every action is a method of Workload in the table ACTIONS with its weight; another kind of order is another line there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from core.risk.kill_switch import KillSwitch
from core.types.authority import MandateAuthority
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode
from core.types.money import from_scaled
from core.types.orders import (
    GroupKind,
    GroupRequest,
    OrderRequest,
    OrderRole,
    OrderType,
    Side,
    TimeInForce,
    derived_order_id,
    requested_order_id,
)
from core.types.views import ExecutionOutcomeView
from tests.simulation import documents
from tests.simulation.approvals import Approvals
from tests.simulation.exchange import Terms, VenueRefusalError
from tests.simulation.invariants import Invariant
from tests.simulation.machine import Life
from tests.simulation.model import TIGHTNESS, Known

if TYPE_CHECKING:
    from tests.simulation.world import World

REMEMBERED = 12
"""How many requests somebody may ask again."""
Asked = tuple[OrderRequest, str]


class Workload:
    """Draws and carries out one action of the plan at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._plan = world.plan
        self.random = Random(f"veloz simulation workload {world.plan.seed}")
        self._asked: list[Asked] = []
        self._groups: list[tuple[GroupRequest, str]] = []
        self._generations: Counter[str] = Counter()
        self._foreign: dict[str, list[str]] = {}
        self._count = 0
        self._session = 0
        self.approvals = Approvals(self, world)
        self._weights = [weight(self) for _, weight in ACTIONS]

    def act(self) -> None:
        """One action, when there is an engine to take it."""
        action = self.random.choices(ACTIONS, self._weights)[0][0]
        life = self._world.machine.life
        if life is not None and life.is_serving:
            action(self, life)
            if action in DEADLY or self.random.random() < 0.2:
                self._world.acted()

    # settling in

    def introduce(self, life: Life) -> None:
        """What must be in force before anything can be asked: mandates and a session."""
        kernel = life.kernel
        for strategy in documents.STRATEGIES:
            if self.mandate_id(strategy) not in kernel.mandates:
                self._install_mandate(life, strategy)
        if self._session_id not in kernel.sessions:
            self._spawn(life, life.service.open_session(*documents.signed_session(self._session_id)), "session")

    def renew_mandate(self, life: Life, strategy: str, over: str) -> None:
        """Another in the place of one that is over, or will be."""
        if over == self.mandate_id(strategy):
            self._generations[strategy] += 1
            self._install_mandate(life, strategy)

    def mandate_id(self, strategy: str) -> str:
        """The strategy's newest."""
        return documents.mandate_id(strategy, self._generations[strategy])

    def _install_mandate(self, life: Life, strategy: str) -> None:
        mandate = documents.signed_mandate(strategy, self._generations[strategy])
        self._spawn(life, life.service.install_mandate(*mandate), "mandate")

    # orders

    def order(self, life: Life) -> None:
        """Under a mandate, a session, or an approval of its own."""
        kind = self.random.choice(("mandate", "mandate", "session", "approval"))
        strategy = self.random.choice(documents.STRATEGIES) if kind == "mandate" else ""
        request = self.request(life, strategy)
        if kind == "approval":
            self.approvals.simple(life, request)
            return
        asked = (request, strategy)
        self._asked = [*self._asked[-REMEMBERED:], asked]
        self._submit(life, asked)

    def burst(self, life: Life) -> None:
        """As many orders at once as a fault in a strategy would make: of other terms, or the same again and again."""
        same = self.random.random() < 0.4
        first = self.request(life, "maker")
        for _ in range(self.random.randint(3, 6)):
            request = first if same else self.request(life, "maker")
            self._submit(life, (msgspec.structs.replace(request, request_id=self.new_id("r")), "maker"))

    def repeat(self, life: Life) -> None:
        """A caller that had no answer, or lost it, asks once more."""
        self._world.counted("asked again")
        if self._groups and self.random.random() < 0.3:
            self._submit_group(life, *self.random.choice(self._groups))
        elif self.approvals.signed and self.random.random() < 0.4:
            self.approvals.hand_in(life, self.random.choice(self.approvals.signed))
        elif self._asked:
            self._submit(life, self.random.choice(self._asked))

    def cross(self, life: Life) -> None:
        """An order that would meet one of our own."""
        resting = [known for known in self._open() if known.price is not None]
        if not resting:
            return
        known = self.random.choice(resting)
        intent = known.intent
        side = Side.SELL if intent.side is Side.BUY else Side.BUY
        tick = self._world.exchange.instruments[intent.symbol].tick_size
        assert known.price is not None
        price = known.price + self.random.choice((-1, 0, 0, 1)) * tick
        lots = self.random.randint(2, 12)
        request = self._limit(intent.symbol, side, lots, price)
        self._submit(life, (msgspec.structs.replace(request, strategy_id="taker"), "taker"))

    def held(self, life: Life) -> None:
        """An order whose condition the engine watches."""
        strategy = self.random.choice((*documents.STRATEGIES, ""))
        request = self.request(life, strategy)
        self._submit(life, (self.conditional(request), strategy))

    def group(self, life: Life) -> None:
        """A bracket or an OCO near the market, so that its legs are met."""
        strategy = self.random.choice(documents.STRATEGIES)
        legs = self.legs(strategy)
        kind = GroupKind.BRACKET if OrderRole.ENTRY in legs else GroupKind.OCO
        request = GroupRequest(self.new_id("g"), kind, legs)
        self._submit_group(life, request, strategy)

    def legs(self, strategy: str, *, is_bracket: bool = False) -> dict[OrderRole, OrderRequest]:
        """Of a bracket or, unless it has to be one, of an OCO."""
        random = self.random
        symbol = random.choice(("BTCUSDT", "ETHUSDT"))
        item, quote = self._world.exchange.instruments[symbol], self._world.exchange.quotes[symbol]
        side = random.choice((Side.BUY, Side.SELL))
        exit_side = Side.SELL if side is Side.BUY else Side.BUY
        ahead = item.tick_size if side is Side.BUY else -item.tick_size
        lots = random.randint(2, 12)
        near = quote.ask if side is Side.BUY else quote.bid
        entry = near - random.choice((-1, 0, 1, 3)) * ahead
        profit = near + random.randint(2, 12) * ahead
        stop = near - random.randint(4, 14) * ahead
        orders = {
            OrderRole.TAKE_PROFIT: self._limit(symbol, exit_side, lots, profit),
            OrderRole.STOP: msgspec.structs.replace(
                self._limit(symbol, exit_side, lots, 0), order_type=OrderType.STOP, price=None, stop_price=stop
            ),
        }
        if random.random() < 0.3:
            orders[OrderRole.STOP] = msgspec.structs.replace(
                orders[OrderRole.STOP], order_type=OrderType.TRAILING_STOP, stop_price=None, trailing_offset_bps=3
            )
        if random.random() < 0.7 or is_bracket:
            orders[OrderRole.ENTRY] = self._limit(symbol, side, lots, entry)
        return {role: msgspec.structs.replace(order, strategy_id=strategy) for role, order in orders.items()}

    def cancel(self, life: Life) -> None:
        known = self.some_open()
        if known is not None:
            order_id = known.intent.client_order_id
            self._spawn(life, life.service.cancel_order(order_id, documents.TRADER, None), f"cancel {order_id}")

    def cancel_all(self, life: Life) -> None:
        symbol = self.random.choice((None, *documents.FIRST_BIDS))
        self._spawn(life, life.service.cancel_all(documents.ACCOUNT, symbol, documents.TRADER), "cancel all")

    def amend(self, life: Life) -> None:
        known = self.some_open()
        if known is None:
            return
        intent = known.intent
        item = self._world.exchange.instruments[intent.symbol]
        lots = known.quantity // item.lot_size
        wanted_lots = self.random.randint(1, 4 * lots if self._plan.amends_prices else lots)
        quantity: Decimal | None = from_scaled(wanted_lots * item.lot_size, item.quantity_scale)
        price: Decimal | None = None
        if known.price is not None and self.random.random() < 0.3:
            # Where the venue can't do this in place it becomes a cancel and another order.
            moved = known.price + self.random.choice((-3, -1, 1, 2)) * item.tick_size
            price = from_scaled(moved, item.price_scale)
            quantity = None if self.random.random() < 0.5 else quantity
        order_id = intent.client_order_id
        if intent.strategy_id:
            authority: Any = MandateAuthority(self.mandate_id(intent.strategy_id), intent.strategy_id)
            content = b""
        else:
            authority, content = documents.session_request(
                self._session_id, (self.new_id("amend"), order_id, str(quantity))
            )
        amending = life.service.amend_order(order_id, quantity, price, authority, request_bytes=content)
        self._spawn(life, amending, f"amend {order_id}")
        if self.random.random() < 0.5:
            self._beside(life, known)

    def _beside(self, life: Life, known: Known) -> None:
        """Another order of the same market, or against it, before anything is known of the first one's amendment."""
        intent, quote = known.intent, self._world.exchange.quotes[known.intent.symbol]
        item = self._world.exchange.instruments[intent.symbol]
        other = Side.SELL if intent.side is Side.BUY else Side.BUY
        side = intent.side if self.random.random() < 0.75 else other
        away = self.random.randint(0, 4) * item.tick_size
        price = quote.bid - away if side is Side.BUY else quote.ask + away
        request = self._limit(intent.symbol, side, self.random.randint(12, 31), price)
        self._submit(life, (msgspec.structs.replace(request, strategy_id="taker"), "taker"))

    def propose(self, life: Life) -> None:
        self.approvals.propose(life)

    def take_back(self, life: Life) -> None:
        self.approvals.take_back(life)

    # safety and administration

    def session(self, life: Life) -> None:
        """The human signs out and in again."""
        self._spawn(life, life.service.close_session(self._session_id, documents.TRADER), "session closed")
        self._session += 1
        self._spawn(life, life.service.open_session(*documents.signed_session(self._session_id)), "session opened")

    def tighten(self, life: Life) -> None:
        """Throw the switch; somebody thaws it after a while."""
        state = self.random.choice((KillSwitch.REDUCE_ONLY, KillSwitch.CANCEL_ONLY, KillSwitch.HALTED))
        account_id = self.random.choice(("", documents.ACCOUNT))
        self._spawn(life, self._tighten(life, state, account_id), f"switch {state} {account_id}")
        self.thaw_later(account_id)

    def thaw_later(self, account_id: str) -> None:
        """Somebody does, with the root key."""
        self._world.scheduler.after(
            self.random.randint(1, 5) * NS_PER_S,
            lambda: self._world.with_engine(lambda now: self._thaw(now, account_id)),
        )

    def renew(self, life: Life) -> None:
        """Somebody is there."""
        self._world.checks.renewed(life.clock.now_ns())
        life.service.renew_dead_mans_timer(documents.TRADER)

    def rules(self, life: Life) -> None:
        """Other rules are put into force, or those of before."""
        if self.random.random() < 0.7:
            document = documents.rules_document(self.random.randrange(len(documents.TIGHTENINGS)))
            self._administer(life, "rules.install", {"document": document})
        else:
            self._administer(life, "rules.rollback", {"version": "0"})

    def snapshot(self, life: Life) -> None:
        self._world.counted("snapshot")
        self._spawn(life, life.keeper.take(), "snapshot")

    # what others do at the venue

    def foreign_order(self, _life: Life) -> None:
        """Somebody trades on the account by another way."""
        symbol = self.random.choice(tuple(documents.FIRST_BIDS))
        side, quote = self.random.choice((Side.BUY, Side.SELL)), self._world.exchange.quotes[symbol]
        item = self._world.exchange.instruments[symbol]
        away = self.random.randint(1, 12) * item.tick_size
        price = quote.bid - away if side is Side.BUY else quote.ask + away
        quantity = self.random.randint(2, 6) * item.lot_size
        order_id = self.new_id("web")
        given = self._foreign.setdefault(symbol, [])
        if given and self.random.random() < 0.35:
            # As a client that numbers its orders anew every day.
            order_id = self.random.choice(given)
            self._world.counted("foreign id used again")
        self._foreign[symbol] = [*given[-REMEMBERED:], order_id]
        self._world.checks.foreign.add(order_id)
        try:
            self._world.exchange.place(Terms(symbol, order_id, side, OrderType.LIMIT, TimeInForce.GTC, quantity, price))
        except VenueRefusalError:
            return
        self._world.counted("foreign order")

    def foreign_cancel(self, _life: Life) -> None:
        held = self._world.exchange.open_orders()
        if held:
            self._world.counted("foreign cancel")
            self._world.exchange.cancel(self.random.choice(held).terms.client_order_id)

    # parts

    @property
    def _session_id(self) -> str:
        return f"session-{self._session}"

    def new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"

    def _open(self) -> list[Known]:
        return self._world.checks.model.open_orders()

    def some_open(self) -> Known | None:
        found = self._open()
        return self.random.choice(found) if found else None

    def request(self, life: Life, strategy: str) -> OrderRequest:
        random = self.random
        symbols = ("BTCUSDT", "BTCUSDT", "ETHUSDT", "ETHBTC")
        # The maker's mandate isn't for the last of them, which it tries now and then.
        symbol = random.choice(symbols[:3] if strategy == "maker" and random.random() < 0.95 else symbols)
        item, quote = self._world.exchange.instruments[symbol], self._world.exchange.quotes[symbol]
        side = random.choice((Side.BUY, Side.SELL))
        lots = random.randint(2, 14) if random.random() < 0.7 else random.randint(1, 45)
        if random.random() < 0.15:
            market = OrderRequest(
                self.new_id("r"),
                documents.ACCOUNT,
                documents.VENUE,
                symbol,
                side,
                OrderType.MARKET,
                random.choice((TimeInForce.GTC, TimeInForce.IOC)),
                lots * item.lot_size,
                strategy_id=strategy,
            )
            return market
        # Mostly near the market, so that it rests there and is met.
        away = random.choice((-2, 0, 1, 1, 2, 3, 5, 9, 200)) * item.tick_size
        price = quote.bid - away if side is Side.BUY else quote.ask + away
        request = msgspec.structs.replace(self._limit(symbol, side, lots, max(1, price)), strategy_id=strategy)
        drawn = random.random()
        if drawn < 0.15:
            return msgspec.structs.replace(request, time_in_force=random.choice((TimeInForce.IOC, TimeInForce.FOK)))
        if drawn < 0.25:
            return msgspec.structs.replace(request, post_only=True)
        if drawn < 0.4:
            expires_ns = life.clock.now_ns() + random.randint(1_100, 6_000) * 1_000_000
            return msgspec.structs.replace(request, time_in_force=TimeInForce.GTD, expires_ns=expires_ns)
        if drawn < 0.5:
            return msgspec.structs.replace(request, reduce_only=True)
        return request

    def _limit(self, symbol: str, side: Side, lots: int, price: int) -> OrderRequest:
        item = self._world.exchange.instruments[symbol]
        return OrderRequest(
            self.new_id("r"),
            documents.ACCOUNT,
            documents.VENUE,
            symbol,
            side,
            OrderType.LIMIT,
            TimeInForce.GTC,
            lots * item.lot_size,
            price,
        )

    def conditional(self, request: OrderRequest) -> OrderRequest:
        """The same with a trigger a few ticks from the market, on either side of it."""
        random = self.random
        item, quote = self._world.exchange.instruments[request.symbol], self._world.exchange.quotes[request.symbol]
        kind = random.choice((OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT, OrderType.TRAILING_STOP))
        rises = (request.side is Side.BUY) is kind.is_stop
        level = quote.bid + (1 if rises else -1) * random.randint(1, 8) * item.tick_size
        is_trailing = kind is OrderType.TRAILING_STOP
        return msgspec.structs.replace(
            request,
            order_type=kind,
            time_in_force=TimeInForce.GTC,
            expires_ns=None,
            post_only=False,
            price=level if kind.has_limit_price else None,
            stop_price=None if is_trailing else level,
            trailing_offset_bps=random.randint(1, 4) if is_trailing else None,
        )

    def _submit_group(self, life: Life, request: GroupRequest, strategy: str) -> None:
        authority = MandateAuthority(self.mandate_id(strategy), strategy)
        first = OrderRole.ENTRY if OrderRole.ENTRY in request.orders else OrderRole.TAKE_PROFIT
        order_id = derived_order_id(requested_order_id(authority.mandate_id, request.request_id), first)

        def submit() -> Coroutine[Any, Any, ExecutionOutcomeView]:
            return life.service.submit_group(request, authority)

        self._groups = [*self._groups[-REMEMBERED:], (request, strategy)]
        self._spawn(life, self._answered(submit, order_id), f"{request.kind}")

    def _submit(self, life: Life, asked: Asked) -> None:
        request, strategy = asked
        content = b""
        if strategy:
            authority: Any = MandateAuthority(self.mandate_id(strategy), strategy)
            name = authority.mandate_id
        else:
            authority, content = documents.session_request(self._session_id, request)
            name = authority.session_id

        def submit() -> Coroutine[Any, Any, ExecutionOutcomeView]:
            return life.service.submit_order(request, authority, request_bytes=content)

        self._spawn(life, self._answered(submit, requested_order_id(name, request.request_id)), "order")

    async def _answered(self, ask: Callable[[], Coroutine[Any, Any, ExecutionOutcomeView]], order_id: str) -> None:
        """What was answered must be so, then and after any crash."""
        outcome = await ask()
        checks = self._world.checks
        if outcome.refusal is not None:
            self._world.counted(f"refused {outcome.refusal.code}")
        elif outcome.client_order_id != order_id:
            checks.fail(Invariant.INTENDED_ONCE, f"{outcome.client_order_id} was answered for {order_id}")
        elif order_id not in checks.model.orders:
            checks.fail(Invariant.DURABLE, f"{order_id} was answered for and isn't recorded")
        else:
            self._world.counted("order taken")

    async def _tighten(self, life: Life, state: KillSwitch, account_id: str) -> None:
        refusal = await life.service.set_kill_switch(state, documents.TRADER, "simulated", None, account_id)
        if refusal is None:
            self._world.counted(f"switch {state}")
            checks = self._world.checks
            checks.answered_switch = max(checks.answered_switch, state, key=TIGHTNESS.__getitem__)

    def _thaw(self, life: Life, account_id: str) -> None:
        body = {"state": "NORMAL", "account_id": account_id, "reason": "the drill is over"}
        self._administer(life, "thaw", body)

    def _administer(self, life: Life, kind: str, body: dict[str, str]) -> None:
        content, signatures = documents.administration(kind, self.new_id("doc"), body, life.clock.now_ns())
        self._spawn(life, self._administered(life, kind, content, signatures, body.get("account_id", "")), kind)

    async def _administered(
        self, life: Life, kind: str, content: bytes, signatures: list[tuple[str, bytes]], account_id: str
    ) -> None:
        checks = self._world.checks
        if kind == "thaw":
            # From here on the looser state may be in force before its answer is.
            checks.answered_switch = "NORMAL"
        refusal = await life.service.administer(content, signatures)
        self._world.counted(f"{kind} {'taken' if refusal is None else refusal.code}")
        if kind == "thaw" and refusal is not None and refusal.code in THAW_AGAIN:
            # A restart doesn't loosen the switch: whoever wants it loose has to ask again.
            self.thaw_later(account_id)

    def _spawn(self, life: Life, work: Coroutine[Any, Any, Any], name: str) -> None:
        self._world.told(f"ask {name}")
        life.spawn(work, name)


Action = Callable[[Workload, Life], None]
ACTIONS: tuple[tuple[Action, Callable[[Workload], float]], ...] = (
    (Workload.order, lambda _self: 1.0),
    (Workload.burst, lambda _self: 0.04),
    (Workload.repeat, lambda self: self._plan.repeats),
    (Workload.cross, lambda _self: 0.08),
    (Workload.held, lambda self: self._plan.held),
    (Workload.group, lambda self: self._plan.groups),
    (Workload.cancel, lambda _self: 0.2),
    (Workload.cancel_all, lambda _self: 0.03),
    (Workload.amend, lambda _self: 0.15),
    (Workload.session, lambda _self: 0.02),
    (Workload.snapshot, lambda _self: 0.04),
    (Workload.renew, lambda self: self._plan.renewals),
    (Workload.foreign_order, lambda self: self._plan.foreign_orders),
    (Workload.foreign_cancel, lambda self: self._plan.foreign_cancels),
    (Workload.propose, lambda self: self._plan.approvals),
    (Workload.take_back, lambda self: self._plan.voids if self._plan.approvals else 0.0),
)
THAW_AGAIN = frozenset({ReasonCode.SERVICE_JOURNAL_UNAVAILABLE, ReasonCode.AUTHORITY_DOCUMENT_REPLAYED})
DEADLY: tuple[Action, ...] = (Workload.cancel, Workload.cancel_all, Workload.amend)
"""What a kill that waits for an action is most curious about."""
