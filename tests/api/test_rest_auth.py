"""Logging in over HTTP, and what each role may do there."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from api.auth import repository
from api.auth.failures import FAILED_LOGINS_LIMIT
from api.auth.service import CONCURRENT_HASHES_LIMIT
from api.auth.tokens import hash_refresh_token, new_refresh_token
from audit.record import Action
from core.types.codes import ReasonCode, RefusalError
from tests.api.house import PASSWORD, House, assert_problem, question_body

LOGIN, REFRESH, ME = "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/me"


async def login(house: House, username: str = "trader", password: str = PASSWORD) -> httpx2.Response:
    return await house.api.http.post(LOGIN, json={"username": username, "password": password})


async def test_a_login_gives_tokens_that_say_who_one_is(house: House) -> None:
    answer = (await login(house)).json()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 600)
    me = await house.api.http.get(ME, headers={"Authorization": f"Bearer {answer['access_token']}"})
    assert me.json() == {
        "user_id": "user-trader",
        "username": "trader",
        "role": "trader",
        "account_ids": ["acct-demo"],
        "kind": "human",
        "on_behalf_of": None,
    }


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(house: House) -> None:
    wrong = assert_problem(await login(house, password="nope"), 401, "AUTH_CREDENTIALS_INVALID")
    unknown = assert_problem(await login(house, username="nobody"), 401, "AUTH_CREDENTIALS_INVALID")
    assert wrong == unknown


async def test_after_too_many_failures_a_name_has_to_wait_even_with_the_right_password(house: House) -> None:
    for _ in range(FAILED_LOGINS_LIMIT):
        assert_problem(await login(house, "compliance", "nope"), 401, "AUTH_CREDENTIALS_INVALID")
    problem = assert_problem(await login(house, "compliance"), 429, "AUTH_RATE_EXCEEDED")
    assert problem["limit"] == str(FAILED_LOGINS_LIMIT)
    assert (await login(house, "approver")).status_code == 200, "others aren't held up"
    house.api.services.auth._failed.clear("compliance")


async def test_a_refresh_token_works_once_and_its_reuse_revokes_its_successors(house: House) -> None:
    async def refresh(token: str) -> httpx2.Response:
        return await house.api.http.post(REFRESH, json={"refresh_token": token})

    first = (await login(house)).json()["refresh_token"]
    other_session = (await login(house)).json()["refresh_token"]
    second = (await refresh(first)).json()["refresh_token"]
    assert second != first
    assert_problem(await refresh(first), 401, "AUTH_REFRESH_REUSED")
    assert_problem(await refresh(second), 401, "AUTH_REFRESH_REUSED")
    assert (await refresh(other_session)).status_code == 200, "another login is another family"
    assert_problem(await refresh("made up"), 401, "AUTH_TOKEN_INVALID")


@pytest.mark.parametrize("token", [None, "abc", "e30.e30.e30"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ME),
        ("GET", "/api/v1/suggestions"),
        ("POST", "/api/v1/suggestions/x/approve"),
        ("GET", "/api/v1/audit/traces/x"),
        ("GET", "/api/v1/copilot/runs"),
        ("POST", "/api/v1/copilot/runs/x/cancel"),
    ],
)
async def test_nothing_is_open_without_a_good_token(house: House, method: str, path: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = await house.api.http.request(method, path, headers=headers)
    assert_problem(answer, 401, "AUTH_TOKEN_INVALID")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_every_operation_but_login_and_health_asks_for_a_token(house: House) -> None:
    """Of every address that the service has, not of those that this file remembers."""
    open_to_all = {"/healthz", "/readyz", "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/logout"}
    open_to_all |= {"/api/v1/agents/token"}
    for path, operations in (await house.api.http.get("/openapi.json")).json()["paths"].items():
        for method in operations:
            if path in open_to_all:
                continue
            answer = await house.api.http.request(
                method.upper(), path.replace("{", "").replace("}", ""), json=question_body("hello")
            )
            assert answer.status_code == 401, (method, path, answer.status_code)


@pytest.mark.parametrize("username", ["trader", "approver"])
async def test_only_compliance_reads_the_audit_trail(house: House, username: str) -> None:
    run_id, _ = await house.api.ask("what is the spread on BTCUSDT?")
    path = f"/api/v1/audit/traces/{run_id}"
    problem = assert_problem(
        await house.api.http.get(path, headers=await house.api.as_(username)), 403, "AUTH_ROLE_NOT_PERMITTED"
    )
    assert (problem["limit"], problem["actual"]) == ("compliance", username)
    trail = (await house.api.http.get(path, headers=await house.api.as_("compliance"))).json()
    assert trail["intact"]
    actions = [record["action"] for record in trail["records"]]
    assert (actions[0], actions[-1]) == (Action.QUESTION_ASKED, Action.ANSWER_GIVEN)
    assert Action.TOOL_CALLED in actions


async def test_compliance_may_ask_and_may_not_suggest(house: House) -> None:
    _, events = await house.api.ask("what is the spread on BTCUSDT?", "compliance")
    assert events[-1]["type"] == "RUN_FINISHED"
    run_id, _ = await house.api.ask("suggest buying 0.01 BTC at the bid", "compliance")
    run = await house.api.http.get(f"/api/v1/copilot/runs/{run_id}", headers=await house.api.as_("compliance"))
    assert run.json()["suggestion_id"] is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "username"),
        ({"username": "trader"}, "password"),
        ({"username": "trader", "password": "x", "role": "admin"}, "role"),
        ({"username": "t" * 300, "password": "x"}, "username"),
        ({"username": 7, "password": "x"}, "username"),
    ],
)
async def test_a_malformed_login_names_the_field(house: House, body: dict[str, Any], told: str) -> None:
    problem = assert_problem(await house.api.http.post(LOGIN, json=body), 422, "REQUEST_INVALID")
    assert told in problem["detail"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"username":"\\u0000","password":"x"}'])
async def test_a_login_of_rubbish_is_refused_and_never_fails_the_service(house: House, content: bytes) -> None:
    answer = await house.api.http.post(LOGIN, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 401, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_session_ends_with_the_successor_that_is_just_being_issued(house: House) -> None:
    tokens = (await house.api.http.post(LOGIN, json={"username": "trader", "password": PASSWORD})).json()
    first = tokens["refresh_token"]
    second = (await house.api.services.auth.refresh(first)).refresh_token
    third = new_refresh_token()
    async with house.api.services.transactions(()) as connection:
        row = await repository.lock_refresh_token(connection, hash_refresh_token(second))
        assert row is not None
        await repository.mark_rotated(connection, row.id)
        logout = asyncio.create_task(house.api.services.auth.logout(first))
        with house.database.connect("owner") as watcher:
            while not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
                await asyncio.wait({logout}, timeout=0.01)
        await repository.insert_refresh_token(connection, "third", row.family_id, row.user_id, third.hash)
    await logout
    with pytest.raises(RefusalError) as caught:
        await house.api.services.auth.refresh(third.secret)
    assert caught.value.refusal.code is ReasonCode.AUTH_REFRESH_REUSED


async def test_guesses_at_once_count_like_guesses_in_turn(house: House) -> None:
    answers = await asyncio.gather(*[login(house, "guessed", str(guess)) for guess in range(40)])
    looked_at = sum(answer.status_code == 401 for answer in answers)
    assert FAILED_LOGINS_LIMIT <= looked_at <= FAILED_LOGINS_LIMIT + CONCURRENT_HASHES_LIMIT
    assert {answer.status_code for answer in answers} == {401, 429}
