"""Calendar days as tools take them: YYYY-MM-DD in the account's time zone."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from core.types.codes import ReasonCode, refuse

DAYS_LIMIT = 366
DAY_LENGTH_CHARS = 10


def parse_day(value: Any) -> str:
    """Raises ValueError for anything but a day of the calendar."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        if len(text) != DAY_LENGTH_CHARS:
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("must be a calendar day such as 2026-01-31") from None


DayInput = Annotated[
    str, BeforeValidator(parse_day), WithJsonSchema({"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"})
]


def days_of(today: str, days: int, from_day: str | None, to_day: str | None) -> tuple[str, str]:
    """(first, last) of what is asked for; without a last day it is today, without a first one it follows from days.

    Raises RefusalError(TOOL_ARGUMENTS_INVALID) for more than DAYS_LIMIT days, or a first day after the last.
    """
    last = date.fromisoformat(to_day or today)
    try:
        first = date.fromisoformat(from_day) if from_day else last - timedelta(days=days - 1)
    except OverflowError:
        first = date.min
    asked = (last - first).days + 1
    if not 1 <= asked <= DAYS_LIMIT:
        raise refuse(
            ReasonCode.TOOL_ARGUMENTS_INVALID,
            f"From {first} to {last} isn't from 1 to {DAYS_LIMIT} days. Ask for others.",
            limit=str(DAYS_LIMIT),
            actual=str(asked),
            unit="days",
        )
    return first.isoformat(), last.isoformat()
