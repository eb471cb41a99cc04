"""What a person may ask of a strategy: the end of its mandate, or a lower limit, named as one. Parts of a limit and
pauses aren't worked out: they are asked about."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

import msgspec

_STRATEGY = r"(?:(?:the|my|our)\s+)?(?:(?:mandate|strategy|bot|algo)\s+(?:of\s+)?(?:called\s+|named\s+)?)+"
_NAME = r"(?P<name>[A-Za-z0-9][\w.:-]{0,63}?)(?:'s)?(?:\s+(?:mandate|strategy|bot))?"
_END = re.compile(rf"^(?:end|stop|revoke|withdraw)\s+{_STRATEGY}{_NAME}\s*[.!]?$", re.IGNORECASE)
_PAUSE = re.compile(rf"^(?:pause|suspend|hold|halve|disable)\s+.*?{_STRATEGY}{_NAME}\b.*$", re.IGNORECASE)
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
    """name is a mandate's or a strategy's. limit is None where it isn't said which one is meant."""

    name: str
    action: Literal["REVOKE", "TIGHTEN", "UNCLEAR"]
    limit: str | None = None
    value: Decimal | None = None


def read_strategy_request(plain: str) -> StrategyRequest | None:
    """plain is the clause without its politeness."""
    if match := _END.match(plain):
        return StrategyRequest(match["name"], "REVOKE")
    if match := _LOWER.match(plain):
        which = re.sub(r"\s+", " ", match["which"].lower()) if match["which"] else ""
        return StrategyRequest(match["name"], "TIGHTEN", _LIMITS.get(which), Decimal(match["number"].replace(",", "")))
    if match := _PAUSE.match(plain):
        return StrategyRequest(match["name"], "UNCLEAR")
    return None
