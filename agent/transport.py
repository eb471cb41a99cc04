"""An in-process HTTP transport that streams: the client talks to an ASGI app as if over a socket.

httpx2's own ASGITransport buffers the whole response, which would hold a streamed answer back until its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx2

QUEUE_LIMIT_CHUNKS = 64

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class _Exchange(httpx2.AsyncByteStream):
    """One request and its response: the app runs as a task and waits when QUEUE_LIMIT_CHUNKS chunks are unread."""

    def __init__(self, app: AsgiApp, scope: dict[str, Any], body: bytes) -> None:
        self._body: bytes | None = body
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_LIMIT_CHUNKS)
        self._disconnected = asyncio.Event()
        self._failure: httpx2.ReadError | None = None
        self._head: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(app, scope), name="in-process-app")

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        return await asyncio.shield(self._head)

    async def _run(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            self._failure = httpx2.ReadError(f"the in-process app failed: {error!r}")
            if not self._head.done():
                self._head.set_exception(self._failure)
        finally:
            if not self._head.done():
                self._head.set_exception(httpx2.ReadError("the in-process app ended without an answer"))
            if not self._disconnected.is_set():
                await self._queue.put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head.set_result((message["status"], list(message.get("headers", []))))
        elif message["type"] == "http.response.body" and message.get("body"):
            await self._queue.put(bytes(message["body"]))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._queue.get()) is not None:
            yield chunk
        if self._failure is not None:
            raise self._failure

    async def aclose(self) -> None:
        """Tell the app that its client has gone, and end it."""
        self._disconnected.set()
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._head.done() and not self._head.cancelled():
            self._head.exception()


class StreamingAsgiTransport(httpx2.AsyncBaseTransport):
    """Requests go to an ASGI app in this event loop; responses come as they are sent."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.split(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": ("127.0.0.1", 0),
            "root_path": "",
        }
        exchange = _Exchange(self._app, scope, body)
        try:
            status, headers = await exchange.head()
        except BaseException:
            await exchange.aclose()
            raise
        return httpx2.Response(status, headers=headers, stream=exchange)
