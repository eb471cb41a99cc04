"""An engine that nobody helps, on a real paper venue: it tightens when its venue, its operator or its money goes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.config import Settings
from core.types.codes import ReasonCode
from core.types.events import KillSwitchChanged, OrderClosed, OrderFilled
from core.types.orders import OrderStatus
from core.venues.paper.server import PaperVenue
from tests.core.approvals import ACCOUNT, rules_document
from tests.core.engine_support import RunningEngine, settings_for


def thrown(state: str) -> Callable[[Any], bool]:
    return lambda event: isinstance(event, KillSwitchChanged) and event.state == state


def write_rules(home: Path, **changes: str) -> None:
    values = {"max_deviation_bps": "100", "max_depth_share_bps": "10000", **changes}
    (home / "risk.toml").write_text(rules_document(**values))


async def resting(engine: RunningEngine) -> str:
    ticker = await engine.client.ticker("BTCUSDT")
    below = (ticker.bid_price * Decimal("0.97")).quantize(Decimal(1))
    outcome = await engine.execute(await engine.propose(price=str(below)))
    assert outcome.client_order_id is not None, outcome.refusal
    return outcome.client_order_id


async def test_a_venue_that_is_gone_leaves_only_cancels(home: Path) -> None:
    write_rules(home, user_stream_lost_after_s="1")
    async with PaperVenue.from_settings(settings_for(home, VELOZ_VENUE__PORT="0")) as venue:
        engine = RunningEngine(
            settings_for(home, VELOZ_VENUE__REST_URL=venue.base_url, VELOZ_VENUE__WEBSOCKET_URL=venue.websocket_url)
        )
        await engine.start()
    try:
        event = await engine.event(thrown("CANCEL_ONLY"))
        assert (event.account_id, event.requested_by) == (ACCOUNT, "engine:engine-1")
        assert "stream has been lost for 1 s" in event.reason
        state = await engine.client.risk_state(ACCOUNT)
        assert state.kill_switch == "CANCEL_ONLY"
        assert (await engine.client.status()).kill_switch == "NORMAL"  # the account's own, not the engine's
    finally:
        await engine.close()


async def test_an_operator_who_is_gone_halts_it_and_cancels_what_rests(home: Path, settings: Settings) -> None:
    # Long enough for an order to come to rest on a machine that stalls.
    write_rules(home, dead_mans_timer_s="6")
    engine = RunningEngine(settings)
    await engine.start()
    try:
        order_id = await resting(engine)
        event = await engine.event(thrown("HALTED"))
        assert event.account_id == ""
        assert "wasn't renewed for 6 s" in event.reason
        closed = await engine.event(lambda event: isinstance(event, OrderClosed))
        assert (closed.client_order_id, closed.status) == (order_id, OrderStatus.CANCELED)
        refused = await engine.execute(await engine.propose())
        assert refused.refusal is not None
        assert refused.refusal.code is ReasonCode.RISK_KILL_SWITCH_ACTIVE
    finally:
        await engine.close()


async def test_money_that_is_gone_leaves_only_what_reduces(home: Path, settings: Settings) -> None:
    write_rules(home)
    engine = RunningEngine(settings)
    await engine.start()
    try:
        bought = await engine.execute(await engine.propose())
        assert bought.refusal is None
        await engine.event(lambda event: isinstance(event, OrderFilled))
    finally:
        await engine.close()
    # What a day began with is remembered; before the order is in, the market alone may throw the switch.
    write_rules(home, max_daily_loss_quote='"0.000001"')
    engine = RunningEngine(settings)
    await engine.start()
    try:
        event = await engine.event(thrown("REDUCE_ONLY"))
        assert event.account_id == ACCOUNT
        assert event.reason.startswith("lost ")
        ticker = await engine.client.ticker("BTCUSDT")
        more = await engine.execute(await engine.propose())
        assert more.refusal is not None
        assert more.refusal.code is ReasonCode.RISK_KILL_SWITCH_ACTIVE
        held = await engine.position()
        out = await engine.execute(
            await engine.propose(side="SELL", quantity=str(held), price=str(ticker.bid_price.quantize(Decimal(1))))
        )
        assert out.refusal is None
    finally:
        await engine.close()


@pytest.mark.parametrize("state", ["REDUCE_ONLY", "CANCEL_ONLY", "HALTED"])
async def test_one_accounts_switch_is_thrown_over_the_control_plane(engine: RunningEngine, state: str) -> None:
    status = await engine.client.set_kill_switch(state, "user-trader", "a drill", None, ACCOUNT)
    assert status.kill_switch == "NORMAL"
    assert (await engine.client.risk_state(ACCOUNT)).kill_switch == state
    refused = await engine.execute(await engine.propose())
    assert refused.refusal is not None
    assert (refused.refusal.code, refused.refusal.actual) == (ReasonCode.RISK_KILL_SWITCH_ACTIVE, state)
