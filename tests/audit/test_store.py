"""The sink and the trail over a real database: durable, batched, redacted, sealed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.keys import (
    CACHE_AGE_LIMIT_S,
    IDENTITY_LIMIT_CHARS,
    KeyUnusableError,
    PersonErasedError,
    PersonKeys,
)
from audit.read import find_trace
from audit.record import Action, AuditRecord, leaf_hash, parse_record
from audit.store import PostgresAuditSink, audit_redactor
from audit.trail import AuditTrail
from core.storage.database import create_engine, transaction
from core.types.clock import ManualClock
from core.types.codes import ReasonCode, RefusalError
from core.types.ids import SystemIdSource
from core.types.money import from_scaled
from tests.postgres import PostgresDatabase

KEK = os.urandom(32)
NOW_NS = 1_764_000_000_123_456_789


class Parts(NamedTuple):
    database: PostgresDatabase
    api: AsyncEngine
    sink: PostgresAuditSink
    keys: PersonKeys
    trail: AuditTrail


@pytest.fixture
async def parts(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Parts]:
    settings = postgres.settings(tmp_path)
    api, writer = create_engine(settings, "api"), create_engine(settings, "audit_writer")
    sink, keys = PostgresAuditSink(writer, audit_redactor(KEK)), PersonKeys(api, KEK)
    yield Parts(postgres, api, sink, keys, AuditTrail(sink, keys, ManualClock(NOW_NS), SystemIdSource()))
    await sink.close()
    await api.dispose()
    await writer.dispose()


def record(record_id: str, **fields: Any) -> AuditRecord:
    defaults: dict[str, Any] = {
        "occurred_at": "2025-11-24T16:00:00.123456Z",
        "occurred_at_ns": str(NOW_NS),
        "clock_source": "system",
        "actor": "user-trader",
        "action": Action.TOOL_CALLED,
        "resource": "tool:get_ticker",
        "outcome": "ok",
        "trace_id": "trace-1",
    }
    return AuditRecord(record_id=record_id, **(defaults | fields))


def stored(database: PostgresDatabase) -> list[tuple[bytes, bytes]]:
    with database.connect("ledger") as connection:
        return connection.execute("SELECT record, leaf_hash FROM audit.inbox ORDER BY arrival").fetchall()


async def test_a_record_is_durable_when_append_returns(parts: Parts) -> None:
    await parts.sink.append(record("record-1", payload={"symbol": "BTCUSDT", "bid": "64000.10"}))
    [(canonical, leaf)] = stored(parts.database)
    assert leaf == leaf_hash(canonical)
    assert parse_record(canonical) == record("record-1", payload={"symbol": "BTCUSDT", "bid": "64000.10"})


async def test_concurrent_appends_share_commits(parts: Parts) -> None:
    await asyncio.gather(*(parts.sink.append(record(f"record-{number}")) for number in range(300)))
    with parts.database.connect("owner") as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT xmin::text) FROM audit.inbox").fetchone()
    assert row is not None
    assert row[0] == 300
    assert row[1] <= 5


async def test_one_half_of_those_who_write_is_committed_while_the_other_works(parts: Parts) -> None:
    async def write(worker: int) -> None:
        for turn in range(5):
            await parts.sink.append(record(f"record-{worker}-{turn}"))

    await asyncio.gather(*(write(worker) for worker in range(16)))
    with parts.database.connect("owner") as connection:
        groups = connection.execute("SELECT count(*) FROM audit.inbox GROUP BY xmin ORDER BY min(arrival)").fetchall()
    assert [size for (size,) in groups] == [16] + [8] * 8


async def test_one_refused_record_fails_alone(parts: Parts) -> None:
    await parts.sink.append(record("record-1"))
    outcomes = await asyncio.gather(
        *(parts.sink.append(record(f"record-{number}")) for number in (2, 1, 3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), RefusalError, type(None)]
    assert len(stored(parts.database)) == 3


async def test_the_payload_is_redacted_before_its_bytes_are_built(parts: Parts) -> None:
    await parts.sink.append(record("record-1", payload={"note": "write to john@example.com", "password": "hunter2"}))
    await parts.sink.append(record("record-2", payload={"to": ["john@example.com"]}))
    first, second = (parse_record(canonical).payload for canonical, _ in stored(parts.database))
    assert "john" not in str(first)
    assert "hunter2" not in str(first)
    assert first["note"].removeprefix("write to ") == second["to"][0]


async def test_a_payload_with_a_number_is_refused_as_a_mistake(parts: Parts) -> None:
    with pytest.raises(TypeError, match=r"payload\.quantity"):
        await parts.sink.append(record("record-1", payload={"quantity": 5}))


async def test_an_absent_database_refuses_the_action(parts: Parts, postgres: PostgresDatabase, tmp_path: Path) -> None:
    settings = postgres.settings(tmp_path / "gone")
    settings = settings.model_copy(
        update={"database": settings.database.model_copy(update={"url": f"postgresql:///veloz?host={tmp_path}"})}
    )
    sink = PostgresAuditSink(create_engine(settings, "audit_writer"), audit_redactor(KEK))
    with pytest.raises(RefusalError) as caught:
        await sink.append(record("record-1"))
    assert caught.value.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    await sink.close()


async def test_an_append_that_misses_its_deadline_is_refused(postgres: PostgresDatabase, tmp_path: Path) -> None:
    engine = create_engine(postgres.settings(tmp_path), "audit_writer")
    sink = PostgresAuditSink(engine, audit_redactor(KEK), deadline_s=0.2)
    with postgres.connect("owner") as connection, connection.transaction():
        connection.execute("LOCK TABLE audit.inbox IN EXCLUSIVE MODE")
        with pytest.raises(RefusalError) as caught:
            await sink.append(record("record-1"))
    assert caught.value.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    await sink.close()
    await engine.dispose()


async def test_closing_ends_an_append_that_cannot_become_durable(postgres: PostgresDatabase, tmp_path: Path) -> None:
    engine = create_engine(postgres.settings(tmp_path), "audit_writer")
    sink = PostgresAuditSink(engine, audit_redactor(KEK))
    await sink.append(record("record-1"))
    sink._deadline_s = 0.2
    with postgres.connect("owner") as connection, connection.transaction():
        connection.execute("LOCK TABLE audit.inbox IN EXCLUSIVE MODE")
        append = asyncio.create_task(sink.append(record("record-2")))
        await asyncio.sleep(0)
        await sink.close()
        [outcome] = await asyncio.gather(append, return_exceptions=True)
    assert isinstance(outcome, RefusalError)
    await engine.dispose()


async def test_a_writer_that_breaks_refuses_and_goes_on(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(_batch: object) -> None:
        raise KeyError

    await parts.sink.append(record("record-1"))
    with monkeypatch.context() as patch:
        patch.setattr("audit.store.statement_of", break_down)
        outcomes = await asyncio.gather(
            *(parts.sink.append(record(f"record-{number}")) for number in (2, 3)), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [RefusalError] * 2
    await parts.sink.append(record("record-4"))
    assert len(stored(parts.database)) == 2


async def test_who_stopped_waiting_while_a_refused_group_is_written_one_by_one_is_left_out(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parts.sink.append(record("record-1"))
    connection = parts.sink._connection
    executed: list[str] = []
    real = connection.execute

    async def execute(name: str, values: Any) -> None:
        executed.append(name)
        leaving.cancel()
        await real(name, values)

    monkeypatch.setattr(connection, "execute", execute)
    # The first goes alone; of those that wait meanwhile half are a group, which holds one that is there already.
    appends = [asyncio.create_task(parts.sink.append(record(f"record-{number}"))) for number in (2, 1, 3, 4)]
    leaving = appends[2]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [*(type(None), RefusalError, asyncio.CancelledError, type(None))]
    assert executed == ["one_record"]
    written = [parse_record(canonical).record_id for canonical, _ in stored(parts.database)]
    assert written == ["record-1", "record-2", "record-4"]


async def test_a_closed_sink_refuses(parts: Parts) -> None:
    await parts.sink.close()
    with pytest.raises(RefusalError, match="shutting down"):
        await parts.sink.append(record("record-1"))


async def test_erasing_a_person_keeps_the_leaf_and_loses_the_name(parts: Parts) -> None:
    await parts.trail.record(
        action=Action.LOGIN,
        actor="user-trader",
        actor_identity="Terry Trader",
        resource="session",
        outcome="ok",
        trace_id="trace-1",
    )
    [(canonical, leaf)] = stored(parts.database)
    assert b"Terry" not in canonical
    sealed = parse_record(canonical).actor_identity
    assert sealed is not None
    assert await PersonKeys(parts.api, KEK).open(sealed) == "Terry Trader"

    with parts.database.connect("owner") as connection:
        connection.execute("UPDATE audit.person_keys SET wrapped = NULL, nonce = NULL, erased_at = clock_timestamp()")
    erased = PersonKeys(parts.api, KEK)
    assert await erased.open(sealed) is None
    with pytest.raises(PersonErasedError):
        await erased.seal("user-trader", "Terry Trader")
    [(after, leaf_after)] = stored(parts.database)
    assert (after, leaf_after) == (canonical, leaf)
    assert leaf_hash(after) == leaf


async def test_two_processes_agree_on_a_persons_first_key(parts: Parts) -> None:
    others = [PersonKeys(parts.api, KEK) for _ in range(4)]
    fields = await asyncio.gather(*(keys.seal("user-new", f"name {index}") for index, keys in enumerate(others)))
    assert [await parts.keys.open(field) for field in fields] == [f"name {index}" for index in range(4)]


async def test_a_name_is_sealed_at_once_while_its_key_is_at_hand_and_no_longer(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parts.keys.seal_at_once("user-a", "Ann") is None
    asked = await parts.keys.seal("user-a", "Ann")
    at_once = parts.keys.seal_at_once("user-a", "Ann")
    assert at_once is not None
    assert at_once.nonce != asked.nonce
    assert await parts.keys.open(at_once) == "Ann"
    assert parts.keys.seal_at_once("user-b", "Bob") is None
    assert parts.keys.seal_at_once("user-a", "A" * (IDENTITY_LIMIT_CHARS + 1)) is None
    later_s = time.monotonic() + CACHE_AGE_LIMIT_S
    with monkeypatch.context() as patched:
        patched.setattr("audit.keys.time.monotonic", lambda: later_s)
        assert parts.keys.seal_at_once("user-a", "Ann") is None, "the key may have been erased meanwhile"


async def test_a_sealed_field_opens_for_its_own_person_only(parts: Parts) -> None:
    field = await parts.keys.seal("user-a", "Ann")
    await parts.keys.seal("user-b", "Bob")
    with pytest.raises(KeyUnusableError):
        await parts.keys.open(msgspec.structs.replace(field, person="user-b"))


async def test_another_key_encryption_key_is_named_as_the_cause(parts: Parts) -> None:
    field = await parts.keys.seal("user-a", "Ann")
    with pytest.raises(KeyUnusableError, match=r"audit-kek\.key"):
        await PersonKeys(parts.api, os.urandom(32)).open(field)


async def test_the_trail_writes_numbers_as_text(parts: Parts) -> None:
    await parts.trail.record(
        action=Action.TOOL_CALLED,
        actor="user-trader",
        resource="tool:estimate_execution",
        outcome="ok",
        trace_id="trace-1",
        payload={"levels": 7, "cost": from_scaled(6_400_010, 2), "side": Action.LOGIN, "complete": True, "none": None},
    )
    [(canonical, _)] = stored(parts.database)
    written = parse_record(canonical)
    assert written.occurred_at == "2025-11-24T16:00:00.123456Z"
    assert written.payload == {
        "levels": "7",
        "cost": "64000.1",
        "side": "auth.login",
        "complete": True,
        "none": None,
    }


async def test_a_trace_joins_the_question_with_the_approval_that_came_later(parts: Parts) -> None:
    together = {"account_id": "acct-demo", "run_id": "run-1", "suggestion_id": "sugg-1"}
    await parts.sink.append(record("r-1", trace_id="trace-1", run_id="run-1", occurred_at_ns="1"))
    await parts.sink.append(record("r-4", trace_id="trace-2", **together, occurred_at_ns="4"))
    await parts.sink.append(record("r-2", trace_id="trace-1", **together, occurred_at_ns="2"))
    await parts.sink.append(record("r-3", trace_id="trace-2", occurred_at_ns="3", suggestion_id="sugg-1"))
    await parts.sink.append(record("r-x", trace_id="trace-3", occurred_at_ns="2"))
    for identifier in ("trace-1", "run-1", "sugg-1", "trace-2"):
        found = await find_trace(parts.api, identifier, ["acct-demo"])
        assert [each.record_id for each in found.records] == ["r-1", "r-2", "r-3", "r-4"]
        assert all(each.verified for each in found.records)
    outside = await find_trace(parts.api, "trace-1", [])
    assert [each.record_id for each in outside.records] == ["r-1"]


async def test_reading_flags_bytes_and_columns_that_do_not_agree(parts: Parts) -> None:
    await parts.sink.append(record("r-1"))
    await parts.sink.append(record("r-2"))
    with parts.database.connect("owner") as connection:
        connection.execute("ALTER TABLE audit.inbox DISABLE TRIGGER inbox_append_only")
        connection.execute("UPDATE audit.inbox SET record = record || ' '::bytea WHERE record_id = 'r-1'")
        connection.execute("UPDATE audit.inbox SET outcome = 'refused' WHERE record_id = 'r-2'")
    first, second = (await find_trace(parts.api, "trace-1", [])).records
    assert first.problems == ("the leaf hash is not that of the stored bytes",)
    assert second.problems == ("column outcome says 'refused', the record 'ok'",)


async def test_no_record_is_visible_to_the_api_outside_its_accounts(parts: Parts) -> None:
    await parts.sink.append(record("r-1", account_id="acct-other"))
    async with transaction(parts.api) as connection:
        assert await connection.scalar(text("SELECT count(*) FROM audit.inbox")) == 0
