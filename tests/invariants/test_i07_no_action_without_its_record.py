"""I7: what can't be recorded doesn't happen; safety commands go ahead and are recorded when that is possible again."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.authority.proposal import parse_proposal
from core.config import Settings
from core.runtime import engine as engine_module
from core.storage.journal_files import JournalFile
from core.types.codes import ReasonCode, RefusalError
from core.types.events import KillSwitchChanged, OrderAccepted, OrderClosed, OrderFilled
from core.venues.paper.server import PaperVenue
from tests.api.gateway_support import open_gateway
from tests.core.approvals import approve
from tests.core.engine_support import RunningEngine
from tests.core.storage.faults import BreakableFolder, Disk
from tests.invariants.support import orders_at
from tests.postgres import PostgresDatabase
from tests.tools.people import APPROVER


@contextmanager
def unwritable_audit(postgres: PostgresDatabase) -> Iterator[None]:
    """PostgreSQL lives, only the audit trail takes nothing."""
    with postgres.connect("owner") as connection:
        connection.execute("ALTER TABLE audit.inbox RENAME TO inbox_away")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE audit.inbox_away RENAME TO inbox")


def count(postgres: PostgresDatabase, table: str) -> int:
    with postgres.connect("owner") as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


async def test_without_the_audit_trail_no_result_leaves_nothing_is_suggested_and_nothing_approved(
    engine: RunningEngine, settings: Settings, venue: PaperVenue, postgres: PostgresDatabase, tmp_path: Path
) -> None:
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "price_anchor": "ask", "offset_bps": "10"}
    async with open_gateway(engine, postgres, tmp_path / "sql") as service:
        made = await service.ask("suggest_order", **order)
        suggestion = await service.approvals.view(APPROVER, made.data["suggestion_id"])
        _, digest, [(key_id, signature)] = approve(parse_proposal(suggestion.proposal))
        signed = (APPROVER, suggestion.suggestion_id, 1, digest, key_id, signature)
        tables = ("tool_results", "suggestions")
        before = [count(postgres, table) for table in tables]

        with unwritable_audit(postgres):
            for tool, arguments in (("get_ticker", {"symbol": "BTCUSDT"}), ("suggest_order", order)):
                result = await service.ask(tool, **arguments)
                assert result.refusal is not None
                assert result.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
                assert result.data == {}
            with pytest.raises(RefusalError) as caught:
                await service.approvals.approve(*signed)
            assert caught.value.refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
        assert [count(postgres, table) for table in tables] == before
        assert await orders_at(venue, settings) == []

        assert (await service.approvals.approve(*signed)).refusal is None, "the approval wasn't used up"
        await engine.event(lambda event: isinstance(event, OrderFilled))


async def test_without_its_journal_the_engine_sends_nothing_and_kills_all_the_same(
    settings: Settings, venue: PaperVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(engine_module, "PosixFolder", lambda folder: BreakableFolder(folder, disk))

    def full(_file: JournalFile, _data: bytes) -> None:
        disk.append = full
        raise OSError(errno.ENOSPC, "No space left on device")

    engine = RunningEngine(settings)
    await engine.start()
    try:
        ticker = await engine.client.ticker("BTCUSDT")
        resting = await engine.execute(await engine.propose(price=str(int(ticker.bid_price * 97 / 100))))
        await engine.event(lambda event: isinstance(event, OrderAccepted))
        disk.append = full
        refused = await engine.execute(await engine.propose())
        assert refused.refusal is not None
        assert refused.refusal.code is ReasonCode.SERVICE_JOURNAL_UNAVAILABLE

        assert (await engine.client.set_kill_switch("HALTED", "user-trader", "disk")).kill_switch == "HALTED"
        while (await orders_at(venue, settings))[0]["status"] != "CANCELED":
            pass
        [only] = await orders_at(venue, settings)
        assert only["clientOrderId"] == resting.client_order_id

        disk.append = None
        recorded = await engine.event(lambda event: isinstance(event, KillSwitchChanged))
        assert (recorded.state, recorded.reason) == ("HALTED", "disk")
        await engine.event(lambda event: isinstance(event, OrderClosed))
    finally:
        await engine.close()
