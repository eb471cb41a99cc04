"""I2: one approval, one execution, of exactly what was shown."""

from __future__ import annotations

import asyncio

import msgspec

from core.authority.proposal import Proposal
from core.config import Settings
from core.types.codes import ReasonCode
from core.types.events import ApprovalDecided, OrderFilled
from core.types.ids import SystemIdSource, new_trace
from core.types.orders import OrderStatus
from core.venues.paper.server import PaperVenue
from tests.core.approvals import approve, proposal
from tests.core.engine_support import RunningEngine
from tests.invariants.support import journal_of, orders_at

CALLERS = 32
EDITS: dict[str, str] = {
    "quantity": "0.02",
    "side": "SELL",
    "price": "1",
    "symbol": "ETHUSDT",
    "account_id": "acct-other",
    "mode": "LIVE",
    "environment": "production",
    "engine_id": "engine-2",
    "instrument_version": "9",
    "expires_at_ns": "1900000000000000000",
    "version": "2",
}


async def refused_code(engine: RunningEngine, what: Proposal) -> ReasonCode | None:
    refusal = (await engine.execute(what)).refusal
    return None if refusal is None else refusal.code


async def test_concurrent_callers_a_restart_and_an_edit_make_one_order_and_one_record(
    settings: Settings, venue: PaperVenue
) -> None:
    first = RunningEngine(settings)
    await first.start()
    what = await first.propose()
    codes = await asyncio.gather(*(refused_code(first, what) for _ in range(CALLERS)))
    assert sorted(codes, key=str) == [ReasonCode.APPROVAL_ALREADY_CONSUMED] * (CALLERS - 1) + [None]
    await first.event(lambda event: isinstance(event, OrderFilled) and event.status is OrderStatus.FILLED)
    await first.close()

    second = RunningEngine(settings)
    await second.start()
    try:
        assert await refused_code(second, what) is ReasonCode.APPROVAL_ALREADY_CONSUMED
        edited = msgspec.structs.replace(what, version="2", created_at_ns=str(int(what.created_at_ns) + 1))
        assert await refused_code(second, edited) is ReasonCode.APPROVAL_ALREADY_CONSUMED

        [order] = await orders_at(venue, settings)
        decisions = [event for event in await journal_of(second) if isinstance(event, ApprovalDecided)]
        [decision] = decisions
        assert decision.suggestion_id == what.suggestion_id
        assert decision.signatures
        assert decision.intent is not None
        assert decision.intent.client_order_id == order["clientOrderId"]
    finally:
        await second.close()


async def test_a_signature_covers_every_field_that_was_shown(
    engine: RunningEngine, venue: PaperVenue, settings: Settings
) -> None:
    shown = await engine.propose()
    _, digest, signatures = approve(shown)
    for name, value in EDITS.items():
        edited = msgspec.structs.replace(shown, **{name: value})
        canonical, own_digest, _ = approve(edited)
        for claimed in (digest, own_digest):
            outcome = await engine.client.execute_approval(canonical, claimed, signatures, new_trace(SystemIdSource()))
            assert outcome.refusal is not None, name
            assert outcome.refusal.code.startswith(("APPROVAL_", "AUTHORITY_")), (name, outcome.refusal.code)
            assert not outcome.consumed, name
    assert await orders_at(venue, settings) == []
    assert await refused_code(engine, shown) is None, "and what was shown is still good"


def test_no_field_of_a_proposal_is_outside_of_its_digest() -> None:
    what = proposal()
    digests = {approve(what)[1]}
    for field in msgspec.structs.fields(what):
        digests.add(approve(msgspec.structs.replace(what, **{field.name: "7"}))[1])
    assert len(digests) == 1 + len(msgspec.structs.fields(what))
