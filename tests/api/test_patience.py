"""A client that dawdles loses its connection; one that waits for its answer doesn't."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from api import patience

TIMEOUT_S = 60


async def app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(4 * patience.REQUEST_TIMEOUT_S)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le", 0),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab", 0),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    ],
)
async def test_a_request_has_to_arrive_in_time(sent: bytes, answers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_TIMEOUT_S", 0.1)
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=0, http=patience.ImpatientProtocol, log_config=None, lifespan="off", timeout_keep_alive=1
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.wait({serving}, timeout=0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(TIMEOUT_S):
            received = await reader.read()
        assert received.count(b"HTTP/1.1 204") == answers
    finally:
        writer.close()
        server.should_exit = True
        await serving
