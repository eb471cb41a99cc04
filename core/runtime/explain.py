"""Which rules an order met when it was decided on: read from the journal, which holds every check as it was made."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from core.authority.proposal import parse_proposal
from core.orders.machine import Order
from core.risk.checks import share_used_percent
from core.storage.journal import Journal, JournalReader
from core.types.codes import ReasonCode, refuse
from core.types.events import ApprovalDecided, JournalEntry, OrderIntended
from core.types.views import RiskCheckView, RiskExplanationView

SEARCH_BATCH_RECORDS = 2_048


async def explain(journal: Journal, order: Order, now_ns: int) -> RiskExplanationView:
    """Raises RefusalError(ORDER_UNKNOWN) for an order that was found at the venue: nobody decided on it here."""
    order_id = order.intent.client_order_id
    event = await asyncio.to_thread(_find, journal, order_id, order.created_ns)
    if event is None:
        raise refuse(
            ReasonCode.ORDER_UNKNOWN,
            f"No decision on order {order_id} is in the engine's journal; it was made elsewhere.",
        )
    match event:
        case ApprovalDecided():
            authority, authority_id = "approval", event.suggestion_id
            notional = Decimal(parse_proposal(event.proposal.encode()).notional_quote)
        case OrderIntended():
            authority = str(event.authority.__struct_config__.tag)
            authority_id = str(next(iter(event.authority.__struct_fields__), ""))
            authority_id = str(getattr(event.authority, authority_id))
            notional = Decimal(event.notional_quote)
    checks = tuple(
        RiskCheckView(c.name, c.passed, c.limit, c.actual, c.unit, c.source, share_used_percent(c))
        for c in event.checks
    )
    market = event.market
    return RiskExplanationView(
        client_order_id=order_id,
        account_id=order.intent.account_id,
        symbol=order.intent.symbol,
        authority=authority,
        authority_id=authority_id,
        rules_version=event.rules_version,
        decided_ns=event.ts_ns,
        checks=tuple(sorted(checks, key=lambda check: -(check.used_percent or Decimal(-1)))),
        refusal=None,
        mid_price=None if market.mid_price is None else Decimal(market.mid_price),
        book_state=market.book_state,
        book_age_ms=market.book_age_ms,
        notional_quote=notional,
        as_of_ns=now_ns,
    )


def _find(journal: Journal, order_id: str, created_ns: int) -> ApprovalDecided | OrderIntended | None:
    """By bisection over the journal's sequences, whose times never go back, then by reading on."""
    low, high = journal.first_readable_sequence, journal.sequence
    while low < high:
        middle = (low + high) // 2
        (entry,) = JournalReader(journal, middle - 1).read(1)
        if entry.event().ts_ns < created_ns:
            low = middle + 1
        else:
            high = middle
    reader = JournalReader(journal, low - 1)
    while batch := reader.read(SEARCH_BATCH_RECORDS):
        for entry in batch:
            event = _decision(entry, order_id)
            if event is not None:
                return event
        if batch[-1].event().ts_ns > created_ns:
            return None
    return None


def _decision(entry: JournalEntry, order_id: str) -> ApprovalDecided | OrderIntended | None:
    if order_id.encode() not in entry.payload:
        return None
    event = entry.event()
    if isinstance(event, ApprovalDecided | OrderIntended) and event.intent is not None:
        return event if event.intent.client_order_id == order_id else None
    return None
