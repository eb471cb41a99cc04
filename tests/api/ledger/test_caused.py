"""What an approval led to besides an order that goes out at once: in SQL and in the trail, as of its suggestion."""

from __future__ import annotations

import msgspec
import pytest

from api.ledger.projection import Projection
from core.types.authority import ApprovalAuthority
from core.types.events import ApprovalDecided, JournalEvent, OrderIntended
from core.types.orders import OrderStatus, OrderType
from tests.api.ledger.journal import ENGINE_ID, MARKET, ORDER_ID, TRACE_ID, approval, fill
from tests.api.ledger.test_projection import accepted, closed, project, rejected, rows, trail
from tests.postgres import PostgresDatabase


def held_approval() -> ApprovalDecided:
    """A stop that the engine holds, approved."""
    plain = approval()
    assert plain.intent is not None
    intent = msgspec.structs.replace(plain.intent, order_type=OrderType.STOP, price=None, stop_price=6_500_000)
    held = OrderIntended(
        ts_ns=plain.ts_ns,
        trace_id=TRACE_ID,
        intent=intent,
        authority=ApprovalAuthority("sugg-1", 1, plain.digest_hex, plain.signatures),
        notional_quote="32500",
        rules_version=3,
        market=MARKET,
        checks=plain.checks,
        is_held=True,
    )
    return msgspec.structs.replace(plain, intent=None, caused=(held,))


async def test_a_held_order_belongs_to_the_suggestion_that_it_came_from(
    with_suggestion: PostgresDatabase, projection: Projection
) -> None:
    await project(projection, held_approval())
    assert rows(with_suggestion, "SELECT status, client_order_id FROM suggestions") == [("consumed", ORDER_ID)]
    assert rows(with_suggestion, "SELECT client_order_id FROM consumed_approvals") == [(ORDER_ID,)]
    order = rows(with_suggestion, "SELECT status, suggestion_id, authority, authority_id FROM orders")
    assert order == [("HELD", "sugg-1", "approval", "sugg-1")]
    records = trail(with_suggestion)
    assert [record.record_id.removeprefix(f"{ENGINE_ID}:1:") for record in records] == [
        "risk.decided",
        "risk.decided:1",
        "order.intended:1",
    ]
    of = {(record.suggestion_id, record.run_id, record.on_behalf_of, record.account_id) for record in records}
    assert of == {("sugg-1", "run-1", "user-trader", "acct-demo")}


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([accepted()], "consumed"),
        ([rejected()], "failed"),
        ([accepted(), fill(1, 50_000, OrderStatus.FILLED)], "executed"),
        ([closed()], "failed"),
    ],
)
async def test_what_becomes_of_a_held_order_moves_its_suggestion(
    with_suggestion: PostgresDatabase, projection: Projection, events: list[JournalEvent], status: str
) -> None:
    await project(projection, held_approval(), *events)
    assert rows(with_suggestion, "SELECT status FROM suggestions") == [(status,)]
