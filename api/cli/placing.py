"""`veloz orders place | amend`: a ticket that the session's key signs, and what became of it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from api.cli.amounts import moment_ns, positive, usage
from api.cli.engine import ask_engine, local_settings, refused
from api.cli.session import EXIT_REFUSED, EXIT_UNREACHABLE, CommandError
from api.cli.sessions import StoredSession, usable_session
from api.cli.text import printable
from core.authority.signatures import sign_bytes
from core.config import Settings
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import Refusal, RefusalError
from core.types.ids import SystemIdSource, new_trace
from core.types.money import decimal_text
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.types.views import ExecutionOutcomeView, OrderView

if TYPE_CHECKING:
    from core.runtime.client import EngineClient
    from core.runtime.tickets import OrderTicket, Ticket

FOLLOW_INTERVAL_S = 0.05
TICKET_VALID_S = 60
ON_ITS_WAY = frozenset({OrderStatus.INTENDED, OrderStatus.UNKNOWN})


class OrderOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as it is typed."""

    account: str
    limit: str | None = None
    stop: str | None = None
    profit: str | None = None
    trail_bps: int | None = None
    activation: str | None = None
    time_in_force: str = "GTC"
    expires: str | None = None
    post_only: bool = False
    reduce_only: bool = False
    request_id: str | None = None


def place(
    side: str, quantity: str, symbol: str, options: OrderOptions, *, assume_yes: bool, wait_s: float, as_json: bool
) -> None:
    """Sign a ticket with the session's key, send it, and follow the order."""
    settings = local_settings()
    ticket = order_ticket(settings, side, quantity, symbol, options)
    session = usable_session(settings, options.account)
    if not assume_yes and not as_json and sys.stdin.isatty():
        typer.confirm(f"{ticket_words(ticket)} in {ticket.account_id}, as {session.user_id}?", abort=True)

    trace = new_trace(SystemIdSource())

    async def sent(client: EngineClient) -> tuple[ExecutionOutcomeView, OrderView | None]:
        signed, authority = signed_ticket(session, ticket)
        outcome = await client.submit_order(signed, authority, trace)
        if outcome.refusal is not None or outcome.client_order_id is None:
            return outcome, None
        return outcome, await _followed(client, outcome.client_order_id, ticket, wait_s)

    with with_request_id(ticket.request_id):
        outcome, order = ask_engine(settings, sent)
    if outcome.refusal is not None:
        raise _refused_order(outcome, outcome.refusal)
    _tell(outcome, order, ticket, as_json)


def _refused_order(outcome: ExecutionOutcomeView, refusal: Refusal) -> CommandError:
    """With the way to the checks, where they were recorded."""
    error = refused(refusal)
    if outcome.journal_sequence is not None:
        error.body["journal_sequence"] = outcome.journal_sequence
        error.body["message"] += f" `veloz risk explain {outcome.journal_sequence}` shows every check."
    return error


@contextmanager
def with_request_id(request_id: str) -> Iterator[None]:
    """When no answer comes, say how to ask again."""
    try:
        yield
    except CommandError as error:
        if error.exit_code == EXIT_UNREACHABLE:
            error.body["message"] += f" Asking again with --request-id {request_id} can't place it twice."
        raise


def amend(order_id: str, quantity: str | None, limit: str | None, account: str, as_json: bool) -> None:
    """A new total quantity, a new limit price, or both."""
    from core.runtime.tickets import AmendTicket

    if quantity is None and limit is None:
        raise usage("Give --quantity, --limit, or both.")
    settings = local_settings()
    ticket = AmendTicket(
        request_id=SystemIdSource().new_ulid(),
        client_order_id=order_id,
        quantity="" if quantity is None else positive("--quantity", quantity),
        price="" if limit is None else positive("--limit", limit),
    )
    session = usable_session(settings, account)
    refusal = ask_engine(settings, lambda client: client.amend_order(*signed_ticket(session, ticket)))
    if refusal is not None:
        raise refused(refusal)
    answer = {"client_order_id": order_id, "requested": True}
    typer.echo(json.dumps(answer) if as_json else f"The amendment of {order_id} is on its way.")


def order_ticket(settings: Settings, side: str, quantity: str, symbol: str, options: OrderOptions) -> OrderTicket:
    """The ticket that the options describe. Raises CommandError."""
    from core.runtime.tickets import OrderTicket

    if side.upper() not in set(Side):
        raise usage(f"{side[:32]}: say buy or sell.")
    time_in_force = options.time_in_force.upper()
    if time_in_force not in set(TimeInForce):
        raise usage(f"--time-in-force {options.time_in_force[:32]}: use {', '.join(TimeInForce)}.")
    if options.expires is not None:
        if time_in_force not in {TimeInForce.GTC, TimeInForce.GTD}:
            raise usage("--expires goes with an order that rests, not with IOC or FOK.")
        time_in_force = TimeInForce.GTD
    elif time_in_force == TimeInForce.GTD:
        raise usage("--time-in-force GTD needs --expires, such as --expires 2h.")
    triggers = [value for value in (options.stop, options.profit, options.trail_bps) if value is not None]
    if len(triggers) > 1:
        raise usage("An order has one trigger: --stop, --profit or --trail-bps.")
    if options.trail_bps is not None and options.limit is not None:
        raise usage("A trailing stop becomes a market order; it has no --limit.")
    now_ns = SystemClock().now_ns()
    return OrderTicket(
        request_id=options.request_id or SystemIdSource().new_ulid(),
        account_id=options.account,
        venue=settings.venue.kind,
        symbol=symbol.upper(),
        side=side.upper(),
        order_type=_order_type(options),
        time_in_force=time_in_force,
        quantity=positive("QUANTITY", quantity),
        price="" if options.limit is None else positive("--limit", options.limit),
        post_only=options.post_only,
        reduce_only=options.reduce_only,
        stop_price=_stop_price(options),
        trailing_offset_bps="" if options.trail_bps is None else str(options.trail_bps),
        activation_price="" if options.activation is None else positive("--activation", options.activation),
        expires_ns="" if options.expires is None else str(moment_ns("--expires", options.expires, now_ns)),
    )


def _order_type(options: OrderOptions) -> OrderType:
    has_limit = options.limit is not None
    if options.trail_bps is not None:
        return OrderType.TRAILING_STOP
    if options.stop is not None:
        return OrderType.STOP_LIMIT if has_limit else OrderType.STOP
    if options.profit is not None:
        return OrderType.TAKE_PROFIT_LIMIT if has_limit else OrderType.TAKE_PROFIT
    return OrderType.LIMIT if has_limit else OrderType.MARKET


def _stop_price(options: OrderOptions) -> str:
    if options.stop is not None:
        return positive("--stop", options.stop)
    return "" if options.profit is None else positive("--profit", options.profit)


def signed_ticket(session: StoredSession, ticket: Ticket) -> tuple[bytes, Any]:
    """The canonical bytes, good for TICKET_VALID_S, and the session's signature of them."""
    from core.runtime.client import SignedRequest
    from core.runtime.tickets import ticket_bytes, ticket_message

    until_ns = SystemClock().now_ns() + TICKET_VALID_S * NS_PER_S
    signed = ticket_bytes(msgspec.structs.replace(ticket, valid_until_ns=str(until_ns)))
    signature = sign_bytes(session.seed_hex, ticket_message(signed))
    return signed, SignedRequest(signature, session_id=session.session_id)


async def _followed(client: EngineClient, order_id: str, ticket: OrderTicket, wait_s: float) -> OrderView | None:
    """Until it rests or is over, but no longer than wait_s."""
    rests = ticket.order_type != OrderType.MARKET and ticket.time_in_force in {TimeInForce.GTC, TimeInForce.GTD}
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            order = await client.order(order_id)
        except RefusalError:
            return None
        if order.status.is_final or (rests and order.status not in ON_ITS_WAY) or time.monotonic() >= deadline_s:
            return order
        await asyncio.sleep(FOLLOW_INTERVAL_S)


def _tell(outcome: ExecutionOutcomeView, order: OrderView | None, ticket: OrderTicket, as_json: bool) -> None:
    if as_json:
        answer = {
            "client_order_id": outcome.client_order_id,
            "request_id": ticket.request_id,
            "journal_sequence": outcome.journal_sequence,
            "order": None if order is None else msgspec.to_builtins(order),
        }
        typer.echo(json.dumps(answer))
    elif order is None:
        typer.echo(
            f"Order {outcome.client_order_id} is taken; `veloz orders show {outcome.client_order_id}` follows it."
        )
    else:
        at = "" if order.average_fill_price is None else f" at {decimal_text(order.average_fill_price)} on average"
        filled = f", {decimal_text(order.filled_quantity)} filled{at}" if order.filled_quantity else ""
        typer.secho(
            f"Order {order.client_order_id} is {order.status}{filled}.",
            fg="red" if order.status is OrderStatus.REJECTED else "green",
        )
        if order.refusal is not None:
            typer.echo(printable(f"{order.refusal.code}: {order.refusal.message}"))
    if not as_json:
        for check in (item for item in outcome.checks if item.is_warning):
            typer.secho(printable(f"! {check.source}: {check.actual}"), fg="yellow")
    if order is not None and order.status is OrderStatus.REJECTED:
        raise typer.Exit(EXIT_REFUSED)


def ticket_words(ticket: OrderTicket) -> str:
    """A ticket on one line, as it is asked about."""
    parts = [ticket.side, ticket.quantity, ticket.symbol, ticket.order_type, ticket.time_in_force]
    for name, value in (
        ("limit", ticket.price),
        ("trigger", ticket.stop_price),
        ("trailing bps", ticket.trailing_offset_bps),
        ("from", ticket.activation_price),
    ):
        if value:
            parts.append(f"{name} {value}")
    parts += ["post-only"] if ticket.post_only else []
    parts += ["reduce-only"] if ticket.reduce_only else []
    return printable(" ".join(parts))
