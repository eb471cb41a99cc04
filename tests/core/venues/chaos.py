"""A TCP proxy that stands between a client and a venue and breaks what passes, the way networks and venues do.

It understands just enough of HTTP/1.1 and RFC 6455 to break things where it hurts: between two WebSocket frames, in
the middle of one, or in place of an HTTP answer. Faults are applied to links that exist at that moment unless said
otherwise; `refuse` is for those to come.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType

import msgspec

CHUNK_BYTES = 64 * 1024
HEAD_LIMIT_BYTES = 64 * 1024
DEADLINE_S = 60.0
OPCODE_TEXT = 0x1
OPCODE_CLOSE = 0x8
FINAL = 0x80


class CannedAnswer(msgspec.Struct):
    """An HTTP answer that the proxy gives in the venue's stead, `times` times, to requests below `path`.

    None as the status closes the connection without an answer; `part_of_body` sends that much and then closes.
    """

    path: str
    status: int | None
    body: bytes = b'{"code":-1000,"msg":"chaos"}'
    headers: tuple[tuple[str, str], ...] = ()
    times: int = 1
    containing: str = ""
    part_of_body: int | None = None

    def suits(self, target: str) -> bool:
        return self.times > 0 and target.startswith(self.path) and self.containing in target

    def encode(self) -> bytes:
        head = [f"HTTP/1.1 {self.status} Chaos", "content-type: application/json", f"content-length: {len(self.body)}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        body = self.body if self.part_of_body is None else self.body[: self.part_of_body]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Link:
    """One client's connection through the proxy. `target` is the path of its first request."""

    def __init__(self, proxy: ChaosProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.target = ""
        self.is_websocket = False
        self.frames = 0
        self._proxy = proxy
        self._client_reader, self._client_writer = reader, writer
        self._venue_writer: asyncio.StreamWriter | None = None
        self._to_client, self._to_venue = asyncio.Event(), asyncio.Event()
        self._to_client.set()
        self._to_venue.set()
        self._truncate: float | None = None
        self._drop_frames, self._drop_containing = 0, b""
        self._mute = False

    async def run(self) -> None:
        """Forward both ways until one side ends."""
        try:
            venue_reader, self._venue_writer = await asyncio.open_connection(*self._proxy.venue)
        except OSError:
            self._client_writer.close()
            return
        forwards = [
            asyncio.create_task(self._client_to_venue(self._venue_writer)),
            asyncio.create_task(self._venue_to_client(venue_reader)),
        ]
        try:
            await asyncio.wait(forwards, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in forwards:
                task.cancel()
            await asyncio.gather(*forwards, return_exceptions=True)
            self._close_both()

    # faults

    def cut(self, *, reset: bool = False) -> None:
        """End both sides at once: orderly (FIN), or with a reset (RST)."""
        if reset:
            for writer in (self._client_writer, self._venue_writer):
                sock = None if writer is None else writer.get_extra_info("socket")
                if sock is not None:
                    with suppress(OSError):  # it is closed already
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close_both()

    def stall(self, *, to_client: bool = True, to_venue: bool = True) -> None:
        """Stop forwarding; both connections stay open."""
        if to_client:
            self._to_client.clear()
        if to_venue:
            self._to_venue.clear()

    def resume(self) -> None:
        self._to_client.set()
        self._to_venue.set()

    def truncate_next_frame(self, share: float = 0.5) -> None:
        """Forward this share of the next WebSocket frame from the venue, and cut the connection."""
        self._truncate = share

    def drop_frames(self, count: int, containing: bytes = b"") -> None:
        """Swallow the next frames from the venue that hold a text: messages lost in a way that no transport shows."""
        self._drop_frames, self._drop_containing = count, containing

    def inject(self, raw: bytes) -> None:
        """Send bytes to the client between two frames of the venue."""
        self._client_writer.write(raw)

    def inject_text(self, text: bytes) -> None:
        """A sound text frame with any content."""
        self.inject(encode_frame(OPCODE_TEXT, text))

    def close_websocket(self, code: int, reason: str = "chaos") -> None:
        """A close frame with any code, as the venue would send it; nothing of the venue follows it."""
        self._mute = True
        self.inject(encode_frame(OPCODE_CLOSE, struct.pack(">H", code) + reason.encode()))

    # forwarding

    async def _client_to_venue(self, venue_writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            while not self.is_websocket:
                head = await self._client_reader.readuntil(b"\r\n\r\n")
                self.target = head.split(b" ", 2)[1].decode()
                body = await self._client_reader.readexactly(_content_length(head))
                canned = self._proxy.take_answer(self.target)
                self.is_websocket = canned is None and b"upgrade: websocket" in head.lower()
                if canned is not None:
                    await self._answer(canned)
                    if canned.status is None or canned.part_of_body is not None:
                        return
                    continue
                await self._forward(venue_writer, head + body, self._to_venue)
            while chunk := await self._client_reader.read(CHUNK_BYTES):
                if self._mute:  # the client's answer to a close frame of ours
                    return
                await self._forward(venue_writer, chunk, self._to_venue)

    async def _venue_to_client(self, venue_reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            while chunk := await venue_reader.read(CHUNK_BYTES):
                if not self.is_websocket:
                    await self._forward(self._client_writer, chunk, self._to_client)
                    continue
                if b"\r\n\r\n" not in chunk:
                    chunk += await venue_reader.readuntil(b"\r\n\r\n")
                head, end, rest = chunk.partition(b"\r\n\r\n")
                if b" 101 " not in head.partition(b"\r\n")[0]:
                    await self._forward(self._client_writer, chunk, self._to_client)
                    self.is_websocket = False
                    continue
                await self._forward(self._client_writer, head + end, self._to_client)
                await self._forward_frames(_Joined(rest, venue_reader))
                return

    async def _forward_frames(self, source: _Joined) -> None:
        while True:
            frame = await read_frame(source)
            if self._mute:
                continue
            if self._drop_frames and self._drop_containing in frame:
                self._drop_frames -= 1
                continue
            if self._truncate is not None:
                await self._forward(self._client_writer, frame[: int(len(frame) * self._truncate)], self._to_client)
                self.cut()
                return
            await self._forward(self._client_writer, frame, self._to_client)
            self.frames += 1
            self._proxy.happened()

    async def _forward(self, writer: asyncio.StreamWriter, chunk: bytes, gate: asyncio.Event) -> None:
        if self._proxy.delay_s:
            await asyncio.sleep(self._proxy.delay_s)
        await gate.wait()
        writer.write(chunk)
        await writer.drain()

    async def _answer(self, canned: CannedAnswer) -> None:
        if canned.status is not None:
            self._client_writer.write(canned.encode())
            await self._client_writer.drain()

    def _close_both(self) -> None:
        for writer in (self._client_writer, self._venue_writer):
            if writer is not None:
                writer.close()


class ChaosProxy:
    """`async with ChaosProxy(venue.port) as proxy`: use proxy.base_url and proxy.websocket_url in the venue's place."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.venue = (host, port)
        self.delay_s = 0.0
        self.links: list[Link] = []
        self.accepted = 0
        self.refused = 0
        self.requests: list[str] = []
        self._answers: list[CannedAnswer] = []
        self._is_refusing = False
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ChaosProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_LIMIT_BYTES)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def websockets(self) -> list[Link]:
        """The WebSocket links that are open, oldest first."""
        return [link for link in self.links if link.is_websocket]

    def refuse(self, is_refusing: bool = True) -> None:
        """Reset new connections as soon as they arrive, until told otherwise."""
        self._is_refusing = is_refusing

    def answer(
        self,
        path: str,
        status: int | None,
        body: bytes = b'{"code":-1000,"msg":"chaos"}',
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        times: int = 1,
        containing: str = "",
        part_of_body: int | None = None,
    ) -> CannedAnswer:
        """Answer requests whose target starts with path (and contains a text) in the venue's stead, `times` times."""
        pairs = tuple(headers.items()) if isinstance(headers, Mapping) else tuple(headers)
        canned = CannedAnswer(path, status, body, pairs, times, containing, part_of_body)
        self._answers.append(canned)
        return canned

    def take_answer(self, target: str) -> CannedAnswer | None:
        self.requests.append(target)
        self.happened()
        for canned in self._answers:
            if canned.suits(target):
                canned.times -= 1
                return canned
        return None

    def happened(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is looked at whenever something passes the proxy."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._is_refusing:
            self.refused += 1
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
            self.happened()
            return
        self.accepted += 1
        link = Link(self, reader, writer)
        self.links.append(link)
        self._running.add(task)
        try:
            await link.run()
        except asyncio.CancelledError:
            link.cut(reset=True)
        finally:
            self._running.discard(task)
            self.links.remove(link)
            self.happened()


class _Joined:
    """What was already read, followed by the rest of a stream."""

    def __init__(self, start: bytes, reader: asyncio.StreamReader) -> None:
        self._start = start
        self._reader = reader

    async def exactly(self, count: int) -> bytes:
        taken, self._start = self._start[:count], self._start[count:]
        return taken + await self._reader.readexactly(count - len(taken)) if len(taken) < count else taken


async def read_frame(source: _Joined) -> bytes:
    """One WebSocket frame as it stands, header and all (RFC 6455, section 5.2)."""
    head = await source.exactly(2)
    length = head[1] & 0x7F
    if length == 126:
        head += await source.exactly(2)
        length = int.from_bytes(head[2:], "big")
    elif length == 127:
        head += await source.exactly(8)
        length = int.from_bytes(head[2:], "big")
    if head[1] & 0x80:
        head += await source.exactly(4)
    return head + await source.exactly(length)


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """A final, unmasked frame: what a server sends."""
    if len(payload) < 126:
        head = bytes([FINAL | opcode, len(payload)])
    elif len(payload) < 1 << 16:
        head = bytes([FINAL | opcode, 126]) + struct.pack(">H", len(payload))
    else:
        head = bytes([FINAL | opcode, 127]) + struct.pack(">Q", len(payload))
    return head + payload


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
