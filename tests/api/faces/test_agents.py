"""Agents over REST: an identity of their own, less than their owner, and over at once.

Invariants: an agent may never more than its own bounds and its owner's grants of that moment both allow; whatever it
does is recorded under its own id, on behalf of its owner.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from typer.testing import CliRunner

from api.agents.service import AGENTS_PER_OWNER_LIMIT
from api.auth.failures import FAILED_LOGINS_LIMIT
from api.auth.tokens import AGENT_AUDIENCE, AGENT_TOKEN_LIFETIME_S, ALGORITHM, ISSUER
from api.cli.app import app
from audit.record import Action
from core.types.clock import NS_PER_S, SystemClock
from tests.api.house import IDS, PASSWORD, House, assert_problem

AGENTS, TOOLS = "/api/v1/agents", "/api/v1/tools"
TICKER = {"symbol": "BTCUSDT"}
ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "price_anchor": "bid"}


class Agent:
    """One that was made, as its program sees it."""

    def __init__(self, house: House, body: dict[str, Any]) -> None:
        self.house = house
        self.body = body
        self.id = body["agent_id"]
        self.token = ""

    async def log_in(self) -> httpx2.Response:
        body = {"agent_id": self.id, "secret": self.body["secret"]}
        answer = await self.house.api.http.post(f"{AGENTS}/token", json=body)
        if answer.status_code == 200:
            self.token = answer.json()["access_token"]
        return answer

    async def get(self, path: str) -> httpx2.Response:
        return await self.house.api.http.get(path, headers=self.headers)

    async def post(self, path: str, body: Any = None) -> httpx2.Response:
        return await self.house.api.http.post(path, json=body, headers=self.headers)

    async def call(self, tool: str, arguments: dict[str, Any]) -> httpx2.Response:
        return await self.post(f"{TOOLS}/{tool}/calls", {"arguments": arguments})

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def create(house: House, user: str = "trader", **body: Any) -> httpx2.Response:
    named = {"name": f"a-{IDS.new_ulid()[-12:].lower()}"} | body
    return await house.api.http.post(AGENTS, json=named, headers=await house.api.as_(user))


async def made(house: House, user: str = "trader", **body: Any) -> Agent:
    answer = await create(house, user, **body)
    assert answer.status_code == 201, answer.text
    agent = Agent(house, answer.json())
    assert (await agent.log_in()).status_code == 200
    return agent


def sql(house: House, statement: str, *values: Any) -> None:
    with house.database.connect("owner") as connection:
        connection.execute(statement, list(values))


def recorded(house: House, actor: str) -> list[tuple[str, str]]:
    with house.database.connect("owner") as connection:
        rows = connection.execute("SELECT action, outcome FROM audit.inbox WHERE actor = %s ORDER BY arrival", [actor])
        return [(row[0], row[1]) for row in rows]


@pytest.fixture(autouse=True)
async def tidy(house: House) -> AsyncIterator[None]:
    """Each test begins with the demo's grants and without agents."""
    yield
    sql(house, "UPDATE agents SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL")
    sql(house, "UPDATE users SET disabled_at = NULL, role = split_part(id, '-', 2)")
    sql(house, "INSERT INTO account_grants SELECT id, 'acct-demo' FROM users ON CONFLICT DO NOTHING")


async def test_an_agent_has_a_name_of_its_own_and_its_owner_beside_it(house: House) -> None:
    agent = await made(house)
    me = (await agent.get("/api/v1/me")).json()
    assert (me["user_id"], me["kind"], me["on_behalf_of"]) == (agent.id, "agent", "user-trader")
    assert (me["role"], me["account_ids"]) == ("trader", ["acct-demo"])


async def test_without_a_list_an_agent_gets_what_looks_and_nothing_that_suggests(house: House) -> None:
    agent = await made(house)
    kinds = {tool["name"]: tool["kind"] for tool in (await agent.get(TOOLS)).json()}
    assert set(kinds) == set(agent.body["tools"])
    assert kinds["get_ticker"] == "read"
    assert "suggest" not in kinds.values()
    assert (await agent.call("get_ticker", TICKER)).status_code == 200
    assert_problem(await agent.call("suggest_order", ORDER), 403, "TOOL_NOT_PERMITTED")


async def test_what_an_agent_calls_is_recorded_as_its_own_on_behalf_of_its_owner(house: House) -> None:
    agent = await made(house, tools=["suggest_order"])
    suggested = await agent.call("suggest_order", ORDER)
    assert suggested.status_code == 200, suggested.text
    # Four eyes count people: whoever owns the agent is who asked.
    assert suggested.json()["data"]["proposal"]["asker_id"] == "user-trader"
    assert recorded(house, agent.id) == [
        (Action.AGENT_TOKEN_ISSUED, "ok"),
        (Action.TOOL_INTENDED, "intended"),
        (Action.SUGGESTION_CREATED, "ok"),
        (Action.TOOL_CALLED, "ok"),
    ]
    trace = await house.api.http.get(
        f"/api/v1/audit/traces/{suggested.json()['trace_id']}", headers=await house.api.as_("compliance")
    )
    assert {row["on_behalf_of"] for row in trace.json()["records"] if row["actor"] == agent.id} == {"user-trader"}


@pytest.mark.parametrize(
    ("user", "body", "status", "code"),
    [
        ("trader", {"account_ids": ["acct-other"]}, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE"),
        ("approver", {"tools": ["suggest_order"]}, 403, "TOOL_NOT_PERMITTED"),
        ("trader", {"tools": ["place_order"]}, 403, "TOOL_NOT_PERMITTED"),
        ("trader", {"tools": []}, 422, "REQUEST_INVALID"),
        ("trader", {"name": "Ünique"}, 422, "REQUEST_INVALID"),
        ("trader", {"role": "approver"}, 422, "REQUEST_INVALID"),
        ("trader", {"valid_days": 366}, 422, "REQUEST_INVALID"),
    ],
)
async def test_nobody_makes_an_agent_that_may_more_than_they(
    house: House, user: str, body: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(await create(house, user, **body), status, code)
    inside = {"account_ids": ["acct-demo"], "tools": ["get_ticker"], "valid_days": 365}
    assert (await create(house, user, **inside)).status_code == 201


async def lose_the_account(house: House, agent: Agent) -> None:
    sql(house, "DELETE FROM account_grants WHERE user_id = 'user-trader'")


async def lose_the_role(house: House, agent: Agent) -> None:
    sql(house, "UPDATE users SET role = 'approver' WHERE id = 'user-trader'")


@pytest.mark.parametrize(
    ("change", "tool", "arguments", "code"),
    [
        (lose_the_account, "get_positions", {"account_id": "acct-demo"}, "AUTH_ACCOUNT_OUT_OF_SCOPE"),
        (lose_the_role, "suggest_order", ORDER, "TOOL_NOT_PERMITTED"),
    ],
)
async def test_what_the_owner_loses_the_agent_loses_at_its_next_call(
    house: House, change: Callable[[House, Agent], Any], tool: str, arguments: dict[str, Any], code: str
) -> None:
    agent = await made(house, tools=["get_positions", "suggest_order"])
    assert (await agent.call(tool, arguments)).status_code == 200
    await change(house, agent)
    assert_problem(await agent.call(tool, arguments), 403, code)


async def revoke(house: House, agent: Agent) -> None:
    answer = await house.api.http.post(f"{AGENTS}/{agent.id}/revoke", headers=await house.api.as_("trader"))
    assert answer.json()["state"] == "revoked"


async def expire(house: House, agent: Agent) -> None:
    sql(house, "UPDATE agents SET expires_at = clock_timestamp() WHERE id = %s", agent.id)


async def disable_the_owner(house: House, agent: Agent) -> None:
    sql(house, "UPDATE users SET disabled_at = clock_timestamp() WHERE id = 'user-trader'")


@pytest.mark.parametrize("end", [revoke, expire, disable_the_owner])
async def test_an_agent_that_is_over_can_do_nothing_with_a_token_that_still_holds(
    house: House, end: Callable[[House, Agent], Any]
) -> None:
    agent = await made(house)
    assert (await agent.call("get_ticker", TICKER)).status_code == 200
    await end(house, agent)
    problem = assert_problem(await agent.call("get_ticker", TICKER), 401, "AUTH_AGENT_REVOKED")
    assert "veloz agents create" in problem["detail"]
    assert_problem(await agent.log_in(), 401, "AUTH_AGENT_REVOKED")
    assert recorded(house, agent.id)[-1] == (Action.LOGIN_REFUSED, "AUTH_AGENT_REVOKED")


async def test_compliance_may_end_anybodys_agent_and_others_only_their_own(house: House) -> None:
    agent = await made(house)
    path = f"{AGENTS}/{agent.id}"
    for verb in ("revoke", "token"):
        answer = await house.api.http.post(f"{path}/{verb}", headers=await house.api.as_("approver"))
        assert_problem(answer, 404, "RESOURCE_NOT_FOUND")
    compliance = await house.api.as_("compliance")
    assert_problem(await house.api.http.post(f"{path}/token", headers=compliance), 404, "RESOURCE_NOT_FOUND")
    listed = {row["agent_id"] for row in (await house.api.http.get(AGENTS, headers=compliance)).json()}
    assert agent.id in listed
    own = (await house.api.http.get(AGENTS, headers=await house.api.as_("approver"))).json()
    assert agent.id not in {row["agent_id"] for row in own}
    for _ in range(2):
        answer = await house.api.http.post(f"{path}/revoke", headers=compliance)
        assert answer.json()["state"] == "revoked"
    assert recorded(house, "user-compliance").count((Action.AGENT_REVOKED.value, "ok")) == 1


async def test_the_owners_login_gets_a_token_too_and_no_answer_shows_a_secret_again(house: House) -> None:
    agent = await made(house)
    headers = await house.api.as_("trader")
    token = (await house.api.http.post(f"{AGENTS}/{agent.id}/token", headers=headers)).json()
    assert token["expires_in"] == AGENT_TOKEN_LIFETIME_S == 300
    agent.token = token["access_token"]
    assert (await agent.get("/api/v1/me")).json()["user_id"] == agent.id
    assert agent.body["secret"] not in (await house.api.http.get(AGENTS, headers=headers)).text


async def test_secrets_are_not_guessed(house: House) -> None:
    agent = await made(house)
    wrong = {"agent_id": agent.id, "secret": "x" * 43}
    for _ in range(FAILED_LOGINS_LIMIT):
        answer = await house.api.http.post(f"{AGENTS}/token", json=wrong)
        assert_problem(answer, 401, "AUTH_CREDENTIALS_INVALID")
    answer = await house.api.http.post(f"{AGENTS}/token", json=wrong)
    assert_problem(answer, 429, "AUTH_RATE_EXCEEDED")
    assert answer.headers["Retry-After"] == "60"
    nobody = rb'{"agent_id": "agent-nobody", "secret": "x"}'
    assert_problem(await post_raw(house, nobody), 401, "AUTH_CREDENTIALS_INVALID")
    unstorable = rb'{"agent_id": "agent-\ud800\u0000", "secret": "x"}'
    assert_problem(await post_raw(house, unstorable), 422, "REQUEST_INVALID")


async def post_raw(house: House, body: bytes) -> httpx2.Response:
    headers = {"Content-Type": "application/json"}
    return await house.api.http.post(f"{AGENTS}/token", content=body, headers=headers)


async def test_one_person_has_so_many_agents_and_no_two_of_a_name(house: House) -> None:
    for n in range(AGENTS_PER_OWNER_LIMIT - 1):
        assert (await create(house, "approver", name=f"worker-{n}")).status_code == 201
    assert_problem(await create(house, "approver", name="worker-0"), 422, "REQUEST_INVALID")
    last = await create(house, "approver", name="worker-last")
    assert last.status_code == 201
    problem = assert_problem(await create(house, "approver"), 422, "REQUEST_INVALID")
    assert (problem["limit"], problem["actual"]) == (str(AGENTS_PER_OWNER_LIMIT), str(AGENTS_PER_OWNER_LIMIT + 1))
    sql(house, "UPDATE agents SET expires_at = clock_timestamp() WHERE id = %s", last.json()["agent_id"])
    assert (await create(house, "approver", name="worker-last")).status_code == 201


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "veloz-api"}, "AUTH_TOKEN_INVALID"),
        ({"aud": ["veloz-agent", "veloz-api"]}, "AUTH_TOKEN_INVALID"),
        ({"sub": "agent-nobody"}, "AUTH_AGENT_REVOKED"),
        ({"exp": 1}, "AUTH_TOKEN_EXPIRED"),
        ({}, None),
    ],
)
async def test_an_agents_token_is_for_agents_only(house: House, claims: dict[str, Any], code: str | None) -> None:
    agent = await made(house)
    now_s = SystemClock().now_ns() // NS_PER_S
    good = {"iss": ISSUER, "aud": AGENT_AUDIENCE, "sub": agent.id, "iat": now_s, "exp": now_s + 60}
    agent.token = jwt.encode(good | claims, bytes.fromhex(house.settings.read_secret("jwt.key")), ALGORITHM)
    answer = await agent.get(TOOLS)
    if code is None:
        assert answer.status_code == 200
    else:
        assert_problem(answer, 401, code)


async def test_an_agent_is_let_in_nowhere_but_at_its_tools(house: House) -> None:
    """Each route of the app is walked in tests/invariants; here for how it is told."""
    agent = await made(house, tools=["suggest_order"])
    problem = assert_problem(await agent.post("/api/v1/suggestions/x/approve", {}), 403, "AUTH_ROLE_NOT_PERMITTED")
    assert (problem["limit"], problem["actual"]) == ("human", "agent")
    assert_problem(await agent.post(AGENTS, {}), 403, "AUTH_ROLE_NOT_PERMITTED")


# --- the command line

Run = Callable[..., Any]


@pytest.fixture
def veloz(house: House, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("VELOZ_URL", str(house.api.http.base_url))
    monkeypatch.setenv("VELOZ_PASSWORD", PASSWORD)

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, ["agents", *arguments])

    return run


async def test_an_agent_is_made_listed_given_a_token_and_ended(house: House, veloz: Run, tmp_path: Path) -> None:
    name, secret_file = f"scout-{IDS.new_ulid()[-8:].lower()}", tmp_path / "scout.secret"
    runs_on = ("--provider", "offline", "--model", "planner")
    asked = ("--tools", "get_ticker, get_klines", *runs_on, "--secret-file", str(secret_file), "--json")
    made = await veloz("create", name, *asked)
    agent = json.loads(made.output)
    assert (agent["tools"], agent["state"]) == (["get_klines", "get_ticker"], "active")
    assert (agent["provider"], agent["model"]) == ("offline", "planner")
    assert "secret" not in agent
    assert secret_file.stat().st_mode & 0o777 == 0o600

    listed = json.loads((await veloz("list", "--json")).output)["agents"]
    assert agent["agent_id"] in {row["agent_id"] for row in listed}

    token = (await veloz("token", name)).output.strip()
    by_secret = await house.api.http.post(
        "/api/v1/agents/token", json={"agent_id": agent["agent_id"], "secret": secret_file.read_text().strip()}
    )
    for held in (token, by_secret.json()["access_token"]):
        me = await house.api.http.get("/api/v1/me", headers={"Authorization": f"Bearer {held}"})
        assert me.json()["user_id"] == agent["agent_id"]

    ended = await veloz("revoke", name)
    assert f"{agent['agent_id']}) is revoked" in ended.output
    refused = await veloz("token", agent["agent_id"], "--json")
    assert (refused.exit_code, json.loads(refused.output)["error"]["code"]) == (1, "AUTH_AGENT_REVOKED")


async def test_what_may_not_be_given_is_refused_and_a_file_is_never_overwritten(veloz: Run, tmp_path: Path) -> None:
    refused = await veloz("create", "buyer", "--tools", "place_order", "--json")
    assert (refused.exit_code, json.loads(refused.output)["error"]["code"]) == (1, "TOOL_NOT_PERMITTED")
    there = tmp_path / "there.secret"
    there.write_text("mine")
    refused = await veloz("create", "scout", "--secret-file", str(there), "--json")
    assert (refused.exit_code, json.loads(refused.output)["error"]["code"]) == (2, "FILE_EXISTS")
    assert there.read_text() == "mine"
    unknown = await veloz("revoke", "nobody", "--json")
    assert json.loads(unknown.output)["error"]["code"] == "RESOURCE_NOT_FOUND"
