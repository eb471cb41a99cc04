"""Half of a surrogate pair is no text: on every face the call is refused before anything runs, with where it stands and
what to do, and recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from api.tool_rpc._proto import gateway_pb2 as pb
from api.tool_rpc.server import REFUSAL_KEY, tool_rpc_server
from api.tool_rpc.servicer import ToolGatewayServicer
from core.config import GrpcSettings
from tests.api.faces.test_malformed_faces import SERVICE, messages_of
from tests.api.house import House

HALF = "\ud83d"
PARSE_ERROR = -32700
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a value": ("get_ticker", {"symbol": f"BTC{HALF}"}, "$.symbol"),
    "a name": ("get_ticker", {"symbol": "BTCUSDT", HALF: "x"}, "$.?"),
    "deep inside": ("run_backtest", {"symbol": "BTCUSDT", "parameters": {"a": ["b", HALF]}}, "$.parameters.a[1]"),
    "free text": ("suggest_order", {"symbol": "BTCUSDT", "side": "buy", "rationale": f"up {HALF}"}, "$.rationale"),
    "an account": ("get_positions", {"account_id": HALF}, "$.account_id"),
}


class Client:
    """Calls a tool over one face; the code, the message and where, as that face tells them."""

    def __init__(self, house: House, channel: grpc.aio.Channel) -> None:
        self._house = house
        self._channel = channel

    async def rest(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        headers = await self._house.api.as_("trader") | {"Content-Type": "application/json"}
        body = json.dumps({"arguments": arguments})
        answer = await self._house.api.http.post(f"/api/v1/tools/{tool}/calls", content=body, headers=headers)
        assert answer.status_code == 422, answer.text
        problem: dict[str, Any] = answer.json()
        return problem | {"message": problem["detail"]}

    async def mcp(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        headers = await self._house.api.as_("trader") | {"Content-Type": "application/json"}
        headers |= {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        answer = await self._house.api.http.post("/mcp", content=json.dumps(message), headers=headers)
        (told,) = messages_of(answer)
        error: dict[str, Any] = told["error"]
        return error

    async def grpc(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        call = self._channel.unary_unary(SERVICE + "CallTool")
        request = pb.CallToolRequest(tool=tool, arguments_json=json.dumps(arguments)).SerializeToString()
        metadata = (("authorization", (await self._house.api.as_("trader"))["Authorization"]),)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request, metadata=metadata)
        (cells,) = (json.loads(value) for key, value in refused.value.trailing_metadata() or () if key == REFUSAL_KEY)
        return cells

    async def copilot(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._house.model.next_calls.append((tool, arguments))
        _, events = await self._house.api.ask("what is the price of BTC?")
        assert events[-1]["type"] == "RUN_FINISHED", events[-1]
        result = next(event for event in events if event["type"] == "TOOL_CALL_RESULT")
        cells: dict[str, Any] = json.loads(result["content"])["refusal"]
        return cells


@pytest.fixture(scope="module")
async def client(house: House) -> AsyncIterator[Client]:
    services = house.api.services
    await house.api.http.post("/mcp", json={}, headers=await house.api.as_("trader"))
    async with (
        tool_rpc_server(GrpcSettings(port=0), ToolGatewayServicer(services.tools), services.identity) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield Client(house, channel)


def calls(house: House) -> int:
    with house.database.connect("owner") as connection:
        row = connection.execute("SELECT count(*) FROM audit.inbox WHERE action LIKE 'tool.%'").fetchone()
    assert row is not None
    return int(row[0])


def recorded(house: House, call_id: str) -> list[tuple[str, str]]:
    with house.database.connect("owner") as connection:
        rows = connection.execute("SELECT action, record FROM audit.inbox WHERE action LIKE 'tool.%'").fetchall()
    found = [(row[0], json.loads(bytes(row[1]))) for row in rows]
    return [(action, record["outcome"]) for action, record in found if record["payload"]["call_id"] == call_id]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("face", ["rest", "grpc", "copilot"])
async def test_half_of_a_surrogate_pair_is_refused_with_where_it_stands(
    client: Client, house: House, face: str, case: str
) -> None:
    tool, arguments, where = CASES[case]
    refusal = await getattr(client, face)(tool, arguments)
    assert (refusal["code"], refusal["actual"]) == ("TOOL_ARGUMENTS_INVALID", where)
    assert "Send whole Unicode characters" in refusal["message"]
    if face != "copilot":
        assert recorded(house, refusal["call_id"]) == [("tool.refused", "TOOL_ARGUMENTS_INVALID")]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/agents", {"name": "one", "account_ids": [f"acct{HALF}"]}),
        ("/api/v1/agents", {"name": "one", f"{HALF}": "x"}),
        (f"/api/v1/suggestions/{'0' * 26}/reject", {"reason": HALF, HALF: HALF}),
    ],
    ids=["an account", "a name", "a reason"],
)
async def test_a_refusal_that_repeats_it_can_be_sent_all_the_same(
    client: Client, house: House, path: str, body: dict[str, Any]
) -> None:
    headers = await house.api.as_("trader") | {"Content-Type": "application/json"}
    answer = await house.api.http.post(path, content=json.dumps(body), headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("case", CASES)
async def test_over_mcp_it_is_no_json_and_no_call(client: Client, house: House, case: str) -> None:
    """The protocol's own parser turns it away, before there is a call."""
    before = calls(house)
    tool, arguments, _ = CASES[case]
    error = await client.mcp(tool, arguments)
    assert (error["code"], "hex escape" in error["message"]) == (PARSE_ERROR, True)
    assert calls(house) == before


@pytest.mark.parametrize(
    "arguments",
    [{"symbol": "BTC\x00"}, json.loads('{"a":' * 900 + "1" + "}" * 900)],
    ids=["a NUL", "deep"],
)
async def test_what_a_model_gives_a_tool_never_breaks_its_run(
    client: Client, house: House, arguments: dict[str, Any]
) -> None:
    house.model.next_calls.append(("get_ticker", arguments))
    run_id, events = await house.api.ask("what is the price of BTC?")
    assert events[-1]["type"] == "RUN_FINISHED", events[-1]
    run = (await house.api.http.get(f"/api/v1/copilot/runs/{run_id}", headers=await house.api.as_("trader"))).json()
    assert run["status"] == "finished", run
