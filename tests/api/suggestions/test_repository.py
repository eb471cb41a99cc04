"""Suggestions on a real PostgreSQL: scope, order, the lock of a decision, and the ledger writing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from api.suggestions.repository import SqlSuggestionStore
from core.types.codes import ReasonCode, RefusalError
from tests.api.sql_doubles import ACCOUNT, OTHER_ACCOUNT, Database, seeded
from tests.postgres import PostgresDatabase
from tests.tools.doubles import House
from tests.tools.people import APPROVER, IDS
from tools.approvals import Approvals
from tools.suggestions import Suggestion, SuggestionStatus


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


@pytest.fixture
def store(database: Database) -> SqlSuggestionStore:
    return SqlSuggestionStore(database.transactions)


async def suggestion(house: House | None = None, **changes: object) -> Suggestion:
    return msgspec.structs.replace(await (house or House()).suggest(), **changes)


async def test_a_suggestion_comes_back_as_it_went_in(store: SqlSuggestionStore) -> None:
    row = await suggestion(rationale="Cheap here.")
    await store.insert(row)
    assert await store.get((ACCOUNT,), row.suggestion_id) == row
    assert await store.get((ACCOUNT,), row.suggestion_id, 1) == row
    assert await store.get((ACCOUNT,), row.suggestion_id, 2) is None


async def test_other_accounts_see_nothing_of_it(store: SqlSuggestionStore) -> None:
    row = await suggestion()
    await store.insert(row)
    for scope in ((OTHER_ACCOUNT,), ()):
        assert await store.get(scope, row.suggestion_id) is None
        assert await store.list(scope) == []
        assert await store.mark_viewed(scope, row.suggestion_id, 1, "user-approver", 1) is None
        async with store.deciding(scope, row.suggestion_id, 1) as decision:
            assert decision is None


async def test_the_newest_version_is_the_default(store: SqlSuggestionStore) -> None:
    first = await suggestion(status=SuggestionStatus.SUPERSEDED)
    await store.insert(first)
    await store.insert(msgspec.structs.replace(first, version=2, status=SuggestionStatus.PENDING))
    newest = await store.get((ACCOUNT,), first.suggestion_id)
    assert newest is not None
    assert newest.version == 2


async def test_lists_are_newest_first_filtered_and_paged(store: SqlSuggestionStore) -> None:
    rows = [await suggestion() for _ in range(3)]
    rows = sorted(rows, key=lambda row: row.suggestion_id)
    for row in rows:
        await store.insert(row)
    async with store.deciding((ACCOUNT,), rows[0].suggestion_id, 1) as decision:
        assert decision is not None
        await decision.record(status=SuggestionStatus.REJECTED, decided_by="user-approver", decided_at_ns=1_000)
    ids = [row.suggestion_id for row in await store.list((ACCOUNT, OTHER_ACCOUNT))]
    assert ids == [row.suggestion_id for row in reversed(rows)]
    pending = await store.list((ACCOUNT,), status=SuggestionStatus.PENDING)
    assert [row.suggestion_id for row in pending] == ids[:2]
    page = await store.list((ACCOUNT,), before_id=ids[0], limit=1)
    assert [row.suggestion_id for row in page] == ids[1:2]


async def test_viewed_at_is_set_once(store: SqlSuggestionStore) -> None:
    row = await suggestion()
    await store.insert(row)
    first = await store.mark_viewed((ACCOUNT,), row.suggestion_id, 1, "user-approver", row.created_at_ns + 1_000)
    again = await store.mark_viewed((ACCOUNT,), row.suggestion_id, 1, "user-approver", row.created_at_ns + 9_000)
    assert first is not None
    assert first.viewed_at_ns == row.created_at_ns + 1_000
    assert again == first


async def test_a_decision_is_kept_only_when_its_block_ends_well(store: SqlSuggestionStore) -> None:
    row = await suggestion()
    await store.insert(row)

    async def decision_that_fails() -> None:
        async with store.deciding((ACCOUNT,), row.suggestion_id, 1) as decision:
            assert decision is not None
            await decision.record(status=SuggestionStatus.REJECTED, decided_by="user-approver", decided_at_ns=1_000)
            raise RuntimeError("engine")

    with pytest.raises(RuntimeError, match="engine"):
        await decision_that_fails()
    assert await store.get((ACCOUNT,), row.suggestion_id) == row


async def test_what_the_ledger_projected_stays_and_who_decided_is_filled_in(
    store: SqlSuggestionStore, database: Database
) -> None:
    row = await suggestion()
    await store.insert(row)
    await database.as_ledger("UPDATE suggestions SET status = 'executed', client_order_id = 'vz-ledger'")
    async with store.deciding((ACCOUNT,), row.suggestion_id, 1) as decision:
        assert decision is not None
        await decision.record(
            status=SuggestionStatus.APPROVED, decided_by="user-approver", decided_at_ns=2_000, client_order_id="vz-api"
        )
    stored = await store.get((ACCOUNT,), row.suggestion_id)
    assert stored is not None
    assert (stored.status, stored.decided_by) == (SuggestionStatus.EXECUTED, "user-approver")
    assert (stored.client_order_id, stored.decided_at_ns) == ("vz-ledger", 2_000)


async def test_a_second_decision_waits_for_the_first_and_sees_it(store: SqlSuggestionStore) -> None:
    row = await suggestion()
    await store.insert(row)
    entered, seen = asyncio.Event(), []

    async def second() -> None:
        entered.set()
        async with store.deciding((ACCOUNT,), row.suggestion_id, 1) as decision:
            assert decision is not None
            seen.append(decision.suggestion.status)

    async with store.deciding((ACCOUNT,), row.suggestion_id, 1) as decision:
        assert decision is not None
        waiting = asyncio.create_task(second())
        await entered.wait()
        await decision.record(status=SuggestionStatus.APPROVED, decided_by="user-approver", decided_at_ns=1_000)
        assert seen == []
    await waiting
    assert seen == [SuggestionStatus.APPROVED]


async def test_concurrent_approvals_and_rejections_end_in_one_decision(store: SqlSuggestionStore) -> None:
    house = House()
    row = await suggestion(house)
    await store.insert(row)
    flow = Approvals(engine=house.engine, suggestions=store, trail=house.trail, clock=house.clock, ids=IDS)

    async def approve() -> ReasonCode | None:
        outcome = await flow.approve(APPROVER, row.suggestion_id, 1, row.digest_hex, "demo-approver", b"s" * 64)
        return outcome.refusal.code if outcome.refusal else None

    async def reject() -> ReasonCode | None:
        try:
            await flow.reject(APPROVER, row.suggestion_id, 1, "no")
        except RefusalError as error:
            return error.refusal.code
        return None

    codes = await asyncio.gather(*(act() for _ in range(12) for act in (approve, reject)))
    stored = await store.get((ACCOUNT,), row.suggestion_id)
    assert stored is not None
    assert codes.count(None) == 1
    assert (stored.status is SuggestionStatus.APPROVED) == (len(house.engine.executed) == 1)
    assert stored.status in {SuggestionStatus.APPROVED, SuggestionStatus.REJECTED}
