"""Positions.

Invariants: what is realised when flat is what was received minus what was paid, exactly; quantity is the sum of fills;
cost is never negative and zero when flat; fees are the sum of fees.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.portfolio.positions import Fill, Position, apply_fill, divide_half_even, fee_in_quote, unrealised_pnl
from core.types.events import ClosedPosition
from core.types.orders import Side


def fill(side: Side, quantity: int, price: int, fee: int = 0, trade_id: int = 1, order: str = "o1") -> Fill:
    return Fill(order, trade_id, side, price, quantity, fee, trade_id)


def run(*fills: Fill) -> tuple[Position, list[ClosedPosition]]:
    position, closed = Position(), []
    for item in fills:
        position, ended = apply_fill(position, item, "acct/paper/BTCUSDT")
        closed += [ended] if ended else []
    return position, closed


def test_a_long_position_averages_its_entries_and_realises_on_exit() -> None:
    position, closed = run(
        fill(Side.BUY, 2, 100, fee=1, trade_id=1), fill(Side.BUY, 1, 103, fee=1, trade_id=2, order="o2")
    )
    assert (position.quantity, position.cost, position.average_price) == (3, 303, 101)
    assert closed == []
    assert unrealised_pnl(position, 110) == 27

    position, (ended,) = run(
        fill(Side.BUY, 2, 100, fee=1, trade_id=1),
        fill(Side.BUY, 1, 103, fee=1, trade_id=2, order="o2"),
        fill(Side.SELL, 3, 110, fee=2, trade_id=3, order="o3"),
    )
    assert position.snapshot().quantity == 0
    assert position.average_price == 0
    assert (position.realised_pnl, position.fees) == (27, 4)
    assert (ended.realised_pnl, ended.fees, ended.max_quantity, ended.side) == (27, 4, 3, Side.BUY)
    assert (ended.entry_average_price, ended.exit_average_price) == (101, 110)
    assert (ended.opened_ns, ended.closed_ns) == (1, 3)
    assert ended.client_order_ids == ("o1", "o2", "o3")


def test_a_short_position_realises_when_bought_back() -> None:
    position, (ended,) = run(fill(Side.SELL, 5, 100, trade_id=1), fill(Side.BUY, 5, 90, trade_id=2))
    assert position.realised_pnl == 50
    assert ended.side is Side.SELL


def test_a_fill_that_crosses_zero_closes_one_position_and_opens_the_next() -> None:
    position, (ended,) = run(fill(Side.BUY, 2, 100, trade_id=1), fill(Side.SELL, 5, 110, fee=10, trade_id=2))
    assert (ended.realised_pnl, ended.fees, ended.max_quantity) == (20, 4, 2)
    assert (position.quantity, position.cost, position.average_price) == (-3, 330, 110)
    assert position.episode is not None
    assert position.episode.side is Side.SELL
    assert position.episode.fees == 6
    assert position.episode.position_id != ended.position_id


def test_a_position_id_depends_on_what_opened_it_only() -> None:
    first, _ = run(fill(Side.BUY, 2, 100))
    second, _ = run(fill(Side.BUY, 2, 100), fill(Side.BUY, 1, 90, trade_id=2))
    assert first.episode is not None
    assert second.episode is not None
    assert first.episode.position_id == second.episode.position_id


fills = st.lists(
    st.builds(
        fill,
        st.sampled_from(Side),
        st.integers(1, 10**9),
        st.integers(1, 10**9),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None)
@given(fills)
def test_nothing_drifts_whatever_the_order_of_fills(items: list[Fill]) -> None:
    position, closed = run(*items)
    signed = [f.quantity if f.side is Side.BUY else -f.quantity for f in items]
    cash = -sum(quantity * f.price for quantity, f in zip(signed, items, strict=True))
    assert position.quantity == sum(signed)
    assert position.fees == sum(f.fee_quote for f in items)
    open_cost = position.cost if position.quantity >= 0 else -position.cost
    assert position.realised_pnl == cash + open_cost
    assert position.cost >= 0
    assert (position.cost == 0) == (position.quantity == 0)
    assert (position.episode is None) == (position.quantity == 0)
    open_fees = position.episode.fees if position.episode else 0
    assert sum(c.fees for c in closed) + open_fees == position.fees


@pytest.mark.parametrize(
    ("fee", "asset", "expected"),
    [
        ("0.00001", "BTC", 60_000_000),  # 0.00001 x 60000 = 0.6 at scale 8
        ("0.6", "USDT", 60_000_000),
        ("0.000000005", "USDT", 0),
        ("0.000000015", "USDT", 2),
        ("0", "BNB", 0),
        ("0.001", "BNB", None),
    ],
)
def test_a_fee_is_told_in_quote_where_the_fill_has_its_price(fee: str, asset: str, expected: int | None) -> None:
    assert fee_in_quote(Decimal(fee), asset, "BTC", "USDT", Decimal(60_000), 8) == expected


@pytest.mark.parametrize(("numerator", "expected"), [(5, 2), (7, 4), (6, 3), (-5, -2), (-7, -4), (0, 0)])
def test_division_rounds_half_even(numerator: int, expected: int) -> None:
    assert divide_half_even(numerator, 2) == expected
