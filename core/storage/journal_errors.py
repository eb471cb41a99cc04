"""What can be wrong with a journal."""

from __future__ import annotations

import msgspec


class JournalDamagedError(Exception):
    """The journal holds bytes that no crash explains. The message names the file, the offset and the cure."""


class JournalLockedError(Exception):
    """Another engine process writes this journal."""


class JournalUnavailableError(Exception):
    """The record couldn't be made durable, so what it stands for must not happen."""


class JournalDroppedError(Exception):
    """The records asked for were archived and dropped from here. The message says where they go on."""


class SegmentInUseError(Exception):
    """A segment can't be archived or dropped yet. The message says what is missing."""


class TornTail(msgspec.Struct, frozen=True):
    """What opening cut off: an append that never returned."""

    path: str
    offset: int
    length: int
