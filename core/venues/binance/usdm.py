"""Binance USD-M futures as a VenuePort, in one-way mode: its wire format over what it shares with spot."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from core.portfolio.margin import MarginBracket
from core.types.clock import NS_PER_MS
from core.types.instruments import Instrument, Product
from core.types.orders import OrderIntent, OrderType
from core.venues.binance import wire, wire_orders, wire_reports, wire_usdm
from core.venues.binance.account import BinanceAccount
from core.venues.binance.endpoints import Priority
from core.venues.binance.wire_usdm import AccountUpdate, Bracket, PositionDetail
from core.venues.ports import (
    Amended,
    AmendResult,
    AmendUnknown,
    UserEvent,
    VenueFunding,
    VenuePosition,
    VenueTrade,
    VenueUnavailableError,
)

POSITIONS_PATH = "/fapi/v3/positionRisk"
CONFIGS_PATH = "/fapi/v1/symbolConfig"
INCOME_PATH = "/fapi/v1/income"
CANCEL_ALL_PATH = "/fapi/v1/allOpenOrders"
FUNDING_FEE = "FUNDING_FEE"
INCOME_LIMIT = 1_000
INCOME_WINDOW_MS = 7 * 86_400_000
INCOME_KEPT_MS = 89 * 86_400_000
BRACKETS_PATH = "/fapi/v1/leverageBracket"
ONE_WAY = "BOTH"
CROSSED = "CROSSED"

_ORDER_UPDATE = msgspec.json.Decoder(wire_reports.OrderTradeUpdate)
_ACCOUNT_UPDATE = msgspec.json.Decoder(wire_usdm.AccountUpdateMessage)


class BinanceUsdm(BinanceAccount[wire_usdm.UserTrade]):
    """Binance USD-M perpetuals under one API key. Close it with `aclose`.

    on_account_update, when set, is called with each ACCOUNT_UPDATE; it has to be cheap and must not raise.
    """

    product = Product.USDM
    capabilities = wire_orders.USDM_CAPABILITIES
    trades_window_ms = 7 * 86_400_000
    on_account_update: Callable[[AccountUpdate], None] | None = None

    async def balances(self) -> dict[str, Decimal]:
        """The wallet's balance by asset, without unrealised profit."""
        assets = await self.rest.read(self.rest.paths.balances, signed=True, answer=list[wire_usdm.AssetBalance])
        return wire.readable(lambda: {item.asset: wire.finite(item.balance) for item in assets})

    async def positions(self) -> list[VenuePosition]:
        """Open positions with their leverage. Raises VenueUnavailableError, also for an account in hedge mode."""
        details = await self.position_details()
        if not details:
            return []
        leverages = {config.symbol: config.leverage for config in await self._configs()}
        missing = [detail.symbol for detail in details if leverages.get(detail.symbol, 0) < 1]
        if missing:
            raise VenueUnavailableError(f"GET {CONFIGS_PATH}: the answer has no leverage of {missing}")
        return [
            VenuePosition(
                detail.symbol, detail.quantity, detail.entry_price, leverages[detail.symbol], detail.ts_event_ns
            )
            for detail in details
        ]

    async def leverages(self) -> dict[str, int]:
        """Of every symbol, held or not. Raises VenueUnavailableError, also for one with isolated margin."""
        configs = await self._configs()
        isolated = sorted(config.symbol for config in configs if config.margin_type != CROSSED)
        if isolated:
            raise VenueUnavailableError(
                f"GET {CONFIGS_PATH}: {', '.join(isolated[:5])} has isolated margin; switch it to cross at the venue"
            )
        return {config.symbol: config.leverage for config in configs}

    async def _configs(self) -> list[wire_usdm.SymbolConfig]:
        return await self.rest.read(CONFIGS_PATH, signed=True, answer=list[wire_usdm.SymbolConfig])

    async def margin_brackets(self, symbol: str) -> tuple[MarginBracket, ...]:
        """As the portfolio counts with them, smallest notional first. Raises VenueUnavailableError."""
        return tuple(
            MarginBracket(
                bracket.notional_floor,
                bracket.notional_cap,
                bracket.initial_leverage,
                bracket.maint_margin_ratio,
                bracket.cum,
            )
            for bracket in await self.leverage_brackets(symbol)
        )

    async def funding_since(self, since_ns: int) -> list[VenueFunding]:
        """Oldest first. The venue tells of the last three months only. Raises VenueUnavailableError."""
        await self.rest.ensure_time(f"GET {INCOME_PATH}", Priority.RECONCILE)
        now_ms = self.rest.clock.now_ms() + self.rest.clock.uncertainty_ms
        start_ms = max(-(-since_ns // NS_PER_MS), now_ms - INCOME_KEPT_MS)
        found: dict[str, VenueFunding] = {}
        width_ms = INCOME_WINDOW_MS
        while start_ms <= now_ms:
            end_ms = start_ms + width_ms - 1
            window = {"startTime": str(start_ms), "endTime": str(end_ms), "limit": str(INCOME_LIMIT)}
            bodies = await self.rest.read(
                INCOME_PATH,
                {"incomeType": FUNDING_FEE, **window},
                signed=True,
                answer=list[wire_usdm.Income],
                priority=Priority.RECONCILE,
            )
            if len(bodies) >= INCOME_LIMIT and width_ms > 1:
                width_ms = max(1, width_ms // 16)
                continue
            for body in bodies:
                if body.income_type == FUNDING_FEE:
                    funding = wire.readable(wire_usdm.funding_of, body)
                    found[funding.transaction_id] = funding
            start_ms = end_ms + 1
        return sorted(found.values(), key=lambda item: (item.ts_event_ns, item.transaction_id))

    async def cancel_all(self, symbol: str) -> None:
        """Raises VenueUnavailableError."""
        await self.rest.once("DELETE", CANCEL_ALL_PATH, {"symbol": symbol}, signed=True, answer=msgspec.Raw)

    async def position_details(self, symbol: str | None = None) -> list[PositionDetail]:
        """With mark and liquidation price, of one symbol or of all. Raises VenueUnavailableError, also for an
        account in hedge mode."""
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

    async def _amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        """The order loses its place in the book. Price and quantity are both sent: the venue needs them both."""
        wanted = intent.price if price is None else price
        if wanted is None or intent.order_type is not OrderType.LIMIT:
            raise ValueError("USD-M amends LIMIT orders only")
        parameters = {
            "symbol": intent.symbol,
            "origClientOrderId": intent.client_order_id,
            "side": intent.side.value,
            "quantity": wire_orders.quantity_text(intent, quantity),
            "price": wire_orders.price_text(intent, wanted),
        }
        body = await self._send("PUT", "order.modify", parameters, wire_orders.OrderBody)
        try:
            amended = Amended(
                wire_orders.amount(body.orig_qty, intent.quantity_scale),
                wire_orders.amount(body.price, intent.price_scale) or None,
            )
        except ValueError as error:
            return AmendUnknown(f"the venue's answer can't be read: {error}")
        if (body.symbol, body.client_order_id) != (intent.symbol, intent.client_order_id):
            return AmendUnknown(f"the venue amended another order: {body.client_order_id[:64]!r}")
        return amended

    def _lists(self, symbol: wire.SymbolInfo) -> bool:
        return symbol.contract_type == wire_usdm.PERPETUAL

    def _order_parameters(self, intent: OrderIntent) -> dict[str, str]:
        return wire_orders.usdm_parameters(intent)

    async def _trade_bodies(self, parameters: dict[str, str]) -> list[wire_usdm.UserTrade]:
        return await self.rest.read(
            self.rest.paths.own_trades, parameters, signed=True, answer=list[wire_usdm.UserTrade]
        )

    def _trade_id(self, body: wire_usdm.UserTrade) -> int:
        return body.id

    def _trade(self, body: wire_usdm.UserTrade, instrument: Instrument, client_order_id: str) -> VenueTrade:
        return wire_usdm.trade_of(body, instrument, client_order_id)

    async def _interpret(self, kind: str, frame: bytes) -> tuple[UserEvent, ...]:
        if kind == "ORDER_TRADE_UPDATE":
            update = _ORDER_UPDATE.decode(frame).o
            return (wire_reports.usdm_report(update, await self._instrument(update.s)),)
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
        balances = {item.a: wire.finite(item.wb) for item in message.a.B}
        return AccountUpdate(message.a.m, balances, tuple(positions), ts_event_ns)
