"""From one connection to the next without a hole: which messages to hand on while both speak.

The old connection goes on being heard while the new one is only kept. A stream has joined when the new connection's
first message follows on, or repeats, what the old one has brought; once every stream has, what the new one is ahead by
is handed on and the old one can go. Until then nothing depends on the new connection: it may fail and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from core.types.market import BookTicker, Trade
from core.venues.binance.frames import Message

BUFFER_LIMIT_MESSAGES = 50_000
"""Of all symbols. More means that the old connection has stalled, and is better left at once."""


class _Stream(msgspec.Struct):
    """Depth or trades of one symbol. old_last is the last id that the old connection brought, needs the id that has to
    have been brought before the new connection's first message."""

    old_last: int | None = None
    needs: int | None = None
    ahead: list[tuple[int, Message]] = msgspec.field(default_factory=list)

    @property
    def has_joined(self) -> bool:
        return self.needs is not None and self.old_last is not None and self.old_last >= self.needs

    def from_old(self, last_id: int) -> None:
        self.old_last = last_id
        if self.ahead and self.ahead[0][0] <= last_id:
            self.ahead = [item for item in self.ahead if item[0] > last_id]

    def from_new(self, first_needs: int, last_id: int, message: Message) -> bool:
        """Whether the message was kept: what the old connection has brought already isn't."""
        if self.needs is None:
            self.needs = first_needs
        if self.old_last is not None and last_id <= self.old_last:
            return False
        self.ahead.append((last_id, message))
        return True


class Handover:
    """deliver gets what is to be handed on; on_progress is called when has_joined or is_overdue may have changed."""

    def __init__(self, deliver: Callable[[Message], None], on_progress: Callable[[], None]) -> None:
        self._deliver = deliver
        self._on_progress = on_progress
        self._depth: dict[str, _Stream] = {}
        self._trades: dict[str, _Stream] = {}
        self._tickers: dict[str, BookTicker] = {}
        self._kept = 0

    @property
    def is_overdue(self) -> bool:
        """The old connection is so far behind that waiting for it would cost more than a resync."""
        return self._kept > BUFFER_LIMIT_MESSAGES

    def has_joined(self, symbols: Iterable[str]) -> bool:
        """Whether the depth of all of these flows on both connections, and their trades where the new one has any."""
        for symbol in symbols:
            depth, trades = self._depth.get(symbol), self._trades.get(symbol)
            if depth is None or not depth.has_joined:
                return False
            if trades is not None and trades.needs is not None and not trades.has_joined:
                return False
        return True

    def is_missing(self, symbols: Iterable[str]) -> bool:
        """Whether the old connection brings depth of any of these, and the new one none."""
        depths = (self._depth.get(symbol) for symbol in symbols)
        return any(depth is not None and depth.old_last is not None and depth.needs is None for depth in depths)

    def from_old(self, message: Message) -> None:
        self._deliver(message)
        if isinstance(message, BookTicker):
            return
        stream, _, last_id = self._place(message)
        was_joined = stream.has_joined
        stream.from_old(last_id)
        if not was_joined and stream.has_joined:
            self._on_progress()

    def from_new(self, message: Message) -> None:
        if isinstance(message, BookTicker):
            self._tickers[message.symbol] = message
            return
        stream, needs, last_id = self._place(message)
        was_joined = stream.has_joined
        self._kept += stream.from_new(needs, last_id, message)
        if self.is_overdue or (not was_joined and stream.has_joined):
            self._on_progress()

    def finish(self) -> None:
        """Hand on all that the new connection is ahead by. Repetitions and gaps are left to the books' own checks."""
        for streams in (self._depth, self._trades):
            for stream in streams.values():
                for _, message in stream.ahead:
                    self._deliver(message)
        for ticker in self._tickers.values():
            self._deliver(ticker)

    def _place(self, message: Message) -> tuple[_Stream, int, int]:
        """The message's stream, the id before its first, and its last id."""
        if isinstance(message, Trade):
            return self._trades.setdefault(message.symbol, _Stream()), message.trade_id - 1, message.trade_id
        assert not isinstance(message, BookTicker)
        previous_id = message.previous_update_id
        needs = message.first_update_id - 1 if previous_id is None else previous_id
        return self._depth.setdefault(message.symbol, _Stream()), needs, message.last_update_id
