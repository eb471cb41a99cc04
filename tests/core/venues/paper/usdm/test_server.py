"""The futures venue over real sockets: streams, refusals in Binance's words, limits, and a market of both products."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets

from core.types.clock import SystemClock
from core.venues.paper.market_recording import USDM_PASS_SHIFT, RecordingMarket
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.server import PaperVenue
from core.venues.paper.usdm import limits
from core.venues.paper.usdm.marks import FundingTerms
from tests.core.venues.paper.support import CREDENTIALS, Client, still_clock
from tests.core.venues.paper.test_market_recording import usdm_excerpt
from tests.core.venues.paper.usdm.support import SYMBOL, ScriptedPerpetual, ticker, trade

TIMEOUT_S = 60.0
Scripted = tuple[PaperVenue, ScriptedPerpetual, Client]
KEY = {"X-MBX-APIKEY": CREDENTIALS.key}


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[Scripted]:
    market = ScriptedPerpetual()
    clock, terms = still_clock(), FundingTerms(rate=0)
    async with PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS, clock=clock, usdm_funding=terms) as venue:
        client = Client(venue.base_url, clock=clock)
        yield venue, market, client
        await client.http.aclose()


async def hear(stream: Any) -> Any:
    async with asyncio.timeout(TIMEOUT_S):
        return json.loads(await stream.recv())


class LocalBook:
    """Binance's documented procedure for futures (pu), written from the documentation alone."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.last_id: int = snapshot["lastUpdateId"]
        self.bids = {Decimal(price): Decimal(quantity) for price, quantity in snapshot["bids"]}
        self.asks = {Decimal(price): Decimal(quantity) for price, quantity in snapshot["asks"]}
        self.is_synced = False

    def apply(self, diff: dict[str, Any]) -> bool:
        if diff["u"] < self.last_id:
            return False
        if self.is_synced:
            assert diff["pu"] == self.last_id, "a gap in the diff stream"
        else:
            assert diff["U"] <= self.last_id <= diff["u"] or diff["pu"] == self.last_id
        for levels, changes in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, quantity in changes:
                if Decimal(quantity) == 0:
                    levels.pop(Decimal(price), None)
                else:
                    levels[Decimal(price)] = Decimal(quantity)
        self.is_synced, self.last_id = True, diff["u"]
        return True


@pytest.mark.parametrize("suffix", ["@0ms", "@100ms", ""])
async def test_the_local_book_procedure_holds_on_the_recording_over_its_loops(tmp_path: Path, suffix: str) -> None:
    market = RecordingMarket([usdm_excerpt(tmp_path, 1_000)], Decimal(20), SystemClock())
    async with (
        PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS) as venue,
        httpx2.AsyncClient(timeout=TIMEOUT_S) as http,
    ):
        name = f"btcusdt@depth{suffix}"
        url = f"{venue.usdm_websocket_url}/public/stream?streams={name}"
        async with websockets.connect(url, max_queue=None) as stream:
            first = await hear(stream)
            snapshot = (await http.get(f"{venue.base_url}/fapi/v1/depth?symbol=BTCUSDT&limit=1000")).json()
            book, applied = LocalBook(snapshot), 0
            book.apply(first["data"])
            while book.last_id < 2 * USDM_PASS_SHIFT or applied < 8:
                applied += book.apply((await hear(stream))["data"])
                assert max(book.bids) < min(book.asks)
        assert (await http.get(f"{venue.base_url}/api/v3/exchangeInfo")).json()["symbols"] == []


async def test_a_synthetic_market_has_spot_and_a_perpetual_that_follows_it(tmp_path: Path) -> None:
    market = SyntheticMarket(7, Decimal(1), SystemClock())
    async with PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS) as venue:
        async with httpx2.AsyncClient(base_url=venue.base_url, timeout=TIMEOUT_S) as http:
            spot = (await http.get("/api/v3/ticker/bookTicker?symbol=ETHUSDT")).json()
            mark = (await http.get("/fapi/v1/premiumIndex?symbol=ETHUSDT")).json()
            listed = (await http.get("/fapi/v1/exchangeInfo")).json()["symbols"]
        assert {row["symbol"] for row in listed} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
        assert Decimal(mark["indexPrice"]) == pytest.approx(Decimal(spot["bidPrice"]), rel=Decimal("0.01"))
        assert Decimal(mark["markPrice"]) == pytest.approx(Decimal(mark["indexPrice"]), rel=Decimal("0.01"))
        assert mark["nextFundingTime"] % 28_800_000 == 0


@pytest.mark.parametrize(
    ("method", "path", "parameters", "code"),
    [
        ("POST", "v1/order", {"type": "STOP_MARKET", "stopPrice": "59000", "quantity": "0.1"}, -4120),
        ("POST", "v1/order", {"type": "LIMIT", "quantity": "0.1", "price": "59000"}, -1102),
        ("POST", "v1/order", {"type": "LIMIT", "timeInForce": "XXX", "quantity": "0.1", "price": "59000"}, -1115),
        ("POST", "v1/order", {"type": "FUNNY", "quantity": "0.1"}, -1116),
        ("POST", "v1/order", {"type": "MARKET", "quantity": "x"}, -1100),
        ("POST", "v1/order", {"type": "MARKET", "quantity": "-1"}, -4003),
        ("POST", "v1/order", {"type": "MARKET", "quantity": "1", "symbol": "NOPEUSDT"}, -1121),
        ("GET", "v1/order", {"orderId": 99}, -2013),
        ("DELETE", "v1/order", {"orderId": 99}, -2011),
        ("GET", "v1/algoOrder", {"algoId": 99}, -2013),
        ("DELETE", "v1/algoOrder", {"algoId": 99}, -2011),
        ("POST", "v1/leverage", {"leverage": 0}, -4028),
        ("POST", "v1/marginType", {"marginType": "CROSSED"}, -4046),
        ("POST", "v1/positionSide/dual", {"dualSidePosition": "false"}, -4059),
        ("POST", "v1/positionMargin", {"amount": "1", "type": 1}, -4049),
        ("GET", "v1/depth", {"limit": 7}, -4021),
        ("GET", "v1/klines", {"interval": "7m"}, -1120),
    ],
)
async def test_what_is_asked_wrongly_is_refused_with_its_code(
    scripted: Scripted, method: str, path: str, parameters: dict[str, Any], code: int
) -> None:
    _, _, client = scripted
    answer = await client.signed(method, f"/fapi/{path}", **({"symbol": SYMBOL, "side": "BUY"} | parameters))
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_keys_signatures_and_listen_keys_are_checked(scripted: Scripted) -> None:
    _, _, client = scripted
    assert (await client.http.get("/fapi/v2/balance")).json()["code"] == -2014
    wrong = Client(str(client.http.base_url), type(CREDENTIALS)(CREDENTIALS.key, "wrong"), still_clock())
    assert (await wrong.signed("GET", "/fapi/v2/balance")).json()["code"] == -1022
    await wrong.http.aclose()
    assert (await client.http.put("/fapi/v1/listenKey", headers=KEY)).json()["code"] == -1125
    key = (await client.http.post("/fapi/v1/listenKey", headers=KEY)).json()["listenKey"]
    assert (await client.http.put("/fapi/v1/listenKey", headers=KEY)).json() == {"listenKey": key}


async def test_weights_and_orders_are_counted_and_end_in_429(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, client = scripted
    order = {
        "symbol": SYMBOL,
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.1",
        "price": "59000",
    }
    placed = await client.signed("POST", "/fapi/v1/order", **order)
    assert (placed.headers["X-MBX-ORDER-COUNT-10S"], placed.headers["X-MBX-ORDER-COUNT-1M"]) == ("1", "1")
    monkeypatch.setattr(limits, "MAX_ORDERS_PER_MINUTE", 0)
    refused = await client.signed("POST", "/fapi/v1/order", **order)
    assert (refused.status_code, refused.json()["code"]) == (429, -1015)
    assert int(refused.headers["Retry-After"]) >= 1
    monkeypatch.setattr(limits, "MAX_WEIGHT_PER_MINUTE", 0)
    refused = await client.http.get("/fapi/v1/ping")
    assert (refused.status_code, refused.json()["code"]) == (429, -1003)


async def test_a_batch_places_what_it_can_and_says_what_it_can_not(scripted: Scripted) -> None:
    _, _, client = scripted
    good = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.1", "price": "59000"}
    batch = json.dumps([good, good | {"quantity": "0.0001"}])
    rows = (await client.signed("POST", "/fapi/v1/batchOrders", batchOrders=batch)).json()
    assert (rows[0]["status"], rows[1]["code"]) == ("NEW", -1111)
    ids = json.dumps([rows[0]["orderId"], 4_711])
    rows = (await client.signed("DELETE", "/fapi/v1/batchOrders", symbol=SYMBOL, orderIdList=ids)).json()
    assert (rows[0]["status"], rows[1]["code"]) == ("CANCELED", -2011)


async def test_streams_are_subscribed_in_flight_and_say_what_the_market_does(scripted: Scripted) -> None:
    venue, market, client = scripted
    names = ["btcusdt@trade", "btcusdt@aggTrade", "btcusdt@bookTicker", "btcusdt@markPrice@1s", "!ticker@arr"]
    async with websockets.connect(f"{venue.usdm_websocket_url}/market/stream") as stream:
        await stream.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        assert await hear(stream) == {"result": None, "id": 1}
        market.push(ticker("60001", "60001.1", 101), trade("60001", "0.5", trade_id=9, is_sell=True))
        heard: dict[str, Any] = {}
        while set(heard) != set(names):
            message = await hear(stream)
            heard[message["stream"]] = message["data"]
        assert (heard["btcusdt@trade"]["p"], heard["btcusdt@trade"]["X"]) == ("60001.00", "MARKET")
        assert heard["btcusdt@aggTrade"]["q"] == "0.500"
        assert (heard["btcusdt@bookTicker"]["b"], heard["btcusdt@bookTicker"]["u"]) == ("60001.00", 101)
        assert Decimal(heard["btcusdt@markPrice@1s"]["p"]) == Decimal("60001.05")
        assert heard["!ticker@arr"][0]["s"] == SYMBOL
        await stream.send(json.dumps({"method": "UNSUBSCRIBE", "params": names, "id": 2}))
        with contextlib.suppress(TimeoutError):
            while (await hear(stream)) != {"result": None, "id": 2}:
                pass
    row = (await client.http.get("/fapi/v1/ticker/24hr?symbol=BTCUSDT")).json()
    assert (row["lastPrice"], row["count"]) == ("60001.00", 1)


async def test_a_deposit_is_heard_of_and_booked(scripted: Scripted) -> None:
    venue, _, client = scripted
    key = (await client.http.post("/fapi/v1/listenKey", headers=KEY)).json()["listenKey"]
    async with websockets.connect(f"{venue.usdm_websocket_url}/ws/{key}") as user:
        assert (await client.signed("POST", "/paper/v1/usdm/transfer", amount="250.5")).status_code == 200
        told = await hear(user)
    assert (told["a"]["m"], told["a"]["B"][0]["wb"], told["a"]["B"][0]["bc"]) == (
        "DEPOSIT",
        "100250.50000000",
        "250.50000000",
    )
    rows = (await client.signed("GET", "/fapi/v1/income", incomeType="TRANSFER")).json()
    assert [row["income"] for row in rows] == ["100000.00000000", "250.50000000"]
