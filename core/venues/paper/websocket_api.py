"""Binance's WebSocket API: REST's endpoints in JSON envelopes, sessions, and the user data stream by subscription
(https://developers.binance.com/docs/binance-spot-api-docs/websocket-api)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog
from starlette.websockets import WebSocket

from core.venues.paper import signing
from core.venues.paper.endpoints import (
    Answer,
    Endpoint,
    Security,
    event_in_microseconds,
    in_microseconds,
    is_microseconds,
)
from core.venues.paper.errors import VenueError, missing_parameter
from core.venues.paper.exchange import Exchange
from core.venues.paper.limits import Limits
from core.venues.paper.parameters import Parameters
from core.venues.paper.rest import Rest
from core.venues.paper.signing import Credentials
from core.venues.paper.streams import Connection

log = structlog.get_logger("venue.websocket_api")

API_KEY, SIGNATURE, TIMESTAMP = "apiKey", "signature", "timestamp"
VERSION_PREFIX = "v3/"
CONNECTION_WEIGHT = 2
SESSION_WEIGHT = 2
MAX_SUBSCRIPTIONS = 1_000
"""User data subscriptions of one connection."""


class WebSocketApi:
    """All requests by their method's name."""

    def __init__(self, exchange: Exchange, rest: Rest, credentials: Sequence[Credentials]) -> None:
        self.exchange = exchange
        self.limits: Limits = rest.limits
        self.credentials = credentials
        self.endpoints: dict[str, Endpoint] = {
            method: endpoint for endpoint in rest.endpoints for method in endpoint.methods
        }

    async def serve(self, socket: WebSocket) -> None:
        address = socket.client.host if socket.client else "unknown"
        query = socket.query_params
        try:
            in_micro = is_microseconds(query.get("timeUnit"))
            self.limits.charge(address, CONNECTION_WEIGHT, self.exchange.now_ms())
        except VenueError as refusal:
            await socket.close(1008, refusal.message)
            return
        shows_limits = query.get("returnRateLimits", "true").lower() != "false"
        connection = ApiConnection(self, socket, address, shows_limits=shows_limits, in_micro=in_micro)
        await self.exchange.hub.run(connection, socket)


class ApiConnection(Connection):
    """One client of the WebSocket API, with its session and its subscriptions."""

    def __init__(
        self, api: WebSocketApi, socket: WebSocket, address: str, *, shows_limits: bool, in_micro: bool
    ) -> None:
        super().__init__(socket, api.exchange.hub.connection_life_s)
        self._api = api
        self._address = address
        self._shows_limits = shows_limits
        self._in_micro = in_micro
        self._connected_ms = api.exchange.now_ms()
        self._session: Credentials | None = None
        self._authorized_ms = 0
        self._next_subscription = 0
        self._subscriptions: dict[int, tuple[Credentials, Callable[[str], None]]] = {}
        self._own: dict[str, Callable[[signing.Request], Answer]] = {
            "session.logon": self._logon,
            "session.status": lambda request: self._finished(request, self._status),
            "session.logout": lambda request: self._finished(request, self._logout),
            "session.subscriptions": lambda request: self._finished(request, self._list),
            "userDataStream.subscribe": self._subscribe,
            "userDataStream.subscribe.signature": self._subscribe_signed,
            "userDataStream.unsubscribe": self._unsubscribe,
        }

    def forget(self) -> None:
        for subscription in tuple(self._subscriptions):
            self._drop(subscription)

    def answer(self, text: str) -> None:
        """One request; the answer has its id. A banned client is cut off after its 418."""
        request_id: Any = None
        shows_limits = self._shows_limits
        endpoint: Endpoint | None = None
        reply: dict[str, Any]
        now_ms = self._api.exchange.now_ms()
        is_banned = False
        try:
            request_id, method, request = _parse(text)
            wanted = request.parameters.pop("returnRateLimits", None)
            shows_limits = shows_limits if wanted is None else wanted == "true"
            endpoint = self._api.endpoints.get(method)
            result = self._call(method, endpoint, request, now_ms)
            if self._in_micro:
                result = in_microseconds(result, is_klines=endpoint is not None and endpoint.is_klines)
            reply = {"id": request_id, "status": 200, "result": result}
        except _BadRequest as bad:
            request_id = bad.request_id
            reply = {"id": request_id, "status": 400, "error": bad.refusal.body()}
        except VenueError as refusal:
            reply = {"id": request_id, "status": refusal.status, "error": _error(refusal, now_ms)}
            is_banned = refusal.status == 418
        except Exception as error:
            log.exception("websocket_api_failed", error=repr(error))
            message = "An unknown error occurred while processing the request."
            reply = {"id": request_id, "status": 500, "error": {"code": -1000, "msg": message}}
        if shows_limits:
            reply["rateLimits"] = self._rate_limits(endpoint, now_ms)
        self.offer(msgspec.json.encode(reply).decode())
        if is_banned:
            self.close_after_sending(1008, "banned")

    def _call(self, method: str, endpoint: Endpoint | None, request: signing.Request, now_ms: int) -> Answer:
        if method in self._own:
            self._api.limits.charge(self._address, SESSION_WEIGHT, now_ms)
            return self._own[method](request)
        if endpoint is None:
            raise VenueError(-1020, "This operation is not supported.")
        return endpoint.call(
            request.parameters, self._address, self._api.limits, lambda: self._guard(endpoint, request), now_ms
        )

    def _rate_limits(self, endpoint: Endpoint | None, now_ms: int) -> list[dict[str, Any]]:
        limits = self._api.limits
        counts_orders = endpoint is not None and (endpoint.orders or endpoint.path.endswith("/cancelReplace"))
        orders = limits.order_limits(now_ms) if counts_orders else []
        return [*orders, limits.weight_limit(self._address, now_ms)]

    # Who calls

    def _guard(self, endpoint: Endpoint, request: signing.Request) -> None:
        if endpoint.security is Security.NONE:
            return
        if endpoint.security is Security.KEY:
            given = request.parameters.get(API_KEY)
            if given is not None or self._session is None:
                signing.check_permission(signing.check_key(self._api.credentials, given), endpoint.verb)
            return
        signing.check_permission(self._authenticate(request), endpoint.verb)

    def _authenticate(self, request: signing.Request) -> Credentials:
        """By the request's own key and signature, or by the session. Raises VenueError."""
        given = request.parameters.get(API_KEY)
        if given is None and request.signature is None and self._session is not None:
            if TIMESTAMP in request.parameters:
                signing.check_time(request.parameters, self._api.exchange.now_ms())
            return self._session
        credentials = signing.check_key(self._api.credentials, given)
        signing.check_signature(credentials, request, self._api.exchange.now_ms())
        return credentials

    def _logon(self, request: signing.Request) -> Answer:
        credentials = signing.check_key(self._api.credentials, request.parameters.get(API_KEY))
        if not credentials.is_ed25519:
            raise VenueError(-4056, "HMAC_SHA256 API key is not supported.")
        signing.check_signature(credentials, request, self._api.exchange.now_ms())
        request.parameters.all_read()
        self._session, self._authorized_ms = credentials, self._api.exchange.now_ms()
        return self._status()

    def _logout(self) -> Answer:
        """The session's subscriptions end with it; those made by a signature of their own go on."""
        session, self._session, self._authorized_ms = self._session, None, 0
        for subscription, (credentials, _) in tuple(self._subscriptions.items()):
            if credentials is session:
                self._drop(subscription)
        return self._status()

    def _status(self) -> Answer:
        return {
            "apiKey": self._session.key if self._session else None,
            "authorizedSince": self._authorized_ms if self._session else None,
            "connectedSince": self._connected_ms,
            "returnRateLimits": self._shows_limits,
            "serverTime": self._api.exchange.now_ms(),
            "userDataStream": bool(self._subscriptions),
        }

    def _finished(self, request: signing.Request, act: Callable[[], Answer]) -> Answer:
        request.parameters.all_read()
        return act()

    # User data stream

    def _subscribe(self, request: signing.Request) -> Answer:
        request.parameters.all_read()
        if self._session is None:
            raise VenueError(-1002, "You are not authorized to execute this request.", 401)
        if any(credentials is self._session for credentials, _ in self._subscriptions.values()):
            raise VenueError(-2035, "User Data Stream subscription already active.")
        return self._add(self._session)

    def _subscribe_signed(self, request: signing.Request) -> Answer:
        if API_KEY not in request.parameters:
            raise missing_parameter(API_KEY)
        credentials = self._authenticate(request)
        request.parameters.all_read()
        return self._add(credentials)

    def _add(self, credentials: Credentials) -> Answer:
        if self._next_subscription >= MAX_SUBSCRIPTIONS:
            raise VenueError(-2042, "Maximum subscription ID reached for this connection.")
        subscription = self._next_subscription
        self._next_subscription += 1

        def tell(payload: str) -> None:
            if self._in_micro:
                payload = msgspec.json.encode(event_in_microseconds(msgspec.json.decode(payload))).decode()
            self.offer(f'{{"subscriptionId":{subscription},"event":{payload}}}')

        self._subscriptions[subscription] = credentials, tell
        self._api.exchange.account.listeners.add(tell)
        return {"subscriptionId": subscription}

    def _drop(self, subscription: int) -> None:
        _, tell = self._subscriptions.pop(subscription)
        self._api.exchange.account.listeners.discard(tell)

    def _list(self) -> Answer:
        return [{"subscriptionId": subscription} for subscription in self._subscriptions]

    def _unsubscribe(self, request: signing.Request) -> Answer:
        """One, or all without a subscriptionId."""
        wanted = request.parameters.get("subscriptionId")
        request.parameters.all_read()
        chosen = [one for one in self._subscriptions if wanted is None or str(one) == wanted]
        if not chosen:
            raise VenueError(-2036, "User Data Stream subscription not active.")
        for subscription in chosen:
            self._drop(subscription)
        return {}


class _BadRequest(Exception):
    """A message that is no request."""

    def __init__(self, request_id: Any, refusal: VenueError) -> None:
        super().__init__(refusal.message)
        self.request_id = request_id
        self.refusal = refusal


def _parse(text: str) -> tuple[Any, str, signing.Request]:
    """(id, method, request). Numbers keep their text: it is signed as sent. Raises _BadRequest."""
    try:
        message = json.loads(text, parse_float=str)
    except ValueError as error:
        raise _BadRequest(None, VenueError(-1135, "Invalid JSON Request")) from error
    if not isinstance(message, dict):
        raise _BadRequest(None, VenueError(-1135, "Invalid JSON Request"))
    request_id = message.get("id")
    method, given = message.get("method"), message.get("params") or {}
    if not isinstance(request_id, int | str | None):
        raise _BadRequest(
            None, VenueError(-1100, "Illegal characters found in parameter 'id'; legal range is 'int, string or null'.")
        )
    if not isinstance(method, str) or not method:
        raise _BadRequest(request_id, missing_parameter("method"))
    if not isinstance(given, dict):
        raise _BadRequest(request_id, VenueError(-1135, "JSON sent for parameter 'params' is not valid"))
    parameters = Parameters({name: _as_text(value) for name, value in given.items() if value is not None})
    signature = parameters.pop(SIGNATURE, None)
    signed_text = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    return request_id, method.removeprefix(VERSION_PREFIX), signing.Request(parameters, signed_text, signature)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return str(value)


def _error(refusal: VenueError, now_ms: int) -> dict[str, Any]:
    body = refusal.body()
    if "Retry-After" in refusal.headers:
        retry_ms = now_ms + int(refusal.headers["Retry-After"]) * 1_000
        body["data"] = {"serverTime": now_ms, "retryAfter": retry_ms}
    return body
