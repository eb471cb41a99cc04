"""Limits and rates at every level, by real decisions: the tightest holds and is named, each rate counts its own."""

from __future__ import annotations

import msgspec
import pytest

from core.types.clock import NS_PER_MS
from core.types.codes import ReasonCode
from tests.core.approvals import ACCOUNT, BTC, equity
from tests.core.kernel.desk import STRATEGY, Desk, opened, rules

C = ReasonCode
ETH = msgspec.structs.replace(BTC, symbol="ETHUSDT", base_asset="ETH")
AT = 6_000_000
DESK = f'[desk.alpha]\naccounts = ["{ACCOUNT}", "other"]\n'
SECTIONS = {
    "desk:alpha": DESK,
    f"account:{ACCOUNT}": f"[account.{ACCOUNT}]\n",
    f"strategy:{STRATEGY}": f"[strategy.{STRATEGY}]\n",
    "symbol:BTCUSDT": "[symbol.BTCUSDT]\n",
}
ELSEWHERE = {
    "desk:other": '[desk.other]\naccounts = ["another"]\n',
    "account:another": "[account.another]\n",
    "strategy:another": "[strategy.another]\n",
    "symbol:ETHUSDT": "[symbol.ETHUSDT]\n",
}


def desk_with(section: str, line: str) -> Desk:
    desk = opened(rules(f"\n{section}{line}\n"), instruments=(BTC, ETH))
    desk.around(marks={**desk.inputs.marks, ("paper", "ETHUSDT"): AT})
    return desk


@pytest.mark.parametrize("source", SECTIONS)
def test_a_tighter_limit_at_any_level_holds_and_is_named(source: str) -> None:
    desk = desk_with(SECTIONS[source], 'max_notional_per_order_quote = "5999.99"')
    assert desk.strategy_order() == C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    check = desk.checks[C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER]
    assert (check.source, check.limit, check.actual) == (source, "5999.99", "6000")
    assert desk.strategy_order(quantity=9_999) in desk.kernel.orders


@pytest.mark.parametrize("source", SECTIONS)
def test_a_looser_limit_at_any_level_loosens_nothing(source: str) -> None:
    looser = SECTIONS[source] + 'max_notional_per_order_quote = "900000000"\n'
    desk = opened(rules(f"\n{looser}", max_notional_per_order_quote='"5999.99"'))
    assert desk.strategy_order() == C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    assert desk.checks[C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER].source == "global"


@pytest.mark.parametrize("source", ELSEWHERE)
def test_anothers_limit_holds_nobody_back(source: str) -> None:
    desk = desk_with(ELSEWHERE[source], 'max_notional_per_order_quote = "1"')
    assert desk.strategy_order() in desk.kernel.orders


def test_the_tightest_of_all_levels_holds() -> None:
    sections = [*SECTIONS.values()]
    for tightest in range(len(sections)):
        lines = [
            f'{section}max_notional_per_order_quote = "{1_000 if number == tightest else 2_000}"\n'
            for number, section in enumerate(sections)
        ]
        desk = opened(rules("\n" + "".join(lines)))
        assert desk.strategy_order() == C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
        assert desk.checks[C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER].source == [*SECTIONS][tightest]


RATE = "order_rate = {count = 2, window_ms = 1000}"


@pytest.mark.parametrize("source", SECTIONS)
def test_a_rate_at_any_level_counts_what_belongs_to_it(source: str) -> None:
    desk = desk_with(SECTIONS[source], RATE)
    # Of another symbol and no strategy: it counts for the account and its desk alone.
    beside = desk.order(symbol="ETHUSDT", price=AT)
    assert beside in desk.kernel.orders, desk.refusal
    taken = 1 if source.startswith(("desk", "account")) else 2
    for number in range(taken):
        assert desk.strategy_order(price=AT - number) in desk.kernel.orders, desk.refusal
    assert desk.strategy_order(price=AT - 9) == C.RISK_ORDER_RATE_EXCEEDED
    assert desk.checks[C.RISK_ORDER_RATE_EXCEEDED].source == source
    desk.now_ns += 1_000 * NS_PER_MS
    assert desk.strategy_order(price=AT - 10) in desk.kernel.orders


@pytest.mark.parametrize(("account_id", "taken"), [("other", False), ("another", True)])
def test_a_desks_rate_counts_all_of_its_accounts_and_no_other(account_id: str, taken: bool) -> None:
    desk = desk_with(DESK, RATE)
    intent = desk.kernel.orders[desk.order()].intent
    desk.kernel.activity.order_intended(msgspec.structs.replace(intent, account_id=account_id), desk.now_ns)
    answer = desk.order(price=AT - 1)
    assert (answer in desk.kernel.orders) if taken else answer == C.RISK_ORDER_RATE_EXCEEDED
    assert desk.checks[C.RISK_ORDER_RATE_EXCEEDED].source == "desk:alpha"


@pytest.mark.parametrize(("level", "code"), [("", None), (SECTIONS["symbol:BTCUSDT"], C.RISK_AMEND_RATE_EXCEEDED)])
def test_amendments_are_counted_at_every_level_too(level: str, code: ReasonCode | None) -> None:
    desk = opened(rules(f"\n{level}amend_rate = {{count = 1, window_ms = 1000}}\n" if level else ""))
    order = desk.resting()
    assert desk.amend(order, 9_999) is None
    desk.amended(order, 9_999)
    assert desk.amend(order, 9_998) == code


def test_a_loss_of_yesterday_is_not_todays() -> None:
    desk = opened(rules(max_daily_loss_quote='"1000"'))
    lost = equity(day_start_equity="1000000", equity="998000")
    desk.apply(lost)
    assert desk.strategy_order() is ReasonCode.RISK_DAILY_LOSS_EXCEEDED
    desk.apply(msgspec.structs.replace(lost, day="2027-01-14"))
    assert desk.strategy_order() in desk.kernel.orders, desk.refusal
    assert desk.checks["RISK_DAILY_LOSS_EXCEEDED"].actual == "0"
