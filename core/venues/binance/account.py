"""What Binance spot and USD-M have in common as a VenuePort; each adds its own wire format.

The hard part is to say what is known after a submit (I5). Refused means that the venue answered no, or that provably
no byte left; everything else that isn't a success is unknown, and a submit is never repeated here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from decimal import Decimal
from random import Random
from typing import Generic, TypeVar

import msgspec
import structlog

from core.market.klines import Kline
from core.types.clock import NS_PER_MS, Clock
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.instruments import Instrument, Product
from core.types.orders import OrderIntent
from core.venues.binance import wire
from core.venues.binance.endpoints import Priority
from core.venues.binance.errors import (
    CODE_CANCEL_REJECTED,
    CODE_NO_SUCH_ORDER,
    CODE_TIMESTAMP_OUTSIDE_WINDOW,
    BinanceApiError,
    submit_outcome,
)
from core.venues.binance.limits import RateLimiter
from core.venues.binance.rest import READ_TIMEOUT_S, BinanceRest
from core.venues.binance.user_stream import LISTEN_KEY_KEEPALIVE_S, UserStream
from core.venues.ports import (
    SubmitRefused,
    SubmitResult,
    Submitted,
    UserEvent,
    VenueOrder,
    VenueTrade,
    VenueUnavailableError,
)

TRADES_LIMIT = 1_000
KLINES_PER_REQUEST = 1_000
"""Spot's most; USD-M gives up to 1,500."""
KLINES_LIMIT = 20_000
"""Bars of one call of `klines`: more is a download, not a backfill."""

TradeBody = TypeVar("TradeBody")
_log = structlog.get_logger("venues.binance")


class BinanceAccount(ABC, Generic[TradeBody]):
    """REST and user data stream of one product under one API key. Close it with `aclose`.

    venue is the name that instruments and orders carry here. symbols limits what is read of exchangeInfo; None reads
    all. api_secret is the HMAC secret or the Ed25519 private key as PEM; key_reference names the key in messages.
    With websocket_api_url the user data stream comes by signed subscription, else by listen key at websocket_url.
    """

    product: Product

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
        websocket_api_url: str = "",
        key_reference: str = "",
        symbols: tuple[str, ...] | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        keepalive_s: float = LISTEN_KEY_KEEPALIVE_S,
        random: Random | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        """Raises CredentialError when the key can't be used."""
        self._venue = venue
        self._symbols = symbols
        self._instruments: dict[str, Instrument] = {}
        self.rest = BinanceRest(
            rest_url,
            clock,
            api_key=api_key,
            api_secret=api_secret,
            key_reference=key_reference or f"venue-{venue}",
            product=self.product,
            recv_window_ms=recv_window_ms,
            read_timeout_s=read_timeout_s,
            random=random,
            limiter=limiter,
        )
        self._user_stream = UserStream(
            websocket_url,
            self.rest,
            self._interpret,
            websocket_api_url=websocket_api_url,
            keepalive_s=keepalive_s,
            random=random,
        )

    @abstractmethod
    def _lists(self, symbol: wire.SymbolInfo) -> bool:
        """Whether this adapter trades such a symbol at all."""

    @abstractmethod
    def _order_parameters(self, intent: OrderIntent) -> dict[str, str]:
        """Raises ValueError for what the product's orders can't say."""

    @abstractmethod
    async def _trade_bodies(self, parameters: dict[str, str]) -> list[TradeBody]:
        """Read own trades."""

    @abstractmethod
    def _trade(self, body: TradeBody, instrument: Instrument, client_order_id: str) -> VenueTrade: ...

    @abstractmethod
    async def _interpret(self, kind: str, frame: bytes) -> tuple[UserEvent, ...]:
        """A message of the user data stream, as user_stream.Interpreter says."""

    @abstractmethod
    async def balances(self) -> dict[str, Decimal]: ...

    async def aclose(self) -> None:
        await self.rest.aclose()

    async def instruments(self) -> tuple[Instrument, ...]:
        """What can be traded. A symbol whose rules can't be read is left out, with a warning; one that was asked for
        and isn't listed is logged as an error. Takes over the rate limits that the venue tells."""
        info = await self.rest.read(self.rest.paths.exchange_info, answer=wire.ExchangeInfo)
        self.rest.limiter.configure(info.rate_limits)
        found: dict[str, Instrument] = {}
        for symbol in info.symbols:
            wanted = self._symbols is None or symbol.symbol in self._symbols
            if not wanted or symbol.status != wire.TRADING or not self._lists(symbol):
                continue
            try:
                found[symbol.symbol] = wire.instrument_of(symbol, self._venue, self.product)
            except ValueError as error:
                _log.warning("instrument_left_out", symbol=symbol.symbol, error=str(error))
        missing = sorted(set(self._symbols or ()) - {symbol.symbol for symbol in info.symbols})
        if missing:
            _log.error("symbols_not_listed", symbols=missing, venue=self._venue)
        self._instruments = found
        return tuple(found.values())

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        """Send once. Never raises for what the venue or the network does."""
        try:
            parameters = self._order_parameters(intent)
        except ValueError as error:
            return SubmitRefused(Refusal(ReasonCode.REQUEST_INVALID, f"The order was not sent: {error}."))
        # What can only reduce is let through to the last of the rate limits.
        priority = Priority.SAFETY if intent.reduce_only else Priority.ORDER
        try:
            ack = await self.rest.once(
                "POST", self.rest.paths.order, parameters, signed=True, answer=wire.NewOrderAck, priority=priority
            )
        except VenueUnavailableError as error:
            return submit_outcome(error, self.product)
        return Submitted(str(ack.order_id))

    async def cancel(self, symbol: str, client_order_id: str) -> None:
        """Ask for a cancel, once more when the venue refused our clock; what became of the order comes on the user
        stream.

        Raises RefusalError(ORDER_UNKNOWN) when the venue has no such open order, VenueUnavailableError otherwise.
        """
        parameters = {"symbol": symbol, "origClientOrderId": client_order_id}
        try:
            try:
                await self._send_cancel(parameters)
            except BinanceApiError as error:
                if error.code != CODE_TIMESTAMP_OUTSIDE_WINDOW:
                    raise
                await self._send_cancel(parameters)
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
            self.rest.paths.open_orders, {"symbol": symbol}, signed=True, answer=list[wire.OrderBody]
        )
        return [wire.readable(wire.order_of, body, instrument) for body in bodies]

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]:
        """Fills of one order, oldest first, at most TRADES_LIMIT."""
        instrument = await self._known_instrument(symbol)
        bodies = await self._trade_bodies({"symbol": symbol, "orderId": venue_order_id, "limit": str(TRADES_LIMIT)})
        if not bodies:
            return []
        # The trades leave out the client order id.
        order = await self._order(symbol, {"orderId": venue_order_id})
        if order is None:
            path = self.rest.paths.order
            raise VenueUnavailableError(f"GET {path}: order {venue_order_id} has trades and yet doesn't exist")
        trades = [wire.readable(self._trade, body, instrument, order.client_order_id) for body in bodies]
        return sorted(trades, key=lambda trade: trade.trade_id)

    async def klines(self, symbol: str, interval: str, start_ns: int, limit: int) -> list[Kline]:
        """The venue's bars from start_ns on, oldest first, at most limit; the last may still be forming (closed
        False). interval is the venue's word: 1m, 15m, 4h, 1d.

        Raises ValueError for a limit beyond KLINES_LIMIT, VenueUnavailableError.
        """
        if not 1 <= limit <= KLINES_LIMIT:
            raise ValueError(f"klines: limit {limit} must be from 1 to {KLINES_LIMIT}")
        instrument = await self._known_instrument(symbol)
        # Whether a bar is closed is a matter of the venue's clock.
        await self.rest.ensure_time(f"GET {self.rest.paths.klines}", Priority.BACKGROUND)
        found: list[Kline] = []
        start_ms = -(-start_ns // NS_PER_MS)
        while len(found) < limit:
            wanted = min(KLINES_PER_REQUEST, limit - len(found))
            rows = await self.rest.read(
                self.rest.paths.klines,
                {"symbol": symbol, "interval": interval, "startTime": str(start_ms), "limit": str(wanted)},
                answer=list[wire.KlineRow],
            )
            now_ms = self.rest.clock.now_ms()
            found += [wire.readable(wire.kline_of, row, instrument, now_ms) for row in rows]
            if len(rows) < wanted:
                break
            start_ms = rows[-1].open_ms + 1
        return found

    def user_events(self) -> AsyncIterator[UserEvent]:
        """Connects, reconnects with backoff, and never ends by itself."""
        return self._user_stream.events()

    async def _send_cancel(self, parameters: dict[str, str]) -> None:
        await self.rest.once("DELETE", self.rest.paths.order, parameters, signed=True, answer=msgspec.Raw)

    async def _order(self, symbol: str, key: dict[str, str]) -> VenueOrder | None:
        instrument = await self._known_instrument(symbol)
        try:
            body = await self.rest.read(
                self.rest.paths.order, {"symbol": symbol, **key}, signed=True, answer=wire.OrderBody
            )
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
            raise VenueUnavailableError(
                f"exchangeInfo: the venue doesn't list the symbol {symbol!r}: check its spelling and the market"
            ) from error
