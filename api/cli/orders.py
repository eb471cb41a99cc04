"""`veloz orders list | show | cancel | cancel-all`: straight to the engine."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import typer

from api.cli.engine import ask_engine, local_settings, refused, whoami
from api.cli.safety import print_table
from api.cli.text import printable
from core.types.clock import format_utc_us
from core.types.money import decimal_text
from core.types.views import OrderView


def list_orders(account: str, symbol: str | None, include_final: bool, limit: int, as_json: bool) -> None:
    orders = ask_engine(
        local_settings(),
        lambda client: client.orders(account, symbol, include_final=include_final, limit=limit),
    )
    if as_json:
        typer.echo(json.dumps([_plain(order) for order in orders]))
    elif not orders:
        typer.echo(f"{account} has no {'' if include_final else 'open '}orders.")
    else:
        rows: list[tuple[str, ...]] = [
            ("order", "status", "symbol", "side", "type", "quantity", "filled", "price", "by")
        ]
        rows += [
            (
                order.client_order_id,
                order.status.value,
                order.symbol,
                order.side.value,
                order.order_type.value,
                decimal_text(order.quantity),
                decimal_text(order.filled_quantity),
                _price(order),
                order.authority,
            )
            for order in orders
        ]
        print_table(rows)


def show(client_order_id: str, as_json: bool) -> None:
    plain = _plain(ask_engine(local_settings(), lambda client: client.order(client_order_id)))
    if as_json:
        typer.echo(json.dumps(plain))
        return
    for name, value in plain.items():
        if value not in (None, "", False):
            shown = format_utc_us(value) if name.endswith("_ns") else value
            typer.echo(f"  {name:<20} {printable(str(shown))}")


def cancel(client_order_id: str, as_json: bool) -> None:
    refusal = ask_engine(local_settings(), lambda client: client.cancel_order(client_order_id, whoami()))
    if refusal is not None:
        raise refused(refusal)
    answer = {"client_order_id": client_order_id, "requested": True}
    typer.echo(json.dumps(answer) if as_json else f"The cancel of {client_order_id} is on its way.")


def cancel_all(account: str, symbol: str | None, as_json: bool) -> None:
    requested = ask_engine(local_settings(), lambda client: client.cancel_all(account, symbol, whoami()))
    answer = {"account": account, "symbol": symbol, "requested": requested}
    typer.echo(json.dumps(answer) if as_json else f"{requested} cancels are on their way.")


def _price(order: OrderView) -> str:
    trigger = "" if order.stop_price is None else f"at {decimal_text(order.stop_price)} "
    if order.trailing_offset_bps is not None:
        trigger = f"trails {order.trailing_offset_bps} bps "
    return trigger + ("market" if order.price is None else decimal_text(order.price))


def _plain(order: OrderView) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(order)
    return plain
