"""Positions, margin, funding and liquidation, each figure as computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.types.orders import Side
from core.venues.paper.errors import VenueError
from core.venues.paper.usdm.marks import EIGHT_HOURS_MS, FundingTerms
from core.venues.paper.usdm.orders import (
    MarginType,
    PositionSide,
    PriceMatch,
    SelfTrade,
    Status,
    TimeInForce,
    Type,
)
from tests.core.venues.paper.support import d
from tests.core.venues.paper.usdm.support import SYMBOL, Bench, ticker, trade

BOTH = PositionSide.BOTH
BUY, SELL = Side.BUY, Side.SELL


def refusal(call: Any) -> tuple[int, str]:
    with pytest.raises(VenueError) as error:
        call()
    return error.value.code, error.value.message


def test_a_long_opened_and_closed_pays_profit_and_fees_to_the_last_digit(bench: Bench) -> None:
    order = bench.order(BUY, "1")
    position = bench.ledger.position(SYMBOL, BOTH)
    assert (order.status, position.amount, position.cost) == (Status.FILLED, d("1"), d("60000.1"))
    assert bench.ledger.entry_price(position) == d("60000.1")
    fee = d("30.00005")  # 60000.1 * 0.05 %
    assert bench.ledger.state.wallet == d("100000") - fee
    margin = bench.ledger.margin((SYMBOL, BOTH))
    # The mark is the middle, 60000.05, at leverage 20 and 0.4 % maintenance.
    assert (margin.notional, margin.unrealised) == (d("60000.05"), -d("0.05"))
    assert (margin.position_initial, margin.maintenance) == (d("3000.0025"), d("240.0002"))
    assert bench.ledger.available() == d("100000") - fee - d("0.05") - d("3000.0025")
    bench.quote("61000", "61000.1")
    bench.order(SELL, "0.4")
    assert (position.amount, position.cost) == (d("0.6"), d("36000.06"))
    assert bench.ledger.state.realised == d("399.96")  # 0.4 * (61000 - 60000.1)
    bench.order(SELL, "0.6")
    assert (position.amount, position.cost, position.carried) == (0, 0, 0)
    assert bench.ledger.state.realised == d("999.9")
    assert bench.ledger.state.fees == fee + d("30.5")
    assert bench.ledger.state.wallet == d("100000") + d("999.9") - fee - d("30.5")


def test_an_order_through_zero_turns_the_position_round(bench: Bench) -> None:
    bench.order(BUY, "1")
    bench.order(SELL, "1.5")
    position = bench.ledger.position(SYMBOL, BOTH)
    assert (position.amount, position.cost) == (-d("0.5"), -d("30000"))
    assert bench.ledger.state.realised == -d("0.1")
    bench.quote("59000", "59000.1")
    assert bench.ledger.unrealised(position) == d("500") - d("0.5") * d("0.05") // d("1")


def test_a_resting_order_fills_as_maker_behind_the_displayed_quantity(bench: Bench) -> None:
    order = bench.order(BUY, "1", "60000")
    assert order.ahead == d("2")
    bench.exchange.on_market(trade("60000", "2.5", trade_id=1, is_sell=True))
    assert (order.executed, order.status) == (d("0.5"), Status.PARTIALLY_FILLED)
    bench.exchange.on_market(trade("59999.9", "1", trade_id=2, is_sell=True))
    assert order.status is Status.FILLED
    # 60000 * 0.02 %
    assert bench.ledger.state.fees == d("12")


def test_open_orders_need_margin_for_the_worse_of_both_sides(bench: Bench) -> None:
    bench.order(BUY, "0.1", "59000")
    bench.order(SELL, "0.2", "61000")
    margin = bench.ledger.margin((SYMBOL, BOTH))
    assert (margin.position_initial, margin.order_initial) == (0, d("610"))  # 0.2 * 61000 / 20
    bench.account.cancel_all(SYMBOL)
    assert bench.ledger.available() == d("100000")


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"side": BUY, "quantity": "40"}, -2019),
        ({"side": BUY, "quantity": "200", "price": "59000"}, -2019),
        ({"side": BUY, "quantity": "0.001"}, -4164),
        ({"side": BUY, "quantity": "0.0001", "price": "59000"}, -1111),
        ({"side": BUY, "quantity": "0.1", "price": "59000.001"}, -1111),
        ({"side": BUY, "quantity": "0.1", "price": "59000.05"}, -4014),
        ({"side": BUY, "quantity": "0", "price": "59000"}, -4003),
        ({"side": BUY, "quantity": "121"}, -4005),
        ({"side": BUY, "quantity": "0.1", "price": "70000"}, -4016),
        ({"side": SELL, "quantity": "0.1", "price": "50000"}, -4024),
        ({"side": SELL, "quantity": "0.1", "is_reduce_only": True}, -2022),
        ({"side": BUY, "quantity": "0.1", "price": "60000.1", "time_in_force": TimeInForce.GTX}, -5022),
        ({"side": BUY, "quantity": "30", "price": "60000.1", "time_in_force": TimeInForce.FOK}, -5021),
        ({"side": BUY, "quantity": "0.1", "price": "59000", "time_in_force": TimeInForce.GTD}, -5040),
        ({"side": BUY, "quantity": "0.1", "position_side": PositionSide.LONG}, -4061),
    ],
)
def test_what_the_venue_refuses_leaves_no_trace(bench: Bench, terms: dict[str, Any], code: int) -> None:
    found, message = refusal(lambda: bench.order(**terms))
    assert (found, bool(message)) == (code, True)
    assert not bench.account.open_orders(None)
    assert bench.ledger.available() == d("100000")
    assert bench.ledger.state.order_id == 1


def test_a_position_beyond_the_leverages_bracket_is_refused(bench: Bench) -> None:
    bench.account.set_leverage(SYMBOL, 125)
    assert refusal(lambda: bench.order(BUY, "6", "59000"))[0] == -2027
    assert refusal(lambda: bench.account.set_leverage(SYMBOL, 126)) == (-4028, "Leverage 126 is not valid")


def test_a_reduce_only_order_never_turns_the_position_and_expires_with_it(bench: Bench) -> None:
    bench.order(BUY, "0.5")
    resting = bench.order(SELL, "0.5", "60500", is_reduce_only=True)
    closing = bench.order(SELL, "2", is_reduce_only=True)
    assert (closing.executed, closing.status) == (d("0.5"), Status.EXPIRED)
    assert resting.status is Status.EXPIRED
    assert bench.ledger.position(SYMBOL, BOTH).amount == 0


def test_an_amendment_keeps_the_order_and_one_that_crosses_trades(bench: Bench) -> None:
    order = bench.order(BUY, "0.1", "59000")
    bench.messages()
    bench.account.modify(SYMBOL, order.order_id, None, d("60000.1"), d("0.3"))
    assert (order.status, order.executed) == (Status.FILLED, d("0.3"))
    assert [message["o"]["x"] for message in bench.messages() if message["e"] == "ORDER_TRADE_UPDATE"] == [
        "AMENDMENT",
        "TRADE",
    ]
    again = bench.order(BUY, "0.1", "59000")
    assert refusal(lambda: bench.account.modify(SYMBOL, again.order_id, None, d("59000"), d("0.1")))[0] == -5027


@pytest.mark.parametrize(
    ("mode", "maker", "taker"),
    [
        (SelfTrade.EXPIRE_MAKER, Status.EXPIRED_IN_MATCH, Status.FILLED),
        (SelfTrade.EXPIRE_TAKER, Status.NEW, Status.EXPIRED_IN_MATCH),
        (SelfTrade.EXPIRE_BOTH, Status.EXPIRED_IN_MATCH, Status.EXPIRED_IN_MATCH),
    ],
)
def test_self_trades_are_prevented_as_asked(bench: Bench, mode: SelfTrade, maker: Status, taker: Status) -> None:
    resting = bench.order(SELL, "0.1", "60000.1")
    taking = bench.order(BUY, "3", "60000.2", self_trade=mode)
    assert (resting.status, taking.status) == (maker, taker)
    # The market's two coins stand before ours at that price.
    assert taking.executed == (d("3") if taker is Status.FILLED else d("2"))


def test_price_match_takes_the_asked_level_of_the_book(bench: Bench) -> None:
    queue = bench.order(BUY, "0.1", order_type=Type.LIMIT, price_match=PriceMatch.QUEUE)
    assert (queue.price, queue.status) == (d("60000"), Status.NEW)


def test_isolated_margin_is_set_aside_and_given_back(bench: Bench) -> None:
    bench.account.set_margin_type(SYMBOL, MarginType.ISOLATED)
    assert refusal(lambda: bench.account.set_margin_type(SYMBOL, MarginType.ISOLATED))[0] == -4046
    bench.order(BUY, "1")
    position = bench.ledger.position(SYMBOL, BOTH)
    assert position.isolated == d("3000.005")  # 60000.1 / 20
    assert bench.ledger.cross_wallet == d("100000") - d("30.00005") - d("3000.005")
    assert refusal(lambda: bench.account.set_margin_type(SYMBOL, MarginType.CROSSED))[0] == -4048
    assert refusal(lambda: bench.account.set_leverage(SYMBOL, 10))[0] == -4161
    bench.account.add_isolated_margin(SYMBOL, BOTH, d("500"))
    assert position.isolated == d("3500.005")
    bench.order(SELL, "1")
    assert position.isolated == 0
    assert bench.ledger.cross_wallet == bench.ledger.state.wallet


def test_hedge_mode_holds_a_long_and_a_short_of_one_symbol(bench: Bench) -> None:
    bench.account.set_dual_side(True)
    bench.order(BUY, "1", position_side=PositionSide.LONG)
    bench.order(SELL, "0.4", position_side=PositionSide.SHORT)
    assert [(one.side, one.amount) for one in bench.ledger.open_positions()] == [
        (PositionSide.LONG, d("1")),
        (PositionSide.SHORT, -d("0.4")),
    ]
    assert refusal(lambda: bench.account.set_dual_side(False))[0] == -4068
    bench.order(SELL, "3", position_side=PositionSide.LONG)
    assert bench.ledger.position(SYMBOL, PositionSide.LONG).amount == 0
    assert refusal(lambda: bench.order(SELL, "1", position_side=PositionSide.LONG))[0] == -2022


def test_funding_is_paid_by_longs_and_heard_of(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "usdm.sqlite3", FundingTerms(rate=d("0.0001")))
    bench.order(BUY, "1")
    wallet, mark = bench.ledger.state.wallet, bench.ledger.marks[SYMBOL]
    bench.messages()
    due_ms = bench.exchange.next_funding_ms
    assert due_ms % EIGHT_HOURS_MS == 0
    bench.clock.ms = due_ms
    bench.exchange.tick()
    paid = mark // 10_000
    assert bench.ledger.state.wallet == wallet - paid
    assert bench.ledger.state.funding == -paid
    (told,) = [message for message in bench.messages() if message["e"] == "ACCOUNT_UPDATE"]
    assert (told["a"]["m"], told["a"]["P"]) == ("FUNDING_FEE", [])
    assert bench.exchange.next_funding_ms == due_ms + EIGHT_HOURS_MS
    bench.close()


def test_a_cross_position_below_its_maintenance_margin_is_liquidated(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "usdm.sqlite3", wallet="3100")
    bench.order(BUY, "1")
    resting = bench.order(SELL, "0.002", "62000")
    position = bench.ledger.position(SYMBOL, BOTH)
    price = bench.ledger.liquidation_price(position)
    # wallet 3069.99995: 3069.99995 + P - 60000.1 = 0.004 P
    assert price == pytest.approx(d("57158.734"), rel=1e-6)
    bench.quote("57200", "57200.1")
    assert position.amount == d("1")
    assert [message["e"] for message in bench.messages()][-1] == "MARGIN_CALL"
    bench.quote("57100", "57100.1")
    assert (position.amount, resting.status) == (0, Status.CANCELED)
    told = bench.messages()
    liquidation = next(message["o"] for message in told if message.get("o", {}).get("x") == "CALCULATED")
    assert (liquidation["o"], liquidation["c"][:10], liquidation["X"]) == ("LIQUIDATION", "autoclose-", "FILLED")
    assert bench.ledger.state.wallet > 0
    assert len(bench.exchange.force_orders) == 1
    bench.close()


def test_the_insurance_fund_pays_what_a_liquidation_loses_beyond_the_wallet(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "usdm.sqlite3", wallet="3100")
    bench.order(BUY, "1")
    bench.quote("50000", "50000.1")
    assert bench.ledger.state.wallet == 0
    assert bench.ledger.state.insured > 0
    bench.close()


def test_an_isolated_liquidation_costs_its_own_margin_only(bench: Bench) -> None:
    bench.account.set_margin_type(SYMBOL, MarginType.ISOLATED)
    bench.order(BUY, "1")
    before = bench.ledger.cross_wallet
    bench.quote("50000", "50000.1")
    assert bench.ledger.position(SYMBOL, BOTH).amount == 0
    assert bench.ledger.state.wallet == before


def test_countdown_and_good_till_date_end_orders_in_time(bench: Bench) -> None:
    at_ms = bench.clock.ms + 700_000
    dated = bench.order(BUY, "0.1", "59000", time_in_force=TimeInForce.GTD, good_till_ms=at_ms)
    other = bench.order(BUY, "0.1", "59000")
    bench.account.set_countdown(SYMBOL, 800_000)
    bench.clock.ms = at_ms
    bench.exchange.tick()
    assert (dated.status, other.status) == (Status.EXPIRED, Status.NEW)
    bench.clock.ms += 100_000
    bench.exchange.tick()
    assert other.status is Status.CANCELED


def test_a_restart_keeps_wallet_position_settings_and_orders(tmp_path: Path) -> None:
    file = tmp_path / "usdm.sqlite3"
    first = Bench(file)
    first.account.set_leverage(SYMBOL, 33)
    first.order(BUY, "1")
    resting = first.order(SELL, "0.5", "61000", client_id="keep-me")
    state = first.ledger.state
    first.close()
    second = Bench(file, wallet="5")
    assert second.ledger.state == state
    assert second.ledger.position(SYMBOL, BOTH) == first.ledger.position(SYMBOL, BOTH)
    assert second.ledger.of(SYMBOL).leverage == 33
    (back,) = second.account.open_orders(None)
    assert (back.client_id, back.order_id, back.price) == ("keep-me", resting.order_id, resting.price)
    second.exchange.on_market(ticker("61000.1", "61000.2", 101))
    assert back.status is Status.FILLED
    second.close()
