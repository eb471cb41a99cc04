"""Random sessions of all order types, order lists and amendments against a random market.

Invariants, after each step:
- every asset's total (free + locked) changes by trades and fees only, and nothing is ever negative;
- locked is exactly the sum of what open orders hold; a limit order of its own holds price x remaining, or remaining;
- filled is never more than ordered, and only open orders are open;
- of a pair at most one leg trades, and while both are open they hold what the costlier one needs;
- an order that waits for another's fill holds nothing; a list is done exactly when none of its orders is open;
- a refused request changes nothing.
After the session: what storage keeps is what memory has, and a restart goes on from it.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types.orders import Side
from core.venues.paper.balances import Balances
from core.venues.paper.decimals import quote_amount
from core.venues.paper.errors import VenueError
from core.venues.paper.events import BookTicker, DepthDiff, Trade
from core.venues.paper.matching import Counters, Matching
from core.venues.paper.orders import (
    NO_LIST,
    Contingency,
    NewList,
    NewOrder,
    Order,
    Prevention,
    Report,
    Status,
    TimeInForce,
    Type,
)
from core.venues.paper.rules import RULES
from core.venues.paper.storage import Storage
from tests.core.venues.paper.support import d, start_book

S = "BTCUSDT"
START = {"USDT": d("10000"), "BTC": d("10")}

prices = st.integers(9_950, 10_050).map(lambda cents: cents * 10**6)
quantities = st.integers(1, 400_000).map(lambda steps: steps * 10**3)
sides = st.sampled_from(Side)
orders = st.fixed_dictionaries(
    {
        "side": sides,
        "type": st.sampled_from(Type),
        "force": st.sampled_from(TimeInForce),
        "price": prices,
        "stop": prices,
        "delta": st.sampled_from([0, 0, 10, 40]),
        "has_stop": st.booleans(),
        "quantity": quantities,
        "iceberg": st.sampled_from([0, 0, 2, 5]),
        "by_quote": st.booleans(),
        "prevention": st.sampled_from(Prevention),
    }
)
actions = st.one_of(
    st.tuples(st.just("place"), orders),
    st.tuples(st.just("place"), orders),
    st.tuples(st.just("oco"), st.tuples(sides, prices, prices, quantities, st.booleans())),
    st.tuples(st.just("oto"), st.tuples(orders, orders)),
    st.tuples(st.just("otoco"), st.tuples(orders, st.tuples(sides, prices, prices, quantities, st.booleans()))),
    st.tuples(st.just("cancel"), st.integers(0, 50)),
    st.tuples(st.just("amend"), st.tuples(st.integers(0, 50), st.integers(1, 9))),
    st.tuples(st.just("trade"), st.tuples(prices, quantities, st.booleans())),
    st.tuples(st.just("trade"), st.tuples(prices, quantities, st.booleans())),
    st.tuples(st.just("ticker"), st.tuples(prices, quantities, st.integers(1, 9), quantities)),
    st.tuples(st.just("depth"), st.tuples(st.booleans(), prices, st.one_of(st.just(0), quantities))),
)


def new_order(name: str, given_: dict[str, Any]) -> NewOrder:
    kind: Type = given_["type"]
    has_force = kind not in {Type.MARKET, Type.LIMIT_MAKER, Type.STOP_LOSS, Type.TAKE_PROFIT}
    force = given_["force"] if has_force else TimeInForce.GTC
    by_quote = kind is Type.MARKET and given_["by_quote"]
    can_hide = not kind.is_market and force is TimeInForce.GTC
    delta = given_["delta"] if kind.is_contingent else 0
    return NewOrder(
        symbol=S,
        side=given_["side"],
        order_type=kind,
        time_in_force=force,
        price=0 if kind.is_market else given_["price"],
        quantity=0 if by_quote else given_["quantity"],
        quote_quantity=quote_amount(given_["price"], given_["quantity"]) if by_quote else 0,
        client_order_id=name,
        stop_price=given_["stop"] if kind.is_contingent and (given_["has_stop"] or not delta) else 0,
        trailing_delta=delta,
        iceberg_quantity=given_["quantity"] // 1000 // given_["iceberg"] * 1000
        if can_hide and given_["iceberg"]
        else 0,
        self_trade_prevention=given_["prevention"],
    )


def pair(name: str, detail: tuple[Side, int, int, int, bool]) -> tuple[NewOrder, NewOrder]:
    side, one, other, quantity, has_limit = detail
    stop_type = Type.STOP_LOSS_LIMIT if has_limit else Type.STOP_LOSS
    force = TimeInForce.GTC
    maker_price, stop = (max(one, other), min(one, other)) if side is Side.SELL else (min(one, other), max(one, other))
    maker = NewOrder(S, side, Type.LIMIT_MAKER, force, maker_price, quantity, 0, f"{name}m")
    stop_price = stop - 10**6 if side is Side.SELL else stop + 10**6
    leg = NewOrder(S, side, stop_type, force, stop_price if has_limit else 0, quantity, 0, f"{name}s", stop)
    return (maker, leg) if side is Side.SELL else (leg, maker)


def step(core: Matching, number: int, kind: str, detail: Any) -> list[Report]:
    name = f"c{number}"
    if kind == "place":
        return core.place(new_order(name, detail), number)
    if kind == "oco":
        return core.place_list(NewList(Contingency.OCO, f"l{number}", pair(name, detail)), number)[1]
    if kind in {"oto", "otoco"}:
        first = new_order(f"{name}w", detail[0] | {"type": Type.LIMIT})
        rest = pair(name, detail[1]) if kind == "otoco" else (new_order(name, detail[1] | {"by_quote": False}),)
        return core.place_list(NewList(Contingency.OTO, f"l{number}", (first, *rest)), number)[1]
    open_orders = list(core.open.values())
    if kind == "cancel":
        return core.cancel(open_orders[detail % len(open_orders)], "x", number) if open_orders else []
    if kind == "amend":
        index, tenths = detail
        if not open_orders:
            return []
        one = open_orders[index % len(open_orders)]
        return core.amend(one, one.quantity * tenths // 10_000 * 1000, name, number)
    if kind == "trade":
        price, quantity, buyer_is_maker = detail
        return core.on_market(Trade(S, number, number, number, price, quantity, buyer_is_maker), number)
    view = core.views[S]
    last_id = max(view.book.last_id, view.ticker.update_id if view.ticker else 0)
    if kind == "ticker":
        bid, bid_quantity, spread, ask_quantity = detail
        return core.on_market(BookTicker(S, last_id + 1, bid, bid_quantity, bid + spread * 10**6, ask_quantity), number)
    is_bid, price, quantity = detail
    levels = ((price, quantity),)
    diff = DepthDiff(S, 1, view.book.last_id + 1, last_id + 1, levels if is_bid else (), () if is_bid else levels)
    return core.on_market(diff, number)


def state(core: Matching) -> Any:
    """All that a refusal must leave alone."""
    balances = {asset: (one.free, one.locked) for asset, one in core.balances.all().items()}
    return msgspec.json.encode([balances, list(core.open.values()), list(core.lists.values()), core.counters])


def check(core: Matching, latest: dict[int, Order], expected: dict[str, int]) -> None:
    held = {"USDT": 0, "BTC": 0}
    for one in core.open.values():
        assert one.locked >= 0
        held["USDT" if one.side is Side.BUY else "BTC"] += one.locked
        need = quote_amount(one.price, one.remaining) if one.side is Side.BUY else one.remaining
        if one.list_id == NO_LIST and not one.order_type.is_market:
            assert one.locked == need
        if one.status is Status.PENDING_NEW:
            assert one.locked == 0
    for asset, total in expected.items():
        balance = core.balances.of(asset)
        assert balance.free >= 0
        assert balance.locked == held[asset]
        assert balance.free + balance.locked == total
    assert all(0 <= one.executed <= one.quantity for one in latest.values())
    assert {one.order_id for one in latest.values() if one.status.is_open} == set(core.open)
    for listed in core.lists.values():
        legs = [latest[one] for one in (listed.order_ids if len(listed.order_ids) == 2 else listed.order_ids[1:])]
        assert any(one in core.open for one in listed.order_ids)
        if listed.contingency is Contingency.OCO or len(listed.order_ids) == 3:
            assert sum(leg.executed > 0 for leg in legs) <= 1
            both_open = all(leg.order_id in core.open and leg.status is not Status.PENDING_NEW for leg in legs)
            if both_open and legs[0].side is Side.SELL:
                assert sum(core.open[leg.order_id].locked for leg in legs) == legs[0].quantity


def session(core: Matching, steps: list[tuple[str, Any]], storage: Storage | None) -> dict[int, Order]:
    """Run the steps, hold every invariant after each; the newest state of each order."""
    expected = dict(START)
    latest: dict[int, Order] = {}
    for number, (kind, detail) in enumerate(steps, 1):
        before = state(core)
        try:
            reports = step(core, number, kind, detail)
        except VenueError:
            assert state(core) == before
            assert core.take_list_reports() == []
            continue
        for report in reports:
            latest[report.order.order_id] = report.order
            if report.fill:
                fill = report.fill
                sign = 1 if fill.side is Side.BUY else -1
                expected["BTC"] += sign * fill.quantity
                expected["USDT"] -= sign * fill.quote_quantity
                expected[fill.commission_asset] -= fill.commission
        check(core, latest, expected)
        lists, touched = core.take_list_reports(), core.take_touched()
        if storage is not None:
            storage.commit(reports, core.balances, core.counters, lists, touched)
        core.balances.changed.clear()
    return latest


@settings(max_examples=300, deadline=None)
@given(st.lists(actions, max_size=40))
def test_no_balance_is_made_or_lost_whatever_happens(steps: list[tuple[str, Any]]) -> None:
    core = Matching({S: RULES[S]}, Balances(START), Counters())
    core.views[S].load(start_book())
    session(core, steps, None)


@settings(max_examples=25, deadline=None)
@given(st.lists(actions, min_size=5, max_size=20))
def test_a_restart_goes_on_from_what_was_stored(steps: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        storage = Storage(Path(folder) / "venue.sqlite3", START)
        core = Matching({S: RULES[S]}, storage.load_balances(), Counters())
        core.views[S].load(start_book())
        latest = session(core, steps, storage)
        storage.close()
        check_restart(Path(folder) / "venue.sqlite3", core, latest)


def check_restart(file: Path, core: Matching, latest: dict[int, Order]) -> None:
    storage = Storage(file, START)
    again = Matching({S: RULES[S]}, storage.load_balances(), storage.load_counters())
    again.views[S].load(start_book())
    again.restore(storage.open_orders(), storage.open_lists())

    def stored(one: Order) -> Order:
        return msgspec.structs.replace(one, ahead=0, visible=0)

    assert [stored(one) for one in again.open.values()] == [stored(core.open[one]) for one in sorted(core.open)]
    assert again.lists == core.lists
    assert again.counters == core.counters
    assert {a: (b.free, b.locked) for a, b in again.balances.all().items()} == {
        a: (b.free, b.locked) for a, b in core.balances.all().items()
    }
    for report in again.on_market(Trade(S, 99, 99, 99, d("90"), d("1000"), buyer_is_maker=True), 99):
        latest[report.order.order_id] = report.order
    for report in again.on_market(Trade(S, 99, 99, 100, d("110"), d("1000"), buyer_is_maker=False), 100):
        latest[report.order.order_id] = report.order
    held = {"USDT": 0, "BTC": 0}
    for one in again.open.values():
        held["USDT" if one.side is Side.BUY else "BTC"] += one.locked
    assert held == {asset: again.balances.of(asset).locked for asset in held}
    assert {one.order_id for one in latest.values() if one.status.is_open} == set(again.open)
    storage.close()


def test_a_pairs_money_is_stored_as_it_is_after_an_amendment(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "venue.sqlite3", START)
    core = Matching({S: RULES[S]}, storage.load_balances(), Counters())
    core.views[S].load(start_book())
    steps: list[tuple[str, Any]] = [("oco", (Side.BUY, d("99"), d("101"), d("1"), False)), ("amend", (0, 2))]
    latest = session(core, steps, storage)
    assert [one.quantity for one in core.open.values()] == [d("0.2")] * 2
    storage.close()
    check_restart(tmp_path / "venue.sqlite3", core, latest)
