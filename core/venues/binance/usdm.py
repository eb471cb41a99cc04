"""Binance USD-M futures as a VenuePort, in one-way mode: its wire format over what it shares with spot."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from core.types.clock import NS_PER_MS
from core.types.instruments import Instrument, Product
from core.types.orders import OrderIntent
from core.venues.binance import wire, wire_usdm
from core.venues.binance.account import BinanceAccount
from core.venues.binance.wire_usdm import AccountUpdate, Bracket, VenuePosition
from core.venues.ports import UserEvent, VenueTrade, VenueUnavailableError

POSITIONS_PATH = "/fapi/v3/positionRisk"
BRACKETS_PATH = "/fapi/v1/leverageBracket"
ONE_WAY = "BOTH"

_ORDER_UPDATE = msgspec.json.Decoder(wire_usdm.OrderTradeUpdate)
_ACCOUNT_UPDATE = msgspec.json.Decoder(wire_usdm.AccountUpdateMessage)


class BinanceUsdm(BinanceAccount[wire_usdm.UserTrade]):
    """Binance USD-M perpetuals under one API key. Close it with `aclose`.

    on_account_update, when set, is called with each ACCOUNT_UPDATE; it has to be cheap and must not raise.
    """

    product = Product.USDM
    on_account_update: Callable[[AccountUpdate], None] | None = None

    async def balances(self) -> dict[str, Decimal]:
        """The wallet's balance by asset, without unrealised profit."""
        assets = await self.rest.read(self.rest.paths.balances, signed=True, answer=list[wire_usdm.AssetBalance])
        return wire.readable(lambda: {item.asset: Decimal(item.balance) for item in assets})

    async def positions(self, symbol: str | None = None) -> list[VenuePosition]:
        """Open positions, of one symbol or of all. Raises VenueUnavailableError, also for an account in hedge mode."""
        parameters = {} if symbol is None else {"symbol": symbol}
        bodies = await self.rest.read(POSITIONS_PATH, parameters, signed=True, answer=list[wire_usdm.PositionRisk])
        found = []
        for body in bodies:
            if body.position_side != ONE_WAY:
                raise VenueUnavailableError(
                    f"GET {POSITIONS_PATH}: the account is in hedge mode ({body.symbol} {body.position_side}); "
                    "switch it to one-way mode at the venue"
                )
            instrument = await self._known_instrument(body.symbol)
            position = wire.readable(wire_usdm.position_of, body, instrument)
            if position.quantity:
                found.append(position)
        return found

    async def leverage_brackets(self, symbol: str) -> tuple[Bracket, ...]:
        """Maintenance margin and highest leverage by notional, smallest first. Raises VenueUnavailableError."""
        entries = await self.rest.read(
            BRACKETS_PATH, {"symbol": symbol}, signed=True, answer=list[wire_usdm.SymbolBrackets]
        )
        for entry in entries:
            if entry.symbol == symbol:
                return tuple(sorted(entry.brackets, key=lambda bracket: bracket.notional_floor))
        raise VenueUnavailableError(f"GET {BRACKETS_PATH}: the answer has no brackets of {symbol!r}")

    def _lists(self, symbol: wire.SymbolInfo) -> bool:
        return symbol.contract_type == wire_usdm.PERPETUAL

    def _order_parameters(self, intent: OrderIntent) -> dict[str, str]:
        return wire_usdm.order_parameters(intent)

    async def _trade_bodies(self, parameters: dict[str, str]) -> list[wire_usdm.UserTrade]:
        return await self.rest.read(
            self.rest.paths.own_trades, parameters, signed=True, answer=list[wire_usdm.UserTrade]
        )

    def _trade(self, body: wire_usdm.UserTrade, instrument: Instrument, client_order_id: str) -> VenueTrade:
        return wire_usdm.trade_of(body, instrument, client_order_id)

    async def _interpret(self, kind: str, frame: bytes) -> tuple[UserEvent, ...]:
        if kind == "ORDER_TRADE_UPDATE":
            update = _ORDER_UPDATE.decode(frame).o
            return (wire_usdm.report_of(update, await self._instrument(update.s)),)
        if kind == "ACCOUNT_UPDATE" and self.on_account_update is not None:
            self.on_account_update(await self._account_update(frame))
        return ()

    async def _account_update(self, frame: bytes) -> AccountUpdate:
        message = _ACCOUNT_UPDATE.decode(frame)
        ts_event_ns = message.T * NS_PER_MS
        positions = [
            wire_usdm.position_update_of(item, await self._instrument(item.s), ts_event_ns)
            for item in message.a.P
            if item.ps == ONE_WAY
        ]
        balances = {item.a: Decimal(item.wb) for item in message.a.B}
        return AccountUpdate(message.a.m, balances, tuple(positions), ts_event_ns)
