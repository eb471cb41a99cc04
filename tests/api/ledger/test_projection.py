"""The journal's shadow in SQL: what each entry leaves behind, once, and in the audit trail's words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.ledger.projection import JournalGapError, Projection
from audit.record import AuditRecord, leaf_hash, parse_record
from core.text.redaction import Redactor
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalVoided,
    CancelRequested,
    JournalEntry,
    JournalEvent,
    KillSwitchChanged,
    OrderAccepted,
    OrderAmended,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    RiskLimits,
    RiskLimitsInstalled,
    Roster,
    RosterInstalled,
)
from core.types.orders import OrderStatus
from tests.api.ledger.journal import (
    ENGINE_ID,
    NOTIONAL_CHECK,
    ORDER_ID,
    START_NS,
    TRACE_ID,
    MemoryJournal,
    approval,
    fill,
    started,
)
from tests.postgres import PostgresDatabase

REJECTION = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no")


async def entries_of(*events: JournalEvent) -> list[JournalEntry]:
    journal = MemoryJournal()
    await journal.append(*events)
    return journal.entries


async def project(projection: Projection, *events: JournalEvent) -> None:
    for entry in await entries_of(*events):
        assert await projection.project(entry)


def rows(database: PostgresDatabase, query: Any) -> list[Any]:
    with database.connect("ledger") as connection:
        return connection.execute(query).fetchall()


def trail(database: PostgresDatabase) -> list[AuditRecord]:
    found = rows(database, "SELECT record, leaf_hash FROM audit.inbox ORDER BY arrival")
    assert all(leaf_hash(record) == leaf for record, leaf in found)
    return [parse_record(record) for record, _ in found]


def accepted() -> OrderAccepted:
    return OrderAccepted(ts_ns=START_NS + 2, client_order_id=ORDER_ID, venue_order_id="9001")


def unknown() -> OrderBecameUnknown:
    return OrderBecameUnknown(ts_ns=START_NS + 2, client_order_id=ORDER_ID, detail="timed out")


def rejected() -> OrderRejected:
    return OrderRejected(ts_ns=START_NS + 2, client_order_id=ORDER_ID, refusal=REJECTION)


def closed(status: OrderStatus = OrderStatus.CANCELED) -> OrderClosed:
    return OrderClosed(ts_ns=START_NS + 50, client_order_id=ORDER_ID, status=status, reason="asked")


FILLED, PARTIAL = OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED


@pytest.mark.parametrize(
    ("events", "order_status", "suggestion_status"),
    [
        ([approval()], "INTENDED", "consumed"),
        ([approval(), accepted()], "ACCEPTED", "consumed"),
        ([approval(), rejected()], "REJECTED", "failed"),
        ([approval(), unknown()], "UNKNOWN", "needs_review"),
        ([approval(), unknown(), accepted()], "ACCEPTED", "consumed"),
        ([approval(), unknown(), fill(1, 20_000, PARTIAL)], "PARTIALLY_FILLED", "consumed"),
        ([approval(), unknown(), rejected()], "REJECTED", "failed"),
        ([approval(), accepted(), fill(1, 20_000, PARTIAL)], "PARTIALLY_FILLED", "consumed"),
        ([approval(), accepted(), fill(1, 50_000, FILLED)], "FILLED", "executed"),
        ([approval(), fill(1, 50_000, FILLED), accepted()], "FILLED", "executed"),
        ([approval(), accepted(), closed()], "CANCELED", "failed"),
        ([approval(), accepted(), fill(1, 20_000, PARTIAL), closed()], "CANCELED", "executed"),
    ],
)
async def test_the_order_and_its_suggestion_follow_the_journal(
    with_suggestion: PostgresDatabase,
    projection: Projection,
    events: list[JournalEvent],
    order_status: str,
    suggestion_status: str,
) -> None:
    await project(projection, *events)
    assert rows(with_suggestion, "SELECT status FROM orders") == [(order_status,)]
    assert rows(with_suggestion, "SELECT status, client_order_id FROM suggestions") == [(suggestion_status, ORDER_ID)]


@pytest.mark.parametrize(
    ("version", "before", "after"),
    [
        (1, "pending", "superseded"),
        (2, "pending", "superseded"),  # an api that went away between the engine's answer and its own row
        (1, "rejected", "rejected"),
        (1, "approved", "approved"),
    ],
)
async def test_what_was_made_void_waits_for_nobody_any_more_and_is_recorded(
    with_suggestion: PostgresDatabase, projection: Projection, version: int, before: str, after: str
) -> None:
    with with_suggestion.connect("owner") as connection:
        connection.execute("UPDATE suggestions SET status = %s", [before])
        connection.execute(
            "INSERT INTO suggestions (id, version, account_id, asker_id, run_id, trace_id, status, proposal, digest, "
            "pre_trade, expires_at) SELECT id, version + %s, account_id, asker_id, run_id, trace_id, 'pending', "
            "proposal, digest, pre_trade, expires_at FROM suggestions",
            [version],
        )
    voided = ApprovalVoided(
        ts_ns=START_NS,
        suggestion_id="sugg-1",
        version=version,
        account_id="acct-demo",
        requested_by="user-trader",
        reason="edited",
        remembered_until_ns=START_NS + 1,
    )
    await project(projection, voided)
    statuses = dict(rows(with_suggestion, "SELECT version, status FROM suggestions"))
    assert statuses == {1: after, 1 + version: "pending"}
    [record] = trail(with_suggestion)
    assert (record.action, record.suggestion_id, record.on_behalf_of) == (
        "authority.approval_voided",
        "sugg-1",
        "user-trader",
    )


@pytest.mark.parametrize(("quantity", "order_status"), [(20_000, "FILLED"), (30_000, "PARTIALLY_FILLED")])
async def test_an_order_amended_to_what_it_has_filled_is_filled(
    with_suggestion: PostgresDatabase, projection: Projection, quantity: int, order_status: str
) -> None:
    amended = OrderAmended(ts_ns=START_NS + 9, client_order_id=ORDER_ID, quantity=quantity, price=None)
    await project(projection, approval(), accepted(), fill(1, 20_000, PARTIAL), amended)
    assert rows(with_suggestion, "SELECT status, quantity FROM orders") == [(order_status, Decimal(quantity) / 100_000)]


async def test_a_refusal_at_send_fails_the_suggestion_with_its_code(
    with_suggestion: PostgresDatabase, projection: Projection
) -> None:
    await project(projection, approval(refused=True))
    assert rows(with_suggestion, "SELECT count(*) FROM orders") == [(0,)]
    [row] = rows(with_suggestion, "SELECT status, refusal_code, client_order_id FROM suggestions")
    assert row == ("failed", NOTIONAL_CHECK, None)
    [record] = trail(with_suggestion)
    assert record.action == "risk.decided"
    assert record.outcome == NOTIONAL_CHECK
    assert record.payload["checks"] == [
        {
            "name": NOTIONAL_CHECK,
            "passed": False,
            "limit": "20000",
            "actual": "32000",
            "unit": "quote",
            "source": None,
        }
    ]


async def test_numbers_are_exact_decimals(with_suggestion: PostgresDatabase, projection: Projection) -> None:
    first = fill(1, 20_000, PARTIAL, position=20_000)
    second = fill(2, 30_000, FILLED, position=50_000)
    await project(projection, approval(), accepted(), first, second)
    [order] = rows(
        with_suggestion, "SELECT quantity, price, filled_quantity, filled_notional, venue_order_id FROM orders"
    )
    assert order == (Decimal("0.5"), Decimal("64000"), Decimal("0.5"), Decimal("31999.75"), "9001")
    fills = rows(with_suggestion, "SELECT trade_id, price, quantity, fee, fee_asset FROM fills ORDER BY trade_id")
    assert fills == [
        (1, Decimal("63999.50"), Decimal("0.2"), Decimal("0.00001"), "BTC"),
        (2, Decimal("63999.50"), Decimal("0.3"), Decimal("0.00001"), "BTC"),
    ]
    [position] = rows(with_suggestion, "SELECT quantity, average_price, realised_pnl, fees FROM positions")
    assert position == (Decimal("0.5"), Decimal("63999.5"), Decimal("-0.1234567"), Decimal("0.64"))


async def test_the_trail_of_an_order_carries_what_it_belongs_to(
    with_suggestion: PostgresDatabase, projection: Projection
) -> None:
    await project(projection, approval(), accepted(), fill(1, 50_000, FILLED))
    records = trail(with_suggestion)
    assert [record.action.value for record in records] == [
        "risk.decided",
        "order.intended",
        "order.accepted",
        "order.filled",
    ]
    for record in records:
        belongs = (record.trace_id, record.account_id, record.run_id, record.suggestion_id)
        assert belongs == (TRACE_ID, "acct-demo", "run-1", "sugg-1")
        assert record.actor == "engine:engine-1"
        assert record.clock_source == "engine:engine-1"
    risk, intended, _, filled = records
    assert risk.on_behalf_of == "user-trader"
    assert risk.payload["approvals"][0]["user_id"] == "user-approver"
    assert risk.payload["market"]["mid_price"] == "64000"
    assert risk.payload["digest_hex"] == "ab" * 32
    assert intended.payload["intent"]["quantity"] == "0.5"
    assert filled.payload["price"] == "63999.5"
    assert filled.payload["journal"]["sequence"] == "3"


async def test_the_engines_own_doings_are_recorded(database: PostgresDatabase, projection: Projection) -> None:
    limits = RiskLimits("50000", 500, 50, 2_000)
    await project(
        projection,
        started(),
        RosterInstalled(ts_ns=START_NS, roster=Roster(1, (), "100000"), signature_hex="ee" * 64),
        RiskLimitsInstalled(ts_ns=START_NS, version=3, digest_hex="aa" * 32, limits=limits),
        KillSwitchChanged(ts_ns=START_NS, state="ACTIVE", requested_by="user-trader", reason="fat finger"),
        CancelRequested(ts_ns=START_NS, client_order_id=ORDER_ID, requested_by="user-trader"),
    )
    records = trail(database)
    assert [record.action.value for record in records] == [
        "engine.started",
        "engine.roster_installed",
        "engine.risk_limits_installed",
        "engine.kill_switch_changed",
        "order.cancel_requested",
    ]
    assert records[2].payload["limits"]["max_notional_per_order_quote"] == "50000"
    assert records[3].on_behalf_of == "user-trader"
    assert len({record.trace_id for record in records}) == 5


async def test_an_entry_is_applied_once(with_suggestion: PostgresDatabase, projection: Projection) -> None:
    entries = await entries_of(approval(), accepted(), fill(1, 20_000, PARTIAL))
    for entry in entries:
        assert await projection.project(entry)
    before = trail(with_suggestion)
    for entry in entries:
        assert not await projection.project(entry)
    assert rows(with_suggestion, "SELECT filled_quantity FROM orders") == [(Decimal("0.2"),)]
    assert trail(with_suggestion) == before


async def test_rebuilding_from_the_first_entry_repeats_nothing(
    with_suggestion: PostgresDatabase, projection: Projection
) -> None:
    events: list[JournalEvent] = [approval(), accepted(), fill(1, 20_000, PARTIAL), fill(2, 30_000, FILLED)]
    await project(projection, *events)
    before = trail(with_suggestion)
    with with_suggestion.connect("owner") as connection:
        connection.execute("UPDATE projection_cursors SET sequence = 0")
    await project(projection, *events)
    assert rows(with_suggestion, "SELECT filled_quantity, status FROM orders") == [(Decimal("0.5"), "FILLED")]
    assert rows(with_suggestion, "SELECT count(*) FROM fills") == [(2,)]
    assert trail(with_suggestion) == before


async def test_a_gap_is_refused_and_leaves_the_cursor(database: PostgresDatabase, projection: Projection) -> None:
    entries = await entries_of(started(), started(), started())
    await projection.project(entries[0])
    with pytest.raises(JournalGapError):
        await projection.project(entries[2])
    with pytest.raises(JournalGapError):
        await projection.project(msgspec.structs.replace(entries[1], engine_id="engine-2"))
    assert await projection.cursor() == 1


async def test_effects_records_and_cursor_stand_or_fall_together(
    with_suggestion: PostgresDatabase, projection: Projection
) -> None:
    [entry] = await entries_of(approval())
    with with_suggestion.connect("owner") as connection:
        connection.execute("ALTER TABLE suggestions ADD CONSTRAINT broken CHECK (status <> 'consumed')")
        with pytest.raises(Exception, match="broken"):
            await projection.project(entry)
        assert rows(with_suggestion, "SELECT count(*) FROM orders") == [(0,)]
        assert trail(with_suggestion) == []
        assert await projection.cursor() == 0
        connection.execute("ALTER TABLE suggestions DROP CONSTRAINT broken")
    assert await projection.project(entry)
    assert await projection.cursor() == 1


async def test_a_closed_position_gets_its_review_in_the_same_transaction(
    with_suggestion: PostgresDatabase, ledger_engine: AsyncEngine, scope_key: bytes
) -> None:
    seen: list[str] = []

    async def store(connection: AsyncConnection, entry: JournalEntry, event: OrderFilled) -> str | None:
        assert event.closed is not None
        seen.append(event.closed.position_id)
        assert await connection.scalar(text("SELECT count(*) FROM fills")) == 1
        return "review-1"

    projection = Projection(ledger_engine, ENGINE_ID, Redactor(scope_key), store)
    await project(projection, approval(), fill(1, 50_000, FILLED, closed=True))
    assert seen == ["01KAX8F0000000000000000POS"]
    last = trail(with_suggestion)[-1]
    assert (last.action.value, last.resource, last.suggestion_id) == (
        "knowledge.review_stored",
        "review:review-1",
        "sugg-1",
    )


async def test_a_review_that_fails_does_not_hold_the_order_back(
    with_suggestion: PostgresDatabase, ledger_engine: AsyncEngine, scope_key: bytes
) -> None:
    async def store(connection: AsyncConnection, entry: JournalEntry, event: OrderFilled) -> str | None:
        await connection.execute(text("INSERT INTO reviews (id) VALUES ('half')"))
        return None

    projection = Projection(ledger_engine, ENGINE_ID, Redactor(scope_key), store)
    await project(projection, approval(), fill(1, 50_000, FILLED, closed=True))
    assert rows(with_suggestion, "SELECT status FROM orders") == [("FILLED",)]
    assert [record.action.value for record in trail(with_suggestion)][-1] == "order.filled"
