"""What becomes of suggestions, as it happens: one look at PostgreSQL for all who wait in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import structlog
from sqlalchemy import text

from api.transactions import Transactions
from core.types.codes import ReasonCode, RefusalError, refuse

LOOK_INTERVAL_S = 0.1
RECHECK_INTERVAL_S = 1.0
"""How often one who waits is asked again whether they still may."""
WATCHERS_LIMIT = 500
SETTLED = frozenset({"executed", "failed", "rejected", "expired", "superseded"})

_LOOK = text(
    """
    SELECT DISTINCT ON (s.id) s.id, s.version, s.status, s.client_order_id, s.refusal_code, s.approvals_due,
           (SELECT count(*) FROM suggestion_signatures g WHERE g.suggestion_id = s.id AND g.version = s.version)
               AS approvals_given,
           coalesce((SELECT json_object_agg(o.role, o.status)
                     FROM orders e JOIN orders o ON o.group_id = e.group_id
                     WHERE s.kind = 'bracket' AND e.client_order_id = s.client_order_id
                       AND NOT EXISTS (SELECT 1 FROM orders r WHERE r.group_id = o.group_id
                                       AND (r.replaces = o.client_order_id AND o.status <> 'FILLED'
                                            OR o.replaces = r.client_order_id AND r.status = 'FILLED'))), '{}') AS legs
    FROM suggestions s WHERE s.id = ANY (:ids) ORDER BY s.id, s.version DESC
    """
)

_log = structlog.get_logger("suggestions.watch")


class SuggestionState(msgspec.Struct, frozen=True):
    """What can change of a suggestion, of its newest version. legs has the status of each order of a bracket, by its
    role: after an amendment, of the one that stands for it now."""

    id: str
    version: int
    status: str
    client_order_id: str | None
    refusal_code: str | None
    approvals_due: int
    approvals_given: int
    legs: dict[str, str] = {}

    @property
    def is_settled(self) -> bool:
        """Nothing more is going to happen to it."""
        return self.status in SETTLED

    @property
    def mark(self) -> str:
        """Names this state among those of its suggestion: the same on every replica, for Last-Event-ID."""
        legs = "".join(f".{role}-{status}" for role, status in sorted(self.legs.items()))
        return f"{self.version}.{self.approvals_given}.{self.status}{legs}"


class SuggestionWatch:
    """Looks only while somebody waits."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._seen: dict[str, SuggestionState] = {}
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def state(self, account_ids: tuple[str, ...], suggestion_id: str) -> SuggestionState:
        """As it is now. Raises RESOURCE_NOT_FOUND, SERVICE_DATABASE_UNAVAILABLE."""
        found = await self._look(account_ids, [suggestion_id])
        if not found:
            raise refuse(
                ReasonCode.RESOURCE_NOT_FOUND, f"There is no suggestion {suggestion_id[:64]} in your accounts."
            )
        return found[0]

    def check_room(self) -> None:
        """Raises TOOL_RATE_EXCEEDED when as many wait as may."""
        if self._waiting.total() >= WATCHERS_LIMIT:
            raise refuse(
                ReasonCode.TOOL_RATE_EXCEEDED,
                "Too many wait for suggestions already. Ask for the status instead, or try again in a second.",
                limit=str(WATCHERS_LIMIT),
                actual=str(self._waiting.total() + 1),
                unit="streams",
                retry_after_ms=1_000,
            )

    @contextlib.asynccontextmanager
    async def waiting(self, account_id: str, state: SuggestionState) -> AsyncIterator[None]:
        """While the block runs, next() sees what changes after state. Raises as check_room does."""
        self.check_room()
        key = (account_id, state.id)
        self._waiting[key] += 1
        self._see({state.id: state})
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking(), name="suggestion-watch")
        try:
            yield
        finally:
            self._waiting[key] -= 1
            if self._waiting[key] <= 0:
                del self._waiting[key]
                self._seen.pop(state.id, None)

    async def next(self, after: SuggestionState) -> SuggestionState | None:
        """The next state that isn't `after`; None when there was none within RECHECK_INTERVAL_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECHECK_INTERVAL_S):
                while (seen := self._seen.get(after.id)) is None or seen == after:
                    await self._changed.wait()
                return seen
        return None

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _keep_looking(self) -> None:
        while self._waiting:
            accounts = tuple(sorted({account for account, _ in self._waiting}))
            ids = sorted({suggestion_id for _, suggestion_id in self._waiting})
            try:
                found = {state.id: state for state in await self._look(accounts, ids)}
            except RefusalError as error:
                _log.warning("suggestions_not_seen", code=error.refusal.code.value)
                found = {}
            self._see(found)
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _see(self, found: dict[str, SuggestionState]) -> None:
        waited_for = {suggestion_id for _, suggestion_id in self._waiting}
        new = {
            suggestion_id: state
            for suggestion_id, state in found.items()
            if suggestion_id in waited_for and self._seen.get(suggestion_id) != state
        }
        if new:
            self._seen |= new
            self._changed.set()
            self._changed = asyncio.Event()

    async def _look(self, account_ids: tuple[str, ...], ids: list[str]) -> list[SuggestionState]:
        async with self._transactions(account_ids) as connection:
            rows = (await connection.execute(_LOOK, {"ids": ids})).all()
        return [SuggestionState(**row._mapping) for row in rows]
