"""Closed segments are archived; the oldest go when everything in them is held elsewhere, and not before."""

from __future__ import annotations

import errno

import pytest

from core.config import ConfigurationError, Settings
from core.runtime.journal_keeper import JournalKeeper
from core.storage.journal import Journal, JournalDroppedError, JournalReader
from core.storage.snapshots import write_snapshot
from core.types.codes import ReasonCode, RefusalError
from core.types.events import JournalEntry
from core.types.views import LedgerProgress
from tests.core.engine_support import RunningEngine
from tests.core.storage.faults import MemoryDisk

ENGINE = "engine-1"
RECORDS = 10
FULL = OSError(errno.ENOSPC, "No space left on device")
ALL = LedgerProgress(RECORDS, RECORDS)


class Snapshots:
    """SnapshotKeeper as the journal's keeper uses it."""

    def __init__(self, disk: MemoryDisk, journal: Journal, *, can: bool = True) -> None:
        self.last_sequence = 0
        self._disk = disk
        self._journal = journal
        self._can = can

    async def take(self) -> bool:
        if self._can:
            write_snapshot(self._disk.folder(), ENGINE, self._journal.epoch, self._journal.head, "d1" * 32, b"state")
            self.last_sequence = self._journal.sequence
        return self._can


class Kept:
    """A journal of ten records in some segments, and its keeper."""

    def __init__(self, *, keep_bytes: int = 0, has_archive: bool = True, can_snapshot: bool = True) -> None:
        self.disk = MemoryDisk()
        self.journal = self._open()
        self.entries: list[JournalEntry] = []
        for number in range(RECORDS):
            self.entries += self.journal.begin([b'{"number": %d, "padding": "%s"}' % (number, b"x" * 60)]).result()
        self.closed = [segment.name for segment in self.journal.segments()[:-1]]
        assert len(self.closed) > 3
        self._keep_bytes, self._has_archive, self._can_snapshot = keep_bytes, has_archive, can_snapshot
        self.keeper = self._keeper()

    @property
    def archived(self) -> list[str]:
        return self.disk.folder("archive").names()

    @property
    def here(self) -> list[str]:
        return [segment.name for segment in self.journal.segments()]

    def killed(self) -> None:
        """The process dies, and the next one starts."""
        self.disk.on_step = None
        self.disk.kill()
        self.journal = self._open()
        self.keeper = self._keeper()

    def _open(self) -> Journal:
        archive = self.disk.folder("archive")
        return Journal.open(self.disk.folder(), ENGINE, 300, inline=True, allocation_step_bytes=4_096, archive=archive)

    def _keeper(self) -> JournalKeeper:
        snapshots = Snapshots(self.disk, self.journal, can=self._can_snapshot)
        archive = self.disk.folder("archive") if self._has_archive else None
        return JournalKeeper(self.journal, archive, self._keep_bytes, snapshots)  # type: ignore[arg-type]


async def test_everything_closed_is_archived_and_goes_once_the_ledger_has_it() -> None:
    kept = Kept()
    await kept.keeper.keep()
    assert (kept.archived, kept.here[:-1]) == (kept.closed, kept.closed)
    kept.keeper.progress = ALL
    await kept.keeper.keep()
    assert (kept.archived, len(kept.here)) == (kept.closed, 1)
    assert list(kept.journal.entries()) == kept.entries
    view = kept.keeper.view()
    assert [segment.kept_because for segment in view.segments] == ["it is being written"]


@pytest.mark.parametrize(
    ("settings", "progress", "archives", "because"),
    [
        ({"has_archive": False}, ALL, False, "no archive is configured"),
        ({}, None, True, "the ledger hasn't said yet"),
        ({}, LedgerProgress(0, 0), True, "the ledger has projected up to record 0"),
        ({}, LedgerProgress(RECORDS, 0), True, "the ledger has audited up to record 0"),
        ({"keep_bytes": 1_000_000}, ALL, True, "it is among the newest, which stay"),
        ({"can_snapshot": False}, ALL, True, "no sound snapshot covers that"),
    ],
)
async def test_nothing_goes_while_one_condition_lacks(
    settings: dict[str, int | bool], progress: LedgerProgress | None, archives: bool, because: str
) -> None:
    kept = Kept(**settings)  # type: ignore[arg-type]
    kept.keeper.progress = progress
    await kept.keeper.keep()
    assert kept.here[:-1] == kept.closed
    assert kept.archived == (kept.closed if archives else [])
    assert because in kept.keeper.view().segments[0].kept_because


async def test_only_what_the_ledger_is_beyond_goes() -> None:
    kept = Kept()
    first, second, *_ = kept.journal.segments()
    kept.keeper.progress = LedgerProgress(RECORDS, second.last_sequence - 1)
    await kept.keeper.keep()
    assert kept.here[0] == second.name
    assert first.name in kept.archived


async def test_the_newest_stay_as_many_as_are_to_be_kept() -> None:
    sizes = [segment.size_bytes for segment in Kept().journal.segments()]
    kept = Kept(keep_bytes=sum(sizes[2:]))
    kept.keeper.progress = ALL
    await kept.keeper.keep()
    assert kept.here[:-1] == kept.closed[2:]


@pytest.mark.parametrize("fault", ["write_errors", "sync_errors", "names_errors"])
async def test_a_full_archive_is_told_and_tried_again(fault: str) -> None:
    kept = Kept()
    kept.keeper.progress = ALL
    getattr(kept.disk, fault).append(FULL)
    await kept.keeper.keep()
    assert kept.here[:-1] == kept.closed
    problem = kept.keeper.view().problem
    assert problem is not None
    assert "No space left on device" in problem

    await kept.keeper.keep()
    assert (kept.keeper.view().problem, len(kept.here)) == (None, 1)
    assert list(kept.journal.entries()) == kept.entries


async def test_a_damaged_copy_is_made_again_before_its_segment_goes() -> None:
    kept = Kept()
    await kept.keeper.keep()
    for name in kept.closed:
        kept.disk.flip("archive", name, 8 * (len(kept.disk.bytes_of("archive", name)) - 20))
    kept.keeper.progress = ALL
    await kept.keeper.keep()
    assert len(kept.here) == 1
    assert list(kept.journal.entries()) == kept.entries


async def test_a_damaged_segment_stays_and_is_told() -> None:
    kept = Kept()
    name = kept.closed[0]
    kept.disk.flip("journal", name, 8 * (len(kept.disk.bytes_of("journal", name)) - 20))
    kept.keeper.progress = ALL
    await kept.keeper.keep()
    assert kept.here[0] == name
    assert name not in kept.archived
    assert "it can't be archived" in (kept.keeper.view().problem or "")


class KilledError(Exception):
    """The process is gone between two steps."""


async def test_a_crash_at_any_step_loses_no_record() -> None:
    """given a turn that is cut short after any number of steps on the disk, when the next process takes its turns,
    then the same records are read and the same segments are gone."""
    steps = 0
    while True:
        kept, left = Kept(), steps

        def step(_operation: str, _name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        kept.keeper.progress = ALL
        kept.disk.on_step = step
        try:
            await kept.keeper.keep()
        except KilledError:
            kept.killed()
            assert list(kept.journal.entries()) == kept.entries, steps
            kept.keeper.progress = ALL
            await kept.keeper.keep()
            assert list(kept.journal.entries()) == kept.entries, steps
            assert len(kept.here) == 1, steps
        else:
            break
        steps += 1
    assert steps > 40


async def test_without_its_archive_a_dropped_record_is_asked_for_in_vain_and_the_cure_is_told() -> None:
    kept = Kept()
    kept.keeper.progress = ALL
    await kept.keeper.keep()
    for name in kept.archived:
        kept.disk.folder("archive").remove(name)
    with pytest.raises(JournalDroppedError, match="Put the segment that holds it back"):
        JournalReader(kept.journal, 0)


async def lives(settings: Settings, count: int) -> None:
    for _ in range(count):
        engine = RunningEngine(settings)
        await engine.start()
        await engine.close()


async def test_an_engine_archives_drops_and_still_streams_its_whole_journal(settings: Settings) -> None:
    archive = settings.home / "archive"
    archive.mkdir()
    kept = settings.model_copy(
        update={"journal": settings.journal.model_copy(update={"archive": str(archive), "keep_mb": 0})}
    )
    await lives(kept, 2)
    engine = RunningEngine(kept)
    await engine.start()
    try:
        last = (await engine.client.status()).journal_sequence
        before = [entry async for entry in _first(engine, last)]
        view = await engine.client.archive_journal()
        assert [segment.is_archived for segment in view.segments] == [True, True, False]

        await engine.client.report_ledger(LedgerProgress(last, last))
        view = await engine.client.archive_journal()
        assert (len(view.segments), view.problem) == (1, None)
        status = await engine.client.status()
        assert status.journal_first_sequence == view.segments[0].first_sequence > 1
        assert [entry async for entry in _first(engine, last)] == before

        for name in (archive / "engine-1").glob("*.journal"):
            name.unlink()
        with pytest.raises(RefusalError, match="isn't in the archive") as caught:
            await anext(engine.client.stream_journal(0))
        assert caught.value.refusal.code is ReasonCode.RESOURCE_NOT_FOUND
    finally:
        await engine.close()


async def _first(engine: RunningEngine, count: int):  # type: ignore[no-untyped-def]
    entries = engine.client.stream_journal(0)
    for _ in range(count):
        yield await anext(entries)
    await entries.aclose()  # type: ignore[attr-defined]


async def test_a_ledger_ahead_of_the_journal_is_told(engine: RunningEngine) -> None:
    with pytest.raises(RefusalError) as caught:
        await engine.client.report_ledger(LedgerProgress(10_000, 5))
    assert caught.value.refusal.code is ReasonCode.REQUEST_INVALID


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        ("{home}/journal", "lie one in the other"),
        ("{home}/journal/archive", "lie one in the other"),
        ("{home}", "lie one in the other"),
        ("{home}/nowhere", "isn't a folder. Create or mount it"),
    ],
)
async def test_an_archive_that_cant_be_used_doesnt_start(settings: Settings, archive: str, says: str) -> None:
    folder = archive.format(home=settings.home)
    engine = RunningEngine(
        settings.model_copy(update={"journal": settings.journal.model_copy(update={"archive": folder})})
    )
    with pytest.raises(ConfigurationError, match=says):
        await engine.start()
    await engine.client.close()
