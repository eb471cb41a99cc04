"""Quiet hours.

Invariants: a window holds exactly the moments at which the clock in its zone shows a time within it; what spans
midnight belongs to the day on which it began; a change of summer time adds and takes away only what the clock shows.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.quiet_hours import DAYS, QuietWindow, is_time_zone, parse_clock_time

ALL = frozenset(range(7))
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia")


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp()) * 10**9


def window(start: str, end: str, zone: str = "UTC", days: str = "mon tue wed thu fri sat sun") -> QuietWindow:
    return QuietWindow(
        frozenset(DAYS.index(day) for day in DAYS if day in days.split()),
        parse_clock_time(start),
        parse_clock_time(end),
        zone,
    )


@pytest.mark.parametrize(
    ("start", "end", "moment", "quiet"),
    [
        ("09:00", "17:00", "2026-03-02T09:00", True),
        ("09:00", "17:00", "2026-03-02T08:59", False),
        ("09:00", "17:00", "2026-03-02T16:59", True),
        ("09:00", "17:00", "2026-03-02T17:00", False),
        ("22:00", "06:00", "2026-03-02T23:30", True),
        ("22:00", "06:00", "2026-03-03T05:59", True),
        ("22:00", "06:00", "2026-03-03T06:00", False),
        ("22:00", "06:00", "2026-03-03T12:00", False),
        ("00:00", "24:00", "2026-03-02T00:00", True),
        ("00:00", "24:00", "2026-03-02T23:59", True),
        ("22:00", "24:00", "2026-03-02T23:59", True),
        ("22:00", "24:00", "2026-03-03T00:00", False),
        ("22:00", "00:00", "2026-03-03T00:00", False),
    ],
)
def test_a_window_begins_with_its_start_and_ends_before_its_end(start: str, end: str, moment: str, quiet: bool) -> None:
    assert window(start, end).covers(at(moment)) is quiet


@pytest.mark.parametrize(
    ("moment", "quiet"),
    [
        ("2026-03-06T23:00", True),  # Friday night
        ("2026-03-07T05:00", True),  # still that night
        ("2026-03-07T23:00", False),  # Saturday's own
        ("2026-03-06T05:00", False),  # the end of Thursday's
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_began(moment: str, quiet: bool) -> None:
    assert window("22:00", "06:00", days="fri").covers(at(moment)) is quiet


@pytest.mark.parametrize(
    ("start", "end", "moment", "quiet"),
    [
        # Berlin leaves out 02:00 to 03:00 on 29 March 2026, and has it twice on 25 October.
        ("02:00", "03:00", "2026-03-29T00:59", False),
        ("02:00", "03:00", "2026-03-29T01:00", False),
        ("02:00", "03:00", "2026-10-25T00:30", True),
        ("02:00", "03:00", "2026-10-25T01:30", True),
        ("02:00", "03:00", "2026-10-25T02:00", False),
        ("22:00", "06:00", "2026-03-29T03:59", True),
        ("22:00", "06:00", "2026-03-29T04:00", False),
        ("22:00", "06:00", "2026-10-25T04:59", True),
        ("22:00", "06:00", "2026-10-25T05:00", False),
    ],
)
def test_a_change_to_summer_time_moves_the_window_with_the_clock(
    start: str, end: str, moment: str, quiet: bool
) -> None:
    assert window(start, end, "Europe/Berlin").covers(at(moment)) is quiet


minutes = st.integers(0, 24 * 60 - 1)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1))  # noqa: DTZ001 (aware below)


@given(moments, minutes, st.integers(1, 24 * 60), st.sampled_from(ZONES), st.sets(st.integers(0, 6), min_size=1))
def test_a_moment_is_quiet_when_its_zones_clock_says_so(
    moment: datetime, start: int, end: int, zone: str, days: set[int]
) -> None:
    if start == end:
        return
    utc = moment.replace(tzinfo=UTC)
    covered = QuietWindow(frozenset(days), start, end, zone).covers(int(utc.timestamp()) * 10**9)
    local = utc.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert covered == any(
        begin <= local < begin + timedelta(minutes=(end - start) % (24 * 60) or 24 * 60)
        for begin in _begins(local.date(), start, days)
    )


def _begins(today: date, start: int, days: set[int]) -> list[datetime]:
    """Yesterday's and today's, on the wall clock."""
    midnights = [datetime.combine(today - timedelta(days=back), datetime.min.time()) for back in (0, 1)]
    return [midnight + timedelta(minutes=start) for midnight in midnights if midnight.weekday() in days]


@given(moments, minutes, minutes, st.sampled_from(ZONES))
def test_a_window_and_the_rest_of_the_day_cover_every_moment_once(
    moment: datetime, start: int, end: int, zone: str
) -> None:
    if start == end:
        return
    at_ns = int(moment.replace(tzinfo=UTC).timestamp()) * 10**9
    both = [QuietWindow(ALL, *edges, zone).covers(at_ns) for edges in ((start, end), (end, start))]
    assert sorted(both) == [False, True]


@pytest.mark.parametrize(
    ("name", "is_one"), [("UTC", True), ("Europe/Berlin", True), ("Berlin", False), ("", False), ("/etc/passwd", False)]
)
def test_time_zones_are_named(name: str, is_one: bool) -> None:
    assert is_time_zone(name) is is_one
