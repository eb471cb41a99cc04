"""Money is exact: text to scaled int and back, held against Decimal as the oracle.

Invariants: parse_scaled(text, s) == Decimal(text) * 10^s whenever that is whole and fits; otherwise it raises.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types.money import MAX_SCALE, decimal_text, from_scaled, parse_scaled, rescale, scaled_text, to_scaled

LIMIT = 2**63 - 1


def _oracle(text: str, scale: int) -> int | None:
    scaled = Decimal(text).scaleb(scale)
    if scaled != scaled.to_integral_value() or abs(scaled) > LIMIT:
        return None
    return int(scaled)


@given(
    st.sampled_from(["", "-", "+"]),
    st.text("0123456789", max_size=19),
    st.text("0123456789", max_size=12),
    st.integers(0, 18),
)
def test_parsing_equals_decimal(sign: str, whole: str, fraction: str, scale: int) -> None:
    text = f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
    if not whole and not fraction:
        with pytest.raises(ValueError, match="no digits"):
            parse_scaled(text, scale)
        return
    expected = _oracle(text, scale)
    if expected is None:
        with pytest.raises(ValueError, match="at scale"):
            parse_scaled(text, scale)
    else:
        assert parse_scaled(text, scale) == expected


@pytest.mark.parametrize(
    "text", ["", ".", "-", "1e5", "0x10", " 1", "1 ", "1_000", "NaN", "Infinity", "1.2.3", "--1", "\u0661"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at scale"):
        parse_scaled(text, 2)


@pytest.mark.parametrize("scale", [-1, 19])
def test_a_scale_out_of_range_is_refused(scale: int) -> None:
    with pytest.raises(ValueError, match="scale must be"):
        parse_scaled("1", scale)


@given(st.integers(-LIMIT, LIMIT), st.integers(0, 18))
def test_scaled_ints_survive_the_round_trip(value: int, scale: int) -> None:
    assert to_scaled(from_scaled(value, scale), scale) == value


def test_rescaling_refuses_to_lose_digits() -> None:
    assert rescale(1_500, 3, 1) == 15
    assert rescale(15, 1, 3) == 1_500
    with pytest.raises(ValueError, match="beyond scale"):
        rescale(1_501, 3, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [("1.500", "1.5"), ("0.00", "0"), ("-0.0", "0"), ("100", "100"), ("1E+3", "1000"), ("1e-8", "0.00000001")],
)
def test_a_decimal_has_one_text(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


@given(st.integers(-(2**63), 2**63), st.integers(0, MAX_SCALE))
def test_an_int_at_a_scale_has_the_text_of_its_decimal(value: int, scale: int) -> None:
    assert scaled_text(value, scale) == decimal_text(from_scaled(value, scale))
