"""All that the kernel holds, in SQL: survives faults between any two statements, and can be made again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.ext.asyncio import AsyncEngine

from api.ledger.projection import JournalGapError, Projection, ProjectionBusyError
from api.ledger.rebuild import TABLES, RebuildBusyError, rebuild
from core.text.redaction import Redactor
from tests.api.ledger.journal import ENGINE_ID, MemoryJournal
from tests.api.ledger.trading import ENTRY, GRID, MAKER, STOP, TAKE_PROFIT, whole_day
from tests.postgres import PostgresDatabase


class KilledError(Exception):
    """The ledger's process is gone between two statements."""


@pytest.fixture
async def journal() -> MemoryJournal:
    journal = MemoryJournal()
    await journal.append(*whole_day())
    return journal


@pytest.fixture
async def projection(ledger_engine: AsyncEngine, scope_key: bytes) -> Projection:
    return Projection(ledger_engine, ENGINE_ID, Redactor(scope_key))


def rows(database: PostgresDatabase, query: Any) -> list[Any]:
    with database.connect("ledger") as connection:
        return connection.execute(query).fetchall()


def contents(database: PostgresDatabase) -> dict[str, list[Any]]:
    """Every projection's rows, the cursors, and the audit trail's record ids and leaves."""
    found = {table: rows(database, f"SELECT t::text FROM {table} t ORDER BY 1") for table in TABLES}
    found["cursors"] = rows(database, "SELECT * FROM projection_cursors")
    found["inbox"] = rows(database, "SELECT record_id, leaf_hash FROM audit.inbox ORDER BY record_id")
    return found


async def project_all(projection: Projection, journal: MemoryJournal) -> None:
    for entry in journal.entries:
        await projection.project(entry)


async def test_every_term_of_an_order_and_its_authority_can_be_read(
    database: PostgresDatabase, projection: Projection, journal: MemoryJournal
) -> None:
    await project_all(projection, journal)
    found = rows(
        database,
        "SELECT client_order_id, status, authority, authority_id, role, parent_id, group_id, quantity, price "
        "FROM orders",
    )
    orders = {row[0]: row[1:] for row in found}
    half, price = Decimal("0.5"), Decimal(64_000)
    assert orders[ENTRY] == ("PARTIALLY_FILLED", "session", "session-1", "entry", None, None, half, price)
    child = ("derived", ENTRY)
    assert orders[TAKE_PROFIT] == ("CANCELED", *child, "take_profit", ENTRY, "group-1", half, Decimal(66_000))
    assert orders[STOP] == ("REJECTED", *child, "stop", ENTRY, "group-1", Decimal("0.2"), None)
    assert orders[GRID][:3] == ("PARTIALLY_FILLED", "mandate", "mandate-1")
    assert orders[GRID][-2:] == (Decimal("0.4"), Decimal("63999.5"))
    assert orders[MAKER][:3] == ("PARTIALLY_FILLED", "external", "reconciliation")
    [stop] = rows(
        database,
        f"SELECT trailing_offset_bps, extreme_price, trigger_price, checks->0->>'name' FROM orders "
        f"WHERE client_order_id = '{STOP}'",
    )
    assert stop == (50, Decimal(64_500), Decimal("64177.5"), "RISK_SELF_TRADE")
    [grid] = rows(database, f"SELECT amendment, detail FROM orders WHERE client_order_id = '{GRID}'")
    assert grid == (None, "amendment refused: RISK_ORDER_RATE_EXCEEDED")


async def test_both_sides_of_a_self_trade_are_fills(
    database: PostgresDatabase, projection: Projection, journal: MemoryJournal
) -> None:
    await project_all(projection, journal)
    assert rows(database, "SELECT client_order_id FROM fills WHERE trade_id = 2 ORDER BY 1") == [(GRID,), (MAKER,)]
    by_strategy = rows(database, "SELECT strategy_id, quantity FROM strategy_positions ORDER BY 1")
    assert by_strategy == [("", Decimal("0.1")), ("grid-1", Decimal("0.15"))]
    assert rows(database, "SELECT quantity FROM positions") == [(sum(quantity for _, quantity in by_strategy),)]


async def test_what_the_engine_holds_besides_orders_can_be_read(
    database: PostgresDatabase, projection: Projection, journal: MemoryJournal
) -> None:
    await project_all(projection, journal)
    assert rows(database, "SELECT asset, total FROM balances ORDER BY 1") == [("BTC", 0), ("USDT", Decimal(900))]
    assert rows(database, "SELECT orders, notional_quote, closed_by FROM trading_sessions") == [
        (1, Decimal(32_000), "user-trader")
    ]
    assert rows(database, "SELECT orders, revoked_by FROM mandates") == [(1, "user-admin")]
    assert rows(database, "SELECT version, authority, rolled_back_to FROM risk_rules ORDER BY 1") == [
        (1, "start", None),
        (2, "start", None),
        (3, "administration", 1),
    ]
    assert rows(database, "SELECT account_id, state, authority FROM kill_switch_changes ORDER BY sequence") == [
        ("acct-demo", "REDUCE_ONLY", "safety"),
        ("acct-demo", "NORMAL", "administration"),
        ("", "HALTED", "safety"),
    ]
    assert rows(database, "SELECT frozen FROM freeze_changes ORDER BY sequence") == [(True,), (False,)]
    assert rows(database, "SELECT differences->0->>'action' FROM reconciliations") == [("adopt",)]
    assert rows(database, "SELECT suggestion_id, client_order_id IS NULL FROM consumed_approvals ORDER BY 1") == [
        ("sugg-1", False),
        ("sugg-2", True),
    ]
    assert rows(database, "SELECT code FROM order_refusals") == [("RISK_ORDER_RATE_EXCEEDED",)]
    assert rows(database, "SELECT amount FROM funding") == [(Decimal("-0.25"),)]
    assert rows(database, "SELECT day_start_equity, equity FROM equity") == [(1_000, 950)]


async def test_decisions_are_in_the_audit_trail_with_their_authority(
    database: PostgresDatabase, projection: Projection, journal: MemoryJournal
) -> None:
    await project_all(projection, journal)
    found = rows(
        database,
        "SELECT action, convert_from(record, 'UTF8')::jsonb #>> '{payload,authority,kind}' FROM audit.inbox",
    )
    kinds: dict[str, set[str | None]] = {}
    for action, kind in found:
        kinds.setdefault(action, set()).add(kind)
    assert kinds["order.intended"] == kinds["risk.decided"] == {"approval", "session", "derived", "mandate"}
    assert kinds["order.refused"] == {"session"}
    assert kinds["order.amend_requested"] == {"mandate"}
    assert kinds["order.adopted"] == {"external"}
    assert kinds["order.cancel_requested"] == {"safety"}
    assert kinds["engine.kill_switch_changed"] == {"safety", "administration"}
    assert kinds["engine.risk_rules_installed"] == {"start", "administration"}
    assert kinds["authority.mandate_revoked"] == {"administration"}
    assert {"order.triggered", "order.amended", "order.amend_refused", "engine.freeze_changed", "engine.reconciled"} | {
        "authority.session_opened",
        "authority.session_closed",
        "authority.mandate_installed",
    } <= kinds.keys()


async def test_a_kill_between_any_two_statements_loses_and_repeats_nothing(
    database: PostgresDatabase, ledger_engine: AsyncEngine, projection: Projection, journal: MemoryJournal
) -> None:
    statements_allowed, executed = 0, 0

    def before_statement(*_: object) -> None:
        nonlocal executed
        executed += 1
        if executed > statements_allowed:
            raise KilledError

    # Each attempt gets one statement further than the last before it is killed, until an entry is through.
    sqlalchemy_event.listen(ledger_engine.sync_engine, "before_cursor_execute", before_statement)
    kills = 0
    for entry in journal.entries:
        statements_allowed = 0
        while True:
            executed = 0
            try:
                applied = await projection.project(entry)
            except KilledError:
                kills += 1
                statements_allowed += 1
                continue
            break
        assert applied
    sqlalchemy_event.remove(ledger_engine.sync_engine, "before_cursor_execute", before_statement)
    assert kills > 3 * len(journal.entries)
    after_kills = contents(database)
    await project_all(projection, journal)
    assert contents(database) == after_kills
    result = await rebuild(ledger_engine, journal, ENGINE_ID, journal.head, lambda *_: None)
    assert result.is_equal, result
    assert contents(database) == after_kills


async def test_a_rebuild_finds_and_mends_what_was_changed(
    database: PostgresDatabase, ledger_engine: AsyncEngine, projection: Projection, journal: MemoryJournal
) -> None:
    await project_all(projection, journal)
    true = contents(database)
    with database.connect("owner") as connection:
        connection.execute("UPDATE positions SET quantity = 99")
        connection.execute("DELETE FROM fills WHERE trade_id = 1")
    wrong = contents(database)
    progress: list[tuple[int, int]] = []
    count = len(journal.entries)

    checked = await rebuild(ledger_engine, journal, ENGINE_ID, journal.head, lambda *_: None, keep=False)
    assert not checked.is_equal
    assert contents(database) == wrong

    result = await rebuild(ledger_engine, journal, ENGINE_ID, journal.head, lambda *done: progress.append(done))
    different = {table.table: (table.only_before, table.only_after) for table in result.tables if not table.is_equal}
    assert different == {"positions": (1, 1), "fills": (0, 1)}
    assert progress[-1] == (count, count)
    assert contents(database) == true


async def test_while_a_rebuild_holds_the_cursor_nothing_else_projects(
    ledger_engine: AsyncEngine, projection: Projection, journal: MemoryJournal
) -> None:
    *before, last = journal.entries
    for entry in before:
        await projection.project(entry)

    async def head() -> int:
        return len(before)

    tried: list[type[BaseException]] = []
    others: list[Callable[[], Awaitable[object]]] = [
        lambda: projection.project(last),
        lambda: rebuild(ledger_engine, journal, ENGINE_ID, head, lambda *_: None),
    ]

    class Interrupted:
        """The journal, in whose middle another ledger and another rebuild try their luck."""

        async def stream_journal(self, after_sequence: int) -> Any:
            for other in others:
                try:
                    await other()
                except (ProjectionBusyError, RebuildBusyError) as error:
                    tried.append(type(error))
            for entry in before:
                yield entry

    result = await rebuild(ledger_engine, Interrupted(), ENGINE_ID, head, lambda *_: None)
    assert tried == [ProjectionBusyError, RebuildBusyError]
    assert result.is_equal
    assert await projection.project(last)


@pytest.mark.parametrize("keep", [True, False])
async def test_what_the_journal_and_the_ledger_gain_until_the_cursor_is_held_is_no_difference(
    database: PostgresDatabase, ledger_engine: AsyncEngine, projection: Projection, journal: MemoryJournal, keep: bool
) -> None:
    *before, last = journal.entries
    for entry in before:
        await projection.project(entry)

    class Late:
        """An engine whose last entry is projected when the rebuild begins to look."""

        def __init__(self) -> None:
            self.was_projected: list[bool | type[BaseException]] = []

        async def head(self) -> int:
            try:
                self.was_projected.append(await projection.project(last))
            except ProjectionBusyError as error:
                self.was_projected.append(type(error))
            return len(journal.entries)

    late = Late()
    result = await rebuild(ledger_engine, journal, ENGINE_ID, late.head, lambda *_: None, keep=keep)
    assert late.was_projected == [ProjectionBusyError]
    assert (result.compared_at, result.sequence, result.is_equal) == (len(before), len(journal.entries), True)
    # What the rebuild didn't reach still comes with its audit records.
    assert await projection.project(last)
    recorded = rows(database, f"SELECT count(*) FROM audit.inbox WHERE record_id LIKE '{ENGINE_ID}:{last.sequence}:%'")
    assert recorded[0][0] > 0


async def test_a_journal_that_ends_before_the_projections_do_changes_nothing(
    database: PostgresDatabase, ledger_engine: AsyncEngine, projection: Projection, journal: MemoryJournal
) -> None:
    await project_all(projection, journal)
    true = contents(database)
    journal.entries.pop()
    with pytest.raises(JournalGapError, match=f"ends at {len(journal.entries)}, but {len(journal.entries) + 1}"):
        await rebuild(ledger_engine, journal, ENGINE_ID, journal.head, lambda *_: None)
    assert contents(database) == true


async def test_the_api_sees_only_what_belongs_to_its_accounts(
    database: PostgresDatabase, projection: Projection, journal: MemoryJournal
) -> None:
    await project_all(projection, journal)
    with database.connect("api") as connection:
        for scope, sees in (("", False), ("acct-other", False), ("acct-demo", True)):
            connection.execute("SELECT set_config('veloz.account_ids', %s, false)", (scope,))
            for table in set(TABLES) - {"risk_rules", "kill_switch_changes"}:
                [(count,)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
                assert (count > 0) is sees, (table, scope)
        connection.execute("SELECT set_config('veloz.account_ids', 'acct-other', false)")
        assert connection.execute("SELECT account_id FROM kill_switch_changes").fetchall() == [("",)]
