"""Who may call: API key, HMAC SHA256 or Ed25519 signature and time window, as Binance checks them
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote_plus

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from core.venues.paper.errors import PaperVenueError, VenueError, illegal_characters, missing_parameter
from core.venues.paper.parameters import FIRST_MICROSECOND_TIMESTAMP, Parameters

DEFAULT_RECV_WINDOW_MS = 5_000
MAX_RECV_WINDOW_MS = 60_000
MAX_AHEAD_MS = 1_000
"""How far a client's clock may run ahead of the venue's."""
MAX_PARAMETERS = 64
SIGNATURE = "signature"
CANCELLING_VERBS = frozenset({"GET", "DELETE"})


class Credentials(msgspec.Struct, frozen=True):
    """An API key with what its signatures are checked by: an HMAC secret, or an Ed25519 public key as PEM."""

    key: str
    secret: str = ""
    public_key_pem: str = ""
    can_only_cancel: bool = False
    """It may ask and cancel, and do nothing else: an emergency's key. Binance itself has no such permission."""

    def __repr__(self) -> str:
        return f"Credentials(key={self.key[:4]}...)"

    @property
    def is_ed25519(self) -> bool:
        return bool(self.public_key_pem)

    def check(self) -> None:
        """Raises PaperVenueError when it can't be used."""
        if self.is_ed25519:
            _public_key(self.public_key_pem)
        elif not self.secret:
            raise PaperVenueError(f"paper venue: {self} has neither a secret nor a public key; give it one of them")

    def verifies(self, text: str, signature: str) -> bool:
        if not self.is_ed25519:
            return hmac.compare_digest(sign(self.secret, text).encode(), signature.lower().encode())
        try:
            _public_key(self.public_key_pem).verify(base64.b64decode(signature, validate=True), text.encode())
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


@lru_cache(maxsize=16)
def _public_key(pem: str) -> Ed25519PublicKey:
    """Raises PaperVenueError."""
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError as error:
        raise PaperVenueError(f"paper venue: a public key is no PEM ({error}); give BEGIN PUBLIC KEY") from error
    if not isinstance(key, Ed25519PublicKey):
        raise PaperVenueError(
            "paper venue: a public key isn't Ed25519; make one with openssl genpkey -algorithm ed25519"
        )
    return key


class Request(msgspec.Struct, frozen=True):
    """One request: its parameters, and the exact text that its signature covers."""

    parameters: Parameters
    signed_text: str
    signature: str | None

    @classmethod
    def of(cls, query: str, body: str) -> Request:
        """Parameters may come in both; the query's win. The signed text is the query string followed by the body,
        without the signature.

        Raises VenueError.
        """
        parameters = Parameters()
        signature: str | None = None
        signed: list[str] = []
        for text in (query, body):
            kept = []
            seen: set[str] = set()
            for pair in text.split("&") if text else ():
                name, _, value = pair.partition("=")
                name, value = unquote_plus(name), unquote_plus(value)
                if name == SIGNATURE:
                    signature = value
                    continue
                if name in seen:
                    raise VenueError(-1101, "Duplicate values for a parameter detected.")
                seen.add(name)
                kept.append(pair)
                parameters.setdefault(name, value)
            signed.append("&".join(kept))
        if len(parameters) > MAX_PARAMETERS:
            raise VenueError(-1101, "Too many parameters sent for this endpoint.")
        return cls(parameters, "".join(signed), signature)


def check_key(credentials: Credentials | Sequence[Credentials], given: str | None) -> Credentials:
    """The credentials with this key. Raises VenueError -2014 or -2015."""
    if not given:
        raise VenueError(-2014, "API-key format invalid.", 401)
    known = [credentials] if isinstance(credentials, Credentials) else credentials
    for one in known:
        if hmac.compare_digest(given.encode(), one.key.encode()):
            return one
    raise VenueError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def check_permission(credentials: Credentials, verb: str) -> None:
    """Raises VenueError -2015 for what this key isn't for. verb is the endpoint's in REST."""
    if credentials.can_only_cancel and verb not in CANCELLING_VERBS:
        raise VenueError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def check_signature(credentials: Credentials, request: Request, now_ms: int) -> None:
    """Raises VenueError -1102, -1100, -1131, -1021 or -1022."""
    check_time(request.parameters, now_ms)
    if not request.signature:
        raise missing_parameter(SIGNATURE)
    if not credentials.verifies(request.signed_text, request.signature):
        raise VenueError(-1022, "Signature for this request is not valid.")


def check_time(parameters: Parameters, now_ms: int) -> None:
    """The timestamp, in milliseconds or microseconds, against the venue's clock. Raises VenueError."""
    timestamp_ms = _milliseconds(parameters, "timestamp", None)
    window_ms = _milliseconds(parameters, "recvWindow", DEFAULT_RECV_WINDOW_MS)
    if window_ms > MAX_RECV_WINDOW_MS:
        raise VenueError(-1131, "recvWindow must be less than 60000.")
    if timestamp_ms > now_ms + MAX_AHEAD_MS:
        raise VenueError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - timestamp_ms > window_ms:
        raise VenueError(-1021, "Timestamp for this request is outside of the recvWindow.")


def sign(secret: str, text: str) -> str:
    """HMAC SHA256 in hex."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _milliseconds(parameters: Parameters, name: str, default: int | None) -> int:
    text = parameters.get(name, "")
    if not text:
        if default is None:
            raise missing_parameter(name)
        return default
    whole, _, fraction = text.partition(".")
    is_number = whole.isascii() and whole.isdigit() and len(whole) <= 20
    # recvWindow may have three places: 6000.346
    if not is_number or (fraction and not (name == "recvWindow" and fraction.isdigit() and len(fraction) <= 3)):
        raise illegal_characters(name, "^[0-9]{1,20}$")
    value = int(whole)
    return value // 1_000 if value >= FIRST_MICROSECOND_TIMESTAMP else value
