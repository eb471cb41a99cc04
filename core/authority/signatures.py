"""Ed25519 signatures over approvals (RFC 8032). Keys and signatures travel as hex or raw bytes, never as files here.

What an approver signs is a domain tag and the 32 bytes of the proposal's digest, so that the signature means nothing
in any other protocol, and a signature of another protocol means nothing here.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

APPROVAL_DOMAIN_TAG = b"veloz/approval/v1\x00"
DIGEST_LENGTH_BYTES = 32
PUBLIC_KEY_LENGTH_BYTES = 32
SIGNATURE_LENGTH_BYTES = 64


def approval_message(digest_hex: str) -> bytes:
    """The bytes that an approver's key signs.

    Raises ValueError when digest_hex isn't 64 hex digits.
    """
    digest = bytes.fromhex(digest_hex)
    if len(digest) != DIGEST_LENGTH_BYTES:
        raise ValueError(f"a proposal digest has {DIGEST_LENGTH_BYTES} bytes, this one has {len(digest)}")
    return APPROVAL_DOMAIN_TAG + digest


def sign_digest(seed_hex: str, digest_hex: str) -> bytes:
    """Approve: sign a proposal's digest with an approver's Ed25519 seed.

    Raises ValueError when the seed or the digest isn't 32 bytes in hex.
    """
    return sign_bytes(seed_hex, approval_message(digest_hex))


def verify_digest(public_key_hex: str, digest_hex: str, signature: bytes) -> bool:
    """Whether signature is this key's approval of this digest. Anything malformed is False."""
    try:
        message = approval_message(digest_hex)
    except ValueError:
        return False
    return verify_bytes(public_key_hex, message, signature)


def public_key_hex(seed_hex: str) -> str:
    """The public key of an Ed25519 seed, in hex.

    Raises ValueError when the seed isn't 32 bytes in hex.
    """
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed_hex)).public_key().public_bytes_raw().hex()


def sign_bytes(seed_hex: str, message: bytes) -> bytes:
    """Sign a message that already carries its domain tag. Raises ValueError when the seed isn't 32 bytes in hex."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed_hex)).sign(message)


def verify_bytes(public_key_hex: str, message: bytes, signature: bytes) -> bool:
    """Whether signature is this key's over the message. Anything malformed is False."""
    if len(signature) != SIGNATURE_LENGTH_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key_hex)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
