"""Whom an access token speaks for, on every face alike."""

from __future__ import annotations

from typing import Protocol

from api.auth.tokens import AccessTokens
from api.auth.users import CurrentUsers
from core.types.codes import ReasonCode, RefusalError, refuse
from tools.contracts import Principal

BEARER = "bearer"


class Agents(Protocol):
    """Where agents are looked up, at each call."""

    async def principal(self, agent_id: str) -> Principal: ...


class Identity:
    """A human is whom the token says, cut to what is granted now; an agent is looked up each time."""

    def __init__(self, tokens: AccessTokens, agents: Agents, users: CurrentUsers) -> None:
        self._tokens = tokens
        self._agents = agents
        self._users = users

    async def of_token(self, token: str) -> Principal:
        """Raises AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED, AUTH_AGENT_REVOKED, SERVICE_DATABASE_UNAVAILABLE."""
        found = self._tokens.read_any(token)
        return await (self._users.cut(found) if isinstance(found, Principal) else self._agents.principal(found))

    async def of_token_to_reduce(self, token: str) -> Principal:
        """For what only reduces: also while the database is away, by what was known last. Raises as of_token does."""
        try:
            return await self.of_token(token)
        except RefusalError as error:
            if error.refusal.code is not ReasonCode.SERVICE_DATABASE_UNAVAILABLE:
                raise
            return self._users.cut_to_last_known(self._tokens.read(token))

    async def of_header(self, authorization: str | None) -> Principal:
        """The same for an Authorization header, or the metadata of that name."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != BEARER or not token.strip():
            raise refuse(
                ReasonCode.AUTH_TOKEN_INVALID,
                "This address needs an access token: log in at /api/v1/auth/login.",
            )
        return await self.of_token(token.strip())
