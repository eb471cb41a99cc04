"""Runs in SQL, scoped by account."""

from __future__ import annotations

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
) -> None:
    """Raises REQUEST_INVALID when the run id is taken: a run starts once."""
    try:
        await connection.execute(
            text(
                "INSERT INTO runs (id, thread_id, user_id, account_id, trace_id, status, question) "
                "VALUES (:id, :thread, :user, :account, :trace, 'running', :question)"
            ),
            {
                "id": run_id,
                "thread": thread_id,
                "user": user_id,
                "account": account_id,
                "trace": trace_id,
                "question": question,
            },
        )
    except IntegrityError as error:
        raise refuse(
            ReasonCode.REQUEST_INVALID, f"A run {run_id} exists already; send a fresh runId with each question."
        ) from error


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


async def find(connection: AsyncConnection, run_id: str) -> RunResponse | None:
    row = (await connection.execute(text(_SELECT + " WHERE id = :id"), {"id": run_id})).one_or_none()
    return None if row is None else _response(row)


async def recent(connection: AsyncConnection, limit: int) -> list[RunResponse]:
    rows = await connection.execute(text(_SELECT + " ORDER BY created_at DESC LIMIT :limit"), {"limit": limit})
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
