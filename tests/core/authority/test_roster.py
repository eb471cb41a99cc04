"""The roster and the thaw: only what the root key signed counts."""

from __future__ import annotations

import msgspec
import pytest

from core.authority.roster import RosterError, parse_signed_roster, render_signed_roster, roster_bytes, sign_roster
from core.authority.signatures import public_key_hex
from core.authority.thaw import THAW_VALID_NS, SignedThaw, Thaw, sign_thaw, verify_thaw
from core.types.codes import ReasonCode
from core.types.events import Roster
from tests.core.approvals import APPROVER_SEED, ENGINE_ID, NOW_NS, ROOT_SEED, ROSTER, entry, signed_roster

ROOT_PUBLIC = public_key_hex(ROOT_SEED)


def read(content: bytes) -> Roster:
    return parse_signed_roster(content, "roster.json", ROOT_PUBLIC).roster


def test_a_roster_survives_its_file() -> None:
    assert read(render_signed_roster(signed_roster())) == ROSTER


def test_rosters_signed_before_keys_could_be_for_sessions_only_stay_signed() -> None:
    assert b"approves" not in roster_bytes(ROSTER)
    limited = msgspec.structs.replace(ROSTER, entries=(entry("trader", "user-trader", APPROVER_SEED, approves=False),))
    assert b'"approves":false' in roster_bytes(limited)
    assert read(render_signed_roster(sign_roster(ROOT_SEED, limited))) == limited


def test_a_roster_that_was_changed_after_signing_is_refused() -> None:
    content = render_signed_roster(signed_roster()).replace(b'"50000"', b'"90000"')
    with pytest.raises(RosterError, match=r"roster\.json: the signature is not the root key's"):
        read(content)


def test_a_roster_signed_by_another_key_is_refused() -> None:
    with pytest.raises(RosterError, match="the signature is not the root key's"):
        read(render_signed_roster(sign_roster(APPROVER_SEED, ROSTER)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 0}, "version"),
        ({"two_approvals_above_quote": "1e5"}, "two_approvals_above_quote"),
        ({"two_approvals_above_quote": "-1"}, "two_approvals_above_quote"),
        ({"two_approvals_above_quote": "NaN"}, "two_approvals_above_quote"),
        (
            {"entries": (entry("a", "user-1", APPROVER_SEED), entry("a", "user-2", ROOT_SEED))},
            "key_id 'a' stands in two",
        ),
        ({"entries": (entry("a", "user-1", APPROVER_SEED), entry("b", "user-2", APPROVER_SEED))}, "public_key_hex"),
        ({"entries": (entry("", "user-1", APPROVER_SEED),)}, "lacks its key_id"),
        ({"entries": (msgspec.structs.replace(ROSTER.entries[0], public_key_hex="ab"),)}, "32 bytes"),
    ],
)
def test_a_roster_that_could_be_read_in_two_ways_is_refused(changes: dict[str, object], message: str) -> None:
    roster = msgspec.structs.replace(ROSTER, **changes)
    with pytest.raises(RosterError, match=message):
        read(render_signed_roster(sign_roster(ROOT_SEED, roster)))


def test_a_roster_file_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(RosterError, match="not a signed roster"):
        read(b'{"roster": {}, "signature_hex": "", "extra": 1}')


def thaw(**changes: str) -> SignedThaw:
    values = {
        "engine_id": ENGINE_ID,
        "state": "NORMAL",
        "requested_by": "ops",
        "reason": "mended",
        "issued_at_ns": str(NOW_NS),
    }
    return sign_thaw(ROOT_SEED, Thaw(**{**values, **changes}))


@pytest.mark.parametrize(
    ("signed", "changed_ns", "now_ns", "expected"),
    [
        (thaw(), NOW_NS - 1, NOW_NS, None),
        (thaw(), NOW_NS, NOW_NS + 1, ReasonCode.APPROVAL_ALREADY_CONSUMED),
        (thaw(), 0, NOW_NS + THAW_VALID_NS, None),
        (thaw(), 0, NOW_NS + THAW_VALID_NS + 1, ReasonCode.APPROVAL_EXPIRED),
        (thaw(), 0, NOW_NS - 1, ReasonCode.APPROVAL_EXPIRED),
        (thaw(engine_id="engine-2"), 0, NOW_NS, ReasonCode.AUTHORITY_WRONG_ENGINE),
        (thaw(state="LOOSE"), 0, NOW_NS, ReasonCode.REQUEST_INVALID),
        (
            msgspec.structs.replace(thaw(), signature_hex=thaw(state="REDUCE_ONLY").signature_hex),
            0,
            NOW_NS,
            ReasonCode.AUTHORITY_SIGNATURE_INVALID,
        ),
    ],
)
def test_a_thaw_counts_once_and_soon(
    signed: SignedThaw, changed_ns: int, now_ns: int, expected: ReasonCode | None
) -> None:
    refusal = verify_thaw(signed, ROOT_PUBLIC, engine_id=ENGINE_ID, kill_switch_changed_ns=changed_ns, now_ns=now_ns)
    assert (refusal and refusal.code) == expected
