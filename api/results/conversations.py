"""What a conversation has been shown and what its human said, from SQL: the same for every api replica."""

from __future__ import annotations

import msgspec
import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.results.sealing import SELECT, ResultSeal, ResultUnreadableError
from api.transactions import Transactions
from core.types.codes import ReasonCode, refuse
from tools.ports import StoredResult
from tools.taint import RESULTS_LIMIT, WINDOW_MINUTES, Conversation, SeenResult

QUESTIONS_LIMIT = 100

_QUESTIONS = text(
    """
    SELECT id, question, foreign_history FROM runs
    WHERE user_id = :user_id
      AND thread_id = (SELECT thread_id FROM runs WHERE id = :run_id AND user_id = :user_id)
    ORDER BY created_at DESC LIMIT :limit
    """
)
_OF_RUNS = text(SELECT + " WHERE run_id = ANY (:run_ids) AND user_id = :user_id ORDER BY created_at DESC LIMIT :limit")
_OF_CALLER = text(
    SELECT + " WHERE run_id IS NULL AND user_id = :user_id "
    "AND created_at > clock_timestamp() - make_interval(mins => :minutes) ORDER BY created_at DESC LIMIT :limit"
)

_log = structlog.get_logger("results.conversations")


class SqlConversations:
    """Implements tools.taint.Conversations."""

    def __init__(self, transactions: Transactions, key: bytes) -> None:
        self._transactions = transactions
        self._seal = ResultSeal(key)

    async def of_run(self, account_ids: tuple[str, ...], user_id: str, run_id: str) -> Conversation:
        async with self._transactions(account_ids) as connection:
            values = {"user_id": user_id, "run_id": run_id, "limit": QUESTIONS_LIMIT + 1}
            questions = (await connection.execute(_QUESTIONS, values)).all()
            run_ids = [row.id for row in questions] or [run_id]
            seen, complete = await self._seen(connection, _OF_RUNS, {"run_ids": run_ids, "user_id": user_id})
        said = tuple(row.question for row in questions[:QUESTIONS_LIMIT])
        foreign = tuple(text for row in questions[:QUESTIONS_LIMIT] for text in row.foreign_history)
        return Conversation(said, seen, complete and len(questions) <= QUESTIONS_LIMIT, foreign)

    async def of_caller(self, account_ids: tuple[str, ...], user_id: str) -> Conversation:
        async with self._transactions(account_ids) as connection:
            values = {"user_id": user_id, "minutes": WINDOW_MINUTES}
            seen, complete = await self._seen(connection, _OF_CALLER, values)
        return Conversation(None, seen, complete)

    async def _seen(
        self, connection: AsyncConnection, statement: TextClause, values: dict[str, object]
    ) -> tuple[tuple[SeenResult, ...], bool]:
        rows = (await connection.execute(statement, values | {"limit": RESULTS_LIMIT + 1})).all()
        try:
            opened = [self._seal.open(row) for row in rows[:RESULTS_LIMIT]]
        except ResultUnreadableError as error:
            _log.error("conversation_unreadable", detail=str(error))
            raise refuse(
                ReasonCode.SERVICE_INTERNAL_ERROR,
                "What this conversation was shown can't be read, so nothing is suggested in it. Start a new one.",
            ) from error
        return tuple(_as_seen(result) for result in opened), len(rows) <= RESULTS_LIMIT


def _as_seen(result: StoredResult) -> SeenResult:
    arguments = msgspec.json.decode(result.arguments) if result.arguments else None
    return SeenResult(result.tool, result.account_id, msgspec.json.decode(result.canonical), arguments)
