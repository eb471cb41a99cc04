"""Every reason code: a case that provokes it, and the same one just inside. The tables are held against the enum.

What the engine's kernel decides is provoked here, by real decisions on a kernel with events applied. What another part
answers with names the test that provokes it there.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.authority.proposal import AMEND_PROPOSAL_SCHEMA
from core.authority.signatures import sign_digest
from core.kernel import decide, decide_authority
from core.kernel.inputs import Balances, MarginInputs
from core.risk.kill_switch import KillSwitch
from core.types.clock import NS_PER_MS, NS_PER_S
from core.types.codes import ReasonCode
from core.types.events import FreezeChanged
from core.types.instruments import Product
from core.types.orders import GroupKind, OrderRole, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities
from tests.core.approvals import (
    ACCOUNT,
    APPROVER_SEED,
    BTC,
    NOW_NS,
    ROSTER,
    SECOND_SEED,
    approve,
    entry,
    equity,
    proposal,
)
from tests.core.authority.authenticator import Authenticator
from tests.core.authority.proposals import example
from tests.core.kernel.desk import ABLE, D, Desk, grant, mandate, opened, rules

C = ReasonCode
ROOT = Path(__file__).parents[3]
ONE, TENTH, AT = 100_000, 10_000, 6_000_000
"""Quantities in BTC and a price, at BTC's scales: an order of a tenth is worth 6,000."""
SECOND = ("second", SECOND_SEED)
APPROVER = ("approver", APPROVER_SEED)
SELL = {"side": Side.SELL}
Said = tuple[Desk, Any]
CASES: dict[ReasonCode, Callable[[bool], Said]] = {}


def case(code: ReasonCode) -> Callable[[Callable[[bool], Said]], None]:
    def register(provoke: Callable[[bool], Said]) -> None:
        assert code not in CASES, code
        CASES[code] = provoke

    return register


def limited(code: ReasonCode, inside: dict[str, Any], beyond: dict[str, Any], **limits: str) -> None:
    """One order under these rules."""

    @case(code)
    def _(is_beyond: bool) -> Said:
        desk = opened(rules(**limits))
        return desk, desk.order(**(beyond if is_beyond else inside))


# risk: of the order

limited(C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, {}, {"quantity": TENTH + 1}, max_notional_per_order_quote='"6000"')
limited(C.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER, {}, {"quantity": TENTH + 1}, max_quantity_per_order='"0.1"')
limited(C.RISK_PRICE_OUTSIDE_COLLAR, {"price": 6_300_000}, {"price": 6_300_001}, price_collar_bps="500")
limited(C.RISK_POSITION_EXCEEDS_MAX, {}, {"quantity": TENTH + 1}, max_position_notional_quote='"6000"')
limited(C.RISK_GROSS_EXPOSURE_EXCEEDS_MAX, {}, {"quantity": TENTH + 1}, max_gross_exposure_quote='"6000"')
limited(C.RISK_NET_EXPOSURE_EXCEEDS_MAX, {}, {"quantity": TENTH + 1}, max_net_exposure_quote='"6000"')
limited(C.RISK_LEVERAGE_EXCEEDS_MAX, {}, {"quantity": TENTH + 1}, max_leverage='"0.006"')


@case(C.RISK_PRICE_OUTSIDE_MARK_COLLAR)
def _(beyond: bool) -> Said:
    desk = opened(rules(mark_collar_bps="1000"))
    desk.market(last_price="54545.4" if beyond else "54545.5")
    return desk, desk.order()


@case(C.RISK_PRICE_DRIFT_EXCEEDS_MAX)
def _(beyond: bool) -> Said:
    desk = opened(rules(max_deviation_bps="50"))
    return desk, desk.approved(reference_price="59701.4" if beyond else "59701.5")


@case(C.RISK_DEPTH_SHARE_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = opened(rules(max_depth_share_bps="100"))
    desk.around(visible_quantity=D("9.999") if beyond else D(10))
    return desk, desk.order(order_type=OrderType.MARKET)


@case(C.RISK_SELF_TRADE)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.resting(**SELL, price=AT + 100)
    return desk, desk.order(price=AT + (100 if beyond else 99))


@case(C.RISK_INTENT_REPEATED)
def _(beyond: bool) -> Said:
    desk = opened(rules(repeated_intent="{count = 2, window_ms = 1000}"))
    desk.order()
    desk.order()
    desk.now_ns += 1_000 * NS_PER_MS - (1 if beyond else 0)
    return desk, desk.order()


# risk: of the account


@case(C.RISK_BALANCE_INSUFFICIENT)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.around(balances=Balances({"USDT": D("5999.99") if beyond else D(6_000)}, NOW_NS))
    return desk, desk.order()


@case(C.RISK_MARGIN_INSUFFICIENT)
def _(beyond: bool) -> Said:
    desk = opened(instruments=(msgspec.structs.replace(BTC, product=Product.USDM),))
    desk.market(mark_price="60000")
    desk.around(margin=MarginInputs(D("299.99") if beyond else D(300), {"BTCUSDT": 20}, NOW_NS))
    return desk, desk.order()


@case(C.RISK_OPEN_ORDERS_EXCEED_MAX)
def _(beyond: bool) -> Said:
    desk = opened(rules(max_open_orders="2"))
    for number in range(2 if beyond else 1):
        desk.resting(price=AT - number)
    return desk, desk.order(price=AT - 9)


@case(C.RISK_ORDER_RATE_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = opened(rules(order_rate="{count = 1, window_ms = 1000}"))
    desk.order()
    desk.now_ns += 1_000 * NS_PER_MS - (1 if beyond else 0)
    return desk, desk.order(price=AT - 1)


@case(C.RISK_AMEND_RATE_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = opened(rules(amend_rate="{count = 1, window_ms = 1000}"))
    first, second = desk.resting(), desk.resting(price=AT - 1)
    desk.amend(first, TENTH - 1)
    desk.now_ns += 1_000 * NS_PER_MS - (1 if beyond else 0)
    return desk, desk.amend(second, TENTH - 1)


@case(C.RISK_CANCEL_RATE_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = opened(rules(cancel_rate="{count = 2, window_ms = 1000}"))
    for number in range(3 if beyond else 2):
        assert desk.cancel(desk.resting(price=AT - number)) is None  # a cancel itself is never refused
    return desk, desk.order()


@case(C.RISK_DAILY_LOSS_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = opened(rules(max_daily_loss_quote='"50000"'))
    desk.apply(equity(equity="950000" if beyond else "950000.01"))
    return desk, desk.order()


@case(C.RISK_DRAWDOWN_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = opened(rules(max_drawdown_bps="2000"))
    now = "800000" if beyond else "800000.01"
    desk.apply(equity(equity=now, day_start_equity=now))
    return desk, desk.order()


@case(C.RISK_ACCOUNT_FROZEN)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.apply(FreezeChanged(ts_ns=NOW_NS, account_id=ACCOUNT if beyond else "other", frozen=True, reason="drift"))
    return desk, desk.order()


@case(C.RISK_KILL_SWITCH_ACTIVE)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.held(TENTH)
    desk.kill(KillSwitch.REDUCE_ONLY)
    return desk, desk.order(**SELL, quantity=TENTH + (1 if beyond else 0))


@case(C.RISK_VENUE_DISCONNECTED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.around(venue_connected=not beyond)
    return desk, desk.order()


@case(C.RISK_INTENT_UNRESOLVED)
def _(beyond: bool) -> Said:
    desk = opened()
    first = desk.order()
    desk.apply(*decide.decide_unknown(desk.kernel, first, "no answer", desk.now_ns))
    if not beyond:
        desk.accepted(first)
    return desk, desk.order(price=AT - 1)


LARGE = """
[[rule]]
name = "large"
when = "order.quantity > 0.1"
action = "{action}"
message = "too large"
"""


@case(C.RISK_CUSTOM_RULE_REJECTED)
def _(beyond: bool) -> Said:
    desk = opened(rules(LARGE.format(action="reject")))
    return desk, desk.order(quantity=TENTH + (1 if beyond else 0))


@case(C.RISK_CUSTOM_RULE_NEEDS_TWO_APPROVALS)
def _(beyond: bool) -> Said:
    desk = opened(rules(LARGE.format(action="require_two_approvals")))
    return desk, desk.approved(*([APPROVER] if beyond else [APPROVER, SECOND]), quantity="0.2")


@case(C.RISK_RULES_INVALID)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.administer("rules.install", {"document": rules(max_open_orders="0" if beyond else "1")})


# the market


@case(C.MARKET_INSTRUMENT_UNKNOWN)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.order(symbol="DOGEUSDT" if beyond else "BTCUSDT")


@case(C.MARKET_BOOK_STALE)
def _(beyond: bool) -> Said:
    desk = opened(rules(book_stale_after_ms="2000"))
    desk.market(book_age_ms=2_001 if beyond else 2_000)
    return desk, desk.order()


@case(C.MARKET_DEPTH_INSUFFICIENT)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.around(worst_price=D(60_000), depth_quantity=D("0.09999") if beyond else D("0.1"))
    return desk, desk.order(order_type=OrderType.MARKET)


# the venue's filters


def filtered(code: ReasonCode, inside: dict[str, Any], beyond: dict[str, Any], **filters: int) -> None:
    @case(code)
    def _(is_beyond: bool) -> Said:
        desk = opened(instruments=(msgspec.structs.replace(BTC, **filters),))
        return desk, desk.order(**(beyond if is_beyond else inside))


filtered(C.ORDER_TICK_SIZE_VIOLATED, {"price": AT + 10}, {"price": AT + 1}, tick_size=10)
filtered(C.ORDER_LOT_SIZE_VIOLATED, {"quantity": TENTH + 10}, {"quantity": TENTH + 1}, lot_size=10)
filtered(C.ORDER_QUANTITY_BELOW_MIN, {}, {"quantity": TENTH - 1}, min_quantity=TENTH)
filtered(C.ORDER_QUANTITY_ABOVE_MAX, {}, {"quantity": TENTH + 1}, max_quantity=TENTH)
filtered(C.ORDER_NOTIONAL_BELOW_MIN, {}, {"quantity": TENTH - 1}, min_notional=TENTH * AT)


# orders


@case(C.REQUEST_INVALID)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.order(order_type=OrderType.MARKET, price=AT if beyond else None)


@case(C.ORDER_WOULD_INCREASE_POSITION)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.held(TENTH)
    return desk, desk.order(**SELL, reduce_only=True, quantity=TENTH + (1 if beyond else 0))


@case(C.ORDER_ALREADY_FINAL)
def _(beyond: bool) -> Said:
    desk = opened()
    order = desk.resting()
    return desk, desk.cancel(desk.filled(order, TENTH if beyond else TENTH - 1))


@case(C.ORDER_UNKNOWN)
def _(beyond: bool) -> Said:
    desk = opened()
    order = desk.resting()
    return desk, desk.cancel("vz-nothing" if beyond else order)


@case(C.ORDER_TYPE_NOT_SUPPORTED)
def _(beyond: bool) -> Said:
    desk = opened()
    able = {OrderType.LIMIT} if beyond else {OrderType.LIMIT, OrderType.MARKET}
    desk.capabilities = VenueCapabilities(frozenset(able), ABLE.times_in_force)
    return desk, desk.order(order_type=OrderType.MARKET)


@case(C.ORDER_TIME_IN_FORCE_NOT_SUPPORTED)
def _(beyond: bool) -> Said:
    desk = opened()
    able = {TimeInForce.GTC} if beyond else {TimeInForce.GTC, TimeInForce.FOK}
    desk.capabilities = VenueCapabilities(ABLE.order_types, frozenset(able))
    return desk, desk.order(time_in_force=TimeInForce.FOK)


@case(C.ORDER_STOP_PRICE_INVALID)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.market(last_price="60000")
    return desk, desk.order(order_type=OrderType.STOP, stop_price=AT if beyond else AT + 1)


@case(C.ORDER_EXPIRY_INVALID)
def _(beyond: bool) -> Said:
    desk = opened()
    expires_ns = desk.now_ns + NS_PER_S - (1 if beyond else 0)
    return desk, desk.order(time_in_force=TimeInForce.GTD, expires_ns=expires_ns)


@case(C.ORDER_AMEND_INVALID)
def _(beyond: bool) -> Said:
    desk = opened()
    order = desk.filled(desk.resting(), 5_000)
    return desk, desk.amend(order, 5_000 if beyond else 5_001)


@case(C.ORDER_AMEND_PENDING)
def _(beyond: bool) -> Said:
    desk = opened()
    order = desk.resting()
    desk.amend(order, TENTH - 1)
    if not beyond:
        desk.amended(order, TENTH - 1)
    return desk, desk.amend(order, TENTH - 2)


@case(C.ORDER_REQUEST_REPEATED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.order(request_id="r-same")
    return desk, desk.order(request_id="r-same", price=AT - (1 if beyond else 0))


@case(C.ORDER_GROUP_INVALID)
def _(beyond: bool) -> Said:
    desk = opened()
    take_profit = desk.request(**SELL, price=AT + 2)
    stop = desk.request(**SELL, order_type=OrderType.STOP, stop_price=AT + (2 if beyond else 1))
    return desk, desk.group(GroupKind.OCO, {OrderRole.TAKE_PROFIT: take_profit, OrderRole.STOP: stop})


# approvals


@case(C.APPROVAL_DIGEST_MISMATCH)
def _(beyond: bool) -> Said:
    desk = opened()
    canonical, digest, signatures = approve(proposal())
    return desk, desk.execute(canonical, "ab" * 32 if beyond else digest, signatures)


@case(C.APPROVAL_EXPIRED)
def _(beyond: bool) -> Said:
    desk = opened()
    expires_ns = desk.now_ns + NS_PER_S
    desk.now_ns = expires_ns - (0 if beyond else 1)
    return desk, desk.approved(expires_at_ns=str(expires_ns))


@case(C.APPROVAL_ALREADY_CONSUMED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.approved(suggestion_id="sug-a")
    return desk, desk.approved(suggestion_id="sug-a" if beyond else "sug-b", price="59999")


@case(C.APPROVAL_SUBJECT_CHANGED)
def _(beyond: bool) -> Said:
    desk = opened()
    order_id = desk.resting()
    if beyond:
        desk.filled(order_id, 1)
    return desk, desk.execute(*approve(example(AMEND_PROPOSAL_SCHEMA, client_order_id=order_id)))


@case(C.APPROVAL_VERSION_SUPERSEDED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.approved(suggestion_id="sug-a", version="2")
    return desk, desk.approved(suggestion_id="sug-a" if beyond else "sug-b", version="1", price="59999")


@case(C.APPROVAL_SIGNATURES_INSUFFICIENT)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.approved(quantity="0.83334" if beyond else "0.83333")  # the roster's threshold is 50,000


@case(C.APPROVAL_CLI_KEY_REQUIRED)
def _(beyond: bool) -> Said:
    authenticator = Authenticator()
    passkey = authenticator.entry("passkey", "user-approver", (ACCOUNT,))
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=(*ROSTER.entries, passkey), cli_only_above_quote="6000"))
    canonical, digest, _ = approve(proposal(quantity="0.10001" if beyond else "0.1"))
    return desk, desk.execute(canonical, digest, [("passkey", authenticator.approve(digest))])


@case(C.APPROVAL_SELF_NOT_COUNTED)
def _(beyond: bool) -> Said:
    desk = opened()
    asker_id = "user-second" if beyond else "user-trader"
    return desk, desk.approved(APPROVER, SECOND, quantity="1", asker_id=asker_id)


# authority


@case(C.AUTHORITY_SIGNATURE_INVALID)
def _(beyond: bool) -> Said:
    desk = opened()
    canonical, digest, _ = approve(proposal())
    seed = SECOND_SEED if beyond else APPROVER_SEED
    return desk, desk.execute(canonical, digest, [("approver", sign_digest(seed, digest))])


@case(C.AUTHORITY_SIGNER_UNKNOWN)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.approved(("nobody" if beyond else "approver", APPROVER_SEED))


@case(C.AUTHORITY_SIGNER_NOT_PERMITTED)
def _(beyond: bool) -> Said:
    elsewhere = entry("approver", "user-approver", APPROVER_SEED, accounts=("other",) if beyond else (ACCOUNT,))
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=(elsewhere,)))
    return desk, desk.approved()


@case(C.AUTHORITY_KEY_PAPER_ONLY)
def _(beyond: bool) -> Said:
    enrolled = entry("approver", "user-approver", APPROVER_SEED, paper_only=beyond)
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=(enrolled,)))
    desk.live()
    return desk, desk.approved(mode="LIVE")


@case(C.AUTHORITY_PROPOSAL_MALFORMED)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.approved(quantity="0.10" if beyond else "0.1", notional_quote="6000")


@case(C.AUTHORITY_WRONG_ENGINE)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.approved(engine_id="engine-2" if beyond else "engine-1")


@case(C.AUTHORITY_WRONG_MODE)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.approved(mode="LIVE" if beyond else "PAPER")


@case(C.AUTHORITY_INSTRUMENT_VERSION_STALE)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.approved(instrument_version="2" if beyond else "1")


@case(C.AUTHORITY_KIND_NOT_ACCEPTED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.kill(KillSwitch.CANCEL_ONLY)
    return desk, desk.kill(KillSwitch.REDUCE_ONLY if beyond else KillSwitch.CANCEL_ONLY)


@case(C.AUTHORITY_DOCUMENT_MALFORMED)
def _(beyond: bool) -> Said:
    desk = opened()
    body = {"document": rules(max_open_orders="1")}
    return desk, desk.administer("rules.install", body | ({"more": ""} if beyond else {}))


@case(C.AUTHORITY_DOCUMENT_EXPIRED)
def _(beyond: bool) -> Said:
    desk = opened()
    expires_ns = desk.now_ns + NS_PER_S
    times = {"issued_at_ns": str(desk.now_ns), "expires_at_ns": str(expires_ns)}
    desk.now_ns = expires_ns - (0 if beyond else 1)
    return desk, desk.administer("rules.install", {"document": rules(max_open_orders="1")}, **times)


@case(C.AUTHORITY_DOCUMENT_REPLAYED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.administer("rules.install", {"document": rules(max_open_orders="1")}, document_id="doc-a")
    body = {"document": rules(max_open_orders="2")}
    return desk, desk.administer("rules.install", body, document_id="doc-a" if beyond else "doc-b")


@case(C.AUTHORITY_SESSION_UNKNOWN)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.order(by="ses-9" if beyond else "ses-1")


@case(C.AUTHORITY_SESSION_EXPIRED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.now_ns = int(grant().expires_at_ns) - (0 if beyond else 1)
    return desk, desk.order()


@case(C.AUTHORITY_SESSION_REVOKED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.open_session(grant(session_id="ses-2"))
    desk.close_session("ses-2")
    return desk, desk.order(by="ses-2" if beyond else "ses-1")


@case(C.AUTHORITY_SESSION_LIMIT_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = Desk()
    desk.open_session(grant(max_order_notional_quote="5999.99" if beyond else "6000"))
    return desk, desk.order()


@case(C.AUTHORITY_MANDATE_UNKNOWN)
def _(beyond: bool) -> Said:
    desk = opened()
    return desk, desk.strategy_order(by="man-9" if beyond else "man-1")


@case(C.AUTHORITY_MANDATE_EXPIRED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.now_ns = int(mandate().expires_at_ns) - (0 if beyond else 1)
    return desk, desk.strategy_order()


@case(C.AUTHORITY_MANDATE_REVOKED)
def _(beyond: bool) -> Said:
    desk = opened()
    desk.install_mandate(mandate(mandate_id="man-2"))
    desk.administer("mandate.revoke", {"mandate_id": "man-2", "reason": "enough"})
    return desk, desk.strategy_order(by="man-2" if beyond else "man-1")


@case(C.AUTHORITY_MANDATE_LIMIT_EXCEEDED)
def _(beyond: bool) -> Said:
    desk = Desk()
    desk.install_mandate(mandate(max_order_notional_quote="5999.99" if beyond else "6000"))
    return desk, desk.strategy_order()


@case(C.SERVICE_OVERLOADED)
def _(beyond: bool) -> Said:
    desk = Desk()
    for number in range(decide_authority.SESSIONS_LIMIT - (0 if beyond else 1)):
        desk.open_session(grant(session_id=f"ses-{number}"))
    return desk, desk.open_session(grant(session_id="ses-last"))


ELSEWHERE: dict[ReasonCode, str] = {
    C.AUTH_CREDENTIALS_INVALID: "tests/api/test_rest_auth.py::"
    "test_a_wrong_password_and_an_unknown_name_get_the_same_answer",
    C.AUTH_TOKEN_INVALID: "tests/api/auth/test_tokens.py::test_a_token_that_is_not_ours_is_refused",
    C.AUTH_TOKEN_EXPIRED: "tests/api/auth/test_tokens.py::test_a_token_ends_at_its_time_and_not_before",
    C.AUTH_REFRESH_REUSED: "tests/api/test_rest_auth.py::"
    "test_a_refresh_token_works_once_and_its_reuse_revokes_its_successors",
    C.AUTH_ROLE_NOT_PERMITTED: "tests/api/test_rest_auth.py::test_only_compliance_reads_the_audit_trail",
    C.AUTH_ACCOUNT_OUT_OF_SCOPE: "tests/tools/test_pipeline.py::"
    "test_a_tool_over_a_foreign_account_is_refused_before_anything_is_read",
    C.AUTH_AGENT_REVOKED: "tests/api/faces/test_agents.py::"
    "test_an_agent_that_is_over_can_do_nothing_with_a_token_that_still_holds",
    C.AUTH_RATE_EXCEEDED: "tests/api/test_rest_auth.py::"
    "test_after_too_many_failures_a_name_has_to_wait_even_with_the_right_password",
    C.REQUEST_TOO_LARGE: "tests/api/test_rest.py::test_a_body_that_is_too_large_is_refused",
    C.RESOURCE_NOT_FOUND: "tests/api/test_rest.py::test_an_unknown_run_is_not_found",
    C.TOOL_UNKNOWN: "tests/tools/test_pipeline.py::test_a_tool_that_there_is_not_is_refused_with_those_there_are",
    C.TOOL_ARGUMENTS_INVALID: "tests/tools/test_pipeline.py::test_validation_comes_before_rate_and_budget",
    C.TOOL_NOT_PERMITTED: "tests/tools/test_pipeline.py::test_authorisation_comes_before_validation",
    C.TOOL_RATE_EXCEEDED: "tests/tools/test_pipeline.py::test_a_principal_has_a_rate_for_each_tool_that_refills",
    C.TOOL_BUDGET_EXCEEDED: "tests/tools/test_pipeline.py::test_a_run_has_a_budget_of_calls",
    C.TOOL_DEADLINE_EXCEEDED: "tests/tools/test_pipeline.py::test_a_tool_past_its_deadline_is_stopped",
    C.POLICY_MODEL_NOT_PERMITTED: "tests/tools/test_policy.py::test_models_call_what_a_section_lets_them",
    C.POLICY_QUIET_HOURS: "tests/tools/test_policy.py::test_quiet_hours_hold_up_suggestions",
    C.POLICY_CONDITION_DENIED: "tests/tools/test_policy.py::test_a_condition_that_is_true_or_cannot_be_told_denies",
    C.POLICY_APPROVER_NOT_PERMITTED: "tests/tools/test_policy.py::test_who_may_approve_what",
    C.SERVICE_POLICY_INVALID: "tests/api/policy/test_keeper.py::test_a_broken_file_allows_nothing_until_it_is_whole",
    C.IDEMPOTENCY_KEY_REUSED: "tests/api/faces/test_rest_tools.py::"
    "test_asking_again_with_the_same_key_makes_one_suggestion",
    C.REQUEST_IN_PROGRESS: "tests/api/faces/test_rest_tools.py::"
    "test_of_many_at_once_with_one_key_one_makes_a_suggestion",
    C.TOOL_FAILED: "tests/tools/test_pipeline.py::test_what_breaks_inside_is_told_by_trace_id_only",
    C.TOOL_ARGUMENT_TAINTED: "tests/tools/test_taint.py::test_what_only_outside_text_says_is_refused",
    C.MARKET_NO_DATA: "tests/core/market/test_hub.py::test_the_ticker_is_the_book_tickers_own_and_refused_when_old",
    C.ORDER_NEVER_ARRIVED: "tests/core/runtime/test_safety.py::"
    "test_an_order_that_never_arrived_is_rejected_only_when_it_cant_arrive_any_more",
    C.ORDER_REJECTED_BY_VENUE: "tests/core/venues/binance/test_adapter.py::"
    "test_the_venues_no_carries_its_code_and_words",
    C.ORDER_RATE_LIMITED: "tests/core/venues/binance/test_rest.py::"
    "test_a_429_answer_to_a_submit_is_a_refusal_because_nothing_was_executed",
    C.APPROVAL_FIGURES_STALE: "tests/tools/test_revisions.py::test_figures_that_are_too_old_come_back_fresh",
    C.APPROVAL_NOT_PENDING: "tests/tools/test_approvals.py::test_what_is_not_pending_cannot_be_decided",
    C.COPILOT_RUN_CANCELLED: "tests/agent/test_copilot.py::test_a_cancelled_run_says_so_and_is_recorded",
    C.COPILOT_MODEL_FAILED: "tests/agent/test_provider.py::"
    "test_a_model_that_fails_is_told_as_such_and_half_a_turn_is_no_answer",
    C.COPILOT_BUDGET_EXCEEDED: "tests/agent/test_copilot.py::test_tool_calls_beyond_the_budget_are_refused",
    C.SERVICE_ENGINE_UNAVAILABLE: "tests/api/gateway/test_suggest_to_fill.py::"
    "test_an_engine_that_is_down_is_told_and_heals_without_a_restart_here",
    C.SERVICE_JOURNAL_UNAVAILABLE: "tests/core/runtime/test_safety.py::"
    "test_without_a_journal_no_order_is_taken_but_safety_works_and_is_recorded_later",
    C.SERVICE_AUDIT_UNAVAILABLE: "tests/tools/test_pipeline.py::test_a_result_that_cannot_be_recorded_is_withheld",
    C.SERVICE_DATABASE_UNAVAILABLE: "tests/core/storage/test_database.py::test_an_absent_server_is_a_typed_refusal",
    C.SERVICE_EVENT_LOG_UNAVAILABLE: "tests/api/test_rest.py::"
    "test_without_nats_runs_neither_start_nor_stream_and_the_rest_works",
    C.SERVICE_CLOCK_STEPPED_BACK: "tests/tools/test_clock_guard.py::"
    "test_nothing_is_called_until_the_clock_has_caught_up",
    C.SERVICE_INTERNAL_ERROR: "tests/tools/test_tools.py::test_without_a_drift_limit_no_order_is_proposed",
}
"""Codes of other parts: the test that provokes each, as path::name; its file must mention the code."""

NOT_RAISED: dict[ReasonCode, str] = {
    C.ORDER_PRICE_MISSING: "an order without its price is REQUEST_INVALID",
    C.AUTHORITY_PARENT_UNKNOWN: "a derived order is decided together with its parent, so none can be asked for without",
}
"""Codes that nothing answers with, and why they are there: journals and clients may know them."""


@pytest.mark.parametrize("code", CASES, ids=str)
def test_it_is_refused_beyond_and_taken_just_inside(code: ReasonCode) -> None:
    desk, answer = CASES[code](True)
    assert answer is code, f"{answer}: {desk.refusal}"
    refusal = desk.refusal
    assert refusal is not None
    assert refusal.message
    if "EXCEED" in code or "OUTSIDE" in code or code.name.endswith(("_MIN", "_MAX", "VIOLATED", "INSUFFICIENT")):
        assert (refusal.limit, refusal.actual, refusal.unit) > ("", "", ""), refusal

    desk, answer = CASES[code](False)
    assert not isinstance(answer, ReasonCode), desk.refusal


def test_a_code_has_exactly_one_place_and_none_is_without() -> None:
    places = [*CASES, *ELSEWHERE, *NOT_RAISED]
    twice = {code for code in places if places.count(code) > 1}
    assert not twice, f"{sorted(twice)} stand in two of the tables here; keep one"
    without = set(ReasonCode) - set(places)
    assert not without, (
        f"{sorted(without)} have no case. Where the kernel decides it, add a @case here that provokes it and one just "
        "inside; where another part does, name its test in ELSEWHERE; where nothing does, say why in NOT_RAISED."
    )


@functools.cache
def parsed(path: str) -> tuple[str, frozenset[str]]:
    text = (ROOT / path).read_text()
    names = {
        node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return text, frozenset(names)


@pytest.mark.parametrize("code", ELSEWHERE, ids=str)
def test_what_another_part_answers_with_is_provoked_there(code: ReasonCode) -> None:
    path, _, name = ELSEWHERE[code].partition("::")
    assert (ROOT / path).is_file(), f"{code}: there is no {path}; name the test that provokes it now"
    text, names = parsed(path)
    assert name in names, f"{code}: {path} has no {name}; name the test that provokes it now"
    assert code.name in text, f"{code}: {path} doesn't mention it; name the test that provokes it"


@functools.cache
def sources() -> str:
    packages = ("core", "audit", "knowledge", "tools", "agent", "api")
    files = (path for package in packages for path in sorted((ROOT / package).rglob("*.py")))
    # These two name every code there is.
    lists = {"codes.py", "cures.py"}
    return "\n".join(path.read_text() for path in files if path.name not in lists and "_proto" not in path.parts)


@pytest.mark.parametrize("code", NOT_RAISED, ids=str)
def test_what_nothing_answers_with_is_indeed_nowhere(code: ReasonCode) -> None:
    assert f"ReasonCode.{code.name}" not in sources(), f"{code} is raised now: give it a case"
