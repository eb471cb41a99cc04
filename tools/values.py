"""How figures enter and leave tools: decimals as plain text, both ways.

In: text, or a JSON number for models' sake, bounded in length so that nobody computes with a gigabyte of digits.
Out: every number is text, so that a figure in an answer equals its cell letter for letter.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema, computed_field

from core.types.clock import format_utc_us
from core.types.money import decimal_text

INTEGER_DIGITS_LIMIT = 18
FRACTION_DIGITS_LIMIT = 18
NUMBER_TEXT_LIMIT = 64
BPS_PLACES = Decimal("0.0001")
RATIO_PLACES = Decimal("0.0001")
CALCULATION_DIGITS = 60
BPS_PER_UNIT = 10_000

_PLAIN = re.compile(rf"^-?[0-9]{{1,{INTEGER_DIGITS_LIMIT}}}(\.[0-9]{{1,{FRACTION_DIGITS_LIMIT}}})?$")
_WHOLE = re.compile(r"^-?[0-9]{1,18}$")


def parse_decimal_input(value: Any) -> Decimal:
    """A decimal in plain notation, from text, int or float.

    Raises ValueError for anything else: exponents in text, infinities, over 18 digits on either side of the point.
    """
    if isinstance(value, Decimal):
        text = format(value, "f") if value.is_finite() else ""
    elif isinstance(value, str):
        text = value.strip() if len(value) <= NUMBER_TEXT_LIMIT else ""
    elif isinstance(value, bool):
        text = ""
    elif isinstance(value, int):
        text = str(value) if -(10**INTEGER_DIGITS_LIMIT) < value < 10**INTEGER_DIGITS_LIMIT else ""
    elif isinstance(value, float):
        # repr is the shortest text that reads back as the same float: 0.1 stays 0.1.
        text = format(Decimal(repr(value)), "f") if value - value == 0 else ""
    else:
        text = ""
    if not _PLAIN.match(text):
        raise ValueError("must be a decimal number in plain notation, such as '0.5'")
    return Decimal(text)


def parse_whole_input(value: Any) -> int:
    """A whole number from int, text, or a float without a fraction. Raises ValueError for anything else."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**15:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**INTEGER_DIGITS_LIMIT:
        return value
    if isinstance(value, str) and len(value) <= NUMBER_TEXT_LIMIT and _WHOLE.match(value.strip()):
        return int(value)
    raise ValueError("must be a whole number")


def parse_word_input(value: Any) -> Any:
    """Vocabulary in any case: ``buy`` is BUY."""
    return value.strip().upper() if isinstance(value, str) else value


def _decimal_schema() -> dict[str, Any]:
    return {
        "anyOf": [{"type": "string", "pattern": _PLAIN.pattern}, {"type": "number"}],
        "description": "A decimal number, best as text in plain notation, such as '0.5'.",
    }


DecimalInput = Annotated[Decimal, BeforeValidator(parse_decimal_input), WithJsonSchema(_decimal_schema())]
WholeInput = Annotated[int, BeforeValidator(parse_whole_input)]

DecimalText = Annotated[Decimal, PlainSerializer(decimal_text, return_type=str)]
WholeText = Annotated[int, PlainSerializer(str, return_type=str)]


class ToolInput(BaseModel):
    """Arguments of a tool. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class ToolOutput(BaseModel):
    """What a tool found. as_of_ns is the moment its data was last confirmed, nanoseconds UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of_ns: WholeText

    @computed_field  # type: ignore[prop-decorator]
    @property
    def as_of(self) -> str:
        """The same moment for people, UTC with six digits."""
        return format_utc_us(self.as_of_ns)


class Cells(BaseModel):
    """A part of an output."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def mid_price(bid: Decimal, ask: Decimal) -> Decimal:
    """Halfway between, exactly."""
    return (bid + ask) / 2


def bps(part: Decimal, whole: Decimal) -> Decimal:
    """part / whole in basis points, rounded half even to four places."""
    return _ratio(part * BPS_PER_UNIT, whole, BPS_PLACES)


def ratio(part: Decimal, whole: Decimal) -> Decimal:
    """part / whole, rounded half even to four places."""
    return _ratio(part, whole, RATIO_PLACES)


def utc_text(timestamp_ns: int) -> str:
    """ISO 8601 UTC, six digits."""
    return format_utc_us(timestamp_ns)


def _ratio(part: Decimal, whole: Decimal, places: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = CALCULATION_DIGITS
        return (part / whole).quantize(places, rounding=ROUND_HALF_EVEN)
