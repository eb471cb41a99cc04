"""A tool past its deadline stops what it asked for: the statement in PostgreSQL, the call to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import text

from core.runtime._proto import engine_pb2_grpc
from core.runtime.client import EngineClient
from core.types.codes import ReasonCode
from tests.api.sql_doubles import Database, seeded
from tests.postgres import PostgresDatabase
from tests.tools.doubles import House
from tests.tools.test_pipeline import Note, Nothing, tool
from tools.registry import ToolContext

DEADLINE_MS = 200


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


async def past_its_deadline(do: Callable[[], Awaitable[Any]]) -> ReasonCode:
    async def run(context: ToolContext, arguments: Nothing) -> Note:
        await do()
        return Note(as_of_ns=context.ports.clock.now_ns(), note="done")

    result = await House(registry=tool(run, timeout_ms=DEADLINE_MS)).ask("get_ticker")
    code: ReasonCode = result.refusal.code
    return code


async def test_its_statement_is_cancelled_in_the_database(database: Database, postgres: PostgresDatabase) -> None:
    async def sleeping() -> None:
        async with database.transactions(()) as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text("SELECT pg_sleep(90)"))

    started = asyncio.get_running_loop().time()
    assert await past_its_deadline(sleeping) is ReasonCode.TOOL_DEADLINE_EXCEEDED
    assert asyncio.get_running_loop().time() - started < 60
    with postgres.connect("owner") as connection:
        running = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
            " AND query LIKE '%pg_sleep(%' AND pid <> pg_backend_pid()"
        ).fetchone()
    assert running == (0,)


async def test_its_call_is_cancelled_at_the_engine(tmp_path: Path) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    class Endless(engine_pb2_grpc.EngineServicer):
        async def GetTicker(self, request: Any, context: Any) -> Any:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    server = grpc.aio.server()
    engine_pb2_grpc.add_EngineServicer_to_server(Endless(), server)
    address = f"unix:{tmp_path}/e"
    server.add_insecure_port(address)
    await server.start()
    client = EngineClient(address, "token")
    try:
        assert await past_its_deadline(lambda: client.ticker("BTCUSDT")) is ReasonCode.TOOL_DEADLINE_EXCEEDED
        assert asked.is_set()
        async with asyncio.timeout(60):
            await cancelled.wait()
    finally:
        await client.close()
        await server.stop(None)
