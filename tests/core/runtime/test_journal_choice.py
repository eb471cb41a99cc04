"""Which journal an engine starts on: the one of the settings, and never another one than its folder holds."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from core.config import ConfigurationError, Settings
from core.runtime.engine import main
from core.types.events import OrderFilled
from core.types.orders import OrderStatus
from tests.core.engine_support import RunningEngine


def on(settings: Settings, backend: str, archive: str = "") -> Settings:
    journal = settings.journal.model_copy(update={"backend": backend, "archive": archive})
    return settings.model_copy(update={"journal": journal})


async def refused(settings: Settings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await main(settings, asyncio.Event(), lambda: None)
    return str(caught.value)


async def test_an_engine_on_rocksdb_keeps_what_it_did_over_a_restart(settings: Settings) -> None:
    settings = on(settings, "rocksdb")
    first = RunningEngine(settings)
    await first.start()
    what = await first.propose()
    outcome = await first.execute(what)
    await first.event(lambda event: isinstance(event, OrderFilled) and event.status is OrderStatus.FILLED)
    assert outcome.client_order_id is not None
    explained = await first.client.explain_risk(outcome.client_order_id)
    await first.close()
    assert not list(settings.paths.journal.glob("*.journal"))

    second = RunningEngine(settings)
    await second.start()
    try:
        assert await second.position() == Decimal("0.01")
        again = await second.execute(what)
        assert again.refusal is not None
        assert again.refusal.code == "APPROVAL_ALREADY_CONSUMED"
        assert (await second.client.explain_risk(outcome.client_order_id)).checks == explained.checks
        view = await second.client.journal()
        assert (view.segments, view.archive) == ((), None)
        status = await second.client.status()
        assert (status.epoch, status.journal_first_sequence, view.sequence) == (2, 1, status.journal_sequence)
    finally:
        await second.close()


@pytest.mark.parametrize(("before", "after"), [("segments", "rocksdb"), ("rocksdb", "segments")])
async def test_an_engine_doesnt_start_on_the_other_backends_folder(settings: Settings, before: str, after: str) -> None:
    engine = RunningEngine(on(settings, before))
    await engine.start()
    await engine.close()
    told = await refused(on(settings, after))
    assert str(settings.paths.journal) in told
    assert f"journal.backend '{before}' lies there" in told
    assert "Set it back" in told
    # Nothing was changed: the one that wrote it goes on.
    again = RunningEngine(on(settings, before))
    await again.start()
    await again.close()


async def test_rocksdb_without_its_package_doesnt_start_and_names_the_extra(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    told = await refused(on(settings, "rocksdb"))
    assert told.startswith("journal.backend: ")
    assert "veloz[rocksdb]" in told


async def test_rocksdb_cant_be_archived(settings: Settings, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    told = await refused(on(settings, "rocksdb", str(archive)))
    assert told.startswith("journal.archive: ")
