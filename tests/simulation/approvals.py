"""What people approve, edit and take back, of every kind, and what has to follow of each answer."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from core.authority.proposal import kind_of
from core.types.clock import NS_PER_S
from core.types.orders import OrderRequest, OrderRole, OrderType, TimeInForce, client_order_id, derived_order_id
from core.types.views import ExecutionOutcomeView
from tests.simulation import documents, proposals
from tests.simulation.invariants import Invariant
from tests.simulation.machine import Life
from tests.simulation.model import MANDATE_LIMITS, TIGHTNESS, Known
from tests.simulation.proposals import Signed

if TYPE_CHECKING:
    from tests.simulation.workload import Workload
    from tests.simulation.world import World

REMEMBERED = 12
"""How many approvals somebody may hand in again, edit or make void."""


class Approvals:
    """Draws from the workload's own stream."""

    def __init__(self, workload: Workload, world: World) -> None:
        self._workload = workload
        self._world = world
        self._random = workload.random
        self.signed: list[Signed] = []

    def propose(self, life: Life) -> None:
        """Something is proposed and signed; mostly it is handed in at once, now and then twice, or only later."""
        kind = self._random.choices(KINDS, [weight for _, weight in KINDS])[0][0]
        signed = kind(self, life)
        if signed is None:
            return
        self._remember(signed)
        drawn = self._random.random()
        for _ in range(1 if drawn < 0.7 else 2 if drawn < 0.85 else 0):
            self.hand_in(life, signed)

    def take_back(self, life: Life) -> None:
        """Somebody rejects a version or edits it, while others may be handing it in."""
        consumed = self._world.checks.model.consumed
        unused = [signed for signed in self.signed if signed.suggestion_id not in consumed]
        # Mostly of what can still be used.
        choice = unused if unused and self._random.random() < 0.8 else self.signed
        if not choice:
            return
        signed = self._random.choice(choice)
        life.spawn(self._void(life, signed), "void")
        if self._random.random() < 0.4:
            self.hand_in(life, signed)
        if self._random.random() < 0.5:
            edited = proposals.edited(signed, life.clock.now_ns())
            self._remember(edited)
            if self._random.random() < 0.6:
                self.hand_in(life, edited)

    def simple(self, life: Life, request: OrderRequest) -> None:
        """A plain order in the first schema."""
        if request.time_in_force is TimeInForce.GTD:
            request = msgspec.structs.replace(request, time_in_force=TimeInForce.GTC, expires_ns=None)
        item = self._world.exchange.instruments[request.symbol]
        content = documents.proposed_order(request, self._mid(request.symbol), item, life.clock.now_ns())
        signed = proposals.signed(content)
        self._remember(signed)
        self.hand_in(life, signed)

    def hand_in(self, life: Life, signed: Signed) -> None:
        self._world.told(f"ask approval {signed.suggestion_id} {signed.version}")
        if kind_of(signed.proposal.schema) == "kill_switch":
            # Somebody thaws it after a while.
            is_own = signed.proposal.scope == "account"  # type: ignore[attr-defined]
            self._workload.thaw_later(documents.ACCOUNT if is_own else "")
        life.spawn(self._executed(life, signed), "approval")

    # one of each kind

    def _order(self, life: Life) -> Signed | None:
        request = self._workload.request(life, "")
        return self._proposed_order(life, request)

    def _held(self, life: Life) -> Signed | None:
        return self._proposed_order(life, self._workload.conditional(self._workload.request(life, "")))

    def _proposed_order(self, life: Life, request: OrderRequest) -> Signed:
        item, mid = self._world.exchange.instruments[request.symbol], self._mid(request.symbol)
        return proposals.order(request.request_id, request, mid, item, life.clock.now_ns())

    def _bracket(self, life: Life) -> Signed | None:
        legs = self._workload.legs("", is_bracket=True)
        symbol = legs[OrderRole.ENTRY].symbol
        item, suggestion_id = self._world.exchange.instruments[symbol], self._workload.new_id("s")
        return proposals.bracket(suggestion_id, legs, self._mid(symbol), item, life.clock.now_ns())

    def _cancel(self, life: Life) -> Signed | None:
        known = self._workload.some_open()
        if known is None:
            return None
        item = self._world.exchange.instruments[known.intent.symbol]
        return proposals.cancel(self._workload.new_id("s"), self._as_shown(known), item, life.clock.now_ns())

    def _amend(self, life: Life) -> Signed | None:
        known = self._workload.some_open()
        if known is None or known.price is None or known.intent.order_type is not OrderType.LIMIT:
            return None
        symbol = known.intent.symbol
        item = self._world.exchange.instruments[symbol]
        lots = known.quantity // item.lot_size
        quantity = self._random.randint(1, max(1, lots * 2 if self._world.plan.amends_prices else lots)) * item.lot_size
        price = known.price
        if self._random.random() < 0.4:
            price += self._random.choice((-3, -1, 1, 2)) * item.tick_size
        if (quantity, price) == (known.quantity, known.price):
            return None
        suggestion_id, now_ns = self._workload.new_id("s"), life.clock.now_ns()
        shown = self._as_shown(known)
        return proposals.amend(suggestion_id, shown, quantity, price, self._mid(symbol), item, now_ns)

    def _as_shown(self, known: Known) -> Known:
        """Mostly as it is. Whoever suggests may be wrong about it, or lie."""
        if self._random.random() < 0.85 or known.price is None:
            return known
        tick = self._world.exchange.instruments[known.intent.symbol].tick_size
        return msgspec.structs.replace(known, price=known.price + tick)

    def _kill_switch(self, life: Life) -> Signed | None:
        scope = self._random.choice(("account", "engine"))
        state = self._random.choice(("REDUCE_ONLY", "CANCEL_ONLY", "HALTED"))
        return proposals.kill_switch(self._workload.new_id("s"), scope, state, life.clock.now_ns())

    def _strategy_change(self, life: Life) -> Signed | None:
        """A mandate that ended, or got narrow, is followed by another, after a while."""
        strategy = self._random.choice(documents.STRATEGIES)
        mandate_id = self._workload.mandate_id(strategy)
        mandate = self._world.checks.model.mandates.get(mandate_id)
        if mandate is None:
            return None
        shown = {name: getattr(mandate.terms, name) for name in MANDATE_LIMITS}
        wanted: dict[str, str] = {}
        if self._random.random() < 0.6:
            percent = self._random.choice((20, 50, 80))
            wanted = {name: str(max(1, int(Decimal(text)) * percent // 100)) for name, text in shown.items()}
            if wanted == shown:
                return None
        if not wanted or self._random.random() < 0.5:
            self._world.scheduler.after(
                self._random.randint(1, 3) * NS_PER_S,
                lambda: self._world.with_engine(lambda now: self._workload.renew_mandate(now, strategy, mandate_id)),
            )
        suggestion_id, now_ns = self._workload.new_id("s"), life.clock.now_ns()
        return proposals.strategy_change(suggestion_id, mandate_id, strategy, shown, wanted, now_ns)

    # answers

    async def _executed(self, life: Life, signed: Signed) -> None:
        """What was answered must be so, then and after any crash."""
        checks = self._world.checks
        checks.signed[signed.digest] = signed.content
        outcome = await life.service.execute_approval(signed.content, signed.digest, list(signed.signatures), None)
        if outcome.consumed:
            checks.on_used(signed.suggestion_id, signed.version, outcome.journal_sequence)
        kind = kind_of(signed.proposal.schema)
        if outcome.refusal is not None:
            self._world.counted(f"refused {outcome.refusal.code}")
            return
        self._world.counted(f"approved {kind}")
        if kind == "kill_switch":
            state = signed.proposal.state  # type: ignore[attr-defined]
            checks.answered_switch = max(checks.answered_switch, state, key=TIGHTNESS.__getitem__)
        self._about(signed, kind, outcome)

    def _about(self, signed: Signed, kind: str, outcome: ExecutionOutcomeView) -> None:
        """The answer names the order, and that one is recorded."""
        checks, order_id = self._world.checks, outcome.client_order_id
        named = client_order_id(signed.digest)
        expected: set[str | None] = {None}
        match kind:
            case "order":
                expected = {named}
            case "bracket":
                expected = {derived_order_id(named, OrderRole.ENTRY)}
            case "cancel" | "amend":
                subject = signed.proposal.client_order_id  # type: ignore[attr-defined]
                expected = {subject, *checks.model.replacements_of(subject)}
        if order_id not in expected:
            checks.fail(Invariant.INTENDED_ONCE, f"{order_id} was answered for {sorted(map(str, expected))}")
        elif order_id is not None and order_id not in checks.model.orders:
            checks.fail(Invariant.DURABLE, f"{order_id} was answered for and isn't recorded")
        elif kind in {"order", "bracket"}:
            self._world.counted("order taken")

    async def _void(self, life: Life, signed: Signed) -> None:
        self._world.told(f"ask void {signed.suggestion_id} {signed.version}")
        refusal = await life.service.void_approval(
            signed.suggestion_id,
            signed.version,
            account_id=documents.ACCOUNT,
            requested_by=documents.APPROVER,
            reason="simulated",
            trace=None,
        )
        self._world.counted("void taken" if refusal is None else f"void refused {refusal.code}")
        if refusal is None and self._world.checks.model.voided.get(signed.suggestion_id, 0) < signed.version:
            self._world.checks.fail(Invariant.DURABLE, f"{signed.suggestion_id} was told to be void and isn't recorded")

    # parts

    def _remember(self, signed: Signed) -> None:
        self.signed = [*self.signed[-REMEMBERED:], signed]

    def _mid(self, symbol: str) -> Decimal:
        quote = self._world.exchange.quotes[symbol]
        return (Decimal(quote.bid + quote.ask) / 2).scaleb(-self._world.exchange.instruments[symbol].price_scale)


KINDS: tuple[tuple[Callable[[Approvals, Life], Signed | None], float], ...] = (
    (Approvals._order, 0.5),
    (Approvals._held, 1.5),
    (Approvals._bracket, 2.0),
    (Approvals._cancel, 1.5),
    (Approvals._amend, 1.5),
    (Approvals._kill_switch, 0.15),
    (Approvals._strategy_change, 0.4),
)
