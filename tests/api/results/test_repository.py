"""Sealed results on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from api.results.repository import SqlResultStore
from api.results.sealing import ResultUnreadableError, results_key
from core.config import ConfigurationError
from core.storage.database import DatabaseRole
from core.types.codes import ReasonCode, RefusalError
from tests.api.sql_doubles import ACCOUNT, OTHER_ACCOUNT, RESULTS_KEY, Database, Shelf, seeded, shelf
from tests.postgres import PostgresDatabase
from tests.tools.doubles import House, call
from tools.ports import StoredResult


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


@pytest.fixture
async def desk(postgres: PostgresDatabase, database: Database, tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(postgres, database, tmp_path) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> SqlResultStore:
    return SqlResultStore(database.transactions, RESULTS_KEY)


async def released(tool: str, **arguments: object) -> StoredResult:
    house = House()
    result = await house.gateway.call(call(tool, arguments, run_id="01RUN"))
    return house.results.stored[result.call_id]


async def test_a_result_comes_back_as_it_was_released(store: SqlResultStore, desk: Shelf) -> None:
    result = await released("get_ticker", symbol="BTCUSDT")
    await desk.put(result)
    stored = await store.get((), result.call_id)
    assert stored is not None
    assert msgspec.structs.replace(stored, created_at_ns=result.created_at_ns) == result


async def test_an_accounts_result_is_seen_inside_its_scope_only(store: SqlResultStore, desk: Shelf) -> None:
    result = await released("get_positions")
    await desk.put(result)
    assert await store.get((ACCOUNT,), result.call_id) is not None
    assert await store.get((OTHER_ACCOUNT,), result.call_id) is None
    assert await store.get((), result.call_id) is None


async def test_the_stored_bytes_tell_nothing(desk: Shelf, postgres: PostgresDatabase) -> None:
    result = await released("get_positions")
    await desk.put(result)
    with postgres.connect(DatabaseRole.OWNER) as connection:
        [(ciphertext,)] = connection.execute("SELECT ciphertext FROM tool_results").fetchall()
    assert b"account_id" not in bytes(ciphertext)


async def test_a_call_id_is_used_once(desk: Shelf) -> None:
    result = await released("get_ticker", symbol="BTCUSDT")
    await desk.put(result)
    with pytest.raises(RefusalError) as raised:
        await desk.put(result)
    assert raised.value.refusal.code is ReasonCode.REQUEST_INVALID


@pytest.mark.parametrize(
    "change",
    [
        "tool = 'get_positions'",
        "account_id = 'acct-demo'",
        "digest = decode(repeat('00', 32), 'hex')",
        "ciphertext = set_byte(ciphertext, 3, (get_byte(ciphertext, 3) + 1) % 256)",
        "nonce = set_byte(nonce, 0, (get_byte(nonce, 0) + 1) % 256)",
    ],
)
async def test_a_changed_row_does_not_open(
    store: SqlResultStore, desk: Shelf, postgres: PostgresDatabase, change: str
) -> None:
    result = await released("get_ticker", symbol="BTCUSDT")
    await desk.put(result)
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute(f"UPDATE tool_results SET {change}")
    with pytest.raises(ResultUnreadableError):
        await store.get((ACCOUNT,), result.call_id)


async def test_another_key_does_not_open_it(desk: Shelf, database: Database) -> None:
    result = await released("get_ticker", symbol="BTCUSDT")
    await desk.put(result)
    with pytest.raises(ResultUnreadableError):
        await SqlResultStore(database.transactions, bytes(32)).get((), result.call_id)


async def test_an_expired_result_is_gone(store: SqlResultStore, desk: Shelf, postgres: PostgresDatabase) -> None:
    result = await released("get_ticker", symbol="BTCUSDT")
    await desk.put(result)
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute("UPDATE tool_results SET expires_at = clock_timestamp()")
    assert await store.get((), result.call_id) is None


def test_the_key_is_a_secret_of_32_bytes(postgres: PostgresDatabase, tmp_path: Path) -> None:
    settings = postgres.settings(tmp_path)
    assert len(results_key(settings)) == 32
    settings.paths.secret("results.key").write_text("not hex")
    with pytest.raises(ConfigurationError, match=r"results\.key"):
        results_key(settings)
    with pytest.raises(ConfigurationError):
        SqlResultStore(lambda accounts: None, b"short")  # type: ignore[arg-type, return-value]
