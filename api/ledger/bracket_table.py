"""What becomes of a bracket's suggestion: executed once its entry has filled and its exits stand, and not before."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.types.events import (
    JournalEvent,
    OrderAccepted,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
)

KIND = "bracket"

# An exit stands when it is armed for what the entry has filled, is at the venue, or is done. One that the engine
# cancelled gave way to its sister; one that the venue refused or let expire leaves the position without it. What was
# executed stays so while an exit is only on its way.
_MOVE = text(
    """
    WITH entry AS (
        SELECT e.client_order_id, e.status, e.filled_quantity
        FROM orders o JOIN orders e ON e.client_order_id = coalesce(o.parent_id, o.client_order_id)
        WHERE o.client_order_id = :client_order_id
    ), exits AS (
        SELECT coalesce(bool_or(x.status = 'UNKNOWN'), false) AS unknown,
               coalesce(bool_or(x.status IN ('REJECTED', 'EXPIRED')), false)
                   AND NOT coalesce(bool_or(x.status = 'FILLED'), false) AS failed,
               coalesce(bool_and(CASE x.status WHEN 'HELD' THEN x.armed_quantity > 0
                                               ELSE x.status NOT IN ('INTENDED', 'UNKNOWN') END), true) AS placed
        FROM orders x JOIN entry ON x.parent_id = entry.client_order_id
    ), stands AS (
        SELECT entry.client_order_id,
               CASE WHEN entry.status = 'UNKNOWN' OR exits.unknown THEN 'needs_review'
                    WHEN entry.status IN ('REJECTED', 'CANCELED', 'EXPIRED') AND entry.filled_quantity = 0 THEN 'failed'
                    WHEN exits.failed THEN 'needs_review'
                    WHEN entry.status IN ('FILLED', 'CANCELED', 'EXPIRED') AND exits.placed THEN 'executed'
                    ELSE 'consumed' END AS status
        FROM entry, exits
    )
    UPDATE suggestions s
    SET status = CASE WHEN stands.status = 'consumed' AND s.status = 'executed' THEN s.status ELSE stands.status END,
        refusal_code = CASE WHEN stands.status IN ('failed', 'needs_review')
                            THEN coalesce(:refusal_code, s.refusal_code) ELSE s.refusal_code END
    FROM stands
    WHERE s.kind = :kind AND s.client_order_id = stands.client_order_id
      AND s.status IN ('consumed', 'needs_review', 'executed')
    """
)


async def project_bracket(connection: AsyncConnection, event: JournalEvent) -> None:
    """What an event of an entry or an exit makes of the bracket's suggestion; orders are projected before."""
    code = None
    match event:
        case OrderRejected():
            code = event.refusal.code.value
        case OrderAccepted() | OrderArmed() | OrderTriggered() | OrderBecameUnknown() | OrderFilled() | OrderClosed():
            pass
        case _:
            return
    await connection.execute(_MOVE, {"client_order_id": event.client_order_id, "kind": KIND, "refusal_code": code})
