"""What the shell has to do after an event was applied. Replay ignores them all."""

from __future__ import annotations

import msgspec

from core.types.events import JournalEvent
from core.types.orders import OrderIntent


class SubmitOrder(msgspec.Struct, frozen=True):
    """Send this intent, once. It is durable already."""

    intent: OrderIntent


class CancelOrder(msgspec.Struct, frozen=True):
    venue: str
    symbol: str
    client_order_id: str


class PublishTrading(msgspec.Struct, frozen=True):
    event: JournalEvent


Effect = SubmitOrder | CancelOrder | PublishTrading
