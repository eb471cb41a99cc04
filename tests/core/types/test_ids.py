"""A trace id is a ULID and a W3C trace-id at once."""

from __future__ import annotations

import pytest

from core.types.ids import SystemIdSource, new_trace, normalise_trace_id, parse_traceparent


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
