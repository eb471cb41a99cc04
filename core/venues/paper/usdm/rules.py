"""The perpetual contracts, their filters and leverage brackets, as Binance states them. Ints at scale 8."""

from __future__ import annotations

from typing import Any

import msgspec

from core.venues.paper.decimals import UNIT
from core.venues.paper.errors import VenueError
from core.venues.paper.usdm import errors
from core.venues.paper.usdm.numbers import fixed, plain, product

ORDER_TYPES = ("LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "GTX", "GTD")
MARGIN_ASSET = "USDT"
MAX_OPEN_ORDERS_PER_SYMBOL = 200
MAX_ALGO_ORDERS = 200
"""Of the whole account, on all symbols."""
MAKER_FEE = UNIT // 5_000
"""0.02 %."""
TAKER_FEE = UNIT // 2_000
"""0.05 %."""
DEFAULT_LEVERAGE = 20
ONBOARD_MS = 1_569_398_400_000
PERPETUAL_DELIVERY_MS = 4_133_404_800_000
MULTIPLIER_DECIMALS = 4


class Bracket(msgspec.Struct, frozen=True):
    """Up to `cap` of position notional: the highest leverage, and the maintenance margin ratio * notional - cum."""

    number: int
    leverage: int
    floor: int
    cap: int
    ratio: int
    cum: int


class ContractRules(msgspec.Struct, frozen=True):
    symbol: str
    base: str
    quote: str
    tick: int
    price_places: int
    min_price: int
    max_price: int
    step: int
    quantity_places: int
    min_quantity: int
    max_quantity: int
    max_market_quantity: int
    min_notional: int
    percent_up: int
    percent_down: int
    brackets: tuple[Bracket, ...]

    def price_text(self, price: int) -> str:
        return fixed(price, self.price_places)

    def quantity_text(self, quantity: int) -> str:
        return fixed(quantity, self.quantity_places)

    def check_price(self, price: int) -> None:
        """Raises VenueError -4001, -4002, -4013, -1111 or -4014."""
        if price <= 0:
            raise errors.price_not_positive()
        if price > self.max_price:
            raise VenueError(-4002, "Price greater than max price.")
        if price < self.min_price:
            raise VenueError(-4013, "Price less than min price.")
        self._check_places(price, self.price_places)
        if price % self.tick:
            raise errors.price_off_tick()

    def check_quantity(self, quantity: int, is_market: bool) -> None:
        """Raises VenueError -4003, -1111, -4004, -4005 or -4023."""
        if quantity <= 0:
            raise errors.quantity_not_positive()
        self._check_places(quantity, self.quantity_places)
        if quantity < self.min_quantity:
            raise VenueError(-4004, "Quantity less than min quantity.")
        if quantity > (self.max_market_quantity if is_market else self.max_quantity):
            raise VenueError(-4005, "Quantity greater than max quantity.")
        if quantity % self.step:
            raise errors.quantity_off_step()

    def _check_places(self, value: int, places: int) -> None:
        if value % 10 ** (8 - places):
            raise errors.precision()

    def check_percent_price(self, price: int, mark: int, is_buy: bool, is_market: bool) -> None:
        """A buyer's price may not be far above the mark, nor a seller's far below. Raises -4016, -4024 or -4131."""
        bound = product(mark, self.percent_up if is_buy else self.percent_down)
        if (price <= bound) if is_buy else (price >= bound):
            return
        if is_market:
            raise errors.market_outside_percent_price()
        raise errors.price_above_cap(bound) if is_buy else errors.price_below_floor(bound)

    @property
    def max_leverage(self) -> int:
        return self.brackets[0].leverage

    def max_notional(self, leverage: int) -> int:
        """The largest position notional that a leverage allows."""
        return max(bracket.cap for bracket in self.brackets if bracket.leverage >= leverage)

    def maintenance(self, notional: int) -> int:
        """Maintenance margin of an absolute position notional."""
        bracket = next((one for one in self.brackets if notional <= one.cap), self.brackets[-1])
        return max(0, product(notional, bracket.ratio) - bracket.cum)

    def exchange_info(self) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "pair": self.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": PERPETUAL_DELIVERY_MS,
            "onboardDate": ONBOARD_MS,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": self.base,
            "quoteAsset": self.quote,
            "marginAsset": MARGIN_ASSET,
            "pricePrecision": self.price_places,
            "quantityPrecision": self.quantity_places,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": ["PoW" if self.base == "BTC" else "Layer-1"],
            "settlePlan": 0,
            "triggerProtect": "0.0500",
            "liquidationFee": "0.000000",
            "marketTakeBound": plain(self.percent_up - UNIT),
            "maxMoveOrderLimit": 10_000,
            "filters": self._filters(),
            "orderTypes": list(ORDER_TYPES),
            "timeInForce": list(TIMES_IN_FORCE),
            "permissionSets": ["GRID", "COPY"],
        }

    def _filters(self) -> list[dict[str, Any]]:
        price, quantity = self.price_text, self.quantity_text
        return [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": price(self.min_price),
                "maxPrice": price(self.max_price),
                "tickSize": price(self.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": quantity(self.min_quantity),
                "maxQty": quantity(self.max_quantity),
                "stepSize": quantity(self.step),
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": quantity(self.min_quantity),
                "maxQty": quantity(self.max_market_quantity),
                "stepSize": quantity(self.step),
            },
            {"filterType": "MAX_NUM_ORDERS", "limit": MAX_OPEN_ORDERS_PER_SYMBOL},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": MAX_ALGO_ORDERS},
            {"filterType": "MIN_NOTIONAL", "notional": plain(self.min_notional)},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": fixed(self.percent_up, MULTIPLIER_DECIMALS),
                "multiplierDown": fixed(self.percent_down, MULTIPLIER_DECIMALS),
                "multiplierDecimal": str(MULTIPLIER_DECIMALS),
            },
        ]

    def bracket_info(self) -> dict[str, Any]:
        """As GET /fapi/v1/leverageBracket gives it. The ratio is a JSON number there, for showing only."""
        return {
            "symbol": self.symbol,
            "notionalCoef": 1.0,
            "brackets": [
                {
                    "bracket": bracket.number,
                    "initialLeverage": bracket.leverage,
                    "notionalCap": bracket.cap // UNIT,
                    "notionalFloor": bracket.floor // UNIT,
                    "maintMarginRatio": bracket.ratio / UNIT,
                    "cum": bracket.cum // UNIT,
                }
                for bracket in self.brackets
            ],
        }


def _brackets(rows: tuple[tuple[int, int, int], ...]) -> tuple[Bracket, ...]:
    """From (highest leverage, notional cap in USDT, ratio in 1/10,000); `cum` makes the margin continuous."""
    found: list[Bracket] = []
    floor = cum = ratio = 0
    for number, (leverage, cap, ten_thousandths) in enumerate(rows, 1):
        next_ratio = UNIT * ten_thousandths // 10_000
        cum += product(floor, next_ratio - ratio) if found else 0
        ratio = next_ratio
        found.append(Bracket(number, leverage, floor, cap * UNIT, ratio, cum))
        floor = cap * UNIT
    return tuple(found)


def _rules(
    base: str,
    tick: int,
    price_places: int,
    step: int,
    quantity_places: int,
    quantities: tuple[int, int],
    min_notional: int,
    brackets: tuple[tuple[int, int, int], ...],
) -> ContractRules:
    return ContractRules(
        symbol=base + MARGIN_ASSET,
        base=base,
        quote=MARGIN_ASSET,
        tick=tick,
        price_places=price_places,
        min_price=tick,
        max_price=4_000_000 * UNIT,
        step=step,
        quantity_places=quantity_places,
        min_quantity=step,
        max_quantity=quantities[0] * UNIT,
        max_market_quantity=quantities[1] * UNIT,
        min_notional=min_notional * UNIT,
        percent_up=UNIT * 105 // 100,
        percent_down=UNIT * 95 // 100,
        brackets=_brackets(brackets),
    )


_MAJOR = (
    (125, 300_000, 40),
    (100, 800_000, 50),
    (75, 3_000_000, 65),
    (50, 12_000_000, 100),
    (25, 70_000_000, 200),
    (20, 100_000_000, 250),
    (10, 230_000_000, 500),
    (5, 480_000_000, 1_000),
    (2, 800_000_000, 2_500),
    (1, 1_800_000_000, 5_000),
)
_MINOR = (
    (75, 50_000, 65),
    (50, 500_000, 100),
    (25, 5_000_000, 200),
    (20, 10_000_000, 250),
    (10, 50_000_000, 500),
    (5, 80_000_000, 1_000),
    (2, 120_000_000, 2_500),
    (1, 200_000_000, 5_000),
)

CONTRACTS: dict[str, ContractRules] = {
    rules.symbol: rules
    for rules in (
        _rules("BTC", UNIT // 10, 2, UNIT // 1_000, 3, (1_000, 120), 100, _MAJOR),
        _rules("ETH", UNIT // 100, 2, UNIT // 1_000, 3, (10_000, 2_000), 20, _MAJOR),
        _rules("SOL", UNIT // 100, 4, UNIT // 100, 2, (1_000_000, 5_000), 5, _MINOR),
    )
}
