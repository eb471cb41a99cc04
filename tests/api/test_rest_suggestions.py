"""A suggestion's life over HTTP and on the command line: two signatures, edits, withdrawal; the engine holds each."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.app import app
from core.authority.proposal import parse_proposal
from core.types.events import ApprovalVoided
from core.types.ids import SystemIdSource, new_trace
from tests.api.house import PASSWORD, House, assert_problem
from tests.core.approvals import APPROVER_SEED, SECOND_SEED, approve
from tests.core.engine_support import RunningEngine

SUGGESTIONS = "/api/v1/suggestions"
SIGNERS = {"approver": ("approver", APPROVER_SEED), "second": ("second", SECOND_SEED)}


async def get(house: House, path: str, username: str = "approver") -> Any:
    return await house.api.http.get(path, headers=await house.api.as_(username))


async def post(house: House, path: str, body: dict[str, Any], username: str = "approver") -> Any:
    return await house.api.http.post(path, json=body, headers=await house.api.as_(username))


@pytest.fixture(scope="module", autouse=True)
def _second_approver(house: House) -> None:
    with house.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO users (id, firm_id, username, display_name, password_hash, role) "
            "SELECT 'user-second', firm_id, 'second', 'Sam Second', password_hash, 'approver' FROM users "
            "WHERE id = 'user-approver'"
        )
        connection.execute("INSERT INTO account_grants (user_id, account_id) VALUES ('user-second', 'acct-demo')")


async def suggested(house: House, quantity: str = "0.01") -> dict[str, Any]:
    """Far below the bid, so that nothing fills."""
    arguments = {"symbol": "BTCUSDT", "side": "BUY", "quantity": quantity, "price_anchor": "bid", "offset_bps": "-50"}
    made = await post(house, "/api/v1/tools/suggest_order/calls", {"arguments": arguments}, "trader")
    assert made.status_code == 200, made.text
    shown: dict[str, Any] = (await get(house, f"{SUGGESTIONS}/{made.json()['data']['suggestion_id']}")).json()
    assert shown["status"] == "pending"
    return shown


def approval(shown: dict[str, Any], username: str = "approver") -> dict[str, Any]:
    _, digest, [(key_id, signature)] = approve(parse_proposal(shown["proposal_text"].encode()), SIGNERS[username])
    assert digest == shown["digest"], "what is shown is what is signed"
    return {"version": shown["version"], "digest": digest, "key_id": key_id, "signature": signature.hex()}


async def engine_code(engine: RunningEngine, shown: dict[str, Any]) -> str | None:
    """What the engine itself says to the approver's signature, handed to it past the api."""
    signed = approve(parse_proposal(shown["proposal_text"].encode()))
    refusal = (await engine.client.execute_approval(*signed, new_trace(SystemIdSource()))).refusal
    return None if refusal is None else refusal.code


async def test_two_people_sign_over_http(house: House) -> None:
    shown = await suggested(house, "0.9")
    path = f"{SUGGESTIONS}/{shown['id']}"
    assert shown["approvals"] == {"due": 2, "given": []}
    first = await post(house, f"{path}/approve", approval(shown))
    assert (first.status_code, first.json()["approvals_given"], first.json()["approvals_due"]) == (202, 1, 2)
    waiting = (await get(house, path, "second")).json()
    assert (waiting["status"], waiting["approvals"]["due"]) == ("pending", 2)
    [given] = waiting["approvals"]["given"]
    assert (given["user_id"], given["key_id"], given["method"]) == ("user-approver", "approver", "ed25519")
    assert waiting["views"].keys() == {"user-approver", "user-second"}
    second = await post(house, f"{path}/approve", approval(shown, "second"), "second")
    assert (second.status_code, second.json()["consumed"]) == (200, True)


async def test_an_edit_makes_a_version_that_is_signed_anew_and_the_engine_refuses_the_old_one(house: House) -> None:
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    body = {"version": 1, "changes": {"quantity": "0.02"}, "reason": "twice that"}
    assert_problem(await post(house, f"{path}/edit", body, "compliance"), 403, "AUTH_ROLE_NOT_PERMITTED")
    assert_problem(await post(house, f"{path}/edit", body | {"changes": {"side": "SELL"}}), 422, "REQUEST_INVALID")
    edited = (await post(house, f"{path}/edit", body, "trader")).json()
    assert (edited["version"], edited["status"], edited["edited_by"]) == (2, "pending", "user-trader")
    assert (edited["proposal"]["quantity"], shown["proposal"]["quantity"]) == ("0.02", "0.01")
    assert edited["digest"] != shown["digest"]
    assert edited["pre_trade"]["checks"]
    old = (await get(house, f"{path}?version=1")).json()
    assert (old["status"], old["pre_trade"]) == ("superseded", shown["pre_trade"])
    voided = await house.engine.event(
        lambda event: isinstance(event, ApprovalVoided) and event.suggestion_id == shown["id"]
    )
    assert (voided.version, voided.requested_by) == (1, "user-trader")

    assert_problem(await post(house, f"{path}/approve", approval(shown)), 409, "APPROVAL_VERSION_SUPERSEDED")
    assert await engine_code(house.engine, shown) == "APPROVAL_VERSION_SUPERSEDED"
    approved = await post(house, f"{path}/approve", approval(edited))
    assert (approved.status_code, approved.json()["consumed"]) == (200, True)


@pytest.mark.parametrize(
    ("action", "username", "status"), [("withdraw", "trader", "rejected"), ("reject", "approver", "rejected")]
)
async def test_what_was_withdrawn_or_rejected_is_refused_by_the_engine_too(
    house: House, action: str, username: str, status: str
) -> None:
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    answer = await post(house, f"{path}/{action}", {"version": 1, "reason": "not today"}, username)
    assert (answer.json()["status"], answer.json()["decided_by"]) == (status, f"user-{username}")
    assert "not today" in answer.json()["decision_reason"]
    assert await engine_code(house.engine, shown) == "APPROVAL_VERSION_SUPERSEDED"


async def test_edits_in_flight_with_approvals_end_in_one_order_at_most(house: House) -> None:
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    edit = {"version": 1, "changes": {"quantity": "0.02"}}
    answers = await asyncio.gather(
        *(
            post(house, f"{path}/edit", edit, "trader") if n % 2 else post(house, f"{path}/approve", approval(shown))
            for n in range(8)
        )
    )
    done = [answer for answer in answers if answer.status_code == 200]
    assert len(done) == 1, [answer.text for answer in answers]
    newest = (await get(house, path)).json()
    was_edited = "proposal" in done[0].json()
    assert (newest["version"], newest["status"]) == ((2, "pending") if was_edited else (1, "approved"))


async def test_the_command_line_shows_edits_withdraws_and_lists(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = await suggested(house)
    monkeypatch.setenv("VELOZ_URL", str(house.api.http.base_url))
    monkeypatch.setenv("VELOZ_PASSWORD", PASSWORD)
    monkeypatch.setenv("VELOZ_HOME", str(house.settings.home))

    async def veloz(*arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(lambda: CliRunner().invoke(app, ["suggestions", *arguments]))
        return result.exit_code, result.stdout

    exit_code, text = await veloz("edit", shown["id"], "--set", "quantity=0.03", "--reason", "more")
    assert exit_code == 0, text
    assert "Version 2 takes the place of version 1." in text
    assert "edited by user-trader" in text
    for by_id in ((shown["id"], "--json"), ("show", shown["id"], "--json")):
        exit_code, text = await veloz(*by_id)
        assert (exit_code, json.loads(text)["version"]) == (0, 2)
    exit_code, text = await veloz("show", shown["id"], "--version", "1", "--json")
    assert (exit_code, json.loads(text)["status"]) == (0, "superseded")
    exit_code, text = await veloz("edit", shown["id"], "--set", "quantity")
    assert exit_code == 2
    exit_code, text = await veloz("withdraw", shown["id"], "--json")
    assert (exit_code, json.loads(text)["status"]) == (0, "rejected")
    for listing in ((), ("list",)):
        exit_code, text = await veloz(*listing, "--status", "rejected", "--json")
        assert shown["id"] in {row["id"] for row in json.loads(text)}
