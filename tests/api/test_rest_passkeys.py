"""Passkeys over HTTP, with a software authenticator: made, enrolled under the root key, and verified by the engine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.authority.enrolment import ENROLMENT_SCHEMA, parse_enrolment
from core.authority.roster import sign_roster
from core.authority.webauthn import EDDSA, ES256
from core.types.clock import NS_PER_S
from core.types.events import ApprovalDecided, RosterEntry
from core.types.ids import SystemIdSource
from tests.api.house import House, assert_problem
from tests.core.approvals import ACCOUNT, ROOT_SEED, ROSTER
from tests.core.authority.authenticator import Authenticator

SUGGESTIONS = "/api/v1/suggestions"
IDS = SystemIdSource()


async def post(house: House, path: str, body: dict[str, Any] | None = None, username: str = "approver") -> Any:
    return await house.api.http.post(path, json=body or {}, headers=await house.api.as_(username))


async def registered(house: House, authenticator: Authenticator) -> RosterEntry:
    """What the root key's holder would be sent."""
    options = (await post(house, "/api/v1/passkeys/options")).json()
    assert options["rp"]["id"] == authenticator.rp_id
    assert options["authenticatorSelection"]["userVerification"] == "required"
    answer = await post(house, "/api/v1/passkeys", {"credential": authenticator.create(options)})
    assert answer.status_code == 200, answer.text
    request = answer.json()["request"]
    assert request["schema"] == ENROLMENT_SCHEMA
    return parse_enrolment(msgspec.json.encode(request), "request.json")


async def enrol(house: House, *entries: RosterEntry, cli_only_above: str) -> None:
    """As `veloz roster add` does, on the host that has the root key."""
    status = await house.engine.client.status()
    roster = msgspec.structs.replace(
        ROSTER,
        version=status.roster_version + 1,
        entries=(*ROSTER.entries, *entries),
        cli_only_above_quote=cli_only_above,
    )
    signed = sign_roster(ROOT_SEED, roster)
    document = AdministrationDocument(
        document_id=IDS.new_ulid(),
        engine_id=status.engine_id,
        kind="roster.install",
        body={"roster": msgspec.json.encode(roster).decode(), "signature_hex": signed.signature_hex},
        issued_at_ns=str(status.now_ns),
        expires_at_ns=str(status.now_ns + 60 * NS_PER_S),
        requested_by="root",
    )
    canonical = administration_bytes(document)
    assert (
        await house.engine.client.administer(canonical, [("root", sign_administration(ROOT_SEED, canonical))]) is None
    )


async def suggested(house: House, quantity: str = "0.01") -> dict[str, Any]:
    arguments = {"symbol": "BTCUSDT", "side": "BUY", "quantity": quantity, "price_anchor": "bid", "offset_bps": "-50"}
    made = await post(house, "/api/v1/tools/suggest_order/calls", {"arguments": arguments}, "trader")
    assert made.status_code == 200, made.text
    path = f"{SUGGESTIONS}/{made.json()['data']['suggestion_id']}"
    shown: dict[str, Any] = (await house.api.http.get(path, headers=await house.api.as_("approver"))).json()
    return shown


def approval(shown: dict[str, Any], credential: dict[str, Any]) -> dict[str, Any]:
    return {"version": shown["version"], "digest": shown["digest"], "passkey": credential}


@pytest.mark.parametrize("algorithm", [ES256, EDDSA])
async def test_a_passkey_is_made_enrolled_and_approves_one_proposal(house: House, algorithm: str) -> None:
    authenticator = Authenticator(algorithm, seed=3)
    entry = await registered(house, authenticator)
    assert (entry.user_id, entry.kind, entry.algorithm, entry.paper_only) == (
        "user-approver",
        "webauthn",
        algorithm,
        True,
    )
    assert (entry.public_key_hex, entry.account_ids) == (authenticator.public_key.hex(), (ACCOUNT,))
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    # Made, but not enrolled: worth nothing.
    await enrol(house, cli_only_above="30000")
    assert_problem(await post(house, f"{path}/passkey-options"), 403, "AUTHORITY_SIGNER_UNKNOWN")

    await enrol(house, entry, cli_only_above="30000")
    options = (await post(house, f"{path}/passkey-options")).json()
    assert [item["id"] for item in options["allowCredentials"]] == [authenticator.get(options)["id"]]
    assert options["userVerification"] == "required"
    other = await suggested(house)
    other_path = f"{SUGGESTIONS}/{other['id']}"
    for_another = await post(house, f"{other_path}/approve", approval(other, authenticator.get(options)))
    assert_problem(for_another, 403, "AUTHORITY_SIGNATURE_INVALID")

    approved = await post(house, f"{path}/approve", approval(shown, authenticator.get(options)))
    assert (approved.status_code, approved.json()["consumed"]) == (200, True), approved.text
    decided = await house.engine.event(
        lambda event: isinstance(event, ApprovalDecided) and event.suggestion_id == shown["id"]
    )
    [signature] = decided.signatures
    assert (signature.key_id, signature.user_id) == (entry.key_id, "user-approver")
    again = await post(house, f"{path}/approve", approval(shown, authenticator.get(options)))
    assert_problem(again, 409, "APPROVAL_ALREADY_CONSUMED")


async def test_above_the_rosters_worth_a_passkey_doesnt_count_and_nothing_is_kept(house: House) -> None:
    authenticator = Authenticator(seed=4)
    await enrol(house, await registered(house, authenticator), cli_only_above="300")
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    options = (await post(house, f"{path}/passkey-options")).json()
    refused = await post(house, f"{path}/approve", approval(shown, authenticator.get(options)))
    problem = assert_problem(refused, 409, "APPROVAL_CLI_KEY_REQUIRED")
    assert (problem["limit"], problem["consumed"]) == ("300", False)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"origin": "https://evil.example"}, "AUTHORITY_SIGNATURE_INVALID"),
        ({"rp_id": "evil.example"}, "AUTHORITY_SIGNATURE_INVALID"),
        ({"credential_id": b"unknown"}, "AUTHORITY_SIGNER_UNKNOWN"),
    ],
)
async def test_an_assertion_from_elsewhere_is_refused(house: House, change: dict[str, Any], code: str) -> None:
    authenticator = Authenticator(seed=5)
    await enrol(house, await registered(house, authenticator), cli_only_above="30000")
    shown = await suggested(house)
    path = f"{SUGGESTIONS}/{shown['id']}"
    options = (await post(house, f"{path}/passkey-options")).json()
    for name, value in change.items():
        setattr(authenticator, name, value)
    assert_problem(await post(house, f"{path}/approve", approval(shown, authenticator.get(options))), 403, code)


async def test_a_registration_is_for_its_own_challenge_site_and_person(house: House) -> None:
    options = (await post(house, "/api/v1/passkeys/options")).json()
    for username in ("trader", "compliance"):
        assert_problem(await post(house, "/api/v1/passkeys/options", {}, username), 403, "AUTH_ROLE_NOT_PERMITTED")
    forged = options | {"challenge": "AAAA" + options["challenge"][4:]}
    elsewhere = Authenticator(seed=6, origin="https://evil.example")
    for credential in (Authenticator(seed=6).create(forged), elsewhere.create(options), {"id": "x"}, {}):
        answer = await post(house, "/api/v1/passkeys", {"credential": credential})
        assert_problem(answer, 422, "REQUEST_INVALID")
    shown = await suggested(house)
    for passkey in ({}, {"id": "x"}):
        answer = await post(house, f"{SUGGESTIONS}/{shown['id']}/approve", approval(shown, passkey))
        assert_problem(answer, 422, "REQUEST_INVALID")
