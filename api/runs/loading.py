"""The copilot, loaded behind the api's back: its libraries take longer to import than all of the rest to start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.outcome import Emit, RunOutcome, RunRequest

if TYPE_CHECKING:
    from agent.copilot import Copilot


class LoadingCopilot:
    """A copilot that may still be on its way; a question that comes earlier waits for it.

    build runs once, in a thread: it imports, constructs, and raises ConfigurationError where the settings are wrong.
    """

    def __init__(self, build: Callable[[], Copilot]) -> None:
        self._build = build
        self._loading: asyncio.Task[Copilot] | None = None

    def start(self) -> asyncio.Task[Copilot]:
        """Begin to load, once; the task ends with what is wrong, if anything is."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="copilot-loading")
        return self._loading

    async def run(self, request: RunRequest, emit: Emit) -> RunOutcome:
        """As Copilot.run."""
        copilot = await asyncio.shield(self.start())
        return await copilot.run(request, emit)

    async def close(self) -> None:
        if self._loading is None:
            return
        if not self._loading.done():
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        elif not self._loading.cancelled() and self._loading.exception() is None:
            await self._loading.result().close()

    async def _load(self) -> Copilot:
        copilot = await asyncio.to_thread(self._build)
        await copilot.warm()
        return copilot
