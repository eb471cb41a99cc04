"""What valuation and what-if look at: accounts, positions, marks and rates of one moment, as plain mappings.

Built from the kernel's state and a decision's inputs by whoever has them; this package knows neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from core.portfolio.book import EMPTY, PositionKey, StrategyPositionKey
from core.portfolio.margin import MarginBracket
from core.portfolio.positions import Position
from core.portfolio.rates import InstrumentKey, RateBook
from core.types.instruments import Instrument, Product

DEFAULT_MARGIN_ASSET = "USDT"


class AccountHoldings(msgspec.Struct, frozen=True):
    """One account at one venue.

    Spot: balances are free and locked together, by asset, None when the venue hasn't told them. USD-M: wallet_balance
    is in margin_asset, None when unknown; by symbol: leverage, brackets, the wallets of isolated positions (a symbol in
    it is isolated, all others are cross), and the notional of open orders to buy and to sell.
    """

    account_id: str
    venue: str
    product: Product = Product.SPOT
    desk_id: str = ""
    balances: Mapping[str, Decimal] | None = None
    wallet_balance: Decimal | None = None
    margin_asset: str = DEFAULT_MARGIN_ASSET
    leverage: Mapping[str, int] = msgspec.field(default_factory=dict)
    brackets: Mapping[str, tuple[MarginBracket, ...]] = msgspec.field(default_factory=dict)
    isolated_wallets: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    order_notionals: Mapping[str, tuple[Decimal, Decimal]] = msgspec.field(default_factory=dict)


class Portfolio(msgspec.Struct, frozen=True):
    """marks are ints at the instruments' price_scale. funding is what was received (negative: paid) by asset."""

    accounts: tuple[AccountHoldings, ...]
    positions: Mapping[PositionKey, Position]
    strategy_positions: Mapping[StrategyPositionKey, Position]
    instruments: Mapping[InstrumentKey, Instrument]
    marks: Mapping[InstrumentKey, int]
    rates: RateBook
    funding: Mapping[PositionKey, Mapping[str, Decimal]] = msgspec.field(default_factory=dict)

    @property
    def reporting_asset(self) -> str:
        return self.rates.reporting_asset

    def account(self, account_id: str, venue: str) -> AccountHoldings:
        """Raises KeyError for an account that isn't in it."""
        for account in self.accounts:
            if (account.account_id, account.venue) == (account_id, venue):
                return account
        raise KeyError(f"account {account_id} at {venue} isn't in the portfolio")

    def positions_of(self, account: AccountHoldings) -> list[tuple[Instrument, Position]]:
        """All that the account has or had, with their instruments."""
        return [
            (self.instruments[venue, symbol], position)
            for (account_id, venue, symbol), position in self.positions.items()
            if (account_id, venue) == (account.account_id, account.venue)
        ]

    def position(self, account_id: str, venue: str, symbol: str) -> Position:
        return self.positions.get((account_id, venue, symbol), EMPTY)


def portfolio_of(
    accounts: Iterable[AccountHoldings],
    positions: Mapping[PositionKey, Position],
    strategy_positions: Mapping[StrategyPositionKey, Position],
    instruments: Mapping[InstrumentKey, Instrument],
    marks: Mapping[InstrumentKey, int],
    rates: Mapping[str, Decimal],
    reporting_asset: str,
    funding: Mapping[tuple[str, str, str, str], Decimal] | None = None,
) -> Portfolio:
    """From the kernel's tables and a decision's inputs; only what concerns these accounts.

    rates tells what one unit of an asset is worth in reporting_asset, where it is known otherwise than by the marks.
    funding is by (account_id, venue, symbol, asset).
    """
    kept = tuple(accounts)
    wanted = {(account.account_id, account.venue) for account in kept}
    by_position: dict[PositionKey, dict[str, Decimal]] = {}
    for (account_id, venue, symbol, asset), amount in (funding or {}).items():
        if (account_id, venue) in wanted:
            by_position.setdefault((account_id, venue, symbol), {})[asset] = amount
    return Portfolio(
        accounts=kept,
        positions={key: position for key, position in positions.items() if key[:2] in wanted},
        strategy_positions={key: position for key, position in strategy_positions.items() if key[:2] in wanted},
        instruments=instruments,
        marks=marks,
        rates=RateBook.from_marks(reporting_asset, instruments, marks, rates),
        funding=by_position,
    )
