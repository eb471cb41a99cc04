"""The USD-M adapter against the paper venue's futures, whole."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from core.types.clock import SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.binance.usdm import BinanceUsdm
from core.venues.binance.wire_usdm import AccountUpdate
from core.venues.paper.events import Publish, StartBook
from core.venues.paper.server import PaperVenue
from core.venues.ports import SubmitRefused, Submitted
from tests.core.venues.binance.support import Listener
from tests.core.venues.paper.support import CREDENTIALS, ScriptedMarket, d


class TwoMarkets(ScriptedMarket):
    """A spot market and a perpetual: best bid 60000.0, best ask 60000.1, ten coins on each side."""

    def __init__(self) -> None:
        super().__init__()
        self.publish_usdm: Publish | None = None

    def usdm_books(self) -> tuple[StartBook, ...]:
        return (StartBook("BTCUSDT", 100, ((d("60000"), d("10")),), ((d("60000.1"), d("10")),)),)

    def set_usdm_publish(self, publish: Publish) -> None:
        self.publish_usdm = publish


async def test_a_perpetual_is_traded_held_and_reduced(tmp_path: Path) -> None:
    async with PaperVenue(TwoMarkets(), tmp_path / "venue.sqlite3", CREDENTIALS) as venue:
        adapter = BinanceUsdm(
            venue.base_url,
            CREDENTIALS.key,
            CREDENTIALS.secret,
            SystemClock(),
            venue="paper-usdm",
            websocket_url=f"{venue.usdm_websocket_url}/private",
            random=Random(1),
        )
        updates: list[AccountUpdate] = []
        adapter.on_account_update = updates.append
        (instrument,) = await adapter.instruments()

        def perpetual(client_order_id: str, price: str, quantity: str, **changes: Any) -> OrderIntent:
            intent = OrderIntent(
                account_id="acct",
                venue="paper-usdm",
                symbol="BTCUSDT",
                side=Side.BUY,
                order_type=OrderType.LIMIT,
                time_in_force=TimeInForce.GTC,
                quantity=int(Decimal(quantity).scaleb(instrument.quantity_scale)),
                price=int(Decimal(price).scaleb(instrument.price_scale)),
                price_scale=instrument.price_scale,
                quantity_scale=instrument.quantity_scale,
                client_order_id=client_order_id,
            )
            return msgspec.structs.replace(intent, **changes)

        async with Listener(adapter) as listener:
            assert isinstance(await adapter.submit(perpetual("resting", "59000", "0.1", post_only=True)), Submitted)
            assert [item.client_order_id for item in await adapter.open_orders("BTCUSDT")] == ["resting"]
            await adapter.cancel("BTCUSDT", "resting")
            await listener.until(OrderStatus.CANCELED)
            with pytest.raises(RefusalError) as gone:
                await adapter.cancel("BTCUSDT", "resting")
            assert gone.value.refusal.code is ReasonCode.ORDER_UNKNOWN
            assert await adapter.order("BTCUSDT", "never") is None

            bought = await adapter.submit(perpetual("buy", "60000.1", "0.2"))
            assert isinstance(bought, Submitted)
            fill = (await listener.until(OrderStatus.FILLED))[-1].trade
            assert Decimal(fill.quantity).scaleb(-instrument.quantity_scale) == Decimal("0.2")
            assert await adapter.trades_of("BTCUSDT", bought.venue_order_id) == [fill]
            (position,) = await adapter.positions()
            assert position.leverage == 20
            assert Decimal(position.quantity).scaleb(-instrument.quantity_scale) == Decimal("0.2")
            assert position.entry_price == Decimal("60000.1")
            assert updates[-1].positions[0].quantity == position.quantity
            assert updates[-1].reason == "ORDER"
            assert await adapter.balances() == {**await adapter.balances(), **updates[-1].balances}

            market = OrderType.MARKET
            limit = perpetual("close", "60000", "0.2", side=Side.SELL, order_type=market, reduce_only=True)
            closing = msgspec.structs.replace(limit, price=None)
            assert isinstance(await adapter.submit(closing), Submitted)
            await listener.until(OrderStatus.FILLED)
            assert await adapter.positions() == []
            refused = await adapter.submit(msgspec.structs.replace(closing, client_order_id="again"))
            assert isinstance(refused, SubmitRefused)
            assert refused.refusal.actual == "-2022", refused
            brackets = await adapter.leverage_brackets("BTCUSDT")
            assert brackets[0].notional_floor == 0
            assert brackets[0].maint_margin_ratio > 0
        await adapter.aclose()
