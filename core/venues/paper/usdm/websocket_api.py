"""The WebSocket API of USD-M futures: the same endpoints as REST, asked over one connection
(https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info).

A signed request carries apiKey and signature over its parameters in alphabetical order. session.logon signs a
connection in with any of the venue's keys; Binance asks for an Ed25519 one there.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.venues.paper import signing
from core.venues.paper.errors import VenueError
from core.venues.paper.usdm.endpoints import Endpoint, Security
from core.venues.paper.usdm.limits import MAX_WEIGHT_PER_MINUTE
from core.venues.paper.usdm.parameters import Parameters, as_text
from core.venues.paper.usdm.rest import UsdmRest

METHODS: dict[str, tuple[str, str]] = {
    "ping": ("GET", "/fapi/v1/ping"),
    "time": ("GET", "/fapi/v1/time"),
    "depth": ("GET", "/fapi/v1/depth"),
    "ticker.price": ("GET", "/fapi/v1/ticker/price"),
    "ticker.book": ("GET", "/fapi/v1/ticker/bookTicker"),
    "order.place": ("POST", "/fapi/v1/order"),
    "order.modify": ("PUT", "/fapi/v1/order"),
    "order.cancel": ("DELETE", "/fapi/v1/order"),
    "order.status": ("GET", "/fapi/v1/order"),
    "algoOrder.place": ("POST", "/fapi/v1/algoOrder"),
    "algoOrder.cancel": ("DELETE", "/fapi/v1/algoOrder"),
    "account.position": ("GET", "/fapi/v2/positionRisk"),
    "v2/account.position": ("GET", "/fapi/v3/positionRisk"),
    "account.balance": ("GET", "/fapi/v2/balance"),
    "v2/account.balance": ("GET", "/fapi/v3/balance"),
    "account.status": ("GET", "/fapi/v2/account"),
    "v2/account.status": ("GET", "/fapi/v3/account"),
    "userDataStream.start": ("POST", "/fapi/v1/listenKey"),
    "userDataStream.ping": ("PUT", "/fapi/v1/listenKey"),
    "userDataStream.stop": ("DELETE", "/fapi/v1/listenKey"),
}
NOT_PARAMETERS = frozenset({"apiKey", "signature"})


class _Session:
    """One connection, signed in or not."""

    def __init__(self, connected_ms: int) -> None:
        self.connected_ms = connected_ms
        self.key: str | None = None
        self.since_ms: int | None = None


class WebSocketApi:
    def __init__(self, rest: UsdmRest) -> None:
        self._rest = rest

    async def serve(self, websocket: WebSocket) -> None:
        """One client's whole life: each request is answered in turn."""
        await websocket.accept()
        session = _Session(self._rest.exchange.now_ms())
        address = websocket.client.host if websocket.client else "unknown"
        try:
            while True:
                await websocket.send_text(self._answer(await websocket.receive_text(), session, address))
        except (WebSocketDisconnect, RuntimeError):
            return

    def _answer(self, text: str, session: _Session, address: str) -> str:
        request_id: Any = None
        headers: dict[str, str] = {}
        body: dict[str, Any]
        try:
            try:
                request = msgspec.json.decode(text)
            except msgspec.DecodeError as error:
                raise VenueError(-1135, "Invalid JSON request.") from error
            if not isinstance(request, dict):
                raise VenueError(-1135, "Invalid JSON request.")
            request_id, method, given = request.get("id"), request.get("method"), request.get("params") or {}
            if not isinstance(given, dict):
                raise VenueError(-1135, "Invalid JSON request.")
            parameters = {str(name): as_text(value) for name, value in given.items() if value is not None}
            result = self._run(str(method), parameters, session, address, headers)
            body = {"id": request_id, "status": 200, "result": result}
        except VenueError as refusal:
            body = {
                "id": request_id,
                "status": refusal.status,
                "error": {"code": refusal.code, "msg": refusal.message},
            }
        used = headers.get("X-MBX-USED-WEIGHT-1M")
        if used is not None:
            body["rateLimits"] = [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": MAX_WEIGHT_PER_MINUTE,
                    "count": int(used),
                }
            ]
        return msgspec.json.encode(body).decode()

    def _run(
        self, method: str, parameters: Parameters, session: _Session, address: str, headers: dict[str, str]
    ) -> Any:
        if method.startswith("session."):
            return self._session(method, parameters, session)
        target = METHODS.get(method)
        if target is None:
            raise VenueError(-1000, f"Method {method} is not supported.")
        endpoint = self._rest.endpoints[target]
        self._rest.charge(endpoint, parameters, address, headers)
        self._check(endpoint, parameters, session)
        wanted = {name: value for name, value in parameters.items() if name not in NOT_PARAMETERS}
        return self._rest.run(endpoint, wanted, headers)

    def _check(self, endpoint: Endpoint, parameters: Parameters, session: _Session) -> None:
        """Raises VenueError. A signed-in connection needs neither key nor signature."""
        if endpoint.security is Security.NONE:
            return
        has_session = session.key is not None and "signature" not in parameters
        own = signing.check_key(self._rest.credentials, session.key if has_session else parameters.get("apiKey"))
        signing.check_permission(own, endpoint.method)
        if has_session:
            return
        if endpoint.security is Security.SIGNED:
            self._check_signature(own, parameters)

    def _check_signature(self, own: signing.Credentials, parameters: Parameters) -> None:
        """Clients sign the sorted parameters as plain text or percent-encoded; both are accepted."""
        pairs = sorted((name, value) for name, value in parameters.items() if name != "signature")
        signature = quote(parameters.get("signature", ""), safe="")
        plain = "&".join(f"{name}={value}" for name, value in pairs)
        encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
        now_ms = self._rest.exchange.now_ms()
        try:
            signing.check_signature(own, signing.Request.of(f"{plain}&signature={signature}", ""), now_ms)
        except VenueError as refusal:
            if refusal.code != -1022 or encoded == plain:
                raise
            signing.check_signature(own, signing.Request.of(f"{encoded}&signature={signature}", ""), now_ms)

    def _session(self, method: str, parameters: Parameters, session: _Session) -> dict[str, Any]:
        now_ms = self._rest.exchange.now_ms()
        match method:
            case "session.logon":
                own = signing.check_key(self._rest.credentials, parameters.get("apiKey"))
                self._check_signature(own, parameters)
                session.key, session.since_ms = parameters["apiKey"], now_ms
            case "session.logout":
                session.key = session.since_ms = None
            case "session.status":
                pass
            case _:
                raise VenueError(-1000, f"Method {method} is not supported.")
        return {
            "apiKey": session.key,
            "authorizedSince": session.since_ms,
            "connectedSince": session.connected_ms,
            "returnRateLimits": True,
            "serverTime": now_ms,
        }
