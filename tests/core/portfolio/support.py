"""Instruments, fills and portfolios for these tests."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from core.portfolio.book import PositionKey, StrategyPositionKey, book_fill
from core.portfolio.margin import MarginBracket, bracket_rows
from core.portfolio.positions import Fill, Position
from core.portfolio.view import AccountHoldings, Portfolio, portfolio_of
from core.types.instruments import Instrument, Product
from core.types.orders import Side

D = Decimal
VENUE = "binance"
FUTURES = "binance-usdm"


def instrument(
    base: str, quote: str, venue: str = VENUE, price_scale: int = 2, product: Product = Product.SPOT
) -> Instrument:
    return Instrument(
        venue=venue,
        symbol=base + quote,
        base_asset=base,
        quote_asset=quote,
        price_scale=price_scale,
        quantity_scale=5,
        tick_size=1,
        lot_size=1,
        min_quantity=1,
        max_quantity=10**12,
        min_notional=1,
        product=product,
    )


INSTRUMENTS = {
    (one.venue, one.symbol): one
    for one in (
        instrument("BTC", "USDT"),
        instrument("ETH", "USDT"),
        instrument("ETH", "BTC", price_scale=6),
        instrument("BNB", "USDT"),
        instrument("USDC", "USDT", price_scale=4),
        instrument("BTC", "USDT", FUTURES, product=Product.USDM),
        instrument("ETH", "USDT", FUTURES, product=Product.USDM),
    )
}
MARKS = {
    (VENUE, "BTCUSDT"): 60_000_00,
    (VENUE, "ETHUSDT"): 3_000_00,
    (VENUE, "ETHBTC"): 50_000,
    (VENUE, "BNBUSDT"): 600_00,
    (VENUE, "USDCUSDT"): 1_0000,
    (FUTURES, "BTCUSDT"): 60_000_00,
    (FUTURES, "ETHUSDT"): 3_000_00,
}
BRACKETS: tuple[MarginBracket, ...] = bracket_rows(
    (
        (125, D(50_000), D("0.004")),
        (100, D(600_000), D("0.005")),
        (50, D(3_000_000), D("0.01")),
        (20, D(12_000_000), D("0.025")),
    )
)


def fill(side: Side, quantity: int, price: int, trade_id: int = 1, fee: str = "0", fee_asset: str = "USDT") -> Fill:
    """quantity in 1/100,000, price in cents; a USDT fee is worth itself, any other has no worth at the fill."""
    fee_quote = int(D(fee).scaleb(7)) if fee_asset == "USDT" else 0
    return Fill(f"o{trade_id}", trade_id, side, price, quantity, fee_quote, trade_id, D(fee), fee_asset)


Fills = tuple[tuple[PositionKey, str, Fill], ...]


def books(
    *fills: tuple[PositionKey, str, Fill],
) -> tuple[dict[PositionKey, Position], dict[StrategyPositionKey, Position]]:
    positions: dict[PositionKey, Position] = {}
    strategies: dict[StrategyPositionKey, Position] = {}
    for key, strategy_id, one in fills:
        booked = book_fill(positions, strategies, key, strategy_id, one)
        positions[booked.key] = booked.position
        strategies[booked.strategy_key] = booked.strategy_position
    return positions, strategies


def spot_account(
    balances: Mapping[str, Decimal] | None, account_id: str = "spot", desk_id: str = ""
) -> AccountHoldings:
    return AccountHoldings(account_id, VENUE, balances=balances, desk_id=desk_id)


def futures_account(
    wallet: Decimal | None,
    leverage: int = 10,
    isolated: Mapping[str, Decimal] | None = None,
    desk_id: str = "",
    brackets: Mapping[str, tuple[MarginBracket, ...]] | None = None,
) -> AccountHoldings:
    return AccountHoldings(
        "futures",
        FUTURES,
        product=Product.USDM,
        desk_id=desk_id,
        wallet_balance=wallet,
        leverage={"BTCUSDT": leverage, "ETHUSDT": leverage},
        brackets={"BTCUSDT": BRACKETS, "ETHUSDT": BRACKETS} if brackets is None else brackets,
        isolated_wallets=isolated or {},
    )


def portfolio(
    *accounts: AccountHoldings,
    fills: Fills = (),
    marks: Mapping[tuple[str, str], int] | None = None,
    rates: Mapping[str, Decimal] | None = None,
    reporting_asset: str = "USDT",
) -> Portfolio:
    positions, strategies = books(*fills)
    return portfolio_of(
        accounts,
        positions,
        strategies,
        INSTRUMENTS,
        MARKS if marks is None else marks,
        rates or {},
        reporting_asset,
    )
