"""The order book against a model: two plain dicts, sorted anew for every question.

Invariants: the sides are sorted best first, hold no zero quantity, and equal the model after any updates; a sweep takes
exactly what it says; equal books have equal digests.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.market import book as book_module
from core.market.book import Best, OrderBook, Sweep
from core.types.market import DepthSnapshot, DepthUpdate, Level
from core.types.orders import Side

levels = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=12).map(tuple)


def snapshot(bids: tuple[Level, ...], asks: tuple[Level, ...], update_id: int = 1) -> DepthSnapshot:
    return DepthSnapshot("X", update_id, bids, asks, 0, 0)


def update(bids: tuple[Level, ...], asks: tuple[Level, ...], update_id: int = 2) -> DepthUpdate:
    return DepthUpdate("X", update_id, update_id, bids, asks, 0, 0)


@given(levels, levels, st.lists(st.tuples(levels, levels), max_size=8))
@settings(max_examples=150, deadline=None)
def test_book_equals_two_plain_dicts_after_any_updates(
    first_bids: tuple[Level, ...],
    first_asks: tuple[Level, ...],
    updates: list[tuple[tuple[Level, ...], tuple[Level, ...]]],
) -> None:
    book = OrderBook()
    book.apply_snapshot(snapshot(first_bids, first_asks))
    bids, asks = dict(first_bids), dict(first_asks)
    for number, (changed_bids, changed_asks) in enumerate(updates):
        book.apply_update(update(changed_bids, changed_asks, number + 2))
        bids.update(changed_bids)
        asks.update(changed_asks)
    expected_bids = tuple(sorted(((p, q) for p, q in bids.items() if q), reverse=True))
    expected_asks = tuple(sorted((p, q) for p, q in asks.items() if q))
    assert book.top(1_000) == (expected_bids, expected_asks)
    assert book.top(2) == (expected_bids[:2], expected_asks[:2])
    assert book.is_crossed() == bool(expected_bids and expected_asks and expected_bids[0][0] >= expected_asks[0][0])
    twin = OrderBook()
    twin.apply_snapshot(snapshot(expected_bids, expected_asks, book.last_update_id))
    assert twin.digest() == book.digest()


@given(levels, st.integers(1, 80), st.sampled_from(Side))
@settings(max_examples=150, deadline=None)
def test_sweep_takes_units_one_by_one_from_the_best(side_levels: tuple[Level, ...], quantity: int, side: Side) -> None:
    book = OrderBook()
    book.apply_snapshot(snapshot(side_levels, side_levels))
    held = dict(side_levels)
    units = [price for price in sorted(held, reverse=side is Side.SELL) for _ in range(held[price])][:quantity]
    expected = Sweep(len(units), sum(units), units[-1] if units else None, len(set(units)))
    assert book.sweep(side, quantity) == expected


def test_digest_differs_when_one_quantity_or_the_update_id_differs() -> None:
    digests = set()
    for quantity, update_id in ((5, 1), (6, 1), (5, 2)):
        book = OrderBook()
        book.apply_snapshot(snapshot(((10, quantity),), ((11, 1),), update_id))
        digests.add(book.digest())
    assert len(digests) == 3


def test_best_needs_both_sides() -> None:
    book = OrderBook()
    book.apply_snapshot(snapshot(((10, 5),), ()))
    assert book.best() is None
    book.apply_update(update((), ((11, 2),)))
    assert book.best() == Best(10, 5, 11, 2)


def test_the_levels_farthest_from_the_market_are_forgotten_beyond_the_limit(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(book_module, "MAX_LEVELS_PER_SIDE", 3)
    book = OrderBook()
    book.apply_snapshot(snapshot(((10, 1), (9, 1), (8, 1)), ((11, 1), (12, 1), (13, 1))))
    book.apply_update(update(((7, 1), (9, 0), (6, 1)), ((14, 1), (11, 2))))
    assert book.top(10) == (((10, 1), (8, 1), (7, 1)), ((11, 2), (12, 1), (13, 1)))
