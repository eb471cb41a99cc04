"""Whom an access token speaks for, on every face alike."""

from __future__ import annotations

from typing import Protocol

from api.auth.tokens import AccessTokens
from core.types.codes import ReasonCode, refuse
from tools.contracts import Principal

BEARER = "bearer"


class Agents(Protocol):
    """Where agents are looked up, at each call."""

    async def principal(self, agent_id: str) -> Principal: ...


class Identity:
    """A human is whom the token says, for its ten minutes; an agent is looked up each time."""

    def __init__(self, tokens: AccessTokens, agents: Agents) -> None:
        self._tokens = tokens
        self._agents = agents

    async def of_token(self, token: str) -> Principal:
        """Raises AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED, AUTH_AGENT_REVOKED, SERVICE_DATABASE_UNAVAILABLE."""
        found = self._tokens.read_any(token)
        return found if isinstance(found, Principal) else await self._agents.principal(found)

    async def of_header(self, authorization: str | None) -> Principal:
        """The same for an Authorization header, or the metadata of that name."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != BEARER or not token.strip():
            raise refuse(
                ReasonCode.AUTH_TOKEN_INVALID,
                "This address needs an access token: log in at /api/v1/auth/login.",
            )
        return await self.of_token(token.strip())
