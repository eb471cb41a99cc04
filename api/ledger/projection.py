"""Projects the engine's journal into SQL: orders, fills, positions, what became of suggestions, and the audit inbox.

The journal is the truth; this is its shadow. Each entry's effects, its audit records and the cursor are one
transaction, so a kill at any point loses nothing and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.ledger.records import NO_ORDER, OrderContext, records_of
from audit.record import Action, AuditRecord
from audit.store import INSERT_RECORD, inbox_row
from core.storage.database import transaction
from core.text.redaction import Redactor
from core.types.clock import NS_PER_S, NS_PER_US, format_utc_us
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    JournalEntry,
    JournalEvent,
    OrderAccepted,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
)
from core.types.money import from_scaled
from core.types.orders import OrderStatus

CURSOR_NAME = "journal"

StoreReview = Callable[[AsyncConnection, JournalEntry, OrderFilled], Awaitable[str | None]]
"""Stores the review of the position that event.closed tells of, inside the given transaction, idempotent by
position_id; its id, or None when there is nothing to store."""

_log = structlog.get_logger("ledger.projection")

_READ_CURSOR = text("SELECT sequence FROM projection_cursors WHERE name = :name AND engine_id = :engine_id")
_CREATE_CURSOR = text(
    "INSERT INTO projection_cursors (name, engine_id, sequence) VALUES (:name, :engine_id, 0) ON CONFLICT DO NOTHING"
)
_MOVE_CURSOR = text(
    "UPDATE projection_cursors SET sequence = :sequence "
    "WHERE name = :name AND engine_id = :engine_id AND sequence = :sequence - 1"
)
_INSERT_IF_NEW = text(f"{INSERT_RECORD.text} ON CONFLICT (record_id) DO NOTHING")
_FIND_ORDER = text(
    """
    SELECT o.account_id, o.suggestion_id, o.trace_id, o.filled_quantity, s.run_id
    FROM orders o LEFT JOIN suggestions s ON s.client_order_id = o.client_order_id
    WHERE o.client_order_id = :client_order_id ORDER BY s.version DESC LIMIT 1
    """
)
_INSERT_ORDER = text(
    """
    INSERT INTO orders (client_order_id, account_id, suggestion_id, trace_id, venue, symbol, side, order_type,
                        time_in_force, quantity, price, status, engine_id, created_sequence, updated_sequence,
                        created_at, updated_at)
    VALUES (:client_order_id, :account_id, :suggestion_id, :trace_id, :venue, :symbol, :side, :order_type,
            :time_in_force, :quantity, :price, 'INTENDED', :engine_id, :sequence, :sequence, :at, :at)
    ON CONFLICT (client_order_id) DO NOTHING
    """
)
_UPDATE_ORDER = text(
    """
    UPDATE orders SET
        status = CASE WHEN :only_from = '' OR status = ANY (string_to_array(:only_from, ',')) THEN :status
                      ELSE status END,
        venue_order_id = coalesce(:venue_order_id, venue_order_id),
        refusal = coalesce(CAST(:refusal AS jsonb), refusal),
        filled_quantity = filled_quantity + :filled_quantity,
        filled_notional = filled_notional + :filled_notional,
        updated_sequence = :sequence, updated_at = :at
    WHERE client_order_id = :client_order_id AND updated_sequence < :sequence
    """
)
_INSERT_FILL = text(
    """
    INSERT INTO fills (venue, symbol, trade_id, account_id, client_order_id, trace_id, side, price, quantity, fee,
                       fee_asset, is_maker, inferred, engine_id, sequence, traded_at)
    VALUES (:venue, :symbol, :trade_id, :account_id, :client_order_id, :trace_id, :side, :price, :quantity, :fee,
            :fee_asset, :is_maker, :inferred, :engine_id, :sequence, :traded_at)
    ON CONFLICT DO NOTHING
    """
)
_UPSERT_POSITION = text(
    """
    INSERT INTO positions (account_id, venue, symbol, quantity, average_price, realised_pnl, fees, engine_id,
                           sequence, updated_at)
    VALUES (:account_id, :venue, :symbol, :quantity, :average_price, :realised_pnl, :fees, :engine_id, :sequence, :at)
    ON CONFLICT (account_id, venue, symbol) DO UPDATE SET
        quantity = excluded.quantity, average_price = excluded.average_price, realised_pnl = excluded.realised_pnl,
        fees = excluded.fees, engine_id = excluded.engine_id, sequence = excluded.sequence,
        updated_at = excluded.updated_at
    WHERE positions.sequence < excluded.sequence OR positions.engine_id <> excluded.engine_id
    """
)
_DECIDE_SUGGESTION = text(
    """
    UPDATE suggestions SET status = :status, client_order_id = :client_order_id, refusal_code = :refusal_code
    WHERE id = :id AND version = :version
    """
)
_MOVE_SUGGESTION = text(
    """
    UPDATE suggestions SET status = :status, refusal_code = coalesce(:refusal_code, refusal_code)
    WHERE client_order_id = :client_order_id
      AND (:only_from = '' OR status = ANY (string_to_array(:only_from, ',')))
    """
)


class JournalGapError(Exception):
    """The journal's next entry isn't the one after the cursor: read again from the cursor."""


class Projection:
    """engine is of role ledger; one projection for each engine's journal."""

    def __init__(
        self, engine: AsyncEngine, engine_id: str, redactor: Redactor, store_review: StoreReview | None = None
    ) -> None:
        self._engine = engine
        self._engine_id = engine_id
        self._redactor = redactor
        self._store_review = store_review

    async def cursor(self) -> int:
        """The sequence of the last entry that is projected; 0 for none. Raises DatabaseUnavailableError."""
        async with transaction(self._engine) as connection:
            sequence = await connection.scalar(_READ_CURSOR, {"name": CURSOR_NAME, "engine_id": self._engine_id})
        return int(sequence or 0)

    async def project(self, entry: JournalEntry) -> bool:
        """Apply one entry; False when it had been applied already.

        Raises JournalGapError, DatabaseUnavailableError, and msgspec.ValidationError for an event that this release
        doesn't know.
        """
        if entry.engine_id != self._engine_id:
            raise JournalGapError(f"an entry of engine {entry.engine_id} in the journal of {self._engine_id}")
        event = entry.event()
        async with transaction(self._engine) as connection:
            if not await self._advance(connection, entry.sequence):
                return False
            order = await self._apply(connection, entry, event)
            records = records_of(entry, event, order)
            if isinstance(event, OrderFilled) and event.closed is not None:
                records += await self._review(connection, entry, event, records[-1])
            await insert_records(connection, records, self._redactor)
        return True

    async def _advance(self, connection: AsyncConnection, sequence: int) -> bool:
        """Move the cursor first: its row lock keeps any other projection of this journal out."""
        name = {"name": CURSOR_NAME, "engine_id": self._engine_id}
        await connection.execute(_CREATE_CURSOR, name)
        moved = await connection.execute(_MOVE_CURSOR, {**name, "sequence": sequence})
        if moved.rowcount == 1:
            return True
        current = int(await connection.scalar(_READ_CURSOR, name) or 0)
        if sequence <= current:
            return False
        raise JournalGapError(f"entry {sequence} of {self._engine_id} follows {current}")

    async def _apply(self, connection: AsyncConnection, entry: JournalEntry, event: JournalEvent) -> OrderContext:
        match event:
            case ApprovalDecided():
                await self._decided(connection, entry, event)
                return NO_ORDER
            case OrderAccepted():
                await _update_order(
                    connection,
                    entry,
                    event,
                    status=OrderStatus.ACCEPTED,
                    only_from="INTENDED,UNKNOWN",
                    venue_order_id=event.venue_order_id,
                )
                await _move_suggestion(connection, event.client_order_id, "consumed", only_from="needs_review")
            case OrderRejected():
                refusal = _json(event.refusal)
                await _update_order(connection, entry, event, status=OrderStatus.REJECTED, refusal=refusal)
                code = event.refusal.code.value
                await _move_suggestion(connection, event.client_order_id, "failed", refusal_code=code)
            case OrderBecameUnknown():
                await _update_order(connection, entry, event, status=OrderStatus.UNKNOWN)
                await _move_suggestion(connection, event.client_order_id, "needs_review")
            case OrderFilled():
                await self._filled(connection, entry, event)
            case OrderClosed():
                await _update_order(connection, entry, event, status=event.status)
                filled = await connection.scalar(_FIND_FILLED, {"client_order_id": event.client_order_id})
                await _move_suggestion(connection, event.client_order_id, "executed" if filled else "failed")
            case CancelRequested():
                pass
            case _:
                return NO_ORDER
        return await _find_order(connection, event.client_order_id)

    async def _decided(self, connection: AsyncConnection, entry: JournalEntry, event: ApprovalDecided) -> None:
        intent = event.intent
        if intent is not None:
            await connection.execute(
                _INSERT_ORDER,
                {
                    "client_order_id": intent.client_order_id,
                    "account_id": intent.account_id,
                    "suggestion_id": event.suggestion_id,
                    "trace_id": event.trace_id,
                    "venue": intent.venue,
                    "symbol": intent.symbol,
                    "side": intent.side.value,
                    "order_type": intent.order_type.value,
                    "time_in_force": intent.time_in_force.value,
                    "quantity": from_scaled(intent.quantity, intent.quantity_scale),
                    "price": None if intent.price is None else from_scaled(intent.price, intent.price_scale),
                    "engine_id": entry.engine_id,
                    "sequence": entry.sequence,
                    "at": utc(event.ts_ns),
                },
            )
        await connection.execute(
            _DECIDE_SUGGESTION,
            {
                "id": event.suggestion_id,
                "version": event.version,
                "status": "consumed" if intent else "failed",
                "client_order_id": intent.client_order_id if intent else None,
                "refusal_code": event.refusal.code.value if event.refusal else None,
            },
        )

    async def _filled(self, connection: AsyncConnection, entry: JournalEntry, event: OrderFilled) -> None:
        price = from_scaled(event.price, event.price_scale)
        quantity = from_scaled(event.quantity, event.quantity_scale)
        notional_scale = event.price_scale + event.quantity_scale
        order = await _find_order(connection, event.client_order_id)
        owner = {"account_id": event.account_id, "venue": event.venue, "symbol": event.symbol}
        position = {"engine_id": entry.engine_id, "sequence": entry.sequence}
        inserted = await connection.execute(
            _INSERT_FILL,
            {
                **owner,
                **position,
                "trade_id": event.trade_id,
                "client_order_id": event.client_order_id,
                "trace_id": event.trace_id or order.trace_id,
                "side": event.side.value,
                "price": price,
                "quantity": quantity,
                "fee": Decimal(event.fee),
                "fee_asset": event.fee_asset,
                "is_maker": event.is_maker,
                "inferred": event.inferred,
                "traded_at": utc(event.venue_ts_ns),
            },
        )
        if inserted.rowcount:
            await _update_order(
                connection,
                entry,
                event,
                status=event.status,
                venue_order_id=event.venue_order_id,
                filled_quantity=quantity,
                filled_notional=price * quantity,
            )
        await connection.execute(
            _UPSERT_POSITION,
            {
                **owner,
                **position,
                "quantity": from_scaled(event.position.quantity, event.quantity_scale),
                "average_price": from_scaled(event.position.average_price, event.price_scale),
                "realised_pnl": from_scaled(event.position.realised_pnl, notional_scale),
                "fees": from_scaled(event.position.fees, notional_scale),
                "at": utc(event.ts_ns),
            },
        )
        if event.status is OrderStatus.FILLED:
            await _move_suggestion(connection, event.client_order_id, "executed")
        else:
            await _move_suggestion(connection, event.client_order_id, "consumed", only_from="needs_review")

    async def _review(
        self, connection: AsyncConnection, entry: JournalEntry, event: OrderFilled, fill: AuditRecord
    ) -> list[AuditRecord]:
        assert event.closed is not None
        if self._store_review is None:
            return []
        try:
            async with connection.begin_nested():
                review_id = await self._store_review(connection, entry, event)
        except Exception:
            # A review can be built again from the fills; an order's projection must not wait for that.
            if connection.invalidated:
                raise
            _log.exception("review_failed", position_id=event.closed.position_id, sequence=entry.sequence)
            return []
        if review_id is None:
            return []
        return [_review_record(fill, entry, review_id, event.closed.position_id)]


async def insert_records(connection: AsyncConnection, records: Sequence[AuditRecord], redactor: Redactor) -> None:
    """Into the audit inbox within the caller's transaction; a record_id that is there already stays as it is."""
    if records:
        await connection.execute(_INSERT_IF_NEW, [inbox_row(record, redactor) for record in records])


def utc(timestamp_ns: int) -> datetime:
    """For timestamptz columns, which hold microseconds."""
    seconds, rest_ns = divmod(timestamp_ns, NS_PER_S)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // NS_PER_US)


_FIND_FILLED = text("SELECT filled_quantity > 0 FROM orders WHERE client_order_id = :client_order_id")

_OrderEvent = OrderAccepted | OrderRejected | OrderBecameUnknown | OrderFilled | OrderClosed


async def _update_order(
    connection: AsyncConnection,
    entry: JournalEntry,
    event: _OrderEvent,
    *,
    status: OrderStatus,
    only_from: str = "",
    venue_order_id: str | None = None,
    refusal: str | None = None,
    filled_quantity: Decimal = Decimal(0),
    filled_notional: Decimal = Decimal(0),
) -> None:
    await connection.execute(
        _UPDATE_ORDER,
        {
            "client_order_id": event.client_order_id,
            "status": status.value,
            "only_from": only_from,
            "venue_order_id": venue_order_id,
            "refusal": refusal,
            "filled_quantity": filled_quantity,
            "filled_notional": filled_notional,
            "sequence": entry.sequence,
            "at": utc(event.ts_ns),
        },
    )


async def _move_suggestion(
    connection: AsyncConnection,
    client_order_id: str,
    status: str,
    *,
    only_from: str = "",
    refusal_code: str | None = None,
) -> None:
    await connection.execute(
        _MOVE_SUGGESTION,
        {
            "client_order_id": client_order_id,
            "status": status,
            "only_from": only_from,
            "refusal_code": refusal_code,
        },
    )


async def _find_order(connection: AsyncConnection, client_order_id: str) -> OrderContext:
    row = (await connection.execute(_FIND_ORDER, {"client_order_id": client_order_id})).one_or_none()
    return OrderContext(row.account_id, row.suggestion_id, row.run_id, row.trace_id) if row else NO_ORDER


def _review_record(fill: AuditRecord, entry: JournalEntry, review_id: str, position_id: str) -> AuditRecord:
    return AuditRecord(
        record_id=f"{entry.engine_id}:{entry.sequence}:{Action.REVIEW_STORED.value}",
        occurred_at=format_utc_us(int(fill.occurred_at_ns)),
        occurred_at_ns=fill.occurred_at_ns,
        clock_source=fill.clock_source,
        actor="ledger",
        action=Action.REVIEW_STORED,
        resource=f"review:{review_id}",
        outcome="ok",
        trace_id=fill.trace_id,
        account_id=fill.account_id,
        run_id=fill.run_id,
        suggestion_id=fill.suggestion_id,
        payload={"position_id": position_id},
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
