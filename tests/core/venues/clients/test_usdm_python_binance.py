"""python-binance's futures calls and sockets, pointed at the venue by base URL, run a whole futures session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager
from binance.exceptions import BinanceAPIException

from tests.core.venues.clients.usdm_support import START, TAKER, Desk, Heard, desk
from tests.core.venues.paper.support import CREDENTIALS

SYMBOL = "BTCUSDT"


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[tuple[Desk, AsyncClient, BinanceSocketManager]]:
    async with desk(tmp_path) as here:
        client = AsyncClient(CREDENTIALS.key, CREDENTIALS.secret)
        client.FUTURES_URL = f"{here.venue.base_url}/fapi"
        manager = BinanceSocketManager(client)
        manager.FSTREAM_URL = f"{here.venue.usdm_websocket_url}/"
        try:
            yield here, client, manager
        finally:
            await client.close_connection()


async def listen(socket: Any, heard: Heard, is_open: asyncio.Event) -> None:
    socket.TIMEOUT = 0.5  # its reader, once told to stop, waits that long for a message first
    async with socket as stream:
        is_open.set()
        while True:
            message = await stream.recv()
            heard(message.get("data", message) if isinstance(message, dict) else message)


def is_fill(order_id: int) -> Any:
    return lambda event: (
        event.get("e") == "ORDER_TRADE_UPDATE" and event["o"]["i"] == order_id and event["o"]["X"] == "FILLED"
    )


async def test_python_binance_runs_a_futures_session(
    session: tuple[Desk, AsyncClient, BinanceSocketManager],
) -> None:
    here, client, manager = session
    user, marks, book = Heard(), Heard(), Heard()
    sockets = [
        (manager.futures_user_socket(), user),
        (manager.symbol_mark_price_socket(SYMBOL), marks),
        (manager.futures_depth_socket(SYMBOL, "5"), book),
    ]
    opened = [asyncio.Event() for _ in sockets]
    tasks = [
        asyncio.create_task(listen(socket, heard, is_open))
        for (socket, heard), is_open in zip(sockets, opened, strict=True)
    ]
    try:
        for is_open in opened:
            await is_open.wait()
        await trade_a_session(here, client, user)
        mark = await marks.until(lambda event: event["e"] == "markPriceUpdate")
        assert mark["s"] == SYMBOL
        partial = await book.until(lambda event: event["e"] == "depthUpdate")
        assert Decimal(partial["b"][0][0]) < Decimal(partial["a"][0][0])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def trade_a_session(here: Desk, client: AsyncClient, user: Heard) -> None:
    info = await client.futures_exchange_info()
    (listed,) = info["symbols"]
    filters = {row["filterType"]: row for row in listed["filters"]}
    assert (listed["contractType"], filters["MIN_NOTIONAL"]["notional"]) == ("PERPETUAL", "100")
    assert {"MARKET_LOT_SIZE", "PERCENT_PRICE", "MAX_NUM_ORDERS", "MAX_NUM_ALGO_ORDERS"} <= set(filters)
    assert (await client.futures_change_leverage(symbol=SYMBOL, leverage=25))["leverage"] == 25
    config = await user.until(lambda event: event["e"] == "ACCOUNT_CONFIG_UPDATE")
    assert config["ac"] == {"s": SYMBOL, "l": 25}

    bought = await client.futures_create_order(
        symbol=SYMBOL, side="BUY", type="MARKET", quantity="0.4", newOrderRespType="RESULT"
    )
    assert (bought["status"], Decimal(bought["avgPrice"])) == ("FILLED", Decimal("60000.1"))
    paid = Decimal("0.4") * Decimal("60000.1") * TAKER
    filled = await user.until(is_fill(bought["orderId"]))
    assert (Decimal(filled["o"]["n"]), filled["o"]["N"]) == (paid, "USDT")
    account_event = await user.until(lambda event: event["e"] == "ACCOUNT_UPDATE")
    assert account_event["a"]["m"] == "ORDER"
    assert Decimal(account_event["a"]["B"][0]["wb"]) == START - paid
    assert await user.until(lambda event: event["e"] == "TRADE_LITE")

    (position,) = await client.futures_position_information(symbol=SYMBOL)
    mark = here.mark
    assert Decimal(position["positionAmt"]) == Decimal("0.4")
    assert Decimal(position["initialMargin"]) == mark * Decimal("0.4") / 25
    assert Decimal(position["maintMargin"]) == mark * Decimal("0.4") * Decimal("0.004")
    assert Decimal(position["unRealizedProfit"]) == (mark - Decimal("60000.1")) * Decimal("0.4")

    rested = await client.futures_create_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.1", price="59000"
    )
    named = {"symbol": SYMBOL, "orderId": rested["orderId"]}
    assert (await client.futures_get_order(**named))["status"] == "NEW"
    modified = await client.futures_modify_order(**named, side="BUY", quantity="0.2", price="59050")
    assert (Decimal(modified["origQty"]), Decimal(modified["price"])) == (Decimal("0.2"), Decimal(59050))
    amended = await user.until(lambda event: event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "AMENDMENT")
    assert amended["o"]["i"] == rested["orderId"]
    assert (await client.futures_cancel_order(**named))["status"] == "CANCELED"

    stop = await client.futures_create_order(
        symbol=SYMBOL, side="SELL", type="STOP_MARKET", stopPrice="59500", quantity="0.3", reduceOnly="true"
    )
    assert stop["algoStatus"] == "NEW"
    here.quote("59500.0", "59500.1")
    done = await user.until(lambda event: event["e"] == "ALGO_UPDATE" and event["o"]["X"] == "FINISHED")
    assert (done["o"]["caid"], Decimal(done["o"]["aq"])) == (stop["clientAlgoId"], Decimal("0.3"))
    states = [event["o"]["X"] for event in user.events if event["e"] == "ALGO_UPDATE"]
    assert states == ["NEW", "TRIGGERING", "TRIGGERED", "FINISHED"]
    profit = await client.futures_create_order(
        symbol=SYMBOL, side="SELL", type="TAKE_PROFIT_MARKET", stopPrice="60400", closePosition="true"
    )
    here.quote("60400.0", "60400.1")
    await user.until(
        lambda event: (
            event["e"] == "ALGO_UPDATE" and event["o"]["X"] == "FINISHED" and event["o"]["aid"] == profit["algoId"]
        )
    )
    assert await client.futures_position_information(symbol=SYMBOL) == []

    gain = Decimal("0.3") * (Decimal(59500) - Decimal("60000.1")) + Decimal("0.1") * (
        Decimal(60400) - Decimal("60000.1")
    )
    fees = paid + TAKER * (Decimal("0.3") * 59500 + Decimal("0.1") * 60400)
    incomes = await client.futures_income_history(symbol=SYMBOL)
    assert sum(Decimal(row["income"]) for row in incomes if row["incomeType"] == "REALIZED_PNL") == gain
    assert sum(Decimal(row["income"]) for row in incomes if row["incomeType"] == "COMMISSION") == -fees
    (balance,) = await client.futures_account_balance()
    assert Decimal(balance["balance"]) == START + gain - fees
    trades = await client.futures_account_trades(symbol=SYMBOL)
    assert sum(Decimal(trade["realizedPnl"]) for trade in trades) == gain

    with pytest.raises(BinanceAPIException) as refused:
        await client.futures_create_order(
            symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.001", price="60000"
        )
    assert (refused.value.code, refused.value.status_code) == (-4164, 400)
    with pytest.raises(BinanceAPIException) as refused:
        await client.futures_create_order(
            symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTX", quantity="0.1", price="60401"
        )
    assert refused.value.code == -5022
