"""Fan-out to WebSocket clients: who hears which stream, with a bounded queue each."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.venues.paper.endpoints import event_in_microseconds

log = structlog.get_logger("venue.streams")

MAX_QUEUED_MESSAGES = 20_000
MAX_QUEUED_CHARACTERS = 16 * 1024 * 1024
MAX_STREAMS_PER_CONNECTION = 1_024
MAX_MESSAGES_PER_TURN = 64
"""Messages sent to one client without giving way to the others."""
MAX_RECEIVED_PER_S = 5
"""Messages that a client of streams may send."""
DEFAULT_CONNECTION_LIFE_S = 24 * 3_600.0
CLOSE_TIMEOUT_S = 5.0
POLICY_VIOLATION = 1008
GOING_AWAY = 1001


class Connection:
    """One client. `offer` never waits: a client that doesn't keep up is cut off with 1008."""

    def __init__(self, socket: WebSocket, life_s: float) -> None:
        self._socket = socket
        self._life_s = life_s
        self._queue: deque[str] = deque()
        self._queued_characters = 0
        self._wake = asyncio.Event()
        self._close_code: int | None = None
        self._close_reason = ""
        self._sender: asyncio.Task[None] | None = None

    def offer(self, message: str) -> None:
        if self._close_code is not None:
            return
        if len(self._queue) >= MAX_QUEUED_MESSAGES or self._queued_characters + len(message) > MAX_QUEUED_CHARACTERS:
            log.warning("slow_consumer_disconnected", queued_messages=len(self._queue))
            self.close(POLICY_VIOLATION, "slow consumer: too many queued messages")
            return
        self._queue.append(message)
        self._queued_characters += len(message)
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """Drop what is queued and close; a client that doesn't even take the close frame is dropped without it."""
        self._close_code, self._close_reason = code, reason
        if self._sender is not None:
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._sender.cancel)
        self._queue.clear()
        self._queued_characters = 0
        self._wake.set()

    def close_after_sending(self, code: int, reason: str) -> None:
        """Close once what is queued is sent."""
        self._close_code, self._close_reason = code, reason
        self._wake.set()

    async def run(self) -> None:
        """Send and receive until one of the two ends, or the connection's life does."""
        sender = self._sender = asyncio.create_task(self._send_all())
        receiver = asyncio.create_task(self._receive_all())
        end = asyncio.get_running_loop().call_later(self._life_s, self.close, GOING_AWAY, "24 hours are over")
        try:
            await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
            self.forget()
            for task in (sender, receiver):
                task.cancel()
            for outcome in await asyncio.gather(sender, receiver, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(
                    outcome, WebSocketDisconnect | RuntimeError | OSError
                ):
                    log.error("websocket_failed", error=repr(outcome))

    def forget(self) -> None:
        """The connection has ended."""
        raise NotImplementedError

    def answer(self, text: str) -> None:
        """Take one message of the client."""
        raise NotImplementedError

    async def _send_all(self) -> None:
        while self._close_code is None:
            await self._wake.wait()
            self._wake.clear()
            sent = 0
            while self._queue:
                message = self._queue.popleft()
                self._queued_characters -= len(message)
                await self._socket.send_text(message)
                sent += 1
                if sent % MAX_MESSAGES_PER_TURN == 0:
                    await asyncio.sleep(0)
        await self._socket.close(self._close_code, self._close_reason)

    async def _receive_all(self) -> None:
        while True:
            text = await self._socket.receive_text()
            if self._close_code is None:
                self.answer(text)


class StreamConnection(Connection):
    """A listener of streams."""

    def __init__(self, hub: Hub, socket: WebSocket, *, is_combined: bool, is_microseconds: bool) -> None:
        super().__init__(socket, hub.connection_life_s)
        self.streams: set[str] = set()
        self.is_combined = is_combined
        self.is_microseconds = is_microseconds
        self._hub = hub
        self._received_s: deque[float] = deque(maxlen=MAX_RECEIVED_PER_S)

    def forget(self) -> None:
        self._hub.forget(self)

    def answer(self, text: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if len(self._received_s) == MAX_RECEIVED_PER_S and now_s - self._received_s[0] < 1.0:
            self.close(POLICY_VIOLATION, "Too many requests")
            return
        self._received_s.append(now_s)
        self.offer(self._reply(text))

    def _reply(self, text: str) -> str:
        """The requests of a stream connection, with Binance's answers."""
        try:
            request: Any = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return _error(3, "Invalid JSON: not a JSON object")
        if not isinstance(request, dict):
            return _error(3, "Invalid JSON: not a JSON object")
        request_id, method, parameters = request.get("id"), request.get("method"), request.get("params", [])
        if request_id is not None and not isinstance(request_id, int | str):
            return _error(2, "Invalid request: request ID must be an unsigned integer or a string")
        if method == "LIST_SUBSCRIPTIONS":
            return _result(sorted(self.streams), request_id)
        if method in {"SET_PROPERTY", "GET_PROPERTY"}:
            return self._property(method, parameters, request_id)
        if method not in {"SUBSCRIBE", "UNSUBSCRIBE"}:
            return _error(
                2,
                f"Invalid request: unknown variant {method}, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, "
                "`LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`",
                request_id,
            )
        if not isinstance(parameters, list) or not all(isinstance(name, str) for name in parameters):
            return _error(2, "Invalid request: params must be an array of strings", request_id)
        if method == "UNSUBSCRIBE":
            for name in parameters:
                self._hub.unsubscribe(self, name)
            return _result(None, request_id)
        refused = self._hub.subscribe_all(self, parameters)
        return _error(2, f"Invalid request: {refused}", request_id) if refused else _result(None, request_id)

    def _property(self, method: str, parameters: Any, request_id: Any) -> str:
        """`combined` is the one property there is."""
        if not isinstance(parameters, list) or not parameters or parameters[0] != "combined":
            return _error(0, "Unknown property", request_id)
        if method == "GET_PROPERTY":
            return _result(self.is_combined, request_id)
        if len(parameters) != 2 or not isinstance(parameters[1], bool):
            return _error(1, "Invalid value type: expected Boolean", request_id)
        self.is_combined = parameters[1]
        return _result(None, request_id)


class Hub:
    """Streams by name. A stream without a listener costs nothing: ask `has` before writing its message."""

    def __init__(self, connection_life_s: float = DEFAULT_CONNECTION_LIFE_S) -> None:
        self.connection_life_s = connection_life_s
        self._listeners: dict[str, set[StreamConnection]] = {}
        self._connections: set[Connection] = set()
        self._public: set[str] = set()
        self._private: set[str] = set()

    def add_public(self, name: str) -> None:
        self._public.add(name)

    def set_private(self, names: set[str]) -> None:
        """The listen keys that are valid now; those who listen on others are cut off."""
        for name in self._private - names:
            for connection in tuple(self._listeners.get(name, ())):
                self.unsubscribe(connection, name)
        self._private = names

    def knows(self, name: str) -> bool:
        return name in self._public or name in self._private

    async def serve(
        self, socket: WebSocket, names: list[str], is_combined: bool, is_microseconds: bool = False
    ) -> None:
        """One client's whole life; its first subscriptions are in the path."""
        connection = StreamConnection(self, socket, is_combined=is_combined, is_microseconds=is_microseconds)
        # Binance takes any path; clients number their connections in it (ccxt: /ws/0).
        names = [name for name in names if not name.isdigit()]
        refused = self.subscribe_all(connection, names)
        if refused:
            self.forget(connection)
            await socket.close(POLICY_VIOLATION, refused)
            return
        await self.run(connection, socket)

    async def run(self, connection: Connection, socket: WebSocket) -> None:
        """Accept a connection of any kind and serve it until it ends; `close` closes it."""
        self._connections.add(connection)
        try:
            await socket.accept()
            await connection.run()
        finally:
            self._connections.discard(connection)

    def subscribe_all(self, connection: StreamConnection, names: list[str]) -> str | None:
        """All or none; the reason when none."""
        for name in names:
            if not self.knows(name):
                # A listen key is a secret: an unknown one isn't repeated.
                return f"unknown stream {name}" if "@" in name else "unknown stream or expired listenKey"
        if len(connection.streams | set(names)) > MAX_STREAMS_PER_CONNECTION:
            return f"more than {MAX_STREAMS_PER_CONNECTION} streams"
        for name in names:
            connection.streams.add(name)
            self._listeners.setdefault(name, set()).add(connection)
        return None

    def unsubscribe(self, connection: StreamConnection, name: str) -> None:
        connection.streams.discard(name)
        listeners = self._listeners.get(name)
        if listeners is not None:
            listeners.discard(connection)
            if not listeners:
                del self._listeners[name]

    def forget(self, connection: StreamConnection) -> None:
        for name in tuple(connection.streams):
            self.unsubscribe(connection, name)

    def has(self, name: str) -> bool:
        return name in self._listeners

    def publish(self, name: str, payload: str) -> None:
        """Raw payload on /ws connections, wrapped with its stream's name on /stream ones."""
        texts: dict[tuple[bool, bool], str] = {(False, False): payload}
        for connection in tuple(self._listeners.get(name, ())):
            kind = connection.is_combined, connection.is_microseconds
            if kind not in texts:
                texts[kind] = _text(name, payload, *kind)
            connection.offer(texts[kind])

    def close(self) -> None:
        for connection in tuple(self._connections):
            connection.close(GOING_AWAY, "the venue is stopping")


def _text(name: str, payload: str, is_combined: bool, is_microseconds: bool) -> str:
    if is_microseconds:
        event = msgspec.json.decode(payload)
        events = (
            [event_in_microseconds(one) for one in event] if isinstance(event, list) else event_in_microseconds(event)
        )
        payload = msgspec.json.encode(events).decode()
    return f'{{"stream":"{name}","data":{payload}}}' if is_combined else payload


def _result(result: Any, request_id: Any) -> str:
    return msgspec.json.encode({"result": result, "id": request_id}).decode()


def _error(code: int, message: str, request_id: Any = None) -> str:
    return msgspec.json.encode({"error": {"code": code, "msg": message}, "id": request_id}).decode()
