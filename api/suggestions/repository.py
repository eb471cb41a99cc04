"""Suggestions in SQL, inside the asker's account scope (row-level security)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.moments import from_ns, to_ns
from api.transactions import Transactions
from core.authority.proposal import parse_proposal
from core.types.codes import RefusalError
from tools.suggestions import Suggestion, SuggestionStatus

LIST_LIMIT = 200

_COLUMNS = """
    id, version, account_id, asker_id, run_id, trace_id, status, proposal, digest, CAST(pre_trade AS text) AS pre_trade,
    rationale, expires_at, created_at, viewed_at, decided_at, decided_by, decision_reason, refusal_code, client_order_id
"""
_INSERT = text(
    """
    INSERT INTO suggestions (id, version, account_id, asker_id, run_id, trace_id, status, proposal, digest, pre_trade,
                             rationale, expires_at, created_at)
    VALUES (:id, :version, :account_id, :asker_id, :run_id, :trace_id, :status, :proposal, :digest,
            CAST(:pre_trade AS jsonb), :rationale, :expires_at, :created_at)
    """
)
_GET = text(
    f"""
    SELECT {_COLUMNS} FROM suggestions
    WHERE id = :id AND (CAST(:version AS bigint) IS NULL OR version = :version)
    ORDER BY version DESC LIMIT 1
    """  # noqa: S608 constants only
)
_LOCK = text(f"SELECT {_COLUMNS} FROM suggestions WHERE id = :id AND version = :version FOR UPDATE")  # noqa: S608 constants only
_LIST = text(
    f"""
    SELECT {_COLUMNS} FROM suggestions
    WHERE (CAST(:status AS text) IS NULL OR status = :status) AND (CAST(:before AS text) IS NULL OR id < :before)
    ORDER BY id DESC, version DESC LIMIT :limit
    """  # noqa: S608 constants only
)
_MARK_VIEWED = text(
    "UPDATE suggestions SET viewed_at = :at WHERE id = :id AND version = :version AND viewed_at IS NULL"
)
# The ledger may have projected a later status already: that one stays, and only who decided is filled in.
_DECIDE = text(
    """
    UPDATE suggestions SET
        status = CASE WHEN status = 'pending' THEN :status ELSE status END,
        decided_at = coalesce(decided_at, :decided_at),
        decided_by = coalesce(decided_by, :decided_by),
        decision_reason = coalesce(decision_reason, :reason),
        refusal_code = coalesce(refusal_code, :refusal_code),
        client_order_id = coalesce(client_order_id, :client_order_id)
    WHERE id = :id AND version = :version
    """
)
_KEY_OWNER = text("SELECT user_id FROM approver_keys WHERE key_id = :key_id AND revoked_at IS NULL")


class SqlSuggestionStore:
    """Implements tools.ports.SuggestionStore."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def key_owner(self, key_id: str) -> str | None:
        async with self._transactions(()) as connection:
            owner: str | None = await connection.scalar(_KEY_OWNER, {"key_id": key_id})
        return owner

    async def insert(self, suggestion: Suggestion) -> None:
        values = {
            "id": suggestion.suggestion_id,
            "version": suggestion.version,
            "account_id": suggestion.account_id,
            "asker_id": suggestion.asker_id,
            "run_id": suggestion.run_id,
            "trace_id": suggestion.trace_id,
            "status": suggestion.status.value,
            "proposal": suggestion.proposal,
            "digest": suggestion.digest_hex,
            "pre_trade": msgspec.json.encode(suggestion.pre_trade).decode(),
            "rationale": suggestion.rationale,
            "expires_at": from_ns(suggestion.expires_at_ns),
            "created_at": from_ns(suggestion.created_at_ns),
        }
        async with self._transactions((suggestion.account_id,)) as connection:
            await connection.execute(_INSERT, values)

    async def get(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int | None = None
    ) -> Suggestion | None:
        async with self._transactions(account_ids) as connection:
            row = (await connection.execute(_GET, {"id": suggestion_id, "version": version})).one_or_none()
        return None if row is None else _suggestion(row)

    async def list(
        self,
        account_ids: tuple[str, ...],
        *,
        status: SuggestionStatus | None = None,
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[Suggestion]:
        values = {
            "status": status.value if status else None,
            "before": before_id,
            "limit": max(1, min(limit, LIST_LIMIT)),
        }
        async with self._transactions(account_ids) as connection:
            rows = (await connection.execute(_LIST, values)).all()
        return [_suggestion(row) for row in rows]

    async def mark_viewed(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int, at_ns: int
    ) -> Suggestion | None:
        key = {"id": suggestion_id, "version": version}
        async with self._transactions(account_ids) as connection:
            await connection.execute(_MARK_VIEWED, key | {"at": from_ns(at_ns)})
            row = (await connection.execute(_GET, key)).one_or_none()
        return None if row is None else _suggestion(row)

    @asynccontextmanager
    async def deciding(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int
    ) -> AsyncIterator[SqlDecision | None]:
        async with self._transactions(account_ids) as connection:
            row = (await connection.execute(_LOCK, {"id": suggestion_id, "version": version})).one_or_none()
            yield None if row is None else SqlDecision(connection, _suggestion(row))


class SqlDecision:
    """A locked row. Implements tools.suggestions.Decision."""

    def __init__(self, connection: AsyncConnection, suggestion: Suggestion) -> None:
        self._connection = connection
        self._suggestion = suggestion

    @property
    def suggestion(self) -> Suggestion:
        return self._suggestion

    async def record(
        self,
        *,
        status: SuggestionStatus,
        decided_by: str | None,
        decided_at_ns: int,
        reason: str | None = None,
        refusal_code: str | None = None,
        client_order_id: str | None = None,
    ) -> None:
        values = {
            "id": self._suggestion.suggestion_id,
            "version": self._suggestion.version,
            "status": status.value,
            "decided_at": from_ns(decided_at_ns),
            "decided_by": decided_by,
            "reason": reason,
            "refusal_code": refusal_code,
            "client_order_id": client_order_id,
        }
        await self._connection.execute(_DECIDE, values)


def _suggestion(row: Row[Any]) -> Suggestion:
    proposal = bytes(row.proposal)
    return Suggestion(
        suggestion_id=row.id,
        version=row.version,
        account_id=row.account_id,
        asker_id=row.asker_id,
        run_id=row.run_id,
        trace_id=row.trace_id,
        status=SuggestionStatus(row.status),
        proposal=proposal,
        digest_hex=row.digest,
        pre_trade=msgspec.json.decode(row.pre_trade),
        rationale=row.rationale,
        expires_at_ns=_expires_ns(proposal, to_ns(row.expires_at)),
        created_at_ns=to_ns(row.created_at),
        viewed_at_ns=to_ns(row.viewed_at),
        decided_at_ns=to_ns(row.decided_at),
        decided_by=row.decided_by,
        decision_reason=row.decision_reason,
        refusal_code=row.refusal_code,
        client_order_id=row.client_order_id,
    )


def _expires_ns(proposal: bytes, column_ns: int) -> int:
    """What was signed decides, to the nanosecond; the column only has microseconds."""
    try:
        return parse_proposal(proposal).expires_ns
    except RefusalError:
        return column_ns
