"""Binance spot as a VenuePort: the wire format and nothing else.

The hard part is to say what is known after a submit (I5). Refused means that the venue answered no, or that provably
no byte left; everything else that isn't a success is unknown, and a submit is never repeated here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from random import Random

import msgspec
import structlog

from core.types.clock import Clock
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.instruments import Instrument
from core.types.orders import OrderIntent
from core.venues.binance import wire
from core.venues.binance.rest import READ_TIMEOUT_S, BinanceApiError, BinanceRest, BinanceTransportError
from core.venues.binance.user_stream import LISTEN_KEY_KEEPALIVE_S, UserStream
from core.venues.ports import (
    SubmitRefused,
    SubmitResult,
    Submitted,
    SubmitUnknown,
    UserEvent,
    VenueOrder,
    VenueTrade,
    VenueUnavailableError,
)

ORDER_PATH = "/api/v3/order"
TRADES_LIMIT = 1_000

CODE_CANCEL_REJECTED = -2011
CODE_NO_SUCH_ORDER = -2013
CODE_NEW_ORDER_REJECTED = -2010
DUPLICATE_ORDER = "duplicate order"
CODES_THAT_PROVE_NOTHING = frozenset({-1000, -1001, -1006, -1007})
"""Unknown error, disconnected, unexpected response, time-out: the order may have reached the matching engine."""

_log = structlog.get_logger("venues.binance")


class BinanceSpot:
    """Binance spot's REST and user data stream under one API key. Close it with `aclose`.

    venue is the name that instruments and orders carry here. symbols limits what is read of exchangeInfo; None reads
    all.
    """

    def __init__(
        self,
        rest_url: str,
        api_key: str,
        api_secret: str,
        clock: Clock,
        recv_window_ms: int = 5_000,
        *,
        venue: str,
        websocket_url: str,
        symbols: tuple[str, ...] | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        keepalive_s: float = LISTEN_KEY_KEEPALIVE_S,
        random: Random | None = None,
    ) -> None:
        self._venue = venue
        self._symbols = symbols
        self._instruments: dict[str, Instrument] = {}
        self.rest = BinanceRest(
            rest_url,
            clock,
            api_key=api_key,
            api_secret=api_secret,
            recv_window_ms=recv_window_ms,
            read_timeout_s=read_timeout_s,
            random=random,
        )
        self._user_stream = UserStream(
            websocket_url,
            self.rest,
            self._instrument,
            keepalive_s=keepalive_s,
            random=random,
        )

    async def aclose(self) -> None:
        await self.rest.aclose()

    async def instruments(self) -> tuple[Instrument, ...]:
        """What can be traded. A symbol whose rules can't be read is left out, with a warning."""
        info = await self.rest.read("/api/v3/exchangeInfo", answer=wire.ExchangeInfo)
        found: dict[str, Instrument] = {}
        for symbol in info.symbols:
            if symbol.status != wire.TRADING or (self._symbols is not None and symbol.symbol not in self._symbols):
                continue
            try:
                found[symbol.symbol] = wire.instrument_of(symbol, self._venue)
            except ValueError as error:
                _log.warning("instrument_left_out", symbol=symbol.symbol, error=str(error))
        self._instruments = found
        return tuple(found.values())

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        """Send once. Never raises for what the venue or the network does."""
        try:
            parameters = wire.order_parameters(intent)
        except ValueError as error:
            return SubmitRefused(Refusal(ReasonCode.REQUEST_INVALID, f"The order was not sent: {error}."))
        try:
            ack = await self.rest.once("POST", ORDER_PATH, parameters, signed=True, answer=wire.NewOrderAck)
        except BinanceApiError as error:
            return _submit_outcome(error)
        except BinanceTransportError as error:
            if error.nothing_sent:
                return SubmitRefused(
                    Refusal(
                        ReasonCode.RISK_VENUE_DISCONNECTED,
                        f"The venue can't be reached and nothing was sent: {error}. Try again when it is back.",
                    )
                )
            return SubmitUnknown(str(error))
        except VenueUnavailableError as error:
            return SubmitUnknown(str(error))
        return Submitted(str(ack.order_id))

    async def cancel(self, symbol: str, client_order_id: str) -> None:
        """Ask once for a cancel; what became of the order comes on the user stream.

        Raises RefusalError(ORDER_UNKNOWN) when the venue has no such open order, VenueUnavailableError otherwise.
        """
        parameters = {"symbol": symbol, "origClientOrderId": client_order_id}
        try:
            await self.rest.once("DELETE", ORDER_PATH, parameters, signed=True, answer=msgspec.Raw)
        except BinanceApiError as error:
            if error.code != CODE_CANCEL_REJECTED:
                raise
            message = f"The venue has no open order {client_order_id} on {symbol}: {error.code} {error.message}"
            raise RefusalError(
                Refusal(ReasonCode.ORDER_UNKNOWN, message, actual=str(error.code), unit="venue_code")
            ) from error

    async def order(self, symbol: str, client_order_id: str) -> VenueOrder | None:
        """None when the venue knows no such order. Soon after a submit that proves nothing (I5)."""
        return await self._order(symbol, {"origClientOrderId": client_order_id})

    async def open_orders(self, symbol: str) -> list[VenueOrder]:
        instrument = await self._known_instrument(symbol)
        bodies = await self.rest.read(
            "/api/v3/openOrders", {"symbol": symbol}, signed=True, answer=list[wire.OrderBody]
        )
        return [wire.readable(wire.order_of, body, instrument) for body in bodies]

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]:
        """Fills of one order, oldest first, at most TRADES_LIMIT."""
        instrument = await self._known_instrument(symbol)
        parameters = {"symbol": symbol, "orderId": venue_order_id}
        bodies = await self.rest.read(
            "/api/v3/myTrades",
            {**parameters, "limit": str(TRADES_LIMIT)},
            signed=True,
            answer=list[wire.MyTrade],
        )
        if not bodies:
            return []
        # myTrades leaves out the client order id.
        order = await self._order(symbol, {"orderId": venue_order_id})
        if order is None:
            raise VenueUnavailableError(f"GET {ORDER_PATH}: order {venue_order_id} has trades and yet doesn't exist")
        trades = [wire.readable(wire.trade_of, body, instrument, order.client_order_id) for body in bodies]
        return sorted(trades, key=lambda trade: trade.trade_id)

    async def balances(self) -> dict[str, Decimal]:
        """Free plus locked, by asset."""
        account = await self.rest.read("/api/v3/account", signed=True, answer=wire.Account)
        return {item.asset: Decimal(item.free) + Decimal(item.locked) for item in account.balances}

    def user_events(self) -> AsyncIterator[UserEvent]:
        """Connects, reconnects with backoff, and never ends by itself."""
        return self._user_stream.events()

    async def _order(self, symbol: str, key: dict[str, str]) -> VenueOrder | None:
        instrument = await self._known_instrument(symbol)
        try:
            body = await self.rest.read(ORDER_PATH, {"symbol": symbol, **key}, signed=True, answer=wire.OrderBody)
        except BinanceApiError as error:
            if error.code == CODE_NO_SUCH_ORDER:
                return None
            raise
        return wire.readable(wire.order_of, body, instrument)

    async def _instrument(self, symbol: str) -> Instrument:
        if symbol not in self._instruments:
            await self.instruments()
        return self._instruments[symbol]

    async def _known_instrument(self, symbol: str) -> Instrument:
        try:
            return await self._instrument(symbol)
        except KeyError as error:
            raise VenueUnavailableError(f"exchangeInfo: the venue doesn't list {symbol}") from error


def _submit_outcome(error: BinanceApiError) -> SubmitResult:
    answered_no = 400 <= error.status < 500 and error.code != 0 and error.code not in CODES_THAT_PROVE_NOTHING
    # "Duplicate order sent": an order with this id is open, and only this intent has this id.
    duplicate = error.code == CODE_NEW_ORDER_REJECTED and error.message.lower().startswith(DUPLICATE_ORDER)
    if answered_no and not duplicate:
        return SubmitRefused(wire.venue_refusal(error.code, error.message))
    return SubmitUnknown(str(error))
