"""Order entry over the standing connection: against the paper venue with both kinds of keys, and against one whose
answers a test writes; each end of a submit told apart, and none sent twice (I5)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from core.types.clock import SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.orders import OrderIntent, OrderStatus, OrderType, TimeInForce
from core.venues.binance import ws_orders
from core.venues.binance.adapter import BinanceSpot
from core.venues.binance.endpoints import Priority
from core.venues.binance.limits import RateRule
from core.venues.ports import (
    Amended,
    AmendRefused,
    AmendUnknown,
    SubmitRefused,
    SubmitResult,
    Submitted,
    SubmitUnknown,
)
from tests.core.venues.binance.support import (
    DEADLINE_S,
    NO_ANSWER_S,
    HttpRequest,
    Listener,
    Signal,
    answer,
    scripted_http,
)
from tests.core.venues.binance.test_paper_venue import ED25519, order, paper, spot, still_clock
from tests.core.venues.chaos import ChaosProxy, Link
from tests.core.venues.paper.support import CREDENTIALS

Respond = Callable[[dict[str, Any]], str | bytes | None]
CLOSE = b"close"


class Venue:
    """A WebSocket API whose answers a test writes: None never answers, CLOSE ends the connection."""

    def __init__(self, respond: Respond) -> None:
        self.requests: list[dict[str, Any]] = []
        self.signal = Signal()
        self._respond = respond

    async def serve(self, connection: ServerConnection) -> None:
        async for text in connection:
            request = msgspec.json.decode(text)
            self.requests.append(request)
            self.signal.ring()
            reply = self._respond(request)
            if reply == CLOSE:
                return
            if reply is not None:
                await connection.send(reply, text=True)


def accepted(request: dict[str, Any], **changes: Any) -> str:
    result = {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": request["params"].get("newClientOrderId")}
    return msgspec.json.encode({"id": request["id"], "status": 200, "result": result} | changes).decode()


def refused(request: dict[str, Any], status: int, code: int, message: str = "no", **data: Any) -> str:
    error = {"code": code, "msg": message} | ({"data": data} if data else {})
    return msgspec.json.encode({"id": request["id"], "status": status, "error": error}).decode()


@asynccontextmanager
async def scripted(
    respond: Respond, answer_timeout_s: float = DEADLINE_S
) -> AsyncIterator[tuple[Venue, BinanceSpot, list[HttpRequest]]]:
    """REST answers too, so that a request which strays there is seen."""
    script = Venue(respond)
    rest_ack = {"symbol": "BTCUSDT", "orderId": 8, "clientOrderId": "one"}
    async with serve(script.serve, "127.0.0.1", 0) as server, scripted_http(lambda _: answer(200, rest_ack)) as rest:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        adapter = BinanceSpot(
            rest.url,
            CREDENTIALS.key,
            CREDENTIALS.secret,
            SystemClock(),
            venue="paper",
            websocket_url=url,
            websocket_api_url=url,
            read_timeout_s=answer_timeout_s,
            random=Random(1),
        )
        try:
            await connected(adapter)
            yield script, adapter, rest.requests
        finally:
            await adapter.aclose()


def patience_s(expected: type) -> float:
    return NO_ANSWER_S if expected is SubmitUnknown else DEADLINE_S


async def connected(adapter: BinanceSpot) -> None:
    assert adapter.order_socket is not None
    adapter.order_socket.start()
    async with asyncio.timeout(DEADLINE_S):
        await adapter.order_socket.ready.wait()


@pytest.mark.parametrize("key", [CREDENTIALS.key, ED25519.key])
async def test_orders_are_placed_amended_and_cancelled_over_the_socket_with_either_kind_of_key(
    tmp_path: Path, key: str
) -> None:
    clock = still_clock()
    async with paper(tmp_path, clock) as venue, ChaosProxy(venue.port) as proxy:
        api_url = f"{proxy.websocket_url}/ws-api/v3"
        async with (
            spot(venue, key, clock, websocket_api_url=api_url) as adapter,
            Listener(adapter) as listener,
        ):
            await adapter.rest.sync_time()
            await connected(adapter)
            assert adapter.order_socket is not None
            assert adapter.order_socket._has_session is (key == ED25519.key)
            before = adapter.rest.used_weight_1m
            intent = order("resting", "90", "0.5")
            assert isinstance(await adapter.submit(intent), Submitted)
            assert adapter.rest.used_weight_1m >= before + 1
            assert await adapter.amend(intent, 40_000, None) == Amended(40_000, 9_000)
            (seen,) = await adapter.all_open_orders()
            assert (seen.client_order_id, seen.quantity, seen.price) == ("resting", 40_000, 9_000)
            grown = await adapter.amend(intent, 60_000, None)
            assert isinstance(grown, AmendRefused)
            await adapter.cancel("BTCUSDT", "resting")
            assert (await listener.until(OrderStatus.CANCELED))[-1].order.client_order_id == "resting"
            with pytest.raises(RefusalError) as gone:
                await adapter.cancel("BTCUSDT", "resting")
            assert gone.value.refusal.code is ReasonCode.ORDER_UNKNOWN
            assert adapter.order_socket._next_id == 5, "all five went over the socket"
            state = adapter.rest.limiter.state()
            assert next(item.used for item in state.buckets if (item.kind, item.window_s) == ("ORDERS", 10)) == 1


async def test_a_command_is_bytes_on_the_socket_before_its_coroutine_first_waits() -> None:
    async with scripted(accepted) as (script, adapter, _):
        assert adapter.order_socket is not None
        connection = adapter.order_socket._connection
        assert connection is not None
        raw = connection.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        written: list[bytes] = []
        write = connection.transport.write

        def recording(data: bytes | bytearray | memoryview) -> None:
            written.append(bytes(data))
            write(data)

        connection.transport.write = recording  # type: ignore[method-assign]
        await adapter.rest.sync_time()
        submitting: Coroutine[Any, Any, Any] = adapter.submit(order("one", "90"))
        waits_for = submitting.send(None)
        assert len(written) == 1, "the first step of submit must have written the frame"
        submitting.close()
        del waits_for
        await script.signal.until(lambda: bool(script.requests))
        assert script.requests[0]["params"]["newClientOrderId"] == "one"


@pytest.mark.parametrize(
    ("respond", "expected"),
    [
        (accepted, Submitted),
        (lambda request: None, SubmitUnknown),
        (lambda request: CLOSE, SubmitUnknown),
        (lambda request: "{not json", SubmitUnknown),
        (lambda request: b'{"id":"\xff"}', SubmitUnknown),
        (lambda request: accepted(request).encode().replace(b"BTCUSDT", b"BTC\xff"), SubmitUnknown),
        (lambda request: accepted(request, id="other"), SubmitUnknown),
        (lambda request: accepted(request, id=None), SubmitUnknown),
        (lambda request: accepted(request, status=0), SubmitUnknown),
        (lambda request: accepted(request, status="200"), SubmitUnknown),
        (lambda request: accepted(request, result=None), SubmitUnknown),
        (lambda request: accepted(request, result={"orderId": "seven"}), SubmitUnknown),
        (lambda request: accepted(request, result={"orderId": 7, "symbol": "ETHUSDT"}), SubmitUnknown),
        (lambda request: accepted(request, result={"orderId": 7, "clientOrderId": "b"}), SubmitUnknown),
        (lambda request: accepted(request, error={"code": -2010}), SubmitUnknown),
        (lambda request: "x" * (2 << 20), SubmitUnknown),
        (lambda request: refused(request, 400, -1006), SubmitUnknown),
        (lambda request: refused(request, 504, -1007), SubmitUnknown),
        (lambda request: refused(request, 500, -1000), SubmitUnknown),
        (lambda request: refused(request, 400, -2010, "Duplicate order sent."), SubmitUnknown),
        (lambda request: refused(request, 400, -2010), SubmitRefused),
        (lambda request: refused(request, 409, -2021), SubmitRefused),
        (lambda request: refused(request, 429, -1003, serverTime=1_000, retryAfter=61_000), SubmitRefused),
        (lambda request: refused(request, 418, -1003, serverTime=1_000, retryAfter=61_000), SubmitRefused),
    ],
)
async def test_every_end_of_a_submit_is_told_apart_and_sent_once(respond: Respond, expected: type) -> None:
    async with scripted(respond, patience_s(expected)) as (script, adapter, strayed):
        result = await adapter.submit(order("one", "90"))
        assert type(result) is expected, result
        await script.signal.until(lambda: bool(script.requests))
        sent = [item for item in script.requests if item["method"] == "order.place"]
        assert len(sent) == 1
        assert strayed == []


async def test_a_limit_told_over_the_socket_holds_rest_back_as_well() -> None:
    def respond(request: dict[str, Any]) -> str:
        return refused(request, 429, -1003, serverTime=1_000, retryAfter=61_000)

    async with scripted(respond) as (_, adapter, strayed):
        told = await adapter.submit(order("one", "90"))
        assert isinstance(told, SubmitRefused)
        assert told.refusal.code is ReasonCode.ORDER_RATE_LIMITED
        assert adapter.rest.limiter.state().blocked_for_s == pytest.approx(60, abs=5)
        held = await adapter.submit(order("two", "90"))
        assert isinstance(held, SubmitRefused)
        assert "nothing was sent" in held.refusal.message
        assert strayed == []


async def test_with_the_socket_down_orders_go_by_rest_and_over_the_socket_once_it_is_back() -> None:
    async with scripted(accepted) as (_, adapter, strayed):
        socket_ = adapter.order_socket
        assert socket_ is not None
        assert socket_._connection is not None
        await socket_._connection.close()
        assert not socket_.is_ready
        assert await adapter.submit(order("one", "90")) == Submitted("8")
        assert [item.method for item in strayed] == ["POST"]
        async with asyncio.timeout(DEADLINE_S):
            while not socket_.is_ready:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await adapter.submit(order("two", "90")) == Submitted("7")
        assert len(strayed) == 1


async def test_what_is_unanswered_when_the_connection_is_cut_is_unknown_and_was_sent_once() -> None:
    arrived = asyncio.Event()
    ids: list[str] = []

    def respond(request: dict[str, Any]) -> bytes | None:
        ids.append(request["params"]["newClientOrderId"])
        if len(ids) < 5:
            return None
        arrived.set()
        return CLOSE

    async with scripted(respond) as (_, adapter, strayed):
        results = await asyncio.gather(*(adapter.submit(order(f"n{index}", "90")) for index in range(5)))
        assert arrived.is_set()
        assert [type(result) for result in results] == [SubmitUnknown] * 5
        assert sorted(ids) == [f"n{index}" for index in range(5)]
        assert strayed == []


async def test_more_in_flight_than_the_socket_takes_goes_by_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_orders, "MAX_IN_FLIGHT", 1)
    async with scripted(lambda _: None) as (script, adapter, strayed):
        waiting = asyncio.create_task(adapter.submit(order("first", "90")))
        await script.signal.until(lambda: bool(script.requests))
        assert await adapter.submit(order("one", "90")) == Submitted("8")
        assert [item.parameters["newClientOrderId"] for item in strayed] == ["one"]
        assert adapter.order_socket is not None
        assert adapter.order_socket._connection is not None
        await adapter.order_socket._connection.close()
        assert isinstance(await waiting, SubmitUnknown)


AMENDED = {"symbol": "BTCUSDT", "clientOrderId": "one", "qty": "0.4", "price": "90", "status": "NEW"}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"amendedOrder": AMENDED}, Amended),
        ({"amendedOrder": AMENDED | {"clientOrderId": "two"}}, AmendUnknown),
        ({"amendedOrder": AMENDED | {"symbol": "ETHUSDT"}}, AmendUnknown),
        ({"amendedOrder": AMENDED | {"qty": "-1"}}, AmendUnknown),
        ({"amendedOrder": AMENDED | {"qty": "NaN"}}, AmendUnknown),
        ({}, AmendUnknown),
    ],
)
async def test_an_amendment_is_believed_only_when_it_is_about_the_order(result: object, expected: type) -> None:
    async with scripted(lambda request: accepted(request, result=result)) as (script, adapter, _):
        assert type(await adapter.amend(order("one", "90"), 40_000, None)) is expected
        assert [item["method"] for item in script.requests] == ["order.amend.keepPriority"]
        priced = await adapter.amend(order("one", "90"), 40_000, 8_000)
        assert isinstance(priced, AmendRefused)
        assert len(script.requests) == 1


Break = Callable[[Link], None]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda link: link.truncate_next_frame(),
        lambda link: link.stall(to_venue=False),
        lambda link: link.drop_frames(1, b"orderId"),
        lambda link: link.close_websocket(1008),
        lambda link: link.inject(b"\xff\xff\xff"),
    ],
)
async def test_an_answer_lost_on_the_way_leaves_one_order_that_is_found_by_its_id(
    tmp_path: Path, break_it: Break
) -> None:
    async with paper(tmp_path) as venue, ChaosProxy(venue.port) as proxy:
        options: dict[str, Any] = {"websocket_api_url": f"{proxy.websocket_url}/ws-api/v3", "read_timeout_s": 0.5}
        async with spot(venue, **options) as adapter:
            await connected(adapter)
            await adapter.instruments()
            (link,) = proxy.websockets
            break_it(link)
            result = await adapter.submit(order("lost", "90"))
            assert isinstance(result, SubmitUnknown), result
            async with asyncio.timeout(DEADLINE_S):
                # What was on its way when we gave up may still arrive.
                while True:
                    found = await adapter.order("BTCUSDT", "lost")
                    placed = [item.client_order_id for item in venue.exchange.account.open_orders(None)]
                    assert placed in ([], ["lost"])
                    if placed == ([] if found is None else ["lost"]):
                        break


class Ready:
    """Orders that were made ready, and their answers by clientOrderId; over once all of them are here. bursts: which
    were told at once."""

    def __init__(self, adapter: BinanceSpot, *orders: OrderIntent, awaited: int | None = None) -> None:
        self.answers: dict[str, SubmitResult] = {}
        self.bursts: list[list[str]] = []
        self._awaited = len(orders) if awaited is None else awaited
        self._over = asyncio.Event()
        self._adapter = adapter
        self.prepared = adapter.prepare(orders, self._take)

    def begin(self) -> Sequence[OrderIntent]:
        """Those that weren't sent."""
        assert self.prepared is not None
        return self._adapter.begin(self.prepared)

    async def told(self) -> dict[str, SubmitResult]:
        async with asyncio.timeout(DEADLINE_S):
            await self._over.wait()
        return self.answers

    def _take(self, answers: Sequence[tuple[OrderIntent, SubmitResult]]) -> None:
        self.answers.update({intent.client_order_id: result for intent, result in answers})
        self.bursts.append([intent.client_order_id for intent, _ in answers])
        if len(self.answers) == self._awaited:
            self._over.set()


def used_of_day(adapter: BinanceSpot) -> int:
    limits = adapter.rest.limiter.state().buckets
    return next(item.used for item in limits if (item.kind, item.window_s) == ("ORDERS", 86_400))


async def test_an_order_that_was_made_ready_is_sent_once_and_at_once() -> None:
    async with scripted(accepted) as (script, adapter, rest_requests):
        one = order("one", "60000")
        ready = Ready(adapter, one)
        assert adapter.order_socket is not None
        assert script.requests == []
        assert ready.begin() == ()
        assert ready.begin() == [one]
        assert await ready.told() == {"one": Submitted("7")}
        (request,) = script.requests
        assert (request["method"], request["params"]["newClientOrderId"]) == ("order.place", "one")
        assert "signature" in request["params"]
        assert rest_requests == []


async def test_what_is_withdrawn_isnt_sent_and_uses_up_no_limit() -> None:
    async with scripted(accepted) as (script, adapter, _):
        before = used_of_day(adapter)
        ready = Ready(adapter, order("one", "60000"), order("two", "60000"))
        assert used_of_day(adapter) == before + 2
        assert ready.prepared is not None
        adapter.withdraw(ready.prepared)
        assert used_of_day(adapter) == before
        assert [intent.client_order_id for intent in ready.begin()] == ["one", "two"]
        adapter.withdraw(ready.prepared)
        assert used_of_day(adapter) == before
        sent = Ready(adapter, order("three", "60000"))
        assert sent.begin() == ()
        assert await sent.told() == {"three": Submitted("7")}
        assert [request["params"]["newClientOrderId"] for request in script.requests] == ["three"]


@pytest.mark.parametrize(
    ("status", "goes"), [(None, True), (429, False), (418, False)], ids=["nothing", "slow down", "banned"]
)
async def test_what_was_made_ready_before_the_venue_said_stop_isnt_sent(status: int | None, goes: bool) -> None:
    async with scripted(accepted) as (script, adapter, _):
        one = order("one", "60000")
        ready = Ready(adapter, one)
        if status is not None:
            adapter.rest.limiter.on_refused(status, -1003, "too many requests", 60.0)
        assert list(ready.begin()) == ([] if goes else [one])
        if goes:
            await ready.told()
        assert len(script.requests) == int(goes)


async def test_what_cant_be_made_ready_gives_back_what_was_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(accepted) as (_, adapter, _rest):
        before, acquire = used_of_day(adapter), adapter.rest.limiter.acquire

        def broken_for_orders(endpoint: Any, parameters: Any, priority: Priority, requests: int = 1) -> Any:
            if priority is Priority.ORDER:
                raise RuntimeError("planted")
            return acquire(endpoint, parameters, priority, requests)

        monkeypatch.setattr(adapter.rest.limiter, "acquire", broken_for_orders)
        with pytest.raises(RuntimeError):
            Ready(adapter, order("one", "60000"), order("two", "60000", reduce_only=True))
        assert used_of_day(adapter) == before


async def test_what_was_made_ready_before_the_venue_refused_our_time_isnt_sent() -> None:
    async with scripted(accepted) as (script, adapter, _):
        one = order("one", "60000")
        ready = Ready(adapter, one)
        adapter.rest.clock.invalidate()
        assert list(ready.begin()) == [one]
        assert script.requests == []


@pytest.mark.parametrize(
    ("respond", "outcome"),
    [
        (lambda request: refused(request, 400, -2010, "insufficient balance"), SubmitRefused),
        (lambda request: refused(request, 504, -1007), SubmitUnknown),
        (lambda _request: None, SubmitUnknown),
        (lambda _request: CLOSE, SubmitUnknown),
    ],
    ids=["refused", "timed out there", "no answer", "connection lost"],
)
async def test_the_answer_to_an_order_sent_at_once_tells_what_is_known(respond: Respond, outcome: type) -> None:
    async with scripted(respond, patience_s(outcome)) as (script, adapter, _):
        ready = Ready(adapter, order("one", "60000"))
        assert ready.begin() == ()
        assert isinstance((await ready.told())["one"], outcome)
        await script.signal.until(lambda: bool(script.requests))
        assert len(script.requests) == 1


async def test_what_was_made_ready_for_a_connection_that_is_gone_isnt_sent() -> None:
    async with scripted(lambda _request: CLOSE) as (script, adapter, _):
        two = order("two", "60000")
        late, first = Ready(adapter, two), Ready(adapter, order("one", "60000"))
        assert first.begin() == ()
        await first.told()
        assert list(late.begin()) == [two]
        assert [request["params"]["newClientOrderId"] for request in script.requests] == ["one"]


async def test_orders_that_are_begun_together_leave_together_and_each_has_its_answer() -> None:
    async with scripted(accepted) as (script, adapter, _):
        ready = Ready(adapter, order("one", "60000"), order("two", "60000"))
        assert script.requests == []
        assert ready.begin() == ()
        assert await ready.told() == {"one": Submitted("7"), "two": Submitted("7")}
        assert [request["params"]["newClientOrderId"] for request in script.requests] == ["one", "two"]


async def test_orders_that_need_more_than_a_price_leave_with_the_plain_ones() -> None:
    async with scripted(accepted) as (script, adapter, _):
        plain, last = order("one", "60000"), order("three", "60000", reduce_only=True)
        stop = order("two", "60000", order_type=OrderType.STOP_LIMIT, stop_price=5_900_000)
        unfit = order("four", "60000", time_in_force=TimeInForce.GTD)
        ready = Ready(adapter, plain, stop, last, unfit, awaited=3)
        assert ready.begin() == [unfit]
        assert await ready.told() == dict.fromkeys(("one", "two", "three"), Submitted("7"))
        asked = {request["params"]["newClientOrderId"]: request for request in script.requests}
        assert list(asked) == ["three", "one", "two"], "what only reduces goes first"
        assert asked["two"]["params"]["stopPrice"] == "59000"
        assert len({request["id"] for request in script.requests}) == 3


async def test_a_burst_of_answers_is_told_at_once_and_an_order_that_the_limits_hold_back_isnt_begun() -> None:
    async with scripted(accepted) as (_, adapter, _rest):
        adapter.rest.limiter.configure([RateRule("ORDERS", "SECOND", 10, 4), RateRule("ORDERS", "DAY", 1, 100)])
        orders = [order(name, "60000") for name in ("one", "two", "three", "four")]
        # 95 % of four are three.
        ready = Ready(adapter, *orders, awaited=3)
        assert ready.begin() == orders[3:]
        assert set((await ready.told()).values()) == {Submitted("7")}
        assert [name for names in ready.bursts for name in names] == ["one", "two", "three"]
        assert used_of_day(adapter) == 3


async def test_answers_of_one_read_are_told_together_and_each_gives_its_leave_back() -> None:
    """The venue's count of the day is the highest that it told, whatever comes last; an answer that nobody waits for is
    passed over."""
    async with scripted(lambda _request: None) as (_, adapter, _rest):
        socket = adapter.order_socket
        assert socket is not None
        assert isinstance(socket._connection, ws_orders.OrderConnection)
        adapter.rest.limiter.configure([RateRule("ORDERS", "DAY", 1, 100)])
        ready = Ready(adapter, *(order(name, "60000") for name in ("one", "two", "three")))
        assert ready.begin() == ()
        read = b""
        for request_id, name, count in zip(
            [*socket._pending, "999"], ("one", "two", "other", "x"), (7, 9, 8, 50), strict=True
        ):
            limits = [{"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 100, "count": count}]
            asked = {"id": request_id, "params": {"newClientOrderId": name}}
            read += Frame(Opcode.TEXT, accepted(asked, rateLimits=limits).encode()).serialize(mask=False)
        socket._connection.data_received(read)
        assert ready.bursts == [["one", "two", "three"]]
        answers = ready.answers
        assert (answers["one"], answers["two"]) == (Submitted("7"), Submitted("7"))
        assert isinstance(answers["three"], SubmitUnknown), "another order was acknowledged than was sent"
        assert socket._pending == {}
        assert used_of_day(adapter) == 9


async def test_an_answer_that_cant_be_taken_leaves_the_others_theirs() -> None:
    async with scripted(accepted) as (_, adapter, _rest):

        def refuses(_answers: Sequence[tuple[OrderIntent, SubmitResult]]) -> None:
            raise RuntimeError("planted")

        prepared = adapter.prepare([order("one", "60000")], refuses)
        assert prepared is not None
        assert adapter.begin(prepared) == ()
        second = Ready(adapter, order("two", "60000"))
        assert second.begin() == ()
        assert await second.told() == {"two": Submitted("7")}


async def test_each_order_without_an_answer_is_told_when_its_own_time_is_over() -> None:
    async with scripted(lambda _request: None, NO_ANSWER_S) as (_, adapter, _rest):
        for name in ("one", "two"):
            ready = Ready(adapter, order(name, "60000"))
            assert ready.begin() == ()
            assert isinstance((await ready.told())[name], SubmitUnknown)


async def test_a_request_that_grew_old_while_the_disk_worked_isnt_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(accepted) as (script, adapter, _):
        one = order("one", "60000")
        ready = Ready(adapter, one)
        monkeypatch.setattr(ws_orders, "PREPARED_FOR_NS", -1)
        assert list(ready.begin()) == [one]
        assert script.requests == []
