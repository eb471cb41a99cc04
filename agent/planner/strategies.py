"""What a person may ask of a strategy: the end of its mandate, or a lower limit, named as one.

A mandate can't be paused: it can end, and another one be approved later. So who asks for a pause gets the end
suggested, which says so.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

import msgspec

_STRATEGY = r"(?:(?:the|my|our)\s+)?(?:(?:mandate|strategy|bot|algo)\s+(?:of\s+)?(?:called\s+|named\s+)?)+"
_NAME = r"(?P<name>[A-Za-z0-9][\w.:-]{0,63}?)(?:'s)?(?:\s+(?:mandate|strategy|bot))?"
_END = re.compile(rf"^(?:end|stop|revoke|withdraw|pause|suspend|disable)\s+{_STRATEGY}{_NAME}\s*[.!]?$", re.IGNORECASE)
_HALVE = re.compile(
    r"^(?:halve|cut)\s+(?:the\s+)?(?:max(?:imum)?\s+)?(?:(?P<which>open\s+orders?|order|position|total)\s+)?"
    rf"(?:limits?\s+)?(?:(?:of|for)\s+)?{_STRATEGY}{_NAME}(?:\s+in\s+half)?\s*[.!]?$",
    re.IGNORECASE,
)
_LOWER = re.compile(
    r"^(?:lower|reduce|tighten)\s+(?:the\s+)?(?:max(?:imum)?\s+)?"
    r"(?:(?P<which>open\s+orders?|order|position|total)\s+)?(?:limits?|size)?\s*(?:of|for)\s+"
    rf"{_STRATEGY}{_NAME}\s+to\s+\$?(?P<number>\d[\d,]*(?:\.\d+)?)(?:\s*(?:usdt|usdc|usd|dollars?|orders?))?\s*[.!]?$",
    re.IGNORECASE,
)
_LIMITS = {
    "order": "max_order_notional_quote",
    "position": "max_position_notional_quote",
    "total": "max_total_notional_quote",
    "open orders": "max_open_orders",
    "open order": "max_open_orders",
}


class StrategyRequest(msgspec.Struct, frozen=True):
    """name is a mandate's or a strategy's. limit is None where it isn't said which one is meant, value where it is to
    be half of what it is."""

    name: str
    action: Literal["REVOKE", "TIGHTEN"]
    limit: str | None = None
    value: Decimal | None = None


def read_strategy_request(plain: str) -> StrategyRequest | None:
    """plain is the clause without its politeness."""
    if match := _END.match(plain):
        return StrategyRequest(match["name"], "REVOKE")
    if match := _LOWER.match(plain):
        return StrategyRequest(match["name"], "TIGHTEN", _limit(match), Decimal(match["number"].replace(",", "")))
    if (match := _HALVE.match(plain)) and re.search(r"\bhal(?:f|ve)\b", plain, re.IGNORECASE):
        return StrategyRequest(match["name"], "TIGHTEN", _limit(match))
    return None


def _limit(match: re.Match[str]) -> str | None:
    which = match["which"]
    return _LIMITS.get(re.sub(r"\s+", " ", which.lower())) if which else None
