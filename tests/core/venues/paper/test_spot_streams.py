"""Market streams over real sockets: each kind's content, and the rules of the connection."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import websockets

from core.venues.paper import exchange as exchange_module
from core.venues.paper import server, streams
from core.venues.paper.events import DepthDiff, Trade
from core.venues.paper.server import PaperVenue
from tests.core.venues.paper.support import CREDENTIALS, Client, ScriptedMarket, d

Scripted = tuple[PaperVenue, ScriptedMarket, Client]
TIMEOUT_S = 60.0


def trade(venue: PaperVenue, number: int, price: str, quantity: str = "0.1", at_ms: int | None = None) -> None:
    now_ms = at_ms if at_ms is not None else venue.exchange.now_ms()
    venue.exchange.on_market(Trade("BTCUSDT", now_ms, now_ms, number, d(price), d(quantity), buyer_is_maker=True))


def diff(venue: PaperVenue, last_id: int, at_ms: int, bid: str, quantity: str) -> None:
    venue.exchange.on_market(DepthDiff("BTCUSDT", at_ms, last_id, last_id, ((d(bid), d(quantity)),), ()))


async def heard(socket: websockets.ClientConnection, *names: str) -> dict[str, Any]:
    """The first message of each of these streams."""
    messages: dict[str, Any] = {}
    async with asyncio.timeout(TIMEOUT_S):
        while set(names) - set(messages):
            message = json.loads(await socket.recv())
            messages.setdefault(message["stream"], message["data"])
    return messages


async def ask(socket: websockets.ClientConnection, **message: Any) -> Any:
    await socket.send(json.dumps(message))
    return json.loads(await socket.recv())


async def test_what_goes_out_once_a_second(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    venue, _, _ = scripted
    names = [
        "btcusdt@miniTicker",
        "btcusdt@ticker",
        "btcusdt@ticker_1h",
        "btcusdt@avgPrice",
        "btcusdt@kline_1m",
        "btcusdt@kline_1M",
        "btcusdt@kline_1d@+08:00",
        "!miniTicker@arr",
        "!ticker@arr",
        "!ticker_1h@arr",
    ]
    monkeypatch.setattr(exchange_module, "HOUSEKEEPING_INTERVAL_S", 0.01)
    async with websockets.connect(f"{venue.websocket_url}/stream?streams={'/'.join(names)}") as socket:
        trade(venue, 1, "98")
        trade(venue, 2, "99")
        data = await heard(socket, *names)
    mini, ticker, window = data["btcusdt@miniTicker"], data["btcusdt@ticker"], data["btcusdt@ticker_1h"]
    assert (mini["e"], mini["o"], mini["c"], mini["v"]) == (
        "24hrMiniTicker",
        "98.00000000",
        "99.00000000",
        "0.20000000",
    )
    assert (ticker["e"], ticker["p"], ticker["b"], ticker["n"]) == ("24hrTicker", "1.00000000", "99.99000000", 2)
    assert (window["e"], window["h"], window["l"]) == ("1hTicker", "99.00000000", "98.00000000")
    assert data["!miniTicker@arr"] == [mini | {"E": data["!miniTicker@arr"][0]["E"]}]
    assert [row["e"] for row in data["!ticker@arr"] + data["!ticker_1h@arr"]] == ["24hrTicker", "1hTicker"]
    assert (data["btcusdt@avgPrice"]["i"], data["btcusdt@avgPrice"]["w"]) == ("5m", "98.50000000")
    minute, day = data["btcusdt@kline_1m"]["k"], data["btcusdt@kline_1d@+08:00"]["k"]
    assert (minute["i"], minute["x"], minute["T"] - minute["t"]) == ("1m", False, 59_999)
    assert (day["t"] + 8 * 3_600_000) % 86_400_000 == 0
    assert data["btcusdt@kline_1M"]["k"]["n"] == 2


async def test_the_first_trade_of_an_interval_closes_the_one_before(scripted: Scripted) -> None:
    venue, _, _ = scripted
    at_ms = venue.exchange.now_ms() // 3_600_000 * 3_600_000
    names = ["btcusdt@kline_1s", "btcusdt@kline_1m", "btcusdt@kline_1h"]
    async with websockets.connect(f"{venue.websocket_url}/stream?streams={'/'.join(names)}") as socket:
        trade(venue, 1, "98", at_ms=at_ms - 1)
        trade(venue, 2, "99", at_ms=at_ms)
        data = await heard(socket, *names)
    for name, message in data.items():
        kline = message["k"]
        assert (kline["x"], kline["c"], kline["T"]) == (True, "98.00000000", at_ms - 1), name


async def test_partial_books_show_the_book_after_each_change(scripted: Scripted) -> None:
    venue, _, _ = scripted
    names = ["btcusdt@depth5@100ms", "btcusdt@depth10", "btcusdt@depth20@1000ms"]
    async with websockets.connect(f"{venue.websocket_url}/stream?streams={'/'.join(names)}") as socket:
        diff(venue, 101, 5_000, "99.97", "7")
        data = await heard(socket, *names)
        assert data[names[0]] == {
            "lastUpdateId": 101,
            "bids": [["99.99000000", "2.00000000"], ["99.98000000", "3.00000000"], ["99.97000000", "7.00000000"]],
            "asks": [["100.00000000", "1.00000000"], ["100.01000000", "2.00000000"]],
        }
        assert data[names[1]] == data[names[2]] == data[names[0]]
        diff(venue, 102, 5_100, "99.97", "0")
        diff(venue, 103, 6_000, "99.96", "1")
        assert [(await heard(socket, name))[name]["lastUpdateId"] for name in names[:1]] == [102]
        assert (await heard(socket, names[1]))[names[1]]["lastUpdateId"] == 103, "once a second"


async def test_the_slow_depth_stream_joins_a_seconds_changes(scripted: Scripted) -> None:
    venue, _, _ = scripted
    async with websockets.connect(f"{venue.websocket_url}/ws/btcusdt@depth@1000ms") as socket:
        for number, (at_ms, quantity) in enumerate(((5_000, "1"), (5_100, "2"), (5_900, "3"), (6_000, "4")), 101):
            diff(venue, number, at_ms, "99.97", quantity)
        messages = [json.loads(await socket.recv()) for _ in range(2)]
    assert [(one["U"], one["u"], one["b"]) for one in messages] == [
        (101, 101, [["99.97000000", "1.00000000"]]),
        (102, 104, [["99.97000000", "4.00000000"]]),
    ]


async def test_a_connection_turns_combined_and_back(scripted: Scripted) -> None:
    venue, _, _ = scripted
    async with websockets.connect(f"{venue.websocket_url}/ws/btcusdt@trade") as socket:
        assert await ask(socket, method="GET_PROPERTY", params=["combined"], id=1) == {"result": False, "id": 1}
        assert await ask(socket, method="SET_PROPERTY", params=["combined", True], id=2) == {"result": None, "id": 2}
        trade(venue, 1, "98")
        assert json.loads(await socket.recv())["stream"] == "btcusdt@trade"
        assert (await ask(socket, method="SET_PROPERTY", params=["combined", "yes"], id=3))["error"]["code"] == 1
        assert (await ask(socket, method="GET_PROPERTY", params=["colour"], id=4))["error"]["code"] == 0


async def test_times_come_in_microseconds_when_asked(scripted: Scripted) -> None:
    venue, _, _ = scripted
    url = f"{venue.websocket_url}/stream?streams=btcusdt@trade&timeUnit=MICROSECOND"
    async with websockets.connect(url) as socket:
        trade(venue, 2**50, "98", at_ms=1_700_000_000_123)
        data = json.loads(await socket.recv())["data"]
    assert (data["T"], data["E"], data["t"]) == (1_700_000_000_123_000, 1_700_000_000_123_000, 2**50)


async def test_more_than_five_messages_a_second_close_the_connection(scripted: Scripted) -> None:
    venue, _, _ = scripted
    async with websockets.connect(f"{venue.websocket_url}/ws") as socket:
        # Five times as many: a second may turn meanwhile.
        with contextlib.suppress(websockets.ConnectionClosed):
            for number in range(30):
                await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        async with asyncio.timeout(TIMEOUT_S):
            await socket.wait_closed()
    assert (socket.close_code, socket.close_reason) == (1008, "Too many requests")


async def test_too_many_streams_are_refused(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    venue, _, _ = scripted
    monkeypatch.setattr(streams, "MAX_STREAMS_PER_CONNECTION", 2)
    async with websockets.connect(f"{venue.websocket_url}/ws/btcusdt@trade") as socket:
        names = ["btcusdt@depth", "btcusdt@ticker"]
        refused = await ask(socket, method="SUBSCRIBE", params=names, id=1)
        assert refused["error"] == {"code": 2, "msg": "Invalid request: more than 2 streams"}
        assert (await ask(socket, method="LIST_SUBSCRIPTIONS", id=2))["result"] == ["btcusdt@trade"]


@pytest.mark.parametrize("path", ["/ws/btcusdt@trade", "/ws-api/v3"])
async def test_a_connection_ends_with_its_day(tmp_path: Path, path: str) -> None:
    file = tmp_path / "venue.sqlite3"
    async with (
        PaperVenue(ScriptedMarket(), file, CREDENTIALS, connection_life_s=0.05) as venue,
        websockets.connect(f"{venue.websocket_url}{path}") as socket,
        asyncio.timeout(TIMEOUT_S),
    ):
        await socket.wait_closed()
    assert (socket.close_code, socket.close_reason) == (1001, "24 hours are over")


async def test_a_client_that_does_not_answer_pings_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(server, "PONG_TIMEOUT_S", 0.05)
    async with PaperVenue(ScriptedMarket(), tmp_path / "venue.sqlite3", CREDENTIALS) as venue:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
            key = base64.b64encode(b"0123456789abcdef").decode()
            writer.write(
                f"GET /ws/btcusdt@trade HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            await reader.readuntil(b"\r\n\r\n")
            frame = await reader.readexactly(2)
            assert frame[0] == 0x89, "a ping"
            rest = await reader.read()
            writer.close()
    # What follows the ping's four bytes is a close frame, and then the end.
    assert rest[frame[1]] == 0x88
