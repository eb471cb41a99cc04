"""Binance's REST interface: signed requests, the server's clock, rate limits, typed errors, bounded retries of reads.

One request is one attempt, except for `read`, which may repeat because reading twice changes nothing. Signed requests
carry `timestamp` on the server's clock and `recvWindow`. No request goes out that the rate limits don't allow.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from typing import TypeVar

import httpx2
import msgspec
import structlog

from core.types.clock import Clock
from core.types.instruments import Product
from core.venues.binance.backoff import Backoff, is_loopback
from core.venues.binance.clock import ClockSample, ServerClock
from core.venues.binance.endpoints import PATHS, Endpoint, Priority, endpoint_of
from core.venues.binance.errors import (
    CODE_TIMESTAMP_OUTSIDE_WINDOW,
    BinanceApiError,
    BinanceRateLimitedError,
    BinanceTransportError,
    cure_of,
)
from core.venues.binance.limits import (
    DEFAULT_RULES,
    STATUS_BANNED,
    STATUS_RATE_EXCEEDED,
    Denied,
    RateLimiter,
    Reservation,
)
from core.venues.binance.signing import Credential, query_text, signed_query
from core.venues.binance.wire import UNREADABLE, ErrorBody, ServerTime
from core.venues.ports import VenueRateLimitedError, VenueUnavailableError

__all__ = ["BinanceApiError", "BinanceRateLimitedError", "BinanceRest", "BinanceTransportError"]

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 5.0
REQUEST_DEADLINE_S = 10.0
"""For one whole request: the read timeout alone is renewed by every byte of a dripping answer."""
MAX_CONNECTIONS = 16
KEEPALIVE_EXPIRY_S = 3.0
"""Shorter than common servers keep idle connections (5 s): one that closes under a submit would make it UNKNOWN."""
MAX_RESPONSE_BYTES = 64 << 20
"""exchangeInfo of all symbols, the largest answer read here, has some 15 MB."""
MAX_ERROR_CHARACTERS = 500
READ_ATTEMPTS = 3
READ_DEADLINE_S = 15.0
RETRY_BASE_S = 0.1
RETRY_CAP_S = 2.0
TIME_SAMPLES = 3
TIME_KEEPING_S = 60.0
TIME_RETRY_CAP_S = 30.0
RATE_WAIT_LIMIT_S: dict[Priority, float] = {
    Priority.SAFETY: 10.0,
    Priority.ORDER: 0.0,
    Priority.RECONCILE: 10.0,
    Priority.SNAPSHOT: 5.0,
    Priority.BACKGROUND: 5.0,
}
"""How long a request waits for the rate limits before it is refused. An order never waits: its price would grow old."""

T = TypeVar("T")
_log = structlog.get_logger("venues.binance.rest")


class BinanceRest:
    """One venue's REST interface under one API key. Close it with `aclose`.

    key_reference names the key in messages. Give several clients of one address and account the same limiter.
    """

    def __init__(
        self,
        rest_url: str,
        clock: Clock,
        *,
        api_key: str = "",
        api_secret: str = "",
        key_reference: str = "venue",
        product: Product = Product.SPOT,
        recv_window_ms: int = 5_000,
        read_timeout_s: float = READ_TIMEOUT_S,
        random: Random | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        """api_secret is the HMAC secret or the Ed25519 private key as PEM. Raises CredentialError."""
        self.product = product
        self.paths = PATHS[product]
        self.credential = Credential(key_reference, api_key, api_secret) if api_key else None
        self._base_url = rest_url.rstrip("/")
        self._recv_window_ms = recv_window_ms
        self._random = random
        self.clock = ServerClock(clock)
        self.limiter = limiter or RateLimiter(self.clock, DEFAULT_RULES[product])
        self._time_lock = asyncio.Lock()
        self._time_task: asyncio.Task[None] | None = None
        self._on_clock_offset_ms: Callable[[int], None] | None = None
        self._client = httpx2.AsyncClient(
            base_url=self._base_url,
            timeout=httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_EXPIRY_S,
            ),
            headers={"User-Agent": "veloz"},
            verify=_tls_context(),
            trust_env=not is_loopback(rest_url),
        )

    @property
    def recv_window_ms(self) -> int:
        return self._recv_window_ms

    @property
    def clock_offset_ms(self) -> int:
        """The server's clock minus ours; 0 before the first estimate."""
        return self.clock.offset_ms

    @property
    def clock_uncertainty_ms(self) -> int:
        """How far clock_offset_ms may be off: half the round trip of its estimate."""
        return self.clock.uncertainty_ms

    @property
    def used_weight_1m(self) -> int:
        """Request weight of this minute, as the venue counts it and including what is on its way."""
        return self.limiter.used_weight_1m()

    def report_clock_offset(self, report: Callable[[int], None]) -> None:
        """Call report with clock_offset_ms now, if it is known, and after every estimate."""
        self._on_clock_offset_ms = report
        if self.clock.known:
            report(self.clock_offset_ms)

    async def aclose(self) -> None:
        if self._time_task is not None:
            self._time_task.cancel()
            await asyncio.wait({self._time_task})
        await self._client.aclose()

    async def read(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        signed: bool = False,
        answer: type[T],
        priority: Priority | None = None,
    ) -> T:
        """GET, repeated on transport errors and 5xx: READ_ATTEMPTS within READ_DEADLINE_S; once more after -1021.

        Raises BinanceApiError, BinanceTransportError, VenueRateLimitedError, or VenueUnavailableError when the answer
        makes no sense.
        """
        backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, self._random)
        resynced = False
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                for attempt in range(1, READ_ATTEMPTS + 1):
                    try:
                        return await self.once("GET", path, parameters, signed=signed, answer=answer, priority=priority)
                    except BinanceTransportError:
                        if attempt == READ_ATTEMPTS:
                            raise
                    except VenueRateLimitedError as error:
                        # One that names a longer wait is the caller's to plan; here it would only hold up.
                        if error.retry_after_s > RETRY_CAP_S or error.is_banned or attempt == READ_ATTEMPTS:
                            raise
                        await asyncio.sleep(error.retry_after_s)
                    except BinanceApiError as error:
                        misdated = signed and error.code == CODE_TIMESTAMP_OUTSIDE_WINDOW and not resynced
                        if attempt == READ_ATTEMPTS or not (error.is_transient or misdated):
                            raise
                        resynced = resynced or misdated
                    await asyncio.sleep(backoff.next_s())
        except TimeoutError as error:
            raise BinanceTransportError(
                f"GET {path}", f"no answer within {READ_DEADLINE_S} s", nothing_sent=False
            ) from error
        raise AssertionError("the last attempt returns or raises")

    async def once(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        signed: bool = False,
        answer: type[T],
        priority: Priority | None = None,
    ) -> T:
        """One request, one attempt. priority is the endpoint's own when not given.

        Raises BinanceApiError, BinanceTransportError, VenueRateLimitedError, or VenueUnavailableError when the answer
        makes no sense.
        """
        call = f"{method} {path}"
        parameters = parameters or {}
        endpoint = endpoint_of(method, path)
        if signed:
            await self.ensure_time(call, endpoint.priority if priority is None else priority)
        async with self.within_limits(call, endpoint, parameters, priority) as headers:
            # Signed only now: the timestamp must not grow old while the limits are waited for.
            status, content = await self._exchange(call, method, path, self._query(parameters, signed=signed), headers)
        if status >= 300:
            raise self._failure(call, status, content, headers, parameters.get("symbol", ""))
        try:
            return msgspec.json.decode(content, type=answer)
        except UNREADABLE as error:
            raise VenueUnavailableError(f"{call}: the answer can't be read: {error}") from error

    async def sync_time(self, priority: Priority = Priority.RECONCILE) -> None:
        """Estimate the server's clock from the quickest of TIME_SAMPLES exchanges. Raises as `once`."""
        samples = []
        for _ in range(TIME_SAMPLES):
            sent_ns = self.clock.monotonic_ns()
            body = await self.once("GET", self.paths.time, answer=ServerTime, priority=priority)
            samples.append(ClockSample(body.serverTime, sent_ns, self.clock.monotonic_ns()))
        self.clock.adopt(samples)
        if self._on_clock_offset_ms is not None:
            self._on_clock_offset_ms(self.clock_offset_ms)

    async def keep_time(self) -> None:
        """Estimate the server's clock now and then, for those who only read; runs until cancelled."""
        backoff = Backoff(RETRY_BASE_S, TIME_RETRY_CAP_S, self._random)
        while True:
            delay_s = TIME_KEEPING_S
            if self.clock.is_due:
                delay_s = TIME_KEEPING_S if await self._refresh_time() else backoff.next_s()
            await asyncio.sleep(delay_s)

    async def ensure_time(self, call: str, priority: Priority) -> None:
        """Return once timestamps can be taken. An estimate that is only old is renewed beside the call.

        Raises BinanceTransportError with nothing_sent, or VenueRateLimitedError.
        """
        if self.has_time():
            return
        async with self._time_lock:
            if self.clock.is_usable:
                return
            try:
                await self.sync_time(priority)
            except VenueRateLimitedError as error:
                raise VenueRateLimitedError(
                    f"{call}: not sent: {error}", error.retry_after_s, is_banned=error.is_banned
                ) from error
            except VenueUnavailableError as error:
                raise BinanceTransportError(call, f"not sent: {error}", nothing_sent=True) from error

    def has_time(self) -> bool:
        """Whether timestamps can be taken now. An estimate that is only old is renewed beside the call."""
        if not self.clock.is_usable:
            return False
        if self.clock.is_old and (self._time_task is None or self._time_task.done()):
            self._time_task = asyncio.create_task(self._refresh_quietly(), name="refresh venue time")
        return True

    async def _refresh_quietly(self) -> None:
        await self._refresh_time()

    async def _refresh_time(self) -> bool:
        try:
            async with self._time_lock:
                await self.sync_time()
        except VenueUnavailableError as error:
            _log.warning("clock_not_refreshed", error=str(error))
            return False
        return True

    @asynccontextmanager
    async def leave_to_send(self, method: str, path: str) -> AsyncIterator[None]:
        """Hold a place within the rate limits for a request that goes another way. Raises VenueRateLimitedError."""
        reservation = await self._reserve(path, endpoint_of(method, path), {}, None)
        self.limiter.settle(reservation, {})
        yield

    @asynccontextmanager
    async def within_limits(
        self, call: str, endpoint: Endpoint, parameters: Mapping[str, str], priority: Priority | None
    ) -> AsyncIterator[dict[str, str]]:
        """Hold a place within the rate limits for one request; the answer's headers go into what is yielded."""
        reservation = await self._reserve(call, endpoint, parameters, priority)
        headers: dict[str, str] = {}
        try:
            yield headers
        except BinanceTransportError as error:
            if error.nothing_sent:
                self.limiter.release(reservation)
            else:
                self.limiter.settle(reservation, headers)
            raise
        except BaseException:
            self.limiter.settle(reservation, headers)
            raise
        self.limiter.settle(reservation, headers)

    async def _reserve(
        self, call: str, endpoint: Endpoint, parameters: Mapping[str, str], priority: Priority | None
    ) -> Reservation:
        priority = endpoint.priority if priority is None else priority
        counters = self.limiter.counters[priority]
        left_s = RATE_WAIT_LIMIT_S[priority]
        waited = False
        while isinstance(got := self.limiter.acquire(endpoint, parameters, priority), Denied):
            if got.retry_after_s > left_s:
                counters.refused += 1
                raise VenueRateLimitedError(
                    f"{call}: nothing was sent: {got.reason}. Try again in {got.retry_after_s:.1f} s.",
                    got.retry_after_s,
                    is_banned=got.is_banned,
                )
            if not waited:
                waited = True
                counters.waited += 1
            left_s -= got.retry_after_s
            await asyncio.sleep(got.retry_after_s)
        return got

    async def _exchange(
        self, call: str, method: str, path: str, query: str, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Send and read one request. Raises BinanceTransportError."""
        own = {"X-MBX-APIKEY": self.credential.api_key} if self.credential is not None else {}
        content = bytearray()
        try:
            async with (
                asyncio.timeout(REQUEST_DEADLINE_S),
                self._client.stream(method, f"{path}?{query}" if query else path, headers=own) as response,
            ):
                headers.update({name.lower(): value for name, value in response.headers.items()})
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MAX_RESPONSE_BYTES:
                        raise BinanceTransportError(call, f"more than {MAX_RESPONSE_BYTES} bytes", nothing_sent=False)
                return response.status_code, bytes(content)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol) as error:
            raise BinanceTransportError(call, _describe(error), nothing_sent=True) from error
        except httpx2.HTTPError as error:
            raise BinanceTransportError(call, _describe(error), nothing_sent=False) from error
        except TimeoutError as error:
            raise BinanceTransportError(
                call, f"no whole answer within {REQUEST_DEADLINE_S} s", nothing_sent=False
            ) from error

    def _query(self, parameters: Mapping[str, str], *, signed: bool) -> str:
        if not signed:
            return query_text(parameters)
        assert self.credential is not None, "a signed call needs a key"
        return signed_query(
            self.credential,
            {**parameters, "recvWindow": str(self._recv_window_ms), "timestamp": str(self.clock.now_ms())},
        )

    def _failure(
        self, call: str, status: int, content: bytes, headers: Mapping[str, str], symbol: str
    ) -> VenueUnavailableError:
        try:
            body = msgspec.json.decode(content, type=ErrorBody)
        except UNREADABLE:
            body = ErrorBody(0, "no error body")
        return self.failure(call, status, body, headers, symbol)

    def failure(
        self, call: str, status: int, body: ErrorBody, headers: Mapping[str, str], symbol: str
    ) -> VenueUnavailableError:
        """The error to raise for an answer that isn't success; takes note of what it says of clock and limits."""
        # What is said here ends in the journal, and a venue may say anything.
        body = ErrorBody(body.code, body.msg[:MAX_ERROR_CHARACTERS])
        if body.code == CODE_TIMESTAMP_OUTSIDE_WINDOW:
            self.clock.invalidate()
        if status in {STATUS_RATE_EXCEEDED, STATUS_BANNED}:
            text = headers.get("retry-after", "")
            told_s = float(text) if text.isascii() and text.isdigit() else None
            wait_s = self.limiter.on_refused(status, body.code, body.msg, told_s)
            _log.error("rate_limit_exceeded", call=call, status=status, code=body.code, retry_after_s=wait_s)
            return BinanceRateLimitedError(call, status, body.code, body.msg, wait_s)
        credential = self.credential
        cure = cure_of(
            status,
            body.code,
            reference=credential.reference if credential else "none",
            secret_file=credential.secret_file if credential else "the secret",
            symbol=symbol,
            base_url=self._base_url,
        )
        return BinanceApiError(call, status, body.code, body.msg, cure)


@cache
def _tls_context() -> ssl.SSLContext:
    """One for all clients: reading the certificates takes 60 ms."""
    return httpx2.create_ssl_context()


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
