"""What the venue says, by a client that isn't ours, beside what the engine and its journal say."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
from binance import Client

from core.authority.proposal_values import MANDATE_LIMITS
from core.runtime.client import EngineClient
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    FreezeChanged,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
    OrderAccepted,
    OrderAdopted,
    OrderAmended,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    OrderTriggered,
)
from core.types.money import from_scaled
from core.types.orders import OrderIntent, OrderStatus, OrderType
from core.types.views import OrderBookView, OrderView
from tests.core.approvals import ACCOUNT
from tests.crash.approvals import Approver
from tests.crash.processes import Session
from tests.crash.products import USDM, Product

PAGE = 1_000
BOOK_LEVELS = 20
BOOK_ATTEMPTS = 40
BOOK_POLL_S = 0.005
BOOK_PATIENCE_S = 1.0
OURS = "vz"
UNSETTLED = frozenset({OrderStatus.INTENDED, OrderStatus.UNKNOWN})
STATUSES = {
    "NEW": OrderStatus.ACCEPTED,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
}
TYPES = {
    OrderType.LIMIT: "LIMIT",
    OrderType.MARKET: "MARKET",
    OrderType.STOP: "STOP_LOSS",
    OrderType.TRAILING_STOP: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
    OrderType.TAKE_PROFIT: "TAKE_PROFIT",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
}


class Fill(msgspec.Struct, frozen=True):
    """One of our fills, as either side tells it."""

    symbol: str
    trade_id: int
    venue_order_id: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool


Limits = tuple[Decimal, ...]


def _limits(mandate: Any) -> Limits:
    """Of a mandate, of its tightening, or of what the engine shows of it."""
    return tuple(Decimal(getattr(mandate, name)) for name in MANDATE_LIMITS)


class VenueWitness:
    """The venue over REST with python-binance. Remembers what can't change any more."""

    def __init__(self, session: Session, product: Product) -> None:
        settings = session.settings
        key, secret = settings.read_secret("venue-paper.key"), settings.read_secret("venue-paper.secret")
        self._client = Client(key, secret, ping=False)
        self._client.API_URL = f"{session.rest_url}/api"
        self._client.FUTURES_URL = f"{session.rest_url}/fapi"
        self._symbols = symbols = tuple(product.symbols)
        self._first_unsettled = dict.fromkeys(symbols, 0)
        self._last_trade = dict.fromkeys(symbols, -1)
        self.orders: dict[tuple[str, int], dict[str, Any]] = {}
        self.fills: dict[tuple[str, int, int], Fill] = {}

    def open_orders(self) -> list[dict[str, Any]]:
        orders: list[dict[str, Any]] = self._client.get_open_orders()
        return orders

    def book(self, symbol: str) -> dict[str, Any]:
        book: dict[str, Any] = self._client.get_order_book(symbol=symbol, limit=BOOK_LEVELS)
        return book

    def place(self, **terms: Any) -> None:
        """Past the engine, as a person with the venue's own page might."""
        self._client.create_order(**terms)

    def positions(self) -> dict[str, Decimal] | None:
        """As the venue keeps them; None where it keeps none."""
        return None

    def look(self) -> None:
        """Every order and every fill since the start."""
        for symbol in self._symbols:
            self._read_orders(symbol)
            self._read_fills(symbol)

    def close(self) -> None:
        self._client.close_connection()

    def _orders_from(self, symbol: str, order_id: int) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = self._client.get_all_orders(symbol=symbol, orderId=order_id, limit=PAGE)
        return page

    def _trades_from(self, symbol: str, trade_id: int) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = self._client.get_my_trades(symbol=symbol, fromId=trade_id, limit=PAGE)
        return page

    def _read_orders(self, symbol: str) -> None:
        first = self._first_unsettled[symbol]
        unsettled: int | None = None
        while True:
            page = self._orders_from(symbol, first)
            for order in page:
                self.orders[symbol, order["orderId"]] = order
                if unsettled is None and not STATUSES[order["status"]].is_final:
                    unsettled = order["orderId"]
            first = page[-1]["orderId"] + 1 if page else first
            if len(page) < PAGE:
                self._first_unsettled[symbol] = first if unsettled is None else unsettled
                return

    def _read_fills(self, symbol: str) -> None:
        while True:
            page = self._trades_from(symbol, self._last_trade[symbol] + 1)
            for trade in page:
                self._last_trade[symbol] = max(self._last_trade[symbol], trade["id"])
                fill = Fill(
                    symbol,
                    trade["id"],
                    str(trade["orderId"]),
                    "BUY" if trade.get("isBuyer", trade.get("buyer")) else "SELL",
                    Decimal(trade["price"]),
                    Decimal(trade["qty"]),
                    Decimal(trade["commission"]),
                    trade["commissionAsset"],
                    trade.get("isMaker", trade.get("maker")),
                )
                self.fills[symbol, trade["id"], trade["orderId"]] = fill
            if len(page) < PAGE:
                return


class UsdmWitness(VenueWitness):
    """The same of the perpetuals."""

    def open_orders(self) -> list[dict[str, Any]]:
        orders: list[dict[str, Any]] = self._client.futures_get_open_orders()
        return orders

    def book(self, symbol: str) -> dict[str, Any]:
        book: dict[str, Any] = self._client.futures_order_book(symbol=symbol, limit=BOOK_LEVELS)
        return book

    def place(self, **terms: Any) -> None:
        self._client.futures_create_order(**terms)

    def positions(self) -> dict[str, Decimal] | None:
        rows = self._client.futures_position_information()
        return {row["symbol"]: Decimal(row["positionAmt"]) for row in rows}

    def _orders_from(self, symbol: str, order_id: int) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = self._client.futures_get_all_orders(symbol=symbol, orderId=order_id, limit=PAGE)
        return page

    def _trades_from(self, symbol: str, trade_id: int) -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = self._client.futures_account_trades(symbol=symbol, fromId=trade_id, limit=PAGE)
        return page


def venue_witness(session: Session, product: Product) -> VenueWitness:
    """One for what is traded."""
    return (UsdmWitness if product is USDM else VenueWitness)(session, product)


class JournalWitness:
    """The journal as the engine streams it, over all of the engine's lives: a record that was seen once stays."""

    def __init__(self) -> None:
        self.sequence = 0
        self.statuses: dict[str, OrderStatus] = {}
        self.intents: dict[str, OrderIntent] = {}
        self.fills: Counter[Fill] = Counter()
        self.trades: Counter[tuple[str, int, str]] = Counter()
        self.sent: set[str] = set()
        self.triggered = 0
        self.became_unknown = 0
        self.adopted = 0
        self.frozen = ""
        self.consumed: set[str] = set()
        self.voided: dict[str, int] = {}
        self.limits: dict[str, Limits | None] = {}
        self.tightened_by = ""
        self.caused: Counter[str] = Counter()

    async def read(self, client: EngineClient) -> None:
        """Up to what is durable now."""
        last = (await client.status()).journal_sequence
        entries = client.stream_journal(self.sequence)
        try:
            while self.sequence < last:
                entry = await anext(entries)
                assert entry.sequence == self.sequence + 1, f"record {entry.sequence} follows {self.sequence}"
                self.sequence = entry.sequence
                self._take(entry.event())
        finally:
            await entries.aclose()  # type: ignore[attr-defined]

    def _take(self, event: JournalEvent) -> None:
        match event:
            case ApprovalDecided():
                self._approved(event)
            case OrderIntended(intent=intent, is_held=is_held):
                self._intended(intent, is_held=is_held)
            case OrderTriggered():
                self.triggered += 1
                self._to_venue(event.client_order_id, OrderStatus.INTENDED)
            case OrderAdopted():
                self.adopted += 1
                self.intents[event.intent.client_order_id] = event.intent
                self.statuses[event.intent.client_order_id] = OrderStatus.ACCEPTED
            case OrderAccepted():
                if self.statuses[event.client_order_id] in UNSETTLED | {OrderStatus.REJECTED}:
                    self.statuses[event.client_order_id] = OrderStatus.ACCEPTED
            case OrderAmended():
                self.intents[event.client_order_id] = msgspec.structs.replace(
                    self.intents[event.client_order_id], quantity=event.quantity
                )
            case OrderBecameUnknown():
                self.became_unknown += 1
                self.statuses[event.client_order_id] = OrderStatus.UNKNOWN
            case OrderRejected():
                self.statuses[event.client_order_id] = OrderStatus.REJECTED
            case OrderClosed() | OrderFilled():
                self.statuses[event.client_order_id] = event.status
                if isinstance(event, OrderFilled):
                    self._fill(event)
            case _:
                self._setting(event)

    def _setting(self, event: JournalEvent) -> None:
        match event:
            case ApprovalVoided():
                self.voided[event.suggestion_id] = max(event.version, self.voided.get(event.suggestion_id, 0))
            case KillSwitchChanged():
                self.tightened_by = "" if event.state == "NORMAL" else event.requested_by
            case MandateInstalled():
                self.limits[event.mandate.mandate_id] = _limits(event.mandate)
            case MandateTightened():
                before, limits = self.limits[event.mandate_id], _limits(event)
                assert before is not None, f"mandate {event.mandate_id} is tightened and is over"
                assert all(now <= was for now, was in zip(limits, before, strict=True)), "a tightening loosens"
                self.limits[event.mandate_id] = limits
            case MandateRevoked():
                self.limits[event.mandate_id] = None
            case FreezeChanged():
                self.frozen = event.reason if event.frozen else ""
            case _:
                pass

    def _intended(self, intent: OrderIntent, *, is_held: bool) -> None:
        assert intent.client_order_id not in self.intents, f"{intent.client_order_id} is intended twice"
        self.intents[intent.client_order_id] = intent
        self._to_venue(intent.client_order_id, OrderStatus.HELD if is_held else OrderStatus.INTENDED)

    def _approved(self, event: ApprovalDecided) -> None:
        """Used once, not when it is void, and all that it led to is so."""
        name, void = event.suggestion_id, self.voided.get(event.suggestion_id, 0)
        assert name not in self.consumed, f"approval {name} is used twice"
        assert event.version > void, f"approval {name} version {event.version} is used, and up to {void} is void"
        assert event.refusal is None or (event.intent, event.caused) == (None, ()), f"{name} is refused and leads on"
        self.consumed.add(name)
        if event.intent is not None:
            self._intended(event.intent, is_held=False)
        for caused in event.caused:
            self.caused[type(caused).__name__] += 1
            self._take(caused)

    def _to_venue(self, order_id: str, status: OrderStatus) -> None:
        self.statuses[order_id] = status
        if status is OrderStatus.INTENDED:
            self.sent.add(order_id)

    def _fill(self, event: OrderFilled) -> None:
        self.trades[event.symbol, event.trade_id, event.venue_order_id] += 1
        self.fills[
            Fill(
                event.symbol,
                event.trade_id,
                event.venue_order_id,
                event.side,
                from_scaled(event.price, event.price_scale),
                from_scaled(event.quantity, event.quantity_scale),
                Decimal(event.fee),
                event.fee_asset,
                event.is_maker,
            )
        ] += 1


async def disagreements(
    client: EngineClient, venue: VenueWitness, journal: JournalWitness, told: set[str], approver: Approver
) -> list[str]:
    """In what the engine and the venue differ at this moment; what is under way counts, so ask until there is none."""
    at_venue = await asyncio.to_thread(venue.open_orders)
    await asyncio.to_thread(venue.look)
    await journal.read(client)
    here = await client.orders(ACCOUNT)
    status = await client.status()
    found = [] if status.kill_switch == "NORMAL" else [f"the kill switch is {status.kill_switch}"]
    found += [f"the account is frozen: {journal.frozen}"] if journal.frozen else []
    found += _open_orders(here, at_venue)
    found += _fills(venue, journal)
    found += _orders(venue, journal, told)
    found += _approvals(journal, approver)
    for mandate in await client.mandates(ACCOUNT, include_ended=True):
        expected = journal.limits.get(mandate.mandate_id)
        if (expected is None) is not (mandate.state == "revoked") or expected not in {None, _limits(mandate)}:
            found.append(f"mandate {mandate.mandate_id}: {mandate}, the journal says {expected}")
    positions = Counter(dict.fromkeys((), Decimal(0)))
    for fill in venue.fills.values():
        positions[fill.symbol] += fill.quantity if fill.side == "BUY" else -fill.quantity  # type: ignore[assignment]
    shown = {position.symbol: position.quantity for position in await client.positions(ACCOUNT)}
    for symbol in positions.keys() | shown.keys():
        if shown.get(symbol, Decimal(0)) != positions[symbol]:
            found.append(f"position {symbol}: here {shown.get(symbol)}, fills at the venue {positions[symbol]}")
    kept = await asyncio.to_thread(venue.positions)
    for symbol in () if kept is None else kept.keys() | shown.keys():
        if shown.get(symbol, Decimal(0)) != kept.get(symbol, Decimal(0)):
            found.append(f"position {symbol}: here {shown.get(symbol)}, at the venue {kept.get(symbol)}")
    return found


def _open_orders(here: list[OrderView], at_venue: list[dict[str, Any]]) -> list[str]:
    found = [f"order {order.client_order_id} is {order.status}" for order in here if order.status in UNSETTLED]
    ours = {order.client_order_id: _terms_here(order) for order in here if order.status is not OrderStatus.HELD}
    theirs = {order["clientOrderId"]: _terms_there(order) for order in at_venue}
    for order_id in ours.keys() | theirs.keys():
        if ours.get(order_id) != theirs.get(order_id):
            found.append(f"open order {order_id}: here {ours.get(order_id)}, at the venue {theirs.get(order_id)}")
    return found


def _terms_here(order: OrderView) -> tuple[Any, ...]:
    kind = "LIMIT_MAKER" if order.post_only else TYPES[order.order_type]
    price, stop = order.price or Decimal(0), order.stop_price or Decimal(0)
    return order.symbol, order.venue_order_id, order.side, kind, order.quantity, price, stop, order.filled_quantity


def _terms_there(order: dict[str, Any]) -> tuple[Any, ...]:
    amounts = (Decimal(order[name]) for name in ("origQty", "price", "stopPrice", "executedQty"))
    return order["symbol"], str(order["orderId"]), order["side"], order["type"], *amounts


def _fills(venue: VenueWitness, journal: JournalWitness) -> list[str]:
    found = [f"trade {trade} is in the journal {count} times" for trade, count in journal.trades.items() if count > 1]
    theirs = set(venue.fills.values())
    found += [f"fill lost: {fill}" for fill in theirs - journal.fills.keys()]
    found += [f"fill that the venue doesn't have: {fill}" for fill in journal.fills.keys() - theirs]
    return found


def _orders(venue: VenueWitness, journal: JournalWitness, told: set[str]) -> list[str]:
    found, seen = [], Counter(order["clientOrderId"] for order in venue.orders.values())
    found += [f"order {order_id} is at the venue {count} times" for order_id, count in seen.items() if count > 1]
    found += [f"order {order_id} was promised and isn't in the journal" for order_id in told - journal.intents.keys()]
    for order in venue.orders.values():
        order_id, status = order["clientOrderId"], STATUSES[order["status"]]
        if order_id not in journal.statuses:
            found.append(f"order {order_id} is {status} at the venue and unknown here")
        elif journal.statuses[order_id] is not status:
            found.append(f"order {order_id}: here {journal.statuses[order_id]}, at the venue {status}")
    for order_id, status in journal.statuses.items():
        if order_id in journal.sent and order_id not in seen and status is not OrderStatus.REJECTED:
            found.append(f"order {order_id} is {status} here and unknown at the venue")
    return found


def _approvals(journal: JournalWitness, approver: Approver) -> list[str]:
    """What the engine said it had used, once, or had made void, is so for ever."""
    found = [
        f"approval {name} was answered as used {count} times" for name, count in approver.used.items() if count > 1
    ]
    found += [f"approval {name} was used and isn't in the journal" for name in approver.used.keys() - journal.consumed]
    for name, version in approver.voided.items():
        if journal.voided.get(name, 0) < version:
            found.append(f"approval {name} was made void up to {version} and isn't in the journal")
    return found


async def book_disagreement(client: EngineClient, venue: VenueWitness, symbol: str) -> str | None:
    """Whether the engine's book is the venue's, level by level, at one update id."""
    why = "no update id was seen on both sides"
    for _ in range(BOOK_ATTEMPTS):
        theirs = await asyncio.to_thread(venue.book, symbol)
        ours = await _book_at(client, symbol, theirs["lastUpdateId"])
        if ours is None:
            continue
        for side, levels in (("bids", ours.bids), ("asks", ours.asks)):
            shown = [(level.price, level.quantity) for level in levels]
            told = [(Decimal(price), Decimal(quantity)) for price, quantity in theirs[side]]
            if shown != told:
                return f"book {symbol} at {ours.last_update_id}: {side} here {shown[:3]}, at the venue {told[:3]}"
        return None
    return f"book {symbol}: {why}"


async def _book_at(client: EngineClient, symbol: str, update_id: int) -> OrderBookView | None:
    try:
        async with asyncio.timeout(BOOK_PATIENCE_S):
            while True:
                book = await client.order_book(symbol, BOOK_LEVELS)
                if book.last_update_id >= update_id:
                    return book if book.last_update_id == update_id and book.state == "LIVE" else None
                await asyncio.sleep(BOOK_POLL_S)
    except TimeoutError:
        return None
