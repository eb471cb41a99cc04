"""The in-process transport: chunks arrive as they are sent, and leaving early ends the app."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from agent.transport import QUEUE_LIMIT_CHUNKS, StreamingAsgiTransport


def client_of(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=StreamingAsgiTransport(app), base_url="http://in-process")


async def start(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})


async def test_a_chunk_arrives_before_the_next_is_sent() -> None:
    received = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await received.wait()
        await send({"type": "http.response.body", "body": b"second"})

    async with client_of(app) as client, client.stream("GET", "/x?y=1") as response:
        chunks = []
        async for chunk in response.aiter_bytes():
            chunks.append(chunk)
            received.set()
    assert chunks == [b"first", b"second"]


async def test_the_request_reaches_the_app_whole() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, body=(await receive())["body"])
        await start(send)
        await send({"type": "http.response.body", "body": b""})

    async with client_of(app) as client:
        await client.post("/a/b?c=d", content=b"hello")
    assert (seen["method"], seen["path"], seen["query_string"], seen["body"]) == ("POST", "/a/b", b"c=d", b"hello")


async def test_leaving_early_disconnects_and_cancels_the_app() -> None:
    ended = asyncio.Event()
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await start(send)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                sent += 1
        finally:
            ended.set()

    async with client_of(app) as client:
        async with client.stream("GET", "/") as response:
            await anext(response.aiter_bytes())
        await asyncio.wait_for(ended.wait(), 60)
    assert sent <= QUEUE_LIMIT_CHUNKS + 2


@pytest.mark.parametrize("answers_first", [False, True])
async def test_an_app_that_fails_is_an_error_of_the_transport(answers_first: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if answers_first:
            await start(send)
        raise RuntimeError("broken")

    async with client_of(app) as client:
        with pytest.raises(httpx2.ReadError):
            await client.get("/")
