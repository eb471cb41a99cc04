"""The proposal: exactly what a human is shown, signs, and the engine executes (I2).

Its bytes are RFC 8785 JSON with every number as a string. The digest that approvers sign is
SHA-256(domain tag || bytes), so a signature made here means nothing in any other protocol.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal

import msgspec
import rfc8785

from core.types.codes import ReasonCode, refuse
from core.types.money import decimal_text
from core.types.orders import OrderType, Side, TimeInForce

PROPOSAL_SCHEMA = "veloz.order-proposal/1"
PROPOSAL_DOMAIN_TAG = b"veloz/order-proposal/v1\x00"
PROPOSAL_SIZE_LIMIT_BYTES = 16_384
SHOWN_LIMIT_CHARS = 64
PROPOSED_TYPES = frozenset({OrderType.LIMIT, OrderType.MARKET})

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,39})?")


class Proposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exact order that a human can approve. Numbers are text: decimals in plain notation, times in ns.

    price is empty for MARKET. reference_price is the mid at the time of the proposal; max_deviation_bps is how far
    the mid may have moved from it at send before the proposal goes back to a human.
    """

    schema: str
    suggestion_id: str
    version: str
    environment: str
    mode: str
    engine_id: str
    account_id: str
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
    asker_id: str
    run_id: str
    trace_id: str
    created_at_ns: str
    expires_at_ns: str

    @property
    def expires_ns(self) -> int:
        return int(self.expires_at_ns)


def proposal_bytes(proposal: Proposal) -> bytes:
    """The canonical bytes that are stored, shown, digested and sent."""
    return bytes(rfc8785.dumps(msgspec.to_builtins(proposal)))


def proposal_digest(canonical: bytes) -> str:
    """Hex SHA-256 over the domain tag and the canonical bytes."""
    return hashlib.sha256(PROPOSAL_DOMAIN_TAG + canonical).hexdigest()


def parse_proposal(canonical: bytes) -> Proposal:
    """Read proposal bytes strictly.

    Raises RefusalError(AUTHORITY_PROPOSAL_MALFORMED) when they aren't the canonical form of a valid proposal:
    unknown or missing fields, other byte forms of the same JSON, unknown enum values or numbers out of form.
    """
    if len(canonical) > PROPOSAL_SIZE_LIMIT_BYTES:
        raise _malformed(f"{len(canonical)} bytes, the limit is {PROPOSAL_SIZE_LIMIT_BYTES}")
    try:
        proposal = msgspec.json.decode(canonical, type=Proposal)
    except msgspec.MsgspecError as error:
        raise _malformed(str(error)) from error
    if proposal_bytes(proposal) != canonical:
        raise _malformed("the bytes are not in canonical form")
    if proposal.schema != PROPOSAL_SCHEMA:
        raise _malformed(f"schema is {proposal.schema!r}, this engine reads {PROPOSAL_SCHEMA!r}")
    _check_values(proposal)
    return proposal


def _check_values(proposal: Proposal) -> None:
    try:
        Side(proposal.side)
        order_type = OrderType(proposal.order_type)
        TimeInForce(proposal.time_in_force)
    except ValueError as error:
        raise _malformed(str(error)) from error
    for name in ("version", "instrument_version", "created_at_ns", "expires_at_ns"):
        text = getattr(proposal, name)
        if not _WHOLE_NUMBER.fullmatch(text):
            raise _malformed(f"{name} must be a whole number, is {text[:SHOWN_LIMIT_CHARS]!r}")
    for name in ("quantity", "notional_quote", "reference_price", "max_deviation_bps"):
        _positive_decimal(name, getattr(proposal, name))
    # A trigger or an expiry would have to be a digested field, and there is none: what is signed is what is shown (I2).
    if order_type not in PROPOSED_TYPES:
        raise _malformed(f"a proposal is for a LIMIT or a MARKET order, not {order_type}; ask for it with a ticket")
    if proposal.time_in_force == TimeInForce.GTD:
        raise _malformed("a proposal's order has no expiry, so its time in force isn't GTD; ask for it with a ticket")
    if order_type is OrderType.LIMIT:
        _positive_decimal("price", proposal.price)
    elif proposal.price:
        raise _malformed("a MARKET order has no price")
    for name in ("post_only", "reduce_only"):
        if getattr(proposal, name) not in {"true", "false"}:
            raise _malformed(f"{name} must be 'true' or 'false'")


def _positive_decimal(name: str, text: str) -> None:
    # By its form first: written out, a Decimal of 14 characters can take gigabytes.
    if not _PLAIN_DECIMAL.fullmatch(text) or decimal_text(Decimal(text)) != text or Decimal(text) <= 0:
        raise _malformed(f"{name} must be a positive decimal in plain notation, is {text[:SHOWN_LIMIT_CHARS]!r}")


def _malformed(detail: str) -> Exception:
    return refuse(ReasonCode.AUTHORITY_PROPOSAL_MALFORMED, f"The proposal can't be read: {detail}.")
