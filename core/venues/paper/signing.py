"""Who may call: API key, HMAC SHA256 signature and time window, as Binance checks them
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security)."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import unquote_plus

import msgspec

from core.venues.paper.errors import VenueError, illegal_characters, missing_parameter

DEFAULT_RECV_WINDOW_MS = 5_000
MAX_RECV_WINDOW_MS = 60_000
MAX_AHEAD_MS = 1_000
"""How far a client's clock may run ahead of the venue's."""
MAX_PARAMETERS = 64
SIGNATURE = "signature"


class Credentials(msgspec.Struct, frozen=True):
    key: str
    secret: str

    def __repr__(self) -> str:
        return f"Credentials(key={self.key[:4]}...)"


class Request(msgspec.Struct, frozen=True):
    """One request: its parameters, and the exact text that its signature covers."""

    parameters: dict[str, str]
    signed_text: str
    signature: str | None

    @classmethod
    def of(cls, query: str, body: str) -> Request:
        """Parameters may come in both; the query's win. The signed text is the query string followed by the body,
        without the signature.

        Raises VenueError.
        """
        parameters: dict[str, str] = {}
        signature: str | None = None
        signed: list[str] = []
        for text in (query, body):
            kept = []
            for pair in text.split("&") if text else ():
                name, _, value = pair.partition("=")
                name, value = unquote_plus(name), unquote_plus(value)
                if name == SIGNATURE:
                    signature = value
                    continue
                kept.append(pair)
                parameters.setdefault(name, value)
            signed.append("&".join(kept))
        if len(parameters) > MAX_PARAMETERS:
            raise VenueError(-1101, "Too many parameters sent for this endpoint.")
        return cls(parameters, "".join(signed), signature)


def check_key(credentials: Credentials, given: str | None) -> None:
    """Raises VenueError -2014 or -2015."""
    if not given:
        raise VenueError(-2014, "API-key format invalid.", 401)
    if not hmac.compare_digest(given.encode(), credentials.key.encode()):
        raise VenueError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def check_signature(credentials: Credentials, request: Request, now_ms: int) -> None:
    """Raises VenueError -1102, -1100, -1131, -1021 or -1022."""
    timestamp_ms = _milliseconds(request, "timestamp", None)
    window_ms = _milliseconds(request, "recvWindow", DEFAULT_RECV_WINDOW_MS)
    if window_ms > MAX_RECV_WINDOW_MS:
        raise VenueError(-1131, "recvWindow must be less than 60000.")
    if timestamp_ms > now_ms + MAX_AHEAD_MS:
        raise VenueError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - timestamp_ms > window_ms:
        raise VenueError(-1021, "Timestamp for this request is outside of the recvWindow.")
    if not request.signature:
        raise missing_parameter(SIGNATURE)
    expected = sign(credentials.secret, request.signed_text)
    if not hmac.compare_digest(expected.encode(), request.signature.lower().encode()):
        raise VenueError(-1022, "Signature for this request is not valid.")


def sign(secret: str, text: str) -> str:
    """HMAC SHA256 in hex."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _milliseconds(request: Request, name: str, default: int | None) -> int:
    text = request.parameters.get(name, "")
    if not text:
        if default is None:
            raise missing_parameter(name)
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise illegal_characters(name, "^[0-9]{1,20}$")
    return int(text)
