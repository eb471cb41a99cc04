"""Several orders in one text of a proposal: what a person reads is what is signed, and what the engine compares.

One order is `<client_order_id> <side> <quantity> <symbol> <type>`, then ` at <price>` and ` once <stop_price>` where it
has them; orders are joined by `; `. There is one way to write a list, so there is one way to read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

LISTED_ORDERS_LIMIT = 100
_DECIMAL = r"(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,39})?"
_ORDER = re.compile(
    r"(?P<client_order_id>[^\s;]{1,128}) (?P<side>BUY|SELL) "
    rf"(?P<quantity>{_DECIMAL}) (?P<symbol>[^\s;]{{1,64}}) (?P<order_type>[A-Z_]{{1,32}})"
    rf"(?: at (?P<price>{_DECIMAL}))?(?: once (?P<stop_price>{_DECIMAL}))?"
)


class ListedOrder(msgspec.Struct, frozen=True):
    """An order's terms as text, as a proposal to change it states them."""

    client_order_id: str
    side: str
    quantity: str
    symbol: str
    order_type: str
    price: str = ""
    stop_price: str = ""

    @property
    def text(self) -> str:
        words = f"{self.client_order_id} {self.side} {self.quantity} {self.symbol} {self.order_type}"
        words += f" at {self.price}" if self.price else ""
        return words + (f" once {self.stop_price}" if self.stop_price else "")


def orders_text(orders: Iterable[ListedOrder]) -> str:
    return "; ".join(order.text for order in orders)


def listed_orders(text: str) -> tuple[ListedOrder, ...]:
    """Raises ValueError for a text that isn't a list of 1 to LISTED_ORDERS_LIMIT orders, each of them once."""
    parts = text.split("; ", LISTED_ORDERS_LIMIT)
    if len(parts) > LISTED_ORDERS_LIMIT:
        raise ValueError(f"more than {LISTED_ORDERS_LIMIT} orders")
    orders = tuple(_order(part) for part in parts)
    if len({order.client_order_id for order in orders}) < len(orders):
        raise ValueError("an order is listed twice")
    return orders


def _order(text: str) -> ListedOrder:
    match = _ORDER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:64]!r} isn't an order")
    return ListedOrder(**match.groupdict(default=""))
