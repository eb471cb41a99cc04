"""What went ahead without its record, over a crash: the next start records it, once, and nothing but what reduces.

Invariants: the file holds what is owed and nothing else, in order, and goes when nothing is; nobody waits for it; what
the journal holds by then isn't applied again, whatever came after it; a file that can't be read halts.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from core.authority.proposal import CANCEL_PROPOSAL_SCHEMA, KILL_SWITCH_PROPOSAL_SCHEMA
from core.risk.kill_switch import KillSwitch
from core.runtime.owed import OwedFile, record_owed
from core.runtime.sequencer import Sequencer
from core.runtime.service import EngineService
from core.storage.journal import Journal
from core.types.events import JournalEvent, KillSwitchChanged
from tests.core.approvals import ENGINE_ID, NOW_NS, proposal, started_events
from tests.core.authority.proposals import example
from tests.core.runtime.test_sequencer import WAIT_S, Clock, Rig, disk_full
from tests.core.storage.faults import MemoryDisk

HALTED, REDUCE_ONLY = KillSwitch.HALTED, KillSwitch.REDUCE_ONLY


class Life(Rig):
    """One life of an engine on a disk that outlives it. A service, as far as it is asked."""

    def __init__(self, disk: MemoryDisk | None, folder: Path) -> None:
        super().__init__()
        if disk is not None:
            self.disk = disk
            disk.kill()
            self._open(disk)
        self.owed = OwedFile(folder, ENGINE_ID)
        self.sequencer.keep_owed = self.owed.keep

    def _open(self, disk: MemoryDisk) -> None:
        self.journal = Journal.open(disk.folder(), ENGINE_ID)
        self.kernel.replay(entry.event() for entry in self.journal.entries())
        self.sequencer = Sequencer(self.kernel, self.journal, Clock(), self)

    async def set_kill_switch(self, state: KillSwitch, *_who: str) -> None:
        await self.tighten(state)

    def kept(self) -> list[JournalEvent]:
        """Once it is written."""
        assert self.owed.wait(WAIT_S)
        found = self.owed.read()
        return [] if found is None else list(found[1])

    async def catch_up(self) -> int:
        return await record_owed(cast(EngineService, self), self.owed)


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Callable[[], Life]]:
    all_lives: list[Life] = []

    def begin() -> Life:
        life = Life(all_lives[-1].disk if all_lives else None, tmp_path)
        all_lives.append(life)
        return life

    yield begin
    for life in all_lives:
        await life.journal.close()
        assert life.owed.wait(WAIT_S)


@pytest.fixture
async def first(lives: Callable[[], Life]) -> Life:
    life = lives()
    await life.sequencer.record(lambda _now_ns: started_events())
    return life


def types(events: Any) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_what_is_owed_is_kept_in_order_until_it_is_recorded(first: Life) -> None:
    order_id = await first.approve("sug-1")
    first.disk.write_errors.extend([disk_full(), disk_full()])
    await first.cancel(order_id)
    await first.tighten(HALTED)
    assert types(first.kept()) == ["CancelRequested", "KillSwitchChanged"]
    await first.sequencer.settle()
    assert first.kept() == []
    assert not first.owed.path.exists()
    first.assert_replays()


async def test_nothing_is_written_while_the_disk_works(first: Life) -> None:
    order_id = await first.approve("sug-1")
    await first.cancel(order_id)
    await first.tighten(HALTED)
    assert first.owed.wait(0)
    assert not first.owed.path.exists()


async def test_what_hangs_with_its_record_on_the_way_is_kept_too_and_before_what_came_after_it(first: Life) -> None:
    gate = first.disk.hang_sync()
    async with asyncio.timeout(WAIT_S):
        await first.tighten(REDUCE_ONLY)
        await first.tighten(HALTED)
    kept = first.kept()
    assert [cast(KillSwitchChanged, event).state for event in kept] == [REDUCE_ONLY, HALTED]
    gate.set()
    await first.sequencer.settle()
    assert first.kept() == []


DEAD = OSError(errno.EIO, "Input/output error")


async def go_down(life: Life) -> tuple[str, Any, Any]:
    """An order rests; a sync fails, so that the journal is dead until the next start; its approved cancel and an
    approved halt go ahead."""
    order_id = await life.approve("sug-1")
    terms = proposal(suggestion_id="sug-1")
    cancelling = example(
        CANCEL_PROPOSAL_SCHEMA,
        suggestion_id="sug-cancel",
        client_order_id=order_id,
        quantity=terms.quantity,
        price=terms.price,
    )
    halting = example(KILL_SWITCH_PROPOSAL_SCHEMA, suggestion_id="sug-halt", scope="engine")
    life.disk.write_errors.append(disk_full())
    life.disk.sync_errors.append(DEAD)
    for what in (cancelling, halting):
        await life.sequencer.record_safety(life.approval_of(what))
    assert types(life.kept()) == ["ApprovalDecided", "ApprovalDecided"]
    assert life.kernel.kill_switch is HALTED
    return order_id, cancelling, halting


async def test_an_engine_that_died_halted_and_with_used_approvals_is_so_again(lives: Any, first: Life) -> None:
    order_id, cancelling, halting = await go_down(first)
    second = lives()
    assert second.kernel.kill_switch is not HALTED, "the journal knows nothing of it"
    assert await second.catch_up() == 2
    assert second.kernel.kill_switch is HALTED
    assert second.kernel.orders[order_id].cancel_requested
    for what in (cancelling, halting):
        again = await second.sequencer.record_safety(second.approval_of(what))
        assert again.code == "APPROVAL_ALREADY_CONSUMED"
    second.assert_replays()
    assert second.kept() == []
    third = lives()
    assert await third.catch_up() == 0
    assert third.kernel.kill_switch is HALTED


async def test_what_the_journal_holds_by_then_isnt_applied_again_whatever_followed(lives: Any, first: Life) -> None:
    """given a file that nobody could remove, and a thaw since."""
    await go_down(first)
    content = first.owed.path.read_bytes()
    second = lives()
    await second.catch_up()
    thawed = KillSwitchChanged(ts_ns=NOW_NS, state=KillSwitch.NORMAL, requested_by="root:ops", reason="over")
    await second.sequencer.record(lambda _now_ns: (thawed,))
    assert second.owed.wait(WAIT_S)
    second.owed.path.write_bytes(content)
    third = lives()
    assert await third.catch_up() == 0
    assert third.kernel.kill_switch is KillSwitch.NORMAL
    assert third.kept() == []


async def test_what_is_still_owed_at_the_next_start_stays_kept(lives: Any, first: Life) -> None:
    await go_down(first)
    second = lives()
    second.disk.write_errors.extend([disk_full(), disk_full()])
    assert await second.catch_up() == 2
    assert second.kernel.kill_switch is HALTED
    assert types(second.kept()) == ["ApprovalDecided", "ApprovalDecided"]
    third = lives()
    await third.catch_up()
    assert third.kernel.kill_switch is HALTED
    assert set(third.kernel.consumed) == {"sug-1", "sug-cancel", "sug-halt"}
    third.assert_replays()


def changed(content: bytes, **changes: Any) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(content), **changes})


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-20],
        lambda content: b"",
        lambda content: changed(content, payloads=[]),
        lambda content: changed(content, engine_id="another"),
        lambda content: changed(content, schema="veloz.owed/2"),
        lambda content: changed(content, more="?"),
    ],
    ids=["torn", "empty", "without its records", "another engine's", "another schema", "more than it has"],
)
async def test_a_file_that_cant_be_read_halts_and_is_told_once(lives: Any, first: Life, damage: Any) -> None:
    await go_down(first)
    first.owed.path.write_bytes(damage(first.owed.path.read_bytes()))
    second = lives()
    assert await second.catch_up() == 0
    assert second.kernel.kill_switch is HALTED
    assert not second.owed.path.exists()
    assert second.owed.path.with_suffix(".unreadable").exists()
    third = lives()
    assert await third.catch_up() == 0


async def test_nobody_waits_for_a_file_that_cant_be_written(first: Life) -> None:
    first.owed.path.with_suffix(".tmp").mkdir()
    first.disk.write_errors.append(disk_full())
    async with asyncio.timeout(WAIT_S):
        await first.tighten(HALTED)
    assert first.kept() == []
    await first.sequencer.settle()
    assert first.kernel.kill_switch is HALTED
    first.assert_replays()
