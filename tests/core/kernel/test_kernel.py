"""The kernel: decisions are pure, replay re-decides nothing, reports may come twice and in any order."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec
import pytest

from core.authority.roster import RosterError, sign_roster
from core.kernel import decide, decide_approvals
from core.kernel.decide import FillReport, InstrumentScaleChangedError
from core.kernel.decide_risk import decide_rules
from core.kernel.effects import CancelOrder, SubmitOrder
from core.kernel.inputs import Balances
from core.kernel.kernel import Kernel
from core.orders.machine import ImpossibleTransitionError, OverFillError
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    JournalEvent,
    MandateRevoked,
    RiskRulesInstalled,
    RosterInstalled,
    SessionClosed,
    decode_event,
    encode_event,
)
from core.types.orders import OrderStatus, client_order_id
from tests.core.approvals import (
    ABLE,
    ACCOUNT,
    BTC,
    LIVE_INPUTS,
    NOW_NS,
    ROOT_SEED,
    ROSTER,
    RULES,
    approve,
    decide_on,
    equity,
    proposal,
    signed_roster,
    started_kernel,
    with_market,
)

AFTER_NS = NOW_NS + 1_000


def fill_of(order_id: str, quantity: int, trade_id: int = 1, price: int = 6_000_000) -> FillReport:
    return FillReport(order_id, "77", trade_id, price, quantity, Decimal("0.00001"), "BTC", False, AFTER_NS)


def installed_rules(kernel: Kernel) -> tuple[RiskRulesInstalled, ...]:
    decided = decide_rules(kernel, RULES, None, NOW_NS)
    assert not isinstance(decided, Refusal)
    return decided


def run(kernel: Kernel, events: Iterable[JournalEvent], into: list[bytes] | None = None) -> None:
    for event in events:
        if into is not None:
            into.append(encode_event(event))
        kernel.apply(event)


def ordered(kernel: Kernel, suggestion_id: str = "sug-1", **changes: str) -> str:
    decided = decide_on(kernel, proposal(suggestion_id=suggestion_id, **changes))
    assert decided.intent is not None, decided.refusal
    kernel.apply(decided)
    return decided.intent.client_order_id


def test_an_approval_becomes_one_event_with_consumption_and_intent() -> None:
    kernel = started_kernel()
    what = proposal()

    decided = decide_on(kernel, what)
    effects = kernel.apply(decided)

    assert decided.intent is not None
    assert decided.intent.client_order_id == client_order_id(approve(what)[1])
    assert (decided.intent.quantity, decided.intent.price) == (10_000, 6_000_000)
    assert decided.trace_id == what.trace_id
    assert effects == (SubmitOrder(decided.intent),)
    assert kernel.consumed == {"sug-1": 1}


def test_deciding_changes_nothing() -> None:
    kernel = started_kernel()
    before = kernel.state_digest()
    assert decide_on(kernel, proposal()) == decide_on(kernel, proposal())
    assert kernel.state_digest() == before


def test_risks_refusal_consumes_the_approval_too() -> None:
    kernel = started_kernel()
    decided = decide_on(kernel, proposal(), inputs=with_market(book_state="STALE"))
    assert decided.intent is None
    assert decided.refusal is not None
    assert decided.refusal.code is ReasonCode.MARKET_BOOK_STALE
    assert kernel.apply(decided) == ()

    again = decide_approvals.decide_approval(
        kernel, *approve(proposal()), trace_id=None, inputs=LIVE_INPUTS, capabilities=ABLE, now_ns=AFTER_NS
    )
    assert isinstance(again, Refusal)
    assert again.code is ReasonCode.APPROVAL_ALREADY_CONSUMED


def test_drift_is_judged_at_send_and_not_before() -> None:
    kernel = started_kernel()
    drifted = with_market(mid_price="60400")
    canonical = approve(proposal())[0]
    assert decide_approvals.decide_check(kernel, canonical, drifted, ABLE, NOW_NS).refusal is None
    refusal = decide_on(kernel, proposal(), inputs=drifted).refusal
    assert refusal is not None
    assert refusal.code is ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX


def test_a_check_tells_what_verification_would_without_signatures() -> None:
    kernel = started_kernel()
    for changes, expected in (
        ({"engine_id": "engine-9"}, ReasonCode.AUTHORITY_WRONG_ENGINE),
        ({"instrument_version": "9"}, ReasonCode.AUTHORITY_INSTRUMENT_VERSION_STALE),
        ({"created_at_ns": str(NOW_NS - 1), "expires_at_ns": str(NOW_NS)}, ReasonCode.APPROVAL_EXPIRED),
        ({"version": "0"}, ReasonCode.AUTHORITY_PROPOSAL_MALFORMED),
    ):
        refusal = decide_approvals.decide_check(
            kernel, approve(proposal(**changes))[0], LIVE_INPUTS, ABLE, NOW_NS
        ).refusal
        assert refusal is not None
        assert refusal.code is expected


def test_replaying_a_journal_gives_the_same_state() -> None:
    journal: list[bytes] = []
    kernel = Kernel()
    started = started_kernel()
    start = decide.decide_started(
        engine_id=started.engine_id,
        epoch=1,
        environment=started.environment,
        mode=started.mode,
        software_version="test",
        now_ns=NOW_NS,
    )
    run(kernel, [start], journal)
    run(kernel, decide.decide_roster(kernel, signed_roster(), NOW_NS), journal)
    run(kernel, installed_rules(kernel), journal)
    run(kernel, decide.decide_instruments(kernel, (BTC,), NOW_NS), journal)
    run(kernel, [equity()], journal)
    bought = decide_on(kernel, proposal())
    run(kernel, [bought], journal)
    assert bought.intent is not None
    buy_id = bought.intent.client_order_id
    run(kernel, decide.decide_unknown(kernel, buy_id, "time-out", AFTER_NS), journal)
    run(kernel, decide.decide_fill(kernel, fill_of(buy_id, 4_000), AFTER_NS), journal)
    run(kernel, decide.decide_fill(kernel, fill_of(buy_id, 6_000, trade_id=2), AFTER_NS), journal)
    sold = decide_on(kernel, proposal(suggestion_id="sug-2", side="SELL"))
    run(kernel, [sold], journal)
    assert sold.intent is not None
    run(
        kernel,
        decide.decide_fill(kernel, fill_of(sold.intent.client_order_id, 10_000, 3, 6_100_000), AFTER_NS),
        journal,
    )
    halted = decide.decide_kill_switch(kernel, KillSwitch.HALTED, "ops", "drill", None, AFTER_NS)
    assert isinstance(halted, tuple)
    run(kernel, halted, journal)

    replayed = Kernel()
    replayed.replay(decode_event(payload) for payload in journal)

    assert replayed.state_digest() == kernel.state_digest()
    assert replayed.sequence == len(journal)
    position = replayed.positions[ACCOUNT, "paper", "BTCUSDT"]
    assert position.quantity == 0
    # 0.1 BTC from 60000 to 61000 at scale 7
    assert position.realised_pnl == 100 * 10**7

    other = Kernel()
    other.replay(decode_event(payload) for payload in journal[:-1])
    assert other.state_digest() != kernel.state_digest()


def test_reports_that_come_twice_or_late_give_no_event() -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    run(kernel, decide.decide_accepted(kernel, order_id, "77", AFTER_NS))
    assert decide.decide_accepted(kernel, order_id, "77", AFTER_NS) == ()
    run(kernel, decide.decide_fill(kernel, fill_of(order_id, 10_000), AFTER_NS))
    assert kernel.orders[order_id].status is OrderStatus.FILLED
    assert decide.decide_fill(kernel, fill_of(order_id, 10_000), AFTER_NS) == ()
    assert decide.decide_closed(kernel, order_id, OrderStatus.CANCELED, "late", AFTER_NS) == ()
    assert decide.decide_unknown(kernel, order_id, "late", AFTER_NS) == ()
    refusal = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "late")
    assert decide.decide_rejected(kernel, order_id, refusal, AFTER_NS) == ()
    assert kernel.open_orders() == []


def test_the_two_sides_of_a_trade_with_ourselves_both_count() -> None:
    kernel = started_kernel()
    buy_id = ordered(kernel)
    sell_id = ordered(kernel, "sug-2", side="SELL", price="60100")
    for order_id in (buy_id, sell_id):
        run(kernel, decide.decide_fill(kernel, fill_of(order_id, 10_000, trade_id=5), AFTER_NS))
    assert kernel.positions[ACCOUNT, "paper", "BTCUSDT"].quantity == 0


def test_an_over_fill_is_raised_before_it_is_an_event() -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    with pytest.raises(OverFillError):
        decide.decide_fill(kernel, fill_of(order_id, 10_001), AFTER_NS)


def test_an_event_that_cant_follow_changes_nothing() -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    run(kernel, decide.decide_accepted(kernel, order_id, "77", AFTER_NS))
    (contradiction,) = decide.decide_accepted(kernel, order_id, "78", AFTER_NS)
    before = kernel.state_digest()
    with pytest.raises(ImpossibleTransitionError):
        kernel.apply(contradiction)
    assert kernel.state_digest() == before


def test_an_unknown_order_blocks_its_own_account_symbol_and_side_only() -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    run(kernel, decide.decide_unknown(kernel, order_id, "time-out", AFTER_NS))

    same = decide_on(kernel, proposal(suggestion_id="sug-2")).refusal
    other_side = decide_on(kernel, proposal(suggestion_id="sug-2", side="SELL", price="60100")).refusal

    assert same is not None
    assert same.code is ReasonCode.RISK_INTENT_UNRESOLVED
    assert other_side is None


def test_intents_without_a_result_are_unknown_after_a_restart() -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    run(kernel, decide.open_intents_after_restart(kernel, AFTER_NS))
    assert kernel.orders[order_id].status is OrderStatus.UNKNOWN


@pytest.mark.parametrize(
    ("held_quote", "as_of_ns", "expected"),
    [
        ("12000", AFTER_NS, None),  # 6000 rest in the first order, 6000 are left for the second
        ("11999.99", AFTER_NS, ReasonCode.RISK_BALANCE_INSUFFICIENT),
        ("12000", 0, None),
        ("11999.99", 0, ReasonCode.RISK_BALANCE_INSUFFICIENT),
    ],
)
def test_open_orders_take_their_part_of_the_balance(held_quote: str, as_of_ns: int, expected: str | None) -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    run(kernel, decide.decide_accepted(kernel, order_id, "77", NOW_NS + 2))
    balances = Balances({"USDT": Decimal(held_quote)}, as_of_ns)
    inputs = msgspec.structs.replace(LIVE_INPUTS, balances=balances)
    refusal = decide_on(kernel, proposal(suggestion_id="sug-2"), inputs=inputs).refusal
    assert (refusal and refusal.code) == expected


def test_the_kill_switch_only_tightens_and_halting_cancels_what_is_open() -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    for state in (KillSwitch.REDUCE_ONLY, KillSwitch.CANCEL_ONLY):
        events = decide.decide_kill_switch(kernel, state, "ops", "drill", None, AFTER_NS)
        assert isinstance(events, tuple)
        assert not any(isinstance(effect, CancelOrder) for effect in kernel.apply(events[0]))
    events = decide.decide_kill_switch(kernel, KillSwitch.HALTED, "ops", "drill", None, AFTER_NS)
    assert isinstance(events, tuple)
    assert CancelOrder("paper", "BTCUSDT", order_id) in kernel.apply(events[0])
    assert decide.decide_kill_switch(kernel, KillSwitch.HALTED, "ops", "again", None, AFTER_NS) == ()
    refusal = decide.decide_kill_switch(kernel, KillSwitch.NORMAL, "ops", "please", None, AFTER_NS)
    assert isinstance(refusal, Refusal)
    assert refusal.code is ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED
    assert "core.runtime.thaw" in refusal.message


def test_a_cancel_needs_an_order_that_is_still_open() -> None:
    kernel = started_kernel()
    order_id = ordered(kernel)
    unknown = decide.decide_cancel(kernel, "nope", "me", None, AFTER_NS)
    assert isinstance(unknown, Refusal)
    assert unknown.code is ReasonCode.ORDER_UNKNOWN
    run(kernel, decide.decide_closed(kernel, order_id, OrderStatus.CANCELED, "", AFTER_NS))
    final = decide.decide_cancel(kernel, order_id, "me", None, AFTER_NS)
    assert isinstance(final, Refusal)
    assert final.code is ReasonCode.ORDER_ALREADY_FINAL


def test_a_changed_rule_raises_the_instruments_version_and_voids_old_proposals() -> None:
    kernel = started_kernel()
    assert decide.decide_instruments(kernel, (BTC,), AFTER_NS) == ()
    run(kernel, decide.decide_instruments(kernel, (msgspec.structs.replace(BTC, tick_size=10),), AFTER_NS))
    assert kernel.instrument_versions() == {("paper", "BTCUSDT"): 2}
    refused = decide_approvals.decide_approval(
        kernel, *approve(proposal()), trace_id=None, inputs=LIVE_INPUTS, capabilities=ABLE, now_ns=AFTER_NS
    )
    assert isinstance(refused, Refusal)
    assert refused.code is ReasonCode.AUTHORITY_INSTRUMENT_VERSION_STALE


def test_a_scale_doesnt_change_under_an_open_order() -> None:
    kernel = started_kernel()
    finer = msgspec.structs.replace(BTC, price_scale=3)
    assert decide.decide_instruments(kernel, (finer,), AFTER_NS) != ()
    ordered(kernel)
    with pytest.raises(InstrumentScaleChangedError, match="decimal places changed"):
        decide.decide_instruments(kernel, (finer,), AFTER_NS)


def test_a_roster_goes_forward_only() -> None:
    kernel = started_kernel()
    assert decide.decide_roster(kernel, signed_roster(), AFTER_NS) == ()
    changed = msgspec.structs.replace(ROSTER, two_approvals_above_quote="1")
    with pytest.raises(RosterError, match="can't replace version 1"):
        decide.decide_roster(kernel, sign_roster(ROOT_SEED, changed), AFTER_NS)
    newer = msgspec.structs.replace(changed, version=2)
    (event,) = decide.decide_roster(kernel, sign_roster(ROOT_SEED, newer), AFTER_NS)
    assert isinstance(event, RosterInstalled)
    assert event.roster.version == 2
    kernel.apply(event)
    assert decide.decide_roster(kernel, signed_roster(), AFTER_NS) == ()  # an older file takes nothing back


@pytest.mark.parametrize(
    "event",
    [
        SessionClosed(ts_ns=AFTER_NS, session_id="never", requested_by="user", reason=""),
        MandateRevoked(ts_ns=AFTER_NS, mandate_id="never", requested_by="user", reason=""),
    ],
)
def test_the_end_of_what_never_was_cant_follow(event: JournalEvent) -> None:
    kernel = started_kernel()
    before = kernel.state_digest()
    with pytest.raises(ImpossibleTransitionError, match="never"):
        kernel.apply(event)
    assert kernel.state_digest() == before
