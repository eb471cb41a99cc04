"""What the engine decides about proposals: risk's first run, and the consumption of an approval. Pure, as decide.

An approval is used once, in one record with all that it causes (I2, I4): a crash leaves both or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_never

import msgspec

from core.authority.proposal import proposal_digest
from core.authority.proposal_kinds import (
    AmendProposal,
    BracketProposal,
    CancelListedProposal,
    CancelProposal,
    HedgeProposal,
    KillSwitchProposal,
    OrderProposal,
    Proposal,
    StrategyChangeProposal,
)
from core.authority.verify import (
    PROPOSAL_LONGEST_NS,
    approvals_counted,
    approvals_due,
    approvals_due_problem,
    check_expiry,
    check_figures,
    check_identity,
    check_instrument,
    read_proposal,
    signed_notional_quote,
    verify_approval,
)
from core.kernel import decide_changes
from core.kernel.approval import Approval, Caused, refused
from core.kernel.decide_authority import identity_of
from core.kernel.decide_groups import exits_refusal, leg_decisions, leg_events, leg_intents
from core.kernel.decide_risk import APPROVALS_FOR_TWO, RiskSubject, run_risk, with_held
from core.kernel.decide_void import void_problem
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.kernel.order_terms import intent_of, is_held_here
from core.portfolio.positions import Position
from core.risk.checks import RiskDecision
from core.types.codes import ReasonCode, Refusal
from core.types.events import ApprovalDecided, OrderIntended, RiskCheckRecord
from core.types.instruments import Instrument
from core.types.money import decimal_text, from_scaled, to_scaled
from core.types.orders import (
    GroupKind,
    GroupRequest,
    OrderIntent,
    OrderRequest,
    OrderRole,
    OrderType,
    Side,
    TimeInForce,
    client_order_id,
)
from core.types.venues import VenueCapabilities

NEEDS_TWO = ReasonCode.RISK_CUSTOM_RULE_NEEDS_TWO_APPROVALS


class Checked(msgspec.Struct, frozen=True):
    """Risk's first run. approvals_due is how many people would have to sign what was checked now; None when that can't
    be told."""

    checks: tuple[RiskCheckRecord, ...]
    refusal: Refusal | None
    approvals_due: int | None = None


def decide_check(
    kernel: Kernel, canonical: bytes, inputs: DecisionInputs, capabilities: VenueCapabilities, now_ns: int
) -> Checked:
    """Risk's first run (I3), on a proposal that nobody has signed yet. Changes nothing."""
    proposal = read_proposal(canonical)
    if isinstance(proposal, Refusal):
        return Checked((), proposal)
    refusal = (
        check_identity(proposal, identity_of(kernel))
        or check_expiry(proposal, now_ns)
        or check_instrument(proposal, kernel.instrument_versions())
    )
    if refusal is not None:
        return Checked((), refusal)
    approval = Approval(
        proposal, proposal_digest(canonical), None, APPROVALS_FOR_TWO, inputs, capabilities, now_ns, None
    )
    decision = _caused(kernel, approval).decision
    return Checked(decision.checks, decision.refusal, _approvals_due(kernel, approval, decision))


def decide_approval(
    kernel: Kernel,
    canonical: bytes,
    digest_hex: str,
    signatures: Sequence[tuple[str, bytes]],
    *,
    trace_id: str | None,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    approvals_at_least: int = 1,
    figures_max_age_ns: int = PROPOSAL_LONGEST_NS,
) -> Refusal | ApprovalDecided:
    """Consume an approval: authority, then risk against this moment (I2, I3). figures_max_age_ns is how old what was
    shown may be.

    A Refusal is a failure of authority: nothing is consumed. An ApprovalDecided consumes the approval, whether it
    leads to what was proposed or to risk's refusal.
    """
    verdict = verify_approval(
        canonical,
        digest_hex,
        signatures,
        roster=kernel.roster,
        identity=identity_of(kernel),
        instrument_versions=kernel.instrument_versions(),
        consumed=kernel.consumed,
        now_ns=now_ns,
        at_least=approvals_at_least,
    )
    if isinstance(verdict, Refusal):
        return verdict
    proposal = verdict.proposal
    void = void_problem(kernel, proposal.suggestion_id, int(proposal.version))
    stale = void or check_figures(proposal, now_ns, figures_max_age_ns)
    if stale is not None:
        return stale
    trace_id = trace_id or proposal.trace_id or None
    counted = approvals_counted(proposal, verdict.signatures, kernel.roster)
    approval = Approval(proposal, digest_hex, verdict.signatures, counted, inputs, capabilities, now_ns, trace_id)
    caused = _caused(kernel, approval)
    decision = caused.decision
    # The threshold is in the reporting currency; the proposal's own numbers are in its quote asset.
    worth = max(signed_notional_quote(proposal), decision.notional or Decimal(0))
    refusal = approvals_due_problem(proposal, verdict.signatures, kernel.roster, worth, approvals_at_least)
    # A rule that wants two people doesn't use up what one of them has signed: the second can still sign it.
    if refusal is None and decision.refusal is not None and decision.refusal.code is NEEDS_TWO:
        refusal = decision.refusal
    if refusal is not None:
        return refusal
    return ApprovalDecided(
        ts_ns=now_ns,
        trace_id=trace_id,
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
        intent=caused.intent if decision.refusal is None else None,
        refusal=decision.refusal,
        caused=caused.events if decision.refusal is None else (),
    )


def only_reduces(canonical: bytes) -> bool:
    """Whether what is proposed is a safety command: it waits for no disk."""
    reducing = CancelProposal | CancelListedProposal | KillSwitchProposal | StrategyChangeProposal
    return isinstance(read_proposal(canonical), reducing)


def _approvals_due(kernel: Kernel, approval: Approval, decision: RiskDecision) -> int | None:
    worth = signed_notional_quote(approval.proposal)
    if worth and decision.notional is None:
        return None
    # A rule of the house's own may want two for what the threshold lets through with one.
    by_one = _caused(kernel, msgspec.structs.replace(approval, approvals=1)).decision
    by_rules = any(check.name == NEEDS_TWO and not check.passed for check in by_one.checks)
    worth = max(worth, decision.notional or Decimal(0))
    return approvals_due(kernel.roster, worth, APPROVALS_FOR_TWO if by_rules else 1)


def _caused(kernel: Kernel, approval: Approval) -> Caused:
    match approval.proposal:
        case HedgeProposal() as proposal if (changed := _exposure_problem(kernel, proposal)) is not None:
            return refused(changed)
        case Proposal() as proposal:
            return _order(kernel, approval, proposal)
        case BracketProposal() as proposal:
            return _bracket(kernel, approval, proposal)
        case CancelProposal() as proposal:
            return decide_changes.cancel(kernel, approval, proposal)
        case CancelListedProposal() as proposal:
            return decide_changes.cancel_listed(kernel, approval, proposal)
        case AmendProposal() as proposal:
            return decide_changes.amend(kernel, approval, proposal)
        case KillSwitchProposal() as proposal:
            return decide_changes.tighten_switch(kernel, approval, proposal)
        case StrategyChangeProposal() as proposal:
            return decide_changes.change_strategy(kernel, approval, proposal)
        case other:
            assert_never(other)


def _order(kernel: Kernel, approval: Approval, proposal: Proposal) -> Caused:
    intent = _intent(kernel, approval, proposal)
    if isinstance(intent, Refusal):
        return Caused(RiskDecision((), intent))
    decision = run_risk(kernel, _subject(approval, intent, proposal), approval.inputs, approval.now_ns)
    if not is_held_here(intent.order_type, approval.capabilities):
        return Caused(decision, intent)
    decision = with_held(kernel, intent, decision, 1)
    if decision.refusal is not None:
        return Caused(decision)
    assert decision.notional is not None, "an order that can't be valued doesn't pass risk"
    held = OrderIntended(
        ts_ns=approval.now_ns,
        trace_id=approval.trace_id,
        intent=intent,
        authority=approval.authority,
        notional_quote=decimal_text(decision.notional),
        rules_version=kernel.rules_version,
        market=approval.inputs.market,
        checks=decision.checks,
        is_held=True,
    )
    return Caused(decision, events=(held,))


def _exposure_problem(kernel: Kernel, proposal: HedgeProposal) -> Refusal | None:
    """A hedge of an exposure that is smaller by now, or the other way round, would be a position of its own."""
    key = (proposal.account_id, proposal.venue, proposal.hedged_symbol)
    instrument = kernel.instruments.get(key[1:])
    held = kernel.positions.get(key, Position()).quantity
    now = Decimal(0) if instrument is None else from_scaled(held, instrument.quantity_scale)
    shown = Decimal(proposal.exposure_quantity)
    if now >= shown > 0 or now <= shown < 0:
        return None
    return Refusal(
        ReasonCode.APPROVAL_SUBJECT_CHANGED,
        f"The position in {proposal.hedged_symbol[:64]} isn't as large any more as it was shown. Nothing was done; ask "
        "for a new suggestion.",
        limit=proposal.exposure_quantity,
        actual=decimal_text(now),
        unit="exposure_quantity",
    )


def _bracket(kernel: Kernel, approval: Approval, proposal: BracketProposal) -> Caused:
    request = _group_request(proposal, kernel.instruments[proposal.venue, proposal.symbol])
    if isinstance(request, Refusal):
        return refused(request)
    group_id = client_order_id(approval.digest_hex)
    intents = leg_intents(kernel, request, group_id, approval.inputs, approval.capabilities, approval.now_ns)
    if isinstance(intents, Refusal):
        return refused(intents)
    entry = intents[OrderRole.ENTRY]
    decisions = leg_decisions(
        kernel, request.kind, intents, _subject(approval, entry, proposal), approval.inputs, approval.now_ns
    )
    decision = decisions[OrderRole.ENTRY]
    refusal = decision.refusal or exits_refusal(decisions)
    if refusal is not None:
        return Caused(msgspec.structs.replace(decision, refusal=refusal))
    events = leg_events(
        kernel,
        request.kind,
        intents,
        decisions,
        approval.authority,
        approval.inputs,
        approval.capabilities,
        approval.now_ns,
        group_id=group_id,
        trace_id=approval.trace_id,
    )
    return Caused(decision, events=events)


def _group_request(proposal: BracketProposal, instrument: Instrument) -> GroupRequest | Refusal:
    exit_side = Side.SELL if proposal.side == Side.BUY else Side.BUY
    orders: dict[OrderRole, OrderRequest] = {}
    for role in OrderRole:
        leg = {
            name: getattr(proposal, f"{role}_{name}", "")
            for name in ("type", "limit_price", "trigger_price", "trailing_offset_bps")
        }
        if not leg["type"]:
            continue
        is_entry = role is OrderRole.ENTRY
        order = _scaled_request(
            instrument,
            OrderRequest(
                request_id=proposal.suggestion_id,
                account_id=proposal.account_id,
                venue=proposal.venue,
                symbol=proposal.symbol,
                side=Side(proposal.side) if is_entry else exit_side,
                order_type=OrderType(leg["type"]),
                time_in_force=TimeInForce(proposal.entry_time_in_force) if is_entry else TimeInForce.GTC,
                quantity=0,
                post_only=is_entry and proposal.entry_post_only == "true",
                trailing_offset_bps=_whole(leg["trailing_offset_bps"]),
            ),
            {"quantity": proposal.quantity, "price": leg["limit_price"], "stop_price": leg["trigger_price"]},
        )
        if isinstance(order, Refusal):
            return order
        orders[role] = order
    return GroupRequest(proposal.suggestion_id, GroupKind.BRACKET, orders)


def _subject(approval: Approval, intent: OrderIntent, proposal: Proposal | BracketProposal) -> RiskSubject:
    """In the first run the mid is the one that will be shown: nothing has drifted from it."""
    return RiskSubject(
        intent,
        approvals=approval.approvals,
        reference_price=None if approval.signatures is None else Decimal(proposal.reference_price),
        max_deviation_bps=Decimal(proposal.max_deviation_bps),
    )


def _intent(kernel: Kernel, approval: Approval, proposal: Proposal) -> OrderIntent | Refusal:
    request = order_request(proposal, kernel.instruments[proposal.venue, proposal.symbol])
    if isinstance(request, Refusal):
        return request
    order_id = client_order_id(approval.digest_hex)
    return intent_of(kernel, request, order_id, approval.capabilities, approval.inputs, approval.now_ns)


def order_request(proposal: Proposal, instrument: Instrument) -> OrderRequest | Refusal:
    """The order that a proposal describes, at its instrument's scales."""
    conditions = proposal if isinstance(proposal, OrderProposal) else None
    return _scaled_request(
        instrument,
        OrderRequest(
            request_id=proposal.suggestion_id,
            account_id=proposal.account_id,
            venue=proposal.venue,
            symbol=proposal.symbol,
            side=Side(proposal.side),
            order_type=OrderType(proposal.order_type),
            time_in_force=TimeInForce(proposal.time_in_force),
            quantity=0,
            post_only=proposal.post_only == "true",
            reduce_only=proposal.reduce_only == "true",
            trailing_offset_bps=_whole(conditions.trailing_offset_bps) if conditions else None,
            expires_ns=_whole(conditions.order_expires_at_ns) if conditions else None,
        ),
        {name: getattr(proposal, name, "") for name in ("quantity", "price", "stop_price", "activation_price")},
    )


def _scaled_request(instrument: Instrument, terms: OrderRequest, amounts: dict[str, str]) -> OrderRequest | Refusal:
    """terms with these amounts at the instrument's scales; without text there is none."""
    scaled: dict[str, int] = {}
    for name, text in amounts.items():
        is_quantity = name == "quantity"
        scale = instrument.quantity_scale if is_quantity else instrument.price_scale
        try:
            scaled |= {name: to_scaled(Decimal(text), scale)} if text else {}
        except ValueError:
            code = ReasonCode.ORDER_LOT_SIZE_VIOLATED if is_quantity else ReasonCode.ORDER_TICK_SIZE_VIOLATED
            step = instrument.lot_size if is_quantity else instrument.tick_size
            return _not_a_multiple(code, step, scale, text)
    return msgspec.structs.replace(terms, **scaled)


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _not_a_multiple(code: ReasonCode, step: int, scale: int, actual: str) -> Refusal:
    return Refusal(
        code, "More decimal places than the instrument has. Round it.", decimal_text(from_scaled(step, scale)), actual
    )
