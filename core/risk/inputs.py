"""What one risk decision is made on."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from core.risk.kill_switch import KillSwitch
from core.risk.rules import EffectiveLimits
from core.types.events import MarketInputs, RiskCheckRecord
from core.types.instruments import Instrument, Product
from core.types.orders import OrderType, Side

EXACT = Context(prec=160, rounding=ROUND_HALF_EVEN)
NOTHING = Decimal(0)


class BeforeAfter(msgspec.Struct, frozen=True):
    """A measure as it is and as it would be with the order, in the worst case of what rests; None: it isn't known."""

    before: Decimal | None
    after: Decimal | None


class RateCount(msgspec.Struct, frozen=True):
    """How many already lie within the window of a rate, this one not counted."""

    source: str
    limit: int
    window_ms: int
    count: int


class AccountInputs(msgspec.Struct, frozen=True):
    """The account beside the order. Amounts in the reporting currency, all worst cases.

    position is that of the order's symbol, gross and net the whole account's. order_rates are those that this order
    counts for (amend rates for an amendment), cancel_rates how many cancels there were. self_trade_price is our own
    best resting price on the other side. equity, day_start_equity and peak_equity are None until the account was
    valued. margin is the initial margin of the derivatives in the order's margin asset, margin_balance what there is of
    it, unrealised PnL included.
    """

    position: BeforeAfter
    gross: BeforeAfter
    net: BeforeAfter
    open_orders: int
    order_rates: tuple[RateCount, ...] = ()
    repeats: tuple[RateCount, ...] = ()
    cancel_rates: tuple[RateCount, ...] = ()
    self_trade_price: Decimal | None = None
    equity: Decimal | None = None
    day_start_equity: Decimal | None = None
    peak_equity: Decimal | None = None
    frozen_reason: str | None = None
    adds_order: bool = True
    margin: BeforeAfter | None = None
    margin_balance: Decimal | None = None


class RiskInputs(msgspec.Struct, frozen=True):
    """What one risk decision is made on.

    worst_price and depth_quantity are of a sweep of the live book by quantity (None without a sweep); visible_quantity
    is all that the other side shows. reference_price is the mid that the human saw, set at send only. available maps an
    asset to what is free after reservations, None when balances aren't known. position_quantity is signed;
    reducing_quantity is what open orders of this side already take from the position. custom are the records of the
    custom rules, made already. quote_rate is what one unit of the quote asset is worth in the reporting currency.

    quantity is what may still fill. Of an amendment, filled_quantity is what has filled already, which counts towards
    the order's size, and amended_from the order as it rests: what may still fill of it, and its price.
    """

    instrument: Instrument
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None
    reduce_only: bool
    limits: EffectiveLimits
    kill_switch: KillSwitch
    venue_connected: bool
    market: MarketInputs
    position_quantity: Decimal
    reducing_quantity: Decimal
    intent_unresolved: bool
    account: AccountInputs
    worst_price: Decimal | None = None
    depth_quantity: Decimal | None = None
    reference_price: Decimal | None = None
    max_deviation_bps: Decimal | None = None
    available: Mapping[str, Decimal] | None = None
    visible_quantity: Decimal | None = None
    quote_rate: Decimal | None = Decimal(1)
    stop_price: Decimal | None = None
    activation_price: Decimal | None = None
    filled_quantity: Decimal = NOTHING
    amended_from: tuple[Decimal, Decimal | None] | None = None
    custom: tuple[RiskCheckRecord, ...] = ()

    @property
    def is_derivative(self) -> bool:
        return self.instrument.product is not Product.SPOT

    @property
    def reducible(self) -> Decimal:
        """How much of the position an order on this side could close."""
        held = self.position_quantity if self.side is Side.SELL else EXACT.minus(self.position_quantity)
        return max(held, Decimal(0))

    @property
    def reduces(self) -> bool:
        """Whether the order, after all others of its side, still brings the position nearer to zero, or only makes a
        resting order smaller."""
        return self.lowers or self.quantity <= EXACT.subtract(self.reducible, self.reducing_quantity)

    @property
    def lowers(self) -> bool:
        """An amendment that leaves less to fill at the same price."""
        return self.amended_from is not None and (
            self.quantity <= self.amended_from[0] and self.price == self.amended_from[1]
        )

    @property
    def is_amendment(self) -> bool:
        return self.amended_from is not None

    @property
    def order_quantity(self) -> Decimal:
        """The order's size as the venue sees it."""
        return EXACT.add(self.quantity, self.filled_quantity)
