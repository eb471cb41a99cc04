"""The engine's state from its journal: the newest snapshot that holds, and the records behind it."""

from __future__ import annotations

import asyncio

import structlog

from core.kernel.kernel import Kernel
from core.runtime.sequencer import Sequencer
from core.storage.journal import JournalUnavailableError
from core.storage.journal_files import JournalFolder
from core.storage.journal_store import JournalStore
from core.storage.snapshots import newest_snapshot, write_snapshot

SNAPSHOT_INTERVAL_EVENTS = 20_000
SNAPSHOT_CHECK_S = 30.0

_log = structlog.get_logger("engine.recovery")


def recover(folder: JournalFolder, journal: JournalStore) -> Kernel:
    """Replay: nothing is decided again. A snapshot that isn't what it says is passed over for the whole journal.

    Raises JournalDamagedError, and JournalDroppedError when a snapshot was needed and none holds.
    """
    kernel, began_at = Kernel(), 0
    snapshot = newest_snapshot(folder, journal)
    if snapshot is not None:
        try:
            loaded = Kernel.from_snapshot(snapshot.state)
        except ValueError as error:
            _log.warning("snapshot_skipped", name=snapshot.name, problem=str(error))
        else:
            if loaded.sequence == snapshot.sequence and loaded.state_digest() == snapshot.header.state_digest_hex:
                kernel, began_at = loaded, snapshot.sequence
            else:
                _log.warning("snapshot_skipped", name=snapshot.name, problem="its state has another digest")
    kernel.replay(entry.event() for entry in journal.entries(began_at))
    _log.info("journal_replayed", snapshot_sequence=began_at, sequence=kernel.sequence)
    return kernel


class SnapshotKeeper:
    """Takes a snapshot when enough has happened since the last one, and one at a clean stop.

    last_sequence: up to where the newest one reaches.
    """

    def __init__(self, kernel: Kernel, journal: JournalStore, folder: JournalFolder, sequencer: Sequencer) -> None:
        self._kernel = kernel
        self._journal = journal
        self._folder = folder
        self._sequencer = sequencer
        self.last_sequence = _covered(journal, folder)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_CHECK_S)
            if self._kernel.sequence - self.last_sequence >= SNAPSHOT_INTERVAL_EVENTS:
                await self.take()

    async def take(self) -> bool:
        """Whether there is one of this state now. A failure costs the next start time, and nothing else."""
        kernel, journal = self._kernel, self._journal
        try:
            at, digest_hex, state = await self._sequencer.between_batches(
                lambda: (journal.head, kernel.state_digest(), kernel.snapshot())
            )
            if at.sequence == self.last_sequence:
                return True
            await asyncio.to_thread(
                write_snapshot, self._folder, journal.engine_id, journal.epoch, at, digest_hex, state
            )
        except (JournalUnavailableError, OSError) as error:
            _log.warning("snapshot_not_taken", error=str(error))
            return False
        self.last_sequence = at.sequence
        _log.info("snapshot_taken", sequence=at.sequence, size_bytes=len(state))
        return True


def _covered(journal: JournalStore, folder: JournalFolder) -> int:
    newest = newest_snapshot(folder, journal)
    return 0 if newest is None else newest.sequence
