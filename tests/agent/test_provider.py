"""A provider over a real socket: used when it answers, replaced by the offline planner when it doesn't."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from openai import AsyncOpenAI

from agent.copilot import Copilot
from agent.graph import FALLBACK_NOTICE
from agent.model import ModelClient, TextDelta, Turn
from agent.outcome import Usage
from agent.planner.app import PlannerApp
from core.config import ConfigurationError, Settings
from core.types.clock import SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.ids import SystemIdSource
from tests.agent.test_copilot import ask, assert_sourced, copilot_for
from tests.tools.doubles import House
from tests.tools.policies import TOOLS, text_with
from tools.budgets import Budgets, InProcessBudgetLedger, Scope
from tools.model_budget import ModelBudget
from tools.policy import load_policy

IDS = SystemIdSource()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The app on a free port of a real socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        await task
        listener.close()


def failing(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"no"})

    return app


def breaking_off(text: str) -> Any:
    """Streams some text, then cuts the connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"content-length", b"100000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunk = (
            '{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"'
            + text
            + '"},"finish_reason":null}]}'
        )
        await send({"type": "http.response.body", "body": f"data: {chunk}\n\n".encode(), "more_body": True})

    return app


def streaming(*deltas: str) -> Any:
    """Streams these deltas, each the JSON that stands for its text, and ends."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunks = [
            '{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
            f'{{"content":"{delta}"}},"finish_reason":null}}]}}'
            for delta in deltas
        ]
        body = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"])
        await send({"type": "http.response.body", "body": body.encode()})

    return app


def with_provider(house: House, url: str) -> Copilot:
    return copilot_for(house.gateway, provider_base_url=url, provider_model="some-model")


async def test_a_provider_is_asked_over_the_same_client() -> None:
    async with serving(PlannerApp(IDS, SystemClock())) as url:
        asked = await ask(with_provider(House(), url), "suggest buying 0.5 BTC at the bid")
    assert asked.outcome.status == "interrupted"
    assert FALLBACK_NOTICE not in asked.outcome.answer
    assert_sourced(asked.outcome)
    assert asked.violations() == []


@pytest.mark.parametrize("status", [401, 500])
async def test_the_planner_answers_read_only_questions_when_the_provider_fails(status: int) -> None:
    async with serving(failing(status)) as url:
        asked = await ask(with_provider(House(), url), "what is the spread on BTCUSDT?")
    assert asked.outcome.status == "finished"
    assert asked.outcome.model == "veloz-offline-planner/1"
    assert asked.outcome.answer.startswith(FALLBACK_NOTICE.strip())
    assert asked.tools == ["get_ticker"]
    assert_sourced(asked.outcome)
    models = [e["value"]["model"] for e in asked.wire if e.get("name") == "veloz.run"]
    assert models == ["some-model", "veloz-offline-planner/1"]
    assert asked.violations() == []


async def test_a_provider_that_breaks_off_is_replaced_in_the_same_run() -> None:
    async with serving(breaking_off("Looking at it")) as url:
        asked = await ask(with_provider(House(), url), "what is the spread on BTCUSDT?")
    assert asked.outcome.status == "finished"
    assert asked.outcome.answer.startswith("Looking at it")
    assert asked.tools == ["get_ticker"]
    assert asked.violations() == []


async def test_nothing_is_suggested_after_the_provider_has_failed() -> None:
    house = House()
    async with serving(failing(500)) as url:
        asked = await ask(with_provider(house, url), "buy 1 BTC now")
    assert asked.tools == []
    assert house.suggestions.rows == {}
    assert asked.outcome.status == "finished"


@pytest.mark.parametrize("status", [401, 404])
async def test_a_model_that_fails_is_told_as_such_and_half_a_turn_is_no_answer(status: int) -> None:
    for app in (failing(status), breaking_off("Looking at it")):
        async with serving(app) as url:
            model = ModelClient(AsyncOpenAI(base_url=url, api_key="k", max_retries=0), "m", "p")
            with pytest.raises(RefusalError) as caught:
                async for _ in model.turn([{"role": "user", "content": "hello"}], []):
                    pass
            assert caught.value.refusal.code is ReasonCode.COPILOT_MODEL_FAILED
            await model.close()


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (["up \\ud83d\\ude80"], "up \U0001f680"),
        (["up \\ud83d", "\\ude80 now"], "up \U0001f680 now"),
        (["up \\ud83d", " now"], "up \ufffd now"),
        (["up \\ude80", " now"], "up \ufffd now"),
        (["up \\u0000", " now"], "up \ufffd now"),
    ],
    ids=["whole", "cut in two", "first half alone", "second half alone", "NUL"],
)
async def test_a_character_that_a_provider_cut_in_two_is_one_again_and_half_of_one_breaks_nothing(
    deltas: list[str], text: str
) -> None:
    async with serving(streaming(*deltas)) as url:
        client = ModelClient(AsyncOpenAI(base_url=url, api_key="none"), "some-model", url)
        parts = [part async for part in client.turn([{"role": "user", "content": "hello"}], [])]
        await client.close()
    *spoken, turn = parts
    assert isinstance(turn, Turn)
    assert ("".join(part.text for part in spoken if isinstance(part, TextDelta)), turn.text) == (text, text)


def chunk_of(**fields: Any) -> dict[str, Any]:
    whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    return whole | fields


def call_of(**fields: Any) -> dict[str, Any]:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "get_ticker", "arguments": "{}"}} | fields
    return chunk_of(choices=[{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}])


def said(content: Any) -> dict[str, Any]:
    return chunk_of(choices=[{"index": 0, "delta": {"content": content}, "finish_reason": None}])


def answering(*chunks: Any) -> Any:
    """Streams these as they are, and ends."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": body.encode()})

    return app


async def turn_of(app: Any) -> Turn:
    """The model's whole answer. Raises RefusalError."""
    async with serving(app) as url:
        client = ModelClient(AsyncOpenAI(base_url=url, api_key="none", max_retries=0), "some-model", url)
        try:
            *_, turn = [part async for part in client.turn([{"role": "user", "content": "hello"}], [])]
        finally:
            await client.close()
    assert isinstance(turn, Turn)
    return turn


UNREADABLE = {
    "no object": [1, 2],
    "null": None,
    "a number": 5,
    "no delta": chunk_of(choices=[{"index": 0, "delta": None, "finish_reason": None}]),
    "content is a list": said([{"type": "text", "text": "hi"}]),
    "content is a number": said(5),
    "a model that is a number": chunk_of(model=5, choices=[]),
    "a place that is null": call_of(index=None),
    "a place that is text": call_of(index="a"),
    "a name that is an object": call_of(function={"name": {"a": 1}, "arguments": "{}"}),
    "arguments that are an object": call_of(function={"name": "get_ticker", "arguments": {"symbol": "BTCUSDT"}}),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_is_no_stream_of_chunks_is_a_model_that_failed(case: str) -> None:
    with pytest.raises(RefusalError) as failed:
        await turn_of(answering(UNREADABLE[case]))
    assert failed.value.refusal.code is ReasonCode.COPILOT_MODEL_FAILED
    assert "Check which protocol it speaks" in failed.value.refusal.message


@pytest.mark.parametrize(
    ("prompt", "completion", "counted"),
    [
        (7, 5, Usage(7, 5)),
        (-7, 5, Usage()),
        (7, -5, Usage()),
        (1.5, 5, Usage()),
        ("x", 5, Usage()),
        (None, 5, Usage()),
        (10**30, 5, Usage()),
    ],
    ids=str,
)
async def test_a_use_that_cant_be_is_as_one_that_wasnt_reported(prompt: Any, completion: Any, counted: Usage) -> None:
    told = chunk_of(usage={"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 1})
    assert (await turn_of(answering(said("hi"), told))).usage == counted


def test_half_a_provider_is_an_error_that_names_the_cure() -> None:
    settings = Settings(home=Path("/nonexistent"), copilot={"provider_base_url": "http://localhost:1"})
    with pytest.raises(ConfigurationError, match="provider_model"):
        Copilot(settings, House().gateway, IDS, SystemClock())


def budgeted(base_url: str, house: House, tokens: int) -> tuple[Copilot, Budgets, InProcessBudgetLedger]:
    text = text_with().replace("tokens = 5000000", f"tokens = {tokens}")
    ledger = InProcessBudgetLedger()
    budgets = Budgets(ledger, "test", SystemClock())
    settings = Settings(home=Path("/nonexistent"), copilot={"provider_base_url": base_url, "provider_model": "m"})
    budget = ModelBudget(budgets, load_policy(text, "policy.toml", TOOLS))
    return Copilot(settings, house.gateway, IDS, SystemClock(), budget=budget), budgets, ledger


async def test_what_the_provider_reports_is_counted_towards_the_days_tokens() -> None:
    async with serving(PlannerApp(IDS, SystemClock())) as base_url:
        copilot, budgets, ledger = budgeted(base_url, House(), 5_000_000)
        outcome = (await ask(copilot, "what is the spread on BTCUSDT?")).outcome
        await budgets.close()
        await copilot.close()
    assert outcome.usage.input_tokens + outcome.usage.output_tokens > 0
    used = {key.scope: used for key, used in ledger._used.items()}
    assert used[Scope.USER_DAY] == used[Scope.RUN] == outcome.usage.input_tokens + outcome.usage.output_tokens


async def test_a_provider_is_not_asked_once_the_days_tokens_are_used_up() -> None:
    asked = 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await failing(500)(scope, receive, send)

    async with serving(counting) as base_url:
        copilot, budgets, ledger = budgeted(base_url, House(), 1)
        outcome = (await ask(copilot, "what is the spread on BTCUSDT?")).outcome
        await budgets.close()
        await copilot.close()
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.COPILOT_BUDGET_EXCEEDED
    assert (asked, sum(ledger._used.values())) == (0, 0)


async def test_a_provider_that_was_never_reached_has_cost_nothing() -> None:
    async with serving(failing(500)) as base_url:
        copilot, budgets, ledger = budgeted(base_url, House(), 5_000_000)
        outcome = (await ask(copilot, "what is the spread on BTCUSDT?")).outcome
        await budgets.close()
        await copilot.close()
    assert outcome.status == "finished"
    assert sum(used for key, used in ledger._used.items() if key.measure == "tokens") == 0
