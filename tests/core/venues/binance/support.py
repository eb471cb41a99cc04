"""Parts of the adapter's tests: a scripted HTTP server, a venue that plays frames, and waiting without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from core.types.orders import OrderStatus
from core.venues.binance.account import BinanceAccount
from core.venues.ports import ExecutionReport, UserEvent, UserStreamConnected

DEADLINE_S = 60.0
"""How long something is waited for that comes: it only ends a test that hangs."""
NO_ANSWER_S = 0.3
"""How long something is waited for that doesn't come."""
CLOSE_BEFORE_ANSWER = b""
RESET = b"reset"
DRIP = b"drip"
DRIP_S = 0.02
TIME_BODY = {"serverTime": 1_700_000_000_000}


def answer(status: int, body: object, headers: str = "") -> bytes:
    """An HTTP response with a JSON body, or with the bytes given."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    head = f"HTTP/1.1 {status} Any\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


class HttpRequest(msgspec.Struct):
    method: str
    path: str
    parameters: dict[str, str]
    query: str = ""
    api_key: str = ""


class ScriptedHttp:
    """A real HTTP server whose answers a test writes. CLOSE_BEFORE_ANSWER closes the connection after the request was
    read, RESET resets it, DRIP sends a byte of an answer now and then, None never answers. The server's time is
    answered by itself, from server_ms."""

    def __init__(self, respond: Callable[[HttpRequest], bytes | None]) -> None:
        self._respond = respond
        self._arrived = Signal()
        self.requests: list[HttpRequest] = []
        self.connections = 0
        self.time_requests = 0
        self.server_ms: Callable[[], int] = lambda: TIME_BODY["serverTime"]
        self.url = ""

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, target, _ = head.split(" ", 2)
                reply = self._reply(method, target, head)
                if reply is None:
                    await reader.read()
                    return
                if reply == CLOSE_BEFORE_ANSWER:
                    return
                if reply == RESET:
                    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
                    return
                if reply == DRIP:
                    writer.write(answer(200, b" " * 1_000)[:-1_000])
                    while not reader.at_eof():
                        writer.write(b" ")
                        await writer.drain()
                        with suppress(TimeoutError):
                            await asyncio.wait_for(reader.read(1), DRIP_S)
                    return
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _reply(self, method: str, target: str, head: str) -> bytes | None:
        url = urlsplit(target)
        if url.path.endswith("/time"):
            self.time_requests += 1
            return answer(200, {"serverTime": self.server_ms()})
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        parameters = {key: value[0] for key, value in parse_qs(url.query).items()}
        request = HttpRequest(method, url.path, parameters, url.query, fields.get("x-mbx-apikey", ""))
        self.requests.append(request)
        self._arrived.ring()
        return self._respond(request)

    async def asked(self) -> None:
        """Until a request has arrived: whoever gave up waiting for its answer may be ahead of that."""
        await self._arrived.until(lambda: bool(self.requests))


@asynccontextmanager
async def scripted_http(respond: Callable[[HttpRequest], bytes | None]) -> AsyncIterator[ScriptedHttp]:
    script = ScriptedHttp(respond)
    server = await asyncio.start_server(script.serve_one, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()


async def unused_url() -> str:
    """An address where nothing listens."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"


class Signal:
    """Wakes those who wait for a condition whenever something happened."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()

    def ring(self, *_: object) -> None:
        self._happened.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


class Listener:
    """The user data stream's events, heard from the start."""

    def __init__(self, adapter: BinanceAccount[Any]) -> None:
        self._stream = adapter.user_events()

    async def __aenter__(self) -> Listener:
        assert [type(event) for event in await self.until(UserStreamConnected)] == [UserStreamConnected]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]

    async def until(self, last: type[UserEvent] | OrderStatus) -> list[Any]:
        seen: list[Any] = []
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event = await anext(self._stream)
                seen.append(event)
                status = event.order.status if isinstance(event, ExecutionReport) else None
                if status is last or (isinstance(last, type) and isinstance(event, last)):
                    return seen
