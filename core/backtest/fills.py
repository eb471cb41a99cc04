"""How orders fill on bars: the one model there is, which assumes the worse where a bar doesn't tell.

- A market order fills at the open of the first bar that begins at or after the order's arrival, worse by slippage_bps.
- A limit order fills only in a bar that trades through its price, not at a touch, and never better than that price.
- A stop fills at its price, or at the open where the bar opens beyond it, worse by slippage_bps.
- Inside one bar a stop comes before a target, and an entry at its limit is stopped out in the same bar where that is
  possible, but doesn't reach its target before the next.
- No more than max_volume_share_bps of a bar's volume is filled in it; the rest waits for the next bar.
- Fees are taken in quote, rounded up. What the account can't pay for is cut off, and the rest of such an order ends.
"""

from __future__ import annotations

import msgspec

from core.backtest.bars import Bar
from core.types.orders import OrderIntent, OrderType, Side

FILL_MODEL = "bars/1"
FILL_MODEL_TEXT = (
    "bars/1: market orders fill at the open of the first bar after their arrival, worse by the slippage; limits only "
    "in a bar that trades through them, at their price; stops at their price or a worse open, worse by the slippage, "
    "and before targets; at most the stated share of a bar's volume; fees in quote"
)
BPS = 10_000


class Terms(msgspec.Struct, frozen=True):
    """What a fill costs. latency_ms is from a decision to the order's arrival at the venue."""

    slippage_bps: int
    maker_fee_bps: int
    taker_fee_bps: int
    latency_ms: int
    max_volume_share_bps: int


class Execution(msgspec.Struct, frozen=True, gc=False):
    """One fill, before the kernel knows of it. Ints at the instrument's scales, fee at notional scale."""

    client_order_id: str
    price: int
    quantity: int
    fee: int
    is_maker: bool


class Resting(msgspec.Struct):
    """An order at the simulated venue. from_bar counts bars: it may trade at its limit from that one on. is_unpaid: the
    account couldn't pay for all of it, so what is left ends."""

    intent: OrderIntent
    arrives_ns: int
    from_bar: int
    remaining: int
    is_unpaid: bool = False


def worse(price: int, side: Side, bps: int, tick: int) -> int:
    """A price that is bps worse for this side, rounded to the tick away from it; never below one tick."""
    if side is Side.BUY:
        return -(-price * (BPS + bps) // (BPS * tick)) * tick
    return max(tick, price * (BPS - bps) // (BPS * tick) * tick)


def fee_of(notional: int, bps: int) -> int:
    """At notional scale, rounded up."""
    return -(-notional * bps // BPS)


class BarVenue:
    """The orders that rest, and what the bar at hand still has of its volume."""

    def __init__(self, terms: Terms, tick: int, lot: int) -> None:
        self._terms = terms
        self._tick = tick
        self._lot = lot
        self._volume_left = 0
        self.resting: dict[str, Resting] = {}

    def submit(self, intent: OrderIntent, arrives_ns: int, from_bar: int) -> None:
        self.resting[intent.client_order_id] = Resting(intent, arrives_ns, from_bar, intent.quantity)

    def cancel(self, client_order_id: str) -> bool:
        """Whether it was there."""
        return self.resting.pop(client_order_id, None) is not None

    def begin(self, bar: Bar) -> None:
        share = bar.volume * self._terms.max_volume_share_bps // BPS
        self._volume_left = share - share % self._lot

    def at_price(self, price: int, now_ns: int, quote: int) -> Execution | None:
        """The next market order that has arrived, filled at this price; quote is what a buy can be paid from."""
        for resting in self.resting.values():
            intent = resting.intent
            if intent.order_type is not OrderType.MARKET or resting.arrives_ns > now_ns:
                continue
            worst = worse(price, intent.side, self._terms.slippage_bps, self._tick)
            found = self._execute(resting, worst, self._terms.taker_fee_bps, quote, is_maker=False)
            if found is not None:
                return found
        return None

    def through(self, bar: Bar, number: int, quote: int) -> Execution | None:
        """The next limit order whose price this bar trades through; at its price, as a taker where the bar opens beyond
        it already."""
        for resting in self.resting.values():
            intent, price = resting.intent, resting.intent.price
            if price is None or number < resting.from_bar or resting.arrives_ns > bar.opens_ns:
                continue
            buys = intent.side is Side.BUY
            if bar.low >= price if buys else bar.high <= price:
                continue
            is_maker = bar.open >= price if buys else bar.open <= price
            bps = self._terms.maker_fee_bps if is_maker else self._terms.taker_fee_bps
            found = self._execute(resting, price, bps, quote, is_maker=is_maker)
            if found is not None:
                return found
        return None

    def unpaid(self) -> list[str]:
        """Buys that were filled as far as the account could pay."""
        return [name for name, resting in self.resting.items() if resting.is_unpaid]

    def _execute(self, resting: Resting, price: int, bps: int, quote: int, *, is_maker: bool) -> Execution | None:
        quantity = min(resting.remaining, self._volume_left)
        if resting.intent.side is Side.BUY and quantity:
            payable = affordable(quote, price, bps, self._lot)
            if payable < quantity:
                quantity, resting.is_unpaid = payable, True
        if quantity <= 0:
            return None
        self._volume_left -= quantity
        resting.remaining -= quantity
        if not resting.remaining:
            del self.resting[resting.intent.client_order_id]
        return Execution(resting.intent.client_order_id, price, quantity, fee_of(price * quantity, bps), is_maker)


def affordable(quote: int, price: int, fee_bps: int, lot: int) -> int:
    """How many units, in whole lots, this much quote (at notional scale) pays for, fee included."""
    quantity = quote * BPS // (price * (BPS + fee_bps))
    quantity -= quantity % lot
    while quantity > 0 and price * quantity + fee_of(price * quantity, fee_bps) > quote:
        quantity -= lot
    return max(0, quantity)
