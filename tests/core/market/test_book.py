"""The order books, native and oracle, against a model: two plain dicts, sorted anew for every question.

Invariants: the sides are sorted best first, hold no zero quantity, and equal the model after any updates; a sweep takes
exactly what it says; beyond the known range nothing is held; equal books have equal digests; a refused message changes
nothing. That both books are equal in everything else is tests/core/native's.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import _native
from core.market import book as oracle
from core.types.market import DepthSnapshot, DepthUpdate, Level

Book = oracle.OrderBook | _native.OrderBook
BOOKS = (oracle.OrderBook, _native.OrderBook)
both = pytest.mark.parametrize("make_book", BOOKS, ids=("oracle", "native"))
levels = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=12).map(tuple)


def snapshot(
    bids: tuple[Level, ...], asks: tuple[Level, ...], update_id: int = 1, is_complete: bool = True
) -> DepthSnapshot:
    return DepthSnapshot("X", update_id, bids, asks, 0, 0, is_complete)


def update(bids: tuple[Level, ...], asks: tuple[Level, ...], update_id: int = 2) -> DepthUpdate:
    return DepthUpdate("X", update_id, update_id, bids, asks, 0, 0)


@both
@given(levels, levels, st.lists(st.tuples(levels, levels), max_size=8))
@settings(max_examples=100, deadline=None)
def test_book_equals_two_plain_dicts_after_any_updates(
    make_book: type[Book],
    first_bids: tuple[Level, ...],
    first_asks: tuple[Level, ...],
    updates: list[tuple[tuple[Level, ...], tuple[Level, ...]]],
) -> None:
    book = make_book()
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
    assert book.level_counts() == (len(expected_bids), len(expected_asks))
    assert book.is_crossed() == bool(expected_bids and expected_asks and expected_bids[0][0] >= expected_asks[0][0])
    assert book.imbalance(3) == (sum(q for _, q in expected_bids[:3]), sum(q for _, q in expected_asks[:3]))
    twin = make_book()
    twin.apply_snapshot(snapshot(expected_bids, expected_asks, book.last_update_id))
    assert twin.digest() == book.digest()


@both
@given(levels, st.integers(0, 80), st.booleans())
@settings(max_examples=100, deadline=None)
def test_sweep_takes_units_one_by_one_from_the_best(
    make_book: type[Book], side_levels: tuple[Level, ...], quantity: int, is_buy: bool
) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(side_levels, side_levels))
    units = units_of(side_levels, is_buy)[:quantity]
    assert book.sweep(is_buy, quantity) == swept(units)


@both
@given(levels, st.integers(0, 2_500), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_sweep_by_notional_takes_units_while_the_next_one_can_be_paid(
    make_book: type[Book], side_levels: tuple[Level, ...], notional: int, is_buy: bool
) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(side_levels, side_levels))
    units = units_of(side_levels, is_buy)
    taken = next((n for n in range(len(units)) if sum(units[: n + 1]) > notional), len(units))
    assert book.sweep_notional(is_buy, notional) == swept(units[:taken])


def units_of(side_levels: tuple[Level, ...], is_buy: bool) -> list[int]:
    held = dict(side_levels)
    return [price for price in sorted(held, reverse=not is_buy) for _ in range(held[price])]


def swept(units: list[int]) -> tuple[int, int, int | None, int]:
    return len(units), sum(units), units[-1] if units else None, len(set(units))


@both
def test_sweeps_are_exact_beyond_64_bits(make_book: type[Book]) -> None:
    largest = 2**63 - 1
    book = make_book()
    book.apply_snapshot(snapshot((), ((largest - 1, largest), (largest, largest))))
    assert book.sweep(True, largest) == (largest, largest * (largest - 1), largest - 1, 1)
    spent = largest * (largest - 1) + 2 * largest
    assert book.sweep_notional(True, spent + 5) == (largest + 2, spent, largest, 2)
    assert book.sweep_notional(True, 2**127 - 1) == (2 * largest, largest * (2 * largest - 1), largest, 2)
    assert book.imbalance(2) == (0, 2 * largest)


@both
def test_digest_differs_when_one_quantity_or_the_update_id_differs(make_book: type[Book]) -> None:
    digests = set()
    for quantity, update_id in ((5, 1), (6, 1), (5, 2)):
        book = make_book()
        book.apply_snapshot(snapshot(((10, quantity),), ((11, 1),), update_id))
        digests.add(book.digest())
    assert len(digests) == 3


@both
def test_canonical_bytes_are_the_tag_the_update_id_and_the_levels(make_book: type[Book]) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(((9, 4), (10, 5)), ((11, 1),), 7))
    assert book.canonical_bytes() == oracle.DIGEST_TAG + struct.pack("<9q", 7, 2, 10, 5, 9, 4, 1, 11, 1)


@both
def test_best_needs_both_sides(make_book: type[Book]) -> None:
    book = make_book()
    assert (book.best(), book.best_bid(), book.best_ask(), book.last_update_id) == (None, None, None, 0)
    book.apply_snapshot(snapshot(((10, 5),), ()))
    assert (book.best(), book.best_bid(), book.best_ask()) == (None, (10, 5), None)
    book.apply_update(update((), ((11, 2),)))
    assert (book.best(), book.best_ask(), book.last_update_id) == ((10, 5, 11, 2), (11, 2), 2)


@both
def test_the_microprice_leans_to_the_side_that_is_thinner(make_book: type[Book]) -> None:
    book = make_book()
    assert book.microprice() is None
    book.apply_snapshot(snapshot(((100, 3),), ((110, 1),)))
    assert book.microprice() == (100 * 1 + 110 * 3, 4)
    largest = 2**63 - 1
    book.apply_snapshot(snapshot(((largest, largest),), ((largest, largest),)))
    assert book.microprice() == (2 * largest * largest, 2 * largest)


@both
def test_a_cut_snapshot_knows_nothing_beyond_its_last_levels(make_book: type[Book]) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(((10, 1), (8, 1)), ((12, 1), (14, 1)), is_complete=False))
    assert (book.bid_floor, book.ask_ceiling) == (8, 14)
    book.apply_update(update(((7, 5), (9, 5), (8, 0)), ((15, 5), (13, 5), (14, 0))))
    assert book.top(9) == (((10, 1), (9, 5)), ((12, 1), (13, 5)))
    assert (book.bid_floor, book.ask_ceiling) == (8, 14)
    book.apply_update(update(((8, 2), (7, 0)), ((14, 2), (15, 0))))
    assert book.top(9) == (((10, 1), (9, 5), (8, 2)), ((12, 1), (13, 5), (14, 2)))
    book.apply_snapshot(snapshot(((10, 1),), ((12, 1),)))
    assert (book.bid_floor, book.ask_ceiling) == (None, None)


@both
def test_a_side_that_a_cut_snapshot_shows_empty_is_known_to_be_empty(make_book: type[Book]) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(((10, 1),), (), is_complete=False))
    assert (book.bid_floor, book.ask_ceiling) == (10, None)


@both
def test_beyond_the_limit_the_farthest_levels_are_forgotten_and_no_longer_known(make_book: type[Book]) -> None:
    book = make_book(3)
    book.apply_snapshot(snapshot(((10, 1), (9, 1), (8, 1)), ((11, 1), (12, 1), (13, 1))))
    assert (book.bid_floor, book.ask_ceiling) == (None, None)
    book.apply_update(update(((7, 1), (9, 0), (6, 1)), ((14, 1), (11, 2))))
    assert book.top(10) == (((10, 1), (8, 1), (7, 1)), ((11, 2), (12, 1), (13, 1)))
    assert (book.bid_floor, book.ask_ceiling) == (7, 13)
    book.apply_update(update(((10, 0), (6, 1)), ((11, 0), (14, 1))))
    assert book.top(10) == (((8, 1), (7, 1)), ((12, 1), (13, 1)))


@both
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((0, 1), ValueError),
        ((-5, 1), ValueError),
        ((2**63, 1), ValueError),
        ((5, -1), ValueError),
        ((5, 2**63), ValueError),
        ((5.0, 1), TypeError),
        (("5", 1), TypeError),
        ((True, 1), TypeError),
        ((5, None), TypeError),
        ((5,), TypeError),
        ((5, 1, 1), TypeError),
        (5, TypeError),
    ],
)
def test_a_bad_level_is_refused_before_anything_changes(
    make_book: type[Book], bad: object, error: type[Exception]
) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(((10, 5),), ((11, 2),)))
    before = book.canonical_bytes()
    for bids, asks in ((((10, 7), bad), ()), (((10, 7),), ((12, 1), bad))):
        with pytest.raises(error):
            book.apply_update(update(bids, asks))  # type: ignore[arg-type]
        with pytest.raises(error):
            book.apply_snapshot(snapshot(bids, asks))  # type: ignore[arg-type]
    assert book.canonical_bytes() == before


@both
@pytest.mark.parametrize(("bad", "error"), [(-1, ValueError), (2**63, ValueError), (None, TypeError), (1.0, TypeError)])
def test_a_bad_update_id_is_refused_before_anything_changes(
    make_book: type[Book], bad: object, error: type[Exception]
) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(((10, 5),), ((11, 2),)))
    before = book.canonical_bytes()
    with pytest.raises(error):
        book.apply_update(update(((10, 7),), (), bad))  # type: ignore[arg-type]
    with pytest.raises(error):
        book.apply_snapshot(snapshot((), (), bad))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        book.apply_snapshot(snapshot((), (), 1, None))  # type: ignore[arg-type]
    assert book.canonical_bytes() == before


@both
def test_questions_that_make_no_sense_are_refused(make_book: type[Book]) -> None:
    book = make_book()
    for ask in (
        lambda: book.top(-1),
        lambda: book.top_arrays(-1),
        lambda: book.imbalance(-1),
        lambda: book.sweep(True, -1),
        lambda: book.sweep(True, 2**63),
        lambda: book.sweep_notional(True, -1),
        lambda: book.sweep_notional(True, 2**127),
        lambda: make_book(0),
    ):
        with pytest.raises(ValueError, match=r"must be|negative"):
            ask()


@both
def test_top_arrays_are_the_top_levels_unwritable_and_of_their_moment(make_book: type[Book]) -> None:
    book = make_book()
    book.apply_snapshot(snapshot(((10, 5), (9, 4)), ((11, 2),)))
    bids, asks = book.top_arrays(2)
    assert bids.dtype == np.int64
    assert (bids.shape, asks.shape) == ((2, 2), (1, 2))
    with pytest.raises(ValueError, match="read-only"):
        bids[0, 0] = 1
    book.apply_update(update(((10, 0),), ()))
    del book
    assert bids.tolist() == [[10, 5], [9, 4]]
    assert asks.tolist() == [[11, 2]]
    assert [side.shape for side in make_book().top_arrays(5)] == [(0, 2), (0, 2)]
