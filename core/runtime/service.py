"""The engine as its callers see it: commands that are decided in turn and made durable, and readers of the state.

Every command and every report of the venue passes the sequencer; what an event asks of the world runs in tasks of its
own afterwards (core.runtime.dispatch). A caller that goes away interrupts nothing that has begun.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import structlog

from core.kernel import decide, decide_approvals, decide_authority, decide_groups, decide_held, decide_orders
from core.kernel.decide_orders import authority_id
from core.kernel.decide_void import decide_void
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.market.hub import MarketHub
from core.risk.kill_switch import KillSwitch
from core.risk.rules import RiskRulesError, parse_risk_rules
from core.runtime import views
from core.runtime.dispatch import Dispatcher, TradingBus
from core.runtime.explain import explain
from core.runtime.limit_use import limit_use
from core.runtime.outcomes import journal_refusal, outcome_of
from core.runtime.portfolio_reader import PortfolioReader
from core.runtime.sequencer import Decision, Recorded, Sequencer
from core.runtime.surroundings import Marks, Rates, Surroundings
from core.storage.journal import JournalUnavailableError
from core.storage.journal_store import JournalStore
from core.types.authority import MandateAuthority, SessionAuthority
from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    JournalEntry,
    JournalEvent,
    OrderIntended,
    OrderRefused,
    caused_order_id,
)
from core.types.ids import TraceContext
from core.types.money import from_scaled, to_scaled
from core.types.orders import (
    GroupRequest,
    OrderIntent,
    OrderRequest,
    OrderRole,
    Side,
    derived_order_id,
    requested_order_id,
)
from core.types.views import (
    EngineStatusView,
    ExecutionOutcomeView,
    ExposureView,
    InstrumentView,
    JournalView,
    LedgerProgress,
    LimitUseView,
    OrderView,
    PositionView,
    PreTradeView,
    ReconciliationView,
    RiskExplanationView,
    RiskStateView,
    WhatIfView,
)
from core.venues.ports import VenuePort, VenueUnavailableError

if TYPE_CHECKING:
    from core.runtime.journal_keeper import JournalKeeper

COMMANDS_LIMIT = 10_000
"""Calls to the venue under way beyond which no new order is taken."""

FIGURES_MAX_AGE_S = 300
"""How old what an approver was shown may be, unless the settings say otherwise (approvals.figures_max_age_s)."""

_log = structlog.get_logger("engine")


class EngineService:
    """One engine. Those who follow the venue keep `surroundings` up to date."""

    def __init__(
        self,
        kernel: Kernel,
        journal: JournalStore,
        venue: VenuePort,
        hub: MarketHub,
        clock: Clock,
        bus: TradingBus,
        *,
        account_id: str = "",
        reporting_asset: str = "USDT",
        root_public_key_hex: str = "",
        figures_max_age_s: int = FIGURES_MAX_AGE_S,
    ) -> None:
        self.kernel = kernel
        self.journal = journal
        self.venue = venue
        self.clock = clock
        self.surroundings = Surroundings(kernel, hub, account_id, reporting_asset)
        self.dispatcher = Dispatcher(kernel, venue, bus)
        self.sequencer = Sequencer(kernel, journal, clock, self.dispatcher)
        self.dispatcher.sequencer = self.sequencer
        self._portfolio = PortfolioReader(kernel, self.surroundings)
        self.journal_keeper: JournalKeeper | None = None
        self.reconciler: Callable[[bool, str], Awaitable[ReconciliationView]] = _not_following
        self.timer_renewed_ns = clock.now_ns()
        self._root_public_key_hex = root_public_key_hex
        self._figures_max_age_ns = figures_max_age_s * NS_PER_S

    @property
    def hub(self) -> MarketHub:
        return self.surroundings.hub

    # orders

    async def check_proposal(self, canonical: bytes) -> PreTradeView:
        """Risk's first run (I3). Changes nothing."""
        inputs = self.surroundings.for_proposal(canonical)
        now_ns = self.clock.now_ns()
        checked = decide_approvals.decide_check(self.kernel, canonical, inputs, self.venue.capabilities, now_ns)
        return views.pre_trade_view(checked, inputs.market.mid_price, now_ns)

    async def execute_approval(
        self,
        canonical: bytes,
        digest_hex: str,
        signatures: Sequence[tuple[str, bytes]],
        trace: TraceContext | None,
        approvals_at_least: int = 1,
    ) -> ExecutionOutcomeView:
        """Consume an approval once, durably, and do what was approved. Answers before the venue does. What only reduces
        goes ahead without its record when there can't be one (I7, I10)."""

        def decision(now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
            decided = decide_approvals.decide_approval(
                self.kernel,
                canonical,
                digest_hex,
                signatures,
                trace_id=_trace_id(trace),
                inputs=self.surroundings.for_proposal(canonical),
                capabilities=self.venue.capabilities,
                now_ns=now_ns,
                approvals_at_least=approvals_at_least,
                figures_max_age_ns=self._figures_max_age_ns,
            )
            return decided if isinstance(decided, Refusal) else (decided,)

        if decide_approvals.only_reduces(canonical):
            outcome = await self._safety_outcome(decision)
        else:
            outcome = await self._order_outcome(decision)
        if not outcome.consumed and outcome.refusal is not None:
            _log.warning("approval_refused", code=outcome.refusal.code, digest=digest_hex[:64])
        return outcome

    async def submit_order(
        self,
        request: OrderRequest,
        authority: SessionAuthority | MandateAuthority,
        trace: TraceContext | None = None,
        *,
        request_bytes: bytes = b"",
    ) -> ExecutionOutcomeView:
        """An order under a session or a mandate. Answers before the venue does.

        Asking again with the same request_id answers with the first order and sends nothing.
        """

        def decision(now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
            return decide_orders.decide_order(
                self.kernel,
                request,
                authority,
                self._inputs_of(request),
                self.venue.capabilities,
                now_ns,
                trace_id=_trace_id(trace),
                request_bytes=request_bytes,
            )

        return await self._order_outcome(
            decision, lambda: requested_order_id(authority_id(authority), request.request_id)
        )

    async def submit_group(
        self,
        request: GroupRequest,
        authority: SessionAuthority | MandateAuthority,
        trace: TraceContext | None = None,
        *,
        request_bytes: bytes = b"",
    ) -> ExecutionOutcomeView:
        """An OCO or a bracket under a session or a mandate: all of it is durable before the first order is sent. The
        answer names the first one. Asking again with the same request_id sends nothing."""
        first_role = next((role for role in OrderRole if role in request.orders), OrderRole.ENTRY)

        def decision(now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
            return decide_groups.decide_group(
                self.kernel,
                request,
                authority,
                self._inputs_of(request.orders[first_role]),
                self.venue.capabilities,
                now_ns,
                trace_id=_trace_id(trace),
                request_bytes=request_bytes,
            )

        group_id = requested_order_id(authority_id(authority), request.request_id)
        return await self._order_outcome(decision, lambda: derived_order_id(group_id, first_role))

    async def amend_order(
        self,
        client_order_id: str,
        quantity: Decimal | None,
        price: Decimal | None,
        authority: SessionAuthority | MandateAuthority,
        trace: TraceContext | None = None,
        *,
        request_bytes: bytes = b"",
        request_id: str = "",
    ) -> Refusal | None:
        """Change total quantity or limit price: in place where the venue can, else by cancel and replacement."""

        def decision(now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
            order = self.kernel.orders.get(client_order_id)
            if order is None:
                return decide.unknown_order(client_order_id)
            intent = order.intent
            try:
                scaled_quantity = None if quantity is None else to_scaled(quantity, intent.quantity_scale)
                scaled_price = None if price is None else to_scaled(price, intent.price_scale)
            except ValueError as error:
                return Refusal(ReasonCode.ORDER_AMEND_INVALID, f"The amendment can't be read: {error}.")
            return decide_orders.decide_amend(
                self.kernel,
                client_order_id,
                scaled_quantity,
                scaled_price,
                authority,
                self.surroundings.inputs(intent.venue, intent.symbol, intent.side),
                self.venue.capabilities,
                now_ns,
                trace_id=_trace_id(trace),
                request_bytes=request_bytes,
                request_id=request_id,
            )

        try:
            recorded = await self.sequencer.record(decision)
        except JournalUnavailableError as error:
            return journal_refusal(error)
        if isinstance(recorded, Refusal):
            return recorded
        return next((event.refusal for event in recorded.events if isinstance(event, OrderRefused)), None)

    async def review_order(self, client_order_id: str, last_price: int | None = None) -> None:
        """Take the next step for the held orders that an order has a bearing on. last_price, at price_scale, is the
        trade that made somebody look. Raises JournalUnavailableError."""
        await self.sequencer.record(lambda now_ns: self._next_step(client_order_id, now_ns, last_price))

    def has_next_step(self, client_order_id: str) -> bool:
        """Whether review_order would do anything now."""
        return bool(self._next_step(client_order_id, self.clock.now_ns(), None))

    def _next_step(self, client_order_id: str, now_ns: int, last_price: int | None) -> tuple[JournalEvent, ...]:
        return decide_held.review(self.kernel, client_order_id, self._inputs_of, now_ns, last_price)

    # safety

    async def cancel_order(self, order_id: str, requested_by: str, trace: TraceContext | None) -> Refusal | None:
        """A safety command: it goes ahead even when it can't be recorded."""
        return await self._safely(
            lambda now_ns: decide.decide_cancel(self.kernel, order_id, requested_by, _trace_id(trace), now_ns)
        )

    async def cancel_all(
        self, account_id: str, symbol: str | None, requested_by: str, trace: TraceContext | None = None
    ) -> int:
        """Cancel what is open in an account, or in one symbol of it; how many cancels were asked for.

        Raises RefusalError(RESOURCE_NOT_FOUND) for an account that isn't here: nobody shall believe it cleared.
        """
        if (refusal := self._not_here(account_id)) is not None:
            raise RefusalError(refusal)
        recorded = await self.sequencer.record_safety(
            lambda now_ns: decide_orders.decide_cancel_all(
                self.kernel, account_id, symbol, requested_by, now_ns, trace_id=_trace_id(trace)
            )
        )
        if isinstance(recorded, Refusal):
            return 0
        # A held order's cancel is its end as well: two events, one order.
        return len({event.client_order_id for event in recorded.events if isinstance(event, CancelRequested)})

    async def set_kill_switch(
        self,
        state: KillSwitch,
        requested_by: str,
        reason: str,
        trace: TraceContext | None = None,
        account_id: str = "",
    ) -> Refusal | None:
        """Tighten the kill switch, of one account or of the whole engine; it works even when it can't be recorded.
        Loosening is refused, and an account that isn't here: nobody shall believe it stopped."""
        if (refusal := self._not_here(account_id)) is not None:
            return refusal

        def decision(now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
            decided = decide.decide_kill_switch(
                self.kernel, state, requested_by, reason, _trace_id(trace), now_ns, account_id=account_id
            )
            if not isinstance(decided, Refusal) and decided:
                _log.warning(
                    "kill_switch", state=state, account_id=account_id, requested_by=requested_by, reason=reason
                )
            return decided

        return await self._safely(decision)

    async def void_approval(
        self,
        suggestion_id: str,
        version: int,
        *,
        account_id: str,
        requested_by: str,
        reason: str,
        trace: TraceContext | None,
    ) -> Refusal | None:
        """A suggestion's versions up to this one can't be approved any more. Durable on return: who is told that an old
        version is void relies on it."""
        return await self._decided(
            lambda now_ns: decide_void(
                self.kernel,
                suggestion_id,
                version,
                account_id=account_id,
                requested_by=requested_by,
                reason=reason,
                trace_id=_trace_id(trace),
                now_ns=now_ns,
            )
        )

    async def close_session(self, session_id: str, requested_by: str) -> Refusal | None:
        """End a session: nothing more can be asked for under it."""
        return await self._safely(
            lambda now_ns: decide_authority.decide_session_close(self.kernel, session_id, requested_by, "", now_ns)
        )

    async def revoke_mandate(self, mandate_id: str, requested_by: str) -> Refusal | None:
        """Take a strategy's mandate away."""
        return await self._safely(
            lambda now_ns: decide_authority.decide_mandate_revoke(self.kernel, mandate_id, requested_by, "", now_ns)
        )

    # authority

    async def open_session(self, grant: bytes, key_id: str, signature: bytes) -> Refusal | None:
        """A session that its user's enrolled key has signed in."""
        return await self._decided(
            lambda now_ns: decide_authority.decide_session_open(self.kernel, grant, key_id, signature, now_ns)
        )

    async def install_mandate(self, canonical: bytes, signatures: Sequence[tuple[str, bytes]]) -> Refusal | None:
        """A mandate that its approvers have signed."""
        return await self._decided(
            lambda now_ns: decide_authority.decide_mandate(self.kernel, canonical, signatures, now_ns)
        )

    async def administer(self, document: bytes, signatures: Sequence[tuple[str, bytes]]) -> Refusal | None:
        """Carry out a document that administrators, or the root key, have signed."""
        return await self._decided(
            lambda now_ns: decide_authority.decide_administration(
                self.kernel, document, signatures, self._root_public_key_hex, now_ns
            )
        )

    async def record(self, decision: Callable[[int], Sequence[JournalEvent]]) -> tuple[JournalEntry, ...]:
        """Decide in turn, on the engine's clock, and make durable what was decided.

        Raises JournalUnavailableError; what was decided is then not so.
        """
        recorded = await self.sequencer.record(decision)
        assert isinstance(recorded, Recorded)
        return recorded.entries

    # readers

    def status(self) -> EngineStatusView:
        kernel = self.kernel
        return EngineStatusView(
            engine_id=kernel.engine_id,
            epoch=kernel.epoch,
            environment=kernel.environment,
            mode=kernel.mode,
            journal_sequence=self.journal.sequence,
            venue_connected=self.surroundings.venue_connected,
            kill_switch=kernel.kill_switch,
            roster_version=kernel.roster.version,
            books=self.hub.book_states(),
            now_ns=self.clock.now_ns(),
            journal_first_sequence=self.journal.first_sequence,
            journal_torn_tail=_torn_tail(self.journal),
            journal_problem=self.sequencer.error,
        )

    def ledger_progressed(self, progress: LedgerProgress) -> None:
        """How far the ledger is: what is behind that may go, once it is archived. Raises RefusalError."""
        if not 0 <= max(progress.projected_sequence, progress.audited_sequence) <= self.journal.sequence:
            raise refuse(
                ReasonCode.REQUEST_INVALID,
                "The journal doesn't reach that sequence: this ledger has followed another one. Rebuild from 0.",
                limit=str(self.journal.sequence),
                actual=str(max(progress.projected_sequence, progress.audited_sequence)),
                unit="sequence",
            )
        self._keeper.progress = progress

    def journal_view(self) -> JournalView:
        return self._keeper.view()

    async def archive_journal(self) -> JournalView:
        """Archive now what is closed, and drop what may go."""
        await self._keeper.keep()
        return self._keeper.view()

    @property
    def _keeper(self) -> JournalKeeper:
        if self.journal_keeper is None:
            raise refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "The engine is starting; ask again in a moment.")
        return self.journal_keeper

    def instruments(self) -> list[InstrumentView]:
        return views.instrument_views(self.kernel)

    def positions(self, account_id: str) -> list[PositionView]:
        return self._portfolio.positions(account_id, self.clock.now_ns())

    def open_orders(self, account_id: str) -> list[OrderView]:
        return views.open_order_views(self.kernel, account_id, self.clock.now_ns())

    def risk_state(self, account_id: str) -> RiskStateView:
        return views.risk_state_view(
            self.kernel, account_id, self.surroundings.venue_connected, self.timer_renewed_ns, self.clock.now_ns()
        )

    def limit_use(self, account_id: str) -> LimitUseView:
        marks = Marks(self.kernel, self.hub)
        rates = Rates(self.kernel, marks, self.surroundings.reporting_asset)
        return limit_use(self.kernel, account_id, marks, rates, self.clock.now_ns())

    def exposure(self, account_id: str) -> ExposureView:
        return self._portfolio.exposure(account_id, self.clock.now_ns())

    def what_if(
        self,
        account_id: str,
        symbol: str,
        *,
        side: Side | None,
        quantity: Decimal | None,
        price: Decimal | None,
        price_move_bps: int | None,
    ) -> WhatIfView:
        """What an order, a move of the prices, or both would make of an account."""
        return self._portfolio.what_if(account_id, symbol, side, quantity, price, price_move_bps, self.clock.now_ns())

    def check_rules(self, document: str) -> str | None:
        """None when the rules would be taken, else what is wrong with them. Changes nothing."""
        try:
            parse_risk_rules(document, "risk rules")
        except RiskRulesError as error:
            return str(error)
        return None

    async def explain_risk(self, client_order_id: str) -> RiskExplanationView:
        """Which rules an order met, and how near each limit was; core.runtime.explain tells how a refused one is named.
        Raises RefusalError(ORDER_UNKNOWN)."""
        order = self.kernel.orders.get(client_order_id)
        return await explain(self.journal, client_order_id, order, self.clock.now_ns())

    async def reconcile(self, dry_run: bool, requested_by: str) -> ReconciliationView:
        """Compare with the venue, and unless it is a dry run mend what differs.

        Raises RefusalError while the venue or the journal can't be reached.
        """
        try:
            return await self.reconciler(dry_run, requested_by)
        except VenueUnavailableError as error:
            raise refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, f"The venue can't be asked: {error}") from error
        except JournalUnavailableError as error:
            raise RefusalError(journal_refusal(error)) from error

    def renew_dead_mans_timer(self, requested_by: str) -> Refusal | None:
        """Somebody is there: the engine halts when nobody says so for as long as the rules allow."""
        self.timer_renewed_ns = self.clock.now_ns()
        _log.debug("dead_mans_timer_renewed", requested_by=requested_by)
        return None

    def equity(self, account_id: str) -> Decimal | None:
        return self._portfolio.equity(account_id)

    # the life of the shell

    async def stop(self) -> None:
        """Let running calls end, then cancel the rest. An intent without a result is resolved at the next start."""
        await self.dispatcher.stop()

    async def _order_outcome(
        self, decision: Decision, first_order_id: Callable[[], str] | None = None
    ) -> ExecutionOutcomeView:
        if self.dispatcher.busy_count >= COMMANDS_LIMIT:
            refusal = Refusal(
                ReasonCode.SERVICE_OVERLOADED,
                f"{COMMANDS_LIMIT} calls to the venue are under way; ask again in a moment. Nothing was sent.",
            )
            return ExecutionOutcomeView(False, None, None, refusal, (), self.clock.now_ns())
        try:
            recorded = await self.sequencer.record(decision)
        except JournalUnavailableError as error:
            return ExecutionOutcomeView(False, None, None, journal_refusal(error), (), self.clock.now_ns())
        now_ns = self.clock.now_ns()
        if isinstance(recorded, Refusal):
            return ExecutionOutcomeView(False, None, None, recorded, (), now_ns)
        for sequence, event in enumerate(recorded.events, recorded.first_sequence or 0):
            match event:
                case ApprovalDecided():
                    return outcome_of(sequence, caused_order_id(event), event.refusal, event, now_ns)
                case OrderIntended():
                    return outcome_of(sequence, event.intent.client_order_id, None, event, now_ns)
                case OrderRefused():
                    return outcome_of(sequence, None, event.refusal, event, now_ns)
        # Asked for before: the first order is the answer.
        order_id = None if first_order_id is None else first_order_id()
        return ExecutionOutcomeView(True, None, order_id, None, (), now_ns)

    async def _safety_outcome(self, decision: Decision) -> ExecutionOutcomeView:
        recorded = await self.sequencer.record_safety(decision)
        now_ns = self.clock.now_ns()
        if isinstance(recorded, Refusal):
            return ExecutionOutcomeView(False, None, None, recorded, (), now_ns)
        (event,) = recorded.events
        assert isinstance(event, ApprovalDecided)
        return ExecutionOutcomeView(True, recorded.first_sequence, caused_order_id(event), event.refusal, (), now_ns)

    def _not_here(self, account_id: str) -> Refusal | None:
        """Empty is the whole engine; what has open orders here is here, whatever the settings say."""
        own = self.surroundings.account_id
        if account_id in {"", own} or not own:
            return None
        if any(order.intent.account_id == account_id for order in self.kernel.open_orders()):
            return None
        return Refusal(
            ReasonCode.RESOURCE_NOT_FOUND,
            f"This engine trades account {own}, not {account_id[:64]}. Nothing was changed; name that one.",
            limit=own,
            actual=account_id[:64],
        )

    async def _decided(self, decision: Decision) -> Refusal | None:
        try:
            recorded = await self.sequencer.record(decision)
        except JournalUnavailableError as error:
            return journal_refusal(error)
        return recorded if isinstance(recorded, Refusal) else None

    async def _safely(self, decision: Callable[[int], Refusal | Sequence[JournalEvent]]) -> Refusal | None:
        recorded = await self.sequencer.record_safety(decision)
        return recorded if isinstance(recorded, Refusal) else None

    def _inputs_of(self, terms: OrderRequest | OrderIntent) -> DecisionInputs:
        key, gathered = (terms.venue, terms.symbol, terms.side), self.sequencer.gathered
        if terms.order_type.has_limit_price:
            found: DecisionInputs | None = None if gathered is None else gathered.get(key)
            if found is None and gathered is not None:
                if "marks" not in gathered:
                    gathered["marks"] = self.surroundings.marks()
                found = gathered[key] = self.surroundings.inputs(*key, marks=gathered["marks"])
            return self.surroundings.inputs(*key) if found is None else found
        instrument = self.kernel.instruments.get((terms.venue, terms.symbol))
        sweep = None if instrument is None else from_scaled(terms.quantity, instrument.quantity_scale)
        return self.surroundings.inputs(*key, sweep)


async def _not_following(_dry_run: bool, _requested_by: str) -> ReconciliationView:
    raise refuse(ReasonCode.MARKET_NO_DATA, "The engine doesn't follow its venue yet; ask again in a moment.")


def _torn_tail(journal: JournalStore) -> str | None:
    tail = journal.torn_tail
    return None if tail is None else f"{tail.path}: {tail.length} bytes at offset {tail.offset}"


def _trace_id(trace: TraceContext | None) -> str | None:
    return None if trace is None else trace.trace_id
