"""Checks of the account beside the order. What brings it nearer to nothing passes even beyond a limit; what can't be
valued doesn't pass."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from core.risk.inputs import EXACT, BeforeAfter, RateCount, RiskInputs
from core.risk.rules import Limit
from core.types.codes import ReasonCode
from core.types.events import RiskCheckRecord
from core.types.money import BPS_PER_UNIT, decimal_text

RATIO_PLACES = Decimal("0.0001")


def frozen(inputs: RiskInputs) -> RiskCheckRecord:
    reason = inputs.account.frozen_reason
    return _record(ReasonCode.RISK_ACCOUNT_FROZEN, reason is None, "in agreement", reason or "in agreement")


def repeated(inputs: RiskInputs) -> RiskCheckRecord | None:
    return _rate(ReasonCode.RISK_INTENT_REPEATED, inputs.account.repeats)


def order_rate(inputs: RiskInputs) -> RiskCheckRecord | None:
    code = ReasonCode.RISK_AMEND_RATE_EXCEEDED if inputs.is_amendment else ReasonCode.RISK_ORDER_RATE_EXCEEDED
    return _rate(code, inputs.account.order_rates)


def cancel_rate(inputs: RiskInputs) -> RiskCheckRecord | None:
    """A cancel is never refused. Whoever cancels too much gets nothing new, except what reduces, until the window has
    passed."""
    if not inputs.account.cancel_rates:
        return None
    worst = min(inputs.account.cancel_rates, key=lambda rate: rate.limit - rate.count)
    passed = worst.count <= worst.limit or inputs.reduces
    unit = f"per {worst.window_ms} ms"
    return _record(ReasonCode.RISK_CANCEL_RATE_EXCEEDED, passed, str(worst.limit), str(worst.count), unit, worst.source)


def open_orders(inputs: RiskInputs) -> RiskCheckRecord | None:
    if not inputs.account.adds_order:
        return None
    limit = inputs.limits["max_open_orders"]
    actual = inputs.account.open_orders + 1
    return _record(
        ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX,
        actual <= limit.value,
        decimal_text(limit.value),
        str(actual),
        "orders",
        limit.source,
    )


def position(inputs: RiskInputs) -> RiskCheckRecord:
    limit = inputs.limits["max_position_notional_quote"]
    return _measure(ReasonCode.RISK_POSITION_EXCEEDS_MAX, inputs, inputs.account.position, limit, "quote")


def gross_exposure(inputs: RiskInputs) -> RiskCheckRecord:
    limit = inputs.limits["max_gross_exposure_quote"]
    return _measure(ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX, inputs, inputs.account.gross, limit, "quote")


def net_exposure(inputs: RiskInputs) -> RiskCheckRecord:
    limit = inputs.limits["max_net_exposure_quote"]
    return _measure(ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX, inputs, inputs.account.net, limit, "quote")


def leverage(inputs: RiskInputs) -> RiskCheckRecord:
    limit, equity, gross = inputs.limits["max_leverage"], inputs.account.equity, inputs.account.gross
    measured = BeforeAfter(_ratio(gross.before, equity), _ratio(gross.after, equity))
    return _measure(ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX, inputs, measured, limit, "times")


def margin(inputs: RiskInputs) -> RiskCheckRecord | None:
    """Initial margin of all derivatives, this order and the worst of what rests included, against what there is."""
    if not inputs.is_derivative:
        return None
    needed, balance = inputs.account.margin, inputs.account.margin_balance
    code, unit = ReasonCode.RISK_MARGIN_INSUFFICIENT, inputs.instrument.quote_asset
    if needed is None or needed.after is None or balance is None:
        return _record(code, False, "0" if balance is None else decimal_text(balance), None, unit)
    is_no_worse = inputs.reduces and needed.before is not None and needed.after <= needed.before
    passed = needed.after <= balance or is_no_worse
    return _record(code, passed, decimal_text(balance), decimal_text(needed.after), unit)


def daily_loss(inputs: RiskInputs) -> RiskCheckRecord:
    limit, account = inputs.limits["max_daily_loss_quote"], inputs.account
    loss = None
    if account.equity is not None and account.day_start_equity is not None:
        loss = max(EXACT.subtract(account.day_start_equity, account.equity), Decimal(0))
    return _loss(ReasonCode.RISK_DAILY_LOSS_EXCEEDED, inputs, loss, limit, "quote")


def drawdown(inputs: RiskInputs) -> RiskCheckRecord:
    limit, account = inputs.limits["max_drawdown_bps"], inputs.account
    fall = None
    if account.equity is not None and account.peak_equity is not None and account.peak_equity > 0:
        lost = max(EXACT.subtract(account.peak_equity, account.equity), Decimal(0))
        exact = EXACT.divide(EXACT.multiply(lost, Decimal(BPS_PER_UNIT)), account.peak_equity)
        fall = exact.quantize(RATIO_PLACES, rounding=ROUND_CEILING, context=EXACT)
    return _loss(ReasonCode.RISK_DRAWDOWN_EXCEEDED, inputs, fall, limit, "bps")


def _loss(code: ReasonCode, inputs: RiskInputs, lost: Decimal | None, limit: Limit, unit: str) -> RiskCheckRecord:
    passed = lost is not None and lost < limit.value
    if lost is not None and not passed:
        passed = inputs.reduces
    return _record(
        code, passed, decimal_text(limit.value), None if lost is None else decimal_text(lost), unit, limit.source
    )


def _rate(code: ReasonCode, rates: tuple[RateCount, ...]) -> RiskCheckRecord | None:
    """The one that is nearest to its limit, or beyond it."""
    if not rates:
        return None
    worst = min(rates, key=lambda rate: rate.limit - rate.count)
    actual = worst.count + 1
    return _record(
        code, actual <= worst.limit, str(worst.limit), str(actual), f"per {worst.window_ms} ms", worst.source
    )


def _measure(code: ReasonCode, inputs: RiskInputs, measured: BeforeAfter, limit: Limit, unit: str) -> RiskCheckRecord:
    after = measured.after
    # A position beyond its limit can be brought down, and not turned into one as large on the other side.
    is_no_worse = inputs.reduces and after is not None and measured.before is not None and after <= measured.before
    passed = after is not None and (after <= limit.value or is_no_worse)
    return _record(
        code, passed, decimal_text(limit.value), None if after is None else decimal_text(after), unit, limit.source
    )


def _ratio(value: Decimal | None, equity: Decimal | None) -> Decimal | None:
    if value is None or equity is None or equity <= 0:
        return Decimal(0) if value == 0 and equity is not None else None
    return EXACT.divide(value, equity).quantize(RATIO_PLACES, rounding=ROUND_CEILING, context=EXACT)


def _record(
    code: ReasonCode, passed: bool, limit: str, actual: str | None, unit: str | None = None, source: str | None = None
) -> RiskCheckRecord:
    return RiskCheckRecord(str(code), passed, limit, actual, unit, source)
