"""Spot's user data stream by signed subscription on the WebSocket API, against a server that checks as the venue does
(https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/user-data-stream-requests)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from core.types.clock import NS_PER_MS, SystemClock
from core.types.orders import OrderStatus
from core.venues.binance.adapter import BinanceSpot
from core.venues.ports import ExecutionReport, UserEvent, UserStreamConnected, UserStreamLost
from tests.core.venues.binance.support import DEADLINE_S, HttpRequest, answer, scripted_http

FILTERS = [
    {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
    {"filterType": "LOT_SIZE", "stepSize": "0.00001000", "minQty": "0.00001000", "maxQty": "9000.00000000"},
    {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
]
LISTED = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": FILTERS}
REPORT = {
    "e": "executionReport", "E": 1, "s": "BTCUSDT", "c": "mine", "S": "BUY", "x": "NEW", "X": "NEW", "r": "NONE",
    "i": 7, "l": "0", "z": "0", "L": "0", "T": 1, "t": -1, "m": False, "C": "", "n": "0", "N": None,
}  # fmt: skip
API_KEY, SECRET = "api-key", "api-secret"


class ApiVenue:
    """The WebSocket API as far as a user data stream needs it: it checks key, time and signature, and plays events.

    skew_ms sets its clock apart from ours.
    """

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = events
        self.skew_ms = 0
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    def now_ms(self) -> int:
        return SystemClock().now_ns() // NS_PER_MS + self.skew_ms

    async def serve_one(self, connection: ServerConnection) -> None:
        request = msgspec.json.decode(await connection.recv(decode=False))
        self.requests.append(request)
        await connection.send(b'{"id":"of another request","status":400}', text=True)
        refused = self._refusal(request["method"], dict(request["params"]))
        head = {"id": request["id"], "rateLimits": []}
        if refused is not None:
            code, message = refused
            reply = {**head, "status": 400, "error": {"code": code, "msg": message}}
            await connection.send(msgspec.json.encode(reply), text=True)
        else:
            await connection.send(
                msgspec.json.encode({**head, "status": 200, "result": {"subscriptionId": 0}}), text=True
            )
            for event in self.events:
                await connection.send(msgspec.json.encode({"subscriptionId": 0, "event": event}), text=True)
        await connection.wait_closed()

    def _refusal(self, method: str, parameters: dict[str, Any]) -> tuple[int, str] | None:
        if method != "userDataStream.subscribe.signature":
            return -1000, "unknown method"
        signature = parameters.pop("signature")
        payload = "&".join(f"{name}={value}" for name, value in sorted(parameters.items()))
        if parameters["apiKey"] != API_KEY:
            return -2015, "Invalid API-key, IP, or permissions for action."
        if not -1_000 < self.now_ms() - parameters["timestamp"] <= parameters["recvWindow"]:
            return -1021, "Timestamp for this request is outside of the recvWindow."
        if hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest() != signature:
            return -1022, "Signature for this request is not valid."
        return None


@asynccontextmanager
async def listening(
    venue: ApiVenue, api_key: str = API_KEY, secret: str = SECRET
) -> AsyncIterator[tuple[BinanceSpot, AsyncIterator[UserEvent]]]:
    def respond(request: HttpRequest) -> bytes:
        assert request.path == "/api/v3/exchangeInfo", f"{request.path} is not this way's"
        return answer(200, {"symbols": [LISTED]})

    async with (
        serve(venue.serve_one, "127.0.0.1", 0, close_timeout=1) as server,
        scripted_http(respond) as script,
    ):
        script.server_ms = venue.now_ms
        adapter = BinanceSpot(
            script.url,
            api_key,
            secret,
            SystemClock(),
            venue="binance",
            websocket_url="ws://127.0.0.1:9",
            websocket_api_url=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws-api/v3",
            random=Random(1),
        )
        events = adapter.user_events()
        try:
            yield adapter, events
        finally:
            await events.aclose()  # type: ignore[attr-defined]
            await adapter.aclose()


async def take(events: AsyncIterator[UserEvent], count: int) -> list[UserEvent]:
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(events) for _ in range(count)]


async def test_a_signed_subscription_brings_reports_without_a_listen_key() -> None:
    venue = ApiVenue(REPORT)
    async with listening(venue) as (adapter, events):
        connected, report = await take(events, 2)
        assert isinstance(connected, UserStreamConnected)
        assert isinstance(report, ExecutionReport)
        assert (report.order.client_order_id, report.order.status) == ("mine", OrderStatus.ACCEPTED)
        assert adapter.rest.used_weight_1m >= 4


@pytest.mark.parametrize("kind", ["eventStreamTerminated", "serverShutdown"])
async def test_an_ended_subscription_is_made_anew(kind: str) -> None:
    venue = ApiVenue({"e": kind, "E": 1})
    async with listening(venue) as (_, events):
        first, lost, again = await take(events, 3)
        assert (first, again) == (UserStreamConnected(), UserStreamConnected())
        assert isinstance(lost, UserStreamLost)
        assert kind in lost.detail
        assert len(venue.requests) == 2


async def test_a_report_that_cant_be_read_is_a_loss_that_reconciliation_makes_good() -> None:
    venue = ApiVenue({**REPORT, "X": "NEVER_HEARD_OF"}, REPORT)
    async with listening(venue) as (_, events):
        seen = await take(events, 4)
        assert [type(event) for event in seen] == [
            UserStreamConnected,
            UserStreamLost,
            UserStreamConnected,
            ExecutionReport,
        ]
        assert len(venue.requests) == 1


@pytest.mark.parametrize("skew_ms", [-600_000, 600_000])
async def test_a_venue_whose_clock_jumps_is_subscribed_to_again_after_a_new_estimate(skew_ms: int) -> None:
    venue = ApiVenue({"e": "serverShutdown", "E": 1})
    async with listening(venue) as (adapter, events):
        assert [type(event) for event in await take(events, 2)] == [UserStreamConnected, UserStreamLost]
        venue.skew_ms = skew_ms
        assert await take(events, 1) == [UserStreamConnected()]
        assert abs(adapter.rest.clock_offset_ms - skew_ms) < 1_000


@pytest.mark.parametrize(
    ("api_key", "secret", "expected"),
    [("other", SECRET, r"'venue-binance'.*IP list"), (API_KEY, "other", r"venue-binance\.secret doesn't belong")],
)
async def test_a_wrong_key_is_named_and_asked_about_with_patience(api_key: str, secret: str, expected: str) -> None:
    async with listening(ApiVenue(), api_key, secret) as (_, events):
        (lost,) = await take(events, 1)
        assert isinstance(lost, UserStreamLost)
        assert re.search(expected, lost.detail), lost.detail
        assert secret not in lost.detail
