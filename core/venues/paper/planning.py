"""What an order would trade with now: the market's levels and our own resting orders, best price first. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from core.types.orders import Side
from core.venues.paper.book import MarketView
from core.venues.paper.decimals import UNIT, quote_amount
from core.venues.paper.events import Level
from core.venues.paper.orders import Order, Prevention


class Step(msgspec.Struct, frozen=True):
    """One thing to do, in order: trade `quantity` at `price` with the market, or with `own`; or, when `is_prevented`,
    expire `own` instead."""

    price: int
    quantity: int
    own: Order | None = None
    is_prevented: bool = False


class Plan(msgspec.Struct):
    """quantity is what trades, cost its quote amount.

    ended_by: the own order at which self-trade prevention ends the taker. wanted_lots: with a budget that the book
    couldn't use up, what the rest of it would buy at the last price; 0 else.
    """

    steps: list[Step]
    quantity: int = 0
    cost: int = 0
    ended_by: Order | None = None
    wanted_lots: int = 0


def opposite(side: Side) -> Side:
    return Side.SELL if side is Side.BUY else Side.BUY


def is_beyond(price: int, limit: int, side: Side) -> bool:
    """Whether a price of that side of the book is worse (for its taker) than the limit."""
    return price < limit if side is Side.BUY else price > limit


def crosses(side: Side, price: int, opposite_price: int) -> bool:
    """Whether an order at `price` would trade with a quote at `opposite_price`."""
    return price >= opposite_price if side is Side.BUY else price <= opposite_price


def until(view: MarketView, side: Side, limit: int | None) -> Iterable[Level]:
    """Available levels of one side, best first, down to the limit price."""
    for price, available in view.levels(side):
        if limit is not None and is_beyond(price, limit, side):
            return
        yield price, available


def floor_to(quantity: int, step: int) -> int:
    return quantity - quantity % step


def plan(
    view: MarketView,
    own: Sequence[Order],
    side: Side,
    limit: int | None,
    step: int,
    prevention: Prevention,
    *,
    quantity: int = 0,
    budget: int = 0,
) -> Plan:
    """Sweep for a taker of `side`: up to a quantity, or for as much as a quote budget pays.

    own: our resting orders of the other side, best first. limit: the worst price; None for a market order.
    """
    result = Plan([])
    remaining, money = quantity, budget
    last_price = 0
    for price, available, mine in _offers(view, own, opposite(side), limit):
        if mine is not None and prevention is not Prevention.NONE:
            if prevention.ends_maker:
                result.steps.append(Step(price, 0, mine, is_prevented=True))
            if prevention.ends_taker:
                result.ended_by = mine
                return result
            continue
        wanted = money * UNIT // price if budget else remaining
        lots = floor_to(min(available, wanted), step)
        last_price = price
        if lots:
            result.steps.append(Step(price, lots, mine))
            result.quantity += lots
            result.cost += quote_amount(price, lots)
            remaining -= lots
            money -= quote_amount(price, lots)
        if (not budget and not remaining) or (budget and lots < floor_to(available, step)):
            return result
    if budget and last_price:
        result.wanted_lots = floor_to(money * UNIT // last_price, step)
    return result


def _offers(
    view: MarketView, own: Sequence[Order], book_side: Side, limit: int | None
) -> Iterator[tuple[int, int, Order | None]]:
    """(price, quantity, own order or None), best first; at one price the market's quantity stands before ours."""
    queue = deque(order for order in own if limit is None or not is_beyond(order.price, limit, book_side))
    for price, available in list(until(view, book_side, limit)):
        while queue and is_beyond(price, queue[0].price, book_side):
            order = queue.popleft()
            yield order.price, order.remaining, order
        yield price, available, None
        while queue and queue[0].price == price:
            order = queue.popleft()
            yield order.price, order.remaining, order
    for order in queue:
        yield order.price, order.remaining, order
