"""Margin of USD-M linear perpetuals in one-way mode, cross and isolated, and of a spot cash account.

Formulae as Binance publishes them: maintenance margin = notional x rate of its bracket - the bracket's maintenance
amount ("Leverage and Margin of USDS-M Futures"); initial margin = notional / leverage; margin ratio = maintenance
margin / margin balance ("USDS-M Futures Margin Ratio"); liquidation price ("How to Calculate Liquidation Price of
USDS-M Futures Contracts"); funding = notional at the mark price x funding rate ("Introduction to Binance Futures
Funding Rates"). All amounts are Decimals in the margin asset. Everything is exact but a division: initial margin
is rounded up at 8 places; the liquidation price is told at 80 digits and rounded by whoever shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from core.portfolio.exact import AMOUNT_PLACES, ONE, ZERO, exact, rounded_up

SPOT_LEVERAGE = 1


class MarginMode(StrEnum):
    CROSS = "CROSS"
    ISOLATED = "ISOLATED"


class MarginBracket(msgspec.Struct, frozen=True):
    """For a position notional above notional_floor and up to notional_cap: the highest leverage, the maintenance
    margin rate (0.004 is 0.4 %), and the amount that makes the margin continuous from bracket to bracket (`cum`)."""

    notional_floor: Decimal
    notional_cap: Decimal
    max_leverage: int
    maintenance_rate: Decimal
    maintenance_amount: Decimal


class MarginPosition(msgspec.Struct, frozen=True):
    """One symbol of a USD-M account. quantity is signed; cost = quantity x entry price, signed like it.

    isolated_wallet is the margin put aside for an isolated position, before its unrealised PnL. bid_notional and
    ask_notional are what open orders could add on either side. brackets from the lowest notional up.
    """

    symbol: str
    quantity: Decimal
    cost: Decimal
    mark_price: Decimal
    leverage: int
    brackets: tuple[MarginBracket, ...]
    mode: MarginMode = MarginMode.CROSS
    isolated_wallet: Decimal = ZERO
    bid_notional: Decimal = ZERO
    ask_notional: Decimal = ZERO

    @property
    @exact
    def notional(self) -> Decimal:
        """Signed, at the mark."""
        return self.quantity * self.mark_price

    @property
    @exact
    def unrealised(self) -> Decimal:
        return self.quantity * self.mark_price - self.cost

    @property
    @exact
    def maintenance(self) -> Decimal:
        return maintenance_margin(abs(self.notional), self.brackets)

    @property
    @exact
    def initial(self) -> Decimal:
        return initial_margin(abs(self.notional), self.leverage)

    @property
    @exact
    def order_initial(self) -> Decimal:
        """What open orders need on top: the worst position that either side alone could lead to, less the position."""
        notional = self.notional
        worst = max(abs(notional), abs(notional + self.bid_notional), abs(notional - self.ask_notional))
        return initial_margin(worst, self.leverage) - self.initial


class PositionMargin(msgspec.Struct, frozen=True):
    """liquidation_price is the mark price at which the position is taken over, all other marks unchanged; None when no
    price above zero does that."""

    symbol: str
    mode: MarginMode
    notional: Decimal
    unrealised: Decimal
    initial: Decimal
    maintenance: Decimal
    margin_balance: Decimal
    liquidation_price: Decimal | None
    is_liquidated: bool


class MarginState(msgspec.Struct, frozen=True):
    """A USD-M account's margin. initial includes open orders.

    margin_ratio is that of the cross positions, maintenance / margin balance: at 1 they are liquidated; None where
    there is maintenance margin to hold and no positive balance to hold it. free_margin may go into new positions;
    negative beyond that.
    """

    wallet_balance: Decimal
    unrealised: Decimal
    margin_balance: Decimal
    initial: Decimal
    maintenance: Decimal
    margin_ratio: Decimal | None
    free_margin: Decimal
    is_liquidated: bool
    positions: tuple[PositionMargin, ...]

    @property
    def liquidated_symbols(self) -> tuple[str, ...]:
        return tuple(one.symbol for one in self.positions if one.is_liquidated)


def bracket_of(notional: Decimal, brackets: Sequence[MarginBracket]) -> MarginBracket:
    """The bracket of an absolute notional: a cap belongs to its own bracket; the last one has no end."""
    assert brackets, "a perpetual has at least one margin bracket"
    return next((one for one in brackets if notional <= one.notional_cap), brackets[-1])


@exact
def maintenance_margin(notional: Decimal, brackets: Sequence[MarginBracket]) -> Decimal:
    """Of an absolute notional; exact."""
    bracket = bracket_of(notional, brackets)
    return max(ZERO, notional * bracket.maintenance_rate - bracket.maintenance_amount)


@exact
def initial_margin(notional: Decimal, leverage: int) -> Decimal:
    """Of an absolute notional; rounded up at 8 places."""
    assert leverage >= 1
    return rounded_up(notional / leverage, AMOUNT_PLACES)


def max_notional(leverage: int, brackets: Sequence[MarginBracket]) -> Decimal:
    """The largest position notional that a leverage allows; zero when it is above every bracket's."""
    return max((one.notional_cap for one in brackets if one.max_leverage >= leverage), default=ZERO)


@exact
def funding_payment(quantity: Decimal, mark_price: Decimal, funding_rate: Decimal) -> Decimal:
    """What the holder of a signed quantity pays: positive for a long at a positive rate, negative when received."""
    return quantity * mark_price * funding_rate


@exact
def liquidation_price(position: MarginPosition, own_margin: Decimal) -> Decimal | None:
    """The mark price at which own_margin + unrealised PnL = maintenance margin; None when no price above zero is.

    own_margin is the isolated wallet, or for cross: cross wallet + unrealised PnL - maintenance margin of all other
    cross positions. Solved as Binance's formula for one-way mode,

        price = (own_margin + maintenance_amount - cost) / (|quantity| x rate - quantity),

    in the bracket of the notional at that very price: the margin is then exact there. (Binance takes the bracket of the
    notional at the present mark, which differs when a bracket's edge lies between.)
    """
    quantity = position.quantity
    if not quantity:
        return None
    size = abs(quantity)
    for number, bracket in enumerate(position.brackets, 1):
        slope = size * bracket.maintenance_rate - quantity
        if not slope:
            continue
        price = (own_margin + bracket.maintenance_amount - position.cost) / slope
        notional = size * price
        is_last = number == len(position.brackets)
        if price > 0 and notional > bracket.notional_floor and (is_last or notional <= bracket.notional_cap):
            return price
    return None


@exact
def margin_state(wallet_balance: Decimal, positions: Sequence[MarginPosition]) -> MarginState:
    """A USD-M account in one-way mode. wallet_balance includes what isolated positions have put aside.

    free_margin = cross wallet + unrealised PnL of cross positions - their initial margin - the initial margin of open
    orders, isolated ones included.
    """
    isolated = [one for one in positions if one.mode is MarginMode.ISOLATED]
    cross = [one for one in positions if one.mode is MarginMode.CROSS]
    cross_wallet = wallet_balance - sum((one.isolated_wallet for one in isolated), ZERO)
    cross_unrealised = sum((one.unrealised for one in cross), ZERO)
    cross_maintenance = sum((one.maintenance for one in cross), ZERO)
    cross_balance = cross_wallet + cross_unrealised
    is_cross_liquidated = cross_maintenance > 0 and cross_balance <= cross_maintenance
    shown = []
    for one in positions:
        if one.mode is MarginMode.CROSS:
            balance = cross_balance
            own = cross_balance - one.unrealised - (cross_maintenance - one.maintenance)
            is_liquidated = is_cross_liquidated and bool(one.quantity)
        else:
            balance = one.isolated_wallet + one.unrealised
            own = one.isolated_wallet
            is_liquidated = bool(one.quantity) and balance <= one.maintenance
        shown.append(_position_margin(one, balance, own, is_liquidated))
    unrealised = cross_unrealised + sum((one.unrealised for one in isolated), ZERO)
    order_initial = sum((one.order_initial for one in positions), ZERO)
    return MarginState(
        wallet_balance=wallet_balance,
        unrealised=unrealised,
        margin_balance=wallet_balance + unrealised,
        initial=sum((one.initial for one in positions), ZERO) + order_initial,
        maintenance=sum((one.maintenance for one in positions), ZERO),
        margin_ratio=_ratio(cross_maintenance, cross_balance),
        free_margin=cross_balance - sum((one.initial for one in cross), ZERO) - order_initial,
        is_liquidated=any(one.is_liquidated for one in shown),
        positions=tuple(shown),
    )


@exact
def spot_free_margin(free_quote: Decimal, notional: Decimal, fee_quote: Decimal) -> Decimal:
    """What is left of a cash account's quote after a purchase: spot has a leverage of 1, so all of it is paid for.
    Negative when it can't be."""
    return free_quote - notional * SPOT_LEVERAGE - fee_quote


def _position_margin(
    position: MarginPosition, balance: Decimal, own_margin: Decimal, is_liquidated: bool
) -> PositionMargin:
    return PositionMargin(
        symbol=position.symbol,
        mode=position.mode,
        notional=position.notional,
        unrealised=position.unrealised,
        initial=position.initial,
        maintenance=position.maintenance,
        margin_balance=balance,
        liquidation_price=liquidation_price(position, own_margin),
        is_liquidated=is_liquidated,
    )


def _ratio(maintenance: Decimal, balance: Decimal) -> Decimal | None:
    if not maintenance:
        return ZERO
    return maintenance / balance if balance > 0 else None


def bracket_rows(rows: Sequence[tuple[int, Decimal, Decimal]]) -> tuple[MarginBracket, ...]:
    """Brackets from (highest leverage, notional cap, maintenance rate) rows, lowest first, with the maintenance amounts
    that make the margin continuous: each adds floor x (its rate - the rate before)."""
    with_amounts: list[MarginBracket] = []
    floor, rate, amount = ZERO, ZERO, ZERO
    for leverage, cap, next_rate in rows:
        amount, rate = _continued(amount, floor, rate, next_rate), next_rate
        with_amounts.append(MarginBracket(floor, cap, leverage, rate, amount))
        floor = cap
    return tuple(with_amounts)


@exact
def _continued(amount: Decimal, floor: Decimal, rate: Decimal, next_rate: Decimal) -> Decimal:
    assert next_rate <= ONE, "a maintenance margin rate is a share: 0.004 is 0.4 %"
    return amount + floor * (next_rate - rate)
