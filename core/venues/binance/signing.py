"""How requests to Binance are signed: HMAC SHA-256 or Ed25519, by the form of the secret.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security: the signature covers the
percent-encoded payload, is hex for HMAC and base64 for Ed25519, and is itself percent-encoded in a query.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from core._native import HmacSha256

PEM_MARK = "-----BEGIN"
KEY_SUFFIX, SECRET_SUFFIX, PEM_SUFFIX = ".key", ".secret", ".pem"


class CredentialError(ValueError):
    """A key or secret that can't be used: the message names the file or the reference, never what is in it."""


class Signer(Protocol):
    """Signs the payload of one request. No representation of it holds the secret."""

    def sign(self, payload: str) -> str:
        """The signature as the venue writes it, not yet percent-encoded."""
        ...


class HmacSigner:
    def __init__(self, secret: str) -> None:
        self.native = HmacSha256(secret.encode())

    def sign(self, payload: str) -> str:
        return self.native.hex_of(payload)


class Ed25519Signer:
    """The private key as unencrypted PKCS#8 PEM. Raises CredentialError for anything else."""

    def __init__(self, pem: str, reference: str) -> None:
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except TypeError:
            raise CredentialError(
                f"the private key of {reference!r} is encrypted; store it without a passphrase in the secrets folder"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise CredentialError(f"the private key of {reference!r} can't be read as PEM") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise CredentialError(
                f"the private key of {reference!r} is {type(key).__name__}, not Ed25519: make one with "
                "`openssl genpkey -algorithm ed25519` and register its public key at the venue"
            )
        self._key = key

    def sign(self, payload: str) -> str:
        return base64.b64encode(self._key.sign(payload.encode())).decode()


class Credential:
    """One API key of the venue. reference is its name in the settings: the only part of it that messages show."""

    def __init__(self, reference: str, api_key: str, secret: str) -> None:
        """secret is the HMAC secret, or the Ed25519 private key as PEM. Raises CredentialError."""
        self.reference = reference
        self.api_key = api_key
        self.signer: Signer = Ed25519Signer(secret, reference) if secret.startswith(PEM_MARK) else HmacSigner(secret)

    @property
    def secret_file(self) -> str:
        suffix = PEM_SUFFIX if isinstance(self.signer, Ed25519Signer) else SECRET_SUFFIX
        return self.reference + suffix

    def __repr__(self) -> str:
        return f"Credential({self.reference!r})"


def read_key_files(reference: str, secret_path: Callable[[str], Path]) -> tuple[str, str]:
    """API key and secret (or PEM) from `<reference>.key` and `<reference>.secret` or `<reference>.pem`.

    secret_path gives the path of a secret's file by its name. Raises CredentialError when one is absent, empty or
    unreadable, and when both kinds of secret are there.
    """
    key_path, secret, pem = (secret_path(reference + suffix) for suffix in (KEY_SUFFIX, SECRET_SUFFIX, PEM_SUFFIX))
    if secret.exists() and pem.exists():
        raise CredentialError(f"both {secret} and {pem} exist; remove the one that doesn't belong to {key_path}")
    return _read(key_path), _read(pem if pem.exists() else secret)


def query_text(parameters: Mapping[str, str]) -> str:
    """Percent-encoded `name=value` pairs: what is signed is what is sent."""
    return urlencode(parameters, quote_via=quote)


def signed_query(credential: Credential, parameters: Mapping[str, str]) -> str:
    """The query string with its signature at the end."""
    query = query_text(parameters)
    return f"{query}&signature={quote(credential.signer.sign(query), safe='')}"


def signed_parameters(credential: Credential, parameters: Mapping[str, str | int]) -> dict[str, str | int]:
    """For the WebSocket API: apiKey and signature beside the parameters; the payload is sorted by name.

    https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/request-security
    """
    named = {**parameters, "apiKey": credential.api_key}
    texts = [(name, value if isinstance(value, str) else str(value)) for name, value in named.items()]
    texts.sort()
    named["signature"] = credential.signer.sign("&".join(map("=".join, texts)))
    return named


def _read(path: Path) -> str:
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        detail = error.strerror if isinstance(error, OSError) else "it isn't text"
        raise CredentialError(
            f"secret {path}: {detail}. Put the venue's key there, readable by the engine only"
        ) from None
    if not content:
        raise CredentialError(f"secret {path} is empty. Put the venue's key there, readable by the engine only")
    return content
