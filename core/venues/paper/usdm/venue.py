"""How the USD-M half is mounted into the paper venue's process.

REST is on the venue's own port at /fapi/*. Streams are under /usdm, at Binance's current paths (/public, /market and
/private before /stream or /ws, the listen key as a query parameter or a stream) and at the older ones without them;
every path serves every stream. The WebSocket API is at /usdm/ws-fapi/v1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from core.types.clock import Clock
from core.types.ids import IdSource
from core.venues.paper.decimals import UNIT
from core.venues.paper.events import Publish, StartBook
from core.venues.paper.signing import Credentials
from core.venues.paper.usdm.account import STARTING_WALLET
from core.venues.paper.usdm.exchange import UsdmExchange
from core.venues.paper.usdm.marks import FundingTerms
from core.venues.paper.usdm.rest import UsdmRest
from core.venues.paper.usdm.storage import Storage
from core.venues.paper.usdm.websocket_api import WebSocketApi

CATEGORIES = ("", "/public", "/market", "/private")


@runtime_checkable
class PerpetualSource(Protocol):
    """A market source that has perpetuals too."""

    def usdm_books(self) -> tuple[StartBook, ...]:
        """After `open`: the perpetuals' books to start from; empty when this market has none."""
        ...

    def set_usdm_publish(self, publish: Publish) -> None:
        """Before `play`: where the perpetuals' events go."""
        ...


class UsdmVenue:
    """One venue's USD-M half; its state is in a file beside the spot one."""

    def __init__(self, exchange: UsdmExchange, credentials: Sequence[Credentials], ids: IdSource) -> None:
        self.exchange = exchange
        self.rest = UsdmRest(exchange, credentials, ids)
        self._api = WebSocketApi(self.rest)

    @classmethod
    def open(
        cls,
        source: object,
        state_file: Path,
        credentials: Sequence[Credentials],
        ids: IdSource,
        clock: Clock,
        on_fatal: Callable[[Exception], None],
        stack: contextlib.AsyncExitStack,
        *,
        spot_middle: Callable[[str], int],
        funding: FundingTerms | None,
        starting_usdt: int | None = None,
    ) -> UsdmVenue | None:
        """None when the source has no perpetuals. Call it after the source's `open`. Raises PaperVenueError."""
        books = source.usdm_books() if isinstance(source, PerpetualSource) else ()
        if not books or not isinstance(source, PerpetualSource):
            return None
        storage = Storage(state_file.with_stem(state_file.stem + "-usdm"))
        stack.callback(storage.close)
        exchange = UsdmExchange(
            books,
            storage,
            clock,
            on_fatal,
            spot_middle=spot_middle,
            funding=funding,
            starting_wallet=STARTING_WALLET if starting_usdt is None else starting_usdt * UNIT,
        )
        source.set_usdm_publish(exchange.on_market)
        return cls(exchange, credentials, ids)

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [*self.rest.routes(), WebSocketRoute("/usdm/ws-fapi/v1", self._api.serve)]
        for category in CATEGORIES:
            routes += [
                WebSocketRoute(f"/usdm{category}/stream", self._combined),
                WebSocketRoute(f"/usdm{category}/ws", self._raw),
                WebSocketRoute(f"/usdm{category}/ws/{{streams:path}}", self._raw),
            ]
        return routes

    async def _combined(self, websocket: WebSocket) -> None:
        await self.exchange.hub.serve(websocket, _names(websocket, "streams"), is_combined=True)

    async def _raw(self, websocket: WebSocket) -> None:
        # ccxt numbers its connections in the path (/ws/0); Binance takes that as a stream that says nothing.
        path = websocket.path_params.get("streams", "").split("/")
        names = [name for name in path if name and not name.isdigit()]
        await self.exchange.hub.serve(websocket, names + _names(websocket, "listenKey"), is_combined=False)


def _names(websocket: WebSocket, parameter: str) -> list[str]:
    names = [name for name in websocket.query_params.get(parameter, "").split("/") if name]
    if parameter == "streams":
        names += _names(websocket, "listenKey")
    return names
