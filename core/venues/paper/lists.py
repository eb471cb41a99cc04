"""What an order list may hold (https://developers.binance.com/docs/binance-spot-api-docs/rest-api/trading-endpoints).

A pair (OCO) has a leg above and a leg below the last price, of which at least one is contingent.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.types.orders import Side
from core.venues.paper import errors
from core.venues.paper.errors import VenueError
from core.venues.paper.orders import Contingency, NewList, NewOrder, TimeInForce, Type


def check_composition(request: NewList) -> None:
    """The order types and their places. Raises VenueError."""
    if request.contingency is Contingency.OCO:
        _check_pair_types(request.orders)
        return
    working, *pending = request.orders
    if working.order_type not in {Type.LIMIT, Type.LIMIT_MAKER}:
        raise VenueError(-1116, "Invalid orderType.")
    if any(one.quote_quantity for one in pending):
        raise errors.superfluous_parameter("quoteOrderQty")
    if len(pending) == 2:
        _check_pair_types(pending)


def _check_pair_types(pair: Sequence[NewOrder]) -> None:
    above, below = pair
    is_sell = above.side is Side.SELL
    for leg in pair:
        if leg.order_type in {Type.LIMIT, Type.MARKET}:
            raise VenueError(-1158, "Order type not supported in OCO.")
        if leg.iceberg_quantity and leg.time_in_force is not TimeInForce.GTC:
            name = "aboveIcebergQty" if leg is above else "belowIcebergQty"
            raise VenueError(-1160, f"Parameter '{name}' is not supported if `timeInForce` is not GTC.")
    if not above.order_type.is_contingent and not below.order_type.is_contingent:
        raise VenueError(-1168, "At least one OCO order must be contingent.")
    if is_sell:
        _refuse(below, Type.LIMIT_MAKER, -1166, "A limit order in a sell OCO must be above.")
        _refuse_group(above, is_stop_loss=True, code=-1197, message="A stop loss order in a sell OCO must be below.")
        _refuse_group(below, is_stop_loss=False, code=-1199, message="A take profit order in a sell OCO must be above.")
    else:
        _refuse(above, Type.LIMIT_MAKER, -1165, "A limit order in a buy OCO must be below.")
        _refuse_group(below, is_stop_loss=True, code=-1196, message="A stop loss order in a buy OCO must be above.")
        _refuse_group(above, is_stop_loss=False, code=-1198, message="A take profit order in a buy OCO must be below.")


def _refuse(leg: NewOrder, order_type: Type, code: int, message: str) -> None:
    if leg.order_type is order_type:
        raise VenueError(code, message)


def _refuse_group(leg: NewOrder, *, is_stop_loss: bool, code: int, message: str) -> None:
    if leg.order_type.is_contingent and leg.order_type.is_stop_loss is is_stop_loss:
        raise VenueError(code, message)


def has_right_prices(pair: Sequence[NewOrder], last_price: int) -> bool:
    """Above is above the last price, below is below it: by the stop price, or the price of a leg without one. A leg
    that trails from the start has neither."""
    above, below = (leg.stop_price or (0 if leg.trailing_delta else leg.price) for leg in pair)
    return (not above or above > last_price) and (not below or below < last_price)
