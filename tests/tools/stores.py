"""The gateway's other ports in memory: trail, results, conversations, suggestions, reviews, health, history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from audit.record import Action, AuditRecord, record_bytes
from audit.trail import as_text
from core.types.clock import ManualClock
from core.types.codes import ReasonCode, refuse
from core.types.views import (
    OrderView,
)
from knowledge.search import ReviewHit
from tests.tools.people import IDS
from tools.ports import FeeRow, FillRow, FundingRow, PartHealth, RefusalRow, ResultRow, StoredResult
from tools.suggestions import GivenSignature, Suggestion, SuggestionStatus
from tools.taint import Conversation, SeenResult


@dataclass
class MemoryTrail:
    """Keeps real audit records, built and encoded as the real trail does."""

    clock: ManualClock
    log: list[str] = field(default_factory=list)
    records: list[AuditRecord] = field(default_factory=list)
    failing_on: set[Action] = field(default_factory=set)
    breaking_on: set[Action] = field(default_factory=set)

    async def record(
        self,
        *,
        action: Action,
        actor: str,
        resource: str,
        outcome: str,
        trace_id: str,
        actor_identity: str | None = None,
        on_behalf_of: str | None = None,
        account_id: str | None = None,
        run_id: str | None = None,
        suggestion_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> str:
        if action in self.failing_on:
            raise refuse(ReasonCode.SERVICE_AUDIT_UNAVAILABLE, "The audit trail can't be written.")
        if action in self.breaking_on:
            raise RuntimeError("postgres-audit_writer.password=hunter2")
        record = AuditRecord(
            record_id=IDS.new_ulid(),
            occurred_at="",
            occurred_at_ns=str(self.clock.now_ns()),
            clock_source="manual",
            actor=actor,
            action=action,
            resource=resource,
            outcome=outcome,
            trace_id=trace_id,
            on_behalf_of=on_behalf_of,
            account_id=account_id,
            run_id=run_id,
            suggestion_id=suggestion_id,
            payload=as_text(dict(payload or {})),
        )
        record_bytes(record)
        self.records.append(record)
        self.log.append(action.value)
        return record.record_id

    def actions(self) -> list[Action]:
        return [record.action for record in self.records]


@dataclass
class MemoryResults:
    """Implements Releases over a MemoryTrail: record and result are there together or not at all."""

    trail: MemoryTrail
    stored: dict[str, StoredResult] = field(default_factory=dict)
    failing: Exception | None = None

    async def release(self, result: StoredResult, **record: Any) -> None:
        if self.failing is not None:
            raise self.failing
        if result.call_id in self.stored:
            raise refuse(ReasonCode.REQUEST_INVALID, "This call id was used before.")
        await self.trail.record(**record)
        self.stored[result.call_id] = result
        self.trail.log.append("store")

    async def get(self, account_ids: tuple[str, ...], call_id: str) -> StoredResult | None:
        result = self.stored.get(call_id)
        return result if result and result.account_id in {None, *account_ids} else None


@dataclass
class MemoryConversations:
    """What MemoryResults holds, by run or by caller. said is what the human said in every run, newest first."""

    results: MemoryResults
    said: tuple[str, ...] = ()
    failing: Exception | None = None

    async def of_run(self, account_ids: tuple[str, ...], user_id: str, run_id: str) -> Conversation:
        return self._of(self.said, account_ids, user_id, run_id)

    async def of_caller(self, account_ids: tuple[str, ...], user_id: str) -> Conversation:
        return self._of(None, account_ids, user_id, None)

    def _of(
        self, said: tuple[str, ...] | None, account_ids: tuple[str, ...], user_id: str, run_id: str | None
    ) -> Conversation:
        if self.failing is not None:
            raise self.failing
        seen = [
            SeenResult(row.tool, row.account_id, msgspec.json.decode(row.canonical), msgspec.json.decode(row.arguments))
            for row in self.results.stored.values()
            if (row.user_id, row.run_id) == (user_id, run_id) and row.account_id in {None, *account_ids}
        ]
        return Conversation(said, tuple(seen))


class MemorySuggestions:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Suggestion] = {}
        self.failing: Exception | None = None

    async def insert(self, suggestion: Suggestion) -> None:
        if self.failing is not None:
            raise self.failing
        self.rows[suggestion.suggestion_id, suggestion.version] = suggestion

    async def get(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int | None = None
    ) -> Suggestion | None:
        found = [
            row
            for (name, number), row in sorted(self.rows.items())
            if name == suggestion_id and version in {None, number} and row.account_id in account_ids
        ]
        return found[-1] if found else None

    async def list(
        self,
        account_ids: tuple[str, ...],
        *,
        status: SuggestionStatus | None = None,
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[Suggestion]:
        newest = sorted(self.rows.values(), key=lambda row: (row.suggestion_id, row.version), reverse=True)
        return [
            row
            for row in newest
            if row.account_id in account_ids
            and status in {None, row.status}
            and (before_id is None or row.suggestion_id < before_id)
        ][:limit]

    async def mark_viewed(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int, user_id: str, at_ns: int
    ) -> Suggestion | None:
        row = self.rows[suggestion_id, version]
        self.change(row, viewed_at_ns=row.viewed_at_ns or at_ns, views={user_id: at_ns} | row.views)
        return self.rows[suggestion_id, version]

    @asynccontextmanager
    async def deciding(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int
    ) -> AsyncIterator[MemoryDecision | None]:
        row = await self.get(account_ids, suggestion_id, version)
        yield None if row is None else MemoryDecision(self, row)

    def change(self, suggestion: Suggestion, **changes: Any) -> Suggestion:
        changed = msgspec.structs.replace(suggestion, **changes)
        self.rows[suggestion.suggestion_id, suggestion.version] = changed
        return changed


class MemoryDecision:
    def __init__(self, store: MemorySuggestions, suggestion: Suggestion) -> None:
        self._store = store
        self.suggestion = suggestion

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
        self._store.change(
            self.suggestion,
            status=status,
            decided_by=decided_by,
            decided_at_ns=decided_at_ns,
            decision_reason=reason,
            refusal_code=refusal_code,
            client_order_id=client_order_id,
        )

    async def replace(self, newer: Suggestion) -> None:
        self._store.change(self.suggestion, status=SuggestionStatus.SUPERSEDED)
        await self._store.insert(newer)

    async def keep_signature(self, signature: GivenSignature, approvals_due: int) -> None:
        kept = tuple(item for item in self._stored() if item.user_id != signature.user_id)
        self._store.change(self.suggestion, signatures=(*kept, signature), approvals_due=approvals_due)

    async def drop_signature(self, key_id: str) -> None:
        kept = tuple(item for item in self._stored() if item.key_id != key_id)
        self._store.change(self.suggestion, signatures=kept)

    def _stored(self) -> tuple[GivenSignature, ...]:
        return self._store.rows[self.suggestion.suggestion_id, self.suggestion.version].signatures


class MemoryReviews:
    def __init__(self) -> None:
        self.hits: list[ReviewHit] = []
        self.asked: list[tuple[tuple[str, ...], str, int]] = []

    async def search(self, account_ids: tuple[str, ...], query: str, limit: int) -> list[ReviewHit]:
        self.asked.append((account_ids, query, limit))
        return self.hits[:limit]


class MemoryHealth:
    def __init__(self) -> None:
        self.projected: int | None = 5
        self.broken: tuple[PartHealth, ...] = ()

    async def parts(self) -> list[PartHealth]:
        return [PartHealth("database", True), PartHealth("event log", True), *self.broken]

    async def projected_sequence(self, engine_id: str) -> int | None:
        assert engine_id == "engine-1"
        return self.projected


class MemoryHistory:
    """Rows as they are given; each read is noted with its account and what it asked for."""

    def __init__(self) -> None:
        self.zone = "UTC"
        self.fill_rows: list[FillRow] = []
        self.result_rows: list[ResultRow] = []
        self.fee_rows: list[FeeRow] = []
        self.funding_rows: list[FundingRow] = []
        self.refusals: dict[str | None, RefusalRow] = {}
        self.orders: dict[str, OrderView] = {}
        self.asked: list[tuple[object, ...]] = []

    async def time_zone(self, account_id: str) -> str:
        return self.zone

    async def order(self, account_id: str, client_order_id: str) -> OrderView | None:
        found = self.orders.get(client_order_id)
        return found if found is not None and found.account_id == account_id else None

    async def fills(
        self,
        account_id: str,
        *,
        symbol: str | None = None,
        strategy_id: str | None = None,
        client_order_id: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[FillRow]:
        self.asked.append((account_id, symbol, strategy_id, client_order_id, before, limit))
        return [row for row in self.fill_rows if before is None or row.sequence < before][:limit]

    async def results(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[ResultRow]:
        self.asked.append((account_id, from_day, to_day, limit))
        return self.result_rows[: limit + 1]

    async def fees(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FeeRow]:
        return self.fee_rows[: limit + 1]

    async def funding(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FundingRow]:
        return self.funding_rows[: limit + 1]

    async def refusal(self, account_id: str, reference: str | None) -> RefusalRow | None:
        return self.refusals.get(reference)
