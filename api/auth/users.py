"""What humans may do at this moment: looked up at each call, and remembered for a second."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from api.auth import repository
from api.transactions import Transactions
from core.types.codes import ReasonCode, refuse
from tools.contracts import Principal

REMEMBERED_FOR_S = 1.0
"""So long what was taken from somebody may still hold, and a lookup isn't repeated."""
LOOKUP_TIMEOUT_S = 1.0
USERS_LIMIT = 10_000


class _Known(msgspec.Struct, frozen=True):
    """principal is None for one who is disabled or isn't there."""

    principal: Principal | None
    asked_s: float


class CurrentUsers:
    """Role and account grants as SQL has them now. Keeps the USERS_LIMIT that were asked for last."""

    def __init__(self, transactions: Transactions, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._transactions = transactions
        self._monotonic_s = monotonic_s
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Known]] = {}

    async def cut(self, principal: Principal) -> Principal:
        """principal, with those of its accounts that are still granted.

        Raises RefusalError: AUTH_TOKEN_INVALID for one who is disabled or has another role by now,
        SERVICE_DATABASE_UNAVAILABLE.
        """
        return _cut(principal, await self._current(principal.user_id))

    def cut_to_last_known(self, principal: Principal) -> Principal:
        """The same by what was seen last, however long ago; nothing seen is as the principal says. For what only
        reduces: that mustn't wait for a database that is away."""
        known = self._known.get(principal.user_id)
        return principal if known is None else _cut(principal, known.principal)

    async def as_of_now(self, principal: Principal) -> Principal:
        """For what a principal asked for a while ago and is still under way: with the role of now, and without
        accounts for one who is disabled. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""
        now = await self._current(principal.user_id)
        accounts = () if now is None else _both(principal, now)
        return msgspec.structs.replace(principal, role=now.role if now else principal.role, account_ids=accounts)

    async def _current(self, user_id: str) -> Principal | None:
        known = self._known.get(user_id)
        if known is not None and self._monotonic_s() - known.asked_s < REMEMBERED_FOR_S:
            return known.principal
        asking = self._asking.get(user_id)
        if asking is None:
            asking = self._asking[user_id] = asyncio.create_task(self._ask(user_id))
            asking.add_done_callback(lambda task: self._answered(user_id, task))
        # A caller that goes away doesn't end the lookup of the others.
        return (await asyncio.shield(asking)).principal

    async def _ask(self, user_id: str) -> _Known:
        asked_s = self._monotonic_s()
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S), self._transactions(()) as connection:
                user = await repository.find_user(connection, user_id=user_id)
        except TimeoutError:
            raise refuse(
                ReasonCode.SERVICE_DATABASE_UNAVAILABLE,
                "The database doesn't say in time what you may do. Nothing was done; try again.",
                limit=str(int(LOOKUP_TIMEOUT_S * 1_000)),
                unit="ms",
            ) from None
        return _Known(None if user is None else user.principal, asked_s)

    def _answered(self, user_id: str, task: asyncio.Task[_Known]) -> None:
        self._asking.pop(user_id, None)
        if task.cancelled() or task.exception() is not None:
            return
        self._known[user_id] = task.result()
        self._known.move_to_end(user_id)
        while len(self._known) > USERS_LIMIT:
            self._known.popitem(last=False)


def _cut(principal: Principal, now: Principal | None) -> Principal:
    if now is None:
        raise refuse(ReasonCode.AUTH_TOKEN_INVALID, "The user of this access token is disabled.")
    if now.role is not principal.role:
        raise refuse(
            ReasonCode.AUTH_TOKEN_INVALID,
            "Your role has changed since you logged in. Log in again.",
            limit=now.role.value,
            actual=principal.role.value,
            unit="role",
        )
    if now.account_ids == principal.account_ids:
        return principal
    return msgspec.structs.replace(principal, account_ids=_both(principal, now))


def _both(principal: Principal, now: Principal) -> tuple[str, ...]:
    granted = frozenset(now.account_ids)
    return tuple(account_id for account_id in principal.account_ids if account_id in granted)
