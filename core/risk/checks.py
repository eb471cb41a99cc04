"""Every pre-trade check, in one table. All are evaluated, so a person sees the whole picture; the first that fails
is the refusal. What can't be judged (no mid, no price) fails: risk fails closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal

import msgspec

from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.events import MarketInputs, RiskCheckRecord, RiskLimits
from core.types.instruments import Instrument
from core.types.money import BPS_PER_UNIT, decimal_text, from_scaled
from core.types.orders import OrderType, Side

EXACT = Context(prec=160, rounding=ROUND_HALF_EVEN)
BPS_PLACES = Decimal("0.0001")
BOOK_LIVE = "LIVE"


class RiskInputs(msgspec.Struct, frozen=True):
    """What one risk decision is made on.

    worst_price and depth_quantity are of a sweep of the live book by quantity (None without a sweep).
    reference_price is the mid that the human saw, set at send only. available maps an asset to what is free after
    reservations, None when balances aren't known. position_quantity is signed; reducing_quantity is what open orders
    of this side already take from the position.
    """

    instrument: Instrument
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None
    reduce_only: bool
    limits: RiskLimits
    kill_switch: KillSwitch
    venue_connected: bool
    market: MarketInputs
    position_quantity: Decimal
    reducing_quantity: Decimal
    intent_unresolved: bool
    worst_price: Decimal | None = None
    depth_quantity: Decimal | None = None
    reference_price: Decimal | None = None
    max_deviation_bps: Decimal | None = None
    available: Mapping[str, Decimal] | None = None


class RiskDecision(msgspec.Struct, frozen=True):
    """Every check as it was made; refusal is None when all passed."""

    checks: tuple[RiskCheckRecord, ...]
    refusal: Refusal | None


Check = Callable[[RiskInputs], RiskCheckRecord | None]


def evaluate(inputs: RiskInputs) -> RiskDecision:
    """Run the whole table. A check that doesn't apply to this order isn't recorded."""
    records: list[RiskCheckRecord] = []
    refusal: Refusal | None = None
    for check, message in CHECKS:
        record = check(inputs)
        if record is None:
            continue
        records.append(record)
        if not record.passed and refusal is None:
            refusal = Refusal(ReasonCode(record.name), message, record.limit, record.actual, record.unit)
    return RiskDecision(tuple(records), refusal)


def effective_price(inputs: RiskInputs) -> Decimal | None:
    """What the order is valued at: its limit, or for MARKET the sweep's worst price, else the best opposite price."""
    if inputs.order_type is OrderType.LIMIT:
        return inputs.price
    if inputs.worst_price is not None:
        return inputs.worst_price
    return _decimal(inputs.market.ask_price if inputs.side is Side.BUY else inputs.market.bid_price)


def deviation_bps(price: Decimal, reference: Decimal) -> Decimal:
    """|price - reference| / reference in basis points, rounded up to four places: never shown smaller than it is."""
    exact = EXACT.divide(EXACT.multiply(EXACT.abs(EXACT.subtract(price, reference)), Decimal(BPS_PER_UNIT)), reference)
    return exact.quantize(BPS_PLACES, rounding=ROUND_CEILING, context=EXACT)


def _kill_switch(inputs: RiskInputs) -> RiskCheckRecord:
    state = inputs.kill_switch
    passed = state is KillSwitch.NORMAL or (state is KillSwitch.REDUCE_ONLY and _reduces(inputs))
    return _record(ReasonCode.RISK_KILL_SWITCH_ACTIVE, passed, KillSwitch.NORMAL, state)


def _venue_connected(inputs: RiskInputs) -> RiskCheckRecord:
    actual = "connected" if inputs.venue_connected else "disconnected"
    return _record(ReasonCode.RISK_VENUE_DISCONNECTED, inputs.venue_connected, "connected", actual)


def _book_fresh(inputs: RiskInputs) -> RiskCheckRecord:
    market, limit_ms = inputs.market, inputs.limits.book_stale_after_ms
    if market.book_state != BOOK_LIVE or market.mid_price is None:
        return _record(ReasonCode.MARKET_BOOK_STALE, False, BOOK_LIVE, market.book_state)
    fresh = market.book_age_ms <= limit_ms
    return _record(ReasonCode.MARKET_BOOK_STALE, fresh, str(limit_ms), str(market.book_age_ms), "ms")


def _tick(inputs: RiskInputs) -> RiskCheckRecord | None:
    if inputs.order_type is not OrderType.LIMIT:
        return None
    tick = from_scaled(inputs.instrument.tick_size, inputs.instrument.price_scale)
    passed = inputs.price is not None and EXACT.remainder(inputs.price, tick) == 0
    return _record(ReasonCode.ORDER_TICK_SIZE_VIOLATED, passed, decimal_text(tick), _text(inputs.price), "quote")


def _lot(inputs: RiskInputs) -> RiskCheckRecord:
    lot = from_scaled(inputs.instrument.lot_size, inputs.instrument.quantity_scale)
    passed = EXACT.remainder(inputs.quantity, lot) == 0
    return _record(ReasonCode.ORDER_LOT_SIZE_VIOLATED, passed, decimal_text(lot), _text(inputs.quantity), "base")


def _min_quantity(inputs: RiskInputs) -> RiskCheckRecord:
    least = from_scaled(inputs.instrument.min_quantity, inputs.instrument.quantity_scale)
    passed = inputs.quantity >= least
    return _record(ReasonCode.ORDER_QUANTITY_BELOW_MIN, passed, decimal_text(least), _text(inputs.quantity), "base")


def _max_quantity(inputs: RiskInputs) -> RiskCheckRecord:
    most = from_scaled(inputs.instrument.max_quantity, inputs.instrument.quantity_scale)
    passed = inputs.quantity <= most
    return _record(ReasonCode.ORDER_QUANTITY_ABOVE_MAX, passed, decimal_text(most), _text(inputs.quantity), "base")


def _min_notional(inputs: RiskInputs) -> RiskCheckRecord:
    least = from_scaled(inputs.instrument.min_notional, inputs.instrument.notional_scale)
    notional = _notional(inputs)
    passed = notional is not None and notional >= least
    return _record(ReasonCode.ORDER_NOTIONAL_BELOW_MIN, passed, decimal_text(least), _text(notional), "quote")


def _reduce_only(inputs: RiskInputs) -> RiskCheckRecord | None:
    if not inputs.reduce_only:
        return None
    held = EXACT.subtract(_reducible(inputs), inputs.reducing_quantity)
    return _record(
        ReasonCode.ORDER_WOULD_INCREASE_POSITION, _reduces(inputs), _text(held), _text(inputs.quantity), "base"
    )


def _depth(inputs: RiskInputs) -> RiskCheckRecord | None:
    if inputs.order_type is not OrderType.MARKET or inputs.depth_quantity is None:
        return None
    passed = inputs.depth_quantity >= inputs.quantity
    return _record(
        ReasonCode.MARKET_DEPTH_INSUFFICIENT, passed, _text(inputs.depth_quantity), _text(inputs.quantity), "base"
    )


def _max_notional(inputs: RiskInputs) -> RiskCheckRecord:
    most = Decimal(inputs.limits.max_notional_per_order_quote)
    notional = _notional(inputs)
    passed = notional is not None and notional <= most
    return _record(ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, passed, decimal_text(most), _text(notional), "quote")


def _collar(inputs: RiskInputs) -> RiskCheckRecord:
    limit = Decimal(inputs.limits.price_collar_bps)
    return _deviation(ReasonCode.RISK_PRICE_OUTSIDE_COLLAR, effective_price(inputs), _mid(inputs), limit)


def _drift(inputs: RiskInputs) -> RiskCheckRecord | None:
    if inputs.reference_price is None:
        return None
    limit = Decimal(inputs.limits.max_deviation_bps)
    if inputs.max_deviation_bps is not None:
        limit = min(limit, inputs.max_deviation_bps)
    return _deviation(ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX, _mid(inputs), inputs.reference_price, limit)


def _balance(inputs: RiskInputs) -> RiskCheckRecord | None:
    if inputs.available is None:
        return None
    instrument = inputs.instrument
    asset = instrument.quote_asset if inputs.side is Side.BUY else instrument.base_asset
    needed = _notional(inputs) if inputs.side is Side.BUY else inputs.quantity
    free = inputs.available.get(asset, Decimal(0))
    passed = needed is not None and needed <= free
    return _record(ReasonCode.RISK_BALANCE_INSUFFICIENT, passed, _text(free), _text(needed), asset)


def _unresolved(inputs: RiskInputs) -> RiskCheckRecord:
    actual = "unresolved" if inputs.intent_unresolved else "resolved"
    return _record(ReasonCode.RISK_INTENT_UNRESOLVED, not inputs.intent_unresolved, "resolved", actual)


CHECKS: tuple[tuple[Check, str], ...] = (
    (_kill_switch, "The kill switch lets no such order through. An administrator has to thaw the engine."),
    (_venue_connected, "The engine isn't connected to the venue. Try again when it is."),
    (_book_fresh, "The order book isn't verified and fresh. Try again when it is live."),
    (_tick, "The price isn't a multiple of the tick size. Round it to the tick."),
    (_lot, "The quantity isn't a multiple of the lot size. Round it to the lot."),
    (_min_quantity, "The quantity is below the instrument's minimum. Raise it."),
    (_max_quantity, "The quantity is above the instrument's maximum. Lower it or split the order."),
    (_min_notional, "The order's value is below the instrument's minimum. Raise the quantity."),
    (_reduce_only, "A reduce-only order must not be larger than what is left of the position. Lower the quantity."),
    (_depth, "The book can't fill this quantity now. Lower it, or use a limit order."),
    (_max_notional, "The order's value exceeds the limit per order. Lower the quantity."),
    (_collar, "The price is too far from the market's mid. Choose a price nearer to it."),
    (_drift, "The market moved too far since the proposal. Ask for a new suggestion at today's price."),
    (_balance, "The account's free balance doesn't cover the order. Lower the quantity."),
    (_unresolved, "An earlier order of this account, symbol and side has no known outcome yet. Wait until it has."),
)


def _deviation(code: ReasonCode, price: Decimal | None, reference: Decimal | None, limit: Decimal) -> RiskCheckRecord:
    if price is None or reference is None:
        return _record(code, False, decimal_text(limit), None, "bps")
    actual = deviation_bps(price, reference)
    return _record(code, actual <= limit, decimal_text(limit), decimal_text(actual), "bps")


def _reduces(inputs: RiskInputs) -> bool:
    return inputs.quantity <= EXACT.subtract(_reducible(inputs), inputs.reducing_quantity)


def _reducible(inputs: RiskInputs) -> Decimal:
    held = inputs.position_quantity if inputs.side is Side.SELL else EXACT.minus(inputs.position_quantity)
    return max(held, Decimal(0))


def _notional(inputs: RiskInputs) -> Decimal | None:
    price = effective_price(inputs)
    return None if price is None else EXACT.multiply(price, inputs.quantity)


def _mid(inputs: RiskInputs) -> Decimal | None:
    return _decimal(inputs.market.mid_price)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _record(
    code: ReasonCode, passed: bool, limit: str | None, actual: str | None, unit: str | None = None
) -> RiskCheckRecord:
    return RiskCheckRecord(str(code), passed, None if limit is None else str(limit), actual and str(actual), unit)
