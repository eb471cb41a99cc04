"""A migrated database with the demo tenancy and a second account, and transactions over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import LiteralString

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.storage.database import DatabaseRole, create_engine, scoped_session, transaction
from tests.postgres import PostgresDatabase

ACCOUNT = "acct-demo"
OTHER_ACCOUNT = "acct-other"


class Database:
    """Engines of the roles under test."""

    def __init__(self, api: AsyncEngine, ledger: AsyncEngine, postgres: PostgresDatabase) -> None:
        self.api = api
        self.ledger = ledger
        self._postgres = postgres

    def transactions(self, account_ids: tuple[str, ...], /) -> AbstractAsyncContextManager[AsyncConnection]:
        return scoped_session(self.api, account_ids)

    def as_owner(self, statement: LiteralString) -> None:
        with self._postgres.connect(DatabaseRole.OWNER) as connection:
            connection.execute(statement)

    async def as_ledger(self, statement: str, **values: object) -> None:
        async with transaction(self.ledger) as connection:
            await connection.execute(text(statement), values)


@asynccontextmanager
async def seeded(postgres: PostgresDatabase, home: Path) -> AsyncIterator[Database]:
    postgres.seed_demo_tenancy()
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute(
            "INSERT INTO accounts (id, desk_id, name, venue, key_reference, mode) "
            "VALUES (%s, 'desk-demo', 'Other', 'paper', 'venue-paper', 'PAPER')",
            [OTHER_ACCOUNT],
        )
    settings = postgres.settings(home)
    api, ledger = create_engine(settings, "api"), create_engine(settings, "ledger")
    try:
        yield Database(api, ledger, postgres)
    finally:
        await api.dispose()
        await ledger.dispose()
