"""`veloz orders bracket | oco`: a ticket of orders that depend on each other, and what became of them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import typer

from api.cli.amounts import usage
from api.cli.engine import ask_engine, local_settings, refused
from api.cli.placing import (
    FOLLOW_INTERVAL_S,
    ON_ITS_WAY,
    OrderOptions,
    order_ticket,
    signed_ticket,
    ticket_words,
    with_request_id,
)
from api.cli.safety import print_table
from api.cli.sessions import usable_session
from core.config import Settings
from core.types.ids import SystemIdSource, new_trace
from core.types.money import decimal_text
from core.types.orders import GroupKind, OrderRole, Side
from core.types.views import ExecutionOutcomeView, OrderView

if TYPE_CHECKING:
    from core.runtime.client import EngineClient
    from core.runtime.tickets import GroupTicket

ORDERS_ASKED_FOR = 100


class ExitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The exits as they are typed: take_profit is a limit price, stop a trigger, stop_limit what it then becomes."""

    take_profit: str | None = None
    stop: str | None = None
    stop_limit: str | None = None
    trail_bps: int | None = None


def place(
    kind: GroupKind,
    side: str,
    quantity: str,
    symbol: str,
    entry: OrderOptions,
    exits: ExitOptions,
    *,
    assume_yes: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """side is the entry's of a bracket and the legs' of an OCO."""
    settings = local_settings()
    ticket = group_ticket(settings, kind, side, quantity, symbol, entry, exits)
    session = usable_session(settings, entry.account)
    if not assume_yes and not as_json and sys.stdin.isatty():
        for order in ticket.orders:
            typer.echo(f"  {order.request_id:<12} {ticket_words(order)}")
        typer.confirm(f"This {kind} in {entry.account}, as {session.user_id}?", abort=True)

    trace = new_trace(SystemIdSource())

    async def sent(client: EngineClient) -> tuple[ExecutionOutcomeView, list[OrderView]]:
        outcome = await client.submit_group(*signed_ticket(session, ticket), trace)
        if outcome.refusal is not None or outcome.client_order_id is None:
            return outcome, []
        return outcome, await _followed(client, outcome.client_order_id, entry.account, wait_s)

    with with_request_id(ticket.request_id):
        outcome, orders = ask_engine(settings, sent)
    if outcome.refusal is not None:
        raise refused(outcome.refusal)
    _tell(outcome, orders, ticket, as_json)


def group_ticket(
    settings: Settings,
    kind: GroupKind,
    side: str,
    quantity: str,
    symbol: str,
    entry: OrderOptions,
    exits: ExitOptions,
) -> GroupTicket:
    """The ticket that the options describe. Raises CommandError."""
    from core.runtime.tickets import GroupTicket

    if side.upper() not in set(Side):
        raise usage(f"{side[:32]}: say buy or sell.")
    if exits.stop is not None and exits.trail_bps is not None:
        raise usage("The stop is fixed (--stop) or follows the price (--trail-bps), not both.")
    if exits.stop_limit is not None and exits.stop is None:
        raise usage("--stop-limit is the limit price of a stop; give --stop too.")
    has_stop = exits.stop is not None or exits.trail_bps is not None
    if kind is GroupKind.OCO and not (exits.take_profit and has_stop):
        raise usage("An OCO has a --take-profit and a --stop (or --trail-bps).")
    if not exits.take_profit and not has_stop:
        raise usage("A bracket has a --take-profit, a --stop (or --trail-bps), or both.")
    legs: dict[OrderRole, tuple[str, OrderOptions]] = {}
    exit_side = side
    if kind is GroupKind.BRACKET:
        legs[OrderRole.ENTRY] = (side, entry)
        exit_side = Side.SELL if side.upper() == Side.BUY else Side.BUY
    if exits.take_profit is not None:
        legs[OrderRole.TAKE_PROFIT] = (exit_side, OrderOptions(account=entry.account, limit=exits.take_profit))
    if has_stop:
        stop = OrderOptions(account=entry.account, stop=exits.stop, limit=exits.stop_limit, trail_bps=exits.trail_bps)
        legs[OrderRole.STOP] = (exit_side, stop)
    orders = tuple(
        order_ticket(settings, leg_side, quantity, symbol, msgspec.structs.replace(options, request_id=role.value))
        for role, (leg_side, options) in legs.items()
    )
    return GroupTicket(request_id=entry.request_id or SystemIdSource().new_ulid(), kind=kind.value, orders=orders)


async def _followed(client: EngineClient, first_id: str, account: str, wait_s: float) -> list[OrderView]:
    """Every order of the group, until the first rests or is over, but no longer than wait_s."""
    deadline_s = time.monotonic() + wait_s
    while True:
        first = await client.order(first_id)
        if first.status not in ON_ITS_WAY or time.monotonic() >= deadline_s:
            recent = await client.orders(account, first.symbol, include_final=True, limit=ORDERS_ASKED_FOR)
            roles = list(OrderRole)
            group = [order for order in recent if order.group_id == first.group_id and order.role is not None]
            return sorted(group, key=lambda order: roles.index(OrderRole(order.role or OrderRole.ENTRY)))
        await asyncio.sleep(FOLLOW_INTERVAL_S)


def _tell(outcome: ExecutionOutcomeView, orders: list[OrderView], ticket: GroupTicket, as_json: bool) -> None:
    if as_json:
        answer = {
            "client_order_id": outcome.client_order_id,
            "group_id": orders[0].group_id if orders else None,
            "request_id": ticket.request_id,
            "journal_sequence": outcome.journal_sequence,
            "orders": [msgspec.to_builtins(order) for order in orders],
        }
        typer.echo(json.dumps(answer))
        return
    rows: list[tuple[str, ...]] = [("role", "order", "status", "side", "type", "quantity", "filled")]
    rows += [
        (
            order.role or "",
            order.client_order_id,
            order.status.value,
            order.side.value,
            order.order_type.value,
            decimal_text(order.quantity),
            decimal_text(order.filled_quantity),
        )
        for order in orders
    ]
    print_table(rows)
