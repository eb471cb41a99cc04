"""Positions by (account, venue, symbol), from executed quantities.

Cost is kept as an int at notional scale (price_scale + quantity_scale), so nothing drifts: a partial reduction takes
its share of the cost rounded half even, and the reduction to zero takes what is left. When a position is flat, its
realised PnL is exactly what was received minus what was paid. Average prices are shown rounded half even.

Binance takes a buy's commission in the base asset, and in BNB where the account asks for that. The position counts what
was executed; commissions are kept apart, by asset, and in quote where the fill's own price (or a rate known then) tells
it. Realised PnL is before fees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from core.types.events import ClosedPosition, PositionSnapshot
from core.types.orders import Side

EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
NO_FEE = Decimal(0)
ORDERS_NAMED_PER_EPISODE = 64
"""A market maker's position may stay open for a million orders; a fill must cost the same then. Beyond this many the
order that opened the position and the newest ones are named."""


FeesByAsset = tuple[Mapping[str, Decimal], Mapping[str, Decimal]]
"""All commissions, and those that are unvalued."""


class Fill(msgspec.Struct, frozen=True):
    """A fill as positions see it: ints at the instrument's scales, fee_quote at notional scale.

    fee is what was taken, in fee_asset. A fee_quote of 0 beside a fee means that its worth wasn't known at the fill.
    """

    client_order_id: str
    trade_id: int
    side: Side
    price: int
    quantity: int
    fee_quote: int
    ts_ns: int
    fee: Decimal = NO_FEE
    fee_asset: str = ""


class Episode(msgspec.Struct, frozen=True):
    """One stretch from flat to flat."""

    position_id: str
    side: Side
    opened_ns: int
    max_quantity: int
    entry_quantity: int
    entry_notional: int
    exit_quantity: int
    exit_notional: int
    realised_pnl: int
    fees: int
    client_order_ids: tuple[str, ...]


class Position(msgspec.Struct, frozen=True):
    """quantity is signed, at quantity_scale; cost is what the open quantity cost, unsigned, at notional scale.

    realised_pnl and fees cover the position's whole life, at notional scale. fees_by_asset is what was taken in each
    asset; unvalued_fees the part of it whose worth in quote wasn't known at the fill, which `fees` hence leaves out.
    """

    quantity: int = 0
    cost: int = 0
    realised_pnl: int = 0
    fees: int = 0
    updated_ns: int = 0
    episode: Episode | None = None
    fees_by_asset: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    unvalued_fees: Mapping[str, Decimal] = msgspec.field(default_factory=dict)

    @property
    def average_price(self) -> int:
        """At price_scale, rounded half even; zero when flat."""
        return divide_half_even(self.cost, abs(self.quantity)) if self.quantity else 0

    def snapshot(self) -> PositionSnapshot:
        return PositionSnapshot(self.quantity, self.average_price, self.realised_pnl, self.fees)


def apply_fill(position: Position, fill: Fill, position_key: str) -> tuple[Position, ClosedPosition | None]:
    """The position after a fill, and the episode that the fill ended, if it did.

    A fill that crosses zero ends one episode and opens the next. position_key names (account, venue, symbol); the
    episode's id is a pure function of it and of the fill that opened it.
    """
    fees = _fees_after(position, fill) if fill.fee else (position.fees_by_asset, position.unvalued_fees)
    signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
    if position.quantity * signed >= 0:
        return _increase(position, fill, fill.quantity, fill.fee_quote, fees, position_key), None
    held = abs(position.quantity)
    if fill.quantity <= held:
        return _reduce(position, fill, fill.quantity, fill.fee_quote, fees)
    closing_fee = divide_half_even(fill.fee_quote * held, fill.quantity)
    reduced, closed = _reduce(position, fill, held, closing_fee, fees)
    return _increase(reduced, fill, fill.quantity - held, fill.fee_quote - closing_fee, fees, position_key), closed


def fee_in_quote(
    fee: Decimal,
    fee_asset: str,
    base_asset: str,
    quote_asset: str,
    price: Decimal,
    notional_scale: int,
    rate: Decimal | None = None,
) -> int | None:
    """A commission in quote at notional scale, rounded half even; base is converted at the fill's price.

    rate tells what one unit of a third asset (BNB) is worth in quote at that moment. None when it was taken in such an
    asset and the rate isn't known.
    """
    if fee == 0 or fee_asset == quote_asset:
        amount = fee
    elif fee_asset == base_asset:
        amount = EXACT.multiply(fee, price)
    elif rate is not None:
        amount = EXACT.multiply(fee, rate)
    else:
        return None
    return int(EXACT.to_integral_value(EXACT.scaleb(amount, notional_scale)))


def unrealised_pnl(position: Position, mark_price: int) -> int:
    """At notional scale, against a mark at price_scale."""
    value = abs(position.quantity) * mark_price
    return value - position.cost if position.quantity >= 0 else position.cost - value


def divide_half_even(numerator: int, denominator: int) -> int:
    """numerator / denominator for a positive denominator, rounded half even."""
    assert denominator > 0
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2):
        quotient += 1
    return quotient


def _increase(
    position: Position, fill: Fill, quantity: int, fee_quote: int, fees: FeesByAsset, position_key: str
) -> Position:
    """The part of a fill that opens. Built in one go, by position: this is on the path of every order."""
    notional = fill.price * quantity
    held = position.quantity + (quantity if fill.side is Side.BUY else -quantity)
    episode = position.episode
    if episode is None:
        episode = Episode(_position_id(position_key, fill), fill.side, fill.ts_ns, 0, 0, 0, 0, 0, 0, 0, ())
    grown = Episode(
        episode.position_id,
        episode.side,
        episode.opened_ns,
        max(episode.max_quantity, abs(held)),
        episode.entry_quantity + quantity,
        episode.entry_notional + notional,
        episode.exit_quantity,
        episode.exit_notional,
        episode.realised_pnl,
        episode.fees + fee_quote,
        _with_order(episode.client_order_ids, fill.client_order_id),
    )
    return Position(
        held,
        position.cost + notional,
        position.realised_pnl,
        position.fees + fee_quote,
        fill.ts_ns,
        grown,
        fees[0],
        fees[1],
    )


def _reduce(
    position: Position, fill: Fill, quantity: int, fee_quote: int, fees: FeesByAsset
) -> tuple[Position, ClosedPosition | None]:
    """The part of a fill that closes."""
    held = abs(position.quantity)
    episode = position.episode
    assert episode is not None
    assert quantity <= held
    is_flat = quantity == held
    cost_share = position.cost if is_flat else divide_half_even(position.cost * quantity, held)
    notional = fill.price * quantity
    realised = notional - cost_share if position.quantity > 0 else cost_share - notional
    shrunk = Episode(
        episode.position_id,
        episode.side,
        episode.opened_ns,
        episode.max_quantity,
        episode.entry_quantity,
        episode.entry_notional,
        episode.exit_quantity + quantity,
        episode.exit_notional + notional,
        episode.realised_pnl + realised,
        episode.fees + fee_quote,
        _with_order(episode.client_order_ids, fill.client_order_id),
    )
    reduced = Position(
        position.quantity + (quantity if fill.side is Side.BUY else -quantity),
        position.cost - cost_share,
        position.realised_pnl + realised,
        position.fees + fee_quote,
        fill.ts_ns,
        None if is_flat else shrunk,
        fees[0],
        fees[1],
    )
    return reduced, _closed(shrunk, fill.ts_ns) if is_flat else None


def _closed(episode: Episode, closed_ns: int) -> ClosedPosition:
    return ClosedPosition(
        position_id=episode.position_id,
        side=episode.side,
        max_quantity=episode.max_quantity,
        entry_average_price=divide_half_even(episode.entry_notional, episode.entry_quantity),
        exit_average_price=divide_half_even(episode.exit_notional, episode.exit_quantity),
        realised_pnl=episode.realised_pnl,
        fees=episode.fees,
        opened_ns=episode.opened_ns,
        closed_ns=closed_ns,
        client_order_ids=episode.client_order_ids,
    )


def _with_order(named: tuple[str, ...], client_order_id: str) -> tuple[str, ...]:
    # An order's fills mostly come one after the other.
    if named and named[-1] == client_order_id:
        return named
    if client_order_id in named:
        return named
    if len(named) == ORDERS_NAMED_PER_EPISODE:
        named = (named[0], *named[2:])
    return (*named, client_order_id)


def _fees_after(position: Position, fill: Fill) -> FeesByAsset:
    """A fee too small to be worth one unit of notional counts as unvalued too: nothing is lost, it is valued later."""
    return (
        _added(position.fees_by_asset, fill),
        position.unvalued_fees if fill.fee_quote else _added(position.unvalued_fees, fill),
    )


def _added(fees: Mapping[str, Decimal], fill: Fill) -> Mapping[str, Decimal]:
    return {**fees, fill.fee_asset: EXACT.add(fees.get(fill.fee_asset, NO_FEE), fill.fee)}


def _position_id(position_key: str, fill: Fill) -> str:
    opening = f"{position_key}\x00{fill.client_order_id}\x00{fill.trade_id}"
    return "pos-" + hashlib.sha256(b"veloz/position-id/v1\x00" + opening.encode()).hexdigest()[:26]
