"""Login, refresh with reuse detection, logout."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import repository
from api.auth.failures import FailedLogins
from api.auth.schemas import TokenResponse
from api.auth.tokens import ACCESS_TOKEN_LIFETIME_S, AccessTokens, hash_refresh_token, new_refresh_token
from api.transactions import Transactions
from audit.record import Action
from audit.trail import AuditTrail
from core.types.clock import Clock
from core.types.codes import ReasonCode, refuse
from core.types.ids import IdSource, new_trace
from tools.contracts import Principal

CONCURRENT_HASHES_LIMIT = 4


class AuthService:
    """One request is one transaction; every outcome is in the audit trail before it is answered."""

    def __init__(
        self, transactions: Transactions, tokens: AccessTokens, trail: AuditTrail, clock: Clock, ids: IdSource
    ) -> None:
        self._transactions = transactions
        self._tokens = tokens
        self._trail = trail
        self._ids = ids
        self._failed = FailedLogins(clock)
        self._hasher = PasswordHasher()
        self._hashing = asyncio.Semaphore(CONCURRENT_HASHES_LIMIT)
        # An unknown name costs the same time as a wrong password.
        self._hash_of_nobody = self._hasher.hash(ids.new_ulid())

    async def login(self, username: str, password: str) -> TokenResponse:
        """Raises AUTH_CREDENTIALS_INVALID, AUTH_RATE_EXCEEDED."""
        self._failed.check(username)
        async with self._transactions(()) as connection:
            user = await repository.find_user(connection, username=username)
        async with self._hashing:
            # Again: guesses that came at once have all passed the first look.
            self._failed.check(username)
            matches = await self._verify(user.password_hash if user else self._hash_of_nobody, password)
            if user is None or not matches:
                self._failed.add(username)
        if user is None or not matches:
            await self._record(
                Action.LOGIN_REFUSED, user.principal if user else None, ReasonCode.AUTH_CREDENTIALS_INVALID
            )
            raise refuse(ReasonCode.AUTH_CREDENTIALS_INVALID, "The user name or the password is wrong.")
        self._failed.clear(username)
        async with self._transactions(()) as connection:
            response = await self._issue(connection, user.principal, self._ids.new_ulid())
        await self._record(Action.LOGIN, user.principal, None)
        return response

    async def refresh(self, secret: str) -> TokenResponse:
        """Swap a refresh token for a new pair; a token used twice revokes its whole family.

        Raises AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED, AUTH_REFRESH_REUSED.
        """
        reused_by: Principal | None = None
        async with self._transactions(()) as connection:
            row = await repository.lock_refresh_token(connection, hash_refresh_token(secret))
            if row is None:
                raise refuse(ReasonCode.AUTH_TOKEN_INVALID, "The refresh token isn't valid. Log in again.")
            user = await repository.find_user(connection, user_id=row.user_id)
            if user is None:
                raise refuse(ReasonCode.AUTH_TOKEN_INVALID, "The user is disabled.")
            if row.is_spent:
                await repository.revoke_family(connection, row.family_id)
                reused_by = user.principal
            elif row.is_expired:
                raise refuse(ReasonCode.AUTH_TOKEN_EXPIRED, "The refresh token has expired. Log in again.")
            else:
                await repository.mark_rotated(connection, row.id)
                response = await self._issue(connection, user.principal, row.family_id)
                # Before the commit: unrecorded, the old token must stay good, or its next use would look like theft.
                await self._record(Action.TOKEN_REFRESHED, user.principal, None)
        if reused_by is not None:
            await self._record(Action.TOKEN_REUSE_DETECTED, reused_by, ReasonCode.AUTH_REFRESH_REUSED)
            raise refuse(
                ReasonCode.AUTH_REFRESH_REUSED,
                "This refresh token was used before; all its successors are revoked. Log in again.",
            )
        return response

    async def logout(self, secret: str) -> None:
        """Revoke the token's family; an unknown token is no error."""
        async with self._transactions(()) as connection:
            row = await repository.lock_refresh_token(connection, hash_refresh_token(secret))
            if row is None:
                return
            await repository.revoke_family(connection, row.family_id)
            user = await repository.find_user(connection, user_id=row.user_id)
        if user is not None:
            await self._record(Action.LOGOUT, user.principal, None)

    async def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return await asyncio.to_thread(self._hasher.verify, password_hash, password)
        except VerificationError:
            return False

    async def _issue(self, connection: AsyncConnection, principal: Principal, family_id: str) -> TokenResponse:
        token = new_refresh_token()
        await repository.insert_refresh_token(
            connection, self._ids.new_ulid(), family_id, principal.user_id, token.hash
        )
        return TokenResponse(
            access_token=self._tokens.issue(principal), refresh_token=token.secret, expires_in=ACCESS_TOKEN_LIFETIME_S
        )

    async def _record(self, action: Action, principal: Principal | None, code: ReasonCode | None) -> None:
        await self._trail.record(
            action=action,
            actor=principal.user_id if principal else "unknown",
            actor_identity=principal.username if principal else None,
            resource="session",
            outcome=code.value if code else "ok",
            trace_id=new_trace(self._ids).trace_id,
        )
