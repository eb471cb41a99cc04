"""The filters that a new order must pass, with Binance's refusals
(https://developers.binance.com/docs/binance-spot-api-docs/filters)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from core.venues.paper import errors
from core.venues.paper.orders import NewOrder, Order
from core.venues.paper.rules import (
    MAX_ALGO_ORDERS_PER_SYMBOL,
    MAX_ICEBERG_PARTS,
    MAX_OPEN_ORDERS_PER_SYMBOL,
    MAX_TRAILING_DELTA_BPS,
    MIN_TRAILING_DELTA_BPS,
    SymbolRules,
)


class Prices(msgspec.Struct, frozen=True):
    """What the filters compare with: the last trade's price, the average of some minutes, the other side's best."""

    last: int
    average: int
    opposite_best: int | None


def check(rules: SymbolRules, request: NewOrder, prices: Prices) -> None:
    """The filters that look at one order. Raises VenueError -1013, or -2010 for an iceberg above its order."""
    order_type = request.order_type
    if not order_type.is_market:
        rules.check_price(request.price)
    if request.stop_price:
        rules.check_price(request.stop_price)
    if not order_type.is_market:
        rules.check_percent_price(request.price, prices.average)
    _check_trailing_delta(request)
    rules.check_quantity(request.quantity, order_type.is_market)
    reference = _reference_price(request, prices)
    if reference is not None:
        rules.check_notional(reference, request.quantity, order_type.is_market)
    _check_iceberg(rules, request)


def check_counts(request: NewOrder, open_orders: Iterable[Order], more: int = 0) -> None:
    """The filters that count an account's open orders on the symbol; `more` are to be opened together with this one.

    Raises VenueError -1013.
    """
    ours = [order for order in open_orders if order.symbol == request.symbol]
    if len(ours) + more >= MAX_OPEN_ORDERS_PER_SYMBOL:
        raise errors.filter_failure("MAX_NUM_ORDERS")
    algo = sum(order.order_type.is_contingent and not order.executed for order in ours)
    if request.order_type.is_contingent and algo >= MAX_ALGO_ORDERS_PER_SYMBOL:
        raise errors.filter_failure("MAX_NUM_ALGO_ORDERS")


def _reference_price(request: NewOrder, prices: Prices) -> int | None:
    if not request.order_type.is_market:
        return request.price
    if request.order_type.is_contingent:
        return request.stop_price or prices.last
    return prices.opposite_best


def _check_trailing_delta(request: NewOrder) -> None:
    delta = request.trailing_delta
    if delta and not MIN_TRAILING_DELTA_BPS <= delta <= MAX_TRAILING_DELTA_BPS:
        raise errors.filter_failure("TRAILING_DELTA")


def _check_iceberg(rules: SymbolRules, request: NewOrder) -> None:
    if not request.iceberg_quantity:
        return
    if request.iceberg_quantity > request.quantity:
        raise errors.VenueError(-2010, "IcebergQty exceeds QTY.")
    if request.iceberg_quantity % rules.step or request.iceberg_quantity < rules.min_quantity:
        raise errors.filter_failure("LOT_SIZE")
    if -(-request.quantity // request.iceberg_quantity) > MAX_ICEBERG_PARTS:
        raise errors.filter_failure("ICEBERG_PARTS")
