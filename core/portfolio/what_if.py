"""What an order, a price move, or both would do to a portfolio. Pure: a portfolio in, another one out, both valued.

An order is taken to fill whole: what crosses the book at the levels swept, and the rest of a resting limit order at
its own price, since that is what risk must be ready for. Marks stay where they are, so the price paid against the mark
shows at once as unrealised PnL. A price move changes marks and every rate that follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from core.portfolio.book import EMPTY, PositionKey, StrategyPositionKey, book_fill
from core.portfolio.exact import BPS, BPS_PLACES, ZERO, exact, rounded_up
from core.portfolio.margin import initial_margin
from core.portfolio.positions import Fill, Position, divide_half_even, fee_in_quote
from core.portfolio.rates import InstrumentKey, RateBook, Valued
from core.portfolio.valuation import PEGGED_TO_USD, AccountValuation, value_account, value_position
from core.portfolio.view import AccountHoldings, Portfolio
from core.types.codes import ReasonCode
from core.types.instruments import Instrument, Product
from core.types.money import from_scaled
from core.types.orders import Side

WHAT_IF_ORDER_ID = "what-if"


class FeeTerms(msgspec.Struct, frozen=True):
    """Rates as shares (0.001 is 0.1 %). asset is what the venue takes: None for its own custom, what is received on
    spot (base for a buy, quote for a sale) and quote on futures."""

    taker_rate: Decimal
    maker_rate: Decimal
    asset: str | None = None


class ProposedOrder(msgspec.Struct, frozen=True):
    """quantity at quantity_scale; price, the limit, at price_scale, None for a market order. levels are those of the
    book that it would meet, best first, as (price, quantity); rests is False for IOC and FOK."""

    account_id: str
    venue: str
    symbol: str
    side: Side
    quantity: int
    fees: FeeTerms
    price: int | None = None
    levels: tuple[tuple[int, int], ...] = ()
    rests: bool = True
    strategy_id: str = ""


class ExpectedExecution(msgspec.Struct, frozen=True):
    """What the order comes to. taken_quantity crosses the book, resting_quantity waits at the limit price,
    unfilled_quantity finds nobody (a market order beyond the visible book, the rest of an IOC).

    average_price is over taken and resting, at price_scale rounded half even, None when neither is. fee is in
    fee_asset, fee_quote its worth in quote, both None when that asset has no rate. realised_pnl_quote is before fees.
    """

    taken_quantity: Decimal
    resting_quantity: Decimal
    unfilled_quantity: Decimal
    average_price: Decimal | None
    notional_quote: Decimal
    fee: Decimal | None
    fee_asset: str
    fee_quote: Decimal | None
    realised_pnl_quote: Decimal
    position_before: Decimal
    position_after: Decimal
    average_entry_price_after: Decimal
    strategy_position_after: Decimal


class Shock(msgspec.Struct, frozen=True):
    """A price move of one symbol, or of all markets (symbol None): by bps, or by an absolute amount in quote.

    No price falls below one tick. A move of all leaves alone what follows from it: markets between two dollars, and
    those quoted in an asset that itself moves (ETHBTC when BTC and ETH both fall).
    """

    symbol: str | None = None
    bps: Decimal | None = None
    absolute_quote: Decimal | None = None
    venue: str | None = None


class LimitShare(msgspec.Struct, frozen=True):
    """How much of a limit is used, before and after; share_bps rounded up at 2 places, 10,000 at the limit. None where
    what it limits can't be valued."""

    code: ReasonCode
    limit: Decimal
    before: Decimal | None
    after: Decimal | None
    share_before_bps: Decimal | None
    share_after_bps: Decimal | None


class AccountOutcome(msgspec.Struct, frozen=True):
    before: AccountValuation
    after: AccountValuation
    equity_change: Valued
    is_liquidated: bool
    limits: tuple[LimitShare, ...]


class WhatIf(msgspec.Struct, frozen=True):
    """execution is None when no order was asked about. liquidated_accounts are those whose margin no longer suffices
    after (USD-M)."""

    execution: ExpectedExecution | None
    accounts: tuple[AccountOutcome, ...]
    liquidated_accounts: tuple[str, ...]


LimitsByAccount = Mapping[str, Mapping[ReasonCode, Decimal]]
Measures = dict[ReasonCode, tuple[Decimal | None, Decimal | None]]
"""Before and after."""


def what_if(
    portfolio: Portfolio,
    order: ProposedOrder | None = None,
    shocks: Sequence[Shock] = (),
    limits: LimitsByAccount | None = None,
) -> WhatIf:
    """The order first, then the price moves, in their order.

    limits by account, in the reporting currency: gross and net exposure, leverage, and of the order its notional and
    the worth of its symbol's position are told; others are ignored. Raises KeyError for an account or an instrument
    that the portfolio doesn't have, ValueError for a shock that names no move or both kinds.
    """
    after, execution = portfolio, None
    if order is not None:
        after, execution = with_order(portfolio, order)
    after = with_shocks(after, shocks)
    outcomes = []
    for account in portfolio.accounts:
        key = (account.account_id, account.venue)
        is_concerned = order is not None and key == (order.account_id, order.venue)
        outcomes.append(
            _outcome(
                value_account(portfolio, *key),
                value_account(after, *key),
                (limits or {}).get(account.account_id, {}),
                _order_measures(portfolio, after, order, execution) if is_concerned else {},
                (execution.fee_asset,) if is_concerned and execution is not None and execution.fee is None else (),
            )
        )
    liquidated = tuple(
        account.account_id
        for account, outcome in zip(portfolio.accounts, outcomes, strict=True)
        if outcome.is_liquidated
    )
    return WhatIf(execution, tuple(outcomes), liquidated)


@exact
def with_order(portfolio: Portfolio, order: ProposedOrder) -> tuple[Portfolio, ExpectedExecution]:
    """The portfolio after the order's expected execution. Raises KeyError."""
    account = portfolio.account(order.account_id, order.venue)
    instrument = portfolio.instruments[order.venue, order.symbol]
    taken = sweep(order.side, order.quantity, order.price, order.levels)
    taken_quantity = sum(quantity for _, quantity in taken)
    left = order.quantity - taken_quantity
    resting = [(order.price, left)] if order.price is not None and order.rests and left else []
    key: PositionKey = (order.account_id, order.venue, order.symbol)
    positions: dict[PositionKey, Position] = dict(portfolio.positions)
    strategy_positions: dict[StrategyPositionKey, Position] = dict(portfolio.strategy_positions)
    before = portfolio.position(*key)
    fee: Decimal | None = ZERO
    fee_asset = _fee_asset(account, instrument, order)
    parts = [(part, order.fees.taker_rate) for part in taken] + [(part, order.fees.maker_rate) for part in resting]
    for number, ((price, quantity), rate) in enumerate(parts, 1):
        part_fee = _fee(portfolio, instrument, fee_asset, price, quantity, rate)
        fee = None if fee is None or part_fee is None else fee + part_fee
        fill = _fill(portfolio, instrument, order, number, price, quantity, part_fee or ZERO, fee_asset)
        booked = book_fill(positions, strategy_positions, key, order.strategy_id, fill)
        positions[key] = booked.position
        strategy_positions[booked.strategy_key] = booked.strategy_position
    after = positions.get(key, before)
    own = strategy_positions.get((*key, order.strategy_id), EMPTY)
    notional = sum(price * quantity for (price, quantity), _ in parts)
    executed = sum(quantity for (_, quantity), _ in parts)
    execution = ExpectedExecution(
        taken_quantity=from_scaled(taken_quantity, instrument.quantity_scale),
        resting_quantity=from_scaled(executed - taken_quantity, instrument.quantity_scale),
        unfilled_quantity=from_scaled(order.quantity - executed, instrument.quantity_scale),
        average_price=from_scaled(divide_half_even(notional, executed), instrument.price_scale) if executed else None,
        notional_quote=from_scaled(notional, instrument.notional_scale),
        fee=fee,
        fee_asset=fee_asset,
        fee_quote=None if fee is None else portfolio.rates.converted(fee, fee_asset, instrument.quote_asset),
        realised_pnl_quote=from_scaled(after.realised_pnl - before.realised_pnl, instrument.notional_scale),
        position_before=from_scaled(before.quantity, instrument.quantity_scale),
        position_after=from_scaled(after.quantity, instrument.quantity_scale),
        average_entry_price_after=from_scaled(after.average_price, instrument.price_scale),
        strategy_position_after=from_scaled(own.quantity, instrument.quantity_scale),
    )
    changed = _account_after(account, instrument, order.side, execution, before, after)
    accounts = tuple(changed if one is account else one for one in portfolio.accounts)
    return (
        msgspec.structs.replace(
            portfolio, accounts=accounts, positions=positions, strategy_positions=strategy_positions
        ),
        execution,
    )


def sweep(side: Side, quantity: int, limit: int | None, levels: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What an order takes of the levels (price, quantity) that it meets, best first, up to its limit."""
    taken: list[tuple[int, int]] = []
    left = quantity
    for price, offered in levels:
        is_beyond = limit is not None and (price > limit if side is Side.BUY else price < limit)
        if is_beyond or not left:
            break
        part = min(left, offered)
        taken.append((price, part))
        left -= part
    return taken


@exact
def with_shocks(portfolio: Portfolio, shocks: Sequence[Shock]) -> Portfolio:
    """The portfolio at the marks and rates after the moves. A rate that was given follows the markets of its asset.

    Raises ValueError for a shock that names no move or both kinds.
    """
    if not shocks:
        return portfolio
    marks = {key: mark for key in portfolio.instruments if (mark := portfolio.marks.get(key)) is not None}
    for shock in shocks:
        if (shock.bps is None) == (shock.absolute_quote is None):
            raise ValueError("a price move is either in bps or an absolute amount in quote: give one of them")
        moved_bases = _moved_bases(portfolio) if shock.symbol is None else frozenset[str]()
        for key, mark in marks.items():
            if _is_moved(portfolio.instruments[key], shock, moved_bases):
                marks[key] = _moved(mark, portfolio.instruments[key], shock)
    reporting = portfolio.reporting_asset
    old, new = portfolio.rates, RateBook.from_marks(reporting, portfolio.instruments, marks)
    given = {}
    for asset in old.given:
        rate = old.given[asset]
        before, after = old.market_rate(asset), new.market_rate(asset)
        given[asset] = rate if not before or after is None else rate * after / before
    rates = RateBook(reporting, new.prices, given)
    return msgspec.structs.replace(portfolio, marks=marks, rates=rates)


def _is_moved(instrument: Instrument, shock: Shock, moved_bases: frozenset[str]) -> bool:
    if shock.venue not in {None, instrument.venue}:
        return False
    if shock.symbol is not None:
        return instrument.symbol == shock.symbol
    return instrument.base_asset in moved_bases and instrument.quote_asset not in moved_bases


def _moved_bases(portfolio: Portfolio) -> frozenset[str]:
    quoted = {instrument.base_asset for instrument in portfolio.instruments.values()}
    return frozenset(quoted - PEGGED_TO_USD - {portfolio.reporting_asset})


def _moved(mark: int, instrument: Instrument, shock: Shock) -> int:
    """At price_scale, rounded half even."""
    if shock.bps is not None:
        moved = Decimal(mark) * (BPS + shock.bps) / BPS
    else:
        assert shock.absolute_quote is not None
        moved = Decimal(mark) + shock.absolute_quote.scaleb(instrument.price_scale)
    return max(int(moved.to_integral_value()), instrument.tick_size, 1)


def _fee_asset(account: AccountHoldings, instrument: Instrument, order: ProposedOrder) -> str:
    if order.fees.asset is not None:
        return order.fees.asset
    takes_base = account.product is Product.SPOT and order.side is Side.BUY
    return instrument.base_asset if takes_base else instrument.quote_asset


@exact
def _fee(
    portfolio: Portfolio, instrument: Instrument, fee_asset: str, price: int, quantity: int, rate: Decimal
) -> Decimal | None:
    """In fee_asset; None for a third asset without a rate."""
    if fee_asset == instrument.base_asset:
        return from_scaled(quantity, instrument.quantity_scale) * rate
    in_quote = from_scaled(price * quantity, instrument.notional_scale) * rate
    return portfolio.rates.converted(in_quote, instrument.quote_asset, fee_asset)


def _fill(
    portfolio: Portfolio,
    instrument: Instrument,
    order: ProposedOrder,
    number: int,
    price: int,
    quantity: int,
    fee: Decimal,
    fee_asset: str,
) -> Fill:
    fee_quote = fee_in_quote(
        fee,
        fee_asset,
        instrument.base_asset,
        instrument.quote_asset,
        from_scaled(price, instrument.price_scale),
        instrument.notional_scale,
        portfolio.rates.converted(Decimal(1), fee_asset, instrument.quote_asset),
    )
    return Fill(WHAT_IF_ORDER_ID, number, order.side, price, quantity, fee_quote or 0, 0, fee, fee_asset)


@exact
def _account_after(
    account: AccountHoldings,
    instrument: Instrument,
    side: Side,
    execution: ExpectedExecution,
    before: Position,
    after: Position,
) -> AccountHoldings:
    if account.product is Product.USDM:
        if account.wallet_balance is None:
            return account
        wallet = account.wallet_balance + execution.realised_pnl_quote - (execution.fee_quote or ZERO)
        isolated = dict(account.isolated_wallets)
        if instrument.symbol in isolated:
            leverage = account.leverage.get(instrument.symbol, 1)
            isolated[instrument.symbol] = _isolated_after(
                isolated[instrument.symbol], instrument, leverage, before, after
            )
        return msgspec.structs.replace(account, wallet_balance=wallet, isolated_wallets=isolated)
    if account.balances is None:
        return account
    balances = dict(account.balances)
    sign = 1 if side is Side.BUY else -1
    quantity = execution.taken_quantity + execution.resting_quantity
    changes = (
        (instrument.base_asset, sign * quantity),
        (instrument.quote_asset, -sign * execution.notional_quote),
        (execution.fee_asset, -(execution.fee or ZERO)),
    )
    for asset, change in changes:
        balances[asset] = balances.get(asset, ZERO) + change
    return msgspec.structs.replace(account, balances=balances)


@exact
def _isolated_after(
    wallet: Decimal, instrument: Instrument, leverage: int, before: Position, after: Position
) -> Decimal:
    """An isolated position's own margin: it gets the initial margin of what it opens and gives back the share of what
    it closes."""
    if before.quantity * after.quantity <= 0:
        kept, opened = ZERO, after.cost
    elif abs(after.quantity) < abs(before.quantity):
        kept, opened = wallet * abs(after.quantity) / abs(before.quantity), 0
    else:
        kept, opened = wallet, after.cost - before.cost
    return kept + initial_margin(from_scaled(opened, instrument.notional_scale), leverage)


def _order_measures(
    before: Portfolio, after: Portfolio, order: ProposedOrder | None, execution: ExpectedExecution | None
) -> Measures:
    assert order is not None
    assert execution is not None
    quote_asset = before.instruments[order.venue, order.symbol].quote_asset
    return {
        ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER: (
            ZERO,
            before.rates.worth(execution.notional_quote, quote_asset).value,
        ),
        ReasonCode.RISK_POSITION_EXCEEDS_MAX: (_position_worth(before, order), _position_worth(after, order)),
    }


def _position_worth(portfolio: Portfolio, order: ProposedOrder) -> Decimal | None:
    held = value_position(portfolio, order.account_id, order.venue, order.symbol)
    if held.notional_quote is None:
        return None
    return portfolio.rates.worth(held.notional_quote, held.quote_asset).value


def _outcome(
    before: AccountValuation,
    after: AccountValuation,
    limits: Mapping[ReasonCode, Decimal],
    order_measures: Measures,
    unknown_fees: tuple[str, ...],
) -> AccountOutcome:
    measured: Measures = {
        ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX: (before.gross_exposure.value, after.gross_exposure.value),
        ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX: (
            before.net_exposure.magnitude().value,
            after.net_exposure.magnitude().value,
        ),
        ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX: (before.leverage, after.leverage),
        **order_measures,
    }
    shares = tuple(
        LimitShare(code, limits[code], old, new, _share_bps(old, limits[code]), _share_bps(new, limits[code]))
        for code, (old, new) in measured.items()
        if code in limits
    )
    is_liquidated = after.margin is not None and after.margin.is_liquidated
    change = after.equity.minus(before.equity).plus(Valued(ZERO, unknown_fees))
    return AccountOutcome(before, after, change, is_liquidated, shares)


@exact
def _share_bps(used: Decimal | None, limit: Decimal) -> Decimal | None:
    return rounded_up(used * BPS / limit, BPS_PLACES) if used is not None and limit > 0 else None


def moves_of(bps_by_symbol: Mapping[str, Decimal]) -> tuple[Shock, ...]:
    """Shocks of a move in bps by symbol."""
    return tuple(Shock(symbol=symbol, bps=bps) for symbol, bps in bps_by_symbol.items())


def instruments_moved(portfolio: Portfolio, shock: Shock) -> tuple[InstrumentKey, ...]:
    """Which markets a shock moves."""
    bases = _moved_bases(portfolio)
    return tuple(key for key, instrument in portfolio.instruments.items() if _is_moved(instrument, shock, bases))
