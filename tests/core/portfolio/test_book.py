"""Fills in both books.

Invariants: an account's quantity, fees and cash are the sums of its strategies'; at every step cash + position x mark =
realised + unrealised, for each book and any mark; cutting a fill in two changes quantity, cost and cash not at all, and
realised PnL by no more than the half unit by which each partial reduction rounds its share of the cost.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.enums import LiquiditySide, OrderSide
from nautilus_trader.model.enums import OrderType as NautilusOrderType
from nautilus_trader.model.events import OrderFilled as NautilusFilled
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientOrderId,
    PositionId,
    StrategyId,
    TradeId,
    TraderId,
    VenueOrderId,
)
from nautilus_trader.model.objects import Currency, Money, Price, Quantity
from nautilus_trader.model.position import Position as NautilusPosition
from nautilus_trader.test_kit.providers import TestInstrumentProvider

from core.portfolio.book import amounts_by_asset, book_fill, cash_flow, disagreements, fill_of
from core.portfolio.positions import ORDERS_NAMED_PER_EPISODE, Fill, Position, apply_fill, fee_in_quote, unrealised_pnl
from core.types.events import OrderFilled
from core.types.orders import OrderStatus, Side
from tests.core.portfolio.support import VENUE, books, fill

KEY = ("acct", VENUE, "BTCUSDT")
D = Decimal

sides = st.sampled_from(Side)
quantities = st.integers(1, 10**9)
prices = st.integers(1, 10**9)
fills = st.lists(st.builds(fill, sides, quantities, prices, st.integers(1, 50), st.sampled_from(("0", "0.1", "1.7"))))
strategy_fills = st.lists(
    st.tuples(st.just(KEY), st.sampled_from(("", "grid", "trend")), st.builds(fill, sides, quantities, prices))
)


@settings(deadline=None)
@given(strategy_fills, prices)
def test_strategies_add_up_to_the_account(items: list[tuple[tuple[str, str, str], str, Fill]], mark: int) -> None:
    positions, strategies = books(*items)
    assert disagreements(positions, strategies) == ()
    whole = positions.get(KEY, Position())
    assert sum(own.quantity for own in strategies.values()) == whole.quantity
    assert sum(own.realised_pnl + unrealised_pnl(own, mark) for own in strategies.values()) == (
        whole.realised_pnl + unrealised_pnl(whole, mark)
    )


def test_a_missing_strategy_fill_is_noticed() -> None:
    positions, strategies = books((KEY, "grid", fill(Side.BUY, 5, 100)), (KEY, "", fill(Side.BUY, 5, 100)))
    del strategies[(*KEY, "grid")]
    assert disagreements(positions, strategies) == (KEY,)
    assert disagreements({}, strategies) == (KEY,)


@settings(deadline=None)
@given(fills, prices)
def test_cash_and_position_are_worth_what_was_realised_and_is_not_yet(items: list[Fill], mark: int) -> None:
    position, cash = Position(), 0
    for item in items:
        position, _ = apply_fill(position, item, "k")
        cash += -item.price * item.quantity if item.side is Side.BUY else item.price * item.quantity
        assert cash_flow(position) == cash
        assert cash + position.quantity * mark == position.realised_pnl + unrealised_pnl(position, mark)
        if not position.quantity:
            assert position.realised_pnl == cash


@settings(deadline=None)
@given(fills, sides, st.integers(2, 10**9), prices, st.data())
def test_a_fill_cut_in_two_changes_nothing_but_the_rounding_of_a_share(
    items: list[Fill], side: Side, quantity: int, price: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, quantity - 1))
    before = Position()
    for item in items:
        before, _ = apply_fill(before, item, "k")
    whole, _ = apply_fill(before, fill(side, quantity, price), "k")
    half, _ = apply_fill(before, fill(side, first, price), "k")
    cut, _ = apply_fill(half, fill(side, quantity - first, price), "k")
    assert (cut.quantity, cash_flow(cut)) == (whole.quantity, cash_flow(whole))
    assert abs(cut.realised_pnl - whole.realised_pnl) <= 1
    if before.quantity * (1 if side is Side.BUY else -1) >= 0 or abs(before.quantity) <= quantity:
        assert (cut.cost, cut.realised_pnl) == (whole.cost, whole.realised_pnl)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("BNB", "USDT", "BTC")), st.integers(1, 10**6)), max_size=20))
def test_fees_are_kept_by_asset_and_their_unvalued_part_too(fees: list[tuple[str, int]]) -> None:
    position = Position()
    expected: dict[str, Decimal] = {}
    for number, (asset, units) in enumerate(fees):
        amount = Decimal(units).scaleb(-5)
        expected[asset] = expected.get(asset, D(0)) + amount
        side = Side.BUY if number % 3 else Side.SELL
        position, _ = apply_fill(position, fill(side, 7, 100, number, str(amount), asset), "k")
    assert position.fees_by_asset == expected
    assert position.unvalued_fees == {asset: amount for asset, amount in expected.items() if asset != "USDT"}
    assert position.fees == int(expected.get("USDT", D(0)).scaleb(7))


def test_a_fill_that_crosses_zero_has_its_fee_counted_once() -> None:
    position, _ = apply_fill(Position(), fill(Side.BUY, 1, 100), "k")
    one_unit = Fill("o2", 2, Side.SELL, 100, 1_000_000, 1, 2, D("0.0000001"), "USDT")
    position, closed = apply_fill(position, one_unit, "k")
    assert closed is not None
    assert (position.fees, dict(position.fees_by_asset), position.unvalued_fees) == (1, {"USDT": D("0.0000001")}, {})


@pytest.mark.parametrize(("rate", "expected"), [(None, None), (D(600), 6_000_000), (D("600.05"), 6_000_500)])
def test_a_third_asset_is_valued_at_the_fill_when_its_rate_is_known(rate: Decimal | None, expected: int | None) -> None:
    assert fee_in_quote(D("0.001"), "BNB", "BTC", "USDT", D(60_000), 7, rate) == expected


def test_an_event_s_fill_carries_its_commission() -> None:
    position, _ = apply_fill(Position(), fill(Side.BUY, 5, 100), "k")
    event = OrderFilled(
        ts_ns=9,
        account_id="acct",
        venue=VENUE,
        symbol="BTCUSDT",
        client_order_id="o1",
        venue_order_id="7",
        trade_id=3,
        side=Side.BUY,
        price=100,
        quantity=5,
        price_scale=2,
        quantity_scale=5,
        fee="0.0001",
        fee_asset="BNB",
        fee_quote=0,
        is_maker=True,
        venue_ts_ns=8,
        status=OrderStatus.FILLED,
        position=position.snapshot(),
    )
    booked = book_fill({}, {}, KEY, "grid", fill_of(event))
    assert booked.position.unvalued_fees == {"BNB": D("0.0001")}
    assert booked.position.snapshot() == event.position
    assert booked.strategy_key == (*KEY, "grid")
    assert booked.strategy_position.updated_ns == 8


def test_a_position_survives_both_encodings() -> None:
    position, _ = apply_fill(Position(), fill(Side.BUY, 5, 100, 1, "0.1", "BNB"), "k")
    assert msgspec.json.decode(msgspec.json.encode(position), type=Position) == position
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(position), type=Position) == position


def test_a_position_of_an_earlier_release_has_no_fees_by_asset() -> None:
    old = b'{"quantity":5,"cost":500,"realised_pnl":0,"fees":3,"updated_ns":1,"episode":null}'
    position = msgspec.json.decode(old, type=Position)
    assert (position.fees, position.fees_by_asset, position.unvalued_fees) == (3, {}, {})


def test_an_endless_position_names_its_first_order_and_the_newest() -> None:
    position = Position()
    for number in range(3 * ORDERS_NAMED_PER_EPISODE):
        position, _ = apply_fill(position, fill(Side.BUY, 1, 100, number), "k")
    assert position.episode is not None
    named = position.episode.client_order_ids
    assert len(named) == ORDERS_NAMED_PER_EPISODE
    assert named[0] == "o0"
    assert named[-1] == f"o{3 * ORDERS_NAMED_PER_EPISODE - 1}"


def test_amounts_add_up_by_asset() -> None:
    total = amounts_by_asset([{"BNB": D("0.1"), "USDT": D(1)}, {"BNB": D("0.2")}])
    assert total == {"BNB": D("0.3"), "USDT": D(1)}


BTCUSDT_PERP = TestInstrumentProvider.btcusdt_perp_binance()
"""Another implementation's idea of a position, on a contract with a price of 1 and a quantity of 3 decimals."""


def nautilus_fill(side: Side, quantity: int, price: int, number: int) -> NautilusFilled:
    return NautilusFilled(
        TraderId("TESTER-000"),
        StrategyId("S-001"),
        BTCUSDT_PERP.id,
        ClientOrderId(f"O-{number}"),
        VenueOrderId(str(number)),
        AccountId("BINANCE-1"),
        TradeId(str(number)),
        PositionId("P-1"),
        OrderSide.BUY if side is Side.BUY else OrderSide.SELL,
        NautilusOrderType.MARKET,
        Quantity.from_str(str(Decimal(quantity).scaleb(-3))),
        Price.from_str(str(Decimal(price).scaleb(-1))),
        Currency.from_str("USDT"),
        Money(0, Currency.from_str("USDT")),
        LiquiditySide.TAKER,
        UUID4(),
        number,
        number,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sides, st.integers(1, 5_000), st.integers(200_000, 900_000)), min_size=1, max_size=25))
def test_quantity_average_price_and_pnl_agree_with_another_implementation(
    items: list[tuple[Side, int, int]],
) -> None:
    """Each partial reduction rounds its share of the cost by half a unit (0.0001) at most; the other one computes in
    binary floating point, which at these sizes is off by less than 0.0005."""
    position, other = Position(), None
    for number, (side, quantity, price) in enumerate(items, 1):
        position, _ = apply_fill(position, Fill(f"O-{number}", number, side, price, quantity, 0, number), "k")
        event = nautilus_fill(side, quantity, price, number)
        if other is None:
            other = NautilusPosition(BTCUSDT_PERP, event)
            realised_before = D(0)
        elif other.is_closed:
            realised_before += other.realized_pnl.as_decimal()
            other = NautilusPosition(BTCUSDT_PERP, event)
        else:
            crossing = quantity > abs(other.signed_decimal_qty() * 1000) and (other.side.name == "LONG") != (
                side is Side.BUY
            )
            if crossing:
                held = int(abs(other.signed_decimal_qty()) * 1000)
                other.apply(nautilus_fill(side, held, price, number))
                realised_before += other.realized_pnl.as_decimal()
                other = NautilusPosition(BTCUSDT_PERP, nautilus_fill(side, quantity - held, price, number + 1_000))
            else:
                other.apply(event)
        assert Decimal(position.quantity).scaleb(-3) == other.signed_decimal_qty()
        tolerance = number * D("0.00005") + D("0.0005")
        realised = Decimal(position.realised_pnl).scaleb(-4)
        assert abs(realised - realised_before - other.realized_pnl.as_decimal()) <= tolerance
        if position.quantity:
            cost = Decimal(str(other.avg_px_open)) * abs(other.signed_decimal_qty())
            assert abs(Decimal(position.cost).scaleb(-4) - cost) <= tolerance
            mark = Price.from_str("55555.5")
            unrealised = Decimal(unrealised_pnl(position, 555_555)).scaleb(-4)
            assert abs(unrealised - other.unrealized_pnl(mark).as_decimal()) <= tolerance
