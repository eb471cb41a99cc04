"""The fill model `bars/1`, rule by rule, on bars whose outcome can be told in the head. Capital is 10,000."""

from __future__ import annotations

import msgspec
import pytest

from core.backtest.fills import affordable, fee_of, worse
from core.backtest.strategies import Wish
from core.types.orders import OrderStatus, Side
from tests.core.backtest.support import FREE, Candle, fills, flat, played, series

BUY, SELL = Wish(Side.BUY, 100), Wish(Side.SELL)
"""100 bps of 10,000 are 100: one coin at 100."""


def bid(price: int, **more: int) -> Wish:
    return Wish(Side.BUY, 100, limit_price=price, **more)


def guarded(stop_loss_bps: int | None = None, take_profit_bps: int | None = None, **more: int) -> Wish:
    return Wish(Side.BUY, 100, stop_loss_bps=stop_loss_bps, take_profit_bps=take_profit_bps, **more)


CASES: dict[str, tuple[list[Candle], dict[int, Wish], list[tuple[str, int, int]]]] = {
    "a market order fills at the next bar's open": (
        [*flat(100, 1), (97, 120, 90, 110)],
        {0: BUY},
        [("BUY", 97, 1)],
    ),
    "nothing fills in the bar that was decided on": ([(100, 200, 50, 100)], {0: BUY}, []),
    "a limit that is only touched doesn't fill": ([*flat(100, 1), (100, 100, 95, 100)], {0: bid(95)}, []),
    "a limit that is traded through fills at its price": (
        [*flat(100, 1), (100, 100, 94, 100)],
        {0: bid(95)},
        [("BUY", 95, 1)],
    ),
    "a bar that opens beyond a limit gives no better price": (
        [*flat(100, 1), (90, 92, 88, 91)],
        {0: bid(95)},
        [("BUY", 95, 1)],
    ),
    "a limit ends when its bars are over": (
        [*flat(100, 2), (100, 100, 94, 100)],
        {0: bid(95)},
        [],
    ),
    "a limit good for two bars is there in the second": (
        [*flat(100, 2), (100, 100, 94, 100)],
        {0: bid(95, good_for_bars=2)},
        [("BUY", 95, 1)],
    ),
    "a stop fills at its price": (
        [*flat(100, 2), (100, 100, 80, 85)],
        {0: guarded(stop_loss_bps=1_000)},
        [("BUY", 100, 1), ("SELL", 90, 1)],
    ),
    "a bar that opens below a stop fills it at the open": (
        [*flat(100, 2), (70, 75, 60, 65)],
        {0: guarded(stop_loss_bps=1_000)},
        [("BUY", 100, 1), ("SELL", 70, 1)],
    ),
    "a stop that isn't reached stays": (
        [*flat(100, 2), (100, 100, 91, 95)],
        {0: guarded(stop_loss_bps=1_000)},
        [("BUY", 100, 1)],
    ),
    "a target fills when it is traded through": (
        [*flat(100, 2), (100, 105, 100, 102)],
        {0: guarded(take_profit_bps=400)},
        [("BUY", 100, 1), ("SELL", 104, 1)],
    ),
    "a target that is only touched doesn't fill": (
        [*flat(100, 2), (100, 104, 100, 102)],
        {0: guarded(take_profit_bps=400)},
        [("BUY", 100, 1)],
    ),
    "a target beyond the collar is sent when the market has come near": (
        [*flat(100, 2), (100, 120, 100, 107), (107, 112, 100, 107)],
        {0: guarded(take_profit_bps=1_000)},
        [("BUY", 100, 1), ("SELL", 110, 1)],
    ),
    "a bar that reaches both stops first": (
        [*flat(100, 2), (100, 150, 80, 120)],
        {0: guarded(1_000, 400)},
        [("BUY", 100, 1), ("SELL", 90, 1)],
    ),
    "an exit leaves nothing of the other one": (
        [*flat(100, 2), (100, 120, 100, 115), (115, 130, 50, 60)],
        {0: guarded(1_000, 400)},
        [("BUY", 100, 1), ("SELL", 104, 1)],
    ),
    "the bar of an entry at market can stop it out": (
        [*flat(100, 1), (100, 130, 80, 120)],
        {0: guarded(1_000, 400)},
        [("BUY", 100, 1), ("SELL", 90, 1)],
    ),
    "the bar of an entry at a limit can stop it out": (
        [*flat(100, 1), (100, 130, 80, 120)],
        {0: guarded(1_000, 400, limit_price=96)},
        [("BUY", 96, 1), ("SELL", 86, 1)],
    ),
    "the bar of an entry at a limit doesn't reach its target": (
        [*flat(100, 1), (100, 150, 95, 97), (97, 98, 97, 97), (97, 101, 97, 97)],
        {0: guarded(None, 400, limit_price=96)},
        [("BUY", 96, 1), ("SELL", 100, 1)],
    ),
    "a sale takes back the exits and closes all": (
        flat(100, 4),
        {0: guarded(1_000, 400), 2: SELL},
        [("BUY", 100, 1), ("SELL", 100, 1)],
    ),
    "a market order waits for the bar after a gap in the data": (
        [*flat(100, 1), *flat(50, 1), *flat(120, 1)],
        {0: BUY},
        [("BUY", 120, 1)],
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_bars_make_of_an_order(name: str) -> None:
    candles, wishes, expected = CASES[name]
    skip = (1,) if "gap in the data" in name else ()
    desk = played(series(candles, skip=skip), wishes)
    assert fills(desk) == expected
    assert desk.base == sum(quantity if side == "BUY" else -quantity for side, _, quantity in fills(desk))
    assert desk.position().quantity == desk.base


@pytest.mark.parametrize(("latency_ms", "price"), [(0, 101), (1, 102), (60_000, 102), (60_001, 103)], ids=str)
def test_an_order_fills_at_the_first_open_after_its_arrival(latency_ms: int, price: int) -> None:
    bars = series([(100 + number, 110, 90, 100 + number) for number in range(5)])
    desk = played(bars, {0: BUY}, msgspec.structs.replace(FREE, latency_ms=latency_ms))
    assert fills(desk) == [("BUY", price, 1)]


def test_slippage_makes_both_sides_worse_and_is_rounded_away() -> None:
    terms = msgspec.structs.replace(FREE, slippage_bps=150)
    desk = played(series(flat(100, 5)), {0: Wish(Side.BUY, 200), 2: SELL}, terms)
    assert fills(desk) == [("BUY", 102, 1), ("SELL", 98, 1)]


def test_a_bar_gives_no_more_than_its_share_and_the_rest_waits() -> None:
    candles: list[Candle] = [(10, 10, 10, 10, 1_000), (10, 10, 10, 10, 30), (10, 10, 10, 10, 0), (12, 12, 12, 12, 900)]
    terms = msgspec.structs.replace(FREE, max_volume_share_bps=1_000)
    desk = played(series(candles), {0: Wish(Side.BUY, 1_000)}, terms)
    assert fills(desk) == [("BUY", 10, 3), ("BUY", 12, 90)], "a tenth of 30, of nothing, of 900"


def test_what_the_account_cannot_pay_for_is_cut_off_and_ends() -> None:
    desk = played(series([*flat(100, 1), *flat(150, 2)]), {0: Wish(Side.BUY)})
    assert fills(desk) == [("BUY", 150, 66)], "100 were asked for at 100, 10,000 pay for 66 at 150"
    assert not desk.kernel.open_order_ids
    assert [order.status for order in desk.kernel.orders.values()] == [OrderStatus.EXPIRED]
    assert desk.quote == 100


def test_fees_are_taken_in_quote_and_rounded_up() -> None:
    terms = msgspec.structs.replace(FREE, taker_fee_bps=10, maker_fee_bps=1)
    bids = {0: Wish(Side.BUY, 5_000), 2: Wish(Side.BUY, 1_000, limit_price=96)}
    desk = played(series([*flat(100, 3), (100, 100, 95, 100)]), bids, terms)
    taken = [(fill.fee, fill.is_maker) for fill in desk.fills]
    assert taken == [("5", False), ("1", True)], "49 at 100: 4.9 at 10 bps; 5 at 96: 0.048 at 1 bp"
    assert desk.fees == 6


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((1_000, Side.BUY, 5, 1), 1_001),
        ((1_000, Side.SELL, 5, 1), 999),
        ((1_000, Side.BUY, 0, 1), 1_000),
        ((1_003, Side.BUY, 0, 5), 1_005),
        ((1_003, Side.SELL, 0, 5), 1_000),
        ((1, Side.SELL, 5_000, 1), 1),
    ],
    ids=str,
)
def test_a_worse_price_lies_away_from_the_side_that_takes_it(given: tuple[int, Side, int, int], expected: int) -> None:
    assert worse(*given) == expected


@pytest.mark.parametrize("quote", [0, 1, 99, 100, 101, 999, 1_001, 123_457])
@pytest.mark.parametrize("fee_bps", [0, 1, 10, 333])
def test_what_is_affordable_is_the_most_that_can_be_paid(quote: int, fee_bps: int) -> None:
    price, lot = 7, 3
    found = affordable(quote, price, fee_bps, lot)

    def cost(quantity: int) -> int:
        return price * quantity + fee_of(price * quantity, fee_bps)

    assert found % lot == 0
    assert cost(found) <= quote < cost(found + lot)
