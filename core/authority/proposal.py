"""Proposals: exactly what a human is shown, signs, and the engine does (I2).

There are several kinds, each with a schema of its own. Their bytes are RFC 8785 JSON with every value as text. The
digest that approvers sign is SHA-256(domain tag || bytes), and the tag follows from the schema: a signature made for
one kind, or one version of it, means nothing for another, nor in any other protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import rfc8785

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
from core.authority.proposal_values import malformed, value_problem
from core.authority.reading import UNREADABLE
from core.types.codes import RefusalError

__all__ = [
    "AMEND_PROPOSAL_SCHEMA",
    "BRACKET_PROPOSAL_SCHEMA",
    "CANCEL_LISTED_PROPOSAL_SCHEMA",
    "CANCEL_PROPOSAL_SCHEMA",
    "CLOSE_PROPOSAL_SCHEMA",
    "HEDGE_PROPOSAL_SCHEMA",
    "KILL_SWITCH_PROPOSAL_SCHEMA",
    "ORDER_PROPOSAL_SCHEMA",
    "PROPOSAL_KINDS",
    "PROPOSAL_SCHEMA",
    "STRATEGY_CHANGE_PROPOSAL_SCHEMA",
    "AmendProposal",
    "AnyProposal",
    "BracketProposal",
    "CancelListedProposal",
    "CancelProposal",
    "CloseProposal",
    "HedgeProposal",
    "KillSwitchProposal",
    "OrderProposal",
    "Proposal",
    "Proposed",
    "StrategyChangeProposal",
    "decode_proposal",
    "domain_tag",
    "kind_of",
    "parse_order_proposal",
    "parse_proposal",
    "proposal_bytes",
    "proposal_digest",
]

PROPOSAL_SIZE_LIMIT_BYTES = 16_384
SHOWN_LIMIT_CHARS = 64
PROPOSAL_SCHEMA = "veloz.order-proposal/1"
ORDER_PROPOSAL_SCHEMA = "veloz.order-proposal/2"

CLOSE_PROPOSAL_SCHEMA = "veloz.close-proposal/1"
HEDGE_PROPOSAL_SCHEMA = "veloz.hedge-proposal/1"
BRACKET_PROPOSAL_SCHEMA = "veloz.bracket-proposal/1"
CANCEL_PROPOSAL_SCHEMA = "veloz.cancel-proposal/1"
CANCEL_LISTED_PROPOSAL_SCHEMA = "veloz.cancel-proposal/2"
AMEND_PROPOSAL_SCHEMA = "veloz.amend-proposal/1"
KILL_SWITCH_PROPOSAL_SCHEMA = "veloz.kill-switch-proposal/1"
STRATEGY_CHANGE_PROPOSAL_SCHEMA = "veloz.strategy-change-proposal/1"

PROPOSAL_KINDS: Mapping[str, type[AnyProposal]] = {
    PROPOSAL_SCHEMA: Proposal,
    ORDER_PROPOSAL_SCHEMA: OrderProposal,
    CLOSE_PROPOSAL_SCHEMA: CloseProposal,
    HEDGE_PROPOSAL_SCHEMA: HedgeProposal,
    BRACKET_PROPOSAL_SCHEMA: BracketProposal,
    CANCEL_PROPOSAL_SCHEMA: CancelProposal,
    CANCEL_LISTED_PROPOSAL_SCHEMA: CancelListedProposal,
    AMEND_PROPOSAL_SCHEMA: AmendProposal,
    KILL_SWITCH_PROPOSAL_SCHEMA: KillSwitchProposal,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA: StrategyChangeProposal,
}
"""Every schema that this engine reads, and what it says."""
PROPOSAL_DOMAIN_TAG = b"veloz/order-proposal/v1\x00"


class _Schema(msgspec.Struct, frozen=True):
    schema: str


def domain_tag(schema: str) -> bytes:
    """`veloz.order-proposal/2` signs under `veloz/order-proposal/v2` NUL."""
    name, _, number = schema.partition("/")
    return f"{name.replace('.', '/')}/v{number}\x00".encode()


def kind_of(schema: str) -> str:
    """`veloz.kill-switch-proposal/1` is of the kind kill_switch."""
    return schema.partition("/")[0].removeprefix("veloz.").removesuffix("-proposal").replace("-", "_")


def proposal_bytes(proposal: Proposed) -> bytes:
    """The canonical bytes that are stored, shown, digested and sent."""
    return bytes(rfc8785.dumps(msgspec.to_builtins(proposal)))


def proposal_digest(canonical: bytes) -> str:
    """Hex SHA-256 over the domain tag of its schema and the canonical bytes. Of what isn't a proposal of a kind that is
    known here the tag is the first kind's: it can be told, and never be executed."""
    schema = _schema_of(canonical)
    tag = domain_tag(schema) if schema in PROPOSAL_KINDS else PROPOSAL_DOMAIN_TAG
    return hashlib.sha256(tag + canonical).hexdigest()


def parse_proposal(canonical: bytes) -> AnyProposal:
    """Read proposal bytes strictly.

    Raises RefusalError(AUTHORITY_PROPOSAL_MALFORMED) when they aren't the canonical form of a valid proposal:
    unknown or missing fields, other byte forms of the same JSON, unknown enum values or numbers out of form.
    """
    if len(canonical) > PROPOSAL_SIZE_LIMIT_BYTES:
        raise RefusalError(malformed(f"{len(canonical)} bytes, the limit is {PROPOSAL_SIZE_LIMIT_BYTES}"))
    try:
        proposal = decode_proposal(canonical)
    except UNREADABLE as error:
        raise RefusalError(malformed(str(error)[:200])) from error
    if proposal_bytes(proposal) != canonical:
        raise RefusalError(malformed("the bytes are not in canonical form"))
    refusal = value_problem(proposal)
    if refusal is not None:
        raise RefusalError(refusal)
    return proposal


def parse_order_proposal(canonical: bytes) -> Proposal:
    """parse_proposal of what has to be an order. Raises RefusalError(AUTHORITY_PROPOSAL_MALFORMED)."""
    proposal = parse_proposal(canonical)
    if not isinstance(proposal, Proposal):
        raise RefusalError(malformed(f"{proposal.schema!r} isn't an order"))
    return proposal


def decode_proposal(content: bytes | str) -> AnyProposal:
    """The kind that its schema names, of what was judged before: a journal's. Raises msgspec.MsgspecError."""
    schema = msgspec.json.decode(content, type=_Schema).schema
    kind = PROPOSAL_KINDS.get(schema)
    if kind is None:
        known = ", ".join(PROPOSAL_KINDS)
        raise msgspec.ValidationError(f"schema is {schema[:SHOWN_LIMIT_CHARS]!r}, this engine reads {known}")
    return msgspec.json.decode(content, type=kind)


def _schema_of(canonical: bytes) -> str:
    try:
        return msgspec.json.decode(canonical, type=_Schema).schema
    except UNREADABLE:
        return ""
