"""Users and refresh tokens in SQL."""

from __future__ import annotations

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.tokens import REFRESH_TOKEN_LIFETIME_S
from tools.contracts import Principal, Role


class UserRow(msgspec.Struct, frozen=True):
    principal: Principal
    password_hash: str
    display_name: str


class RefreshRow(msgspec.Struct, frozen=True):
    id: str
    family_id: str
    user_id: str
    is_spent: bool
    is_expired: bool


_USER = """
    SELECT u.id, u.username, u.role, u.password_hash, u.display_name,
           array(SELECT account_id FROM account_grants g WHERE g.user_id = u.id ORDER BY account_id) AS account_ids
    FROM users u WHERE u.disabled_at IS NULL AND
"""


_LOCK_FAMILY = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('veloz/refresh/' || family_id, 0)) "
    "FROM refresh_tokens WHERE token_hash = :hash"
)


async def find_user(
    connection: AsyncConnection, *, username: str | None = None, user_id: str | None = None
) -> UserRow | None:
    """The enabled user of that name or id."""
    column, value = ("u.username", username) if username is not None else ("u.id", user_id)
    row = (await connection.execute(text(f"{_USER} {column} = :value"), {"value": value})).one_or_none()
    if row is None:
        return None
    principal = Principal(row.id, row.username, Role(row.role), tuple(row.account_ids))
    return UserRow(principal, row.password_hash, row.display_name)


async def insert_refresh_token(
    connection: AsyncConnection, token_id: str, family_id: str, user_id: str, token_hash: bytes
) -> None:
    statement = text(
        "INSERT INTO refresh_tokens (id, family_id, user_id, token_hash, expires_at) VALUES "
        "(:id, :family, :user, :hash, clock_timestamp() + make_interval(secs => :lifetime))"
    )
    values = {"id": token_id, "family": family_id, "user": user_id, "hash": token_hash}
    await connection.execute(statement, values | {"lifetime": REFRESH_TOKEN_LIFETIME_S})


async def lock_refresh_token(connection: AsyncConnection, token_hash: bytes) -> RefreshRow | None:
    """The token's row, with its family locked: no use of a token overlaps the revocation of its session, which would
    miss a successor that isn't committed yet."""
    await connection.execute(_LOCK_FAMILY, {"hash": token_hash})
    statement = text(
        "SELECT id, family_id, user_id, rotated_at IS NOT NULL OR revoked_at IS NOT NULL AS is_spent, "
        "expires_at <= clock_timestamp() AS is_expired FROM refresh_tokens WHERE token_hash = :hash FOR UPDATE"
    )
    row = (await connection.execute(statement, {"hash": token_hash})).one_or_none()
    return None if row is None else RefreshRow(row.id, row.family_id, row.user_id, row.is_spent, row.is_expired)


async def mark_rotated(connection: AsyncConnection, token_id: str) -> None:
    await connection.execute(
        text("UPDATE refresh_tokens SET rotated_at = clock_timestamp() WHERE id = :id"), {"id": token_id}
    )


async def revoke_family(connection: AsyncConnection, family_id: str) -> None:
    await connection.execute(
        text(
            "UPDATE refresh_tokens SET revoked_at = clock_timestamp() WHERE family_id = :family AND revoked_at IS NULL"
        ),
        {"family": family_id},
    )
