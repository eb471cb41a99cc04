"""Orders that the engine holds: conditional ones, bracket children, legs of an OCO, replacements; what becomes of them.

The rules, which hold at every moment and over any crash, because all of it is journaled state:

- No overfill. Of the orders that take each other's place at most one is at the venue. A held one is sent only once the
  others there are off the book and what they filled is known, and then for the rest alone.
- A child acts for what its parent has filled, less what its sisters have.
- What was cancelled, or halted, is never let go, also when the record of its trigger was undone after that.
- A trigger that was reached stays reached (TriggerReached), wherever the price goes while a sister is cancelled.
- A held order passes risk again when it is let go. What only time mends (a stale book, a lost connection, a rate) is
  tried again; everything else ends it. An exit that can't go leaves the one at the venue where it is.
- A mandate that isn't in force any more opens nothing: what reduces still goes. Closing a session takes no order back.
- What only reduces is sent for no more than there is to reduce.
- Cancelling one leg cancels the others. A leg that the venue ends by itself leaves them as they are.

Each review decides one step for one order; applying it asks for the next review. Nothing to do gives no event.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from core.kernel.decide import cancel_events
from core.kernel.decide_orders import mandate_of
from core.kernel.decide_risk import APPROVALS_FOR_TWO, RiskSubject, run_risk
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.orders.machine import Order, working_intent
from core.portfolio.positions import EXACT, Position
from core.risk.exposure import counts
from core.risk.kill_switch import KillSwitch
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    JournalEvent,
    OrderAmended,
    OrderArmed,
    OrderClosed,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    TriggerReached,
)
from core.types.instruments import Product
from core.types.money import BPS_PER_UNIT, to_scaled
from core.types.orders import OrderIntent, OrderRole, OrderStatus, OrderType, Side

GROUP_REQUESTER = "engine:group"
"""Who asked for the cancels that make room for a sister."""
MENDED_BY_TIME = frozenset(
    {
        ReasonCode.MARKET_BOOK_STALE,
        ReasonCode.MARKET_DEPTH_INSUFFICIENT,
        ReasonCode.RISK_VENUE_DISCONNECTED,
        ReasonCode.RISK_ACCOUNT_FROZEN,
        ReasonCode.RISK_BALANCE_INSUFFICIENT,
        ReasonCode.RISK_CANCEL_RATE_EXCEEDED,
        ReasonCode.RISK_DEPTH_SHARE_EXCEEDED,
        ReasonCode.RISK_INTENT_REPEATED,
        ReasonCode.RISK_INTENT_UNRESOLVED,
        ReasonCode.RISK_MARGIN_INSUFFICIENT,
        ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX,
        ReasonCode.RISK_ORDER_RATE_EXCEEDED,
        ReasonCode.RISK_PRICE_OUTSIDE_COLLAR,
        ReasonCode.RISK_PRICE_OUTSIDE_MARK_COLLAR,
        ReasonCode.RISK_SELF_TRADE,
    }
)
NOTHING_GOES = frozenset(
    {ReasonCode.MARKET_BOOK_STALE, ReasonCode.RISK_VENUE_DISCONNECTED, ReasonCode.RISK_ACCOUNT_FROZEN}
)
"""Of those, what making room doesn't change."""

InputsOf = Callable[[OrderIntent], DecisionInputs]
"""The surroundings for a decision on this intent; its last price is what triggers go by."""


def review(
    kernel: Kernel, order_id: str, inputs_of: InputsOf, now_ns: int, last_price: int | None = None
) -> tuple[JournalEvent, ...]:
    """The next step of the first order that this one has a bearing on, itself included.

    last_price: the trade that made somebody look, at price_scale; None for the last one that there was.
    """
    for concerned_id in concerned(kernel, order_id):
        order = kernel.orders[concerned_id]
        if order.status is OrderStatus.HELD:
            events = _step(kernel, order, inputs_of, last_price, now_ns)
        else:
            events = _step_at_venue(kernel, order, now_ns)
        if events:
            return events
    return ()


def concerned(kernel: Kernel, order_id: str) -> tuple[str, ...]:
    """What is open among an order, its group, its children and what replaces it."""
    order = kernel.orders.get(order_id)
    if order is None:
        return ()
    index = kernel.index
    related = (
        order_id,
        *index.groups.get(order.group_id or "", ()),
        *index.children.get(order_id, ()),
        *index.replacements.get(order_id, ()),
    )
    return tuple(other for other in dict.fromkeys(related) if other in index.open)


def _step_at_venue(kernel: Kernel, order: Order, now_ns: int) -> tuple[JournalEvent, ...]:
    """A leg that somebody cancelled takes along the one that rests at the venue."""
    if order.group_id is None or order.role == OrderRole.ENTRY or order.triggered_ns is not None:
        return ()
    if order.cancel_requested or not any(_was_cancelled(kernel, sister) for sister in _sisters(kernel, order)):
        return ()
    return cancel_events(order, GROUP_REQUESTER, order.trace_id, now_ns)


def is_due(order: Order, last_price: int) -> bool:
    """Whether a trade at this price (at price_scale) makes a held order act, or moves its trail: what every trade of a
    market is held against."""
    if order.active_quantity <= 0 or order.triggered_ns is not None or order.replaces is not None:
        return False
    return _is_reached(order, last_price) or _extreme(order, last_price) != order.trail_extreme


def _step(
    kernel: Kernel, held: Order, inputs_of: InputsOf, last_price: int | None, now_ns: int
) -> tuple[JournalEvent, ...]:
    sisters = _sisters(kernel, held)
    if held.cancel_requested or kernel.effective_kill_switch(held.intent.account_id) is KillSwitch.HALTED:
        # It was on its way to the venue then, in a record that the disk refused.
        return (_closed(held, "it was cancelled", now_ns),)
    if held.replaces is not None:
        return _step_of_replacement(kernel, held, sisters, inputs_of, now_ns)
    parents = _chain(kernel, held.parent_id)
    reason = _end_reason(kernel, held, parents, sisters)
    if reason is not None:
        return (_closed(held, reason, now_ns),)
    quantity = _due_quantity(kernel, held, parents, sisters)
    if quantity != held.active_quantity:
        return _armed(held, quantity, now_ns)
    if quantity == 0:
        return ()
    inputs = inputs_of(working_intent(held))
    price = _last_price(held, inputs) if last_price is None else last_price
    if held.triggered_ns is None:
        if price is None or not _is_reached(held, price):
            if price is not None and (extreme := _extreme(held, price)) != held.trail_extreme and extreme is not None:
                return (OrderTrailed(client_order_id=_id(held), extreme_price=extreme, **_of(held, now_ns)),)
            if held.intent.order_type.is_conditional or not _are_final(parents):
                return ()
        elif held.intent.order_type.is_conditional:
            return (TriggerReached(client_order_id=_id(held), trigger_price=price, **_of(held, now_ns)),)
    in_the_way = [order for order in (*parents, *sisters) if not order.status.is_final and order is not held]
    live = [order for order in in_the_way if order.status is not OrderStatus.HELD]
    if live:
        return _room_for(kernel, held, sisters, live, inputs, now_ns)
    if held.triggered_ns is None and any(sister.triggered_ns is not None for sister in in_the_way):
        return ()
    return _let_go(kernel, held, sisters, inputs, price, now_ns)


def _room_for(
    kernel: Kernel, held: Order, sisters: list[Order], live: list[Order], inputs: DecisionInputs, now_ns: int
) -> tuple[JournalEvent, ...]:
    """An exit gives up its place for one that may go, and not for one that risk would refuse when it is gone."""
    steps = _make_room(held, live, now_ns)
    if not steps or any(order.role == OrderRole.ENTRY for order in live):
        return steps
    refusal = run_risk(kernel, _subject(held, sisters), inputs, now_ns).refusal
    if refusal is None or refusal.code in MENDED_BY_TIME - NOTHING_GOES:
        return steps
    return () if refusal.code in NOTHING_GOES else (_rejected(held, refusal, now_ns),)


def _make_room(held: Order, live: list[Order], now_ns: int) -> tuple[JournalEvent, ...]:
    """Cancel what is at the venue in the place of a held order whose time has come. What was triggered itself is left
    to end; a take-profit only makes an entry end that still rests."""
    if any(order.triggered_ns is not None for order in live):
        return ()
    if held.triggered_ns is None and any(order.role != OrderRole.ENTRY for order in live):
        return ()
    return tuple(
        event
        for order in live
        if not order.cancel_requested
        for event in cancel_events(order, GROUP_REQUESTER, held.trace_id, now_ns)
    )


def _let_go(
    kernel: Kernel, held: Order, sisters: list[Order], inputs: DecisionInputs, price: int | None, now_ns: int
) -> tuple[JournalEvent, ...]:
    refusal = _mandate_refusal(kernel, held, sisters, now_ns)
    if refusal is not None:
        return (_rejected(held, refusal, now_ns),)
    decision = run_risk(kernel, _subject(held, sisters), inputs, now_ns)
    if decision.refusal is None:
        return (
            OrderTriggered(
                client_order_id=_id(held),
                trigger_price=price or 0,
                market=inputs.market,
                checks=decision.checks,
                rules_version=kernel.rules_version,
                **_of(held, now_ns),
            ),
        )
    is_awaited = held.triggered_ns is None and not (price is not None and _is_reached(held, price))
    if decision.refusal.code in MENDED_BY_TIME or is_awaited:
        return ()
    return (_rejected(held, decision.refusal, now_ns),)


def _step_of_replacement(
    kernel: Kernel, held: Order, sisters: list[Order], inputs_of: InputsOf, now_ns: int
) -> tuple[JournalEvent, ...]:
    """A replacement is sent for the rest once the order that it replaces is off the book."""
    assert held.replaces is not None
    old = kernel.orders[held.replaces]
    if any(sister.triggered_ns is not None and sister is not old for sister in sisters):
        return (_closed(held, "another leg of its group was triggered", now_ns),)
    if not old.status.is_final:
        return () if old.cancel_requested else cancel_events(old, GROUP_REQUESTER, held.trace_id, now_ns)
    rest = held.intent.quantity - old.filled_quantity
    if old.status is OrderStatus.REJECTED or old.status is OrderStatus.FILLED or rest <= 0:
        return (_closed(held, f"the order that it replaces is {old.status}", now_ns),)
    if rest != held.active_quantity:
        return _armed(held, rest, now_ns)
    refusal = _mandate_refusal(kernel, held, sisters, now_ns)
    if refusal is not None:
        return (_rejected(held, refusal, now_ns),)
    inputs = inputs_of(working_intent(held))
    decision = run_risk(kernel, _subject(held, [old]), inputs, now_ns)
    if decision.refusal is not None:
        if decision.refusal.code in MENDED_BY_TIME:
            return ()
        return (_rejected(held, decision.refusal, now_ns),)
    return (
        OrderTriggered(
            client_order_id=_id(held),
            trigger_price=_last_price(held, inputs) or 0,
            market=inputs.market,
            checks=decision.checks,
            rules_version=kernel.rules_version,
            **_of(held, now_ns),
        ),
    )


def _mandate_refusal(kernel: Kernel, held: Order, sisters: list[Order], now_ns: int) -> Refusal | None:
    """Why a strategy whose mandate ended sends this no more; None for what reduces, which protects."""
    mandate_id = mandate_of(kernel, held)
    if mandate_id is None or held.active_quantity <= _reducible(kernel, held, sisters):
        return None
    mandate = kernel.mandates.get(mandate_id)
    if mandate is not None and not mandate.revoked and now_ns < mandate.expires_ns:
        return None
    return Refusal(
        ReasonCode.AUTHORITY_MANDATE_REVOKED,
        "The mandate of this held order was revoked or has expired, so it opens nothing. Have a new one approved.",
        actual=mandate_id[:64],
    )


def _subject(held: Order, before: list[Order]) -> RiskSubject:
    """Who may have to approve was settled when it was asked for: at its trigger there is nobody to ask. It takes the
    place of the last one that was at the venue: what that reserved is there for it, before balances are read again."""
    last = max((order for order in before if order.venue_order_id), key=lambda order: order.updated_ns, default=None)
    replaces = None if last is None else _id(last)
    return RiskSubject(working_intent(held), replaces=replaces, approvals=APPROVALS_FOR_TWO)


def _end_reason(kernel: Kernel, held: Order, parents: list[Order], sisters: list[Order]) -> str | None:
    """Why a held order has nothing more to wait for; None while it has."""
    if parents and _are_final(parents) and not any(parent.filled_quantity for parent in parents):
        return "its entry ended without a fill"
    for sister in sisters:
        if sister.intent.order_type is OrderType.LIMIT and sister.triggered_ns is not None and _rests(sister):
            return "another leg of its group was triggered"
        if held.triggered_ns is None and _was_cancelled(kernel, sister):
            return "another leg of its group was cancelled"
        is_filled = sister.status is OrderStatus.FILLED and sister.filled_quantity == sister.armed_quantity
        if is_filled and sister.triggered_ns is not None:
            return "another leg of its group has left the position"
    if _are_final(parents) and _due_quantity(kernel, held, parents, sisters) == 0:
        return "its group is done"
    return None


def _due_quantity(kernel: Kernel, held: Order, parents: list[Order], sisters: list[Order]) -> int:
    """How much of a held order may act: what its parent has filled, or all of it, less what its sisters have."""
    total = _obtained(kernel, parents) if parents else held.intent.quantity
    due = max(0, total - sum(sister.filled_quantity for sister in sisters))
    if held.triggered_ns is not None and held.intent.reduce_only:
        # Somebody may have reduced the position by hand. When nothing is left, risk says so.
        due = min(due, _reducible(kernel, held, sisters) or due)
    return due


def _reducible(kernel: Kernel, held: Order, sisters: list[Order]) -> int:
    """What there is of the position beside the other orders that reduce it, in whole lots."""
    intent = held.intent
    key = (intent.account_id, intent.venue, intent.symbol)
    position = kernel.positions.get(key, Position()).quantity
    own = sum(order.remaining_quantity for order in sisters if counts(order) and order.intent.side is intent.side)
    beside = kernel.exposure.resting(*key).quantity(intent.side) - own
    left, lot_size = (
        (position if intent.side is Side.SELL else -position) - beside,
        kernel.instruments[key[1:]].lot_size,
    )
    return max(0, left) // lot_size * lot_size


def _obtained(kernel: Kernel, parents: list[Order]) -> int:
    """What the entry has filled; on spot a fee that was taken in what was bought isn't there to be sold."""
    filled = sum(parent.filled_quantity for parent in parents)
    intent = parents[0].intent
    instrument = kernel.instruments[intent.venue, intent.symbol]
    fees = sum((Decimal(parent.fees_base) for parent in parents), Decimal(0))
    if not fees or instrument.product is not Product.SPOT or intent.side is not Side.BUY:
        return filled
    left = EXACT.subtract(Decimal(filled), EXACT.scaleb(fees, intent.quantity_scale))
    return max(0, int(left) // instrument.lot_size * instrument.lot_size)


def _sisters(kernel: Kernel, held: Order) -> list[Order]:
    """The other legs, not the entry."""
    members = (kernel.orders[order_id] for order_id in kernel.index.groups.get(held.group_id or "", ()))
    return [order for order in members if order is not held and order.role != OrderRole.ENTRY]


def _chain(kernel: Kernel, order_id: str | None) -> list[Order]:
    """An order and what has replaced it; empty for none."""
    chain: list[Order] = []
    waiting = [order_id] if order_id else []
    while waiting:
        chain.append(kernel.orders[waiting.pop()])
        waiting.extend(kernel.index.replacements.get(_id(chain[-1]), ()))
    return chain


def _was_cancelled(kernel: Kernel, order: Order) -> bool:
    """By somebody's wish, and not because another order takes its place."""
    return (
        order.status is OrderStatus.CANCELED and order.cancel_requested and _id(order) not in kernel.index.replacements
    )


def _are_final(orders: list[Order]) -> bool:
    return all(order.status.is_final for order in orders)


def _rests(order: Order) -> bool:
    return order.status in {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}


def _is_reached(order: Order, last_price: int) -> bool:
    intent = order.intent
    kind, is_buy = intent.order_type, intent.side is Side.BUY
    if kind is OrderType.TRAILING_STOP:
        extreme, offset_bps = _extreme(order, last_price), intent.trailing_offset_bps or 0
        if extreme is None:
            return False
        if is_buy:
            return last_price * BPS_PER_UNIT >= extreme * (BPS_PER_UNIT + offset_bps)
        return last_price * BPS_PER_UNIT <= extreme * (BPS_PER_UNIT - offset_bps)
    level = intent.stop_price if kind.is_conditional else intent.price
    if level is None:
        return False
    # A stop is hit when the price runs away from the order's side, everything else when it comes towards it.
    return last_price >= level if is_buy is kind.is_stop else last_price <= level


def _extreme(order: Order, last_price: int) -> int | None:
    """The best price that a trailing stop has seen, this one included; None before its activation price is reached."""
    intent = order.intent
    if intent.order_type is not OrderType.TRAILING_STOP:
        return order.trail_extreme
    is_buy = intent.side is Side.BUY
    if order.trail_extreme is None:
        activation = intent.activation_price
        is_active = activation is None or (last_price <= activation if is_buy else last_price >= activation)
        return last_price if is_active else None
    return min(order.trail_extreme, last_price) if is_buy else max(order.trail_extreme, last_price)


def _last_price(order: Order, inputs: DecisionInputs) -> int | None:
    text = inputs.market.last_price
    return None if text is None else to_scaled(Decimal(text), order.intent.price_scale)


def _rejected(held: Order, refusal: Refusal, now_ns: int) -> OrderRejected:
    return OrderRejected(client_order_id=_id(held), refusal=refusal, **_of(held, now_ns))


def _armed(held: Order, quantity: int, now_ns: int) -> tuple[JournalEvent, ...]:
    """Beyond its own quantity in two steps: its entry was made larger."""
    if quantity > held.intent.quantity:
        return (OrderAmended(client_order_id=_id(held), quantity=quantity, price=None, **_of(held, now_ns)),)
    return (OrderArmed(client_order_id=_id(held), quantity=quantity, **_of(held, now_ns)),)


def _closed(held: Order, reason: str, now_ns: int) -> OrderClosed:
    return OrderClosed(client_order_id=_id(held), status=OrderStatus.CANCELED, reason=reason, **_of(held, now_ns))


def _id(order: Order) -> str:
    return order.intent.client_order_id


def _of(order: Order, now_ns: int) -> dict[str, Any]:
    return {"ts_ns": now_ns, "trace_id": order.trace_id}
