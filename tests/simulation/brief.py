"""An event in one line, for whoever reads a trace."""

from __future__ import annotations

from core.types.events import (
    ApprovalDecided,
    JournalEvent,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRejected,
)


def brief(event: JournalEvent) -> str:
    kind = type(event).__name__
    order_id = getattr(event, "client_order_id", None) or getattr(getattr(event, "intent", None), "client_order_id", "")
    more = ""
    match event:
        case OrderFilled():
            more = f"trade {event.trade_id} {event.quantity}@{event.price} {event.status}"
        case OrderIntended():
            intent = event.intent
            more = f"{intent.symbol} {intent.side} {intent.quantity}@{intent.price} {intent.order_type}"
        case OrderRejected():
            more = str(event.refusal.code)
        case OrderClosed():
            more = str(event.status)
        case ApprovalDecided():
            led_to = [type(caused).__name__ for caused in event.caused]
            more = f"{event.suggestion_id} {event.version} {event.refusal.code if event.refusal else led_to}"
    state = getattr(event, "state", "")
    return f"{kind} {order_id} {more}{state} at {event.ts_ns}"
