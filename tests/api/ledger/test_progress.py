"""How far the ledger tells the engine that it is: never beyond what it holds."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.ledger import process
from api.ledger.numbering import Numbering
from api.ledger.process import Ledger
from api.ledger.progress import ledger_progress
from api.ledger.projection import Projection
from core.text.redaction import Redactor
from core.types.orders import OrderStatus
from core.types.views import LedgerProgress
from tests.api.ledger.journal import ENGINE_ID, MemoryJournal, approval, fill, started
from tests.api.ledger.test_numbering import insert
from tests.api.ledger.test_process import running, until
from tests.postgres import PostgresDatabase


@pytest.fixture
async def journal() -> MemoryJournal:
    journal = MemoryJournal()
    await journal.append(started(), approval(), fill(1, 50_000, OrderStatus.FILLED))
    return journal


async def test_what_is_projected_counts_as_audited_once_its_records_have_their_numbers(
    database: PostgresDatabase, ledger_engine: AsyncEngine, journal: MemoryJournal, scope_key: bytes
) -> None:
    projection, numbering = Projection(ledger_engine, ENGINE_ID, Redactor(scope_key)), Numbering(ledger_engine)
    assert await ledger_progress(ledger_engine, ENGINE_ID) == LedgerProgress(0, 0)
    first, second, third = journal.entries

    await projection.project(first)
    assert await ledger_progress(ledger_engine, ENGINE_ID) == LedgerProgress(1, 0)
    while await numbering.number_arrived():
        pass
    assert await ledger_progress(ledger_engine, ENGINE_ID) == LedgerProgress(1, 1)

    await projection.project(second)
    await projection.project(third)
    assert await ledger_progress(ledger_engine, ENGINE_ID) == LedgerProgress(3, 1)
    while await numbering.number_arrived():
        pass
    with database.connect("audit_writer") as connection:
        insert(connection, "of somebody else")
    assert await ledger_progress(ledger_engine, ENGINE_ID) == LedgerProgress(3, 3)


async def test_the_ledger_tells_the_engine(
    ledger_engine: AsyncEngine, journal: MemoryJournal, scope_key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "REPORT_INTERVAL_S", 0.05)

    async def told() -> bool:
        return LedgerProgress(3, 3) in journal.reports

    async with running(Ledger(ledger_engine, journal, ENGINE_ID, Redactor(scope_key))):
        await until(told)
