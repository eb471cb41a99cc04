"""Approved safety commands: what only reduces goes ahead without its record, once, and is recorded later."""

from __future__ import annotations

from typing import Any

import pytest

from core.authority.listed_orders import ListedOrder
from core.authority.proposal import (
    CANCEL_LISTED_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    Proposed,
)
from core.config import Settings
from core.runtime import engine as engine_module
from core.runtime.owed import OWED_NAME
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode
from core.types.events import ApprovalDecided, KillSwitchChanged, OrderClosed
from core.types.ids import SystemIdSource, new_trace
from core.types.money import decimal_text
from core.types.views import ExecutionOutcomeView
from tests.core.approvals import approve
from tests.core.authority.proposals import example
from tests.core.engine_support import RunningEngine
from tests.core.runtime.test_safety import always_full, resting
from tests.core.storage.faults import BreakableFolder, Disk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(engine_module, "PosixFolder", lambda folder: BreakableFolder(folder, disk))
    return disk


def now(schema: str, suggestion_id: str, **terms: Any) -> Proposed:
    now_ns = SystemClock().now_ns()
    moments = {"created_at_ns": str(now_ns), "expires_at_ns": str(now_ns + 60 * NS_PER_S)}
    return example(schema, suggestion_id=suggestion_id, **moments, **terms)


async def execute(engine: RunningEngine, what: Proposed) -> ExecutionOutcomeView:
    return await engine.client.execute_approval(*approve(what), new_trace(SystemIdSource()))


@pytest.mark.parametrize("listed", [False, True], ids=["of one order", "of all that are listed"])
async def test_an_approved_cancel_and_halt_wait_for_no_disk_and_are_used_once_over_a_restart(
    disk: Disk, settings: Settings, listed: bool
) -> None:
    engine = RunningEngine(settings)
    await engine.start()
    order_id = await resting(engine)
    await engine.event(lambda event: getattr(event, "venue_order_id", None) is not None)
    order = await engine.client.order(order_id)
    assert order.price is not None
    terms = {"quantity": decimal_text(order.quantity), "price": decimal_text(order.price)}
    if listed:
        text = ListedOrder(order_id, order.side, terms["quantity"], order.symbol, order.order_type, terms["price"]).text
        cancel = now(CANCEL_LISTED_PROPOSAL_SCHEMA, "sug-cancel", orders=text)
    else:
        cancel = now(CANCEL_PROPOSAL_SCHEMA, "sug-cancel", client_order_id=order_id, **terms)
    halt = now(KILL_SWITCH_PROPOSAL_SCHEMA, "sug-halt", scope="engine")
    before = (await engine.client.status()).journal_sequence

    disk.append = always_full(disk)
    for what in (cancel, halt):
        outcome = await execute(engine, what)
        assert (outcome.refusal, outcome.consumed, outcome.journal_sequence) == (None, True, None)
    assert (await engine.client.status()).kill_switch == "HALTED"
    again = await execute(engine, cancel)
    assert again.refusal is not None
    assert again.refusal.code is ReasonCode.APPROVAL_ALREADY_CONSUMED

    disk.append = None
    closed = await engine.event(lambda event: isinstance(event, OrderClosed), before)
    assert closed.client_order_id == order_id
    decided = await engine.event(
        lambda event: isinstance(event, ApprovalDecided) and event.suggestion_id == "sug-halt", before
    )
    assert [type(caused) for caused in decided.caused] == [KillSwitchChanged]
    await engine.close()

    second = RunningEngine(settings)
    await second.start()
    assert (await second.client.status()).kill_switch == "HALTED"
    for what in (cancel, halt):
        refused = (await execute(second, what)).refusal
        assert refused is not None
        assert refused.code is ReasonCode.APPROVAL_ALREADY_CONSUMED
    await second.close()


async def test_an_engine_that_dies_with_its_journal_comes_back_halted_and_its_approvals_stay_used(
    disk: Disk, settings: Settings
) -> None:
    """given a disk that takes no record until the engine is gone."""
    engine = RunningEngine(settings)
    await engine.start()
    order_id = await resting(engine)
    await engine.event(lambda event: getattr(event, "venue_order_id", None) is not None)
    halt = now(KILL_SWITCH_PROPOSAL_SCHEMA, "sug-halt", scope="engine")
    disk.append = always_full(disk)
    assert (await execute(engine, halt)).consumed
    status = await engine.client.status()
    assert (status.kill_switch, status.journal_problem is None) == ("HALTED", False)
    await engine.close()

    disk.append = None
    second = RunningEngine(settings)
    await second.start()
    try:
        assert (await second.client.status()).kill_switch == "HALTED"
        refused = (await execute(second, halt)).refusal
        assert refused is not None
        assert refused.code is ReasonCode.APPROVAL_ALREADY_CONSUMED
        closed = await second.event(lambda event: isinstance(event, OrderClosed))
        assert closed.client_order_id == order_id
    finally:
        await second.close()
    assert not (settings.paths.journal / OWED_NAME).exists()


async def test_an_order_waits_for_the_disk_whatever_its_kind(disk: Disk, engine: RunningEngine) -> None:
    disk.append = always_full(disk)
    outcome = await engine.execute(await engine.propose())
    assert outcome.refusal is not None
    assert (outcome.refusal.code, outcome.consumed) == (ReasonCode.SERVICE_JOURNAL_UNAVAILABLE, False)
