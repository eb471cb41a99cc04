"""One group of records that became durable together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import msgspec

from core._native import trading_messages
from core.types.events import JournalEntry

TradingMessage = tuple[str, bytes, str]
"""Subject, payload and message id."""


class Records(Sequence[JournalEntry]):
    """The records as their readers get them. They become entries when somebody looks, which who wrote them seldom does;
    equal to a tuple of the same entries."""

    __slots__ = ("_engine_id", "_epoch", "_hashes", "_payloads", "first_sequence")

    def __init__(
        self, engine_id: str, epoch: int, first_sequence: int, payloads: Sequence[bytes], hashes: Sequence[bytes]
    ) -> None:
        self.first_sequence = first_sequence
        self._engine_id = engine_id
        self._epoch = epoch
        self._payloads = payloads
        self._hashes = hashes

    def trading_messages(self) -> list[TradingMessage]:
        """What others hear of each, in order. Raises ValueError for a record that isn't an event's."""
        return trading_messages(
            self._engine_id,
            msgspec.json.encode(self._engine_id),
            self._epoch,
            self.first_sequence,
            self._payloads,
            self._hashes,
        )

    def __len__(self) -> int:
        return len(self._payloads)

    @overload
    def __getitem__(self, index: int) -> JournalEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[JournalEntry, ...]: ...
    def __getitem__(self, index: int | slice) -> JournalEntry | tuple[JournalEntry, ...]:
        positions = range(len(self._payloads))[index]
        return self._entry(positions) if isinstance(positions, int) else tuple(map(self._entry, positions))

    def _entry(self, position: int) -> JournalEntry:
        return JournalEntry(
            self._engine_id,
            self._epoch,
            self.first_sequence + position,
            self._hashes[position].hex(),
            self._payloads[position],
        )

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Records | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Records({tuple(self)!r})"


NO_RECORDS = Records("", 0, 0, (), ())
