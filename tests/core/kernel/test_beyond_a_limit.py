"""Attempts to get an order through beyond a limit: each is refused, or is refused where it would pass the limit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.authority.proposal import proposal_bytes
from core.kernel import decide, decide_approvals
from core.kernel.kernel import Kernel
from core.risk.kill_switch import KillSwitch
from core.types.clock import NS_PER_MS
from core.types.codes import ReasonCode
from core.types.events import OrderRefused
from core.types.instruments import Instrument
from core.types.orders import AmendRequest, GroupKind, OrderRole, OrderType, Side
from core.types.venues import VenueCapabilities
from tests.core.approvals import ACCOUNT, APPROVER_SEED, BTC, ROSTER, SECOND_SEED, equity, proposal
from tests.core.kernel.desk import ABLE, Desk, grant, mandate, opened, rules

C = ReasonCode
ONE = 100_000
"""1 BTC, at 60,000."""
AT, TENTH = 6_000_000, 10_000
SELL = {"side": Side.SELL}


def refuses(answer: Any, code: ReasonCode, desk: Desk) -> None:
    assert answer == code, desk.refusal
    assert desk.kernel.orders.get(answer) is None


def test_an_order_raised_after_a_fill_counts_whole() -> None:
    desk = opened(rules(max_quantity_per_order='"1"'))
    order = desk.filled(desk.resting(quantity=ONE), quantity=90_000)
    refuses(desk.amend(order, ONE + 1), C.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER, desk)
    assert desk.amend(order, ONE - 1) is None


@pytest.mark.parametrize("side", Side)
def test_an_order_cant_turn_a_position_beyond_its_limit_over(side: Side) -> None:
    desk = opened()
    desk.held(ONE if side is Side.SELL else -ONE)
    desk.administer("rules.install", {"document": rules(max_position_notional_quote='"30000"')})
    refuses(desk.order(side=side, quantity=2 * ONE), C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, desk)
    refuses(desk.order(side=side, quantity=ONE + 1), C.RISK_POSITION_EXCEEDS_MAX, desk)
    half = desk.resting(side=side, quantity=ONE // 2)
    refuses(desk.order(side=side, quantity=ONE // 2 + 1), C.RISK_POSITION_EXCEEDS_MAX, desk)
    desk.filled(half)
    assert desk.order(side=side, quantity=ONE) in desk.kernel.orders  # from half a BTC to half a BTC: inside again


def test_many_small_orders_add_up_to_the_position() -> None:
    desk = opened(rules(max_position_notional_quote='"60000"'))
    for price in range(AT - 9, AT + 1):
        assert desk.order(quantity=10_000, price=price) in desk.kernel.orders, desk.refusal
    refuses(desk.order(quantity=1, price=AT), C.ORDER_NOTIONAL_BELOW_MIN, desk)
    refuses(desk.order(quantity=10_000, price=AT - 10), C.RISK_POSITION_EXCEEDS_MAX, desk)


def test_a_price_raised_is_valued_at_that_price() -> None:
    desk = opened(rules(max_position_notional_quote='"60000"', max_gross_exposure_quote='"60000"'))
    order = desk.resting(quantity=ONE)
    refuses(desk.amend(order, price=AT + 1), C.RISK_POSITION_EXCEEDS_MAX, desk)
    assert desk.amend(order, price=AT - 1) is None


def test_a_market_order_without_a_book_or_a_sweep_is_refused() -> None:
    desk = opened()
    desk.market(book_state="NONE", mid_price=None, bid_price=None, ask_price=None)
    refuses(desk.order(order_type=OrderType.MARKET), C.MARKET_BOOK_STALE, desk)


def test_reduce_only_is_checked_and_not_believed() -> None:
    desk = opened()
    refuses(desk.order(reduce_only=True), C.ORDER_WOULD_INCREASE_POSITION, desk)
    desk.held(ONE)
    refuses(desk.order(reduce_only=True), C.ORDER_WOULD_INCREASE_POSITION, desk)
    refuses(desk.order(**SELL, quantity=ONE + 1, reduce_only=True), C.ORDER_WOULD_INCREASE_POSITION, desk)
    assert desk.resting(**SELL, quantity=ONE, reduce_only=True)
    refuses(desk.order(**SELL, quantity=1_000, reduce_only=True), C.ORDER_WOULD_INCREASE_POSITION, desk)


def test_a_stop_at_the_venue_counts_as_if_it_were_filled() -> None:
    desk = opened(rules(max_position_notional_quote='"120000"'))
    desk.resting(order_type=OrderType.STOP, quantity=ONE, stop_price=AT + 100)
    refuses(desk.order(quantity=ONE + 1), C.RISK_POSITION_EXCEEDS_MAX, desk)


def test_an_unknown_order_counts_as_if_it_were_live() -> None:
    desk = opened(rules(max_position_notional_quote='"60000"'))
    order = desk.order(quantity=ONE)
    desk.apply(*decide.decide_unknown(desk.kernel, order, "no answer", desk.now_ns))
    refuses(desk.order(quantity=1_000), C.RISK_INTENT_UNRESOLVED, desk)
    assert not desk.checks[C.RISK_POSITION_EXCEEDS_MAX].passed


def test_a_symbol_without_a_mark_stands_in_the_way_of_everything_that_adds() -> None:
    other = msgspec.structs.replace(BTC, symbol="ETHUSDT", base_asset="ETH")
    desk = opened(instruments=(BTC, other))
    refuses(desk.order(symbol="ETHUSDT", order_type=OrderType.MARKET), C.RISK_POSITION_EXCEEDS_MAX, desk)
    desk.around(marks={**desk.inputs.marks, ("paper", "ETHUSDT"): AT})
    desk.filled(desk.resting(symbol="ETHUSDT"))
    desk.around(marks={("paper", "BTCUSDT"): AT})
    refuses(desk.order(), C.RISK_GROSS_EXPOSURE_EXCEEDS_MAX, desk)


def test_orders_decided_in_one_batch_see_each_other() -> None:
    desk = opened(rules(max_open_orders="1"))
    desk.kernel.begin()
    assert desk.order() in desk.kernel.orders
    refuses(desk.order(price=AT - 1), C.RISK_OPEN_ORDERS_EXCEED_MAX, desk)


@pytest.mark.parametrize("name", ["quantity", "price"])
@pytest.mark.parametrize("value", [0, -1, 1 << 63, -(1 << 63), 10**40])
def test_numbers_that_no_order_has_are_refused_before_risk(name: str, value: int) -> None:
    desk = opened()
    before = desk.kernel.state_digest()
    refuses(desk.order(**{name: value}), C.REQUEST_INVALID, desk)
    assert desk.kernel.state_digest() == before


@pytest.mark.parametrize("value", [0, -1, 1 << 63])
def test_nor_does_an_amendment_have_them(value: int) -> None:
    desk = opened()
    order = desk.resting()
    refuses(desk.amend(order, value), C.ORDER_AMEND_INVALID, desk)
    refuses(desk.amend(order, price=value), C.ORDER_AMEND_INVALID, desk)


def test_the_largest_numbers_are_judged_and_not_wrapped() -> None:
    desk = opened()
    signers = (("approver", APPROVER_SEED), ("second", SECOND_SEED))
    answer = desk.approved(*signers, quantity="92233720368547.75807", price="92233720368547758.07")
    refuses(answer, C.ORDER_QUANTITY_ABOVE_MAX, desk)
    assert not desk.checks[C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER].passed
    assert not desk.checks[C.RISK_POSITION_EXCEEDS_MAX].passed


def test_rules_that_tighten_hold_from_the_next_order_on_and_for_amendments() -> None:
    desk = opened()
    order = desk.resting(quantity=ONE)
    desk.administer("rules.install", {"document": rules(max_notional_per_order_quote='"30000"')})
    refuses(desk.order(quantity=ONE), C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, desk)
    refuses(desk.amend(order, ONE + 1), C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, desk)
    assert desk.amend(order, ONE // 2) is None


# authority


def test_an_amendment_takes_of_its_sessions_allowance() -> None:
    desk = opened()
    limits = {"max_order_notional_quote": "12000", "max_total_notional_quote": "18000"}
    desk.open_session(grant(session_id="ses-small", **limits))
    order = desk.accepted(desk.order(by="ses-small"))  # 6,000
    refuses(desk.amend(order, 20_001, by="ses-small"), C.AUTHORITY_SESSION_LIMIT_EXCEEDED, desk)
    assert desk.amend(order, 20_000, by="ses-small") is None
    assert desk.kernel.sessions["ses-small"].notional_used_quote == "12000"
    desk.amended(order, 20_000)
    other = desk.accepted(desk.order(by="ses-small", price=AT - 1, quantity=1_000))
    refuses(desk.amend(other, 10_001, by="ses-small"), C.AUTHORITY_SESSION_LIMIT_EXCEEDED, desk)
    assert desk.amend(order, 10_000, by="ses-small") is None  # less asks for nothing more


def test_a_session_may_lower_an_order_that_it_couldnt_have_asked_for() -> None:
    desk = opened()
    desk.open_session(grant(session_id="ses-small", max_order_notional_quote="10", max_total_notional_quote="10"))
    order = desk.resting(quantity=ONE)
    refuses(desk.amend(order, ONE + 1, by="ses-small"), C.AUTHORITY_SESSION_LIMIT_EXCEEDED, desk)
    assert desk.amend(order, ONE - 1, by="ses-small") is None


AMENDED_BY_A_STRATEGY = [
    ({"max_order_notional_quote": "6600"}, 11_000, 11_001),
    ({"max_position_notional_quote": "6600"}, 11_000, 11_001),
    ({"max_total_notional_quote": "6600"}, 11_000, 11_001),
]


@pytest.mark.parametrize(("limits", "most", "beyond"), AMENDED_BY_A_STRATEGY)
def test_an_amendment_stays_within_its_mandate(limits: dict[str, str], most: int, beyond: int) -> None:
    desk = opened()
    assert desk.install_mandate(mandate(mandate_id="man-2", **limits)) is None
    order = desk.accepted(desk.strategy_order(by="man-2"))
    refuses(desk.amend(order, beyond, by="man-2"), C.AUTHORITY_MANDATE_LIMIT_EXCEEDED, desk)
    assert desk.amend(order, most, by="man-2") is None


def test_a_mandate_that_is_over_amends_nothing() -> None:
    desk = opened()
    order = desk.accepted(desk.strategy_order())
    desk.administer("mandate.revoke", {"mandate_id": "man-1", "reason": "enough"})
    refuses(desk.amend(order, 11_000, by="man-1"), C.AUTHORITY_MANDATE_REVOKED, desk)
    assert desk.cancel(order) is None


def test_a_strategy_cant_borrow_anothers_position() -> None:
    desk = opened()
    assert desk.install_mandate(mandate(mandate_id="man-2", max_position_notional_quote="6000")) is None
    desk.accepted(desk.strategy_order(by="man-2"))
    for named in ("maker", "nobody"):
        answer = desk.strategy_order(by="man-2", strategy=named, price=AT - 1)
        refuses(answer, C.AUTHORITY_MANDATE_LIMIT_EXCEEDED, desk)


def test_rates_cant_be_forgotten_by_naming_many_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.risk.activity.KEYS_KEPT", 8)
    desk = opened(rules(order_rate="{count = 20, window_ms = 60000}"))
    for number in range(20):
        assert desk.order(strategy_id=f"s-{number}", quantity=1_000, price=AT - number) in desk.kernel.orders
    refuses(desk.order(strategy_id="s-20", quantity=1_000, price=AT - 20), C.RISK_ORDER_RATE_EXCEEDED, desk)


@pytest.mark.parametrize("state", [KillSwitch.CANCEL_ONLY, KillSwitch.HALTED])
def test_a_thrown_switch_lets_nothing_through_by_any_authority(state: KillSwitch) -> None:
    desk = opened()
    order = desk.resting()
    desk.kill(state)
    for answer in (desk.order(price=AT - 1), desk.strategy_order(), desk.approved(), desk.amend(order, 9_000)):
        assert answer == C.RISK_KILL_SWITCH_ACTIVE


def test_another_account_than_the_venue_keys_own_isnt_traded_by_any_authority() -> None:
    # The venue would book it to the one account that it knows: limits by account would be as many as there are names.
    both = tuple(msgspec.structs.replace(entry, account_ids=(ACCOUNT, "other")) for entry in ROSTER.entries)
    desk = Desk(roster=msgspec.structs.replace(ROSTER, entries=both))
    desk.apply(equity("other"))
    desk.open_session(grant(account_ids=(ACCOUNT, "other")))
    desk.install_mandate(mandate(account_id="other"))
    desk.around(account_id=ACCOUNT)
    for answer in (
        desk.order(account_id="other"),
        desk.strategy_order(account_id="other"),
        desk.approved(account_id="other"),
    ):
        refuses(answer, C.AUTHORITY_WRONG_ENGINE, desk)
    canonical = proposal_bytes(proposal(account_id="other"))
    checked = decide_approvals.decide_check(desk.kernel, canonical, desk.inputs, desk.capabilities, desk.now_ns).refusal
    assert checked is not None
    assert checked.code is C.AUTHORITY_WRONG_ENGINE
    assert desk.order() in desk.kernel.orders


IN_BTC = Instrument("paper", "ETHBTC", "ETH", "BTC", 5, 4, 1, 1, 1, 900_000_000, 1)
"""Its quote asset is worth 60,000: what is 0.5 there is 30,000 in the reporting currency."""


@pytest.mark.parametrize(
    ("quantity", "signers", "taken"),
    [
        ("16.6666", (), True),  # 49,999.8
        ("16.6667", (), False),  # 50,000.1
        ("16.6667", (("approver", APPROVER_SEED), ("second", SECOND_SEED)), True),
    ],
)
def test_four_eyes_look_at_what_an_order_is_worth_and_not_at_what_its_quote_asset_makes_of_it(
    quantity: str, signers: tuple[tuple[str, str], ...], taken: bool
) -> None:
    desk = opened(instruments=(BTC, IN_BTC))
    desk.market(bid_price="0.04999", ask_price="0.05001", mid_price="0.05")
    desk.around(marks={**desk.inputs.marks, ("paper", "ETHBTC"): 5_000})
    before = dict(desk.kernel.consumed)
    answer = desk.approved(*signers, symbol="ETHBTC", quantity=quantity, price="0.05", reference_price="0.05")
    if taken:
        assert answer in desk.kernel.orders, desk.refusal
    else:
        refuses(answer, C.APPROVAL_SIGNATURES_INSUFFICIENT, desk)
        assert desk.kernel.consumed == before  # a second signature can still be added


def test_a_leg_that_waits_is_worth_what_it_would_be_worth() -> None:
    desk = opened()
    desk.open_session(grant(session_id="ses-small", max_order_notional_quote="6600"))
    take_profit = desk.request(price=AT - 1)
    for stop_price, code in ((6_600_000, None), (6_600_100, C.AUTHORITY_SESSION_LIMIT_EXCEEDED)):
        stop = desk.request(order_type=OrderType.STOP, stop_price=stop_price)
        legs = {OrderRole.TAKE_PROFIT: take_profit, OrderRole.STOP: stop}
        answer = desk.group(GroupKind.OCO, legs, by="ses-small")
        assert answer == code if code else answer in desk.kernel.orders, desk.refusal
    assert desk.kernel.sessions["ses-small"].notional_used_quote == "6600"


def test_a_ticket_that_was_refused_is_used_up() -> None:
    # Whoever carries tickets to the engine could keep one back, and send it again into another market.
    desk = opened(rules(max_open_orders="1"))
    order = desk.resting()
    take_profit, stop = desk.request(price=AT - 2), desk.request(order_type=OrderType.STOP, stop_price=AT + 2)
    legs = {OrderRole.TAKE_PROFIT: take_profit, OrderRole.STOP: stop}
    refuses(desk.order(request_id="r-x", price=AT - 1), C.RISK_OPEN_ORDERS_EXCEED_MAX, desk)
    refuses(desk.strategy_order(request_id="r-x", price=AT - 1), C.RISK_OPEN_ORDERS_EXCEED_MAX, desk)
    refuses(desk.group(GroupKind.OCO, legs, request_id="g-x"), C.RISK_OPEN_ORDERS_EXCEED_MAX, desk)
    desk.filled(order)
    desk.kernel = Kernel.from_snapshot(desk.kernel.snapshot())
    refuses(desk.order(request_id="r-x", price=AT - 1), C.ORDER_REQUEST_REPEATED, desk)
    refuses(desk.strategy_order(request_id="r-x", price=AT - 1), C.ORDER_REQUEST_REPEATED, desk)
    refuses(desk.group(GroupKind.OCO, legs, request_id="g-x"), C.ORDER_REQUEST_REPEATED, desk)
    assert desk.order(request_id="r-y", price=AT - 1) in desk.kernel.orders


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_ticket_to_amend_is_answered_once_whatever_the_answer(is_taken: bool) -> None:
    desk = opened()
    desk.install_mandate(mandate(mandate_id="man-2"))
    orders = {"ses-1": desk.resting(), "man-2": desk.accepted(desk.strategy_order(by="man-2", price=AT - 1))}
    for by, order in orders.items():
        desk.market(book_state="LIVE" if is_taken else "STALE")
        first = desk.amend(order, 9_000, by=by, ticket=by.encode())
        assert first == (None if is_taken else C.MARKET_BOOK_STALE)
        if is_taken:
            desk.amended(order, 9_000, desk.kernel.orders[order].intent.price)
        desk.market()
        again = desk.amend(order, 8_000, by=by, ticket=by.encode())
        refuses(again, C.ORDER_REQUEST_REPEATED, desk)
        assert desk.amend(order, 7_000, by=by, ticket=by.encode() + b" again") is None


def test_an_amendment_that_risk_refuses_is_recorded_with_its_checks() -> None:
    desk = opened(rules(max_quantity_per_order='"0.1"'))
    order = desk.resting()
    refuses(desk.amend(order, TENTH + 1), C.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER, desk)
    refused = desk.events[-1]
    assert isinstance(refused, OrderRefused)
    asked = msgspec.json.decode(refused.request, type=AmendRequest)
    assert (asked.client_order_id, asked.quantity, asked.price) == (order, TENTH + 1, AT)
    assert [check.name for check in refused.checks if not check.passed] == [C.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER]
    assert desk.kernel.orders[order].pending_amend is None


STOP_HELD = {"order_type": OrderType.STOP, "stop_price": AT + 1_000}
VENUE_WITHOUT_STOPS = VenueCapabilities(frozenset({OrderType.LIMIT, OrderType.MARKET}), ABLE.times_in_force)


def holding(**limits: str) -> Desk:
    desk = opened(rules(**limits))
    desk.market(last_price="60000")
    desk.capabilities = VENUE_WITHOUT_STOPS
    return desk


def test_what_the_engine_holds_counts_towards_the_rate_when_it_is_asked_for() -> None:
    desk = holding(order_rate="{count = 2, window_ms = 1000}")
    assert desk.order(**STOP_HELD) in desk.kernel.orders
    assert desk.order(**STOP_HELD, quantity=TENTH + 1) in desk.kernel.orders
    refuses(desk.order(**STOP_HELD, quantity=TENTH + 2), C.RISK_ORDER_RATE_EXCEEDED, desk)
    desk.now_ns += 1_000 * NS_PER_MS
    assert desk.order(**STOP_HELD, quantity=TENTH + 2) in desk.kernel.orders


def test_an_amendment_by_a_replacement_counts_towards_the_rate_of_amendments() -> None:
    desk = holding(amend_rate="{count = 1, window_ms = 1000}")
    first, second = desk.resting(), desk.resting(price=AT - 1)
    assert desk.amend(first, price=AT - 2) in desk.kernel.orders
    refuses(desk.amend(second, price=AT - 3), C.RISK_AMEND_RATE_EXCEEDED, desk)


def test_what_the_engine_holds_counts_towards_the_open_orders_when_more_is_to_be_held() -> None:
    desk = holding(max_open_orders="3")
    for number in range(2):
        assert desk.order(**STOP_HELD, quantity=TENTH + number) in desk.kernel.orders
    take_profit, stop = desk.request(price=AT - 2), desk.request(**STOP_HELD)
    legs = {OrderRole.TAKE_PROFIT: take_profit, OrderRole.STOP: stop}
    refuses(desk.group(GroupKind.OCO, legs), C.RISK_OPEN_ORDERS_EXCEED_MAX, desk)
    assert desk.checks[C.RISK_OPEN_ORDERS_EXCEED_MAX].actual == "4"
    third = desk.order(**STOP_HELD, quantity=TENTH + 2)
    assert third in desk.kernel.orders
    refuses(desk.order(**STOP_HELD, quantity=TENTH + 3), C.RISK_OPEN_ORDERS_EXCEED_MAX, desk)
    assert desk.order(price=AT - 3) in desk.kernel.orders  # at the venue there is none yet
