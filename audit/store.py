"""Writing to the audit inbox: durable before it returns, group-committed, and nothing but INSERT.

A tool's sealed result goes with its record into the same commit: neither is there without the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from audit._inserts import CALL_ID_CONSTRAINT, SealedResult, Writing, insert
from audit.record import AuditRecord, leaf_hash, record_bytes
from core.storage.database import DatabaseUnavailableError, RawConnection
from core.text.redaction import Redactor
from core.types.codes import ReasonCode, RefusalError, refuse

__all__ = ["INSERT_RECORD", "PostgresAuditSink", "SealedResult", "audit_redactor", "inbox_row"]

QUEUE_LIMIT_RECORDS = 4_096
BATCH_LIMIT_RECORDS = 256
APPEND_DEADLINE_S = 2.0
SCOPE_LABEL = b"veloz/redaction-scope/audit/v1"

INSERT_RECORD = text(
    """
    INSERT INTO audit.inbox (record_id, record, leaf_hash, occurred_at_ns, actor, action, resource, outcome, trace_id,
                             account_id, run_id, suggestion_id)
    VALUES (:record_id, :record, :leaf_hash, :occurred_at_ns, :actor, :action, :resource, :outcome, :trace_id,
            :account_id, :run_id, :suggestion_id)
    """
)

_log = structlog.get_logger("audit.store")


class _Waiting(msgspec.Struct, frozen=True):
    """An append that waits for its commit."""

    writing: Writing
    future: asyncio.Future[None]


def audit_redactor(kek: bytes) -> Redactor:
    """The redactor whose pseudonyms are the same in every audit record under one key-encryption key."""
    return Redactor(hmac.new(kek, SCOPE_LABEL, hashlib.sha256).digest())


def inbox_row(record: AuditRecord, redactor: Redactor) -> dict[str, Any]:
    """The row for INSERT_RECORD: payload redacted, canonical bytes, their leaf hash, and the index columns.

    Raises TypeError and ValueError as audit.record.record_bytes does.
    """
    payload = redactor.value(record.payload).value
    resource = redactor.text(record.resource).text
    record = msgspec.structs.replace(record, payload=payload, resource=resource)
    canonical = record_bytes(record)
    return {
        "record_id": record.record_id,
        "record": canonical,
        "leaf_hash": leaf_hash(canonical),
        "occurred_at_ns": int(record.occurred_at_ns),
        "actor": record.actor,
        "action": record.action.value,
        "resource": record.resource,
        "outcome": record.outcome,
        "trace_id": record.trace_id,
        "account_id": record.account_id,
        "run_id": record.run_id,
        "suggestion_id": record.suggestion_id,
    }


class PostgresAuditSink:
    """audit.ports.AuditSink over role audit_writer.

    Concurrent appends share a commit: what queued up while one commit was under way goes into the next. An append
    that isn't durable within APPEND_DEADLINE_S raises; whether its record is stored is then unknown, so the caller
    refuses its action and doesn't write the same fact under another id.
    """

    def __init__(self, engine: AsyncEngine, redactor: Redactor, *, deadline_s: float = APPEND_DEADLINE_S) -> None:
        self._connection = RawConnection(engine)
        self._redactor = redactor
        self._deadline_s = deadline_s
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(QUEUE_LIMIT_RECORDS)
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def append(self, record: AuditRecord, result: SealedResult | None = None) -> None:
        """Raises RefusalError: SERVICE_AUDIT_UNAVAILABLE; REQUEST_INVALID when the result's call id was used before.
        TypeError when the payload holds a number."""
        if self._closed:
            raise _unavailable("the audit writer is shutting down")
        try:
            row = inbox_row(record, self._redactor)
        except ValueError as error:
            raise _unavailable(str(error)) from error
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Waiting(Writing(row, result), future))
        except asyncio.QueueFull:
            raise _unavailable(f"{QUEUE_LIMIT_RECORDS} records are waiting already") from None
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="audit-writer")
        try:
            async with asyncio.timeout(self._deadline_s):
                await future
        except TimeoutError:
            raise _unavailable(f"the record was not durable within {self._deadline_s:g} s") from None

    async def close(self) -> None:
        """Write what is queued, then stop. Later appends are refused."""
        self._closed = True
        if self._writer is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                await self._queue.join()
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writer
        await self._connection.close()

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH_LIMIT_RECORDS and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                # Who waited in vain has refused its action already: its record would claim what didn't happen.
                await self._commit([waiting for waiting in batch if not waiting.future.done()])
            except Exception as error:
                _log.exception("audit_append_broke", records=len(batch), error=repr(error))
                _settle(batch, _unavailable(f"the writer broke ({type(error).__name__})"))
            finally:
                for _ in batch:
                    self._queue.task_done()

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        try:
            async with self._connection.use() as connection:
                await insert(connection, [waiting.writing for waiting in batch])
        except DatabaseUnavailableError as error:
            _log.warning("audit_append_failed", records=len(batch), detail=error.refusal.message)
            _settle(batch, _unavailable(error.refusal.message))
        except psycopg.Error as error:
            if len(batch) > 1:  # one bad record must not fail its neighbours
                for waiting in batch:
                    await self._commit([waiting])
                return
            _settle(batch, _refused(batch[0].writing, error))
        else:
            _settle(batch, None)


def _refused(writing: Writing, error: psycopg.Error) -> RefusalError:
    if error.diag.constraint_name == CALL_ID_CONSTRAINT:
        return refuse(ReasonCode.REQUEST_INVALID, "This call id was used before. Give every call an id of its own.")
    _log.error("audit_append_refused", record_id=writing.row["record_id"], detail=type(error).__name__)
    return _unavailable(f"the database refused the record ({type(error).__name__})")


def _settle(batch: Sequence[_Waiting], failure: RefusalError | None) -> None:
    for waiting in batch:
        if waiting.future.done():
            continue
        if failure is None:
            waiting.future.set_result(None)
        else:
            waiting.future.set_exception(RefusalError(failure.refusal))


def _unavailable(detail: str) -> RefusalError:
    return refuse(
        ReasonCode.SERVICE_AUDIT_UNAVAILABLE,
        f"The audit record could not be stored ({detail}), so the action is refused. Try again.",
    )
