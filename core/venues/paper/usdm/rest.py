"""The REST face of USD-M futures: one table of endpoints, which the WebSocket API calls as well
(https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from core.types.ids import IdSource
from core.venues.paper import signing
from core.venues.paper.errors import VenueError
from core.venues.paper.usdm.endpoints import Answer, Endpoint, Security
from core.venues.paper.usdm.exchange import UsdmExchange
from core.venues.paper.usdm.limits import RATE_LIMITS, FuturesLimits
from core.venues.paper.usdm.parameters import Parameters
from core.venues.paper.usdm.rest_account import AccountEndpoints
from core.venues.paper.usdm.rest_market import MarketEndpoints
from core.venues.paper.usdm.rest_orders import OrderEndpoints

MAX_BODY_BYTES = 64 * 1024


class UsdmRest:
    """All endpoints over one exchange."""

    def __init__(self, exchange: UsdmExchange, credentials: Sequence[signing.Credentials], ids: IdSource) -> None:
        self.exchange = exchange
        self.credentials = credentials
        self.limits = FuturesLimits()
        groups = [*MarketEndpoints(exchange).endpoints(), *AccountEndpoints(exchange).endpoints()]
        groups += OrderEndpoints(exchange, ids).endpoints()
        groups.append(Endpoint("GET", "/fapi/v1/rateLimit/order", Security.SIGNED, 1, self._order_limits))
        self.endpoints = {(endpoint.method, endpoint.path): endpoint for endpoint in groups}
        assert len(self.endpoints) == len(groups)

    def routes(self) -> list[Route]:
        return [self._route(endpoint) for endpoint in self.endpoints.values()]

    def _order_limits(self, _: Parameters) -> Answer:
        return [row for row in RATE_LIMITS if row["rateLimitType"] == "ORDERS"]

    def _route(self, endpoint: Endpoint) -> Route:
        async def answer(http: HttpRequest) -> Response:
            return await self._answer(http, endpoint)

        call: Callable[[HttpRequest], Awaitable[Response]] = answer
        return Route(endpoint.path, call, methods=[endpoint.method])

    async def _answer(self, http: HttpRequest, endpoint: Endpoint) -> Response:
        headers: dict[str, str] = {}
        address = http.client.host if http.client else "unknown"
        try:
            request = signing.Request.of(http.scope["query_string"].decode("latin-1"), await _body(http))
            self.charge(endpoint, request.parameters, address, headers)
            if endpoint.security is not Security.NONE:
                own = signing.check_key(self.credentials, http.headers.get("X-MBX-APIKEY"))
                signing.check_permission(own, endpoint.method)
                if endpoint.security is Security.SIGNED:
                    signing.check_signature(own, request, self.exchange.now_ms())
            return _json(self.run(endpoint, request.parameters, headers), 200, headers)
        except VenueError as refusal:
            return _json({"code": refusal.code, "msg": refusal.message}, refusal.status, headers | refusal.headers)

    def charge(self, endpoint: Endpoint, parameters: Parameters, address: str, headers: dict[str, str]) -> None:
        """Raises VenueError -1003."""
        cost = endpoint.weight if isinstance(endpoint.weight, int) else endpoint.weight(parameters)
        headers["X-MBX-USED-WEIGHT-1M"] = str(self.limits.charge(address, cost, self.exchange.now_ms()))

    def run(self, endpoint: Endpoint, parameters: Parameters, headers: dict[str, str]) -> Answer:
        """What an authorised request does. Raises VenueError."""
        count = endpoint.orders if isinstance(endpoint.orders, int) else endpoint.orders(parameters)
        if count:
            now_ms = self.exchange.now_ms()
            try:
                self.limits.count_orders(count, now_ms)
            finally:
                headers |= self.limits.order_headers(now_ms)
        return endpoint.handler(parameters)


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


def _json(content: Answer, status: int, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json;charset=UTF-8")
