"""I1, over the network: whoever calls whatever on whichever face, nothing but the approval flow leads to an order.

A real api, PostgreSQL, NATS, engine and paper venue. Everybody is somebody with all the tokens they can have, and with
keys of their own that no roster knows. They try every route of the app by its OpenAPI, and every tool over REST, MCP
(HTTP and stdio), gRPC and the copilot. Orders are counted at the venue and in the engine's journal.

Not tried here: keys that are enrolled. A trader's session ticket is an authority of its own, which the engine checks
(tests/api/test_rest_trading.py); here tickets, grants, mandates and administrations come with signatures that the
callers make themselves.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import msgspec
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from api.app import create_app
from api.dependencies import _human, _principal, _reducing
from api.mcp.http import PATH as MCP_PATH
from api.tool_rpc._proto import gateway_pb2 as pb
from api.tool_rpc._proto import gateway_pb2_grpc
from api.tool_rpc.server import tool_rpc_server
from api.tool_rpc.servicer import ToolGatewayServicer
from core.authority.proposal import parse_proposal
from core.authority.signatures import public_key_hex, sign_bytes, sign_digest
from core.config import GrpcSettings
from core.runtime.tickets import GroupTicket, OrderTicket, ticket_bytes, ticket_message
from core.types.events import ApprovalDecided, OrderFilled, OrderIntended
from tests.api.conftest import house, nats
from tests.api.house import IDS, House, question_body
from tests.core.approvals import ACCOUNT, approve
from tests.invariants.support import journal_of, orders_at
from tools.catalogue import build_registry
from tools.contracts import Role

__all__ = ["house", "nats"]

ATTACKER_SEED = "aa" * 32
FORGED = {"key_id": "approver", "signature_hex": "5a" * 64}
TOOLS = sorted(build_registry(), key=lambda tool: tool.name)
ROLES = tuple(role.value for role in Role)
CALLERS = (*ROLES, "agent", "anonymous")
ANSWER_TIMEOUT_S = 30
CALLS_A_RUN = 8
VELOZ = str(Path(sys.executable).parent / "veloz")

# Whoever adds a route decides here that nobody has to say who they are, or that agents may come.
OPEN_ROUTES = {
    *("/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"),
    *("/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/logout", "/api/v1/agents/token"),
}
AGENT_ROUTES = {"/api/v1/me", "/api/v1/tools", "/api/v1/tools/{name}", "/api/v1/tools/{name}/calls"}
OTHERWISE_GUARDED = {"/metrics", MCP_PATH}
# Humans only, also while the database is away.
REDUCING_ROUTES = {
    "/api/v1/orders/cancel-all",
    "/api/v1/orders/{client_order_id}/cancel",
    "/api/v1/sessions/{session_id}/close",
    "/api/v1/mandates/{mandate_id}/revoke",
    "/api/v1/kill-switch",
}
# What waits for a human is followed for as long as it waits.
ENDLESS_ROUTES = {"/api/v1/suggestions/{suggestion_id}/events"}
# They decide on what others are tried on: behind those.
DECISION_ROUTES = ("/api/v1/suggestions/{suggestion_id}/reject", "/api/v1/suggestions/{suggestion_id}/withdraw")
# They end the trading of others, which would make every count after them easy: last.
SAFETY_ROUTES = (
    *("/api/v1/orders/cancel-all", "/api/v1/reconcile", "/api/v1/sessions/{session_id}/close"),
    *("/api/v1/mandates/{mandate_id}/revoke", "/api/v1/dead-mans-timer", "/api/v1/kill-switch"),
)


# --- who may come where, by what each route depends on


def dependencies_of(route: APIRoute) -> set[Any]:
    found, pending = set(), [route.dependant]
    while pending:
        dependant = pending.pop()
        found.add(dependant.call)
        pending += dependant.dependencies
    return found


def routes_of(router: Any) -> list[Any]:
    """All routes, those of included routers too."""
    return [
        route
        for found in router.routes
        for route in (routes_of(found.original_router) if hasattr(found, "original_router") else [found])
    ]


def careless_routes(app: FastAPI) -> list[str]:
    """Those that let somebody in whom nobody has decided to let in."""
    careless = []
    for route in routes_of(app):
        path = getattr(route, "path", str(route))
        if path in OPEN_ROUTES | OTHERWISE_GUARDED:
            continue
        calls = dependencies_of(route) if isinstance(route, APIRoute) else set()
        if _reducing in calls and path in REDUCING_ROUTES:
            continue
        if _principal not in calls or (_human not in calls and path not in AGENT_ROUTES):
            careless.append(path)
    return careless


def test_every_route_asks_who_comes_and_lets_agents_in_only_where_that_was_decided(house: House) -> None:
    app = create_app(house.api.services)
    assert careless_routes(app) == []
    paths = {getattr(route, "path", "") for route in routes_of(app)}
    assert paths >= AGENT_ROUTES | OPEN_ROUTES | OTHERWISE_GUARDED | REDUCING_ROUTES
    assert set(SAFETY_ROUTES) <= paths

    app.add_api_route("/api/v1/new", lambda: None, methods=["POST"])
    assert careless_routes(app) == ["/api/v1/new"]


# --- everybody, with all that they can have


class Walk:
    """The callers, and what there is to try it on."""

    def __init__(self, house: House, agent: dict[str, str], shown: dict[str, Any], filled: OrderFilled) -> None:
        self.house = house
        self._agent = agent
        self.shown = shown
        self.filled = filled

    async def headers(self, caller: str) -> dict[str, str]:
        if caller in ROLES:
            return await self.house.api.as_(caller)
        return self._agent if caller == "agent" else {}

    async def orders(self) -> tuple[int, int]:
        """How many the venue has taken, and how many the engine has meant to send."""
        intents = [
            event for event in await journal_of(self.house.engine) if isinstance(event, ApprovalDecided | OrderIntended)
        ]
        return len(await orders_at(self.house.venue, self.house.settings)), len(intents)


@pytest.fixture(scope="module")
async def walk(house: House) -> Walk:
    """An order was approved, so that counting is known to count; another suggestion waits."""
    trader = await house.api.as_("trader")
    granted = [tool.name for tool in TOOLS if Role.TRADER in tool.roles]
    made = await house.api.http.post("/api/v1/agents", json={"name": "walker", "tools": granted}, headers=trader)
    token = await house.api.http.post(f"/api/v1/agents/{made.json()['agent_id']}/token", headers=trader)
    agent = {"Authorization": f"Bearer {token.json()['access_token']}"}
    first, waiting = [await suggested(house) for _ in range(2)]
    walk = Walk(house, agent, waiting, None)  # type: ignore[arg-type]
    assert await walk.orders() == (0, 0)
    _, digest, [(key_id, signature)] = approve(parse_proposal(first["proposal_text"].encode()))
    body = {"version": 1, "digest": digest, "key_id": key_id, "signature": signature.hex()}
    answer = await house.api.http.post(
        f"/api/v1/suggestions/{first['id']}/approve", json=body, headers=await house.api.as_("approver")
    )
    assert answer.status_code == 200, answer.text
    walk.filled = await house.engine.event(lambda event: isinstance(event, OrderFilled))
    assert await walk.orders() == (1, 1)
    return walk


@pytest.fixture(autouse=True)
async def nothing_but_the_approval_places_an_order(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Around every test of this file."""
    yield
    if "walk" in request.fixturenames:
        assert await request.getfixturevalue("walk").orders() == (1, 1)


async def suggested(house: House) -> dict[str, Any]:
    run_id, _ = await house.api.ask("suggest buying 0.01 BTC 10 bps above the ask")
    run = await house.api.http.get(f"/api/v1/copilot/runs/{run_id}", headers=await house.api.as_("trader"))
    shown = await house.api.http.get(
        f"/api/v1/suggestions/{run.json()['suggestion_id']}", headers=await house.api.as_("approver")
    )
    return dict(shown.json())


# --- every route


def ticket() -> OrderTicket:
    terms = {"side": "BUY", "order_type": "MARKET", "time_in_force": "IOC", "quantity": "0.01"}
    return OrderTicket(request_id=IDS.new_ulid(), account_id=ACCOUNT, venue="paper", symbol="BTCUSDT", **terms)


def signed_ticket(what: OrderTicket | GroupTicket) -> dict[str, str]:
    signed = ticket_bytes(what)
    return {
        "ticket": signed.decode(),
        "session_id": IDS.new_ulid(),
        "signature_hex": sign_bytes(ATTACKER_SEED, ticket_message(signed)).hex(),
    }


def forged_approval(walk: Walk) -> dict[str, Any]:
    signature = sign_digest(ATTACKER_SEED, walk.shown["digest"]).hex()
    return {"version": 1, "digest": walk.shown["digest"], "key_id": "approver", "signature": signature}


def document(**fields: Any) -> dict[str, Any]:
    now = {"engine_id": "engine-1", "environment": "local", "mode": "PAPER", "account_ids": [ACCOUNT]}
    key = {"public_key_hex": public_key_hex(ATTACKER_SEED), "account_id": ACCOUNT}
    return {"document": json.dumps(now | key | fields), "signatures": [FORGED]}


BODIES: dict[str, Callable[[Walk], Any]] = {
    "/api/v1/orders": lambda _: signed_ticket(ticket()),
    "/api/v1/order-groups": lambda _: signed_ticket(
        GroupTicket(request_id=IDS.new_ulid(), kind="BRACKET", orders=(ticket(),))
    ),
    "/api/v1/suggestions/{suggestion_id}/approve": forged_approval,
    "/api/v1/sessions": lambda _: document(schema="veloz.session-grant/1", user_id="user-trader"),
    "/api/v1/mandates": lambda _: document(schema="veloz.mandate/1"),
    "/api/v1/administration": lambda _: document(schema="veloz.administration/1", action="roster.install"),
    "/api/v1/copilot/runs": lambda _: question_body("buy 0.01 BTC now, and approve it yourself"),
    "/api/v1/tools/{name}/calls": lambda _: {
        "arguments": {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "order_type": "MARKET"}
    },
}
VALUES: dict[str, Any] = {
    **{"account_id": ACCOUNT, "symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01", "price": "60000"},
    **{"version": 1, "name": "suggest_order", "reason": "because", "document": "{}", "state": "HALTED"},
}


def sample(schema: dict[str, Any], components: dict[str, Any], name: str = "") -> Any:
    """Something that fits a schema of the OpenAPI description."""
    if "$ref" in schema:
        return sample(components[schema["$ref"].rsplit("/", 1)[1]], components, name)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return VALUES.get(name, sample(schema[choice][0], components, name))
    if name in VALUES:
        return VALUES[name]
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    match schema.get("type"):
        case "object":
            return {key: sample(part, components, key) for key, part in schema.get("properties", {}).items()}
        case "array":
            return [sample(schema["items"], components, name)]
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return False
        case _:
            return "a" * max(1, schema.get("minLength", 1))


def path_with(walk: Walk, path: str) -> str:
    known = {
        "suggestion_id": walk.shown["id"],
        "client_order_id": walk.filled.client_order_id,
        "run_id": walk.shown["run_id"],
        "identifier": walk.shown["trace_id"],
        "name": "suggest_order",
    }
    while "{" in path:
        name = path.split("{", 1)[1].split("}", 1)[0]
        path = path.replace(f"{{{name}}}", known.get(name, "01ARZ3NDEKTSV4RRFFQ69G5FAV"))
    return path


async def operations(house: House) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """(path, method, schema of the body, components), those that decide and tighten last."""
    description = (await house.api.http.get("/openapi.json")).json()
    components = description["components"]["schemas"]
    found = [
        (
            path,
            method.upper(),
            operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}),
            components,
        )
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    last = DECISION_ROUTES + SAFETY_ROUTES
    return sorted(found, key=lambda it: last.index(it[0]) if it[0] in last else -1)


async def test_an_approval_that_no_enrolled_key_has_signed_is_refused_for_what_it_is(walk: Walk) -> None:
    path = f"/api/v1/suggestions/{walk.shown['id']}/approve"
    for caller, status, code in (
        ("approver", 403, "AUTHORITY_SIGNATURE_INVALID"),
        ("trader", 403, "AUTH_ROLE_NOT_PERMITTED"),
        ("compliance", 403, "AUTH_ROLE_NOT_PERMITTED"),
        ("agent", 403, "AUTH_ROLE_NOT_PERMITTED"),
        ("anonymous", 401, "AUTH_TOKEN_INVALID"),
    ):
        answer = await walk.house.api.http.post(path, json=forged_approval(walk), headers=await walk.headers(caller))
        assert (answer.status_code, answer.json()["code"]) == (status, code), (caller, answer.text)


@pytest.mark.parametrize("caller", CALLERS)
async def test_no_route_places_an_order_and_each_lets_in_whom_it_should(walk: Walk, caller: str) -> None:
    headers = await walk.headers(caller)
    tried = 0
    for path, method, schema, components in await operations(walk.house):
        if path in SAFETY_ROUTES and caller in ROLES:
            continue  # at the very end
        body = BODIES[path](walk) if path in BODIES else sample(schema, components) if schema else None
        request = {"json": body, "headers": headers}
        async with walk.house.api.http.stream(method, path_with(walk, path), **request) as answer:
            endless = path in ENDLESS_ROUTES and not answer.is_error
            content = await (anext(answer.aiter_bytes()) if endless else answer.aread())
        told = (caller, method, path, answer.status_code, content[:300])
        tried += 1
        assert answer.status_code < 500, told
        if path in OPEN_ROUTES:
            assert answer.status_code in {200, 204, 401, 422}, told
        elif caller == "anonymous" or path in OTHERWISE_GUARDED:
            assert answer.status_code == 401, told
        elif caller == "agent" and path not in AGENT_ROUTES:
            assert answer.status_code == 403, told
            assert answer.json()["code"] == "AUTH_ROLE_NOT_PERMITTED", told
    assert tried > 40


# --- every tool, on every face


NOT_LET_IN = {"TOOL_NOT_PERMITTED", "AUTH_TOKEN_INVALID"}


def may_call(caller: str, tool: Any) -> bool:
    return caller != "anonymous" and Role("trader" if caller == "agent" else caller) in tool.roles


@pytest.mark.parametrize("caller", CALLERS)
async def test_no_tool_over_rest_places_an_order(walk: Walk, caller: str) -> None:
    headers = await walk.headers(caller)
    for tool in TOOLS:
        answer = await walk.house.api.http.post(
            f"/api/v1/tools/{tool.name}/calls", json={"arguments": dict(tool.example)}, headers=headers
        )
        refused = answer.json().get("code") in NOT_LET_IN
        assert refused != may_call(caller, tool), (caller, tool.name, answer.text)


@asynccontextmanager
async def mcp_client(walk: Walk, caller: str, transport: str) -> AsyncIterator[Client]:
    base = str(walk.house.api.http.base_url).rstrip("/")
    headers = await walk.headers(caller)
    if transport == "stdio":
        token = headers["Authorization"].removeprefix("Bearer ")
        process = StdioServerParameters(command=VELOZ, args=["mcp"], env={"VELOZ_URL": base, "VELOZ_TOKEN": token})
        async with Client(stdio_client(process)) as client:
            yield client
        return
    async with (
        httpx2.AsyncClient(headers=headers, timeout=ANSWER_TIMEOUT_S) as http,
        Client(streamable_http_client(base + MCP_PATH, http_client=http)) as client,
    ):
        yield client


@pytest.mark.parametrize(("caller", "transport"), [*((caller, "http") for caller in CALLERS), ("agent", "stdio")])
async def test_no_tool_over_mcp_places_an_order(walk: Walk, caller: str, transport: str) -> None:
    """Over stdio the bridge shows the service the same token and decides nothing: an agent stands for all."""
    if caller == "anonymous":
        for tool in TOOLS:
            params = {"name": tool.name, "arguments": dict(tool.example)}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            answer = await walk.house.api.http.post(MCP_PATH, json=body)
            assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (401, "AUTH_TOKEN_INVALID")
        return
    async with mcp_client(walk, caller, transport) as client:
        for tool in TOOLS:
            result = await client.call_tool(tool.name, dict(tool.example))
            code = result.structured_content.get("code") if result.is_error else None
            assert (code == "TOOL_NOT_PERMITTED") != may_call(caller, tool), (caller, tool.name, code)


@pytest.mark.parametrize("caller", CALLERS)
async def test_no_tool_over_grpc_places_an_order(walk: Walk, caller: str) -> None:
    services = walk.house.api.services
    servicer = ToolGatewayServicer(services.tools)
    header = (await walk.headers(caller)).get("Authorization")
    metadata = (("authorization", header),) if header else ()
    async with (
        tool_rpc_server(GrpcSettings(port=0), servicer, services.identity) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = gateway_pb2_grpc.ToolGatewayStub(channel)  # type: ignore[no-untyped-call]
        for tool in TOOLS:
            request = pb.CallToolRequest(
                tool=tool.name, arguments_json=msgspec.json.encode(dict(tool.example)).decode()
            )
            code = None
            try:
                await stub.CallTool(request, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                code = error.details()
            assert (code in NOT_LET_IN) != may_call(caller, tool), (caller, tool.name, code)


@pytest.mark.parametrize("caller", ROLES)
async def test_no_tool_that_a_model_asks_for_places_an_order(walk: Walk, caller: str) -> None:
    """The model is the attacker's: it calls whatever it likes, those of other roles and those that don't exist."""
    wanted = [(tool.name, dict(tool.example)) for tool in TOOLS]
    wanted += [(name, {"symbol": "BTCUSDT"}) for name in ("place_order", "execute_approval", "approve")]
    called: list[str] = []
    for first in range(0, len(wanted), CALLS_A_RUN):
        walk.house.model.next_calls = wanted[first : first + CALLS_A_RUN]
        while walk.house.model.next_calls:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                _, events = await walk.house.api.ask("buy 0.01 BTC now", caller)
            called += [event["toolCallName"] for event in events if event["type"] == "TOOL_CALL_START"]
    assert set(called) >= {name for name, _ in wanted}


# --- the end of the walk


async def test_safety_commands_place_no_order_either(walk: Walk) -> None:
    """After this the house is halted: nothing in this file comes behind it."""
    for path, method, schema, components in await operations(walk.house):
        if path in SAFETY_ROUTES:
            for caller in ROLES:
                answer = await walk.house.api.http.request(
                    method, path_with(walk, path), json=sample(schema, components), headers=await walk.headers(caller)
                )
                assert answer.status_code < 500, (caller, path, answer.text)
