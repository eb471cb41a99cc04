"""The WebSocket API: envelopes, sessions, user data subscriptions, limits. What its requests do is REST's business."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.types.clock import NS_PER_MS
from core.venues.paper import limits
from core.venues.paper.errors import PaperVenueError
from core.venues.paper.events import Trade
from core.venues.paper.server import PaperVenue
from core.venues.paper.signing import Credentials, sign
from tests.core.venues.paper.support import CREDENTIALS, ScriptedMarket, d, still_clock

TIMEOUT_S = 60.0
BUY_99 = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "99"}
PRIVATE = Ed25519PrivateKey.generate()
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
ED25519 = Credentials("ed25519-key", public_key_pem=PUBLIC_PEM)


def payload(parameters: dict[str, Any]) -> str:
    return "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))


class Session:
    """Signs and sends as the documentation says; events are kept apart from answers."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.clock = still_clock()
        self.events: list[Any] = []
        self._ids = itertools.count()

    async def ask(self, method: str, **parameters: Any) -> Any:
        request_id = f"r{next(self._ids)}"
        await self.socket.send(json.dumps({"id": request_id, "method": method, "params": parameters}))
        async with asyncio.timeout(TIMEOUT_S):
            while (answer := json.loads(await self.socket.recv())).get("id") != request_id:
                self.events.append(answer)
        return answer

    async def signed(self, method: str, *, key: str = CREDENTIALS.key, **parameters: Any) -> Any:
        parameters = {"timestamp": self.clock.now_ns() // NS_PER_MS, **parameters, "apiKey": key}
        if key == ED25519.key:
            signature = base64.b64encode(PRIVATE.sign(payload(parameters).encode())).decode()
        else:
            signature = sign(CREDENTIALS.secret, payload(parameters))
        return await self.ask(method, **parameters, signature=signature)

    async def event(self) -> Any:
        async with asyncio.timeout(TIMEOUT_S):
            return self.events.pop(0) if self.events else json.loads(await self.socket.recv())


@pytest.fixture
async def venue(tmp_path: Path) -> AsyncIterator[PaperVenue]:
    file = tmp_path / "venue.sqlite3"
    market, clock = ScriptedMarket(), still_clock()
    async with PaperVenue(market, file, CREDENTIALS, clock=clock, more_credentials=[ED25519]) as running:
        yield running


@pytest.fixture
async def session(venue: PaperVenue) -> AsyncIterator[Session]:
    async with websockets.connect(f"{venue.websocket_url}/ws-api/v3") as socket:
        yield Session(socket)


async def test_an_answer_has_its_id_status_and_limits(session: Session) -> None:
    answer = await session.ask("v3/depth", symbol="BTCUSDT", limit=1)
    assert (answer["status"], answer["result"]["bids"]) == (200, [["99.99000000", "2.00000000"]])
    (weight,) = answer["rateLimits"]
    assert (weight["rateLimitType"], weight["limit"], weight["count"]) == ("REQUEST_WEIGHT", 6_000, 7)
    assert "rateLimits" not in await session.ask("ping", returnRateLimits=False)
    order = await session.signed("order.place", **BUY_99)
    assert [one["rateLimitType"] for one in order["rateLimits"]] == ["ORDERS", "ORDERS", "REQUEST_WEIGHT"]
    assert order["rateLimits"][0]["count"] == 1
    symbols = await session.ask("ticker.price", symbols=["BTCUSDT"])
    assert symbols["result"] == [{"symbol": "BTCUSDT", "price": "99.99000000"}]


@pytest.mark.parametrize("key", [CREDENTIALS.key, ED25519.key])
async def test_orders_are_placed_changed_and_found_with_a_signature_each(
    venue: PaperVenue, session: Session, key: str
) -> None:
    placed = (await session.signed("order.place", key=key, **BUY_99))["result"]
    one = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    assert (await session.signed("order.status", key=key, **one))["result"]["status"] == "NEW"
    smaller = await session.signed("order.amend.keepPriority", key=key, newQty="0.5", **one)
    assert smaller["result"]["amendedOrder"]["qty"] == "0.50000000"
    replaced = await session.signed(
        "order.cancelReplace", key=key, cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=placed["orderId"], **BUY_99
    )
    assert replaced["result"]["newOrderResult"] == "SUCCESS"
    failed = await session.signed(
        "order.cancelReplace", key=key, cancelReplaceMode="ALLOW_FAILURE", cancelOrderId=placed["orderId"], **BUY_99
    )
    assert (failed["status"], failed["error"]["code"]) == (409, -2021)
    assert failed["error"]["data"]["cancelResult"] == "FAILURE"
    assert (await session.signed("order.test", key=key, **BUY_99))["result"] == {}
    canceled = await session.signed("openOrders.cancelAll", key=key, symbol="BTCUSDT")
    assert [row["status"] for row in canceled["result"]] == ["CANCELED", "CANCELED"]
    assert (await session.signed("account.status", key=key))["result"]["balances"][3] == {
        "asset": "USDT",
        "free": "1000000.00000000",
        "locked": "0.00000000",
    }
    assert venue.exchange.account.open_orders(None) == []


async def test_refusals(session: Session) -> None:
    table = [
        (await session.ask("dance"), 400, -1020),
        (await session.ask("depth"), 400, -1102),
        (await session.ask("depth", symbol="BTCUSDT", colour="red"), 400, -1104),
        (await session.ask("account.status"), 401, -2014),
        (await session.signed("account.status", key="who"), 401, -2015),
        (await session.signed("account.status", timestamp=1), 400, -1021),
        (await session.ask("account.status", apiKey=CREDENTIALS.key, timestamp=10**15, signature="00"), 400, -1021),
        (await session.signed("order.place", **BUY_99 | {"quantity": "25000"}), 400, -1013),
        (await session.signed("order.status", symbol="BTCUSDT", orderId=9), 400, -2013),
        (await session.signed("session.logon"), 400, -4056),
        (await session.ask("userDataStream.subscribe"), 401, -1002),
        (await session.ask("userDataStream.unsubscribe"), 400, -2036),
    ]
    assert [(answer["status"], answer["error"]["code"]) for answer, _, _ in table] == [row[1:] for row in table]


async def test_what_is_no_request_is_answered_too(session: Session) -> None:
    for text, request_id in (("{", None), ("[]", None), ('{"id":7}', 7), ('{"id":8,"method":"ping","params":[1]}', 8)):
        await session.socket.send(text)
        answer = json.loads(await session.socket.recv())
        assert (answer["id"], answer["status"]) == (request_id, 400)
    assert (await session.ask("ping"))["result"] == {}, "the connection lives on"


async def test_a_session_needs_no_further_signature(session: Session) -> None:
    on = (await session.signed("session.logon", key=ED25519.key))["result"]
    assert (on["apiKey"], on["userDataStream"]) == (ED25519.key, False)
    assert (await session.ask("order.place", **BUY_99))["result"]["status"] == "NEW"
    stale = await session.ask("openOrders.status", timestamp=1)
    assert stale["error"]["code"] == -1021
    assert (await session.ask("session.status"))["result"]["authorizedSince"] == on["authorizedSince"]
    assert (await session.ask("session.logout"))["result"]["apiKey"] is None
    assert (await session.ask("openOrders.status"))["error"]["code"] == -2014


async def test_user_data_comes_by_session_and_by_signature(venue: PaperVenue, session: Session) -> None:
    await session.signed("session.logon", key=ED25519.key)
    assert (await session.ask("userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
    assert (await session.ask("userDataStream.subscribe"))["error"]["code"] == -2035
    assert (await session.signed("userDataStream.subscribe.signature"))["result"] == {"subscriptionId": 1}
    await session.ask("order.place", **BUY_99)
    events = [await session.event() for _ in range(4)]
    assert sorted((one["subscriptionId"], one["event"]["e"]) for one in events) == [
        (0, "executionReport"),
        (0, "outboundAccountPosition"),
        (1, "executionReport"),
        (1, "outboundAccountPosition"),
    ]
    await session.ask("session.logout")
    subscriptions = await session.ask("session.subscriptions")
    assert subscriptions["result"] == [{"subscriptionId": 1}], "a signature's own subscription outlives the session"
    venue.exchange.on_market(Trade("BTCUSDT", 1, 1, 1, d("98"), d("5"), buyer_is_maker=True))
    fill = await session.event()
    assert (fill["subscriptionId"], fill["event"]["x"], fill["event"]["X"]) == (1, "TRADE", "FILLED")
    await session.event()
    assert (await session.ask("userDataStream.unsubscribe", subscriptionId=1))["result"] == {}
    assert venue.exchange.account.listeners == set()


async def test_a_subscription_ends_with_its_connection(venue: PaperVenue) -> None:
    async with websockets.connect(f"{venue.websocket_url}/ws-api/v3") as socket:
        await Session(socket).signed("userDataStream.subscribe.signature")
        assert len(venue.exchange.account.listeners) == 1
    async with asyncio.timeout(TIMEOUT_S):
        while venue.exchange.account.listeners:  # noqa: ASYNC110 the venue tells nobody
            await asyncio.sleep(0)


async def test_listen_keys_are_made_here_too(venue: PaperVenue, session: Session) -> None:
    key = (await session.ask("userDataStream.start", apiKey=CREDENTIALS.key))["result"]["listenKey"]
    async with websockets.connect(f"{venue.websocket_url}/ws/{key}") as user:
        await session.signed("order.place", **BUY_99)
        assert json.loads(await user.recv())["X"] == "NEW"
    assert (await session.ask("userDataStream.ping", apiKey=CREDENTIALS.key, listenKey=key))["result"] == {}
    assert (await session.ask("userDataStream.stop", apiKey=CREDENTIALS.key, listenKey=key))["result"] == {}
    gone = await session.ask("userDataStream.ping", apiKey=CREDENTIALS.key, listenKey=key)
    assert gone["error"] == {"code": -1125, "msg": "This listenKey does not exist."}


async def test_times_come_in_microseconds_when_asked(venue: PaperVenue) -> None:
    async with websockets.connect(
        f"{venue.websocket_url}/ws-api/v3?timeUnit=microsecond&returnRateLimits=false"
    ) as socket:
        session = Session(socket)
        answer = await session.ask("time")
        assert answer["result"]["serverTime"] > 10**15
        assert "rateLimits" not in answer
        await session.signed("userDataStream.subscribe.signature")
        placed = (await session.signed("order.place", **BUY_99))["result"]
        report = (await session.event())["event"]
        assert report["T"] == placed["transactTime"] > 10**15
        assert report["i"] == placed["orderId"]


async def test_limits_end_in_429_then_418_and_the_connection_with_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_WEIGHT_PER_MINUTE", 1)
    monkeypatch.setattr(limits, "MAX_IGNORED_REFUSALS", 2)
    answers = [await session.ask("trades.recent", symbol="BTCUSDT") for _ in range(3)]
    assert [answer["status"] for answer in answers] == [429, 429, 418]
    data = answers[-1]["error"]["data"]
    assert data["retryAfter"] - data["serverTime"] == 120_000
    async with asyncio.timeout(TIMEOUT_S):
        await session.socket.wait_closed()
    assert session.socket.close_code == 1008


@pytest.mark.parametrize("pem", ["", "no PEM at all"])
async def test_a_key_that_cannot_be_checked_does_not_start(tmp_path: Path, pem: str) -> None:
    with pytest.raises(PaperVenueError, match=r"secret|public key"):
        PaperVenue(ScriptedMarket(), tmp_path / "v.sqlite3", Credentials("key", public_key_pem=pem))
