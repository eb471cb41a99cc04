"""What positions and accounts are worth, and what they are exposed to.

Amounts of one instrument are in its quote asset and exact; those of accounts are in the reporting currency. What can't
be valued is named, never counted as zero (core.portfolio.rates.Valued).

Equity is balances x rates on spot, wallet + unrealised PnL on USD-M. Exposure is signed: on spot the balances of
assets that aren't cash, in linear perpetuals the notional at the mark. Gross is the sum of magnitudes by account and
instrument or asset (a long perpetual against spot held short counts twice), net the sum of signed ones. Leverage is
gross exposure / equity.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from core.portfolio.book import EMPTY, amounts_by_asset
from core.portfolio.exact import ZERO, exact
from core.portfolio.margin import MarginMode, MarginPosition, MarginState, margin_state
from core.portfolio.positions import Position, unrealised_pnl
from core.portfolio.rates import Valued
from core.portfolio.view import AccountHoldings, Portfolio
from core.types.instruments import Instrument, Product
from core.types.money import from_scaled

PEGGED_TO_USD = frozenset({"USDT", "USDC", "FDUSD", "TUSD", "USDP", "DAI", "BUSD", "USD1"})
"""Held, they are cash and no exposure."""
UNKNOWN_BALANCES = "(balances)"
"""Named among the unknown when the venue hasn't told what the account holds."""


class PositionValuation(msgspec.Struct, frozen=True):
    """One position in its quote asset. Those that need a mark are None without one. total_fees adds to `fees` the
    commissions in other assets at today's rates."""

    account_id: str
    venue: str
    symbol: str
    base_asset: str
    quote_asset: str
    quantity: Decimal
    average_price: Decimal
    mark_price: Decimal | None
    market_value_quote: Decimal | None
    notional_quote: Decimal | None
    unrealised_pnl_quote: Decimal | None
    realised_pnl_quote: Decimal
    fees_quote: Decimal
    total_fees_quote: Decimal | None
    fees_by_asset: dict[str, Decimal]
    funding_by_asset: dict[str, Decimal]


class Exposure(msgspec.Struct, frozen=True):
    """Signed exposure to one thing, in the reporting currency; quantity is in base units."""

    name: str
    quantity: Decimal
    value: Valued


class AccountValuation(msgspec.Struct, frozen=True):
    """An account, a desk or the firm, in the reporting currency.

    leverage is None when equity isn't known or isn't positive. by_symbol holds positions, by_asset what they and the
    balances come to by base asset; margin is set for one USD-M account.
    """

    scope: str
    reporting_asset: str
    equity: Valued
    unrealised_pnl: Valued
    realised_pnl: Valued
    fees: Valued
    funding: Valued
    gross_exposure: Valued
    net_exposure: Valued
    leverage: Decimal | None
    by_symbol: tuple[Exposure, ...]
    by_asset: tuple[Exposure, ...]
    margin: MarginState | None = None


def unrealised_quote(position: Position, instrument: Instrument, mark: int) -> Decimal:
    """mark at price_scale; exact."""
    return from_scaled(unrealised_pnl(position, mark), instrument.notional_scale)


def market_value_quote(position: Position, instrument: Instrument, mark: int) -> Decimal:
    """Signed: what the position would fetch at the mark; exact. For a perpetual its signed notional."""
    return from_scaled(position.quantity * mark, instrument.notional_scale)


@exact
def total_fees_quote(portfolio: Portfolio, position: Position, instrument: Instrument) -> Decimal | None:
    """All commissions in quote: those that were valued at their fill, and the rest (BNB) at today's rate. None when a
    rate is missing."""
    total = from_scaled(position.fees, instrument.notional_scale)
    for asset, amount in position.unvalued_fees.items():
        converted = portfolio.rates.converted(amount, asset, instrument.quote_asset)
        if converted is None:
            return None
        total += converted
    return total


@exact
def value_position(portfolio: Portfolio, account_id: str, venue: str, symbol: str) -> PositionValuation:
    instrument = portfolio.instruments[venue, symbol]
    position = portfolio.position(account_id, venue, symbol)
    mark = portfolio.marks.get((venue, symbol))
    value = None if mark is None else market_value_quote(position, instrument, mark)
    return PositionValuation(
        account_id=account_id,
        venue=venue,
        symbol=symbol,
        base_asset=instrument.base_asset,
        quote_asset=instrument.quote_asset,
        quantity=from_scaled(position.quantity, instrument.quantity_scale),
        average_price=from_scaled(position.average_price, instrument.price_scale),
        mark_price=None if mark is None else from_scaled(mark, instrument.price_scale),
        market_value_quote=value,
        notional_quote=None if value is None else abs(value),
        unrealised_pnl_quote=None if mark is None else unrealised_quote(position, instrument, mark),
        realised_pnl_quote=from_scaled(position.realised_pnl, instrument.notional_scale),
        fees_quote=from_scaled(position.fees, instrument.notional_scale),
        total_fees_quote=total_fees_quote(portfolio, position, instrument),
        fees_by_asset=dict(position.fees_by_asset),
        funding_by_asset=dict(portfolio.funding.get((account_id, venue, symbol), {})),
    )


def value_account(portfolio: Portfolio, account_id: str, venue: str) -> AccountValuation:
    """Raises KeyError for an account that isn't in the portfolio."""
    return _value_one(portfolio, portfolio.account(account_id, venue))


def value_desk(portfolio: Portfolio, desk_id: str) -> AccountValuation:
    accounts = [account for account in portfolio.accounts if account.desk_id == desk_id]
    return _together(f"desk:{desk_id}", portfolio, [_value_one(portfolio, account) for account in accounts])


def value_firm(portfolio: Portfolio) -> AccountValuation:
    return _together("firm", portfolio, [_value_one(portfolio, account) for account in portfolio.accounts])


def account_margin(portfolio: Portfolio, account: AccountHoldings) -> MarginState | None:
    """Of a USD-M account, in its margin asset. None on spot, without a wallet balance, and where a position or an open
    order has no mark or no brackets: a margin without it would look better than it is."""
    if account.product is not Product.USDM or account.wallet_balance is None:
        return None
    held = {instrument.symbol: position for instrument, position in portfolio.positions_of(account)}
    positions: list[MarginPosition] = []
    for symbol in {**held, **dict.fromkeys(account.order_notionals)}:
        position = held.get(symbol, EMPTY)
        if not position.quantity and not any(account.order_notionals.get(symbol, ())):
            continue
        found = _margin_position(portfolio, account, portfolio.instruments[account.venue, symbol], position)
        if found is None:
            return None
        positions.append(found)
    return margin_state(account.wallet_balance, positions)


def _margin_position(
    portfolio: Portfolio, account: AccountHoldings, instrument: Instrument, position: Position
) -> MarginPosition | None:
    symbol = instrument.symbol
    mark = portfolio.marks.get((account.venue, symbol))
    brackets = account.brackets.get(symbol)
    if mark is None or not brackets:
        return None
    cost = position.cost if position.quantity >= 0 else -position.cost
    bids, asks = account.order_notionals.get(symbol, (ZERO, ZERO))
    isolated = account.isolated_wallets.get(symbol)
    return MarginPosition(
        symbol=symbol,
        quantity=from_scaled(position.quantity, instrument.quantity_scale),
        cost=from_scaled(cost, instrument.notional_scale),
        mark_price=from_scaled(mark, instrument.price_scale),
        leverage=account.leverage.get(symbol, 1),
        brackets=brackets,
        mode=MarginMode.CROSS if isolated is None else MarginMode.ISOLATED,
        isolated_wallet=ZERO if isolated is None else isolated,
        bid_notional=bids,
        ask_notional=asks,
    )


def _value_one(portfolio: Portfolio, account: AccountHoldings) -> AccountValuation:
    rates = portfolio.rates
    unrealised = realised = fees = funding = Valued()
    symbols: list[Exposure] = []
    for instrument, position in portfolio.positions_of(account):
        quote, scale = instrument.quote_asset, instrument.notional_scale
        mark = portfolio.marks.get((account.venue, instrument.symbol))
        realised = realised.plus(rates.worth(from_scaled(position.realised_pnl, scale), quote))
        fees = fees.plus(rates.worth(from_scaled(position.fees, scale), quote))
        fees = fees.plus(rates.worth_of_all(position.unvalued_fees))
        received = portfolio.funding.get((account.account_id, account.venue, instrument.symbol), {})
        funding = funding.plus(rates.worth_of_all(received))
        if not position.quantity:
            continue
        quantity = from_scaled(position.quantity, instrument.quantity_scale)
        if mark is None:
            unpriced = Valued(ZERO, (instrument.base_asset,))
            unrealised = unrealised.plus(unpriced)
            symbols.append(Exposure(instrument.symbol, quantity, unpriced))
            continue
        unrealised = unrealised.plus(rates.worth(unrealised_quote(position, instrument, mark), quote))
        value = rates.worth(market_value_quote(position, instrument, mark), quote)
        symbols.append(Exposure(instrument.symbol, quantity, value))
    assets = _asset_exposures(portfolio, account, symbols)
    equity = _equity(portfolio, account, unrealised)
    exposures = assets if account.product is Product.SPOT else symbols
    gross = _sum(one.value.magnitude() for one in exposures)
    return AccountValuation(
        scope=f"account:{account.account_id}",
        reporting_asset=rates.reporting_asset,
        equity=equity,
        unrealised_pnl=unrealised,
        realised_pnl=realised,
        fees=fees,
        funding=funding,
        gross_exposure=gross,
        net_exposure=_sum(one.value for one in exposures),
        leverage=_leverage(gross, equity),
        by_symbol=tuple(symbols),
        by_asset=tuple(assets),
        margin=account_margin(portfolio, account),
    )


def _equity(portfolio: Portfolio, account: AccountHoldings, unrealised: Valued) -> Valued:
    if account.product is Product.SPOT:
        if account.balances is None:
            return Valued(ZERO, (UNKNOWN_BALANCES,))
        return portfolio.rates.worth_of_all(account.balances)
    if account.wallet_balance is None:
        return Valued(ZERO, (UNKNOWN_BALANCES,))
    return portfolio.rates.worth(account.wallet_balance, account.margin_asset).plus(unrealised)


def _asset_exposures(portfolio: Portfolio, account: AccountHoldings, symbols: list[Exposure]) -> list[Exposure]:
    """On spot what the account holds of assets that aren't cash, or, where that isn't known, its positions."""
    if account.product is Product.SPOT and account.balances is not None:
        cash = _cash_assets(portfolio)
        return [
            Exposure(asset, amount, portfolio.rates.worth(amount, asset))
            for asset, amount in account.balances.items()
            if amount and asset not in cash
        ]
    return _merged(
        Exposure(portfolio.instruments[account.venue, one.name].base_asset, one.quantity, one.value) for one in symbols
    )


def _cash_assets(portfolio: Portfolio) -> frozenset[str]:
    """The reporting currency, dollars by another name, and what is only ever a market's quote (EUR in BTCEUR)."""
    bases = {instrument.base_asset for instrument in portfolio.instruments.values()}
    quotes = {instrument.quote_asset for instrument in portfolio.instruments.values()}
    return PEGGED_TO_USD | {portfolio.reporting_asset} | (quotes - bases)


@exact
def _merged(exposures: Iterable[Exposure]) -> list[Exposure]:
    """Netted by name."""
    merged: dict[str, Exposure] = {}
    for one in exposures:
        before = merged.get(one.name)
        merged[one.name] = (
            one if before is None else Exposure(one.name, before.quantity + one.quantity, before.value.plus(one.value))
        )
    return list(merged.values())


def _together(scope: str, portfolio: Portfolio, parts: list[AccountValuation]) -> AccountValuation:
    equity, gross = _sum(one.equity for one in parts), _sum(one.gross_exposure for one in parts)
    return AccountValuation(
        scope=scope,
        reporting_asset=portfolio.reporting_asset,
        equity=equity,
        unrealised_pnl=_sum(one.unrealised_pnl for one in parts),
        realised_pnl=_sum(one.realised_pnl for one in parts),
        fees=_sum(one.fees for one in parts),
        funding=_sum(one.funding for one in parts),
        gross_exposure=gross,
        net_exposure=_sum(one.net_exposure for one in parts),
        leverage=_leverage(gross, equity),
        by_symbol=tuple(_merged(one for part in parts for one in part.by_symbol)),
        by_asset=tuple(_merged(one for part in parts for one in part.by_asset)),
    )


def fees_by_asset(portfolio: Portfolio, account: AccountHoldings) -> dict[str, Decimal]:
    return amounts_by_asset(position.fees_by_asset for _, position in portfolio.positions_of(account))


def funding_by_asset(portfolio: Portfolio, account: AccountHoldings) -> dict[str, Decimal]:
    """What was received, negative when paid."""
    return amounts_by_asset(
        amounts for key, amounts in portfolio.funding.items() if key[:2] == (account.account_id, account.venue)
    )


@exact
def _leverage(gross: Valued, equity: Valued) -> Decimal | None:
    if gross.value is None or equity.value is None or equity.value <= 0:
        return None
    return gross.value / equity.value


def _sum(values: Iterable[Valued]) -> Valued:
    total = Valued()
    for value in values:
        total = total.plus(value)
    return total
