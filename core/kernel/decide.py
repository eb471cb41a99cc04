"""What the engine decides: pure functions (state, command, market inputs, now) -> events or a refusal.

Each returns the events to make durable and then apply. What is already so gives no event, so that reports may arrive
twice and in any order; nor does what is said of an order that has ended and left memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from core.authority.documents import EngineIdentity
from core.authority.proposal import Proposal, proposal_digest
from core.authority.roster import RosterError, SignedRoster, roster_digest
from core.authority.thaw import SignedThaw, verify_thaw
from core.authority.verify import (
    approvals_counted,
    approvals_due,
    approvals_due_problem,
    check_expiry,
    check_identity,
    check_instrument,
    read_proposal,
    signed_notional_quote,
    verify_approval,
)
from core.kernel.decide_authority import ended_by_roster
from core.kernel.decide_risk import APPROVALS_FOR_TWO, RiskSubject, run_risk
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.orders.machine import Order, status_after_fill
from core.portfolio.positions import Fill, Position, apply_fill, fee_in_quote
from core.risk.checks import RiskDecision
from core.risk.kill_switch import KillSwitch
from core.types.authority import SafetyAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    EngineStarted,
    InstrumentsLoaded,
    JournalEvent,
    KillSwitchChanged,
    OrderAccepted,
    OrderAmended,
    OrderAmendRefused,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    RosterInstalled,
)
from core.types.instruments import Instrument
from core.types.money import decimal_text, from_scaled, to_scaled
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce, client_order_id

NEEDS_TWO = ReasonCode.RISK_CUSTOM_RULE_NEEDS_TWO_APPROVALS
THAW_CURE = (
    "This call can only tighten the kill switch. Thawing is administration: on the engine's host, with the root key, "
    "run `python -m core.runtime.thaw`."
)


class FillReport(msgspec.Struct, frozen=True):
    """A fill as the venue reports it; price and quantity are ints at the instrument's scales."""

    client_order_id: str
    venue_order_id: str
    trade_id: int
    price: int
    quantity: int
    fee: Decimal
    fee_asset: str
    is_maker: bool
    venue_ts_ns: int
    inferred: bool = False


class InstrumentScaleChangedError(Exception):
    """The venue changed an instrument's decimal scale while it is traded here."""


def decide_started(
    *, engine_id: str, epoch: int, environment: str, mode: str, software_version: str, now_ns: int
) -> EngineStarted:
    return EngineStarted(
        ts_ns=now_ns,
        engine_id=engine_id,
        epoch=epoch,
        environment=environment,
        mode=mode,
        software_version=software_version,
    )


def decide_roster(kernel: Kernel, signed: SignedRoster, now_ns: int) -> tuple[JournalEvent, ...]:
    """Install a roster whose root signature was verified, when it is newer than the one in force, and end what those
    who are no longer in it had given. An older one changes nothing: what replaced it stays.

    Raises RosterError for another roster under the version in force.
    """
    if roster_digest(signed.roster) == roster_digest(kernel.roster) or signed.roster.version < kernel.roster.version:
        return ()
    if signed.roster.version == kernel.roster.version:
        raise RosterError(
            f"roster version {signed.roster.version} can't replace version {kernel.roster.version}, which the engine's "
            "journal holds. Give the new roster a higher version and have the root key sign it."
        )
    installed = RosterInstalled(ts_ns=now_ns, roster=signed.roster, signature_hex=signed.signature_hex)
    return (installed, *ended_by_roster(kernel, signed.roster, now_ns))


def decide_instruments(kernel: Kernel, loaded: Sequence[Instrument], now_ns: int) -> tuple[InstrumentsLoaded, ...]:
    """Take over the venue's instruments. A changed rule raises the instrument's version.

    Raises InstrumentScaleChangedError when a scale changed under an order or a position.
    """
    versioned = tuple(_next_version(kernel, item) for item in loaded)
    keys = tuple((item.venue, item.symbol) for item in versioned)
    if keys == kernel.listed and all(
        kernel.instruments[key] == item for key, item in zip(keys, versioned, strict=True)
    ):
        return ()
    return (InstrumentsLoaded(ts_ns=now_ns, instruments=versioned),)


def decide_check(kernel: Kernel, canonical: bytes, inputs: DecisionInputs, now_ns: int) -> RiskDecision:
    """Risk's first run (I3), on a proposal that nobody has signed yet. Changes nothing."""
    proposal = read_proposal(canonical)
    if isinstance(proposal, Refusal):
        return RiskDecision((), proposal)
    refusal = _not_for_this_engine(kernel, proposal, now_ns)
    if refusal is not None:
        return RiskDecision((), refusal)
    intent = _intent(kernel, proposal, proposal_digest(canonical))
    if isinstance(intent, Refusal):
        return RiskDecision((), intent)
    return _run_risk(kernel, intent, proposal, None, inputs, now_ns)


def approvals_due_now(
    kernel: Kernel, canonical: bytes, decision: RiskDecision, inputs: DecisionInputs, now_ns: int
) -> int | None:
    """How many people would have to sign a proposal that decision is about; None when that can't be told."""
    proposal = read_proposal(canonical)
    if isinstance(proposal, Refusal) or decision.notional is None:
        return None
    intent = _intent(kernel, proposal, proposal_digest(canonical))
    if isinstance(intent, Refusal):
        return None
    worth = max(signed_notional_quote(proposal), decision.notional)
    by_one = _run_risk(kernel, intent, proposal, 1, inputs, now_ns)
    by_rules = any(check.name == NEEDS_TWO and not check.passed for check in by_one.checks)
    return approvals_due(kernel.roster, worth, APPROVALS_FOR_TWO if by_rules else 1)


def decide_approval(
    kernel: Kernel,
    canonical: bytes,
    digest_hex: str,
    signatures: Sequence[tuple[str, bytes]],
    *,
    trace_id: str | None,
    inputs: DecisionInputs,
    now_ns: int,
    approvals_at_least: int = 1,
) -> Refusal | ApprovalDecided:
    """Consume an approval: authority, then risk against this moment (I2, I3).

    A Refusal is a failure of authority: nothing is consumed. An ApprovalDecided consumes the approval, whether it
    leads to an intent or to risk's refusal.
    """
    verdict = verify_approval(
        canonical,
        digest_hex,
        signatures,
        roster=kernel.roster,
        identity=_identity(kernel),
        instrument_versions=kernel.instrument_versions(),
        consumed=kernel.consumed,
        now_ns=now_ns,
        at_least=approvals_at_least,
    )
    if isinstance(verdict, Refusal):
        return verdict
    proposal = verdict.proposal
    intent = _intent(kernel, proposal, digest_hex)
    if isinstance(intent, Refusal):
        decision = RiskDecision((), intent)
    else:
        counted = approvals_counted(proposal, verdict.signatures)
        decision = _run_risk(kernel, intent, proposal, counted, inputs, now_ns)
        # The threshold is in the reporting currency; the proposal's own numbers are in its quote asset.
        worth = max(signed_notional_quote(proposal), decision.notional or Decimal(0))
        refusal = approvals_due_problem(proposal, verdict.signatures, kernel.roster, worth, approvals_at_least)
        # A rule that wants two people doesn't use up what one of them has signed: the second can still sign it.
        if refusal is None and _wants_two(decision):
            refusal = decision.refusal
        if refusal is not None:
            return refusal
    return ApprovalDecided(
        ts_ns=now_ns,
        trace_id=trace_id or proposal.trace_id or None,
        suggestion_id=proposal.suggestion_id,
        version=int(proposal.version),
        digest_hex=digest_hex,
        proposal=canonical.decode(),
        account_id=proposal.account_id,
        asker_id=proposal.asker_id,
        run_id=proposal.run_id,
        signatures=verdict.signatures,
        roster_version=kernel.roster.version,
        rules_version=kernel.rules_version,
        market=inputs.market,
        checks=decision.checks,
        intent=intent if decision.refusal is None and not isinstance(intent, Refusal) else None,
        refusal=decision.refusal,
    )


def decide_accepted(kernel: Kernel, order_id: str, venue_order_id: str, now_ns: int) -> tuple[OrderAccepted, ...]:
    order = kernel.orders.get(order_id)
    if order is None:
        return ()
    waiting = order.status in {OrderStatus.INTENDED, OrderStatus.UNKNOWN, OrderStatus.REJECTED}
    if not waiting and order.venue_order_id == venue_order_id:
        return ()
    return (
        OrderAccepted(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, venue_order_id=venue_order_id),
    )


def decide_rejected(kernel: Kernel, order_id: str, refusal: Refusal, now_ns: int) -> tuple[OrderRejected, ...]:
    """The venue said no, or it is proved that the order never arrived. What it showed meanwhile is stronger."""
    order = kernel.orders.get(order_id)
    if order is None or order.status not in {OrderStatus.INTENDED, OrderStatus.UNKNOWN}:
        return ()
    return (OrderRejected(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, refusal=refusal),)


def decide_unknown(kernel: Kernel, order_id: str, detail: str, now_ns: int) -> tuple[OrderBecameUnknown, ...]:
    """A submit ended without an answer (I5); unless the user data stream has told us meanwhile."""
    order = kernel.orders.get(order_id)
    if order is None or order.status is not OrderStatus.INTENDED:
        return ()
    return (OrderBecameUnknown(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, detail=detail),)


def decide_fill(kernel: Kernel, report: FillReport, now_ns: int) -> tuple[OrderFilled, ...]:
    """A fill, once. Both sides of a trade with ourselves have one trade id, so it is the order's own that counts.

    Raises OverFillError.
    """
    order = kernel.orders.get(report.client_order_id)
    if order is None or report.trade_id in order.trade_ids:
        return ()
    intent = order.intent
    instrument = kernel.instruments[intent.venue, intent.symbol]
    status = status_after_fill(order, report.quantity)
    fee_quote = fee_in_quote(
        report.fee,
        report.fee_asset,
        instrument.base_asset,
        instrument.quote_asset,
        from_scaled(report.price, intent.price_scale),
        intent.price_scale + intent.quantity_scale,
    )
    key = (intent.account_id, intent.venue, intent.symbol)
    fill = Fill(
        report.client_order_id,
        report.trade_id,
        intent.side,
        report.price,
        report.quantity,
        fee_quote or 0,
        report.venue_ts_ns,
        report.fee,
        report.fee_asset,
    )
    position, closed = apply_fill(kernel.positions.get(key, Position()), fill, "/".join(key))
    return (
        OrderFilled(
            ts_ns=now_ns,
            trace_id=order.trace_id,
            account_id=intent.account_id,
            venue=intent.venue,
            symbol=intent.symbol,
            client_order_id=report.client_order_id,
            venue_order_id=report.venue_order_id,
            trade_id=report.trade_id,
            side=intent.side,
            price=report.price,
            quantity=report.quantity,
            price_scale=intent.price_scale,
            quantity_scale=intent.quantity_scale,
            fee=format(report.fee, "f"),
            fee_asset=report.fee_asset,
            fee_quote=fee_quote or 0,
            is_maker=report.is_maker,
            venue_ts_ns=report.venue_ts_ns,
            status=status,
            position=position.snapshot(),
            closed=closed,
            inferred=report.inferred,
        ),
    )


def decide_closed(
    kernel: Kernel, order_id: str, status: OrderStatus, reason: str, now_ns: int
) -> tuple[OrderClosed, ...]:
    """The venue says that an order is off its book."""
    order = kernel.orders.get(order_id)
    if order is None or order.status.is_final:
        return ()
    return (OrderClosed(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, status=status, reason=reason),)


def decide_amended(
    kernel: Kernel, order_id: str, quantity: int, price: int | None, now_ns: int
) -> tuple[OrderAmended, ...]:
    """The venue shows the order with this total quantity and limit price."""
    order = kernel.orders.get(order_id)
    if (
        order is None
        or order.status.is_final
        or (
            order.pending_amend is None
            and (quantity, price or order.intent.price) == (order.intent.quantity, order.intent.price)
        )
    ):
        return ()
    return (
        OrderAmended(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, quantity=quantity, price=price),
    )


def decide_amend_refused(kernel: Kernel, order_id: str, refusal: Refusal, now_ns: int) -> tuple[OrderAmendRefused, ...]:
    """The order stands as it was."""
    order = kernel.orders.get(order_id)
    if order is None or order.pending_amend is None:
        return ()
    return (OrderAmendRefused(ts_ns=now_ns, trace_id=order.trace_id, client_order_id=order_id, refusal=refusal),)


def unknown_order(order_id: str) -> Refusal:
    return Refusal(ReasonCode.ORDER_UNKNOWN, f"This engine knows no order {order_id[:64]!r}. Check its id.")


def cancel_events(order: Order, requested_by: str, trace_id: str | None, now_ns: int) -> tuple[JournalEvent, ...]:
    """What a cancel makes true: asked of the venue, or, for what is held here, done."""
    requested = CancelRequested(
        ts_ns=now_ns,
        trace_id=trace_id or order.trace_id,
        client_order_id=order.intent.client_order_id,
        requested_by=requested_by,
    )
    if order.status is not OrderStatus.HELD:
        return (requested,)
    closed = OrderClosed(
        ts_ns=now_ns,
        trace_id=requested.trace_id,
        client_order_id=requested.client_order_id,
        status=OrderStatus.CANCELED,
        reason=f"cancelled by {requested_by} while it was held here",
    )
    return (requested, closed)


def decide_cancel(
    kernel: Kernel, order_id: str, requested_by: str, trace_id: str | None, now_ns: int
) -> Refusal | tuple[JournalEvent, ...]:
    """A held order ends at once: the venue knows nothing of it."""
    order = kernel.orders.get(order_id)
    if order is None:
        return unknown_order(order_id)
    if order.status.is_final:
        return Refusal(
            ReasonCode.ORDER_ALREADY_FINAL,
            f"Order {order_id} is {order.status}; there is nothing left to cancel.",
            actual=order.status,
        )
    return cancel_events(order, requested_by, trace_id, now_ns)


def decide_kill_switch(
    kernel: Kernel,
    state: KillSwitch,
    requested_by: str,
    reason: str,
    trace_id: str | None,
    now_ns: int,
    *,
    account_id: str = "",
) -> Refusal | tuple[JournalEvent, ...]:
    """Tighten, for one account or (empty) the whole engine. Loosening is refused; the state it is in already gives no
    event. HALTED also ends what is held here; what is at the venue is cancelled there."""
    current = kernel.account_kill_switches.get(account_id, KillSwitch.NORMAL) if account_id else kernel.kill_switch
    if state.tightness < current.tightness:
        return Refusal(ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED, THAW_CURE, limit=current, actual=state)
    if state is current:
        return ()
    changed = KillSwitchChanged(
        ts_ns=now_ns,
        trace_id=trace_id,
        state=state,
        requested_by=requested_by,
        reason=reason,
        account_id=account_id,
        authority=SafetyAuthority(requested_by),
    )
    if state is not KillSwitch.HALTED:
        return (changed,)
    held = [
        event
        for order in kernel.open_orders()
        if order.status is OrderStatus.HELD and account_id in {"", order.intent.account_id}
        for event in cancel_events(order, requested_by, trace_id, now_ns)
    ]
    return (changed, *held)


def decide_thaw(
    kernel: Kernel, signed: SignedThaw, root_public_key_hex: str, now_ns: int
) -> Refusal | KillSwitchChanged:
    """Loosen the kill switch under the root key: once, soon after it was signed, and not what was thrown later."""
    refusal = verify_thaw(
        signed,
        root_public_key_hex,
        engine_id=kernel.engine_id,
        kill_switch_changed_ns=kernel.kill_switch_changed_ns,
        now_ns=now_ns,
    )
    if refusal is not None:
        return refusal
    thaw = signed.thaw
    return KillSwitchChanged(
        ts_ns=now_ns, state=KillSwitch(thaw.state), requested_by=f"root:{thaw.requested_by}", reason=thaw.reason
    )


def open_intents_after_restart(kernel: Kernel, now_ns: int) -> tuple[OrderBecameUnknown, ...]:
    """Intents that were durable when the engine stopped: whether they reached the venue isn't known."""
    return tuple(
        event
        for order in kernel.open_orders()
        for event in decide_unknown(kernel, order.intent.client_order_id, "the engine restarted meanwhile", now_ns)
    )


def _wants_two(decision: RiskDecision) -> bool:
    return decision.refusal is not None and decision.refusal.code is NEEDS_TWO


def _identity(kernel: Kernel) -> EngineIdentity:
    return EngineIdentity(kernel.engine_id, kernel.environment, kernel.mode)


def _not_for_this_engine(kernel: Kernel, proposal: Proposal, now_ns: int) -> Refusal | None:
    """The part of verification that needs no signature."""
    return (
        check_identity(proposal, _identity(kernel))
        or check_expiry(proposal, now_ns)
        or check_instrument(proposal, kernel.instrument_versions())
    )


def _run_risk(
    kernel: Kernel, intent: OrderIntent, proposal: Proposal, approvals: int | None, inputs: DecisionInputs, now_ns: int
) -> RiskDecision:
    """approvals is None for the first run: nobody has signed yet, and the mid is the one that will be shown."""
    subject = RiskSubject(
        intent,
        approvals=APPROVALS_FOR_TWO if approvals is None else approvals,
        reference_price=None if approvals is None else Decimal(proposal.reference_price),
        max_deviation_bps=Decimal(proposal.max_deviation_bps),
    )
    return run_risk(kernel, subject, inputs, now_ns)


def _intent(kernel: Kernel, proposal: Proposal, digest_hex: str) -> OrderIntent | Refusal:
    instrument = kernel.instruments[proposal.venue, proposal.symbol]
    try:
        quantity = to_scaled(Decimal(proposal.quantity), instrument.quantity_scale)
    except ValueError:
        return _not_a_multiple(
            ReasonCode.ORDER_LOT_SIZE_VIOLATED, instrument.lot_size, instrument.quantity_scale, proposal.quantity
        )
    try:
        price = to_scaled(Decimal(proposal.price), instrument.price_scale) if proposal.price else None
    except ValueError:
        return _not_a_multiple(
            ReasonCode.ORDER_TICK_SIZE_VIOLATED, instrument.tick_size, instrument.price_scale, proposal.price
        )
    return OrderIntent(
        account_id=proposal.account_id,
        venue=proposal.venue,
        symbol=proposal.symbol,
        side=Side(proposal.side),
        order_type=OrderType(proposal.order_type),
        time_in_force=TimeInForce(proposal.time_in_force),
        quantity=quantity,
        price=price,
        price_scale=instrument.price_scale,
        quantity_scale=instrument.quantity_scale,
        client_order_id=client_order_id(digest_hex),
        post_only=proposal.post_only == "true",
        reduce_only=proposal.reduce_only == "true",
    )


def _not_a_multiple(code: ReasonCode, step: int, scale: int, actual: str) -> Refusal:
    return Refusal(
        code, "More decimal places than the instrument has. Round it.", decimal_text(from_scaled(step, scale)), actual
    )


def _next_version(kernel: Kernel, item: Instrument) -> Instrument:
    known = kernel.instruments.get((item.venue, item.symbol))
    if known is None:
        return msgspec.structs.replace(item, version=1)
    same = msgspec.structs.replace(item, version=known.version)
    if same == known:
        return known
    if (item.price_scale, item.quantity_scale) != (known.price_scale, known.quantity_scale):
        _refuse_scale_change_in_use(kernel, known, item)
    return msgspec.structs.replace(item, version=known.version + 1)


def _refuse_scale_change_in_use(kernel: Kernel, known: Instrument, item: Instrument) -> None:
    in_use = any((venue, symbol) == (known.venue, known.symbol) for _, venue, symbol in kernel.positions) or any(
        order.intent.symbol == known.symbol for order in kernel.open_orders()
    )
    if in_use:
        raise InstrumentScaleChangedError(
            f"{item.venue}/{item.symbol}: the venue's decimal places changed from {known.price_scale}/"
            f"{known.quantity_scale} to {item.price_scale}/{item.quantity_scale} while this engine holds positions or "
            "orders in it. Start the engine with the former market, or with a new VELOZ_HOME."
        )
