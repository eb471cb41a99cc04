"""What a start finds in its journal: a torn end is cut and told, damage stops it, a bad snapshot is passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import ConfigurationError, Settings
from core.kernel.kernel import Kernel
from core.runtime.recovery import recover
from core.storage.journal import Journal
from core.storage.journal_format import encode_group
from core.storage.snapshots import write_snapshot
from core.types.events import FreezeChanged, encode_event
from core.types.views import LedgerProgress
from tests.core.approvals import ACCOUNT, ENGINE_ID, NOW_NS, started_events
from tests.core.engine_support import RunningEngine
from tests.core.storage.faults import MemoryDisk


async def lived(settings: Settings, times: int = 1) -> None:
    for _ in range(times):
        engine = RunningEngine(settings)
        await engine.start()
        await engine.client.set_kill_switch("REDUCE_ONLY", "user-trader", "drill")
        await engine.close()


def segments(settings: Settings) -> list[Path]:
    return sorted(settings.paths.journal.glob("*.journal"))


def snapshots(settings: Settings) -> list[Path]:
    return sorted(settings.paths.journal.glob("*.snapshot"))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


async def test_a_torn_end_is_cut_off_and_the_status_says_so(settings: Settings) -> None:
    await lived(settings)
    newest = segments(settings)[-1]
    whole = newest.stat().st_size
    with newest.open("ab") as file:
        # A write that was cut short.
        file.write(encode_group(bytes(32), [b'{"kind":"never returned"}'])[0][:-10])

    engine = RunningEngine(settings)
    await engine.start()
    try:
        status = await engine.client.status()
        assert status.journal_torn_tail is not None
        assert f"{newest}: " in status.journal_torn_tail
        assert f"offset {whole}" in status.journal_torn_tail
        assert status.kill_switch == "REDUCE_ONLY"
    finally:
        await engine.close()
    await lived(settings)
    again = RunningEngine(settings)
    await again.start()
    assert (await again.client.status()).journal_torn_tail is None
    await again.close()


async def test_damage_behind_the_snapshot_stops_the_start_with_the_place_and_the_cure(settings: Settings) -> None:
    await lived(settings)
    for snapshot in snapshots(settings):
        snapshot.unlink()
    damaged = segments(settings)[0]
    before = damaged.read_bytes()
    flip(damaged, len(before) - 60)
    engine = RunningEngine(settings)
    with pytest.raises(ConfigurationError, match=r"damaged at offset \d+.* Restore the file") as caught:
        await engine.start()
    await engine.client.close()
    assert str(damaged) in str(caught.value)
    assert len(damaged.read_bytes()) == len(before)


def first_byte(settings: Settings) -> None:
    for snapshot in snapshots(settings):
        flip(snapshot, 0)


def last_byte(settings: Settings) -> None:
    for snapshot in snapshots(settings):
        flip(snapshot, snapshot.stat().st_size - 1)


def newest_only(settings: Settings) -> None:
    flip(snapshots(settings)[-1], 40)


def cut_short(settings: Settings) -> None:
    for snapshot in snapshots(settings):
        snapshot.write_bytes(snapshot.read_bytes()[:-10])


def emptied(settings: Settings) -> None:
    for snapshot in snapshots(settings):
        snapshot.write_bytes(b"")


BROKEN = [first_byte, last_byte, newest_only, cut_short, emptied]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_damaged_snapshot_is_passed_over(settings: Settings, broken: Callable[[Settings], None]) -> None:
    await lived(settings, 2)
    assert len(snapshots(settings)) == 2
    broken(settings)
    engine = RunningEngine(settings)
    await engine.start()
    status = await engine.client.status()
    assert (status.kill_switch, status.epoch) == ("REDUCE_ONLY", 3)
    await engine.close()


async def all_but_the_last_segment_archived_and_dropped(settings: Settings) -> Settings:
    archive = settings.home / "archive"
    archive.mkdir()
    kept = settings.model_copy(
        update={"journal": settings.journal.model_copy(update={"archive": str(archive), "keep_mb": 0})}
    )
    await lived(kept, 2)
    engine = RunningEngine(kept)
    await engine.start()
    last = (await engine.client.status()).journal_sequence
    await engine.client.report_ledger(LedgerProgress(last, last))
    assert len((await engine.client.archive_journal()).segments) == 1
    await engine.close()
    return kept


async def test_without_a_snapshot_the_archive_vouches_for_what_was_dropped(settings: Settings) -> None:
    kept = await all_but_the_last_segment_archived_and_dropped(settings)
    last_byte(kept)
    engine = RunningEngine(kept)
    await engine.start()
    status = await engine.client.status()
    assert (status.kill_switch, status.epoch) == ("REDUCE_ONLY", 4)
    assert status.journal_first_sequence > 1
    await engine.close()


async def test_without_snapshot_and_archive_the_start_says_what_to_put_back(settings: Settings) -> None:
    kept = await all_but_the_last_segment_archived_and_dropped(settings)
    last_byte(kept)
    for segment in (kept.home / "archive" / "engine-1").glob("*.journal"):
        segment.unlink()
    engine = RunningEngine(kept)
    with pytest.raises(ConfigurationError, match="Put the missing segments back from the archive"):
        await engine.start()
    await engine.client.close()


async def journaled(frozen: bool) -> tuple[MemoryDisk, Journal, Kernel]:
    """A life of the same length, whose account is frozen at the end or isn't."""
    disk, kernel = MemoryDisk(), Kernel()
    journal = Journal.open(disk.folder(), ENGINE_ID, inline=True)
    last = FreezeChanged(ts_ns=NOW_NS + 1, account_id=ACCOUNT, frozen=frozen, reason="by hand")
    for event in (*started_events(), last):
        kernel.apply(event)
        await journal.append([encode_event(event)])
    return disk, journal, kernel


async def test_a_snapshot_of_another_state_is_passed_over_although_it_is_whole() -> None:
    disk, journal, kernel = await journaled(frozen=True)
    _, _, other = await journaled(frozen=False)
    for state, digest_hex in ((other.snapshot(), kernel.state_digest()), (kernel.snapshot(), other.state_digest())):
        write_snapshot(disk.folder(), ENGINE_ID, journal.epoch, journal.head, digest_hex, state)
        recovered = recover(disk.folder(), journal)
        assert (recovered.state_digest(), recovered.frozen) == (kernel.state_digest(), {ACCOUNT: "by hand"})
