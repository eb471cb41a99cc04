"""Random sessions keep what always holds:

- wallet = started + realised - fees + funding + insured, and equals the sum of all incomes stored;
- a position's amount and profit follow from the stored trades alone;
- margin is set aside for open orders only, an order's executed quantity is the sum of its trades;
- reduce-only orders never turn a position, nothing is open twice, and a restart changes nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from core.types.orders import Side
from core.venues.paper.errors import VenueError
from core.venues.paper.usdm.marks import FundingTerms
from core.venues.paper.usdm.numbers import product
from core.venues.paper.usdm.orders import MarginType, PositionSide, TimeInForce, Type
from tests.core.venues.paper.support import d
from tests.core.venues.paper.usdm.support import SYMBOL, Bench, trade

SIDES = some.sampled_from([Side.BUY, Side.SELL])
QUANTITIES = some.integers(1, 3_000).map(lambda lots: f"{lots / 1000:.3f}")
PRICES = some.integers(590_000, 610_000).map(lambda ticks: f"{ticks / 10:.1f}")
STEPS = some.one_of(
    some.tuples(some.just("market"), SIDES, QUANTITIES, some.booleans()),
    some.tuples(
        some.just("limit"), SIDES, QUANTITIES, PRICES, some.sampled_from(["GTC", "IOC", "FOK", "GTX"]), some.booleans()
    ),
    some.tuples(some.just("stop"), SIDES, QUANTITIES, PRICES, some.booleans()),
    some.tuples(some.just("quote"), PRICES, some.integers(1, 50)),
    some.tuples(some.just("trade"), PRICES, QUANTITIES, some.booleans()),
    some.tuples(some.just("modify"), PRICES, QUANTITIES),
    some.tuples(some.just("cancel"), some.integers(0, 5)),
    some.tuples(some.just("fund")),
    some.tuples(some.just("leverage"), some.integers(1, 125)),
    some.tuples(some.just("isolated"), some.booleans()),
)


class Session:
    def __init__(self, file: Path) -> None:
        self.bench = Bench(file, FundingTerms(rate=d("0.0003")), wallet="20000")
        self.trade_id = 0

    def step(self, step: tuple[object, ...]) -> None:
        try:
            self._act(*step)
        except VenueError:
            return  # refused: the checks after each step see to it that nothing has changed wrongly

    def _act(self, kind: object, *given: object) -> None:  # noqa: PLR0912 one arm a step
        bench, account = self.bench, self.bench.account
        match kind, given:
            case "market", (Side() as side, str(quantity), bool(is_reduce_only)):
                bench.order(side, quantity, is_reduce_only=is_reduce_only)
            case "limit", (Side() as side, str(quantity), str(price), str(force), bool(is_reduce_only)):
                bench.order(side, quantity, price, time_in_force=TimeInForce(force), is_reduce_only=is_reduce_only)
            case "stop", (Side() as side, str(quantity), str(price), bool(is_reduce_only)):
                terms = bench.terms(
                    side, quantity, order_type=Type.STOP_MARKET, trigger_price=d(price), is_reduce_only=is_reduce_only
                )
                account.place_algo(terms)
            case "quote", (str(bid), int(ticks)):
                bench.quote(bid, f"{(d(bid) // 10**7 + ticks) / 10:.1f}")
            case "trade", (str(price), str(quantity), bool(is_sell)):
                self.trade_id += 1
                bench.exchange.on_market(trade(price, quantity, trade_id=self.trade_id, is_sell=is_sell))
            case "modify", (str(price), str(quantity)):
                for order in account.open_orders(SYMBOL)[:1]:
                    account.modify(SYMBOL, order.order_id, None, d(price), d(quantity))
            case "cancel", (int(index),):
                for order in account.open_orders(SYMBOL)[index : index + 1]:
                    account.cancel(SYMBOL, order.order_id, None)
            case "fund", ():
                bench.clock.ms = bench.exchange.next_funding_ms
                bench.exchange.tick()
            case "leverage", (int(leverage),):
                account.set_leverage(SYMBOL, leverage)
            case "isolated", (bool(is_isolated),):
                account.set_margin_type(SYMBOL, MarginType.ISOLATED if is_isolated else MarginType.CROSSED)
            case _:
                raise AssertionError(kind)

    def check(self) -> None:
        ledger, storage = self.bench.ledger, self.bench.storage
        state = ledger.state
        assert not self.bench.failures
        assert state.wallet == state.started + state.realised - state.fees + state.funding + state.insured
        trades = storage.trades(None, None, 0, None, None, 1_000)
        amount = sum(fill.quantity if fill.side is Side.BUY else -fill.quantity for fill in trades)
        cash = sum(
            -product(fill.price, fill.quantity) if fill.side is Side.BUY else product(fill.price, fill.quantity)
            for fill in trades
        )
        position = ledger.position(SYMBOL, PositionSide.BOTH)
        assert position.amount == amount
        assert state.realised == cash + position.cost, "profit is cash flow plus what the open amount cost"
        assert (position.amount == 0) == (position.cost == 0 and position.isolated == 0)
        assert position.isolated >= 0 or state.funding < 0
        for order in ledger.orders.values():
            assert order.status.is_open
            assert 0 <= order.executed < order.quantity
            if order.is_reduce_only:
                assert self.bench.account.engine.reducible(order) > 0
        for order in storage.orders(None, 0, None, None, 1_000):
            own = [fill for fill in trades if fill.order_id == order.order_id]
            assert order.executed == sum(fill.quantity for fill in own)
            assert order.cumulative_quote == sum(fill.quote_quantity for fill in own)
        incomes = storage.incomes(None, None, 0, None, 1_000)
        if len(incomes) < 1_000:
            assert state.wallet == sum(income.amount for income in incomes)


@given(some.lists(STEPS, min_size=5, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_sessions_keep_the_books_and_survive_a_restart(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder) / "usdm.sqlite3")
        for step in steps:
            session.step(step)
            session.check()
        before = session.bench.ledger
        session.bench.close()
        again = Bench(Path(folder) / "usdm.sqlite3", FundingTerms(rate=d("0.0003")))
        # The book starts anew, so what rested may fill at once; the account's past is the same.
        assert again.ledger.state.started == before.state.started
        assert set(again.ledger.orders) <= set(before.orders)
        if not before.orders:
            assert again.ledger.state.wallet == before.state.wallet
            assert again.ledger.position(SYMBOL, PositionSide.BOTH) == before.position(SYMBOL, PositionSide.BOTH)
        again.close()
