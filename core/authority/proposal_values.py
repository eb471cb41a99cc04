"""What the values of a proposal may be, for each kind: form, and what of it has to fit together."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import assert_never

from core.authority.listed_orders import listed_orders
from core.authority.proposal_kinds import (
    AmendProposal,
    AnyProposal,
    BracketProposal,
    CancelListedProposal,
    CancelProposal,
    CloseProposal,
    HedgeProposal,
    KillSwitchProposal,
    OrderProposal,
    Proposal,
    Proposed,
    StrategyChangeProposal,
)
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.money import BPS_PER_UNIT, decimal_text
from core.types.orders import OrderType, Side, TimeInForce

SHOWN_LIMIT_CHARS = 64
VERSION_LENGTH_LIMIT = 18
DECIMAL_LENGTH_LIMIT = 40
ID_LENGTH_LIMIT = 128
REASON_LENGTH_LIMIT = 512
TYPES_OF_FIRST_SCHEMA = frozenset({OrderType.LIMIT, OrderType.MARKET})
ENTRY_TYPES = frozenset({OrderType.LIMIT, OrderType.MARKET, OrderType.STOP, OrderType.STOP_LIMIT})
PROFIT_TYPES = frozenset({OrderType.LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT})
STOP_TYPES = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})
EXACT = Context(prec=8 * DECIMAL_LENGTH_LIMIT)
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
        case CloseProposal():
            return _order_problem(proposal) or _conditions_problem(proposal) or _close_problem(proposal)
        case HedgeProposal():
            return _order_problem(proposal) or _conditions_problem(proposal) or _hedge_problem(proposal)
        case OrderProposal():
            return _order_problem(proposal) or _conditions_problem(proposal)
        case Proposal():
            return _order_problem(proposal) or _first_schema_problem(proposal)
        case BracketProposal():
            return _bracket_problem(proposal)
        case CancelProposal():
            return _shown_order_problem(proposal)
        case CancelListedProposal():
            return _listed_orders_problem(proposal)
        case AmendProposal():
            return _shown_order_problem(proposal) or _amendment_problem(proposal)
        case KillSwitchProposal():
            return _kill_switch_problem(proposal)
        case StrategyChangeProposal():
            return _strategy_problem(proposal)
        case _:
            assert_never(proposal)


def _close_problem(proposal: CloseProposal) -> Refusal | None:
    if proposal.reduce_only != "true":
        return malformed("an order that closes a position is reduce_only")
    return _against(proposal, "position_quantity") or (
        malformed("quantity is more than the position that it closes")
        if Decimal(proposal.quantity) > abs(Decimal(proposal.position_quantity))
        else None
    )


def _hedge_problem(proposal: HedgeProposal) -> Refusal | None:
    refusal = (
        _against(proposal, "exposure_quantity")
        or _positive(proposal, "exposure_price")
        or _whole(proposal, "hedge_ratio_bps")
    )
    if refusal is not None:
        return refusal
    if not 0 < int(proposal.hedge_ratio_bps) <= BPS_PER_UNIT:
        return malformed(f"hedge_ratio_bps must be from 1 to {BPS_PER_UNIT}")
    if not 0 < len(proposal.hedged_symbol) <= ID_LENGTH_LIMIT:
        return malformed(f"hedged_symbol must have 1 to {ID_LENGTH_LIMIT} characters")
    worth = EXACT.multiply(abs(Decimal(proposal.exposure_quantity)), Decimal(proposal.exposure_price))
    allowed = EXACT.multiply(worth, Decimal(proposal.hedge_ratio_bps))
    asked = EXACT.multiply(EXACT.multiply(Decimal(proposal.quantity), Decimal(proposal.reference_price)), BPS_PER_UNIT)
    return malformed("quantity is more than the exposure and the ratio come to") if asked > allowed else None


def _against(proposal: CloseProposal | HedgeProposal, name: str) -> Refusal | None:
    """A LIMIT or MARKET order on the other side than a position, which isn't flat."""
    if OrderType(proposal.order_type) not in TYPES_OF_FIRST_SCHEMA:
        return malformed(f"it is a LIMIT or a MARKET order, not {proposal.order_type}")
    text = getattr(proposal, name)
    if not _PLAIN_DECIMAL.fullmatch(text.removeprefix("-")) or len(text) > DECIMAL_LENGTH_LIMIT:
        return malformed(f"{name} must be a decimal in plain notation, is {text[:SHOWN_LIMIT_CHARS]!r}")
    held = Decimal(text)
    if held == 0 or decimal_text(held) != text:
        return malformed(f"{name} must be a position that isn't flat, is {text[:SHOWN_LIMIT_CHARS]!r}")
    if (Side(proposal.side) is Side.SELL) is not (held > 0):
        return malformed(f"side must be the one that reduces {name}")
    return None


def _bracket_problem(proposal: BracketProposal) -> Refusal | None:
    try:
        Side(proposal.side)
        TimeInForce(proposal.entry_time_in_force)
        entry = OrderType(proposal.entry_type)
        take_profit = OrderType(proposal.take_profit_type) if proposal.take_profit_type else None
        stop = OrderType(proposal.stop_type) if proposal.stop_type else None
    except ValueError as error:
        return malformed(str(error)[:200])
    if entry not in ENTRY_TYPES or proposal.entry_time_in_force == TimeInForce.GTD:
        return malformed(f"an entry is one of {', '.join(sorted(ENTRY_TYPES))}, and not GTD")
    if take_profit is not None and take_profit not in PROFIT_TYPES:
        return malformed(f"a take-profit is one of {', '.join(sorted(PROFIT_TYPES))}")
    if stop is not None and stop not in STOP_TYPES:
        return malformed(f"a stop is one of {', '.join(sorted(STOP_TYPES))}")
    if take_profit is None and stop is None:
        return malformed("a bracket has a take-profit, a stop, or both")
    return (
        _whole(proposal, "instrument_version")
        or _positive(proposal, "quantity", "notional_quote", "reference_price", "max_deviation_bps")
        or _flags(proposal, "entry_post_only")
        or _leg_problem(proposal, "entry", entry)
        or _leg_problem(proposal, "take_profit", take_profit)
        or _leg_problem(proposal, "stop", stop)
        or (_whole(proposal, "stop_trailing_offset_bps") if proposal.stop_trailing_offset_bps else None)
    )


def _leg_problem(proposal: BracketProposal, leg: str, kind: OrderType | None) -> Refusal | None:
    """A leg has the prices of its type, and one that there isn't has none."""
    is_trailing = kind is OrderType.TRAILING_STOP
    for name, belongs in (
        ("limit_price", kind is not None and kind.has_limit_price),
        ("trigger_price", kind is not None and kind.is_conditional and not is_trailing),
        ("trailing_offset_bps", is_trailing),
    ):
        if hasattr(proposal, f"{leg}_{name}"):
            refusal = _given(proposal, f"{leg}_{name}", belongs, kind or "missing")
            if refusal is not None:
                return refusal
    return None


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


def _listed_orders_problem(proposal: CancelListedProposal) -> Refusal | None:
    try:
        orders = listed_orders(proposal.orders)
        for order in orders:
            OrderType(order.order_type)
    except ValueError as error:
        return malformed(f"orders: {error}"[:200])
    if len(proposal.symbol) > ID_LENGTH_LIMIT or not 0 < len(proposal.venue) <= ID_LENGTH_LIMIT:
        return malformed(f"venue and symbol have at most {ID_LENGTH_LIMIT} characters, and there is a venue")
    if proposal.symbol and any(order.symbol != proposal.symbol for order in orders):
        return malformed(f"orders holds one that isn't in {proposal.symbol[:SHOWN_LIMIT_CHARS]}")
    for order in orders:
        for text in filter(None, (order.quantity, order.price, order.stop_price)):
            refusal = _positive_text("orders", text)
            if refusal is not None:
                return refusal
    return None


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


def _given(proposal: Proposed, name: str, belongs: bool, kind: str) -> Refusal | None:
    """A positive decimal where it belongs, and nothing where it doesn't."""
    if belongs:
        return _positive(proposal, name)
    return malformed(f"a {kind} order has no {name}") if getattr(proposal, name) else None


def _positive(proposal: Proposed, *names: str) -> Refusal | None:
    for name in names:
        refusal = _positive_text(name, getattr(proposal, name))
        if refusal is not None:
            return refusal
    return None


def _positive_text(name: str, text: str) -> Refusal | None:
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
