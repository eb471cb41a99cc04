"""What the journal says of a suggestion: consumed, then what became of what was approved.

An order's suggestion follows its order, a bracket's its entry and its exits. One that changes an order follows the
change: it is executed once that is so, and has failed when the order ended otherwise. One that ends several orders is
executed once none of them is open.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.bracket_table import KIND as BRACKET
from api.ledger.bracket_table import project_bracket
from core.authority.proposal import kind_of
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    JournalEvent,
    OrderAccepted,
    OrderAmended,
    OrderAmendRefused,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    cancelled_order_ids,
    caused_order_id,
)
from core.types.orders import OrderStatus

CHANGES = ("amend", "cancel")
NOT_ONE_ORDER = (*CHANGES, BRACKET)
"""Suggestions that follow something else than the one order that they name."""
AT_ONCE = frozenset({"kill_switch", "strategy_change"})
"""What is so as soon as the engine has decided."""
ALREADY_SO = frozenset({"kill_switch"})
"""What may lead to nothing, because it was so before."""
FINAL = [status.value for status in OrderStatus if status.is_final]
OPEN = ("consumed", "needs_review")

# Who asked for it has set its own status, unless they went away meanwhile.
_SUPERSEDE = text(
    "UPDATE suggestions SET status = 'superseded' WHERE id = :id AND version <= :version AND status = 'pending'"
)
_DECIDE = text(
    """
    UPDATE suggestions
    SET status = :status, kind = :kind, client_order_id = :client_order_id, refusal_code = :refusal_code,
        cancels = CAST(:cancels AS text[])
    WHERE id = :id AND version = :version
    """
)
_MOVE_ORDERS = text(
    """
    UPDATE suggestions SET status = :status, refusal_code = coalesce(:refusal_code, refusal_code)
    WHERE client_order_id = :client_order_id AND NOT kind = ANY (CAST(:others AS text[]))
      AND (cardinality(CAST(:only_from AS text[])) = 0 OR status = ANY (CAST(:only_from AS text[])))
    """
)
_MOVE_CHANGES = text(
    """
    UPDATE suggestions SET status = :status, refusal_code = coalesce(:refusal_code, refusal_code)
    WHERE client_order_id = :client_order_id AND kind = :kind AND status = ANY (CAST(:only_from AS text[]))
    """
)
_MOVE_LISTED = text(
    """
    UPDATE suggestions SET status = 'executed'
    WHERE cancels IS NOT NULL AND status IN ('consumed', 'needs_review')
      AND cancels @> ARRAY[CAST(:client_order_id AS text)]
      AND NOT EXISTS (
        SELECT FROM orders
        WHERE orders.client_order_id = ANY (suggestions.cancels) AND NOT orders.status = ANY (CAST(:final AS text[]))
      )
    """
)
_FIND_FILLED = text("SELECT filled_quantity > 0 FROM orders WHERE client_order_id = :client_order_id")


class _Schema(msgspec.Struct, frozen=True):
    schema: str = ""


async def project_suggestion(connection: AsyncConnection, event: JournalEvent) -> None:
    """What an event makes of the suggestions that its order came from, or that are to change it."""
    if isinstance(event, ApprovalDecided):
        await _project_approval(connection, event)
        return
    if isinstance(event, ApprovalVoided):
        await connection.execute(_SUPERSEDE, {"id": event.suggestion_id, "version": event.version})
        return
    await _project_orders(connection, event)
    await project_bracket(connection, event)
    await _project_amendments(connection, event)
    await _project_cancels(connection, event)


async def _project_approval(connection: AsyncConnection, event: ApprovalDecided) -> None:
    kind = kind_of(msgspec.json.decode(event.proposal, type=_Schema).schema)
    if event.refusal is not None or (event.intent is None and not event.caused and kind not in ALREADY_SO):
        # Without a refusal: what it was about fell away with a record that a disk refused, as journals of earlier
        # releases have it.
        status = "failed"
    else:
        status = "executed" if kind in AT_ONCE else "consumed"
    cancelled = cancelled_order_ids(event)
    parameters = {
        "id": event.suggestion_id,
        "version": event.version,
        "kind": kind,
        "status": status,
        "client_order_id": caused_order_id(event),
        "refusal_code": event.refusal.code.value if event.refusal else None,
        "cancels": list(cancelled) if len(cancelled) > 1 else None,
    }
    await connection.execute(_DECIDE, parameters)
    for caused in event.caused:
        await project_suggestion(connection, caused)


async def _project_orders(connection: AsyncConnection, event: JournalEvent) -> None:
    match event:
        case OrderAccepted():
            await _move(connection, event.client_order_id, "consumed", only_from=("needs_review",))
        case OrderRejected():
            await _move(connection, event.client_order_id, "failed", refusal_code=event.refusal.code.value)
        case OrderBecameUnknown():
            await _move(connection, event.client_order_id, "needs_review")
        case OrderFilled(status=OrderStatus.FILLED):
            await _move(connection, event.client_order_id, "executed")
        case OrderFilled():
            await _move(connection, event.client_order_id, "consumed", only_from=("needs_review",))
        case OrderClosed():
            filled = await connection.scalar(_FIND_FILLED, {"client_order_id": event.client_order_id})
            await _move(connection, event.client_order_id, "executed" if filled else "failed")


async def _project_amendments(connection: AsyncConnection, event: JournalEvent) -> None:
    """In place it is so when the venue shows it; by another order, when the venue has that."""
    match event:
        case OrderAmended():
            await _move_change(connection, "amend", event.client_order_id, "executed", only_from=(*OPEN, "failed"))
        case OrderAccepted():
            await _move_change(connection, "amend", event.client_order_id, "executed")
        case OrderAmendRefused() | OrderRejected():
            code = event.refusal.code.value
            await _move_change(connection, "amend", event.client_order_id, "failed", refusal_code=code)
        case OrderBecameUnknown():
            await _move_change(connection, "amend", event.client_order_id, "needs_review")
        case OrderClosed() | OrderFilled(status=OrderStatus.FILLED):
            await _move_change(connection, "amend", event.client_order_id, "failed")


async def _project_cancels(connection: AsyncConnection, event: JournalEvent) -> None:
    match event:
        case OrderClosed():
            await _move_change(connection, "cancel", event.client_order_id, "executed")
        case OrderRejected() | OrderFilled(status=OrderStatus.FILLED):
            await _move_change(connection, "cancel", event.client_order_id, "failed")
        case _:
            return
    await connection.execute(_MOVE_LISTED, {"client_order_id": event.client_order_id, "final": FINAL})


async def _move(
    connection: AsyncConnection,
    client_order_id: str,
    status: str,
    *,
    only_from: Sequence[str] = (),
    refusal_code: str | None = None,
) -> None:
    values = {"client_order_id": client_order_id, "status": status, "refusal_code": refusal_code}
    await connection.execute(_MOVE_ORDERS, {**values, "others": list(NOT_ONE_ORDER), "only_from": list(only_from)})


async def _move_change(
    connection: AsyncConnection,
    kind: str,
    client_order_id: str,
    status: str,
    *,
    only_from: Sequence[str] = OPEN,
    refusal_code: str | None = None,
) -> None:
    values = {"client_order_id": client_order_id, "kind": kind, "status": status, "refusal_code": refusal_code}
    await connection.execute(_MOVE_CHANGES, {**values, "only_from": list(only_from)})
