"""The journal's life after it was written: closed segments are archived, and dropped once nobody here needs them.

A segment goes only when its copy in the archive is whole, the ledger has projected and audited everything in it, and a
snapshot covers it; the newest `journal.keep_mb` stay in any case. Without an archive folder nothing is ever dropped.
"""

from __future__ import annotations

import asyncio

import structlog

from core.runtime.recovery import SnapshotKeeper
from core.storage.journal import Journal, JournalDamagedError, SegmentInUseError, SegmentView
from core.storage.journal_files import JournalFolder
from core.storage.journal_store import JournalStore
from core.types.views import JournalSegmentView, JournalView, LedgerProgress

KEEP_INTERVAL_S = 30.0
DROPS_PER_TURN_LIMIT = 100

_log = structlog.get_logger("engine.journal_keeper")


class JournalKeeper:
    """Archives and drops; archive is None where none is configured. progress is what the ledger said last."""

    def __init__(
        self, journal: JournalStore, archive: JournalFolder | None, keep_bytes: int, snapshots: SnapshotKeeper
    ) -> None:
        self.progress: LedgerProgress | None = None
        self.problem: str | None = None
        self._journal = journal
        self._archive = archive
        self._keep_bytes = keep_bytes
        self._snapshots = snapshots
        self._archived: set[str] = set()
        self._waits_for: str | None = None
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(KEEP_INTERVAL_S)
            await self.keep()

    async def keep(self) -> None:
        """One turn. What stands in the way is logged, kept in `problem`, and tried again at the next turn."""
        if self._archive is None:
            return
        async with self._turn:
            try:
                await self._archive_closed(self._archive)
                await self._drop_oldest(self._archive)
            except (OSError, JournalDamagedError) as error:
                if str(error) != self.problem:
                    _log.error("journal_not_archived", error=str(error))
                self.problem = str(error)
            else:
                self.problem = None

    def view(self) -> JournalView:
        """Every segment here, oldest first, and what keeps it."""
        segments = self._journal.segments()
        progress = self.progress
        return JournalView(
            engine_id=self._journal.engine_id,
            sequence=self._journal.sequence,
            archive=None if self._archive is None else self._archive.path(""),
            projected_sequence=None if progress is None else progress.projected_sequence,
            audited_sequence=None if progress is None else progress.audited_sequence,
            problem=self.problem,
            segments=tuple(
                JournalSegmentView(
                    name=segment.name,
                    epoch=segment.epoch,
                    first_sequence=segment.first_sequence,
                    last_sequence=segment.last_sequence,
                    size_bytes=segment.size_bytes,
                    is_archived=segment.name in self._archived,
                    kept_because=self._kept_because(segment, segments),
                )
                for segment in segments
            ),
        )

    async def _archive_closed(self, archive: JournalFolder) -> None:
        journal = self._of_segments()
        copies = set(await asyncio.to_thread(archive.names))
        self._archived = {segment.name for segment in self._journal.segments() if segment.name in copies}
        for segment in self._journal.segments():
            # Copies that are there already are verified before anything is dropped because of them.
            if not segment.is_active and segment.name not in self._archived:
                await asyncio.to_thread(journal.archive_segment, segment.name, archive)
                self._archived.add(segment.name)
                _log.info("segment_archived", name=segment.name, last_sequence=segment.last_sequence)

    async def _drop_oldest(self, archive: JournalFolder) -> None:
        journal, self._waits_for = self._of_segments(), None
        for _ in range(DROPS_PER_TURN_LIMIT):
            segments = self._journal.segments()
            oldest, progress = segments[0], self.progress
            if not self._is_beyond(segments) or progress is None:
                return
            if oldest.last_sequence > min(progress.projected_sequence, progress.audited_sequence):
                return
            try:
                # Verifies the copy, and makes it anew when it is damaged.
                await asyncio.to_thread(journal.archive_segment, oldest.name, archive)
                if self._snapshots.last_sequence < oldest.last_sequence:
                    await self._snapshots.take()
                await asyncio.to_thread(
                    journal.drop_segment,
                    oldest.name,
                    archive,
                    projected_sequence=progress.projected_sequence,
                    audited_sequence=progress.audited_sequence,
                )
            except SegmentInUseError as error:
                self._waits_for = str(error)
                _log.warning("segment_not_dropped", error=str(error))
                return
            _log.info("segment_dropped", name=oldest.name, last_sequence=oldest.last_sequence)

    def _of_segments(self) -> Journal:
        assert isinstance(self._journal, Journal), "an archive is configured for segments only"
        return self._journal

    def _is_beyond(self, segments: list[SegmentView]) -> bool:
        """Whether enough stays when the oldest goes."""
        rest = sum(segment.size_bytes for segment in segments[1:])
        return not segments[0].is_active and rest >= self._keep_bytes

    def _kept_because(self, segment: SegmentView, segments: list[SegmentView]) -> str:
        last, progress = segment.last_sequence, self.progress
        if segment.is_active:
            return "it is being written"
        if self._archive is None:
            return "no archive is configured (journal.archive)"
        if segment.name not in self._archived:
            return self.problem or "it isn't archived yet"
        if progress is None:
            return "the ledger hasn't said yet how far it is"
        if last > progress.projected_sequence:
            return f"the ledger has projected up to record {progress.projected_sequence}"
        if last > progress.audited_sequence:
            return f"the ledger has audited up to record {progress.audited_sequence}"
        if segment is not segments[0]:
            return "an older segment is still here"
        if not self._is_beyond(segments):
            return "it is among the newest, which stay (journal.keep_mb)"
        return self._waits_for or "it goes at the next turn"
