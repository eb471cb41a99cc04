"""One group on its way to the disk, handed between the thread that decides and the thread that writes.

The hand-over is one lock: the writer sleeps in a queue, the caller sleeps in Commit.wait, and neither runs Python
while the other one does, so a hop costs two wake-ups and no fight for the interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from threading import Lock

from core.storage.journal_errors import JournalUnavailableError
from core.types.events import JournalEntry


class Commit:
    """What Journal.begin returns. Every method may be called from any thread."""

    __slots__ = (
        "_callbacks",
        "_entries",
        "_error",
        "_is_over",
        "_lock",
        "data",
        "hashes",
        "is_emergency",
        "payloads",
    )

    def __init__(self, payloads: Sequence[bytes], *, is_emergency: bool) -> None:
        self.payloads = payloads
        # What is to be written: framed by who begins it, so that the writer only writes.
        self.data = b""
        self.hashes: Sequence[bytes] = ()
        self.is_emergency = is_emergency
        self._entries: Callable[[], tuple[JournalEntry, ...]] | tuple[JournalEntry, ...] = ()
        self._error: Exception | None = None
        self._is_over = False
        self._callbacks: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
        self._lock = Lock()
        self._lock.acquire()

    @property
    def is_over(self) -> bool:
        """Whether the group is durable, or failed."""
        return self._is_over

    def wait(self, timeout_s: float) -> bool:
        """Block this thread until it is over (True), at most timeout_s (False)."""
        if self._is_over:
            return True
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        self._lock.release()
        return True

    def result(self) -> tuple[JournalEntry, ...]:
        """The records as their readers get them. Raises JournalUnavailableError; only when it is over."""
        assert self._is_over, "wait for the commit first"
        if self._error is not None:
            raise JournalUnavailableError(str(self._error)) from self._error
        if not isinstance(self._entries, tuple):
            # Not in the writer: its caller waits meanwhile.
            self._entries = self._entries()
        return self._entries

    def notify(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Call callback on that loop once it is over, also when it is over already."""
        self._callbacks.append((loop, callback))
        if self._is_over:
            self._call_back()

    def finish(
        self, outcome: Callable[[], tuple[JournalEntry, ...]] | tuple[JournalEntry, ...], error: Exception | None = None
    ) -> None:
        """For the journal alone: it is over."""
        self._entries, self._error = outcome, error
        self.data = b""
        self._is_over = True
        self._lock.release()
        self._call_back()

    def _call_back(self) -> None:
        # Who takes it off the list calls it: notify and finish may both be here.
        while self._callbacks:
            with contextlib.suppress(IndexError):
                post(*self._callbacks.pop(0))


def post(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call it on the loop, unless that has been closed meanwhile."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
