"""What readers of the market get: exact numbers, their age, and a refusal where there is nothing to trust."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.market.hub import NO_BOOK_AGE_MS, TRADES_KEPT, MarketHub
from core.market.sync import StateChanged
from core.types.clock import NS_PER_MS, ManualClock
from core.types.codes import ReasonCode, RefusalError
from core.types.events import MarketInputs
from core.types.instruments import Instrument
from core.types.market import BookTicker, DepthSnapshot, DepthUpdate, Trade
from core.types.orders import Side
from core.types.views import LevelView

SYMBOL = "BTCUSDT"
STALE_AFTER_MS = 1_000
START_NS = 1_700_000_000_000 * NS_PER_MS
# prices at scale 2, quantities at scale 5
BIDS = ((10_000, 100_000), (9_950, 200_000))
ASKS = ((10_001, 50_000), (10_010, 100_000), (10_100, 100_000))


class Market:
    """A hub with a clock to turn."""

    def __init__(self, instrument: Instrument) -> None:
        self.clock = ManualClock(START_NS)
        self.changes: list[StateChanged] = []
        self.hub = MarketHub((instrument,), self.clock, STALE_AFTER_MS, self.changes.append)
        self.update_id = 10

    def go_live(self) -> None:
        now_ns = self.clock.now_ns()
        self.hub.on_stream_opened([SYMBOL])
        self.hub.on_snapshot(DepthSnapshot(SYMBOL, 10, BIDS, ASKS, now_ns, now_ns))
        self.depth()

    def depth(self, skipped: int = 0) -> None:
        self.update_id += 1 + skipped
        now_ns = self.clock.now_ns()
        self.hub.on_depth(DepthUpdate(SYMBOL, self.update_id, self.update_id, (), (), now_ns, now_ns))

    def ticker(self, update_id: int, bid: int = 10_000, ask: int = 10_001) -> None:
        now_ns = self.clock.now_ns()
        self.hub.on_book_ticker(BookTicker(SYMBOL, update_id, bid, 100_000, ask, 50_000, now_ns, now_ns))

    def trade(self, trade_id: int, price: int = 10_000, ts_event_ns: int = START_NS) -> None:
        self.hub.on_trade(Trade(SYMBOL, trade_id, price, 5, True, ts_event_ns, self.clock.now_ns()))

    def refusal(self, call: object, *arguments: object) -> ReasonCode:
        with pytest.raises(RefusalError) as caught:
            call(*arguments)  # type: ignore[operator]
        return caught.value.refusal.code


@pytest.fixture
def market(btcusdt: Instrument) -> Market:
    return Market(btcusdt)


def test_estimate_of_a_buy_sweeps_the_asks_and_counts_its_cost_against_mid(market: Market) -> None:
    market.go_live()
    view = market.hub.estimate_execution(SYMBOL, Side.BUY, Decimal("2"))
    # 0.5 at 100.01, 1 at 100.10, 0.5 at 101.00; mid is 100.005
    assert view.notional_quote == Decimal("200.605")
    assert view.average_price == Decimal("100.3025")
    assert view.worst_price == Decimal("101.00")
    assert view.mid_price == Decimal("100.005")
    assert view.cost_quote == Decimal("0.595")
    assert view.slippage_bps == Decimal("29.7485")  # 0.2975 / 100.005 x 10,000 = 29.74851...
    assert (view.levels, view.complete, view.filled_quantity) == (3, True, Decimal(2))
    assert view.as_of_ns == START_NS


def test_estimate_of_a_sell_costs_when_it_goes_below_mid(market: Market) -> None:
    market.go_live()
    view = market.hub.estimate_execution(SYMBOL, Side.SELL, Decimal("1"))
    assert (view.average_price, view.cost_quote, view.slippage_bps) == (Decimal(100), Decimal("0.005"), Decimal("0.5"))


def test_estimate_beyond_the_book_says_that_it_is_incomplete(market: Market) -> None:
    market.go_live()
    view = market.hub.estimate_execution(SYMBOL, Side.SELL, Decimal(50))
    assert (view.complete, view.quantity, view.filled_quantity) == (False, Decimal(50), Decimal(3))
    assert view.notional_quote == Decimal(299)


@pytest.mark.parametrize("quantity", ["0", "-1", "NaN", "Infinity", "0.000001", "1e30"])
def test_a_quantity_out_of_form_is_refused(market: Market, quantity: str) -> None:
    market.go_live()
    refused = market.refusal(market.hub.estimate_execution, SYMBOL, Side.BUY, Decimal(quantity))
    assert refused is ReasonCode.REQUEST_INVALID


def test_nothing_is_estimated_on_a_book_that_is_not_live(market: Market) -> None:
    estimate = (market.hub.estimate_execution, SYMBOL, Side.BUY, Decimal(1))
    assert market.refusal(*estimate) is ReasonCode.MARKET_BOOK_STALE
    market.go_live()
    market.hub.estimate_execution(SYMBOL, Side.BUY, Decimal(1))
    market.depth(skipped=1)
    assert market.refusal(*estimate) is ReasonCode.MARKET_BOOK_STALE


def test_silence_is_seen_by_every_reader_before_any_tick(market: Market) -> None:
    market.go_live()
    market.clock.advance_ns((STALE_AFTER_MS + 1) * NS_PER_MS)
    assert market.hub.book_states() == {SYMBOL: "STALE"}
    book = market.hub.order_book(SYMBOL, 5)
    assert (book.state, book.stale_reason, book.as_of_ns) == ("STALE", "SILENCE", START_NS)
    inputs = market.hub.market_inputs(SYMBOL)
    assert (inputs.book_state, inputs.book_age_ms, inputs.mid_price) == ("STALE", STALE_AFTER_MS + 1, None)
    assert market.hub.mark_price(SYMBOL) is None
    refused = market.refusal(market.hub.estimate_execution, SYMBOL, Side.BUY, Decimal(1))
    assert refused is ReasonCode.MARKET_BOOK_STALE
    market.hub.on_time()
    assert [change.reason for change in market.changes] == [None, "SILENCE"]


def test_market_inputs_of_a_live_book(market: Market) -> None:
    market.go_live()
    market.clock.advance_ns(70 * NS_PER_MS)
    assert market.hub.market_inputs(SYMBOL) == MarketInputs("100", "100.01", "100.005", "LIVE", 11, 70)
    assert market.hub.mark_price(SYMBOL) == Decimal("100.005")


def test_a_book_that_never_was_is_older_than_any_limit(market: Market) -> None:
    inputs = market.hub.market_inputs(SYMBOL)
    assert inputs == MarketInputs(None, None, None, "SYNCING", 0, NO_BOOK_AGE_MS)
    book = market.hub.order_book(SYMBOL, 5)
    assert (book.state, book.bids, book.asks) == ("SYNCING", (), ())


def test_order_book_shows_the_best_levels_as_decimals(market: Market) -> None:
    market.go_live()
    book = market.hub.order_book(SYMBOL, 1)
    assert (book.state, book.stale_reason, book.last_update_id) == ("LIVE", None, 11)
    assert book.bids == (LevelView(Decimal("100.00"), Decimal(1)),)
    assert book.asks == (LevelView(Decimal("100.01"), Decimal("0.5")),)


def test_the_ticker_is_the_book_tickers_own_and_refused_when_old(market: Market) -> None:
    assert market.refusal(market.hub.ticker, SYMBOL) is ReasonCode.MARKET_NO_DATA
    market.ticker(500, bid=9_999, ask=10_003)
    market.trade(1, price=10_002)
    view = market.hub.ticker(SYMBOL)
    assert (view.bid_price, view.ask_price, view.update_id) == (Decimal("99.99"), Decimal("100.03"), 500)
    assert (view.last_price, view.as_of_ns) == (Decimal("100.02"), START_NS)
    market.clock.advance_ns((STALE_AFTER_MS + 1) * NS_PER_MS)
    assert market.refusal(market.hub.ticker, SYMBOL) is ReasonCode.MARKET_NO_DATA


def test_a_quiet_ticker_stays_fresh_while_a_later_verified_book_confirms_it(market: Market) -> None:
    market.go_live()
    market.ticker(11)
    market.clock.advance_ns((STALE_AFTER_MS - 1) * NS_PER_MS)
    market.depth()
    market.clock.advance_ns(2 * NS_PER_MS)
    assert market.hub.ticker(SYMBOL).as_of_ns == market.clock.now_ns() - 2 * NS_PER_MS


def test_an_older_book_ticker_never_replaces_a_newer(market: Market) -> None:
    market.ticker(500)
    market.ticker(499, bid=1)
    assert market.hub.ticker(SYMBOL).update_id == 500


def test_trades_that_are_missing_or_repeated_are_counted(market: Market) -> None:
    for trade_id in (7, 8, 11, 11, 9):
        market.trade(trade_id)
    counters = market.hub.counters()[SYMBOL]
    assert (counters.trades_missed, counters.trades_repeated) == (2, 2)
    assert market.hub.klines(SYMBOL, "1m", 5)[-1].trades == 3


def test_the_newest_trades_are_shown_oldest_first_with_the_aggressors_side(market: Market) -> None:
    assert market.refusal(market.hub.trades, SYMBOL, 1) is ReasonCode.MARKET_NO_DATA
    for trade_id in range(1, TRADES_KEPT + 3):
        market.trade(trade_id, price=10_000 + trade_id, ts_event_ns=START_NS + trade_id)
    market.hub.on_trade(Trade(SYMBOL, TRADES_KEPT + 3, 9_999, 7, False, START_NS, START_NS))
    sold, bought = market.hub.trades(SYMBOL, 2)
    assert (sold.trade_id, sold.side, sold.ts_event_ns) == (TRADES_KEPT + 2, Side.SELL, START_NS + TRADES_KEPT + 2)
    assert (bought.side, bought.price, bought.quantity) == (Side.BUY, Decimal("99.99"), Decimal("0.00007"))
    kept = market.hub.trades(SYMBOL, TRADES_KEPT)
    assert [trade.trade_id for trade in kept] == list(range(4, TRADES_KEPT + 4))


@pytest.mark.parametrize("limit", [0, -1, TRADES_KEPT + 1])
def test_more_trades_than_are_kept_are_refused(market: Market, limit: int) -> None:
    market.trade(1)
    assert market.refusal(market.hub.trades, SYMBOL, limit) is ReasonCode.REQUEST_INVALID


def test_klines_are_exact_decimals(market: Market) -> None:
    assert market.refusal(market.hub.klines, SYMBOL, "1m", 5) is ReasonCode.MARKET_NO_DATA
    market.trade(1)
    (bar,) = market.hub.klines(SYMBOL, "5m", 5)
    assert (bar.open, bar.volume, bar.quote_volume) == (Decimal(100), Decimal("0.00005"), Decimal("0.005"))
    assert not bar.closed


@pytest.mark.parametrize(("interval", "limit"), [("1s", 5), ("1m", 0), ("1m", 100_000)])
def test_klines_out_of_range_are_refused(market: Market, interval: str, limit: int) -> None:
    market.trade(1)
    assert market.refusal(market.hub.klines, SYMBOL, interval, limit) is ReasonCode.REQUEST_INVALID


def test_an_unknown_instrument_is_refused_everywhere(market: Market) -> None:
    hub = market.hub
    for call in (
        lambda: hub.ticker("X"),
        lambda: hub.order_book("X", 5),
        lambda: hub.klines("X", "1m", 5),
        lambda: hub.estimate_execution("X", Side.BUY, Decimal(1)),
        lambda: hub.market_inputs("X"),
        lambda: hub.mark_price("X"),
    ):
        assert market.refusal(call) is ReasonCode.MARKET_INSTRUMENT_UNKNOWN
