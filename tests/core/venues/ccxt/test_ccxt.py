"""The ccxt adapter, held to what the paper venue says, over real sockets: ccxt's own Binance client in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.market.hub import MarketHub
from core.market.sync import BookState, StateChanged
from core.types.clock import NS_PER_MS, SystemClock
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.ccxt import exchange as exchange_module
from core.venues.ccxt import history
from core.venues.ccxt.adapter import CcxtVenue
from core.venues.ccxt.exchange import exact, instrument_of, open_exchange, whole_id
from core.venues.ccxt.feed import CcxtMarketFeed, _StreamedBook
from core.venues.paper.events import DepthDiff, Trade
from core.venues.paper.server import PaperVenue
from core.venues.ports import (
    AmendRefused,
    ExecutionReport,
    SubmitRefused,
    Submitted,
    SubmitUnknown,
    UserStreamConnected,
    VenueUnavailableError,
)
from tests.core.venues.paper.support import CREDENTIALS, ScriptedMarket, d

CLOCK = SystemClock()
SYMBOL = "BTC/USDT"
DEADLINE_S = 60


def exchange_at(venue: PaperVenue, secret: str = CREDENTIALS.secret) -> Any:
    rest = f"{venue.base_url}/api/v3"
    return open_exchange(
        "binance",
        api_key=CREDENTIALS.key,
        api_secret=secret,
        urls={
            "public": rest,
            "private": rest,
            "ws": {"spot": f"{venue.websocket_url}/ws", "ws-api": {"spot": f"{venue.websocket_url}/ws-api/v3"}},
        },
        options={"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False},
    )


@pytest.fixture
async def market() -> ScriptedMarket:
    return ScriptedMarket()


@pytest.fixture
async def venue(tmp_path: Path, market: ScriptedMarket) -> AsyncIterator[PaperVenue]:
    async with PaperVenue(market, tmp_path / "venue.sqlite3", CREDENTIALS) as running:
        yield running


@pytest.fixture
async def adapter(venue: PaperVenue) -> AsyncIterator[CcxtVenue]:
    exchange = exchange_at(venue)
    exchange.has["fetchCurrencies"] = False
    adapter = CcxtVenue(exchange, CLOCK)
    await adapter.instruments()
    yield adapter
    await adapter.aclose()


def intent(
    client_order_id: str, side: Side = Side.BUY, order_type: OrderType = OrderType.LIMIT, price: str | None = "90.00"
) -> OrderIntent:
    return OrderIntent(
        client_order_id=client_order_id,
        account_id="acct",
        venue="ccxt:binance",
        symbol=SYMBOL,
        side=side,
        order_type=order_type,
        time_in_force=TimeInForce.GTC,
        quantity=50_000,
        quantity_scale=5,
        price=None if price is None else int(Decimal(price).scaleb(2)),
        price_scale=2,
        post_only=False,
        reduce_only=False,
    )


async def test_instruments_have_the_venues_steps_and_limits(adapter: CcxtVenue) -> None:
    found = {item.symbol: item for item in await adapter.instruments()}
    instrument = found[SYMBOL]
    assert (instrument.price_scale, instrument.tick_size, instrument.quantity_scale) == (2, 1, 5)
    assert (instrument.lot_size, instrument.min_quantity, instrument.venue) == (1, 1, "ccxt:binance")
    assert instrument.min_notional == 5 * 10**7


async def test_an_order_rests_is_found_and_is_cancelled(adapter: CcxtVenue) -> None:
    submitted = await adapter.submit(intent("vz-rests"))
    assert isinstance(submitted, Submitted)
    found = await adapter.order(SYMBOL, "vz-rests")
    assert found is not None
    assert (found.status, found.venue_order_id, found.filled_quantity) == (
        OrderStatus.ACCEPTED,
        submitted.venue_order_id,
        0,
    )
    assert [order.client_order_id for order in await adapter.open_orders(SYMBOL)] == ["vz-rests"]
    await adapter.cancel(SYMBOL, "vz-rests")
    await adapter.cancel(SYMBOL, "vz-rests")
    after = await adapter.order(SYMBOL, "vz-rests")
    assert after is not None
    assert after.status is OrderStatus.CANCELED
    assert await adapter.order_by_venue_id(SYMBOL, submitted.venue_order_id) == after
    assert await adapter.order_by_venue_id(SYMBOL, "999999999") is None
    assert await adapter.open_orders(SYMBOL) == []


async def test_another_process_finds_an_order_by_its_client_id_alone(adapter: CcxtVenue, venue: PaperVenue) -> None:
    await adapter.submit(intent("vz-open"))
    await adapter.submit(intent("vz-done", order_type=OrderType.MARKET, price=None))
    other = CcxtVenue(exchange_at(venue), CLOCK)
    other._exchange.has["fetchCurrencies"] = False
    try:
        resting, done = await other.order(SYMBOL, "vz-open"), await other.order(SYMBOL, "vz-done")
        assert resting is not None
        assert done is not None
        assert (resting.status, done.status) == (OrderStatus.ACCEPTED, OrderStatus.FILLED)
        assert await other.order(SYMBOL, "vz-never") is None
        await other.cancel(SYMBOL, "vz-open")
        assert await other.open_orders(SYMBOL) == []
    finally:
        await other.aclose()


async def test_a_fill_has_the_venues_own_trades_and_moves_the_balances(adapter: CcxtVenue) -> None:
    before = await adapter.balances()
    submitted = await adapter.submit(intent("vz-fills", order_type=OrderType.MARKET, price=None))
    assert isinstance(submitted, Submitted)
    (trade,) = await adapter.trades_of(SYMBOL, submitted.venue_order_id)
    assert (trade.price, trade.quantity, trade.side, trade.is_maker) == (10_000, 50_000, Side.BUY, False)
    assert trade.client_order_id == "vz-fills"
    after = await adapter.balances()
    assert after["USDT"] == before["USDT"] - Decimal(50)
    assert after["BTC"] - before["BTC"] == Decimal("0.5") - trade.fee


async def test_a_no_of_the_venue_is_a_refusal_and_silence_is_unknown(adapter: CcxtVenue, venue: PaperVenue) -> None:
    dear = intent("vz-dear", price="100000000.00")
    assert isinstance(await adapter.submit(dear), SubmitRefused)
    stranger = CcxtVenue(exchange_at(venue, secret="wrong"), CLOCK)
    stranger._exchange.has["fetchCurrencies"] = False
    refused = await stranger.submit(intent("vz-stranger"))
    assert isinstance(refused, SubmitRefused)
    assert "AuthenticationError" in (refused.refusal.actual or "")
    await stranger.aclose()
    adapter._exchange.urls["api"]["private"] = "http://127.0.0.1:1/api/v3"
    assert isinstance(await adapter.submit(intent("vz-silence")), SubmitUnknown)
    with pytest.raises(VenueUnavailableError, match="fetch_balance"):
        await adapter.balances()


async def test_an_unknown_symbol_or_exchange_is_named(adapter: CcxtVenue) -> None:
    with pytest.raises(VenueUnavailableError, match=r"'NO/SUCH'.*BTC/USDT"):
        await adapter.open_orders("NO/SUCH")
    with pytest.raises(VenueUnavailableError, match=r"ccxt:nosuch.*binance"):
        open_exchange("nosuch")


async def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Any:
        raise ImportError("No module named 'ccxt'")

    monkeypatch.setattr(exchange_module, "import_module", missing)
    with pytest.raises(VenueUnavailableError, match=r"veloz\[ccxt\]"):
        open_exchange("binance")


async def test_the_user_stream_tells_orders_and_each_fill_once(adapter: CcxtVenue) -> None:
    events = adapter.user_events()
    assert isinstance(await anext(events), UserStreamConnected)
    reading = asyncio.ensure_future(anext(events))
    reports: list[ExecutionReport] = []
    sent = False
    async with asyncio.timeout(DEADLINE_S):
        while not any(report.order.status is OrderStatus.FILLED and report.trade for report in reports):
            if not sent and adapter._exchange.clients and not reading.done():
                # The subscription is on its way: what comes before it is told by the next order's message.
                sent = True
                await adapter.submit(intent("vz-stream-1", order_type=OrderType.MARKET, price=None))
            done, _ = await asyncio.wait({reading}, timeout=0.5)
            if done:
                event = reading.result()
                assert isinstance(event, ExecutionReport)
                reports.append(event)
                reading = asyncio.ensure_future(anext(events))
            elif sent:
                await adapter.submit(intent(f"vz-stream-{len(reports)}-again", order_type=OrderType.MARKET, price=None))
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    trades = [report.trade.trade_id for report in reports if report.trade]
    assert len(trades) == len(set(trades))


class LiveHub(MarketHub):
    def __init__(self, instrument: Instrument) -> None:
        self.changed = asyncio.Event()
        super().__init__((instrument,), CLOCK, 5_000, self._on_change)

    def _on_change(self, _: StateChanged) -> None:
        self.changed.set()

    async def wait_for(self, state: BookState) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.book_states()[SYMBOL] != state.value:
                self.changed.clear()
                await self.changed.wait()


async def test_the_feed_follows_the_book_through_ccxt_and_is_stale_without_it(
    adapter: CcxtVenue, venue: PaperVenue, market: ScriptedMarket
) -> None:
    (instrument,) = [item for item in await adapter.instruments() if item.symbol == SYMBOL]
    hub = LiveHub(instrument)
    seen = asyncio.Event()
    feed = CcxtMarketFeed(adapter._exchange, hub, (SYMBOL,), CLOCK, lambda _: seen.set())
    stop = asyncio.Event()
    running = asyncio.create_task(feed.run(stop))
    pump = asyncio.create_task(_pump(market))
    try:
        await hub.wait_for(BookState.LIVE)
        async with asyncio.timeout(DEADLINE_S):
            while hub.order_book(SYMBOL, 5).bids[0].price != Decimal("99.97"):
                seen.clear()
                await seen.wait()
        assert hub.ticker(SYMBOL).bid_quantity == Decimal(4)
        assert hub.counters()[SYMBOL].sync.ticker_comparisons == 0
        adapter._exchange.urls["api"]["ws"]["spot"] = "ws://127.0.0.1:1/ws"
        for client in list(adapter._exchange.clients.values()):
            await client.close()
        await hub.wait_for(BookState.STALE)
        assert hub.market_inputs(SYMBOL).mid_price is None
    finally:
        pump.cancel()
        stop.set()
        await running


async def _pump(market: ScriptedMarket) -> None:
    update_id = 101
    while True:
        event_ms = CLOCK.now_ns() // NS_PER_MS
        changes = ((d("99.99"), 0), (d("99.98"), 0), (d("99.97"), d("4")))
        market.queue.put_nowait(DepthDiff("BTCUSDT", event_ms, update_id, update_id, changes, ()))
        market.queue.put_nowait(Trade("BTCUSDT", event_ms, event_ms, update_id, d("99.97"), d("0.1"), True))
        update_id += 1
        await asyncio.sleep(0.05)


def test_states_become_a_snapshot_and_then_differences() -> None:
    book = _StreamedBook(Instrument("x", SYMBOL, "BTC", "USDT", 2, 3, 1, 1, 1, 10**9, 0))
    snapshot, first, ticker = book.messages({"bids": [[100.01, 1.5]], "asks": [[100.02, 0.0019]], "nonce": 7}, 5)
    assert (snapshot.bids, snapshot.asks) == (((10_001, 1_500),), ((10_002, 1),))  # type: ignore[union-attr]
    assert (first.bids, first.asks) == ((), ())  # type: ignore[union-attr]
    assert ticker.update_id == 1  # type: ignore[union-attr]
    second, _ = book.messages({"bids": [[100.0, 2]], "asks": [[100.02, 0.0019]], "nonce": 8}, 6)
    assert (second.bids, second.asks) == (((10_000, 2_000), (10_001, 0)), ())  # type: ignore[union-attr]
    assert book.best_at(7) == ((10_001, 1_500), (10_002, 1))
    assert (book.best_at(9), book.best_at(None)) == (None, None)
    with pytest.raises(ValueError, match="decimal places"):
        book.messages({"bids": [[100.001, 2]], "asks": []}, 7)


@pytest.mark.parametrize(
    ("number", "scale", "expected"),
    [(0.1, 1, 1), ("61800.20", 2, 6_180_020), (1e-8, 8, 1), (123456789.12345678, 8, 12345678912345678), (5, 0, 5)],
)
def test_numbers_are_read_as_the_venue_wrote_them(number: float | str, scale: int, expected: int) -> None:
    assert exact(number, scale) == expected


@pytest.mark.parametrize("number", [0.15, "NaN", None, "x", float("inf")])
def test_what_is_no_number_at_the_scale_is_refused(number: object) -> None:
    with pytest.raises(ValueError, match=r"decimal places|is no number"):
        exact(number, 1)


def test_trade_ids_that_are_no_numbers_become_stable_ones() -> None:
    assert whole_id("12345") == 12_345
    assert whole_id("a-b-c") == whole_id("a-b-c") != whole_id("a-b-d")
    assert 0 < whole_id("6c0e4f0a-94f2") < 2**63


class Steps:
    """As much of an exchange as a market is read with."""

    id = "x"

    def __init__(self, mode: int) -> None:
        self.precisionMode = mode


@pytest.mark.parametrize(
    ("mode", "price", "expected"), [(4, 0.5, (1, 5)), (4, 10.0, (0, 10)), (2, 3, (3, 1)), (2, 0, (0, 1))]
)
def test_steps_are_read_in_both_of_ccxts_ways(mode: int, price: float, expected: tuple[int, int]) -> None:
    market = {"symbol": SYMBOL, "base": "BTC", "quote": "USDT", "precision": {"price": price, "amount": price}}
    instrument = instrument_of(Steps(mode), market)
    assert (instrument.price_scale, instrument.tick_size) == expected
    assert instrument.min_notional == 0


def test_a_market_without_steps_is_no_instrument() -> None:
    with pytest.raises(ValueError, match="states no price step"):
        instrument_of(Steps(4), {"symbol": SYMBOL, "precision": {}})


async def test_open_orders_of_every_symbol_have_their_terms_and_one_call_cancels_them(adapter: CcxtVenue) -> None:
    for name in ("vz-one", "vz-two"):
        assert isinstance(await adapter.submit(intent(name)), Submitted)
    found = await adapter.all_open_orders()
    assert {order.client_order_id for order in found} == {"vz-one", "vz-two"}
    order = found[0]
    assert (order.side, order.order_type, order.time_in_force) == (Side.BUY, OrderType.LIMIT, TimeInForce.GTC)
    assert (order.quantity, order.price) == (50_000, 9_000)
    await adapter.cancel_all(SYMBOL)
    await adapter.cancel_all(SYMBOL)
    assert await adapter.all_open_orders() == []


async def test_fills_since_a_time_are_whole_and_a_restarted_process_knows_whose_they_are(
    adapter: CcxtVenue, venue: PaperVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE_TRADES", 3)
    before_ns = CLOCK.now_ns()
    for index in range(5):
        market_order = intent(f"vz-{index}", order_type=OrderType.MARKET, price=None)
        assert isinstance(await adapter.submit(msgspec.structs.replace(market_order, quantity=10_000)), Submitted)
    other = CcxtVenue(exchange_at(venue), CLOCK)
    other._exchange.has["fetchCurrencies"] = False
    try:
        trades = await other.trades_since(SYMBOL, before_ns)
        assert [trade.client_order_id for trade in trades] == [f"vz-{index}" for index in range(5)]
        assert await other.trades_since(SYMBOL, CLOCK.now_ns() + NS_PER_MS) == []
    finally:
        await other.aclose()


async def test_what_ccxt_cant_promise_is_left_to_the_engine(adapter: CcxtVenue) -> None:
    assert adapter.capabilities.order_types == {OrderType.LIMIT, OrderType.MARKET}
    assert TimeInForce.GTD not in adapter.capabilities.times_in_force
    assert not adapter.capabilities.can_amend_quantity
    assert isinstance(await adapter.amend(intent("vz-x"), 1, None), AmendRefused)
    stop = msgspec.structs.replace(intent("vz-stop", order_type=OrderType.STOP, price=None), stop_price=1)
    assert isinstance(await adapter.submit(stop), SubmitRefused)
    assert (await adapter.positions(), await adapter.funding_since(0)) == ([], [])
