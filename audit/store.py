"""Writing to the audit inbox: durable before it returns, group-committed, and nothing but INSERT."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from typing import Any

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.record import AuditRecord, leaf_hash, record_bytes
from core.storage.database import DatabaseUnavailableError, transaction
from core.text.redaction import Redactor
from core.types.codes import ReasonCode, RefusalError, refuse

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
_Waiting = tuple[dict[str, Any], "asyncio.Future[None]"]


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
        self._engine = engine
        self._redactor = redactor
        self._deadline_s = deadline_s
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(QUEUE_LIMIT_RECORDS)
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def append(self, record: AuditRecord) -> None:
        """Raises RefusalError(SERVICE_AUDIT_UNAVAILABLE); TypeError when the payload holds a number."""
        if self._closed:
            raise _unavailable("the audit writer is shutting down")
        try:
            row = inbox_row(record, self._redactor)
        except ValueError as error:
            raise _unavailable(str(error)) from error
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((row, future))
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

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH_LIMIT_RECORDS and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                # Who waited in vain has refused its action already: its record would claim what didn't happen.
                await self._commit([waiting for waiting in batch if not waiting[1].done()])
            finally:
                for _ in batch:
                    self._queue.task_done()

    async def _commit(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            async with transaction(self._engine) as connection:
                await connection.execute(INSERT_RECORD, [row for row, _ in batch])
        except DatabaseUnavailableError as error:
            _log.warning("audit_append_failed", records=len(batch), detail=error.refusal.message)
            _settle(batch, error.refusal.message)
        except SQLAlchemyError as error:
            if len(batch) > 1:  # one bad record must not fail its neighbours
                for waiting in batch:
                    await self._commit([waiting])
                return
            _log.error("audit_append_refused", record_id=batch[0][0]["record_id"], detail=type(error).__name__)
            _settle(batch, f"the database refused the record ({type(getattr(error, 'orig', error)).__name__})")
        else:
            _settle(batch, None)


def _settle(batch: list[_Waiting], failure: str | None) -> None:
    for _, future in batch:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(_unavailable(failure))


def _unavailable(detail: str) -> RefusalError:
    return refuse(
        ReasonCode.SERVICE_AUDIT_UNAVAILABLE,
        f"The audit record could not be stored ({detail}), so the action is refused. Try again.",
    )
