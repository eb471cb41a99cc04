"""I3: risk runs when the suggestion is made and again at send, against the market of that moment."""

from __future__ import annotations

from pathlib import Path

from core.authority.proposal import proposal_bytes
from core.types.codes import ReasonCode
from core.types.events import ApprovalDecided
from core.types.ids import SystemIdSource, new_trace
from tests.core.approvals import APPROVER_SEED, SECOND_SEED, approve
from tests.core.engine_support import RunningEngine
from tests.invariants.support import MovableMarket, engine_on, orders_at


async def book_at(engine: RunningEngine, mid: int) -> None:
    """Wait until the engine sees the market there."""
    while True:
        book = await engine.client.order_book("BTCUSDT", 1)
        if book.bids and book.bids[0].price == mid - 1:
            return


async def test_what_passed_at_suggestion_is_refused_at_send_once_the_market_moved(home: Path) -> None:
    market = MovableMarket(60_000)
    async with engine_on(market, home) as (engine, venue):
        what = await engine.propose(price="60001", reference_price="60000", max_deviation_bps="50")
        assert (await engine.client.check_proposal(proposal_bytes(what))).refusal is None

        market.move_to(60_400)
        await book_at(engine, 60_400)
        outcome = await engine.execute(what)

        assert outcome.refusal is not None
        assert outcome.refusal.code is ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX
        assert (outcome.refusal.limit, outcome.refusal.unit) == ("50", "bps")
        assert outcome.consumed, "back to a human: the used approval can't be sent when the market comes back"
        market.move_to(60_000)
        await book_at(engine, 60_000)
        again = await engine.execute(what)
        assert again.refusal is not None
        assert again.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED
        assert await orders_at(venue, engine.settings) == []
        decided = await engine.event(lambda event: isinstance(event, ApprovalDecided))
        assert (decided.market.mid_price, decided.intent) == ("60400", None)


async def test_an_order_that_nobody_checked_before_is_checked_at_send_however_well_it_is_signed(home: Path) -> None:
    async with engine_on(MovableMarket(60_000), home) as (engine, venue):
        what = await engine.propose(quantity="2", price="60001", reference_price="60000")
        signed = approve(what, ("approver", APPROVER_SEED), ("second", SECOND_SEED))
        outcome = await engine.client.execute_approval(*signed, new_trace(SystemIdSource()))
        assert outcome.refusal is not None
        assert outcome.refusal.code is ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
        assert await orders_at(venue, engine.settings) == []
