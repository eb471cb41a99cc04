"""What the values of a proposal may be, for each kind: form, and what of it has to fit together."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import assert_never

from core.authority.proposal_kinds import (
    AmendProposal,
    AnyProposal,
    CancelProposal,
    KillSwitchProposal,
    OrderProposal,
    Proposal,
    Proposed,
    StrategyChangeProposal,
)
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.money import decimal_text
from core.types.orders import OrderType, Side, TimeInForce

SHOWN_LIMIT_CHARS = 64
VERSION_LENGTH_LIMIT = 18
DECIMAL_LENGTH_LIMIT = 40
ID_LENGTH_LIMIT = 128
REASON_LENGTH_LIMIT = 512
TYPES_OF_FIRST_SCHEMA = frozenset({OrderType.LIMIT, OrderType.MARKET})
SCOPES = frozenset({"account", "engine"})
STRATEGY_ACTIONS = frozenset({"revoke", "tighten"})
MANDATE_LIMITS = (
    "max_order_notional_quote",
    "max_position_notional_quote",
    "max_total_notional_quote",
    "max_open_orders",
)

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,39})?")


def value_problem(proposal: AnyProposal) -> Refusal | None:
    """The first value that isn't in form for its kind."""
    return _common_problem(proposal) or _kind_problem(proposal)


def malformed(detail: str) -> Refusal:
    return Refusal(ReasonCode.AUTHORITY_PROPOSAL_MALFORMED, f"The proposal can't be read: {detail}.")


def _common_problem(proposal: Proposed) -> Refusal | None:
    refusal = _whole(proposal, "version", "created_at_ns", "expires_at_ns")
    if refusal is not None:
        return refusal
    if len(proposal.version) > VERSION_LENGTH_LIMIT or proposal.version == "0":
        return malformed("version must be a whole number from 1 on")
    if not (proposal.suggestion_id and proposal.account_id and proposal.asker_id):
        return malformed("suggestion_id, account_id and asker_id must not be empty")
    return None


def _kind_problem(proposal: AnyProposal) -> Refusal | None:
    match proposal:
        case OrderProposal():
            return _order_problem(proposal) or _conditions_problem(proposal)
        case Proposal():
            return _order_problem(proposal) or _first_schema_problem(proposal)
        case CancelProposal():
            return _shown_order_problem(proposal)
        case AmendProposal():
            return _shown_order_problem(proposal) or _amendment_problem(proposal)
        case KillSwitchProposal():
            return _kill_switch_problem(proposal)
        case StrategyChangeProposal():
            return _strategy_problem(proposal)
        case _:
            assert_never(proposal)


def _shown_order_problem(proposal: CancelProposal | AmendProposal) -> Refusal | None:
    """The terms of an order that there is."""
    try:
        Side(proposal.side)
        OrderType(proposal.order_type)
    except ValueError as error:
        return malformed(str(error)[:200])
    if not 0 < len(proposal.client_order_id) <= ID_LENGTH_LIMIT:
        return malformed(f"client_order_id must have 1 to {ID_LENGTH_LIMIT} characters")
    named = [name for name in ("price", "stop_price") if getattr(proposal, name, "")]
    return _positive(proposal, "quantity", *named)


def _amendment_problem(proposal: AmendProposal) -> Refusal | None:
    if proposal.order_type != OrderType.LIMIT:
        return malformed(f"a {proposal.order_type} order can't be amended")
    refusal = _whole(proposal, "instrument_version") or _positive(
        proposal, "price", "new_quantity", "new_price", "notional_quote", "reference_price", "max_deviation_bps"
    )
    if refusal is None and proposal.filled_quantity != "0":
        refusal = _positive(proposal, "filled_quantity")
    if refusal is not None:
        return refusal
    if (proposal.new_quantity, proposal.new_price) == (proposal.quantity, proposal.price):
        return malformed("neither quantity nor price would change")
    return None


def _kill_switch_problem(proposal: KillSwitchProposal) -> Refusal | None:
    if proposal.scope not in SCOPES:
        return malformed(f"scope must be one of {', '.join(sorted(SCOPES))}")
    # Loosening is administration: nothing that a copilot proposes can ever ask for it.
    tighter = [state.value for state in KillSwitch if state is not KillSwitch.NORMAL]
    if proposal.state not in tighter:
        return malformed(f"state must be one of {', '.join(tighter)}")
    return _reason_problem(proposal.reason)


def _strategy_problem(proposal: StrategyChangeProposal) -> Refusal | None:
    if proposal.action not in STRATEGY_ACTIONS:
        return malformed(f"action must be one of {', '.join(sorted(STRATEGY_ACTIONS))}")
    if not (0 < len(proposal.mandate_id) <= ID_LENGTH_LIMIT and 0 < len(proposal.strategy_id) <= ID_LENGTH_LIMIT):
        return malformed(f"mandate_id and strategy_id must have 1 to {ID_LENGTH_LIMIT} characters")
    refusal = _positive(proposal, *MANDATE_LIMITS) or _whole(proposal, "max_open_orders")
    refusal = refusal or _reason_problem(proposal.reason)
    if refusal is not None:
        return refusal
    wanted = {name: getattr(proposal, f"new_{name}") for name in MANDATE_LIMITS}
    if proposal.action == "revoke":
        return malformed("a mandate that is revoked has no new limits") if any(wanted.values()) else None
    refusal = _positive(proposal, *(f"new_{name}" for name in MANDATE_LIMITS)) or _whole(
        proposal, "new_max_open_orders"
    )
    if refusal is not None:
        return refusal
    pairs = [(Decimal(wanted[name]), Decimal(getattr(proposal, name))) for name in MANDATE_LIMITS]
    if any(new > old for new, old in pairs) or all(new == old for new, old in pairs):
        return malformed("limits can only be tightened so; more than before needs a mandate of its own")
    return None


def _reason_problem(reason: str) -> Refusal | None:
    if len(reason) > REASON_LENGTH_LIMIT:
        return malformed(f"reason has more than {REASON_LENGTH_LIMIT} characters")
    return None


def _order_problem(proposal: Proposal) -> Refusal | None:
    """What holds for an order of either schema."""
    try:
        Side(proposal.side)
        order_type = OrderType(proposal.order_type)
        time_in_force = TimeInForce(proposal.time_in_force)
    except ValueError as error:
        return malformed(str(error)[:200])
    refusal = (
        _whole(proposal, "instrument_version")
        or _positive(proposal, "quantity", "notional_quote", "reference_price", "max_deviation_bps")
        or _given(proposal, "price", order_type.has_limit_price, order_type)
        or _flags(proposal, "post_only", "reduce_only")
    )
    if refusal is not None:
        return refusal
    if proposal.post_only == "true" and (
        order_type is not OrderType.LIMIT or time_in_force not in {TimeInForce.GTC, TimeInForce.GTD}
    ):
        return malformed("post_only goes with a LIMIT order that rests only")
    return None


def _first_schema_problem(proposal: Proposal) -> Refusal | None:
    # A trigger or an expiry would have to be a digested field, and there is none: what is signed is what is shown (I2).
    if OrderType(proposal.order_type) not in TYPES_OF_FIRST_SCHEMA:
        return malformed(f"schema 1 is for a LIMIT or a MARKET order, not {proposal.order_type}; use schema 2")
    if proposal.time_in_force == TimeInForce.GTD:
        return malformed("an order of schema 1 has no expiry, so its time in force isn't GTD; use schema 2")
    return None


def _conditions_problem(proposal: OrderProposal) -> Refusal | None:
    kind = OrderType(proposal.order_type)
    is_trailing = kind is OrderType.TRAILING_STOP
    if proposal.activation_price and not is_trailing:
        return malformed(f"a {kind} order has no activation_price")
    refusal = (
        _given(proposal, "stop_price", kind.is_conditional and not is_trailing, kind)
        or _given(proposal, "trailing_offset_bps", is_trailing, kind)
        or (_positive(proposal, "activation_price") if proposal.activation_price else None)
        or (_whole(proposal, "trailing_offset_bps") if is_trailing else None)
    )
    if refusal is not None:
        return refusal
    is_gtd = proposal.time_in_force == TimeInForce.GTD
    if is_gtd is not bool(proposal.order_expires_at_ns):
        return malformed("a GTD order, and no other, has order_expires_at_ns")
    return _whole(proposal, "order_expires_at_ns") if is_gtd else None


def _given(proposal: Proposed, name: str, belongs: bool, kind: OrderType) -> Refusal | None:
    """A positive decimal where it belongs, and nothing where it doesn't."""
    if belongs:
        return _positive(proposal, name)
    return malformed(f"a {kind} order has no {name}") if getattr(proposal, name) else None


def _positive(proposal: Proposed, *names: str) -> Refusal | None:
    for name in names:
        text = getattr(proposal, name)
        # By its form first: written out, a Decimal of 14 characters can take gigabytes.
        if not _PLAIN_DECIMAL.fullmatch(text) or decimal_text(Decimal(text)) != text or Decimal(text) <= 0:
            return malformed(f"{name} must be a positive decimal in plain notation, is {text[:SHOWN_LIMIT_CHARS]!r}")
        if len(text) > DECIMAL_LENGTH_LIMIT:
            return malformed(f"{name} is longer than {DECIMAL_LENGTH_LIMIT} characters")
    return None


def _whole(proposal: Proposed, *names: str) -> Refusal | None:
    for name in names:
        text = getattr(proposal, name)
        if not _WHOLE_NUMBER.fullmatch(text):
            return malformed(f"{name} must be a whole number, is {text[:SHOWN_LIMIT_CHARS]!r}")
    return None


def _flags(proposal: Proposed, *names: str) -> Refusal | None:
    for name in names:
        if getattr(proposal, name) not in {"true", "false"}:
            return malformed(f"{name} must be 'true' or 'false'")
    return None
