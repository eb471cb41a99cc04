"""What is answered to who asked for an order: what became of it here, or why the engine takes none."""

from __future__ import annotations

from core.runtime import views
from core.storage.journal import JournalUnavailableError
from core.types.codes import ReasonCode, Refusal
from core.types.events import ApprovalDecided, OrderIntended, OrderRefused
from core.types.views import ExecutionOutcomeView


def journal_refusal(error: JournalUnavailableError) -> Refusal:
    return Refusal(
        ReasonCode.SERVICE_JOURNAL_UNAVAILABLE,
        f"The engine can't record orders, so it takes none: {error} Nothing was sent.",
    )


def outcome_of(
    sequence: int,
    client_order_id: str | None,
    refusal: Refusal | None,
    event: ApprovalDecided | OrderIntended | OrderRefused,
    now_ns: int,
) -> ExecutionOutcomeView:
    return ExecutionOutcomeView(
        consumed=True,
        journal_sequence=sequence,
        client_order_id=client_order_id,
        refusal=refusal,
        checks=views.check_views(event.checks),
        as_of_ns=now_ns,
    )
