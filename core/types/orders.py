"""Order vocabulary and the intent that is durable before any byte goes to the venue."""

from __future__ import annotations

import hashlib
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
    LIMIT = "LIMIT"
    MARKET = "MARKET"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrderStatus(StrEnum):
    """INTENDED is durable here and perhaps on its way; UNKNOWN was sent without an answer (I5)."""

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


class OrderIntent(msgspec.Struct, frozen=True):
    """What the engine has decided to send. price is None for MARKET.

    price at price_scale and quantity at quantity_scale of the instrument named by (venue, symbol).
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


def client_order_id(proposal_digest_hex: str) -> str:
    """The venue's clientOrderId as a pure function of what was approved (I4): for looking up, never for repeating.

    36 characters is Binance's limit; 32 hex digits of SHA-256 keep 128 bits.
    """
    digest = hashlib.sha256(b"veloz/client-order-id/v1\x00" + proposal_digest_hex.encode()).hexdigest()
    return CLIENT_ORDER_ID_PREFIX + digest[: CLIENT_ORDER_ID_LENGTH - len(CLIENT_ORDER_ID_PREFIX)]
