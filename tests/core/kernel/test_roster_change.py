"""A new roster ends what those gave who may give it no longer; a document is used up even if it changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.authority.roster import render_signed_roster, sign_roster
from core.types.codes import ReasonCode
from core.types.events import RosterEntry
from tests.core.approvals import (
    ACCOUNT,
    APPROVER_SEED,
    ROOT_SEED,
    ROSTER,
    SECOND_SEED,
    TRADER_SEED,
    entry,
)
from tests.core.kernel.desk import Desk, grant, mandate, opened, rules

C = ReasonCode
APPROVER, SECOND, TRADER = ROSTER.entries


def install(desk: Desk, entries: tuple[RosterEntry, ...], threshold: str = "50000") -> Any:
    """Under the root key, over the control plane."""
    roster = msgspec.structs.replace(
        ROSTER, version=desk.kernel.roster.version + 1, entries=entries, two_approvals_above_quote=threshold
    )
    signed = msgspec.json.decode(render_signed_roster(sign_roster(ROOT_SEED, roster)))
    body = {"roster": msgspec.json.encode(signed["roster"]).decode(), "signature_hex": signed["signature_hex"]}
    return desk.administer("roster.install", body)


ROTATED = entry("trader", "user-trader", "66" * 32)
OTHER_PERSON = entry("trader", "user-else", TRADER_SEED)
OTHER_ACCOUNT = entry("trader", "user-trader", TRADER_SEED, accounts=("other",))
MORE_ACCOUNTS = entry("trader", "user-trader", TRADER_SEED, accounts=(ACCOUNT, "other"))


@pytest.mark.parametrize(
    ("entries", "stands"),
    [
        ((APPROVER, SECOND, TRADER), True),
        ((APPROVER, TRADER), True),
        ((APPROVER, SECOND, MORE_ACCOUNTS), True),
        ((APPROVER, SECOND), False),
        ((APPROVER, SECOND, ROTATED), False),
        ((APPROVER, SECOND, OTHER_PERSON), False),
        ((APPROVER, SECOND, OTHER_ACCOUNT), False),
    ],
)
def test_a_session_ends_with_the_key_that_signed_it_in(entries: tuple[RosterEntry, ...], stands: bool) -> None:
    desk = opened()
    order = desk.resting()
    assert install(desk, entries) is None
    answer = desk.order(price=5_999_999)
    assert (answer in desk.kernel.orders) if stands else answer == C.AUTHORITY_SESSION_REVOKED
    assert desk.kernel.sessions["ses-1"].closed is not stands
    assert desk.cancel(order) is None  # its orders stay, and can be cancelled


@pytest.mark.parametrize(
    ("entries", "threshold", "total", "stands"),
    [
        ((APPROVER, SECOND, TRADER), "50000", "60000", True),
        ((APPROVER, TRADER), "50000", "60000", False),  # two were due, one is left
        ((APPROVER, TRADER), "60000", "60000", True),  # one is enough from here on
        ((SECOND,), "50000", "50000", True),
        ((TRADER,), "50000", "50000", False),
        ((APPROVER, SECOND), "50000", "60000", True),
        ((APPROVER, msgspec.structs.replace(SECOND, approves=False)), "50000", "60000", False),
    ],
)
def test_a_mandate_stands_while_enough_of_those_who_gave_it_may(
    entries: tuple[RosterEntry, ...], threshold: str, total: str, stands: bool
) -> None:
    desk = Desk()
    given = mandate(max_total_notional_quote=total)
    assert desk.install_mandate(given, (("approver", APPROVER_SEED), ("second", SECOND_SEED))) is None
    assert install(desk, entries, threshold) is None
    answer = desk.strategy_order()
    assert (answer in desk.kernel.orders) if stands else answer == C.AUTHORITY_MANDATE_REVOKED


def test_a_lower_threshold_takes_back_what_one_person_gave() -> None:
    desk = Desk()
    assert desk.install_mandate(mandate(max_total_notional_quote="50000"), (("approver", APPROVER_SEED),)) is None
    assert install(desk, ROSTER.entries, "49999") is None
    assert desk.strategy_order() == C.AUTHORITY_MANDATE_REVOKED
    assert desk.approved(quantity="0.8333") in desk.kernel.orders  # 49,998: one signature
    assert desk.approved(quantity="0.8334") == C.APPROVAL_SIGNATURES_INSUFFICIENT


def test_an_approval_by_a_key_that_was_removed_counts_no_longer() -> None:
    desk = Desk()
    assert install(desk, (SECOND, TRADER)) is None
    assert desk.approved() == C.AUTHORITY_SIGNER_UNKNOWN


def test_a_session_whose_key_is_back_stays_ended() -> None:
    desk = opened()
    install(desk, (APPROVER, SECOND))
    install(desk, ROSTER.entries)
    assert desk.order() == C.AUTHORITY_SESSION_REVOKED
    assert desk.open_session(grant(session_id="ses-2")) is None
    assert desk.order(by="ses-2") in desk.kernel.orders


def test_replay_gives_the_same_sessions_and_mandates() -> None:
    desk = opened()
    install(desk, (APPROVER,))
    snapshot = type(desk.kernel).from_snapshot(desk.kernel.snapshot())
    assert snapshot.state_digest() == desk.kernel.state_digest()
    assert snapshot.sessions["ses-1"].closed
    assert snapshot.mandates["man-1"].revoked


def test_rules_that_are_in_force_already_use_their_document_up() -> None:
    desk = Desk()
    same = desk.kernel.rules_history[-1].document
    assert desk.administer("rules.install", {"document": same}, document_id="doc-a") is None
    assert "doc-a" in desk.kernel.documents
    assert desk.administer("rules.install", {"document": rules(max_open_orders="1")}) is None
    # Sent again by somebody else, it would loosen what was tightened since.
    again = desk.administer("rules.install", {"document": same}, document_id="doc-a")
    assert again == C.AUTHORITY_DOCUMENT_REPLAYED


def test_a_rollback_goes_to_the_newest_rules_that_differ() -> None:
    desk = Desk()
    first = desk.kernel.rules_digest_hex
    tight = rules(max_open_orders="1")
    for _ in range(2):
        assert desk.administer("rules.install", {"document": tight}) is None
        desk.now_ns += 1
    assert desk.administer("rules.rollback", {"version": "0"}) is None
    assert desk.kernel.rules_digest_hex == first
    assert desk.administer("rules.rollback", {"version": "99"}) == C.RISK_RULES_INVALID
    assert desk.administer("rules.rollback", {"version": "0"}) is None  # and back
    assert desk.kernel.rules is not None
    assert desk.kernel.rules.document == tight
