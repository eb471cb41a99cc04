"""Agents in SQL, each with what its owner may do at this moment."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.moments import to_ns
from tools.contracts import Principal, Role


class AgentRow(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as it was made, and its owner as they are now. account_ids and tools are the agent's own bounds."""

    agent_id: str
    name: str
    account_ids: tuple[str, ...]
    tools: tuple[str, ...]
    provider: str
    model: str
    secret_hash: bytes
    created_at_ns: int
    expires_at_ns: int
    last_token_at_ns: int | None
    revoked_at_ns: int | None
    is_expired: bool
    owner: Principal
    owner_disabled: bool

    @property
    def principal(self) -> Principal:
        """Who the agent is: never more than both its own bounds and its owner's grants allow."""
        granted = frozenset(self.owner.account_ids)
        return Principal(
            user_id=self.agent_id,
            username=self.name,
            role=self.owner.role,
            account_ids=tuple(account_id for account_id in self.account_ids if account_id in granted),
            kind="agent",
            on_behalf_of=self.owner.user_id,
            tools=frozenset(self.tools),
            model=self.model,
            provider=self.provider,
        )


_AGENT = """
    SELECT a.id, a.name, a.account_ids, a.tools, a.provider, a.model, a.secret_hash, a.created_at,
           a.expires_at, a.last_token_at, a.revoked_at, a.expires_at <= clock_timestamp() AS is_expired,
           u.id AS owner_id, u.username, u.role, u.disabled_at IS NOT NULL AS owner_disabled,
           array(SELECT account_id FROM account_grants g WHERE g.user_id = u.id ORDER BY account_id) AS granted
    FROM agents a JOIN users u ON u.id = a.owner_id
"""
_SAME_FIRM = "u.firm_id = (SELECT firm_id FROM users WHERE id = :user)"
_NEWEST = "ORDER BY a.created_at DESC LIMIT :limit"
_FIND = text(f"{_AGENT} WHERE a.id = :id")
_OF_OWNER = text(f"{_AGENT} WHERE a.owner_id = :owner {_NEWEST}")
_OF_FIRM = text(f"{_AGENT} WHERE {_SAME_FIRM} {_NEWEST}")
_IN_FIRM = text(f"{_AGENT} WHERE a.id = :id AND {_SAME_FIRM}")
_COUNT_LIVE = text(
    "SELECT count(*) FROM agents WHERE owner_id = :owner AND revoked_at IS NULL AND expires_at > clock_timestamp()"
)
_LOCK_OWNER = text("SELECT pg_advisory_xact_lock(hashtextextended('veloz/agents/' || :owner, 0))")
_END_EXPIRED = text(
    "UPDATE agents SET revoked_at = expires_at WHERE owner_id = :owner AND name = :name AND revoked_at IS NULL "
    "AND expires_at <= clock_timestamp()"
)
_NAME_TAKEN = text("SELECT 1 FROM agents WHERE owner_id = :owner AND name = :name AND revoked_at IS NULL")
_INSERT = text(
    "INSERT INTO agents (id, owner_id, name, account_ids, tools, provider, model, secret_hash, expires_at) VALUES "
    "(:id, :owner, :name, :accounts, :tools, :provider, :model, :hash, "
    "clock_timestamp() + make_interval(secs => :lifetime))"
)
_REVOKE = text(
    "UPDATE agents SET revoked_at = clock_timestamp(), revoked_by = :by WHERE id = :id AND revoked_at IS NULL"
)
_USED = text("UPDATE agents SET last_token_at = clock_timestamp() WHERE id = :id")


async def find(connection: AsyncConnection, agent_id: str) -> AgentRow | None:
    row = (await connection.execute(_FIND, {"id": agent_id})).one_or_none()
    return None if row is None else _row(row)


async def of_owner(connection: AsyncConnection, owner_id: str, limit: int) -> list[AgentRow]:
    """Newest first, ended ones too."""
    return [_row(row) for row in await connection.execute(_OF_OWNER, {"owner": owner_id, "limit": limit})]


async def of_firm(connection: AsyncConnection, user_id: str, limit: int) -> list[AgentRow]:
    """Those of everybody in the user's firm."""
    return [_row(row) for row in await connection.execute(_OF_FIRM, {"user": user_id, "limit": limit})]


async def is_in_firm(connection: AsyncConnection, agent_id: str, user_id: str) -> bool:
    return (await connection.execute(_IN_FIRM, {"id": agent_id, "user": user_id})).one_or_none() is not None


async def lock_owner(connection: AsyncConnection, owner_id: str, name: str) -> tuple[int, bool]:
    """How many live agents the owner has, and whether one has the name; nobody adds one before the transaction ends.

    An expired one gives its name free.
    """
    await connection.execute(_LOCK_OWNER, {"owner": owner_id})
    await connection.execute(_END_EXPIRED, {"owner": owner_id, "name": name})
    live = (await connection.execute(_COUNT_LIVE, {"owner": owner_id})).scalar_one()
    taken = (await connection.execute(_NAME_TAKEN, {"owner": owner_id, "name": name})).one_or_none() is not None
    return int(live), taken


async def insert(
    connection: AsyncConnection,
    *,
    agent_id: str,
    owner_id: str,
    name: str,
    account_ids: list[str],
    tools: list[str],
    provider: str,
    model: str,
    secret_hash: bytes,
    lifetime_s: int,
) -> None:
    values = {"id": agent_id, "owner": owner_id, "name": name, "accounts": account_ids, "tools": tools}
    runs_on = {"provider": provider, "model": model}
    await connection.execute(_INSERT, values | runs_on | {"hash": secret_hash, "lifetime": lifetime_s})


async def revoke(connection: AsyncConnection, agent_id: str, by: str) -> None:
    """One that is revoked already stays as it is."""
    await connection.execute(_REVOKE, {"id": agent_id, "by": by})


async def mark_used(connection: AsyncConnection, agent_id: str) -> None:
    await connection.execute(_USED, {"id": agent_id})


def _row(row: Row[Any]) -> AgentRow:
    return AgentRow(
        agent_id=row.id,
        name=row.name,
        account_ids=tuple(row.account_ids),
        tools=tuple(row.tools),
        provider=row.provider,
        model=row.model,
        secret_hash=bytes(row.secret_hash),
        created_at_ns=to_ns(row.created_at),
        expires_at_ns=to_ns(row.expires_at),
        last_token_at_ns=to_ns(row.last_token_at),
        revoked_at_ns=to_ns(row.revoked_at),
        is_expired=row.is_expired,
        owner=Principal(row.owner_id, row.username, Role(row.role), tuple(row.granted)),
        owner_disabled=row.owner_disabled,
    )
