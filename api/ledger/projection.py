"""Projects the engine's journal into SQL: orders, fills, positions and all else that the kernel holds, what became of
suggestions, and the audit inbox.

The journal is the truth; this is its shadow. Each entry's effects, its audit records and the cursor are one
transaction, so a kill at any point loses nothing and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.ledger.order_tables import (
    find_order,
    project_adopted,
    project_approval,
    project_intended,
    project_order_event,
    project_refused,
)
from api.ledger.records import NO_ORDER, OrderContext, caused_records, records_of
from api.ledger.state_tables import project_kill_switch, project_reconciliation, project_setting
from api.ledger.suggestion_table import project_suggestion
from audit.record import Action, AuditRecord
from audit.store import INSERT_RECORD, inbox_row
from core.storage.database import transaction
from core.text.redaction import Redactor
from core.types.clock import format_utc_us
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    BalancesObserved,
    CancelRequested,
    EngineStarted,
    EquityObserved,
    FreezeChanged,
    FundingSettled,
    InstrumentsLoaded,
    JournalEntry,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
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
    OrderRefused,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    Reconciled,
    RiskLimitsInstalled,
    RiskRulesInstalled,
    RosterInstalled,
    SessionClosed,
    SessionOpened,
    TriggerReached,
    order_id_of,
)

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


class JournalGapError(Exception):
    """The journal's next entry isn't the one after the cursor: read again from the cursor."""


class ProjectionBusyError(Exception):
    """Someone else holds the projection's cursor, which a rebuild does while it lasts: try again later."""


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

        Raises JournalGapError, ProjectionBusyError, DatabaseUnavailableError, and msgspec.ValidationError for an event
        that this release doesn't know.
        """
        event = entry.event()
        async with transaction(self._engine) as connection:
            if not await advance_cursor(connection, self._engine_id, entry):
                return False
            order = await project_event(connection, entry, event)
            await project_suggestion(connection, event)
            records = records_of(entry, event, order)
            if isinstance(event, ApprovalDecided):
                records += await _records_of_caused(connection, entry, event)
            if isinstance(event, OrderFilled) and event.closed is not None:
                records += await self._review(connection, entry, event, records[-1])
            await insert_records(connection, records, self._redactor)
        return True

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


async def advance_cursor(connection: AsyncConnection, engine_id: str, entry: JournalEntry) -> bool:
    """Move the cursor to this entry, before anything else: its row lock keeps any other projection of this journal out.
    False when it is there or beyond already.

    Raises JournalGapError, ProjectionBusyError.
    """
    if entry.engine_id != engine_id:
        raise JournalGapError(f"an entry of engine {entry.engine_id} in the journal of {engine_id}")
    name = {"name": CURSOR_NAME, "engine_id": engine_id}
    await connection.execute(_CREATE_CURSOR, name)
    try:
        moved = await connection.execute(_MOVE_CURSOR, {**name, "sequence": entry.sequence})
    except exc.OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise ProjectionBusyError(f"the cursor of {engine_id}'s journal is held elsewhere") from error
        raise
    if moved.rowcount == 1:
        return True
    current = int(await connection.scalar(_READ_CURSOR, name) or 0)
    if entry.sequence <= current:
        return False
    raise JournalGapError(f"entry {entry.sequence} of {engine_id} follows {current}")


async def project_event(connection: AsyncConnection, entry: JournalEntry, event: JournalEvent) -> OrderContext:
    """An entry's effects on the tables that the journal alone makes; what its order belongs to, where it is about one
    that is known already."""
    match event:
        case ApprovalDecided():
            await project_approval(connection, entry, event)
            for caused in event.caused:
                await project_event(connection, entry, caused)
        case OrderIntended():
            await project_intended(connection, entry, event)
        case OrderRefused():
            await project_refused(connection, entry, event)
        case OrderAdopted():
            await project_adopted(connection, entry, event)
        case (
            OrderTriggered()
            | TriggerReached()
            | OrderTrailed()
            | OrderArmed()
            | OrderAmendRequested()
            | OrderAmended()
            | OrderAmendRefused()
            | OrderAccepted()
            | OrderRejected()
            | OrderBecameUnknown()
            | OrderFilled()
            | OrderClosed()
            | CancelRequested()
        ):
            return await project_order_event(connection, entry, event)
        case KillSwitchChanged():
            await project_kill_switch(connection, entry, event)
        case Reconciled():
            await project_reconciliation(connection, entry, event)
        case (
            EngineStarted()
            | InstrumentsLoaded()
            | RosterInstalled()
            | RiskLimitsInstalled()
            | RiskRulesInstalled()
            | FreezeChanged()
            | SessionOpened()
            | SessionClosed()
            | MandateInstalled()
            | MandateRevoked()
            | ApprovalVoided()
            | MandateTightened()
            | BalancesObserved()
            | FundingSettled()
            | EquityObserved()
        ):
            await project_setting(connection, entry, event)
        case _:
            assert_never(event)
    return NO_ORDER


async def _records_of_caused(
    connection: AsyncConnection, entry: JournalEntry, event: ApprovalDecided
) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    for position, caused in enumerate(event.caused):
        order_id = order_id_of(caused)
        order = None if order_id is None else await find_order(connection, order_id)
        records += caused_records(entry, event, position, NO_ORDER if order is None else order.context)
    return records


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
