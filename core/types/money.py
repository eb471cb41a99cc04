"""Scaled-integer money. A float never holds money here.

Inside the kernel prices and quantities are ints at a decimal scale that is fixed for an instrument's life; at
every edge they are Decimals, and strings in JSON.
"""

from __future__ import annotations

from decimal import Decimal

from core._native import parse_scaled

__all__ = ["MAX_SCALE", "decimal_text", "from_scaled", "parse_scaled", "rescale", "scaled_text", "to_scaled"]

MAX_SCALE = 18
BPS_PER_UNIT = 10_000


def to_scaled(value: Decimal, scale: int) -> int:
    """Decimal to int at the given scale, exactly.

    Raises ValueError when value has more than `scale` decimal places, isn't finite, or exceeds 63 bits.
    """
    return parse_scaled(format(value, "f"), scale)


def from_scaled(value: int, scale: int) -> Decimal:
    """Int at the given scale to Decimal, exactly."""
    return Decimal(value).scaleb(-scale)


def scaled_text(value: int, scale: int) -> str:
    """decimal_text of from_scaled, without a Decimal in between."""
    digits = str(abs(value))
    if scale:
        digits = digits.rjust(scale + 1, "0")
        fraction = digits[-scale:].rstrip("0")
        digits = f"{digits[:-scale]}.{fraction}" if fraction else digits[:-scale]
    return f"-{digits}" if value < 0 else digits


def rescale(value: int, from_scale: int, to_scale: int) -> int:
    """Move an int between scales, exactly.

    Raises ValueError when digits would be lost.
    """
    if to_scale >= from_scale:
        raising: int = 10 ** (to_scale - from_scale)
        return value * raising
    power: int = 10 ** (from_scale - to_scale)
    quotient, remainder = divmod(value, power)
    if remainder:
        raise ValueError(f"{value} at scale {from_scale} has digits beyond scale {to_scale}")
    return quotient


def decimal_text(value: Decimal) -> str:
    """The one text form of a Decimal: plain notation, no trailing zeros, no negative zero.

    This form goes into proposals, JSON and audit records, so that equal values have equal bytes.
    """
    text = str(value)
    if "E" in text:
        # Only then: it takes twenty times as long.
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
