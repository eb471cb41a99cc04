"""`veloz data` and `veloz record`: what is printed, and the exit codes that scripts rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from api.cli.app import app
from core.types.clock import SystemClock
from core.types.instruments import Product
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.server import PaperVenue
from tests.core.venues.binance.market_lines import LineMarket, market, write
from tests.core.venues.paper.support import CREDENTIALS

REPLAY_KEYS = {
    "frames",
    "depth_messages",
    "levels",
    "gaps",
    "resyncs",
    "bbo_checked",
    "bbo_mismatches",
    "stale_ns",
    "first_ns",
    "last_ns",
}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write(tmp_path / "day.gz", market(Product.SPOT, "BTCUSDT", 1, after=60).lines)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def veloz(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def veloz_json(*arguments: object) -> tuple[int, dict[str, Any]]:
    code, output = veloz(*arguments, "--json")
    return code, json.loads(output)


def test_a_replay_prints_its_figures(recording: Path) -> None:
    code, figures = veloz_json("data", "replay", recording, "--verify")
    assert code == 0
    assert figures.keys() >= REPLAY_KEYS
    assert (figures["depth_messages"], figures["gaps"], figures["bbo_checked"]) == (65, 0, 60)
    assert figures["last_ns"] > figures["first_ns"] > 0
    assert figures["rss_bytes_end"] > 0
    code, text = veloz("data", "replay", recording, "--verify")
    assert (code, "65 depth messages" in text) == (0, True)


def test_faults_are_counted_and_clean(recording: Path) -> None:
    arguments = ("data", "replay", recording, "--verify", "--drop", 0.1, "--duplicate", 0.1, "--reorder", 0.1)
    code, figures = veloz_json(*arguments, "--seed", 3, "--reorder-span", 5, "--fault-frames", 200)
    assert (code, figures["book_mismatches"], figures["bbo_mismatches"]) == (0, 0, 0)
    assert min(figures["dropped"], figures["duplicated"], figures["reordered"], figures["gaps"]) > 0
    assert figures["symbols"][0]["state"] == "LIVE"


def test_a_tampered_recording_is_exit_1_and_only_with_verify(tmp_path: Path) -> None:
    source = market(Product.COINM, "BTCUSD_PERP", 1)
    lines = [line.replace(b'"B":"', b'"B":"1') if b"bookTicker" in line else line for line in source.lines]
    path = write(tmp_path / "day", lines)
    assert veloz("data", "replay", path)[0] == 0
    code, figures = veloz_json("data", "replay", path, "--verify")
    assert code == 1
    assert figures["bbo_mismatches"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("data", "replay", "/nowhere/a.gz"), "/nowhere/a.gz: no such file"),
        (("data", "import", "/nowhere/a.gz"), "/nowhere/a.gz: can't be read"),
        (("record", "--venue", "elsewhere", "--symbols", "BTCUSDT"), "known are paper"),
        (("record", "--symbols", " ,"), "--symbols names none"),
    ],
)
def test_what_cannot_be_used_is_exit_2_and_an_error_that_names_it(arguments: tuple[str, ...], says: str) -> None:
    code, body = veloz_json(*arguments)
    assert code == 2
    assert says in body["error"]["message"]


def test_a_rate_that_is_no_probability_is_refused(recording: Path) -> None:
    assert veloz("data", "replay", recording, "--drop", 1.5)[0] == 2


def test_a_recording_without_its_beginning_says_what_to_name_as_well(tmp_path: Path) -> None:
    path = write(tmp_path / "second.gz", LineMarket(Product.SPOT, "BTCUSDT", 1).steps(9).lines)
    code, body = veloz_json("data", "replay", path)
    assert code == 2
    assert "the file that the recording begins with" in body["error"]["message"]


def test_import_list_verify_and_replay_go_together(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VELOZ_HOME", str(tmp_path / "home"))
    assert "Nothing is recorded" in veloz("data", "ls")[1]
    code, body = veloz_json("data", "import", recording)
    assert (code, body["imported"][0]["rows"]["binance/BTCUSDT/depth"]) == (0, 65)
    assert "had been imported before" in veloz("data", "import", recording)[1]
    code, body = veloz_json("data", "ls")
    assert {item["type"] for item in body["holdings"]} == {"depth", "bookTicker", "trade", "snapshot", "raw"}
    assert "BTCUSDT" in veloz("data", "ls")[1]
    code, body = veloz_json("data", "verify")
    assert (code, body["sound"], body["findings"]) == (0, True, [])
    code, body = veloz_json("data", "replay", tmp_path / "home" / "data" / "raw", "--verify")
    assert (code, body["gaps"], body["book_checked"]) == (0, 0, 60)
    damaged = next((tmp_path / "home" / "data").rglob("*.parquet"))
    data = bytearray(damaged.read_bytes())
    data[50] ^= 1
    damaged.write_bytes(data)
    code, body = veloz_json("data", "verify")
    assert (code, body["findings"][0]["file"]) == (1, str(damaged))
    assert str(damaged) in veloz("data", "verify")[1].replace("\n", "")


def test_recording_paper_needs_a_service_or_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELOZ_HOME", str(tmp_path))
    code, body = veloz_json("record", "--symbols", "BTCUSDT")
    assert (code, body["error"]["code"]) == (3, "SERVICE_NOT_RUNNING")
    urls = ("--rest-url", "http://127.0.0.1:9", "--websocket-url", "ws://127.0.0.1:9")
    code, body = veloz_json("record", "--symbols", "BTCUSDT", *urls)
    assert (code, body["error"]["code"]) == (3, "RECORD_FAILED")
    assert "can't be reached" in body["error"]["message"]


def test_a_catalog_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    for command in ("ls", "verify"):
        code, body = veloz_json("data", command, "--data", tmp_path / "nosuch")
        assert (code, body["error"]["code"]) == (2, "DATA_FOLDER_MISSING")
        assert "nosuch" in body["error"]["message"]
    code, body = veloz_json("data", "ls", "--data", tmp_path)
    assert (code, body["holdings"], body["unfinished"]) == (0, [], [])


async def test_a_recording_of_nothing_is_exit_3_and_only_json_on_stdout(tmp_path: Path) -> None:
    async with PaperVenue(
        SyntheticMarket(7, Decimal(1), SystemClock()), tmp_path / "venue.sqlite3", CREDENTIALS
    ) as venue:
        command = ["record", "--symbols", "BTCUSDT", "--rest-url", venue.base_url, "--websocket-url"]
        command += ["ws://127.0.0.1:9", "--duration-s", "0.5", "--out", str(tmp_path / "data"), "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (3, "RECORD_FAILED")
    assert "never opened" in error["message"]
    assert "recording_stream_lost" in result.stderr
