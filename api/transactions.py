"""How repositories come by a connection."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class Transactions(Protocol):
    """Opens one transaction that sees the given accounts; core.storage.database.scoped_session over an engine.

    Committed at the end of the block, rolled back when it raises. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE).
    """

    def __call__(self, account_ids: tuple[str, ...], /) -> AbstractAsyncContextManager[AsyncConnection]: ...
