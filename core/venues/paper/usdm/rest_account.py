"""Account endpoints of USD-M futures: balances, positions, settings, income, the user data stream
(https://developers.binance.com/docs/derivatives/usds-margined-futures/account/rest-api)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.venues.paper.errors import VenueError
from core.venues.paper.usdm import parameters as read
from core.venues.paper.usdm.endpoints import Answer, Count, Endpoint, Security, Weight
from core.venues.paper.usdm.exchange import UsdmExchange
from core.venues.paper.usdm.ledger import PositionKey
from core.venues.paper.usdm.numbers import amount_text, plain
from core.venues.paper.usdm.orders import MarginType, Position, PositionSide
from core.venues.paper.usdm.parameters import Parameters
from core.venues.paper.usdm.rules import MAKER_FEE, MARGIN_ASSET, TAKER_FEE
from core.venues.paper.usdm.user_stream import margin_type_text

DONE = {"code": 200, "msg": "success"}


class AccountEndpoints:
    def __init__(self, exchange: UsdmExchange) -> None:
        self._exchange = exchange
        self._account = exchange.account
        self._ledger = exchange.account.ledger

    def endpoints(self) -> list[Endpoint]:
        def at(
            method: str,
            path: str,
            weight: Weight,
            handler: Callable[[Parameters], Answer],
            security: Security = Security.SIGNED,
            orders: Count = 0,
        ) -> Endpoint:
            return Endpoint(method, f"/fapi/{path}", security, weight, handler, orders)

        key = Security.KEY
        return [
            at("GET", "v2/account", 5, self._account_v2),
            at("GET", "v3/account", 5, self._account_v3),
            at("GET", "v2/balance", 5, self._balance),
            at("GET", "v3/balance", 5, self._balance),
            at("GET", "v2/positionRisk", 5, self._position_risk_v2),
            at("GET", "v3/positionRisk", 5, self._position_risk_v3),
            at("GET", "v1/accountConfig", 5, self._account_config),
            at("GET", "v1/symbolConfig", 5, self._symbol_config),
            at("POST", "v1/leverage", 1, self._set_leverage),
            at("POST", "v1/marginType", 1, self._set_margin_type),
            at("GET", "v1/positionSide/dual", 30, self._dual_side),
            at("POST", "v1/positionSide/dual", 1, self._set_dual_side),
            at("GET", "v1/multiAssetsMargin", 30, lambda _: {"multiAssetsMargin": False}),
            at("POST", "v1/multiAssetsMargin", 1, self._set_multi_assets),
            at("GET", "v1/feeBurn", 30, lambda _: {"feeBurn": False}),
            at("POST", "v1/positionMargin", 1, self._position_margin),
            at("GET", "v1/leverageBracket", 1, self._leverage_bracket),
            at("GET", "v1/commissionRate", 20, self._commission_rate),
            at("GET", "v1/income", 30, self._income),
            at("GET", "v1/adlQuantile", 5, self._adl_quantile),
            at("POST", "v1/listenKey", 1, self._create_listen_key, key),
            at("PUT", "v1/listenKey", 1, self._renew_listen_key, key),
            at("DELETE", "v1/listenKey", 1, self._close_listen_key, key),
            Endpoint("POST", "/paper/v1/usdm/transfer", Security.SIGNED, 1, self._transfer),
        ]

    # Balances

    def _totals(self) -> dict[str, Any]:
        ledger = self._ledger
        total, cross = ledger.total(), ledger.cross()
        available = max(0, ledger.available())
        wallet = ledger.state.wallet
        return {
            "InitialMargin": total.initial,
            "MaintMargin": total.maintenance,
            "WalletBalance": wallet,
            "UnrealizedProfit": total.unrealised,
            "MarginBalance": wallet + total.unrealised,
            "PositionInitialMargin": total.position_initial,
            "OpenOrderInitialMargin": total.order_initial,
            "CrossWalletBalance": ledger.cross_wallet,
            "CrossUnPnl": cross.unrealised,
            "available": available,
            "withdrawable": min(available, max(0, ledger.cross_wallet)),
        }

    def _summary(self) -> dict[str, Any]:
        totals = self._totals()
        available, withdrawable = totals.pop("available"), totals.pop("withdrawable")
        asset = {name[0].lower() + name[1:]: amount_text(value) for name, value in totals.items()}
        rest = {"availableBalance": amount_text(available), "maxWithdrawAmount": amount_text(withdrawable)}
        return {
            **{f"total{name}": amount_text(value) for name, value in totals.items()},
            **rest,
            "assets": [
                {
                    "asset": MARGIN_ASSET,
                    **asset,
                    **rest,
                    "marginAvailable": True,
                    "updateTime": self._exchange.now_ms(),
                }
            ],
        }

    def _balance(self, _: Parameters) -> Answer:
        totals = self._totals()
        return [
            {
                "accountAlias": "paper",
                "asset": MARGIN_ASSET,
                "balance": amount_text(totals["WalletBalance"]),
                "crossWalletBalance": amount_text(totals["CrossWalletBalance"]),
                "crossUnPnl": amount_text(totals["CrossUnPnl"]),
                "availableBalance": amount_text(totals["available"]),
                "maxWithdrawAmount": amount_text(totals["withdrawable"]),
                "marginAvailable": True,
                "updateTime": self._exchange.now_ms(),
            }
        ]

    def _account_v2(self, _: Parameters) -> Answer:
        positions = []
        for key in self._ledger.position_keys():
            position, rules, settings = self._of(key), self._ledger.rules[key[0]], self._ledger.of(key[0])
            bids, asks = self._ledger.order_notionals(key)
            positions.append(
                {
                    **self._common(position),
                    "leverage": str(settings.leverage),
                    "isolated": settings.margin_type is MarginType.ISOLATED,
                    "entryPrice": plain(self._ledger.entry_price(position)),
                    "breakEvenPrice": plain(self._ledger.break_even_price(position)),
                    "maxNotional": plain(rules.max_notional(settings.leverage)),
                    "bidNotional": plain(bids),
                    "askNotional": plain(asks),
                    "positionInitialMargin": amount_text(self._ledger.margin(key).position_initial),
                    "openOrderInitialMargin": amount_text(self._ledger.margin(key).order_initial),
                    "unrealizedProfit": amount_text(self._ledger.margin(key).unrealised),
                }
            )
        return {
            "feeTier": 0,
            "feeBurn": False,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
            **self._summary(),
            "positions": positions,
        }

    def _account_v3(self, _: Parameters) -> Answer:
        positions = [
            {
                **self._common(self._of(key)),
                "unrealizedProfit": amount_text(self._ledger.margin(key).unrealised),
            }
            for key in self._shown(None)
        ]
        return {**self._summary(), "positions": positions}

    # Positions

    def _of(self, key: PositionKey) -> Position:
        return self._ledger.positions.get(key) or Position(*key)

    def _shown(self, symbol: str | None) -> list[PositionKey]:
        """Keys with a position or an open order, as version 3 shows them."""
        return [
            key
            for key in self._ledger.position_keys(symbol)
            if self._of(key).amount or any(self._ledger.order_notionals(key))
        ]

    def _common(self, position: Position) -> dict[str, Any]:
        ledger, rules = self._ledger, self._ledger.rules[position.symbol]
        margin = ledger.margin((position.symbol, position.side))
        isolated = position.isolated + margin.unrealised if ledger.is_isolated(position.symbol) else 0
        return {
            "symbol": position.symbol,
            "positionSide": position.side.value,
            "positionAmt": rules.quantity_text(position.amount),
            "notional": amount_text(margin.notional),
            "isolatedMargin": amount_text(isolated),
            "isolatedWallet": amount_text(position.isolated),
            "initialMargin": amount_text(margin.initial),
            "maintMargin": amount_text(margin.maintenance),
            "updateTime": position.updated_ms,
        }

    def _risk(self, position: Position) -> dict[str, Any]:
        ledger = self._ledger
        return {
            **self._common(position),
            "entryPrice": plain(ledger.entry_price(position)),
            "breakEvenPrice": plain(ledger.break_even_price(position)),
            "markPrice": amount_text(ledger.marks[position.symbol]),
            "unRealizedProfit": amount_text(ledger.margin((position.symbol, position.side)).unrealised),
            "liquidationPrice": plain(ledger.liquidation_price(position)),
        }

    def _position_risk_v2(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, self._exchange.contracts)
        rows = []
        for key in self._ledger.position_keys(symbol):
            settings = self._ledger.of(key[0])
            rows.append(
                {
                    **self._risk(self._of(key)),
                    "leverage": str(settings.leverage),
                    "maxNotionalValue": plain(self._ledger.rules[key[0]].max_notional(settings.leverage)),
                    "marginType": margin_type_text(settings.margin_type),
                    "isAutoAddMargin": "false",
                }
            )
        return rows

    def _position_risk_v3(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, self._exchange.contracts)
        rows = []
        for key in self._shown(symbol):
            margin = self._ledger.margin(key)
            rows.append(
                {
                    **self._risk(self._of(key)),
                    "marginAsset": MARGIN_ASSET,
                    "positionInitialMargin": amount_text(margin.position_initial),
                    "openOrderInitialMargin": amount_text(margin.order_initial),
                    "adl": 0,
                    "bidNotional": plain(self._ledger.order_notionals(key)[0]),
                    "askNotional": plain(self._ledger.order_notionals(key)[1]),
                }
            )
        return rows

    def _adl_quantile(self, parameters: Parameters) -> Answer:
        """There is no auto-deleveraging here: all quantiles are 0."""
        symbol = read.optional_symbol(parameters, self._exchange.contracts)
        open_symbols = {position.symbol for position in self._ledger.open_positions()}
        rows = [
            {"symbol": name, "adlQuantile": {side.value: 0 for side in PositionSide}}
            for name in open_symbols
            if symbol in {None, name}
        ]
        return rows[0] if symbol and rows else rows

    # Settings

    def _account_config(self, _: Parameters) -> Answer:
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": self._ledger.state.is_dual_side,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def _symbol_config(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, self._exchange.contracts)
        return [
            {
                "symbol": name,
                "marginType": self._ledger.of(name).margin_type.value,
                "isAutoAddMargin": False,
                "leverage": self._ledger.of(name).leverage,
                "maxNotionalValue": plain(rules.max_notional(self._ledger.of(name).leverage)),
            }
            for name, rules in self._ledger.rules.items()
            if symbol in {None, name}
        ]

    def _set_leverage(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._exchange.contracts)
        leverage = read.required_integer(parameters, "leverage")
        most = self._account.set_leverage(symbol, leverage)
        return {"leverage": leverage, "maxNotionalValue": plain(most), "symbol": symbol}

    def _set_margin_type(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._exchange.contracts)
        wanted = read.choice(parameters, "marginType", MarginType, -1128, "Combination of optional parameters invalid.")
        self._account.set_margin_type(symbol, wanted)
        return dict(DONE)

    def _dual_side(self, _: Parameters) -> Answer:
        return {"dualSidePosition": self._ledger.state.is_dual_side}

    def _set_dual_side(self, parameters: Parameters) -> Answer:
        read.required(parameters, "dualSidePosition")
        self._account.set_dual_side(read.boolean(parameters, "dualSidePosition"))
        return dict(DONE)

    def _set_multi_assets(self, parameters: Parameters) -> Answer:
        """Single-asset mode is the only one here."""
        read.required(parameters, "multiAssetsMargin")
        if not read.boolean(parameters, "multiAssetsMargin"):
            raise VenueError(-4171, "No need to change joint margin.")
        raise VenueError(-4084, "Method is not allowed currently. Upcoming soon.")

    def _position_margin(self, parameters: Parameters) -> Answer:
        symbol = read.symbol_of(parameters, self._exchange.contracts)
        amount, kind = read.decimal8(parameters, "amount"), read.required_integer(parameters, "type")
        if amount <= 0:
            raise VenueError(-4055, "Amount must be positive.")
        if kind not in {1, 2}:
            raise VenueError(-1130, "Data sent for parameter 'type' is not valid.")
        signed = amount if kind == 1 else -amount
        self._account.add_isolated_margin(symbol, read.position_side(parameters), signed)
        return {
            "amount": float(plain(amount)),
            "code": 200,
            "msg": "Successfully modify position margin.",
            "type": kind,
        }

    def _leverage_bracket(self, parameters: Parameters) -> Answer:
        symbol = read.optional_symbol(parameters, self._exchange.contracts)
        rows = [rules.bracket_info() for name, rules in self._ledger.rules.items() if symbol in {None, name}]
        return rows

    def _commission_rate(self, parameters: Parameters) -> Answer:
        return {
            "symbol": read.symbol_of(parameters, self._exchange.contracts),
            "makerCommissionRate": plain(MAKER_FEE),
            "takerCommissionRate": plain(TAKER_FEE),
            "rpiCommissionRate": "0",
        }

    def _income(self, parameters: Parameters) -> Answer:
        rows = self._exchange.storage.incomes(
            read.optional_symbol(parameters, self._exchange.contracts),
            parameters.get("incomeType") or None,
            read.integer(parameters, "startTime"),
            read.integer(parameters, "endTime"),
            read.limit_of(parameters, 100, 1_000),
        )
        return [
            {
                "symbol": income.symbol,
                "incomeType": income.kind,
                "income": amount_text(income.amount),
                "asset": MARGIN_ASSET,
                "info": income.info or (str(income.trade_id) if income.trade_id else income.kind),
                "time": income.time_ms,
                "tranId": income.tran_id,
                "tradeId": str(income.trade_id) if income.trade_id else "",
            }
            for income in rows
        ]

    def _transfer(self, parameters: Parameters) -> Answer:
        """Ours, not Binance's: paper money in (amount above 0) or out."""
        amount = read.decimal8(parameters, "amount")
        if not amount:
            raise VenueError(-4055, "Amount must be positive.")
        self._account.transfer(amount)
        return dict(DONE)

    # User data stream

    def _create_listen_key(self, _: Parameters) -> Answer:
        return {"listenKey": self._exchange.user_stream.create()}

    def _renew_listen_key(self, _: Parameters) -> Answer:
        return {"listenKey": self._exchange.user_stream.renew()}

    def _close_listen_key(self, _: Parameters) -> Answer:
        self._exchange.user_stream.close()
        return {}
