"""The REST face: runs that stream and resume, suggestions that are decided on, errors, OpenAPI."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from api.limits import REQUEST_BODY_LIMIT_BYTES
from api.runs import event_log
from core.authority.proposal import parse_proposal
from core.authority.signatures import sign_digest
from core.types.events import OrderFilled
from tests.api.house import (
    IDS,
    Event,
    House,
    assert_problem,
    events_of,
    question_body,
    running_api,
    without_nats,
)
from tests.core.approvals import APPROVER_SEED, SECOND_SEED, approve

RUNS = "/api/v1/copilot/runs"
SUGGESTIONS = "/api/v1/suggestions"
SPREAD = "what is the spread on BTCUSDT?"


@pytest.fixture
async def held(house: House) -> AsyncIterator[House]:
    """The model is asked and doesn't answer before the test lets it."""
    house.model.asked.clear()
    house.model.go.clear()
    yield house
    house.model.go.set()


async def get(house: House, path: str, username: str = "trader", **headers: str) -> httpx2.Response:
    return await house.api.http.get(path, headers={**await house.api.as_(username), **headers})


async def post(house: House, path: str, body: Any, username: str = "trader") -> httpx2.Response:
    return await house.api.http.post(path, json=body, headers=await house.api.as_(username))


async def follow(house: House, run_id: str, after: int | None = None) -> list[Event]:
    headers = await house.api.as_("trader")
    if after is not None:
        headers["Last-Event-ID"] = f"{run_id}:{after}"
    async with house.api.http.stream("GET", f"{RUNS}/{run_id}/events", headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [event async for event in events_of(answer)]


async def leave_after_the_first_event(house: House, body: dict[str, Any]) -> None:
    async with house.api.http.stream("POST", RUNS, json=body, headers=await house.api.as_("trader")) as answer:
        assert (await anext(aiter(events_of(answer))))["type"] == "RUN_STARTED"
    await house.model.asked.wait()


# --- runs


async def test_a_question_streams_agui_events_and_leaves_an_outcome(house: House) -> None:
    run_id, events = await house.api.ask(SPREAD)
    types = [event["type"] for event in events]
    assert (types[0], types[-1]) == ("RUN_STARTED", "RUN_FINISHED")
    assert {"TOOL_CALL_START", "TOOL_CALL_RESULT", "TEXT_MESSAGE_CONTENT"} <= set(types)
    assert [event.sse_id for event in events] == [f"{run_id}:{n}" for n in range(1, len(events) + 1)]
    run = (await get(house, f"{RUNS}/{run_id}")).json()
    assert run["status"] == "finished"
    assert run["answer"] == "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
    figure = run["figures"][0]
    cell = (await get(house, f"{RUNS}/{run_id}/results/{figure['call_id']}")).json()
    assert cell["data"][figure["path"].removeprefix("$.")] == figure["value"]
    assert run_id in {item["run_id"] for item in (await get(house, RUNS)).json()}


async def test_a_stream_resumes_exactly_after_the_event_last_seen(house: House) -> None:
    run_id, events = await house.api.ask(SPREAD)
    last = len(events)
    for after in (None, 0, 1, last - 1, last):
        assert await follow(house, run_id, after) == events[after or 0 :]


async def test_leaving_cancels_nothing_and_another_reader_gets_it_all_live(held: House) -> None:
    body = question_body(SPREAD)
    await leave_after_the_first_event(held, body)
    reading = asyncio.create_task(follow(held, body["runId"]))
    held.model.go.set()
    events = await reading
    assert (events[0]["type"], events[-1]["type"]) == ("RUN_STARTED", "RUN_FINISHED")
    assert (await get(held, f"{RUNS}/{body['runId']}")).json()["status"] == "finished"


async def test_cancelling_ends_the_run_and_says_so(held: House) -> None:
    body = question_body(SPREAD)
    await leave_after_the_first_event(held, body)
    assert (await post(held, f"{RUNS}/{body['runId']}/cancel", None)).status_code == 202
    last = (await follow(held, body["runId"]))[-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "COPILOT_RUN_CANCELLED")
    assert (await get(held, f"{RUNS}/{body['runId']}")).json()["status"] == "cancelled"
    assert (await post(held, f"{RUNS}/{body['runId']}/cancel", None)).status_code == 202, "again changes nothing"


async def test_a_run_id_is_used_once(house: House) -> None:
    run_id, events = await house.api.ask(SPREAD)
    assert_problem(await post(house, RUNS, question_body("and ETH?", run_id)), 422, "REQUEST_INVALID")
    assert await follow(house, run_id) == events


@pytest.mark.parametrize("path", ["", "/events", "/results/01ARZ3NDEKTSV4RRFFQ69G5FAV"])
async def test_an_unknown_run_is_not_found(house: House, path: str) -> None:
    assert_problem(await get(house, f"{RUNS}/no-such-run{path}"), 404, "RESOURCE_NOT_FOUND")
    assert_problem(await post(house, f"{RUNS}/no-such-run/cancel", None), 404, "RESOURCE_NOT_FOUND")


async def test_a_run_of_another_account_is_not_found(house: House) -> None:
    run_id, _ = await house.api.ask(SPREAD)
    tokens = house.api.services.tokens
    outsider = tokens.read((await house.api.as_("trader"))["Authorization"].removeprefix("Bearer "))
    forged = tokens.issue(type(outsider)(outsider.user_id, outsider.username, outsider.role, ("acct-other",)))
    for path in (f"{RUNS}/{run_id}", f"{RUNS}/{run_id}/events"):
        answer = await house.api.http.get(path, headers={"Authorization": f"Bearer {forged}"})
        assert_problem(answer, 404, "RESOURCE_NOT_FOUND")


async def test_a_run_is_its_askers_alone(held: House) -> None:
    body = question_body(SPREAD)
    await leave_after_the_first_event(held, body)
    path = f"{RUNS}/{body['runId']}"
    for other in ("approver", "compliance"):
        for answer in (
            await get(held, path, other),
            await get(held, f"{path}/events", other),
            await post(held, f"{path}/cancel", None, other),
        ):
            assert_problem(answer, 404, "RESOURCE_NOT_FOUND")
        assert body["runId"] not in {run["run_id"] for run in (await get(held, RUNS, other)).json()}
    held.model.go.set()
    assert (await follow(held, body["runId"]))[-1]["type"] == "RUN_FINISHED"


async def test_a_run_whose_process_died_ends_for_its_readers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NEXT_EVENT_POLL_S", 0.05), ("SILENT_POLLS_LIMIT", 1)):
        monkeypatch.setattr(event_log, name, value)
    run_id = IDS.new_ulid()
    with house.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO runs (id, thread_id, user_id, account_id, trace_id, status, question, created_at) VALUES "
            "(%s, 't', 'user-trader', 'acct-demo', %s, 'running', 'q', clock_timestamp() - interval '1 hour')",
            (run_id, IDS.new_ulid()),
        )
    (event,) = await follow(house, run_id)
    assert (event["type"], event["code"]) == ("RUN_ERROR", "SERVICE_EVENT_LOG_UNAVAILABLE")
    run = (await get(house, f"{RUNS}/{run_id}")).json()
    assert (run["status"], run["code"]) == ("failed", "SERVICE_INTERNAL_ERROR")


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": [{"id": "1", "role": "user", "content": "what now \ud800"}]},
        {"threadId": "\ud800"},
        {"runId": "\ud800"},
        {"resume": [{"interruptId": "\ud800", "status": "resolved", "payload": {}}], "messages": []},
    ],
    ids=["a message", "a thread", "a run", "an interrupt"],
)
async def test_half_a_surrogate_pair_is_refused(house: House, changes: dict[str, Any]) -> None:
    headers = {**await house.api.as_("trader"), "Content-Type": "application/json"}
    raw = json.dumps(question_body("what now") | changes)
    assert_problem(await house.api.http.post(RUNS, content=raw, headers=headers), 422, "REQUEST_INVALID")


async def test_a_run_id_like_anothers_suggestion_or_trace_stays_out_of_its_trail(house: House) -> None:
    run_id, _ = await house.api.ask(SPREAD)
    trace_id = (await get(house, f"{RUNS}/{run_id}")).json()["trace_id"]
    body = question_body("ETHUSDT spread?", trace_id)
    assert (await post(house, RUNS, body)).status_code == 200
    trail = (await get(house, f"/api/v1/audit/traces/{trace_id}", "compliance")).json()
    assert {record["run_id"] for record in trail["records"]} == {run_id}


async def test_the_trail_of_a_run_with_a_uuid_for_its_id_is_found(house: House) -> None:
    for run_id in (str(uuid.uuid4()), uuid.uuid4().hex):
        assert (await post(house, RUNS, question_body(SPREAD, run_id))).status_code == 200
        trail = (await get(house, f"/api/v1/audit/traces/{run_id}", "compliance")).json()
        assert {record["run_id"] for record in trail["records"]} == {run_id}


@pytest.mark.parametrize(
    "change",
    [
        {"runId": "short"},
        {"runId": "no spaces here"},
        {"runId": "../../etc/passwd"},
        {"runId": "runs.>.wildcard"},
        {"messages": []},
        {"messages": [{"id": "1", "role": "assistant", "content": "hello"}]},
        {"messages": [{"id": "1", "role": "user", "content": "  "}]},
        {"messages": [{"id": "1", "role": "user", "content": "x" * 4_001}]},
        {"messages": [{"id": "1", "role": "user", "content": "what\u0000now"}]},
        {"threadId": "a\u0000b"},
        {"messages": "hello"},
    ],
)
async def test_a_malformed_question_starts_nothing(house: House, change: dict[str, Any]) -> None:
    body = question_body(SPREAD) | change
    assert_problem(await post(house, RUNS, body), 422, "REQUEST_INVALID")


@pytest.mark.parametrize("last_event_id", ["7", "other-run:1", "{run}:-1", "{run}:x", "{run}:", "{run}:" + "9" * 5_000])
async def test_a_last_event_id_of_something_else_is_refused(house: House, last_event_id: str) -> None:
    run_id, _ = await house.api.ask(SPREAD)
    answer = await get(house, f"{RUNS}/{run_id}/events", **{"Last-Event-ID": last_event_id.format(run=run_id)})
    assert_problem(answer, 422, "REQUEST_INVALID")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused(house: House, declared: bool) -> None:
    content = b" " * (REQUEST_BODY_LIMIT_BYTES + 1)

    async def in_parts() -> AsyncIterator[bytes]:
        yield content

    headers = {**await house.api.as_("trader"), "content-type": "application/json"}
    answer = await house.api.http.post(RUNS, content=content if declared else in_parts(), headers=headers)
    problem = assert_problem(answer, 413, "REQUEST_TOO_LARGE")
    assert problem["limit"] == str(REQUEST_BODY_LIMIT_BYTES)


async def test_without_nats_runs_neither_start_nor_stream_and_the_rest_works(house: House) -> None:
    run_id, _ = await house.api.ask(SPREAD)
    async with running_api(without_nats(house.settings)) as api:
        lame = House(api, house.engine, house.venue, house.model, house.settings, house.database)
        body = question_body(SPREAD)
        assert_problem(await post(lame, RUNS, body), 503, "SERVICE_EVENT_LOG_UNAVAILABLE")
        assert_problem(await get(lame, f"{RUNS}/{run_id}/events"), 503, "SERVICE_EVENT_LOG_UNAVAILABLE")
        assert_problem(await get(lame, f"{RUNS}/{body['runId']}"), 404, "RESOURCE_NOT_FOUND")
        assert (await get(lame, f"{RUNS}/{run_id}")).json()["status"] == "finished"
        ready = await api.http.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["nats"]) == (503, "not connected")
        assert (await api.http.get("/healthz")).status_code == 200


# --- suggestions


async def suggested(house: House, order: str = "suggest buying 0.01 BTC 10 bps above the ask") -> dict[str, Any]:
    """Ask for an order; the suggestion as an approver gets it."""
    run_id, events = await house.api.ask(order)
    suggestion_id = (await get(house, f"{RUNS}/{run_id}")).json()["suggestion_id"]
    assert suggestion_id, [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
    shown: dict[str, Any] = (await get(house, f"{SUGGESTIONS}/{suggestion_id}", "approver")).json()
    assert shown["status"] == "pending"
    return shown


def approval(shown: dict[str, Any], **changes: Any) -> dict[str, Any]:
    _, digest, [(key_id, signature)] = approve(parse_proposal(shown["proposal_text"].encode()))
    assert digest == shown["digest"], "what is shown is what is signed"
    return {"version": 1, "digest": digest, "key_id": key_id, "signature": signature.hex()} | changes


async def test_an_approval_over_http_becomes_a_fill_and_counts_once(house: House) -> None:
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    answers = await asyncio.gather(*(post(house, f"{path}/approve", approval(shown), "approver") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    [approved] = [answer.json() for answer in answers if answer.status_code == 200]
    assert approved["consumed"]
    for answer in answers:
        if answer.status_code != 200:
            assert_problem(answer, 409, "APPROVAL_ALREADY_CONSUMED")
    filled = await house.engine.event(
        lambda event: isinstance(event, OrderFilled) and event.client_order_id == approved["client_order_id"]
    )
    assert filled.symbol == "BTCUSDT"
    status = (await get(house, f"{path}/status")).json()
    assert (status["status"], status["client_order_id"]) == ("approved", approved["client_order_id"])
    listed = (await get(house, f"{SUGGESTIONS}?status=approved")).json()
    assert shown["id"] in {row["id"] for row in listed}


@pytest.mark.parametrize(
    ("username", "change", "status", "code"),
    [
        ("trader", {}, 403, "AUTH_ROLE_NOT_PERMITTED"),
        ("compliance", {}, 403, "AUTH_ROLE_NOT_PERMITTED"),
        ("approver", {"digest": "0" * 64}, 409, "APPROVAL_DIGEST_MISMATCH"),
        ("approver", {"version": 2}, 404, "RESOURCE_NOT_FOUND"),
        ("approver", {"key_id": "nobody"}, 403, "AUTHORITY_SIGNER_UNKNOWN"),
        ("approver", {"signature": "00" * 64}, 403, "AUTHORITY_SIGNATURE_INVALID"),
        ("approver", {"signature": "not hex"}, 422, "REQUEST_INVALID"),
        ("approver", {"signature": "", "key_id": ""}, 409, "APPROVAL_SIGNATURES_INSUFFICIENT"),
        ("approver", {"force": True}, 422, "REQUEST_INVALID"),
    ],
)
async def test_a_wrong_approval_sends_nothing_and_uses_nothing_up(
    house: House, waiting: dict[str, Any], username: str, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await post(house, f"{SUGGESTIONS}/{waiting['id']}/approve", approval(waiting, **change), username)
    problem = assert_problem(answer, status, code)
    assert not problem.get("consumed")
    assert (await get(house, f"{SUGGESTIONS}/{waiting['id']}/status")).json()["status"] == "pending"


@pytest.fixture(scope="module")
async def waiting(house: House) -> dict[str, Any]:
    """A suggestion that nobody decides on."""
    return await suggested(house)


async def test_another_persons_key_is_no_help(house: House, waiting: dict[str, Any]) -> None:
    """given the approver's name and the second approver's signature, then the engine refuses."""
    signature = sign_digest(SECOND_SEED, waiting["digest"]).hex()
    assert SECOND_SEED != APPROVER_SEED
    answer = await post(
        house, f"{SUGGESTIONS}/{waiting['id']}/approve", approval(waiting, signature=signature), "approver"
    )
    assert_problem(answer, 403, "AUTHORITY_SIGNATURE_INVALID")


async def test_a_rejected_suggestion_stays_rejected(house: House) -> None:
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    body = {"version": 1, "reason": "too large for today"}
    assert_problem(await post(house, f"{path}/reject", body), 403, "AUTH_ROLE_NOT_PERMITTED")
    assert_problem(await post(house, f"{path}/reject", body | {"reason": ""}, "approver"), 422, "REQUEST_INVALID")
    rejected = (await post(house, f"{path}/reject", body, "approver")).json()
    assert (rejected["status"], rejected["decided_by"]) == ("rejected", "user-approver")
    assert rejected["decision_reason"] == "too large for today"
    answer = await post(house, f"{path}/approve", approval(shown), "approver")
    assert_problem(answer, 409, "APPROVAL_NOT_PENDING")


async def test_the_list_pages_backwards_by_id(house: House) -> None:
    for _ in range(2):
        await suggested(house)
    everything = [row["id"] for row in (await get(house, SUGGESTIONS)).json()]
    paged: list[str] = []
    while rows := (await get(house, f"{SUGGESTIONS}?limit=1" + (f"&before={paged[-1]}" if paged else ""))).json():
        paged += [row["id"] for row in rows]
    assert paged == everything == sorted(everything, reverse=True)


@pytest.mark.parametrize("path", ["01KAX8F0000000000000000000", "%00", "a" * 500, "..%2Fruns"])
async def test_an_unknown_suggestion_is_not_found(house: House, path: str) -> None:
    answer = await get(house, f"{SUGGESTIONS}/{path}", "approver")
    assert answer.status_code in {404, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "status=nonsense", f"before={'x' * 27}"])
async def test_a_list_with_a_bad_query_is_refused(house: House, query: str) -> None:
    assert_problem(await get(house, f"{SUGGESTIONS}?{query}"), 422, "REQUEST_INVALID")


# --- the whole


async def test_the_openapi_description_is_3_1_and_complete(house: House) -> None:
    description = (await house.api.http.get("/openapi.json")).json()
    assert description["openapi"].startswith("3.1")
    assert description["info"]["title"] == "VeloZ"
    operations = [
        operation for path in description["paths"].values() for operation in path.values() if "responses" in operation
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids) >= 15
    assert all(operation.get("description") or operation.get("summary") for operation in operations)
    for reference in _references(description):
        node: Any = description
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", RUNS, 405)])
async def test_addresses_that_are_not_there_are_problems_too(house: House, method: str, path: str, status: int) -> None:
    answer = await house.api.http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_positions_over_the_copilot_are_the_engines(house: House) -> None:
    run_id, _ = await house.api.ask("what are my positions")
    run = (await get(house, f"{RUNS}/{run_id}")).json()
    [call] = [call for call in run["tool_calls"] if call["tool"] == "get_positions"]
    held = {Decimal(position["quantity"]) for position in call["result"]["positions"]}
    assert held == ({await house.engine.position()} - {Decimal(0)})
