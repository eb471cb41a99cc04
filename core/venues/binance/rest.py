"""Binance's REST interface: signing, the server's clock, typed errors, bounded retries of reads.

One request is one attempt, except for `read`, which may repeat because reading twice changes nothing. Signed requests
carry `timestamp` on the server's clock, estimated from /api/v3/time, and `recvWindow`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from random import Random
from typing import TypeVar
from urllib.parse import urlencode

import httpx2
import msgspec

from core.types.clock import NS_PER_MS, NS_PER_S, Clock
from core.venues.binance.backoff import Backoff, is_loopback
from core.venues.binance.wire import ErrorBody, ServerTime
from core.venues.ports import VenueUnavailableError

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 16
KEEPALIVE_EXPIRY_S = 3.0
"""Shorter than common servers keep idle connections (5 s): one that closes under a submit would make it UNKNOWN."""
READ_ATTEMPTS = 3
READ_DEADLINE_S = 15.0
RETRY_BASE_S = 0.1
RETRY_CAP_S = 2.0
TIME_SAMPLES = 3
TIME_REFRESH_NS = 30 * 60 * NS_PER_S
CODE_TIMESTAMP_OUTSIDE_WINDOW = -1021
STATUS_BANNED = 418
STATUS_RATE_EXCEEDED = 429

T = TypeVar("T")


class BinanceApiError(VenueUnavailableError):
    """The venue answered, and not with success. code is 0 when the answer held none.

    retry_after_s is what a 429 or 418 asks to wait.
    """

    def __init__(self, call: str, status: int, code: int, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{call}: HTTP {status}, venue code {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_transient(self) -> bool:
        return self.status >= 500 or self.status in {STATUS_RATE_EXCEEDED, STATUS_BANNED}


class BinanceTransportError(VenueUnavailableError):
    """No whole answer. nothing_sent is True only when no byte of the request can have left: no connection existed."""

    def __init__(self, call: str, detail: str, *, nothing_sent: bool) -> None:
        super().__init__(f"{call}: {detail}")
        self.nothing_sent = nothing_sent


class BinanceRest:
    """One venue's REST interface under one API key. Close it with `aclose`."""

    def __init__(
        self,
        rest_url: str,
        clock: Clock,
        *,
        api_key: str = "",
        api_secret: str = "",
        recv_window_ms: int = 5_000,
        read_timeout_s: float = READ_TIMEOUT_S,
        random: Random | None = None,
    ) -> None:
        self._clock = clock
        self._api_key = api_key
        self._api_secret = api_secret.encode()
        self._recv_window_ms = recv_window_ms
        self._random = random
        self._offset_ms = 0
        self._offset_taken_ns: int | None = None
        self._time_lock = asyncio.Lock()
        self.used_weight_1m = 0
        self._client = httpx2.AsyncClient(
            base_url=rest_url,
            timeout=httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_EXPIRY_S,
            ),
            headers={"User-Agent": "veloz"},
            trust_env=not is_loopback(rest_url),
        )

    @property
    def recv_window_ms(self) -> int:
        return self._recv_window_ms

    @property
    def clock_offset_ms(self) -> int:
        """The server's clock minus ours; 0 before the first signed call."""
        return self._offset_ms

    async def aclose(self) -> None:
        await self._client.aclose()

    async def read(
        self, path: str, parameters: Mapping[str, str] | None = None, *, signed: bool = False, answer: type[T]
    ) -> T:
        """GET, repeated on transport errors, 5xx and rate limits: READ_ATTEMPTS within READ_DEADLINE_S.

        Raises BinanceApiError, BinanceTransportError, or VenueUnavailableError when the answer makes no sense.
        """
        backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, self._random)
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                for attempt in range(1, READ_ATTEMPTS + 1):
                    delay_s = backoff.next_s()
                    try:
                        return await self.once("GET", path, parameters, signed=signed, answer=answer)
                    except BinanceTransportError:
                        if attempt == READ_ATTEMPTS:
                            raise
                    except BinanceApiError as error:
                        retry = error.is_transient and error.retry_after_s <= RETRY_CAP_S
                        retry = retry or (signed and error.code == CODE_TIMESTAMP_OUTSIDE_WINDOW)
                        if not retry or attempt == READ_ATTEMPTS:
                            raise
                        delay_s = max(delay_s, error.retry_after_s)
                    await asyncio.sleep(delay_s)
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
    ) -> T:
        """One request, one attempt.

        Raises BinanceApiError, BinanceTransportError, or VenueUnavailableError when the answer makes no sense.
        """
        call = f"{method} {path}"
        if signed:
            try:
                await self._ensure_time()
            except VenueUnavailableError as error:
                raise BinanceTransportError(call, f"not sent: {error}", nothing_sent=True) from error
        query = self._query(parameters or {}, signed=signed)
        headers = {"X-MBX-APIKEY": self._api_key} if self._api_key else {}
        try:
            response = await self._client.request(method, f"{path}?{query}" if query else path, headers=headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise BinanceTransportError(call, _describe(error), nothing_sent=True) from error
        except httpx2.HTTPError as error:
            raise BinanceTransportError(call, _describe(error), nothing_sent=False) from error
        self._note_weight(response)
        if response.status_code >= 300:
            failure = _api_error(call, response)
            if failure.code == CODE_TIMESTAMP_OUTSIDE_WINDOW:
                self._offset_taken_ns = None
            raise failure
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.MsgspecError as error:
            raise VenueUnavailableError(f"{call}: the answer can't be read: {error}") from error

    async def sync_time(self) -> None:
        """Estimate the server's clock: of TIME_SAMPLES exchanges the quickest, taken at its middle.

        Raises as `once`.
        """
        best_ns: int | None = None
        for _ in range(TIME_SAMPLES):
            sent_ns = self._clock.now_ns()
            body = await self.once("GET", "/api/v3/time", answer=ServerTime)
            round_trip_ns = self._clock.now_ns() - sent_ns
            if best_ns is None or round_trip_ns < best_ns:
                best_ns = round_trip_ns
                self._offset_ms = body.serverTime - (sent_ns + round_trip_ns // 2) // NS_PER_MS
        self._offset_taken_ns = self._clock.now_ns()

    async def _ensure_time(self) -> None:
        async with self._time_lock:
            taken_ns = self._offset_taken_ns
            if taken_ns is None or self._clock.now_ns() - taken_ns > TIME_REFRESH_NS:
                await self.sync_time()

    def _query(self, parameters: Mapping[str, str], *, signed: bool) -> str:
        if not signed:
            return urlencode(parameters)
        timestamp_ms = self._clock.now_ns() // NS_PER_MS + self._offset_ms
        query = urlencode({**parameters, "recvWindow": str(self._recv_window_ms), "timestamp": str(timestamp_ms)})
        signature = hmac.new(self._api_secret, query.encode(), hashlib.sha256).hexdigest()
        return f"{query}&signature={signature}"

    def _note_weight(self, response: httpx2.Response) -> None:
        used = response.headers.get("x-mbx-used-weight-1m", "")
        if used.isdigit():
            self.used_weight_1m = int(used)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _api_error(call: str, response: httpx2.Response) -> BinanceApiError:
    retry_after = response.headers.get("retry-after", "")
    retry_after_s = float(retry_after) if retry_after.isdigit() else 0.0
    try:
        body = msgspec.json.decode(response.content, type=ErrorBody)
    except msgspec.MsgspecError:
        return BinanceApiError(call, response.status_code, 0, "no error body", retry_after_s)
    return BinanceApiError(call, response.status_code, body.code, body.msg, retry_after_s)
