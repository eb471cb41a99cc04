"""How much was asked for lately: sliding windows, exact to the nanosecond, and the orders that repeat themselves. The
oracle of the native Activity, which the kernel uses; a snapshot's form is the same for both.

What is counted is forgotten by itself, so none of it is in the kernel's digest. Memory is bounded: of each key the
last TIMES_KEPT times, which is the largest count that a rate may allow, and FINGERPRINTS_KEPT orders.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

import msgspec

from core.types.clock import NS_PER_MS
from core.types.orders import OrderIntent

TIMES_KEPT = 10_000
KEYS_KEPT = 10_000
FINGERPRINTS_KEPT = 10_000
ORDER, AMEND, CANCEL = "order", "amend", "cancel"


class _Dump(msgspec.Struct, frozen=True):
    times: list[tuple[str, str, list[int]]]
    fingerprints: list[tuple[str, list[int]]]


class Windows(Protocol):
    """The native Activity, or the one below."""

    def times(self) -> list[tuple[str, list[int]]]: ...
    def fingerprints(self) -> list[tuple[str, list[int]]]: ...
    def restore(
        self, times: Sequence[tuple[str, list[int]]], fingerprints: Sequence[tuple[str, list[int]]]
    ) -> None: ...


def dump(activity: Windows) -> bytes:
    """For a snapshot."""
    times = [(*name.partition("\0")[::2], held) for name, held in activity.times()]
    return msgspec.msgpack.encode(_Dump(times, activity.fingerprints()))


def load(activity: Windows, data: bytes) -> None:
    """Raises msgspec.MsgspecError."""
    dumped = msgspec.msgpack.decode(data, type=_Dump)
    activity.restore([(f"{kind}\0{key}", held) for kind, key, held in dumped.times], dumped.fingerprints)


class Activity:
    """Fed by the kernel with what was decided; asked by risk how many lie within a window."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str], deque[int]] = OrderedDict()
        self._fingerprints: OrderedDict[str, deque[int]] = OrderedDict()

    def order_intended(self, intent: OrderIntent, ts_ns: int) -> None:
        self._note(ORDER, intent, ts_ns)
        times = self._fingerprints.setdefault(fingerprint(intent), deque(maxlen=TIMES_KEPT))
        times.append(ts_ns)
        self._fingerprints.move_to_end(fingerprint(intent))
        if len(self._fingerprints) > FINGERPRINTS_KEPT:
            self._fingerprints.popitem(last=False)

    def amend_requested(self, intent: OrderIntent, ts_ns: int) -> None:
        self._note(AMEND, intent, ts_ns)

    def cancel_requested(self, intent: OrderIntent, ts_ns: int) -> None:
        self._note(CANCEL, intent, ts_ns)

    def count(self, kind: str, key: str, window_ms: int, now_ns: int) -> int:
        """How many lie within the last window_ms; one that is exactly so old no longer does."""
        return _within(self._times.get((kind, key)), now_ns - window_ms * NS_PER_MS)

    def repeats(self, intent_fingerprint: str, window_ms: int, now_ns: int) -> int:
        """How many orders of the same terms lie within the last window_ms."""
        return _within(self._fingerprints.get(intent_fingerprint), now_ns - window_ms * NS_PER_MS)

    def times(self) -> list[tuple[str, list[int]]]:
        """By kind and key, with a zero byte between them."""
        return [(f"{kind}\0{key}", list(times)) for (kind, key), times in self._times.items()]

    def fingerprints(self) -> list[tuple[str, list[int]]]:
        return [(name, list(times)) for name, times in self._fingerprints.items()]

    def restore(self, times: Sequence[tuple[str, list[int]]], fingerprints: Sequence[tuple[str, list[int]]]) -> None:
        """What times and fingerprints gave."""
        for name, held in times:
            kind, _, key = name.partition("\0")
            self._times[kind, key] = deque(held, TIMES_KEPT)
        for name, held in fingerprints:
            self._fingerprints[name] = deque(held, TIMES_KEPT)

    def _note(self, kind: str, intent: OrderIntent, ts_ns: int) -> None:
        for key in level_keys(intent.account_id, intent.strategy_id, intent.symbol):
            times = self._times.get((kind, key))
            if times is None:
                times = self._times[kind, key] = deque(maxlen=TIMES_KEPT)
                if len(self._times) > KEYS_KEPT:
                    self._times.popitem(last=False)
            else:
                # What is asked for all the time must not be the first to be forgotten.
                self._times.move_to_end((kind, key))
            times.append(ts_ns)


def level_keys(account_id: str, strategy_id: str, symbol: str) -> tuple[str, ...]:
    """What an order is counted under: everything, its account, its symbol, and its strategy if it has one."""
    keys = ("global", f"account:{account_id}", f"symbol:{symbol}")
    return (*keys, f"strategy:{strategy_id}") if strategy_id else keys


def fingerprint(intent: OrderIntent) -> str:
    """Equal for orders that ask for the same."""
    terms = (
        intent.account_id,
        intent.venue,
        intent.symbol,
        intent.side,
        intent.order_type,
        intent.time_in_force,
        intent.quantity,
        intent.price,
        intent.stop_price,
        intent.strategy_id,
    )
    return "\x00".join(map(str, terms))


def _within(times: deque[int] | None, after_ns: int) -> int:
    if not times:
        return 0
    return sum(1 for _ in takewhile(lambda ts_ns: ts_ns > after_ns, reversed(times)))
