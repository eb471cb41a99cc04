"""The model that an agent runs on: named by its owner, the same on every face, and nobody else's to say.

Invariant: what a call says of its model comes from the agent's row alone; no header, argument or token changes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import msgspec
import psycopg
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from api.tool_rpc._proto import gateway_pb2 as pb
from api.tool_rpc._proto import gateway_pb2_grpc
from api.tool_rpc.server import tool_rpc_server
from api.tool_rpc.servicer import ToolGatewayServicer
from api.tools.service import ToolService
from core.config import GrpcSettings
from core.types.codes import ReasonCode
from tests.api.house import IDS, House, assert_problem
from tests.tools.doubles import House as GatewayHouse
from tests.tools.people import TRADER
from tests.tools.policies import TOOLS, policy_with
from tools.contracts import Principal
from tools.policy import Policy

TICKER = {"symbol": "BTCUSDT"}
PROVIDER, MODEL = "https://models.example/v1", "good-1"
CLAIMED = {"model": "other", "provider": "other", "veloz-model": "other"}
VELOZ = str(Path(sys.executable).parent / "veloz")
ONE_MODEL = f"""
[[model]]
name = "one model reads"
providers = ["{PROVIDER}"]
models = ["{MODEL}"]
tools = ["get_ticker"]
"""


def only_one_model() -> Policy:
    """The default policy with ONE_MODEL instead of its section for any model."""
    document = policy_with(ONE_MODEL).document
    kept = tuple(section for section in document.model if section.name == "one model reads")
    return Policy(msgspec.structs.replace(document, model=kept), "d", TOOLS)


@pytest.fixture(autouse=True)
async def tidy(house: House) -> AsyncIterator[None]:
    """One person may have so many agents."""
    yield
    with house.database.connect("owner") as connection:
        connection.execute("UPDATE agents SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL")


async def agent(house: House, **body: str) -> tuple[str, str]:
    """Its id and a token."""
    headers = await house.api.as_("trader")
    name = {"name": f"m-{IDS.new_ulid()[-12:].lower()}"}
    made = await house.api.http.post("/api/v1/agents", json=name | body, headers=headers)
    assert made.status_code == 201, made.text
    agent_id = made.json()["agent_id"]
    token = await house.api.http.post(f"/api/v1/agents/{agent_id}/token", headers=headers)
    return agent_id, token.json()["access_token"]


async def over_rest(house: House, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} | CLAIMED
    answer = await house.api.http.post("/api/v1/tools/get_ticker/calls", json={"arguments": TICKER}, headers=headers)
    assert answer.status_code == 200, answer.text


async def over_mcp(house: House, token: str) -> None:
    address = f"{str(house.api.http.base_url).rstrip('/')}/mcp"
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"} | CLAIMED, timeout=60) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        assert not (await client.call_tool("get_ticker", TICKER)).is_error


async def over_stdio(house: House, token: str) -> None:
    environment = {"VELOZ_URL": str(house.api.http.base_url).rstrip("/"), "VELOZ_TOKEN": token}
    process = StdioServerParameters(command=VELOZ, args=["mcp"], env=environment)
    async with Client(stdio_client(process)) as client:
        assert not (await client.call_tool("get_ticker", TICKER)).is_error


async def over_grpc(house: House, token: str) -> None:
    services = house.api.services
    async with (
        tool_rpc_server(GrpcSettings(port=0), ToolGatewayServicer(services.tools), services.identity) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = gateway_pb2_grpc.ToolGatewayStub(channel)  # type: ignore[no-untyped-call]
        request = pb.CallToolRequest(tool="get_ticker", arguments_json=json.dumps(TICKER))
        metadata = (("authorization", f"Bearer {token}"), *CLAIMED.items())
        await stub.CallTool(request, metadata=metadata)


def called(house: House, actor: str) -> dict[str, Any]:
    """The payload of the one call that the agent made."""
    statement = "SELECT record FROM audit.inbox WHERE actor = %s AND action = 'tool.called'"
    with house.database.connect("owner") as connection:
        ((record,),) = connection.execute(statement, [actor]).fetchall()
    payload: dict[str, Any] = json.loads(bytes(record))["payload"]
    return payload


@pytest.mark.parametrize(
    ("face", "body", "named"),
    [
        (over_rest, {"provider": PROVIDER, "model": MODEL}, (PROVIDER, MODEL)),
        (over_mcp, {"provider": PROVIDER, "model": MODEL}, (PROVIDER, MODEL)),
        (over_stdio, {"provider": PROVIDER, "model": MODEL}, (PROVIDER, MODEL)),
        (over_grpc, {"provider": PROVIDER, "model": MODEL}, (PROVIDER, MODEL)),
        (over_rest, {}, ("", "")),
    ],
)
async def test_the_record_of_a_call_names_the_model_that_the_owner_named(
    house: House, face: Callable[[House, str], Awaitable[None]], body: dict[str, str], named: tuple[str, str]
) -> None:
    agent_id, token = await agent(house, **body)
    await face(house, token)
    payload = called(house, agent_id)
    assert (payload["provider"], payload["model"]) == named


@pytest.mark.parametrize(
    "body",
    [
        {"model": MODEL},
        {"provider": PROVIDER},
        {"provider": PROVIDER, "model": "a b"},
        {"provider": "x" * 81, "model": "m"},
    ],
)
async def test_half_a_model_or_one_that_no_policy_could_name_is_refused(house: House, body: dict[str, str]) -> None:
    headers = await house.api.as_("trader")
    answer = await house.api.http.post("/api/v1/agents", json={"name": "half"} | body, headers=headers)
    assert_problem(answer, 422, "REQUEST_INVALID")
    inside = {"name": f"m-{IDS.new_ulid()[-12:].lower()}", "provider": "x" * 80, "model": "m"}
    assert (await house.api.http.post("/api/v1/agents", json=inside, headers=headers)).status_code == 201


async def test_the_model_cant_be_changed_afterwards(house: House) -> None:
    agent_id, _ = await agent(house, provider=PROVIDER, model=MODEL)
    with house.database.connect("api") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("UPDATE agents SET model = 'other' WHERE id = %s", [agent_id])


@pytest.mark.parametrize(
    ("provider", "model", "code"),
    [
        (PROVIDER, MODEL, None),
        (PROVIDER, "good-2", ReasonCode.POLICY_MODEL_NOT_PERMITTED),
        ("other", MODEL, ReasonCode.POLICY_MODEL_NOT_PERMITTED),
        ("", "", ReasonCode.POLICY_MODEL_NOT_PERMITTED),
    ],
)
async def test_the_policys_list_of_models_holds_for_an_agent(
    provider: str, model: str, code: ReasonCode | None
) -> None:
    house = GatewayHouse(policy=only_one_model())
    principal = Principal(
        "agent-1",
        "scout",
        TRADER.role,
        TRADER.account_ids,
        kind="agent",
        on_behalf_of=TRADER.user_id,
        model=model,
        provider=provider,
    )
    result, _ = await ToolService(house.gateway, IDS).call(principal, "get_ticker", TICKER)
    assert (result.refusal and result.refusal.code) == code
