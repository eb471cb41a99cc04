"""What people type: amounts, spans of time, ids of keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from api.cli.session import EXIT_USAGE, CommandError
from core.types.clock import NS_PER_S
from core.types.money import decimal_text

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
DIGITS_LIMIT = 40


def positive(option: str, given: str) -> str:
    """A positive decimal in plain notation. Raises CommandError."""
    try:
        value = Decimal(given) if len(given) <= DIGITS_LIMIT else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value <= 0 or abs(value.adjusted()) > DIGITS_LIMIT:
        raise usage(f"{option} {given[:DIGITS_LIMIT]}: give a number above zero, such as 0.5 or 60000.")
    return decimal_text(value)


def span_ns(option: str, given: str) -> int:
    """`90s`, `30m`, `8h`, `2d` in ns. Raises CommandError."""
    found = _SPAN.fullmatch(given)
    if found is None:
        raise usage(f"{option} {given[:DIGITS_LIMIT]}: give a span of time such as 90s, 30m, 8h or 2d.")
    return int(found[1]) * _SECONDS[found[2]] * NS_PER_S


def moment_ns(option: str, given: str, now_ns: int) -> int:
    """A span from now, or a moment as ISO 8601 with its zone (`2026-01-31T12:00:00Z`). Raises CommandError."""
    if _SPAN.fullmatch(given):
        return now_ns + span_ns(option, given)
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise usage(
            f"{option} {given[:DIGITS_LIMIT]}: give a span from now (2h) or a moment with its zone "
            "(2026-01-31T12:00:00Z)."
        )
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1_000


def usage(message: str) -> CommandError:
    """Wrong usage: exit 2."""
    return CommandError("REQUEST_INVALID", message, EXIT_USAGE)
