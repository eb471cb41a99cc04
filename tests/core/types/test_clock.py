"""How moments are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types.clock import NS_PER_US, format_utc_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS = st.integers(0, 253_402_300_799_999_999)


@given(MICROSECONDS, st.integers(0, NS_PER_US - 1))
def test_a_moment_is_told_with_six_digits_and_nothing_is_rounded_up(since_us: int, rest_ns: int) -> None:
    moment = EPOCH + timedelta(microseconds=since_us)
    told = format_utc_us(since_us * NS_PER_US + rest_ns)
    assert told == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize(
    ("timestamp_ns", "told"),
    [
        (1_764_000_000_123_456_789, "2025-11-24T16:00:00.123456Z"),
        (1_764_000_000_999_999_999, "2025-11-24T16:00:00.999999Z"),
        (1_764_000_001_000_000_000, "2025-11-24T16:00:01.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_a_moment_just_before_a_second_is_not_of_the_next(timestamp_ns: int, told: str) -> None:
    assert format_utc_us(timestamp_ns) == told
