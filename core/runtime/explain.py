"""Which rules an order met when it was decided on: read from the journal, which holds every check as it was made."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec

from core.authority.proposal import decode_proposal
from core.orders.machine import Order
from core.risk.checks import share_used_percent
from core.storage.journal import JournalReader
from core.storage.journal_store import JournalStore
from core.types.authority import MandateAuthority, SessionAuthority
from core.types.codes import ReasonCode, Refusal, refuse
from core.types.events import ApprovalDecided, JournalEntry, OrderIntended, OrderRefused, OrderTriggered
from core.types.orders import client_order_id, requested_order_id
from core.types.views import RiskCheckView, RiskExplanationView

SEARCH_BATCH_RECORDS = 2_048
SEQUENCE_DIGITS_LIMIT = 18

Decided = ApprovalDecided | OrderIntended | OrderRefused
_TAGS = tuple(str(kind.__struct_config__.tag).encode() for kind in (ApprovalDecided, OrderIntended, OrderRefused))


async def explain(journal: JournalStore, name: str, order: Order | None, now_ns: int) -> RiskExplanationView:
    """order is the one of that name, where the engine still has it. One that was refused goes by the id that it would
    have had, by its request or suggestion id, or by the sequence of its record, which the refusal told.

    Raises RefusalError(ORDER_UNKNOWN) for an order that was found at the venue: nobody decided on it here.
    """
    event: Decided | None
    if order is not None:
        event = await asyncio.to_thread(_find, journal, order.intent.client_order_id, order.created_ns)
    else:
        event = await asyncio.to_thread(_search, journal, name)
    if event is None:
        raise refuse(
            ReasonCode.ORDER_UNKNOWN,
            f"No decision on an order {name[:64]} is in the engine's journal. Check the id; what was placed elsewhere "
            "was decided elsewhere.",
        )
    terms = _terms(event)
    made: Decided | OrderTriggered = event
    if order is not None and isinstance(event, OrderIntended) and event.is_held:
        # What counts is when it was let go: only then does a held order meet every check.
        made = await asyncio.to_thread(_let_go, journal, order) or event
    checks = tuple(
        RiskCheckView(c.name, c.passed, c.limit, c.actual, c.unit, c.source, share_used_percent(c)) for c in made.checks
    )
    market = made.market
    return RiskExplanationView(
        client_order_id=terms.client_order_id,
        account_id=terms.account_id,
        symbol=terms.symbol,
        authority=terms.authority,
        authority_id=terms.authority_id,
        rules_version=made.rules_version or event.rules_version,
        decided_ns=made.ts_ns,
        checks=tuple(sorted(checks, key=_nearest_first)),
        refusal=terms.refusal if order is None else order.refusal,
        mid_price=None if market.mid_price is None else Decimal(market.mid_price),
        book_state=market.book_state,
        book_age_ms=market.book_age_ms,
        notional_quote=terms.notional_quote,
        as_of_ns=now_ns,
    )


class _Terms(msgspec.Struct, frozen=True):
    client_order_id: str
    account_id: str
    symbol: str
    authority: str
    authority_id: str
    notional_quote: Decimal | None
    refusal: Refusal | None = None


def _terms(event: Decided) -> _Terms:
    match event:
        case ApprovalDecided():
            proposal = decode_proposal(event.proposal)
            return _Terms(
                client_order_id(event.digest_hex),
                event.account_id,
                getattr(proposal, "symbol", ""),
                "approval",
                event.suggestion_id,
                Decimal(getattr(proposal, "notional_quote", "0")),
                event.refusal,
            )
        case OrderIntended():
            intent = event.intent
            return _Terms(
                intent.client_order_id,
                intent.account_id,
                intent.symbol,
                str(event.authority.__struct_config__.tag),
                str(getattr(event.authority, event.authority.__struct_fields__[0])),
                Decimal(event.notional_quote),
            )
        case OrderRefused():
            assert isinstance(event.authority, SessionAuthority | MandateAuthority)
            authority_id, asked = _asker(event.authority), _asked(event)
            return _Terms(
                asked.client_order_id or requested_order_id(authority_id, asked.request_id),
                event.account_id,
                event.symbol,
                str(event.authority.__struct_config__.tag),
                authority_id,
                None,
                event.refusal,
            )


def _nearest_first(check: RiskCheckView) -> tuple[bool, Decimal]:
    """What refused it stands first."""
    return check.passed, -(check.used_percent or Decimal(-1))


def _asker(authority: SessionAuthority | MandateAuthority) -> str:
    return authority.session_id if isinstance(authority, SessionAuthority) else authority.mandate_id


class _Asked(msgspec.Struct):
    """Of an order, or, with the order's id, of an amendment."""

    request_id: str
    client_order_id: str = ""


def _asked(event: OrderRefused) -> _Asked:
    return msgspec.json.decode(event.request, type=_Asked)


def _search(journal: JournalStore, name: str) -> Decided | None:
    """The newest decision of that name, from the end of what the journal still holds."""
    if name.isascii() and name.isdigit() and len(name) <= SEQUENCE_DIGITS_LIMIT:
        sequence = int(name)
        if journal.first_sequence <= sequence <= journal.sequence:
            (entry,) = JournalReader(journal, sequence - 1).read(1)
            return _decided(entry)
        return None
    end = journal.sequence
    while end >= journal.first_sequence:
        start = max(journal.first_sequence, end - SEARCH_BATCH_RECORDS + 1)
        for entry in reversed(JournalReader(journal, start - 1).read(end - start + 1)):
            event = _decided(entry)
            if event is not None and name in _names(event):
                return event
        end = start - 1
    return None


def _decided(entry: JournalEntry) -> Decided | None:
    if not any(tag in entry.payload for tag in _TAGS):
        return None
    event = entry.event()
    return event if isinstance(event, ApprovalDecided | OrderIntended | OrderRefused) else None


def _names(event: Decided) -> tuple[str, ...]:
    own = _terms(event).client_order_id
    match event:
        case ApprovalDecided():
            return own, event.suggestion_id
        case OrderRefused():
            asked = _asked(event)
            # An amendment that was refused isn't what its order was decided on.
            return (asked.request_id,) if asked.client_order_id else (own, asked.request_id)
        case _:
            return (own,)


def _find(journal: JournalStore, order_id: str, created_ns: int) -> ApprovalDecided | OrderIntended | None:
    reader = _reader_from(journal, created_ns)
    while batch := reader.read(SEARCH_BATCH_RECORDS):
        for entry in batch:
            event = _decision(entry, order_id)
            if event is not None:
                return event
        if batch[-1].event().ts_ns > created_ns:
            return None
    return None


def _let_go(journal: JournalStore, order: Order) -> OrderTriggered | None:
    """None for an order that is held still, or that ended so."""
    order_id = order.intent.client_order_id
    reader = _reader_from(journal, order.triggered_ns or order.created_ns)
    while batch := reader.read(SEARCH_BATCH_RECORDS):
        for entry in batch:
            if order_id.encode() in entry.payload:
                event = entry.event()
                if isinstance(event, OrderTriggered) and event.client_order_id == order_id:
                    return event
        if batch[-1].event().ts_ns > order.updated_ns:
            return None
    return None


def _reader_from(journal: JournalStore, ts_ns: int) -> JournalReader:
    """By bisection over the journal's sequences, whose times never go back."""
    low, high = journal.first_readable_sequence, journal.sequence
    while low < high:
        middle = (low + high) // 2
        (entry,) = JournalReader(journal, middle - 1).read(1)
        if entry.event().ts_ns < ts_ns:
            low = middle + 1
        else:
            high = middle
    return JournalReader(journal, low - 1)


def _decision(entry: JournalEntry, order_id: str) -> ApprovalDecided | OrderIntended | None:
    if order_id.encode() not in entry.payload:
        return None
    event = entry.event()
    decided = (event, *event.caused) if isinstance(event, ApprovalDecided) else (event,)
    orders = [made for made in decided if isinstance(made, ApprovalDecided | OrderIntended) and made.intent is not None]
    return next((made for made in orders if made.intent and made.intent.client_order_id == order_id), None)
