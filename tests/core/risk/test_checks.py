"""Each check just inside and just outside its limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from core.risk.checks import evaluate
from core.risk.inputs import AccountInputs, BeforeAfter, RiskInputs
from core.risk.kill_switch import KillSwitch
from core.risk.rules import parse_risk_rules
from core.types.codes import ReasonCode
from core.types.events import MarketInputs
from core.types.instruments import Instrument
from core.types.orders import OrderType, Side
from tests.core.approvals import rules_document

C = ReasonCode
D = Decimal
BTC = Instrument("paper", "BTCUSDT", "BTC", "USDT", 2, 5, 10, 100, 1_000, 10_000_000, 100_000_000)
# tick 0.1, lot 0.001, quantity 0.01 to 100, notional from 10
RULES = parse_risk_rules(
    rules_document(
        max_notional_per_order_quote='"60000"',
        price_collar_bps="100",
        max_deviation_bps="50",
        book_stale_after_ms="2000",
        max_quantity_per_order='"50"',
        mark_collar_bps="200",
        max_depth_share_bps="1000",
        max_position_notional_quote='"1000"',
        max_gross_exposure_quote='"2000"',
        max_net_exposure_quote='"1500"',
        max_leverage='"2"',
        max_open_orders="5",
        max_daily_loss_quote='"100"',
        max_drawdown_bps="1000",
    ),
    "risk.toml",
)
LIMITS = RULES.limits_for("acct", "", "BTCUSDT")
ACCOUNT = AccountInputs(
    position=BeforeAfter(D(0), D(0)),
    gross=BeforeAfter(D(0), D(0)),
    net=BeforeAfter(D(0), D(0)),
    open_orders=0,
    equity=D(1000),
    day_start_equity=D(1000),
    peak_equity=D(1000),
)


def inputs(**changes: Any) -> RiskInputs:
    market = {
        "bid_price": "59999.5",
        "ask_price": "60000.5",
        "mid_price": "60000",
        "book_state": "LIVE",
        "book_update_id": 1,
        "book_age_ms": 10,
    }
    market.update({key: changes.pop(key) for key in list(changes) if key in market})
    values: dict[str, Any] = {
        "instrument": BTC,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal("0.1"),
        "price": Decimal("60000"),
        "reduce_only": False,
        "limits": LIMITS,
        "kill_switch": KillSwitch.NORMAL,
        "venue_connected": True,
        "market": MarketInputs(**market),
        "position_quantity": Decimal(0),
        "reducing_quantity": Decimal(0),
        "intent_unresolved": False,
        "visible_quantity": Decimal(1_000),
        "account": ACCOUNT,
    }
    return RiskInputs(**{**values, **changes})


MARKET = {"order_type": OrderType.MARKET, "price": None}
SELL_ONE = {"side": Side.SELL, "quantity": Decimal(1), "position_quantity": Decimal(1)}
OK = None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, OK),
        ({"kill_switch": KillSwitch.HALTED}, C.RISK_KILL_SWITCH_ACTIVE),
        ({"kill_switch": KillSwitch.CANCEL_ONLY}, C.RISK_KILL_SWITCH_ACTIVE),
        ({"kill_switch": KillSwitch.REDUCE_ONLY}, C.RISK_KILL_SWITCH_ACTIVE),
        ({"kill_switch": KillSwitch.REDUCE_ONLY, **SELL_ONE}, OK),
        (
            {"kill_switch": KillSwitch.REDUCE_ONLY, **SELL_ONE, "position_quantity": D("0.99")},
            C.RISK_KILL_SWITCH_ACTIVE,
        ),
        (
            {"kill_switch": KillSwitch.REDUCE_ONLY, **SELL_ONE, "reducing_quantity": D("0.001")},
            C.RISK_KILL_SWITCH_ACTIVE,
        ),
        ({"kill_switch": KillSwitch.REDUCE_ONLY, "position_quantity": D("-0.1")}, OK),
        ({"kill_switch": KillSwitch.HALTED, **SELL_ONE}, C.RISK_KILL_SWITCH_ACTIVE),
        ({"venue_connected": False}, C.RISK_VENUE_DISCONNECTED),
        ({"book_state": "STALE"}, C.MARKET_BOOK_STALE),
        ({"book_state": "SYNCING"}, C.MARKET_BOOK_STALE),
        ({"mid_price": None}, C.MARKET_BOOK_STALE),
        ({"book_age_ms": 2_000}, OK),
        ({"book_age_ms": 2_001}, C.MARKET_BOOK_STALE),
        ({"price": D("60000.1")}, OK),
        ({"price": D("60000.05")}, C.ORDER_TICK_SIZE_VIOLATED),
        ({"price": D("60000.000000000000000001")}, C.ORDER_TICK_SIZE_VIOLATED),
        ({"quantity": D("0.101")}, OK),
        ({"quantity": D("0.1005")}, C.ORDER_LOT_SIZE_VIOLATED),
        ({"quantity": D("0.01")}, OK),
        ({"quantity": D("0.009")}, C.ORDER_QUANTITY_BELOW_MIN),
        ({"quantity": D("100.001")}, C.ORDER_QUANTITY_ABOVE_MAX),
        ({"quantity": D("9" * 39)}, C.ORDER_QUANTITY_ABOVE_MAX),
        ({"quantity": D(1)}, OK),
        ({"quantity": D("1.001")}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ({"price": D("60600")}, OK),
        ({"price": D("60600.1")}, C.RISK_PRICE_OUTSIDE_COLLAR),
        ({"price": D("59400")}, OK),
        ({"price": D("59399.9")}, C.RISK_PRICE_OUTSIDE_COLLAR),
        ({"reference_price": D("60300")}, OK),  # 49.75 bps
        ({"reference_price": D("60302")}, C.RISK_PRICE_DRIFT_EXCEEDS_MAX),  # 50.08 bps
        ({"reference_price": D("60060"), "max_deviation_bps": D(10)}, OK),  # 9.99 bps
        ({"reference_price": D("60061"), "max_deviation_bps": D(10)}, C.RISK_PRICE_DRIFT_EXCEEDS_MAX),
        ({"reference_price": D("60302"), "max_deviation_bps": D(500)}, C.RISK_PRICE_DRIFT_EXCEEDS_MAX),
        ({"available": {"USDT": D(6_000)}}, OK),
        ({"available": {"USDT": D("5999.99")}}, C.RISK_BALANCE_INSUFFICIENT),
        ({"available": {}}, C.RISK_BALANCE_INSUFFICIENT),
        ({"available": {"BTC": D("0.1")}, "side": Side.SELL}, OK),
        ({"available": {"BTC": D("0.099")}, "side": Side.SELL}, C.RISK_BALANCE_INSUFFICIENT),
        ({"intent_unresolved": True}, C.RISK_INTENT_UNRESOLVED),
        ({"reduce_only": True}, C.ORDER_WOULD_INCREASE_POSITION),
        ({"reduce_only": True, **SELL_ONE}, OK),
        ({"reduce_only": True, **SELL_ONE, "side": Side.BUY}, C.ORDER_WOULD_INCREASE_POSITION),
        ({**MARKET, "worst_price": D("60600"), "depth_quantity": D("0.1")}, OK),
        ({**MARKET, "worst_price": D("60600.1"), "depth_quantity": D("0.1")}, C.RISK_PRICE_OUTSIDE_COLLAR),
        ({**MARKET, "worst_price": D("60000"), "depth_quantity": D("0.099")}, C.MARKET_DEPTH_INSUFFICIENT),
        ({**MARKET}, OK),
        ({**MARKET, "ask_price": None}, C.ORDER_NOTIONAL_BELOW_MIN),
        ({"price": D("59999.9"), "quantity": D(1)}, OK),
    ],
)
def test_a_limit_is_held_exactly(changes: dict[str, Any], expected: ReasonCode | None) -> None:
    decision = evaluate(inputs(**changes))
    assert (decision.refusal and decision.refusal.code) == expected


def test_the_least_notional_is_enough_and_a_cent_less_is_not() -> None:
    instrument = Instrument("paper", "X", "X", "USDT", 2, 5, 1, 100, 100, 10_000_000, 6_000_000_000)  # 600
    assert evaluate(inputs(instrument=instrument, quantity=Decimal("0.01"))).refusal is None
    decision = evaluate(inputs(instrument=instrument, quantity=Decimal("0.01"), price=Decimal("59999.99")))
    assert decision.refusal is not None
    assert decision.refusal.code is ReasonCode.ORDER_NOTIONAL_BELOW_MIN
    assert (decision.refusal.limit, decision.refusal.actual, decision.refusal.unit) == ("600", "599.9999", "quote")


def test_every_check_is_recorded_and_the_first_failing_one_is_the_refusal() -> None:
    decision = evaluate(
        inputs(
            venue_connected=False,
            intent_unresolved=True,
            reference_price=Decimal("60000"),
            available={"USDT": Decimal(10**6)},
        )
    )
    assert decision.refusal is not None
    assert decision.refusal.code is ReasonCode.RISK_VENUE_DISCONNECTED
    assert [record.name for record in decision.checks if not record.passed] == [
        ReasonCode.RISK_VENUE_DISCONNECTED,
        ReasonCode.RISK_INTENT_UNRESOLVED,
    ]
    assert len(decision.checks) == 23


def test_a_deviation_is_never_shown_smaller_than_it_is() -> None:
    decision = evaluate(inputs(price=Decimal("60600.1")))
    record = next(r for r in decision.checks if r.name == ReasonCode.RISK_PRICE_OUTSIDE_COLLAR)
    assert (record.limit, record.actual, record.unit) == ("100", "100.0167", "bps")
