"""The api on a real socket: uvicorn, PostgreSQL, NATS, engine and venue, and a model that a test can hold up."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from argon2 import PasswordHasher

from agent.planner.app import PlannerApp
from api.app import create_app
from api.services import Services, open_services
from api.supervisor.nats import EmbeddedNats
from core.config import Settings
from core.types.clock import SystemClock
from core.types.ids import SystemIdSource
from core.venues.paper.server import PaperVenue
from tests.core.engine_support import NO_NATS, RunningEngine, make_home, settings_for
from tests.postgres import PostgresDatabase, PostgresServer

IDS = SystemIdSource()
PASSWORD = "correct horse battery staple"
CHEAP_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
USERS = {"trader": "trader", "approver": "approver", "compliance": "compliance"}
TIMEOUT_S = 60


class HeldModel:
    """A Chat Completions server: the planner's answers, but only while `go` is set. Keeps every request's body."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.asked = asyncio.Event()
        self.bodies: list[bytes] = []
        self.next_calls: list[tuple[str, dict[str, Any]]] = []
        self._planner = PlannerApp(IDS, SystemClock())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        messages = []
        body = b""
        while True:
            message = await receive()
            messages.append(message)
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        self.asked.set()
        await self.go.wait()
        if self.next_calls:
            await _answer_with_call(send, *self.next_calls.pop(0))
            return

        async def replay() -> Any:
            return messages.pop(0) if messages else await receive()

        await self._planner(scope, replay, send)


async def _answer_with_call(send: Any, tool: str, arguments: dict[str, Any]) -> None:
    function = {"name": tool, "arguments": json.dumps(arguments)}
    delta = {
        "role": "assistant",
        "tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": function}],
    }
    choice = {"index": 0, "delta": delta, "finish_reason": "tool_calls"}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "held-model", "choices": [choice]}
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()})


class Event(dict[str, Any]):
    """An AG-UI event as it came, with its SSE id."""

    sse_id: str


class Api:
    """A client of one running api."""

    def __init__(self, services: Services, http: httpx2.AsyncClient) -> None:
        self.services = services
        self.http = http
        self._tokens: dict[str, str] = {}

    async def as_(self, username: str) -> dict[str, str]:
        """The headers of a logged-in user."""
        if username not in self._tokens:
            answer = await self.http.post("/api/v1/auth/login", json={"username": username, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            self._tokens[username] = answer.json()["access_token"]
        return {"Authorization": f"Bearer {self._tokens[username]}"}

    async def ask(self, question: str, username: str = "trader") -> tuple[str, list[Event]]:
        """A whole run: its id and its events."""
        body = question_body(question)
        async with self.http.stream(
            "POST", "/api/v1/copilot/runs", json=body, headers=await self.as_(username)
        ) as answer:
            assert answer.status_code == 200, await answer.aread()
            return body["runId"], [event async for event in events_of(answer)]


def question_body(question: str, run_id: str | None = None) -> dict[str, Any]:
    """AG-UI's RunAgentInput."""
    return {
        "threadId": IDS.new_ulid(),
        "runId": run_id or IDS.new_ulid(),
        "state": {},
        "messages": [{"id": IDS.new_ulid(), "role": "user", "content": question}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }


async def events_of(answer: httpx2.Response) -> AsyncIterator[Event]:
    """An SSE stream's events, read by hand as the specification says."""
    sse_id, data = "", []
    async for line in answer.aiter_lines():
        if line.startswith("id:"):
            sse_id = line.removeprefix("id:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").strip())
        elif not line and data:
            event = Event(json.loads("\n".join(data)))
            event.sse_id = sse_id
            yield event
            sse_id, data = "", []


class House:
    """What runs beside the api."""

    def __init__(
        self,
        api: Api,
        engine: RunningEngine,
        venue: PaperVenue,
        model: HeldModel,
        settings: Settings,
        database: PostgresDatabase,
    ) -> None:
        self.api = api
        self.engine = engine
        self.venue = venue
        self.model = model
        self.settings = settings
        self.database = database


@asynccontextmanager
async def open_house(home: Path, postgres: PostgresDatabase, nats_url: str, nats_token: str) -> AsyncIterator[House]:
    """Everything, with the demo's users, who all have PASSWORD."""
    make_home(home)
    postgres.settings(home)
    (home / "secrets" / "nats.token").write_text(nats_token)
    seed_users(postgres)
    model = HeldModel()
    async with AsyncExitStack() as stack:
        venue = await stack.enter_async_context(PaperVenue.from_settings(settings_for(home, VELOZ_VENUE__PORT="0")))
        model_url = await stack.enter_async_context(serving(model))
        settings = settings_for(
            home,
            VELOZ_VENUE__REST_URL=venue.base_url,
            VELOZ_VENUE__WEBSOCKET_URL=venue.websocket_url,
            VELOZ_DATABASE__URL=postgres.url,
            VELOZ_NATS__URL=nats_url,
            VELOZ_COPILOT__PROVIDER_BASE_URL=f"{model_url}/v1",
            VELOZ_COPILOT__PROVIDER_MODEL="held-model",
        )
        engine = RunningEngine(settings)
        await engine.start()
        stack.push_async_callback(engine.close)
        api = await stack.enter_async_context(running_api(settings))
        async with asyncio.timeout(TIMEOUT_S):
            while (await api.http.get("/readyz")).status_code != 200:
                pass
        yield House(api, engine, venue, model, settings, postgres)
        model.go.set()


def embedded_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """For a fixture: an embedded NATS, its URL and token."""
    folder = tmp_path_factory.mktemp("nats")
    server = EmbeddedNats(folder / "data", folder / "secrets")
    server.start()
    yield server.url, (folder / "secrets" / "nats.token").read_text().strip()
    server.stop()


async def house_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, nats: tuple[str, str]
) -> AsyncIterator[House]:
    """For a fixture: a running api with a database of its own."""
    database = postgres_server.create_database()
    folder: Path = tmp_path_factory.mktemp("house")
    async with open_house(folder / "home", database, *nats) as opened:
        yield opened
    postgres_server.drop_database(database)


@asynccontextmanager
async def running_api(settings: Settings) -> AsyncIterator[Api]:
    """The api over these settings on a free port."""
    async with (
        open_services(settings) as services,
        serving(create_app(services)) as url,
        httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http,
    ):
        loading = asyncio.create_task(services.load())
        yield Api(services, http)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)


def without_nats(settings: Settings) -> Settings:
    return settings.model_copy(update={"nats": settings.nats.model_copy(update={"url": NO_NATS})})


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """An app on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


def seed_users(postgres: PostgresDatabase) -> None:
    """The demo tenancy, with passwords."""
    postgres.seed_demo_tenancy()
    with postgres.connect("owner") as connection:
        connection.execute("UPDATE users SET password_hash = %s", [CHEAP_HASHER.hash(PASSWORD)])


def assert_problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """RFC 9457, with our stable code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= problem.keys()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:veloz:problem:{code.lower()}"
    return problem
