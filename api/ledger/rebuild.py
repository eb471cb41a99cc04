"""Makes the projections of one engine again from its journal's first entry, and says what came out differently.

It ends where the ledger stands: what comes after goes the ledger's way, with its audit records. All of it is one
transaction: readers see the old rows until it ends, a kill leaves them as they were. It holds the cursor's row, so the
ledger's own projection waits meanwhile; numbering goes on. Audit records, suggestions and reviews are not touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import msgspec
from psycopg.errors import LockNotAvailable
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.ledger.projection import CURSOR_NAME, JournalGapError, project_event
from api.ledger.source import JournalSource, as_generator
from core.storage.database import transaction

REBUILD_LOCK_KEY = 0x76656C6F7A03  # "veloz", 3
PROGRESS_INTERVAL_ENTRIES = 500
STATEMENT_TIMEOUT_MS = 600_000

TABLES = (
    "orders",
    "fills",
    "positions",
    "strategy_positions",
    "consumed_approvals",
    "order_refusals",
    "balances",
    "equity",
    "funding",
    "trading_sessions",
    "mandates",
    "risk_rules",
    "kill_switch_changes",
    "freeze_changes",
    "reconciliations",
)
"""Each names in engine_id whose journal a row comes from."""

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
_CREATE_CURSOR = text(
    "INSERT INTO projection_cursors (name, engine_id, sequence) VALUES (:name, :engine_id, 0) ON CONFLICT DO NOTHING"
)
_HOLD_CURSOR = text("SELECT sequence FROM projection_cursors WHERE name = :name AND engine_id = :engine_id FOR UPDATE")


class TableComparison(msgspec.Struct, frozen=True):
    """A table before and after: rows, and how many of them the other side lacks."""

    table: str
    rows_before: int
    rows_after: int
    only_before: int
    only_after: int

    @property
    def is_equal(self) -> bool:
        return self.only_before == 0 and self.only_after == 0


class RebuildResult(msgspec.Struct, frozen=True):
    """compared_at is the sequence at which both sides stand; sequence was the journal's last at that time."""

    engine_id: str
    compared_at: int
    sequence: int
    kept: bool
    tables: tuple[TableComparison, ...]

    @property
    def is_equal(self) -> bool:
        return all(table.is_equal for table in self.tables)


class RebuildBusyError(Exception):
    """Another rebuild runs, or the ledger didn't let go of the cursor in time."""


class _CheckedOnly(Exception):
    def __init__(self, result: RebuildResult) -> None:
        super().__init__()
        self.result = result


async def rebuild(
    engine: AsyncEngine,
    journal: JournalSource,
    engine_id: str,
    read_head: Callable[[], Awaitable[int]],
    progress: Callable[[int, int], None],
    *,
    keep: bool = True,
) -> RebuildResult:
    """Rebuild up to the ledger's cursor; keep=False compares and leaves everything as it was.

    engine is of role ledger. read_head gives the journal's last sequence; it is asked once the cursor is held, so that
    the projections can't be ahead of it. progress gets the entries done and those in all. Raises RebuildBusyError,
    JournalGapError for a stream with a hole or a journal that ends before the projections do, RefusalError for an
    engine that doesn't answer (DatabaseUnavailableError for a database).
    """
    try:
        async with transaction(engine) as connection:
            cursor = await _hold_cursor(connection, engine_id)
            head_sequence = await read_head()
            if head_sequence < cursor:
                raise JournalGapError(
                    f"the journal of {engine_id} ends at {head_sequence}, but {cursor} of its entries are projected"
                )
            for table in TABLES:
                await _set_aside(connection, table, engine_id)
            async with contextlib.aclosing(as_generator(journal.stream_journal(0))) as entries:
                done = 0
                while done < cursor:
                    entry = await anext(entries)
                    if entry.sequence != done + 1 or entry.engine_id != engine_id:
                        raise JournalGapError(
                            f"entry {entry.sequence} of {entry.engine_id} follows {done} of {engine_id}"
                        )
                    await project_event(connection, entry, entry.event())
                    done += 1
                    if done % PROGRESS_INTERVAL_ENTRIES == 0 or done == cursor:
                        progress(done, cursor)
            tables = await _compare(connection, engine_id)
            result = RebuildResult(engine_id, cursor, head_sequence, keep, tables)
            if not keep:
                raise _CheckedOnly(result)
            return result
    except _CheckedOnly as checked:
        return checked.result


async def _hold_cursor(connection: AsyncConnection, engine_id: str) -> int:
    if not await connection.scalar(_TRY_LOCK, {"key": REBUILD_LOCK_KEY}):
        raise RebuildBusyError("Another rebuild of this database runs; let it end.")
    name = {"name": CURSOR_NAME, "engine_id": engine_id}
    try:
        await connection.execute(_CREATE_CURSOR, name)
        return int(await connection.scalar(_HOLD_CURSOR, name) or 0)
    except exc.OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise RebuildBusyError("The ledger didn't let go of its cursor in time; try again in a moment.") from error
        raise


async def _set_aside(connection: AsyncConnection, table: str, engine_id: str) -> None:
    parameters = {"engine_id": engine_id}
    await connection.execute(text(f"CREATE TEMP TABLE before_{table} (LIKE {table}) ON COMMIT DROP"))
    await connection.execute(
        text(f"INSERT INTO before_{table} SELECT * FROM {table} WHERE engine_id = :engine_id"),  # noqa: S608 constants only
        parameters,
    )
    await connection.execute(text(f"DELETE FROM {table} WHERE engine_id = :engine_id"), parameters)  # noqa: S608 constants only


async def _compare(connection: AsyncConnection, engine_id: str) -> tuple[TableComparison, ...]:
    return tuple([await _compare_table(connection, table, engine_id) for table in TABLES])


async def _compare_table(connection: AsyncConnection, table: str, engine_id: str) -> TableComparison:
    now = f"SELECT * FROM {table} WHERE engine_id = :engine_id"  # noqa: S608 constants only
    before = f"SELECT * FROM before_{table}"  # noqa: S608 constants only
    counts = (
        await connection.execute(
            text(
                f"SELECT (SELECT count(*) FROM ({before}) a), (SELECT count(*) FROM ({now}) b), "  # noqa: S608 constants only
                f"(SELECT count(*) FROM ({before} EXCEPT ALL {now}) c), "
                f"(SELECT count(*) FROM ({now} EXCEPT ALL {before}) d)"
            ),
            {"engine_id": engine_id},
        )
    ).one()
    return TableComparison(table, *counts)
