"""Administration: rules, thaws, revocations and enrolment, by documents that administrators or the root key sign.

A roster entry names in `administers` the kinds that its key may sign; the root key, pinned on the engine's host, may
sign all of them and is the only one for `roster.install`. A document is used once.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

import msgspec

from core.authority.documents import (
    SIGNATURES_LIMIT,
    canonical_bytes,
    document_digest,
    form_problem,
    malformed,
    parse_document,
    sign_document,
    signed_message,
    time_problem,
    verified_signatures,
)
from core.authority.signatures import verify_bytes
from core.types.authority import AdministrationAuthority, SignatureRecord
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import Roster

ADMINISTRATION_SCHEMA = "veloz.administration/1"
ADMINISTRATION_DOMAIN_TAG = b"veloz/administration/v1\x00"
ADMINISTRATION_LONGEST_NS = 24 * 3600 * NS_PER_S
ROOT_KEY_ID = "root"
REASON_LENGTH_LIMIT = 512

KIND_FIELDS: Mapping[str, frozenset[str]] = {
    "rules.install": frozenset({"document"}),
    "rules.rollback": frozenset({"version"}),
    "thaw": frozenset({"state", "account_id", "reason"}),
    "unfreeze": frozenset({"account_id", "reason"}),
    "mandate.revoke": frozenset({"mandate_id", "reason"}),
    "roster.install": frozenset({"roster", "signature_hex"}),
}
"""What the body of each kind holds; all of it text."""
ROOT_ONLY = frozenset({"roster.install"})


class AdministrationDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One act of administration. Times are text in ns; body is what KIND_FIELDS says for the kind."""

    schema: str = ADMINISTRATION_SCHEMA
    document_id: str
    engine_id: str
    kind: str
    body: dict[str, str]
    issued_at_ns: str
    expires_at_ns: str
    requested_by: str


class Administration(msgspec.Struct, frozen=True):
    """A document that holds, and the authority it gives."""

    document: AdministrationDocument
    authority: AdministrationAuthority

    @property
    def issued_ns(self) -> int:
        return int(self.document.issued_at_ns)


def administration_bytes(document: AdministrationDocument) -> bytes:
    """What is signed."""
    return canonical_bytes(document)


def sign_administration(seed_hex: str, canonical: bytes) -> bytes:
    """Raises ValueError when the seed isn't 32 bytes in hex."""
    return sign_document(seed_hex, ADMINISTRATION_DOMAIN_TAG, canonical)


def verify_administration(
    canonical: bytes,
    signatures: Sequence[tuple[str, bytes]],
    *,
    roster: Roster,
    root_public_key_hex: str,
    engine_id: str,
    mode: str,
    used: Mapping[str, int],
    now_ns: int,
) -> Refusal | Administration:
    """Check a document in a fixed order; the first failing check is the answer. used holds the documents that were."""
    document = parse_document(canonical, AdministrationDocument, ADMINISTRATION_SCHEMA)
    if isinstance(document, Refusal):
        return document
    refusal = form_problem(
        document, ids=("document_id", "requested_by"), whole=("issued_at_ns", "expires_at_ns")
    ) or _content_problem(document)
    if refusal is not None:
        return refusal
    if not hmac.compare_digest(document.engine_id.encode(), engine_id.encode()):
        return Refusal(
            ReasonCode.AUTHORITY_WRONG_ENGINE,
            "The document is for another engine. Make one for this engine.",
            limit=engine_id,
            actual=document.engine_id[:64],
        )
    refusal = time_problem(int(document.issued_at_ns), int(document.expires_at_ns), ADMINISTRATION_LONGEST_NS, now_ns)
    if refusal is not None:
        return refusal
    counted = _signed_by(document, canonical, signatures, roster, root_public_key_hex, mode)
    if isinstance(counted, Refusal):
        return counted
    if document.document_id in used:
        return Refusal(
            ReasonCode.AUTHORITY_DOCUMENT_REPLAYED,
            "This document was used already, once and for all. Make and sign a new one.",
            actual=document.document_id,
        )
    digest_hex = document_digest(ADMINISTRATION_DOMAIN_TAG, canonical)
    authority = AdministrationAuthority(document.document_id, digest_hex, counted, int(document.expires_at_ns))
    return Administration(document, authority)


def _signed_by(
    document: AdministrationDocument,
    canonical: bytes,
    signatures: Sequence[tuple[str, bytes]],
    roster: Roster,
    root_public_key_hex: str,
    mode: str,
) -> tuple[SignatureRecord, ...] | Refusal:
    if len(signatures) > SIGNATURES_LIMIT:
        return malformed(f"{len(signatures)} signatures, the limit is {SIGNATURES_LIMIT}")
    by_root = [signature for key_id, signature in signatures if key_id == ROOT_KEY_ID]
    if by_root:
        message = signed_message(ADMINISTRATION_DOMAIN_TAG, canonical)
        if len(signatures) == 1 and verify_bytes(root_public_key_hex, message, by_root[0]):
            return (SignatureRecord(ROOT_KEY_ID, ROOT_KEY_ID, by_root[0].hex()),)
        return Refusal(
            ReasonCode.AUTHORITY_SIGNATURE_INVALID,
            "The document isn't signed by the root key alone. Sign exactly these bytes with it.",
            actual=ROOT_KEY_ID,
        )
    if document.kind in ROOT_ONLY:
        return Refusal(
            ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
            f"Only the root key may sign {document.kind}. Have its holder sign it.",
            limit=ROOT_KEY_ID,
        )
    counted = verified_signatures(ADMINISTRATION_DOMAIN_TAG, canonical, signatures, roster, mode, None)
    if isinstance(counted, Refusal):
        return counted
    entries = {entry.key_id: entry for entry in roster.entries}
    for record in counted:
        if document.kind not in entries[record.key_id].administers:
            return Refusal(
                ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
                f"Key {record.key_id[:64]!r} may not sign {document.kind}. Ask an administrator whose roster entry "
                "names it.",
                actual=record.key_id[:64],
            )
    if not counted:
        return Refusal(
            ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT,
            "No signature came with the document. An administrator must sign it.",
            limit="1",
            actual="0",
            unit="approvals",
        )
    return counted


def _content_problem(document: AdministrationDocument) -> Refusal | None:
    fields = KIND_FIELDS.get(document.kind)
    if fields is None:
        return malformed(f"kind is {document.kind[:64]!r}; known are {', '.join(sorted(KIND_FIELDS))}")
    if document.body.keys() != fields:
        return malformed(f"the body of {document.kind} holds {', '.join(sorted(fields))}")
    if len(document.body.get("reason", "")) > REASON_LENGTH_LIMIT:
        return malformed(f"reason has more than {REASON_LENGTH_LIMIT} characters")
    return None
