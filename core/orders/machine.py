"""The life of one order: a total match over (status, event). An impossible pair raises."""

from __future__ import annotations

import msgspec

from core.types.codes import Refusal
from core.types.events import (
    CancelRequested,
    OrderAccepted,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
)
from core.types.orders import FINAL_STATUSES, OrderIntent, OrderStatus

OrderEvent = OrderAccepted | OrderRejected | OrderBecameUnknown | OrderFilled | OrderClosed | CancelRequested


class Order(msgspec.Struct, frozen=True):
    """An order as the engine knows it. filled_notional is an int at price_scale + quantity_scale.

    notional_quote is what the approved proposal valued the order at, as decimal text.
    unresolved_since_ns is when the engine learnt that it doesn't know; the submit was over by then.
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

    @property
    def remaining_quantity(self) -> int:
        return self.intent.quantity - self.filled_quantity


class ImpossibleTransitionError(Exception):
    """An event that can't happen to an order in this status: our fault, or a venue that contradicts itself."""


class OverFillError(ImpossibleTransitionError):
    """The venue reports more filled than was ordered: the position can't be trusted until a human looked."""


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
            return _replace(order, event, status=event.status, unresolved_since_ns=None)
        case (_, CancelRequested()) if order.status not in FINAL_STATUSES:
            return _replace(order, event, cancel_requested=True)
        case _:
            raise ImpossibleTransitionError(
                f"order {order.intent.client_order_id}: {type(event).__name__} can't happen to an order that is "
                f"{order.status}"
            )


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
    )


def _replace(order: Order, event: OrderEvent, **changes: object) -> Order:
    return msgspec.structs.replace(order, updated_ns=event.ts_ns, **changes)
