"""The native walks say what those in Python say: of every value, with nothing known beforehand and again after it.

Invariants: the same value, the same findings in the same order and at the same places; a text is passed unread exactly
where the forms in Python pass it; bytes that were written without redacting are those of what redaction gives.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core._native import redacted
from core.text import redaction
from core.text.canonical import is_text_only, is_text_only_plainly
from core.text.redaction import DEPTH_LIMIT, NODES_LIMIT, Redactor

REDACTOR = Redactor(b"k" * 32)
DIGEST, ULID = "0123456789abcdef" * 4, "01M8HST2MBRG38K9B9TQ25DGDX"
CARD, IBAN, EXCHANGE_KEY = "4111111111111111", "DE89370400440532013000", "aB3" * 21 + "x"


class Word(StrEnum):
    ONE = "ada@example.com"


USUAL_KEYS = ("symbol", "price", "call_id", "schema_digest", "note", "as_of_ns", "sources", "a.b", "with space", "")
KEYS = st.sampled_from(
    [
        *USUAL_KEYS,
        *("password", "apiSecret", "seed", "email", "username", "cardnumber", "X-MBX-APIKEY", "account_number"),
        *("ada@example.com", "schlüssel", "k" * 200, "\u200bpassword", CARD),
    ]
)
TEXTS = st.sampled_from(
    [
        *("", "BTCUSDT", "-12.5", "1e5", "12345678901", "123456789012", "1.", "-", "20", "x" * 24, "x" * 25),
        *("2026-11-28T19:23:44.139042Z", "2026-11-28T19:23:44.139042z", "2026-11-28 19:23:44.139042Z"),
        *(DIGEST, DIGEST[:32], DIGEST[:16], DIGEST.upper(), ULID, ULID.lower(), "8" + ULID[1:], "engine:market"),
        *("ada@example.com", "write to ada@example.com, please", "call +49 170 1234567", CARD, IBAN, EXCHANGE_KEY),
        *("caf\u00e9", "\uff14\uff11\uff11\uff11" * 4, "line\nada@example.com", "<EMAIL:0123456789ab>"),
        *("venue/BTC-USDT:1.5_x", "password is hunter22", "a" * 161, "\x00"),
    ]
)
LEAVES = (
    TEXTS
    | st.text(max_size=30)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([Decimal("1.50"), Word.ONE, b"bytes", 1 << 80, frozenset({1})])
)
USUAL = TEXTS | st.none() | st.booleans() | st.integers()


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.dictionaries(keys, inner, max_size=5)
            | st.lists(inner, max_size=4)
            | st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=25,
    )


def agree(value: Any) -> None:
    expected = REDACTOR.value_plainly(value)
    assert repr(REDACTOR.value(value)) == repr(expected)
    forget()
    for _ in range(2):
        written = REDACTOR.clean_json(value)
        assert written is None or (written, ()) == (rfc8785.dumps(expected.value), expected.findings)
        assert repr(REDACTOR.value(value)) == repr(expected)


def forget() -> None:
    for known in (redaction._clean_texts, redaction._clean_in_identifiers, redaction._key_traits):
        known.clear()  # type: ignore[attr-defined]


@settings(max_examples=250)
@given(nested(USUAL, KEYS))
@example({"password": ["a", {"b": 1}], "seed": 7, "items": [{"email": "x"}, ("ada@example.com",)]})
@example({"ada@example.com": "a", "bob@example.com": "b"})
def test_what_is_usual_is_redacted_as_in_python(value: Any) -> None:
    agree(value)


@settings(max_examples=150)
@given(nested(LEAVES, KEYS | st.integers() | st.text(max_size=5)))
def test_whatever_comes_is_redacted_as_in_python(value: Any) -> None:
    agree(value)


@pytest.mark.parametrize("depth", [DEPTH_LIMIT - 1, DEPTH_LIMIT, DEPTH_LIMIT + 1])
def test_what_is_too_deep_is_cut_at_the_same_place(depth: int) -> None:
    value: Any = "ada@example.com"
    for _ in range(depth):
        value = {"a": value}
    agree(value)


@pytest.mark.parametrize("count", [NODES_LIMIT - 3, NODES_LIMIT - 2, NODES_LIMIT - 1])
def test_what_is_too_large_is_cut_at_the_same_place(count: int) -> None:
    agree({"first": ["a"] * (count - 1), "last": "ada@example.com"})


@settings(max_examples=150)
@given(nested(TEXTS | st.none() | st.booleans(), st.sampled_from(USUAL_KEYS)))
@example({"symbol": "BTCUSDT", "a.b": ["x y", "venue:paper", ("z",)], "price": None, "note": True})
def test_text_without_a_finding_is_written_once_it_is_known(value: Any) -> None:
    redacted_value = REDACTOR.value(value)
    written = REDACTOR.clean_json(value)
    if (
        redacted_value.findings
        or repr(redacted_value.value) != repr(value)
        or not all(map(is_written, texts_in(value)))
    ):
        assert written is None
    else:
        assert written == rfc8785.dumps(value)


def texts_in(value: Any) -> list[str]:
    """Its keys as well."""
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in texts_in(item))]
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts_in(item)]
    return [value] if isinstance(value, str) else []


def is_written(text: str) -> bool:
    """Not what is escaped, nor longer than what is kept as known."""
    return text.isascii() and text.isprintable() and len(text) <= redaction.CLEAN_TEXT_LIMIT_CHARS


@pytest.mark.parametrize(
    "value",
    [
        *({"a": 1}, {"a": 1.5}, {"a": Decimal(1)}, {"a": Word.ONE}, {1: "a"}, {"caf\u00e9": "a"}, {"a": "caf\u00e9"}),
        *({"a": 'say "no"'}, {"a": "back\\slash"}, {"a": "line\nend"}, {"a": "\x00"}, {"a": b"bytes"}, {"a": {"b"}}),
        *({"password": "x"}, {"email": ""}, {"a": "ada@example.com"}, {"a": CARD}, OrderedDict(a="x")),
    ],
    ids=repr,
)
def test_what_has_to_be_looked_at_or_escaped_is_not_written(value: Any) -> None:
    for _ in range(2):
        assert REDACTOR.clean_json(value) is None
        REDACTOR.value(value)


@pytest.mark.parametrize(("depth", "is_written"), [(DEPTH_LIMIT, True), (DEPTH_LIMIT + 1, False)])
def test_what_is_cut_for_its_depth_is_not_written(depth: int, is_written: bool) -> None:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    assert (REDACTOR.clean_json(value) is not None) is is_written
    assert (repr(REDACTOR.value(value).value) == repr(value)) is is_written


@pytest.mark.parametrize(("count", "is_written"), [(NODES_LIMIT - 1, True), (NODES_LIMIT, False)])
def test_what_is_cut_for_its_size_is_not_written(count: int, is_written: bool) -> None:
    value = ["a"] * count
    assert (REDACTOR.clean_json(value) is not None) is is_written
    assert (REDACTOR.value(value).value == value) is is_written


def test_what_was_never_seen_is_not_written() -> None:
    forget()
    assert REDACTOR.clean_json({"a": "x"}) is None
    REDACTOR.value({"a": "x"})
    assert REDACTOR.clean_json({"a": "x"}) == b'{"a":"x"}'
    assert REDACTOR.clean_json({"a": "venue:paper"}) is None
    REDACTOR.value({"a": "venue:paper"})
    assert REDACTOR.clean_json({"a": "venue:paper"}) == b'{"a":"venue:paper"}'


def test_a_value_is_copied_and_never_changed() -> None:
    value = {"a": ["x", {"b": "y"}], "email": "ada@example.com"}
    out = REDACTOR.value(value).value
    out["a"][1]["b"] = "changed"
    assert value == {"a": ["x", {"b": "y"}], "email": "ada@example.com"}
    assert type(REDACTOR.value(OrderedDict(a="x")).value) is dict


class Unread:
    """Stands in for the walk in Python: says which texts it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def visit_text(self, text: str, _path: str, _key: str) -> str:
        self.asked.append(text)
        return text


def is_passed_unread(text: str, traits: int) -> bool:
    slow = Unread()
    assert redacted({"key": text}, slow, {"key": traits}, set(), set(), DEPTH_LIMIT, NODES_LIMIT) == {"key": text}
    return not slow.asked


def near(pattern: re.Pattern[str]) -> st.SearchStrategy[str]:
    """Texts of the form, and such with one character more, less or exchanged."""
    exact = st.from_regex(pattern, fullmatch=True)
    characters = st.sampled_from("0189afgzAGIZ_-.:TZ/ \né")
    return (
        exact
        | st.tuples(exact, characters).map("".join)
        | st.tuples(exact, st.integers(0, 70), characters).map(lambda parts: parts[0][: parts[1]] + parts[2])
        | st.tuples(exact, st.integers(0, 70), characters).map(
            lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
        )
        | exact.map(lambda text: text[:-1])
    )


@settings(max_examples=500)
@given(near(redaction._HARMLESS) | near(redaction._OWN_IDENTIFIER))
def test_a_text_is_passed_unread_exactly_by_the_forms(text: str) -> None:
    is_harmless = redaction._HARMLESS.fullmatch(text) is not None
    is_own = redaction._OWN_IDENTIFIER.fullmatch(text) is not None
    assert is_passed_unread(text, 0) is is_harmless
    assert is_passed_unread(text, redaction._IDENTIFIER_KEY) is (is_harmless or is_own)


@given(near(redaction._IDENTIFIER) | TEXTS)
def test_what_is_clean_with_some_detectors_off_is_so_under_an_identifiers_key_alone(text: str) -> None:
    if redaction._HARMLESS.fullmatch(text) or redaction._OWN_IDENTIFIER.fullmatch(text):
        return
    as_identifier = redaction._IDENTIFIER.fullmatch(text) is not None
    for clean, clean_in_identifiers, traits, passed in (
        ({text}, set[str](), 0, True),
        (set[str](), {text}, 0, False),
        ({text}, set[str](), redaction._IDENTIFIER_KEY, True),
        (set[str](), {text}, redaction._IDENTIFIER_KEY, as_identifier),
    ):
        slow = Unread()
        redacted({"key": text}, slow, {"key": traits}, clean, clean_in_identifiers, DEPTH_LIMIT, NODES_LIMIT)
        assert (not slow.asked) is passed


@pytest.mark.parametrize("key", ["ada@example.com", CARD, "k" * 200])
def test_a_key_that_is_not_known_to_be_clean_is_not_kept(key: str) -> None:
    REDACTOR.value({key: "value"})
    assert key not in redaction._key_traits


def test_an_error_in_the_walk_in_python_comes_out() -> None:
    class Broken:
        def visit_text(self, _text: str, _path: str, _key: str) -> str:
            raise KeyError

    with pytest.raises(KeyError):
        redacted(["a b"], Broken(), {}, set(), set(), DEPTH_LIMIT, NODES_LIMIT)


@settings(max_examples=300)
@given(nested(LEAVES, KEYS | st.text(max_size=5) | st.integers()))
@example(Word.ONE)
@example({Word.ONE: "x"})
@example([OrderedDict(a="x")])
def test_text_alone_is_told_as_in_python(value: Any) -> None:
    assert is_text_only(value) is is_text_only_plainly(value)


@pytest.mark.parametrize("depth", [DEPTH_LIMIT - 1, DEPTH_LIMIT, DEPTH_LIMIT + 1])
def test_text_alone_is_told_to_the_same_depth(depth: int) -> None:
    value: Any = "leaf"
    for _ in range(depth):
        value = [value]
    assert is_text_only(value) is is_text_only_plainly(value) is (depth <= DEPTH_LIMIT)
