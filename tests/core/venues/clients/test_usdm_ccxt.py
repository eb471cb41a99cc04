"""ccxt's binanceusdm, pointed at the venue by base URL, runs a whole futures session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt.pro
import pytest

from tests.core.venues.clients.usdm_support import MAKER, START, TAKER, TIMEOUT_S, Desk, desk
from tests.core.venues.paper.support import CREDENTIALS

SYMBOL = "BTC/USDT:USDT"


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[tuple[Desk, Any]]:
    async with desk(tmp_path) as here:
        client = ccxt.pro.binanceusdm({"apiKey": CREDENTIALS.key, "secret": CREDENTIALS.secret})
        client.options["fetchMarkets"] = {"types": ["linear"]}
        client.options["fetchCurrencies"] = False
        client.has["fetchCurrencies"] = False
        for name, url in client.urls["api"].items():
            if name.startswith("fapi") and isinstance(url, str):
                client.urls["api"][name] = f"{here.venue.base_url}/fapi/{url.rsplit('/', 1)[1]}"
        # ccxt picks its table of futures errors by Binance's own host name; give it the same table for this host.
        client.exceptions["exact"] |= client.exceptions["linear"]["exact"]
        client.urls["api"]["ws"]["future"] = f"{here.venue.usdm_websocket_url}/ws"
        client.urls["api"]["ws"]["ws-api"]["future"] = f"{here.venue.usdm_websocket_url}/ws-fapi/v1"
        try:
            yield here, client
        finally:
            await client.close()


async def soon(wait: Awaitable[Any]) -> Any:
    async with asyncio.timeout(TIMEOUT_S):
        return await wait


async def until_filled(client: Any) -> Any:
    """The next order that the matching core filled; ccxt streams conditional orders too, which have no average."""
    while True:
        for order in await soon(client.watch_orders(SYMBOL)):
            if order["status"] == "closed" and order["average"]:
                return order


async def test_ccxt_runs_a_futures_session(session: tuple[Desk, Any]) -> None:
    here, client = session
    markets = await client.load_markets()
    market = markets[SYMBOL]
    assert (market["swap"], market["linear"], market["limits"]["cost"]["min"]) == (True, True, 100.0)
    assert (market["precision"]["price"], market["precision"]["amount"]) == (0.1, 0.001)
    book = await client.fetch_order_book(SYMBOL)
    assert (book["bids"][0][0], book["asks"][0][0]) == (60000.0, 60000.1)
    assert (await client.set_leverage(10, SYMBOL))["leverage"] == 10
    orders = asyncio.create_task(until_filled(client))
    streamed = await soon(client.watch_order_book(SYMBOL, 5))
    assert streamed["bids"][0][0] < streamed["asks"][0][0]

    opened = await client.create_order(SYMBOL, "market", "buy", 0.5)
    assert (opened["status"], opened["average"], opened["filled"]) == ("closed", 60000.1, 0.5)
    seen = await soon(orders)
    assert (seen["id"], seen["filled"], seen["fee"]["cost"]) == (opened["id"], 0.5, 15.000025)
    (position,) = await client.fetch_positions([SYMBOL])
    mark = here.mark
    assert (position["contracts"], position["side"], position["entryPrice"]) == (0.5, "long", 60000.1)
    assert position["initialMargin"] == pytest.approx(float(mark * Decimal("0.5") / 10), abs=1e-8)
    assert Decimal(position["info"]["unRealizedProfit"]) == (mark - Decimal("60000.1")) * Decimal("0.5")
    balance = await client.fetch_balance()
    paid = Decimal("0.5") * Decimal("60000.1") * TAKER
    assert Decimal(balance["info"]["totalWalletBalance"]) == START - paid

    resting = await client.create_order(SYMBOL, "limit", "buy", 0.1, 59000)
    assert (await client.fetch_order(resting["id"], SYMBOL))["status"] == "open"
    amended = await client.edit_order(resting["id"], SYMBOL, "limit", "buy", 0.2, 59100)
    assert (amended["id"], amended["price"], amended["amount"]) == (resting["id"], 59100.0, 0.2)
    assert [order["id"] for order in await client.fetch_open_orders(SYMBOL)] == [resting["id"]]
    assert (await client.cancel_order(resting["id"], SYMBOL))["status"] == "canceled"

    stop = await client.create_order(SYMBOL, "market", "sell", 0.2, None, {"stopLossPrice": 59500, "reduceOnly": True})
    profit = await client.create_order(
        SYMBOL, "market", "sell", 0.3, None, {"takeProfitPrice": 60500, "reduceOnly": True}
    )
    assert {order["id"] for order in await client.fetch_open_orders(SYMBOL, params={"trigger": True})} == {
        stop["id"],
        profit["id"],
    }
    triggered = asyncio.create_task(until_filled(client))
    here.quote("60500.0", "60500.1")
    closed = await soon(triggered)
    assert (closed["side"], closed["filled"], closed["average"]) == ("sell", 0.3, 60500.0)
    found = await client.fetch_order(profit["id"], SYMBOL, {"trigger": True})
    assert found["info"]["algoStatus"] == "FINISHED"
    await client.cancel_order(stop["id"], SYMBOL, {"trigger": True})

    rest = await client.create_order(SYMBOL, "market", "sell", 0.2, None, {"reduceOnly": True})
    assert rest["average"] == 60500.0
    assert await client.fetch_positions([SYMBOL]) == []
    incomes = await client.fapiPrivateGetIncome({"symbol": "BTCUSDT"})
    totals: dict[str, Decimal] = {}
    for row in incomes:
        totals[row["incomeType"]] = totals.get(row["incomeType"], Decimal(0)) + Decimal(row["income"])
    gain = Decimal("0.5") * (Decimal("60500.0") - Decimal("60000.1"))
    fees = paid + Decimal("0.5") * Decimal("60500.0") * TAKER
    assert totals == {"REALIZED_PNL": gain, "COMMISSION": -fees}
    wallet = Decimal((await client.fetch_balance())["info"]["totalWalletBalance"])
    assert wallet == START + gain - fees
    trades = await client.fetch_my_trades(SYMBOL)
    assert [(trade["side"], trade["amount"]) for trade in trades] == [("buy", 0.5), ("sell", 0.3), ("sell", 0.2)]
    assert MAKER < TAKER

    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order(SYMBOL, "market", "buy", 100)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order("987654", SYMBOL)
    with pytest.raises(ccxt.InvalidOrder):
        await client.create_order(SYMBOL, "market", "sell", 0.1, None, {"reduceOnly": True})
