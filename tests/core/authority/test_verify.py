"""Approvals as a table: given this proposal, these signatures and this state, the engine says this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from core.authority.proposal import Proposal, proposal_bytes, proposal_digest
from core.authority.signatures import sign_digest
from core.authority.verify import Approved, EngineIdentity, verify_approval
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import Roster
from tests.core.approvals import (
    ACCOUNT,
    APPROVER_SEED,
    ENGINE_ID,
    ENVIRONMENT,
    NOW_NS,
    ROSTER,
    SECOND_SEED,
    TRADER_SEED,
    approve,
    entry,
    proposal,
)

APPROVER = ("approver", APPROVER_SEED)
SECOND = ("second", SECOND_SEED)
TRADER = ("trader", TRADER_SEED)
LARGE = {"quantity": "1"}  # 60,000, above the threshold of 50,000


def verify(
    what: Proposal,
    *signers: tuple[str, str],
    roster: Roster = ROSTER,
    mode: str = "PAPER",
    consumed: Mapping[str, int] | None = None,
    now_ns: int = NOW_NS,
    **overrides: Any,
) -> Refusal | Approved:
    canonical, digest, signatures = approve(what, *signers)
    return verify_approval(
        overrides.get("canonical", canonical),
        overrides.get("digest", digest),
        overrides.get("signatures", signatures),
        roster=roster,
        identity=EngineIdentity(ENGINE_ID, ENVIRONMENT, mode),
        instrument_versions=overrides.get("versions", {("paper", "BTCUSDT"): 1}),
        consumed=consumed or {},
        now_ns=now_ns,
        at_least=overrides.get("at_least", 1),
    )


def code(verdict: Refusal | Approved) -> str:
    return verdict.code if isinstance(verdict, Refusal) else "approved"


@pytest.mark.parametrize(
    ("changes", "signers", "expected"),
    [
        ({}, (APPROVER,), "approved"),
        ({}, (TRADER,), "approved"),
        ({"quantity": "0.83333"}, (APPROVER,), "approved"),  # 49,999.80
        (LARGE, (APPROVER, SECOND), "approved"),
        (LARGE, (APPROVER, SECOND, TRADER), "approved"),
        (LARGE, (APPROVER,), ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
        (LARGE, (APPROVER, APPROVER), ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
        (LARGE, (APPROVER, TRADER), ReasonCode.APPROVAL_SELF_NOT_COUNTED),
        (LARGE | {"asker_id": "user-approver"}, (APPROVER, SECOND), ReasonCode.APPROVAL_SELF_NOT_COUNTED),
        (LARGE, (TRADER,), ReasonCode.APPROVAL_SELF_NOT_COUNTED),
        ({"edited_by": "user-approver"}, (APPROVER,), "approved"),
        (LARGE | {"edited_by": "user-approver"}, (APPROVER, SECOND), ReasonCode.APPROVAL_SELF_NOT_COUNTED),
        (LARGE | {"edited_by": "user-approver"}, (APPROVER,), ReasonCode.APPROVAL_SELF_NOT_COUNTED),
        (LARGE | {"edited_by": "user-third"}, (APPROVER, SECOND), "approved"),
        (LARGE | {"notional_quote": "10"}, (APPROVER,), ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
        ({"notional_quote": "50001"}, (APPROVER,), ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
        ({"engine_id": "engine-2"}, (APPROVER,), ReasonCode.AUTHORITY_WRONG_ENGINE),
        ({"environment": "prod"}, (APPROVER,), ReasonCode.AUTHORITY_WRONG_ENGINE),
        ({"mode": "LIVE"}, (APPROVER,), ReasonCode.AUTHORITY_WRONG_MODE),
        ({"account_id": "acct-other"}, (APPROVER,), ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED),
        ({"symbol": "NOPEUSDT"}, (APPROVER,), ReasonCode.MARKET_INSTRUMENT_UNKNOWN),
        ({"instrument_version": "2"}, (APPROVER,), ReasonCode.AUTHORITY_INSTRUMENT_VERSION_STALE),
        ({"version": "0"}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"version": "1" * 19}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"version": "1" * 5_000}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"quantity": "1E+999999999", "notional_quote": "1"}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"max_deviation_bps": "1e999999999999"}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"quantity": "\N{FULLWIDTH DIGIT ONE}"}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"asker_id": ""}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
        ({"post_only": "true", "time_in_force": "IOC"}, (APPROVER,), ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
    ],
)
def test_a_proposal_with_signatures_is_judged(
    changes: dict[str, str], signers: tuple[tuple[str, str], ...], expected: str
) -> None:
    assert code(verify(proposal(**changes), *signers)) == expected


@pytest.mark.parametrize(
    ("at_least", "signers", "expected"),
    [
        (1, (APPROVER,), "approved"),
        (0, (APPROVER,), "approved"),
        (0, (), ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
        (2, (APPROVER,), ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
        (2, (APPROVER, TRADER), ReasonCode.APPROVAL_SELF_NOT_COUNTED),
        (2, (APPROVER, SECOND), "approved"),
        (3, (APPROVER, SECOND), ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT),
    ],
)
def test_a_caller_may_want_more_approvals_than_are_due_and_never_fewer(
    at_least: int, signers: tuple[tuple[str, str], ...], expected: str
) -> None:
    _, _, signatures = approve(proposal(), *(signers or (APPROVER,)))
    verdict = verify(proposal(), signatures=signatures if signers else [], at_least=at_least)
    assert code(verdict) == expected


@pytest.mark.parametrize(
    ("after_expiry_ns", "expected"),
    [(-1, "approved"), (0, ReasonCode.APPROVAL_EXPIRED), (1, ReasonCode.APPROVAL_EXPIRED)],
)
def test_an_approval_holds_until_the_nanosecond_of_its_expiry(after_expiry_ns: int, expected: str) -> None:
    assert code(verify(proposal(), now_ns=NOW_NS + 300 * NS_PER_S + after_expiry_ns)) == expected


@pytest.mark.parametrize(
    ("version", "consumed_version", "expected"),
    [
        ("2", 2, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        ("3", 2, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        ("1", 2, ReasonCode.APPROVAL_VERSION_SUPERSEDED),
    ],
)
def test_a_suggestion_is_used_once_in_whatever_version(version: str, consumed_version: int, expected: str) -> None:
    assert code(verify(proposal(version=version), consumed={"sug-1": consumed_version})) == expected


def test_another_suggestions_use_doesnt_matter() -> None:
    assert code(verify(proposal(), consumed={"sug-2": 1})) == "approved"


def test_a_digest_of_other_bytes_is_refused() -> None:
    other = proposal_digest(proposal_bytes(proposal(quantity="0.2")))
    assert code(verify(proposal(), digest=other)) == ReasonCode.APPROVAL_DIGEST_MISMATCH
    assert code(verify(proposal(), digest="not hex, not ascii: ä\udc80")) == ReasonCode.APPROVAL_DIGEST_MISMATCH


def test_changed_bytes_under_the_signed_digest_are_refused() -> None:
    changed = proposal_bytes(proposal(quantity="0.2"))
    assert code(verify(proposal(), canonical=changed)) == ReasonCode.APPROVAL_DIGEST_MISMATCH


def test_bytes_that_are_no_proposal_are_refused() -> None:
    for canonical in (b"", b"{}", b"\xff", b"x" * 20_000, proposal_bytes(proposal()) + b" "):
        assert code(verify(proposal(), canonical=canonical)) == ReasonCode.AUTHORITY_PROPOSAL_MALFORMED


def test_a_signature_by_another_key_is_refused() -> None:
    forged = sign_digest(SECOND_SEED, approve(proposal())[1])
    verdict = verify(proposal(), signatures=[("approver", forged)])
    assert code(verdict) == ReasonCode.AUTHORITY_SIGNATURE_INVALID


@pytest.mark.parametrize("signature", [b"", b"short", bytes(64)])
def test_a_signature_out_of_form_is_refused(signature: bytes) -> None:
    verdict = verify(proposal(), signatures=[("approver", signature)])
    assert code(verdict) == ReasonCode.AUTHORITY_SIGNATURE_INVALID


def test_one_bad_signature_spoils_the_approval_even_beside_enough_good_ones() -> None:
    signatures = [*approve(proposal())[2], ("second", bytes(64))]
    assert code(verify(proposal(), signatures=signatures)) == ReasonCode.AUTHORITY_SIGNATURE_INVALID


def test_a_key_that_isnt_enrolled_is_refused() -> None:
    assert code(verify(proposal(), ("stranger", APPROVER_SEED))) == ReasonCode.AUTHORITY_SIGNER_UNKNOWN


def test_no_signature_at_all_is_insufficient() -> None:
    assert code(verify(proposal(), signatures=[])) == ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT


def test_more_signatures_than_anyone_needs_are_refused_before_any_is_verified() -> None:
    assert code(verify(proposal(), signatures=[("approver", b"")] * 17)) == ReasonCode.AUTHORITY_PROPOSAL_MALFORMED


def test_a_paper_key_approves_nothing_live() -> None:
    assert code(verify(proposal(mode="LIVE"), mode="LIVE")) == ReasonCode.AUTHORITY_KEY_PAPER_ONLY


def test_a_live_key_approves_live_orders() -> None:
    live = msgspec.structs.replace(
        ROSTER, entries=(entry("approver", "user-approver", APPROVER_SEED, paper_only=False),)
    )
    assert code(verify(proposal(mode="LIVE"), mode="LIVE", roster=live)) == "approved"


def test_a_key_that_only_signs_sessions_in_approves_nothing() -> None:
    entries = (ROSTER.entries[0], entry("trader", "user-trader", TRADER_SEED, approves=False))
    roster = msgspec.structs.replace(ROSTER, entries=entries)
    assert code(verify(proposal(), TRADER, roster=roster)) == ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED
    assert code(verify(proposal(), APPROVER, roster=roster)) == "approved"


def test_two_keys_of_one_user_are_one_approval() -> None:
    roster = msgspec.structs.replace(
        ROSTER,
        entries=(
            entry("approver", "user-approver", APPROVER_SEED),
            entry("second", "user-approver", SECOND_SEED),
        ),
    )
    verdict = verify(proposal(**LARGE), APPROVER, SECOND, roster=roster)
    assert code(verdict) == ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT


def test_what_was_approved_comes_back_with_who_approved_it() -> None:
    what = proposal(**LARGE)
    verdict = verify(what, APPROVER, SECOND)
    assert isinstance(verdict, Approved)
    assert verdict.proposal == what
    assert [(record.key_id, record.user_id) for record in verdict.signatures] == [
        ("approver", "user-approver"),
        ("second", "user-second"),
    ]
    assert what.account_id == ACCOUNT
