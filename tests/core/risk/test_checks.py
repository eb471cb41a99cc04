"""Each check just inside and just outside its limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.risk.checks import evaluate, share_used_percent
from core.risk.inputs import AccountInputs, BeforeAfter, RateCount, RiskInputs
from core.risk.kill_switch import KillSwitch
from core.risk.rules import parse_risk_rules
from core.types.codes import ReasonCode
from core.types.events import MarketInputs, RiskCheckRecord
from core.types.instruments import Instrument, Product
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


PLENTY = {"USDT": D(10**9), "BTC": D(10**6)}


def inputs(**changes: Any) -> RiskInputs:
    market = {
        "bid_price": "59999.5",
        "ask_price": "60000.5",
        "mid_price": "60000",
        "book_state": "LIVE",
        "book_update_id": 1,
        "book_age_ms": 10,
        "last_price": None,
        "mark_price": None,
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
        "available": PLENTY,
        "account": ACCOUNT,
    }
    return RiskInputs(**{**values, **changes})


MARKET = {"order_type": OrderType.MARKET, "price": None, "depth_quantity": D("0.1")}
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
        ({"available": None}, C.RISK_BALANCE_INSUFFICIENT),
        ({"available": None, "side": Side.SELL}, C.RISK_BALANCE_INSUFFICIENT),
        ({"available": None, "side": Side.SELL, "position_quantity": D("0.099")}, C.RISK_BALANCE_INSUFFICIENT),
        ({"available": None, "side": Side.SELL, "position_quantity": D("0.1")}, OK),
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


def beside(**changes: Any) -> dict[str, Any]:
    return {"account": msgspec.structs.replace(ACCOUNT, **changes)}


def rate(count: int) -> tuple[RateCount, ...]:
    return (RateCount("global", 10, 1_000, 0), RateCount("account:acct", 3, 1_000, count))


def measure(before: str, after: str | None) -> BeforeAfter:
    return BeforeAfter(D(before), None if after is None else D(after))


SMALL = {"price": D(1_000), "mid_price": "1000"}
AMENDED = {"amended_from": (D("0.09"), D("60000"))}
REDUCING = {"side": Side.SELL, "position_quantity": D(1)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (beside(frozen_reason="order.filled vz1"), C.RISK_ACCOUNT_FROZEN),
        ({"quantity": D(50), "price": D(1_000), "mid_price": "1000"}, OK),
        ({"quantity": D("50.001"), "price": D(1_000), "mid_price": "1000"}, C.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER),
        ({"last_price": "60500"}, OK),
        ({"last_price": "61300"}, C.RISK_PRICE_OUTSIDE_MARK_COLLAR),
        ({"mark_price": "61300", "last_price": "60000"}, C.RISK_PRICE_OUTSIDE_MARK_COLLAR),
        ({**MARKET, "visible_quantity": D(1)}, OK),
        ({**MARKET, "visible_quantity": D("0.9999")}, C.RISK_DEPTH_SHARE_EXCEEDED),
        ({**MARKET, "visible_quantity": None}, C.RISK_DEPTH_SHARE_EXCEEDED),
        ({"price": D("60000.4"), "visible_quantity": D("0.1")}, OK),  # rests below the ask
        ({"price": D("60000.5"), "visible_quantity": D("0.1")}, C.RISK_DEPTH_SHARE_EXCEEDED),
        (beside(self_trade_price=D("60000.1")), OK),
        (beside(self_trade_price=D("60000")), C.RISK_SELF_TRADE),
        ({**beside(self_trade_price=D("59999.9")), "side": Side.SELL}, OK),
        ({**beside(self_trade_price=D("60000")), "side": Side.SELL}, C.RISK_SELF_TRADE),
        (beside(repeats=rate(2)), OK),
        (beside(repeats=rate(3)), C.RISK_INTENT_REPEATED),
        (beside(order_rates=rate(2)), OK),
        (beside(order_rates=rate(3)), C.RISK_ORDER_RATE_EXCEEDED),
        ({**beside(order_rates=rate(2)), **AMENDED}, OK),
        ({**beside(order_rates=rate(3)), **AMENDED}, C.RISK_AMEND_RATE_EXCEEDED),
        (beside(cancel_rates=rate(3)), OK),
        (beside(cancel_rates=rate(4)), C.RISK_CANCEL_RATE_EXCEEDED),
        ({**beside(cancel_rates=rate(4)), **REDUCING}, OK),  # out of a position is always let
        (beside(open_orders=4), OK),
        (beside(open_orders=5), C.RISK_OPEN_ORDERS_EXCEED_MAX),
        (beside(open_orders=5, adds_order=False), OK),
        (beside(position=measure("0", "1000")), OK),
        (beside(position=measure("0", "1000.01")), C.RISK_POSITION_EXCEEDS_MAX),
        ({**beside(position=measure("3000", "3000")), **REDUCING}, OK),  # no worse than it is
        (beside(position=measure("3000", "3000")), C.RISK_POSITION_EXCEEDS_MAX),  # as large on the other side
        ({**beside(position=measure("3000", "3000.01")), **REDUCING}, C.RISK_POSITION_EXCEEDS_MAX),
        ({**beside(gross=measure("3000", "3000"), equity=D(9_000)), **REDUCING}, OK),
        (beside(net=measure("3000", "3000")), C.RISK_NET_EXPOSURE_EXCEEDS_MAX),
        (beside(position=measure("3000", None)), C.RISK_POSITION_EXCEEDS_MAX),
        (beside(gross=measure("0", "2000")), OK),
        (beside(gross=measure("0", "2000.01")), C.RISK_GROSS_EXPOSURE_EXCEEDS_MAX),
        (beside(net=measure("0", "1500")), OK),
        (beside(net=measure("0", "1500.01")), C.RISK_NET_EXPOSURE_EXCEEDS_MAX),
        (beside(gross=measure("0", "1999"), equity=D("999.5"), peak_equity=D("999.5")), OK),
        (beside(gross=measure("0", "2000"), equity=D("999"), peak_equity=D("999")), C.RISK_LEVERAGE_EXCEEDS_MAX),
        (beside(equity=None), C.RISK_LEVERAGE_EXCEEDS_MAX),
        (beside(gross=measure("0", "1"), equity=D(0), day_start_equity=D(0)), C.RISK_LEVERAGE_EXCEEDS_MAX),
        (beside(day_start_equity=D("1099.99"), peak_equity=D(1_000)), OK),
        (beside(day_start_equity=D("1100"), peak_equity=D(1_000)), C.RISK_DAILY_LOSS_EXCEEDED),
        ({**REDUCING, **beside(day_start_equity=D("1100"), peak_equity=D(1_000))}, OK),
        (beside(day_start_equity=None), C.RISK_DAILY_LOSS_EXCEEDED),
        (beside(peak_equity=D("1111.1")), OK),
        (beside(peak_equity=D("1111.2")), C.RISK_DRAWDOWN_EXCEEDED),
        ({**REDUCING, **beside(peak_equity=D("1111.2"))}, OK),
        ({"quote_rate": None}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ({"quote_rate": D("10.0001")}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ({"quote_rate": D(10)}, OK),
        ({"order_type": OrderType.STOP, "price": None, "stop_price": D("70000")}, OK),  # no collar before it triggers
    ],
)
def test_a_limit_of_the_account_is_held_exactly(changes: dict[str, Any], expected: ReasonCode | None) -> None:
    decision = evaluate(inputs(**changes))
    assert (decision.refusal and decision.refusal.code) == expected


STOP = {"order_type": OrderType.STOP, "price": None}
STOP_LIMIT = {"order_type": OrderType.STOP_LIMIT}
USDM = {"instrument": msgspec.structs.replace(BTC, product=Product.USDM), "mark_price": "60000"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({**STOP, "stop_price": D("70000.1")}, OK),
        ({**STOP, "stop_price": D("70000.01")}, C.ORDER_TICK_SIZE_VIOLATED),
        ({**STOP_LIMIT, "price": D("70000"), "stop_price": D("70000.01")}, C.ORDER_TICK_SIZE_VIOLATED),
        ({**STOP_LIMIT, "price": D("70000.01"), "stop_price": D("70000")}, C.ORDER_TICK_SIZE_VIOLATED),
        (
            {"order_type": OrderType.TRAILING_STOP, "price": None, "activation_price": D("0.01")},
            C.ORDER_TICK_SIZE_VIOLATED,
        ),
        # A limit that waits for its stop lies near that stop, wherever the market is.
        ({**STOP_LIMIT, "price": D("70700"), "stop_price": D("70000")}, OK),
        ({**STOP_LIMIT, "price": D("70701"), "stop_price": D("70000")}, C.RISK_PRICE_OUTSIDE_COLLAR),
        ({**MARKET, "depth_quantity": None}, C.MARKET_DEPTH_INSUFFICIENT),
        # A stop's own resting orders: those before it are filled by the time it triggers.
        ({**STOP, "stop_price": D("70000"), **beside(self_trade_price=D("65000"))}, OK),
        ({**STOP_LIMIT, "price": D("70100"), "stop_price": D("70000"), **beside(self_trade_price=D("65000"))}, OK),
        (
            {**STOP_LIMIT, "price": D("70100"), "stop_price": D("70000"), **beside(self_trade_price=D("70050"))},
            C.RISK_SELF_TRADE,
        ),
        (
            {**STOP_LIMIT, "price": D("70100"), "stop_price": D("70000"), **beside(self_trade_price=D("70100.1"))},
            OK,
        ),
        # An amendment: what is filled counts towards the order's size, and not towards what it may still do.
        ({**SMALL, "quantity": D("0.1"), "filled_quantity": D("49.9"), **AMENDED}, OK),
        (
            {**SMALL, "quantity": D("0.1"), "filled_quantity": D("49.901"), **AMENDED},
            C.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER,
        ),
        ({"quantity": D("0.01"), "filled_quantity": D("0.99")}, OK),
        ({"quantity": D("0.01"), "filled_quantity": D("0.991")}, C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ({"quantity": D("0.00001"), "filled_quantity": D("0.99999")}, OK),  # small only in what is left of it
        ({"quantity": D("0.5"), "filled_quantity": D("0.5"), "available": {"USDT": D(30_000)}}, OK),
        # One that leaves less at the same price reduces; a better price for others doesn't.
        ({"kill_switch": KillSwitch.REDUCE_ONLY, "amended_from": (D("0.1"), D("60000"))}, OK),
        ({"kill_switch": KillSwitch.REDUCE_ONLY, "amended_from": (D("0.09"), D("60000"))}, C.RISK_KILL_SWITCH_ACTIVE),
        ({"kill_switch": KillSwitch.REDUCE_ONLY, "amended_from": (D("0.1"), D("59999"))}, C.RISK_KILL_SWITCH_ACTIVE),
        ({"kill_switch": KillSwitch.CANCEL_ONLY, "amended_from": (D("0.1"), D("60000"))}, C.RISK_KILL_SWITCH_ACTIVE),
        ({"kill_switch": KillSwitch.HALTED, "amended_from": (D("0.1"), D("60000"))}, C.RISK_KILL_SWITCH_ACTIVE),
        # Margin, of derivatives.
        ({**USDM, **beside(margin=measure("0", "300"), margin_balance=D(300))}, OK),
        (
            {**USDM, **beside(margin=measure("0", "300.01"), margin_balance=D(300))},
            C.RISK_MARGIN_INSUFFICIENT,
        ),
        ({**USDM, **beside(margin=measure("0", "300"), margin_balance=None)}, C.RISK_MARGIN_INSUFFICIENT),
        ({**USDM, **beside(margin=measure("0", None), margin_balance=D(300))}, C.RISK_MARGIN_INSUFFICIENT),
        (USDM, C.RISK_MARGIN_INSUFFICIENT),
        (
            {**USDM, **REDUCING, **beside(margin=measure("500", "500"), margin_balance=D(300))},
            OK,
        ),
        (beside(margin=measure("0", "301"), margin_balance=D(300)), OK),  # spot has none
    ],
)
def test_stops_amendments_and_margin_are_held_exactly(changes: dict[str, Any], expected: ReasonCode | None) -> None:
    decision = evaluate(inputs(**changes))
    assert (decision.refusal and decision.refusal.code) == expected


def test_a_check_names_the_level_that_set_its_limit() -> None:
    decision = evaluate(inputs())
    sources = {record.name: record.source for record in decision.checks}
    assert sources[C.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER] == "global"


@pytest.mark.parametrize(
    ("limit", "actual", "expected"),
    [("200", "50", "25.00"), ("3", "1", "33.34"), ("3", None, None), ("NORMAL", "HALTED", None), ("0", "1", None)],
)
def test_how_much_of_a_limit_is_used_is_never_shown_too_low(
    limit: str, actual: str | None, expected: str | None
) -> None:
    share = share_used_percent(RiskCheckRecord(C.RISK_POSITION_EXCEEDS_MAX, True, limit, actual))
    assert share == (None if expected is None else D(expected))


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
