"""Stops, take-profits and trailing stops: when they trigger, what they become, what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.types.orders import Side
from core.venues.paper.errors import VenueError
from core.venues.paper.usdm.orders import Algo, AlgoStatus, PositionSide, Status, TimeInForce, Type, WorkingType
from tests.core.venues.paper.support import d
from tests.core.venues.paper.usdm.support import SYMBOL, Bench

BUY, SELL = Side.BUY, Side.SELL


def place(bench: Bench, side: Side, kind: Type, trigger: str = "", quantity: str = "0.1", **terms: Any) -> Algo:
    given = bench.terms(side, quantity, order_type=kind, trigger_price=d(trigger) if trigger else 0, **terms)
    return bench.account.place_algo(given)


def state(algo: Algo) -> AlgoStatus:
    return algo.status


@pytest.mark.parametrize(
    ("side", "kind", "trigger", "quiet", "loud"),
    [
        (SELL, Type.STOP_MARKET, "59500", ("59500.1", "59500.2"), ("59500", "59500.1")),
        (BUY, Type.STOP_MARKET, "60500", ("60499.9", "60500.1"), ("60500", "60500.1")),
        (SELL, Type.TAKE_PROFIT_MARKET, "60500", ("60499.9", "60500"), ("60500", "60500.1")),
        (BUY, Type.TAKE_PROFIT_MARKET, "59500", ("59500.1", "59500.2"), ("59500", "59500.1")),
    ],
)
def test_a_conditional_order_triggers_at_its_price_and_not_before(
    bench: Bench, side: Side, kind: Type, trigger: str, quiet: tuple[str, str], loud: tuple[str, str]
) -> None:
    bench.quote("60000", "60000.1")
    algo = place(bench, side, kind, trigger)
    bench.quote(*quiet)
    assert state(algo) is AlgoStatus.NEW
    bench.quote(*loud)
    assert state(algo) is AlgoStatus.FINISHED
    order = bench.account.order(SYMBOL, algo.order_id, None)
    assert (order.status, order.order_type, order.original_type) == (Status.FILLED, Type.MARKET, kind)
    assert order.client_id == algo.client_id
    states = [message["o"]["X"] for message in bench.messages() if message["e"] == "ALGO_UPDATE"]
    assert states == ["NEW", "TRIGGERING", "TRIGGERED", "FINISHED"]


def test_the_working_type_says_which_price_triggers(bench: Bench) -> None:
    bench.quote("60000", "60000.1")
    algo = place(bench, SELL, Type.STOP_MARKET, "59500", working_type=WorkingType.MARK_PRICE)
    bench.quote("59499", "59600")
    # The last trade is below the trigger, the mark (the median of middle, middle, last trade) is not.
    assert state(algo) is AlgoStatus.NEW
    bench.quote("59400", "59400.1")
    assert state(algo) is AlgoStatus.FINISHED


def test_a_stop_limit_rests_at_its_price_after_it_triggered(bench: Bench) -> None:
    bench.quote("60000", "60000.1")
    algo = place(bench, BUY, Type.STOP, "60500", price="60400")
    bench.quote("60500", "60500.1")
    assert state(algo) is AlgoStatus.TRIGGERED
    (order,) = bench.account.open_orders(SYMBOL)
    assert (order.price, order.order_type) == (d("60400"), Type.LIMIT)
    bench.account.cancel(SYMBOL, order.order_id, None)
    assert state(algo) is AlgoStatus.FINISHED


def test_a_trailing_stop_follows_the_best_price_from_its_activation(bench: Bench) -> None:
    bench.quote("60000", "60000.1")
    algo = place(bench, SELL, Type.TRAILING_STOP_MARKET, activate_price=d("61000"), callback_rate=d("1"))
    bench.quote("60500", "60500.1")
    bench.quote("59000", "59000.1")
    assert (algo.status, algo.peak) == (AlgoStatus.NEW, 0)
    bench.quote("61000", "61000.1")
    bench.quote("62000", "62000.1")
    bench.quote("61380.1", "61380.2")
    assert (algo.status, algo.peak) == (AlgoStatus.NEW, d("62000"))
    bench.quote("61380", "61380.1")  # 62000 less 1 %
    assert state(algo) is AlgoStatus.FINISHED


def test_close_position_closes_all_of_it_and_expires_without_one(bench: Bench) -> None:
    bench.quote("60000", "60000.1")
    bench.order(BUY, "0.7")
    first = place(bench, SELL, Type.STOP_MARKET, "59500", "", is_close_position=True)
    second = place(bench, SELL, Type.TAKE_PROFIT_MARKET, "60500", "", is_close_position=True)
    bound = place(bench, SELL, Type.STOP_MARKET, "59000", is_reduce_only=True, time_in_force=TimeInForce.GTE_GTC)
    bench.quote("59500", "59500.1")
    assert bench.ledger.position(SYMBOL, PositionSide.BOTH).amount == 0
    assert (first.status, bound.status) == (AlgoStatus.FINISHED, AlgoStatus.EXPIRED)
    bench.quote("60500", "60500.1")
    assert second.status is AlgoStatus.EXPIRED


def test_a_reduce_only_stop_without_a_position_is_rejected_with_the_reason(bench: Bench) -> None:
    bench.quote("60000", "60000.1")
    algo = place(bench, SELL, Type.STOP_MARKET, "59500", is_reduce_only=True)
    bench.quote("59500", "59500.1")
    assert (algo.status, algo.reason) == (AlgoStatus.REJECTED, "ReduceOnly Order is rejected.")


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"side": SELL, "kind": Type.STOP_MARKET, "trigger": "60001"}, -2021),
        ({"side": SELL, "kind": Type.TRAILING_STOP_MARKET, "callback_rate": d("25")}, -2007),
        ({"side": SELL, "kind": Type.STOP_MARKET, "trigger": "59500.05"}, -4014),
        ({"side": SELL, "kind": Type.STOP_MARKET, "trigger": "0"}, -4006),
        ({"side": SELL, "kind": Type.STOP, "trigger": "59500", "price": "59400.01"}, -4014),
    ],
)
def test_what_can_not_be_a_conditional_order_is_refused(bench: Bench, terms: dict[str, Any], code: int) -> None:
    bench.quote("60000", "60000.1")
    with pytest.raises(VenueError) as error:
        place(bench, **terms)
    assert error.value.code == code
    assert not bench.account.open_algos(None)


def test_a_restart_keeps_conditional_orders_waiting_and_working(tmp_path: Path) -> None:
    file = tmp_path / "usdm.sqlite3"
    first = Bench(file)
    first.quote("60000", "60000.1")
    waiting = place(first, SELL, Type.STOP_MARKET, "59500")
    working = place(first, BUY, Type.STOP, "60500", price="60400")
    first.quote("60500", "60500.1")
    assert working.status is AlgoStatus.TRIGGERED
    first.close()
    second = Bench(file)
    second.quote("60500", "60500.1")
    second.quote("59500", "59500.1")
    assert second.account.algo(waiting.algo_id, None).status is AlgoStatus.FINISHED
    assert second.account.algo(working.algo_id, None).status is AlgoStatus.FINISHED
    second.close()
