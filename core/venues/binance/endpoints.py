"""Every REST endpoint that is called here: what it costs, in which pools, and how urgent it is by nature.

Weights: https://developers.binance.com/docs/binance-spot-api-docs/rest-api and
https://developers.binance.com/docs/derivatives/usds-margined-futures (each endpoint's own page).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum

import msgspec

from core.types.instruments import Product

Parameters = Mapping[str, str]
UNLISTED_WEIGHT = 50
"""For an endpoint that isn't in the table: dear, so that forgetting one shows as waiting and not as a ban."""
FUNDING_POOL = "FUNDING"
"""USD-M's funding endpoints share 500 requests in 5 minutes and have no weight."""


class Priority(IntEnum):
    """Who gives way first when a limit is near: the higher number."""

    SAFETY = 0
    ORDER = 1
    RECONCILE = 2
    SNAPSHOT = 3
    BACKGROUND = 4


class Endpoint(msgspec.Struct, frozen=True, eq=False):
    """One of the table, and the same as itself alone: who keeps something by it needn't look into it."""

    weight: int | Callable[[Parameters], int]
    priority: Priority
    orders: int = 0
    pool: str = ""

    def weight_of(self, parameters: Parameters) -> int:
        return self.weight if isinstance(self.weight, int) else self.weight(parameters)


class Paths(msgspec.Struct, frozen=True):
    """The same question's path in each product."""

    time: str
    exchange_info: str
    depth: str
    klines: str
    order: str
    amend: str
    open_orders: str
    own_trades: str
    balances: str
    listen_key: str


PATHS: dict[Product, Paths] = {
    Product.SPOT: Paths(
        time="/api/v3/time",
        exchange_info="/api/v3/exchangeInfo",
        depth="/api/v3/depth",
        klines="/api/v3/klines",
        order="/api/v3/order",
        amend="/api/v3/order/amend/keepPriority",
        open_orders="/api/v3/openOrders",
        own_trades="/api/v3/myTrades",
        balances="/api/v3/account",
        listen_key="/api/v3/userDataStream",
    ),
    Product.USDM: Paths(
        time="/fapi/v1/time",
        exchange_info="/fapi/v1/exchangeInfo",
        depth="/fapi/v1/depth",
        klines="/fapi/v1/klines",
        order="/fapi/v1/order",
        amend="/fapi/v1/order",
        open_orders="/fapi/v1/openOrders",
        own_trades="/fapi/v1/userTrades",
        balances="/fapi/v3/balance",
        listen_key="/fapi/v1/listenKey",
    ),
}


def _limit(parameters: Parameters, default: int) -> int:
    text = parameters.get("limit", "")
    return int(text) if text.isascii() and text.isdigit() else default


def _stepped(default: int, *steps: tuple[int, int], beyond: int) -> Callable[[Parameters], int]:
    """Weight by the parameter limit: of (most, weight) the first that holds it."""

    def weight(parameters: Parameters) -> int:
        limit = _limit(parameters, default)
        return next((cost for most, cost in steps if limit <= most), beyond)

    return weight


def _by(name: str, one: int, every: int) -> Callable[[Parameters], int]:
    """Weight with the parameter, and without it."""
    return lambda parameters: one if parameters.get(name) else every


def _day_ticker(parameters: Parameters) -> int:
    count = parameters["symbols"].count(",") + 1 if parameters.get("symbols") else 0
    if parameters.get("symbol") or 0 < count <= 20:
        return 2
    return 40 if 0 < count <= 100 else 80


_SAFETY, _ORDER, _RECONCILE = Priority.SAFETY, Priority.ORDER, Priority.RECONCILE
_SNAPSHOT, _BACKGROUND = Priority.SNAPSHOT, Priority.BACKGROUND

_SPOT_DEPTH = _stepped(100, (100, 5), (500, 25), (1_000, 50), beyond=250)
_USDM_DEPTH = _stepped(500, (50, 2), (100, 5), (500, 10), beyond=20)
_USDM_KLINES = _stepped(500, (99, 1), (499, 2), (1_000, 5), beyond=10)

ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    # spot
    ("GET", "/api/v3/ping"): Endpoint(1, _BACKGROUND),
    ("GET", "/api/v3/time"): Endpoint(1, _SAFETY),
    ("GET", "/api/v3/exchangeInfo"): Endpoint(20, _RECONCILE),
    ("GET", "/api/v3/depth"): Endpoint(_SPOT_DEPTH, _SNAPSHOT),
    ("GET", "/api/v3/trades"): Endpoint(25, _BACKGROUND),
    ("GET", "/api/v3/historicalTrades"): Endpoint(25, _BACKGROUND),
    ("GET", "/api/v3/aggTrades"): Endpoint(4, _BACKGROUND),
    ("GET", "/api/v3/klines"): Endpoint(2, _BACKGROUND),
    ("GET", "/api/v3/uiKlines"): Endpoint(2, _BACKGROUND),
    ("GET", "/api/v3/avgPrice"): Endpoint(2, _BACKGROUND),
    ("GET", "/api/v3/ticker/24hr"): Endpoint(_day_ticker, _BACKGROUND),
    ("GET", "/api/v3/ticker/price"): Endpoint(_by("symbol", 2, 4), _BACKGROUND),
    ("GET", "/api/v3/ticker/bookTicker"): Endpoint(_by("symbol", 2, 4), _BACKGROUND),
    ("POST", "/api/v3/order"): Endpoint(1, _ORDER, orders=1),
    ("POST", "/api/v3/order/test"): Endpoint(_by("computeCommissionRates", 20, 1), _BACKGROUND),
    ("POST", "/api/v3/order/cancelReplace"): Endpoint(1, _ORDER, orders=1),
    ("PUT", "/api/v3/order/amend/keepPriority"): Endpoint(4, _ORDER),
    ("GET", "/api/v3/order"): Endpoint(4, _RECONCILE),
    ("DELETE", "/api/v3/order"): Endpoint(1, _SAFETY),
    ("GET", "/api/v3/openOrders"): Endpoint(_by("symbol", 6, 80), _RECONCILE),
    ("DELETE", "/api/v3/openOrders"): Endpoint(1, _SAFETY),
    ("GET", "/api/v3/allOrders"): Endpoint(20, _BACKGROUND),
    ("GET", "/api/v3/account"): Endpoint(20, _RECONCILE),
    ("GET", "/api/v3/account/commission"): Endpoint(20, _BACKGROUND),
    ("GET", "/api/v3/myTrades"): Endpoint(_by("orderId", 5, 20), _RECONCILE),
    ("GET", "/api/v3/rateLimit/order"): Endpoint(40, _BACKGROUND),
    ("POST", "/api/v3/userDataStream"): Endpoint(2, _RECONCILE),
    ("PUT", "/api/v3/userDataStream"): Endpoint(2, _RECONCILE),
    ("DELETE", "/api/v3/userDataStream"): Endpoint(2, _BACKGROUND),
    # the spot WebSocket API counts against the same limits; opening a connection costs 2 as well
    ("WS", "userDataStream.subscribe.signature"): Endpoint(4, _RECONCILE),
    ("WS", "connect"): Endpoint(2, _RECONCILE),
    ("WS", "session.logon"): Endpoint(2, _RECONCILE),
    # USD-M
    ("GET", "/fapi/v1/ping"): Endpoint(1, _BACKGROUND),
    ("GET", "/fapi/v1/time"): Endpoint(1, _SAFETY),
    ("GET", "/fapi/v1/exchangeInfo"): Endpoint(1, _RECONCILE),
    ("GET", "/fapi/v1/depth"): Endpoint(_USDM_DEPTH, _SNAPSHOT),
    ("GET", "/fapi/v1/trades"): Endpoint(5, _BACKGROUND),
    ("GET", "/fapi/v1/historicalTrades"): Endpoint(200, _BACKGROUND),
    ("GET", "/fapi/v1/aggTrades"): Endpoint(20, _BACKGROUND),
    ("GET", "/fapi/v1/klines"): Endpoint(_USDM_KLINES, _BACKGROUND),
    ("GET", "/fapi/v1/premiumIndex"): Endpoint(_by("symbol", 1, 10), _BACKGROUND),
    ("GET", "/fapi/v1/openInterest"): Endpoint(1, _BACKGROUND),
    ("GET", "/fapi/v1/fundingRate"): Endpoint(0, _BACKGROUND, pool=FUNDING_POOL),
    ("GET", "/fapi/v1/fundingInfo"): Endpoint(0, _BACKGROUND, pool=FUNDING_POOL),
    ("GET", "/fapi/v1/ticker/24hr"): Endpoint(_by("symbol", 1, 40), _BACKGROUND),
    ("GET", "/fapi/v1/ticker/price"): Endpoint(_by("symbol", 1, 2), _BACKGROUND),
    ("GET", "/fapi/v1/ticker/bookTicker"): Endpoint(_by("symbol", 2, 5), _BACKGROUND),
    # placing an order has no weight for the address, only a count for the account
    ("POST", "/fapi/v1/order"): Endpoint(0, _ORDER, orders=1),
    ("PUT", "/fapi/v1/order"): Endpoint(0, _ORDER, orders=1),
    ("POST", "/fapi/v1/batchOrders"): Endpoint(5, _ORDER, orders=5),
    ("POST", "/fapi/v1/order/test"): Endpoint(0, _BACKGROUND, orders=1),
    ("GET", "/fapi/v1/order"): Endpoint(1, _RECONCILE),
    ("DELETE", "/fapi/v1/order"): Endpoint(1, _SAFETY),
    ("DELETE", "/fapi/v1/allOpenOrders"): Endpoint(1, _SAFETY),
    ("POST", "/fapi/v1/countdownCancelAll"): Endpoint(10, _SAFETY),
    ("GET", "/fapi/v1/openOrder"): Endpoint(1, _RECONCILE),
    ("GET", "/fapi/v1/openOrders"): Endpoint(_by("symbol", 1, 40), _RECONCILE),
    ("GET", "/fapi/v1/allOrders"): Endpoint(5, _BACKGROUND),
    ("GET", "/fapi/v1/userTrades"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v2/balance"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v3/balance"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v2/account"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v3/account"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v2/positionRisk"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v3/positionRisk"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v1/leverageBracket"): Endpoint(1, _BACKGROUND),
    ("GET", "/fapi/v1/symbolConfig"): Endpoint(5, _RECONCILE),
    ("GET", "/fapi/v1/openAlgoOrders"): Endpoint(_by("symbol", 1, 40), _RECONCILE),
    ("DELETE", "/fapi/v1/algoOpenOrders"): Endpoint(1, _SAFETY),
    ("GET", "/fapi/v1/positionSide/dual"): Endpoint(30, _BACKGROUND),
    ("POST", "/fapi/v1/leverage"): Endpoint(1, _ORDER),
    ("POST", "/fapi/v1/marginType"): Endpoint(1, _ORDER),
    ("GET", "/fapi/v1/income"): Endpoint(30, _BACKGROUND),
    ("GET", "/fapi/v1/commissionRate"): Endpoint(20, _BACKGROUND),
    ("POST", "/fapi/v1/listenKey"): Endpoint(1, _RECONCILE),
    ("PUT", "/fapi/v1/listenKey"): Endpoint(1, _RECONCILE),
    ("DELETE", "/fapi/v1/listenKey"): Endpoint(1, _BACKGROUND),
}


_UNLISTED = Endpoint(UNLISTED_WEIGHT, Priority.BACKGROUND)


def endpoint_of(method: str, path: str) -> Endpoint:
    """What the table says of it, or a dear stand-in."""
    return ENDPOINTS.get((method, path), _UNLISTED)
