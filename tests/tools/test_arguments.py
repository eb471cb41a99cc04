"""What a call was given: bounded, valid text. The short way for what is usual says what the long one says."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tools.arguments import ARGUMENTS_LIMIT, TEXT_LIMIT_CHARS, bounded_as_record, is_bounded, plain_text

TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(["\x00", "\ud800", "x" * TEXT_LIMIT_CHARS])
LONGER = "x" * (TEXT_LIMIT_CHARS + 1)


class Text(str):
    """Goes the long way."""

    __slots__ = ()


@given(st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.lists(TEXT), max_size=6))
@example({"a": LONGER})
@example({LONGER: "a"})
@example({"a": "\x00"})
@example({"\ud800": "a"})
def test_a_dict_is_bounded_as_any_other_mapping_of_the_same_is(value: dict[str, Any]) -> None:
    assert is_bounded(value) is is_bounded(MappingProxyType(value))


@given(st.dictionaries(TEXT, TEXT | st.integers() | st.none() | st.booleans() | st.lists(TEXT), max_size=6))
@example({"a": "b", "c": None, "d": True})
@example({"a": ("b",)})
def test_a_dict_is_recorded_as_any_other_mapping_of_the_same_is(value: dict[str, Any]) -> None:
    recorded = bounded_as_record(value)
    assert repr(recorded) == repr(bounded_as_record(MappingProxyType(value)))
    recorded["added"] = "x"
    assert "added" not in value


@pytest.mark.parametrize(
    ("value", "bounded"),
    [
        ({}, True),
        ({"symbol": "BTCUSDT"}, True),
        ({"symbol": "x" * TEXT_LIMIT_CHARS}, True),
        ({"symbol": LONGER}, False),
        ({str(number): "x" for number in range(ARGUMENTS_LIMIT)}, True),
        ({str(number): "x" for number in range(ARGUMENTS_LIMIT + 1)}, False),
        ({"note": "a\x00b"}, False),
        ({"note": "caf\u00e9"}, True),
        ({"note": "\ud800"}, False),
        ({"note": object()}, False),
        ({"levels": [["1", "2"]]}, True),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": "too deep"}}}}}}}, False),
    ],
)
def test_arguments_are_bounded(value: dict[str, Any], bounded: bool) -> None:
    assert is_bounded(value) is bounded


@given(TEXT, st.integers(0, 12))
def test_a_name_from_outside_becomes_bounded_valid_text(text: str, limit_chars: int) -> None:
    told = plain_text(text, limit_chars)
    assert told == plain_text(Text(text), limit_chars)
    assert "\x00" not in told
    told.encode()


def test_what_is_no_text_is_told_by_its_kind() -> None:
    assert plain_text(5, 64) == "<int>"
