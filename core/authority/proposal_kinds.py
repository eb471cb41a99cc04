"""What each kind of proposal says, and what its values may be. All of it is text: decimals in plain notation, times in
ns, flags as `true` or `false`, empty for none."""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from core.types.codes import ReasonCode, Refusal
from core.types.money import decimal_text
from core.types.orders import OrderType, Side, TimeInForce

SHOWN_LIMIT_CHARS = 64
VERSION_LENGTH_LIMIT = 18
DECIMAL_LENGTH_LIMIT = 40
TYPES_OF_FIRST_SCHEMA = frozenset({OrderType.LIMIT, OrderType.MARKET})

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,39})?")


class Proposed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Common to all kinds: which suggestion it is, for which engine and account, who asked, and how long it holds.

    edited_by is whose change made this version; nobody's is left out, so what was signed before there were edits stays
    what it was.
    """

    schema: str
    suggestion_id: str
    version: str
    environment: str
    mode: str
    engine_id: str
    account_id: str
    asker_id: str
    run_id: str
    trace_id: str
    created_at_ns: str
    expires_at_ns: str
    edited_by: str = ""

    @property
    def authors(self) -> frozenset[str]:
        """Whose proposal it is: theirs is never one of two approvals."""
        return frozenset({self.asker_id, self.edited_by} - {""})

    @property
    def expires_ns(self) -> int:
        return int(self.expires_at_ns)


class Proposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One exact LIMIT or MARKET order: the first schema, which stays valid.

    price is empty for MARKET. reference_price is the mid at the time of the proposal; max_deviation_bps is how far
    the mid may have moved from it at send before the proposal goes back to a human.
    """

    venue: str
    symbol: str
    instrument_version: str
    side: str
    order_type: str
    time_in_force: str
    quantity: str
    price: str
    post_only: str
    reduce_only: str
    notional_quote: str
    reference_price: str
    max_deviation_bps: str


class OrderProposal(Proposal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One exact order of any type. stop_price is of a stop or a take-profit; trailing_offset_bps, and activation_price
    if there is one, of a trailing stop; order_expires_at_ns is until when a GTD order is good."""

    stop_price: str
    trailing_offset_bps: str
    activation_price: str
    order_expires_at_ns: str


def value_problem(proposal: Proposed) -> Refusal | None:
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


def _kind_problem(proposal: Proposed) -> Refusal | None:
    match proposal:
        case OrderProposal():
            return _order_problem(proposal) or _conditions_problem(proposal)
        case Proposal():
            return _order_problem(proposal) or _first_schema_problem(proposal)
        case _:
            return malformed(f"nothing is known of {type(proposal).__name__}")


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
