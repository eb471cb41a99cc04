"""Days and losses.

Invariants: next_day_start is the first instant of another day; a day never begins after its times.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.portfolio.performance import (
    EquityTrack,
    Performance,
    account_day,
    day_start_ns,
    next_day_start_ns,
    observe_equity,
    performance_of,
)
from core.types.clock import NS_PER_S

D = Decimal
HOUR_NS = 3600 * NS_PER_S


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


@pytest.mark.parametrize(
    ("utc", "zone", "day", "hours"),
    [
        ("2026-01-15T12:00", "UTC", "2026-01-15", 24),
        ("2026-01-15T23:30", "Europe/Berlin", "2026-01-16", 24),
        ("2026-03-29T12:00", "Europe/Berlin", "2026-03-29", 23),  # clocks go forward
        ("2026-10-25T00:30", "Europe/Berlin", "2026-10-25", 25),  # and back
        ("2026-10-25T22:59", "Europe/Berlin", "2026-10-25", 25),
        ("2026-03-08T12:00", "America/New_York", "2026-03-08", 23),
        ("2026-11-01T04:00", "America/New_York", "2026-11-01", 25),
        ("2018-11-04T12:00", "America/Sao_Paulo", "2018-11-04", 23),  # no midnight: the day begins at one
        ("2018-02-17T12:00", "America/Sao_Paulo", "2018-02-17", 25),  # its last hour comes twice
        ("2024-11-03T12:00", "America/Havana", "2024-11-03", 25),  # midnight comes twice: the first one counts
        ("2011-12-29T12:00", "Pacific/Apia", "2011-12-29", 24),  # the 30th never was
        ("2026-04-05T12:00", "Australia/Lord_Howe", "2026-04-05", 24),  # half an hour of change
        ("2026-06-01T18:20", "Asia/Kathmandu", "2026-06-02", 24),
    ],
)
def test_a_day_is_the_account_s_own(utc: str, zone: str, day: str, hours: int) -> None:
    moment = ns(utc)
    assert account_day(moment, zone) == day
    start, end = day_start_ns(moment, zone), next_day_start_ns(moment, zone)
    assert start <= moment < end
    assert account_day(start, zone) == day != account_day(start - 1, zone)
    assert account_day(end - 1, zone) == day != account_day(end, zone)
    assert (end - start) // HOUR_NS == hours


ZONES = (
    "UTC",
    "Europe/London",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Asia/Tokyo",
    "Pacific/Auckland",
)


@settings(deadline=None)
@given(st.integers(ns("2012-01-01T00:00"), ns("2040-01-01T00:00")), st.sampled_from(ZONES))
def test_the_next_day_begins_where_this_one_ends(moment: int, zone: str) -> None:
    end = next_day_start_ns(moment, zone)
    assert day_start_ns(moment, zone) <= moment < end <= moment + 25 * HOUR_NS
    assert account_day(end - 1, zone) == account_day(moment, zone) < account_day(end, zone)
    assert day_start_ns(end, zone) == end


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc/passwd", "Europe"])
def test_an_unknown_zone_is_refused_with_its_cure(zone: str) -> None:
    with pytest.raises(ValueError, match="IANA name"):
        account_day(0, zone)


def track_of(*seen: tuple[str, str]) -> EquityTrack:
    track: EquityTrack | None = None
    for utc, equity in seen:
        track = observe_equity(track, D(equity), ns(utc), "Europe/Berlin")
    assert track is not None
    return track


def test_daily_loss_starts_anew_each_day_and_drawdown_does_not() -> None:
    seen = [("2026-01-15T10:00", "1000"), ("2026-01-15T12:00", "1200"), ("2026-01-15T22:30", "900")]
    assert track_of(*seen) == EquityTrack("2026-01-15", D(1000), D(1200), D(900))
    assert performance_of(track_of(*seen)) == Performance(D(100), D(1_000), D(300), D(2_500))

    seen.append(("2026-01-15T23:30", "890"))  # past midnight in Berlin
    track = track_of(*seen)
    assert track == EquityTrack("2026-01-16", D(900), D(1200), D(890))
    assert performance_of(track) == Performance(D(10), D("111.12"), D(310), D("2583.34"))


def test_a_gain_is_no_loss() -> None:
    track = track_of(("2026-01-15T10:00", "1000"), ("2026-01-15T12:00", "1200"))
    assert performance_of(track) == Performance(D(0), D(0), D(0), D(0))


def test_what_is_put_in_or_taken_out_is_neither() -> None:
    track = track_of(("2026-01-15T10:00", "1000"))
    track = observe_equity(track, D(1_490), ns("2026-01-15T11:00"), "Europe/Berlin", net_deposit=D(500))
    assert track == EquityTrack("2026-01-15", D(1_500), D(1_500), D(1_490))
    track = observe_equity(track, D(490), ns("2026-01-15T12:00"), "Europe/Berlin", net_deposit=D(-1_000))
    assert performance_of(track) == Performance(D(10), D(200), D(10), D(200))


def test_a_late_observation_of_an_earlier_day_does_not_reopen_it() -> None:
    track = track_of(("2026-01-16T10:00", "1000"), ("2026-01-15T10:00", "900"))
    assert (track.day, track.day_start_equity, track.equity) == ("2026-01-16", D(1000), D(900))


def test_without_equity_there_is_no_share_of_it() -> None:
    track = track_of(("2026-01-15T10:00", "0"), ("2026-01-15T11:00", "-5"))
    assert performance_of(track) == Performance(D(5), None, D(5), None)
