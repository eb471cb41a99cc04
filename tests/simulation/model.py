"""The engine's state as the simulation works it out for itself, from the events in the order they became durable.

Nothing here calls core.kernel, core.risk, core.orders or core.portfolio: it is the second opinion that the checks hold
the engine against. Amounts are Fractions in the reporting currency, quantities and prices ints as in the events.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict, deque
from fractions import Fraction
from functools import lru_cache
from typing import Any

import msgspec

from core.types.authority import MandateAuthority, SessionAuthority
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    CancelRequested,
    EquityObserved,
    FreezeChanged,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
    OrderAccepted,
    OrderAdopted,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    OrderTriggered,
    RiskRulesInstalled,
    SessionClosed,
    SessionOpened,
)
from core.types.orders import OrderIntent, OrderType, Side
from tests.simulation.documents import INSTRUMENTS

NS_PER_MS = 1_000_000
ITEMS = {item.symbol: item for item in INSTRUMENTS}
TIGHTNESS = {"NORMAL": 0, "REDUCE_ONLY": 1, "CANCEL_ONLY": 2, "HALTED": 3}
SYMBOL_OF_QUOTE = {"BTC": "BTCUSDT"}
"""By which market an asset is valued in the reporting currency."""
MANDATE_LIMITS = (
    "max_order_notional_quote",
    "max_position_notional_quote",
    "max_total_notional_quote",
    "max_open_orders",
)


class Known(msgspec.Struct):
    """An order as the events tell it. armed: how much of one that is held may act, None when all of it; most: the
    largest quantity that was ever asked for; pending: the quantity and price of an amendment without an answer;
    amend_to_leave: of one that didn't leave yet, which it may do after the order's last fill; venue_order_id: of one
    that somebody else placed, whose own id may come again."""

    intent: OrderIntent
    status: str
    quantity: int
    price: int | None
    notional: Fraction = Fraction(0)
    group_id: str | None = None
    role: str | None = None
    replaces: str | None = None
    armed: int | None = None
    most: int = 0
    filled: int = 0
    trades: list[int] = msgspec.field(default_factory=list)
    cancel_requested: bool = False
    pending: tuple[int, int | None] | None = None
    amend_to_leave: tuple[int, int | None] | None = None
    venue_order_id: str | None = None
    authority: object = None

    @property
    def is_open(self) -> bool:
        return self.status not in {"FILLED", "CANCELED", "EXPIRED", "REJECTED"}

    @property
    def is_held(self) -> bool:
        """The engine waits with it; the venue knows nothing of it."""
        return self.status == "HELD"

    @property
    def rest(self) -> int:
        return self.quantity - self.filled

    @property
    def rest_at_most(self) -> int:
        """What may still be filled of it, for all that is known: an amendment may have reached the venue."""
        return self.rest if self.pending is None else max(self.quantity, self.pending[0]) - self.filled

    def prices(self) -> tuple[int, ...]:
        """At which it may rest."""
        found = (self.price, None if self.pending is None else self.pending[1])
        return tuple(price for price in found if price is not None)

    def let_go(self) -> OrderIntent:
        """What is sent of an order that was held: as much as may act, and without its condition."""
        kind = OrderType.LIMIT if self.intent.order_type.has_limit_price else OrderType.MARKET
        return msgspec.structs.replace(
            self.intent,
            order_type=kind,
            quantity=self.quantity if self.armed is None else self.armed,
            stop_price=None,
            trailing_offset_bps=None,
            activation_price=None,
        )


class Allowance(msgspec.Struct):
    """What a session or a mandate has used."""

    terms: Any
    orders: int = 0
    total: Fraction = Fraction(0)
    is_over: bool = False


@lru_cache
def rules_of(document: str) -> dict[str, Any]:
    return tomllib.loads(document)


class Model:
    """Fed with each durable event, once and in order."""

    def __init__(self) -> None:
        self.orders: dict[str, Known] = {}
        self.positions: dict[str, int] = defaultdict(int)
        self.strategy_positions: dict[tuple[str, str], int] = defaultdict(int)
        self.switch = "NORMAL"
        self.account_switch = "NORMAL"
        self.frozen = False
        self.rules: dict[str, Any] = {}
        self.sessions: dict[str, Allowance] = {}
        self.mandates: dict[str, Allowance] = {}
        self.consumed: dict[str, int] = {}
        """Until when each held."""
        self.voided: dict[str, int] = {}
        self.equity: EquityObserved | None = None
        self.order_times: dict[str, deque[int]] = defaultdict(deque)
        self.amend_times: dict[str, deque[int]] = defaultdict(deque)
        self.repeats: dict[tuple[Any, ...], deque[int]] = defaultdict(deque)
        self.groups: dict[str, list[str]] = defaultdict(list)
        self._open: dict[str, None] = {}

    @property
    def effective_switch(self) -> str:
        return max(self.switch, self.account_switch, key=TIGHTNESS.__getitem__)

    def open_orders(self) -> list[Known]:
        return [self.orders[order_id] for order_id in self._open]

    def live_orders(self) -> list[Known]:
        """What the venue has, or may have."""
        return [order for order in self.open_orders() if not order.is_held]

    def replacements_of(self, order_id: str) -> list[str]:
        return [name for name, order in self.orders.items() if order.replaces == order_id]

    def take(self, event: JournalEvent) -> None:
        """The event is so. What an approval caused is taken in by itself, after it."""
        match event:
            case OrderIntended():
                self._intended(event)
            case OrderTriggered():
                order = self.orders[event.client_order_id]
                order.intent = order.let_go()
                order.status, order.quantity = "INTENDED", order.intent.quantity
                self._left(order.intent, event.ts_ns)
            case ApprovalDecided():
                expires_ns = int(msgspec.json.decode(event.proposal)["expires_at_ns"])
                self.consumed[event.suggestion_id] = expires_ns
                if event.intent is not None:
                    worth = Fraction(msgspec.json.decode(event.proposal)["notional_quote"])
                    terms = (event.intent.quantity, event.intent.price)
                    self._opened(Known(event.intent, "INTENDED", *terms, notional=worth))
                    self._left(event.intent, event.ts_ns)
            case OrderAdopted():
                self._opened(
                    Known(
                        event.intent,
                        "ACCEPTED",
                        event.intent.quantity,
                        event.intent.price,
                        venue_order_id=event.venue_order_id,
                    )
                )
            case OrderFilled():
                self._filled(event)
            case (
                OrderAccepted()
                | OrderRejected()
                | OrderBecameUnknown()
                | OrderClosed()
                | CancelRequested()
                | OrderAmendRequested()
                | OrderAmended()
                | OrderAmendRefused()
                | OrderArmed()
            ):
                self._order(event)
            case _:
                self._setting(event)

    def _order(self, event: Any) -> None:
        order = self.orders[event.client_order_id]
        match event:
            case OrderAccepted() if order.status in {"INTENDED", "UNKNOWN", "REJECTED"}:
                order.status = "ACCEPTED"
            case OrderRejected():
                order.status = "REJECTED"
            case OrderBecameUnknown():
                order.status = "UNKNOWN"
            case OrderClosed():
                order.status = str(event.status)
                order.pending = None
            case CancelRequested():
                order.cancel_requested = True
            case OrderArmed():
                order.armed = event.quantity
            case OrderAmendRequested():
                order.pending = order.amend_to_leave = (event.quantity, event.price)
                allowance = self._allowance(event.authority)
                if allowance is not None:
                    allowance.total += Fraction(event.added_quote)
                for key in keys_of(order.intent):
                    self.amend_times[key].append(event.ts_ns)
            case OrderAmended():
                order.quantity, order.pending = event.quantity, None
                order.most = max(order.most, event.quantity)
                order.status = "FILLED" if order.rest == 0 else order.status
                order.price = order.price if event.price is None else event.price
            case OrderAmendRefused():
                order.pending = None
        self._index(event.client_order_id, order)

    def _setting(self, event: JournalEvent) -> None:
        match event:
            case KillSwitchChanged():
                if event.account_id:
                    self.account_switch = event.state
                else:
                    self.switch = event.state
            case FreezeChanged():
                self.frozen = event.frozen
            case RiskRulesInstalled():
                self.rules = rules_of(event.document)
            case SessionOpened():
                self.sessions[event.grant.session_id] = Allowance(event.grant)
            case SessionClosed():
                self.sessions[event.session_id].is_over = True
            case MandateInstalled():
                self.mandates[event.mandate.mandate_id] = Allowance(event.mandate)
            case MandateRevoked():
                self.mandates[event.mandate_id].is_over = True
            case MandateTightened():
                mandate = self.mandates[event.mandate_id]
                limits = {name: getattr(event, name) for name in MANDATE_LIMITS}
                mandate.terms = msgspec.structs.replace(mandate.terms, **limits)
            case ApprovalVoided():
                self.voided[event.suggestion_id] = max(event.version, self.voided.get(event.suggestion_id, 0))
            case EquityObserved():
                self.equity = event

    def _intended(self, event: OrderIntended) -> None:
        intent, notional = event.intent, Fraction(event.notional_quote)
        waits = event.is_held and event.parent_id is not None and event.replaces is None
        self._opened(
            Known(
                intent,
                "HELD" if event.is_held else "INTENDED",
                intent.quantity,
                intent.price,
                notional,
                event.group_id,
                event.role,
                event.replaces,
                armed=0 if waits else None,
                authority=event.authority,
            )
        )
        if not event.is_held:
            self._left(intent, event.ts_ns)
        allowance = self._allowance(event.authority)
        if allowance is not None and event.replaces is not None:
            allowance.total += max(Fraction(0), notional - self.orders[event.replaces].notional)
        elif allowance is not None:
            allowance.orders += 1
            allowance.total += notional

    def _opened(self, order: Known) -> None:
        order_id, order.most = order.intent.client_order_id, order.quantity
        self.orders[order_id] = order
        self._open[order_id] = None
        if order.group_id is not None:
            self.groups[order.group_id].append(order_id)

    def _left(self, intent: OrderIntent, ts_ns: int) -> None:
        """The order is on its way to the venue: it counts in the rates."""
        for key in keys_of(intent):
            self.order_times[key].append(ts_ns)
        self.repeats[terms_of(intent)].append(ts_ns)

    def _allowance(self, authority: object) -> Allowance | None:
        match authority:
            case SessionAuthority():
                return self.sessions[authority.session_id]
            case MandateAuthority():
                return self.mandates[authority.mandate_id]
            case _:
                return None

    def _filled(self, event: OrderFilled) -> None:
        order = self.orders[event.client_order_id]
        order.filled += event.quantity
        order.trades.append(event.trade_id)
        order.status = str(event.status)
        order.pending = order.pending if order.is_open else None
        signed = event.quantity if event.side is Side.BUY else -event.quantity
        self.positions[event.symbol] += signed
        self.strategy_positions[event.symbol, order.intent.strategy_id] += signed
        self._index(event.client_order_id, order)

    def _index(self, order_id: str, order: Known) -> None:
        if order.is_open:
            self._open[order_id] = None
        else:
            self._open.pop(order_id, None)

    # what holds

    def limits(self, intent: OrderIntent, name: str) -> Fraction:
        """The tightest of the levels that speak of this order."""
        return min(Fraction(str(section[name])) for _, section in self._sections(intent) if name in section)

    def rates(self, intent: OrderIntent, name: str) -> list[tuple[str, int, int]]:
        """(what is counted, how many, within how many ms) of every level."""
        return [
            (key, section[name]["count"], section[name]["window_ms"])
            for key, section in self._sections(intent)
            if name in section
        ]

    def _sections(self, intent: OrderIntent) -> list[tuple[str, dict[str, Any]]]:
        rules = self.rules
        found = [("global", rules["global"])]
        for level, name in (
            ("account", intent.account_id),
            ("strategy", intent.strategy_id),
            ("symbol", intent.symbol),
        ):
            section = rules.get(level, {}).get(name)
            if section is not None:
                found.append((f"{level}:{name}", section))
        return found

    # what it amounts to

    def resting(self, symbol: str, without: str | None = None) -> tuple[int, int]:
        """Bought and sold by what is open in a symbol, if all of it fills."""
        buys = sells = 0
        for order in self.live_orders():
            if order.intent.symbol == symbol and order.intent.client_order_id != without:
                if order.intent.side is Side.BUY:
                    buys += order.rest_at_most
                else:
                    sells += order.rest_at_most
        return buys, sells

    def exposure(
        self, twice_mids: dict[str, int], own: OrderIntent | None, replaces: str | None
    ) -> tuple[Fraction, Fraction, Fraction]:
        """(position of own's symbol, gross, net) in the worst case of what is open, with own as if it were."""
        gross, long, short, position = Fraction(0), Fraction(0), Fraction(0), Fraction(0)
        for symbol in ITEMS:
            held = self.positions[symbol]
            is_own = own is not None and own.symbol == symbol
            buys, sells = self.resting(symbol, replaces if is_own else None)
            if own is not None and is_own:
                buys += own.quantity if own.side is Side.BUY else 0
                sells += own.quantity if own.side is Side.SELL else 0
            unit = worth_of_unit(symbol, twice_mids, own)
            high, low = (held + buys) * unit, (held - sells) * unit
            gross += max(abs(high), abs(low))
            long, short = long + high, short + low
            if own is not None and is_own:
                position = max(abs(high), abs(low))
        return position, gross, max(abs(long), abs(short))


def keys_of(intent: OrderIntent) -> tuple[str, ...]:
    keys = ("global", f"account:{intent.account_id}", f"symbol:{intent.symbol}")
    return (*keys, f"strategy:{intent.strategy_id}") if intent.strategy_id else keys


def terms_of(intent: OrderIntent) -> tuple[Any, ...]:
    """What makes two orders the same."""
    return (
        intent.symbol,
        intent.side,
        intent.order_type,
        intent.time_in_force,
        intent.quantity,
        intent.price,
        intent.strategy_id,
    )


def within(times: deque[int], ts_ns: int, window_ms: int) -> int:
    """How many lie in the window that ends at ts_ns."""
    return sum(1 for at_ns in times if ts_ns - window_ms * NS_PER_MS < at_ns <= ts_ns)


def worth_of_unit(symbol: str, twice_mids: dict[str, int], own: OrderIntent | None = None) -> Fraction:
    """One unit of quantity in the reporting currency: at the mid (rounded to the price scale half to even), for an own
    order at its price where that is higher."""
    item = ITEMS[symbol]
    price = Fraction(_half(twice_mids[symbol]))
    if own is not None and own.symbol == symbol and own.price is not None:
        price = max(price, Fraction(own.price))
    worth = price / 10 ** (item.price_scale + item.quantity_scale)
    return worth * rate_of(item.quote_asset, twice_mids)


def rate_of(asset: str, twice_mids: dict[str, int]) -> Fraction:
    """What one unit of an asset is worth in the reporting currency."""
    market = SYMBOL_OF_QUOTE.get(asset)
    return Fraction(1) if market is None else Fraction(_half(twice_mids[market]), 10 ** ITEMS[market].price_scale)


def _half(twice: int) -> int:
    half, rest = divmod(twice, 2)
    return half + (half % 2 if rest else 0)
