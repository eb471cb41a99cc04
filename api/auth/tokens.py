"""Access tokens (short-lived JWT) and refresh tokens (opaque, rotating)."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

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
AGENT_AUDIENCE = "veloz-agent"
AGENT_TOKEN_LIFETIME_S = 300
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

    def issue_to_agent(self, agent_id: str, ends_s: int) -> str:
        """Names the agent and nothing that it may do: that is looked up at each call. ends_s is the agent's own end."""
        now_s = self._clock.now_ns() // NS_PER_S
        claims = {
            "iss": ISSUER,
            "aud": AGENT_AUDIENCE,
            "sub": agent_id,
            "iat": now_s,
            "exp": min(now_s + AGENT_TOKEN_LIFETIME_S, ends_s),
        }
        return jwt.encode(claims, self._key, ALGORITHM)

    def read(self, token: str) -> Principal:
        """A human's. Raises RefusalError: AUTH_TOKEN_INVALID (an agent's, too) or AUTH_TOKEN_EXPIRED."""
        found = self.read_any(token)
        if not isinstance(found, Principal):
            raise refuse(ReasonCode.AUTH_TOKEN_INVALID, "The access token is an agent's. Log in as its owner.")
        return found

    def read_any(self, token: str) -> Principal | str:
        """A human, or an agent's id. Raises RefusalError: AUTH_TOKEN_INVALID or AUTH_TOKEN_EXPIRED."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                [ALGORITHM],
                audience=[AUDIENCE, AGENT_AUDIENCE],
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
            )
            found = _whose(claims)
            expires_s = int(claims["exp"])
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as error:
            raise refuse(ReasonCode.AUTH_TOKEN_INVALID, "The access token isn't valid. Log in again.") from error
        if self._clock.now_ns() >= expires_s * NS_PER_S:
            raise refuse(ReasonCode.AUTH_TOKEN_EXPIRED, "The access token has expired. Refresh it or log in again.")
        return found


def _whose(claims: dict[str, Any]) -> Principal | str:
    if claims["aud"] == AGENT_AUDIENCE:
        return str(claims["sub"])
    if claims["aud"] != AUDIENCE:
        raise ValueError("a token is for one audience")
    return Principal(claims["sub"], claims["username"], Role(claims["role"]), tuple(map(str, claims["accounts"])))


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
