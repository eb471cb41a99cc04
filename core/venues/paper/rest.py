"""Binance's REST interface: HTTP around the endpoints (https://developers.binance.com/docs/binance-spot-api-docs/rest-api)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from core.types.ids import IdSource
from core.venues.paper import signing
from core.venues.paper.api_account import AccountApi
from core.venues.paper.api_market import MarketApi
from core.venues.paper.api_trading import TradingApi
from core.venues.paper.endpoints import Endpoint, Security, in_microseconds, is_microseconds
from core.venues.paper.errors import VenueError
from core.venues.paper.exchange import Exchange
from core.venues.paper.limits import Limits
from core.venues.paper.signing import Credentials

MAX_BODY_BYTES = 64 * 1024
TIME_UNIT_HEADER = "X-MBX-TIME-UNIT"


class Rest:
    """All endpoints over one exchange."""

    def __init__(self, exchange: Exchange, credentials: Sequence[Credentials], ids: IdSource) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self.limits = Limits()
        self.endpoints: list[Endpoint] = [
            *MarketApi(exchange).endpoints(),
            *TradingApi(exchange, ids, self.limits).endpoints(),
            *AccountApi(exchange, self.limits).endpoints(),
            Endpoint("GET", "/paper/v1/market", (), Security.NONE, 1, lambda _: exchange.describe_market()),
        ]

    def routes(self) -> list[Route]:
        return [self._route(endpoint) for endpoint in self.endpoints]

    def _route(self, endpoint: Endpoint) -> Route:
        async def answer(http: HttpRequest) -> Response:
            return await self._answer(http, endpoint)

        call: Callable[[HttpRequest], Awaitable[Response]] = answer
        return Route(endpoint.path, call, methods=[endpoint.verb])

    async def _answer(self, http: HttpRequest, endpoint: Endpoint) -> Response:
        now_ms = self._exchange.now_ms()
        address = http.client.host if http.client else "unknown"
        refused: VenueError | None = None
        answer: Any = None
        try:
            in_micro = is_microseconds(http.headers.get(TIME_UNIT_HEADER))
            request = signing.Request.of(http.scope["query_string"].decode("latin-1"), await _body(http))

            def guard() -> None:
                self._guard(endpoint, http.headers.get("X-MBX-APIKEY"), request, now_ms)

            answer = endpoint.call(request.parameters, address, self.limits, guard, now_ms)
            if in_micro:
                answer = in_microseconds(answer, is_klines=endpoint.is_klines)
        except VenueError as refusal:
            refused = refusal
        used = str(self.limits.used(address, now_ms))
        headers = {"X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}
        if endpoint.orders or endpoint.path.endswith("/cancelReplace"):
            headers |= self.limits.order_headers(now_ms)
        if refused is not None:
            return _json(refused.body(), refused.status, headers | refused.headers)
        return _json(answer, 200, headers)

    def _guard(self, endpoint: Endpoint, key: str | None, request: signing.Request, now_ms: int) -> None:
        if endpoint.security is Security.NONE:
            return
        credentials = signing.check_key(self._credentials, key)
        signing.check_permission(credentials, endpoint.verb)
        if endpoint.security is Security.SIGNED:
            signing.check_signature(credentials, request, now_ms)


async def _body(http: HttpRequest) -> str:
    """Raises VenueError when it is too long or no text."""
    body = b""
    async for part in http.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise VenueError(-1101, "Too many parameters sent for this endpoint.", 413)
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise VenueError(-1100, "Illegal characters found in a parameter.") from error


def _json(content: Any, status: int, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json;charset=UTF-8")
