"""Access tokens (short-lived JWT) and refresh tokens (opaque, rotating)."""

from __future__ import annotations

import hashlib
import secrets

import jwt
import msgspec

from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, refuse
from tools.contracts import Principal, Role

ACCESS_TOKEN_LIFETIME_S = 600
REFRESH_TOKEN_LIFETIME_S = 7 * 24 * 3600
REFRESH_TOKEN_BYTES = 32
ISSUER = "veloz"
AUDIENCE = "veloz-api"
ALGORITHM = "HS256"


class AccessTokens:
    """Issues and reads access tokens. key is 32 bytes."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        assert len(key) == 32, "the token key has 32 bytes"
        self._key = key
        self._clock = clock

    def issue(self, principal: Principal) -> str:
        now_s = self._clock.now_ns() // NS_PER_S
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": principal.user_id,
            "username": principal.username,
            "role": principal.role.value,
            "accounts": list(principal.account_ids),
            "iat": now_s,
            "exp": now_s + ACCESS_TOKEN_LIFETIME_S,
        }
        return jwt.encode(claims, self._key, ALGORITHM)

    def read(self, token: str) -> Principal:
        """Raises RefusalError: AUTH_TOKEN_INVALID or AUTH_TOKEN_EXPIRED."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                [ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
            )
            principal = Principal(
                claims["sub"], claims["username"], Role(claims["role"]), tuple(map(str, claims["accounts"]))
            )
            expires_s = int(claims["exp"])
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as error:
            raise refuse(ReasonCode.AUTH_TOKEN_INVALID, "The access token isn't valid. Log in again.") from error
        if self._clock.now_ns() >= expires_s * NS_PER_S:
            raise refuse(ReasonCode.AUTH_TOKEN_EXPIRED, "The access token has expired. Refresh it or log in again.")
        return principal


class RefreshToken(msgspec.Struct, frozen=True):
    """secret goes to the client, once; hash is what is stored."""

    secret: str
    hash: bytes


def new_refresh_token() -> RefreshToken:
    secret = secrets.token_urlsafe(REFRESH_TOKEN_BYTES)
    return RefreshToken(secret, hash_refresh_token(secret))


def hash_refresh_token(secret: str) -> bytes:
    """SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()
