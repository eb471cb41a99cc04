"""What becomes of a bracket's suggestion: its entry and its exits together.

Invariant: it is executed only when the entry has filled and no exit is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.ledger.projection import Projection
from api.suggestions.watch import SuggestionWatch
from core.storage.database import create_engine, scoped_session
from core.types.authority import ApprovalAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    JournalEvent,
    OrderAccepted,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    OrderTriggered,
)
from core.types.orders import OrderStatus, OrderType, Side
from tests.api.ledger.conftest import SUGGESTION
from tests.api.ledger.journal import MARKET, START_NS, TRACE_ID, approval, fill
from tests.api.ledger.test_projection import project, rows
from tests.postgres import PostgresDatabase

ENTRY, TARGET, STOP = "VZentry", "VZtarget", "VZstop"
GROUP = "VZgroup"
NEW_ENTRY, NEW_TARGET = "VZentry2", "VZtarget2"
"""What an amendment puts in the place of the first ones."""
NO = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no")
CANCELED, EXPIRED, FILLED, PARTIAL = (
    OrderStatus.CANCELED,
    OrderStatus.EXPIRED,
    OrderStatus.FILLED,
    OrderStatus.PARTIALLY_FILLED,
)


def bracket() -> ApprovalDecided:
    plain = approval()
    assert plain.intent is not None
    authority = ApprovalAuthority("sugg-1", 1, plain.digest_hex, plain.signatures)

    def order(order_id: str, role: str, order_type: OrderType = OrderType.LIMIT) -> OrderIntended:
        assert plain.intent is not None
        side = Side.BUY if role == "entry" else Side.SELL
        changes = {"stop_price": 6_300_000, "price": None} if order_type is OrderType.STOP else {}
        intent = msgspec.structs.replace(
            plain.intent, client_order_id=order_id, side=side, order_type=order_type, **changes
        )
        return OrderIntended(
            ts_ns=plain.ts_ns,
            trace_id=TRACE_ID,
            intent=intent,
            authority=authority,
            notional_quote="32000",
            rules_version=3,
            market=MARKET,
            checks=plain.checks,
            is_held=role != "entry",
            group_id=GROUP,
            role=role,
            parent_id=None if role == "entry" else ENTRY,
        )

    orders = (order(ENTRY, "entry"), order(TARGET, "take_profit"), order(STOP, "stop", OrderType.STOP))
    return msgspec.structs.replace(plain, intent=None, proposal='{"schema":"veloz.bracket-proposal/1"}', caused=orders)


def replacing(order_id: str, by: str) -> tuple[OrderIntended, CancelRequested]:
    """An amendment that the venue can't make in place, as core.kernel.decide_orders has it."""
    orders = [order for order in bracket().caused if isinstance(order, OrderIntended)]
    (old,) = [order for order in orders if order.intent.client_order_id == order_id]
    intent = msgspec.structs.replace(old.intent, client_order_id=by)
    new = msgspec.structs.replace(old, ts_ns=START_NS + 10, intent=intent, is_held=True, replaces=order_id)
    return new, CancelRequested(ts_ns=START_NS + 10, client_order_id=order_id, requested_by="engine:amendment")


def let_go(order_id: str) -> OrderTriggered:
    return OrderTriggered(
        ts_ns=START_NS + 20, client_order_id=order_id, trigger_price=0, market=MARKET, checks=(), rules_version=3
    )


def accepted(order_id: str) -> OrderAccepted:
    return OrderAccepted(ts_ns=START_NS + 2, client_order_id=order_id, venue_order_id=f"at-{order_id}")


def armed(order_id: str) -> OrderArmed:
    return OrderArmed(ts_ns=START_NS + 20, client_order_id=order_id, quantity=50_000)


def rejected(order_id: str) -> OrderRejected:
    return OrderRejected(ts_ns=START_NS + 30, client_order_id=order_id, refusal=NO)


def unknown(order_id: str) -> OrderBecameUnknown:
    return OrderBecameUnknown(ts_ns=START_NS + 30, client_order_id=order_id, detail="timed out")


def closed(order_id: str, status: OrderStatus = CANCELED) -> OrderClosed:
    return OrderClosed(ts_ns=START_NS + 50, client_order_id=order_id, status=status, reason="asked")


def filled(order_id: str, trade_id: int = 1, status: OrderStatus = FILLED, quantity: int = 50_000) -> OrderFilled:
    side = Side.BUY if order_id in {ENTRY, NEW_ENTRY} else Side.SELL
    return fill(trade_id, quantity, status, side=side, order_id=order_id)


IN = (accepted(ENTRY), filled(ENTRY))
PLACED = (*IN, armed(TARGET), accepted(TARGET), armed(STOP))
MOVED = (accepted(ENTRY), *replacing(ENTRY, NEW_ENTRY), closed(ENTRY))
"""The entry was amended before it filled, and another order takes its place."""
MOVED_IN = (*MOVED, let_go(NEW_ENTRY), accepted(NEW_ENTRY), filled(NEW_ENTRY))
RETARGETED = (*PLACED, *replacing(TARGET, NEW_TARGET), closed(TARGET))


SCENARIOS: tuple[tuple[tuple[JournalEvent, ...], str, ReasonCode | None], ...] = (
    ((), "consumed", None),
    ((accepted(ENTRY),), "consumed", None),
    ((unknown(ENTRY),), "needs_review", None),
    ((unknown(ENTRY), accepted(ENTRY)), "consumed", None),
    ((rejected(ENTRY),), "failed", NO.code),
    ((accepted(ENTRY), closed(ENTRY)), "failed", None),
    (IN, "consumed", None),
    ((*IN, armed(TARGET), accepted(TARGET)), "consumed", None),
    (PLACED, "executed", None),
    ((accepted(ENTRY), filled(ENTRY, 1, PARTIAL, 20_000), armed(TARGET), armed(STOP)), "consumed", None),
    (
        (accepted(ENTRY), filled(ENTRY, 1, PARTIAL, 20_000), armed(TARGET), armed(STOP), closed(ENTRY)),
        "executed",
        None,
    ),
    ((*IN, armed(STOP), armed(TARGET), rejected(TARGET)), "needs_review", NO.code),
    ((*IN, armed(STOP), armed(TARGET), unknown(TARGET)), "needs_review", None),
    ((*IN, armed(STOP), armed(TARGET), unknown(TARGET), accepted(TARGET)), "executed", None),
    ((*PLACED, closed(TARGET), rejected(STOP)), "needs_review", NO.code),
    ((*PLACED, closed(TARGET, EXPIRED)), "needs_review", None),
    ((*PLACED, closed(TARGET)), "executed", None),
    ((*PLACED, filled(TARGET, 2), closed(STOP)), "executed", None),
    ((*PLACED, filled(TARGET, 2), closed(STOP, EXPIRED)), "executed", None),
    (MOVED, "consumed", None),
    ((*MOVED, let_go(NEW_ENTRY), unknown(NEW_ENTRY)), "needs_review", None),
    ((*MOVED, rejected(NEW_ENTRY)), "failed", NO.code),
    ((*MOVED, let_go(NEW_ENTRY), accepted(NEW_ENTRY), closed(NEW_ENTRY)), "failed", None),
    (MOVED_IN, "consumed", None),
    ((*MOVED_IN, armed(TARGET), accepted(TARGET), armed(STOP)), "executed", None),
    ((*MOVED_IN, armed(STOP), rejected(TARGET)), "needs_review", NO.code),
    (
        (accepted(ENTRY), filled(ENTRY, 1, PARTIAL, 20_000), *replacing(ENTRY, NEW_ENTRY), armed(TARGET), armed(STOP)),
        "consumed",
        None,
    ),
    (RETARGETED, "executed", None),
    ((*RETARGETED, rejected(NEW_TARGET)), "needs_review", NO.code),
    ((*RETARGETED, let_go(NEW_TARGET), accepted(NEW_TARGET), closed(NEW_TARGET, EXPIRED)), "needs_review", None),
    ((*RETARGETED, let_go(NEW_TARGET), accepted(NEW_TARGET), filled(NEW_TARGET, 2), closed(STOP)), "executed", None),
)


def of_scenario(event: Any, number: int) -> Any:
    """The event as one of the scenario's own suggestion, orders and trades."""
    suffix, changes = f"-{number}", {}
    for name in ("client_order_id", "parent_id", "venue_order_id", "group_id", "replaces"):
        if getattr(event, name, None) is not None:
            changes[name] = getattr(event, name) + suffix
    if isinstance(event, OrderFilled):
        changes["trade_id"] = event.trade_id + 10 * number
    if isinstance(event, OrderIntended):
        changes["intent"] = of_scenario(event.intent, number)
        changes["authority"] = msgspec.structs.replace(event.authority, suggestion_id=f"sugg{suffix}")
    if isinstance(event, ApprovalDecided):
        changes["suggestion_id"] = f"sugg{suffix}"
        changes["caused"] = tuple(of_scenario(caused, number) for caused in event.caused)
    return msgspec.structs.replace(event, **changes)


async def test_a_brackets_suggestion_follows_its_entry_and_its_exits(
    database: PostgresDatabase, projection: Projection
) -> None:
    """All in one journal, which takes one database instead of as many as there are scenarios."""
    events, expected = [], {}
    with database.connect("owner") as connection:
        for number, (then, status, code) in enumerate(SCENARIOS, 1):
            connection.execute(SUGGESTION.replace("sugg-1", f"sugg-{number}"), (TRACE_ID,))
            events += [of_scenario(event, number) for event in (bracket(), *then)]
            expected[f"sugg-{number}"] = (status, code)
    await project(projection, *events)
    found = rows(database, "SELECT id, status, refusal_code FROM suggestions")
    assert {suggestion_id: stands for suggestion_id, *stands in found} == {
        suggestion_id: list(stands) for suggestion_id, stands in expected.items()
    }


async def test_another_order_moves_no_bracket(with_suggestion: PostgresDatabase, projection: Projection) -> None:
    other = approval(suggestion_id="sugg-2", order_id="VZother")
    await project(projection, bracket(), *PLACED, other, rejected("VZother"))
    assert rows(with_suggestion, "SELECT status FROM suggestions WHERE id = 'sugg-1'") == [("executed",)]
    armed_rows = rows(with_suggestion, "SELECT armed_quantity FROM orders WHERE role = 'stop'")
    assert armed_rows == [(Decimal("0.50000"),)]


@pytest.fixture
async def watch(with_suggestion: PostgresDatabase, tmp_path: Path) -> AsyncIterator[SuggestionWatch]:
    engine = create_engine(with_suggestion.settings(tmp_path), "api")
    yield SuggestionWatch(lambda account_ids: scoped_session(engine, account_ids))
    await engine.dispose()


@pytest.mark.parametrize(
    ("events", "legs"),
    [
        ((accepted(ENTRY),), ("ACCEPTED", "HELD", "HELD")),
        ((*MOVED, let_go(NEW_ENTRY), accepted(NEW_ENTRY)), ("ACCEPTED", "HELD", "HELD")),
        ((*MOVED, rejected(NEW_ENTRY)), ("REJECTED", "HELD", "HELD")),
        ((accepted(ENTRY), *replacing(ENTRY, NEW_ENTRY), filled(ENTRY), closed(NEW_ENTRY)), ("FILLED", "HELD", "HELD")),
        ((*RETARGETED, let_go(NEW_TARGET), unknown(NEW_TARGET)), ("FILLED", "UNKNOWN", "HELD")),
    ],
    ids=["as approved", "its entry replaced", "its replacement refused", "filled before it was replaced", "an exit"],
)
async def test_a_follower_sees_of_each_leg_the_order_that_stands_for_it(
    watch: SuggestionWatch, projection: Projection, events: tuple[JournalEvent, ...], legs: tuple[str, ...]
) -> None:
    await project(projection, bracket(), *events)
    state = await watch.state(("acct-demo",), "sugg-1")
    assert state.legs == dict(zip(("entry", "take_profit", "stop"), legs, strict=True))
