"""The REST client against a server that misbehaves: limits, clocks, keys, half answers. Each with the outcome that a
trader would want: nothing repeated that may have happened, nothing sent that the venue forbids, nothing hidden."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest
import structlog
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock, SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.instruments import Product
from core.types.orders import OrderIntent, OrderType, Side, TimeInForce
from core.venues.binance import rest as rest_module
from core.venues.binance.account import BinanceAccount
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.clock import ServerClock
from core.venues.binance.errors import BinanceApiError, BinanceRateLimitedError, BinanceTransportError
from core.venues.binance.limits import DEFAULT_RULES, RateLimiter, RateRule
from core.venues.binance.usdm import BinanceUsdm
from core.venues.ports import (
    SubmitRefused,
    Submitted,
    SubmitUnknown,
    VenueRateLimitedError,
    VenueUnavailableError,
)
from tests.core.venues.binance.support import (
    CLOSE_BEFORE_ANSWER,
    DEADLINE_S,
    DRIP,
    NO_ANSWER_S,
    RESET,
    HttpRequest,
    ScriptedHttp,
    answer,
    scripted_http,
    unused_url,
)

API_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
ACCEPTED = answer(200, {"orderId": 7})
NO_BALANCES = answer(200, {"balances": []})
MISDATED = answer(400, {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."})
HALF_ACCEPTED = ACCEPTED[:40]
HALF_BALANCES = NO_BALANCES[:-5]
ENDLESS = (DRIP, None, HALF_ACCEPTED, HALF_BALANCES)
ADAPTERS: dict[Product, type[BinanceAccount[Any]]] = {Product.SPOT: BinanceSpot, Product.USDM: BinanceUsdm}


def order(client_order_id: str = "one", **changes: object) -> OrderIntent:
    intent = OrderIntent(
        "acct-demo",
        "paper",
        "BTCUSDT",
        Side.BUY,
        OrderType.LIMIT,
        TimeInForce.GTC,
        50_000,
        9_000,
        2,
        5,
        client_order_id,
    )
    return msgspec.structs.replace(intent, **changes)


@asynccontextmanager
async def adapter_on(url: str, product: Product = Product.SPOT, **options: Any) -> AsyncIterator[BinanceAccount[Any]]:
    adapter = ADAPTERS[product](
        url,
        API_KEY,
        SECRET,
        options.pop("clock", SystemClock()),
        venue="binance",
        websocket_url="ws://127.0.0.1:9",
        read_timeout_s=DEADLINE_S,
        random=Random(1),
        **options,
    )
    try:
        yield adapter
    finally:
        await adapter.aclose()


@asynccontextmanager
async def both(
    respond: Callable[[HttpRequest], bytes | None], product: Product = Product.SPOT, **options: Any
) -> AsyncIterator[tuple[ScriptedHttp, BinanceAccount[Any]]]:
    async with scripted_http(respond) as script, adapter_on(script.url, product, **options) as adapter:
        yield script, adapter


class ManualTime:
    """A limiter whose time the test moves."""

    def __init__(self, *rules: RateRule) -> None:
        self.clock = ManualClock(1_700_000_000 * NS_PER_S)
        self.limiter = RateLimiter(ServerClock(self.clock, self.clock.now_ns), rules or DEFAULT_RULES[Product.SPOT])


async def test_connections_are_reused_and_bounded() -> None:
    async with both(lambda _: NO_BALANCES) as (script, adapter):
        for _ in range(20):
            await adapter.balances()
        assert (script.connections, len(script.requests)) == (1, 20)
        await asyncio.gather(*(adapter.balances() for _ in range(60)))
        assert len(script.requests) == 80
        assert script.connections <= rest_module.MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("status", "body", "headers", "is_banned"),
    [
        (429, {"code": -1003, "msg": "Too much request weight used."}, "retry-after: 60\r\n", False),
        (418, {"code": -1003, "msg": "Way too much request weight used."}, "retry-after: 60\r\n", True),
        (429, b"<html>slow down</html>", "retry-after: 60\r\n", False),
        (418, b'{"code":-1003,"msg":"\xff"}', "retry-after: 60\r\n", True),
    ],
)
async def test_after_429_and_418_nothing_is_sent_until_the_time_is_over(
    status: int, body: object, headers: str, is_banned: bool
) -> None:
    replies = iter([answer(status, body, headers)])
    time = ManualTime()
    async with both(lambda _: next(replies, NO_BALANCES), limiter=time.limiter) as (script, adapter):
        with pytest.raises(BinanceRateLimitedError) as told:
            await adapter.balances()
        assert (told.value.retry_after_s, told.value.is_banned, told.value.nothing_sent) == (60, is_banned, False)
        calls = script.time_requests

        for call in (adapter.balances, lambda: adapter.cancel("BTCUSDT", "one"), adapter.instruments):
            with pytest.raises(VenueRateLimitedError, match="nothing was sent") as refused:
                await call()
            assert (refused.value.retry_after_s, refused.value.is_banned) == (60, is_banned)
            assert refused.value.nothing_sent
        refusal = await adapter.submit(order())
        assert isinstance(refusal, SubmitRefused)
        assert refusal.refusal.code is ReasonCode.ORDER_RATE_LIMITED
        assert (refusal.refusal.actual, refusal.refusal.unit) == ("60.0", "s")
        assert (len(script.requests), script.time_requests) == (1, calls)
        state = time.limiter.state()
        assert (state.is_blocked, state.is_banned, state.blocked_for_s) == (True, is_banned, 60.0)
        assert {name: item.refused for name, item in state.counters.items() if item.refused} == {
            "SAFETY": 1,
            "ORDER": 1,
            "RECONCILE": 2,
        }

        time.clock.advance_ns(61 * NS_PER_S)
        assert await adapter.balances() == {}


async def test_a_429_answer_to_a_submit_is_a_refusal_because_nothing_was_executed() -> None:
    async with both(lambda _: answer(429, b"", "retry-after: 60\r\n")) as (script, adapter):
        result = await adapter.submit(order())
        assert isinstance(result, SubmitRefused)
        assert result.refusal.code is ReasonCode.ORDER_RATE_LIMITED
        assert len(script.requests) == 1


async def test_too_many_orders_stops_orders_only() -> None:
    def respond(request: HttpRequest) -> bytes:
        if request.method == "POST":
            return answer(429, {"code": -1015, "msg": "Too many new orders; current limit is 100 orders per 1 DAY."})
        return answer(200, {"orderId": 7})

    async with both(respond) as (script, adapter):
        for _ in range(2):
            result = await adapter.submit(order())
            assert isinstance(result, SubmitRefused)
            assert result.refusal.code is ReasonCode.ORDER_RATE_LIMITED
        await adapter.cancel("BTCUSDT", "one")
        assert [request.method for request in script.requests] == ["POST", "DELETE"]


async def test_near_the_limit_snapshots_give_way_to_orders_and_orders_to_cancels() -> None:
    time = ManualTime(RateRule("REQUEST_WEIGHT", "MINUTE", 1, 1_000))
    used = "x-mbx-used-weight-1m: {}\r\n"
    level = iter([700, 955])

    def respond(request: HttpRequest) -> bytes:
        return answer(200, {"orderId": 7, "balances": []}, used.format(next(level, 956)))

    async with both(respond, limiter=time.limiter) as (script, adapter):
        rest = adapter.rest
        await adapter.balances()
        assert rest.used_weight_1m == 700
        with pytest.raises(VenueRateLimitedError, match="SNAPSHOT gives way at 70 %"):
            await rest.once("GET", "/api/v3/depth", {"symbol": "BTCUSDT", "limit": "1000"}, answer=msgspec.Raw)
        assert isinstance(await adapter.submit(order()), Submitted)
        refused = await adapter.submit(order())
        assert isinstance(refused, SubmitRefused)
        assert "ORDER gives way at 95 %" in refused.refusal.message
        await adapter.cancel("BTCUSDT", "one")
        assert [request.method for request in script.requests] == ["GET", "POST", "DELETE"]
        counters = time.limiter.state().counters
        assert (counters["SNAPSHOT"].refused, counters["ORDER"].refused, counters["SAFETY"].refused) == (1, 1, 0)


async def test_a_read_waits_for_its_turn_where_the_wait_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    time = ManualTime(RateRule("REQUEST_WEIGHT", "SECOND", 5, 30))
    slept: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)
        time.clock.advance_ns(int(delay_s * NS_PER_S))

    async with both(lambda _: NO_BALANCES, limiter=time.limiter) as (script, adapter):
        await adapter.balances()
        monkeypatch.setattr(rest_module.asyncio, "sleep", sleep)
        await adapter.balances()
        monkeypatch.undo()
        assert len(slept) == 1
        assert slept[0] <= 5.1
        assert len(script.requests) == 2
        assert time.limiter.state().counters["RECONCILE"].waited == 1


@pytest.mark.parametrize("skew_ms", [-600_000, -7_000, 0, 7_000, 600_000])
async def test_a_clock_that_jumps_at_the_venue_costs_one_repeat_of_a_read(skew_ms: int) -> None:
    server_ms = [1_700_000_000_000]

    def respond(request: HttpRequest) -> bytes:
        age_ms = server_ms[0] - int(request.parameters["timestamp"])
        return NO_BALANCES if -1_000 < age_ms <= int(request.parameters["recvWindow"]) else MISDATED

    async with both(respond) as (script, adapter):
        script.server_ms = lambda: server_ms[0]
        await adapter.balances()
        server_ms[0] += skew_ms
        assert await adapter.balances() == {}
        assert len(script.requests) == (2 if skew_ms == 0 else 3)
        assert adapter.rest.clock.jumps == (0 if skew_ms == 0 else 1)
        local_ms = SystemClock().now_ns() // NS_PER_MS
        assert abs(adapter.rest.clock_offset_ms + local_ms - server_ms[0]) < 5_000


async def test_a_misdated_read_is_repeated_once_only_and_then_says_why() -> None:
    async with both(lambda _: MISDATED) as (script, adapter):
        with pytest.raises(BinanceApiError, match="clock and its estimate here were apart"):
            await adapter.balances()
        assert len(script.requests) == 2
        assert script.time_requests == 2 * rest_module.TIME_SAMPLES


async def test_a_misdated_submit_is_never_repeated_and_a_misdated_cancel_once() -> None:
    async with both(lambda _: MISDATED) as (script, adapter):
        assert isinstance(await adapter.submit(order()), SubmitRefused)
        assert [request.method for request in script.requests] == ["POST"]
    replies = iter([MISDATED, answer(200, {})])
    async with both(lambda _: next(replies)) as (script, adapter):
        await adapter.cancel("BTCUSDT", "one")
        assert [request.method for request in script.requests] == ["DELETE", "DELETE"]


async def test_a_clock_that_jumps_here_is_noticed_before_anything_is_signed() -> None:
    class SteppedClock:
        step_ns = 0

        def now_ns(self) -> int:
            return SystemClock().now_ns() + self.step_ns

    clock = SteppedClock()
    offsets: list[int] = []
    async with both(lambda _: NO_BALANCES, clock=clock) as (script, adapter):
        adapter.rest.report_clock_offset(offsets.append)
        await adapter.balances()
        clock.step_ns = 300 * NS_PER_S
        await adapter.balances()
        assert script.time_requests == 2 * rest_module.TIME_SAMPLES
        assert abs(offsets[0] - offsets[1] - 300_000) < 5_000
        assert adapter.rest.clock.jumps >= 1


async def test_an_old_estimate_is_renewed_beside_the_call_and_a_venue_without_time_does_not_stop_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with both(lambda _: NO_BALANCES) as (script, adapter):
        await adapter.balances()
        monkeypatch.setattr("core.venues.binance.clock.REFRESH_AFTER_NS", 0)
        script.server_ms = lambda: "broken"  # type: ignore[assignment, return-value]
        assert await adapter.balances() == {}
        assert adapter.rest.clock.is_usable


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            answer(401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}),
            r"'venue-binance'.*IP list",
        ),
        (answer(401, {"code": -2014, "msg": "API-key format invalid."}), "'venue-binance'"),
        (answer(400, {"code": -1022, "msg": "Signature for this request is not valid."}), r"venue-binance\.secret"),
        (answer(400, {"code": -1131, "msg": "recvWindow must be less than 60000."}), "recv_window_ms"),
        (answer(400, {"code": -1121, "msg": "Invalid symbol."}), "'NOPEUSDT'"),
        (answer(400, {"code": -4061, "msg": "Order's position side does not match."}), "one-way mode"),
    ],
)
async def test_a_wrong_key_or_symbol_is_an_error_that_names_it_and_the_cure(reply: bytes, expected: str) -> None:
    async with both(lambda _: reply) as (script, adapter):
        with structlog.testing.capture_logs():
            with pytest.raises(VenueUnavailableError, match=expected) as raised:
                await adapter.rest.read("/api/v3/order", {"symbol": "NOPEUSDT"}, signed=True, answer=msgspec.Raw)
            result = await adapter.submit(order(symbol="NOPEUSDT"))
        assert len(script.requests) == 2, "asking again would be refused again"
        assert isinstance(result, SubmitRefused)
        for text in (str(raised.value), result.refusal.message):
            assert API_KEY not in text
            assert SECRET not in text
        assert "venue code" in str(raised.value)


async def test_no_secret_reaches_a_log_an_error_or_a_representation(caplog: pytest.LogCaptureFixture) -> None:
    replies = iter([answer(500, b""), CLOSE_BEFORE_ANSWER, answer(429, b"", "retry-after: 99\r\n")])
    caplog.set_level(logging.WARNING)
    texts: list[str] = []
    async with both(lambda _: next(replies)) as (script, adapter):
        with structlog.testing.capture_logs() as events:
            for _ in range(2):
                with pytest.raises(VenueUnavailableError) as raised:
                    await adapter.balances()
                error: BaseException | None = raised.value
                while error is not None:
                    texts.append(f"{error!r} {error}")
                    error = error.__cause__
            texts += [str(await adapter.submit(order())), repr(adapter.rest.credential), repr(vars(adapter.rest))]
        signatures = [request.parameters["signature"] for request in script.requests]
        assert len(signatures) == 3
        assert all(request.api_key == API_KEY.lower() for request in script.requests)
        texts += [str(events), caplog.text]
        for text in texts:
            for secret in (SECRET, API_KEY, *signatures):
                assert secret not in text


@pytest.mark.parametrize("product", list(ADAPTERS))
@pytest.mark.parametrize(
    ("reply", "spot", "usdm"),
    [
        (answer(503, {"code": -1000, "msg": "Unknown error, please check your request or try again later."}), 0, 0),
        (answer(503, {"code": -1008, "msg": "Request throttled by system-level protection."}), 1, 1),
        (answer(503, {"code": -1000, "msg": "Service Unavailable."}), 0, 1),
        (
            answer(503, {"code": -1001, "msg": "Internal error; unable to process your request. Please try again."}),
            0,
            1,
        ),
        (answer(500, {"code": -1000, "msg": "Request occur unknown error."}), 0, 0),
        (answer(503, b"<html>"), 0, 0),
        (answer(502, b""), 0, 0),
        (answer(504, b""), 0, 0),
        (answer(408, {"code": -1007, "msg": "Timeout waiting for response from backend server."}), 0, 0),
        (answer(400, {"code": -1001, "msg": "Internal error."}), 0, 0),
        (answer(400, {"code": -4116, "msg": "ClientOrderId is duplicated."}), 0, 0),
        (answer(400, {"code": -2019, "msg": "Margin is insufficient."}), 1, 1),
        (answer(400, {"code": -4061, "msg": "Order's position side does not match user's setting."}), 1, 1),
        (HALF_ACCEPTED, 0, 0),
        (RESET, 0, 0),
        (DRIP, 0, 0),
        (None, 0, 0),
    ],
)
async def test_what_an_answer_says_of_a_submit_is_as_the_venue_documents_it(
    reply: bytes | None, spot: int, usdm: int, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(lambda _: reply, product) as (script, adapter):
        await adapter.rest.sync_time()
        if reply in ENDLESS:
            monkeypatch.setattr(rest_module, "REQUEST_DEADLINE_S", NO_ANSWER_S)
        result = await adapter.submit(order())
        is_refused = bool(usdm if product is Product.USDM else spot)
        assert isinstance(result, SubmitRefused if is_refused else SubmitUnknown), result
        await script.asked()
        assert len(script.requests) == 1


SENSELESS = (answer(200, b"{"), answer(200, b'{"balances":[{"asset":"\xff"}]}'))


@pytest.mark.parametrize("reply", [RESET, DRIP, HALF_BALANCES, None, *SENSELESS])
async def test_a_read_that_breaks_off_is_repeated_and_one_that_makes_no_sense_is_not(
    reply: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = iter([reply, NO_BALANCES])

    def respond(_: HttpRequest) -> bytes | None:
        # The second attempt, which has yet to begin, has all the time it needs.
        monkeypatch.setattr(rest_module, "REQUEST_DEADLINE_S", DEADLINE_S)
        return next(replies)

    async with both(respond) as (script, adapter):
        await adapter.rest.sync_time()
        if reply in ENDLESS:
            monkeypatch.setattr(rest_module, "REQUEST_DEADLINE_S", NO_ANSWER_S)
        if reply in SENSELESS:
            with pytest.raises(VenueUnavailableError, match="can't be read"):
                await adapter.balances()
            assert len(script.requests) == 1
        else:
            assert await adapter.balances() == {}
            assert len(script.requests) == 2


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_module, "MAX_RESPONSE_BYTES", 1_000)
    async with both(lambda _: answer(200, b"[" * 2_000)) as (_, adapter):
        assert isinstance(await adapter.submit(order()), SubmitUnknown)
        with pytest.raises(BinanceTransportError, match="more than 1000 bytes"):
            await adapter.balances()


@pytest.mark.parametrize("product", list(ADAPTERS))
async def test_where_nothing_listens_a_submit_is_refused_and_uses_up_no_limit(
    product: Product,
) -> None:
    async with scripted_http(lambda _: ACCEPTED) as script, adapter_on(script.url, product) as adapter:
        assert isinstance(await adapter.submit(order()), Submitted)
        used = adapter.rest.limiter.state().buckets
        adapter.rest._client.base_url = await unused_url()
        refused = await adapter.submit(order())
        assert isinstance(refused, SubmitRefused)
        assert refused.refusal.code is ReasonCode.RISK_VENUE_DISCONNECTED
        assert [item.used for item in adapter.rest.limiter.state().buckets if item.kind == "ORDERS"] == [
            item.used for item in used if item.kind == "ORDERS"
        ]


async def test_a_venue_without_time_gets_no_signed_request() -> None:
    async with both(lambda _: ACCEPTED) as (script, adapter):
        script.server_ms = lambda: "broken"  # type: ignore[assignment, return-value]
        refused = await adapter.submit(order())
        assert isinstance(refused, SubmitRefused)
        assert refused.refusal.code is ReasonCode.RISK_VENUE_DISCONNECTED
        assert script.requests == []


async def test_a_cancel_of_what_is_gone_is_told_apart_from_a_cancel_that_failed() -> None:
    replies = iter([answer(400, {"code": -2011, "msg": "Unknown order sent."}), answer(503, b"")])
    async with both(lambda _: next(replies)) as (_, adapter):
        with pytest.raises(RefusalError) as refused:
            await adapter.cancel("BTCUSDT", "one")
        assert refused.value.refusal.code is ReasonCode.ORDER_UNKNOWN
        with pytest.raises(BinanceApiError):
            await adapter.cancel("BTCUSDT", "one")


async def test_time_is_kept_for_those_who_only_read() -> None:
    reported = asyncio.Event()
    async with both(lambda _: ACCEPTED) as (_, adapter):
        adapter.rest.report_clock_offset(lambda _: reported.set())
        keeping = asyncio.create_task(adapter.rest.keep_time())
        async with asyncio.timeout(DEADLINE_S):
            await reported.wait()
        keeping.cancel()
        assert adapter.rest.clock_offset_ms != 0
        assert adapter.rest.clock_uncertainty_ms < 1_000


async def test_what_can_only_reduce_may_use_the_last_of_the_order_limit() -> None:
    reply = answer(200, {"orderId": 7}, "x-mbx-order-count-10s: 19\r\n")
    time = ManualTime(RateRule("ORDERS", "SECOND", 10, 20))
    async with both(lambda _: reply, Product.USDM, limiter=time.limiter) as (script, adapter):
        assert isinstance(await adapter.submit(order("first")), Submitted)
        assert isinstance(await adapter.submit(order("second")), SubmitRefused)
        assert isinstance(await adapter.submit(order("third", reduce_only=True)), Submitted)
        assert [request.parameters["newClientOrderId"] for request in script.requests] == ["first", "third"]


async def test_an_ed25519_key_signs_what_arrives_at_the_venue() -> None:
    private = ECC.generate(curve="ed25519")
    verifier = eddsa.new(private.public_key(), "rfc8032")

    def respond(request: HttpRequest) -> bytes:
        payload, _, _ = request.query.rpartition("&signature=")
        verifier.verify(payload.encode(), base64.b64decode(request.parameters["signature"]))
        return ACCEPTED

    async with scripted_http(respond) as script:
        pem = private.export_key(format="PEM")
        adapter = BinanceSpot(script.url, API_KEY, pem, SystemClock(), venue="binance", websocket_url="")
        try:
            assert isinstance(await adapter.submit(order("a b/ü")), Submitted)
        finally:
            await adapter.aclose()
        assert script.requests[0].parameters["newClientOrderId"] == "a b/ü"
