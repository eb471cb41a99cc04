"""A migrated database with the demo tenancy and a second account, transactions over it, and released results in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import LiteralString

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.results.repository import SqlReleases
from audit.keys import PersonKeys
from audit.record import Action
from audit.store import PostgresAuditSink, audit_redactor
from audit.trail import AuditTrail
from core.storage.database import DatabaseRole, create_engine, scoped_session, transaction
from core.types.clock import SystemClock
from core.types.ids import SystemIdSource
from tests.postgres import PostgresDatabase
from tools.ports import StoredResult

ACCOUNT = "acct-demo"
OTHER_ACCOUNT = "acct-other"
RESULTS_KEY = bytes(range(32))


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


class Shelf:
    """Puts results where the gateway's go."""

    def __init__(self, releases: SqlReleases) -> None:
        self._releases = releases

    async def put(self, result: StoredResult) -> None:
        await self._releases.release(
            result,
            action=Action.TOOL_CALLED,
            actor=result.user_id,
            resource=f"tool:{result.tool}",
            outcome="ok",
            trace_id=result.trace_id,
            account_id=result.account_id,
            run_id=result.run_id,
        )


@asynccontextmanager
async def shelf(postgres: PostgresDatabase, database: Database, home: Path) -> AsyncIterator[Shelf]:
    writer = create_engine(postgres.settings(home), DatabaseRole.AUDIT_WRITER)
    sink = PostgresAuditSink(writer, audit_redactor(RESULTS_KEY))
    trail = AuditTrail(sink, PersonKeys(database.api, RESULTS_KEY), SystemClock(), SystemIdSource())
    try:
        yield Shelf(SqlReleases(trail, RESULTS_KEY))
    finally:
        await sink.close()
        await writer.dispose()
