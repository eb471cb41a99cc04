"""Instruments and their filters, as Binance's exchangeInfo states them. Ints at scale 8."""

from __future__ import annotations

from typing import Any

import msgspec

from core.venues.paper.decimals import UNIT, quote_amount, text8
from core.venues.paper.errors import filter_failure

ORDER_TYPES = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)
PREVENTION_MODES = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
MAX_OPEN_ORDERS_PER_SYMBOL = 200
MAX_ALGO_ORDERS_PER_SYMBOL = 5
MAX_ORDER_LISTS_PER_SYMBOL = 20
MAX_ORDER_AMENDS = 10
MAX_ICEBERG_PARTS = 100
MIN_TRAILING_DELTA_BPS = 10
MAX_TRAILING_DELTA_BPS = 2_000
AVERAGE_PRICE_MINUTES = 5
MAX_PRICE_FACTOR = 5
"""A price may be at most this many times, and at least one of this many parts of, the average price."""
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

    def check_percent_price(self, price: int, average: int) -> None:
        """Raises VenueError -1013 PERCENT_PRICE_BY_SIDE. Bid and ask have the same multipliers here."""
        if not average <= price * MAX_PRICE_FACTOR or not price <= average * MAX_PRICE_FACTOR:
            raise filter_failure("PERCENT_PRICE_BY_SIDE")

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
            "icebergAllowed": True,
            "ocoAllowed": True,
            "otoAllowed": True,
            "opoAllowed": False,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True,
            "cancelReplaceAllowed": True,
            "amendAllowed": True,
            "pegInstructionsAllowed": False,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": self._filters(),
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": list(PREVENTION_MODES),
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
            {"filterType": "ICEBERG_PARTS", "limit": MAX_ICEBERG_PARTS},
            {
                "filterType": "TRAILING_DELTA",
                "minTrailingAboveDelta": MIN_TRAILING_DELTA_BPS,
                "maxTrailingAboveDelta": MAX_TRAILING_DELTA_BPS,
                "minTrailingBelowDelta": MIN_TRAILING_DELTA_BPS,
                "maxTrailingBelowDelta": MAX_TRAILING_DELTA_BPS,
            },
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": str(MAX_PRICE_FACTOR),
                "bidMultiplierDown": "0.2",
                "askMultiplierUp": str(MAX_PRICE_FACTOR),
                "askMultiplierDown": "0.2",
                "avgPriceMins": AVERAGE_PRICE_MINUTES,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_OPEN_ORDERS_PER_SYMBOL},
            {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": MAX_ORDER_LISTS_PER_SYMBOL},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": MAX_ALGO_ORDERS_PER_SYMBOL},
            {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": MAX_ORDER_AMENDS},
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
