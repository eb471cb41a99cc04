"""A software authenticator: registers and asserts as a browser with a platform authenticator does."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.authority.webauthn import EDDSA, ES256, approval_challenge, encode_assertion
from core.types.events import RosterEntry

RP_ID = "localhost"
ORIGIN = "http://localhost:8480"
UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
AAGUID = bytes(16)


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Authenticator:
    """One passkey. Everything that it says can be said wrong."""

    def __init__(self, algorithm: str = ES256, *, seed: int = 1, rp_id: str = RP_ID, origin: str = ORIGIN) -> None:
        self.algorithm = algorithm
        self.rp_id = rp_id
        self.origin = origin
        self.counter = 0
        self.credential_id = hashlib.sha256(f"{algorithm}/{seed}".encode()).digest()
        self._p256 = ec.derive_private_key(seed + 1, ec.SECP256R1())
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)

    @property
    def public_key(self) -> bytes:
        """As the roster has it."""
        if self.algorithm == EDDSA:
            return self._ed25519.public_key().public_bytes_raw()
        return self._p256.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    @property
    def cose_key(self) -> bytes:
        """As an authenticator tells it at registration."""
        if self.algorithm == EDDSA:
            return cbor2.dumps({1: 1, 3: -8, -1: 6, -2: self.public_key})
        return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: self.public_key[1:33], -3: self.public_key[33:]})

    def entry(self, key_id: str, user_id: str, accounts: tuple[str, ...], **changes: Any) -> RosterEntry:
        values: dict[str, Any] = {
            "key_id": key_id,
            "user_id": user_id,
            "public_key_hex": self.public_key.hex(),
            "account_ids": accounts,
            "paper_only": True,
            "kind": "webauthn",
            "algorithm": self.algorithm,
            "rp_id": self.rp_id,
            "origins": (self.origin,),
            "credential_id_hex": self.credential_id.hex(),
        }
        return RosterEntry(**(values | changes))

    def client_data(self, kind: str, challenge: bytes, /, **changes: Any) -> bytes:
        values = {"type": kind, "challenge": text(challenge), "origin": self.origin, "crossOrigin": False}
        kept = {name: value for name, value in (values | changes).items() if value is not None}
        return json.dumps(kept, separators=(",", ":")).encode()

    def authenticator_data(self, flags: int = UP | UV, rp_id: str | None = None, more: bytes = b"") -> bytes:
        self.counter += 1
        rp_id_hash = hashlib.sha256((self.rp_id if rp_id is None else rp_id).encode()).digest()
        return rp_id_hash + bytes([flags]) + self.counter.to_bytes(4, "big") + more

    def sign(self, authenticator_data: bytes, client_data: bytes) -> bytes:
        message = authenticator_data + hashlib.sha256(client_data).digest()
        if self.algorithm == EDDSA:
            return self._ed25519.sign(message)
        return self._p256.sign(message, ec.ECDSA(hashes.SHA256()))

    def approve(self, digest_hex: str) -> bytes:
        """The encoded assertion over a proposal."""
        data = self.authenticator_data()
        client_data = self.client_data("webauthn.get", approval_challenge(digest_hex))
        return encode_assertion(data, client_data, self.sign(data, client_data))

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """navigator.credentials.get(), as JSON."""
        data = self.authenticator_data()
        client_data = self.client_data("webauthn.get", b"", challenge=options["challenge"])
        return self._credential(
            {
                "authenticatorData": text(data),
                "clientDataJSON": text(client_data),
                "signature": text(self.sign(data, client_data)),
            }
        )

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """navigator.credentials.create(), as JSON, without attestation."""
        attested = AAGUID + len(self.credential_id).to_bytes(2, "big") + self.credential_id + self.cose_key
        data = self.authenticator_data(UP | UV | AT, more=attested)
        client_data = self.client_data("webauthn.create", b"", challenge=options["challenge"])
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        return self._credential({"clientDataJSON": text(client_data), "attestationObject": text(attestation)})

    def _credential(self, response: dict[str, str]) -> dict[str, Any]:
        return {
            "id": text(self.credential_id),
            "rawId": text(self.credential_id),
            "type": "public-key",
            "response": response,
            "clientExtensionResults": {},
        }
