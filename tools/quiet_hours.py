"""Hours of a day in a named time zone, on which nothing new may be asked for or approved.

A moment is looked at on the wall clock of the zone: what the clock there shows decides. So an hour that a change to
summer time leaves out holds no quiet minute, and one that comes twice is quiet twice.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from core.types.clock import NS_PER_S

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}")
MINUTES_PER_DAY = 24 * 60


class QuietWindow(msgspec.Struct, frozen=True):
    """From start_minute to before end_minute of the day; past midnight when the end isn't after the start. days are
    those on which it begins, Monday is 0."""

    days: frozenset[int]
    start_minute: int
    end_minute: int
    time_zone: str

    def covers(self, at_ns: int) -> bool:
        """Whether the clock in the window's zone stands within it at that moment."""
        local = datetime.fromtimestamp(at_ns // NS_PER_S, UTC).astimezone(_zone(self.time_zone))
        minute = local.hour * 60 + local.minute
        if self.start_minute < self.end_minute:
            return local.weekday() in self.days and self.start_minute <= minute < self.end_minute
        if minute >= self.start_minute:
            return local.weekday() in self.days
        return minute < self.end_minute and (local.date() - timedelta(days=1)).weekday() in self.days


def parse_clock_time(text: str) -> int:
    """Minutes since midnight of ``HH:MM``; 24:00 is the day's end. Raises ValueError."""
    match = _CLOCK_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'must be a time such as "22:00", is {text!r}')
    if match[1] is None:
        return MINUTES_PER_DAY
    moment = time.fromisoformat(text)
    return moment.hour * 60 + moment.minute


def is_time_zone(name: str) -> bool:
    """Whether that is the name of a time zone, as Europe/Berlin or UTC."""
    if not _ZONE_NAME.fullmatch(name):
        return False
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
