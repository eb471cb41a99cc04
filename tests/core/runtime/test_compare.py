"""Where engine and venue differ, as a table: what each side holds, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.kernel import decide
from core.kernel.decide import FillReport
from core.kernel.inputs import MarginInputs
from core.kernel.kernel import Kernel
from core.runtime.reconcile import NOT_DRIFT, compare
from core.runtime.venue_truth import VenueTruth
from core.types.clock import NS_PER_S
from core.types.events import BalancesObserved, JournalEvent
from core.types.instruments import Product
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.venues.ports import VenueOrder, VenuePosition, VenueTrade
from tests.core.approvals import ACCOUNT, BTC, NOW_NS, decide_on, proposal, started_kernel, with_market

PERPETUAL = msgspec.structs.replace(BTC, product=Product.USDM)
LATER_NS = NOW_NS + 60 * NS_PER_S
VENUE_ORDER_ID = "9001"
INPUTS = msgspec.structs.replace(
    with_market(last_price="60000", mark_price="60000"), margin=MarginInputs(Decimal(1_000_000), {}, NOW_NS)
)
Events = Sequence[JournalEvent]


def kernel_with(status: str, *, perpetual: bool = False, age_ns: int = 60 * NS_PER_S) -> tuple[Kernel, str]:
    """One order of 0.1 BTC, of which half is filled where the status says so."""
    kernel = started_kernel(instruments=(PERPETUAL,) if perpetual else (BTC,))
    at_ns = LATER_NS - age_ns
    decided = decide_on(kernel, proposal(), inputs=INPUTS)
    assert decided.intent is not None
    order_id = decided.intent.client_order_id
    kernel.apply(msgspec.structs.replace(decided, ts_ns=at_ns))
    steps: dict[str, list[Callable[[], Events]]] = {
        "INTENDED": [],
        "UNKNOWN": [lambda: decide.decide_unknown(kernel, order_id, "no answer", at_ns)],
        "ACCEPTED": [lambda: decide.decide_accepted(kernel, order_id, VENUE_ORDER_ID, at_ns)],
        "HALF": [
            lambda: decide.decide_accepted(kernel, order_id, VENUE_ORDER_ID, at_ns),
            lambda: decide.decide_fill(kernel, report(order_id, 1, 5_000), at_ns),
        ],
        "FILLED": [
            lambda: decide.decide_accepted(kernel, order_id, VENUE_ORDER_ID, at_ns),
            lambda: decide.decide_fill(kernel, report(order_id, 1, 10_000), at_ns),
        ],
        "CANCELED": [
            lambda: decide.decide_accepted(kernel, order_id, VENUE_ORDER_ID, at_ns),
            lambda: decide.decide_closed(kernel, order_id, OrderStatus.CANCELED, "asked", at_ns),
        ],
    }
    for step in steps[status]:
        for event in step():
            kernel.apply(event)
    return kernel, order_id


def report(order_id: str, trade_id: int, quantity: int) -> FillReport:
    return FillReport(
        order_id, VENUE_ORDER_ID, trade_id, 6_000_000, quantity, Decimal(0), "USDT", is_maker=False, venue_ts_ns=NOW_NS
    )


def shown(order_id: str, **changes: Any) -> VenueOrder:
    terms: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "client_order_id": order_id,
        "venue_order_id": VENUE_ORDER_ID,
        "status": OrderStatus.ACCEPTED,
        "filled_quantity": 0,
        "ts_event_ns": NOW_NS,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "quantity": 10_000,
        "price": 6_000_000,
    }
    return VenueOrder(**(terms | changes))


def trade(order_id: str, trade_id: int) -> VenueTrade:
    return VenueTrade(
        "BTCUSDT", trade_id, VENUE_ORDER_ID, order_id, Side.BUY, 6_000_000, 5_000, Decimal(0), "USDT", False, NOW_NS
    )


def position(quantity: int) -> VenuePosition:
    return VenuePosition("BTCUSDT", quantity, Decimal(60_000), 20, NOW_NS)


def found(kernel: Kernel, **said: Any) -> list[str]:
    truth = VenueTruth(
        LATER_NS,
        said.get("orders", []),
        said.get("positions", []),
        dict(kernel.orders),
        dict(kernel.positions),
        said.get("trades", []),
        ("BTCUSDT",),
        said.get("balances", {}),
    )
    return [difference.kind for difference in compare(kernel, truth, ACCOUNT, "paper")]


@pytest.mark.parametrize(
    ("here", "age_s", "there", "kinds"),
    [
        ("ACCEPTED", 60, {}, []),
        ("ACCEPTED", 60, None, ["order.missing_at_venue"]),
        ("ACCEPTED", 60, {"filled_quantity": 5_000}, ["order.filled"]),
        ("ACCEPTED", 60, {"quantity": 8_000}, ["order.terms"]),
        ("HALF", 60, {"filled_quantity": 5_000}, []),
        ("HALF", 60, {}, ["order.filled"]),
        ("UNKNOWN", 60, None, ["order.unresolved"]),
        ("UNKNOWN", 60, {}, ["order.unresolved"]),
        ("INTENDED", 1, None, ["order.in_flight"]),
        ("INTENDED", 60, None, ["order.unresolved"]),
        ("FILLED", 60, None, []),
        ("CANCELED", 60, None, []),
        ("CANCELED", 60, {}, ["order.terms"]),
    ],
)
def test_one_order_on_both_sides(here: str, age_s: int, there: dict[str, Any] | None, kinds: list[str]) -> None:
    kernel, order_id = kernel_with(here, age_ns=age_s * NS_PER_S)
    orders = [] if there is None else [shown(order_id, **there)]
    assert found(kernel, orders=orders) == kinds


@pytest.mark.parametrize(
    ("here", "trade_id", "kinds"),
    [
        ("HALF", 1, []),
        ("HALF", 2, ["fill.missing"]),
        ("CANCELED", 1, ["fill.missing"]),
        ("UNKNOWN", 1, ["order.unresolved", "fill.missing"]),
    ],
)
def test_a_fill_of_an_order_that_is_known(here: str, trade_id: int, kinds: list[str]) -> None:
    kernel, order_id = kernel_with(here)
    orders = [shown(order_id, filled_quantity=5_000)] if here == "HALF" else []
    assert found(kernel, orders=orders, trades=[trade(order_id, trade_id)]) == kinds


def test_orders_and_fills_of_somebody_else() -> None:
    kernel, _ = kernel_with("FILLED")
    assert found(kernel, orders=[shown("by-hand")]) == ["order.unknown_here"]
    assert found(kernel, trades=[trade("by-hand", 7)]) == ["fill.missing"]
    assert found(kernel, trades=[trade("", 7)]) == ["fill.missing"]
    assert found(kernel, orders=[shown("elsewhere", symbol="XRPUSDT")]) == []


@pytest.mark.parametrize(
    ("there", "kinds"), [([10_000], []), ([5_000], ["position"]), ([-10_000], ["position"]), ([], ["position"])]
)
def test_a_derivatives_position_is_the_venues_also_when_it_shows_none(there: list[int], kinds: list[str]) -> None:
    kernel, _ = kernel_with("FILLED", perpetual=True)
    assert found(kernel, positions=[position(quantity) for quantity in there]) == kinds


def test_a_position_that_only_the_venue_has() -> None:
    kernel, _ = kernel_with("ACCEPTED", perpetual=True)
    orders = [shown(next(iter(kernel.orders)))]
    assert found(kernel, orders=orders, positions=[position(1)]) == ["position"]


def observed(kernel: Kernel, as_of_ns: int, **totals: str) -> None:
    kernel.apply(BalancesObserved(ts_ns=as_of_ns, account_id=ACCOUNT, venue="paper", totals=totals, as_of_ns=as_of_ns))


@pytest.mark.parametrize(
    ("here", "there", "told"),
    [
        ({"USDT": "100.5"}, {"USDT": "100.50"}, []),
        ({"USDT": "100"}, {"USDT": "100", "BNB": "0"}, []),
        ({"USDT": "100"}, {"USDT": "90"}, [("USDT", "100", "90")]),
        ({"USDT": "100"}, {"BTC": "1"}, [("BTC", "0", "1"), ("USDT", "100", "0")]),
    ],
)
def test_money_that_moved_without_an_order(
    here: dict[str, str], there: dict[str, str], told: list[tuple[str, str, str]]
) -> None:
    kernel = started_kernel()
    observed(kernel, LATER_NS, **here)
    balances = {asset: Decimal(amount) for asset, amount in there.items()}
    truth = VenueTruth(LATER_NS, [], [], {}, {}, [], ("BTCUSDT",), balances)
    differences = compare(kernel, truth, ACCOUNT, "paper")
    assert [(item.subject, item.engine, item.venue) for item in differences] == told
    assert {item.kind for item in differences} <= NOT_DRIFT


@pytest.mark.parametrize(("age_s", "kinds"), [(4, []), (5, ["balance"])])
def test_balances_are_compared_once_the_last_fill_is_surely_in_them(age_s: int, kinds: list[str]) -> None:
    kernel, _ = kernel_with("FILLED")
    observed(kernel, NOW_NS + age_s * NS_PER_S, USDT="100")
    assert found(kernel, balances={"USDT": Decimal(90)}) == kinds
    assert "balance" not in found(kernel, balances={"USDT": Decimal(90)}, trades=[trade("by-hand", 7)])


def test_on_a_margin_account_funding_moves_the_wallet() -> None:
    kernel = started_kernel(instruments=(PERPETUAL,))
    observed(kernel, LATER_NS, USDT="100")
    assert found(kernel, balances={"USDT": Decimal(90)}) == []


def test_on_spot_positions_are_sums_of_fills_and_the_venue_has_none() -> None:
    kernel, _ = kernel_with("FILLED")
    assert found(kernel, positions=[]) == []
