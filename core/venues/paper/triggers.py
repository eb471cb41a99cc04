"""When a contingent order begins to work (https://developers.binance.com/docs/binance-spot-api-docs/faqs/trailing-stop-faq).

A stop loss triggers when the last price goes against its side's position, a take profit when it goes with it. With
trailingDelta the order first waits for its stop price (if it has one), then follows the best price since, and
triggers when the price turns back by that many basis points. Pure.
"""

from __future__ import annotations

from core.types.orders import Side
from core.venues.paper.orders import NewOrder, Order

BASIS_POINTS = 10_000


def reaches_stop(order: Order | NewOrder, price: int) -> bool:
    """Whether the last price is at the stop price or beyond it, in the direction this order waits for."""
    is_upward = (order.side is Side.BUY) == order.order_type.is_stop_loss
    return price >= order.stop_price if is_upward else price <= order.stop_price


def triggers(order: Order, price: int, now_ms: int) -> bool:
    """Take the last price into account; True when the order begins to work. A trailing order's extreme moves."""
    if not order.trailing_delta:
        return reaches_stop(order, price)
    if not order.trailing_ms:
        if order.stop_price and not reaches_stop(order, price):
            return False
        order.extreme, order.trailing_ms = price, now_ms
        return False
    if order.side is Side.SELL:
        order.extreme = max(order.extreme, price)
        return price * BASIS_POINTS <= order.extreme * (BASIS_POINTS - order.trailing_delta)
    order.extreme = min(order.extreme, price)
    return price * BASIS_POINTS >= order.extreme * (BASIS_POINTS + order.trailing_delta)
