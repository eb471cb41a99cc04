"""Order entry over the venue's WebSocket API: one connection that stands, so that a command is bytes on the socket
without a handshake, and before its coroutine first waits.

An Ed25519 key signs the connection in once (session.logon); an HMAC key signs each request. Requests are told apart by
id. What is unanswered when the connection ends is of unknown outcome (I5); nothing is ever sent twice here.
https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/general-api-information
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from core._native import Answers, OrderRequests
from core.types.clock import NS_PER_MS
from core.types.orders import OrderIntent
from core.venues.binance.backoff import Backoff
from core.venues.binance.endpoints import Endpoint, Priority, endpoint_of
from core.venues.binance.errors import BinanceApiError, BinanceTransportError
from core.venues.binance.limits import Denied, Reservation
from core.venues.binance.rest import BinanceRest
from core.venues.binance.signing import Ed25519Signer, HmacSigner, signed_parameters
from core.venues.binance.user_stream import (
    RECONNECT_BASE_S,
    RECONNECT_CAP_S,
    STABLE_AFTER_S,
    SUBSCRIBE_TIMEOUT_S,
    open_websocket,
)
from core.venues.binance.wire import UNREADABLE, ErrorBody
from core.venues.binance.wire_orders import NewOrderAck
from core.venues.ports import VenueRateLimitedError, VenueUnavailableError

MAX_IN_FLIGHT = 1_024
"""Requests that wait for their answers; one more is for REST."""
PLACE_ORDER = "order.place"
LOGON = "session.logon"
CONNECT = "connect"
CALL_PREFIX = "call-"
"""Of the ids of requests whose caller reads the answer; those of orders that were begun are digits alone."""
SUCCESS = 200
MAX_RETRY_AFTER_S = 3 * 86_400
COUNT_BEYOND_BELIEF = 10**9

PREPARED_FOR_NS = 100 * NS_PER_MS
"""A request isn't sent when it could not be for longer: its timestamp grows old."""

T = TypeVar("T")
OrderAnswers = Sequence[tuple[OrderIntent, NewOrderAck | VenueUnavailableError]]
Acknowledged = tuple[str, int, str, str, dict[tuple[str, int], int]]
"""Request id, order id, symbol, clientOrderId, and the venue's counts, as core._native.Answers tells them."""
_log = structlog.get_logger("venues.binance.ws_orders")


class SocketNotReadyError(BinanceTransportError):
    """Nothing was written: there is no connection, or it has enough to do."""

    def __init__(self, call: str, detail: str) -> None:
        super().__init__(call, detail, nothing_sent=True)


class _RateCount(msgspec.Struct, rename="camel"):
    rate_limit_type: str
    interval: str
    interval_num: int
    count: int


class _ErrorData(msgspec.Struct, rename="camel"):
    server_time: int = 0
    retry_after: int = 0


class _Error(msgspec.Struct):
    code: int
    msg: str = ""
    data: _ErrorData | None = None


class _Reply(msgspec.Struct, rename={"rate_limits": "rateLimits"}):
    id: str | int | None = None
    status: int = 0
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None
    rate_limits: list[_RateCount] = []


_INTERVALS_S = {"SECOND": 1, "MINUTE": 60, "HOUR": 3_600, "DAY": 86_400}
_REPLY = msgspec.json.Decoder(_Reply)
_ORDER_ACK = msgspec.json.Decoder(NewOrderAck)
_ENCODER = msgspec.json.Encoder()


class _Group(msgspec.Struct, eq=False):
    """Orders that are begun together: told hears what the venue says of each, or why that isn't known, until_s of the
    loop's time."""

    reservation: Reservation
    told: Callable[[OrderAnswers], None]
    until_s: float = 0.0


class _Begun(msgspec.Struct, eq=False):
    """One of them."""

    group: _Group
    intent: OrderIntent


class PreparedOrders(msgspec.Struct, eq=False):
    """Orders as the signed frames of one connection, with leave by the venue's limits: made before they may be sent.
    begun: the requests by their ids; left: those of the intents that aren't among them."""

    connection: ClientConnection
    intents: Sequence[OrderIntent]
    made_ns: int
    groups: list[_Group] = []
    begun: dict[str, _Begun] = {}
    left: Sequence[OrderIntent] = ()
    data: bytes = b""
    is_over: bool = False


class OrderConnection(ClientConnection):
    """A connection on which acknowledgements of orders take a short way: a burst of them is read natively and told at
    once, as it came. All else goes the library's way, byte for byte."""

    acknowledged: Callable[[list[Acknowledged]], None] | None = None

    def data_received(self, data: bytes) -> None:
        taken, rest = self._answers.feed(bytes(data))
        if rest:
            super().data_received(rest)
        if taken and self.acknowledged is not None:
            self.acknowledged(taken)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._answers = Answers()
        super().connection_made(transport)


class OrderSocket:
    """The standing connection of one API key. `start` it within the event loop, close it with `aclose`."""

    def __init__(self, url: str, rest: BinanceRest, *, answer_timeout_s: float, random: Random | None = None) -> None:
        assert rest.credential is not None, "order entry needs a key"
        self._url = url
        self._rest = rest
        self._credential = rest.credential
        self._answer_timeout_s = answer_timeout_s
        self._backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S, random)
        self._task: asyncio.Task[None] | None = None
        self._connection: ClientConnection | None = None
        self._has_session = False
        self._requests = OrderRequests(PLACE_ORDER, rest.credential.api_key, rest.recv_window_ms)
        self._pending: dict[str, asyncio.Future[_Reply] | _Begun] = {}
        self._overdue: asyncio.TimerHandle | None = None
        self._next_id = 0
        self.ready = asyncio.Event()
        """Set while there is a connection to send on."""

    @property
    def is_ready(self) -> bool:
        connection = self._connection
        return connection is not None and connection.state is State.OPEN

    def start(self) -> None:
        """Connect, and stay connected; a second call changes nothing."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="venue order socket")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def prepare(
        self,
        batches: Sequence[tuple[Priority, Sequence[OrderIntent]]],
        parameters_of: Callable[[OrderIntent], Mapping[str, str]],
        endpoint: Endpoint,
        told: Callable[[OrderAnswers], None],
    ) -> PreparedOrders | None:
        """Sign orders, frame them and take leave to send them, the more urgent batch first; begin or withdraw MUST
        follow. Those of which parameters_of raises ValueError and those that the limits hold back are left out. Sends
        nothing; None while there is no connection or no time to sign with."""
        connection, rest = self._connection, self._rest
        if connection is None or not rest.has_time():
            return None
        intents = [intent for _, some in batches for intent in some]
        frames = self._frames_of(intents, parameters_of)
        prepared = PreparedOrders(connection, intents, rest.clock.monotonic_ns())
        room = MAX_IN_FLIGHT - len(self._pending)
        pieces: list[bytes] = []
        try:
            for priority, some in batches:
                ready = [intent for intent in some if intent.client_order_id in frames][: room - len(pieces)]
                if ready and not self._take_leave(prepared, pieces, ready, frames, endpoint, priority, told):
                    # As many as the limits let through.
                    for one in ready if len(ready) > 1 else ():
                        self._take_leave(prepared, pieces, [one], frames, endpoint, priority, told)
        except Exception:
            # Who asked has nothing to withdraw.
            self.withdraw(prepared)
            raise
        if len(pieces) < len(intents):
            going = {begun.intent.client_order_id for begun in prepared.begun.values()}
            prepared.left = [intent for intent in intents if intent.client_order_id not in going]
        prepared.data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return prepared

    def _frames_of(
        self, intents: Sequence[OrderIntent], parameters_of: Callable[[OrderIntent], Mapping[str, str]]
    ) -> dict[str, tuple[str, bytes]]:
        """By clientOrderId, each with its request's id."""
        first = self._next_id + 1
        self._next_id += len(intents)
        signer = self._credential.signer
        sign = None if self._has_session else signer.native if isinstance(signer, HmacSigner) else signer.sign
        frames = self._requests.frames(list(intents), first, self._rest.clock.now_ms(), sign)
        if len(frames) < len(intents):
            for number, intent in enumerate(intents, first):
                if intent.client_order_id not in frames:
                    frame = self._frame_of(str(number), intent, parameters_of)
                    if frame is not None:
                        frames[intent.client_order_id] = str(number), frame
        return frames

    def _frame_of(
        self, request_id: str, intent: OrderIntent, parameters_of: Callable[[OrderIntent], Mapping[str, str]]
    ) -> bytes | None:
        """As core._native.OrderRequests makes those of plain orders."""
        try:
            parameters = self._authorised(parameters_of(intent))
        except ValueError:
            # submit says why.
            return None
        body = _ENCODER.encode({"id": request_id, "method": PLACE_ORDER, "params": parameters})
        return Frame(Opcode.TEXT, body).serialize(mask=True)

    def _take_leave(
        self,
        prepared: PreparedOrders,
        pieces: list[bytes],
        ready: Sequence[OrderIntent],
        frames: Mapping[str, tuple[str, bytes]],
        endpoint: Endpoint,
        priority: Priority,
        told: Callable[[OrderAnswers], None],
    ) -> bool:
        """For all of them, or none where the venue's limits haven't room for all."""
        reservation = self._rest.limiter.acquire(endpoint, {}, priority, len(ready))
        if isinstance(reservation, Denied):
            return False
        group = _Group(reservation, told)
        prepared.groups.append(group)
        for intent in ready:
            request_id, frame = frames[intent.client_order_id]
            prepared.begun[request_id] = _Begun(group, intent)
            pieces.append(frame)
        return True

    def begin(self, prepared: PreparedOrders) -> Sequence[OrderIntent]:
        """Send what was prepared, once and in one piece, and have the answer to each told, once: what the venue says,
        or the error that BinanceRest.once would raise. Returns those that can't go out now, or not as they are; nothing
        of them was sent."""
        # Orders wait for every line of this.
        connection, rest = self._connection, self._rest
        now_ns = rest.clock.monotonic_ns()
        if (
            prepared.is_over
            or connection is not prepared.connection
            or connection.state is not State.OPEN
            or not rest.clock.is_valid
            or rest.limiter.is_blocked_at(now_ns)
            or now_ns - prepared.made_ns > PREPARED_FOR_NS
        ):
            self.withdraw(prepared)
            return prepared.intents
        prepared.is_over = True
        if not prepared.begun:
            return prepared.left
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._answer_timeout_s
        for group in prepared.groups:
            group.until_s = until_s
        self._pending.update(prepared.begun)
        if self._overdue is None:
            self._overdue = loop.call_at(until_s, self._give_up, loop)
        connection.transport.write(prepared.data)
        return prepared.left

    def withdraw(self, prepared: PreparedOrders) -> None:
        """It won't be sent: gives the limits back what was taken for it. After begin it changes nothing."""
        if not prepared.is_over:
            prepared.is_over = True
            for group in prepared.groups:
                self._rest.limiter.release(group.reservation)

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """All have the same time: the one that was begun first is over first."""
        self._overdue = None
        for request_id, begun in list(self._pending.items()):
            if not isinstance(begun, _Begun):
                continue
            if begun.group.until_s > loop.time():
                self._overdue = loop.call_at(begun.group.until_s, self._give_up, loop)
                return
            del self._pending[request_id]
            self._lost(begun, f"no answer within {self._answer_timeout_s} s")

    def _lost(self, begun: _Begun, detail: str) -> None:
        error = BinanceTransportError(PLACE_ORDER, detail, nothing_sent=False)
        self._settle_and_tell(begun.group, [(begun.intent, error)], {})

    def _answered(self, begun: _Begun, reply: _Reply) -> None:
        answer: NewOrderAck | VenueUnavailableError
        try:
            answer = self._read(reply, PLACE_ORDER, begun.intent.symbol, _ORDER_ACK)
        except VenueUnavailableError as error:
            answer = error
        self._settle_and_tell(begun.group, [(begun.intent, answer)], _counts_of(reply))

    def _acknowledged(self, acknowledged: list[Acknowledged]) -> None:
        """What core._native.Answers has taken out; those that were begun together are told together."""
        group: _Group | None = None
        answers: list[tuple[OrderIntent, NewOrderAck | VenueUnavailableError]] = []
        most: dict[tuple[str, int], int] = {}
        for request_id, order_id, symbol, client_order_id, counts in acknowledged:
            begun = self._pending.get(request_id)
            if not isinstance(begun, _Begun):
                _tell_unasked(request_id, SUCCESS)
                continue
            del self._pending[request_id]
            if begun.group is not group:
                if group is not None:
                    self._settle_and_tell(group, answers, most)
                group, answers, most = begun.group, [], {}
            for limit, count in counts.items():
                if count > most.get(limit, -1):
                    most[limit] = count
            answers.append((begun.intent, NewOrderAck(order_id, symbol, client_order_id)))
        if group is not None:
            self._settle_and_tell(group, answers, most)

    def _settle_and_tell(self, group: _Group, answers: OrderAnswers, counts: Mapping[tuple[str, int], int]) -> None:
        """counts: the highest of them, which is what each after the other would leave."""
        self._rest.limiter.settle_counted(group.reservation, counts, len(answers))
        try:
            group.told(answers)
        except Exception:
            # The connection has others that wait for their answers.
            _log.exception("answers_not_taken", method=PLACE_ORDER)

    def _read(self, reply: _Reply, method: str, symbol: str, decoder: msgspec.json.Decoder[T]) -> T:
        if reply.status != SUCCESS or reply.error is not None:
            body = ErrorBody(reply.error.code, reply.error.msg) if reply.error else ErrorBody(0, "no error body")
            raise self._rest.failure(method, reply.status, body, _headers_of(reply), symbol)
        try:
            return decoder.decode(reply.result)
        except UNREADABLE as error:
            raise VenueUnavailableError(f"{method}: the answer can't be read: {error}") from error

    async def call(
        self,
        method: str,
        verb: str,
        path: str,
        parameters: Mapping[str, str],
        answer: type[T],
        priority: Priority | None = None,
    ) -> T:
        """One request, one attempt; verb and path name the REST endpoint that it counts as.

        Raises SocketNotReadyError when nothing was written, else as BinanceRest.once.
        """
        rest = self._rest
        endpoint = endpoint_of(verb, path)
        await rest.ensure_time(method, endpoint.priority if priority is None else priority)
        async with rest.within_limits(method, endpoint, parameters, priority) as headers:
            connection = self._connection
            if connection is None or connection.state is not State.OPEN:
                raise SocketNotReadyError(method, "the order connection isn't open")
            if len(self._pending) >= MAX_IN_FLIGHT:
                raise SocketNotReadyError(method, f"{MAX_IN_FLIGHT} requests wait for their answers")
            self._next_id += 1
            request_id = f"{CALL_PREFIX}{self._next_id}"
            frame = _ENCODER.encode({"id": request_id, "method": method, "params": self._authorised(parameters)})
            reply = await self._exchange(connection, method, request_id, frame)
            headers.update(_headers_of(reply))
            return self._read(reply, method, parameters.get("symbol", ""), msgspec.json.Decoder(answer))

    async def _exchange(self, connection: ClientConnection, method: str, request_id: str, frame: bytes) -> _Reply:
        waiting: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = waiting
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                # Written to the transport before anything is waited for: the connection was open in this very step.
                await connection.send(frame, text=True)
                return await waiting
        except TimeoutError as error:
            raise BinanceTransportError(
                method, f"no answer within {self._answer_timeout_s} s", nothing_sent=False
            ) from error
        except (WebSocketException, OSError) as error:
            raise BinanceTransportError(method, f"{type(error).__name__}: {error}", nothing_sent=False) from error
        finally:
            self._pending.pop(request_id, None)
            if waiting.done() and not waiting.cancelled():
                waiting.exception()  # looked at, also when the send itself has failed

    def _authorised(self, parameters: Mapping[str, str]) -> dict[str, str | int]:
        timed: dict[str, str | int] = {
            **parameters,
            "recvWindow": self._rest.recv_window_ms,
            "timestamp": self._rest.clock.now_ms(),
        }
        return timed if self._has_session else signed_parameters(self._credential, timed)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started_s, wait_s = loop.time(), 0.0
            try:
                await self._connect_and_read()
            except (VenueUnavailableError, WebSocketException, OSError, TimeoutError) as error:
                _log.warning(
                    "order_socket_lost", error=f"{type(error).__name__}: {error}", unanswered=len(self._pending)
                )
                if isinstance(error, VenueRateLimitedError):
                    wait_s = error.retry_after_s
            finally:
                self._connection = None
                self.ready.clear()
                self._lose_pending()
            if loop.time() - started_s > STABLE_AFTER_S:
                self._backoff.reset()
            await asyncio.sleep(max(wait_s, self._backoff.next_s()))

    def _lose_pending(self) -> None:
        lost, self._pending = self._pending, {}
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        for waiting in lost.values():
            if isinstance(waiting, _Begun):
                self._lost(waiting, "ConnectionResetError: the order connection was lost before the answer")
            elif not waiting.done():
                waiting.set_exception(ConnectionResetError("the order connection was lost before the answer"))

    async def _connect_and_read(self) -> None:
        await self._rest.ensure_time(LOGON, Priority.RECONCILE)
        async with self._rest.leave_to_send("WS", CONNECT), _standing(self._url) as connection:
            self._has_session = False
            if isinstance(self._credential.signer, Ed25519Signer):
                self._has_session = await self._log_on(connection)
            assert isinstance(connection, OrderConnection)
            connection.acknowledged = self._acknowledged
            self._connection = connection
            self.ready.set()
            while True:
                self._take(await connection.recv(decode=False))

    async def _log_on(self, connection: ClientConnection) -> bool:
        """False when the venue doesn't take the session: then each request is signed."""
        async with self._rest.leave_to_send("WS", LOGON):
            parameters = signed_parameters(
                self._credential, {"recvWindow": self._rest.recv_window_ms, "timestamp": self._rest.clock.now_ms()}
            )
            await connection.send(_ENCODER.encode({"id": LOGON, "method": LOGON, "params": parameters}), text=True)
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                while True:
                    reply = _decoded(await connection.recv(decode=False))
                    if reply.id == LOGON:
                        break
        if reply.status == SUCCESS:
            return True
        body = ErrorBody(reply.error.code, reply.error.msg) if reply.error else ErrorBody(0, "no error body")
        failure = self._rest.failure(LOGON, reply.status, body, _headers_of(reply), "")
        if isinstance(failure, VenueRateLimitedError) or not isinstance(failure, BinanceApiError):
            raise failure
        _log.warning("session_not_taken", error=str(failure))
        return False

    def _take(self, frame: bytes) -> None:
        reply = _decoded(frame)
        waiting = self._pending.pop(reply.id, None) if isinstance(reply.id, str) else None
        if waiting is None:
            _tell_unasked(reply.id, reply.status)
        elif isinstance(waiting, _Begun):
            self._answered(waiting, reply)
        elif not waiting.done():
            waiting.set_result(reply)


def _standing(url: str) -> connect:
    """What is written goes out at once: an order doesn't wait for the loop to come round."""
    return open_websocket(url, write_limit_bytes=0, create_connection=OrderConnection)


def _tell_unasked(request_id: str | int | None, status: int) -> None:
    """An answer that came too late, or no answer at all."""
    _log.info("order_socket_unasked", id=request_id, status=status)


def _decoded(frame: bytes) -> _Reply:
    """Raises VenueUnavailableError: what can't be read may have been an answer, so the connection is given up."""
    try:
        return _REPLY.decode(frame)
    except UNREADABLE as error:
        raise VenueUnavailableError(
            f"order connection: a message of {len(frame)} bytes can't be read: {error}"
        ) from error


def _counts_of(reply: _Reply) -> dict[tuple[str, int], int]:
    """The venue's counts, as RateLimiter.settle_counted takes them."""
    return {
        (item.rate_limit_type, item.interval_num * _INTERVALS_S.get(item.interval, 0)): item.count
        for item in reply.rate_limits
        if 0 <= item.count < COUNT_BEYOND_BELIEF
    }


def _headers_of(reply: _Reply) -> dict[str, str]:
    """The venue's counts and its retryAfter, as REST's headers have them."""
    headers = {}
    for item in reply.rate_limits:
        kind = {"REQUEST_WEIGHT": "used-weight", "ORDERS": "order-count"}.get(item.rate_limit_type)
        if kind is not None:
            headers[f"x-mbx-{kind}-{item.interval_num}{item.interval[:1].lower()}"] = str(item.count)
    data = reply.error.data if reply.error is not None else None
    if data is not None and data.retry_after > data.server_time > 0:
        wait_s = -(-(data.retry_after - data.server_time) // 1_000)
        headers["retry-after"] = str(min(wait_s, MAX_RETRY_AFTER_S))
    return headers
