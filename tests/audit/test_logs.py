"""Log lines: JSON, in UTC, with the trace, and with nothing in them that must not leave."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from audit.logs import configure_logging

EXCHANGE_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
ULID = "01KAX8F0000000000000000001"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("engine", "info", stream)
    yield stream
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_who_and_in_which_trace(stream: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(trace_id=ULID)
    structlog.get_logger("orders").info("order_accepted", client_order_id="vz0123456789abcdef", quantity="0.5")
    [line] = lines(stream)
    assert line["timestamp"].endswith("Z")
    assert {name: line[name] for name in ("process", "logger", "level", "event", "trace_id")} == {
        "process": "engine",
        "logger": "orders",
        "level": "info",
        "event": "order_accepted",
        "trace_id": ULID,
    }
    assert (line["client_order_id"], line["quantity"]) == ("vz0123456789abcdef", "0.5")


def test_values_are_redacted_by_key_and_by_pattern(stream: io.StringIO) -> None:
    structlog.get_logger("venue").warning(
        f"sent with {EXCHANGE_KEY}", headers={"X-MBX-APIKEY": "short"}, note=["john@example.com"]
    )
    text = stream.getvalue()
    assert EXCHANGE_KEY not in text
    assert "short" not in text
    assert "john" not in text
    assert lines(stream)[0]["event"] == "sent with <EXCHANGE_KEY>"


def test_exceptions_are_redacted_with_their_causes(stream: io.StringIO) -> None:
    def fail() -> None:
        try:
            raise ValueError(f"bad key {EXCHANGE_KEY}")
        except ValueError as error:
            raise RuntimeError("login of john@example.com failed") from error

    try:
        fail()
    except RuntimeError:
        structlog.get_logger("auth").exception("failed")
    text = stream.getvalue()
    assert "RuntimeError: login of <EMAIL> failed" in lines(stream)[0]["exception"]
    assert EXCHANGE_KEY not in text


def test_stdlib_logging_goes_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("some.library").warning("connecting as %s", "john@example.com", extra={"password": "hunter2"})
    [line] = lines(stream)
    assert line["event"] == "connecting as <EMAIL>"
    assert line["password"] == "<SECRET>"
    assert line["process"] == "engine"


def test_objects_are_redacted_as_their_text(stream: io.StringIO) -> None:
    class Session:
        def __repr__(self) -> str:
            return "Session(user=john@example.com)"

    structlog.get_logger("auth").info("opened", session=Session())
    assert lines(stream)[0]["session"] == "Session(user=<EMAIL>)"


def test_an_event_that_cannot_be_redacted_is_dropped_and_said(stream: io.StringIO) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    structlog.get_logger("auth").info("opened by john@example.com", session=Broken())
    [line] = lines(stream)
    assert (line["event"], line["reason"]) == ("log_event_dropped", "RuntimeError")
    assert "john" not in stream.getvalue()


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger("orders").debug("details")
    logging.getLogger("library").debug("details")
    assert stream.getvalue() == ""


def test_libraries_that_log_their_urls_are_kept_quiet(stream: io.StringIO) -> None:
    logging.getLogger("httpx").info("GET /api/v3/account?signature=abc")
    assert stream.getvalue() == ""
