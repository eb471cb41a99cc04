"""The user data stream of futures: its listen key and the events
(https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from core.venues.paper.errors import VenueError
from core.venues.paper.streams import Hub
from core.venues.paper.usdm.ledger import Ledger
from core.venues.paper.usdm.numbers import amount_text, fixed, plain, ratio
from core.venues.paper.usdm.orders import (
    AccountEvent,
    AlgoEvent,
    Event,
    Execution,
    LeverageEvent,
    MarginCallEvent,
    MarginType,
    Order,
    OrderEvent,
    PositionView,
)
from core.venues.paper.usdm.rules import CONTRACTS, MARGIN_ASSET

LISTEN_KEY_LIFE_MS = 60 * 60_000
LISTEN_KEY_BYTES = 32


class UserStream:
    def __init__(self, hub: Hub, ledger: Callable[[], Ledger], now_ms: Callable[[], int]) -> None:
        self._hub = hub
        self._ledger = ledger
        self._now_ms = now_ms
        self._key: str | None = None
        self._until_ms = 0

    def create(self) -> str:
        """A valid key is given again, with its life renewed, as Binance does."""
        self.expire()
        if self._key is None:
            self._key = secrets.token_urlsafe(LISTEN_KEY_BYTES)
            self._hub.set_private({self._key})
        self._until_ms = self._now_ms() + LISTEN_KEY_LIFE_MS
        return self._key

    def renew(self) -> str:
        """Raises VenueError -1125."""
        self.expire()
        if self._key is None:
            raise VenueError(-1125, "This listenKey does not exist.")
        return self.create()

    def close(self) -> None:
        self._forget()

    def expire(self) -> None:
        """Called now and then: an expired key is announced on its own stream and forgotten."""
        key = self._key
        if key is not None and self._now_ms() >= self._until_ms:
            self._send(key, {"e": "listenKeyExpired", "E": self._now_ms(), "listenKey": key})
            self._forget()

    def _forget(self) -> None:
        self._key = None
        self._hub.set_private(set())

    def publish(self, events: Sequence[Event]) -> None:
        key = self._key
        if key is None or not self._hub.has(key):
            return
        for event in events:
            for message in messages(event, self._ledger()):
                self._send(key, message)

    def _send(self, key: str, message: dict[str, Any]) -> None:
        self._hub.publish(key, msgspec.json.encode(message).decode())


def messages(event: Event, ledger: Ledger) -> list[dict[str, Any]]:
    """An event as Binance words it; a fill is told in short (TRADE_LITE) first."""
    match event:
        case OrderEvent():
            lite = [trade_lite(event)] if event.execution is Execution.TRADE else []
            return [*lite, order_update(event, ledger)]
        case AlgoEvent():
            return [algo_update(event)]
        case AccountEvent():
            return [account_update(event, ledger)]
        case LeverageEvent():
            change = {"s": event.symbol, "l": event.leverage}
            return [{"e": "ACCOUNT_CONFIG_UPDATE", "E": event.time_ms, "T": event.time_ms, "ac": change}]
        case MarginCallEvent():
            return [margin_call(event)]


def order_update(event: OrderEvent, ledger: Ledger) -> dict[str, Any]:
    order, fill, rules = event.order, event.fill, CONTRACTS[event.order.symbol]
    price, quantity = rules.price_text, rules.quantity_text
    bids, asks = ledger.order_notionals((order.symbol, order.position_side))
    body: dict[str, Any] = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side.value,
        "o": order.order_type.value,
        "f": order.time_in_force.value,
        "q": quantity(order.quantity),
        "p": price(order.price),
        "ap": price(average_price(order)),
        "sp": price(order.trigger_price),
        "x": event.execution.value,
        "X": order.status.value,
        "i": order.order_id,
        "l": quantity(fill.quantity if fill else 0),
        "z": quantity(order.executed),
        "L": price(fill.price if fill else 0),
        "n": amount_text(fill.commission if fill else 0),
        "N": MARGIN_ASSET,
        "T": event.time_ms,
        "t": fill.trade_id if fill else 0,
        "b": plain(bids),
        "a": plain(asks),
        "m": fill.is_maker if fill else False,
        "R": order.is_reduce_only,
        "wt": order.working_type.value,
        "ot": order.original_type.value,
        "ps": order.position_side.value,
        "cp": order.is_close_position,
        "rp": amount_text(fill.realised if fill else 0),
        "pP": order.is_price_protected,
        "si": 0,
        "ss": 0,
        "V": order.self_trade.value,
        "pm": order.price_match.value,
        "gtd": order.good_till_ms,
        "er": "0",
    }
    if order.callback_rate:
        body |= {"AP": price(order.activate_price), "cr": fixed(order.callback_rate, 1)}
    return {"e": "ORDER_TRADE_UPDATE", "E": event.time_ms, "T": event.time_ms, "o": body}


def average_price(order: Order) -> int:
    return ratio(order.cumulative_quote, order.executed)


def trade_lite(event: OrderEvent) -> dict[str, Any]:
    order, fill, rules = event.order, event.fill, CONTRACTS[event.order.symbol]
    assert fill is not None
    return {
        "e": "TRADE_LITE",
        "E": event.time_ms,
        "T": event.time_ms,
        "s": order.symbol,
        "q": rules.quantity_text(order.quantity),
        "p": rules.price_text(order.price),
        "m": fill.is_maker,
        "c": order.client_id,
        "S": order.side.value,
        "L": rules.price_text(fill.price),
        "l": rules.quantity_text(fill.quantity),
        "t": fill.trade_id,
        "i": order.order_id,
    }


def algo_update(event: AlgoEvent) -> dict[str, Any]:
    algo, order, rules = event.algo, event.order, CONTRACTS[event.algo.symbol]
    body: dict[str, Any] = {
        "caid": algo.client_id,
        "aid": algo.algo_id,
        "at": "CONDITIONAL",
        "o": algo.order_type.value,
        "s": algo.symbol,
        "S": algo.side.value,
        "ps": algo.position_side.value,
        "f": algo.time_in_force.value,
        "q": rules.quantity_text(algo.quantity),
        "X": algo.status.value,
        "ai": str(algo.order_id) if algo.order_id else "",
        "tp": rules.price_text(algo.trigger_price),
        "p": rules.price_text(algo.price),
        "V": algo.self_trade.value,
        "wt": algo.working_type.value,
        "pm": algo.price_match.value,
        "cp": algo.is_close_position,
        "pP": algo.is_price_protected,
        "R": algo.is_reduce_only,
        "tt": algo.triggered_ms,
        "gtd": algo.good_till_ms,
        "rm": algo.reason,
    }
    if order is not None:
        body |= {
            "ap": rules.price_text(average_price(order)),
            "aq": rules.quantity_text(order.executed),
            "act": order.order_type.value,
        }
    if algo.callback_rate:
        body |= {"AP": rules.price_text(algo.activate_price), "cr": fixed(algo.callback_rate, 1), "ia": algo.peak > 0}
    return {"e": "ALGO_UPDATE", "T": event.time_ms, "E": event.time_ms, "o": body}


def account_update(event: AccountEvent, ledger: Ledger) -> dict[str, Any]:
    balances = [
        {
            "a": MARGIN_ASSET,
            "wb": amount_text(event.wallet),
            "cw": amount_text(event.cross_wallet),
            "bc": amount_text(event.balance_change),
        }
    ]
    return {
        "e": "ACCOUNT_UPDATE",
        "E": event.time_ms,
        "T": event.time_ms,
        "a": {
            "m": event.reason,
            "B": balances if event.has_balance else [],
            "P": [_position(view, ledger) for view in event.positions],
        },
    }


def _position(view: PositionView, ledger: Ledger) -> dict[str, Any]:
    position, rules = view.position, CONTRACTS[view.position.symbol]
    return {
        "s": position.symbol,
        "pa": rules.quantity_text(position.amount),
        "ep": plain(ledger.entry_price(position)),
        "bep": plain(ledger.break_even_price(position)),
        "cr": amount_text(view.realised),
        "up": amount_text(view.unrealised),
        "mt": margin_type_text(view.margin_type),
        "iw": amount_text(position.isolated),
        "ps": position.side.value,
        "ma": MARGIN_ASSET,
    }


def margin_type_text(margin_type: MarginType) -> str:
    return "isolated" if margin_type is MarginType.ISOLATED else "cross"


def margin_call(event: MarginCallEvent) -> dict[str, Any]:
    return {
        "e": "MARGIN_CALL",
        "E": event.time_ms,
        "cw": amount_text(event.cross_wallet),
        "p": [
            {
                "s": view.position.symbol,
                "ps": view.position.side.value,
                "pa": CONTRACTS[view.position.symbol].quantity_text(view.position.amount),
                "mt": view.margin_type.value,
                "iw": amount_text(view.position.isolated),
                "mp": amount_text(view.mark),
                "up": amount_text(view.unrealised),
                "mm": amount_text(view.maintenance),
            }
            for view in event.positions
        ],
    }
