"""Instruments and their filters, as Binance's exchangeInfo states them. Ints at scale 8."""

from __future__ import annotations

from typing import Any

import msgspec

from core.venues.paper.decimals import UNIT, quote_amount, text8
from core.venues.paper.errors import filter_failure

ORDER_TYPES = ("LIMIT", "LIMIT_MAKER", "MARKET")
MAX_OPEN_ORDERS_PER_SYMBOL = 200
MAX_NOTIONAL = 9_000_000 * UNIT


class SymbolRules(msgspec.Struct, frozen=True):
    symbol: str
    base: str
    quote: str
    tick: int
    min_price: int
    max_price: int
    step: int
    min_quantity: int
    max_quantity: int
    max_market_quantity: int
    min_notional: int

    def check_price(self, price: int) -> None:
        """Raises VenueError -1013 PRICE_FILTER."""
        if not self.min_price <= price <= self.max_price or price % self.tick:
            raise filter_failure("PRICE_FILTER")

    def check_quantity(self, quantity: int, is_market: bool) -> None:
        """Raises VenueError -1013 LOT_SIZE or MARKET_LOT_SIZE."""
        if not self.min_quantity <= quantity <= self.max_quantity or quantity % self.step:
            raise filter_failure("LOT_SIZE")
        if is_market and quantity > self.max_market_quantity:
            raise filter_failure("MARKET_LOT_SIZE")

    def check_notional(self, price: int, quantity: int, is_market: bool) -> None:
        """Raises VenueError -1013 NOTIONAL. The maximum doesn't apply to MARKET orders."""
        notional = quote_amount(price, quantity)
        if notional < self.min_notional or (notional > MAX_NOTIONAL and not is_market):
            raise filter_failure("NOTIONAL")

    def exchange_info(self) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "status": "TRADING",
            "baseAsset": self.base,
            "baseAssetPrecision": 8,
            "quoteAsset": self.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": list(ORDER_TYPES),
            "icebergAllowed": False,
            "ocoAllowed": False,
            "otoAllowed": False,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": False,
            "cancelReplaceAllowed": False,
            "amendAllowed": False,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": self._filters(),
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
        }

    def _filters(self) -> list[dict[str, Any]]:
        return [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": text8(self.min_price),
                "maxPrice": text8(self.max_price),
                "tickSize": text8(self.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": text8(self.min_quantity),
                "maxQty": text8(self.max_quantity),
                "stepSize": text8(self.step),
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": text8(0),
                "maxQty": text8(self.max_market_quantity),
                "stepSize": text8(0),
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": text8(self.min_notional),
                "applyMinToMarket": True,
                "maxNotional": text8(MAX_NOTIONAL),
                "applyMaxToMarket": False,
                "avgPriceMins": 0,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_OPEN_ORDERS_PER_SYMBOL},
        ]


def _rules(base: str, step: int, max_quantity: int, max_market_quantity: int) -> SymbolRules:
    return SymbolRules(
        symbol=base + "USDT",
        base=base,
        quote="USDT",
        tick=UNIT // 100,
        min_price=UNIT // 100,
        max_price=1_000_000 * UNIT,
        step=step,
        min_quantity=step,
        max_quantity=max_quantity * UNIT,
        max_market_quantity=max_market_quantity * UNIT,
        min_notional=5 * UNIT,
    )


RULES: dict[str, SymbolRules] = {
    rules.symbol: rules
    for rules in (
        _rules("BTC", UNIT // 100_000, 9_000, 120),
        _rules("ETH", UNIT // 10_000, 9_000, 3_000),
        _rules("SOL", UNIT // 1_000, 90_000, 30_000),
    )
}
