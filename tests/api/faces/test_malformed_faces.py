"""Invariants over whatever a client may send to REST, MCP and gRPC (`make fuzz-gateway` sends 10,000 of them):

- the answer is a result, or an error with a code of the closed list; never a 500, INTERNAL or UNKNOWN;
- what the gateway was asked is what the trail says, call by call: nothing is executed without its record;
- no order is meant or sent.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import grpc.aio
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.tool_rpc._proto import gateway_pb2 as pb
from api.tool_rpc.server import REFUSAL_KEY, tool_rpc_server
from api.tool_rpc.servicer import ToolGatewayServicer
from core.config import GrpcSettings
from core.types.codes import ReasonCode
from core.types.events import ApprovalDecided, OrderIntended
from tests.api.house import House
from tests.invariants.support import journal_of, orders_at
from tools.catalogue import build_registry
from tools.contracts import Role

FACES = 3
LONG = "GATEWAY_FUZZ_CALLS" in os.environ
CALLS = int(os.environ.get("GATEWAY_FUZZ_CALLS", "300"))
SERVICE = "/veloz.gateway.v1.ToolGateway/"
OURS = {ReasonCode.SERVICE_INTERNAL_ERROR, ReasonCode.TOOL_FAILED}
CODES = {code.value for code in ReasonCode} - OURS
MCP_INTERNAL_ERROR = -32603
REGISTRY = {tool.name: tool for tool in build_registry()}
USERS = [role.value for role in Role]

words = st.sampled_from(
    [
        "",
        "BTCUSDT",
        "buy",
        "acct-demo",
        "acct-other",
        "\x00",
        "\ud800",
        "A" * 5_000,
        "1e999",
        "../x",
        "$ref",
        "__proto__",
    ]
)
text = st.text(max_size=30) | words
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | text
    | st.sampled_from([10**400, "0.5", 1, "59000", "-1", "NaN", 2**63, -(2**64)])
)
values = st.recursive(
    scalars, lambda part: st.lists(part, max_size=4) | st.dictionaries(text, part, max_size=4), max_leaves=10
)
deep = st.sampled_from(
    ["[" * 90_000, '{"a":' * 20_000, "[" * 3_000 + "]" * 3_000, "{", "", "null", "[]", "\xff", "1" * 5_000]
)
ids = st.none() | st.integers() | text | st.booleans() | st.lists(st.integers(), max_size=2) | st.floats()
methods = st.sampled_from(
    [
        *("tools/call", "tools/list", "resources/read", "resources/list", "prompts/get", "prompts/list", "ping"),
        *("initialize", "server/discover", "completion/complete", "subscriptions/listen", "notifications/cancelled"),
        *("resources/subscribe", "logging/setLevel", "sampling/createMessage"),
    ]
)
versions = st.sampled_from(["2026-07-28", "2025-11-25", "2025-03-26", "1999-01-01", "", "x"])


@st.composite
def tool_calls(draw: st.DrawFn) -> tuple[str, Any]:
    """A tool's name, or nearly, and arguments that are its own, or nearly."""
    name = draw(st.sampled_from(sorted(REGISTRY)) | text)
    if name not in REGISTRY:
        return name, draw(values)
    tool = REGISTRY[name]
    fields = st.sampled_from(sorted(tool.input_model.model_fields) or ["none"])
    changed = draw(st.dictionaries(fields | text, values, max_size=3))
    return name, draw(st.just(dict(tool.example) | changed) | values)


@st.composite
def json_rpc(draw: st.DrawFn) -> Any:
    """A message, or something like one."""
    name, arguments = draw(tool_calls())
    known = {"name": name, "arguments": arguments, "uri": draw(text | st.just("veloz://instruments/BTCUSDT"))}
    # The envelope that a request of the newest version carries.
    meta = {
        "io.modelcontextprotocol/protocolVersion": draw(versions),
        "io.modelcontextprotocol/clientInfo": {"name": "fuzz", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = draw(st.just(known) | st.just(known | {"_meta": meta}) | values)
    message = {"jsonrpc": "2.0", "id": draw(ids), "method": draw(methods | text), "params": params}
    left_out = draw(st.sets(st.sampled_from(sorted(message)), max_size=1))
    whole = {key: value for key, value in message.items() if key not in left_out}
    return draw(st.just(whole) | st.just(message) | st.lists(st.just(message), max_size=2) | values)


class Faces:
    """Clients that send anything, and what came back."""

    def __init__(self, house: House, channel: grpc.aio.Channel) -> None:
        self.house = house
        self._channel = channel
        self.released: set[str] = set()
        self.codes: Counter[str] = Counter()

    async def rest(self, user: str, tool: str, body: str, traceparent: str) -> None:
        headers = await self.house.api.as_(user) | {"Content-Type": "application/json", "traceparent": traceparent}
        path = f"/api/v1/tools/{quote(tool.encode('utf-8', 'replace'), safe='')}/calls"
        answer = await self.house.api.http.post(path, content=body.encode("utf-8", "replace"), headers=headers)
        if answer.status_code == 200:
            self.released.add(answer.json()["call_id"])
            return
        assert answer.status_code < 500 or answer.status_code in {503, 504}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        self._typed(answer.json()["code"])

    async def mcp(self, user: str, body: str, version: str) -> None:
        headers = await self.house.api.as_(user) | {"Content-Type": "application/json"}
        headers |= {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": version}
        if body.startswith("{"):
            try:
                message = json.loads(body)
                # Routing headers of the newest version; without them it is turned away before anything is read.
                headers |= {"Mcp-Method": message["method"], "Mcp-Name": message["params"].get("name", "")}
                headers = {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}
            except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
                pass
        answer = await self.house.api.http.post("/mcp", content=body.encode("utf-8", "replace"), headers=headers)
        assert answer.status_code < 500, answer.text
        for told in messages_of(answer):
            if "error" in told:
                assert told["error"]["code"] != MCP_INTERNAL_ERROR, told
                self.codes[str(told["error"]["code"])] += 1
                continue
            result = told.get("result", {})
            cells = result.get("structuredContent") if isinstance(result, dict) else None
            if result.get("isError"):
                self._typed(cells["code"])
            elif cells is not None:
                self.released.add(cells["call_id"])

    async def rpc(self, user: str, method: str, request: bytes) -> None:
        header = (await self.house.api.as_(user))["Authorization"]
        call = self._channel.unary_unary(SERVICE + method)
        try:
            answer = await call(request, metadata=(("authorization", header),))
        except grpc.aio.AioRpcError as error:
            self._typed_status(error, (method, request))
            return
        if method in {"CallTool", "ListSuggestions", "GetSuggestion"}:
            self.released.add(pb.CallToolResponse.FromString(answer).call_id)

    def _typed_status(self, error: grpc.aio.AioRpcError, asked: tuple[str, bytes]) -> None:
        assert error.code() not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}, (asked, error)
        refusals = [json.loads(value) for key, value in error.trailing_metadata() or () if key == REFUSAL_KEY]
        assert len(refusals) == 1 or error.code() is grpc.StatusCode.UNIMPLEMENTED, (asked, error)
        for refusal in refusals:
            self._typed(refusal["code"])

    def _typed(self, code: str) -> None:
        assert code in CODES, code
        self.codes[code] += 1

    def asked(self) -> Counter[str]:
        """Calls that reached the gateway since it was built, by what became of them."""
        counts: Counter[str] = Counter()
        for metric in self.house.api.services.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == "veloz_gateway_calls_total":
                    outcome = sample.labels["outcome"]
                    counts["tool.called" if outcome == "ok" else "tool.refused"] += int(sample.value)
        return counts

    def recorded(self) -> tuple[Counter[str], set[str]]:
        """Records by action, and the ids of the calls that were released."""
        with self.house.database.connect("owner") as connection:
            rows = connection.execute(
                "SELECT action, record FROM audit.inbox WHERE action IN ('tool.called', 'tool.refused')"
            ).fetchall()
        called = {json.loads(bytes(row[1]))["payload"]["call_id"] for row in rows if row[0] == "tool.called"}
        return Counter(row[0] for row in rows), called


def messages_of(answer: Any) -> list[dict[str, Any]]:
    """JSON-RPC messages of an answer, alone or in an event stream."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        # Not splitlines: it would split at characters that a text may hold.
        lines = [line.removeprefix("data:") for line in answer.text.split("\n") if line.startswith("data:")]
        return [json.loads(line) for line in lines if line.strip()]
    is_json = answer.content and answer.headers.get("content-type", "").startswith("application/json")
    return [answer.json()] if is_json else []


@pytest.fixture(scope="module")
async def faces(house: House) -> AsyncIterator[Faces]:
    """At the end the trail is held to what the gateway was asked."""
    services = house.api.services
    servicer = ToolGatewayServicer(services.tools)
    await house.api.http.post("/mcp", json={}, headers=await house.api.as_("trader"))
    async with (
        tool_rpc_server(GrpcSettings(port=0), servicer, services.identity) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        faces = Faces(house, channel)
        yield faces
    counts, called = faces.recorded()
    assert counts == faces.asked()
    assert faces.released <= called
    assert len(faces.released) > 0
    assert {"TOOL_ARGUMENTS_INVALID", "REQUEST_INVALID", "TOOL_UNKNOWN"} <= set(faces.codes)
    assert await orders_at(house.venue, house.settings) == []
    assert not [event for event in await journal_of(house.engine) if isinstance(event, ApprovalDecided | OrderIntended)]


@settings(
    # The same examples each time with the tests, others each time in the long form; a failure prints its own.
    derandomize=not LONG,
    max_examples=-(-CALLS // FACES),
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    user=st.sampled_from(USERS),
    call=tool_calls(),
    raw=st.none() | deep,
    message=json_rpc(),
    version=versions,
    method=st.sampled_from(["CallTool", "CallTool", "ListTools", "GetTool", "ListSuggestions", "GetSuggestion", "Buy"]),
    binary=st.none() | st.binary(max_size=60),
)
async def test_whatever_is_sent_the_answer_is_typed_and_nothing_runs_unrecorded(
    faces: Faces,
    user: str,
    call: tuple[str, Any],
    raw: str | None,
    message: Any,
    version: str,
    method: str,
    binary: bytes | None,
) -> None:
    name, arguments = call
    await faces.rest(user, name, raw or json.dumps({"arguments": arguments}), version)
    await faces.mcp(user, raw or json.dumps(message), version)
    printable_name = name.encode("utf-8", "replace").decode()
    request = pb.CallToolRequest(
        tool=printable_name, arguments_json=(raw or json.dumps(arguments)).encode("utf-8", "replace").decode()
    )
    await faces.rpc(user, method, request.SerializeToString() if binary is None else binary)
