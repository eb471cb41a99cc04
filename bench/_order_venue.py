"""A venue that takes every order: Binance's WebSocket API as far as placing one needs, and its clock over HTTP.

It acknowledges and remembers when each order's bytes arrived; it costs as little as Python can, because it runs on the
machine that is measured. Run as a process: prints its port, ends with its input.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from typing import cast

import uvloop
from websockets.speedups import apply_mask

ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
FIN = 0x80
SHORT_LENGTH = 126
ARRIVALS_PATH = "/bench/arrivals"
ARRIVALS_KEPT = 2_000_000
WHERE_ID = b'"newClientOrderId":"'
WHERE_REQUEST = b'"id":"'


class Venue:
    """Arrivals by clientOrderId, in nanoseconds of this machine's monotonic clock, since they were last asked for."""

    def __init__(self) -> None:
        self.arrivals: dict[str, int] = {}
        self.orders = 0

    def answer(self, frame: bytes, now_ns: int) -> bytes:
        self.orders += 1
        order_id = _text_at(frame, WHERE_ID)
        if len(self.arrivals) < ARRIVALS_KEPT:
            self.arrivals[order_id.decode()] = now_ns
        return (
            b'{"id":"%s","status":200,"result":{"symbol":"","orderId":%d,"clientOrderId":"%s","transactTime":1},'
            b'"rateLimits":[{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":100,"count":1},'
            b'{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":1}]}'
            % (_text_at(frame, WHERE_REQUEST), self.orders, order_id)
        )

    def page(self, path: str) -> bytes:
        if path != ARRIVALS_PATH:
            return json.dumps({"serverTime": time.time_ns() // 1_000_000}).encode()
        arrivals, self.arrivals = self.arrivals, {}
        return json.dumps(arrivals).encode()


class Connection(asyncio.Protocol):
    """One connection, an HTTP request or a WebSocket."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._received = b""
        self._is_websocket = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        now_ns = time.perf_counter_ns()
        self._received += data
        if self._is_websocket:
            self._frames(now_ns)
        elif b"\r\n\r\n" in self._received:
            self._request()

    def _request(self) -> None:
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if b"sec-websocket-key" not in headers:
            body = self._venue.page(first.split()[1].decode())
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
            return
        accept = base64.b64encode(hashlib.sha1(headers[b"sec-websocket-key"] + ACCEPT_GUID).digest())  # noqa: S324
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %s\r\n\r\n" % accept
        )
        self._is_websocket = True

    def _frames(self, now_ns: int) -> None:
        received, at = self._received, 0
        replies: list[bytes] = []
        while (end := _frame_end(received, at)) is not None:
            start, opcode = end - _length(received, at)[0], received[at] & 0x0F
            payload = apply_mask(received[start:end], received[start - 4 : start])
            at = end
            if opcode == TEXT:
                replies.append(_frame(TEXT, self._venue.answer(payload, now_ns)))
            elif opcode == PING:
                replies.append(_frame(PONG, payload))
            elif opcode == CLOSE:
                self._transport.write(b"".join(replies) + _frame(CLOSE, payload))
                self._transport.close()
                return
        self._received = received[at:]
        if replies:
            self._transport.write(b"".join(replies))


def _text_at(frame: bytes, mark: bytes) -> bytes:
    start = frame.index(mark) + len(mark)
    return frame[start : frame.index(b'"', start)]


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Of a frame's payload, and of what stands before its mask; 64-bit lengths don't occur here."""
    short = data[at + 1] & 0x7F
    return (short, 2) if short < SHORT_LENGTH else (int.from_bytes(data[at + 2 : at + 4], "big"), 4)


def _frame_end(data: bytes, at: int) -> int | None:
    if len(data) - at < 4:
        return None
    length, head = _length(data, at)
    end = at + head + 4 + length
    return end if end <= len(data) else None


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    head = bytes((FIN | opcode, length)) if length < SHORT_LENGTH else bytes((FIN | opcode, SHORT_LENGTH))
    return head + (length.to_bytes(2, "big") if length >= SHORT_LENGTH else b"") + payload


async def serve() -> None:
    venue = Venue()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(venue), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
