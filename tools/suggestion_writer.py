"""The only thing that a tool can change: it may add a pending suggestion, recorded first (I7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from audit.record import Action
from core.types.codes import Refusal
from core.types.views import PreTradeView
from tools.contracts import Principal
from tools.ports import SuggestionStore, Trail
from tools.suggestions import Suggestion

Weigh = Callable[[Suggestion], Suggestion]
"""What the policy makes of a suggestion. Raises RefusalError."""


class SuggestionWriter:
    """Writes the record, then the row: a suggestion that can be seen has always been recorded."""

    __slots__ = ("_store", "_trail", "_weigh")

    def __init__(self, store: SuggestionStore, trail: Trail, weigh: Weigh | None = None) -> None:
        self._store = store
        self._trail = trail
        self._weigh = weigh

    def weighing(self, weigh: Weigh) -> SuggestionWriter:
        """The writer of one call: what the policy says of each suggestion's worth is heard first."""
        return SuggestionWriter(self._store, self._trail, weigh)

    async def create(self, principal: Principal, suggestion: Suggestion) -> None:
        """Durable on return.

        Raises RefusalError(POLICY_CONDITION_DENIED, SERVICE_AUDIT_UNAVAILABLE), and then there is no suggestion;
        RefusalError(SERVICE_DATABASE_UNAVAILABLE).
        """
        if self._weigh is not None:
            suggestion = self._weigh(suggestion)
        await self._trail.record(
            action=Action.SUGGESTION_CREATED,
            actor=principal.user_id,
            actor_identity=principal.username,
            on_behalf_of=principal.on_behalf_of,
            resource=f"suggestion:{suggestion.suggestion_id}/{suggestion.version}",
            outcome="ok",
            trace_id=suggestion.trace_id,
            account_id=suggestion.account_id,
            run_id=suggestion.run_id or None,
            suggestion_id=suggestion.suggestion_id,
            payload={
                "version": str(suggestion.version),
                "digest": suggestion.digest_hex,
                "proposal": msgspec.to_builtins(suggestion.order),
                "pre_trade": suggestion.pre_trade,
                "rationale": suggestion.rationale,
            },
        )
        await self._store.insert(suggestion)

    async def record_refused_check(
        self, principal: Principal, suggestion: Suggestion, view: PreTradeView, refusal: Refusal
    ) -> None:
        """Risk said no at its first run (I3): every check with its inputs is in the trail, and no row is made."""
        await self._trail.record(
            action=Action.RISK_DECIDED,
            actor=principal.user_id,
            actor_identity=principal.username,
            on_behalf_of=principal.on_behalf_of,
            resource=f"proposal:{suggestion.digest_hex}",
            outcome=refusal.code.value,
            trace_id=suggestion.trace_id,
            account_id=suggestion.account_id,
            run_id=suggestion.run_id or None,
            payload={
                "stage": "suggestion",
                "proposal": msgspec.to_builtins(suggestion.order),
                "checks": checks_cells(view),
                "limit": refusal.limit,
                "actual": refusal.actual,
                "unit": refusal.unit,
            },
        )


_CHECK_CELLS = ("name", "passed", "limit", "actual", "unit")


def checks_cells(view: PreTradeView) -> list[dict[str, Any]]:
    """Risk checks as plain cells."""
    return [{name: getattr(check, name) for name in _CHECK_CELLS} for check in view.checks]
