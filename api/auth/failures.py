"""Guesses at a secret, counted."""

from __future__ import annotations

from collections import OrderedDict

from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, refuse

FAILED_LOGINS_LIMIT = 10
FAILED_LOGINS_WINDOW_S = 60
TRACKED_NAMES_LIMIT = 10_000


class FailedLogins:
    """Counts failures by user name over a sliding window; bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, list[int]] = OrderedDict()

    def check(self, username: str) -> None:
        """Raises AUTH_RATE_EXCEEDED when the name has failed too often of late."""
        horizon_ns = self._clock.now_ns() - FAILED_LOGINS_WINDOW_S * NS_PER_S
        recent = [moment for moment in self._failures.get(username, []) if moment > horizon_ns]
        if len(recent) >= FAILED_LOGINS_LIMIT:
            raise refuse(
                ReasonCode.AUTH_RATE_EXCEEDED,
                f"Too many failed logins for this name. Wait {FAILED_LOGINS_WINDOW_S} s.",
                limit=str(FAILED_LOGINS_LIMIT),
                actual=str(len(recent)),
                unit=f"failures per {FAILED_LOGINS_WINDOW_S} s",
            )
        if username in self._failures:
            self._failures[username] = recent

    def add(self, username: str) -> None:
        self._failures.setdefault(username, []).append(self._clock.now_ns())
        self._failures.move_to_end(username)
        while len(self._failures) > TRACKED_NAMES_LIMIT:
            self._failures.popitem(last=False)

    def clear(self, username: str) -> None:
        self._failures.pop(username, None)
