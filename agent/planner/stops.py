"""Orders that wait for their price, in plain words: "stop sell 0.1 BTC at 60000", "trailing stop sell 0.1 BTC 2%".

Only where the clause begins with the kind of order and says its side: "sell 0.1 BTC with a stop at 59000" could as
well be an entry with an exit behind it, and is asked about.
"""

from __future__ import annotations

import re
from decimal import Decimal

from agent.planner.changes import Change

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_ORDERED = re.compile(
    r"^(?:(?:suggest|propose|recommend|place|put(?:\s+in)?|set(?:\s+up)?|prepare|draft|create|make|enter)\s+)?"
    r"(?:(?:an?|me\s+an?|one)\s+)?"
    r"(?P<kind>trailing[\s-]stop(?:[\s-]loss)?|stop[\s-]limit|stop(?:[\s-]loss)?|take[\s-]profit)"
    r"(?:[\s-](?:order|market))?(?P<between>(?:\s+(?:of|at|with)?\s*\$?[\d.,]+\s*(?:%|percent|bps|basis\s+points)?)?)"
    r"\s*,?\s*(?:order\s+)?(?:to\s+)?(?P<side>buy|sell)\b(?P<rest>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_DISTANCE = re.compile(
    rf"(?:\b(?:trailing|trail|following|by|at|of|with)\s+){{0,2}}(?<![\w.,-])({_NUMBER})\s*(%|percent|bps|basis\s+points)",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    rf"(?:\b(?:and|with|,)\s*)?(?:\b(?:an?|its?)\s+)?\blimit(?:\s+price)?\s*(?:of|at|@|=)?\s*\$?({_NUMBER})",
    re.IGNORECASE,
)
_TRIGGER = re.compile(
    rf"(?:\b(?:at|stop(?:\s+price)?(?:\s+(?:at|of))?|trigger(?:ed|ing)?(?:\s+(?:at|of))?|when\s+it\s+(?:hits|reaches))|@)"
    rf"\s*\$?({_NUMBER})(?!\s*(?:%|percent|bps|basis))",
    re.IGNORECASE,
)
BPS_PER_PERCENT = 100
TRAILING_LIMIT_BPS = 10_000


def read_stop(plain: str) -> tuple[Change, str] | None:
    """What the clause orders, and the text that its side, size and instrument are read from; None for another request.

    plain is the clause without its politeness. A level that is missing, or could be meant in two ways, stays None.
    """
    match = _ORDERED.match(plain)
    if match is None:
        return None
    rest = f"{match['between']} ; {match['rest']}"
    kind = re.sub(r"[\s-]+", "_", match["kind"].upper())
    limits, rest = _taken(_LIMIT, rest) if kind == "STOP_LIMIT" else ([], rest)
    distances, rest = _taken(_DISTANCE, rest)
    triggers, rest = _taken(_TRIGGER, rest)
    words = f"{match['side']} {rest}"
    if kind.startswith("TRAILING"):
        only = distances[0] if len(distances) == 1 and not triggers else None
        return Change(order_type="TRAILING_STOP", trailing_offset_bps=_bps(only)), words
    trigger = _price(triggers[0]) if len(triggers) == 1 and not distances else None
    if kind == "STOP_LIMIT":
        limit = _price(limits[0]) if len(limits) == 1 else None
        return Change(order_type=kind, stop_price=trigger, new_price=limit), words
    return Change(order_type="TAKE_PROFIT" if kind == "TAKE_PROFIT" else "STOP", stop_price=trigger), words


def _taken(pattern: re.Pattern[str], text: str) -> tuple[list[re.Match[str]], str]:
    """All that matches, and the text without it."""
    return list(pattern.finditer(text)), pattern.sub(" ; ", text)


def _price(match: re.Match[str]) -> Decimal:
    return Decimal(match.group(1).replace(",", ""))


def _bps(match: re.Match[str] | None) -> int | None:
    if match is None:
        return None
    factor = BPS_PER_PERCENT if match.group(2).lower() in {"%", "percent"} else 1
    bps = _price(match) * factor
    return int(bps) if bps == bps.to_integral_value() and 0 < bps <= TRAILING_LIMIT_BPS else None
