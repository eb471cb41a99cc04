"""What an account holds and is worth, and what an order or a price move would make of it, for the control plane."""

from __future__ import annotations

from decimal import Decimal

from core.kernel.decide_risk import RiskSubject, available, run_risk
from core.kernel.kernel import Kernel
from core.portfolio.book import EMPTY, StrategyPositionKey
from core.portfolio.exact import AMOUNT_PLACES, RATIO_PLACES, rounded
from core.portfolio.margin import MarginState, PositionMargin
from core.portfolio.positions import EXACT, Position
from core.portfolio.valuation import (
    UNKNOWN_BALANCES,
    AccountValuation,
    unrealised_quote,
    value_account,
    value_position,
)
from core.portfolio.view import AccountHoldings, Portfolio, portfolio_of
from core.portfolio.what_if import FeeTerms, ProposedOrder, Shock, what_if
from core.risk.checks import RiskDecision
from core.runtime.surroundings import Marks, Surroundings
from core.runtime.views import check_views
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.instruments import Instrument, Product
from core.types.money import from_scaled, to_scaled
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.types.views import (
    AssetView,
    ExposureLineView,
    ExposureView,
    PositionView,
    StrategyPositionView,
    WhatIfView,
)

BOOK_LEVELS = 1_000
ASSUMED_FEES = FeeTerms(taker_rate=Decimal("0.001"), maker_rate=Decimal("0.001"))
"""Binance's base rate; an account's own is lower, so what is shown is never too good."""
WHAT_IF_MOVE_LIMIT_BPS = 10_000


class PortfolioReader:
    """Reads the kernel's tables and the market of this moment; changes nothing."""

    def __init__(self, kernel: Kernel, surroundings: Surroundings) -> None:
        self._kernel = kernel
        self._surroundings = surroundings

    def portfolio(self, account_id: str) -> Portfolio:
        kernel, around = self._kernel, self._surroundings
        return portfolio_of(
            (self._holdings(account_id),),
            kernel.positions,
            kernel.strategy_positions,
            {key: kernel.instruments[key] for key in kernel.instruments},
            dict(Marks(kernel, around.hub).items()),
            {},
            around.reporting_asset,
            {key: Decimal(total.amount) for key, total in kernel.funding.items()},
        )

    def equity(self, account_id: str) -> Decimal | None:
        """In the reporting currency; None while a balance, or the price of a listed market, is missing.

        What has no market here counts as nothing, always: were it valued only now and then, it would look like a loss.
        """
        valued = value_account(self.portfolio(account_id), account_id, self._venue()).equity
        reporting = self._surroundings.reporting_asset
        if any(asset == UNKNOWN_BALANCES or self._kernel.markets_between(asset, reporting) for asset in valued.unknown):
            return None
        return valued.known

    def positions(self, account_id: str, now_ns: int) -> list[PositionView]:
        """Every position that the account has or had, with its strategies' parts."""
        portfolio = self.portfolio(account_id)
        margin = self._surroundings.margin if account_id == self._surroundings.account_id else None
        strategies: dict[tuple[str, str, str], list[StrategyPositionKey]] = {}
        for key in portfolio.strategy_positions:
            strategies.setdefault(key[:3], []).append(key)
        margins = _margins(value_account(portfolio, account_id, self._venue()).margin)
        views = []
        for account, venue, symbol in portfolio.positions:
            value = value_position(portfolio, account, venue, symbol)
            held = margins.get(symbol)
            views.append(
                PositionView(
                    account_id=account,
                    symbol=symbol,
                    quantity=value.quantity,
                    average_price=value.average_price,
                    mark_price=value.mark_price,
                    unrealised_pnl_quote=value.unrealised_pnl_quote,
                    realised_pnl_quote=value.realised_pnl_quote,
                    fees_quote=value.fees_quote,
                    as_of_ns=now_ns,
                    venue=venue,
                    notional_quote=value.notional_quote,
                    total_fees_quote=_amount(value.total_fees_quote),
                    fees_by_asset=value.fees_by_asset,
                    funding_by_asset=value.funding_by_asset,
                    leverage=None if margin is None else margin.leverage.get(symbol),
                    strategies=tuple(
                        self._strategy_part(portfolio, key)
                        for key in sorted(strategies.get((account, venue, symbol), ()))
                    ),
                    initial_margin=None if held is None else _amount(held.initial),
                    maintenance_margin=None if held is None else _amount(held.maintenance),
                    liquidation_price=_liquidation_price(held, portfolio.instruments[venue, symbol]),
                )
            )
        return views

    def _strategy_part(self, portfolio: Portfolio, key: StrategyPositionKey) -> StrategyPositionView:
        position: Position = portfolio.strategy_positions.get(key, EMPTY)
        instrument = portfolio.instruments[key[1:3]]
        mark = portfolio.marks.get(key[1:3])
        return StrategyPositionView(
            strategy_id=key[3],
            quantity=from_scaled(position.quantity, instrument.quantity_scale),
            average_price=from_scaled(position.average_price, instrument.price_scale),
            realised_pnl_quote=from_scaled(position.realised_pnl, instrument.notional_scale),
            unrealised_pnl_quote=None if mark is None else unrealised_quote(position, instrument, mark),
            fees_quote=from_scaled(position.fees, instrument.notional_scale),
        )

    def exposure(self, account_id: str, now_ns: int) -> ExposureView:
        portfolio = self.portfolio(account_id)
        return self._exposure(portfolio, value_account(portfolio, account_id, self._venue()), account_id, now_ns)

    def what_if(
        self,
        account_id: str,
        symbol: str,
        side: Side | None,
        quantity: Decimal | None,
        price: Decimal | None,
        price_move_bps: int | None,
        now_ns: int,
    ) -> WhatIfView:
        """An order, a move of all prices, or both. Raises RefusalError for a symbol or a number that makes no sense."""
        portfolio = self.portfolio(account_id)
        order = None
        if side is not None and quantity is not None:
            order = self._order(account_id, symbol, side, quantity, price)
        shocks: tuple[Shock, ...] = ()
        if price_move_bps is not None:
            if not -WHAT_IF_MOVE_LIMIT_BPS < price_move_bps <= WHAT_IF_MOVE_LIMIT_BPS:
                raise refuse(ReasonCode.REQUEST_INVALID, "price_move_bps must be above -10000 and at most 10000.")
            shocks = (Shock(symbol=symbol or None, bps=Decimal(price_move_bps)),)
        outcome = what_if(portfolio, order, shocks)
        (account,) = outcome.accounts
        decision = None if order is None else self._risk(order, now_ns)
        return WhatIfView(
            account_id=account_id,
            before=self._exposure(portfolio, account.before, account_id, now_ns),
            after=self._exposure(portfolio, account.after, account_id, now_ns),
            pnl_change=_amount(account.equity_change.value),
            checks=() if decision is None else check_views(decision.checks),
            refusal=None if decision is None else decision.refusal,
            as_of_ns=now_ns,
            known_pnl_change=_amount(account.equity_change.known),
        )

    def _risk(self, order: ProposedOrder, now_ns: int) -> RiskDecision:
        """On the order as it would be sent now: a limit order, or without a price a market order."""
        instrument = self._kernel.instruments[order.venue, order.symbol]
        is_market = order.price is None
        intent = OrderIntent(
            account_id=order.account_id,
            venue=order.venue,
            symbol=order.symbol,
            side=order.side,
            order_type=OrderType.MARKET if is_market else OrderType.LIMIT,
            time_in_force=TimeInForce.GTC,
            quantity=order.quantity,
            price=order.price,
            price_scale=instrument.price_scale,
            quantity_scale=instrument.quantity_scale,
            client_order_id="",
        )
        sweep = from_scaled(order.quantity, instrument.quantity_scale) if is_market else None
        inputs = self._surroundings.inputs(order.venue, order.symbol, order.side, sweep)
        return run_risk(self._kernel, RiskSubject(intent), inputs, now_ns)

    def _order(
        self, account_id: str, symbol: str, side: Side, quantity: Decimal, price: Decimal | None
    ) -> ProposedOrder:
        instrument = self._instrument(symbol)
        try:
            scaled = to_scaled(quantity, instrument.quantity_scale)
            limit = None if price is None else to_scaled(price, instrument.price_scale)
        except ValueError as error:
            raise refuse(ReasonCode.REQUEST_INVALID, f"The order can't be read: {error}.") from error
        if scaled <= 0 or (limit is not None and limit <= 0):
            raise refuse(ReasonCode.REQUEST_INVALID, "Quantity and price must be positive.")
        try:
            book = self._surroundings.hub.scaled_book(symbol, BOOK_LEVELS)
            levels = book.asks if side is Side.BUY else book.bids
        except RefusalError:
            levels = ()
        return ProposedOrder(
            account_id,
            instrument.venue,
            symbol,
            side,
            scaled,
            ASSUMED_FEES,
            price=limit,
            levels=levels,
        )

    def _instrument(self, symbol: str) -> Instrument:
        instrument = self._kernel.instruments.get((self._venue(), symbol))
        if instrument is None:
            raise refuse(ReasonCode.MARKET_INSTRUMENT_UNKNOWN, f"This engine doesn't trade {symbol[:32]!r}.")
        return instrument

    def _venue(self) -> str:
        listed = self._kernel.listed
        return listed[0][0] if listed else ""

    def _holdings(self, account_id: str) -> AccountHoldings:
        around, kernel = self._surroundings, self._kernel
        venue = self._venue()
        own = account_id == around.account_id
        product = next((kernel.instruments[key].product for key in kernel.listed), Product.SPOT)
        balances = dict(around.balances.total) if own and around.balances is not None else None
        margin = around.margin if own else None
        return AccountHoldings(
            account_id,
            venue,
            product,
            balances=balances,
            wallet_balance=None if margin is None else margin.wallet_balance,
            leverage={} if margin is None else margin.leverage,
            brackets=around.brackets if own else {},
            order_notionals=self._order_notionals(account_id, venue) if product is Product.USDM else {},
        )

    def _order_notionals(self, account_id: str, venue: str) -> dict[str, tuple[Decimal, Decimal]]:
        """What open orders could add on either side, by symbol."""
        sums: dict[str, dict[Side, Decimal]] = {}
        for order in self._kernel.open_orders():
            intent = order.intent
            if (intent.account_id, intent.venue) != (account_id, venue) or order.status is OrderStatus.HELD:
                continue
            instrument = self._kernel.instruments[venue, intent.symbol]
            price = intent.price or intent.stop_price or 0
            worth = from_scaled(order.remaining_quantity * price, instrument.notional_scale)
            sides = sums.setdefault(intent.symbol, {Side.BUY: Decimal(0), Side.SELL: Decimal(0)})
            sides[intent.side] = EXACT.add(sides[intent.side], worth)
        return {symbol: (sides[Side.BUY], sides[Side.SELL]) for symbol, sides in sums.items()}

    def _exposure(self, portfolio: Portfolio, valued: AccountValuation, account_id: str, now_ns: int) -> ExposureView:
        margins = _margins(valued.margin)
        lines = tuple(
            self._line(portfolio, account_id, venue, symbol, margins.get(symbol))
            for venue, symbol in sorted(
                {key[1:] for key in portfolio.positions if key[0] == account_id}
                | {
                    (order.intent.venue, order.intent.symbol)
                    for order in self._kernel.open_orders()
                    if order.intent.account_id == account_id
                }
            )
        )
        return ExposureView(
            account_id=account_id,
            reporting_asset=portfolio.reporting_asset,
            gross=_amount(valued.gross_exposure.value),
            net=_amount(valued.net_exposure.value),
            equity=_amount(valued.equity.value),
            leverage=None if valued.leverage is None else rounded(valued.leverage, RATIO_PLACES),
            margin_used=None if valued.margin is None else _amount(valued.margin.initial),
            margin_available=None if valued.margin is None else _amount(valued.margin.free_margin),
            lines=lines,
            as_of_ns=now_ns,
            unrealised_pnl=_amount(valued.unrealised_pnl.value),
            realised_pnl=_amount(valued.realised_pnl.value),
            fees=_amount(valued.fees.value),
            funding=_amount(valued.funding.value),
            margin_maintenance=None if valued.margin is None else _amount(valued.margin.maintenance),
            balances=self._balances(portfolio, account_id),
            unknown=tuple(sorted({*valued.equity.unknown, *valued.gross_exposure.unknown})),
            known_equity=_amount(valued.equity.known),
        )

    def _balances(self, portfolio: Portfolio, account_id: str) -> tuple[AssetView, ...]:
        holdings = portfolio.account(account_id, self._venue())
        held = dict(holdings.balances or {})
        left: dict[str, Decimal] = {}
        balances = self._surroundings.balances if account_id == self._surroundings.account_id else None
        if holdings.wallet_balance is not None:
            held = {holdings.margin_asset: holdings.wallet_balance}
        elif balances is not None:
            left = available(self._kernel, balances)
        return tuple(
            AssetView(asset, amount, _amount(portfolio.rates.worth(amount, asset).value), left.get(asset))
            for asset, amount in sorted(held.items())
            if amount
        )

    def _line(
        self, portfolio: Portfolio, account_id: str, venue: str, symbol: str, margin: PositionMargin | None
    ) -> ExposureLineView:
        value = value_position(portfolio, account_id, venue, symbol)
        instrument = portfolio.instruments[venue, symbol]
        resting = {Side.BUY: 0, Side.SELL: 0}
        for order in self._kernel.open_orders_of(account_id, venue, symbol):
            if order.status is not OrderStatus.HELD:
                resting[order.intent.side] += order.remaining_quantity
        buys, sells = (from_scaled(resting[side], instrument.quantity_scale) for side in (Side.BUY, Side.SELL))
        return ExposureLineView(
            venue=venue,
            symbol=symbol,
            quantity=value.quantity,
            mark_price=value.mark_price,
            notional=_amount(self._in_reporting(portfolio, value.notional_quote, instrument)),
            open_buy_quantity=buys,
            open_sell_quantity=sells,
            worst_long_quantity=value.quantity + buys,
            worst_short_quantity=value.quantity - sells,
            unrealised_pnl=_amount(self._in_reporting(portfolio, value.unrealised_pnl_quote, instrument)),
            liquidation_price=_liquidation_price(margin, instrument),
        )

    @staticmethod
    def _in_reporting(portfolio: Portfolio, amount: Decimal | None, instrument: Instrument) -> Decimal | None:
        return None if amount is None else portfolio.rates.worth(amount, instrument.quote_asset).value


def _margins(state: MarginState | None) -> dict[str, PositionMargin]:
    return {} if state is None else {one.symbol: one for one in state.positions}


def _liquidation_price(margin: PositionMargin | None, instrument: Instrument) -> Decimal | None:
    if margin is None or margin.liquidation_price is None:
        return None
    return rounded(margin.liquidation_price, instrument.price_scale)


def _amount(value: Decimal | None) -> Decimal | None:
    return None if value is None else rounded(value, AMOUNT_PLACES)
