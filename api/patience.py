"""How long a client may take to send a request: slow ones would otherwise take up every connection there is."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

REQUEST_TIMEOUT_S = 20.0

_Base: Any = AutoHTTPProtocol


class ImpatientProtocol(_Base):  # type: ignore[misc]
    """uvicorn's protocol, which by itself waits for ever for a head or a body that has begun."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self._is_receiving():
            self._rest()
        elif self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(REQUEST_TIMEOUT_S, self._give_up)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._is_receiving():
            self.transport.close()

    def _is_receiving(self) -> bool:
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body
