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

# All orders of a bracket have its group; an amendment may have put another order in the place of one of them. An entry
# is open as long as one of those that stand for it is, and has filled what all of them did. An exit stands when it is
# armed for that, is at the venue, or is done. One that the engine cancelled gave way to its sister; one that the venue
# refused or let expire leaves the position without it, unless another took its place. What was executed stays so while
# an exit is only on its way.
_MOVE = text(
    """
    WITH legs AS (
        SELECT x.client_order_id, x.role, x.status, x.filled_quantity, x.armed_quantity,
               EXISTS (SELECT 1 FROM orders r WHERE r.group_id = x.group_id AND r.replaces = x.client_order_id)
                   AS is_replaced
        FROM orders o JOIN orders x ON x.group_id = o.group_id
        WHERE o.client_order_id = :client_order_id
    ), entry AS (
        SELECT bool_or(status = 'UNKNOWN') AS unknown, sum(filled_quantity) AS filled,
               bool_and(status IN ('FILLED', 'CANCELED', 'EXPIRED', 'REJECTED')) AS ended
        FROM legs WHERE role = 'entry'
    ), exits AS (
        SELECT coalesce(bool_or(status = 'UNKNOWN'), false) AS unknown,
               coalesce(bool_or(status IN ('REJECTED', 'EXPIRED') AND NOT is_replaced), false)
                   AND NOT coalesce(bool_or(status = 'FILLED'), false) AS failed,
               coalesce(bool_and(CASE status WHEN 'HELD' THEN armed_quantity > 0
                                             ELSE status NOT IN ('INTENDED', 'UNKNOWN') END), true) AS placed
        FROM legs WHERE role <> 'entry'
    ), stands AS (
        SELECT CASE WHEN entry.unknown OR exits.unknown THEN 'needs_review'
                    WHEN entry.ended AND entry.filled = 0 THEN 'failed'
                    WHEN exits.failed THEN 'needs_review'
                    WHEN entry.ended AND exits.placed THEN 'executed'
                    ELSE 'consumed' END AS status
        FROM entry, exits WHERE entry.ended IS NOT NULL
    )
    UPDATE suggestions s
    SET status = CASE WHEN stands.status = 'consumed' AND s.status = 'executed' THEN s.status ELSE stands.status END,
        refusal_code = CASE WHEN stands.status IN ('failed', 'needs_review')
                            THEN coalesce(:refusal_code, s.refusal_code) ELSE s.refusal_code END
    FROM stands
    WHERE s.kind = :kind AND s.client_order_id IN (SELECT client_order_id FROM legs WHERE role = 'entry')
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
