"""Binance's numbers: strings with eight decimal places on the wire, ints at scale 8 inside the venue."""

from __future__ import annotations

from core.types.money import parse_scaled

SCALE = 8
UNIT: int = 10**SCALE
ZERO = "0.00000000"


def text8(value: int) -> str:
    """A non-negative int at scale 8 as Binance writes it: `61837.63000000`."""
    whole, rest = divmod(value, UNIT)
    return f"{whole}.{rest:08d}"


def parse8(text: str) -> int:
    """A decimal string as int at scale 8.

    Raises ValueError when it is no plain decimal or has more than eight places.
    """
    if len(text) > SCALE and text[-SCALE - 1] == ".":
        digits = text[: -SCALE - 1] + text[-SCALE:]
        if digits.isascii() and digits.isdigit():
            return int(digits)
    value: int = parse_scaled(text, SCALE)
    return value


def quote_amount(price: int, quantity: int) -> int:
    """price x quantity at scale 8, rounded down; exact for prices and quantities on the venue's tick and step."""
    return price * quantity // UNIT
