"""What an approval led to besides an order that goes out at once: in SQL and in the trail, as of its suggestion."""

from __future__ import annotations

import msgspec
import pytest

from api.ledger.projection import Projection
from audit.record import Action
from core.types.authority import ApprovalAuthority, SafetyAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    CausedEvent,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderIntended,
)
from core.types.orders import OrderStatus, OrderType
from tests.api.ledger.conftest import SUGGESTION
from tests.api.ledger.journal import ENGINE_ID, MARKET, ORDER_ID, START_NS, TRACE_ID, approval, fill
from tests.api.ledger.test_projection import REJECTION, accepted, closed, project, rejected, rows, trail
from tests.api.ledger.trading import SIGNED, STRATEGY_MANDATE
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


def change(kind: str, *caused: CausedEvent, suggestion_id: str = "sugg-2") -> ApprovalDecided:
    """An approved change of the order that the first suggestion made."""
    plain = approval(suggestion_id=suggestion_id)
    return msgspec.structs.replace(
        plain, intent=None, proposal=f'{{"schema":"veloz.{kind}-proposal/1"}}', caused=caused
    )


def cancel_requested() -> CancelRequested:
    return CancelRequested(ts_ns=START_NS + 9, client_order_id=ORDER_ID, requested_by="approval:sugg-2")


def amend_requested() -> OrderAmendRequested:
    return OrderAmendRequested(
        ts_ns=START_NS + 9,
        client_order_id=ORDER_ID,
        quantity=40_000,
        price=6_400_000,
        authority=ApprovalAuthority("sugg-2", 1, "ab" * 32, ()),
        rules_version=3,
        market=MARKET,
        checks=(),
    )


def amended() -> OrderAmended:
    return OrderAmended(ts_ns=START_NS + 9, client_order_id=ORDER_ID, quantity=40_000, price=6_400_000)


def amend_refused() -> OrderAmendRefused:
    return OrderAmendRefused(ts_ns=START_NS + 9, client_order_id=ORDER_ID, refusal=REJECTION)


CANCELLED, FILLED = closed(), fill(1, 50_000, OrderStatus.FILLED)


@pytest.mark.parametrize(
    ("asked", "then", "of_the_order", "of_the_change"),
    [
        (change("cancel", cancel_requested()), [], "consumed", "consumed"),
        (change("cancel", cancel_requested()), [CANCELLED], "failed", "executed"),
        (change("cancel", cancel_requested()), [FILLED], "executed", "failed"),
        (change("cancel", cancel_requested(), CANCELLED), [], "failed", "executed"),
        (change("amend", amend_requested()), [], "consumed", "consumed"),
        (change("amend", amend_requested()), [amended()], "consumed", "executed"),
        (change("amend", amend_requested()), [amended(), CANCELLED], "failed", "executed"),
        (change("amend", amend_requested()), [amend_refused()], "consumed", "failed"),
        (change("amend", amend_requested()), [FILLED], "executed", "failed"),
        (change("amend", amend_requested()), [FILLED, amended()], "executed", "executed"),
    ],
)
async def test_a_change_follows_the_change_and_its_order_the_order(
    with_suggestion: PostgresDatabase,
    projection: Projection,
    asked: ApprovalDecided,
    then: list[JournalEvent],
    of_the_order: str,
    of_the_change: str,
) -> None:
    with with_suggestion.connect("owner") as connection:
        connection.execute(SUGGESTION.replace("sugg-1", "sugg-2"), (TRACE_ID,))
    await project(projection, approval(), accepted(), asked, *then)
    found = rows(with_suggestion, "SELECT kind, status, client_order_id FROM suggestions ORDER BY id")
    kind = "cancel" if "cancel" in asked.proposal else "amend"
    assert found == [("order", of_the_order, ORDER_ID), (kind, of_the_change, ORDER_ID)]


OTHER_ID = ORDER_ID.replace("vz", "vx")


def other(approved: ApprovalDecided) -> ApprovalDecided:
    """The same approval of another order."""
    assert approved.intent is not None
    intent = msgspec.structs.replace(approved.intent, client_order_id=OTHER_ID)
    return msgspec.structs.replace(approved, suggestion_id="sugg-3", intent=intent)


@pytest.mark.parametrize(
    ("then", "status"),
    [
        ([], "consumed"),
        ([CANCELLED], "consumed"),
        ([CANCELLED, msgspec.structs.replace(CANCELLED, client_order_id=OTHER_ID)], "executed"),
        ([FILLED, msgspec.structs.replace(CANCELLED, client_order_id=OTHER_ID)], "executed"),
        ([FILLED, msgspec.structs.replace(FILLED, client_order_id=OTHER_ID, trade_id=2)], "executed"),
    ],
    ids=["none over", "one over", "both cancelled", "one filled first", "both filled first"],
)
async def test_a_cancel_of_several_is_executed_once_none_of_them_is_open(
    with_suggestion: PostgresDatabase, projection: Projection, then: list[JournalEvent], status: str
) -> None:
    asked = cancel_requested()
    both = (asked, msgspec.structs.replace(asked, client_order_id=OTHER_ID))
    for name in ("sugg-2", "sugg-3"):
        with with_suggestion.connect("owner") as connection:
            connection.execute(SUGGESTION.replace("sugg-1", name), (TRACE_ID,))
    await project(projection, approval(), other(approval()), change("cancel", *both), *then)
    found = rows(with_suggestion, "SELECT kind, status, client_order_id, cancels FROM suggestions WHERE id = 'sugg-2'")
    assert found == [("cancel", status, None, [ORDER_ID, OTHER_ID])]


def killed() -> KillSwitchChanged:
    return KillSwitchChanged(
        ts_ns=START_NS + 9,
        state="HALTED",
        requested_by="approval:sugg-1",
        reason="a test",
        authority=SafetyAuthority("approval:sugg-1"),
    )


def revoked() -> MandateRevoked:
    return MandateRevoked(ts_ns=START_NS + 9, mandate_id="man-1", requested_by="approval:sugg-1", reason="a test")


def tightened() -> MandateTightened:
    return MandateTightened(
        ts_ns=START_NS + 9,
        mandate_id="man-1",
        max_order_notional_quote="1",
        max_position_notional_quote="2",
        max_total_notional_quote="3",
        max_open_orders="4",
        requested_by="approval:sugg-1",
        reason="a test",
    )


@pytest.mark.parametrize(
    ("kind", "caused", "action"),
    [
        ("kill-switch", killed(), Action.KILL_SWITCH_CHANGED),
        ("strategy-change", revoked(), Action.MANDATE_REVOKED),
        ("strategy-change", tightened(), Action.MANDATE_TIGHTENED),
    ],
)
async def test_what_is_so_at_once_is_executed_at_once(
    with_suggestion: PostgresDatabase, projection: Projection, kind: str, caused: CausedEvent, action: Action
) -> None:
    await project(projection, change(kind, caused, suggestion_id="sugg-1"))
    assert rows(with_suggestion, "SELECT kind, status, client_order_id FROM suggestions") == [
        (kind.replace("-", "_"), "executed", None)
    ]
    record = trail(with_suggestion)[-1]
    assert (record.action, record.suggestion_id, record.account_id) == (action, "sugg-1", "acct-demo")
    assert record.payload["authority"]["id"] == "approval:sugg-1"


MISSING = Refusal(ReasonCode.ORDER_UNKNOWN, "no")


@pytest.mark.parametrize(
    ("kind", "refusal", "status", "code"),
    [
        ("cancel", MISSING, "failed", "ORDER_UNKNOWN"),
        # As earlier releases have it in their journals.
        ("cancel", None, "failed", None),
        ("strategy-change", None, "failed", None),
        ("kill-switch", None, "executed", None),
    ],
)
async def test_a_change_whose_subject_a_disk_undid_has_failed(
    with_suggestion: PostgresDatabase,
    projection: Projection,
    kind: str,
    refusal: Refusal | None,
    status: str,
    code: str | None,
) -> None:
    """Nothing else ever says what became of it. A switch that was so already is no failure."""
    await project(projection, msgspec.structs.replace(change(kind, suggestion_id="sugg-1"), refusal=refusal))
    assert rows(with_suggestion, "SELECT status, refusal_code FROM suggestions") == [(status, code)]
    assert rows(with_suggestion, "SELECT suggestion_id FROM consumed_approvals") == [("sugg-1",)]


async def test_a_mandate_in_sql_is_tightened_too(with_suggestion: PostgresDatabase, projection: Projection) -> None:
    installed = MandateInstalled(
        ts_ns=START_NS + 1, mandate=STRATEGY_MANDATE, digest_hex="44" * 32, signatures=(SIGNED,)
    )
    change_to = msgspec.structs.replace(tightened(), mandate_id=STRATEGY_MANDATE.mandate_id)
    await project(projection, installed, change("strategy-change", change_to, suggestion_id="sugg-1"))
    found = rows(
        with_suggestion,
        "SELECT mandate->>'max_order_notional_quote', mandate->>'max_open_orders', mandate->>'strategy_id' "
        "FROM mandates",
    )
    assert found == [("1", "4", STRATEGY_MANDATE.strategy_id)]
