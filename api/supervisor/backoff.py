"""When a child that died is started again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 5.0
FACTOR = 2.0
JITTER = 0.5
HEALTHY_AFTER_S = 30.0


@dataclass
class Backoff:
    """Exponential with jitter: the first restart at once, then slower; forgotten once the child stayed healthy."""

    random: random.Random
    failures: int = field(default=0, init=False)

    def next_delay_s(self, healthy_s: float) -> float:
        """How long to wait after the child died; healthy_s is how long it had been ready (0 when it never was)."""
        if healthy_s >= HEALTHY_AFTER_S:
            self.failures = 0
        exponent = min(self.failures, 32)
        self.failures += 1
        ceiling = min(MAX_DELAY_S, FIRST_DELAY_S * FACTOR**exponent)
        return ceiling * (1 - JITTER * self.random.random())
