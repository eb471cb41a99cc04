"""What rests, kept up with every order, so that no check has to walk all open orders. The oracle of the native
ExposureBook, which the kernel uses.

Held orders count as nothing here: they are checked again before they go to the venue. Orders without an answer count
in full: they may be live (I5).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict

from core.orders.machine import Order
from core.types.orders import OrderStatus, Side

MarketKey = tuple[str, str, str]


class Resting:
    """Of one account, venue and symbol. Quantities at quantity_scale, prices at price_scale."""

    __slots__ = ("buy_prices", "buy_quantity", "orders", "sell_prices", "sell_quantity", "unresolved")

    def __init__(self) -> None:
        self.orders = 0
        self.buy_quantity = 0
        self.sell_quantity = 0
        self.unresolved = {Side.BUY: 0, Side.SELL: 0}
        self.buy_prices: list[int] = []
        self.sell_prices: list[int] = []

    def quantity(self, side: Side) -> int:
        return self.buy_quantity if side is Side.BUY else self.sell_quantity

    def unknown(self, side: Side) -> int:
        """How many orders of a side have no known outcome."""
        return self.unresolved[side]

    def opposite_price(self, side: Side) -> int | None:
        """The best of our own prices that an order on this side could meet."""
        if side is Side.BUY:
            return self.sell_prices[0] if self.sell_prices else None
        return self.buy_prices[-1] if self.buy_prices else None


NOTHING = Resting()


class ExposureBook:
    """Fed with each change of an order; the swapped call undoes it exactly."""

    def __init__(self) -> None:
        self._resting: dict[MarketKey, Resting] = {}
        self._symbols: defaultdict[str, dict[MarketKey, None]] = defaultdict(dict)
        self._open_orders: defaultdict[str, int] = defaultdict(int)

    def order_changed(self, old: Order | None, new: Order | None) -> None:
        if old is not None and counts(old):
            self._add(old, -1)
        if new is not None and counts(new):
            self._add(new, 1)

    def resting(self, account_id: str, venue: str, symbol: str) -> Resting:
        return self._resting.get((account_id, venue, symbol), NOTHING)

    def markets(self, account_id: str) -> tuple[MarketKey, ...]:
        """Where the account has, or had, open orders."""
        return tuple(self._symbols.get(account_id, ()))

    def open_orders(self, account_id: str) -> int:
        return self._open_orders.get(account_id, 0)

    def _add(self, order: Order, sign: int) -> None:
        intent = order.intent
        key = (intent.account_id, intent.venue, intent.symbol)
        resting = self._resting.get(key)
        if resting is None:
            resting = self._resting[key] = Resting()
            self._symbols[intent.account_id][key] = None
        resting.orders += sign
        self._open_orders[intent.account_id] += sign
        quantity = sign * order.remaining_quantity
        is_buy = intent.side is Side.BUY
        if is_buy:
            resting.buy_quantity += quantity
        else:
            resting.sell_quantity += quantity
        if order.status is OrderStatus.UNKNOWN:
            resting.unresolved[intent.side] += sign
        if intent.price is not None and not intent.order_type.is_conditional:
            prices = resting.buy_prices if is_buy else resting.sell_prices
            if sign > 0:
                insort(prices, intent.price)
            else:
                del prices[bisect_left(prices, intent.price)]


def counts(order: Order) -> bool:
    """Whether the venue has the order, or may have it."""
    return not order.status.is_final and order.status is not OrderStatus.HELD
