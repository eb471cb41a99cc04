"""The fast canonical bytes are those of rfc8785, for whatever comes."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text.canonical import canonical_json

LEAVES = st.none() | st.booleans() | st.text() | st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(max_examples=300)
@given(VALUES)
def test_every_value_has_the_bytes_of_the_reference(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


def test_every_character_is_escaped_as_the_reference_does() -> None:
    for start in range(0, 0x11000, 0x100):
        text = "".join(chr(code) for code in range(start, start + 0x100) if not 0xD800 <= code < 0xE000)
        value = {"text": text, **{chr(code): "key" for code in range(1, 128)}}
        assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, 2**53, {"\ud800": "x"}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        canonical_json(value)


def test_deep_values_have_the_bytes_of_the_reference_too() -> None:
    value: Any = "leaf"
    for _ in range(100):
        value = [value]
    assert canonical_json(value) == rfc8785.dumps(value)
