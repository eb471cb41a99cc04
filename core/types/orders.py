"""Order vocabulary and the intent that is durable before any byte goes to the venue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum

import msgspec

CLIENT_ORDER_ID_PREFIX = "vz"
CLIENT_ORDER_ID_LENGTH = 34


class Mode(StrEnum):
    PAPER = "PAPER"
    LIVE = "LIVE"


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """STOP and TAKE_PROFIT become MARKET orders when the last trade reaches stop_price, the _LIMIT ones LIMIT orders.
    TRAILING_STOP is a STOP whose stop_price follows the best price since it was armed at trailing_offset_bps."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"
    TRAILING_STOP = "TRAILING_STOP"

    @property
    def has_limit_price(self) -> bool:
        return self in _WITH_LIMIT_PRICE

    @property
    def is_conditional(self) -> bool:
        """Waits for the last trade's price before it enters the book."""
        return self not in _UNCONDITIONAL

    @property
    def is_stop(self) -> bool:
        """Triggers when the price goes against the position that it protects."""
        return self in _STOPS


# Asked for several times an order.
_WITH_LIMIT_PRICE = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT})
_UNCONDITIONAL = frozenset({OrderType.LIMIT, OrderType.MARKET})
_STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})


class TimeInForce(StrEnum):
    """GTD is good until expires_ns; where the venue has none, the engine cancels it."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"


class OrderStatus(StrEnum):
    """HELD is durable here and waits for its trigger or its parent: the venue knows nothing of it. INTENDED is durable
    here and perhaps on its way; UNKNOWN was sent without an answer (I5)."""

    HELD = "HELD"
    INTENDED = "INTENDED"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATUSES


FINAL_STATUSES = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED})


class OrderIntent(msgspec.Struct, frozen=True, gc=False):
    """What the engine has decided to send. price is None for an order without a limit price.

    price, stop_price and activation_price at price_scale and quantity at quantity_scale of the instrument named by
    (venue, symbol). expires_ns is set for GTD. strategy_id is empty for a human's order.
    """

    account_id: str
    venue: str
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: int | None
    price_scale: int
    quantity_scale: int
    client_order_id: str
    post_only: bool = False
    reduce_only: bool = False
    stop_price: int | None = None
    trailing_offset_bps: int | None = None
    activation_price: int | None = None
    expires_ns: int | None = None
    strategy_id: str = ""


class OrderRequest(msgspec.Struct, frozen=True):
    """An order that a session or a mandate asks for. Ints at the instrument's scales, as in OrderIntent.

    request_id is the asker's own and unique under its authority: asking again with it finds the first order.
    """

    request_id: str
    account_id: str
    venue: str
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    stop_price: int | None = None
    trailing_offset_bps: int | None = None
    activation_price: int | None = None
    expires_ns: int | None = None
    strategy_id: str = ""


class GroupKind(StrEnum):
    """OCO: two orders of which one takes the other's place. BRACKET: an entry, and a take-profit, a stop or both, which
    wait for what the entry fills and are an OCO between themselves."""

    OCO = "OCO"
    BRACKET = "BRACKET"


class OrderRole(StrEnum):
    ENTRY = "entry"
    TAKE_PROFIT = "take_profit"
    STOP = "stop"


class AmendRequest(msgspec.Struct, frozen=True):
    """What an order is to become: total quantity and limit price, at its scales."""

    request_id: str
    client_order_id: str
    quantity: int
    price: int | None


class GroupRequest(msgspec.Struct, frozen=True):
    """Orders that depend on each other, asked for together. orders maps each role to its order, whose own request_id
    says nothing: the group's request_id is the asker's own and unique under its authority."""

    request_id: str
    kind: GroupKind
    orders: Mapping[OrderRole, OrderRequest]


def client_order_id(proposal_digest_hex: str) -> str:
    """The venue's clientOrderId as a pure function of what was approved (I4): for looking up, never for repeating.

    36 characters is Binance's limit; 32 hex digits of SHA-256 keep 128 bits.
    """
    digest = hashlib.sha256(b"veloz/client-order-id/v1\x00" + proposal_digest_hex.encode()).hexdigest()
    return CLIENT_ORDER_ID_PREFIX + digest[: CLIENT_ORDER_ID_LENGTH - len(CLIENT_ORDER_ID_PREFIX)]


def derived_order_id(parent_id: str, role: str) -> str:
    """The clientOrderId of an order that another one gives rise to: a pure function of both (I4)."""
    digest = hashlib.sha256(b"veloz/derived-order-id/v1\x00" + f"{parent_id}\x00{role}".encode()).hexdigest()
    return CLIENT_ORDER_ID_PREFIX + digest[: CLIENT_ORDER_ID_LENGTH - len(CLIENT_ORDER_ID_PREFIX)]


def requested_order_id(authority_id: str, request_id: str) -> str:
    """The clientOrderId of an order asked for under a session or a mandate: a pure function of both (I4)."""
    digest = hashlib.sha256(b"veloz/requested-order-id/v1\x00" + f"{authority_id}\x00{request_id}".encode()).hexdigest()
    return CLIENT_ORDER_ID_PREFIX + digest[: CLIENT_ORDER_ID_LENGTH - len(CLIENT_ORDER_ID_PREFIX)]
