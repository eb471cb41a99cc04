"""The venue over real sockets, as an independent Binance client meets it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets

from core.config import Settings
from core.types.clock import SystemClock
from core.venues.paper import limits, streams
from core.venues.paper.errors import PaperVenueError
from core.venues.paper.events import BookTicker, DepthDiff, Trade
from core.venues.paper.market_recording import PASS_SHIFT, RecordingMarket
from core.venues.paper.server import PaperVenue, main
from core.venues.paper.signing import sign
from tests.core.venues.paper.support import CREDENTIALS, Client, ScriptedMarket, d
from tests.core.venues.paper.test_market_recording import excerpt
from tests.ports import unused_port

Scripted = tuple[PaperVenue, ScriptedMarket, Client]
TIMEOUT_S = 60.0
LIMIT = {"type": "LIMIT", "timeInForce": "GTC"}


class LocalBook:
    """Binance's documented procedure for a local order book, written from the documentation alone."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.last_id: int = snapshot["lastUpdateId"]
        self.bids = {Decimal(price): Decimal(quantity) for price, quantity in snapshot["bids"]}
        self.asks = {Decimal(price): Decimal(quantity) for price, quantity in snapshot["asks"]}
        self.is_synced = False

    def apply(self, diff: dict[str, Any]) -> bool:
        """False when the diff is older than the snapshot."""
        if diff["u"] <= self.last_id:
            return False
        if self.is_synced:
            assert diff["U"] == self.last_id + 1, "a gap in the diff stream"
        else:
            assert diff["U"] <= self.last_id + 1 <= diff["u"], "the snapshot doesn't join the stream"
        for levels, changes in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, quantity in changes:
                if Decimal(quantity) == 0:
                    levels.pop(Decimal(price), None)
                else:
                    levels[Decimal(price)] = Decimal(quantity)
        self.is_synced, self.last_id = True, diff["u"]
        return True

    def best(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]


async def test_binances_local_book_procedure_succeeds_on_the_recording_and_over_its_loops(tmp_path: Path) -> None:
    market = RecordingMarket([excerpt(tmp_path, 4_000)], Decimal(50), SystemClock())
    async with (
        PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS) as venue,
        httpx2.AsyncClient(timeout=TIMEOUT_S) as http,
    ):
        url = f"{venue.websocket_url}/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker"
        async with websockets.connect(url, max_queue=None) as stream:
            buffered = [json.loads(await stream.recv())]
            snapshot = (await http.get(f"{venue.base_url}/api/v3/depth?symbol=BTCUSDT&limit=5000")).json()
            book = LocalBook(snapshot)
            ticker: dict[str, Any] | None = None
            compared = 0
            while book.last_id < 2 * PASS_SHIFT + snapshot["lastUpdateId"] % PASS_SHIFT:
                message = buffered.pop() if buffered else json.loads(await stream.recv())
                data = message["data"]
                if message["stream"] == "btcusdt@bookTicker":
                    ticker = data
                elif book.apply(data) and ticker is not None and ticker["u"] <= book.last_id:
                    # bookTicker is sent with each change of the best level: the newest up to u is the truth at u.
                    assert book.best() == tuple(Decimal(ticker[name]) for name in "bBaA")
                    compared += 1
    assert compared > 100


async def test_a_signed_order_is_filled_reported_and_accounted(scripted: Scripted) -> None:
    venue, market, client = scripted
    key = (await client.http.post("/api/v3/userDataStream", headers={"X-MBX-APIKEY": CREDENTIALS.key})).json()
    async with websockets.connect(f"{venue.websocket_url}/ws/{key['listenKey']}") as user:
        placed = await client.order(side="BUY", quantity="1.5", price="100.00", newClientOrderId="mine-1", **LIMIT)
        answer = placed.json()
        assert placed.status_code == 200
        assert placed.headers["X-MBX-ORDER-COUNT-10S"] == "1"
        assert (answer["status"], answer["executedQty"]) == ("PARTIALLY_FILLED", "1.00000000")
        assert answer["fills"] == [
            {
                "price": "100.00000000",
                "qty": "1.00000000",
                "commission": "0.00100000",
                "commissionAsset": "BTC",
                "tradeId": 1,
            }
        ]
        market.queue.put_nowait(Trade("BTCUSDT", 1, 1, 1, d("99.90"), d("0.2"), buyer_is_maker=True))
        events = [json.loads(await user.recv()) for _ in range(5)]
    kinds = [(event["e"], event.get("x"), event.get("X"), event.get("m")) for event in events]
    assert kinds == [
        ("executionReport", "NEW", "NEW", False),
        ("executionReport", "TRADE", "PARTIALLY_FILLED", False),
        ("outboundAccountPosition", None, None, None),
        ("executionReport", "TRADE", "PARTIALLY_FILLED", True),
        ("outboundAccountPosition", None, None, None),
    ]
    taken, made = events[1], events[3]
    assert (taken["c"], taken["i"], taken["t"], taken["l"], taken["L"]) == (
        "mine-1",
        answer["orderId"],
        1,
        "1.00000000",
        "100.00000000",
    )
    assert (made["z"], made["l"], made["n"], made["N"], made["w"]) == (
        "1.20000000",
        "0.20000000",
        "0.00020000",
        "BTC",
        True,
    )
    assert {row["a"]: (row["f"], row["l"]) for row in events[4]["B"]} == {
        "BTC": ("21.19880000", "0.00000000"),
        "USDT": ("999850.00000000", "30.00000000"),
    }
    trades = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).json()
    assert [(row["id"], row["isMaker"], row["qty"]) for row in trades] == [
        (1, False, "1.00000000"),
        (2, True, "0.20000000"),
    ]


async def test_cancel_reports_the_original_id_and_frees_the_money(scripted: Scripted) -> None:
    _, _, client = scripted
    await client.order(side="SELL", quantity="1", price="101.00", newClientOrderId="mine-2", **LIMIT)
    canceled = await client.signed("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine-2")
    assert (canceled.json()["origClientOrderId"], canceled.json()["status"]) == ("mine-2", "CANCELED")
    again = await client.signed("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine-2")
    assert (again.status_code, again.json()) == (400, {"code": -2011, "msg": "Unknown order sent."})
    found = (await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine-2")).json()
    assert found["status"] == "CANCELED"
    account = (await client.signed("GET", "/api/v3/account")).json()
    assert {"asset": "BTC", "free": "20.00000000", "locked": "0.00000000"} in account["balances"]
    absent = await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=99)
    assert absent.json() == {"code": -2013, "msg": "Order does not exist."}


async def test_what_is_asked_wrongly_is_refused_in_binances_words(scripted: Scripted) -> None:
    _, _, client = scripted
    now = (await client.http.get("/api/v3/time")).json()["serverTime"]
    header = {"X-MBX-APIKEY": CREDENTIALS.key}
    path = "/api/v3/account"
    good = f"timestamp={now}"
    table: list[tuple[str, dict[str, str], int, int]] = [
        (f"{path}?{good}&signature={sign(CREDENTIALS.secret, good)}", header, 200, 0),
        (f"{path}?{good}&signature={sign('other', good)}", header, 400, -1022),
        (f"{path}?{good}", header, 400, -1102),
        (f"{path}?signature=00", header, 400, -1102),
        (f"{path}?timestamp=abc&signature=00", header, 400, -1100),
        (f"{path}?timestamp={now - 6_000}&signature=00", header, 400, -1021),
        (f"{path}?timestamp={now + 60_000}&signature=00", header, 400, -1021),
        (f"{path}?{good}&signature=00", {}, 401, -2014),
        (f"{path}?{good}&signature=00", {"X-MBX-APIKEY": "other"}, 401, -2015),
        ("/api/v3/depth?symbol=NOPE", {}, 400, -1121),
        ("/api/v3/depth", {}, 400, -1102),
        ("/api/v3/depth?symbol=btc%20usdt", {}, 400, -1100),
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", {}, 400, -1120),
    ]
    for url, headers, status, code in table:
        answer = await client.http.get(url, headers=headers)
        body = answer.json()
        assert (answer.status_code, body.get("code", 0)) == (status, code), url
        assert int(answer.headers["X-MBX-USED-WEIGHT-1M"]) > 0


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1"}, -1102),
        ({"side": "BUY", "type": "LIMIT", "quantity": "1", "price": "100"}, -1102),
        ({"side": "HOLD", "type": "MARKET", "quantity": "1"}, -1117),
        ({"side": "BUY", "type": "ICEBERG", "quantity": "1"}, -1116),
        ({"side": "BUY", "type": "LIMIT", "timeInForce": "DAY", "quantity": "1", "price": "100"}, -1115),
        ({"side": "BUY", "type": "MARKET", "quantity": "1", "price": "100"}, -1106),
        ({"side": "BUY", "type": "MARKET", "quantity": "-1"}, -1100),
        ({"side": "BUY", "type": "MARKET", "quantity": "0.123456789"}, -1111),
        ({"side": "BUY", "type": "MARKET", "quantity": "1", "newClientOrderId": "a b"}, -1100),
        ({"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "100.001"}, -1013),
        ({"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "8000", "price": "400"}, -2010),
    ],
)
async def test_an_order_asked_wrongly_is_refused(scripted: Scripted, parameters: dict[str, str], code: int) -> None:
    _, _, client = scripted
    answer = await client.order(**parameters)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert (await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")).json() == []


async def test_a_signed_body_is_accepted_like_a_query(scripted: Scripted) -> None:
    _, _, client = scripted
    now = (await client.http.get("/api/v3/time")).json()["serverTime"]
    query, body = f"symbol=BTCUSDT&timestamp={now}", "side=BUY&type=MARKET&quantity=0.5"
    signature = sign(CREDENTIALS.secret, query + body)
    answer = await client.http.post(
        f"/api/v3/order?{query}",
        content=f"{body}&signature={signature}",
        headers={"X-MBX-APIKEY": CREDENTIALS.key, "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.json()["status"] == "FILLED"


async def test_weights_are_counted_and_end_in_429(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, client = scripted
    monkeypatch.setattr(limits, "MAX_WEIGHT_PER_MINUTE", 600)
    answers = [await client.http.get("/api/v3/depth?symbol=BTCUSDT&limit=5000") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    over = answers[-1]
    assert over.json()["code"] == -1003
    assert over.headers["X-MBX-USED-WEIGHT-1M"] == "750"
    assert int(over.headers["Retry-After"]) <= 60


async def test_orders_are_counted_and_end_in_429(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, client = scripted
    monkeypatch.setattr(limits, "MAX_ORDERS_PER_10_S", 3)
    order = {"side": "BUY", "quantity": "0.1", "price": "99.00", "timeInForce": "IOC", "type": "LIMIT"}
    answers = [await client.order(**order) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    over = answers[-1]
    assert over.json() == {"code": -1015, "msg": "Too many new orders; current limit is 3 orders per 10 SECOND."}
    assert over.headers["X-MBX-ORDER-COUNT-10S"] == "3"


async def test_streams_are_subscribed_listed_and_left_by_message(scripted: Scripted) -> None:
    venue, market, _ = scripted

    async def ask(stream: websockets.ClientConnection, **message: Any) -> Any:
        await stream.send(json.dumps(message))
        return json.loads(await stream.recv())

    async with websockets.connect(f"{venue.websocket_url}/ws") as stream:
        names = ["btcusdt@bookTicker", "btcusdt@trade"]
        assert await ask(stream, method="SUBSCRIBE", params=names, id=1) == {"result": None, "id": 1}
        assert await ask(stream, method="LIST_SUBSCRIPTIONS", id=2) == {"result": names, "id": 2}
        market.queue.put_nowait(BookTicker("BTCUSDT", 101, d("99.99"), d("2"), d("100.00"), d("0.5")))
        assert json.loads(await stream.recv()) == {
            "u": 101,
            "s": "BTCUSDT",
            "b": "99.99000000",
            "B": "2.00000000",
            "a": "100.00000000",
            "A": "0.50000000",
        }
        assert await ask(stream, method="UNSUBSCRIBE", params=names[:1], id=3) == {"result": None, "id": 3}
        market.queue.put_nowait(BookTicker("BTCUSDT", 102, d("99.99"), d("2"), d("100.00"), d("0.6")))
        market.queue.put_nowait(Trade("BTCUSDT", 7, 6, 5, d("100"), d("0.1"), buyer_is_maker=False))
        assert json.loads(await stream.recv()) == {
            "e": "trade",
            "E": 7,
            "s": "BTCUSDT",
            "t": 5,
            "p": "100.00000000",
            "q": "0.10000000",
            "T": 6,
            "m": False,
            "M": True,
        }
        assert (await ask(stream, method="SUBSCRIBE", params=["nope@trade"], id=4))["error"]["code"] == 2
        assert (await ask(stream, method="DANCE", id=5))["error"]["code"] == 2


async def test_a_combined_stream_wraps_with_the_stream_name(scripted: Scripted) -> None:
    venue, market, _ = scripted
    async with websockets.connect(f"{venue.websocket_url}/stream?streams=btcusdt@depth/btcusdt@depth@100ms") as stream:
        market.queue.put_nowait(DepthDiff("BTCUSDT", 5_000, 101, 103, ((d("99.99"), 0),), ()))
        messages = {message["stream"]: message["data"] for message in [json.loads(await stream.recv()) for _ in "12"]}
    assert messages["btcusdt@depth"] == messages["btcusdt@depth@100ms"]
    assert messages["btcusdt@depth"] == {
        "e": "depthUpdate",
        "E": 5_000,
        "s": "BTCUSDT",
        "U": 101,
        "u": 103,
        "b": [["99.99000000", "0.00000000"]],
        "a": [],
    }


async def test_a_client_that_does_not_keep_up_is_cut_off(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    venue, _, _ = scripted
    monkeypatch.setattr(streams, "MAX_QUEUED_MESSAGES", 100)
    async with websockets.connect(f"{venue.websocket_url}/ws/btcusdt@trade") as stream:
        for number in range(200):  # All at once: its sender has no turn in between.
            venue.exchange.on_market(Trade("BTCUSDT", 1, 1, number, d("100"), d("1"), buyer_is_maker=False))
        await stream.wait_closed()
        assert stream.close_code == 1008


async def test_an_unknown_listen_key_is_refused(scripted: Scripted) -> None:
    venue, _, client = scripted
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(f"{venue.websocket_url}/ws/not-a-listen-key")
    header = {"X-MBX-APIKEY": CREDENTIALS.key}
    answer = await client.http.put("/api/v3/userDataStream?listenKey=nope", headers=header)
    assert answer.json() == {"code": -1125, "msg": "This listenKey does not exist."}


async def test_a_restart_keeps_balances_orders_trades_and_ids(tmp_path: Path) -> None:
    file = tmp_path / "venue.sqlite3"
    async with PaperVenue(ScriptedMarket(), file, CREDENTIALS) as venue:
        client = Client(venue.base_url)
        await client.order(side="BUY", quantity="0.4", type="MARKET")
        resting = (
            await client.order(side="SELL", quantity="1", price="101.00", newClientOrderId="rests", **LIMIT)
        ).json()
        before = (await client.signed("GET", "/api/v3/account")).json()["balances"]
        await client.http.aclose()
    market = ScriptedMarket()
    async with PaperVenue(market, file, CREDENTIALS) as venue:
        client = Client(venue.base_url)
        assert (await client.signed("GET", "/api/v3/account")).json()["balances"] == before
        (open_order,) = (await client.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT")).json()
        assert (open_order["orderId"], open_order["clientOrderId"]) == (resting["orderId"], "rests")
        duplicate = await client.order(side="SELL", quantity="1", price="102.00", newClientOrderId="rests", **LIMIT)
        assert duplicate.json() == {"code": -2010, "msg": "Duplicate order sent."}
        filled = venue.exchange.storage
        market.queue.put_nowait(Trade("BTCUSDT", 1, 1, 1, d("101.50"), d("3"), buyer_is_maker=False))
        new = (await client.order(side="BUY", quantity="0.1", type="MARKET")).json()
        assert new["orderId"] > resting["orderId"]
        trades = filled.trades("BTCUSDT", None, None, None, None, 10)
        assert [trade.trade_id for trade in trades] == [1, 2, 3]
        await client.http.aclose()


async def test_two_venues_do_not_share_one_state_file(tmp_path: Path) -> None:
    file = tmp_path / "venue.sqlite3"
    async with PaperVenue(ScriptedMarket(), file, CREDENTIALS):
        with pytest.raises(PaperVenueError, match="stop the other venue"):
            await PaperVenue(ScriptedMarket(), file, CREDENTIALS).__aenter__()


def settings_for(home: Path, port: int) -> Settings:
    secrets = home / "secrets"
    secrets.mkdir()
    (secrets / "venue-paper.key").write_text(CREDENTIALS.key)
    (secrets / "venue-paper.secret").write_text(CREDENTIALS.secret)
    return Settings.model_validate({"home": home, "venue": {"port": port}})


async def test_the_process_serves_the_synthetic_market_until_told_to_stop(tmp_path: Path) -> None:
    port = unused_port()
    stop, is_ready = asyncio.Event(), asyncio.Event()
    ready: Callable[[], None] = is_ready.set
    process = asyncio.create_task(main(settings_for(tmp_path, port), stop, ready))
    await asyncio.wait_for(is_ready.wait(), TIMEOUT_S)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S) as http:
        info = (await http.get("/api/v3/exchangeInfo")).json()
        assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
        filters = {one["filterType"]: one for one in info["symbols"][0]["filters"]}
        assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
        assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
        for path in ("trades", "ticker/24hr", "ticker/price", "ticker/bookTicker"):
            assert (await http.get(f"/api/v3/{path}", params={"symbol": "ETHUSDT"})).status_code == 200
    async with websockets.connect(f"ws://127.0.0.1:{port}/ws/solusdt@depth@100ms") as stream:
        assert json.loads(await stream.recv())["s"] == "SOLUSDT"
    stop.set()
    await asyncio.wait_for(process, TIMEOUT_S)


async def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PaperVenueError, match=rf"127\.0\.0\.1:{port}: another process has it.*VELOZ_VENUE__PORT"):
            await main(settings_for(tmp_path, port), asyncio.Event(), lambda: None)


VENUE_PROCESS = """
import asyncio, sys
from core.config import load_settings
from core.venues.paper.server import main
asyncio.run(main(load_settings(), asyncio.Event(), lambda: print("ready", flush=True)))
"""


async def start_process(home: Path, port: int) -> asyncio.subprocess.Process:
    environment = {**os.environ, "VELOZ_HOME": str(home), "VELOZ_VENUE__PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VENUE_PROCESS, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        while b"ready" not in await process.stdout.readline():
            assert not process.stdout.at_eof(), "the venue ended while it started"
    return process


async def test_kill_9_loses_no_accepted_order(tmp_path: Path) -> None:
    settings_for(tmp_path, 0)
    port = unused_port()
    client = Client(f"http://127.0.0.1:{port}")
    process = await start_process(tmp_path, port)
    accepted = []
    for number in range(10):
        answer = await client.order(side="BUY", quantity="0.01", price=f"{20_000 + number}", **LIMIT)
        accepted.append(answer.json()["orderId"])
    bought = (await client.order(side="BUY", quantity="0.01", type="MARKET")).json()
    assert bought["status"] == "FILLED"
    process.kill()
    await process.wait()
    await client.http.aclose()
    client = Client(f"http://127.0.0.1:{port}")
    process = await start_process(tmp_path, port)
    still_open = (await client.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT")).json()
    assert [row["orderId"] for row in still_open] == accepted
    trades = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=bought["orderId"])).json()
    assert [row["id"] for row in trades] == [fill["tradeId"] for fill in bought["fills"]]
    next_order = (await client.order(side="BUY", quantity="0.01", type="MARKET")).json()
    assert next_order["orderId"] > bought["orderId"]
    process.kill()
    await process.wait()
    await client.http.aclose()
