"""The engine's state, and how each event changes it. Facts in, effects out; nothing here decides.

Deciding is in core.kernel.decide and its neighbours: pure functions from this state, a command and the market inputs to
events. The same kernel serves live, paper, backtest and simulation. What it keeps doesn't grow with the orders that
ever were: final ones leave memory beyond FINAL_ORDERS_KEPT, and approvals a day after they were used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TypeVar, assert_never

import msgspec

from core.authority.documents import CLOCK_SKEW_NS
from core.authority.proposal import decode_proposal
from core.authority.proposal_kinds import Proposal
from core.authority.state import MandateState, SessionState
from core.authority.verify import PROPOSAL_LONGEST_NS
from core.kernel.effects import AmendOrder, CancelOrder, Effect, ReviewGroup, SubmitOrder
from core.kernel.holdings import Holdings, short_id
from core.kernel.records import (
    SEPARATOR,
    AccountSwitch,
    Consumed,
    FundingTotal,
    RulesVersion,
    Voided,
)
from core.kernel.state import Savepoint, Table
from core.orders.machine import (
    ImpossibleTransitionError,
    Order,
    OrderEvent,
    order_from_adopted,
    order_from_intended,
    transition,
)
from core.portfolio.book import fill_of
from core.portfolio.positions import EXACT, Position, apply_fill
from core.risk import activity
from core.risk.kill_switch import KillSwitch
from core.types.authority import (
    AdministrationAuthority,
    ApprovalAuthority,
    Authority,
    DerivedAuthority,
    ExternalAuthority,
    MandateAuthority,
    SessionAuthority,
)
from core.types.clock import NS_PER_S
from core.types.events import (
    AccountEvent,
    ApprovalDecided,
    ApprovalVoided,
    BalancesObserved,
    CancelRequested,
    EngineStarted,
    EquityObserved,
    FreezeChanged,
    FundingSettled,
    GrantEvent,
    InstrumentsLoaded,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
    OrderAccepted,
    OrderAdopted,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRefused,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    Reconciled,
    RiskLimitsInstalled,
    RiskRulesInstalled,
    RosterInstalled,
    SessionClosed,
    SessionOpened,
    SettingEvent,
    TriggerReached,
)
from core.types.orders import OrderStatus, requested_order_id

SNAPSHOT_SCHEMA = "veloz.kernel-snapshot/1"
FINAL_ORDERS_KEPT = 5_000
FINAL_ORDERS_KEPT_NS = 10 * NS_PER_S
"""However many there are: a venue may tell of an order's last fills after its end."""
RULES_VERSIONS_KEPT = 20
TIDY_INTERVAL_EVENTS = 512
RETIRED_AT_ONCE = 256
"""Final orders that leave memory after so many events. An order takes two events at least, one to begin and one to end,
so no more of them can be due in the long run; what a burst left goes bit by bit."""
GRANTS_KEPT_NS = 24 * 3600 * NS_PER_S
"""How long a session or a mandate can be looked at after it has expired."""


class _Asked(msgspec.Struct):
    """Of an order, or, with the order's id, of an amendment."""

    request_id: str
    client_order_id: str = ""


G = TypeVar("G", SessionState, MandateState)


class _Snapshot(msgspec.Struct, frozen=True):
    schema: str
    sequence: int
    last_ts_ns: int
    tables: dict[str, bytes]
    activity: bytes


class Kernel(Holdings):
    """The state that the journal's events add up to. sequence counts the events applied, which is the journal's own."""

    def apply(self, event: JournalEvent) -> tuple[Effect, ...]:
        """Take in one fact and return what it asks of the shell.

        Raises ImpossibleTransitionError for an event that can't follow this state; the state is then unchanged.
        """
        effects = self._apply(event)
        state = self._state
        state.sequence += 1
        state.last_ts_ns = max(state.last_ts_ns, event.ts_ns)
        if state.sequence % TIDY_INTERVAL_EVENTS == 0:
            self._tidy(state.last_ts_ns)
        return effects

    def replay(self, events: Iterable[JournalEvent]) -> None:
        """Rebuild the state from a journal. Decides nothing again, does nothing to the world."""
        for event in events:
            self.apply(event)

    def begin(self) -> None:
        """What is applied from here on can be undone until commit."""
        self._state.begin()

    def savepoint(self) -> Savepoint:
        return self._state.savepoint()

    def rollback(self, to: Savepoint) -> None:
        """Undo the events applied since, because they didn't become durable. Rate windows keep counting them."""
        self._state.rollback(to)

    def commit(self) -> None:
        self._state.commit()

    def state_digest(self) -> str:
        """Hex SHA-256 over the whole state; two replays of one journal have the same. Books aren't part of it, nor
        are rate windows, which forget by themselves."""
        return self._state.digest()

    def snapshot(self) -> bytes:
        """All of the state, for Kernel.from_snapshot."""
        state = self._state
        return msgspec.msgpack.encode(
            _Snapshot(SNAPSHOT_SCHEMA, state.sequence, state.last_ts_ns, state.dump(), activity.dump(self.activity))
        )

    @classmethod
    def from_snapshot(cls, data: bytes) -> Kernel:
        """Raises ValueError when the bytes aren't a snapshot that this release reads."""
        kernel = cls()
        try:
            snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
            if snapshot.schema != SNAPSHOT_SCHEMA:
                raise ValueError(f"the snapshot's schema is {snapshot.schema!r}, this engine reads {SNAPSHOT_SCHEMA!r}")
            kernel._state.load(snapshot.tables, snapshot.sequence, snapshot.last_ts_ns)
            activity.load(kernel.activity, snapshot.activity)
        except (msgspec.MsgspecError, KeyError) as error:
            raise ValueError(f"not a snapshot of this release: {error}") from error
        return kernel

    def _apply(self, event: JournalEvent) -> tuple[Effect, ...]:
        match event:
            # Those that come most often stand first.
            case OrderIntended():
                return self._apply_intended(event)
            case (
                OrderAccepted()
                | OrderRejected()
                | OrderBecameUnknown()
                | OrderClosed()
                | TriggerReached()
                | OrderTrailed()
                | OrderArmed()
                | OrderAmended()
                | OrderAmendRefused()
            ):
                return self._apply_to_order(event)
            case OrderFilled():
                return self._apply_fill(event)
            case ApprovalDecided():
                return self._apply_approval(event)
            case OrderTriggered():
                order = self._transition(event)
                self.activity.order_intended(order.intent, event.ts_ns)
                return (SubmitOrder(order.intent), *self._review(order))
            case OrderAmendRequested():
                order = self._transition(event)
                self._remember_request(event)
                self._count_added(event.authority, Decimal(event.added_quote))
                self.activity.amend_requested(order.intent, event.ts_ns)
                return (AmendOrder(order.intent, event.quantity, event.price),)
            case CancelRequested():
                order = self._transition(event)
                self.activity.cancel_requested(order.intent, event.ts_ns)
                return () if order.status is OrderStatus.HELD else (_cancel(order), *self._review(order))
            case OrderAdopted():
                return self._apply_adopted(event)
            case OrderRefused() | Reconciled():
                self._use_up(event)
                return ()
            case KillSwitchChanged():
                return self._apply_kill_switch(event)
            case BalancesObserved() | FundingSettled() | EquityObserved():
                self._apply_account(event)
                return ()
            case _:
                self._apply_setting(event)
                return ()

    def _apply_setting(
        self,
        event: SettingEvent,
    ) -> None:
        put = self._state.put
        match event:
            case EngineStarted():
                self._change_head(
                    engine_id=event.engine_id,
                    environment=event.environment,
                    mode=event.mode,
                    epoch=event.epoch,
                    first_started_ns=self.head.first_started_ns or event.ts_ns,
                )
            case InstrumentsLoaded():
                # A delisted instrument stays known: positions and old orders are shown at its scales.
                for item in event.instruments:
                    put(self.instruments, (item.venue, item.symbol), item)
                self._change_head(listed=tuple((item.venue, item.symbol) for item in event.instruments))
            case RosterInstalled():
                self._remember(event.authority)
                self._change_head(roster=event.roster, roster_signature_hex=event.signature_hex)
            case RiskLimitsInstalled():
                self._change_head(limits=event.limits, rules_version=event.version, rules_digest_hex=event.digest_hex)
            case RiskRulesInstalled():
                self._remember(event.authority)
                put(
                    self.rule_versions,
                    event.version,
                    RulesVersion(event.version, event.digest_hex, event.document),
                )
                put(self.rule_versions, event.version - RULES_VERSIONS_KEPT, None)
                self._change_head(rules_version=event.version, rules_digest_hex=event.digest_hex)
            case FreezeChanged():
                self._remember(event.authority)
                put(self.frozen, event.account_id, event.reason if event.frozen else None)
            case _:
                self._apply_grant(event)

    def _apply_grant(self, event: GrantEvent | ApprovalVoided) -> None:
        put = self._state.put
        match event:
            case SessionOpened():
                put(self.sessions, event.grant.session_id, SessionState.opened(event))
            case SessionClosed():
                put(self.sessions, event.session_id, _granted(self.sessions, event.session_id).close())
            case MandateInstalled():
                put(self.mandates, event.mandate.mandate_id, MandateState.installed(event))
            case MandateRevoked():
                mandate = _granted(self.mandates, event.mandate_id)
                self._remember(event.authority)
                put(self.mandates, event.mandate_id, mandate.revoke())
            case ApprovalVoided():
                put(self.voided, event.suggestion_id, Voided(event.version, event.remembered_until_ns))
            case MandateTightened():
                put(self.mandates, event.mandate_id, _granted(self.mandates, event.mandate_id).tighten(event))
            case _:
                assert_never(event)

    def _apply_account(self, event: AccountEvent) -> None:
        match event:
            case BalancesObserved():
                self._state.put(self.balances, (event.account_id, event.venue), event)
            case FundingSettled():
                self._add_funding(event)
            case EquityObserved():
                self._state.put(self.equity, event.account_id, event)
            case _:
                assert_never(event)

    def _apply_approval(self, event: ApprovalDecided) -> tuple[Effect, ...]:
        proposal = decode_proposal(event.proposal)
        intent = event.intent
        if intent is not None and self.knows_order(intent.client_order_id):
            raise ImpossibleTransitionError(f"order {intent.client_order_id} is intended twice")
        # Another version that was signed by now may hold longer than this one.
        until_ns = event.ts_ns + PROPOSAL_LONGEST_NS + CLOCK_SKEW_NS
        self._state.put(self.consumptions, event.suggestion_id, Consumed(event.version, until_ns))
        if intent is None:
            return tuple(effect for caused in event.caused for effect in self._apply(caused))
        assert isinstance(proposal, Proposal), "only an order goes to the venue at once"
        order = Order(
            intent=intent,
            status=OrderStatus.INTENDED,
            created_ns=event.ts_ns,
            updated_ns=event.ts_ns,
            suggestion_id=event.suggestion_id,
            trace_id=event.trace_id,
            notional_quote=proposal.notional_quote,
            authority=ApprovalAuthority(event.suggestion_id, event.version, event.digest_hex, event.signatures),
        )
        self._store(order)
        self.activity.order_intended(intent, event.ts_ns)
        return (SubmitOrder(intent),)

    def _apply_intended(self, event: OrderIntended) -> tuple[Effect, ...]:
        intent, state = event.intent, self._state
        if self.plain.apply(event, state.undo):
            if state.is_digesting:
                assert isinstance(event.authority, MandateAuthority), "nothing else is plain"
                state.was_put(self.mandates, event.authority.mandate_id)
                state.was_put(self.orders, intent.client_order_id)
            return (SubmitOrder(intent),)
        if self.knows_order(intent.client_order_id):
            raise ImpossibleTransitionError(f"order {intent.client_order_id} is intended twice")
        order = order_from_intended(event)
        self._count(event)
        self._store(order)
        if event.is_held:
            # Rates are of what is asked for: what follows from it by itself is counted when it is sent.
            if event.replaces is not None:
                self.activity.amend_requested(intent, event.ts_ns)
            elif not isinstance(event.authority, DerivedAuthority):
                self.activity.order_intended(intent, event.ts_ns)
            return (ReviewGroup(intent.client_order_id),)
        self.activity.order_intended(intent, event.ts_ns)
        return (SubmitOrder(intent), *self._review(order))

    def _apply_adopted(self, event: OrderAdopted) -> tuple[Effect, ...]:
        if self.knows_order(event.intent.client_order_id):
            raise ImpossibleTransitionError(f"order {event.intent.client_order_id} is this engine's own")
        self._store(order_from_adopted(event))
        return ()

    def _apply_fill(self, event: OrderFilled) -> tuple[Effect, ...]:
        order = transition(self._order(event.client_order_id), event)
        key = (event.account_id, event.venue, event.symbol)
        strategy_key = (*key, order.intent.strategy_id)
        fill = fill_of(event)
        position, _ = apply_fill(self.positions.get(key, Position()), fill, "/".join(key))
        if position.snapshot() != event.position:
            raise ImpossibleTransitionError(
                f"trade {event.trade_id} of {event.symbol}: the journal's position {event.position} isn't what its "
                f"fills add up to, {position.snapshot()}"
            )
        own, _ = apply_fill(self.strategy_positions.get(strategy_key, Position()), fill, "/".join(strategy_key))
        self._state.put(self.positions, key, position)
        self._state.put(self.strategy_positions, strategy_key, own)
        if event.fee_asset == self.instruments[event.venue, event.symbol].base_asset:
            fees_base = EXACT.add(Decimal(order.fees_base), Decimal(event.fee))
            order = msgspec.structs.replace(order, fees_base=format(fees_base, "f"))
        self._store(order)
        return self._review(order)

    def _apply_to_order(self, event: OrderEvent) -> tuple[Effect, ...]:
        if isinstance(event, OrderAccepted) and self.plain.apply_accepted(event, self._state.undo):
            if self._state.is_digesting:
                self._state.was_put(self.orders, event.client_order_id)
            return ()
        return self._review(self._transition(event))

    def _apply_kill_switch(self, event: KillSwitchChanged) -> tuple[Effect, ...]:
        state = KillSwitch(event.state)
        self._remember(event.authority)
        if event.account_id:
            switch = None if state is KillSwitch.NORMAL else AccountSwitch(state, event.ts_ns)
            self._state.put(self.account_switches, event.account_id, switch)
        else:
            self._change_head(kill_switch=state, kill_switch_changed_ns=event.ts_ns)
        if state is not KillSwitch.HALTED:
            return ()
        return tuple(
            _cancel(order)
            for order in self.open_orders()
            if order.status is not OrderStatus.HELD and event.account_id in {"", order.intent.account_id}
        )

    def _use_up(self, event: OrderRefused | Reconciled) -> None:
        """A ticket that was refused is told so once: sent again by somebody else, it would find another market."""
        if isinstance(event, Reconciled):
            return
        asker = event.authority
        assert isinstance(asker, SessionAuthority | MandateAuthority), "nobody else asks with tickets"
        asked = msgspec.json.decode(event.request, type=_Asked)
        if asked.client_order_id:
            self._remember_request(event)
            return
        authority_id = asker.session_id if isinstance(asker, SessionAuthority) else asker.mandate_id
        self._state.put(self.retired, short_id(requested_order_id(authority_id, asked.request_id)), False)

    def _add_funding(self, event: FundingSettled) -> None:
        key = (event.account_id, event.venue, event.symbol, event.asset)
        before = self.funding.get(key, FundingTotal("0", 0))
        amount = EXACT.add(Decimal(before.amount), Decimal(event.amount))
        self._state.put(self.funding, key, FundingTotal(format(amount, "f"), max(before.last_ns, event.venue_ts_ns)))

    def _count(self, event: OrderIntended) -> None:
        """What the order takes of its authority's allowance; what replaces another, only what is more."""
        worth = Decimal(event.notional_quote)
        if event.replaces is not None:
            more = EXACT.subtract(worth, Decimal(self.orders[event.replaces].notional_quote))
            self._count_added(event.authority, max(more, Decimal(0)))
            return
        match event.authority:
            case SessionAuthority(session_id=session_id):
                self._state.put(self.sessions, session_id, self.sessions[session_id].with_order(worth))
            case MandateAuthority(mandate_id=mandate_id):
                self._state.put(self.mandates, mandate_id, self.mandates[mandate_id].with_order(worth))

    def _count_added(self, authority: Authority, added: Decimal) -> None:
        match authority:
            case SessionAuthority(session_id=session_id) if added:
                self._state.put(self.sessions, session_id, self.sessions[session_id].with_amendment(added))
            case MandateAuthority(mandate_id=mandate_id) if added:
                self._state.put(self.mandates, mandate_id, self.mandates[mandate_id].with_amendment(added))

    def _review(self, order: Order) -> tuple[Effect, ...]:
        order_id = order.intent.client_order_id
        is_held = order.status is OrderStatus.HELD
        if is_held or order.group_id or order.replaces or order_id in self.index.replacements:
            return (ReviewGroup(order_id),)
        return ()

    def _transition(self, event: OrderEvent) -> Order:
        order = transition(self._order(event.client_order_id), event)
        self._store(order)
        return order

    def _order(self, client_order_id: str) -> Order:
        order = self.orders.get(client_order_id)
        if order is None:
            raise ImpossibleTransitionError(f"order {client_order_id} is unknown to this engine")
        return order

    def _store(self, order: Order) -> None:
        self._state.put(self.orders, order.intent.client_order_id, order)

    def _change_head(self, **changes: object) -> None:
        self._state.put(self._heads, "", msgspec.structs.replace(self.head, **changes))

    def _remember(self, authority: object) -> None:
        if isinstance(authority, AdministrationAuthority):
            self._state.put(self.documents, authority.document_id, authority.expires_ns)

    def _remember_request(self, event: OrderAmendRequested | OrderRefused) -> None:
        """A ticket to amend is answered once: sent again, it would undo what came after it."""
        asker = event.authority
        if not isinstance(asker, SessionAuthority | MandateAuthority) or not asker.request_digest_hex:
            return
        if isinstance(asker, SessionAuthority):
            grant: SessionState | MandateState | None = self.sessions.get(asker.session_id)
        else:
            grant = self.mandates.get(asker.mandate_id)
        self._state.put(self.documents, asker.request_digest_hex, event.ts_ns if grant is None else grant.expires_ns)

    def _tidy(self, now_ns: int) -> None:
        """Let go of what can't matter any more. A function of the events alone, so that every replay does the same."""
        put = self._state.put
        for suggestion_id in self.expiring_consumptions.due(now_ns, _expires_ns_in(self.consumptions)):
            put(self.consumptions, suggestion_id, None)
        for suggestion_id in self.expiring_voided.due(now_ns, _expires_ns_in(self.voided)):
            put(self.voided, suggestion_id, None)
        for document_id in self.expiring_documents.due(now_ns, self.documents.get):
            put(self.documents, document_id, None)
        for session_id in [k for k, v in self.sessions.items() if v.expires_ns + GRANTS_KEPT_NS <= now_ns]:
            put(self.sessions, session_id, None)
        for mandate_id in [k for k, v in self.mandates.items() if v.expires_ns + GRANTS_KEPT_NS <= now_ns]:
            put(self.mandates, mandate_id, None)
        self._let_go(now_ns - FINAL_ORDERS_KEPT_NS)

    def _let_go(self, until_ns: int) -> None:
        """Of the final orders beyond those that are kept, the oldest."""
        left = min(len(self.index.final) - FINAL_ORDERS_KEPT, RETIRED_AT_ONCE)
        staying: list[str] = []
        while left > 0 and (oldest := self.index.oldest_final(left, self.orders, until_ns)):
            needed = [order_id for order_id in self._retire_plain(oldest) if not self._retire(order_id)]
            left -= len(oldest) - len(needed)
            staying += needed
        for order_id in staying:
            self.index.keep_final(self.orders[order_id])

    def _retire_plain(self, order_ids: list[str]) -> list[str]:
        """Those that stand alone; the others are given back."""
        state = self._state
        others = self.plain.retire(order_ids, state.undo)
        if state.is_digesting:
            for order_id in set(order_ids).difference(others):
                state.was_put(self.orders, order_id)
                state.was_put(self.retired, short_id(order_id))
        return others

    def _retire(self, order_id: str) -> bool:
        """Whether it could go: one on which others depend that are open stays with them."""
        order, index = self.orders[order_id], self.index
        related = (
            *index.groups.get(order.group_id or "", ()),
            *index.children.get(order_id, ()),
            *index.replacements.get(order_id, ()),
            *((order.parent_id,) if order.parent_id else ()),
        )
        if any(other in index.open for other in related):
            return False
        self._state.put(self.orders, order_id, None)
        self._state.put(self.retired, short_id(order_id), True)
        if isinstance(order.authority, ExternalAuthority):
            # Whoever placed it may use its id again. The venue's own id then tells whether it is this one.
            base = order_id.partition(SEPARATOR)[0]
            for name in (f"{base}{SEPARATOR}", f"{base}{SEPARATOR}{order.venue_order_id}"):
                self._state.put(self.retired, short_id(name), True)
        return True


def _expires_ns_in(table: Table[str, Consumed] | Table[str, Voided]) -> Callable[[str], int | None]:
    def expires_ns_of(key: str) -> int | None:
        row = table.get(key)
        return None if row is None else row.expires_ns

    return expires_ns_of


def _granted(table: Table[str, G], grant_id: str) -> G:
    """Its opening may be undone by a disk that failed, and its end have gone ahead."""
    grant = table.get(grant_id)
    if grant is None:
        raise ImpossibleTransitionError(f"{grant_id} of {table.name} is unknown to this engine")
    return grant


def _cancel(order: Order) -> CancelOrder:
    return CancelOrder(order.intent.venue, order.intent.symbol, order.intent.client_order_id)
