"""What a session's or a mandate's key signs when it asks for an order: RFC 8785 JSON, every number as text.

The signed bytes alone say what is wanted; the engine reads them itself, at its own instruments' scales.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec
import rfc8785

from core.authority.reading import UNREADABLE
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.instruments import Instrument
from core.types.money import decimal_text, to_scaled
from core.types.orders import GroupKind, GroupRequest, OrderRequest, OrderRole, OrderType, Side, TimeInForce

ORDER_TICKET_SCHEMA = "veloz.order-ticket/1"
GROUP_TICKET_SCHEMA = "veloz.group-ticket/1"
AMEND_TICKET_SCHEMA = "veloz.amend-ticket/1"
TICKET_DOMAIN_TAG = b"veloz/session-request/v1\x00"
TICKET_SIZE_LIMIT_BYTES = 16_384
ID_LENGTH_LIMIT = 128
SHOWN_LIMIT_CHARS = 64

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,39})?")


class OrderTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One order. Decimals in plain notation, times in ns, empty text for none.

    request_id is the asker's own: asking again with it finds the first order. valid_until_ns, here and below: until
    when the engine may take the ticket, by its own clock; who carries it there can't keep it back for longer.
    """

    schema: str = ORDER_TICKET_SCHEMA
    request_id: str
    account_id: str
    venue: str
    symbol: str
    side: str
    order_type: str
    time_in_force: str
    quantity: str
    price: str = ""
    post_only: bool = False
    reduce_only: bool = False
    stop_price: str = ""
    trailing_offset_bps: str = ""
    activation_price: str = ""
    expires_ns: str = ""
    strategy_id: str = ""
    valid_until_ns: str = ""


class GroupTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Orders that depend on each other. kind is OCO (orders `take_profit` and `stop`) or BRACKET (`entry`, and
    `take_profit`, `stop` or both); each order's request_id names which it is."""

    schema: str = GROUP_TICKET_SCHEMA
    request_id: str
    kind: str
    orders: tuple[OrderTicket, ...]
    valid_until_ns: str = ""


class AmendTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The new total quantity, the new limit price, or both; empty for what stays."""

    schema: str = AMEND_TICKET_SCHEMA
    request_id: str
    client_order_id: str
    quantity: str = ""
    price: str = ""
    valid_until_ns: str = ""


Ticket = OrderTicket | GroupTicket | AmendTicket
T = TypeVar("T", OrderTicket, GroupTicket, AmendTicket)
_SCHEMAS = {
    OrderTicket: ORDER_TICKET_SCHEMA,
    GroupTicket: GROUP_TICKET_SCHEMA,
    AmendTicket: AMEND_TICKET_SCHEMA,
}


def ticket_bytes(ticket: Ticket) -> bytes:
    """The canonical bytes that are signed and sent."""
    return bytes(rfc8785.dumps(msgspec.to_builtins(ticket)))


def ticket_digest(canonical: bytes) -> str:
    """Hex SHA-256 over the domain tag and the canonical bytes."""
    return hashlib.sha256(TICKET_DOMAIN_TAG + canonical).hexdigest()


def ticket_message(canonical: bytes) -> bytes:
    """What the key signs: the domain tag and the 32 bytes of the digest."""
    return TICKET_DOMAIN_TAG + bytes.fromhex(ticket_digest(canonical))


def parse_ticket(canonical: bytes, ticket_type: type[T]) -> T:
    """Read a ticket strictly. Raises RefusalError(AUTHORITY_DOCUMENT_MALFORMED)."""
    if len(canonical) > TICKET_SIZE_LIMIT_BYTES:
        raise _malformed(f"{len(canonical)} bytes, the limit is {TICKET_SIZE_LIMIT_BYTES}")
    try:
        ticket = msgspec.json.decode(canonical, type=ticket_type)
    except UNREADABLE as error:
        raise _malformed(str(error)) from error
    if ticket.schema != _SCHEMAS[ticket_type]:
        raise _malformed(f"schema is {ticket.schema[:SHOWN_LIMIT_CHARS]!r}, this takes {_SCHEMAS[ticket_type]!r}")
    if ticket_bytes(ticket) != canonical:
        raise _malformed("the bytes are not in canonical form (RFC 8785, every field written out)")
    return ticket


def read_ticket(canonical: bytes, ticket_type: type[T], now_ns: int) -> T:
    """parse_ticket, of one that is still valid. Raises RefusalError, also with AUTHORITY_DOCUMENT_EXPIRED."""
    ticket = parse_ticket(canonical, ticket_type)
    until_ns = _whole("valid_until_ns", ticket.valid_until_ns)
    if until_ns is not None and now_ns >= until_ns:
        raise refuse(
            ReasonCode.AUTHORITY_DOCUMENT_EXPIRED,
            "The ticket's time is over. If it came in time its order is there: sign another with the same request_id, "
            "which finds it.",
            limit=str(until_ns),
            actual=str(now_ns),
            unit="ns",
        )
    return ticket


def order_request(ticket: OrderTicket, instruments: Mapping[tuple[str, str], Instrument]) -> OrderRequest:
    """The request at its instrument's scales. Raises RefusalError with MARKET_INSTRUMENT_UNKNOWN or
    AUTHORITY_DOCUMENT_MALFORMED."""
    instrument = instruments.get((ticket.venue, ticket.symbol))
    if instrument is None:
        raise refuse(
            ReasonCode.MARKET_INSTRUMENT_UNKNOWN,
            f"This engine doesn't trade {ticket.symbol[:SHOWN_LIMIT_CHARS]} on {ticket.venue[:SHOWN_LIMIT_CHARS]}.",
        )
    for name in ("request_id", "account_id"):
        if not 0 < len(getattr(ticket, name)) <= ID_LENGTH_LIMIT:
            raise _malformed(f"{name} must have 1 to {ID_LENGTH_LIMIT} characters")
    try:
        side, order_type = Side(ticket.side), OrderType(ticket.order_type)
        time_in_force = TimeInForce(ticket.time_in_force)
    except ValueError as error:
        raise _malformed(str(error)) from error
    price_scale = instrument.price_scale
    quantity = _scaled("quantity", ticket.quantity, instrument.quantity_scale)
    if quantity is None:
        raise _malformed("quantity is missing")
    return OrderRequest(
        request_id=ticket.request_id,
        account_id=ticket.account_id,
        venue=ticket.venue,
        symbol=ticket.symbol,
        side=side,
        order_type=order_type,
        time_in_force=time_in_force,
        quantity=quantity,
        price=_scaled("price", ticket.price, price_scale),
        post_only=ticket.post_only,
        reduce_only=ticket.reduce_only,
        stop_price=_scaled("stop_price", ticket.stop_price, price_scale),
        trailing_offset_bps=_whole("trailing_offset_bps", ticket.trailing_offset_bps),
        activation_price=_scaled("activation_price", ticket.activation_price, price_scale),
        expires_ns=_whole("expires_ns", ticket.expires_ns),
        strategy_id=ticket.strategy_id,
    )


def group_request(ticket: GroupTicket, instruments: Mapping[tuple[str, str], Instrument]) -> GroupRequest:
    """The request at its instrument's scales. Raises RefusalError as order_request does."""
    if not 0 < len(ticket.request_id) <= ID_LENGTH_LIMIT:
        raise _malformed(f"request_id must have 1 to {ID_LENGTH_LIMIT} characters")
    orders: dict[OrderRole, OrderRequest] = {}
    try:
        kind = GroupKind(ticket.kind)
        for order in ticket.orders:
            role = OrderRole(order.request_id)
            if role in orders or order.schema != ORDER_TICKET_SCHEMA:
                raise _malformed(f"{role} must stand once, with schema {ORDER_TICKET_SCHEMA!r}")
            orders[role] = order_request(order, instruments)
    except ValueError as error:
        raise _malformed(str(error)) from error
    if not orders:
        raise _malformed("a group has orders")
    return GroupRequest(ticket.request_id, kind, orders)


def amendment(ticket: AmendTicket) -> tuple[Decimal | None, Decimal | None]:
    """The new quantity and price. Raises RefusalError(AUTHORITY_DOCUMENT_MALFORMED)."""
    if not ticket.quantity and not ticket.price:
        raise _malformed("an amendment names a quantity, a price, or both")
    return _decimal("quantity", ticket.quantity), _decimal("price", ticket.price)


def _scaled(name: str, text: str, scale: int) -> int | None:
    value = _decimal(name, text)
    if value is None:
        return None
    try:
        return to_scaled(value, scale)
    except ValueError as error:
        raise _malformed(f"{name}: {error}") from error


def _decimal(name: str, text: str) -> Decimal | None:
    if not text:
        return None
    # By its form first: written out, a Decimal of 14 characters can take gigabytes.
    if not _PLAIN_DECIMAL.fullmatch(text) or decimal_text(Decimal(text)) != text or Decimal(text) <= 0:
        raise _malformed(f"{name} must be a positive decimal in plain notation, is {text[:SHOWN_LIMIT_CHARS]!r}")
    return Decimal(text)


def _whole(name: str, text: str) -> int | None:
    if not text:
        return None
    if not _WHOLE_NUMBER.fullmatch(text):
        raise _malformed(f"{name} must be a whole number, is {text[:SHOWN_LIMIT_CHARS]!r}")
    return int(text)


def _malformed(detail: str) -> RefusalError:
    return refuse(ReasonCode.AUTHORITY_DOCUMENT_MALFORMED, f"The ticket can't be read: {detail}.")
