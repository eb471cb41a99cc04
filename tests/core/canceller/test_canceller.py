"""The emergency canceller, as a program, against the real paper venue and against one that breaks what passes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from core.canceller import __main__ as canceller
from core.canceller import cancelling
from core.config import load_settings
from core.runtime.thaw import kill_file
from core.types.clock import SystemClock
from core.venues.binance.adapter import BinanceSpot
from core.venues.paper.server import PaperVenue
from core.venues.paper.signing import Credentials
from core.venues.ports import SubmitRefused
from tests.core.venues.binance.support import HttpRequest, answer, scripted_http
from tests.core.venues.binance.test_paper_usdm import TwoMarkets
from tests.core.venues.binance.test_paper_venue import order
from tests.core.venues.chaos import ChaosProxy
from tests.core.venues.paper.support import CREDENTIALS, Client, ScriptedMarket

CANCEL_KEY = Credentials("cancel-key", "cancel-secret", can_only_cancel=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(cancelling, "RETRY_S", 0.05)


def home_for(folder: Path, rest_url: str, key: Credentials | None = CANCEL_KEY, **more: str) -> dict[str, str]:
    """The environment of a VELOZ_HOME where nothing but secrets is."""
    secrets = folder / "home" / "secrets"
    secrets.mkdir(parents=True)
    for name, credentials in (("venue-paper", CREDENTIALS), ("venue-paper-cancel", key)):
        if credentials is not None:
            (secrets / f"{name}.key").write_text(credentials.key)
            (secrets / f"{name}.secret").write_text(credentials.secret)
    return {"VELOZ_HOME": str(folder / "home"), "VELOZ_VENUE__REST_URL": rest_url, **more}


async def run(environment: dict[str, str], deadline_s: float = 60.0) -> tuple[int, dict[str, Any]]:
    settings = load_settings(Path(environment["VELOZ_HOME"]), environment)
    return await canceller.halt_and_cancel(settings, "a test", deadline_s, SystemClock())


@asynccontextmanager
async def venue_with_orders(folder: Path, count: int = 3) -> AsyncIterator[PaperVenue]:
    market, file = ScriptedMarket(), folder / "venue.sqlite3"
    async with PaperVenue(market, file, CREDENTIALS, more_credentials=(CANCEL_KEY,)) as venue:
        client = Client(venue.base_url)
        for index in range(count):
            placed = await client.order(
                side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.5", price="90", newClientOrderId=f"n{index}"
            )
            assert placed.status_code == 200, placed.text
        yield venue
        await client.http.aclose()


async def test_as_a_program_it_halts_cancels_and_tells_with_nothing_else_alive(tmp_path: Path) -> None:
    async with venue_with_orders(tmp_path) as venue:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "core.canceller", "--reason", "two\nlines", "--json", "--deadline-s", "30",
            env=os.environ | home_for(tmp_path, venue.base_url),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert process.returncode == canceller.EXIT_CLEAR, errors.decode()
        result = json.loads(output)
        assert (result["is_clear"], result["is_halted"], result["left"]) == (True, True, [])
        assert sorted(item["client_order_id"] for item in result["canceled"]) == ["n0", "n1", "n2"]
        assert venue.exchange.account.open_orders(None) == []
        settings = load_settings(tmp_path / "home", {})
        assert kill_file(settings) == Path(result["kill_file"])
        assert kill_file(settings).read_text().endswith("two lines\n")
        assert kill_file(settings).stat().st_mode & 0o777 == 0o600
        assert "cancelling 3 open orders of BTCUSDT" in errors.decode()


async def test_its_key_can_ask_and_cancel_and_nothing_else(tmp_path: Path) -> None:
    async with venue_with_orders(tmp_path) as venue:
        client = Client(venue.base_url, CANCEL_KEY)
        refused = await client.order(side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.5", price="90")
        assert (refused.status_code, refused.json()["code"]) == (401, -2015)
        amended = await client.signed(
            "PUT", "/api/v3/order/amend/keepPriority", symbol="BTCUSDT", origClientOrderId="n0", newQty="0.4"
        )
        assert amended.json()["code"] == -2015
        assert len(venue.exchange.account.open_orders(None)) == 3
        await client.http.aclose()
        for url in ("", f"{venue.websocket_url}/ws-api/v3"):
            adapter = BinanceSpot(
                venue.base_url, CANCEL_KEY.key, CANCEL_KEY.secret, SystemClock(),
                venue="paper", websocket_url="", websocket_api_url=url, random=Random(1),
            )  # fmt: skip
            if adapter.order_socket is not None:
                adapter.order_socket.start()
                await adapter.order_socket.ready.wait()
            told = await adapter.submit(order("mine", "90"))
            assert isinstance(told, SubmitRefused)
            assert told.refusal.actual == "-2015"
            await adapter.cancel("BTCUSDT", f"n{len(url) and 1}")
            await adapter.aclose()
        assert [item.client_order_id for item in venue.exchange.account.open_orders(None)] == ["n2"]


async def test_kill_is_durable_before_the_first_byte_to_the_venue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    paths: dict[int, str] = {}
    open_, fsync = os.open, os.fsync

    def recording_open(path: Any, *rest: Any, **named: Any) -> int:
        descriptor = open_(path, *rest, **named)
        paths[descriptor] = Path(str(path)).name
        return descriptor

    def recording_fsync(descriptor: int) -> None:
        fsync(descriptor)
        happened.append(f"synced {paths[descriptor]}")

    def respond(request: HttpRequest) -> bytes:
        happened.append(f"{request.method} {request.path}")
        return answer(200, [])

    monkeypatch.setattr(os, "open", recording_open)
    monkeypatch.setattr(os, "fsync", recording_fsync)
    async with scripted_http(respond) as script:
        server_ms = script.server_ms

        def asked_for_the_time() -> int:
            happened.append("time")
            return server_ms()

        script.server_ms = asked_for_the_time
        code, _ = await run(home_for(tmp_path, script.url))
    assert code == canceller.EXIT_CLEAR
    assert happened[:3] == ["synced KILL", "synced run", "synced home"]
    assert happened.count("GET /api/v3/openOrders") == cancelling.CLEAR_LOOKS


async def test_a_full_disk_keeps_no_order_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    async with venue_with_orders(tmp_path) as venue:
        environment = home_for(tmp_path, venue.base_url)
        monkeypatch.setattr(os, "fsync", full)
        code, result = await run(environment)
        assert (code, result["is_clear"], result["is_halted"]) == (canceller.EXIT_NOT_HALTED, True, False)
        assert venue.exchange.account.open_orders(None) == []
        assert "No space left" in capsys.readouterr().err


async def test_a_venue_that_breaks_every_way_is_asked_until_it_shows_none(tmp_path: Path) -> None:
    async with venue_with_orders(tmp_path) as venue, ChaosProxy(venue.port) as proxy:
        proxy.answer("/api/v3/time", None, times=1)
        proxy.answer("/api/v3/openOrders", 503, times=4)
        proxy.answer("/api/v3/openOrders", 200, b"<html>", times=1)
        proxy.answer("/api/v3/openOrders", 200, b'[{"symbol":"BTCUSDT","orderId":"x"}]', times=1)
        proxy.answer("/api/v3/openOrders", 200, b'[{"symbol":"BTCUSDT"}]', times=1, part_of_body=9)
        proxy.answer("/api/v3/openOrders?symbol=", None, times=1)
        code, result = await run(home_for(tmp_path, proxy.base_url))
        assert (code, result["is_clear"], result["error"]) == (canceller.EXIT_CLEAR, True, "")
        assert venue.exchange.account.open_orders(None) == []


@pytest.mark.parametrize("status", [429, 418])
async def test_a_rate_limit_is_waited_out_and_not_knocked_at(tmp_path: Path, status: int) -> None:
    async with venue_with_orders(tmp_path) as venue, ChaosProxy(venue.port) as proxy:
        body = b'{"code":-1003,"msg":"Too much request weight used."}'
        proxy.answer("/api/v3/openOrders", status, body, {"Retry-After": "1"})
        started_s = asyncio.get_running_loop().time()
        code, result = await run(home_for(tmp_path, proxy.base_url))
        assert code == canceller.EXIT_CLEAR, result
        assert asyncio.get_running_loop().time() - started_s >= 1.0
        looks = [target for target in proxy.requests if target.startswith("/api/v3/openOrders?recv")]
        assert len(looks) == 1 + 1 + cancelling.CLEAR_LOOKS


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (answer(200, [{"symbol": "BTCUSDT", "orderId": 5, "clientOrderId": "stuck"}]),
         [{"symbol": "BTCUSDT", "client_order_id": "stuck", "venue_order_id": "5"}]),
        (answer(401, {"code": -2015, "msg": "Invalid API-key."}), None),
    ],
)  # fmt: skip
async def test_what_is_left_is_told_and_so_is_not_knowing(
    tmp_path: Path, orders: bytes, expected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(request: HttpRequest) -> bytes:
        return orders if request.method == "GET" else answer(500, {"code": -1000, "msg": "broken"})

    async with scripted_http(respond) as script:
        code, result = await run(home_for(tmp_path, script.url), deadline_s=1.5)
    assert (code, result["is_clear"], result["left"]) == (canceller.EXIT_LEFT, False, expected)
    assert "NOT CLEAR" in capsys.readouterr().err
    assert result["error"]


async def test_one_symbols_trouble_keeps_no_other_symbols_order_alive(tmp_path: Path) -> None:
    left = {"AAAUSDT", "ZZZUSDT"}

    def respond(request: HttpRequest) -> bytes:
        if request.method == "GET":
            return answer(200, [{"symbol": symbol, "orderId": 1} for symbol in sorted(left)])
        if request.parameters["symbol"] == "AAAUSDT":
            return answer(400, {"code": -1013, "msg": "Market is closed."})
        left.discard(request.parameters["symbol"])
        return answer(200, [])

    async with scripted_http(respond) as script:
        code, result = await run(home_for(tmp_path, script.url), deadline_s=1.5)
    assert code == canceller.EXIT_LEFT
    assert [item["symbol"] for item in result["left"]] == ["AAAUSDT"]
    assert [item["symbol"] for item in result["canceled"]] == ["ZZZUSDT"]


async def test_a_signal_ends_it_with_what_is_known(tmp_path: Path) -> None:
    def respond(request: HttpRequest) -> bytes:
        os.kill(os.getpid(), signal.SIGTERM)
        return answer(200, [{"symbol": "BTCUSDT", "orderId": 5}] if request.method == "GET" else [])

    async with scripted_http(respond) as script:
        code, result = await run(home_for(tmp_path, script.url))
    assert (code, result["error"], len(result["left"])) == (canceller.EXIT_LEFT, "stopped by a signal", 1)
    assert result["is_halted"]


async def test_without_a_key_of_its_own_it_takes_the_engines_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with venue_with_orders(tmp_path) as venue:
        code, _ = await run(home_for(tmp_path, venue.base_url, None))
        assert code == canceller.EXIT_CLEAR
        assert venue.exchange.account.open_orders(None) == []
    assert "the engine's own key is used" in capsys.readouterr().err


async def test_the_running_services_venue_is_found_without_settings(tmp_path: Path) -> None:
    async with venue_with_orders(tmp_path) as venue:
        environment = home_for(tmp_path, "")
        folder = tmp_path / "home" / "run"
        folder.mkdir()
        (folder / "service.json").write_text(json.dumps({"endpoints": {"venue_rest_url": venue.base_url}}))
        code, _ = await run(environment)
        assert code == canceller.EXIT_CLEAR
        assert venue.exchange.account.open_orders(None) == []


async def test_perpetuals_orders_and_conditional_orders_are_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "venue.sqlite3"
    async with PaperVenue(TwoMarkets(), file, CREDENTIALS, more_credentials=(CANCEL_KEY,)) as venue:
        client = Client(venue.base_url)
        common = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.1"}
        resting = await client.signed(
            "POST", "/fapi/v1/order", type="LIMIT", timeInForce="GTC", price="50000", **common
        )
        waiting = await client.signed(
            "POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", type="STOP_MARKET", triggerPrice="70000", **common
        )
        assert (resting.status_code, waiting.status_code) == (200, 200), waiting.text
        code, result = await run(home_for(tmp_path, venue.base_url, VELOZ_VENUE__PRODUCT="usdm"))
        assert (code, len(result["canceled"])) == (canceller.EXIT_CLEAR, 2)
        for path in ("/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"):
            assert (await client.signed("GET", path)).json() == []
        await client.http.aclose()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--reason", "x", "--deadline-s", "0"], 2), (["--reason", "x", "--deadline-s", "nan"], 2), ([], 2)],
)
def test_wrong_usage_is_refused(arguments: list[str], expected: int) -> None:
    with pytest.raises(SystemExit) as ended:
        canceller.main(arguments)
    assert ended.value.code == expected


def test_it_imports_neither_the_engine_nor_its_surroundings() -> None:
    assert not {
        name for name in _imports() if name.startswith(("core.runtime", "core.kernel", "core.bus", "core.storage"))
    }
    assert not _imports() & {"nats", "psycopg", "sqlalchemy", "grpc"}


def _imports() -> set[str]:
    code = "import sys, core.canceller.__main__; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
