"""Writing to the audit inbox: durable before it returns, group-committed, and nothing but INSERT.

A tool's sealed result goes with its record into the same commit: neither is there without the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from audit._inserts import CALL_ID_CONSTRAINT, STATEMENTS, SealedResult, Writing, statement_of, writing_of
from audit.deadlines import Deadlines
from audit.record import AuditRecord, leaf_hash, record_bytes
from core.storage.database import DatabaseUnavailableError
from core.storage.direct import DirectConnection
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

    def done(self) -> bool:
        return self.future.done()

    def expire(self) -> None:
        self.future.set_exception(TimeoutError())


def audit_redactor(kek: bytes) -> Redactor:
    """The redactor whose pseudonyms are the same in every audit record under one key-encryption key."""
    return Redactor(hmac.new(kek, SCOPE_LABEL, hashlib.sha256).digest())


def inbox_row(record: AuditRecord, redactor: Redactor) -> dict[str, Any]:
    """The row for INSERT_RECORD: payload redacted, canonical bytes, their leaf hash, and the index columns.

    Raises TypeError and ValueError as audit.record.record_bytes does.
    """
    record, canonical = _redacted(record, redactor)
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


def _redacted(record: AuditRecord, redactor: Redactor) -> tuple[AuditRecord, bytes]:
    """And its canonical bytes."""
    payload_json = redactor.clean_json(record.payload)
    payload = record.payload if payload_json is not None else redactor.value(record.payload).value
    record = msgspec.structs.replace(record, payload=payload, resource=redactor.text(record.resource).text)
    return record, record_bytes(record, payload_json)


def _writing(record: AuditRecord, redactor: Redactor, result: SealedResult | None) -> Writing:
    """What inbox_row holds, as the statement takes it."""
    record, canonical = _redacted(record, redactor)
    return writing_of(record, canonical, leaf_hash(canonical), result)


class PostgresAuditSink:
    """audit.ports.AuditSink over role audit_writer.

    Concurrent appends share a commit: what queued up while one commit was under way goes into the next. Who waits is
    halved between two commits, so that one half is worked on while the disk is at the other. An append that isn't
    durable within APPEND_DEADLINE_S raises; whether its record is stored is then unknown, so the caller refuses its
    action and doesn't write the same fact under another id.
    """

    def __init__(self, engine: AsyncEngine, redactor: Redactor, *, deadline_s: float = APPEND_DEADLINE_S) -> None:
        self._connection = DirectConnection(engine, STATEMENTS)
        self._redactor = redactor
        self._deadlines = Deadlines(deadline_s)
        self._deadline_s = deadline_s
        self._queue: deque[_Waiting] = deque()
        self._half = 1
        self._busy = False
        self._is_turn_due = False
        self._repair: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        self._closed = False

    async def append(self, record: AuditRecord, result: SealedResult | None = None) -> None:
        """Raises RefusalError: SERVICE_AUDIT_UNAVAILABLE; REQUEST_INVALID when the result's call id was used before.
        TypeError when the payload holds a number."""
        if self._closed:
            raise _unavailable("the audit writer is shutting down")
        try:
            writing = _writing(record, self._redactor, result)
        except ValueError as error:
            raise _unavailable(str(error)) from error
        if len(self._queue) >= QUEUE_LIMIT_RECORDS:
            raise _unavailable(f"{QUEUE_LIMIT_RECORDS} records are waiting already")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(writing, future)
        self._queue.append(waiting)
        if not self._busy:
            self._write_half()
        self._deadlines.add(waiting)  # last: while the disk is at work already, if it may be
        try:
            await future
        except TimeoutError:
            raise _unavailable(f"the record was not durable within {self._deadline_s:g} s") from None

    async def close(self) -> None:
        """Write what is queued, then stop. Later appends are refused."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                while self._busy or self._queue:
                    await self._drained.wait()
        if self._repair is not None:
            self._repair.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._repair
        await self._connection.close()
        self._deadlines.end()

    def _write_half(self) -> None:
        """At once if half of those who are around wait already, else when all who can go on have done so."""
        if len(self._queue) >= self._half and self._connection.is_ready:
            self._send(self._take(len(self._queue)))
        elif not self._is_turn_due:
            self._is_turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turn_due = False
        if not self._busy and self._queue:
            self._write(len(self._queue))

    def _write(self, limit: int) -> None:
        batch = self._take(limit)
        if not batch:
            self._written(0)
        elif self._connection.is_ready:
            self._send(batch)
        else:
            self._begin_repair(batch)

    def _send(self, batch: list[_Waiting]) -> None:
        self._busy = True
        try:
            self._connection.start(*statement_of([each.writing for each in batch]), partial(self._done, batch))
        except Exception as error:
            self._broke(batch, error)

    def _take(self, limit: int) -> list[_Waiting]:
        """BATCH_LIMIT_RECORDS at most. Who waited in vain has refused its action already: its record would claim what
        didn't happen."""
        limit = min(limit, BATCH_LIMIT_RECORDS)
        batch: list[_Waiting] = []
        while self._queue and len(batch) < limit:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        return batch

    def _done(self, batch: list[_Waiting], error: Exception | None) -> None:
        if error is not None and len(batch) > 1 and not isinstance(error, DatabaseUnavailableError):
            self._begin_repair(batch)  # one bad record must not fail its neighbours
            return
        _settle(batch, None if error is None else _refused(batch, error))
        self._written(len(batch))

    def _written(self, count: int) -> None:
        self._busy = False
        around = count + len(self._queue)
        self._half = max(1, around // 2)
        if self._queue:
            self._write(around - around // 2)
        elif self._closed:
            self._drained.set()

    def _begin_repair(self, batch: list[_Waiting]) -> None:
        self._busy = True
        self._repair = asyncio.create_task(self._write_slowly(batch), name="audit-writer")

    async def _write_slowly(self, batch: list[_Waiting]) -> None:
        """Over a connection that has to be opened first, or one record after the other."""
        try:
            if self._connection.is_ready:
                await self._write_one_by_one(batch)
            else:
                await self._write_group(batch)
        except Exception as error:
            self._broke(batch, error)
        else:
            self._written(len(batch))

    def _broke(self, batch: list[_Waiting], error: Exception) -> None:
        _log.error("audit_append_broke", records=len(batch), exc_info=error)
        _settle(batch, _unavailable(f"the writer broke ({type(error).__name__})"))
        self._written(len(batch))

    async def _write_group(self, batch: list[_Waiting]) -> None:
        try:
            await self._connection.execute(*statement_of([waiting.writing for waiting in batch]))
        except DatabaseUnavailableError as error:
            _settle(batch, _refused(batch, error))
        except psycopg.Error as error:
            if len(batch) == 1:
                _settle(batch, _refused(batch, error))
                return
            await self._write_one_by_one(batch)
        else:
            _settle(batch, None)

    async def _write_one_by_one(self, batch: list[_Waiting]) -> None:
        for waiting in batch:
            if not waiting.done():  # as in _take
                await self._write_group([waiting])


def _refused(batch: Sequence[_Waiting], error: Exception) -> RefusalError:
    if isinstance(error, DatabaseUnavailableError):
        _log.warning("audit_append_failed", records=len(batch), detail=error.refusal.message)
        return _unavailable(error.refusal.message)
    if isinstance(error, psycopg.Error) and error.diag.constraint_name == CALL_ID_CONSTRAINT:
        return refuse(ReasonCode.REQUEST_INVALID, "This call id was used before. Give every call an id of its own.")
    _log.error("audit_append_refused", record_id=batch[0].writing.record_id, detail=type(error).__name__)
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
