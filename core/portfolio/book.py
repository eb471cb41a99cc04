"""A fill in both of the books that it belongs to: the account's position and that of the strategy that asked for it.

An account's position and its strategies' positions net on their own, so their realised PnL differ where two strategies
stand against each other. What they always share, exactly: the strategies' quantities add up to the account's, and so
do fees and total PnL (realised + unrealised) at any mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from core.portfolio.exact import ZERO, exact
from core.portfolio.positions import Fill, Position, apply_fill
from core.types.events import ClosedPosition, OrderFilled

PositionKey = tuple[str, str, str]
"""account_id, venue, symbol"""
StrategyPositionKey = tuple[str, str, str, str]
"""account_id, venue, symbol, strategy_id (empty for a human's orders)"""

EMPTY = Position()


class BookedFill(msgspec.Struct, frozen=True):
    """Both positions after a fill; closed is the account's episode that it ended."""

    key: PositionKey
    position: Position
    closed: ClosedPosition | None
    strategy_key: StrategyPositionKey
    strategy_position: Position


def fill_of(event: OrderFilled) -> Fill:
    """A fill as positions see it, its commission with its asset."""
    return Fill(
        event.client_order_id,
        event.trade_id,
        event.side,
        event.price,
        event.quantity,
        event.fee_quote,
        event.venue_ts_ns,
        Decimal(event.fee),
        event.fee_asset,
    )


def book_fill(
    positions: Mapping[PositionKey, Position],
    strategy_positions: Mapping[StrategyPositionKey, Position],
    key: PositionKey,
    strategy_id: str,
    fill: Fill,
) -> BookedFill:
    """Both positions after the fill. Changes neither mapping: whoever keeps them stores what this returns."""
    strategy_key = (*key, strategy_id)
    position, closed = apply_fill(positions.get(key, EMPTY), fill, "/".join(key))
    own, _ = apply_fill(strategy_positions.get(strategy_key, EMPTY), fill, "/".join(strategy_key))
    return BookedFill(key, position, closed, strategy_key, own)


def cash_flow(position: Position) -> int:
    """What was received minus what was paid in the position's whole life, before fees, at notional scale."""
    return position.realised_pnl - (position.cost if position.quantity >= 0 else -position.cost)


def disagreements(
    positions: Mapping[PositionKey, Position], strategy_positions: Mapping[StrategyPositionKey, Position]
) -> tuple[PositionKey, ...]:
    """The keys where the strategies' quantities, fees and cash don't add up to the account's; empty when all is well.

    A position of a journal that an earlier release began has no strategies for its oldest fills until it is replayed.
    """
    sums: dict[PositionKey, tuple[int, int, int]] = {}
    for (account_id, venue, symbol, _), position in strategy_positions.items():
        key = (account_id, venue, symbol)
        quantity, fees, cash = sums.get(key, (0, 0, 0))
        sums[key] = (quantity + position.quantity, fees + position.fees, cash + cash_flow(position))
    return tuple(
        key
        for key in {**dict.fromkeys(positions), **dict.fromkeys(sums)}
        if sums.get(key, (0, 0, 0)) != _totals(positions.get(key, EMPTY))
    )


@exact
def amounts_by_asset(parts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """Sums of amounts by asset: fees of many positions, funding of many symbols."""
    total: dict[str, Decimal] = {}
    for part in parts:
        for asset, amount in part.items():
            total[asset] = total.get(asset, ZERO) + amount
    return total


def _totals(position: Position) -> tuple[int, int, int]:
    return position.quantity, position.fees, cash_flow(position)
