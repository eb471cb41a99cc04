"""The native order book against the Python one.

Invariant: after the same messages both answer every question alike, to the byte of their digest, whether the messages
come as Python objects or straight from frames: on random markets with many levels, and on the recordings.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import _native
from core.market import book as oracle
from core.types.market import DepthSnapshot, DepthUpdate, Level
from tests.core.native.frames import (
    SPOT_SCALES,
    SYMBOL,
    USDM_SCALES,
    decoded,
    decoded_snapshot,
    is_snapshot,
    recorded,
)
from tests.recordings import recordings_folder, spot_recordings

DIGEST_EVERY_MESSAGES = 100


def assert_equal(native: _native.OrderBook, plain: oracle.OrderBook, random: Random) -> None:
    assert native.canonical_bytes() == plain.canonical_bytes()
    assert native.digest() == plain.digest()
    assert native.last_update_id == plain.last_update_id
    assert (native.bid_floor, native.ask_ceiling) == (plain.bid_floor, plain.ask_ceiling)
    assert native.level_counts() == plain.level_counts()
    assert native.is_crossed() == plain.is_crossed()
    assert native.microprice() == plain.microprice()
    assert (native.best(), native.best_bid(), native.best_ask()) == (plain.best(), plain.best_bid(), plain.best_ask())
    for count in (0, 1, random.randint(2, 400)):
        assert native.top(count) == plain.top(count)
        assert [side.tolist() for side in native.top_arrays(count)] == [
            side.tolist() for side in plain.top_arrays(count)
        ]
        assert native.imbalance(count) == plain.imbalance(count)
    for is_buy in (True, False):
        quantity = random.choice((0, 1, random.randint(1, 10**6), 2**63 - 1))
        assert native.sweep(is_buy, quantity) == plain.sweep(is_buy, quantity)
        notional = random.choice((0, 1, random.randint(1, 10**10), 2**127 - 1))
        assert native.sweep_notional(is_buy, notional) == plain.sweep_notional(is_buy, notional)


def random_levels(random: Random, around: int, width: int, count: int) -> tuple[Level, ...]:
    levels = [
        (max(1, around + random.randint(0, width)), random.choice((0, 0, random.randint(1, 999)))) for _ in range(count)
    ]
    match random.randrange(4):
        case 0:
            levels.sort()
        case 1:
            levels.sort(reverse=True)
    return tuple(levels)


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_random_markets_leave_equal_books(seed: int) -> None:
    random = Random(seed)
    width = random.choice((3, 40, 1_000, 20_000))
    most = random.choice((1, 2, 70, 500, oracle.MAX_LEVELS_PER_SIDE))
    middle = random.choice((1, 10**6, 2**62))
    native, plain = _native.OrderBook(most), oracle.OrderBook(most)
    decoder = _native.DepthDecoder()
    decoder.add(SYMBOL, 0, 0)
    for number in range(1, random.choice((10, 70))):
        count = random.choice((0, 1, 5, 50, 600))
        bids = random_levels(random, middle - width, width, count)
        asks = random_levels(random, middle, width, count)
        if number % 30 == 1:
            snapshot = DepthSnapshot(SYMBOL, number, bids, asks, 0, 0, random.random() < 0.5)
            body = json.dumps({"lastUpdateId": number, "bids": texts(bids), "asks": texts(asks)}).encode()
            frame = decoder.decode_snapshot(body, SYMBOL, max(1, count + snapshot.is_complete), 0)
            plain.apply_snapshot(frame if random.random() < 0.2 else snapshot)
            if count:
                native.apply_snapshot(random.choice((snapshot, frame)))
            else:
                native.apply_snapshot(snapshot)
        else:
            update = DepthUpdate(SYMBOL, number, number, bids, asks, 0, 0)
            fields = {"e": "depthUpdate", "E": 0, "s": SYMBOL, "U": number, "u": number}
            message = decoder.decode(json.dumps({**fields, "b": texts(bids), "a": texts(asks)}).encode(), 0)
            assert message is not None
            plain.apply_update(update)
            native.apply_update(random.choice((update, message)))
        assert_equal(native, plain, random)


def texts(levels: tuple[Level, ...]) -> list[tuple[str, str]]:
    return [(str(price), str(quantity)) for price, quantity in levels]


def usdm_recordings() -> list[Path]:
    return [recordings_folder() / "usdm_btcusdt_20240808.gz"]


@pytest.mark.parametrize(
    ("files", "scales", "is_complete"),
    [
        (spot_recordings, SPOT_SCALES, False),
        (usdm_recordings, USDM_SCALES, True),
    ],
    ids=["spot, cut snapshot", "usdm, whole snapshot"],
)
def test_the_recordings_leave_equal_books(files, scales: tuple[int, int], is_complete: bool) -> None:  # type: ignore[no-untyped-def]
    """Every message is decoded by msgspec and parse_scaled too."""
    random = Random(1)
    native, plain = _native.OrderBook(), oracle.OrderBook()
    decoder = _native.DepthDecoder()
    decoder.add(SYMBOL, *scales)
    compared = levels = 0
    for number, raw in enumerate(recorded(files())):
        if is_snapshot(raw):
            snapshot = decoded_snapshot(raw, scales, is_complete)
            frame = decoder.decode_snapshot(raw, SYMBOL, 1_000 + is_complete, 0)
            assert (frame.is_complete, frame.last_update_id) == (is_complete, snapshot.last_update_id)
            assert (frame.bids, frame.asks) == (snapshot.bids, snapshot.asks)
            native.apply_snapshot(frame)
            plain.apply_snapshot(snapshot)
            continue
        message = decoder.decode(raw, 0)
        assert message is not None
        said = decoded(raw, scales)
        assert (message.bids, message.asks) == (said.bids, said.asks)
        assert (message.first_update_id, message.last_update_id) == (said.first_update_id, said.last_update_id)
        assert (message.previous_update_id, message.ts_event_ns) == (said.previous_update_id, said.ts_event_ns)
        levels += message.level_count
        native.apply_update(message)
        plain.apply_update(said)
        if number % DIGEST_EVERY_MESSAGES == 0:
            assert_equal(native, plain, random)
            compared += 1
        else:
            assert native.best() == plain.best()
    assert_equal(native, plain, random)
    assert compared > 50
    assert levels > 290_000
