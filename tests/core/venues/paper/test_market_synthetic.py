"""The seeded market: the same seed is the same market, and it behaves like one."""

from __future__ import annotations

import time

import pytest

from core.types.clock import NS_PER_MS, NS_PER_S
from core.venues.paper.book import LevelBook
from core.venues.paper.events import BookTicker, DepthDiff, MarketEvent, Trade
from core.venues.paper.market_synthetic import PERPETUAL_PROFILES, PROFILES, STEP_NS, SymbolMarket
from core.venues.paper.rules import RULES
from core.venues.paper.usdm.rules import CONTRACTS

START_NS = 1_700_000_000 * NS_PER_S


def events_of(symbol: str, seed: int, count: int) -> list[MarketEvent]:
    market = SymbolMarket(RULES[symbol], PROFILES[symbol], seed, START_NS)
    events: list[MarketEvent] = []
    now_ns = START_NS
    while len(events) < count:
        now_ns += STEP_NS
        events += market.advance(now_ns)
    return events[:count]


def test_one_seed_is_one_market_and_another_seed_another() -> None:
    first = events_of("BTCUSDT", 7, 5_000)
    assert first == events_of("BTCUSDT", 7, 5_000)
    assert first != events_of("BTCUSDT", 8, 5_000)


def test_steps_of_the_clock_do_not_change_what_happens() -> None:
    coarse = SymbolMarket(RULES["BTCUSDT"], PROFILES["BTCUSDT"], 7, START_NS)
    assert coarse.advance(START_NS + 10 * NS_PER_S)[:500] == events_of("BTCUSDT", 7, 500)


@pytest.mark.parametrize("symbol", PROFILES)
def test_the_book_is_deep_continuous_and_never_crossed_and_trades_consume_it(symbol: str) -> None:
    market = SymbolMarket(RULES[symbol], PROFILES[symbol], 3, START_NS)
    rules = RULES[symbol]
    book = LevelBook()
    book.load(market.start_book())
    ticker: BookTicker | None = None
    ticker_id = trade_id = trades = 0
    for step in range(1, 3_001):
        for event in market.advance(START_NS + step * 10 * NS_PER_MS):
            match event:
                case DepthDiff():
                    assert event.first_id == book.last_id + 1
                    book.apply(event)
                    assert book.best_bid is not None
                    assert book.best_ask is not None
                    assert book.best_bid < book.best_ask
                    assert min(len(book.bids), len(book.asks)) >= 200
                    if ticker is not None:
                        assert (book.best_bid, book.best_ask) == (ticker.bid, ticker.ask)
                        assert book.bids[ticker.bid] == ticker.bid_quantity
                case BookTicker():
                    assert event.update_id > ticker_id
                    ticker_id, ticker = event.update_id, event
                case Trade():
                    trades += 1
                    assert event.trade_id > trade_id
                    trade_id = event.trade_id
                    assert event.quantity > 0
                    assert event.price % rules.tick == event.quantity % rules.step == 0
                    if ticker is not None:
                        # A sweep prints from the touch outwards.
                        assert event.price <= ticker.bid if event.buyer_is_maker else event.price >= ticker.ask
    assert trades > 50


def test_arrivals_and_volatility_cluster() -> None:
    events = [event for event in events_of("BTCUSDT", 5, 12_000) if isinstance(event, Trade)]
    counts: dict[int, int] = {}
    for event in events:
        counts[event.event_ms // 100] = counts.get(event.event_ms // 100, 0) + 1
    span = [counts.get(slot, 0) for slot in range(min(counts), max(counts) + 1)]
    mean = sum(span) / len(span)
    variance = sum((count - mean) ** 2 for count in span) / len(span)
    assert variance > 1.5 * mean, "a Poisson process has variance = mean; clustered arrivals have more"


def test_all_symbols_together_cost_less_than_a_seventh_of_a_core() -> None:
    markets = [SymbolMarket(RULES[symbol], profile, 1, START_NS) for symbol, profile in PROFILES.items()]
    began = time.process_time()
    for step in range(1, 1_001):
        for market in markets:
            market.advance(START_NS + step * STEP_NS)
    assert time.process_time() - began < 0.15 * 10


@pytest.mark.parametrize("symbol", PROFILES)
def test_a_perpetual_has_a_book_of_its_own_near_the_spot_price(symbol: str) -> None:
    spot = SymbolMarket(RULES[symbol], PROFILES[symbol], 3, START_NS)
    perpetual = SymbolMarket(CONTRACTS[symbol], PERPETUAL_PROFILES[symbol], 3, START_NS, spot)
    book = LevelBook()
    book.load(perpetual.start_book())
    trades = 0
    for step in range(1, 2_001):
        spot.advance(START_NS + step * STEP_NS)
        for event in perpetual.advance(START_NS + step * STEP_NS):
            if isinstance(event, DepthDiff):
                assert event.first_id == book.last_id + 1
                book.apply(event)
                assert book.best_bid is not None
                assert book.best_ask is not None
                assert book.best_bid < book.best_ask
                assert spot.book.best_bid is not None
                assert abs(book.best_bid - spot.book.best_bid) * 100 < spot.book.best_bid
                assert book.best_bid % CONTRACTS[symbol].tick == 0
            trades += isinstance(event, Trade)
    assert trades > 20
