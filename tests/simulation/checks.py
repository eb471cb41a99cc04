"""The invariants, each a checker with a name, held against the venue's truth and the model after every event.

A checker that fails says so through `broken`; the run ends at the next step with the seed, the step and what came last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec

from core.kernel.kernel import Kernel
from core.types.authority import ApprovalAuthority, DerivedAuthority, MandateAuthority, SessionAuthority
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    JournalEvent,
    KillSwitchChanged,
    MarketInputs,
    OrderAccepted,
    OrderAdopted,
    OrderAmendRequested,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    OrderTriggered,
    decode_event,
)
from core.types.orders import OrderIntent, OrderType, Side
from tests.core.storage.faults import MemoryDisk
from tests.simulation.approved import approval_problem
from tests.simulation.brief import brief
from tests.simulation.exchange import LEVEL_QUANTITY, Exchange, Held
from tests.simulation.feed import Feed
from tests.simulation.invariants import Broken, Invariant
from tests.simulation.machine import Life, Machine
from tests.simulation.model import ITEMS, TIGHTNESS, Known, Model, rate_of, terms_of, within

BALANCE_CHECK = "RISK_BALANCE_INSUFFICIENT"
NO_BALANCE = "insufficient balance"


class Checks:
    """Watches one seed. The first invariant that breaks is kept."""

    def __init__(self, exchange: Exchange, disk: MemoryDisk, feed: Feed) -> None:
        self.model = Model()
        self.broken: Broken | None = None
        self.counted: Callable[[str], None] = lambda _what: None
        self.told: Callable[[str], None] = lambda _what: None
        self.answered_switch = "NORMAL"
        self.sequence = 0
        self.foreign: set[str] = set()
        self._renewals_ns = [0]
        self._earlier_renewals_ns: list[int] = []
        self._owed_switches: list[KillSwitchChanged] = []
        self.signed: dict[str, bytes] = {}
        self._used: dict[str, int | None] = {}
        self._covered: set[str] = set()
        self._hash_hex = ""
        self._exchange = exchange
        self._disk = disk
        self._feed = feed
        self._sent: dict[str, int] = {}
        self._seen_trades: set[int] = set()
        self._trades: dict[int, Any] = {}
        self._digests: dict[int, str] = {}

    def fail(self, invariant: Invariant, detail: str) -> None:
        if self.broken is None:
            self.broken = Broken(invariant, detail)

    # what the engine does

    def on_published(self, payload: bytes) -> None:
        entry = msgspec.json.decode(payload, type=_Published)
        self._take(entry.sequence, entry.hash_hex, bytes(entry.event))

    def on_begun(self, life: Life) -> None:
        """A life has recovered: what was durable and not heard of is taken in, what was heard of must be there."""
        journal, kernel = life.journal, life.kernel
        whole = Kernel()
        last_hash = ""
        unheard = []
        for entry in journal.entries():
            whole.apply(entry.event())
            if entry.sequence == self.sequence:
                last_hash = entry.hash_hex
            elif entry.sequence > self.sequence:
                unheard.append(entry)
            expected = self._digests.get(entry.sequence)
            if expected is not None and whole.state_digest() != expected:
                self.fail(Invariant.REPLAY, f"at record {entry.sequence} the engine had another state than its journal")
        if self.sequence and last_hash != self._hash_hex:
            self.fail(
                Invariant.DURABLE,
                f"record {self.sequence} was told of and is gone; the journal ends at {whole.sequence}",
            )
        if kernel.state_digest() != whole.state_digest():
            self.fail(Invariant.REPLAY, f"recovery and a replay of all {whole.sequence} records differ")
        if not _counts_all(kernel, whole):
            self.fail(Invariant.REPLAY, "recovery forgets orders that a replay of the whole counts")
        self._digests.clear()
        for entry in unheard:
            self.counted("durable and never told")
            self._take(entry.sequence, entry.hash_hex, entry.payload)
        self._owed(life.machine)
        # Its timer begins with it, by the clock that it has now, which may lie before that of the life before.
        self._earlier_renewals_ns += self._renewals_ns
        self._renewals_ns.clear()
        self.renewed(life.clock.now_ns())

    def _owed(self, machine: Machine) -> None:
        """What only reduces went ahead without its record: a kill doesn't lose it, a power cut may."""
        lost, machine.owed_was_lost = machine.owed_was_lost, False
        kept = {getattr(event, "suggestion_id", "") for event in (machine.owed or (0, ()))[1]}
        for name in [
            name for name, at in self._used.items() if at is None and name not in {*self.model.consumed, *kept}
        ]:
            if not lost:
                self.fail(Invariant.DURABLE, f"that approval {name} was used is forgotten")
            self.counted("use of an approval forgotten")
            del self._used[name]
        if lost:
            self.answered_switch = "NORMAL"
        owed = (machine.owed or (0, ()))[1]
        self._owed_switches = [event for event in owed if isinstance(event, KillSwitchChanged)]

    def renewed(self, now_ns: int) -> None:
        """The dead man's timer, by the engine's clock."""
        self._renewals_ns.append(now_ns)

    def on_idle(self, life: Life) -> None:
        """Between two steps, nothing on its way to the disk."""
        kernel = life.kernel
        if kernel.sequence == self.sequence and kernel.sequence not in self._digests:
            self._digests[kernel.sequence] = kernel.state_digest()

    def on_submit(self, intent: OrderIntent, kernel_position: int) -> None:
        """A submit is leaving."""
        order_id = intent.client_order_id
        self._sent[order_id] = self._sent.get(order_id, 0) + 1
        if self._sent[order_id] > 1:
            self.fail(Invariant.SUBMITTED_ONCE, f"{order_id} was sent {self._sent[order_id]} times")
        if not self._disk.is_durable("journal", order_id.encode()):
            self.fail(Invariant.WRITTEN_AHEAD, f"{order_id} left and isn't in the durable part of the journal")
        known = self.model.orders.get(order_id)
        if known is None or known.intent != intent or known.status != "INTENDED":
            self.fail(Invariant.WRITTEN_AHEAD, f"{order_id} left otherwise than it was recorded")
        elif known.group_id is not None or known.replaces is not None:
            self._alone(order_id, known)
        switch = max(self.model.effective_switch, self.answered_switch, key=TIGHTNESS.__getitem__)
        held = {self.model.positions[intent.symbol], kernel_position}
        if not _is_let_through(switch, intent, held):
            self.fail(Invariant.KILL_SWITCH, f"{order_id} left while the switch is {switch}")

    def on_amend(self, order_id: str, quantity: int, price: int | None) -> None:
        """An amendment is leaving."""
        of_this_id = (known for name, known in self.model.orders.items() if given_id(name) == order_id)
        known = next((known for known in of_this_id if known.amend_to_leave is not None), None)
        if known is None:
            self.fail(Invariant.AMENDED_ONCE, f"{order_id} is amended again, or without its record")
        elif known.amend_to_leave != (quantity, price):
            recorded = known.amend_to_leave
            self.fail(Invariant.AMENDED_ONCE, f"{order_id} is amended to {quantity}@{price}, recorded is {recorded}")
        else:
            known.amend_to_leave = None

    def on_used(self, suggestion_id: str, version: int, sequence: int | None) -> None:
        """The engine says that it has used an approval; sequence is that of its record, None while there is none."""
        if suggestion_id in self._used:
            self.fail(Invariant.INTENDED_ONCE, f"approval {suggestion_id} was answered as used once more")
        if version <= self.model.voided.get(suggestion_id, 0):
            self.fail(Invariant.VOIDED, f"{suggestion_id} version {version} was void, and is answered as used")
        self._used[suggestion_id] = sequence

    def _alone(self, order_id: str, known: Known) -> None:
        """Of orders that take each other's place one at a time is at the venue."""
        others = [] if known.replaces is None else [known.replaces]
        if known.role != "entry":
            others += self.model.groups[known.group_id or ""]
        for other_id in others:
            held = self._held(other_id)
            if other_id != order_id and held is not None and held.is_open:
                self.fail(Invariant.GROUPS, f"{order_id} left while {other_id}, whose place it takes, is {held.status}")

    # what is durable

    def _take(self, sequence: int, hash_hex: str, payload: bytes) -> None:
        if sequence != self.sequence + 1:
            self.fail(Invariant.DURABLE, f"record {sequence} was told of after {self.sequence}")
        self.sequence, self._hash_hex = sequence, hash_hex
        event = decode_event(payload)
        self.told(f"{sequence} {brief(event)}")
        self.counted(f"event {type(event).__struct_config__.tag}")
        self._taken(event)
        if isinstance(event, ApprovalDecided):
            for caused in event.caused:
                self.counted(f"caused {type(caused).__struct_config__.tag}")
                self._taken(caused)
        if isinstance(event, OrderFilled):
            self._group_filled(self.model.orders[event.client_order_id])
            held = self.model.positions[event.symbol]
            if event.position.quantity != held:
                self.fail(Invariant.POSITIONS, f"{event.symbol}: {event.position.quantity}, fills add up to {held}")

    def _taken(self, event: JournalEvent) -> None:
        try:
            self._judge(event)
        finally:
            self.model.take(event)

    def _judge(self, event: JournalEvent) -> None:
        match event:
            case OrderIntended():
                self._asked(event)
            case OrderTriggered():
                intent = self.model.orders[event.client_order_id].let_go()
                self._leaving(event, intent)
            case ApprovalDecided():
                self._approved(event)
            # Once it has expired, the engine needn't know any more that it was used.
            case ApprovalVoided() if event.ts_ns < self.model.consumed.get(event.suggestion_id, 0):
                self.fail(Invariant.VOIDED, f"{event.suggestion_id} was made void, and was used before")
            case OrderAmendRequested():
                self._amended(event)
            case OrderFilled():
                self._filled(event)
            case OrderAdopted():
                if given_id(event.intent.client_order_id) not in self.foreign:
                    self.fail(Invariant.TRUTH, f"{event.intent.client_order_id} was adopted and is our own")
            case OrderAccepted() | OrderRejected() | OrderClosed():
                self._told_of(event)
            case KillSwitchChanged(state="HALTED", requested_by=by) if by.startswith("engine:"):
                self._halted_itself(event)

    def _approved(self, event: ApprovalDecided) -> None:
        name, model = event.suggestion_id, self.model
        if name in model.consumed:
            self.fail(Invariant.INTENDED_ONCE, f"approval {name} was consumed again")
        if event.version <= model.voided.get(name, 0):
            self.fail(Invariant.VOIDED, f"{name} version {event.version} was used; up to {model.voided[name]} is void")
        problem = approval_problem(event, model)
        if self.signed.get(event.digest_hex) != event.proposal.encode():
            problem = "nobody signed this text under this digest"
        if problem is not None:
            self.fail(Invariant.APPROVED, f"{name} version {event.version}: {problem}")
        if event.intent is not None:
            self._new(event.intent)
            self._leaving(event, event.intent)

    def _held(self, order_id: str) -> Held | None:
        known = self.model.orders.get(order_id)
        return self._exchange.held_as(order_id, None if known is None else known.venue_order_id)

    def _halted_itself(self, event: KillSwitchChanged) -> None:
        """Which it may when nobody renewed its timer, and not because of what the venue told it. It may have done so in
        an earlier life, which died before it was recorded."""
        timer_s = self.model.rules["global"]["dead_mans_timer_s"]
        renewals_ns = self._earlier_renewals_ns if event in self._owed_switches else self._renewals_ns
        renewed_ns = [0, *[at_ns for at_ns in renewals_ns if at_ns <= event.ts_ns]][-1]
        if timer_s == "off" or event.ts_ns < renewed_ns + timer_s * 1_000_000_000:
            self.fail(Invariant.ALIVE, f"the engine halted itself: {event.reason}")
        self.counted("the dead man's timer ran out")

    def _told_of(self, event: OrderAccepted | OrderRejected | OrderClosed) -> None:
        """What is said of an order is what the venue would say."""
        order_id = event.client_order_id
        held = self._held(order_id)
        there = "unknown" if held is None else held.status
        match event:
            case OrderAccepted() if held is None or held.venue_order_id != event.venue_order_id:
                self.fail(Invariant.TRUTH, f"{order_id} is accepted here as {event.venue_order_id} and {there} there")
            case OrderRejected() if (
                order_id in self._covered and not self.foreign and NO_BALANCE in event.refusal.message
            ):
                self.fail(Invariant.LIMITS, f"{order_id} was let through beyond what the account holds")
            case OrderRejected() if held is not None:
                self.fail(Invariant.RESOLVED, f"{order_id} is rejected here ({event.refusal.code}) and {there} there")
            case OrderClosed() if self.model.orders[order_id].is_held and held is None:
                return
            case OrderClosed() if held is None or held.status is not event.status:
                self.fail(Invariant.TRUTH, f"{order_id} is {event.status} here and {there} there")

    # orders

    def _new(self, intent: OrderIntent) -> None:
        if intent.client_order_id in self.model.orders:
            self.fail(Invariant.INTENDED_ONCE, f"{intent.client_order_id} was intended again")

    def _asked(self, event: OrderIntended) -> None:
        """An order that goes out at once is held to everything; one that waits, to what holds for its asker."""
        self._new(event.intent)
        if isinstance(event.authority, DerivedAuthority):
            if event.authority.parent_id not in self.model.orders or not event.is_held:
                self.fail(Invariant.AUTHORITY, f"{event.intent.client_order_id} derives from nothing, or doesn't wait")
            return
        self._authorised(event)
        if not event.is_held:
            self._leaving(event, event.intent)
        elif event.replaces is None:
            self._switched(event.intent)
            self._thawed(event.intent)

    def _leaving(self, event: OrderIntended | ApprovalDecided | OrderTriggered, intent: OrderIntent) -> None:
        model, order_id, ts_ns, market = self.model, intent.client_order_id, event.ts_ns, event.market
        if not any(check.name == BALANCE_CHECK for check in event.checks):
            # What the account holds wasn't known: this one may take what others were promised.
            self._covered.clear()
        elif intent.price is not None and not self.foreign:
            # Nobody else draws on the account, and the price is the order's own: what was checked is enough.
            self._covered.add(order_id)
        self._switched(intent)
        opened = len(model.live_orders()) + 1
        if opened > model.limits(intent, "max_open_orders"):
            self.fail(Invariant.LIMITS, f"{order_id} is open order number {opened}")
        for key, count, window_ms in model.rates(intent, "order_rate"):
            counted = within(model.order_times[key], ts_ns, window_ms) + 1
            if counted > count:
                self.fail(Invariant.RATES, f"{order_id} is number {counted} of {key} within {window_ms} ms, of {count}")
        for key, count, window_ms in model.rates(intent, "repeated_intent"):
            counted = within(model.repeats[terms_of(intent)], ts_ns, window_ms) + 1
            if counted > count:
                self.fail(Invariant.RATES, f"{order_id} repeats itself for the {counted}th time ({key})")
        if any(o.status == "UNKNOWN" and _same_side(o, intent) for o in model.live_orders()):
            self.fail(Invariant.RESOLVED, f"{order_id} was let through beside one of which nothing is known")
        self._measured(intent, ts_ns, market, None)

    def _amended(self, event: OrderAmendRequested) -> None:
        model = self.model
        known = model.orders[event.client_order_id]
        rest = msgspec.structs.replace(
            known.intent,
            quantity=event.quantity - known.filled,
            price=known.price if event.price is None else event.price,
        )
        if not any(check.name == BALANCE_CHECK for check in event.checks):
            self._covered.clear()
        lowers = event.quantity < known.quantity and rest.price == known.price
        if not (lowers and model.effective_switch == "REDUCE_ONLY"):
            self._switched(rest)
        for key, count, window_ms in model.rates(known.intent, "amend_rate"):
            counted = within(model.amend_times[key], event.ts_ns, window_ms) + 1
            if counted > count:
                self.fail(Invariant.RATES, f"amendment number {counted} of {key} within {window_ms} ms, of {count}")
        self._measured(rest, event.ts_ns, event.market, event.client_order_id)

    def _switched(self, intent: OrderIntent) -> None:
        switch = self.model.effective_switch
        if not _is_let_through(switch, intent, {self.model.positions[intent.symbol]}):
            self.fail(Invariant.KILL_SWITCH, f"{intent.client_order_id} was let through while the switch is {switch}")

    def _thawed(self, intent: OrderIntent) -> None:
        if self.model.frozen:
            self.fail(Invariant.FROZEN, f"{intent.client_order_id} was let through while the account is frozen")

    def _measured(self, intent: OrderIntent, ts_ns: int, market: MarketInputs, replaces: str | None) -> None:
        """The limits that go by prices: for one of the moments that have the event's time."""
        self._thawed(intent)
        model, order_id, item = self.model, intent.client_order_id, ITEMS[intent.symbol]
        if Fraction(intent.quantity, 10**item.quantity_scale) > model.limits(intent, "max_quantity_per_order"):
            self.fail(Invariant.LIMITS, f"{order_id} is larger than an order may be")
        if market.mid_price is None or market.bid_price is None or market.ask_price is None:
            self.fail(Invariant.LIMITS, f"{order_id} was let through without a verified book")
            return
        price = _valued_at(intent, market)
        mid = Fraction(market.mid_price)
        if abs(price - mid) / mid * 10_000 > model.limits(intent, "price_collar_bps"):
            self.fail(Invariant.LIMITS, f"{order_id} at {price} is too far from the mid {mid}")
        self._against_own(intent, price, replaces)
        problems = [self._beyond(intent, price, mids, replaces) for mids in self._mids_at(ts_ns)]
        if problems and all(problems):
            self.fail(Invariant.LIMITS, f"{order_id}: {problems[0]}")

    def _against_own(self, intent: OrderIntent, price: Fraction, replaces: str | None) -> None:
        scale = 10 ** ITEMS[intent.symbol].price_scale
        for other in self.model.live_orders():
            own = other.intent
            if own.symbol != intent.symbol or own.side is intent.side or own.client_order_id == replaces:
                continue
            for resting in (Fraction(price_of_it, scale) for price_of_it in other.prices()):
                if price >= resting if intent.side is Side.BUY else price <= resting:
                    self.fail(Invariant.SELF_TRADE, f"{intent.client_order_id} at {price} meets {own.client_order_id}")

    def _beyond(self, intent: OrderIntent, price: Fraction, mids: dict[str, int], replaces: str | None) -> str:
        """The limit that the order breaks at these prices; empty when none."""
        model, item = self.model, ITEMS[intent.symbol]
        worth = price * intent.quantity / 10**item.quantity_scale * rate_of(item.quote_asset, mids)
        if worth > model.limits(intent, "max_notional_per_order_quote"):
            return f"it is worth {float(worth):.2f}"
        nothing = msgspec.structs.replace(intent, quantity=0)
        before, after = model.exposure(mids, nothing, None), model.exposure(mids, intent, replaces)
        for name, was, would_be in zip(
            ("position_notional", "gross_exposure", "net_exposure"), before, after, strict=True
        ):
            if would_be > max(was, model.limits(intent, f"max_{name}_quote")):
                return f"{name} would be {float(would_be):.2f}"
        if model.equity is None:
            return "the account was never valued"
        equity = Fraction(model.equity.equity)
        # Four places, rounded up, are what the limit is compared with.
        if after[1] / equity > model.limits(intent, "max_leverage") and after[1] > before[1]:
            return f"leverage would be {float(after[1] / equity):.4f}"
        return ""

    def _mids_at(self, ts_ns: int) -> list[dict[str, int]]:
        history = self._feed.mids
        found = []
        for index in range(len(history) - 1, -1, -1):
            at_ns, mids = history[index]
            if at_ns > ts_ns:
                continue
            found.append(mids)
            if at_ns < ts_ns:
                break
        return found

    def _authorised(self, event: OrderIntended) -> None:
        model, intent = self.model, event.intent
        worth = Fraction(event.notional_quote)
        # What replaces another takes only what is more.
        before = Fraction(0) if event.replaces is None else model.orders[event.replaces].notional
        notional, orders = max(Fraction(0), worth - before), 0 if event.replaces else 1
        match event.authority:
            case SessionAuthority(session_id=name):
                allowance = model.sessions.get(name)
                most = None if allowance is None else int(allowance.terms.max_orders)
            case MandateAuthority(mandate_id=name):
                allowance = model.mandates.get(name)
                most = None
            case ApprovalAuthority(suggestion_id=name) if name in model.consumed:
                # What it says was compared as it was used.
                return
            case _:
                self.fail(Invariant.AUTHORITY, f"{intent.client_order_id} has no authority to be asked for")
                return
        if allowance is None or allowance.is_over or event.ts_ns >= int(allowance.terms.expires_at_ns):
            self.fail(Invariant.AUTHORITY, f"{intent.client_order_id} was asked for under {name}, which doesn't hold")
            return
        if notional > Fraction(allowance.terms.max_order_notional_quote):
            self.fail(
                Invariant.AUTHORITY, f"{intent.client_order_id} is worth {float(notional):.2f}, more than {name} may"
            )
        if allowance.total + notional > Fraction(allowance.terms.max_total_notional_quote):
            self.fail(Invariant.AUTHORITY, f"{intent.client_order_id}: all orders of {name} are worth too much")
        if most is not None and allowance.orders + orders > most:
            self.fail(Invariant.AUTHORITY, f"{intent.client_order_id} is order {allowance.orders + 1} of {name}")

    # fills

    def _filled(self, event: OrderFilled) -> None:
        trades = self._trades
        for trade in self._exchange.trades[len(trades) :]:
            trades[trade.trade_id] = trade
        trade = trades.get(event.trade_id)
        if event.trade_id in self._seen_trades:
            self.fail(Invariant.FILLS, f"trade {event.trade_id} is filled twice")
        self._seen_trades.add(event.trade_id)
        stated = (given_id(event.client_order_id), event.symbol, event.side, event.price, event.quantity)
        true = None
        if trade is not None:
            true = (trade.client_order_id, trade.symbol, trade.side, trade.price, trade.quantity)
        if stated != true or Fraction(event.fee) != Fraction(trade.fee):
            self.fail(Invariant.FILLS, f"trade {event.trade_id} is {stated} here and {true} at the venue")

    def _group_filled(self, order: Known) -> None:
        """The exits of a bracket never leave more than was entered; an order and what replaces it never fill twice."""
        members = [self.model.orders[order_id] for order_id in self.model.groups.get(order.group_id or "", ())]
        entered = sum(member.filled for member in members if member.role == "entry")
        left = sum(member.filled for member in members if member.role != "entry")
        if any(member.role == "entry" for member in members):
            if left > entered:
                self.fail(Invariant.GROUPS, f"group {order.group_id}: {left} left of a position of {entered}")
        elif members and not any(member.replaces for member in members):
            whole = max(member.most for member in members)
            if left > whole:
                self.fail(Invariant.GROUPS, f"group {order.group_id}: {left} filled of {whole}")
        old = self.model.orders.get(order.replaces or "")
        if old is not None and order.filled > 0 and old.is_open:
            self.fail(Invariant.GROUPS, f"{order.intent.client_order_id} is filled while what it replaces is open")

    # at rest

    def unsettled(self, life: Life | None) -> Broken | None:
        """What isn't as it must be once every fault has healed and time has passed; None when all is well."""
        model = self.model
        if life is None or not life.is_serving or not life.service.surroundings.venue_connected:
            return Broken(Invariant.ALIVE, "the engine isn't up and connected")
        for order_id, known in model.orders.items():
            problem = self._order_at_rest(order_id, known)
            if problem is not None:
                return problem
        adopted = {known.venue_order_id for known in model.orders.values()}
        for held in self._exchange.history:
            is_known = held.venue_order_id in adopted
            if held.terms.client_order_id not in self.foreign:
                is_known = held.terms.client_order_id in model.orders
            if not is_known and (held.is_open or held.trades):
                return Broken(
                    Invariant.TRUTH, f"{held.terms.client_order_id} is {held.status} at the venue, unknown here"
                )
        return self._sums_at_rest(life) or self._frozen_at_rest()

    def _order_at_rest(self, order_id: str, known: Known) -> Broken | None:
        if known.status in {"INTENDED", "UNKNOWN"} or known.pending is not None:
            return Broken(Invariant.RESOLVED, f"{order_id} is still {known.status}, amending: {known.pending}")
        held = self._held(order_id)
        if known.is_held and (known.cancel_requested or model_is_halted(self.model) or self._is_pointless(known)):
            return Broken(Invariant.CANCELLED, f"{order_id} is still held")
        if held is None and (known.is_held or known.status == "CANCELED"):
            # It ended, or waits, without the venue's ever knowing.
            return None
        if held is None:
            if known.status != "REJECTED":
                return Broken(Invariant.TRUTH, f"{order_id} is {known.status} here and never reached the venue")
            return None
        if known.is_open and (known.cancel_requested or model_is_halted(self.model)):
            return Broken(Invariant.CANCELLED, f"{order_id} is still {known.status}")
        other_terms = known.is_open and held.terms.quantity != known.quantity
        if str(held.status) != known.status or held.filled != known.filled or other_terms:
            return Broken(
                Invariant.TRUTH,
                f"{order_id}: {known.status} {known.filled}/{known.quantity} here, {held.status} "
                f"{held.filled}/{held.terms.quantity} at the venue",
            )
        if sorted(known.trades) != [trade.trade_id for trade in held.trades]:
            return Broken(Invariant.FILLS, f"{order_id}: fills {known.trades}, at the venue {len(held.trades)}")
        return None

    def _is_pointless(self, known: Known) -> bool:
        """Whether a held order's entry ended without a fill, or another leg has done the whole of its work."""
        members = [self.model.orders[order_id] for order_id in self.model.groups.get(known.group_id or "", ())]
        entries = [member for member in members if member.role == "entry"]
        if known.role == "entry" or not members or any(entry.is_open for entry in entries):
            return False
        done = sum(member.filled for member in members if member.role != "entry")
        entered = sum(entry.filled for entry in entries) if entries else max(m.most for m in members)
        return done >= entered and not any(member.replaces for member in members)

    def _sums_at_rest(self, life: Life) -> Broken | None:
        for symbol in ITEMS:
            true = sum(
                trade.quantity if trade.side is Side.BUY else -trade.quantity
                for trade in self._exchange.trades
                if trade.symbol == symbol
            )
            position = life.kernel.positions.get((life.service.surroundings.account_id, ITEMS[symbol].venue, symbol))
            here = 0 if position is None else position.quantity
            if here != true:
                return Broken(Invariant.POSITIONS, f"{symbol}: {here} here, the venue's fills add up to {true}")
        return None

    def _frozen_at_rest(self) -> Broken | None:
        if self.model.frozen:
            return Broken(Invariant.RESOLVED, "the account is still frozen")
        if TIGHTNESS[self.model.effective_switch] < TIGHTNESS[self.answered_switch]:
            return Broken(Invariant.KILL_SWITCH, f"the switch was to be {self.answered_switch}")
        return None


class _Published(msgspec.Struct):
    sequence: int
    hash_hex: str
    event: msgspec.Raw


def _counts_all(kernel: Kernel, whole: Kernel) -> bool:
    """A snapshot's rate windows also hold what was undone before it was taken, and never less than the journal's."""
    held = {name: Counter(times) for name, times in kernel.activity.times()}
    return all(Counter(times) <= held.get(name, Counter()) for name, times in whole.activity.times())


def model_is_halted(model: Model) -> bool:
    return model.effective_switch == "HALTED"


def given_id(client_order_id: str) -> str:
    """The id that whoever placed it gave: the engine adds the venue's own where that one has come again."""
    return client_order_id.partition("@venue:")[0]


def _same_side(order: Known, intent: OrderIntent) -> bool:
    return (order.intent.symbol, order.intent.side) == (intent.symbol, intent.side)


def _is_let_through(switch: str, intent: OrderIntent, held: set[int]) -> bool:
    if switch == "NORMAL":
        return True
    if switch != "REDUCE_ONLY":
        return False
    return any(intent.quantity <= (position if intent.side is Side.SELL else -position) for position in held)


def _valued_at(intent: OrderIntent, market: MarketInputs) -> Fraction:
    """The limit price; of a market order the worst price that the book's levels give it."""
    item = ITEMS[intent.symbol]
    if intent.price is not None:
        return Fraction(intent.price, 10**item.price_scale)
    assert intent.order_type is OrderType.MARKET
    levels = -(-intent.quantity // (LEVEL_QUANTITY * item.lot_size)) - 1
    away = Fraction(levels * item.tick_size, 10**item.price_scale)
    if intent.side is Side.BUY:
        return Fraction(str(market.ask_price)) + away
    return Fraction(str(market.bid_price)) - away
