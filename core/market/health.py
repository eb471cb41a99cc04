"""How healthy one symbol's market data is: rate and exchange latency over the last moments, in constant memory."""

from __future__ import annotations

from array import array
from collections import deque
from decimal import Decimal

from core.types.clock import NS_PER_MS, NS_PER_S
from core.types.money import from_scaled

LATENCY_WINDOW_MESSAGES = 512
RATE_WINDOW_NS = 10 * NS_PER_S
RATE_SAMPLE_NS = NS_PER_S
LATENCY_SCALE = 3
"""Latencies are told in milliseconds to three places."""


class FeedMeter:
    """Counts a symbol's messages, and keeps the latencies of the last that carry the venue's time."""

    __slots__ = ("_latencies_ns", "_next", "_samples", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self._latencies_ns = array("q")
        self._next = 0
        self._samples: deque[tuple[int, int]] = deque()

    def on_latency(self, latency_ns: int) -> None:
        """The engine's clock at arrival less the venue's event time, uncorrected."""
        if len(self._latencies_ns) < LATENCY_WINDOW_MESSAGES:
            self._latencies_ns.append(latency_ns)
            return
        self._latencies_ns[self._next] = latency_ns
        self._next = (self._next + 1) % LATENCY_WINDOW_MESSAGES

    def on_time(self, now_ns: int) -> None:
        """To be called at least once a second: the rate is measured between these calls."""
        samples = self._samples
        if samples and 0 <= now_ns - samples[-1][0] < RATE_SAMPLE_NS:
            return
        if samples and now_ns < samples[-1][0]:
            samples.clear()
        samples.append((now_ns, self.messages))
        while len(samples) > 2 and now_ns - samples[1][0] >= RATE_WINDOW_NS:
            samples.popleft()

    def rate_per_s(self, now_ns: int) -> Decimal:
        """Messages a second since the oldest sample of the window; 0 before the first."""
        if not self._samples or now_ns <= self._samples[0][0]:
            return Decimal(0)
        since_ns, messages = self._samples[0]
        return from_scaled((self.messages - messages) * NS_PER_S * 10 // (now_ns - since_ns), 1)

    def latency_ms(self, quantile_percent: int, clock_offset_ms: int | None) -> Decimal | None:
        """A percentile by nearest rank, corrected by the venue's clock offset where known; None without messages."""
        if not self._latencies_ns:
            return None
        ordered = sorted(self._latencies_ns)
        rank = -(-len(ordered) * quantile_percent // 100)
        corrected_ns = ordered[max(rank, 1) - 1] + (clock_offset_ms or 0) * NS_PER_MS
        return from_scaled(corrected_ns * 10**LATENCY_SCALE // NS_PER_MS, LATENCY_SCALE)
