"""What a decision is made on besides the kernel's own state: the market and the venue at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from core._native import Moment
from core.types.events import MarketInputs

InstrumentKey = tuple[str, str]


class Balances(msgspec.Struct, frozen=True):
    """What the venue said the account holds, free and locked together, by asset, and when."""

    total: Mapping[str, Decimal]
    as_of_ns: int


class MarginInputs(msgspec.Struct, frozen=True):
    """A USD-M account as the venue last showed it: wallet balance in the margin asset, leverage by symbol."""

    wallet_balance: Decimal
    leverage: Mapping[str, int]
    as_of_ns: int


class DecisionInputs(msgspec.Struct, frozen=True):
    """The surroundings of one decision.

    worst_price and depth_quantity are of a sweep of the live book by the order's quantity; visible_quantity is all that
    the opposite side shows. balances is None when they aren't known, margin on spot. marks are ints at the instrument's
    price_scale, by (venue, symbol), for every instrument that is listed and has a price; rates tell what one unit of an
    asset is worth in the reporting currency. account_id is the only account that can be traded, the venue key's own;
    None where there is no such bound. moment, where several orders are decided on these very inputs, is what has been
    read of them: whoever replaces one replaces the other.
    """

    market: MarketInputs
    venue_connected: bool
    worst_price: Decimal | None = None
    depth_quantity: Decimal | None = None
    balances: Balances | None = None
    visible_quantity: Decimal | None = None
    marks: Mapping[InstrumentKey, int] = msgspec.field(default_factory=dict)
    rates: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    margin: MarginInputs | None = None
    account_id: str | None = None
    moment: Moment | None = None
