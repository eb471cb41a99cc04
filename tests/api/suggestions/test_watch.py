"""What becomes of a suggestion as a stream of events: its state now, then each change, until nothing more can happen.

Invariants: the first event is the present state; an event's id means the same on every replica; nobody is told of an
account that was taken from them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api.auth.users import REMEMBERED_FOR_S
from api.suggestions import watch
from tests.api.house import PASSWORD, Event, House, assert_problem, events_of
from tests.api.test_rest_suggestions import SUGGESTIONS, get, post, suggested

Events = AsyncIterator[Event]


@asynccontextmanager
async def following(
    house: House, suggestion_id: str, last_event_id: str | None = None, username: str = "trader"
) -> AsyncIterator[Events]:
    headers = await house.api.as_(username) | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    path = f"{SUGGESTIONS}/{suggestion_id}/events"
    async with (
        asyncio.timeout(60),
        house.api.http.stream("GET", path, headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        yield aiter(events_of(answer))


async def reject(house: House, shown: dict[str, Any]) -> None:
    body = {"version": shown["version"], "reason": "too large"}
    assert (await post(house, f"{SUGGESTIONS}/{shown['id']}/reject", body)).status_code == 200


def sql(house: House, statement: str, *values: Any) -> None:
    with house.database.connect("owner") as connection:
        connection.execute(statement, list(values))


async def test_a_follower_sees_the_state_now_each_change_and_the_end(house: House) -> None:
    shown = await suggested(house)
    async with following(house, shown["id"]) as events:
        first = await anext(events)
        assert (first["status"], first["version"], first["approvals_given"]) == ("pending", 1, 0)
        sql(house, "UPDATE suggestions SET status = 'consumed', client_order_id = 'VZ1' WHERE id = %s", shown["id"])
        second = await anext(events)
        assert (second["status"], second["client_order_id"]) == ("consumed", "VZ1")
        sql(house, "UPDATE suggestions SET status = 'executed' WHERE id = %s", shown["id"])
        assert [event["status"] async for event in events] == ["executed"]
    assert len({first.sse_id, second.sse_id}) == 2


async def test_who_comes_back_is_told_only_what_is_new_and_nothing_after_the_end(house: House) -> None:
    shown = await suggested(house)
    async with following(house, shown["id"]) as events:
        pending = (await anext(events)).sse_id
    async with following(house, shown["id"], pending) as events:
        await reject(house, shown)
        (rejected,) = [event async for event in events]
        assert rejected["status"] == "rejected"
    async with following(house, shown["id"], pending) as events:
        assert [event.sse_id async for event in events] == [rejected.sse_id]
    headers = await house.api.as_("trader") | {"Last-Event-ID": rejected.sse_id}
    over = await house.api.http.get(f"{SUGGESTIONS}/{shown['id']}/events", headers=headers)
    assert over.status_code == 204
    headers["Last-Event-ID"] = "x" * 257
    refused = await house.api.http.get(f"{SUGGESTIONS}/{shown['id']}/events", headers=headers)
    assert_problem(refused, 422, "REQUEST_INVALID")


async def test_an_edit_is_a_change_to_its_newest_version(house: House) -> None:
    shown = await suggested(house)
    async with following(house, shown["id"]) as events:
        await anext(events)
        body = {"version": 1, "changes": {"quantity": "0.02"}}
        assert (await post(house, f"{SUGGESTIONS}/{shown['id']}/edit", body)).status_code == 200
        assert (await anext(events))["version"] == 2


async def test_the_status_says_the_same_as_the_stream(house: House) -> None:
    shown = await suggested(house)
    async with following(house, shown["id"]) as events:
        assert (await get(house, f"{SUGGESTIONS}/{shown['id']}/status")).json() == dict(await anext(events))


@pytest.mark.parametrize("path", ["events", "status"])
async def test_a_suggestion_of_nobody_isnt_followed(house: House, path: str) -> None:
    headers = await house.api.as_("trader")
    answer = await house.api.http.get(f"{SUGGESTIONS}/01KAXB7Z3M2N4P5Q6R7S8T9V0W/{path}", headers=headers)
    assert_problem(answer, 404, "RESOURCE_NOT_FOUND")


async def test_no_more_follow_than_may(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, other = await suggested(house), await suggested(house)
    monkeypatch.setattr(watch, "WATCHERS_LIMIT", 1)
    async with following(house, shown["id"]) as events:
        await anext(events)
        headers = await house.api.as_("trader")
        answer = await house.api.http.get(f"{SUGGESTIONS}/{other['id']}/events", headers=headers)
        assert_problem(answer, 429, "TOOL_RATE_EXCEEDED")
        assert answer.headers["Retry-After"] == "1"


async def test_one_whose_account_is_taken_away_is_told_nothing_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = await suggested(house)
    users = house.api.services.users
    async with following(house, shown["id"]) as events:
        await anext(events)
        monkeypatch.setattr(users, "_monotonic_s", lambda: time.monotonic() + 2 * REMEMBERED_FOR_S)
        sql(house, "DELETE FROM account_grants WHERE user_id = 'user-trader'")
        try:
            await reject(house, shown)
            assert [event async for event in events] == []
        finally:
            sql(house, "INSERT INTO account_grants VALUES ('user-trader', 'acct-demo')")
            users._known.clear()


async def test_nobody_looks_while_nobody_waits(house: House) -> None:
    shown = await suggested(house)
    service = house.api.services.watch
    async with following(house, shown["id"]) as events:
        await anext(events)
        assert service._looking is not None
        assert not service._looking.done()
        await reject(house, shown)
        assert [event["status"] async for event in events] == ["rejected"]
    async with asyncio.timeout(60):
        await service._looking
    assert not service._waiting
    assert not service._seen


async def test_the_command_line_follows_an_approved_order_by_events(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VELOZ_URL", str(house.api.http.base_url))
    monkeypatch.setenv("VELOZ_PASSWORD", PASSWORD)
    from api.cli import suggestions as commands
    from api.cli.session import Session

    shown = await suggested(house)
    asked: list[str] = []
    plain: Callable[..., Any] = Session.request

    def counting(self: Session, method: str, path: str, *rest: Any, **more: Any) -> Any:
        asked.append(path)
        return plain(self, method, path, *rest, **more)

    monkeypatch.setattr(Session, "request", counting)
    session = await asyncio.to_thread(Session, "trader", "trader")
    waiting = asyncio.create_task(asyncio.to_thread(commands._follow, session, shown["id"], 20.0))
    async with asyncio.timeout(60):
        while not house.api.services.watch._waiting:
            await house.api.http.get("/healthz")
    sql(house, "UPDATE suggestions SET status = 'executed', client_order_id = 'VZ9' WHERE id = %s", shown["id"])
    final = await waiting
    assert (final["status"], final["client_order_id"]) == ("executed", "VZ9")
    assert not [path for path in asked if path.endswith("/status")]


async def test_without_a_settled_state_in_time_the_command_line_asks_once_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VELOZ_URL", str(house.api.http.base_url))
    monkeypatch.setenv("VELOZ_PASSWORD", PASSWORD)
    from api.cli import suggestions as commands
    from api.cli.session import Session

    shown = await suggested(house)
    session = await asyncio.to_thread(Session, "trader", "trader")
    final = await asyncio.to_thread(commands._follow, session, shown["id"], 0.3)
    assert final["status"] == "pending"
