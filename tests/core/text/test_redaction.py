"""Tier 1's behaviour: field policy, pseudonyms, bounds."""

from __future__ import annotations

import string
import time
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.text._detectors import find_spans
from core.text.redaction import (
    DEPTH_LIMIT,
    KINDS_OFF_IN_IDENTIFIERS,
    NODES_LIMIT,
    TEXT_LIMIT_CHARS,
    Kind,
    Redactor,
    redact_text,
    redact_value,
)
from core.types.clock import format_utc_us
from core.types.codes import ReasonCode

WORST_CASE_S = 5.0


@pytest.mark.parametrize(
    "key",
    [
        *("password", "Password", "db_password", "secret", "client_secret", "apiSecret", "X-MBX-APIKEY", "api_key"),
        *("token", "access_token", "refreshToken", "Authorization", "private_key", "privateKeyHex", "mnemonic"),
        *("seed", "cookie", "Set-Cookie", "signature"),
    ],
)
def test_a_secret_is_known_by_its_key(key: str) -> None:
    redacted = redact_value({"outer": [{key: "short"}]})
    assert redacted.value == {"outer": [{key: "<SECRET>"}]}
    assert [(finding.kind, finding.path) for finding in redacted.findings] == [(Kind.SECRET, f"$.outer[0].{key}")]


@pytest.mark.parametrize(
    "value",
    [
        {"tokens": 1_250, "max_tokens": 4_000, "seed": 7},
        {"signature_hex": "ab" * 64, "public_key_hex": "cd" * 32, "key_id": "demo-approver"},
        {"password": None, "secret": ""},
        {"price": Decimal("64000.01"), "quantity": 5, "complete": True, "none": None, "ratio": 0.5},
        {"code": ReasonCode.MARKET_BOOK_STALE},
        {"symbols": ("BTCUSDT", "ETHUSDT"), "levels": [["64000.01", "0.5"]]},
    ],
)
def test_what_is_no_secret_stays_as_it_is(value: dict[str, Any]) -> None:
    assert redact_value(value).value == value


def test_a_secret_that_is_an_object_goes_whole() -> None:
    assert redact_value({"credentials": {"user": "a", "pin": 1}}).value == {"credentials": "<SECRET>"}


def test_keys_are_redacted_too() -> None:
    assert redact_value({"john@example.com": 1}).value == {"<EMAIL>": 1}


def test_structs_bytes_and_strangers_become_what_can_be_read() -> None:
    class Login(msgspec.Struct):
        user: str
        password: str

    class Stranger:
        def __str__(self) -> str:
            return "call +44 20 7946 0958"

    value = {"login": Login("user-trader", "hunter2"), "raw": b"hunter2", "other": Stranger()}
    assert redact_value(value).value == {
        "login": {"user": "user-trader", "password": "<SECRET>"},
        "raw": "<BINARY: 7 bytes>",
        "other": "call <PHONE>",
    }


def test_one_value_has_one_pseudonym_within_a_scope_and_another_elsewhere() -> None:
    here, there = Redactor(b"here"), Redactor(b"there")
    first = here.text("from John@Example.com").text.removeprefix("from ")
    assert here.value({"note": "john%40example.com again"}).value == {"note": f"{first} again"}
    assert here.text("jane@example.com").text != first
    assert there.text("john@example.com").text != first
    assert first.startswith("<EMAIL:")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+44 20 7946 0958", "+442079460958"),
        ("4111 1111 1111 1111", "4111-1111-1111-1111"),
        ("GB82 WEST 1234 5698 7654 32", "GB82WEST12345698765432"),
    ],
)
def test_the_same_number_written_otherwise_is_the_same_person(one: str, other: str) -> None:
    redactor = Redactor(b"scope")
    assert redactor.text(one).text == redactor.text(other).text


def test_findings_say_where_and_never_what() -> None:
    redacted = redact_text("a john@example.com b")
    [finding] = redacted.findings
    assert (finding.kind, finding.start, finding.end) == (Kind.EMAIL, 2, 18)
    assert "john" not in repr(redacted)


def test_longer_text_is_cut_and_says_so() -> None:
    redacted = redact_text("word " * TEXT_LIMIT_CHARS)
    assert redacted.cut
    assert len(redacted.text) < TEXT_LIMIT_CHARS + 64
    assert "<CUT: " in redacted.text


def test_a_secret_across_the_cut_does_not_leave_half_of_itself() -> None:
    key = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
    for overlap in range(1, len(key), 7):
        filler = "word " * ((TEXT_LIMIT_CHARS - overlap) // 5)
        text = filler + "x" * (TEXT_LIMIT_CHARS - overlap - len(filler) - 1) + " " + key
        assert key[:8] not in redact_text(text).text


def test_depth_and_size_are_bounded() -> None:
    deep: Any = "bottom"
    for _ in range(DEPTH_LIMIT + 5):
        deep = [deep]
    assert "bottom" not in str(redact_value(deep).value)
    wide = redact_value(["item"] * (NODES_LIMIT + 5)).value
    assert len(wide) == NODES_LIMIT + 5
    assert wide[-1] != "item"


@pytest.mark.parametrize(
    "unit", ["a", "1", "eyJ", "0x", "+1 ", "word ", "1 ", "a@", "a.", "-----BEGIN ", "A1", "(1)", "secret ", "\n"]
)
def test_no_text_takes_it_long(unit: str) -> None:
    text = unit * (TEXT_LIMIT_CHARS // len(unit))
    before = time.process_time()
    redact_text(text)
    assert time.process_time() - before < WORST_CASE_S


@given(st.text(max_size=300))
def test_redaction_is_idempotent(text: str) -> None:
    redactor = Redactor(b"scope")
    once = redactor.text(text).text
    assert redactor.text(once).text == once


@given(st.text(alphabet=" \nabz09@.+-(){}[]:=/_'\"", max_size=200))
def test_what_is_found_is_gone(text: str) -> None:
    redacted = redact_text(text)
    assert all(0 <= finding.start < finding.end <= len(text) for finding in redacted.findings)
    assert (redacted.text == text) == (not redacted.findings)


@pytest.mark.parametrize("alphabet", ["abcdefgxyzSKGHPubc_", string.ascii_letters + "_", "sk_live_hf_npm_bc"])
def test_words_that_are_passed_unread_hold_nothing_that_a_detector_finds(alphabet: str) -> None:
    random = Random(alphabet)
    for _ in range(2_000):
        text = "".join(random.choices(alphabet, k=random.randint(0, 24)))
        assert list(find_spans(text)) == [], text


def test_plain_numbers_that_are_passed_unread_hold_nothing_that_a_detector_finds() -> None:
    random = Random(7)
    for _ in range(5_000):
        text = random.choice(["", "-"]) + "".join(random.choices("0123456789", k=random.randint(1, 11)))
        text += random.choice(["", "." + "".join(random.choices("0123456789", k=random.randint(1, 11)))])
        assert list(find_spans(text)) == [], text


@pytest.mark.parametrize("text", ["4111111111111111", "john@example.com", "AKIAIOSFODNN7EXAMPLE"])
def test_what_was_found_once_is_found_again_and_by_key_name_alone_may_stay(text: str) -> None:
    for _ in range(2):
        assert redact_value({"note": text}).value["note"] != text
    assert redact_value({"order_id": "4111111111111111"}).value == {"order_id": "4111111111111111"}
    assert redact_value({"note": "4111111111111111"}).value != {"note": "4111111111111111"}


OWN_IDENTIFIERS = {
    "span": lambda random: f"{random.getrandbits(64):016x}",
    "trace": lambda random: f"{random.getrandbits(128):032x}",
    "digest": lambda random: f"{random.getrandbits(256):064x}",
    "ulid": lambda random: (
        random.choice("01234567") + "".join(random.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=25))
    ),
    "time_ns": lambda random: str(random.randint(10**12, 10**20 - 1)),
}


@pytest.mark.parametrize("shape", OWN_IDENTIFIERS)
def test_our_own_identifiers_are_what_the_detectors_pass_under_an_identifiers_key(shape: str) -> None:
    random = Random(shape)
    for _ in range(500):
        text = OWN_IDENTIFIERS[shape](random)
        left = [span for span in find_spans(text) if span.kind not in KINDS_OFF_IN_IDENTIFIERS]
        assert left == [], text
        assert redact_value({"some_id": text}).value == {"some_id": text}


def test_times_as_we_write_them_are_passed() -> None:
    random = Random(11)
    for _ in range(500):
        text = format_utc_us(random.randint(1_600_000_000, 2_400_000_000) * 10**9 + random.randint(0, 10**9))
        assert list(find_spans(text)) == [], text
        assert redact_text(text).text == text
