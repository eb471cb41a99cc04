"""One group on its way to the disk, handed between the thread that decides and the thread that writes.

A plain group is written by a native thread, so that Python goes on meanwhile; whoever waits for it, or is to be told,
takes it in when it is over. For any other group the hand-over is one lock: the writer sleeps in a queue, the caller
sleeps in Commit.wait, and neither runs Python while the other one does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol

from core.storage.journal_errors import JournalUnavailableError
from core.storage.journal_group import NO_RECORDS, Records


class Writing(Protocol):
    """A group on the native thread."""

    def wait(self, timeout_s: float, looking_s: float = 0.0) -> bool:
        """Whether it is over. Raises nothing."""
        ...

    def take_in(self, commit: Commit) -> bool:
        """Finish the commit of what is over; False where that may block, which hand_over doesn't."""
        ...

    def watch(self, commit: Commit, loop: asyncio.AbstractEventLoop) -> None:
        """Have it finished by this loop, in which this is called, once it is over."""
        ...

    def hand_over(self, commit: Commit) -> None:
        """Have it waited for and finished in the journal's own thread."""
        ...


class Commit:
    """What Journal.begin returns. Every method may be called from any thread."""

    __slots__ = (
        "_callbacks",
        "_error",
        "_is_handed_over",
        "_is_over",
        "_lock",
        "_records",
        "_taking_in",
        "_writing",
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
        self._records = NO_RECORDS
        self._error: Exception | None = None
        self._is_over = False
        self._callbacks: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
        self._writing: Writing | None = None
        self._taking_in = Lock()
        self._is_handed_over = False
        self._lock = Lock()
        self._lock.acquire()

    @property
    def is_over(self) -> bool:
        """Whether the group is durable, or failed."""
        return self._is_over or (self._writing is not None and self._is_taken_in(0.0))

    @property
    def is_finished(self) -> bool:
        """Whether somebody has taken in that it is over."""
        return self._is_over

    def begun(self, writing: Writing) -> None:
        """For the journal alone: it is on its way natively."""
        self._writing = writing

    def wait(self, timeout_s: float, looking_s: float = 0.0) -> bool:
        """Block this thread until it is over (True), at most timeout_s (False). looking_s: for how long of it to stay
        awake, where being woken costs more than that."""
        if self._is_over:
            return True
        if self._writing is not None and not self._is_handed_over:
            if self._is_taken_in(max(0.0, timeout_s), looking_s):
                return True
            if not self._is_handed_over:
                return False
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        self._lock.release()
        return True

    def _is_taken_in(self, timeout_s: float, looking_s: float = 0.0) -> bool:
        writing = self._writing
        assert writing is not None
        if not writing.wait(timeout_s, looking_s):
            return False
        with self._taking_in:
            if self._is_over or writing.take_in(self):
                return True
        self.hand_over()
        return False

    def hand_over(self) -> None:
        """Have it finished also when nobody waits for it."""
        if self._writing is not None and not self._is_handed_over:
            self._is_handed_over = True
            self._writing.hand_over(self)

    def taken_in_by(self, finish: Callable[[], None]) -> None:
        """For the journal's own thread: finish it, unless somebody has."""
        with self._taking_in:
            if not self._is_over:
                finish()

    def confirm(self) -> None:
        """That the group is durable: raises JournalUnavailableError when it isn't; only when it is over."""
        assert self.is_over, "wait for the commit first"
        if self._error is not None:
            raise JournalUnavailableError(str(self._error)) from self._error

    def result(self) -> Records:
        """The records as their readers get them. Raises JournalUnavailableError; only when it is over."""
        self.confirm()
        return self._records

    def notify(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Call callback on that loop once it is over, also when it is over already."""
        self._callbacks.append((loop, callback))
        if self._is_over:
            self._call_back()
        elif self._writing is not None and not self._is_handed_over and _is_running(loop):
            self._writing.watch(self, loop)
        else:
            self.hand_over()

    def finish(self, records: Records, error: Exception | None = None) -> None:
        """For the journal alone: it is over."""
        self._records, self._error = records, error
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


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is called by that loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
