"""Runs in SQL, scoped by account and shown to their asker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.runs.schemas import RunResponse
from core.types.codes import ReasonCode, refuse

_SELECT = (
    "SELECT id, thread_id, trace_id, account_id, status, model, question, outcome, created_at, finished_at FROM runs"
)


async def insert(
    connection: AsyncConnection,
    run_id: str,
    thread_id: str,
    user_id: str,
    account_id: str,
    trace_id: str,
    question: str,
    foreign_history: Sequence[str] = (),
) -> None:
    """Raises REQUEST_INVALID when the run id is taken: a run starts once."""
    try:
        await connection.execute(
            text(
                "INSERT INTO runs (id, thread_id, user_id, account_id, trace_id, status, question, foreign_history) "
                "VALUES (:id, :thread, :user, :account, :trace, 'running', :question, :foreign)"
            ),
            {
                "id": run_id,
                "thread": thread_id,
                "user": user_id,
                "account": account_id,
                "trace": trace_id,
                "question": question,
                "foreign": list(foreign_history),
            },
        )
    except IntegrityError as error:
        raise refuse(
            ReasonCode.REQUEST_INVALID, f"A run {run_id} exists already; send a fresh runId with each question."
        ) from error


async def answers(connection: AsyncConnection, thread_id: str, user_id: str, limit: int) -> list[str]:
    """What was answered to that user in the thread, newest first."""
    statement = text(
        "SELECT outcome ->> 'answer' AS answer FROM runs WHERE thread_id = :thread AND user_id = :user "
        "AND outcome ->> 'answer' IS NOT NULL ORDER BY created_at DESC LIMIT :limit"
    )
    rows = await connection.execute(statement, {"thread": thread_id, "user": user_id, "limit": limit})
    return [row.answer for row in rows]


async def finish(
    connection: AsyncConnection, run_id: str, status: str, model: str | None, outcome: dict[str, Any]
) -> None:
    await connection.execute(
        text(
            "UPDATE runs SET status = :status, model = :model, outcome = cast(:outcome AS jsonb), "
            "finished_at = clock_timestamp() WHERE id = :id AND status = 'running'"
        ),
        {"id": run_id, "status": status, "model": model, "outcome": msgspec.json.encode(outcome).decode()},
    )


async def finish_overdue(connection: AsyncConnection, run_id: str, overdue_s: int, outcome: dict[str, Any]) -> bool:
    """Fail a run that has been running for longer than overdue_s; whether it was one."""
    result = await connection.execute(
        text(
            "UPDATE runs SET status = 'failed', outcome = cast(:outcome AS jsonb), finished_at = clock_timestamp() "
            "WHERE id = :id AND status = 'running' AND created_at < clock_timestamp() - make_interval(secs => :age)"
        ),
        {"id": run_id, "age": overdue_s, "outcome": msgspec.json.encode(outcome).decode()},
    )
    return result.rowcount == 1


async def find(connection: AsyncConnection, run_id: str, user_id: str) -> RunResponse | None:
    """The run, when that user asked."""
    statement = text(_SELECT + " WHERE id = :id AND user_id = :user")
    row = (await connection.execute(statement, {"id": run_id, "user": user_id})).one_or_none()
    return None if row is None else _response(row)


async def recent(connection: AsyncConnection, user_id: str, limit: int) -> list[RunResponse]:
    """That user's runs, latest first."""
    statement = text(_SELECT + " WHERE user_id = :user ORDER BY created_at DESC LIMIT :limit")
    rows = await connection.execute(statement, {"user": user_id, "limit": limit})
    return [_response(row) for row in rows]


def _response(row: Row[Any]) -> RunResponse:
    return RunResponse(
        run_id=row.id,
        thread_id=row.thread_id,
        trace_id=row.trace_id,
        account_id=row.account_id,
        status=row.status,
        model=row.model,
        question=row.question,
        created_at=row.created_at.isoformat(),
        finished_at=row.finished_at.isoformat() if row.finished_at else None,
        **(row.outcome or {}),
    )
