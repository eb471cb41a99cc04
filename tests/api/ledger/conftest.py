"""A ledger's database and an engine's journal, made of real events."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.ledger.projection import Projection
from core.storage.database import create_engine
from core.text.redaction import Redactor
from tests.api.ledger.journal import ENGINE_ID, TRACE_ID
from tests.postgres import PostgresDatabase

SUGGESTION = """
INSERT INTO suggestions (id, version, account_id, asker_id, run_id, trace_id, status, proposal, digest, pre_trade,
                         expires_at)
VALUES ('sugg-1', 1, 'acct-demo', 'user-trader', 'run-1', %s, 'approved', '', 'ab', '{}',
        clock_timestamp() + interval '1 hour')
"""


@pytest.fixture
def database(postgres: PostgresDatabase) -> PostgresDatabase:
    postgres.seed_demo_tenancy()
    return postgres


@pytest.fixture
async def ledger_engine(database: PostgresDatabase, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database.settings(tmp_path), "ledger")
    yield engine
    await engine.dispose()


@pytest.fixture
def scope_key() -> bytes:
    return hashlib.sha256(b"scope of the ledger's tests").digest()


@pytest.fixture
def with_suggestion(database: PostgresDatabase) -> PostgresDatabase:
    """One that is approved: sugg-1, of nobody's order yet."""
    with database.connect("owner") as connection:
        connection.execute(SUGGESTION, (TRACE_ID,))
    return database


@pytest.fixture
def projection(ledger_engine: AsyncEngine, scope_key: bytes) -> Projection:
    return Projection(ledger_engine, ENGINE_ID, Redactor(scope_key))
