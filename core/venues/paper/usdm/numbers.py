"""Signed numbers of the futures venue: ints at scale 8 inside, decimal text with a symbol's own places on the wire."""

from __future__ import annotations

from core.venues.paper.decimals import SCALE, UNIT


def fixed(value: int, places: int) -> str:
    """An int at scale 8 as text with `places` decimals (0 to 8); what lies below them is cut off."""
    if value < 0:
        text = fixed(-value, places)
        return f"-{text}" if text.strip("0.") else text
    whole, rest = divmod(value, UNIT)
    return f"{whole}.{rest // 10 ** (SCALE - places):0{places}d}" if places else str(whole)


def amount_text(value: int) -> str:
    """Money: eight decimals."""
    return fixed(value, SCALE)


def plain(value: int) -> str:
    """Without trailing zeros: `0.10`, scale 8, becomes `0.1`; zero is `0`."""
    text = fixed(value, SCALE).rstrip("0").rstrip(".")
    return text or "0"


def product(price: int, quantity: int) -> int:
    """price x quantity at scale 8, cut off towards zero; exact on the venue's ticks and steps."""
    magnitude = abs(price) * abs(quantity) // UNIT
    return magnitude if (price < 0) == (quantity < 0) else -magnitude


def ratio(numerator: int, denominator: int) -> int:
    """numerator / denominator of two ints at scale 8, rounded half up in magnitude, at scale 8; 0 over 0."""
    if not denominator:
        return 0
    magnitude = (2 * abs(numerator) * UNIT + abs(denominator)) // (2 * abs(denominator))
    return magnitude if (numerator < 0) == (denominator < 0) else -magnitude
