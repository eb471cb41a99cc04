"""I5: a submit without an answer is UNKNOWN: never repeated, blocking its kind, until the venue says what it was."""

from __future__ import annotations

from typing import Any

import pytest

from core.authority.proposal import proposal_bytes
from core.config import Settings
from core.runtime import dispatch
from core.runtime import engine as engine_module
from core.types.codes import ReasonCode
from core.types.events import ApprovalDecided, OrderAccepted, OrderBecameUnknown, OrderRejected
from core.types.orders import OrderStatus
from core.venues.paper.server import PaperVenue
from tests.core.approvals import ACCOUNT
from tests.core.engine_support import RunningEngine
from tests.invariants.support import journal_of, orders_at


class MuteVenue:
    """The venue takes orders and lets nothing about them out until `speak`: no answer, no report, no query."""

    def __init__(self, venue: PaperVenue, monkeypatch: pytest.MonkeyPatch) -> None:
        self._mute = True
        self.submits: list[str] = []
        account, hub = venue.exchange.account, venue.exchange.hub
        place, order, publish = account.place, account.order, hub.publish

        def muted_place(request: Any) -> Any:
            self.submits.append(request.client_order_id)
            answer = place(request)
            if self._mute:
                raise ConnectionError("the answer is lost")
            return answer

        def muted_order(*key: Any) -> Any:
            if self._mute:
                raise ConnectionError("no answer")
            return order(*key)

        def muted_publish(name: str, payload: str) -> None:
            if "@" in name or not self._mute:
                publish(name, payload)

        monkeypatch.setattr(account, "place", muted_place)
        monkeypatch.setattr(account, "order", muted_order)
        monkeypatch.setattr(hub, "publish", muted_publish)

    def speak(self) -> None:
        self._mute = False


async def test_an_order_without_an_answer_blocks_its_kind_survives_a_restart_and_becomes_what_the_venue_says(
    settings: Settings, venue: PaperVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = MuteVenue(venue, monkeypatch)
    first = RunningEngine(settings)
    await first.start()
    ticker = await first.client.ticker("BTCUSDT")
    resting_price = str(int(ticker.bid_price * 97 / 100))
    sent = await first.execute(await first.propose(price=resting_price))
    assert sent.client_order_id is not None
    unknown = await first.event(lambda event: isinstance(event, OrderBecameUnknown))
    assert unknown.client_order_id == sent.client_order_id

    [order] = await first.client.open_orders(ACCOUNT)
    assert (order.status, order.client_order_id) == (OrderStatus.UNKNOWN, sent.client_order_id)
    same_side = await first.execute(await first.propose())
    assert same_side.refusal is not None
    assert same_side.refusal.code is ReasonCode.RISK_INTENT_UNRESOLVED
    other_side = await first.client.check_proposal(await sell(first))
    assert other_side.refusal is None, "only the same account, symbol and side wait"
    monkeypatch.setattr(dispatch, "STOP_TIMEOUT_S", 0.1)
    monkeypatch.setattr(engine_module, "BOOKS_WAIT_S", 0.1)
    await first.close()

    second = RunningEngine(settings)
    await second.start()
    try:
        [order] = await second.client.open_orders(ACCOUNT)
        assert order.status is OrderStatus.UNKNOWN
        mute.speak()
        accepted = await second.event(lambda event: isinstance(event, OrderAccepted))
        [at_venue] = await orders_at(venue, settings)
        assert accepted.client_order_id == at_venue["clientOrderId"] == sent.client_order_id
        assert accepted.venue_order_id == str(at_venue["orderId"])
        assert mute.submits == [sent.client_order_id], "a submit is never repeated"
        events = await journal_of(second)
        assert not any(isinstance(event, OrderRejected) for event in events)
        assert sum(isinstance(event, ApprovalDecided) and event.intent is not None for event in events) == 1
    finally:
        await second.close()


async def sell(engine: RunningEngine) -> bytes:
    ticker = await engine.client.ticker("BTCUSDT")
    return proposal_bytes(await engine.propose(side="SELL", price=str(int(ticker.bid_price))))
