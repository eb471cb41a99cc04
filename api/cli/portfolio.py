"""`veloz positions | exposure | what-if | risk state`: what an account holds, and what would become of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import typer

from api.cli.amounts import positive, usage
from api.cli.engine import ask_engine, local_settings
from api.cli.safety import print_table
from api.cli.text import printable
from core.types.money import decimal_text
from core.types.orders import Side
from core.types.views import ExposureView, PositionView, RiskCheckView, WhatIfView

UNKNOWN = "?"
NEAR_PERCENT = Decimal(80)
"""A check that used this much of its limit is shown in yellow."""


def positions(account: str, symbol: str | None, include_flat: bool, by_strategy: bool, as_json: bool) -> None:
    views = [
        view
        for view in ask_engine(local_settings(), lambda client: client.positions(account))
        if (include_flat or view.quantity) and symbol in {None, view.symbol}
    ]
    if as_json:
        typer.echo(json.dumps([msgspec.to_builtins(view) for view in views]))
    elif not views:
        typer.echo(f"{account} has no {'' if include_flat else 'open '}positions.")
    elif by_strategy:
        print_table(_strategy_rows(views))
    else:
        print_table(_position_rows(views))


def exposure(account: str, as_json: bool) -> None:
    view = ask_engine(local_settings(), lambda client: client.exposure(account))
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(view)))
        return
    typer.secho(printable(f"{account}, in {view.reporting_asset}"), bold=True)
    for name, value in _totals(view):
        typer.echo(f"  {name:<18} {_text(value):>20}")
    if view.unknown:
        typer.secho(printable(f"  without a price or a rate: {', '.join(view.unknown)}"), fg="yellow")
    if view.balances:
        rows: list[tuple[str, ...]] = [("asset", "balance", "worth")]
        print_table(rows + [(item.asset, decimal_text(item.quantity), _text(item.value)) for item in view.balances])
    if view.lines:
        heading: list[tuple[str, ...]] = [
            ("symbol", "position", "mark", "notional", "buys", "sells", "worst", "unrealised")
        ]
        print_table(
            heading
            + [
                (
                    line.symbol,
                    decimal_text(line.quantity),
                    _text(line.mark_price),
                    _text(line.notional),
                    decimal_text(line.open_buy_quantity),
                    decimal_text(line.open_sell_quantity),
                    f"{decimal_text(line.worst_short_quantity)} to {decimal_text(line.worst_long_quantity)}",
                    _text(line.unrealised_pnl),
                )
                for line in view.lines
            ]
        )


def what_if(
    account: str,
    symbol: str,
    buy: str | None,
    sell: str | None,
    limit: str | None,
    move_bps: int | None,
    as_json: bool,
) -> None:
    """An order, a move of the price, or both."""
    if buy is not None and sell is not None:
        raise usage("Give --buy or --sell, not both.")
    if buy is None and sell is None and move_bps is None:
        raise usage("Give an order (--buy or --sell), a move of the price (--move-bps), or both.")
    if limit is not None and buy is None and sell is None:
        raise usage("--limit goes with --buy or --sell.")
    side = Side.BUY if buy is not None else Side.SELL if sell is not None else None
    quantity = positive("--buy", buy) if buy is not None else positive("--sell", sell) if sell is not None else None
    price = None if limit is None else Decimal(positive("--limit", limit))
    view = ask_engine(
        local_settings(),
        lambda client: client.what_if(
            account,
            symbol.upper(),
            side=side,
            quantity=None if quantity is None else Decimal(quantity),
            price=price,
            price_move_bps=move_bps,
        ),
    )
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(view)))
        return
    rows: list[tuple[str, ...]] = [("", "now", "then", f"in {view.before.reporting_asset}")]
    for (name, before), (_, after) in zip(_totals(view.before), _totals(view.after), strict=True):
        change = None if before is None or after is None else after - before
        rows.append((name, _text(before), _text(after), "" if change is None else f"{change:+f}"))
    rows += _liquidations(view)
    print_table(rows)
    if side is not None:
        show_checks(view.checks)
        if view.refusal is None:
            typer.secho("Risk would let the order through.", fg="green")
        else:
            typer.secho(printable(f"Risk would refuse it: {view.refusal.code}: {view.refusal.message}"), fg="red")


def risk_state(account: str, as_json: bool) -> None:
    """Kill switch, freeze, dead man's timer and limits of an account."""
    view = ask_engine(local_settings(), lambda client: client.risk_state(account))
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(view)))
        return
    colour = "green" if view.kill_switch == "NORMAL" else "red"
    typer.secho(
        f"{account} is {view.kill_switch} (engine {view.engine_kill_switch}, account {view.account_kill_switch})",
        fg=colour,
        bold=True,
    )
    if view.frozen_reason is not None:
        typer.secho(printable(f"frozen: {view.frozen_reason}"), fg="red")
    if not view.venue_connected:
        typer.secho("the venue isn't connected", fg="red")
    if view.dead_mans_timer_s is None:
        typer.echo("dead man's timer: off")
    else:
        typer.echo(f"dead man's timer: {view.dead_mans_timer_left_s} of {view.dead_mans_timer_s} s left")
    rows: list[tuple[str, ...]] = [(f"limit (rules version {view.rules_version})", "value", "unit", "from")]
    rows += [(item.name, item.limit or "", item.unit or "", item.source or "") for item in view.limits]
    print_table(rows)


def show_checks(checks: tuple[RiskCheckView, ...]) -> None:
    """Each check with how much of its limit was used."""
    name_width = max((len(item.name) for item in checks), default=0)
    for item in checks:
        used = "" if item.used_percent is None else f"{item.used_percent.quantize(Decimal('0.1'))} %"
        limit = f"{item.actual or '-'} of {item.limit or '-'} {item.unit or ''}".strip()
        near = item.is_warning or (item.used_percent is not None and item.used_percent >= NEAR_PERCENT)
        mark = "✗" if not item.passed else "!" if item.is_warning else "✓"
        colour = "red" if not item.passed else "yellow" if near else None
        line = f"{mark} {item.name:<{name_width}}  {limit:<36} {used:>8}  {item.source or ''}"
        typer.secho(printable(line.rstrip()), fg=colour)


def _position_rows(views: list[PositionView]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            "symbol",
            "quantity",
            "average",
            "mark",
            "unrealised",
            "realised",
            "fees",
            "funding",
            "leverage",
            "liquidation",
        )
    ]
    rows += [
        (
            view.symbol,
            decimal_text(view.quantity),
            decimal_text(view.average_price),
            _text(view.mark_price),
            _text(view.unrealised_pnl_quote),
            decimal_text(view.realised_pnl_quote),
            _amounts(view.fees_by_asset),
            _amounts(view.funding_by_asset),
            "" if view.leverage is None else f"{view.leverage}x",
            "" if view.liquidation_price is None else decimal_text(view.liquidation_price),
        )
        for view in views
    ]
    return rows


def _strategy_rows(views: list[PositionView]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("symbol", "strategy", "quantity", "average", "unrealised", "realised", "fees")]
    rows += [
        (
            view.symbol,
            part.strategy_id or "(people)",
            decimal_text(part.quantity),
            decimal_text(part.average_price),
            _text(part.unrealised_pnl_quote),
            decimal_text(part.realised_pnl_quote),
            decimal_text(part.fees_quote),
        )
        for view in views
        for part in view.strategies
    ]
    return rows


def _totals(view: ExposureView) -> list[tuple[str, Decimal | None]]:
    totals = [
        ("equity", view.equity),
        ("gross exposure", view.gross),
        ("net exposure", view.net),
        ("leverage", view.leverage),
        ("unrealised PnL", view.unrealised_pnl),
        ("realised PnL", view.realised_pnl),
        ("fees", view.fees),
        ("funding", view.funding),
    ]
    if view.margin_used is not None or view.margin_available is not None:
        totals += [
            ("initial margin", view.margin_used),
            ("maintenance", view.margin_maintenance),
            ("free margin", view.margin_available),
        ]
    return totals


def _liquidations(view: WhatIfView) -> list[tuple[str, ...]]:
    """Of derivatives: at which mark each would be liquidated, now and then."""
    before = {line.symbol: line.liquidation_price for line in view.before.lines}
    after = {line.symbol: line.liquidation_price for line in view.after.lines}
    return [
        (f"{symbol} liquidation", _price(before.get(symbol)), _price(after.get(symbol)), "")
        for symbol in sorted({**before, **after})
        if before.get(symbol) is not None or after.get(symbol) is not None
    ]


def _price(value: Decimal | None) -> str:
    return "-" if value is None else decimal_text(value)


def _text(value: Decimal | None) -> str:
    return UNKNOWN if value is None else decimal_text(value)


def _amounts(amounts: Mapping[str, Any]) -> str:
    return " ".join(f"{decimal_text(amount)} {asset}" for asset, amount in amounts.items())
