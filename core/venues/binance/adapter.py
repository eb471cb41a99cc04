"""Binance spot as a VenuePort: spot's wire format over what it shares with USD-M."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.types.instruments import Instrument, Product
from core.types.orders import OrderIntent
from core.venues.binance import wire
from core.venues.binance.account import BinanceAccount
from core.venues.ports import UserEvent, VenueTrade

_REPORT = msgspec.json.Decoder(wire.ExecutionReportMessage)


class BinanceSpot(BinanceAccount[wire.MyTrade]):
    """Binance spot under one API key. Close it with `aclose`."""

    product = Product.SPOT

    async def balances(self) -> dict[str, Decimal]:
        """Free plus locked, by asset."""
        account = await self.rest.read(self.rest.paths.balances, signed=True, answer=wire.Account)
        return wire.readable(
            lambda: {item.asset: Decimal(item.free) + Decimal(item.locked) for item in account.balances}
        )

    def _lists(self, symbol: wire.SymbolInfo) -> bool:
        return True

    def _order_parameters(self, intent: OrderIntent) -> dict[str, str]:
        return wire.order_parameters(intent)

    async def _trade_bodies(self, parameters: dict[str, str]) -> list[wire.MyTrade]:
        return await self.rest.read(self.rest.paths.own_trades, parameters, signed=True, answer=list[wire.MyTrade])

    def _trade(self, body: wire.MyTrade, instrument: Instrument, client_order_id: str) -> VenueTrade:
        return wire.trade_of(body, instrument, client_order_id)

    async def _interpret(self, kind: str, frame: bytes) -> tuple[UserEvent, ...]:
        if kind != "executionReport":
            return ()
        message = _REPORT.decode(frame)
        return (wire.report_of(message, await self._instrument(message.s)),)
