"""The gateway's tools over REST: as typed as the tools themselves, refused with the codes they are refused with."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from audit.record import Action
from core.types.ids import normalise_trace_id
from tests.api.house import IDS, House, assert_problem
from tools.catalogue import build_registry
from tools.contracts import Role

TOOLS = "/api/v1/tools"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def call(house: House, tool: str, arguments: Any, user: str = "trader", **headers: str) -> httpx2.Response:
    headers = await house.api.as_(user) | headers
    return await house.api.http.post(f"{TOOLS}/{tool}/calls", json={"arguments": arguments}, headers=headers)


def records(house: House, trace_id: str) -> list[tuple[str, str, str]]:
    """(actor, action, outcome) of a trace."""
    with house.database.connect("owner") as connection:
        rows = connection.execute(
            "SELECT actor, action, outcome FROM audit.inbox WHERE trace_id = %s ORDER BY arrival", [trace_id]
        )
        return [(row[0], row[1], row[2]) for row in rows]


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_sees_the_tools_that_it_may_call(house: House, role: Role) -> None:
    answer = await house.api.http.get(TOOLS, headers=await house.api.as_(role.value))
    assert answer.status_code == 200, answer.text
    seen = {tool["name"] for tool in answer.json()}
    assert seen == {tool.name for tool in build_registry() if role in tool.roles}
    assert ("suggest_order" in seen) == (role is Role.TRADER)


async def test_every_schema_is_json_schema_and_every_result_fits_its_own(house: House) -> None:
    tools = (await house.api.http.get(TOOLS, headers=await house.api.as_("trader"))).json()
    for tool in tools:
        Draft202012Validator.check_schema(tool["input_schema"])
        Draft202012Validator.check_schema(tool["output_schema"])
        one = await house.api.http.get(f"{TOOLS}/{tool['name']}", headers=await house.api.as_("trader"))
        assert one.json() == tool
    schemas = {tool["name"]: tool["output_schema"] for tool in tools}
    for name, arguments in {"get_ticker": {"symbol": "BTCUSDT"}, "get_positions": {}, "list_instruments": {}}.items():
        answer = await call(house, name, arguments)
        assert answer.status_code == 200, answer.text
        Draft202012Validator(schemas[name]).validate(answer.json()["data"])


async def test_a_call_is_released_with_its_stamp_and_its_record(house: House) -> None:
    answer = await call(house, "get_ticker", {"symbol": "btc/usdt"}, traceparent=TRACEPARENT)
    body = answer.json()
    assert (body["tool"], body["mode"], body["scope"]) == ("get_ticker", "PAPER", ["market"])
    assert body["source"] == ["engine:market", "venue:paper"]
    assert body["data"]["symbol"] == "BTCUSDT"
    assert body["trace_id"] == normalise_trace_id(TRACEPARENT.split("-")[1])
    assert records(house, body["trace_id"]) == [("user-trader", Action.TOOL_CALLED.value, "ok")]


@pytest.mark.parametrize(
    ("tool", "arguments", "user", "status", "code"),
    [
        ("get_tickers", {}, "trader", 404, "TOOL_UNKNOWN"),
        ("get_ticker", {"symbol": 7}, "trader", 422, "TOOL_ARGUMENTS_INVALID"),
        ("get_ticker", {"symbol": "BTCUSDT", "then": "buy"}, "trader", 422, "TOOL_ARGUMENTS_INVALID"),
        ("get_ticker", {"symbol": "NOPE"}, "trader", 404, "MARKET_INSTRUMENT_UNKNOWN"),
        ("get_positions", {"account_id": "acct-other"}, "trader", 403, "AUTH_ACCOUNT_OUT_OF_SCOPE"),
        ("suggest_order", {"symbol": "BTCUSDT"}, "approver", 403, "TOOL_NOT_PERMITTED"),
    ],
)
async def test_a_refusal_is_a_problem_with_its_code_and_is_recorded(
    house: House, tool: str, arguments: dict[str, Any], user: str, status: int, code: str
) -> None:
    problem = assert_problem(await call(house, tool, arguments, user), status, code)
    assert records(house, problem["trace_id"]) == [(f"user-{user}", Action.TOOL_REFUSED.value, code)]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"{", 422), (b"[]", 422), (b'{"arguments": []}', 422), (b'{"more": 1}', 422), (b"[" * 90_000, 400)],
)
async def test_a_body_that_is_no_call_is_refused(house: House, body: bytes, status: int) -> None:
    headers = await house.api.as_("trader") | {"Content-Type": "application/json"}
    answer = await house.api.http.post(f"{TOOLS}/get_ticker/calls", content=body, headers=headers)
    assert_problem_like(answer, status)


def assert_problem_like(answer: httpx2.Response, status: int) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["code"] == "REQUEST_INVALID"


ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "price_anchor": "bid"}


async def test_asking_again_with_the_same_key_makes_one_suggestion(house: House) -> None:
    key = {"Idempotency-Key": IDS.new_ulid()}
    first, again = [(await call(house, "suggest_order", ORDER, **key)) for _ in range(2)]
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    other = await call(house, "suggest_order", ORDER | {"quantity": "0.02"}, **key)
    assert_problem(other, 409, "IDEMPOTENCY_KEY_REUSED")
    without = await call(house, "suggest_order", ORDER)
    assert without.json()["data"]["suggestion_id"] != first.json()["data"]["suggestion_id"]


async def test_of_many_at_once_with_one_key_one_makes_a_suggestion(house: House) -> None:
    key = {"Idempotency-Key": IDS.new_ulid()}
    answers = await asyncio.gather(*(call(house, "suggest_order", ORDER, **key) for _ in range(8)))
    made = {answer.json()["data"]["suggestion_id"] for answer in answers if answer.status_code == 200}
    assert len(made) == 1
    for answer in answers:
        if answer.status_code != 200:
            assert_problem(answer, 409, "REQUEST_IN_PROGRESS")


async def test_a_key_whose_answer_was_lost_says_so_for_a_day_and_is_free_then(house: House) -> None:
    """given an api that died between the claim and the answer"""
    key = {"Idempotency-Key": IDS.new_ulid()}
    first = (await call(house, "suggest_order", ORDER, **key)).json()
    with house.database.connect("owner") as connection:

        def change(what: str) -> None:
            connection.execute(f"UPDATE idempotency_keys SET {what} WHERE key = %s", [key["Idempotency-Key"]])

        change("stamp = NULL")
        assert_problem(await call(house, "suggest_order", ORDER, **key), 409, "REQUEST_IN_PROGRESS")
        change("claimed_at = clock_timestamp() - interval '23 hours 59 minutes'")
        assert_problem(await call(house, "suggest_order", ORDER, **key), 409, "REQUEST_IN_PROGRESS")
        change("claimed_at = clock_timestamp() - interval '24 hours'")
    again = await call(house, "suggest_order", ORDER, **key)
    assert again.status_code == 200, again.text
    assert again.json()["data"]["suggestion_id"] != first["data"]["suggestion_id"]


async def test_a_key_is_one_persons_and_free_again_after_a_refusal(house: House) -> None:
    key = {"Idempotency-Key": "mine"}
    refused = await call(house, "suggest_order", ORDER | {"quantity": "1000"}, **key)
    assert refused.status_code == 409, refused.text
    assert (await call(house, "suggest_order", ORDER, **key)).status_code == 200
    for wrong in ("", "x" * 129, "two words"):
        answer = await call(house, "suggest_order", ORDER, **{"Idempotency-Key": wrong})
        assert_problem(answer, 422, "REQUEST_INVALID")
    assert (await call(house, "suggest_order", ORDER, **{"Idempotency-Key": "x" * 128})).status_code == 200
    # What only looks needs no key, and takes any.
    assert (await call(house, "get_ticker", {"symbol": "BTCUSDT"}, **key)).status_code == 200


async def test_without_a_token_there_is_a_challenge(house: House) -> None:
    for method, path in (("GET", TOOLS), ("GET", f"{TOOLS}/get_ticker"), ("POST", f"{TOOLS}/get_ticker/calls")):
        answer = await house.api.http.request(method, path, json={} if method == "POST" else None)
        assert_problem(answer, 401, "AUTH_TOKEN_INVALID")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_calls_that_come_too_fast_are_told_when_to_come_again(house: House) -> None:
    answers = [await call(house, "get_klines", {"symbol": "nope"}) for _ in range(1)]
    while answers[-1].status_code != 429:
        assert len(answers) < 500
        answers.append(await call(house, "get_klines", {"symbol": "nope"}))
    assert_problem(answers[-1], 429, "TOOL_RATE_EXCEEDED")
    assert int(answers[-1].headers["Retry-After"]) >= 1
