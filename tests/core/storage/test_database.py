"""The database as each role sees it: scope by transaction, errors by type."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from core.config import ConfigurationError, Settings
from core.storage.database import DatabaseUnavailableError, create_engine, role_url, scoped_session, transaction
from core.types.codes import ReasonCode
from tests.postgres import PostgresDatabase

INSERT_ORDER = """
INSERT INTO orders (client_order_id, account_id, venue, symbol, side, order_type, time_in_force, quantity, status,
                    price_scale, quantity_scale, authority, authority_id, authority_record, engine_id,
                    created_sequence, updated_sequence, created_at, updated_at)
VALUES (%s, %s, 'paper', 'BTCUSDT', 'BUY', 'LIMIT', 'GTC', 1, 'INTENDED', 2, 5, 'session', 's-1', '{}', 'engine-1',
        1, 1, clock_timestamp(), clock_timestamp())
"""


@pytest.fixture
def two_accounts(postgres: PostgresDatabase) -> PostgresDatabase:
    with postgres.connect("owner") as connection:
        connection.execute(INSERT_ORDER, ("order-a", "acct-a"))
        connection.execute(INSERT_ORDER, ("order-b", "acct-b"))
    return postgres


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        ((), []),
        (("acct-a",), ["order-a"]),
        (("acct-b",), ["order-b"]),
        (("acct-a", "acct-b"), ["order-a", "order-b"]),
        (("acct-other",), []),
    ],
)
async def test_a_session_sees_the_accounts_of_its_scope_only(
    two_accounts: PostgresDatabase, tmp_path: Path, scope: tuple[str, ...], seen: list[str]
) -> None:
    engine = create_engine(two_accounts.settings(tmp_path), "api")
    async with scoped_session(engine, scope) as connection:
        rows = await connection.scalars(text("SELECT client_order_id FROM orders ORDER BY 1"))
        assert list(rows) == seen
    await engine.dispose()


async def test_the_scope_ends_with_its_transaction(two_accounts: PostgresDatabase, tmp_path: Path) -> None:
    engine = create_engine(two_accounts.settings(tmp_path), "api", pool_size=1)
    async with scoped_session(engine, ["acct-a"]) as connection:
        backend = await connection.scalar(text("SELECT pg_backend_pid()"))
    async with transaction(engine) as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) == backend
        assert await connection.scalar(text("SELECT count(*) FROM orders")) == 0
    await engine.dispose()


async def test_a_body_that_raises_leaves_nothing_behind(postgres: PostgresDatabase, tmp_path: Path) -> None:
    engine = create_engine(postgres.settings(tmp_path), "owner")

    async def fail_half_way() -> None:
        async with scoped_session(engine, []) as connection:
            await connection.execute(text("INSERT INTO firms (id, name) VALUES ('firm-x', 'X')"))
            raise KeyError

    with pytest.raises(KeyError):
        await fail_half_way()
    async with scoped_session(engine, []) as connection:
        assert await connection.scalar(text("SELECT count(*) FROM firms")) == 0
    await engine.dispose()


@pytest.mark.parametrize("account_id", ["", "acct-a,acct-b"])
async def test_an_account_id_cannot_widen_the_scope(
    postgres: PostgresDatabase, tmp_path: Path, account_id: str
) -> None:
    engine = create_engine(postgres.settings(tmp_path), "api")
    with pytest.raises(ValueError, match="not an account id"):
        async with scoped_session(engine, [account_id]):
            pass
    await engine.dispose()


async def test_an_absent_server_is_a_typed_refusal(postgres: PostgresDatabase, tmp_path: Path) -> None:
    settings = postgres.settings(tmp_path)
    gone = settings.model_copy(
        update={"database": settings.database.model_copy(update={"url": f"postgresql:///veloz?host={tmp_path}"})}
    )
    engine = create_engine(gone, "api")
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with scoped_session(engine, []):
            pass
    assert caught.value.refusal.code is ReasonCode.SERVICE_DATABASE_UNAVAILABLE


async def test_a_statement_beyond_its_time_is_a_typed_refusal(postgres: PostgresDatabase, tmp_path: Path) -> None:
    engine = create_engine(postgres.settings(tmp_path), "api", statement_timeout_ms=50)
    with pytest.raises(DatabaseUnavailableError, match="statement timeout"):
        async with scoped_session(engine, []) as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))
    await engine.dispose()


async def test_a_backend_that_dies_is_a_typed_refusal_and_the_pool_recovers(
    postgres: PostgresDatabase, tmp_path: Path
) -> None:
    engine = create_engine(postgres.settings(tmp_path), "api", pool_size=1)
    with pytest.raises(DatabaseUnavailableError):
        async with scoped_session(engine, []) as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    async with scoped_session(engine, []) as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await engine.dispose()


def test_settings_without_a_url_name_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="VELOZ_DATABASE__URL"):
        create_engine(Settings(home=tmp_path), "api")


@pytest.mark.parametrize("url", ["nonsense", "mysql:///veloz", "postgresql://host"])
def test_a_url_that_names_no_postgresql_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"database\.url"):
        role_url(url, "api", "x")
