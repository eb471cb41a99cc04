"""What Binance spot and USD-M have in common as a VenuePort; each adds its own wire format.

The hard part is to say what is known after a submit (I5). Refused means that the venue answered no, or that provably
no byte left; everything else that isn't a success is unknown, and a submit is never repeated here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
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
from core.types.venues import VenueCapabilities
from core.venues.binance import wire, wire_orders
from core.venues.binance.endpoints import Priority, endpoint_of
from core.venues.binance.errors import (
    CODE_CANCEL_REJECTED,
    CODE_NO_SUCH_ORDER,
    CODE_ORDER_ARCHIVED,
    CODE_TIMESTAMP_OUTSIDE_WINDOW,
    BinanceApiError,
    amend_outcome,
    submit_outcome,
)
from core.venues.binance.limits import RateLimiter
from core.venues.binance.rest import READ_TIMEOUT_S, BinanceRest
from core.venues.binance.user_stream import LISTEN_KEY_KEEPALIVE_S, UserStream
from core.venues.binance.ws_orders import (
    PLACE_ORDER,
    OrderAnswers,
    OrderSocket,
    PreparedOrders,
    SocketNotReadyError,
)
from core.venues.ports import (
    AmendRefused,
    AmendResult,
    SubmitRefused,
    SubmitResult,
    Submitted,
    SubmitUnknown,
    Told,
    UserEvent,
    VenueFunding,
    VenueOrder,
    VenuePosition,
    VenueTrade,
    VenueUnavailableError,
)

TRADES_LIMIT = 1_000
TRADE_PAGES_LIMIT = 500
"""Requests of one call of `trades_since`: half a million fills, or a year and more without any."""
TRADES_SEARCH_LIMIT = 60
"""Windows that are looked through for the first fill; for one further back paging starts with the oldest of all."""
REMEMBERED_ORDERS = 20_000
"""Orders whose clientOrderId is known here without asking: own trades leave it out."""
KLINES_PER_REQUEST = 1_000
"""Spot's most; USD-M gives up to 1,500."""
KLINES_LIMIT = 20_000
"""Bars of one call of `klines`: more is a download, not a backfill."""

TradeBody = TypeVar("TradeBody")
Answer = TypeVar("Answer")
_log = structlog.get_logger("venues.binance")


class BinanceAccount(ABC, Generic[TradeBody]):
    """REST and user data stream of one product under one API key. Close it with `aclose`.

    venue is the name that instruments and orders carry here. symbols limits what is read of exchangeInfo; None reads
    all. api_secret is the HMAC secret or the Ed25519 private key as PEM; key_reference names the key in messages.
    With websocket_api_url orders are sent over one standing connection, by REST only while it is down, and spot's user
    data stream comes by signed subscription, else by listen key at websocket_url.
    """

    product: Product
    capabilities: VenueCapabilities
    trades_window_ms: int
    """How far apart startTime and endTime of own trades may be."""

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
        self._untraded: dict[str, wire.SymbolInfo] = {}
        self._client_ids: OrderedDict[tuple[str, str], str] = OrderedDict()
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
            websocket_api_url=websocket_api_url if self.product is Product.SPOT else "",
            keepalive_s=keepalive_s,
            random=random,
        )
        self._order_endpoint = endpoint_of("POST", self.rest.paths.order)
        self.order_socket: OrderSocket | None = None
        if websocket_api_url:
            self.order_socket = OrderSocket(
                websocket_api_url, self.rest, answer_timeout_s=read_timeout_s, random=random
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
    def _trade_id(self, body: TradeBody) -> int: ...

    @abstractmethod
    def _trade(self, body: TradeBody, instrument: Instrument, client_order_id: str) -> VenueTrade: ...

    @abstractmethod
    async def _interpret(self, kind: str, frame: bytes) -> tuple[UserEvent, ...]:
        """A message of the user data stream, as user_stream.Interpreter says."""

    @abstractmethod
    async def balances(self) -> dict[str, Decimal]: ...

    @abstractmethod
    async def positions(self) -> list[VenuePosition]: ...

    @abstractmethod
    async def funding_since(self, since_ns: int) -> list[VenueFunding]: ...

    @abstractmethod
    async def _amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        """Ask once. Raises VenueUnavailableError, and ValueError for what the product can't amend or has answered."""

    @abstractmethod
    async def cancel_all(self, symbol: str) -> None: ...

    async def aclose(self) -> None:
        if self.order_socket is not None:
            await self.order_socket.aclose()
        await self.rest.aclose()

    def now_ns(self) -> int | None:
        return self.rest.clock.now_ns() if self.rest.clock.known else None

    async def instruments(self) -> tuple[Instrument, ...]:
        """What can be traded. A symbol whose rules can't be read is left out, with a warning; one that was asked for
        and isn't listed is logged as an error. Takes over the rate limits that the venue tells."""
        info = await self.rest.read(self.rest.paths.exchange_info, answer=wire.ExchangeInfo)
        self.rest.limiter.configure(info.rate_limits)
        found: dict[str, Instrument] = {}
        self._untraded = {symbol.symbol: symbol for symbol in info.symbols}
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
        try:
            answer = await self._send("POST", PLACE_ORDER, parameters, wire_orders.NewOrderAck, _priority_of(intent))
        except VenueUnavailableError as error:
            return self._submitted(intent, error)
        return self._submitted(intent, answer)

    def prepare(self, intents: Sequence[OrderIntent], told: Told) -> PreparedOrders | None:
        """As PromptVenue says."""
        socket = self.order_socket
        if socket is None:
            return None

        def take(answers: OrderAnswers) -> None:
            told([(intent, self._submitted(intent, answer)) for intent, answer in answers])

        reducing = [intent for intent in intents if intent.reduce_only]
        others = [intent for intent in intents if not intent.reduce_only] if reducing else intents
        batches = [(_priority_of(some[0]), some) for some in (reducing, others) if some]
        return socket.prepare(batches, self._order_parameters, self._order_endpoint, take)

    def begin(self, prepared: object) -> Sequence[OrderIntent]:
        """As PromptVenue says."""
        assert self.order_socket is not None, "it has prepared them"
        assert isinstance(prepared, PreparedOrders)
        return self.order_socket.begin(prepared)

    def withdraw(self, prepared: object) -> None:
        """As PromptVenue says."""
        assert self.order_socket is not None, "it has prepared them"
        assert isinstance(prepared, PreparedOrders)
        self.order_socket.withdraw(prepared)

    def _submitted(self, intent: OrderIntent, answer: wire_orders.NewOrderAck | VenueUnavailableError) -> SubmitResult:
        if isinstance(answer, VenueUnavailableError):
            return submit_outcome(answer, self.product)
        symbol, order_id = answer.symbol or intent.symbol, answer.client_order_id or intent.client_order_id
        if symbol != intent.symbol or order_id != intent.client_order_id or answer.order_id < 0:
            acknowledged = f"the venue acknowledged another order than was sent: {symbol}, {order_id}"
            return SubmitUnknown(acknowledged[:200])
        self._remember(intent.symbol, str(answer.order_id), intent.client_order_id)
        return Submitted(str(answer.order_id))

    async def amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        """Change the order in place, asking once. Never raises for what the venue or the network does."""
        try:
            return await self._amend(intent, quantity, price)
        except VenueUnavailableError as error:
            return amend_outcome(error, self.product)
        except ValueError as error:
            return AmendRefused(Refusal(ReasonCode.ORDER_AMEND_INVALID, f"The amendment was not sent: {error}."))

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

    async def order_by_venue_id(self, symbol: str, venue_order_id: str) -> VenueOrder | None:
        return await self._order(symbol, {"orderId": venue_order_id})

    async def open_orders(self, symbol: str) -> list[VenueOrder]:
        instrument = await self._known_instrument(symbol)
        bodies = await self.rest.read(
            self.rest.paths.open_orders, {"symbol": symbol}, signed=True, answer=list[wire_orders.OrderBody]
        )
        return [self._order_of(body, instrument) for body in bodies]

    async def all_open_orders(self) -> list[VenueOrder]:
        """Of every symbol; one that isn't listed here is an error, because leaving it out would hide an order."""
        bodies = await self.rest.read(self.rest.paths.open_orders, signed=True, answer=list[wire_orders.OrderBody])
        return [self._order_of(body, await self._known_instrument(body.symbol)) for body in bodies]

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]:
        """Fills of one order, oldest first, at most TRADES_LIMIT."""
        instrument = await self._known_instrument(symbol)
        bodies = await self._trade_bodies({"symbol": symbol, "orderId": venue_order_id, "limit": str(TRADES_LIMIT)})
        if not bodies:
            return []
        client_order_id = await self._client_order_id(symbol, venue_order_id)
        if client_order_id is None:
            path = self.rest.paths.order
            raise VenueUnavailableError(f"GET {path}: order {venue_order_id} has trades and yet doesn't exist")
        trades = [wire.readable(self._trade, body, instrument, client_order_id) for body in bodies]
        strangers = [trade.trade_id for trade in trades if trade.venue_order_id != venue_order_id]
        if strangers:
            raise VenueUnavailableError(
                f"GET {self.rest.paths.own_trades}: trades {strangers[:5]} aren't of order {venue_order_id}"
            )
        return sorted(trades, key=lambda trade: trade.trade_id)

    async def trades_since(self, symbol: str, since_ns: int) -> list[VenueTrade]:
        """Every fill in a symbol at or after a time of the venue's clock, oldest first, whole. client_order_id is empty
        for an order that the venue no longer tells of.

        Raises VenueUnavailableError, also when it would take more than TRADE_PAGES_LIMIT requests.
        """
        instrument = await self._known_instrument(symbol)
        await self.rest.ensure_time(f"GET {self.rest.paths.own_trades}", Priority.RECONCILE)
        found: dict[int, VenueTrade] = {}
        first = await self._first_trade_id(symbol, max(0, -(-since_ns // NS_PER_MS)))
        for _ in range(TRADE_PAGES_LIMIT):
            if first is None:
                return await self._with_client_ids(symbol, found, since_ns)
            bodies = await self._trade_bodies({"symbol": symbol, "fromId": str(first), "limit": str(TRADES_LIMIT)})
            trades = [wire.readable(self._trade, body, instrument, "") for body in bodies]
            if any(trade.trade_id < first for trade in trades):
                raise VenueUnavailableError(f"GET {self.rest.paths.own_trades}: trades from before {first} were given")
            found.update({trade.trade_id: trade for trade in trades})
            first = max(trade.trade_id for trade in trades) + 1 if len(trades) >= TRADES_LIMIT else None
        raise VenueUnavailableError(
            f"GET {self.rest.paths.own_trades}: {symbol} has more than {TRADE_PAGES_LIMIT * TRADES_LIMIT} fills since "
            f"{since_ns} ns; ask for a later time"
        )

    async def _first_trade_id(self, symbol: str, since_ms: int) -> int | None:
        """Of the oldest trade at or after a time, or of one before it; None when there is none since."""
        now_ms = self.rest.clock.now_ms() + self.rest.clock.uncertainty_ms
        start_ms, width_ms = since_ms, self.trades_window_ms
        if (now_ms - start_ms) // width_ms > TRADES_SEARCH_LIMIT:
            return 0
        while start_ms <= now_ms:
            window = {"startTime": str(start_ms), "endTime": str(start_ms + width_ms - 1)}
            bodies = await self._trade_bodies({"symbol": symbol, **window, "limit": str(TRADES_LIMIT)})
            ids = [self._trade_id(body) for body in bodies]
            if len(ids) >= TRADES_LIMIT and width_ms > 1:
                # Which end of a window an answer starts from that doesn't hold all isn't promised: ask for less.
                width_ms = max(1, width_ms // 16)
            elif ids:
                return min(ids)
            else:
                start_ms += width_ms
        return None

    async def _with_client_ids(self, symbol: str, found: dict[int, VenueTrade], since_ns: int) -> list[VenueTrade]:
        trades = []
        for trade in sorted(found.values(), key=lambda item: item.trade_id):
            if trade.ts_event_ns >= since_ns:
                client_order_id = await self._client_order_id(symbol, trade.venue_order_id)
                trades.append(msgspec.structs.replace(trade, client_order_id=client_order_id or ""))
        return trades

    async def _client_order_id(self, symbol: str, venue_order_id: str) -> str | None:
        """Trades leave it out. None when the venue no longer knows the order."""
        known = self._client_ids.get((symbol, venue_order_id))
        if known is not None:
            return known
        order = await self.order_by_venue_id(symbol, venue_order_id)
        return None if order is None else order.client_order_id

    def _remember(self, symbol: str, venue_order_id: str, client_order_id: str) -> None:
        self._client_ids[symbol, venue_order_id] = client_order_id
        # A dict would look for its first key past all those that were taken out before it.
        while len(self._client_ids) > REMEMBERED_ORDERS:
            self._client_ids.popitem(last=False)

    def _order_of(self, body: wire_orders.OrderBody, instrument: Instrument) -> VenueOrder:
        order = wire.readable(wire_orders.order_of, body, instrument)
        self._remember(order.symbol, order.venue_order_id, order.client_order_id)
        return order

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
        if self.order_socket is not None:
            self.order_socket.start()
        return self._user_stream.events()

    async def _send(
        self, verb: str, method: str, parameters: dict[str, str], answer: type[Answer], priority: Priority | None = None
    ) -> Answer:
        """One signed request about an order, one attempt: over the standing connection, or by REST when there is none
        and nothing was written."""
        path = self.rest.paths.amend if verb == "PUT" else self.rest.paths.order
        if self.order_socket is not None:
            self.order_socket.start()
            if self.order_socket.is_ready:
                with suppress(SocketNotReadyError):
                    return await self.order_socket.call(method, verb, path, parameters, answer, priority)
        return await self.rest.once(verb, path, parameters, signed=True, answer=answer, priority=priority)

    async def _send_cancel(self, parameters: dict[str, str]) -> None:
        await self._send("DELETE", "order.cancel", parameters, msgspec.Raw)

    async def _order(self, symbol: str, key: dict[str, str]) -> VenueOrder | None:
        instrument = await self._known_instrument(symbol)
        try:
            body = await self.rest.read(
                self.rest.paths.order, {"symbol": symbol, **key}, signed=True, answer=wire_orders.OrderBody
            )
        except BinanceApiError as error:
            if error.code in {CODE_NO_SUCH_ORDER, CODE_ORDER_ARCHIVED}:
                return None
            raise
        wanted = key.get("origClientOrderId", body.client_order_id), key.get("orderId", str(body.order_id))
        if (body.client_order_id, str(body.order_id)) != wanted:
            raise VenueUnavailableError(
                f"GET {self.rest.paths.order}: {wanted} was asked for, {body.client_order_id[:64]!r} was answered"
            )
        return self._order_of(body, instrument)

    async def _instrument(self, symbol: str) -> Instrument:
        """Also of a symbol that isn't traded now, or not from here: the account may have orders there.

        Raises KeyError for one that the venue doesn't list, ValueError for one whose rules can't be read.
        """
        if symbol not in self._instruments and symbol not in self._untraded:
            await self.instruments()
        if symbol not in self._instruments:
            self._instruments[symbol] = wire.instrument_of(self._untraded[symbol], self._venue, self.product)
        return self._instruments[symbol]

    async def _known_instrument(self, symbol: str) -> Instrument:
        try:
            return await self._instrument(symbol)
        except KeyError as error:
            raise VenueUnavailableError(
                f"exchangeInfo: the venue doesn't list the symbol {symbol[:40]!r}: check its spelling and the market"
            ) from error
        except ValueError as error:
            raise VenueUnavailableError(f"exchangeInfo: the rules of {symbol!r} can't be read: {error}") from error


def _priority_of(intent: OrderIntent) -> Priority:
    """What can only reduce is let through to the last of the rate limits."""
    return Priority.SAFETY if intent.reduce_only else Priority.ORDER
