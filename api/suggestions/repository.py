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
from core.types.clock import NS_PER_US
from core.types.codes import RefusalError
from tools.suggestions import GivenSignature, Leg, Suggestion, SuggestionStatus

LIST_LIMIT = 200

_COLUMNS = """
    id, version, account_id, asker_id, run_id, trace_id, status, proposal, digest, CAST(pre_trade AS text) AS pre_trade,
    rationale, expires_at, created_at, viewed_at, decided_at, decided_by, decision_reason, refusal_code,
    client_order_id, edited_by, approvals_due,
    (SELECT CAST(json_agg(json_build_array(s.user_id, s.key_id, s.method, encode(s.signature, 'hex'),
                                           CAST(extract(epoch FROM s.signed_at) * 1000000 AS bigint),
                                           CAST(extract(epoch FROM s.viewed_at) * 1000000 AS bigint))
                          ORDER BY s.signed_at, s.user_id) AS text)
     FROM suggestion_signatures s WHERE s.suggestion_id = suggestions.id AND s.version = suggestions.version
    ) AS signatures,
    (SELECT CAST(json_object_agg(v.user_id, CAST(extract(epoch FROM v.viewed_at) * 1000000 AS bigint)) AS text)
     FROM suggestion_views v WHERE v.suggestion_id = suggestions.id AND v.version = suggestions.version
    ) AS views,
    (SELECT CAST(json_agg(json_build_array(o.role, o.client_order_id, o.status, CAST(trim_scale(o.quantity) AS text),
                                           CAST(trim_scale(o.filled_quantity) AS text))
                          ORDER BY o.parent_id NULLS FIRST, o.role DESC, o.created_sequence) AS text)
     FROM orders e JOIN orders o ON o.group_id = e.group_id
     WHERE suggestions.kind = 'bracket' AND e.client_order_id = suggestions.client_order_id
    ) AS legs
"""
_INSERT = text(
    """
    INSERT INTO suggestions (id, version, account_id, asker_id, run_id, trace_id, status, proposal, digest, pre_trade,
                             rationale, expires_at, created_at, edited_by, approvals_due, kind)
    VALUES (:id, :version, :account_id, :asker_id, :run_id, :trace_id, :status, :proposal, :digest,
            CAST(:pre_trade AS jsonb), :rationale, :expires_at, :created_at, :edited_by, :approvals_due, :kind)
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
_ADD_VIEW = text(
    """
    INSERT INTO suggestion_views (suggestion_id, version, account_id, user_id, viewed_at)
    SELECT id, version, account_id, :user_id, :at FROM suggestions WHERE id = :id AND version = :version
    ON CONFLICT DO NOTHING
    """
)
_DROP_SIGNATURE = text(
    "DELETE FROM suggestion_signatures WHERE suggestion_id = :id AND version = :version "
    "AND (key_id = :key_id OR user_id = :user_id)"
)
_KEEP_SIGNATURE = text(
    """
    INSERT INTO suggestion_signatures (suggestion_id, version, account_id, user_id, key_id, method, signature,
                                       viewed_at, signed_at)
    VALUES (:id, :version, :account_id, :user_id, :key_id, :method, :signature, :viewed_at, :signed_at)
    """
)
_APPROVALS_DUE = text("UPDATE suggestions SET approvals_due = :due WHERE id = :id AND version = :version")
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
_REPLACED = text("UPDATE suggestions SET status = 'superseded' WHERE id = :id AND version = :version")


class SqlSuggestionStore:
    """Implements tools.ports.SuggestionStore."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def insert(self, suggestion: Suggestion) -> None:
        async with self._transactions((suggestion.account_id,)) as connection:
            await connection.execute(_INSERT, _row(suggestion))

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
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int, user_id: str, at_ns: int
    ) -> Suggestion | None:
        key = {"id": suggestion_id, "version": version}
        at = {"at": from_ns(at_ns)}
        async with self._transactions(account_ids) as connection:
            await connection.execute(_ADD_VIEW, key | at | {"user_id": user_id})
            await connection.execute(_MARK_VIEWED, key | at)
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

    async def replace(self, newer: Suggestion) -> None:
        key = {"id": self._suggestion.suggestion_id, "version": self._suggestion.version}
        await self._connection.execute(_REPLACED, key)
        await self._connection.execute(_INSERT, _row(newer))

    async def keep_signature(self, signature: GivenSignature, approvals_due: int) -> None:
        key = {"id": self._suggestion.suggestion_id, "version": self._suggestion.version}
        values = {
            "account_id": self._suggestion.account_id,
            "user_id": signature.user_id,
            "key_id": signature.key_id,
            "method": signature.method,
            "signature": signature.signature,
            "viewed_at": None if signature.viewed_at_ns is None else from_ns(signature.viewed_at_ns),
            "signed_at": from_ns(signature.signed_at_ns),
        }
        await self._connection.execute(
            _DROP_SIGNATURE, key | {"key_id": signature.key_id, "user_id": signature.user_id}
        )
        await self._connection.execute(_KEEP_SIGNATURE, key | values)
        await self._connection.execute(_APPROVALS_DUE, key | {"due": approvals_due})

    async def drop_signature(self, key_id: str) -> None:
        key = {"id": self._suggestion.suggestion_id, "version": self._suggestion.version}
        await self._connection.execute(_DROP_SIGNATURE, key | {"key_id": key_id, "user_id": ""})


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
        edited_by=row.edited_by,
        approvals_due=row.approvals_due,
        signatures=tuple(_signature(*item) for item in msgspec.json.decode(row.signatures or "[]")),
        legs=tuple(Leg(role or "", *rest) for role, *rest in msgspec.json.decode(row.legs or "[]")),
        views={user: at_us * NS_PER_US for user, at_us in msgspec.json.decode(row.views or "{}").items()},
    )


def _row(suggestion: Suggestion) -> dict[str, Any]:
    return {
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
        "edited_by": suggestion.edited_by,
        "approvals_due": suggestion.approvals_due,
        "kind": suggestion.kind,
    }


def _signature(
    user_id: str, key_id: str, method: str, signature_hex: str, signed_us: int, viewed_us: int | None
) -> GivenSignature:
    return GivenSignature(
        user_id=user_id,
        key_id=key_id,
        method=method,
        signature=bytes.fromhex(signature_hex),
        signed_at_ns=signed_us * NS_PER_US,
        viewed_at_ns=None if viewed_us is None else viewed_us * NS_PER_US,
    )


def _expires_ns(proposal: bytes, column_ns: int) -> int:
    """What was signed decides, to the nanosecond; the column only has microseconds."""
    try:
        return parse_proposal(proposal).expires_ns
    except RefusalError:
        return column_ns
