"""Where the ledger gets the engine's journal from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Protocol

from core.types.events import JournalEntry
from core.types.views import LedgerProgress


class JournalSource(Protocol):
    """core.runtime.client.EngineClient as the ledger uses it."""

    def stream_journal(self, after_sequence: int) -> AsyncIterator[JournalEntry]:
        """Entries after after_sequence, then those to come. Raises RefusalError(SERVICE_ENGINE_UNAVAILABLE)."""
        ...


class LedgerJournal(JournalSource, Protocol):
    """The same, and whom the ledger tells how far it is."""

    async def now_ns(self) -> int:
        """The engine's clock. Raises RefusalError."""
        ...

    async def report_ledger(self, progress: LedgerProgress) -> None:
        """Raises RefusalError."""
        ...


async def as_generator(entries: AsyncIterator[JournalEntry]) -> AsyncGenerator[JournalEntry, None]:
    """So that leaving the loop closes the stream, whatever kind of iterator it is."""
    try:
        async for entry in entries:
            yield entry
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(entries, "aclose", None)
        if close is not None:
            await close()
