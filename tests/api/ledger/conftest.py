"""A ledger's database and an engine's journal, made of real events."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from core.storage.database import create_engine
from tests.postgres import PostgresDatabase


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
