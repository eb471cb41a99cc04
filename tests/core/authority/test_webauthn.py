"""Passkeys: what the engine takes for an approval, held to the webauthn package, and what it doesn't."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import webauthn
from hypothesis import given, settings
from hypothesis import strategies as st
from webauthn.helpers.exceptions import WebAuthnException

from core.authority.proposal import proposal_bytes, proposal_digest
from core.authority.roster import RosterError, check_roster, roster_bytes
from core.authority.session import grant_bytes, sign_session, verify_session_grant
from core.authority.signatures import sign_digest
from core.authority.verify import Approved, EngineIdentity, verify_approval
from core.authority.webauthn import (
    ASSERTION_SIZE_LIMIT_BYTES,
    EDDSA,
    ES256,
    Assertion,
    approval_challenge,
    encode_assertion,
    verify_assertion,
)
from core.types.codes import ReasonCode, Refusal
from core.types.events import Roster
from tests.core.approvals import ACCOUNT, APPROVER_SEED, ENGINE_ID, ENVIRONMENT, NOW_NS, ROSTER, SECOND_SEED, proposal
from tests.core.authority.authenticator import BE, BS, ORIGIN, RP_ID, UP, UV, Authenticator, text
from tests.core.kernel.desk import grant

DIGEST = "ab" * 32
OTHER_DIGEST = "cd" * 32
C = ReasonCode


def oracle(authenticator: Authenticator, digest_hex: str, encoded: bytes) -> bool:
    """What the webauthn package says of the same assertion."""
    assertion = msgspec.json.decode(encoded, type=Assertion)
    credential = {
        "id": text(authenticator.credential_id),
        "rawId": text(authenticator.credential_id),
        "type": "public-key",
        "response": {
            "authenticatorData": text(bytes.fromhex(assertion.authenticator_data)),
            "clientDataJSON": text(bytes.fromhex(assertion.client_data_json)),
            "signature": text(bytes.fromhex(assertion.signature)),
        },
        "clientExtensionResults": {},
    }
    try:
        webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=approval_challenge(digest_hex),
            expected_rp_id=RP_ID,
            expected_origin=[ORIGIN],
            credential_public_key=authenticator.cose_key,
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except WebAuthnException:
        return False
    return True


def assertion(
    authenticator: Authenticator,
    *,
    signer: Authenticator | None = None,
    flags: int = UP | UV,
    rp_id: str = RP_ID,
    kind: str = "webauthn.get",
    digest_hex: str = DIGEST,
    more: bytes = b"",
    **client_data: Any,
) -> bytes:
    data = authenticator.authenticator_data(flags, rp_id, more)
    client = authenticator.client_data(kind, approval_challenge(digest_hex), **client_data)
    return encode_assertion(data, client, (signer or authenticator).sign(data, client))


def test_the_challenge_is_the_digest_under_a_tag_of_its_own() -> None:
    """SHA-256 over `veloz/webauthn-approval/v1` NUL and the digest's bytes, as sha256sum has it: clients rely on it."""
    expected = "b49ed91a140c5a92d3b6f7bc80431ca87a846e3500c629eaa2a3d8ec5d8e67ee"
    assert approval_challenge(DIGEST).hex() == expected


@pytest.mark.parametrize("algorithm", [ES256, EDDSA])
@pytest.mark.parametrize(
    ("changes", "is_approval"),
    [
        ({}, True),
        ({"flags": UP | UV | BE}, True),
        ({"flags": UP | UV | BE | BS}, True),
        ({"flags": UV}, False),
        ({"flags": UP}, False),
        ({"flags": 0}, False),
        ({"flags": UP | UV | BS}, False),
        ({"rp_id": "evil.example"}, False),
        ({"kind": "webauthn.create"}, False),
        ({"kind": "payment.get"}, False),
        ({"digest_hex": OTHER_DIGEST}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": ORIGIN + "/"}, False),
        ({"origin": ORIGIN.upper()}, False),
        ({"challenge": text(bytes.fromhex(DIGEST))}, False),  # the digest itself, without its domain
        ({"challenge": ""}, False),
        ({"signer": Authenticator(ES256, seed=9)}, False),
        ({"signer": Authenticator(EDDSA, seed=9)}, False),
    ],
)
def test_an_assertion_is_judged_as_the_webauthn_package_does(
    algorithm: str, changes: dict[str, Any], is_approval: bool
) -> None:
    authenticator = Authenticator(algorithm)
    encoded = assertion(authenticator, **changes)
    assert verify_assertion(authenticator.entry("pk", "user-approver", (ACCOUNT,)), DIGEST, encoded) is is_approval
    assert oracle(authenticator, DIGEST, encoded) is is_approval


@pytest.mark.parametrize(
    "changes", [{"crossOrigin": True}, {"topOrigin": "https://evil.example"}, {"more": b"\x00"}, {"type": None}]
)
def test_it_is_stricter_than_the_package_about_frames_and_leftovers(changes: dict[str, Any]) -> None:
    authenticator = Authenticator()
    encoded = assertion(authenticator, **changes)
    assert not verify_assertion(authenticator.entry("pk", "user-approver", (ACCOUNT,)), DIGEST, encoded)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_one_changed_byte_anywhere_is_no_approval(data: st.DataObject) -> None:
    authenticator = Authenticator(data.draw(st.sampled_from([ES256, EDDSA])))
    parts = msgspec.json.decode(authenticator.approve(DIGEST), type=Assertion)
    name = data.draw(st.sampled_from(["authenticator_data", "client_data_json", "signature"]))
    content = bytearray(bytes.fromhex(getattr(parts, name)))
    content[data.draw(st.integers(0, 4_095)) % len(content)] ^= data.draw(st.integers(1, 255))
    encoded = msgspec.json.encode(msgspec.structs.replace(parts, **{name: bytes(content).hex()}))
    assert not verify_assertion(authenticator.entry("pk", "user-approver", (ACCOUNT,)), DIGEST, encoded)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_what_isnt_an_assertion_is_no_approval(encoded: bytes) -> None:
    entry = Authenticator().entry("pk", "user-approver", (ACCOUNT,))
    assert not verify_assertion(entry, DIGEST, encoded)


def test_an_assertion_beyond_its_size_is_no_approval() -> None:
    authenticator = Authenticator()
    entry = authenticator.entry("pk", "user-approver", (ACCOUNT,))
    encoded = authenticator.approve(DIGEST)
    assert verify_assertion(entry, DIGEST, encoded + b" " * (ASSERTION_SIZE_LIMIT_BYTES - len(encoded)))
    assert not verify_assertion(entry, DIGEST, encoded + b" " * (ASSERTION_SIZE_LIMIT_BYTES - len(encoded) + 1))


# what passkeys count for

PASSKEY, SECOND_PASSKEY = Authenticator(), Authenticator(EDDSA, seed=2)
KEY, SECOND_KEY = ("approver", APPROVER_SEED), ("second", SECOND_SEED)


def roster(cli_only_above: str, **changes: Any) -> Roster:
    passkeys = (
        PASSKEY.entry("passkey", "user-approver", (ACCOUNT,), **changes),
        SECOND_PASSKEY.entry("passkey-2", "user-second", (ACCOUNT,)),
    )
    return msgspec.structs.replace(ROSTER, entries=(*ROSTER.entries, *passkeys), cli_only_above_quote=cli_only_above)


def verdict(roster: Roster, quantity: str, *signers: Any, mode: str = "PAPER") -> Any:
    """The code, or how many people's signatures count; an order at 60,000 each, two approvals above 50,000."""
    canonical = proposal_bytes(proposal(quantity=quantity, mode=mode))
    digest = proposal_digest(canonical)
    names = {id(PASSKEY): "passkey", id(SECOND_PASSKEY): "passkey-2"}
    signatures = [
        (names[id(signer)], signer.approve(digest))
        if isinstance(signer, Authenticator)
        else (signer[0], sign_digest(signer[1], digest))
        for signer in signers
    ]
    judged = verify_approval(
        canonical,
        digest,
        signatures,
        roster=roster,
        identity=EngineIdentity(ENGINE_ID, ENVIRONMENT, mode),
        instrument_versions={("paper", "BTCUSDT"): 1},
        consumed={},
        now_ns=NOW_NS,
    )
    return judged.code if isinstance(judged, Refusal) else [record.key_id for record in judged.signatures]


@pytest.mark.parametrize(
    ("cli_only_above", "quantity", "signers", "expected"),
    [
        ("", "0.1", [PASSKEY], C.APPROVAL_CLI_KEY_REQUIRED),  # not set: passkeys count for nothing
        ("", "0.1", [KEY], ["approver"]),
        ("0", "0.1", [PASSKEY], C.APPROVAL_CLI_KEY_REQUIRED),
        ("6000", "0.1", [PASSKEY], ["passkey"]),
        ("6000", "0.10001", [PASSKEY], C.APPROVAL_CLI_KEY_REQUIRED),
        ("6000", "0.10001", [KEY], ["approver"]),
        ("100000", "1", [PASSKEY], C.APPROVAL_SIGNATURES_INSUFFICIENT),
        ("100000", "1", [PASSKEY, SECOND_PASSKEY], ["passkey", "passkey-2"]),
        ("100000", "1", [PASSKEY, SECOND_KEY], ["passkey", "second"]),
        ("6000", "1", [PASSKEY, SECOND_KEY], C.APPROVAL_CLI_KEY_REQUIRED),
        ("6000", "1", [KEY, SECOND_KEY], ["approver", "second"]),
        ("6000", "1", [PASSKEY, KEY, SECOND_KEY], ["approver", "second"]),  # of one person the key counts
        ("100000", "1", [PASSKEY, KEY], C.APPROVAL_SIGNATURES_INSUFFICIENT),  # one person with two keys
    ],
)
def test_up_to_the_rosters_worth_passkeys_count_and_above_only_the_command_line(
    cli_only_above: str, quantity: str, signers: list[Any], expected: Any
) -> None:
    assert verdict(roster(cli_only_above), quantity, *signers) == expected


def test_a_paper_passkey_is_for_paper() -> None:
    assert verdict(roster("6000"), "0.1", PASSKEY, mode="LIVE") is C.AUTHORITY_KEY_PAPER_ONLY
    assert verdict(roster("6000", paper_only=False), "0.1", PASSKEY, mode="LIVE") == ["passkey"]


def test_neither_kind_of_key_signs_as_the_other() -> None:
    canonical = proposal_bytes(proposal())
    digest = proposal_digest(canonical)
    for key_id, signature in (("approver", PASSKEY.approve(digest)), ("passkey", sign_digest(APPROVER_SEED, digest))):
        judged = verify_approval(
            canonical,
            digest,
            [(key_id, signature)],
            roster=roster("6000"),
            identity=EngineIdentity(ENGINE_ID, ENVIRONMENT, "PAPER"),
            instrument_versions={("paper", "BTCUSDT"): 1},
            consumed={},
            now_ns=NOW_NS,
        )
        assert not isinstance(judged, Approved)
        assert judged.code is C.AUTHORITY_SIGNATURE_INVALID


def test_a_passkey_signs_no_session_in() -> None:
    what = grant(user_id="user-approver")
    judged = verify_session_grant(
        grant_bytes(what),
        "passkey",
        sign_session(APPROVER_SEED, what),
        roster=roster("6000"),
        identity=EngineIdentity(ENGINE_ID, ENVIRONMENT, "PAPER"),
        now_ns=NOW_NS,
    )
    assert isinstance(judged, Refusal)
    assert judged.code is C.AUTHORITY_SIGNER_NOT_PERMITTED


# the roster


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "totp"}, "is of kind 'totp'"),
        ({"kind": "ed25519"}, "isn't a passkey"),
        ({"algorithm": "RS256"}, "is of 'RS256'"),
        ({"algorithm": "EdDSA"}, "must be 32 bytes"),
        ({"public_key_hex": "04" * 64}, "must be 65 bytes"),
        ({"rp_id": ""}, "lacks rp_id"),
        ({"origins": ()}, "lacks origins"),
        ({"origins": ("https://evil.example",)}, "origins of passkey"),
        ({"origins": ("http://desk.localhost",)}, "origins of passkey"),
        ({"origins": ("https://localhost/",)}, "origins of passkey"),
        ({"origins": ("https://notlocalhost",)}, "origins of passkey"),
        ({"credential_id_hex": "AB"}, "credential_id_hex"),
        ({"approves": False}, "can only approve"),
        ({"administers": ("thaw",)}, "can only approve"),
    ],
)
def test_a_passkey_that_could_be_read_in_two_ways_isnt_installed(changes: dict[str, Any], said: str) -> None:
    check_roster(roster("6000"), "roster.json")
    with pytest.raises(RosterError, match=said):
        check_roster(roster("6000", **changes), "roster.json")


@pytest.mark.parametrize("text_", ["-1", "1e3", "01", "nan", "x"])
def test_an_amount_that_isnt_plain_isnt_installed(text_: str) -> None:
    with pytest.raises(RosterError, match="cli_only_above_quote"):
        check_roster(roster(text_), "roster.json")


def test_a_roster_without_passkeys_is_signed_as_it_always_was() -> None:
    content = json.loads(roster_bytes(ROSTER).partition(b"\x00")[2])
    assert content.keys() == {"version", "entries", "two_approvals_above_quote"}
    assert all(
        entry.keys() == {"key_id", "user_id", "public_key_hex", "account_ids", "paper_only"}
        for entry in content["entries"]
    )
    for change in ({"rp_id": "other"}, {"origins": ("https://localhost",)}, {"credential_id_hex": "ab"}):
        assert roster_bytes(roster("1", **change)) != roster_bytes(roster("1"))
    assert roster_bytes(roster("1")) != roster_bytes(roster("2"))
