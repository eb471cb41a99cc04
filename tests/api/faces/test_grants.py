"""What is taken from a human while their token still holds is gone on every face."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

import grpc.aio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from api.auth.users import REMEMBERED_FOR_S
from api.tool_rpc._proto import gateway_pb2 as pb
from api.tool_rpc._proto import gateway_pb2_grpc
from api.tool_rpc.server import REFUSAL_KEY, tool_rpc_server
from api.tool_rpc.servicer import ToolGatewayServicer
from core.config import GrpcSettings
from core.types.codes import ReasonCode, refuse
from tests.api.house import House, assert_problem

POSITIONS = {"account_id": "acct-demo"}
Headers = dict[str, str]
PASSED_S = [0.0]


async def over_rest(house: House, headers: Headers) -> str | None:
    """The code that the call is refused with."""
    path, body = "/api/v1/tools/get_positions/calls", {"arguments": POSITIONS}
    answer = await house.api.http.post(path, json=body, headers=headers)
    return None if answer.status_code == 200 else str(answer.json()["code"])


async def over_mcp(house: House, headers: Headers) -> str | None:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{str(house.api.http.base_url).rstrip('/')}/mcp", http_client=http)) as client,
    ):
        result = await client.call_tool("get_positions", POSITIONS)
    return str((result.structured_content or {})["code"]) if result.is_error else None


async def over_grpc(house: House, headers: Headers) -> str | None:
    services = house.api.services
    async with (
        tool_rpc_server(GrpcSettings(port=0), ToolGatewayServicer(services.tools), services.identity) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = gateway_pb2_grpc.ToolGatewayStub(channel)  # type: ignore[no-untyped-call]
        request = pb.CallToolRequest(tool="get_positions", arguments_json=json.dumps(POSITIONS))
        try:
            await stub.CallTool(request, metadata=(("authorization", headers["Authorization"]),))
        except grpc.aio.AioRpcError as error:
            return str(json.loads(dict(error.trailing_metadata() or ())[REFUSAL_KEY])["code"])
    return None


def sql(house: House, statement: str) -> None:
    with house.database.connect("owner") as connection:
        connection.execute(statement)


@pytest.fixture
async def later(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], None]]:
    """Lets a second pass; afterwards all is as it was."""
    users = house.api.services.users
    monkeypatch.setattr(users, "_monotonic_s", lambda: time.monotonic() + PASSED_S[0])

    def pass_time() -> None:
        PASSED_S[0] += REMEMBERED_FOR_S

    yield pass_time
    sql(house, "UPDATE users SET role = 'trader', disabled_at = NULL WHERE id = 'user-trader'")
    sql(house, "INSERT INTO account_grants VALUES ('user-trader', 'acct-demo') ON CONFLICT DO NOTHING")
    pass_time()
    assert await over_rest(house, await house.api.as_("trader")) is None
    users._known.clear()  # they are of a time that hasn't come


LOSES_THE_ACCOUNT = "DELETE FROM account_grants WHERE user_id = 'user-trader'"
LOSES_THE_ROLE = "UPDATE users SET role = 'compliance' WHERE id = 'user-trader'"
IS_DISABLED = "UPDATE users SET disabled_at = clock_timestamp() WHERE id = 'user-trader'"


@pytest.mark.parametrize("face", [over_rest, over_mcp, over_grpc])
async def test_a_grant_that_was_taken_away_is_gone_on_every_face(
    house: House, later: Callable[[], None], face: Callable[[House, Headers], Awaitable[str | None]]
) -> None:
    headers = await house.api.as_("trader")
    assert await face(house, headers) is None
    sql(house, LOSES_THE_ACCOUNT)
    later()
    assert await face(house, headers) == "AUTH_ACCOUNT_OUT_OF_SCOPE"


@pytest.mark.parametrize("change", [LOSES_THE_ROLE, IS_DISABLED], ids=["another role", "disabled"])
async def test_a_token_of_one_who_is_disabled_or_has_another_role_is_none(
    house: House, later: Callable[[], None], change: str
) -> None:
    headers = await house.api.as_("trader")
    assert await over_rest(house, headers) is None
    sql(house, change)
    later()
    for path in ("/api/v1/me", "/api/v1/tools", "/api/v1/positions", "/api/v1/suggestions"):
        assert_problem(await house.api.http.get(path, headers=headers), 401, "AUTH_TOKEN_INVALID")
    assert await over_grpc(house, headers) == "AUTH_TOKEN_INVALID"


async def test_orders_and_suggestions_of_an_account_that_was_taken_away_arent_shown(
    house: House, later: Callable[[], None]
) -> None:
    headers = await house.api.as_("trader")
    sql(house, LOSES_THE_ACCOUNT)
    later()
    answer = await house.api.http.get("/api/v1/exposure?account_id=acct-demo", headers=headers)
    assert_problem(answer, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE")
    listed = await house.api.http.get("/api/v1/suggestions", headers=headers)
    assert listed.json() == []
    cancel = {"account_id": "acct-demo"}
    answer = await house.api.http.post("/api/v1/orders/cancel-all", json=cancel, headers=headers)
    assert_problem(answer, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE")


async def test_while_the_database_is_away_what_reduces_goes_on_and_all_else_is_refused(
    house: House, later: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = await house.api.as_("trader")
    assert await over_rest(house, headers) is None
    later()

    def away(account_ids: tuple[str, ...]) -> NoReturn:
        raise refuse(ReasonCode.SERVICE_DATABASE_UNAVAILABLE, "The database doesn't answer.")

    with monkeypatch.context() as patched:
        patched.setattr(house.api.services.users, "_transactions", away)
        refused = await house.api.http.get("/api/v1/positions", headers=headers)
        assert_problem(refused, 503, "SERVICE_DATABASE_UNAVAILABLE")
        cancel = {"account_id": "acct-demo"}
        cancelled = await house.api.http.post("/api/v1/orders/cancel-all", json=cancel, headers=headers)
        assert (cancelled.status_code, cancelled.json()["requested"]) == (202, 0)
        other = {"account_id": "acct-other"}
        refused = await house.api.http.post("/api/v1/orders/cancel-all", json=other, headers=headers)
        assert_problem(refused, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE")
        forged = {"Authorization": headers["Authorization"][:-4] + "AAAA"}
        refused = await house.api.http.post("/api/v1/orders/cancel-all", json=cancel, headers=forged)
        assert_problem(refused, 401, "AUTH_TOKEN_INVALID")
