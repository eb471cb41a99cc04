"""The kill switch is thrown between a decision and its sending: nothing leaves that it wouldn't let through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.kernel import decide
from core.kernel.decide_approvals import decide_approval
from core.risk.kill_switch import KillSwitch
from core.types.authority import MandateAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import JournalEvent, OrderAmendRefused, OrderAmendRequested, OrderRejected
from tests.core.approvals import ABLE, ACCOUNT, LIVE_INPUTS, LIVE_MARKET, approve, proposal
from tests.core.runtime.guard_support import Watched

QUANTITY, AT = 10_000, 6_000_000


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    running = Watched()
    await running.start()
    yield running
    await running.close()


async def settled(watched: Watched) -> list[JournalEvent]:
    """What was journaled, once nothing is under way."""
    while watched.service.dispatcher.busy_count:
        await watched.service.dispatcher.stop()
    return [entry.event() for entry in watched.journal.entries()]


def approved(watched: Watched, **changes: str) -> Any:
    decided = decide_approval(
        watched.kernel,
        *approve(proposal(**changes)),
        trace_id=None,
        inputs=LIVE_INPUTS,
        capabilities=ABLE,
        now_ns=watched.clock.ns,
    )
    assert not isinstance(decided, Refusal), decided
    assert decided.intent is not None, decided.refusal
    return decided


async def throw(watched: Watched, state: KillSwitch) -> None:
    decided = decide.decide_kill_switch(
        watched.kernel, state, "user-trader", "now", None, watched.clock.ns, account_id=ACCOUNT
    )
    assert not isinstance(decided, Refusal)
    await watched.record(*decided)


@pytest.mark.parametrize(
    ("state", "side", "is_sent"),
    [
        (None, "BUY", True),
        (KillSwitch.REDUCE_ONLY, "BUY", False),
        (KillSwitch.REDUCE_ONLY, "SELL", True),
        (KillSwitch.CANCEL_ONLY, "SELL", False),
        (KillSwitch.HALTED, "SELL", False),
    ],
)
async def test_an_order_that_wasnt_sent_yet_isnt(
    watched: Watched, state: KillSwitch | None, side: str, is_sent: bool
) -> None:
    first = approved(watched)
    await watched.record(first)
    await settled(watched)
    await watched.record(*watched.fill(first.intent.client_order_id))
    decided = approved(watched, suggestion_id="sug-2", side=side)
    if state is not None:
        await throw(watched, state)
    await watched.record(decided)
    events = await settled(watched)
    order_id = decided.intent.client_order_id
    assert (order_id in watched.venue.submitted) is is_sent
    refused = [e.refusal.code for e in events if isinstance(e, OrderRejected) and e.client_order_id == order_id]
    assert refused == ([] if is_sent else [ReasonCode.RISK_KILL_SWITCH_ACTIVE])


@pytest.mark.parametrize(
    ("state", "quantity", "price", "is_sent"),
    [
        (None, QUANTITY + 1, AT, True),
        (KillSwitch.REDUCE_ONLY, QUANTITY + 1, AT, False),
        (KillSwitch.REDUCE_ONLY, QUANTITY - 1, AT, True),
        (KillSwitch.REDUCE_ONLY, QUANTITY - 1, AT + 1, False),
        (KillSwitch.CANCEL_ONLY, QUANTITY - 1, AT, False),
    ],
)
async def test_an_amendment_that_wasnt_sent_yet_isnt(
    watched: Watched, state: KillSwitch | None, quantity: int, price: int, is_sent: bool
) -> None:
    first = approved(watched)
    await watched.record(first)
    await settled(watched)
    order_id = first.intent.client_order_id
    decided = OrderAmendRequested(
        ts_ns=watched.clock.ns,
        client_order_id=order_id,
        quantity=quantity,
        price=price,
        authority=MandateAuthority("man-1", "maker"),
        rules_version=1,
        market=LIVE_MARKET,
        checks=(),
    )
    if state is not None:
        await throw(watched, state)
    await watched.record(decided)
    events = await settled(watched)
    assert watched.venue.amended == ([(order_id, quantity, price)] if is_sent else [])
    refused = [event.refusal.code for event in events if isinstance(event, OrderAmendRefused)]
    assert refused == ([] if is_sent else [ReasonCode.RISK_KILL_SWITCH_ACTIVE])
    assert watched.kernel.orders[order_id].pending_amend is None
