"""Exponential backoff with full jitter, and how loopback addresses are reached."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random, SystemRandom
from urllib.parse import urlsplit


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


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine: such a venue is never reached through the environment's proxy."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
