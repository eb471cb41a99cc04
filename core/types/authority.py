"""By what authority something was done: every command to the engine carries exactly one, and its record shows it."""

from __future__ import annotations

import msgspec


class SignatureRecord(msgspec.Struct, frozen=True):
    key_id: str
    user_id: str
    signature_hex: str


class ApprovalAuthority(msgspec.Struct, frozen=True, tag_field="authority", tag="approval"):
    """One exact proposal, signed by approvers' own keys."""

    suggestion_id: str
    version: int
    digest_hex: str
    signatures: tuple[SignatureRecord, ...]


class SessionAuthority(msgspec.Struct, frozen=True, tag_field="authority", tag="session"):
    """A human's short-lived key. signature_hex is that key's over the request with digest request_digest_hex."""

    session_id: str
    user_id: str
    request_digest_hex: str
    signature_hex: str


class MandateAuthority(msgspec.Struct, frozen=True, tag_field="authority", tag="mandate"):
    """A strategy's own order, within what was approved for that strategy. request_digest_hex is that of the ticket of a
    strategy in another process; empty for one that asks in this one."""

    mandate_id: str
    strategy_id: str
    request_digest_hex: str = ""


class DerivedAuthority(msgspec.Struct, frozen=True, tag_field="authority", tag="derived"):
    """An order that follows from another: parent_id is its clientOrderId, policy what makes it follow."""

    parent_id: str
    policy: str


class AdministrationAuthority(msgspec.Struct, frozen=True, tag_field="authority", tag="administration"):
    """A document signed by administrators of the roster, or by the root key (key_id `root`). expires_ns is how long
    the document could have been used a second time, if it weren't remembered."""

    document_id: str
    digest_hex: str
    signatures: tuple[SignatureRecord, ...]
    expires_ns: int = 0


class SafetyAuthority(msgspec.Struct, frozen=True, tag_field="authority", tag="safety"):
    """Authenticated, no approval: it can only reduce."""

    requested_by: str


class ExternalAuthority(msgspec.Struct, frozen=True, tag_field="authority", tag="external"):
    """Placed at the venue outside of this engine, and found there."""

    found_by: str


Authority = (
    ApprovalAuthority
    | SessionAuthority
    | MandateAuthority
    | DerivedAuthority
    | AdministrationAuthority
    | SafetyAuthority
    | ExternalAuthority
)


class SessionGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A human's session as that person's enrolled key signs it in. Numbers are text: decimals in plain notation.

    public_key_hex is the session's own Ed25519 key, made for it and never stored. Limits hold for the whole session.
    """

    schema: str
    session_id: str
    engine_id: str
    environment: str
    mode: str
    user_id: str
    public_key_hex: str
    account_ids: tuple[str, ...]
    max_order_notional_quote: str
    max_total_notional_quote: str
    max_orders: str
    issued_at_ns: str
    expires_at_ns: str


class Mandate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a strategy may do, approved like a proposal. Numbers are text.

    strategy_digest_hex is the SHA-256 of the code that was approved; public_key_hex signs its orders where they come
    from another process. symbols lists what it may trade.
    """

    schema: str
    mandate_id: str
    engine_id: str
    environment: str
    mode: str
    account_id: str
    strategy_id: str
    strategy_digest_hex: str
    public_key_hex: str
    venue: str
    symbols: tuple[str, ...]
    max_order_notional_quote: str
    max_position_notional_quote: str
    max_total_notional_quote: str
    max_open_orders: str
    issued_at_ns: str
    expires_at_ns: str
    asker_id: str
