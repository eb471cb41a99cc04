"""What the sequencer owes the journal, kept in a file beside it for the next start.

A safety command that can't be recorded goes ahead in memory. When the process then dies, the switch would be loose
again and an approval could be used once more. So what is owed is also written here, as well as the disk allows: nothing
waits for it, nothing fails because of it, and a crash of the process alone loses nothing of what was written. The next
start records what the journal doesn't hold and what still reduces (core.kernel.owed), and removes the file.

The file is trusted as the journal is, whose folder it lies in, and no more: it can only reduce.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from threading import Condition, Thread

import msgspec
import structlog

from core.kernel.owed import still_due
from core.orders.machine import ImpossibleTransitionError
from core.risk.kill_switch import KillSwitch
from core.runtime.sequencer import UNRECORDED_LIMIT, Decision, Recorded
from core.runtime.service import EngineService
from core.storage.atomic import sync_file, sync_folder
from core.storage.journal_errors import JournalDroppedError
from core.types.events import JournalEvent, decode_event, encode_event

OWED_NAME = "owed.json"
OWED_SCHEMA = "veloz.owed/1"
OWED_LIMIT_BYTES = 64 * 2**20
OWED_LIMIT_EVENTS = 4 * UNRECORDED_LIMIT
"""Cancels are limited where they are owed; tightenings are few."""
FILE_MODE = 0o600
UNREADABLE_SUFFIX = ".unreadable"
OWED_REQUESTER = "engine:owed"

_log = structlog.get_logger("engine.owed")


class _Owed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """after_sequence: what the journal held when this was written, at least. sha256_hex is over the payloads."""

    schema: str
    engine_id: str
    after_sequence: int
    payloads: tuple[bytes, ...]
    sha256_hex: str


class OwedFile:
    """Keeps the newest of what it is told, in a thread of its own: a disk that hangs holds up nobody."""

    def __init__(self, folder: Path, engine_id: str) -> None:
        self.path = folder / OWED_NAME
        self._engine_id = engine_id
        self._changed = Condition()
        self._wanted: tuple[int, tuple[JournalEvent, ...]] | None = None
        self._is_writing = False

    def keep(self, after_sequence: int, events: Sequence[JournalEvent]) -> None:
        """What is owed now, of a journal that holds so many records; nothing removes the file."""
        with self._changed:
            self._wanted = after_sequence, tuple(islice(events, OWED_LIMIT_EVENTS))
            if not self._is_writing:
                self._is_writing = True
                Thread(target=self._run, name="owed", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done with all that it was told."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_writing, timeout_s)

    def read(self) -> tuple[int, tuple[JournalEvent, ...]] | None:
        """after_sequence and the events; None for no file.

        Raises OSError, and ValueError or msgspec.MsgspecError for one that isn't whole or not this engine's.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(OWED_LIMIT_BYTES + 1)
        except FileNotFoundError:
            return None
        owed = msgspec.json.decode(content, type=_Owed)
        if (owed.schema, owed.engine_id) != (OWED_SCHEMA, self._engine_id):
            raise ValueError(f"it is a {owed.schema[:64]} of engine {owed.engine_id[:64]}")
        if _digest_hex(owed.payloads) != owed.sha256_hex:
            raise ValueError("its digest isn't that of its records")
        return owed.after_sequence, tuple(decode_event(payload) for payload in owed.payloads)

    def put_aside(self) -> None:
        """So that it is told once, and can be looked at."""
        try:
            self.path.replace(self.path.with_suffix(UNREADABLE_SUFFIX))
        except OSError as error:
            _log.error("owed_not_put_aside", path=str(self.path), error=str(error))

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._wanted is None:
                    self._is_writing = False
                    self._changed.notify_all()
                    return
                (after_sequence, events), self._wanted = self._wanted, None
            try:
                self._write(after_sequence, events)
            except OSError as error:
                _log.error("owed_not_kept", path=str(self.path), events=len(events), error=str(error))

    def _write(self, after_sequence: int, events: tuple[JournalEvent, ...]) -> None:
        if not events:
            self.path.unlink(missing_ok=True)
            return
        payloads = tuple(encode_event(event) for event in events)
        owed = _Owed(OWED_SCHEMA, self._engine_id, after_sequence, payloads, _digest_hex(payloads))
        temporary = self.path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with contextlib.closing(os.fdopen(descriptor, "wb")) as file:
            file.write(msgspec.json.encode(owed))
        # In place before it is synced: a disk that hangs may never come to that, and the process may die.
        temporary.replace(self.path)
        sync_file(self.path)
        sync_folder(self.path.parent)


async def record_owed(service: EngineService, owed: OwedFile) -> int:
    """Record what an earlier life of this engine went ahead with; how many of its commands had to be. A file that can't
    be read halts the engine: some command went ahead, and nobody knows which.
    """
    try:
        found = owed.read()
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        _log.error("owed_unreadable", path=str(owed.path), error=str(error))
        reason = "commands that went ahead without their record can't be read: look at the log, then thaw"
        await service.set_kill_switch(KillSwitch.HALTED, OWED_REQUESTER, reason)
        if not service.sequencer.owes:
            owed.put_aside()
        return 0
    if found is None:
        return 0
    missing = _missing(service, *found)
    recorded = 0
    for event in missing:
        try:
            outcome = await service.sequencer.record_safety(_decision(service, event))
        except ImpossibleTransitionError as error:
            _log.warning("owed_dropped", error=str(error))
            continue
        recorded += isinstance(outcome, Recorded) and bool(outcome.events)
    _log.warning("owed_recorded", found=len(found[1]), missing=len(missing), recorded=recorded)
    if not service.sequencer.owes:
        owed.keep(service.journal.sequence, ())
    return recorded


def _decision(service: EngineService, event: JournalEvent) -> Decision:
    return lambda _now_ns: still_due(service.kernel, event)


def _missing(service: EngineService, after_sequence: int, events: tuple[JournalEvent, ...]) -> list[JournalEvent]:
    """Which of them the journal doesn't hold."""
    missing = {encode_event(event): event for event in events}
    try:
        for entry in service.journal.entries(min(after_sequence, service.journal.sequence)):
            missing.pop(entry.payload, None)
    except JournalDroppedError as error:
        # Segments go long after what was owed when they were written.
        _log.warning("owed_is_old", error=str(error))
        return []
    return list(missing.values())


def _digest_hex(payloads: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for payload in payloads:
        digest.update(len(payload).to_bytes(8, "big"))
        digest.update(payload)
    return digest.hexdigest()
