"""Sessions: a human's short-lived key, signed in by that person's enrolled key, with limits of its own."""

from __future__ import annotations

import hmac
from decimal import Decimal

import msgspec

from core.authority.documents import (
    EngineIdentity,
    canonical_bytes,
    form_problem,
    identity_problem,
    is_public_key,
    malformed,
    parse_document,
    sign_document,
    time_problem,
    verified_signatures,
)
from core.authority.signatures import verify_bytes
from core.authority.state import EXACT, SessionState
from core.types.authority import SessionAuthority, SessionGrant, SignatureRecord
from core.types.clock import NS_PER_S, format_utc_us
from core.types.codes import ReasonCode, Refusal
from core.types.events import Roster
from core.types.money import decimal_text

SESSION_SCHEMA = "veloz.session-grant/1"
SESSION_DOMAIN_TAG = b"veloz/session/v1\x00"
REQUEST_DOMAIN_TAG = b"veloz/session-request/v1\x00"
SESSION_LONGEST_NS = 12 * 3600 * NS_PER_S
ACCOUNTS_LIMIT = 100


class VerifiedGrant(msgspec.Struct, frozen=True):
    grant: SessionGrant
    signature: SignatureRecord


def grant_bytes(grant: SessionGrant) -> bytes:
    """What the user's enrolled key signs in."""
    return canonical_bytes(grant)


def sign_session(seed_hex: str, grant: SessionGrant) -> bytes:
    return sign_document(seed_hex, SESSION_DOMAIN_TAG, grant_bytes(grant))


def verify_session_grant(
    canonical: bytes, key_id: str, signature: bytes, *, roster: Roster, identity: EngineIdentity, now_ns: int
) -> Refusal | VerifiedGrant:
    """Whether this person may open this session now."""
    grant = parse_document(canonical, SessionGrant, SESSION_SCHEMA)
    if isinstance(grant, Refusal):
        return grant
    refusal = (
        form_problem(
            grant,
            ids=("session_id", "user_id"),
            whole=("max_orders", "issued_at_ns", "expires_at_ns"),
            positive=("max_order_notional_quote", "max_total_notional_quote"),
        )
        or _content_problem(grant)
        or identity_problem(grant.engine_id, grant.environment, grant.mode, identity)
        or time_problem(int(grant.issued_at_ns), int(grant.expires_at_ns), SESSION_LONGEST_NS, now_ns)
    )
    if refusal is not None:
        return refusal
    counted: tuple[SignatureRecord, ...] = ()
    for account_id in grant.account_ids:
        verified = verified_signatures(
            SESSION_DOMAIN_TAG, canonical, [(key_id, signature)], roster, identity.mode, account_id
        )
        if isinstance(verified, Refusal):
            return verified
        counted = verified
    (record,) = counted
    if record.user_id != grant.user_id:
        return Refusal(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            "A session is signed in by its own user's key. Sign in with yours.",
            limit=grant.user_id,
            actual=record.user_id,
        )
    return VerifiedGrant(grant, record)


def verify_session_request(
    session: SessionState | None, authority: SessionAuthority, request_message: bytes, account_id: str, now_ns: int
) -> Refusal | None:
    """Whether the session's own key has asked for this, and may still ask. request_message is what it signed."""
    if session is None:
        return Refusal(
            ReasonCode.AUTHORITY_SESSION_UNKNOWN,
            f"There is no session {authority.session_id[:64]}; sign one in.",
            actual=authority.session_id[:64],
        )
    if session.closed:
        return Refusal(ReasonCode.AUTHORITY_SESSION_REVOKED, "The session was closed. Sign in a new one.")
    if now_ns >= session.expires_ns:
        return Refusal(
            ReasonCode.AUTHORITY_SESSION_EXPIRED,
            "The session has expired. Sign in a new one.",
            limit=str(session.expires_ns),
            actual=str(now_ns),
            unit=f"ns, now {format_utc_us(now_ns)}",
        )
    if not hmac.compare_digest(authority.user_id.encode(), session.user_id.encode()):
        return Refusal(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            "The session is another user's. Use your own.",
            actual=authority.user_id[:64],
        )
    if account_id not in session.grant.account_ids:
        return Refusal(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            f"The session isn't for account {account_id[:64]}. Sign in one that is.",
            actual=account_id[:64],
        )
    try:
        signature = bytes.fromhex(authority.signature_hex)
    except ValueError:
        signature = b""
    if not verify_bytes(session.grant.public_key_hex, request_message, signature):
        return Refusal(
            ReasonCode.AUTHORITY_SIGNATURE_INVALID,
            "The session's key didn't sign this request. Sign exactly what is sent.",
        )
    return None


def session_limit_refusal(
    session: SessionState, notional_quote: Decimal, added_quote: Decimal | None = None
) -> Refusal | None:
    """Whether one more order of this value fits into what the session may do; with added_quote, whether an order may be
    raised to this value by so much."""
    grant = session.grant
    if added_quote is None and session.orders_used >= int(grant.max_orders):
        return _beyond("orders", grant.max_orders, str(session.orders_used + 1), "orders")
    if notional_quote > Decimal(grant.max_order_notional_quote):
        return _beyond("value of one order", grant.max_order_notional_quote, decimal_text(notional_quote), "quote")
    added = notional_quote if added_quote is None else added_quote
    total = EXACT.add(Decimal(session.notional_used_quote), added)
    if total > Decimal(grant.max_total_notional_quote):
        return _beyond("value of all orders", grant.max_total_notional_quote, decimal_text(total), "quote")
    return None


def _beyond(what: str, limit: str, actual: str, unit: str) -> Refusal:
    return Refusal(
        ReasonCode.AUTHORITY_SESSION_LIMIT_EXCEEDED,
        f"The session's {what} would go beyond its limit. Lower the quantity, or sign in another session.",
        limit=limit,
        actual=actual,
        unit=unit,
    )


def _content_problem(grant: SessionGrant) -> Refusal | None:
    if not is_public_key(grant.public_key_hex):
        return malformed("public_key_hex must be 32 bytes in lower-case hex")
    if not 1 <= len(grant.account_ids) <= ACCOUNTS_LIMIT or len(set(grant.account_ids)) != len(grant.account_ids):
        return malformed(f"account_ids must name 1 to {ACCOUNTS_LIMIT} accounts, each once")
    return None
