"""What the shell has to do after an event was applied and is durable. Replay ignores them all."""

from __future__ import annotations

import msgspec

from core.types.orders import OrderIntent


class SubmitOrder(msgspec.Struct, frozen=True):
    """Send this intent, once. It is durable already."""

    intent: OrderIntent


class CancelOrder(msgspec.Struct, frozen=True):
    venue: str
    symbol: str
    client_order_id: str


class AmendOrder(msgspec.Struct, frozen=True):
    """Change a resting order in place to this total quantity and limit price, once."""

    intent: OrderIntent
    quantity: int
    price: int | None


class ReviewGroup(msgspec.Struct, frozen=True):
    """Something happened to an order on which others depend: core.kernel.decide_held.review tells what follows."""

    client_order_id: str


Effect = SubmitOrder | CancelOrder | AmendOrder | ReviewGroup
