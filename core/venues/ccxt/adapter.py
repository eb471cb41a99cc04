"""core.venues.ports.VenuePort for spot markets of any exchange that ccxt streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from typing import Any

import structlog

from core.types.clock import NS_PER_MS, Clock
from core.types.codes import ReasonCode, Refusal
from core.types.instruments import Instrument
from core.types.money import decimal_text, from_scaled
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities
from core.venues.binance.backoff import Backoff
from core.venues.ccxt.exchange import ask, ccxt_module, exact, explain, instrument_of, whole_id
from core.venues.ccxt.history import own_trades_since
from core.venues.ports import (
    AmendRefused,
    AmendResult,
    ExecutionReport,
    SubmitRefused,
    SubmitResult,
    Submitted,
    SubmitUnknown,
    UserEvent,
    UserStreamConnected,
    UserStreamLost,
    VenueFunding,
    VenueOrder,
    VenuePosition,
    VenueTrade,
    VenueUnavailableError,
)

LOOKBACK_ORDERS = 500
"""How many of the latest orders and trades are looked through for one of ours."""
MAX_REMEMBERED_ORDERS = 10_000
RECONNECT_BASE_S = 0.5
RECONNECT_CAP_S = 30.0

STATUSES = {
    "open": OrderStatus.ACCEPTED,
    "closed": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "canceling": OrderStatus.ACCEPTED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}

_log = structlog.get_logger("venues.ccxt")


class CcxtVenue:
    """One exchange under one key. The exchange object comes from core.venues.ccxt.exchange.open_exchange."""

    def __init__(self, exchange: Any, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock
        self._instruments: dict[str, Instrument] = {}
        self._venue_ids: dict[str, str] = {}
        self._told_trades: dict[str, set[int]] = {}

    async def aclose(self) -> None:
        await self._exchange.close()

    async def instruments(self) -> tuple[Instrument, ...]:
        """Active spot markets. One whose steps can't be read is left out, and logged."""
        markets = await ask(self._exchange, "load_markets", lambda: self._exchange.load_markets(True))
        found: dict[str, Instrument] = {}
        for market in markets.values():
            if not market.get("spot") or market.get("active") is False:
                continue
            try:
                found[market["symbol"]] = instrument_of(self._exchange, market)
            except ValueError as error:
                _log.warning("instrument_left_out", venue=self._exchange.id, error=str(error))
        self._instruments = found
        return tuple(found.values())

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        """One attempt. What ccxt names as the venue's no is a refusal; everything else is unknown (I5)."""
        ccxt = ccxt_module()
        try:
            arguments = _order_arguments(intent)
        except ValueError as error:
            return SubmitRefused(Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, f"Not sent: {error}."))
        try:
            order = await self._exchange.create_order(*arguments)
        except (
            ccxt.InsufficientFunds,
            ccxt.InvalidOrder,
            ccxt.BadRequest,
            ccxt.ArgumentsRequired,
            ccxt.AuthenticationError,
            ccxt.OperationRejected,
            ccxt.NotSupported,
            ccxt.RateLimitExceeded,
            ccxt.DDoSProtection,
        ) as error:
            message = f"The venue refused the order: {explain(error)}"
            return SubmitRefused(
                Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, message, actual=type(error).__name__, unit="ccxt_error")
            )
        except (ccxt.BaseError, OSError, TimeoutError) as error:
            return SubmitUnknown(explain(error))
        self._remember(intent.client_order_id, str(order["id"]))
        return Submitted(str(order["id"]))

    async def cancel(self, symbol: str, client_order_id: str) -> None:
        """Raises VenueUnavailableError; an order that is no longer open needs no cancelling."""
        ccxt = ccxt_module()
        venue_id = self._venue_ids.get(client_order_id)
        if venue_id is None:
            found = await self._find_open(symbol, client_order_id)
            if found is None:
                return
            venue_id = str(found["id"])
        try:
            await self._exchange.cancel_order(venue_id, symbol)
        except ccxt.OrderNotFound:
            return
        except (ccxt.BaseError, OSError, TimeoutError) as error:
            raise VenueUnavailableError(f"{self._exchange.id} cancel_order {symbol}: {explain(error)}") from error

    async def order(self, symbol: str, client_order_id: str) -> VenueOrder | None:
        """Looked up by venue id where it is known, else among the open and the latest LOOKBACK_ORDERS orders.

        Raises VenueUnavailableError, also where the exchange lists no orders that are done: absence would prove
        nothing.
        """
        exchange = self._exchange
        instrument = await self._instrument(symbol)
        venue_id = self._venue_ids.get(client_order_id)
        if venue_id is not None and exchange.has.get("fetchOrder"):
            body = await ask(exchange, "fetch_order", lambda: exchange.fetch_order(venue_id, symbol))
            return _order_of(body, instrument, client_order_id)
        found = await self._find_open(symbol, client_order_id)
        if found is None:
            found = _by_client_id(await self._latest_orders(symbol), client_order_id)
        return None if found is None else _order_of(found, instrument, client_order_id)

    async def open_orders(self, symbol: str) -> list[VenueOrder]:
        instrument = await self._instrument(symbol)
        bodies = await ask(self._exchange, "fetch_open_orders", lambda: self._exchange.fetch_open_orders(symbol))
        return [_order_of(body, instrument, body.get("clientOrderId") or "") for body in bodies]

    def now_ns(self) -> int | None:
        """Not known: the library tells no venue's time without asking."""
        return None

    async def all_open_orders(self) -> list[VenueOrder]:
        """Raises VenueUnavailableError, also where the exchange lists them by symbol only."""
        # ccxt's own warning about the request's weight is an exception by default.
        self._exchange.options["warnOnFetchOpenOrdersWithoutSymbol"] = False
        bodies = await ask(self._exchange, "fetch_open_orders", self._exchange.fetch_open_orders)
        return [
            _order_of(body, await self._instrument(body["symbol"]), body.get("clientOrderId") or "") for body in bodies
        ]

    async def trades_since(self, symbol: str, since_ns: int) -> list[VenueTrade]:
        """client_order_id is empty where neither the trade nor this process knows it."""
        instrument = await self._instrument(symbol)
        bodies = await own_trades_since(self._exchange, symbol, since_ns)
        client_ids = {venue_id: client_id for client_id, venue_id in self._venue_ids.items()}
        missing = {str(body["order"]) for body in bodies} - set(client_ids)
        if missing and self._exchange.has.get("fetchOrder"):
            for venue_id in sorted(missing):
                body = await ask(self._exchange, "fetch_order", partial(self._exchange.fetch_order, venue_id, symbol))
                client_ids[venue_id] = body.get("clientOrderId") or ""
                self._remember(client_ids[venue_id], venue_id)
        return [_trade_of(body, instrument, client_ids.get(str(body["order"]), "")) for body in bodies]

    async def positions(self) -> list[VenuePosition]:
        """Spot has none."""
        return []

    async def funding_since(self, since_ns: int) -> list[VenueFunding]:
        """Spot has none."""
        return []

    @property
    def capabilities(self) -> VenueCapabilities:
        """Conditional orders are looked up and cancelled in each exchange's own way, and editing may replace an order
        under another id: the engine does both itself."""
        features = (getattr(self._exchange, "features", None) or {}).get("spot") or {}
        told = (features.get("createOrder") or {}).get("timeInForce") or {}
        times = {kind for kind in (TimeInForce.IOC, TimeInForce.FOK) if told.get(kind.value)}
        return VenueCapabilities(
            order_types=frozenset({OrderType.LIMIT, OrderType.MARKET}),
            times_in_force=frozenset({TimeInForce.GTC} | times),
        )

    async def amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        """Never sent: see `capabilities`."""
        message = f"{self._exchange.id}: orders can't be amended in place through ccxt; cancel and place anew"
        return AmendRefused(Refusal(ReasonCode.ORDER_AMEND_INVALID, message))

    async def cancel_all(self, symbol: str) -> None:
        """Raises VenueUnavailableError. One by one where the exchange has no cancel of all."""
        ccxt = ccxt_module()
        if self._exchange.has.get("cancelAllOrders") is True:
            try:
                await self._exchange.cancel_all_orders(symbol)
            except ccxt.OrderNotFound:
                return
            except (ccxt.BaseError, OSError, TimeoutError) as error:
                raise VenueUnavailableError(
                    f"{self._exchange.id} cancel_all_orders {symbol}: {explain(error)}"
                ) from error
            return
        for order in await self.open_orders(symbol):
            try:
                await self._exchange.cancel_order(order.venue_order_id, symbol)
            except ccxt.OrderNotFound:
                continue
            except (ccxt.BaseError, OSError, TimeoutError) as error:
                raise VenueUnavailableError(f"{self._exchange.id} cancel_order {symbol}: {explain(error)}") from error

    async def order_by_venue_id(self, symbol: str, venue_order_id: str) -> VenueOrder | None:
        exchange = self._exchange
        instrument = await self._instrument(symbol)
        if not exchange.has.get("fetchOrder"):
            return None

        async def look() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = await exchange.fetch_order(venue_order_id, symbol)
            except ccxt_module().OrderNotFound:
                return None
            return found

        body = await ask(exchange, "fetch_order", look)
        return None if body is None else _order_of(body, instrument, body.get("clientOrderId") or "")

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]:
        exchange = self._exchange
        instrument = await self._instrument(symbol)
        if exchange.has.get("fetchOrderTrades"):
            bodies = await ask(
                exchange, "fetch_order_trades", lambda: exchange.fetch_order_trades(venue_order_id, symbol)
            )
        else:
            bodies = await ask(
                exchange, "fetch_my_trades", lambda: exchange.fetch_my_trades(symbol, None, LOOKBACK_ORDERS)
            )
        client_ids = {venue_id: client_id for client_id, venue_id in self._venue_ids.items()}
        return [
            _trade_of(body, instrument, client_ids.get(venue_order_id, ""))
            for body in bodies
            if str(body.get("order")) == venue_order_id
        ]

    async def balances(self) -> dict[str, Decimal]:
        """Totals by asset, zero ones left out."""
        body = await ask(self._exchange, "fetch_balance", self._exchange.fetch_balance)
        totals = {asset: Decimal(str(amount)) for asset, amount in body["total"].items() if amount}
        return {asset: amount for asset, amount in totals.items() if amount}

    async def user_events(self) -> AsyncIterator[UserEvent]:
        """Orders and fills as they change, over WebSocket; reconnects with backoff and never ends by itself.

        Raises VenueUnavailableError where ccxt can't stream this exchange's orders.
        """
        ccxt = ccxt_module()
        exchange = self._exchange
        if not exchange.has.get("watchOrders"):
            raise VenueUnavailableError(f"{exchange.id}: ccxt streams no orders of this exchange")
        backoff = Backoff(RECONNECT_BASE_S, RECONNECT_CAP_S)
        while True:
            yield UserStreamConnected()
            try:
                while True:
                    events = await self._watch_orders()
                    backoff.reset()
                    for event in events:
                        yield event
            except (ccxt.BaseError, VenueUnavailableError, OSError, TimeoutError) as error:
                yield UserStreamLost(explain(error))
            await asyncio.sleep(backoff.next_s())

    async def _watch_orders(self) -> list[UserEvent]:
        """What changed, each new fill with the trade that ccxt's order messages leave out."""
        events: list[UserEvent] = []
        for body in await self._exchange.watch_orders():
            instrument = await self._instrument(body["symbol"])
            client_order_id = body.get("clientOrderId") or ""
            order = _order_of(body, instrument, client_order_id)
            self._remember(client_order_id, order.venue_order_id)
            known = self._told_trades.setdefault(order.venue_order_id, set())
            new: list[VenueTrade] = []
            if order.filled_quantity:
                trades = await self.trades_of(instrument.symbol, order.venue_order_id)
                new = [trade for trade in trades if trade.trade_id not in known]
                known.update(trade.trade_id for trade in new)
            events.extend(ExecutionReport(order, trade, "") for trade in new)
            if not new:
                events.append(ExecutionReport(order, None, ""))
            while len(self._told_trades) > MAX_REMEMBERED_ORDERS:
                del self._told_trades[next(iter(self._told_trades))]
        return events

    async def _instrument(self, symbol: str) -> Instrument:
        if not self._instruments:
            await self.instruments()
        instrument = self._instruments.get(symbol)
        if instrument is None:
            raise VenueUnavailableError(
                f"{self._exchange.id}: no active spot market {symbol!r}; symbols are like BTC/USDT"
            )
        return instrument

    async def _find_open(self, symbol: str, client_order_id: str) -> dict[str, Any] | None:
        bodies = await ask(self._exchange, "fetch_open_orders", lambda: self._exchange.fetch_open_orders(symbol))
        return _by_client_id(bodies, client_order_id)

    async def _latest_orders(self, symbol: str) -> list[dict[str, Any]]:
        exchange = self._exchange
        for has, method in (
            ("fetchOrders", "fetch_orders"),
            ("fetchClosedOrders", "fetch_closed_orders"),
            ("fetchCanceledAndClosedOrders", "fetch_canceled_and_closed_orders"),
        ):
            if exchange.has.get(has) is True:
                call = partial(getattr(exchange, method), symbol, None, LOOKBACK_ORDERS)
                bodies: list[dict[str, Any]] = await ask(exchange, method, call)
                return bodies
        raise VenueUnavailableError(f"{exchange.id}: lists no orders that are done; look the order up at the venue")

    def _remember(self, client_order_id: str, venue_id: str) -> None:
        if client_order_id:
            self._venue_ids[client_order_id] = venue_id
            while len(self._venue_ids) > MAX_REMEMBERED_ORDERS:
                del self._venue_ids[next(iter(self._venue_ids))]


def _order_arguments(intent: OrderIntent) -> tuple[Any, ...]:
    """Raises ValueError for what spot orders can't say."""
    if intent.reduce_only:
        raise ValueError("spot orders can't be reduce-only")
    if intent.order_type not in {OrderType.LIMIT, OrderType.MARKET}:
        raise ValueError(
            f"{intent.order_type} orders aren't sent through ccxt: the engine holds them until they trigger"
        )
    parameters: dict[str, Any] = {"clientOrderId": intent.client_order_id}
    price = None
    if intent.order_type is OrderType.LIMIT:
        if intent.price is None:
            raise ValueError("a LIMIT order needs a price")
        price = decimal_text(from_scaled(intent.price, intent.price_scale))
        if intent.post_only:
            parameters["postOnly"] = True
        else:
            parameters["timeInForce"] = intent.time_in_force.value
    quantity = decimal_text(from_scaled(intent.quantity, intent.quantity_scale))
    return intent.symbol, intent.order_type.value.lower(), intent.side.value.lower(), quantity, price, parameters


def _by_client_id(bodies: list[dict[str, Any]], client_order_id: str) -> dict[str, Any] | None:
    return next((body for body in bodies if body.get("clientOrderId") == client_order_id), None)


def _order_of(body: dict[str, Any], instrument: Instrument, client_order_id: str) -> VenueOrder:
    status = STATUSES.get(body.get("status") or "")
    try:
        filled = exact(body.get("filled") or 0, instrument.quantity_scale)
        if status is None:
            raise ValueError(f"unknown status {body.get('status')!r}")
    except ValueError as error:
        raise VenueUnavailableError(f"order {body.get('id')}: the venue's answer can't be read: {error}") from error
    if status is OrderStatus.ACCEPTED and filled:
        status = OrderStatus.PARTIALLY_FILLED
    changed_ms = body.get("lastUpdateTimestamp") or body.get("lastTradeTimestamp") or body.get("timestamp") or 0
    try:
        terms = _terms_of(body, instrument)
    except ValueError as error:
        raise VenueUnavailableError(f"order {body.get('id')}: the venue's answer can't be read: {error}") from error
    return VenueOrder(
        instrument.symbol, client_order_id, str(body["id"]), status, filled, int(changed_ms) * NS_PER_MS, **terms
    )


def _terms_of(body: dict[str, Any], instrument: Instrument) -> dict[str, Any]:
    """What ccxt tells of an order's terms; the rest is left out. Raises ValueError."""
    kind, side, force = body.get("type"), body.get("side"), body.get("timeInForce")
    known_forces = {item.value: item for item in TimeInForce} | {"PO": TimeInForce.GTC}
    price = exact(body.get("price") or 0, instrument.price_scale)
    quantity = body.get("amount")
    return {
        "side": Side(side.upper()) if side else None,
        "order_type": {"limit": OrderType.LIMIT, "market": OrderType.MARKET}.get(kind or ""),
        "time_in_force": known_forces.get(force or ""),
        "quantity": None if quantity is None else exact(quantity, instrument.quantity_scale),
        "price": price or None if kind == "limit" else None,
        "post_only": bool(body.get("postOnly")),
    }


def _trade_of(body: dict[str, Any], instrument: Instrument, client_order_id: str) -> VenueTrade:
    fee = body.get("fee") or {}
    try:
        return VenueTrade(
            symbol=instrument.symbol,
            trade_id=whole_id(str(body["id"])),
            venue_order_id=str(body["order"]),
            client_order_id=client_order_id,
            side=Side(body["side"].upper()),
            price=exact(body["price"], instrument.price_scale),
            quantity=exact(body["amount"], instrument.quantity_scale),
            fee=Decimal(str(fee.get("cost") or 0)),
            fee_asset=fee.get("currency") or "",
            is_maker=body.get("takerOrMaker") == "maker",
            ts_event_ns=int(body["timestamp"]) * NS_PER_MS,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise VenueUnavailableError(f"trade {body.get('id')}: the venue's answer can't be read: {error}") from error
