"""What a venue can do by itself."""

from __future__ import annotations

import msgspec

from core.types.orders import OrderType, TimeInForce


class VenueCapabilities(msgspec.Struct, frozen=True):
    """What the venue does itself; what it doesn't, the engine does for it (held triggers, its own expiry) or refuses.

    can_amend_quantity: a resting LIMIT order's total quantity can be lowered in place, under its clientOrderId.
    can_amend_price: its price too (USD-M).
    """

    order_types: frozenset[OrderType]
    times_in_force: frozenset[TimeInForce]
    can_amend_quantity: bool = False
    can_amend_price: bool = False
