"""Nanoseconds and SQL's timestamptz, which holds microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

from core.types.clock import NS_PER_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def from_ns(timestamp_ns: int) -> datetime:
    """Cut to the microsecond."""
    return _EPOCH + timedelta(microseconds=timestamp_ns // NS_PER_US)


@overload
def to_ns(moment: datetime) -> int: ...
@overload
def to_ns(moment: None) -> None: ...
def to_ns(moment: datetime | None) -> int | None:
    """Exactly; no float on the way."""
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND * NS_PER_US
