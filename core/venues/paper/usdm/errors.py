"""Refusals of USD-M futures in Binance's words
(https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code)."""

from __future__ import annotations

from core.venues.paper.errors import VenueError
from core.venues.paper.usdm.numbers import plain


def margin_insufficient() -> VenueError:
    return VenueError(-2019, "Margin is insufficient.")


def would_trigger() -> VenueError:
    return VenueError(-2021, "Order would immediately trigger.")


def reduce_only_rejected() -> VenueError:
    return VenueError(-2022, "ReduceOnly Order is rejected.")


def too_many_orders() -> VenueError:
    return VenueError(-2025, "Reach max open order limit.")


def position_too_large() -> VenueError:
    return VenueError(-2027, "Exceeded the maximum allowable position at current leverage.")


def leverage_too_small() -> VenueError:
    return VenueError(-2028, "Leverage is smaller than permitted: insufficient margin balance.")


def precision() -> VenueError:
    return VenueError(-1111, "Precision is over the maximum defined for this asset.")


def quantity_not_positive() -> VenueError:
    return VenueError(-4003, "Quantity less than or equal to zero.")


def price_not_positive() -> VenueError:
    return VenueError(-4001, "Price less than 0.")


def trigger_price_not_positive() -> VenueError:
    return VenueError(-4006, "Stop price less than zero.")


def price_off_tick() -> VenueError:
    return VenueError(-4014, "Price not increased by tick size.")


def quantity_off_step() -> VenueError:
    return VenueError(-4023, "Quantity not increased by step size.")


def price_above_cap(cap: int) -> VenueError:
    return VenueError(-4016, f"Limit price can't be higher than {plain(cap)}.")


def price_below_floor(floor: int) -> VenueError:
    return VenueError(-4024, f"Limit price can't be lower than {plain(floor)}.")


def market_outside_percent_price() -> VenueError:
    return VenueError(-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit.")


def too_many_algo_orders() -> VenueError:
    return VenueError(-4045, "Reach max stop order limit.")


def side_mismatch() -> VenueError:
    return VenueError(-4061, "Order's position side does not match user's setting.")


def duplicate_client_id() -> VenueError:
    return VenueError(-4116, "ClientOrderId is duplicated.")


def use_algo_endpoint() -> VenueError:
    return VenueError(
        -4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
    )


def notional_too_small(minimum: int) -> VenueError:
    return VenueError(
        -4164, f"Order's notional must be no smaller than {plain(minimum)} (unless you choose reduce only)."
    )


def fok_rejected() -> VenueError:
    return VenueError(
        -5021,
        "Due to the order could not be filled immediately, the FOK order has been rejected. The order will not be "
        "recorded in the order history.",
    )


def gtx_rejected() -> VenueError:
    return VenueError(
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected. The order will not be "
        "recorded in the order history.",
    )


def same_order() -> VenueError:
    return VenueError(-5027, "No need to modify the order.")


def good_till_date() -> VenueError:
    return VenueError(
        -5040,
        "The goodTillDate timestamp must be greater than the current time plus 600 seconds and smaller than "
        "253402300799000.",
    )
