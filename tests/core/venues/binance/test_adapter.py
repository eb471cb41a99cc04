"""The adapter against the paper venue, and what it makes of every way in which a submit can end (I5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from core.types.clock import NS_PER_S, Clock, SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.rest import READ_ATTEMPTS
from core.venues.paper.server import PaperVenue
from core.venues.ports import (
    ExecutionReport,
    SubmitRefused,
    Submitted,
    SubmitUnknown,
    UserEvent,
    UserStreamConnected,
    UserStreamLost,
    VenuePort,
    VenueUnavailableError,
)
from tests.core.venues.binance.support import (
    CLOSE_BEFORE_ANSWER,
    DEADLINE_S,
    NO_ANSWER_S,
    HttpRequest,
    Signal,
    answer,
    scripted_http,
    unused_url,
)
from tests.core.venues.paper.support import CREDENTIALS, ScriptedMarket

HALF_ACCEPTED = answer(200, {"orderId": 7})[:40]
BTCUSDT = Instrument("paper", "BTCUSDT", "BTC", "USDT", 2, 5, 1, 1, 1, 900_000_000, 50_000_000)


class ShiftedClock:
    """A clock that runs apart from the venue's."""

    def __init__(self, ahead_ns: int) -> None:
        self._ahead_ns = ahead_ns

    def now_ns(self) -> int:
        return SystemClock().now_ns() + self._ahead_ns


def spot(rest_url: str, websocket_url: str = "ws://127.0.0.1:9", clock: Clock | None = None) -> BinanceSpot:
    return BinanceSpot(
        rest_url,
        CREDENTIALS.key,
        CREDENTIALS.secret,
        clock or SystemClock(),
        venue="paper",
        websocket_url=websocket_url,
        read_timeout_s=DEADLINE_S,
        random=Random(1),
    )


@asynccontextmanager
async def closing(adapter: BinanceSpot) -> AsyncIterator[BinanceSpot]:
    try:
        yield adapter
    finally:
        await adapter.aclose()


@pytest.fixture
async def venue(tmp_path: Path) -> AsyncIterator[PaperVenue]:
    async with PaperVenue(ScriptedMarket(), tmp_path / "venue.sqlite3", CREDENTIALS) as running:
        yield running


@pytest.fixture
async def adapter(venue: PaperVenue) -> AsyncIterator[BinanceSpot]:
    async with closing(spot(venue.base_url, venue.websocket_url)) as running:
        yield running


def order(
    client_order_id: str, price: str = "90", quantity: str = "0.5", side: Side = Side.BUY, **rest: object
) -> OrderIntent:
    values: dict[str, object] = {
        "account_id": "acct-demo",
        "venue": "paper",
        "symbol": "BTCUSDT",
        "side": side,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "quantity": int(Decimal(quantity).scaleb(5)),
        "price": int(Decimal(price).scaleb(2)),
        "price_scale": 2,
        "quantity_scale": 5,
        "client_order_id": client_order_id,
    }
    return OrderIntent(**{**values, **rest})  # type: ignore[arg-type]


async def collect(events: AsyncIterator[UserEvent], until: type[UserEvent] | OrderStatus) -> list[UserEvent]:
    seen: list[UserEvent] = []
    async with asyncio.timeout(DEADLINE_S):
        async for event in events:
            seen.append(event)
            status = event.order.status if isinstance(event, ExecutionReport) else None
            if status is until or (isinstance(until, type) and isinstance(event, until)):
                return seen
    raise AssertionError("user_events ended by itself")


def test_the_adapter_is_a_venue_port() -> None:
    port: VenuePort = BinanceSpot("http://127.0.0.1:9", "k", "s", SystemClock(), venue="paper", websocket_url="")
    assert port.user_events() is not None


async def test_instruments_carry_the_venues_rules_at_scales_of_tick_and_step(adapter: BinanceSpot) -> None:
    (instrument,) = await adapter.instruments()
    assert (instrument.venue, instrument.symbol, instrument.base_asset, instrument.quote_asset) == (
        "paper",
        "BTCUSDT",
        "BTC",
        "USDT",
    )
    assert (instrument.price_scale, instrument.quantity_scale) == (2, 5)
    assert (instrument.tick_size, instrument.lot_size, instrument.min_quantity) == (1, 1, 1)
    assert Decimal(instrument.min_notional).scaleb(-instrument.notional_scale) == 5


async def test_a_resting_order_is_seen_and_cancelled(adapter: BinanceSpot) -> None:
    submitted = await adapter.submit(order("resting"))
    assert isinstance(submitted, Submitted)
    seen = await adapter.order("BTCUSDT", "resting")
    assert seen is not None
    assert (seen.venue_order_id, seen.status, seen.filled_quantity) == (
        submitted.venue_order_id,
        OrderStatus.ACCEPTED,
        0,
    )
    assert await adapter.open_orders("BTCUSDT") == [seen]
    await adapter.cancel("BTCUSDT", "resting")
    gone = await adapter.order("BTCUSDT", "resting")
    assert gone is not None
    assert gone.status is OrderStatus.CANCELED
    assert await adapter.order_by_venue_id("BTCUSDT", submitted.venue_order_id) == gone
    assert await adapter.open_orders("BTCUSDT") == []
    with pytest.raises(RefusalError) as refused:
        await adapter.cancel("BTCUSDT", "resting")
    assert refused.value.refusal.code is ReasonCode.ORDER_UNKNOWN


async def test_a_fill_arrives_on_the_user_stream_and_equals_what_rest_says(adapter: BinanceSpot) -> None:
    before = await adapter.balances()
    events = adapter.user_events()
    await collect(events, UserStreamConnected)
    submitted = await adapter.submit(order("crossing", price="100.01", quantity="1.5"))
    assert isinstance(submitted, Submitted)
    reports = [event for event in await collect(events, OrderStatus.FILLED) if isinstance(event, ExecutionReport)]
    assert {report.order.client_order_id for report in reports} == {"crossing"}
    fills = [report.trade for report in reports if report.trade is not None]
    assert [(fill.price, fill.quantity, fill.side) for fill in fills] == [
        (10_000, 100_000, Side.BUY),
        (10_001, 50_000, Side.BUY),
    ]
    assert await adapter.trades_of("BTCUSDT", submitted.venue_order_id) == fills
    after = await adapter.balances()
    assert before["USDT"] - after["USDT"] == Decimal("150.005")
    assert after["BTC"] - before["BTC"] == Decimal("1.5") - sum(fill.fee for fill in fills)
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_cancel_is_reported_under_the_orders_own_id(adapter: BinanceSpot) -> None:
    events = adapter.user_events()
    await collect(events, UserStreamConnected)
    await adapter.submit(order("mine"))
    await adapter.cancel("BTCUSDT", "mine")
    last = (await collect(events, OrderStatus.CANCELED))[-1]
    assert isinstance(last, ExecutionReport)
    assert last.order.client_order_id == "mine"
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_lost_user_stream_says_so_once_and_comes_back_complete(tmp_path: Path) -> None:
    state = tmp_path / "venue.sqlite3"
    async with PaperVenue(ScriptedMarket(), state, CREDENTIALS) as first:
        adapter = spot(first.base_url, first.websocket_url)
        events = adapter.user_events()
        await collect(events, UserStreamConnected)
        port = first.port
    lost = await collect(events, UserStreamLost)
    assert len(lost) == 1
    async with closing(adapter), PaperVenue(ScriptedMarket(), state, CREDENTIALS, port=port):
        assert await collect(events, UserStreamConnected) == [UserStreamConnected()]
        await adapter.submit(order("after"))
        await collect(events, OrderStatus.ACCEPTED)
        await events.aclose()  # type: ignore[attr-defined]


async def test_an_order_the_venue_does_not_know_is_none(adapter: BinanceSpot) -> None:
    assert await adapter.order("BTCUSDT", "never-sent") is None
    assert await adapter.order_by_venue_id("BTCUSDT", "999999999") is None


@pytest.mark.parametrize("ahead_s", [-90, 90])
async def test_signed_calls_work_though_the_clocks_are_apart(venue: PaperVenue, ahead_s: int) -> None:
    async with closing(spot(venue.base_url, clock=ShiftedClock(ahead_s * NS_PER_S))) as adapter:
        assert await adapter.balances()
        assert abs(adapter.rest.clock_offset_ms + ahead_s * 1_000) < 500


async def test_the_venues_no_carries_its_code_and_words(adapter: BinanceSpot) -> None:
    refused = await adapter.submit(order("too-rich", price="99", quantity="90000"))
    assert isinstance(refused, SubmitRefused)
    assert refused.refusal.code is ReasonCode.ORDER_REJECTED_BY_VENUE
    assert refused.refusal.actual is not None
    assert refused.refusal.actual in refused.refusal.message
    assert int(refused.refusal.actual) < 0


async def test_a_repeated_open_order_is_unknown_because_the_first_one_lives(adapter: BinanceSpot) -> None:
    assert isinstance(await adapter.submit(order("twice")), Submitted)
    assert isinstance(await adapter.submit(order("twice")), SubmitUnknown)
    assert len(await adapter.open_orders("BTCUSDT")) == 1


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answer(200, {"orderId": 7}), Submitted),
        (answer(200, b"<html>"), SubmitUnknown),
        (answer(400, {"code": -2010, "msg": "Account has insufficient balance."}), SubmitRefused),
        (answer(400, {"code": -2010, "msg": "Duplicate order sent."}), SubmitUnknown),
        (answer(400, {"code": -1013, "msg": "Filter failure: LOT_SIZE"}), SubmitRefused),
        (answer(400, {"code": -1021, "msg": "Timestamp"}), SubmitRefused),
        (answer(429, {"code": -1003, "msg": "Too many requests."}), SubmitRefused),
        (answer(400, {"code": -1006, "msg": "Unexpected response."}), SubmitUnknown),
        (answer(408, {"code": -1007, "msg": "Timeout waiting for response."}), SubmitUnknown),
        (answer(403, b"forbidden"), SubmitUnknown),
        (answer(302, b""), SubmitUnknown),
        (answer(500, {"code": -1000, "msg": "Unknown."}), SubmitUnknown),
        (answer(503, {"code": -2010, "msg": "Unknown error, please check."}), SubmitUnknown),
        (answer(504, b"gateway"), SubmitUnknown),
        (HALF_ACCEPTED, SubmitUnknown),
        (CLOSE_BEFORE_ANSWER, SubmitUnknown),
        (None, SubmitUnknown),
    ],
)
async def test_every_end_of_a_submit_is_told_apart_and_sent_once(reply: bytes | None, outcome: type) -> None:
    async with scripted_http(lambda _: reply) as script, closing(spot(script.url)) as adapter:
        await adapter.rest.sync_time()
        if reply in (HALF_ACCEPTED, None):
            adapter.rest._client.timeout = NO_ANSWER_S
        result = await adapter.submit(order("one"))
        assert isinstance(result, outcome), result
        await script.asked()
        assert [request.method for request in script.requests] == ["POST"]


async def test_a_submit_to_where_nothing_listens_is_refused_because_nothing_was_sent() -> None:
    async with closing(spot(await unused_url())) as adapter:
        result = await adapter.submit(order("one"))
        assert isinstance(result, SubmitRefused)
        assert result.refusal.code is ReasonCode.RISK_VENUE_DISCONNECTED


async def test_reduce_only_is_the_engines_own_check_on_spot_which_has_no_word_for_it() -> None:
    async with scripted_http(lambda _: answer(200, {"orderId": 7})) as script, closing(spot(script.url)) as adapter:
        assert isinstance(await adapter.submit(order("one", reduce_only=True)), Submitted)
        (request,) = script.requests
        assert request.parameters["newClientOrderId"] == "one"
        assert not [name for name in request.parameters if "reduce" in name.lower()]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"type": "LIMIT", "timeInForce": "GTC", "price": "90", "quantity": "0.5"}),
        ({"post_only": True}, {"type": "LIMIT_MAKER", "price": "90", "quantity": "0.5"}),
        ({"order_type": OrderType.MARKET, "price": None}, {"type": "MARKET", "quantity": "0.5"}),
        (
            {"time_in_force": TimeInForce.FOK, "quantity": 1},
            {"type": "LIMIT", "timeInForce": "FOK", "price": "90", "quantity": "0.00001"},
        ),
    ],
)
async def test_an_intent_is_written_in_the_venues_words(changes: dict[str, object], expected: dict[str, str]) -> None:
    async with scripted_http(lambda _: answer(200, {"orderId": 7})) as script, closing(spot(script.url)) as adapter:
        await adapter.submit(msgspec.structs.replace(order("id-1"), **changes))
        (request,) = script.requests
        sent = dict(request.parameters)
        assert sent.pop("signature")
        assert sent.pop("timestamp")
        common = {"symbol": "BTCUSDT", "side": "BUY", "newClientOrderId": "id-1", "newOrderRespType": "ACK"}
        assert sent == {**common, "recvWindow": "5000", **expected}


async def test_a_read_is_repeated_until_it_is_answered_but_not_for_ever() -> None:
    replies = iter([answer(503, b""), CLOSE_BEFORE_ANSWER, answer(200, {"balances": []})])
    async with scripted_http(lambda _: next(replies)) as script, closing(spot(script.url)) as adapter:
        assert await adapter.balances() == {}
        assert len(script.requests) == READ_ATTEMPTS
    async with scripted_http(lambda _: answer(503, b"")) as script, closing(spot(script.url)) as adapter:
        with pytest.raises(VenueUnavailableError, match="GET /api/v3/account: HTTP 503"):
            await adapter.balances()
        assert len(script.requests) == READ_ATTEMPTS


@pytest.mark.parametrize(
    "reply",
    [
        answer(401, {"code": -2015, "msg": "Invalid API-key."}),
        answer(429, {"code": -1003, "msg": ""}, "retry-after: 60\r\n"),
    ],
)
async def test_a_read_that_would_be_refused_again_is_not_repeated(reply: bytes) -> None:
    async with scripted_http(lambda _: reply) as script, closing(spot(script.url)) as adapter:
        with pytest.raises(VenueUnavailableError):
            await adapter.balances()
        assert len(script.requests) == 1


async def test_an_instrument_without_a_needed_filter_is_left_out() -> None:
    price = {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"}
    lot = {"filterType": "LOT_SIZE", "stepSize": "0.00001000", "minQty": "0.00001000", "maxQty": "9000.00000000"}
    notional = {"filterType": "NOTIONAL", "minNotional": "5.00000000"}

    def symbol(name: str, *filters: object, status: str = "TRADING") -> dict[str, object]:
        return {"symbol": name, "status": status, "baseAsset": "B", "quoteAsset": "Q", "filters": filters}

    listed = [
        symbol("A", price, lot, notional),
        symbol("B", price, lot),
        symbol("C", price, lot, notional, status="BREAK"),
    ]

    def respond(_: HttpRequest) -> bytes:
        return answer(200, {"symbols": listed})

    async with scripted_http(respond) as script, closing(spot(script.url)) as adapter:
        assert [instrument.symbol for instrument in await adapter.instruments()] == ["A"]


async def test_the_listen_key_is_kept_alive_and_a_dead_one_replaced(venue: PaperVenue) -> None:
    adapter = BinanceSpot(
        venue.base_url,
        CREDENTIALS.key,
        CREDENTIALS.secret,
        SystemClock(),
        venue="paper",
        websocket_url=venue.websocket_url,
        keepalive_s=0.02,
        random=Random(1),
    )
    signal, calls, once = Signal(), [], adapter.rest.once

    async def watched(method: str, path: str, *arguments: Any, **named: Any) -> Any:
        result = await once(method, path, *arguments, **named)
        calls.append((method, result))
        signal.ring()
        return result

    adapter.rest.once = watched  # type: ignore[method-assign]
    async with closing(adapter):
        events = adapter.user_events()
        await collect(events, UserStreamConnected)
        await signal.until(lambda: [method for method, _ in calls] == ["POST", "PUT", "PUT"])
        key = calls[0][1].listen_key
        await once("DELETE", "/api/v3/userDataStream", {"listenKey": key}, answer=msgspec.Raw)
        assert len(await collect(events, UserStreamLost)) == 1
        await collect(events, UserStreamConnected)
        assert calls[-1][1].listen_key != key
        await events.aclose()  # type: ignore[attr-defined]
