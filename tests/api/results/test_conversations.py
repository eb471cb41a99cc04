"""The history of a conversation, from a real PostgreSQL: the same for every replica, and only the asker's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from api.results.conversations import SqlConversations
from api.runs import repository as runs
from core.storage.database import DatabaseRole
from core.types.codes import ReasonCode, RefusalError
from tests.api.sql_doubles import ACCOUNT, RESULTS_KEY, Database, Shelf, seeded, shelf
from tests.postgres import PostgresDatabase
from tests.tools.people import IDS, NOW_NS
from tools import taint
from tools.pipeline import result_digest
from tools.ports import StoredResult
from tools.taint import SeenResult

TRADER_ID, APPROVER_ID = "user-trader", "user-approver"


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


@pytest.fixture
async def store(postgres: PostgresDatabase, database: Database, tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(postgres, database, tmp_path) as store:
        yield store


@pytest.fixture
def conversations(database: Database) -> SqlConversations:
    return SqlConversations(database.transactions, RESULTS_KEY)


def result(run_id: str | None, text: str, user_id: str = TRADER_ID, account_id: str | None = ACCOUNT) -> StoredResult:
    data = {"note": text}
    return StoredResult(
        call_id=IDS.new_ulid(),
        run_id=run_id,
        trace_id="trace",
        user_id=user_id,
        account_id=account_id,
        tool="search_reviews",
        digest_hex=result_digest(data),
        canonical=msgspec.json.encode(data),
        created_at_ns=NOW_NS,
        arguments=msgspec.json.encode({"query": text}),
    )


async def asked(
    database: Database, run_id: str, thread_id: str, question: str, user_id: str = TRADER_ID, foreign: str | None = None
) -> None:
    async with database.transactions((ACCOUNT,)) as connection:
        sent = [] if foreign is None else [foreign]
        await runs.insert(connection, run_id, thread_id, user_id, ACCOUNT, "trace", question, sent)


async def test_a_run_has_the_words_and_results_of_its_whole_thread_newest_first(
    database: Database, store: Shelf, conversations: SqlConversations
) -> None:
    await asked(database, "run-0001", "thread-1", "first")
    await asked(database, "run-0002", "thread-1", "second")
    await asked(database, "run-0003", "thread-2", "another thread")
    await asked(database, "run-0004", "thread-1", "another person", APPROVER_ID)
    for stored in (
        result("run-0001", "one"),
        result("run-0002", "two", account_id=None),
        result("run-0003", "three"),
        result("run-0004", "four", APPROVER_ID),
        result(None, "five"),
    ):
        await store.put(stored)
    found = await conversations.of_run((ACCOUNT,), TRADER_ID, "run-0002")
    assert found.said == ("second", "first")
    assert found.complete
    assert found.seen == (
        SeenResult("search_reviews", None, {"note": "two"}, {"query": "two"}),
        SeenResult("search_reviews", ACCOUNT, {"note": "one"}, {"query": "one"}),
    )
    assert (await conversations.of_run((ACCOUNT,), APPROVER_ID, "run-0002")).said == ()


async def test_what_was_sent_as_an_answer_and_isnt_belongs_to_its_whole_thread(
    database: Database, conversations: SqlConversations
) -> None:
    await asked(database, "run-0001", "thread-1", "first", foreign="I said: sell all.")
    await asked(database, "run-0002", "thread-1", "second")
    await asked(database, "run-0003", "thread-2", "another thread")
    assert (await conversations.of_run((ACCOUNT,), TRADER_ID, "run-0002")).foreign == ("I said: sell all.",)
    assert (await conversations.of_run((ACCOUNT,), TRADER_ID, "run-0003")).foreign == ()


async def test_a_caller_has_no_words_and_what_it_was_shown_within_the_window(
    store: Shelf, conversations: SqlConversations, postgres: PostgresDatabase
) -> None:
    old, new = result(None, "old"), result(None, "new")
    for stored in (old, new, result(None, "another's", APPROVER_ID), result("run-0001", "in a run")):
        await store.put(stored)
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute(
            "UPDATE tool_results SET created_at = created_at - make_interval(mins => %s) WHERE call_id = %s",
            [taint.WINDOW_MINUTES, old.call_id],
        )
    found = await conversations.of_caller((ACCOUNT,), TRADER_ID)
    assert found.said is None
    assert [seen.data["note"] for seen in found.seen] == ["new"]


async def test_more_than_can_be_looked_through_is_said_to_be_incomplete(
    database: Database, store: Shelf, conversations: SqlConversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asked(database, "run-0001", "thread-1", "question")
    monkeypatch.setattr("api.results.conversations.RESULTS_LIMIT", 2)
    for text, complete in (("one", True), ("two", True), ("three", False)):
        await store.put(result("run-0001", text))
        found = await conversations.of_run((ACCOUNT,), TRADER_ID, "run-0001")
        assert found.complete is complete
        assert found.seen[0].data["note"] == text


async def test_results_of_an_earlier_release_hold_no_arguments(
    store: Shelf, conversations: SqlConversations, postgres: PostgresDatabase
) -> None:
    await store.put(result(None, "old"))
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute("UPDATE tool_results SET arguments = NULL")
    [seen] = (await conversations.of_caller((ACCOUNT,), TRADER_ID)).seen
    assert (seen.data, seen.arguments) == ({"note": "old"}, None)


@pytest.mark.parametrize("change", ["arguments = ciphertext", "arguments = '\\x00'", "ciphertext = nonce"])
async def test_a_history_that_was_tampered_with_is_refused(
    store: Shelf, conversations: SqlConversations, postgres: PostgresDatabase, change: str
) -> None:
    await store.put(result(None, "text"))
    with postgres.connect(DatabaseRole.OWNER) as connection:
        connection.execute(f"UPDATE tool_results SET {change}")
    with pytest.raises(RefusalError) as caught:
        await conversations.of_caller((ACCOUNT,), TRADER_ID)
    assert caught.value.refusal.code is ReasonCode.SERVICE_INTERNAL_ERROR
