"""Documents that people sign: RFC 8785 JSON, every number as text, under a domain tag of their own kind.

What a key signs is the tag and the 32 bytes of SHA-256(tag || canonical bytes), so a signature made for one kind of
document means nothing for another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import rfc8785

from core.authority.reading import UNREADABLE
from core.authority.signatures import sign_bytes, verify_bytes
from core.authority.webauthn import ED25519
from core.types.authority import SignatureRecord
from core.types.clock import NS_PER_S, format_utc_us
from core.types.codes import ReasonCode, Refusal
from core.types.events import Roster, RosterEntry
from core.types.money import decimal_text
from core.types.orders import Mode

DOCUMENT_SIZE_LIMIT_BYTES = 1_048_576
ID_LENGTH_LIMIT = 128
SHOWN_LIMIT_CHARS = 64
SIGNATURES_LIMIT = 16
CLOCK_SKEW_NS = 5 * NS_PER_S
"""How far ahead of the engine's clock a signer's may be."""

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,23})(?:\.[0-9]{1,18})?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_HEX_32 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T", bound=msgspec.Struct)


class EngineIdentity(msgspec.Struct, frozen=True):
    """Which engine this is: an approval names exactly one."""

    engine_id: str
    environment: str
    mode: str


def canonical_bytes(document: msgspec.Struct) -> bytes:
    """What is shown, digested and sent."""
    return bytes(rfc8785.dumps(msgspec.to_builtins(document)))


def document_digest(tag: bytes, canonical: bytes) -> str:
    """Hex SHA-256 over the domain tag and the canonical bytes."""
    return hashlib.sha256(tag + canonical).hexdigest()


def signed_message(tag: bytes, canonical: bytes) -> bytes:
    """What a key signs."""
    return tag + bytes.fromhex(document_digest(tag, canonical))


def sign_document(seed_hex: str, tag: bytes, canonical: bytes) -> bytes:
    """Raises ValueError when the seed isn't 32 bytes in hex."""
    return sign_bytes(seed_hex, signed_message(tag, canonical))


def parse_document(canonical: bytes, document_type: type[T], schema: str) -> T | Refusal:
    """Read a document strictly: unknown or missing fields, or other byte forms of the same JSON, are refused."""
    if len(canonical) > DOCUMENT_SIZE_LIMIT_BYTES:
        return malformed(f"{len(canonical)} bytes, the limit is {DOCUMENT_SIZE_LIMIT_BYTES}")
    try:
        document = msgspec.json.decode(canonical, type=document_type)
    except UNREADABLE as error:
        return malformed(str(error)[:200])
    if canonical_bytes(document) != canonical:
        return malformed("the bytes are not in canonical form (RFC 8785)")
    stated: Any = getattr(document, "schema", None)
    if stated != schema:
        return malformed(f"schema is {str(stated)[:SHOWN_LIMIT_CHARS]!r}, this engine reads {schema!r}")
    return document


def malformed(detail: str) -> Refusal:
    return Refusal(ReasonCode.AUTHORITY_DOCUMENT_MALFORMED, f"The document can't be read: {detail}.")


def form_problem(
    document: msgspec.Struct, *, ids: Sequence[str] = (), whole: Sequence[str] = (), positive: Sequence[str] = ()
) -> Refusal | None:
    """The first field that isn't in form: ids are short and plain, numbers are plain text and positive decimals so."""
    for name in ids:
        if not _ID.fullmatch(getattr(document, name)):
            return malformed(f"{name} must be 1 to {ID_LENGTH_LIMIT} letters, digits or ._:/@-")
    for name in whole:
        if not _WHOLE_NUMBER.fullmatch(getattr(document, name)):
            return malformed(f"{name} must be a whole number")
    for name in positive:
        text = getattr(document, name)
        if not _PLAIN_DECIMAL.fullmatch(text) or decimal_text(Decimal(text)) != text or Decimal(text) <= 0:
            return malformed(f"{name} must be a positive decimal in plain notation")
    return None


def is_public_key(text: str) -> bool:
    return bool(_HEX_32.fullmatch(text))


def time_problem(issued_ns: int, expires_ns: int, longest_ns: int, now_ns: int) -> Refusal | None:
    """A document holds from when it was issued until it expires, and for no longer than its kind may."""
    if issued_ns > now_ns + CLOCK_SKEW_NS:
        return malformed(f"issued_at_ns lies ahead of the engine's clock, {format_utc_us(now_ns)}")
    if not 0 < expires_ns - issued_ns <= longest_ns:
        return malformed(f"it must expire within {longest_ns // NS_PER_S} s after it was issued")
    if now_ns >= expires_ns:
        return Refusal(
            ReasonCode.AUTHORITY_DOCUMENT_EXPIRED,
            "The document has expired. Make and sign a new one.",
            limit=str(expires_ns),
            actual=str(now_ns),
            unit=f"ns, now {format_utc_us(now_ns)}",
        )
    return None


def identity_problem(engine_id: str, environment: str, mode: str, identity: EngineIdentity) -> Refusal | None:
    if (engine_id, environment) != (identity.engine_id, identity.environment):
        return Refusal(
            ReasonCode.AUTHORITY_WRONG_ENGINE,
            "The document is for another engine or environment. Make one for this engine.",
            limit=f"{identity.environment}/{identity.engine_id}",
            actual=f"{environment}/{engine_id}"[:SHOWN_LIMIT_CHARS],
        )
    if mode != identity.mode:
        return Refusal(
            ReasonCode.AUTHORITY_WRONG_MODE,
            "The document is for another mode than this engine runs in. Make one for this mode.",
            limit=identity.mode,
            actual=mode[:SHOWN_LIMIT_CHARS],
        )
    return None


def verified_signatures(
    tag: bytes,
    canonical: bytes,
    signatures: Sequence[tuple[str, bytes]],
    roster: Roster,
    mode: str,
    account_id: str | None,
) -> tuple[SignatureRecord, ...] | Refusal:
    """The signatures that count, one a person. All must be of keys in the roster that may sign for the account (None:
    for no account in particular), and valid."""
    if len(signatures) > SIGNATURES_LIMIT:
        return malformed(f"{len(signatures)} signatures, the limit is {SIGNATURES_LIMIT}")
    entries = {entry.key_id: entry for entry in roster.entries}
    message = signed_message(tag, canonical)
    counted: dict[str, SignatureRecord] = {}
    for key_id, signature in signatures:
        entry = entries.get(key_id)
        refusal = _signer_problem(key_id, entry, mode, account_id)
        if refusal is not None:
            return refusal
        assert entry is not None
        if not verify_bytes(entry.public_key_hex, message, signature):
            return _signer(
                ReasonCode.AUTHORITY_SIGNATURE_INVALID, key_id, "didn't sign this document. Sign what is shown again"
            )
        counted.setdefault(entry.user_id, SignatureRecord(key_id, entry.user_id, signature.hex()))
    return tuple(counted.values())


def _signer_problem(key_id: str, entry: RosterEntry | None, mode: str, account_id: str | None) -> Refusal | None:
    if entry is None:
        return _signer(
            ReasonCode.AUTHORITY_SIGNER_UNKNOWN, key_id, "isn't in the engine's roster. Have it enrolled there"
        )
    if account_id is not None and account_id not in entry.account_ids:
        return _signer(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            key_id,
            f"may not sign for account {account_id[:SHOWN_LIMIT_CHARS]}. Ask someone who may",
        )
    if entry.kind != ED25519:
        return _signer(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            key_id,
            "is a passkey, which approves suggestions and nothing else. Sign with a key of the command line",
        )
    if entry.paper_only and mode != Mode.PAPER:
        return _signer(
            ReasonCode.AUTHORITY_KEY_PAPER_ONLY, key_id, "is accepted for paper only. Sign with an enrolled key"
        )
    return None


def _signer(code: ReasonCode, key_id: str, problem: str) -> Refusal:
    return Refusal(code, f"Key {key_id[:SHOWN_LIMIT_CHARS]!r} {problem}.", actual=key_id[:SHOWN_LIMIT_CHARS])
