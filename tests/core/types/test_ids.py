"""A trace id is a ULID and a W3C trace-id at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from core.types.clock import NS_PER_MS, SystemClock
from core.types.ids import SystemIdSource, new_span_id, new_trace, normalise_trace_id, parse_traceparent, ulid_text


class OneId:
    def __init__(self, number: int) -> None:
        self._text = ulid_text(number)

    def new_ulid(self) -> str:
        return self._text


NUMBERS = st.integers(0, (1 << 128) - 1)


@given(NUMBERS)
def test_a_ulids_text_is_that_of_the_reference(number: int) -> None:
    assert ulid_text(number) == str(ULID.from_int(number))


@given(NUMBERS)
def test_a_span_is_the_last_half_of_its_ulid(number: int) -> None:
    assert new_span_id(OneId(number)) == ULID.from_int(number).bytes[8:].hex()


def test_an_id_tells_the_moment_it_was_made_in() -> None:
    clock, ids = SystemClock(), SystemIdSource()
    before_ms = clock.now_ns() // NS_PER_MS
    made_ms = ULID.from_str(ids.new_ulid()).milliseconds
    assert before_ms <= made_ms <= clock.now_ns() // NS_PER_MS


def test_ids_of_one_source_are_in_the_order_they_were_made_in() -> None:
    ids = SystemIdSource()
    made = [ids.new_ulid() for _ in range(5_000)]
    assert made == sorted(set(made))


def test_threads_share_a_source_and_get_no_id_twice() -> None:
    ids = SystemIdSource()
    with ThreadPoolExecutor(4) as threads:
        made = list(chain.from_iterable(threads.map(lambda _: [ids.new_ulid() for _ in range(2_000)], range(8))))
    assert len(set(made)) == 16_000


def test_a_traceparent_reads_back() -> None:
    trace = new_trace(SystemIdSource())
    assert parse_traceparent(trace.traceparent) == trace


def test_both_forms_of_a_trace_id_are_accepted() -> None:
    trace = new_trace(SystemIdSource())
    as_hex = trace.traceparent.split("-")[1]
    assert normalise_trace_id(as_hex) == trace.trace_id == normalise_trace_id(trace.trace_id.lower())


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-abc-def-01",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "g" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_other_headers_are_refused(header: str) -> None:
    with pytest.raises(ValueError, match=r"traceparent|hexadecimal"):
        parse_traceparent(header)
