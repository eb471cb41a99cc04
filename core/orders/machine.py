"""The life of one order: a total match over (status, event). An impossible pair raises."""

from __future__ import annotations

import msgspec

from core.types.authority import ApprovalAuthority, Authority
from core.types.codes import Refusal
from core.types.events import (
    CancelRequested,
    OrderAccepted,
    OrderAdopted,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    TriggerReached,
)
from core.types.orders import FINAL_STATUSES, OrderIntent, OrderStatus, OrderType, Side

OrderEvent = (
    OrderAccepted
    | OrderRejected
    | OrderBecameUnknown
    | OrderFilled
    | OrderClosed
    | CancelRequested
    | OrderTriggered
    | TriggerReached
    | OrderTrailed
    | OrderArmed
    | OrderAmendRequested
    | OrderAmended
    | OrderAmendRefused
)


class Amendment(msgspec.Struct, frozen=True):
    """What was asked of the venue and isn't answered yet: total quantity and limit price."""

    quantity: int
    price: int | None


class Order(msgspec.Struct, frozen=True, gc=False):
    """An order as the engine knows it. filled_notional is an int at price_scale + quantity_scale.

    notional_quote is what the order was valued at when it was decided, as decimal text.
    unresolved_since_ns is when the engine learnt that it doesn't know; the submit was over by then.
    armed_quantity: how much of a held bracket child may act, for what its parent has filled; None when all may.
    trail_extreme: the best price that a held trailing stop has seen. triggered_ns: when a held order's condition came
    true. authority: of whose will it is. fees_base: what its fills have paid in the instrument's base asset, as decimal
    text.
    """

    intent: OrderIntent
    status: OrderStatus
    created_ns: int
    updated_ns: int
    suggestion_id: str | None
    trace_id: str | None
    notional_quote: str
    venue_order_id: str | None = None
    filled_quantity: int = 0
    filled_notional: int = 0
    trade_ids: tuple[int, ...] = ()
    unresolved_since_ns: int | None = None
    cancel_requested: bool = False
    refusal: Refusal | None = None
    authority: Authority | None = None
    group_id: str | None = None
    role: str | None = None
    parent_id: str | None = None
    replaces: str | None = None
    armed_quantity: int | None = None
    trail_extreme: int | None = None
    triggered_ns: int | None = None
    pending_amend: Amendment | None = None
    fees_base: str = "0"

    @property
    def remaining_quantity(self) -> int:
        return self.intent.quantity - self.filled_quantity

    @property
    def active_quantity(self) -> int:
        """How much of a held order may go to the venue."""
        return self.intent.quantity if self.armed_quantity is None else self.armed_quantity


def at_most(order: Order | None) -> Order | None:
    """The order as it counts for limits: while an amendment has no answer, the larger quantity and the price at which
    it meets us sooner."""
    if order is None or order.pending_amend is None or order.status.is_final:
        return order
    intent, asked = order.intent, order.pending_amend
    price = intent.price
    if price is not None and asked.price is not None:
        price = max(price, asked.price) if intent.side is Side.BUY else min(price, asked.price)
    quantity = max(intent.quantity, asked.quantity)
    if (quantity, price) == (intent.quantity, intent.price):
        return order
    return msgspec.structs.replace(order, intent=msgspec.structs.replace(intent, quantity=quantity, price=price))


class ImpossibleTransitionError(Exception):
    """An event that can't happen to an order in this status: our fault, or a venue that contradicts itself."""


class OverFillError(ImpossibleTransitionError):
    """The venue reports more filled than was ordered: the position can't be trusted until a human looked."""


def order_from_intended(event: OrderIntended) -> Order:
    """The order that begins with this event."""
    # A child waits for what its parent fills.
    waits = event.is_held and event.parent_id is not None and event.replaces is None
    return Order(
        intent=event.intent,
        status=OrderStatus.HELD if event.is_held else OrderStatus.INTENDED,
        created_ns=event.ts_ns,
        updated_ns=event.ts_ns,
        suggestion_id=event.authority.suggestion_id if isinstance(event.authority, ApprovalAuthority) else None,
        trace_id=event.trace_id,
        notional_quote=event.notional_quote,
        authority=event.authority,
        group_id=event.group_id,
        role=event.role,
        parent_id=event.parent_id,
        replaces=event.replaces,
        armed_quantity=0 if waits else None,
    )


def working_intent(order: Order) -> OrderIntent:
    """What a held order is once it is let go: as much as may act, and no condition any more."""
    intent = order.intent
    if not intent.order_type.is_conditional:
        return msgspec.structs.replace(intent, quantity=order.active_quantity)
    return msgspec.structs.replace(
        intent,
        quantity=order.active_quantity,
        order_type=OrderType.LIMIT if intent.order_type.has_limit_price else OrderType.MARKET,
        stop_price=None,
        trailing_offset_bps=None,
        activation_price=None,
    )


def order_from_adopted(event: OrderAdopted) -> Order:
    """An order that was found at the venue."""
    return Order(
        intent=event.intent,
        status=OrderStatus.ACCEPTED,
        created_ns=event.ts_ns,
        updated_ns=event.ts_ns,
        suggestion_id=None,
        trace_id=event.trace_id,
        notional_quote=event.notional_quote,
        venue_order_id=event.venue_order_id,
        authority=event.authority,
    )


def status_after_fill(order: Order, quantity: int) -> OrderStatus:
    """The status once `quantity` more is filled.

    Raises OverFillError.
    """
    filled = order.filled_quantity + quantity
    if quantity <= 0 or filled > order.intent.quantity:
        raise OverFillError(
            f"order {order.intent.client_order_id}: a fill of {quantity} on top of {order.filled_quantity} exceeds the "
            f"ordered {order.intent.quantity} (scale {order.intent.quantity_scale}). Compare with the venue's trades."
        )
    if filled == order.intent.quantity:
        return OrderStatus.FILLED
    # A late fill of an order that is already off the book doesn't put it back on.
    if order.status in {OrderStatus.CANCELED, OrderStatus.EXPIRED}:
        return order.status
    return OrderStatus.PARTIALLY_FILLED


def transition(order: Order, event: OrderEvent) -> Order:
    """The order after the event. Pure and total.

    Raises ImpossibleTransitionError, and OverFillError for more filled than ordered.
    """
    match order.status, event:
        case OrderStatus.HELD, _:
            return _held(order, event)
        case (OrderStatus.INTENDED | OrderStatus.UNKNOWN, OrderAccepted()):
            return _accept(order, event, OrderStatus.ACCEPTED)
        # The user data stream often outruns the answer to the submit, which then only brings the venue's id.
        case (_, OrderAccepted()) if order.status is not OrderStatus.REJECTED:
            return _accept(order, event, order.status)
        # REJECTED may be our inference from the venue's silence; what the venue then shows is stronger.
        case (OrderStatus.REJECTED, OrderAccepted()):
            return _accept(order, event, OrderStatus.ACCEPTED)
        case (OrderStatus.INTENDED | OrderStatus.UNKNOWN, OrderRejected()):
            return _replace(order, event, status=OrderStatus.REJECTED, refusal=event.refusal, unresolved_since_ns=None)
        case (OrderStatus.INTENDED, OrderBecameUnknown()):
            return _replace(order, event, status=OrderStatus.UNKNOWN, unresolved_since_ns=event.ts_ns)
        case (_, OrderFilled()):
            return _fill(order, event)
        case (
            OrderStatus.INTENDED | OrderStatus.UNKNOWN | OrderStatus.ACCEPTED | OrderStatus.PARTIALLY_FILLED,
            OrderClosed(status=OrderStatus.CANCELED | OrderStatus.EXPIRED),
        ):
            return _replace(order, event, status=event.status, unresolved_since_ns=None, pending_amend=None)
        case (_, CancelRequested()) if order.status not in FINAL_STATUSES:
            return _replace(order, event, cancel_requested=True)
        case _:
            return _amending(order, event)


def _amending(order: Order, event: OrderEvent) -> Order:
    match order.status, event:
        case (OrderStatus.ACCEPTED | OrderStatus.PARTIALLY_FILLED, OrderAmendRequested()) if not order.pending_amend:
            return _replace(order, event, pending_amend=Amendment(event.quantity, event.price))
        # The venue may show a change that nobody here waits for: its word counts.
        case (OrderStatus.ACCEPTED | OrderStatus.PARTIALLY_FILLED, OrderAmended()):
            return _amend(order, event)
        case (_, OrderAmendRefused()) if order.pending_amend is not None:
            return _replace(order, event, pending_amend=None)
        # The answer may come after the order has ended.
        case (OrderStatus.FILLED | OrderStatus.CANCELED | OrderStatus.EXPIRED, OrderAmendRefused()):
            return order
        case _:
            raise _impossible(order, event)


def _held(order: Order, event: OrderEvent) -> Order:
    """The venue knows nothing of it, so nothing that only a venue can say happens to it."""
    match event:
        case TriggerReached() if order.triggered_ns is None:
            return _replace(order, event, triggered_ns=event.ts_ns)
        case OrderTriggered() if order.active_quantity > 0:
            return _replace(order, event, intent=working_intent(order), status=OrderStatus.INTENDED)
        case OrderTrailed():
            return _replace(order, event, trail_extreme=event.extreme_price)
        case OrderArmed() if 0 <= event.quantity <= order.intent.quantity:
            return _replace(order, event, armed_quantity=event.quantity)
        case OrderAmended():
            return _amend(order, event)
        case CancelRequested():
            return _replace(order, event, cancel_requested=True)
        case OrderClosed(status=OrderStatus.CANCELED | OrderStatus.EXPIRED):
            return _replace(order, event, status=event.status)
        case OrderRejected():
            return _replace(order, event, status=OrderStatus.REJECTED, refusal=event.refusal)
        case _:
            raise _impossible(order, event)


def _impossible(order: Order, event: OrderEvent) -> ImpossibleTransitionError:
    return ImpossibleTransitionError(
        f"order {order.intent.client_order_id}: {type(event).__name__} can't happen to an order that is {order.status}"
    )


def _amend(order: Order, event: OrderAmended) -> Order:
    if event.quantity < order.filled_quantity or event.quantity <= 0:
        raise ImpossibleTransitionError(
            f"order {order.intent.client_order_id}: amended to {event.quantity}, of which {order.filled_quantity} is "
            f"filled (scale {order.intent.quantity_scale})"
        )
    price = order.intent.price if event.price is None else event.price
    intent = msgspec.structs.replace(order.intent, quantity=event.quantity, price=price)
    # Fills may outrun the answer: what they filled was the amended order, and all of it.
    status = OrderStatus.FILLED if event.quantity == order.filled_quantity else order.status
    return _replace(order, event, intent=intent, status=status, pending_amend=None)


def _accept(order: Order, event: OrderAccepted, status: OrderStatus) -> Order:
    if order.venue_order_id not in {None, event.venue_order_id}:
        raise ImpossibleTransitionError(
            f"order {order.intent.client_order_id}: the venue named it {order.venue_order_id} and now "
            f"{event.venue_order_id}"
        )
    return _replace(
        order, event, status=status, venue_order_id=event.venue_order_id, unresolved_since_ns=None, refusal=None
    )


def _fill(order: Order, event: OrderFilled) -> Order:
    if event.trade_id in order.trade_ids:
        raise ImpossibleTransitionError(
            f"order {order.intent.client_order_id}: trade {event.trade_id} is in the journal twice"
        )
    status = status_after_fill(order, event.quantity)
    if status is not event.status:
        raise ImpossibleTransitionError(
            f"order {order.intent.client_order_id}: the journal says {event.status} after trade {event.trade_id}, "
            f"its quantities say {status}"
        )
    return _replace(
        order,
        event,
        status=status,
        venue_order_id=order.venue_order_id or event.venue_order_id,
        filled_quantity=order.filled_quantity + event.quantity,
        filled_notional=order.filled_notional + event.price * event.quantity,
        trade_ids=(*order.trade_ids, event.trade_id),
        unresolved_since_ns=None,
        refusal=None,
        pending_amend=None if status is OrderStatus.FILLED else order.pending_amend,
    )


def _replace(order: Order, event: OrderEvent, **changes: object) -> Order:
    return msgspec.structs.replace(order, updated_ns=event.ts_ns, **changes)
