"""Binance spot as a VenuePort: spot's wire format over what it shares with USD-M."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.types.instruments import Instrument, Product
from core.types.orders import OrderIntent
from core.venues.binance import wire, wire_orders, wire_reports
from core.venues.binance.account import BinanceAccount
from core.venues.binance.errors import CODE_CANCEL_REJECTED, BinanceApiError
from core.venues.ports import (
    Amended,
    AmendResult,
    AmendUnknown,
    UserEvent,
    VenueFunding,
    VenuePosition,
    VenueTrade,
)

_REPORT = msgspec.json.Decoder(wire_reports.ExecutionReportMessage)


class BinanceSpot(BinanceAccount[wire.MyTrade]):
    """Binance spot under one API key. Close it with `aclose`."""

    product = Product.SPOT

    capabilities = wire_orders.SPOT_CAPABILITIES
    trades_window_ms = 24 * 3_600_000

    async def balances(self) -> dict[str, Decimal]:
        """Free plus locked, by asset."""
        account = await self.rest.read(self.rest.paths.balances, signed=True, answer=wire.Account)
        return wire.readable(
            lambda: {item.asset: wire.finite(item.free) + wire.finite(item.locked) for item in account.balances}
        )

    async def positions(self) -> list[VenuePosition]:
        """Spot has none."""
        return []

    async def funding_since(self, since_ns: int) -> list[VenueFunding]:
        """Spot has none."""
        return []

    async def _amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        """The order keeps its place in the book and its clientOrderId."""
        if price not in {None, intent.price}:
            raise ValueError("spot can lower an order's quantity in place and not change its price")
        parameters = {
            "symbol": intent.symbol,
            "origClientOrderId": intent.client_order_id,
            "newClientOrderId": intent.client_order_id,
            "newQty": wire_orders.quantity_text(intent, quantity),
        }
        answer = await self._send("PUT", "order.amend.keepPriority", parameters, wire_orders.AmendAnswer)
        order = answer.amended_order
        try:
            amended = Amended(
                wire_orders.amount(order.qty, intent.quantity_scale),
                wire_orders.amount(order.price, intent.price_scale) or None,
            )
        except ValueError as error:
            return AmendUnknown(f"the venue's answer can't be read: {error}")
        if (order.symbol, order.client_order_id) != (intent.symbol, intent.client_order_id):
            return AmendUnknown(f"the venue amended another order: {order.client_order_id[:64]!r}")
        return amended

    async def cancel_all(self, symbol: str) -> None:
        """None being open is fine. Raises VenueUnavailableError."""
        try:
            await self.rest.once(
                "DELETE", self.rest.paths.open_orders, {"symbol": symbol}, signed=True, answer=msgspec.Raw
            )
        except BinanceApiError as error:
            if error.code != CODE_CANCEL_REJECTED:
                raise

    def _lists(self, symbol: wire.SymbolInfo) -> bool:
        return True

    def _order_parameters(self, intent: OrderIntent) -> dict[str, str]:
        return wire_orders.spot_parameters(intent)

    async def _trade_bodies(self, parameters: dict[str, str]) -> list[wire.MyTrade]:
        return await self.rest.read(self.rest.paths.own_trades, parameters, signed=True, answer=list[wire.MyTrade])

    def _trade_id(self, body: wire.MyTrade) -> int:
        return body.id

    def _trade(self, body: wire.MyTrade, instrument: Instrument, client_order_id: str) -> VenueTrade:
        return wire.trade_of(body, instrument, client_order_id)

    async def _interpret(self, kind: str, frame: bytes) -> tuple[UserEvent, ...]:
        if kind != "executionReport":
            return ()
        message = _REPORT.decode(frame)
        return (wire_reports.spot_report(message, await self._instrument(message.s)),)
