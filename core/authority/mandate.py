"""Mandates: what a strategy may do by itself, approved like a proposal."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec

from core.authority.documents import (
    EngineIdentity,
    canonical_bytes,
    document_digest,
    form_problem,
    identity_problem,
    is_public_key,
    malformed,
    parse_document,
    sign_document,
    time_problem,
    verified_signatures,
)
from core.authority.roster import threshold_quote
from core.authority.state import EXACT, MandateState
from core.types.authority import Mandate, SignatureRecord
from core.types.clock import NS_PER_S, format_utc_us
from core.types.codes import ReasonCode, Refusal
from core.types.events import Roster
from core.types.money import decimal_text

MANDATE_SCHEMA = "veloz.mandate/1"
MANDATE_DOMAIN_TAG = b"veloz/mandate/v1\x00"
MANDATE_LONGEST_NS = 90 * 24 * 3600 * NS_PER_S
SYMBOLS_LIMIT = 1_000
LIMITS_KEPT = 256


class VerifiedMandate(msgspec.Struct, frozen=True):
    mandate: Mandate
    digest_hex: str
    signatures: tuple[SignatureRecord, ...]


def mandate_bytes(mandate: Mandate) -> bytes:
    """What approvers sign."""
    return canonical_bytes(mandate)


def mandate_digest(canonical: bytes) -> str:
    return document_digest(MANDATE_DOMAIN_TAG, canonical)


def sign_mandate(seed_hex: str, mandate: Mandate) -> bytes:
    return sign_document(seed_hex, MANDATE_DOMAIN_TAG, mandate_bytes(mandate))


def verify_mandate(
    canonical: bytes,
    signatures: list[tuple[str, bytes]],
    *,
    roster: Roster,
    identity: EngineIdentity,
    now_ns: int,
) -> Refusal | VerifiedMandate:
    """Whether approvers of its account gave this mandate. Two are due where its total is above the roster's threshold,
    and then the asker's own signature doesn't count."""
    mandate = parse_document(canonical, Mandate, MANDATE_SCHEMA)
    if isinstance(mandate, Refusal):
        return mandate
    refusal = (
        form_problem(
            mandate,
            ids=("mandate_id", "account_id", "strategy_id", "venue", "asker_id"),
            whole=("max_open_orders", "issued_at_ns", "expires_at_ns"),
            positive=("max_order_notional_quote", "max_position_notional_quote", "max_total_notional_quote"),
        )
        or _content_problem(mandate)
        or identity_problem(mandate.engine_id, mandate.environment, mandate.mode, identity)
        or time_problem(int(mandate.issued_at_ns), int(mandate.expires_at_ns), MANDATE_LONGEST_NS, now_ns)
    )
    if refusal is not None:
        return refusal
    counted = verified_signatures(MANDATE_DOMAIN_TAG, canonical, signatures, roster, identity.mode, mandate.account_id)
    if isinstance(counted, Refusal):
        return counted
    approvers = {entry.key_id for entry in roster.entries if entry.approves}
    for record in counted:
        if record.key_id not in approvers:
            return Refusal(
                ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
                f"Key {record.key_id[:64]!r} signs sessions in and approves nothing. Ask an approver.",
                actual=record.key_id[:64],
            )
    return mandate_approvals_problem(mandate, counted, roster) or VerifiedMandate(
        mandate, mandate_digest(canonical), counted
    )


def mandate_refusal(
    mandate: MandateState | None,
    *,
    mandate_id: str,
    strategy_id: str,
    account_id: str,
    venue: str,
    symbol: str,
    notional_quote: Decimal,
    added_quote: Decimal,
    position_notional_quote: Decimal,
    open_orders: int,
    now_ns: int,
) -> Refusal | None:
    """Whether the mandate covers one more order, or an amended one. added_quote: what it adds to the total;
    position_notional_quote: the strategy's position in the symbol if this and all its open orders filled;
    open_orders: the strategy's, this one included."""
    if mandate is None:
        return Refusal(
            ReasonCode.AUTHORITY_MANDATE_UNKNOWN,
            f"There is no mandate {mandate_id[:64]}; have one approved.",
            actual=mandate_id[:64],
        )
    terms = mandate.mandate
    if mandate.revoked:
        return Refusal(ReasonCode.AUTHORITY_MANDATE_REVOKED, "The mandate was revoked. Have a new one approved.")
    if now_ns >= mandate.expires_ns:
        return Refusal(
            ReasonCode.AUTHORITY_MANDATE_EXPIRED,
            "The mandate has expired. Have a new one approved.",
            limit=str(mandate.expires_ns),
            actual=str(now_ns),
            unit=f"ns, now {format_utc_us(now_ns)}",
        )
    for name, allowed, actual in (
        ("strategy", terms.strategy_id, strategy_id),
        ("account", terms.account_id, account_id),
        ("venue", terms.venue, venue),
    ):
        if actual != allowed:
            return _outside(name, allowed, actual)
    if symbol not in terms.symbols:
        return _outside("symbol", ", ".join(terms.symbols)[:256], symbol)
    total = EXACT.add(Decimal(mandate.notional_used_quote), added_quote)
    for what, limit, value in (
        ("value of one order", terms.max_order_notional_quote, notional_quote),
        ("position", terms.max_position_notional_quote, position_notional_quote),
        ("value of all orders", terms.max_total_notional_quote, total),
    ):
        if value > _limit(limit):
            return _beyond(what, limit, decimal_text(value), "quote")
    if open_orders > int(terms.max_open_orders):
        return _beyond("open orders", terms.max_open_orders, str(open_orders), "orders")
    return None


def mandate_approvals_problem(mandate: Mandate, counted: tuple[SignatureRecord, ...], roster: Roster) -> Refusal | None:
    """Whether these signatures, all valid and of approvers, are enough under this roster's threshold."""
    due = 2 if Decimal(mandate.max_total_notional_quote) > threshold_quote(roster) else 1
    others = sum(1 for record in counted if record.user_id != mandate.asker_id)
    valid = others if due > 1 else len(counted)
    if valid >= due:
        return None
    code = ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT
    if len(counted) >= due:
        code = ReasonCode.APPROVAL_SELF_NOT_COUNTED
    return Refusal(
        code,
        f"{due} approvals of this mandate are due, the asker's own not counted where it is two. Have it signed.",
        limit=str(due),
        actual=str(valid),
        unit="approvals",
    )


@lru_cache(maxsize=LIMITS_KEPT)
def _limit(text: str) -> Decimal:
    """A limit of a document: asked for with each order under it."""
    return Decimal(text)


def _content_problem(mandate: Mandate) -> Refusal | None:
    # Orders of a strategy in another process are signed with this key; without one only this engine's own can ask.
    if mandate.public_key_hex and not is_public_key(mandate.public_key_hex):
        return malformed("public_key_hex must be empty or 32 bytes in lower-case hex")
    if not is_public_key(mandate.strategy_digest_hex):
        return malformed("strategy_digest_hex must be a SHA-256 in lower-case hex")
    if not 1 <= len(mandate.symbols) <= SYMBOLS_LIMIT or len(set(mandate.symbols)) != len(mandate.symbols):
        return malformed(f"symbols must name 1 to {SYMBOLS_LIMIT} symbols, each once")
    return None


def _outside(what: str, allowed: str, actual: str) -> Refusal:
    return Refusal(
        ReasonCode.AUTHORITY_MANDATE_LIMIT_EXCEEDED,
        f"The mandate isn't for this {what}. Have one approved that is.",
        limit=allowed,
        actual=actual[:64],
        unit=what,
    )


def _beyond(what: str, limit: str, actual: str, unit: str) -> Refusal:
    return Refusal(
        ReasonCode.AUTHORITY_MANDATE_LIMIT_EXCEEDED,
        f"The mandate's {what} would go beyond its limit. Lower the quantity, or have another mandate approved.",
        limit=limit,
        actual=actual,
        unit=unit,
    )
