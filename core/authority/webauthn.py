"""Passkeys: whether a WebAuthn assertion approves exactly one proposal (W3C Web Authentication Level 3, section 7.2).

The challenge is a pure function of the proposal's digest, under a domain tag of its own, so an assertion means nothing
for another proposal, nor anywhere else. What a passkey signs is that challenge and not what the browser shows: the
roster says up to which worth passkeys count at all. The signature counter is kept in the journal with the assertion and
judged by nobody: an assertion is good for one digest, which is used once, and synced passkeys always say 0.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from core.authority.signatures import verify_bytes
from core.types.events import RosterEntry

WEBAUTHN = "webauthn"
ED25519 = "ed25519"
KEY_KINDS = (ED25519, WEBAUTHN)
ES256 = "ES256"
EDDSA = "EdDSA"
ALGORITHMS = (ES256, EDDSA)
PUBLIC_KEY_LENGTHS_BYTES = {ES256: 65, EDDSA: 32}
"""ES256: the uncompressed point on P-256."""
CHALLENGE_DOMAIN_TAG = b"veloz/webauthn-approval/v1\x00"
ASSERTION_SIZE_LIMIT_BYTES = 4_096
CLIENT_DATA_TYPE = "webauthn.get"

_HEADER_LENGTH_BYTES = 37
_RP_ID_HASH_LENGTH_BYTES = 32
_USER_PRESENT, _USER_VERIFIED = 0x01, 0x04
_BACKUP_ELIGIBLE, _BACKED_UP = 0x08, 0x10
_ATTESTED, _EXTENSIONS = 0x40, 0x80


class Assertion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an authenticator gave, in hex: this is what travels, and is kept, as the signature."""

    authenticator_data: str
    client_data_json: str
    signature: str


class _ClientData(msgspec.Struct, frozen=True, rename={"cross_origin": "crossOrigin", "top_origin": "topOrigin"}):
    type: str
    challenge: str
    origin: str
    cross_origin: bool = False
    top_origin: str | None = None


def approval_challenge(digest_hex: str) -> bytes:
    """What a passkey is asked to sign for a proposal. Raises ValueError when digest_hex isn't hex."""
    return hashlib.sha256(CHALLENGE_DOMAIN_TAG + bytes.fromhex(digest_hex)).digest()


def encode_assertion(authenticator_data: bytes, client_data_json: bytes, signature: bytes) -> bytes:
    """The signature of an approval by passkey."""
    return msgspec.json.encode(Assertion(authenticator_data.hex(), client_data_json.hex(), signature.hex()))


def verify_assertion(entry: RosterEntry, digest_hex: str, encoded: bytes) -> bool:
    """Whether the entry's passkey approved this digest, at the entry's own site, with its user verified. Anything
    malformed is False."""
    if len(encoded) > ASSERTION_SIZE_LIMIT_BYTES:
        return False
    try:
        assertion = msgspec.json.decode(encoded, type=Assertion)
        authenticator_data = bytes.fromhex(assertion.authenticator_data)
        client_data_json = bytes.fromhex(assertion.client_data_json)
        signature = bytes.fromhex(assertion.signature)
        client_data = msgspec.json.decode(client_data_json, type=_ClientData)
        challenge = approval_challenge(digest_hex)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False
    return (
        _is_for(client_data, challenge, entry.origins)
        and _is_by_verified_user(authenticator_data, entry.rp_id)
        and _is_signed(entry, authenticator_data + hashlib.sha256(client_data_json).digest(), signature)
    )


def _is_for(client_data: _ClientData, challenge: bytes, origins: tuple[str, ...]) -> bool:
    expected = urlsafe_b64encode(challenge).rstrip(b"=")
    return (
        client_data.type == CLIENT_DATA_TYPE
        and hmac.compare_digest(client_data.challenge.encode(), expected)
        and client_data.origin in origins
        and not client_data.cross_origin
        and client_data.top_origin is None
    )


def _is_by_verified_user(authenticator_data: bytes, rp_id: str) -> bool:
    if len(authenticator_data) < _HEADER_LENGTH_BYTES:
        return False
    rp_id_hash, flags = authenticator_data[:_RP_ID_HASH_LENGTH_BYTES], authenticator_data[_RP_ID_HASH_LENGTH_BYTES]
    has_more = bool(flags & (_ATTESTED | _EXTENSIONS))
    return (
        hmac.compare_digest(rp_id_hash, hashlib.sha256(rp_id.encode()).digest())
        and bool(flags & _USER_PRESENT)
        and bool(flags & _USER_VERIFIED)
        and not (flags & _BACKED_UP and not flags & _BACKUP_ELIGIBLE)
        and (has_more or len(authenticator_data) == _HEADER_LENGTH_BYTES)
    )


def _is_signed(entry: RosterEntry, message: bytes, signature: bytes) -> bool:
    if entry.algorithm == EDDSA:
        return verify_bytes(entry.public_key_hex, message, signature)
    try:
        point = bytes.fromhex(entry.public_key_hex)
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True
