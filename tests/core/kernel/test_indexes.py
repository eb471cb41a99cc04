"""Which final orders are let go of first, and what has expired, whatever became of it on the way."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.kernel.indexes import Expiring, OrderIndexes
from core.orders.machine import Order
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce

INTENT = OrderIntent("acct", "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 100, 6_000, 2, 5, "vz1")
CHANGES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.none() | st.sampled_from(OrderStatus), st.integers(0, 9)), max_size=40
)


def apply(index: OrderIndexes, orders: dict[str, Order], changes: list[Any]) -> list[tuple[str, Order | None]]:
    """What it takes to undo them."""
    undo = []
    for order_id, status, updated_ns in changes:
        old = orders.get(order_id)
        if old is None and status is None:
            continue
        intent = msgspec.structs.replace(INTENT, client_order_id=order_id)
        new = None if status is None else Order(intent, status, 0, updated_ns, None, None, "1")
        index.order_changed(order_id, old, new)
        undo.append((order_id, old))
        if new is None:
            del orders[order_id]
        else:
            orders[order_id] = new
    return undo


@given(CHANGES, CHANGES, st.integers(0, 6), st.integers(-1, 9))
def test_the_oldest_final_orders_are_those_that_sorting_all_of_them_gives(
    kept: list[Any], undone: list[Any], count: int, until_ns: int
) -> None:
    index, orders = OrderIndexes(), dict[str, Order]()
    apply(index, orders, kept)
    undo = apply(index, orders, undone)
    for order_id, old in reversed(undo):
        index.order_changed(order_id, orders.pop(order_id, None), old)
        if old is not None:
            orders[order_id] = old
    final = sorted((order.updated_ns, name) for name, order in orders.items() if order.status.is_final)
    assert set(index.final) == {name for _, name in final}
    found = index.oldest_final(count, orders, until_ns)
    assert len(found) == len(set(found))
    assert set(found) == {name for updated_ns, name in final[:count] if updated_ns <= until_ns}
    for name in found:
        index.keep_final(orders[name])
    assert sorted(index.oldest_final(10, orders, 9)) == sorted(name for _, name in final)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9)), max_size=30), st.integers(-1, 10))
def test_what_has_expired_is_what_a_look_at_all_of_it_gives_and_once(changes: list[Any], now_ns: int) -> None:
    expiring, table = Expiring(), dict[str, int]()
    for key, at_ns in changes:
        if at_ns is None:
            table.pop(key, None)
        else:
            table[key] = at_ns
            expiring.expires(key, at_ns)
    due = expiring.due(now_ns, table.get)
    assert sorted(due) == sorted(key for key, at_ns in table.items() if at_ns <= now_ns)
    for key in due:
        del table[key]
    assert expiring.due(now_ns, table.get) == []
    assert sorted(expiring.due(10, table.get)) == sorted(table)


def test_what_hasnt_expired_isnt_looked_at() -> None:
    expiring, table, looked = Expiring(), dict[str, int](), list[str]()

    def expires_ns_of(key: str) -> int | None:
        looked.append(key)
        return table.get(key)

    for number in range(1_000):
        table[f"d{number:03}"] = number
        expiring.expires(f"d{number:03}", number)
    assert expiring.due(2, expires_ns_of) == looked == ["d000", "d001", "d002"]
