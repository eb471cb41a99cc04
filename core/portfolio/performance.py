"""An account's equity over time: its own calendar days, what it lost today, and how far it is below its peak.

A day is that of the account's time zone (an IANA name). It begins at its first instant, so a day on which the clocks
change is 23 or 25 hours long, and one that has no midnight begins when the clocks jump.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from core.portfolio.exact import BPS, BPS_PLACES, ZERO, exact, rounded_up
from core.types.clock import NS_PER_S

SECONDS_KEPT = 64
"""Every order asks what day it is."""


class EquityTrack(msgspec.Struct, frozen=True):
    """What daily loss and drawdown are measured from, in the reporting currency. day is the account's own.

    day_start_equity is the last equity that was seen before the day began, or the first one ever: a loss while nobody
    looked belongs to the day that first sees it.
    """

    day: str
    day_start_equity: Decimal
    peak_equity: Decimal
    equity: Decimal


class Performance(msgspec.Struct, frozen=True):
    """Losses in the reporting currency, zero when there is none; in bps of the equity they are measured from, rounded
    up at 2 places, None when that equity isn't positive."""

    daily_loss: Decimal
    daily_loss_bps: Decimal | None
    drawdown: Decimal
    drawdown_bps: Decimal | None


def account_day(ts_ns: int, time_zone: str) -> str:
    """The calendar day (YYYY-MM-DD) of a time in a time zone. Raises ValueError for an unknown zone."""
    # No zone's day begins within a second.
    return _day_of_second(ts_ns // NS_PER_S, time_zone)


def day_start_ns(ts_ns: int, time_zone: str) -> int:
    """When the day that holds a time began. Raises ValueError for an unknown zone."""
    return _first_instant_ns(_local(ts_ns, time_zone).date(), time_zone)


def next_day_start_ns(ts_ns: int, time_zone: str) -> int:
    """When the next day begins; always later than ts_ns. Raises ValueError for an unknown zone."""
    return _first_instant_ns(_local(ts_ns, time_zone).date() + timedelta(days=1), time_zone)


@lru_cache(maxsize=SECONDS_KEPT)
def _day_of_second(second: int, time_zone: str) -> str:
    return _local(second * NS_PER_S, time_zone).date().isoformat()


@exact
def observe_equity(
    track: EquityTrack | None, equity: Decimal, ts_ns: int, time_zone: str, net_deposit: Decimal = ZERO
) -> EquityTrack:
    """The track after one more observation.

    net_deposit is what was put in since the last one (negative: taken out): it moves the marks that losses are measured
    from, since it is neither a gain nor a loss. A time of an earlier day than the track's counts to the track's day.
    """
    day = account_day(ts_ns, time_zone)
    if track is None:
        return EquityTrack(day, equity, equity, equity)
    is_new_day = day > track.day
    start = (track.equity if is_new_day else track.day_start_equity) + net_deposit
    return EquityTrack(
        day=day if is_new_day else track.day,
        day_start_equity=start,
        peak_equity=max(track.peak_equity + net_deposit, equity),
        equity=equity,
    )


@exact
def performance_of(track: EquityTrack) -> Performance:
    daily_loss = max(ZERO, track.day_start_equity - track.equity)
    drawdown = max(ZERO, track.peak_equity - track.equity)
    return Performance(
        daily_loss=daily_loss,
        daily_loss_bps=_share_bps(daily_loss, track.day_start_equity),
        drawdown=drawdown,
        drawdown_bps=_share_bps(drawdown, track.peak_equity),
    )


def _share_bps(loss: Decimal, of: Decimal) -> Decimal | None:
    return rounded_up(loss * BPS / of, BPS_PLACES) if of > 0 else None


def _zone(time_zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"time zone {time_zone!r} isn't known here. Use an IANA name such as 'Europe/Berlin' or 'UTC', and see "
            "that the machine's time zone database (package tzdata) is installed."
        ) from error


def _local(ts_ns: int, time_zone: str) -> datetime:
    return datetime.fromtimestamp(ts_ns // NS_PER_S, _zone(time_zone))


def _first_instant_ns(day: date, time_zone: str) -> int:
    """fold=0 is the first of two midnights, and where clocks jump over midnight, the instant of the jump."""
    return int(datetime.combine(day, time(), _zone(time_zone)).timestamp()) * NS_PER_S
