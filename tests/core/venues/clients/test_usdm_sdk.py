"""The official SDK for USD-M futures, pointed at the venue by base URL, runs a whole futures session: REST, streams and
the WebSocket API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from binance_sdk_derivatives_trading_usds_futures.rest_api.models import enums

from tests.core.venues.clients.usdm_support import START, TAKER, Desk, Heard, desk
from tests.core.venues.paper.support import CREDENTIALS

SYMBOL = "BTCUSDT"
BUY, SELL = enums.NewOrderSideEnum.BUY, enums.NewOrderSideEnum.SELL
MARKET, LIMIT = enums.NewOrderTypeEnum.MARKET, enums.NewOrderTypeEnum.LIMIT
RESULT = enums.NewOrderNewOrderRespTypeEnum.RESULT
REQUEST_TIMEOUT_MS = 10_000


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[tuple[Desk, DerivativesTradingUsdsFutures]]:
    async with desk(tmp_path) as here:
        keys = {"api_key": CREDENTIALS.key, "api_secret": CREDENTIALS.secret}
        yield (
            here,
            DerivativesTradingUsdsFutures(
                config_rest_api=ConfigurationRestAPI(
                    **keys, base_path=here.venue.base_url, timeout=REQUEST_TIMEOUT_MS, retries=0
                ),
                config_ws_api=ConfigurationWebSocketAPI(
                    **keys, stream_url=f"{here.venue.usdm_websocket_url}/ws-fapi/v1"
                ),
                config_ws_streams=ConfigurationWebSocketStreams(stream_url=here.venue.usdm_websocket_url),
            ),
        )


async def ask(call: Callable[..., Any], **parameters: Any) -> Any:
    """The SDK's REST calls block, and the venue runs in this very loop."""
    return (await asyncio.to_thread(call, **parameters)).data()


def of_kind(name: str) -> Callable[[Any], bool]:
    return lambda event: type(getattr(event, "actual_instance", event)).__name__ == name


async def test_the_official_sdk_runs_a_futures_session(session: tuple[Desk, DerivativesTradingUsdsFutures]) -> None:
    here, client = session
    rest, user, tickers = client.rest_api, Heard(), Heard()
    connection = await client.websocket_streams.create_connection()
    try:
        key = (await ask(rest.start_user_data_stream)).listen_key
        (await connection.user_data(key)).on("message", user)
        (await connection.individual_symbol_book_ticker_streams(SYMBOL.lower())).on("message", tickers)
        first = await tickers.until(lambda event: event.s == SYMBOL)
        assert Decimal(first.b) < Decimal(first.a)

        info = await ask(rest.exchange_information)
        assert [symbol.contract_type for symbol in info.symbols] == ["PERPETUAL"]
        assert (await ask(rest.change_initial_leverage, symbol=SYMBOL, leverage=50)).leverage == 50
        bought = await ask(
            rest.new_order, symbol=SYMBOL, side=BUY, type=MARKET, quantity=0.2, new_order_resp_type=RESULT
        )
        assert (bought.status, Decimal(bought.executed_qty)) == ("FILLED", Decimal("0.2"))
        paid = Decimal("0.2") * Decimal("60000.1") * TAKER
        filled = await user.until(
            lambda event: of_kind("OrderTradeUpdate")(event) and event.actual_instance.o.X == "FILLED"
        )
        assert (filled.actual_instance.o.i, Decimal(filled.actual_instance.o.n)) == (bought.order_id, paid)
        changed = (await user.until(of_kind("AccountUpdate"))).actual_instance
        assert (changed.a.m, Decimal(changed.a.B[0].wb)) == ("ORDER", START - paid)

        account = await ask(rest.account_information_v3)
        mark = here.mark
        (position,) = account.positions
        assert Decimal(position.initial_margin) == mark * Decimal("0.2") / 50
        assert Decimal(account.total_wallet_balance) == START - paid
        profit = (mark - Decimal("60000.1")) * Decimal("0.2")
        assert Decimal(account.available_balance) == START - paid + profit - Decimal(position.initial_margin)

        rested = await ask(
            rest.new_order,
            symbol=SYMBOL,
            side=BUY,
            type=LIMIT,
            time_in_force=enums.NewOrderTimeInForceEnum.GTX,
            quantity=0.1,
            price=59000.0,
        )
        named = {"symbol": SYMBOL, "order_id": rested.order_id}
        assert (await ask(rest.query_order, **named)).status == "NEW"
        modified = await ask(
            rest.modify_order, **named, side=enums.ModifyOrderSideEnum.BUY, quantity=0.15, price=59100.0
        )
        assert (Decimal(modified.orig_qty), Decimal(modified.price)) == (Decimal("0.15"), Decimal(59100))
        assert (await ask(rest.cancel_order, **named)).status == "CANCELED"

        stop = await ask(
            rest.new_algo_order,
            algo_type=enums.NewAlgoOrderAlgoTypeEnum.CONDITIONAL,
            symbol=SYMBOL,
            side=enums.NewAlgoOrderSideEnum.SELL,
            type=enums.NewAlgoOrderTypeEnum.STOP_MARKET,
            trigger_price=59800.0,
            quantity=0.1,
            reduce_only=enums.NewAlgoOrderReduceOnlyEnum.TRUE,
        )
        here.quote("59800.0", "59800.1")
        await user.until(lambda event: of_kind("AlgoUpdate")(event) and event.actual_instance.o.X == "FINISHED")
        found = await ask(rest.query_algo_order, algo_id=stop.algo_id)
        assert (found.algo_status, Decimal(found.actual_price)) == ("FINISHED", Decimal(59800))
        await ask(
            rest.new_order,
            symbol=SYMBOL,
            side=SELL,
            type=MARKET,
            quantity=0.1,
            reduce_only=enums.NewOrderReduceOnlyEnum.TRUE,
        )

        gain = Decimal("0.2") * (Decimal(59800) - Decimal("60000.1"))
        fees = paid + Decimal("0.2") * 59800 * TAKER
        incomes = await ask(rest.get_income_history, symbol=SYMBOL)
        assert sum(Decimal(row.income) for row in incomes) == gain - fees
        assert Decimal((await ask(rest.account_information_v3)).total_wallet_balance) == START + gain - fees
        assert (await ask(rest.position_information_v3)) == []
        with pytest.raises(BadRequestError) as refused:
            await ask(rest.new_order, symbol=SYMBOL, side=SELL, type=MARKET, quantity=0.0001)
        assert refused.value.status_code == -1111
        with pytest.raises(BadRequestError) as refused:
            await ask(rest.change_initial_leverage, symbol=SYMBOL, leverage=126)
        assert refused.value.status_code == -4028
    finally:
        await connection.close_connection(close_session=True)


async def test_the_official_sdk_trades_over_the_websocket_api(
    session: tuple[Desk, DerivativesTradingUsdsFutures],
) -> None:
    _, client = session
    connection = await client.websocket_api.create_connection()
    try:
        placed = (
            await connection.new_order(
                symbol=SYMBOL, side="SELL", type="LIMIT", time_in_force="GTC", quantity=0.1, price=61000.0
            )
        ).data()
        order_id = placed.result.order_id
        named = {"symbol": SYMBOL, "order_id": order_id}
        assert (await connection.query_order(**named)).data().result.status == "NEW"
        modified = (await connection.modify_order(**named, side="SELL", quantity=0.1, price=61100.0)).data()
        assert Decimal(modified.result.price) == 61100
        assert (await connection.cancel_order(**named)).data().result.status == "CANCELED"
        await connection.new_order(symbol=SYMBOL, side="SELL", type="MARKET", quantity=0.1)
        (position,) = (await connection.position_information_v2()).data().result
        assert Decimal(position.position_amt) == Decimal("-0.1")
        (balance,) = (await connection.futures_account_balance_v2()).data().result
        assert Decimal(balance.balance) == START - Decimal("0.1") * Decimal("60000.0") * TAKER
    finally:
        await connection.close_connection(close_session=True)
