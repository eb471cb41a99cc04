"""What is told of a market that the engine can't trade in, from an HTTP server's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from api.supervisor.market import market_warning


@pytest.fixture
def venue() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Its URL, and what it answers by path."""
    answers: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("product", "spot", "perpetuals", "cure"),
    [
        ("spot", [], ["BTCUSDT"], "--product usdm"),
        ("spot", ["BTCUSDT"], [], None),
        ("spot", ["BTCUSDT"], ["BTCUSDT"], None),
        ("spot", [], [], None),
        ("usdm", ["BTCUSDT"], [], "--product spot"),
        ("usdm", [], ["BTCUSDT"], None),
        ("usdm", ["BTCUSDT"], ["BTCUSDT"], None),
    ],
)
def test_a_market_that_has_nothing_of_what_is_traded_is_told(
    venue: tuple[str, dict[str, bytes]], product: str, spot: list[str], perpetuals: list[str], cure: str | None
) -> None:
    url, answers = venue
    answers["/paper/v1/market"] = json.dumps({"symbols": spot, "usdmSymbols": perpetuals}).encode()
    warning = market_warning(url, product)
    assert (warning is not None) == (cure is not None)
    if warning is not None and cure is not None:
        assert "BTCUSDT" in warning
        assert cure in warning


@pytest.mark.parametrize("body", [None, b"not json", b"[]", b'{"symbols": []}'])
def test_a_venue_that_does_not_say_is_no_reason_to_warn(
    venue: tuple[str, dict[str, bytes]], body: bytes | None
) -> None:
    url, answers = venue
    if body is not None:
        answers["/paper/v1/market"] = body
    assert market_warning(url) is None
