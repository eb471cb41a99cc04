"""Identifiers: ULIDs for things, W3C trace context for what they caused.

A trace id is a ULID; its sixteen bytes in hex are the W3C trace-id, so one value serves the log, the
traceparent header and the audit trail (https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

import msgspec
from ulid import ULID

from core.types.clock import NS_PER_MS, SystemClock

TRACEPARENT_VERSION = "00"
TRACE_FLAGS_SAMPLED = "01"
ULID_LENGTH = 26
RANDOM_BITS = 80

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_TO_BASE_32 = str.maketrans(_DIGITS, "0123456789ABCDEFGHIJKLMNOPQRSTUV")
_SPAN_DIGITS = 13
_SPAN_MASK = (1 << 64) - 1


class IdSource(Protocol):
    """Where pure code gets new identifiers from."""

    def new_ulid(self) -> str:
        """Return a fresh 26-character ULID."""
        ...


class SystemIdSource:
    """ULIDs from the operating system's clock and random source; those of one millisecond count up."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._last = 0

    def new_ulid(self) -> str:
        now_ms = self._clock.now_ns() // NS_PER_MS
        with self._lock:
            if now_ms == self._last >> RANDOM_BITS:
                self._last += 1
            else:
                self._last = now_ms << RANDOM_BITS | int.from_bytes(os.urandom(RANDOM_BITS // 8))
            return ulid_text(self._last)


def ulid_text(number: int) -> str:
    """The 26 characters of a ULID's 128 bits, by Crockford's base 32 (https://github.com/ulid/spec)."""
    high, low = number >> 60, number & (1 << 60) - 1
    return (
        f"{_PAIRS[high >> 60]}{_PAIRS[high >> 50 & 1023]}{_PAIRS[high >> 40 & 1023]}{_PAIRS[high >> 30 & 1023]}"
        f"{_PAIRS[high >> 20 & 1023]}{_PAIRS[high >> 10 & 1023]}{_PAIRS[high & 1023]}{_PAIRS[low >> 50]}"
        f"{_PAIRS[low >> 40 & 1023]}{_PAIRS[low >> 30 & 1023]}{_PAIRS[low >> 20 & 1023]}{_PAIRS[low >> 10 & 1023]}"
        f"{_PAIRS[low & 1023]}"
    )


class TraceContext(msgspec.Struct, frozen=True):
    """One step of a trace.

    trace_id: ULID of the whole trace. span_id: 16 hex digits of this step.
    """

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        """The W3C header value, ``00-<32 hex>-<16 hex>-01``."""
        trace_hex = ULID.from_str(self.trace_id).bytes.hex()
        return f"{TRACEPARENT_VERSION}-{trace_hex}-{self.span_id}-{TRACE_FLAGS_SAMPLED}"

    def child(self, ids: IdSource) -> TraceContext:
        """A new step of the same trace."""
        return TraceContext(self.trace_id, new_span_id(ids))


def new_span_id(ids: IdSource) -> str:
    """Sixteen hex digits from a ULID's random half."""
    return f"{int(ids.new_ulid()[-_SPAN_DIGITS:].translate(_TO_BASE_32), 32) & _SPAN_MASK:016x}"


def new_trace(ids: IdSource) -> TraceContext:
    """Start a trace."""
    return TraceContext(ids.new_ulid(), new_span_id(ids))


def parse_traceparent(header: str) -> TraceContext:
    """Read a W3C traceparent header.

    Raises ValueError when the header isn't of the form ``00-<32 hex>-<16 hex>-<2 hex>``.
    """
    parts = header.strip().split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16 or parts[0] == "ff":
        raise ValueError(f"not a W3C traceparent: {header!r}")
    trace_bytes, span_bytes = bytes.fromhex(parts[1]), bytes.fromhex(parts[2])
    if not any(trace_bytes) or not any(span_bytes):
        raise ValueError(f"all-zero id in traceparent: {header!r}")
    return TraceContext(str(ULID.from_bytes(trace_bytes)), parts[2])


def normalise_trace_id(text: str) -> str:
    """Accept a trace id as ULID or as 32 hex digits; return the ULID.

    Raises ValueError for anything else.
    """
    candidate = text.strip()
    if len(candidate) == 32:
        return str(ULID.from_bytes(bytes.fromhex(candidate)))
    return str(ULID.from_str(candidate.upper()))
