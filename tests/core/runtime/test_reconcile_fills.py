"""Fills that the engine wasn't told of: while it was down, or of orders that it never placed."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from core.config import Settings
from core.kernel import kernel as kernel_module
from core.types.authority import ExternalAuthority
from core.types.events import BalancesObserved, OrderAdopted, OrderClosed, OrderFilled, Reconciled
from core.types.orders import OrderStatus
from core.venues.paper.server import PaperVenue
from tests.core.approvals import ACCOUNT
from tests.core.engine_support import RunningEngine
from tests.core.venues.paper.support import Client
from tests.invariants.support import credentials, journal_of

MARKET_BUY = {"side": "BUY", "type": "MARKET", "quantity": "0.02"}


@pytest.fixture
async def other(venue: PaperVenue, settings: Settings) -> Any:
    """Somebody else who trades on the account, past the engine."""
    client = Client(venue.base_url, credentials(settings))
    yield client
    await client.http.aclose()


async def lived_once(settings: Settings) -> None:
    engine = RunningEngine(settings)
    await engine.start()
    await engine.close()


@pytest.mark.parametrize("terms", [MARKET_BUY, MARKET_BUY | {"newClientOrderId": "by-hand"}])
async def test_what_another_client_bought_while_the_engine_was_down_is_in_the_position(
    settings: Settings, other: Client, terms: dict[str, str]
) -> None:
    await lived_once(settings)
    placed = (await other.order(**terms)).json()
    assert placed["status"] == "FILLED"

    engine = RunningEngine(settings)
    await engine.start()
    try:
        assert await engine.position() == Decimal("0.02")
        events = await journal_of(engine)
        (adopted,) = [event for event in events if isinstance(event, OrderAdopted)]
        assert adopted.intent.client_order_id == placed["clientOrderId"]
        assert isinstance(adopted.authority, ExternalAuthority)
        filled = Counter(event.trade_id for event in events if isinstance(event, OrderFilled))
        assert filled == Counter(fill["tradeId"] for fill in placed["fills"])
        (told,) = [event for event in events if isinstance(event, Reconciled)]
        assert {difference.kind for difference in told.differences} == {"fill.missing"}
        assert await engine.client.open_orders(ACCOUNT) == []
    finally:
        await engine.close()


@pytest.mark.parametrize("are_kept", [True, False], ids=["in memory", "out of memory"])
async def test_an_id_that_another_client_uses_again_names_another_order(
    settings: Settings, other: Client, monkeypatch: pytest.MonkeyPatch, are_kept: bool
) -> None:
    """given one id for orders of somebody else, before, while and after the engine is down, when it looks, then each
    of them counts once, and nothing halts; also when those that are over have left memory."""
    if not are_kept:
        for name, value in (("FINAL_ORDERS_KEPT", 0), ("FINAL_ORDERS_KEPT_NS", 0), ("TIDY_INTERVAL_EVENTS", 1)):
            monkeypatch.setattr(kernel_module, name, value)
    again = MARKET_BUY | {"newClientOrderId": "again"}
    engine = RunningEngine(settings)
    await engine.start()
    placed = [(await other.order(**again)).json(), (await other.order(**again)).json()]
    for order in placed:
        await engine.event(lambda event, wanted=str(order["orderId"]): getattr(event, "venue_order_id", "") == wanted)
    await engine.close()
    placed.append((await other.order(**again)).json())
    resting = again | {"type": "LIMIT", "timeInForce": "GTC", "price": "50000.00"}
    placed.append((await other.order(**resting)).json())

    second = RunningEngine(settings)
    await second.start()
    try:
        assert await second.position() == Decimal("0.06")
        (shown,) = await second.client.open_orders(ACCOUNT)
        assert shown.venue_order_id == str(placed[-1]["orderId"])
        adopted = [event for event in await journal_of(second) if isinstance(event, OrderAdopted)]
        assert sorted(event.venue_order_id for event in adopted) == [str(order["orderId"]) for order in placed]
        assert (await second.client.status()).kill_switch == "NORMAL"

        assert await second.client.cancel_order(shown.client_order_id, "user-trader") is None
        closed = await second.event(lambda event: isinstance(event, OrderClosed))
        assert closed.client_order_id == shown.client_order_id
        assert (await second.client.reconcile(dry_run=True, requested_by="user-trader")).differences == ()
    finally:
        await second.close()


async def test_a_dry_run_of_an_engine_that_agrees_with_its_venue_shows_nothing_and_records_nothing(
    engine: RunningEngine,
) -> None:
    view = await engine.client.reconcile(dry_run=True, requested_by="user-trader")
    assert (view.differences, view.applied) == ((), False)
    assert not [event for event in await journal_of(engine) if isinstance(event, Reconciled)]


async def test_the_account_before_the_engines_first_start_is_not_the_engines(settings: Settings, other: Client) -> None:
    assert (await other.order(**MARKET_BUY)).json()["status"] == "FILLED"
    engine = RunningEngine(settings)
    await engine.start()
    try:
        assert await engine.position() == Decimal(0)
    finally:
        await engine.close()


async def test_until_when_fills_were_asked_for_is_in_the_journal(settings: Settings, other: Client) -> None:
    await lived_once(settings)
    await other.order(**MARKET_BUY)
    engine = RunningEngine(settings)
    await engine.start()
    try:
        first, *_, last = [event for event in await journal_of(engine) if isinstance(event, BalancesObserved)]
        assert 0 < first.fills_through_ns < last.fills_through_ns
        assert Decimal(last.totals["USDT"]) < Decimal(first.totals["USDT"])
    finally:
        await engine.close()


async def test_two_orders_of_somebody_else_under_one_new_id_are_two_orders(settings: Settings, other: Client) -> None:
    await lived_once(settings)
    twice = MARKET_BUY | {"newClientOrderId": "twice"}
    placed = [(await other.order(**twice)).json(), (await other.order(**(twice | {"quantity": "0.03"}))).json()]

    engine = RunningEngine(settings)
    await engine.start()
    try:
        assert await engine.position() == Decimal("0.05")
        events = await journal_of(engine)
        adopted = {event.venue_order_id: event.intent for event in events if isinstance(event, OrderAdopted)}
        assert adopted.keys() == {str(order["orderId"]) for order in placed}
        assert len({intent.client_order_id for intent in adopted.values()}) == len(placed)
        for order in placed:
            order_id = adopted[str(order["orderId"])].client_order_id
            filled = {
                event.trade_id
                for event in events
                if isinstance(event, OrderFilled) and event.client_order_id == order_id
            }
            assert filled == {fill["tradeId"] for fill in order["fills"]}
        assert (await engine.client.status()).kill_switch == "NORMAL"
        assert (await engine.client.reconcile(dry_run=True, requested_by="user-trader")).differences == ()
    finally:
        await engine.close()


async def test_an_order_whose_id_came_again_while_nobody_looked_has_ended(settings: Settings, other: Client) -> None:
    """given an order of somebody else that ended while the engine was down, and another under its id, which is all that
    the venue tells of by that id, when the engine looks, then the first has ended, and nothing is frozen."""
    again = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.02", "newClientOrderId": "again"}
    engine = RunningEngine(settings)
    await engine.start()
    first = (await other.order(**again, price="50000.00")).json()
    await engine.event(lambda event: getattr(event, "venue_order_id", "") == str(first["orderId"]))
    await engine.close()
    ended = await other.signed("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=first["orderId"])
    assert ended.json()["status"] == "CANCELED"
    later = (await other.order(**again, price="50001.00")).json()

    second = RunningEngine(settings)
    await second.start()
    try:
        closed = await second.event(lambda event: isinstance(event, OrderClosed))
        assert (closed.client_order_id, closed.status) == ("again", OrderStatus.CANCELED)
        (shown,) = await second.client.open_orders(ACCOUNT)
        assert shown.venue_order_id == str(later["orderId"])
        assert (await second.client.risk_state(ACCOUNT)).frozen_reason is None
        assert (await second.client.reconcile(dry_run=True, requested_by="user-trader")).differences == ()
    finally:
        await second.close()
