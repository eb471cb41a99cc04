"""What an account is shown of itself: positions with their strategies, exposure in one currency, what-if with risk."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.config import Settings
from core.types.clock import SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.events import OrderFilled
from core.types.money import decimal_text
from core.types.orders import OrderStatus, Side
from core.venues.connect import connect_venue
from tests.core.approvals import ACCOUNT
from tests.core.engine_support import RunningEngine


async def test_what_has_a_price_is_told_also_while_something_has_none(engine: RunningEngine) -> None:
    await buy(engine)
    exposure = await engine.client.exposure(ACCOUNT)
    priced = sum((asset.value for asset in exposure.balances if asset.value is not None), Decimal(0))
    assert exposure.known_equity == priced
    fall = await engine.client.what_if(ACCOUNT, "", price_move_bps=-1_000)
    assert fall.known_pnl_change is not None
    assert fall.before.known_equity is not None
    assert fall.after.known_equity == fall.before.known_equity + fall.known_pnl_change
    assert fall.known_pnl_change < 0
    if not exposure.unknown:
        assert (exposure.equity, fall.pnl_change) == (exposure.known_equity, fall.known_pnl_change)


async def buy(engine: RunningEngine) -> None:
    await filled(engine, (await engine.execute(await engine.propose())).client_order_id)


async def filled(engine: RunningEngine, order_id: str | None) -> None:
    await engine.event(
        lambda event: (
            isinstance(event, OrderFilled) and event.client_order_id == order_id and event.status is OrderStatus.FILLED
        )
    )


async def test_a_position_shows_its_fees_by_asset_and_whose_it_is(engine: RunningEngine) -> None:
    await buy(engine)
    (position,) = await engine.client.positions(ACCOUNT)
    assert (position.venue, position.quantity, position.leverage) == ("paper", Decimal("0.01"), None)
    assert list(position.fees_by_asset) == ["BTC"]
    assert position.funding_by_asset == {}
    assert position.mark_price is not None
    assert position.notional_quote == position.quantity * position.mark_price
    (by_people,) = position.strategies
    assert (by_people.strategy_id, by_people.quantity) == ("", position.quantity)
    assert by_people.unrealised_pnl_quote == position.unrealised_pnl_quote


async def test_the_venues_balances_are_what_the_engines_figures_add_up_to(
    engine: RunningEngine, settings: Settings
) -> None:
    """Quantity, cash and fees of the engine's journal: exactly what the venue's own ledger has gained and lost."""
    venue = connect_venue(settings, SystemClock())
    try:
        before = await venue.balances()
        for side, quantity in (("BUY", "0.03"), ("SELL", "0.0125"), ("BUY", "0.004"), ("SELL", "0.0215")):
            ticker = await engine.client.ticker("BTCUSDT")
            price = ticker.ask_price * Decimal("1.002") if side == "BUY" else ticker.bid_price * Decimal("0.998")
            terms = {"side": side, "quantity": quantity, "price": decimal_text(price.quantize(Decimal("0.01")))}
            outcome = await engine.execute(await engine.propose(**terms))
            await filled(engine, outcome.client_order_id)
        after = await venue.balances()
    finally:
        await venue.aclose()
    (position,) = await engine.client.positions(ACCOUNT)
    assert position.quantity == 0
    gained = {asset: after[asset] - before[asset] for asset in ("BTC", "USDT")}
    assert gained["BTC"] == position.quantity - position.fees_by_asset["BTC"]
    assert gained["USDT"] == position.realised_pnl_quote - position.fees_by_asset["USDT"]


async def test_exposure_adds_up_in_the_reporting_currency(engine: RunningEngine) -> None:
    await buy(engine)
    exposure = await engine.client.exposure(ACCOUNT)
    values = {asset.asset: asset.value for asset in exposure.balances}
    assert exposure.unknown == ()
    assert None not in values.values()
    assert exposure.equity == sum(value for value in values.values() if value is not None)
    assert exposure.gross == sum(value for asset, value in values.items() if value is not None and asset != "USDT")
    assert exposure.realised_pnl == 0
    assert exposure.fees is not None
    assert exposure.fees > 0


async def test_amounts_are_told_in_another_reporting_currency_and_keep_their_length(settings: Settings) -> None:
    told_in_btc = settings.engine.model_copy(update={"reporting_asset": "BTC"})
    engine = RunningEngine(settings.model_copy(update={"engine": told_in_btc}))
    await engine.start()
    try:
        await buy(engine)
        exposure = await engine.client.exposure(ACCOUNT)
        (line,) = exposure.lines
        assert (exposure.reporting_asset, line.notional) == ("BTC", Decimal("0.01"))
        view = await engine.client.what_if(ACCOUNT, "BTCUSDT", side=Side.BUY, quantity=Decimal("0.01"))
        worth = next(check.actual for check in view.checks if check.name == "RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER")
        assert worth is not None
        assert worth.startswith(("0.0100", "0.00999"))
        assert len(worth) < 40
    finally:
        await engine.close()


@pytest.mark.parametrize(
    ("quantity", "refusal"), [("0.01", None), ("5", ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER)]
)
async def test_what_if_says_what_risk_would_say(
    engine: RunningEngine, quantity: str, refusal: ReasonCode | None
) -> None:
    view = await engine.client.what_if(ACCOUNT, "BTCUSDT", side=Side.BUY, quantity=Decimal(quantity))
    assert (view.refusal.code if view.refusal else None) is refusal
    assert len(view.checks) > 10
    assert view.after.net is not None
    assert view.before.net is not None
    assert view.after.net > view.before.net
    assert await engine.client.orders(ACCOUNT, include_final=True) == []


async def test_a_price_move_meets_no_check_and_changes_equity_by_the_exposure(engine: RunningEngine) -> None:
    await buy(engine)
    view = await engine.client.what_if(ACCOUNT, "BTCUSDT", price_move_bps=-1_000)
    assert (view.checks, view.refusal) == ((), None)
    (line,) = view.before.lines
    held = next(asset for asset in view.before.balances if asset.asset == "BTC")
    assert line.mark_price is not None
    assert view.pnl_change is not None
    half_a_tick = Decimal("0.005")
    assert abs(view.pnl_change + held.quantity * line.mark_price / 10) <= held.quantity * half_a_tick


async def test_what_if_of_an_unknown_symbol_is_refused(engine: RunningEngine) -> None:
    with pytest.raises(RefusalError, match="NOPEUSDT"):
        await engine.client.what_if(ACCOUNT, "NOPEUSDT", side=Side.BUY, quantity=Decimal(1))


async def test_the_roster_in_force_can_be_read(engine: RunningEngine) -> None:
    roster = await engine.client.roster()
    assert [(entry.key_id, entry.approves) for entry in roster.entries] == [
        ("approver", True),
        ("second", True),
        ("trader", True),
    ]
    assert roster.two_approvals_above_quote == Decimal(50_000)


async def test_the_state_of_risk_tells_switches_and_timer(engine: RunningEngine) -> None:
    await engine.client.set_kill_switch("REDUCE_ONLY", "test", "one account", None, ACCOUNT)
    state = await engine.client.risk_state(ACCOUNT)
    assert (state.kill_switch, state.engine_kill_switch, state.account_kill_switch) == (
        "REDUCE_ONLY",
        "NORMAL",
        "REDUCE_ONLY",
    )
    assert (state.frozen_reason, state.dead_mans_timer_s) == (None, None)
