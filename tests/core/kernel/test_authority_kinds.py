"""Each kind of authority: who may give it, for how long, up to what; and each order's record tells which it carried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from core.authority.administration import ADMINISTRATION_LONGEST_NS
from core.authority.documents import CLOCK_SKEW_NS
from core.authority.mandate import MANDATE_LONGEST_NS, mandate_bytes, mandate_digest
from core.authority.proposal import proposal_bytes
from core.authority.session import SESSION_LONGEST_NS, grant_bytes, sign_session
from core.authority.verify import PROPOSAL_LONGEST_NS
from core.kernel import decide_approvals, decide_authority
from core.kernel import decide_void as decide_void_module
from core.kernel import kernel as kernel_module
from core.kernel.kernel import Kernel
from core.types.authority import (
    ApprovalAuthority,
    DerivedAuthority,
    MandateAuthority,
    SessionAuthority,
)
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode
from core.types.events import decode_event, encode_event
from core.types.orders import GroupKind, OrderRole, OrderType, Side
from tests.core.approvals import (
    ACCOUNT,
    APPROVER_SEED,
    LIVE_INPUTS,
    NOW_NS,
    ROOT_SEED,
    ROSTER,
    SECOND_SEED,
    TRADER_SEED,
    entry,
    equity,
    proposal,
)
from tests.core.kernel.desk import Desk, grant, mandate, opened, rules

C = ReasonCode
OK = None
AT = 6_000_000
APPROVER, SECOND = ("approver", APPROVER_SEED), ("second", SECOND_SEED)
TRADER = ("trader", TRADER_SEED)
LATER = {"issued_at_ns": str(NOW_NS + CLOCK_SKEW_NS), "expires_at_ns": str(NOW_NS + CLOCK_SKEW_NS + NS_PER_S)}
TOO_LATE = {"issued_at_ns": str(NOW_NS + CLOCK_SKEW_NS + 1), "expires_at_ns": str(NOW_NS + CLOCK_SKEW_NS + NS_PER_S)}

ELSEWHERE_IDENTITY = [
    ({"engine_id": "engine-2"}, C.AUTHORITY_WRONG_ENGINE),
    ({"environment": "production"}, C.AUTHORITY_WRONG_ENGINE),
    ({"mode": "LIVE"}, C.AUTHORITY_WRONG_MODE),
    (LATER, OK),
    (TOO_LATE, C.AUTHORITY_DOCUMENT_MALFORMED),
    ({"expires_at_ns": str(NOW_NS)}, C.AUTHORITY_DOCUMENT_MALFORMED),
    ({"schema": "veloz.order-ticket/1"}, C.AUTHORITY_DOCUMENT_MALFORMED),
]


def until(longest_ns: int) -> dict[str, str]:
    return {"issued_at_ns": str(NOW_NS), "expires_at_ns": str(NOW_NS + longest_ns)}


# approvals


@pytest.mark.parametrize(
    ("created_ns", "expires_ns", "code"),
    [
        (NOW_NS, NOW_NS + PROPOSAL_LONGEST_NS, OK),
        (NOW_NS, NOW_NS + PROPOSAL_LONGEST_NS + 1, C.AUTHORITY_PROPOSAL_MALFORMED),
        (NOW_NS - PROPOSAL_LONGEST_NS + 1, NOW_NS + 1, OK),
        (NOW_NS - PROPOSAL_LONGEST_NS, NOW_NS, C.APPROVAL_EXPIRED),
        (NOW_NS, NOW_NS, C.AUTHORITY_PROPOSAL_MALFORMED),
        (NOW_NS + CLOCK_SKEW_NS, NOW_NS + CLOCK_SKEW_NS + 1, OK),
        (NOW_NS + CLOCK_SKEW_NS + 1, NOW_NS + CLOCK_SKEW_NS + 2, C.AUTHORITY_PROPOSAL_MALFORMED),
    ],
)
def test_an_approval_cant_be_kept_for_long(created_ns: int, expires_ns: int, code: ReasonCode | None) -> None:
    desk = Desk()
    answer = desk.approved(created_at_ns=str(created_ns), expires_at_ns=str(expires_ns))
    assert answer == code if code else answer in desk.kernel.orders, desk.refusal


LARGE_NEEDS_TWO = """
[[rule]]
name = "large"
when = "order.quantity > 0.1"
action = "require_two_approvals"
message = "large"
"""


def test_a_rule_that_wants_two_uses_up_nothing_and_never_counts_the_asker() -> None:
    desk = opened(rules(LARGE_NEEDS_TWO))
    same = {"suggestion_id": "sug-large", "quantity": "0.2"}
    for signers in ([APPROVER], [APPROVER, TRADER]):
        assert desk.approved(*signers, **same) is C.RISK_CUSTOM_RULE_NEEDS_TWO_APPROVALS, signers
        assert "sug-large" not in desk.kernel.consumed
    assert desk.approved(APPROVER, SECOND, **same) in desk.kernel.orders


@pytest.mark.parametrize(
    ("quantity", "rule", "due"), [("0.1", "", 1), ("0.83333", "", 1), ("0.83334", "", 2), ("0.2", LARGE_NEEDS_TWO, 2)]
)
def test_how_many_have_to_sign_is_told_before_anybody_does(quantity: str, rule: str, due: int) -> None:
    desk = opened(rules(rule))
    canonical = proposal_bytes(proposal(quantity=quantity))
    checked = decide_approvals.decide_check(desk.kernel, canonical, LIVE_INPUTS, desk.capabilities, desk.now_ns)
    assert checked.approvals_due == due


def _close(desk: Desk, number: int) -> None:
    desk.close_session(f"ses-{number}")


def _expire(desk: Desk, _number: int) -> None:
    desk.now_ns = int(desk.kernel.sessions["ses-0"].grant.expires_at_ns)


@pytest.mark.parametrize(
    ("ends", "remembered", "code"),
    [
        (lambda _desk, _number: None, 100, C.SERVICE_OVERLOADED),
        (_close, 100, None),
        (_expire, 100, None),
        (_close, 4, None),
        (_close, 3, C.SERVICE_OVERLOADED),
    ],
    ids=["in force", "closed", "expired", "closed, just within memory", "closed, and memory is full"],
)
def test_sessions_that_are_over_count_against_memory_only(
    monkeypatch: pytest.MonkeyPatch, ends: Callable[[Desk, int], None], remembered: int, code: C | None
) -> None:
    monkeypatch.setattr(decide_authority, "SESSIONS_LIMIT", 3)
    monkeypatch.setattr(decide_authority, "GRANTS_REMEMBERED_LIMIT", remembered)
    desk = Desk()
    for number in range(3):
        assert desk.open_session(grant(session_id=f"ses-{number}")) is None
    ends(desk, 1)
    later = {"issued_at_ns": str(desk.now_ns), "expires_at_ns": str(desk.now_ns + NS_PER_S)}
    assert desk.open_session(grant(session_id="ses-last", **later)) is code


@pytest.mark.parametrize(
    ("is_revoked", "remembered", "code"),
    [(False, 100, C.SERVICE_OVERLOADED), (True, 100, None), (True, 4, None), (True, 3, C.SERVICE_OVERLOADED)],
)
def test_mandates_that_are_over_count_against_memory_only(
    monkeypatch: pytest.MonkeyPatch, is_revoked: bool, remembered: int, code: C | None
) -> None:
    monkeypatch.setattr(decide_authority, "MANDATES_LIMIT", 3)
    monkeypatch.setattr(decide_authority, "GRANTS_REMEMBERED_LIMIT", remembered)
    desk = Desk()
    for number in range(3):
        assert desk.install_mandate(mandate(mandate_id=f"man-{number}")) is None
    if is_revoked:
        desk.revoke("man-1")
    assert desk.install_mandate(mandate(mandate_id="man-last")) is code


@pytest.mark.parametrize(
    ("voided", "version", "code"), [(1, "1", C.APPROVAL_VERSION_SUPERSEDED), (2, "1", C.APPROVAL_VERSION_SUPERSEDED)]
)
def test_a_version_that_was_made_void_is_approved_by_nobody_and_the_next_one_is(
    voided: int, version: str, code: ReasonCode
) -> None:
    desk = opened()
    assert desk.void("sug-a", voided) is None
    assert desk.approved(suggestion_id="sug-a", version=version) is code
    assert desk.approved(suggestion_id="sug-a", version=str(voided + 1)) in desk.kernel.orders


@pytest.mark.parametrize("later_ns", [0, 301 * NS_PER_S, PROPOSAL_LONGEST_NS - 1])
def test_a_used_suggestion_stays_used_for_as_long_as_another_version_of_it_could_hold(
    monkeypatch: pytest.MonkeyPatch, later_ns: int
) -> None:
    """given two versions that were signed before either was used, the one that holds longer can't wait for the engine
    to forget the other."""
    monkeypatch.setattr(kernel_module, "TIDY_INTERVAL_EVENTS", 1)
    desk = opened()
    assert desk.approved(suggestion_id="sug-a") in desk.kernel.orders
    desk.now_ns += later_ns
    desk.apply(msgspec.structs.replace(equity(), ts_ns=desk.now_ns))
    holds_ns = {"created_at_ns": str(NOW_NS), "expires_at_ns": str(NOW_NS + PROPOSAL_LONGEST_NS)}
    assert desk.approved(suggestion_id="sug-a", version="2", **holds_ns) is C.APPROVAL_ALREADY_CONSUMED


@pytest.mark.parametrize(("later_ns", "is_known"), [(-1, True), (0, False)])
def test_a_used_suggestion_is_forgotten_once_no_version_of_that_time_can_hold(
    monkeypatch: pytest.MonkeyPatch, later_ns: int, is_known: bool
) -> None:
    monkeypatch.setattr(kernel_module, "TIDY_INTERVAL_EVENTS", 1)
    desk = opened()
    assert desk.approved(suggestion_id="sug-a") in desk.kernel.orders
    decided_ns = desk.events[-1].ts_ns
    after_ns = decided_ns + PROPOSAL_LONGEST_NS + CLOCK_SKEW_NS + later_ns
    desk.apply(msgspec.structs.replace(equity(), ts_ns=after_ns))
    assert ("sug-a" in desk.kernel.consumed) is is_known


def test_what_was_used_cant_be_made_void_and_asking_again_writes_nothing() -> None:
    desk = opened()
    assert desk.approved(suggestion_id="sug-a") in desk.kernel.orders
    assert desk.void("sug-a", 1) is C.APPROVAL_ALREADY_CONSUMED
    assert desk.void("sug-b", 3) is None
    before = desk.kernel.sequence
    assert [desk.void("sug-b", version) for version in (3, 2)] == [None, None]
    assert desk.kernel.sequence == before
    assert [desk.void("sug-c", version) for version in (0, -1, 1 << 53)] == [C.REQUEST_INVALID] * 3


def without_table(snapshot: bytes, name: str) -> bytes:
    """As a release wrote it that didn't have the table."""
    content = msgspec.msgpack.decode(snapshot)
    del content["tables"][name]
    return msgspec.msgpack.encode(content)


def test_what_is_void_is_remembered_for_as_long_as_a_proposal_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_void_module, "VOIDED_LIMIT", 1)
    desk = opened()
    assert desk.void("sug-a", 1) is None
    assert desk.void("sug-b", 1) is C.SERVICE_OVERLOADED
    assert desk.void("sug-a", 2) is None
    restored = Kernel.from_snapshot(desk.kernel.snapshot())
    assert restored.voided == desk.kernel.voided
    assert Kernel.from_snapshot(without_table(desk.kernel.snapshot(), "voided")).voided == {}
    with pytest.raises(ValueError, match="not a snapshot"):
        Kernel.from_snapshot(without_table(desk.kernel.snapshot(), "orders"))
    desk.kernel._tidy(desk.now_ns + PROPOSAL_LONGEST_NS)
    assert "sug-a" in desk.kernel.voided
    desk.kernel._tidy(desk.now_ns + PROPOSAL_LONGEST_NS + CLOCK_SKEW_NS)
    assert "sug-a" not in desk.kernel.voided


# sessions


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        *ELSEWHERE_IDENTITY,
        (until(SESSION_LONGEST_NS), OK),
        (until(SESSION_LONGEST_NS + 1), C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"user_id": "user-approver"}, C.AUTHORITY_SIGNER_NOT_PERMITTED),
        ({"account_ids": (ACCOUNT, "other")}, C.AUTHORITY_SIGNER_NOT_PERMITTED),
        ({"account_ids": ()}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"account_ids": (ACCOUNT, ACCOUNT)}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"public_key_hex": ""}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"max_order_notional_quote": "0"}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"max_total_notional_quote": "-1"}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"max_total_notional_quote": "1e9"}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"max_orders": "1.5"}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"session_id": ""}, C.AUTHORITY_DOCUMENT_MALFORMED),
    ],
)
def test_a_session_is_signed_in_as_a_whole_or_not(changes: dict[str, Any], code: ReasonCode | None) -> None:
    assert Desk().open_session(grant(**changes)) == code


@pytest.mark.parametrize(
    ("key_id", "seed", "code"),
    [
        ("trader", APPROVER_SEED, C.AUTHORITY_SIGNATURE_INVALID),
        ("approver", APPROVER_SEED, C.AUTHORITY_SIGNER_NOT_PERMITTED),  # its own user's key
        ("nobody", TRADER_SEED, C.AUTHORITY_SIGNER_UNKNOWN),
    ],
)
def test_a_session_is_signed_in_by_its_users_own_key(key_id: str, seed: str, code: ReasonCode) -> None:
    assert Desk().open_session(grant(), key_id, seed) == code


@pytest.mark.parametrize("is_paper_only", [True, False])
def test_a_paper_key_signs_no_session_in_for_live(is_paper_only: bool) -> None:
    enrolled = entry("trader", "user-trader", TRADER_SEED, paper_only=is_paper_only)
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=(enrolled,)))
    desk.live()
    expected = C.AUTHORITY_KEY_PAPER_ONLY if is_paper_only else OK
    assert desk.open_session(grant(mode="LIVE")) == expected


def test_a_session_id_is_used_once_also_after_it_was_closed() -> None:
    desk = Desk()
    desk.open_session()
    assert desk.open_session() == C.AUTHORITY_DOCUMENT_REPLAYED
    desk.close_session("ses-1")
    assert desk.open_session() == C.AUTHORITY_DOCUMENT_REPLAYED
    assert desk.close_session("ses-1") is None  # closed is closed
    assert desk.close_session("ses-9") == C.AUTHORITY_SESSION_UNKNOWN


@pytest.mark.parametrize(
    ("limits", "taken", "code"),
    [
        ({"max_orders": "2"}, 2, C.AUTHORITY_SESSION_LIMIT_EXCEEDED),
        ({"max_total_notional_quote": "12000"}, 2, C.AUTHORITY_SESSION_LIMIT_EXCEEDED),
        ({"max_total_notional_quote": "17999.997"}, 3, C.AUTHORITY_SESSION_LIMIT_EXCEEDED),
        ({"max_order_notional_quote": "5999.99"}, 0, C.AUTHORITY_SESSION_LIMIT_EXCEEDED),
    ],
)
def test_a_sessions_limits_hold_for_all_of_its_orders(limits: dict[str, str], taken: int, code: ReasonCode) -> None:
    desk = Desk()
    desk.open_session(grant(**limits))
    answers = [desk.order(price=AT - number) for number in range(4)]
    assert [answer in desk.kernel.orders for answer in answers] == [number < taken for number in range(4)]
    assert set(answers[taken:]) == {code}


@pytest.mark.parametrize(
    ("user", "seed", "content", "code"),
    [
        ("user-else", "55" * 32, b"ticket", C.AUTHORITY_SIGNER_NOT_PERMITTED),
        ("user-trader", TRADER_SEED, b"ticket", C.AUTHORITY_SIGNATURE_INVALID),  # the enrolled key isn't the session's
        ("user-trader", "55" * 32, b"another ticket", C.AUTHORITY_SIGNATURE_INVALID),
    ],
)
def test_only_the_sessions_own_key_asks(user: str, seed: str, content: bytes, code: ReasonCode) -> None:
    desk = opened()
    authority, _ = desk.signed(b"ticket", "ses-1", user, seed)
    assert desk.ask(desk.request(), authority, content) == code


def test_a_session_ends_by_the_engines_clock_for_amendments_too() -> None:
    desk = opened()
    order = desk.resting()
    desk.now_ns = int(grant().expires_at_ns)
    assert desk.order() == C.AUTHORITY_SESSION_EXPIRED
    assert desk.amend(order, 9_999) == C.AUTHORITY_SESSION_EXPIRED
    assert desk.cancel(order) is None


# mandates


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        *ELSEWHERE_IDENTITY,
        (until(MANDATE_LONGEST_NS), OK),
        (until(MANDATE_LONGEST_NS + 1), C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"symbols": ()}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"symbols": ("BTCUSDT", "BTCUSDT")}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"strategy_digest_hex": "AB" * 32}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"max_position_notional_quote": "0"}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"max_open_orders": "-1"}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ({"account_id": "other"}, C.AUTHORITY_SIGNER_NOT_PERMITTED),
    ],
)
def test_a_mandate_is_given_as_a_whole_or_not(changes: dict[str, Any], code: ReasonCode | None) -> None:
    assert Desk().install_mandate(mandate(**changes)) == code


@pytest.mark.parametrize(
    ("total", "asker_id", "signers", "code"),
    [
        ("50000", "user-quant", [APPROVER], OK),
        ("50000", "user-approver", [APPROVER], OK),  # one is due, and the asker's own is one
        ("50000", "user-quant", [], C.APPROVAL_SIGNATURES_INSUFFICIENT),
        ("50000.01", "user-quant", [APPROVER], C.APPROVAL_SIGNATURES_INSUFFICIENT),
        ("50000.01", "user-quant", [APPROVER, APPROVER], C.APPROVAL_SIGNATURES_INSUFFICIENT),
        ("50000.01", "user-quant", [APPROVER, SECOND], OK),
        ("50000.01", "user-approver", [APPROVER, SECOND], C.APPROVAL_SELF_NOT_COUNTED),
        ("50000", "user-quant", [("nobody", APPROVER_SEED)], C.AUTHORITY_SIGNER_UNKNOWN),
        ("50000", "user-quant", [("approver", SECOND_SEED)], C.AUTHORITY_SIGNATURE_INVALID),
        ("50000", "user-quant", [APPROVER, ("second", APPROVER_SEED)], C.AUTHORITY_SIGNATURE_INVALID),
    ],
)
def test_a_mandate_takes_the_approvals_that_a_proposal_of_its_total_would(
    total: str, asker_id: str, signers: list[tuple[str, str]], code: ReasonCode | None
) -> None:
    given = mandate(max_total_notional_quote=total, asker_id=asker_id)
    assert Desk().install_mandate(given, signers) == code


def test_a_key_that_only_signs_sessions_in_approves_no_mandate_and_no_order() -> None:
    entries = tuple(msgspec.structs.replace(known, approves=known.key_id != "trader") for known in ROSTER.entries)
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=entries))
    assert desk.open_session() is None
    assert desk.install_mandate(mandate(max_total_notional_quote="50000"), [TRADER]) == C.AUTHORITY_SIGNER_NOT_PERMITTED
    assert desk.approved(TRADER, asker_id="user-else") == C.AUTHORITY_SIGNER_NOT_PERMITTED


def test_a_signature_for_one_kind_of_document_means_nothing_for_another() -> None:
    desk = Desk()
    given = mandate(max_total_notional_quote="50000")
    as_session = sign_session(APPROVER_SEED, given)  # type: ignore[arg-type]
    decided = decide_authority.decide_mandate(
        desk.kernel, mandate_bytes(given), [("approver", as_session)], desk.now_ns
    )
    assert getattr(decided, "code", None) is C.AUTHORITY_SIGNATURE_INVALID
    assert mandate_digest(mandate_bytes(given)) != mandate_digest(grant_bytes(grant()))


STRATEGY_ORDERS = [
    ({}, {"symbol": "BTCUSDT"}, 4),
    ({"symbols": ("ETHUSDT",)}, {}, 0),
    ({"venue": "elsewhere"}, {}, 0),
    ({}, {"strategy_id": "another"}, 0),
    ({"max_order_notional_quote": "5999.999"}, {}, 1),  # the first is at the price, the others below it
    ({"max_position_notional_quote": "18000"}, {}, 3),
    ({"max_total_notional_quote": "12000"}, {}, 2),
    ({"max_open_orders": "1"}, {}, 1),
]


@pytest.mark.parametrize(("limits", "terms", "taken"), STRATEGY_ORDERS)
def test_a_mandates_limits_hold_for_all_of_its_orders(
    limits: dict[str, Any], terms: dict[str, Any], taken: int
) -> None:
    desk = Desk()
    desk.install_mandate(mandate(**limits))
    prices = (AT - number for number in range(4)) if "max_order" not in str(limits) else (AT - 1, AT, AT, AT)
    answers = [desk.strategy_order(price=price, **terms) for price in prices]
    assert [answer in desk.kernel.orders for answer in answers] == [number < taken for number in range(4)]
    assert set(answers[taken:]) <= {C.AUTHORITY_MANDATE_LIMIT_EXCEEDED}


def test_a_mandate_id_is_used_once_and_anybody_may_take_it_away() -> None:
    desk = opened()
    assert desk.install_mandate() == C.AUTHORITY_DOCUMENT_REPLAYED
    assert desk.revoke("man-1") is None
    assert desk.install_mandate() == C.AUTHORITY_DOCUMENT_REPLAYED
    assert desk.revoke("man-9") == C.AUTHORITY_MANDATE_UNKNOWN


# administration

BODY = {"document": rules(max_open_orders="7")}
ADMINISTRATOR = msgspec.structs.replace(ROSTER.entries[0], administers=("rules.install",))


@pytest.mark.parametrize(
    ("kind", "signers", "changes", "code"),
    [
        ("rules.install", [("root", ROOT_SEED)], {}, OK),
        ("rules.install", [APPROVER], {}, OK),
        ("rules.install", [SECOND], {}, C.AUTHORITY_SIGNER_NOT_PERMITTED),
        ("rules.install", [APPROVER, SECOND], {}, C.AUTHORITY_SIGNER_NOT_PERMITTED),
        ("rules.install", [], {}, C.APPROVAL_SIGNATURES_INSUFFICIENT),
        ("rules.install", [("root", APPROVER_SEED)], {}, C.AUTHORITY_SIGNATURE_INVALID),
        ("rules.install", [("root", ROOT_SEED), APPROVER], {}, C.AUTHORITY_SIGNATURE_INVALID),
        ("rules.rollback", [APPROVER], {}, C.AUTHORITY_DOCUMENT_MALFORMED),  # another kind's body
        ("nonsense", [("root", ROOT_SEED)], {}, C.AUTHORITY_DOCUMENT_MALFORMED),
        ("rules.install", [APPROVER], {"engine_id": "engine-2"}, C.AUTHORITY_WRONG_ENGINE),
        ("rules.install", [APPROVER], until(ADMINISTRATION_LONGEST_NS), OK),
        ("rules.install", [APPROVER], until(ADMINISTRATION_LONGEST_NS + 1), C.AUTHORITY_DOCUMENT_MALFORMED),
        ("rules.install", [APPROVER], TOO_LATE, C.AUTHORITY_DOCUMENT_MALFORMED),
    ],
)
def test_administration_is_for_those_whom_the_roster_names_for_its_kind(
    kind: str, signers: list[tuple[str, str]], changes: dict[str, str], code: ReasonCode | None
) -> None:
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=(ADMINISTRATOR, *ROSTER.entries[1:])))
    before = desk.kernel.state_digest()
    assert desk.administer(kind, BODY, signers, **changes) == code
    assert (desk.kernel.state_digest() == before) is (code is not None)


@pytest.mark.parametrize("signers", [[APPROVER], [SECOND, APPROVER]])
def test_only_the_root_key_changes_who_may_what(signers: list[tuple[str, str]]) -> None:
    everything = msgspec.structs.replace(ROSTER.entries[0], administers=("rules.install", "roster.install"))
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=(everything, *ROSTER.entries[1:])))
    body = {"roster": "{}", "signature_hex": ""}
    assert desk.administer("roster.install", body, signers) == C.AUTHORITY_SIGNER_NOT_PERMITTED


def test_a_document_that_was_used_is_remembered_for_as_long_as_it_could_be_used_again() -> None:
    desk = Desk()
    assert desk.administer("rules.install", BODY, document_id="doc-a") is None
    again = Kernel.from_snapshot(desk.kernel.snapshot())
    assert "doc-a" in again.documents
    assert again.documents["doc-a"] == desk.now_ns + 60 * NS_PER_S


# what an order carried


def test_the_record_of_each_order_tells_by_whose_authority_it_was() -> None:
    desk = opened()
    by_session = desk.order()
    by_mandate = desk.strategy_order(price=AT - 1)
    by_approval = desk.approved(price="59998")
    stop = desk.request(side=Side.SELL, order_type=OrderType.STOP, price=None, stop_price=AT - 100)
    derived = desk.group(GroupKind.BRACKET, {OrderRole.ENTRY: desk.request(price=AT - 3), OrderRole.STOP: stop})
    orders = desk.kernel.orders
    kinds = {
        by_session: SessionAuthority,
        by_mandate: MandateAuthority,
        by_approval: ApprovalAuthority,
        derived: DerivedAuthority,
    }
    for order_id, kind in kinds.items():
        assert isinstance(orders[order_id].authority, kind)
    session, approval = orders[by_session].authority, orders[by_approval].authority
    assert isinstance(session, SessionAuthority)
    assert (session.session_id, session.user_id) == ("ses-1", "user-trader")
    assert isinstance(approval, ApprovalAuthority)
    assert [record.key_id for record in approval.signatures] == ["approver"]
    parent = orders[derived].authority
    assert isinstance(parent, DerivedAuthority)
    assert isinstance(orders[parent.parent_id].authority, SessionAuthority)
    # The same is in the journal's bytes.
    for event in desk.events:
        assert decode_event(encode_event(event)) == event


def test_asking_again_is_answered_to_who_may_ask_only() -> None:
    desk = opened()
    request = desk.request(request_id="mine")
    assert desk.ask(request, *desk.signed(b"ticket")) in desk.kernel.orders
    assert desk.ask(request, *desk.signed(b"ticket")) is None, "the first order is the answer"
    forged, content = desk.signed(b"ticket", seed="66" * 32)
    assert desk.ask(request, forged, content) is ReasonCode.AUTHORITY_SIGNATURE_INVALID
