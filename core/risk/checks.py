"""Every pre-trade check, in one table; core/native/risk.cpp does the same and is held to this.

All are evaluated, so a person sees the whole picture; the first that fails is the refusal. What can't be judged (no
mid, no price) fails: risk fails closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation

import msgspec

from core.risk import account_checks
from core.risk.inputs import EXACT, RiskInputs
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.events import RiskCheckRecord
from core.types.money import BPS_PER_UNIT, decimal_text, from_scaled
from core.types.orders import OrderType, Side

BPS_PLACES = Decimal("0.0001")
PERCENT_PLACES = Decimal("0.01")
BOOK_LIVE = "LIVE"
NOT_SHARES = frozenset(
    {
        ReasonCode.ORDER_TICK_SIZE_VIOLATED,
        ReasonCode.ORDER_LOT_SIZE_VIOLATED,
        ReasonCode.ORDER_QUANTITY_BELOW_MIN,
        ReasonCode.ORDER_NOTIONAL_BELOW_MIN,
        ReasonCode.RISK_SELF_TRADE,
    }
)


class RiskDecision(msgspec.Struct, frozen=True):
    """Every check as it was made; refusal is None when all passed. notional is the order's worth in the reporting
    currency, None when it can't be told."""

    checks: tuple[RiskCheckRecord, ...]
    refusal: Refusal | None
    notional: Decimal | None = None


Check = Callable[[RiskInputs], RiskCheckRecord | None]


def evaluate(inputs: RiskInputs) -> RiskDecision:
    """Run the whole table. A check that doesn't apply to this order isn't recorded."""
    records: list[RiskCheckRecord] = []
    refusal: Refusal | None = None
    for check in CHECKS:
        record = check(inputs)
        if record is None:
            continue
        records.append(record)
        if not record.passed and refusal is None:
            refusal = refusal_of(record)
    for record in inputs.custom:
        records.append(record)
        if not record.passed and refusal is None:
            refusal = Refusal(
                ReasonCode(record.name), record.actual or "A custom rule refuses the order.", record.source
            )
    return RiskDecision(tuple(records), refusal, notional_of(inputs))


def refusal_of(record: RiskCheckRecord) -> Refusal:
    """What a built-in check that didn't pass says to a person."""
    code = ReasonCode(record.name)
    return Refusal(code, MESSAGES[code], record.limit, record.actual, record.unit)


def share_used_percent(record: RiskCheckRecord) -> Decimal | None:
    """How much of its limit a check used, rounded up to two places; None where that can't be said in numbers, or where
    less is not better (a minimum, a multiple)."""
    if record.name in NOT_SHARES or record.limit is None or record.actual is None:
        return None
    try:
        limit, actual = Decimal(record.limit), Decimal(record.actual)
    except InvalidOperation:
        return None
    if not limit.is_finite() or not actual.is_finite() or limit <= 0:
        return None
    share = EXACT.multiply(EXACT.divide(actual, limit), Decimal(100))
    return share.quantize(PERCENT_PLACES, rounding=ROUND_CEILING, context=EXACT)


def notional_of(inputs: RiskInputs) -> Decimal | None:
    """Of the whole order, in the reporting currency."""
    notional = _notional(inputs, inputs.order_quantity)
    if notional is None or inputs.quote_rate is None:
        return None
    return EXACT.multiply(notional, inputs.quote_rate)


def effective_price(inputs: RiskInputs) -> Decimal | None:
    """What the order is valued at: its limit, else its stop, for MARKET the sweep's worst price, else the best opposite
    price."""
    if inputs.order_type.has_limit_price:
        return inputs.price
    if inputs.stop_price is not None:
        return inputs.stop_price
    if inputs.worst_price is not None:
        return inputs.worst_price
    return _decimal(inputs.market.ask_price if inputs.side is Side.BUY else inputs.market.bid_price)


def deviation_bps(price: Decimal, reference: Decimal) -> Decimal:
    """|price - reference| / reference in basis points, rounded up to four places: never shown smaller than it is."""
    exact = EXACT.divide(EXACT.multiply(EXACT.abs(EXACT.subtract(price, reference)), Decimal(BPS_PER_UNIT)), reference)
    return exact.quantize(BPS_PLACES, rounding=ROUND_CEILING, context=EXACT)


def _kill_switch(inputs: RiskInputs) -> RiskCheckRecord:
    state = inputs.kill_switch
    passed = state is KillSwitch.NORMAL or (state is KillSwitch.REDUCE_ONLY and inputs.reduces)
    return _record(ReasonCode.RISK_KILL_SWITCH_ACTIVE, passed, KillSwitch.NORMAL, state)


def _venue_connected(inputs: RiskInputs) -> RiskCheckRecord:
    actual = "connected" if inputs.venue_connected else "disconnected"
    return _record(ReasonCode.RISK_VENUE_DISCONNECTED, inputs.venue_connected, "connected", actual)


def _book_fresh(inputs: RiskInputs) -> RiskCheckRecord:
    market, limit_ms = inputs.market, inputs.limits["book_stale_after_ms"].value
    if market.book_state != BOOK_LIVE or market.mid_price is None:
        return _record(ReasonCode.MARKET_BOOK_STALE, False, BOOK_LIVE, market.book_state)
    fresh = market.book_age_ms <= limit_ms
    return _record(ReasonCode.MARKET_BOOK_STALE, fresh, str(limit_ms), str(market.book_age_ms), "ms")


def _tick(inputs: RiskInputs) -> RiskCheckRecord | None:
    """Of every price that the order names."""
    prices = [price for price in (inputs.price, inputs.stop_price, inputs.activation_price) if price is not None]
    if not prices and not inputs.order_type.has_limit_price:
        return None
    tick = from_scaled(inputs.instrument.tick_size, inputs.instrument.price_scale)
    wrong = next((price for price in prices if EXACT.remainder(price, tick) != 0), None)
    passed = wrong is None and (inputs.price is not None or not inputs.order_type.has_limit_price)
    actual = wrong if wrong is not None else prices[0] if prices else None
    return _record(ReasonCode.ORDER_TICK_SIZE_VIOLATED, passed, decimal_text(tick), _text(actual), "quote")


def _lot(inputs: RiskInputs) -> RiskCheckRecord:
    lot = from_scaled(inputs.instrument.lot_size, inputs.instrument.quantity_scale)
    passed = EXACT.remainder(inputs.order_quantity, lot) == 0
    return _record(ReasonCode.ORDER_LOT_SIZE_VIOLATED, passed, decimal_text(lot), _text(inputs.order_quantity), "base")


def _min_quantity(inputs: RiskInputs) -> RiskCheckRecord:
    least = from_scaled(inputs.instrument.min_quantity, inputs.instrument.quantity_scale)
    passed = inputs.order_quantity >= least
    return _record(
        ReasonCode.ORDER_QUANTITY_BELOW_MIN, passed, decimal_text(least), _text(inputs.order_quantity), "base"
    )


def _max_quantity(inputs: RiskInputs) -> RiskCheckRecord:
    most = from_scaled(inputs.instrument.max_quantity, inputs.instrument.quantity_scale)
    passed = inputs.order_quantity <= most
    return _record(
        ReasonCode.ORDER_QUANTITY_ABOVE_MAX, passed, decimal_text(most), _text(inputs.order_quantity), "base"
    )


def _min_notional(inputs: RiskInputs) -> RiskCheckRecord:
    least = from_scaled(inputs.instrument.min_notional, inputs.instrument.notional_scale)
    notional = _notional(inputs, inputs.order_quantity)
    passed = notional is not None and notional >= least
    return _record(ReasonCode.ORDER_NOTIONAL_BELOW_MIN, passed, decimal_text(least), _text(notional), "quote")


def _reduce_only(inputs: RiskInputs) -> RiskCheckRecord | None:
    if not inputs.reduce_only:
        return None
    held = EXACT.subtract(inputs.reducible, inputs.reducing_quantity)
    return _record(
        ReasonCode.ORDER_WOULD_INCREASE_POSITION, inputs.reduces, _text(held), _text(inputs.quantity), "base"
    )


def _depth(inputs: RiskInputs) -> RiskCheckRecord | None:
    if inputs.order_type is not OrderType.MARKET:
        return None
    passed = inputs.depth_quantity is not None and inputs.depth_quantity >= inputs.quantity
    return _record(
        ReasonCode.MARKET_DEPTH_INSUFFICIENT, passed, _text(inputs.depth_quantity), _text(inputs.quantity), "base"
    )


def _max_notional(inputs: RiskInputs) -> RiskCheckRecord:
    most = inputs.limits["max_notional_per_order_quote"]
    notional = notional_of(inputs)
    passed = notional is not None and notional <= most.value
    return _record(
        ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER,
        passed,
        decimal_text(most.value),
        _text(notional),
        "quote",
        most.source,
    )


def _max_order_quantity(inputs: RiskInputs) -> RiskCheckRecord:
    most = inputs.limits["max_quantity_per_order"]
    return _record(
        ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER,
        inputs.order_quantity <= most.value,
        decimal_text(most.value),
        _text(inputs.order_quantity),
        "base",
        most.source,
    )


def _collar(inputs: RiskInputs) -> RiskCheckRecord | None:
    """Against the mid; of a limit price that waits for its stop, against that stop."""
    limit, price, reference = inputs.limits["price_collar_bps"], effective_price(inputs), _mid(inputs)
    if inputs.stop_price is not None:
        # A stop lies away from the market by its nature; what a market order becomes is checked when it triggers.
        if not inputs.order_type.has_limit_price:
            return None
        reference = inputs.stop_price
    return _deviation(ReasonCode.RISK_PRICE_OUTSIDE_COLLAR, price, reference, limit.value, limit.source)


def _mark_collar(inputs: RiskInputs) -> RiskCheckRecord | None:
    """Against the mark price, on spot against the last trade; before the first trade there is nothing to compare."""
    mark = _decimal(inputs.market.mark_price or inputs.market.last_price)
    if inputs.stop_price is not None or (mark is None and not inputs.is_derivative):
        return None
    limit = inputs.limits["mark_collar_bps"]
    return _deviation(
        ReasonCode.RISK_PRICE_OUTSIDE_MARK_COLLAR, effective_price(inputs), mark, limit.value, limit.source
    )


def _drift(inputs: RiskInputs) -> RiskCheckRecord | None:
    if inputs.reference_price is None:
        return None
    limit = inputs.limits["max_deviation_bps"]
    value, source = limit.value, limit.source
    if inputs.max_deviation_bps is not None and inputs.max_deviation_bps < value:
        value, source = inputs.max_deviation_bps, "proposal"
    return _deviation(ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX, _mid(inputs), inputs.reference_price, value, source)


def _balance(inputs: RiskInputs) -> RiskCheckRecord | None:
    """While the venue hasn't told what there is, only what reduces a position passes."""
    if inputs.is_derivative:
        return None
    instrument = inputs.instrument
    asset = instrument.quote_asset if inputs.side is Side.BUY else instrument.base_asset
    needed = _notional(inputs, inputs.quantity) if inputs.side is Side.BUY else inputs.quantity
    if inputs.available is None:
        return _record(ReasonCode.RISK_BALANCE_INSUFFICIENT, inputs.reduces, "0", _text(needed), asset)
    free = inputs.available.get(asset, Decimal(0))
    passed = needed is not None and needed <= free
    return _record(ReasonCode.RISK_BALANCE_INSUFFICIENT, passed, _text(free), _text(needed), asset)


def _unresolved(inputs: RiskInputs) -> RiskCheckRecord:
    actual = "unresolved" if inputs.intent_unresolved else "resolved"
    return _record(ReasonCode.RISK_INTENT_UNRESOLVED, not inputs.intent_unresolved, "resolved", actual)


def _depth_share(inputs: RiskInputs) -> RiskCheckRecord | None:
    """Of an order that would take from the book at once."""
    if not _takes(inputs):
        return None
    limit = inputs.limits["max_depth_share_bps"]
    visible, actual = inputs.visible_quantity, None
    if visible:
        share = EXACT.divide(EXACT.multiply(inputs.quantity, Decimal(BPS_PER_UNIT)), visible)
        actual = share.quantize(BPS_PLACES, rounding=ROUND_CEILING, context=EXACT)
    passed = actual is not None and actual <= limit.value
    return _record(
        ReasonCode.RISK_DEPTH_SHARE_EXCEEDED, passed, decimal_text(limit.value), _text(actual), "bps", limit.source
    )


def _takes(inputs: RiskInputs) -> bool:
    if inputs.order_type is OrderType.MARKET:
        return True
    if inputs.order_type is not OrderType.LIMIT or inputs.price is None:
        return False
    if inputs.side is Side.BUY:
        ask = _decimal(inputs.market.ask_price)
        return ask is not None and inputs.price >= ask
    bid = _decimal(inputs.market.bid_price)
    return bid is not None and inputs.price <= bid


def _self_trade(inputs: RiskInputs) -> RiskCheckRecord | None:
    """No order of ours may meet another one of ours. What turns into a market order is judged when it does; one of ours
    that lies before the stop is gone by the time that this one triggers."""
    if inputs.order_type.is_conditional and not inputs.order_type.has_limit_price:
        return None
    own = inputs.account.self_trade_price
    price, buys = effective_price(inputs), inputs.side is Side.BUY
    meets = own is not None and (price is None or (price >= own if buys else price <= own))
    if meets and inputs.order_type is OrderType.STOP_LIMIT and inputs.stop_price is not None and own is not None:
        meets = own >= inputs.stop_price if buys else own <= inputs.stop_price
    return _record(ReasonCode.RISK_SELF_TRADE, not meets, _text(own), _text(price), "quote")


CHECKS: tuple[Check, ...] = (
    _kill_switch,
    account_checks.frozen,
    _venue_connected,
    _book_fresh,
    _tick,
    _lot,
    _min_quantity,
    _max_quantity,
    _min_notional,
    _reduce_only,
    _depth,
    _depth_share,
    _max_order_quantity,
    _max_notional,
    _collar,
    _mark_collar,
    _drift,
    _balance,
    _unresolved,
    _self_trade,
    account_checks.repeated,
    account_checks.open_orders,
    account_checks.order_rate,
    account_checks.cancel_rate,
    account_checks.position,
    account_checks.gross_exposure,
    account_checks.net_exposure,
    account_checks.leverage,
    account_checks.margin,
    account_checks.daily_loss,
    account_checks.drawdown,
)

MESSAGES: Mapping[str, str] = {
    ReasonCode.RISK_KILL_SWITCH_ACTIVE: (
        "The kill switch lets no such order through. An administrator has to thaw the engine."
    ),
    ReasonCode.RISK_ACCOUNT_FROZEN: (
        "The account is frozen: it doesn't agree with the venue. Reconcile, then try again."
    ),
    ReasonCode.RISK_VENUE_DISCONNECTED: "The engine isn't connected to the venue. Try again when it is.",
    ReasonCode.MARKET_BOOK_STALE: "The order book isn't verified and fresh. Try again when it is live.",
    ReasonCode.ORDER_TICK_SIZE_VIOLATED: "The price isn't a multiple of the tick size. Round it to the tick.",
    ReasonCode.ORDER_LOT_SIZE_VIOLATED: "The quantity isn't a multiple of the lot size. Round it to the lot.",
    ReasonCode.ORDER_QUANTITY_BELOW_MIN: "The quantity is below the instrument's minimum. Raise it.",
    ReasonCode.ORDER_QUANTITY_ABOVE_MAX: "The quantity is above the instrument's maximum. Lower it or split the order.",
    ReasonCode.ORDER_NOTIONAL_BELOW_MIN: "The order's value is below the instrument's minimum. Raise the quantity.",
    ReasonCode.ORDER_WOULD_INCREASE_POSITION: (
        "A reduce-only order must not be larger than what is left of the position. Lower the quantity."
    ),
    ReasonCode.MARKET_DEPTH_INSUFFICIENT: "The book can't fill this quantity now. Lower it, or use a limit order.",
    ReasonCode.RISK_DEPTH_SHARE_EXCEEDED: (
        "The order would take too large a share of the visible book. Lower the quantity."
    ),
    ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER: "The quantity exceeds the limit per order. Lower it.",
    ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER: (
        "The order's value exceeds the limit per order. Lower the quantity."
    ),
    ReasonCode.RISK_PRICE_OUTSIDE_COLLAR: "The price is too far from the market's mid. Choose a price nearer to it.",
    ReasonCode.RISK_PRICE_OUTSIDE_MARK_COLLAR: (
        "The price is too far from the last trade, or the mark. Choose a price nearer to it."
    ),
    ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX: (
        "The market moved too far since the proposal. Ask for a new suggestion at today's price."
    ),
    ReasonCode.RISK_BALANCE_INSUFFICIENT: (
        "The account's free balance, as the venue told it, doesn't cover the order. Lower the quantity; if the venue "
        "can't be asked at present, only what reduces is taken."
    ),
    ReasonCode.RISK_INTENT_UNRESOLVED: (
        "An earlier order of this account, symbol and side has no known outcome yet. Wait until it has."
    ),
    ReasonCode.RISK_SELF_TRADE: (
        "The order would trade with the account's own resting order. Cancel that one, or change the price."
    ),
    ReasonCode.RISK_INTENT_REPEATED: (
        "The same order was asked for too often in a short time. Look at what asks for it."
    ),
    ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX: "The account has too many open orders. Cancel some.",
    ReasonCode.RISK_ORDER_RATE_EXCEEDED: "Too many orders in a short time. Ask again later.",
    ReasonCode.RISK_AMEND_RATE_EXCEEDED: "Too many orders in a short time. Ask again later.",
    ReasonCode.RISK_CANCEL_RATE_EXCEEDED: (
        "Too many cancels in a short time. Cancels are always taken, new orders later."
    ),
    ReasonCode.RISK_POSITION_EXCEEDS_MAX: (
        "The position in this symbol could grow beyond its limit. Lower the quantity."
    ),
    ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX: (
        "The account's gross exposure could grow beyond its limit. Lower the quantity."
    ),
    ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX: (
        "The account's net exposure could grow beyond its limit. Lower the quantity."
    ),
    ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX: "The account's leverage could grow beyond its limit. Lower the quantity.",
    ReasonCode.RISK_MARGIN_INSUFFICIENT: (
        "The account's margin doesn't cover the order. Lower the quantity, or add margin."
    ),
    ReasonCode.RISK_DAILY_LOSS_EXCEEDED: "The account has lost too much today. Only orders that reduce are taken.",
    ReasonCode.RISK_DRAWDOWN_EXCEEDED: "The account is too far below its peak. Only orders that reduce are taken.",
}


def _deviation(
    code: ReasonCode, price: Decimal | None, reference: Decimal | None, limit: Decimal, source: str
) -> RiskCheckRecord:
    if price is None or reference is None:
        return _record(code, False, decimal_text(limit), None, "bps", source)
    actual = deviation_bps(price, reference)
    return _record(code, actual <= limit, decimal_text(limit), decimal_text(actual), "bps", source)


def _notional(inputs: RiskInputs, quantity: Decimal) -> Decimal | None:
    price = effective_price(inputs)
    return None if price is None else EXACT.multiply(price, quantity)


def _mid(inputs: RiskInputs) -> Decimal | None:
    return _decimal(inputs.market.mid_price)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _record(
    code: ReasonCode,
    passed: bool,
    limit: str | None,
    actual: str | None,
    unit: str | None = None,
    source: str | None = None,
) -> RiskCheckRecord:
    return RiskCheckRecord(
        str(code), passed, None if limit is None else str(limit), actual and str(actual), unit, source
    )
