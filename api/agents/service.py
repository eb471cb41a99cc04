"""Agents: made by a human, narrower than that human, ended at once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.agents import repository
from api.agents.repository import AgentRow
from api.agents.schemas import AgentRequest, AgentResponse, AgentTokenResponse, NewAgentResponse
from api.auth.failures import FailedLogins
from api.auth.tokens import AGENT_TOKEN_LIFETIME_S, AccessTokens
from api.transactions import Transactions
from audit.record import Action
from audit.trail import AuditTrail
from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import IdSource, new_trace
from tools.contracts import Gateway, Principal, Role

AGENTS_PER_OWNER_LIMIT = 20
AGENTS_SHOWN_LIMIT = 200
SECRET_BYTES = 32
S_PER_DAY = 86_400
KINDS_WITHOUT_ASKING = frozenset({"read", "compute"})
_NO_HASH = bytes(32)
_WRONG_SECRET = Refusal(ReasonCode.AUTH_CREDENTIALS_INVALID, "The agent's id or its secret is wrong.")


class AgentService:
    """Every change and every token is in the audit trail before it takes effect."""

    def __init__(
        self,
        transactions: Transactions,
        tokens: AccessTokens,
        gateway: Gateway,
        trail: AuditTrail,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._transactions = transactions
        self._tokens = tokens
        self._gateway = gateway
        self._trail = trail
        self._ids = ids
        self._failed = FailedLogins(clock)

    async def create(self, owner: Principal, request: AgentRequest) -> NewAgentResponse:
        """Raises AUTH_ACCOUNT_OUT_OF_SCOPE, TOOL_NOT_PERMITTED for what the owner may not do, REQUEST_INVALID."""
        account_ids, tools = _accounts(owner, request), self._tools(owner, request)
        agent_id, secret = f"agent-{self._ids.new_ulid()}", secrets.token_urlsafe(SECRET_BYTES)
        async with self._transactions(()) as connection:
            live, taken = await repository.lock_owner(connection, owner.user_id, request.name)
            _check_room(live, taken, request.name)
            await repository.insert(
                connection,
                agent_id=agent_id,
                owner_id=owner.user_id,
                name=request.name,
                account_ids=account_ids,
                tools=tools,
                provider=request.provider,
                model=request.model,
                secret_hash=_hash(secret),
                lifetime_s=request.valid_days * S_PER_DAY,
            )
            bounds = {"account_ids": account_ids, "tools": tools, "valid_days": request.valid_days}
            runs_on = {"name": request.name, "provider": request.provider, "model": request.model}
            await self._record(Action.AGENT_CREATED, owner, _resource(agent_id), payload=runs_on | bounds)
            row = await self._found(connection, agent_id)
        return NewAgentResponse(**AgentResponse.of(row).model_dump(), secret=secret)

    async def listed(self, principal: Principal) -> list[AgentResponse]:
        """Your own; compliance sees those of the firm."""
        async with self._transactions(()) as connection:
            if principal.role is Role.COMPLIANCE:
                rows = await repository.of_firm(connection, principal.user_id, AGENTS_SHOWN_LIMIT)
            else:
                rows = await repository.of_owner(connection, principal.user_id, AGENTS_SHOWN_LIMIT)
        return [AgentResponse.of(row) for row in rows]

    async def revoke(self, principal: Principal, agent_id: str) -> AgentResponse:
        """The owner may, and compliance, which can so only take away. Asking again changes nothing.

        Raises RESOURCE_NOT_FOUND.
        """
        async with self._transactions(()) as connection:
            row = await self._found(connection, agent_id)
            if row.owner.user_id != principal.user_id and not (
                principal.role is Role.COMPLIANCE
                and await repository.is_in_firm(connection, agent_id, principal.user_id)
            ):
                raise _unknown(agent_id)
            if row.revoked_at_ns is None:
                await repository.revoke(connection, agent_id, principal.user_id)
                await self._record(Action.AGENT_REVOKED, principal, _resource(agent_id))
            return AgentResponse.of(await self._found(connection, agent_id))

    async def token_for_secret(self, agent_id: str, secret: str) -> AgentTokenResponse:
        """Raises AUTH_CREDENTIALS_INVALID, AUTH_AGENT_REVOKED, AUTH_RATE_EXCEEDED."""
        self._failed.check(agent_id)
        async with self._transactions(()) as connection:
            row = await repository.find(connection, agent_id)
            known = row.secret_hash if row is not None else _NO_HASH
            matches = hmac.compare_digest(known, _hash(secret))
            refusal = _ended(row) if matches else _WRONG_SECRET
            if row is not None and refusal is None:
                return await self._issue(connection, row, row.principal)
        if not matches:
            self._failed.add(agent_id)
        refusal = refusal or _WRONG_SECRET
        await self._record(Action.LOGIN_REFUSED, row.principal if row else None, "session", refusal.code)
        raise RefusalError(refusal)

    async def token_for_owner(self, owner: Principal, agent_id: str) -> AgentTokenResponse:
        """Raises RESOURCE_NOT_FOUND for somebody else's agent, AUTH_AGENT_REVOKED."""
        async with self._transactions(()) as connection:
            row = await repository.find(connection, agent_id)
            if row is None or row.owner.user_id != owner.user_id:
                raise _unknown(agent_id)
            if (refusal := _ended(row)) is not None:
                raise RefusalError(refusal)
            return await self._issue(connection, row, owner)

    async def principal(self, agent_id: str) -> Principal:
        """Who the agent is at this moment. Asked at each call, so that an end, or a grant taken from the owner, counts
        at once. Raises AUTH_AGENT_REVOKED, SERVICE_DATABASE_UNAVAILABLE."""
        async with self._transactions(()) as connection:
            row = await repository.find(connection, agent_id)
        refusal = _ended(row)
        if row is None or refusal is not None:
            raise RefusalError(refusal or _revoked("isn't known"))
        return row.principal

    async def _issue(self, connection: AsyncConnection, row: AgentRow, by: Principal) -> AgentTokenResponse:
        await repository.mark_used(connection, row.agent_id)
        await self._record(Action.AGENT_TOKEN_ISSUED, by, _resource(row.agent_id))
        token = self._tokens.issue_to_agent(row.agent_id, row.expires_at_ns // NS_PER_S)
        return AgentTokenResponse(access_token=token, expires_in=AGENT_TOKEN_LIFETIME_S)

    async def _found(self, connection: AsyncConnection, agent_id: str) -> AgentRow:
        row = await repository.find(connection, agent_id)
        if row is None:
            raise _unknown(agent_id)
        return row

    def _tools(self, owner: Principal, request: AgentRequest) -> list[str]:
        kinds = {description.name: description.kind for description in self._gateway.describe(owner)}
        if request.tools is None:
            return sorted(name for name, kind in kinds.items() if kind in KINDS_WITHOUT_ASKING)
        beyond = sorted(set(request.tools) - set(kinds))
        if beyond:
            raise refuse(
                ReasonCode.TOOL_NOT_PERMITTED,
                "An agent gets no tool that its owner may not call. Leave it out.",
                limit=", ".join(sorted(kinds)),
                actual=", ".join(name[:64] for name in beyond[:5]),
                unit="tool",
            )
        return sorted(set(request.tools))

    async def _record(
        self,
        action: Action,
        by: Principal | None,
        resource: str,
        code: ReasonCode | None = None,
        payload: dict[str, Any] | None = None,
    ) -> None:
        await self._trail.record(
            action=action,
            actor=by.user_id if by else "unknown",
            actor_identity=by.username if by else None,
            on_behalf_of=by.on_behalf_of if by else None,
            resource=resource,
            outcome=code.value if code else "ok",
            trace_id=new_trace(self._ids).trace_id,
            payload=payload,
        )


def _resource(agent_id: str) -> str:
    return f"agent:{agent_id}"


def _accounts(owner: Principal, request: AgentRequest) -> list[str]:
    wanted = list(owner.account_ids) if request.account_ids is None else sorted(set(request.account_ids))
    beyond = [account_id for account_id in wanted if account_id not in owner.account_ids]
    if beyond:
        raise refuse(
            ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE,
            f"Account {beyond[0][:64]} isn't one of yours, so no agent of yours gets it.",
            limit=", ".join(owner.account_ids) or "no account",
            actual=beyond[0][:64],
            unit="account",
        )
    return wanted


def _check_room(live: int, taken: bool, name: str) -> None:
    if taken:
        raise refuse(ReasonCode.REQUEST_INVALID, f"You have an agent named {name}. Revoke it, or choose another name.")
    if live >= AGENTS_PER_OWNER_LIMIT:
        raise refuse(
            ReasonCode.REQUEST_INVALID,
            "You have as many agents as one may have. Revoke one first.",
            limit=str(AGENTS_PER_OWNER_LIMIT),
            actual=str(live + 1),
            unit="agents",
        )


def _ended(row: AgentRow | None) -> Refusal | None:
    if row is None:
        return _revoked("isn't known")
    if row.revoked_at_ns is not None:
        return _revoked("was revoked")
    if row.is_expired:
        return _revoked("has expired")
    return _revoked("has an owner who is disabled") if row.owner_disabled else None


def _revoked(what: str) -> Refusal:
    return Refusal(
        ReasonCode.AUTH_AGENT_REVOKED, f"The agent {what}. Its owner may make a new one: veloz agents create."
    )


def _unknown(agent_id: str) -> RefusalError:
    return refuse(ReasonCode.RESOURCE_NOT_FOUND, f"You have no agent {agent_id[:64]}.")


def _hash(secret: str) -> bytes:
    """SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()
