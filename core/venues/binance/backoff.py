"""When to try again: exponential backoff with full jitter, a budget of attempts, and how loopback is reached."""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address
from random import Random, SystemRandom
from urllib.parse import urlsplit

ATTEMPT_LIMIT = 240
"""Connection attempts a window. The venue takes 300 from an address; the rest is for its other connections."""
ATTEMPT_WINDOW_S = 300.0


class Backoff:
    """Delays before the next attempt: uniform in [0, min(cap, base * 2^n)], so that clients don't return in step."""

    def __init__(self, base_s: float, cap_s: float, random: Random | None = None) -> None:
        assert 0 < base_s <= cap_s
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = random or SystemRandom()
        self._ceiling_s = base_s

    def next_s(self) -> float:
        """The delay before the next attempt, in seconds."""
        delay_s = self._random.uniform(0, self._ceiling_s)
        self._ceiling_s = min(self._cap_s, self._ceiling_s * 2)
        return delay_s

    def reset(self) -> None:
        """An attempt has succeeded and held."""
        self._ceiling_s = self._base_s


class AttemptBudget:
    """At most `limit` attempts in any `window_s`: the venue bans an address that connects more often than it takes."""

    def __init__(self, limit: int = ATTEMPT_LIMIT, window_s: float = ATTEMPT_WINDOW_S) -> None:
        assert limit > 0
        assert window_s > 0
        self._limit = limit
        self._window_s = window_s
        self._taken_s: deque[float] = deque()

    def take(self, now_s: float) -> float:
        """0 when an attempt may be made now, and it is counted; else the seconds until one may."""
        taken = self._taken_s
        while taken and now_s - taken[0] >= self._window_s:
            taken.popleft()
        if len(taken) >= self._limit:
            return taken[0] + self._window_s - now_s
        taken.append(now_s)
        return 0.0


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine: such a venue is never reached through the environment's proxy."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
