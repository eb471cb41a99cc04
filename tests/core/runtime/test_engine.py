"""The engine as its callers and the venue see it: one approval becomes one order, a fill, a position, and stays so."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from core.authority.proposal import proposal_bytes
from core.config import Settings
from core.runtime import engine as engine_module
from core.runtime.client import EngineClient
from core.runtime.engine import main
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.events import ApprovalDecided, OrderClosed, OrderFilled
from core.types.orders import OrderStatus, Side
from tests.core.approvals import ACCOUNT, proposal
from tests.core.engine_support import RunningEngine, settings_for


async def test_an_approved_order_is_filled_at_the_venue_and_becomes_a_position(engine: RunningEngine) -> None:
    what = await engine.propose()

    outcome = await engine.execute(what)

    assert outcome.refusal is None
    assert outcome.consumed
    filled = await engine.event(
        lambda event: (
            isinstance(event, OrderFilled)
            and event.client_order_id == outcome.client_order_id
            and event.status is OrderStatus.FILLED
        )
    )
    assert filled.account_id == ACCOUNT
    assert filled.side is Side.BUY
    (position,) = await engine.client.positions(ACCOUNT)
    assert position.quantity == Decimal("0.01")
    assert position.fees_quote > 0
    assert await engine.client.open_orders(ACCOUNT) == []


async def test_one_approval_makes_one_order_however_often_and_concurrently_it_is_executed(
    engine: RunningEngine,
) -> None:
    what = await engine.propose()

    outcomes = await asyncio.gather(*(engine.execute(what) for _ in range(32)))

    assert [outcome.refusal.code for outcome in outcomes if outcome.refusal] == [
        ReasonCode.APPROVAL_ALREADY_CONSUMED
    ] * 31
    await engine.event(lambda event: isinstance(event, OrderFilled) and event.status is OrderStatus.FILLED)
    assert await engine.position() == Decimal("0.01")


@pytest.mark.parametrize(("age_s", "code"), [(20, None), (31, ReasonCode.APPROVAL_FIGURES_STALE)])
async def test_figures_that_were_shown_too_long_ago_are_refused_by_the_engines_own_clock_and_setting(
    settings: Settings, age_s: int, code: ReasonCode | None
) -> None:
    """Whatever the gateway lets through: 30 s here, and the approval isn't used up."""
    approvals = settings.approvals.model_copy(update={"figures_max_age_s": 30})
    engine = RunningEngine(settings.model_copy(update={"approvals": approvals}))
    await engine.start()
    try:
        created_ns = SystemClock().now_ns() - age_s * NS_PER_S
        outcome = await engine.execute(await engine.propose(created_at_ns=str(created_ns)))
        assert (outcome.refusal and outcome.refusal.code) == code
        assert outcome.consumed is (code is None)
    finally:
        await engine.close()


async def test_a_restart_keeps_orders_positions_and_consumed_approvals(settings: Settings) -> None:
    first = RunningEngine(settings)
    await first.start()
    filled = await first.propose()
    resting = await first.propose(suggestion_id="resting", quantity="0.02")
    far_below = Decimal(resting.reference_price) * Decimal("0.97")
    resting = await first.propose(suggestion_id="resting", quantity="0.02", price=str(far_below.quantize(Decimal("1"))))
    await first.execute(filled)
    resting_id = (await first.execute(resting)).client_order_id
    await first.event(lambda event: isinstance(event, OrderFilled) and event.status is OrderStatus.FILLED)
    before = await first.client.status()
    await first.close()

    second = RunningEngine(settings)
    await second.start()
    try:
        after = await second.client.status()
        assert after.epoch == before.epoch + 1
        assert after.venue_connected
        assert await second.position() == Decimal("0.01")
        (shown,) = await second.client.open_orders(ACCOUNT)
        assert (shown.client_order_id, shown.venue, shown.authority) == (resting_id, "paper", "approval")
        assert resting_id is not None
        assert msgspec.structs.replace(shown, as_of_ns=0) == msgspec.structs.replace(
            await second.client.order(resting_id), as_of_ns=0
        )
        again = await second.execute(filled)
        assert again.refusal is not None
        assert again.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED

        assert await second.client.cancel_order(resting_id, "user-trader") is None
        closed = await second.event(lambda event: isinstance(event, OrderClosed))
        assert closed.status is OrderStatus.CANCELED
        assert await second.client.open_orders(ACCOUNT) == []
    finally:
        await second.close()


async def test_what_was_filled_while_the_engine_was_away_is_found_at_its_next_start(settings: Settings) -> None:
    first = RunningEngine(settings)
    await first.start()
    outcome = await first.execute(await first.propose())
    # Stopped without waiting for the venue: the answer, the fill, or both are missed.
    await first.close()

    second = RunningEngine(settings)
    await second.start()
    try:
        await second.event(
            lambda event: (
                isinstance(event, OrderFilled)
                and event.client_order_id == outcome.client_order_id
                and event.status is OrderStatus.FILLED
            )
        )
        assert await second.position() == Decimal("0.01")
    finally:
        await second.close()


async def test_risk_at_send_consumes_the_approval_and_sends_nothing(engine: RunningEngine) -> None:
    ticker = await engine.client.ticker("BTCUSDT")
    too_high = (ticker.ask_price * Decimal("1.06")).quantize(Decimal("1"))
    what = await engine.propose(price=str(too_high))

    outcome = await engine.execute(what)
    again = await engine.execute(what)

    assert outcome.consumed
    assert outcome.client_order_id is None
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.RISK_PRICE_OUTSIDE_COLLAR
    assert again.refusal is not None
    assert again.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED
    assert await engine.client.open_orders(ACCOUNT) == []
    assert await engine.position() == 0


async def test_the_decision_carries_the_market_it_was_made_on(engine: RunningEngine) -> None:
    await engine.execute(await engine.propose())

    decided = await engine.event(lambda event: isinstance(event, ApprovalDecided))

    assert decided.market.book_state == "LIVE"
    assert Decimal(decided.market.bid_price) < Decimal(decided.market.ask_price)
    assert all(check.passed for check in decided.checks)


async def test_a_check_of_a_proposal_changes_nothing(engine: RunningEngine) -> None:
    before = await engine.client.status()

    view = await engine.client.check_proposal(proposal_bytes(await engine.propose()))

    assert view.refusal is None
    assert view.reference_price is not None
    assert (await engine.client.status()).journal_sequence == before.journal_sequence


async def test_readers_get_the_market_and_the_limits(engine: RunningEngine) -> None:
    ticker = await engine.client.ticker("BTCUSDT")
    book = await engine.client.order_book("BTCUSDT", 5)
    estimate = await engine.client.estimate_execution("BTCUSDT", Side.BUY, Decimal("0.5"))
    risk = await engine.client.risk_state(ACCOUNT)
    instruments = await engine.client.instruments()

    assert ticker.bid_price < ticker.ask_price
    assert book.state == "LIVE"
    assert len(book.bids) == len(book.asks) == 5
    assert estimate.complete
    assert risk.kill_switch == "NORMAL"
    assert {check.unit for check in risk.limits} >= {"quote", "bps", "ms", "base", "times", "orders"}
    assert "BTCUSDT" in {item.symbol for item in instruments}


async def test_an_unknown_symbol_is_refused_with_the_engines_code(engine: RunningEngine) -> None:
    with pytest.raises(RefusalError) as caught:
        await engine.client.ticker("NOPEUSDT")

    assert caught.value.refusal.code is ReasonCode.MARKET_INSTRUMENT_UNKNOWN


async def test_a_failure_of_authority_is_answered_and_not_journaled(engine: RunningEngine) -> None:
    before = await engine.client.status()

    outcome = await engine.execute(await engine.propose(engine_id="engine-2"))

    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.AUTHORITY_WRONG_ENGINE
    assert not outcome.consumed
    assert (await engine.client.status()).journal_sequence == before.journal_sequence


async def test_the_engine_serves_and_refuses_orders_while_the_venue_is_down(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "BOOKS_WAIT_S", 0.2)
    url = "127.0.0.1:9"
    settings = settings_for(home, VELOZ_VENUE__REST_URL=f"http://{url}", VELOZ_VENUE__WEBSOCKET_URL=f"ws://{url}")
    stop, served = asyncio.Event(), asyncio.Event()
    running = RunningEngine(settings)
    task = asyncio.create_task(main(settings, stop, served.set))
    try:
        async with asyncio.timeout(60):
            await served.wait()
        status = await running.client.status()
        assert not status.venue_connected
        outcome = await running.execute(proposal())
        assert outcome.refusal is not None
        assert not outcome.consumed
    finally:
        await running.client.close()
        stop.set()
        await task


async def test_an_engine_that_is_gone_is_unavailable(home: Path) -> None:
    client = EngineClient(f"unix:{home}/run/nobody.sock", "token")
    with pytest.raises(RefusalError) as caught:
        await client.status()
    await client.close()
    assert caught.value.refusal.code is ReasonCode.SERVICE_ENGINE_UNAVAILABLE
