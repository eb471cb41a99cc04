"""Spot requests as a client sends and reads them over HTTP, refusals in Binance's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.venues.paper import limits
from core.venues.paper.errors import VenueError
from core.venues.paper.events import Trade
from core.venues.paper.limits import Limits
from core.venues.paper.server import PaperVenue
from tests.core.venues.paper.support import CREDENTIALS, Client, ScriptedMarket, d

Scripted = tuple[PaperVenue, ScriptedMarket, Client]
GTC = {"timeInForce": "GTC"}
BUY_99 = {"side": "BUY", "type": "LIMIT", "quantity": "1", "price": "99", **GTC}
SELL_PAIR = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "quantity": "1",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "105",
    "belowType": "STOP_LOSS_LIMIT",
    "belowStopPrice": "95",
    "belowPrice": "94.5",
    "belowTimeInForce": "GTC",
}


def trade(venue: PaperVenue, number: int, price: str, quantity: str = "0.1", at_ms: int | None = None) -> None:
    now_ms = at_ms if at_ms is not None else venue.exchange.now_ms()
    venue.exchange.on_market(Trade("BTCUSDT", now_ms, now_ms, number, d(price), d(quantity), buyer_is_maker=True))


def refusal(answer: httpx2.Response) -> tuple[int, int, str]:
    body = answer.json()
    return answer.status_code, body["code"], body["msg"]


REFUSED_ORDERS: list[tuple[dict[str, str], int, str]] = [
    (BUY_99 | {"stopPrice": "98"}, -1106, "Parameter 'stopPrice' sent when not required."),
    (BUY_99 | {"quoteOrderQty": "9"}, -1106, "Parameter 'quoteOrderQty' sent when not required."),
    (BUY_99 | {"newClientOrderId": ""}, -1105, "Parameter 'newClientOrderId' was empty."),
    (BUY_99 | {"price": "99999999999999"}, -1108, "Parameter 'price' overflowed."),
    (BUY_99 | {"price": "99.123456789"}, -1111, "Parameter 'price' has too much precision."),
    (
        BUY_99 | {"colour": "red"},
        -1104,
        "Not all sent parameters were read; read '7' parameter(s) but was sent '8'.",
    ),
    (BUY_99 | {"strategyType": "7"}, -1134, "`strategyType` was less than 1000000."),
    (BUY_99 | {"icebergQty": "0.5", "timeInForce": "IOC"}, -1014, "Unsupported order combination."),
    (
        BUY_99 | {"selfTradePreventionMode": "ALWAYS"},
        -1130,
        "Data sent for parameter 'selfTradePreventionMode' is not valid.",
    ),
    (
        {"side": "SELL", "type": "STOP_LOSS", "quantity": "1"},
        -1102,
        "Mandatory parameter 'stopPrice' was not sent, was empty/null, or malformed.",
    ),
    (
        {"side": "SELL", "type": "STOP_LOSS", "quantity": "1", "stopPrice": "100"},
        -2010,
        "Stop price would trigger immediately.",
    ),
    (
        {"side": "SELL", "type": "LIMIT_MAKER", "quantity": "1", "price": "99"},
        -2010,
        "Order would immediately match and take.",
    ),
    (BUY_99 | {"price": "600"}, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    (BUY_99 | {"quantity": "0.0000101"}, -1013, "Filter failure: LOT_SIZE"),
    (BUY_99 | {"quantity": "9001"}, -1013, "Filter failure: LOT_SIZE"),
    ({"side": "BUY", "type": "MARKET", "quantity": "121"}, -1013, "Filter failure: MARKET_LOT_SIZE"),
    (BUY_99 | {"quantity": "0.01"}, -1013, "Filter failure: NOTIONAL"),
]


async def test_an_order_is_refused_in_binances_words(scripted: Scripted) -> None:
    _, _, client = scripted
    for parameters, code, message in REFUSED_ORDERS:
        for path in ("/api/v3/order", "/api/v3/order/test"):
            answer = await client.signed("POST", path, symbol="BTCUSDT", **parameters)
            assert refusal(answer) == (400, code, message), (path, parameters)
    assert (await client.signed("GET", "/api/v3/openOrders")).json() == []


REFUSED_QUESTIONS: list[tuple[str, int]] = [
    ("time?x=1", -1101),
    ("depth?symbol=BTCUSDT&x=1", -1104),
    ("depth?symbol=BTCUSDT&symbol=BTCUSDT", -1101),
    ("depth?symbol=btcusdt", -1100),
    ("depth?symbol=BTCUSDT&limit=", -1105),
    ("trades?symbol=BTCUSDT&limit=99999999999999999999", -1108),
    ("klines?symbol=BTCUSDT&interval=7m", -1120),
    ("klines?symbol=BTCUSDT&interval=1m&startTime=9&endTime=8", -1128),
    ("klines?symbol=BTCUSDT&interval=1m&timeZone=15:00", -1130),
    ("ticker/24hr?symbol=BTCUSDT&type=HUGE", -1139),
    ("ticker?symbol=BTCUSDT&windowSize=61m", -1100),
    ("ticker", -1102),
    ('exchangeInfo?symbols=["BTCUSDT","BTCUSDT"]', -1151),
    ('exchangeInfo?symbol=BTCUSDT&symbols=["BTCUSDT"]', -1128),
    ("exchangeInfo?symbolStatus=GONE", -1122),
    ('ticker/price?symbols=["NOPE"]', -1121),
    ("ticker/price?symbols=NOPE", -1100),
]


async def test_market_data_asked_wrongly(scripted: Scripted) -> None:
    _, _, client = scripted
    for path, code in REFUSED_QUESTIONS:
        answer = await client.http.get(f"/api/v3/{path}")
        assert (answer.status_code, answer.json()["code"]) == (400, code), path


async def test_market_data_of_every_kind(scripted: Scripted) -> None:
    venue, _, client = scripted
    now_ms = venue.exchange.now_ms()
    minute_ms = now_ms - now_ms % 60_000
    for number, (price, at_ms) in enumerate(
        (("100", minute_ms - 120_000), ("104", minute_ms - 120_000), ("98", minute_ms), ("98", minute_ms)), 1
    ):
        trade(venue, number, price, at_ms=at_ms)

    async def get(path: str) -> Any:
        answer = await client.http.get(f"/api/v3/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    klines = await get("klines?symbol=BTCUSDT&interval=1m")
    assert [(row[0], row[1], row[2], row[4], row[8]) for row in klines] == [
        (minute_ms - 120_000, "100.00000000", "104.00000000", "104.00000000", 2),
        (minute_ms - 60_000, "104.00000000", "104.00000000", "104.00000000", 0),
        (minute_ms, "98.00000000", "98.00000000", "98.00000000", 2),
    ]
    assert await get(f"uiKlines?symbol=BTCUSDT&interval=1m&startTime={minute_ms}") == klines[2:]
    assert await get(f"klines?symbol=BTCUSDT&interval=1m&endTime={(minute_ms - 1) * 1_000}") == klines[:2], (
        "microseconds"
    )
    (month,) = (await get("klines?symbol=BTCUSDT&interval=1M"))[-1:]
    assert month[6] - month[0] in {days * 86_400_000 - 1 for days in (28, 29, 30, 31)}
    assert [row["id"] for row in await get("historicalTrades?symbol=BTCUSDT&fromId=3")] == [3, 4]
    day = await get("ticker/24hr?symbol=BTCUSDT")
    assert (day["openPrice"], day["lastPrice"], day["priceChange"], day["priceChangePercent"]) == (
        "100.00000000",
        "98.00000000",
        "-2.00000000",
        "-2.000",
    )
    assert "bidPrice" not in await get("ticker/24hr?symbol=BTCUSDT&type=MINI")
    assert (await get('ticker?symbols=["BTCUSDT"]&windowSize=1m'))[0]["count"] >= 2
    assert (await get("ticker/tradingDay?symbol=BTCUSDT&timeZone=%2B08:00"))["symbol"] == "BTCUSDT"
    assert (await get("avgPrice?symbol=BTCUSDT"))["price"] == "100.00000000"
    assert await get('ticker/price?symbols=["BTCUSDT"]') == [{"symbol": "BTCUSDT", "price": "98.00000000"}]
    info = await get('exchangeInfo?permissions=["SPOT","MARGIN"]&showPermissionSets=false')
    assert info["symbols"][0]["permissionSets"] == []
    assert {one["filterType"] for one in info["symbols"][0]["filters"]} >= {
        "NOTIONAL",
        "PERCENT_PRICE_BY_SIDE",
        "TRAILING_DELTA",
    }


async def test_trades_of_one_taker_are_one_aggregate_trade(scripted: Scripted) -> None:
    venue, _, client = scripted
    at_ms = venue.exchange.now_ms()
    for number, price in ((7, "99"), (8, "99"), (9, "98")):
        trade(venue, number, price, at_ms=at_ms)
    rows = (await client.http.get("/api/v3/aggTrades?symbol=BTCUSDT")).json()
    assert [(row["a"], row["f"], row["l"], row["p"], row["q"]) for row in rows] == [
        (7, 7, 8, "99.00000000", "0.20000000"),
        (9, 9, 9, "98.00000000", "0.10000000"),
    ]
    later = (await client.http.get("/api/v3/aggTrades?symbol=BTCUSDT&fromId=8")).json()
    assert later == rows[1:]


async def test_times_are_given_in_microseconds_when_asked(scripted: Scripted) -> None:
    venue, _, client = scripted
    trade(venue, 1, "99")
    micro = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    in_ms = (await client.http.get("/api/v3/klines?symbol=BTCUSDT&interval=1m")).json()[0]
    in_us = (await client.http.get("/api/v3/klines?symbol=BTCUSDT&interval=1m", headers=micro)).json()[0]
    assert (in_us[0], in_us[6], in_us[8]) == (in_ms[0] * 1_000, in_ms[6] * 1_000, in_ms[8])
    clock = (await client.http.get("/api/v3/time", headers=micro)).json()["serverTime"]
    assert clock // 1_000 == venue.exchange.now_ms()
    wrong = await client.http.get("/api/v3/time", headers={"X-MBX-TIME-UNIT": "HOUR"})
    assert refusal(wrong) == (400, -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")
    timestamp = venue.exchange.now_ms() * 1_000
    assert (await client.signed("GET", "/api/v3/account", timestamp=timestamp)).status_code == 200


async def test_answers_have_the_asked_size(scripted: Scripted) -> None:
    _, _, client = scripted
    ack = (await client.order(**BUY_99, newOrderRespType="ACK")).json()
    assert set(ack) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    result = (await client.order(**BUY_99, newOrderRespType="RESULT")).json()
    assert result["status"] == "NEW"
    assert "fills" not in result
    assert (await client.order(**BUY_99)).json()["fills"] == []
    maker = await client.order(side="BUY", type="LIMIT_MAKER", quantity="1", price="99")
    assert set(maker.json()) == set(ack)
    rates = await client.signed("POST", "/api/v3/order/test", symbol="BTCUSDT", computeCommissionRates="true", **BUY_99)
    assert rates.json()["standardCommissionForOrder"] == {"maker": "0.00100000", "taker": "0.00100000"}


async def test_cancel_restrictions_and_ids_that_disagree(scripted: Scripted) -> None:
    _, _, client = scripted
    order = (await client.order(**BUY_99, newClientOrderId="mine")).json()
    one = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    restricted = await client.signed("DELETE", "/api/v3/order", **one, cancelRestrictions="ONLY_PARTIALLY_FILLED")
    assert refusal(restricted) == (400, -2011, "Order was not canceled due to cancel restrictions.")
    wrong = await client.signed("DELETE", "/api/v3/order", **one, origClientOrderId="other")
    assert refusal(wrong) == (400, -2039, "Client order ID is not correct for this order ID.")
    assert (await client.signed("GET", "/api/v3/order", **one, origClientOrderId="other")).json()["code"] == -2039
    assert (await client.signed("DELETE", "/api/v3/order", **one, cancelRestrictions="ONLY_NEW")).status_code == 200


@pytest.mark.parametrize(
    ("mode", "cancels", "quantity", "status", "code", "outcome"),
    [
        ("STOP_ON_FAILURE", True, "1", 200, None, ("SUCCESS", "SUCCESS")),
        ("STOP_ON_FAILURE", False, "1", 400, -2022, ("FAILURE", "NOT_ATTEMPTED")),
        ("ALLOW_FAILURE", False, "1", 409, -2021, ("FAILURE", "SUCCESS")),
        ("STOP_ON_FAILURE", True, "8000", 409, -2021, ("SUCCESS", "FAILURE")),
        ("ALLOW_FAILURE", False, "8000", 400, -2022, ("FAILURE", "FAILURE")),
    ],
)
async def test_cancel_replace_tells_both_outcomes(
    scripted: Scripted, mode: str, cancels: bool, quantity: str, status: int, code: int | None, outcome: tuple[str, str]
) -> None:
    _, _, client = scripted
    resting = (await client.order(**BUY_99)).json()["orderId"]
    answer = await client.signed(
        "POST",
        "/api/v3/order/cancelReplace",
        symbol="BTCUSDT",
        cancelReplaceMode=mode,
        cancelOrderId=resting if cancels else 999,
        **BUY_99 | {"quantity": quantity, "price": "200"} if quantity == "8000" else BUY_99 | {"price": "98"},
    )
    body = answer.json()
    assert (answer.status_code, body.get("code")) == (status, code)
    data = body if code is None else body["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == outcome
    if outcome[0] == "FAILURE":
        assert data["cancelResponse"] == {"code": -2011, "msg": "Unknown order sent."}
    if outcome[1] == "FAILURE":
        assert data["newOrderResponse"]["code"] == -2010
    if outcome[1] == "NOT_ATTEMPTED":
        assert data["newOrderResponse"] is None
    assert "X-MBX-ORDER-COUNT-10S" in answer.headers
    open_prices = sorted(row["price"] for row in (await client.signed("GET", "/api/v3/openOrders")).json())
    kept = [] if outcome[0] == "SUCCESS" else ["99.00000000"]
    assert open_prices == sorted(kept + (["98.00000000"] if outcome[1] == "SUCCESS" else []))


async def test_order_lists_are_placed_found_and_canceled(scripted: Scripted) -> None:
    venue, _, client = scripted
    placed = (await client.signed("POST", "/api/v3/orderList/oco", **SELL_PAIR, listClientOrderId="pair")).json()
    assert (placed["contingencyType"], placed["listStatusType"], placed["listOrderStatus"]) == (
        "OCO",
        "EXEC_STARTED",
        "EXECUTING",
    )
    again = await client.signed("POST", "/api/v3/orderList/oco", **SELL_PAIR, listClientOrderId="pair")
    assert refusal(again) == (400, -2010, "Duplicate order sent.")
    found = (await client.signed("GET", "/api/v3/orderList", origClientOrderId="pair")).json()
    assert found["orders"] == placed["orders"]
    absent = await client.signed("GET", "/api/v3/orderList", orderListId=99)
    assert refusal(absent) == (400, -2018, "Order list does not exist.")
    oto = {
        "symbol": "BTCUSDT",
        "workingType": "LIMIT",
        "workingSide": "BUY",
        "workingPrice": "99",
        "workingQuantity": "1",
        "workingTimeInForce": "GTC",
        "pendingType": "LIMIT_MAKER",
        "pendingSide": "SELL",
        "pendingPrice": "110",
        "pendingQuantity": "0.5",
    }
    chained = (await client.signed("POST", "/api/v3/orderList/oto", **oto)).json()
    assert [row["status"] for row in chained["orderReports"]] == ["NEW", "PENDING_NEW"]
    trade(venue, 1, "98.5", "3")
    states = {row["orderId"]: row["status"] for row in (await client.signed("GET", "/api/v3/openOrders")).json()}
    assert states[chained["orders"][1]["orderId"]] == "NEW"
    canceled = (await client.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")).json()
    assert [row["contingencyType"] for row in canceled] == ["OCO", "OTO"]
    assert (await client.signed("GET", "/api/v3/openOrderList")).json() == []
    every = (await client.signed("GET", "/api/v3/allOrderList")).json()
    assert [row["listOrderStatus"] for row in every] == ["ALL_DONE", "ALL_DONE"]


async def test_the_old_and_the_nested_lists(scripted: Scripted) -> None:
    venue, _, client = scripted
    old = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "1", "price": "95", "stopPrice": "105"}
    placed = (await client.signed("POST", "/api/v3/order/oco", **old)).json()
    assert [row["type"] for row in placed["orderReports"]] == ["STOP_LOSS", "LIMIT_MAKER"]
    assert venue.exchange.account.matching.balances.of("USDT").locked == d("105")
    gone = await client.signed("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=placed["orderListId"])
    assert [row["status"] for row in gone.json()["orderReports"]] == ["CANCELED", "CANCELED"]
    otoco = {
        "symbol": "BTCUSDT",
        "workingType": "LIMIT",
        "workingSide": "BUY",
        "workingPrice": "100",
        "workingQuantity": "1",
        "workingTimeInForce": "GTC",
        "pendingSide": "SELL",
        "pendingQuantity": "0.9",
        "pendingAboveType": "LIMIT_MAKER",
        "pendingAbovePrice": "105",
        "pendingBelowType": "STOP_LOSS",
        "pendingBelowStopPrice": "95",
    }
    nested = (await client.signed("POST", "/api/v3/orderList/otoco", **otoco)).json()
    assert [row["status"] for row in nested["orderReports"]] == ["FILLED", "NEW", "NEW"]
    counts = (await client.signed("GET", "/api/v3/rateLimit/order")).json()
    assert counts[1]["count"] == 5


async def test_prevented_matches_are_kept(scripted: Scripted) -> None:
    venue, _, client = scripted
    maker = (await client.order(side="SELL", type="LIMIT_MAKER", quantity="1", price="100.01")).json()
    taker = (
        await client.order(**BUY_99 | {"quantity": "4", "price": "100.01"}, selfTradePreventionMode="EXPIRE_BOTH")
    ).json()
    assert (taker["status"], taker["executedQty"]) == ("EXPIRED_IN_MATCH", "3.00000000")
    (match,) = taker["preventedMatches"]
    assert (match["makerOrderId"], match["takerPreventedQuantity"]) == (maker["orderId"], "1.00000000")
    rows = await client.signed("GET", "/api/v3/myPreventedMatches", symbol="BTCUSDT", orderId=maker["orderId"])
    assert [(row["takerOrderId"], row["selfTradePreventionMode"]) for row in rows.json()] == [
        (taker["orderId"], "EXPIRE_BOTH")
    ]
    assert (await client.signed("GET", "/api/v3/myAllocations", symbol="BTCUSDT")).json() == []
    assert venue.exchange.account.open_orders(None) == []


async def test_account_questions(scripted: Scripted) -> None:
    _, _, client = scripted
    every = (await client.signed("GET", "/api/v3/account")).json()["balances"]
    await client.order(side="SELL", type="MARKET", quantity="2")
    assert len(every) == 4
    commission = (await client.signed("GET", "/api/v3/account/commission", symbol="BTCUSDT")).json()
    assert commission["standardCommission"]["taker"] == "0.00100000"
    both = await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT", fromId=1, startTime=1)
    assert refusal(both) == (400, -1128, "Combination of optional parameters invalid.")
    (own,) = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT", startTime=1)).json()
    assert (own["isMaker"], own["orderListId"]) == (False, -1)


async def test_a_restart_keeps_stops_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "venue.sqlite3"
    async with PaperVenue(ScriptedMarket(), file, CREDENTIALS) as venue:
        client = Client(venue.base_url)
        stop = (await client.order(side="SELL", type="STOP_LOSS", quantity="1", trailingDelta="100")).json()
        pair = (await client.signed("POST", "/api/v3/orderList/oco", **SELL_PAIR)).json()
        trade(venue, 1, "104")
        await client.http.aclose()
    async with PaperVenue(ScriptedMarket(), file, CREDENTIALS) as venue:
        client = Client(venue.base_url)
        assert venue.exchange.account.matching.open[stop["orderId"]].extreme == d("104")
        trade(venue, 2, "102.97")
        assert (await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=stop["orderId"])).json()[
            "status"
        ] == "NEW"
        trade(venue, 3, "102.96")
        assert (await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=stop["orderId"])).json()[
            "status"
        ] == "FILLED"
        trade(venue, 4, "94")
        legs = [
            (await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=row["orderId"])).json()["status"]
            for row in pair["orders"]
        ]
        assert legs == ["EXPIRED", "FILLED"]
        listed = await client.signed("GET", "/api/v3/orderList", orderListId=pair["orderListId"])
        assert listed.json()["listOrderStatus"] == "ALL_DONE"
        await client.http.aclose()


async def test_going_on_after_429_is_banned_and_longer_each_time(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, client = scripted
    monkeypatch.setattr(limits, "MAX_WEIGHT_PER_MINUTE", 1)
    monkeypatch.setattr(limits, "MAX_IGNORED_REFUSALS", 2)
    answers = [await client.http.get("/api/v3/trades?symbol=BTCUSDT") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 418, 418]
    banned = answers[-1]
    assert banned.headers["Retry-After"] == "120"
    assert banned.json()["msg"].startswith("Way too much request weight used; IP banned until ")
    assert "X-MBX-USED-WEIGHT-1M" in banned.headers


def test_bans_double_up_to_three_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_IGNORED_REFUSALS", 0)
    clock = ManualClock(1_000_000 * NS_PER_S)
    counts = Limits()
    lengths = []
    for _ in range(14):
        with pytest.raises(VenueError) as banned:
            counts.charge("here", 6_001, clock.now_ns() // NS_PER_MS)
        assert banned.value.status == 418
        lengths.append(int(banned.value.headers["Retry-After"]))
        counts.charge("elsewhere", 1, clock.now_ns() // NS_PER_MS)
        clock.advance_ns((lengths[-1] + 60) * NS_PER_S)
    assert lengths[:3] == [120, 240, 480]
    assert lengths[-1] == 3 * 86_400


def test_raw_requests_are_counted_over_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REQUESTS_PER_5_MINUTES", 3)
    counts = Limits()
    for _ in range(3):
        counts.charge("here", 0, 0)
    with pytest.raises(VenueError) as over:
        counts.charge("here", 0, 299_999)
    assert (over.value.status, over.value.headers["Retry-After"]) == (429, "1")
    counts.charge("here", 0, 300_000)
