"""The account and its user data stream
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/account-endpoints)."""

from __future__ import annotations

from typing import Any

from core.venues.paper import parameters as read
from core.venues.paper import wire_orders as wire
from core.venues.paper.api_trading import DISCOUNT, FEE_RATES, NO_RATES
from core.venues.paper.decimals import ZERO, text8
from core.venues.paper.endpoints import Answer, Endpoint, Security
from core.venues.paper.errors import missing_parameter
from core.venues.paper.exchange import Exchange
from core.venues.paper.limits import Limits
from core.venues.paper.parameters import Parameters
from core.venues.paper.rules import RULES
from core.venues.paper.storage import MAX_ROWS_PER_QUERY

COMMISSION_BPS = 10
NO_BUYER_SELLER = {"buyer": ZERO, "seller": ZERO}


class AccountApi:
    """Balances, trades, commission, counts; listen keys."""

    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self._exchange = exchange
        self._account = exchange.account
        self._limits = limits

    def endpoints(self) -> list[Endpoint]:
        def signed(path: str, method: str, weight: Any, handler: Any) -> Endpoint:
            return Endpoint("GET", f"/api/v3/{path}", (method,), Security.SIGNED, weight, handler)

        def user_stream(verb: str, method: str, handler: Any) -> Endpoint:
            return Endpoint(verb, "/api/v3/userDataStream", (method,), Security.KEY, 2, handler)

        return [
            signed("account", "account.status", 20, self._status),
            signed("account/commission", "account.commission", 20, self._commission),
            signed("rateLimit/order", "account.rateLimits.orders", 40, self._order_counts),
            signed("myTrades", "myTrades", _trades_weight, self._trades),
            signed("myPreventedMatches", "myPreventedMatches", _matches_weight, self._prevented_matches),
            signed("myAllocations", "myAllocations", 20, self._allocations),
            user_stream("POST", "userDataStream.start", self._create_listen_key),
            user_stream("PUT", "userDataStream.ping", self._renew_listen_key),
            user_stream("DELETE", "userDataStream.stop", self._close_listen_key),
            # What clients ask on their own when they load the markets.
            Endpoint("GET", "/sapi/v1/capital/config/getall", (), Security.SIGNED, 10, self._coins),
            Endpoint("GET", "/sapi/v1/asset/tradeFee", (), Security.SIGNED, 1, self._trade_fees),
            Endpoint("GET", "/sapi/v1/margin/allPairs", (), Security.KEY, 1, _no_margin),
            Endpoint("GET", "/sapi/v1/margin/isolated/allPairs", (), Security.KEY, 1, _no_margin),
        ]

    def _status(self, parameters: Parameters) -> Answer:
        omits_zeros = read.boolean(parameters, "omitZeroBalances", default=False)
        balances = sorted(self._account.matching.balances.all().items())
        return {
            "makerCommission": COMMISSION_BPS,
            "takerCommission": COMMISSION_BPS,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": FEE_RATES | NO_BUYER_SELLER,
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": False,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": self._exchange.now_ms(),
            "accountType": "SPOT",
            "balances": [
                {"asset": asset, "free": text8(balance.free), "locked": text8(balance.locked)}
                for asset, balance in balances
                if not omits_zeros or balance.free or balance.locked
            ],
            "permissions": ["SPOT"],
            "uid": 1,
        }

    def _commission(self, parameters: Parameters) -> Answer:
        return {
            "symbol": read.symbol_of(parameters, self._exchange.symbols),
            "standardCommission": FEE_RATES | NO_BUYER_SELLER,
            "specialCommission": NO_RATES | NO_BUYER_SELLER,
            "taxCommission": NO_RATES | NO_BUYER_SELLER,
            "discount": DISCOUNT,
        }

    def _order_counts(self, _: Parameters) -> Answer:
        return self._limits.order_limits(self._exchange.now_ms())

    def _trades(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        order_id, from_id = read.integer(parameters, "orderId"), read.integer(parameters, "fromId")
        start_ms, end_ms = read.time_range(parameters)
        limit = read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY)
        has_time = start_ms is not None or end_ms is not None
        if has_time and (order_id is not None or from_id is not None):
            raise read.bad_combination()
        fills = self._exchange.storage.trades(symbol, order_id, from_id, start_ms, end_ms, limit)
        return [wire.own_trade(fill) for fill in fills]

    def _prevented_matches(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, RULES)
        match_id, order_id = read.integer(parameters, "preventedMatchId"), read.integer(parameters, "orderId")
        from_id = read.integer(parameters, "fromPreventedMatchId")
        limit = read.limit_of(parameters, 500, MAX_ROWS_PER_QUERY)
        if match_id is None and order_id is None:
            raise read.bad_combination()
        rows = self._exchange.storage.prevented_matches(symbol, match_id, order_id, from_id or 0, limit)
        return [wire.prevented_match(row) for row in rows]

    def _allocations(self, parameters: Parameters) -> Answer:
        """There is no smart order routing here, so nothing is ever allocated."""
        read.symbol_of(parameters, RULES)
        read.time_range(parameters)
        for name in ("fromAllocationId", "orderId", "limit"):
            read.integer(parameters, name)
        return []

    def _trade_fees(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, self._exchange.symbols)
        rates = {"makerCommission": FEE_RATES["maker"], "takerCommission": FEE_RATES["taker"]}
        return [{"symbol": one} | rates for one in ([symbol] if symbol else self._exchange.symbols)]

    def _coins(self, _: Parameters) -> Answer:
        """What can't leave here: nothing is deposited or withdrawn."""
        balances = sorted(self._account.matching.balances.all().items())
        return [
            {
                "coin": asset,
                "name": asset,
                "free": text8(balance.free),
                "locked": text8(balance.locked),
                "freeze": "0",
                "withdrawing": "0",
                "ipoing": "0",
                "ipoable": "0",
                "storage": "0",
                "isLegalMoney": False,
                "trading": True,
                "depositAllEnable": False,
                "withdrawAllEnable": False,
                "networkList": [],
            }
            for asset, balance in balances
        ]

    # User data stream

    def _create_listen_key(self, parameters: Parameters) -> Answer:
        parameters.all_read()
        return {"listenKey": self._account.create_listen_key()}

    def _renew_listen_key(self, parameters: Parameters) -> Answer:
        self._account.renew_listen_key(_listen_key(parameters))
        return {}

    def _close_listen_key(self, parameters: Parameters) -> Answer:
        key = _listen_key(parameters)
        parameters.all_read()
        self._account.close_listen_key(key)
        return {}


def _no_margin(_: Parameters) -> Answer:
    return []


def _listen_key(parameters: Parameters) -> str:
    key: str | None = parameters.get("listenKey")
    if not key:
        raise missing_parameter("listenKey")
    return key


def _trades_weight(parameters: Parameters) -> int:
    return 5 if parameters.get("orderId") else 20


def _matches_weight(parameters: Parameters) -> int:
    return 2 if parameters.get("preventedMatchId") else 20
