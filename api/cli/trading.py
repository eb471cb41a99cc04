"""`veloz kill | reconcile | rebuild | risk ... | orders ...`: definitions. What they do is in the neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.desk import register as register_desk
from api.cli.options import Account, Json, Key, KeyId, OptionalInt, OptionalText, Symbol
from api.cli.session import reporting_errors
from core.types.orders import GroupKind

risk_app = typer.Typer(help="The engine's risk rules: show, check, reload, roll back, explain.", no_args_is_help=True)
orders_app = typer.Typer(help="Orders, straight from the engine.", no_args_is_help=True)

StopLimit = Annotated[OptionalText, typer.Option(help="With --stop: a stop-limit with this limit price.")]
RequestId = Annotated[OptionalText, typer.Option(help="Asking again with the same one finds the first orders.")]


def kill(
    account: Annotated[str, typer.Option("--account", metavar="ID", help="Only this account; empty is all.")] = "",
    state: Annotated[str, typer.Option("--state", help="HALTED, CANCEL_ONLY or REDUCE_ONLY.")] = "HALTED",
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the journal.")] = "veloz kill",
    venue: Annotated[
        bool,
        typer.Option("--venue", help="When the engine doesn't answer: halt it and cancel at the venue without it."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop trading, now. Needs the engine only, and with --venue not even that.

    Exit 0 done, 1 refused, 2 wrong usage, 3 the engine doesn't answer and nothing was changed.
    """
    from api.cli import safety as commands

    with reporting_errors(as_json):
        commands.kill(state.upper(), account, reason, venue, as_json)


def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the differences; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the engine's orders, fills and balances with the venue's, and apply what follows.

    Exit 0 they agree or the differences were applied, 1 a dry run found differences, 3 the engine doesn't answer.
    """
    from api.cli import safety as commands

    with reporting_errors(as_json):
        commands.reconcile(dry_run, as_json)


def rebuild(
    check: Annotated[bool, typer.Option("--check", help="Only compare; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make the SQL projections again from the engine's journal, in one transaction, and compare.

    Audit records, suggestions and reviews aren't touched; the ledger waits meanwhile. Exit 0 every row was what the
    journal gives, 1 some weren't (without --check they are now) or it can't run, 3 engine or database don't answer.
    """
    from api.cli import rebuilding as commands

    with reporting_errors(as_json):
        commands.rebuild(check, as_json)


@risk_app.command("show", epilog="Example: veloz risk show > risk.toml")
def risk_show(as_json: Json = False) -> None:
    """The rules in force."""
    from api.cli import risk as commands

    with reporting_errors(as_json):
        commands.show(as_json)


@risk_app.command("state", epilog="Examples: veloz risk state · veloz risk state --account acct-demo --json")
def risk_state(account: Account = "acct-demo", as_json: Json = False) -> None:
    """The kill switch, the dead man's timer and the limits of an account."""
    from api.cli import portfolio as commands

    with reporting_errors(as_json):
        commands.risk_state(account, as_json)


@risk_app.command("history", epilog="Example: veloz risk history --json")
def risk_history(as_json: Json = False) -> None:
    """The versions that the engine can go back to."""
    from api.cli import risk as commands

    with reporting_errors(as_json):
        commands.history(as_json)


@risk_app.command("check", epilog="Example: veloz risk check risk.toml && veloz risk reload risk.toml")
def risk_check(file: Path, as_json: Json = False) -> None:
    """Whether a rules file is valid, without an engine. Exit 1 with the line and the cure when it isn't."""
    from api.cli import risk as commands

    with reporting_errors(as_json):
        commands.check(file, as_json)


@risk_app.command("reload", epilog="Examples: veloz risk reload risk.toml · veloz risk reload risk.toml --key ada.key")
def risk_reload(file: Path, key: Key = None, key_id: KeyId = None, as_json: Json = False) -> None:
    """Put a file's rules in force between two events, signed by an administrator."""
    from api.cli import risk as commands

    with reporting_errors(as_json):
        commands.reload(file, key, key_id, as_json)


@risk_app.command("rollback", epilog="Examples: veloz risk rollback · veloz risk rollback --to 3")
def risk_rollback(
    to: Annotated[OptionalInt, typer.Option("--to", metavar="N", help="By default the newest that differ.")] = None,
    key: Key = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Put an earlier version's rules in force again, signed by an administrator."""
    from api.cli import risk as commands

    with reporting_errors(as_json):
        commands.rollback(to, key, key_id, as_json)


@risk_app.command("explain", epilog="Examples: veloz risk explain vz0123... · veloz risk explain 1234")
def risk_explain(client_order_id: Annotated[str, typer.Argument(metavar="ORDER_ID")], as_json: Json = False) -> None:
    """Which rules an order met, and how near each limit was. One that was refused goes by the number that the refusal
    told, or by its request's or suggestion's id."""
    from api.cli import risk as commands

    with reporting_errors(as_json):
        commands.explain(client_order_id, as_json)


@orders_app.command("list", epilog="Examples: veloz orders list · veloz orders list --all --symbol BTCUSDT --json")
def orders_list(
    account: Account = "acct-demo",
    symbol: Symbol = None,
    include_final: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="The newest so many.")] = 100,
    as_json: Json = False,
) -> None:
    """Open orders, newest first."""
    from api.cli import orders as commands

    with reporting_errors(as_json):
        commands.list_orders(account, symbol, include_final, limit, as_json)


@orders_app.command("show", epilog="Example: veloz orders show vz0123... --json")
def orders_show(client_order_id: Annotated[str, typer.Argument(metavar="ORDER_ID")], as_json: Json = False) -> None:
    """One order with all its terms and its authority."""
    from api.cli import orders as commands

    with reporting_errors(as_json):
        commands.show(client_order_id, as_json)


@orders_app.command(
    "place",
    epilog="Examples: veloz orders place buy 0.01 BTCUSDT --limit 60000 · veloz orders place sell 0.01 BTCUSDT · "
    "veloz orders place sell 0.01 BTCUSDT --stop 58000 · veloz orders place sell 0.5 ETHUSDT --trail-bps 50 · "
    "veloz orders place buy 1 SOLUSDT --limit 140 --expires 2h --post-only",
)
def orders_place(
    side: Annotated[str, typer.Argument(help="buy or sell.")],
    quantity: Annotated[str, typer.Argument(help="How much, in the base asset.")],
    symbol: Annotated[str, typer.Argument(help="The market, such as BTCUSDT.")],
    limit: Annotated[OptionalText, typer.Option(help="Limit price; without one it is a market order.")] = None,
    stop: Annotated[OptionalText, typer.Option(help="Trigger price of a stop, or with --limit a stop-limit.")] = None,
    profit: Annotated[
        OptionalText, typer.Option(help="Trigger price of a take-profit, or with --limit its limit form.")
    ] = None,
    trail_bps: Annotated[OptionalInt, typer.Option(help="A stop that follows the price at this distance.")] = None,
    activation: Annotated[OptionalText, typer.Option(help="From which price on a trailing stop follows.")] = None,
    time_in_force: Annotated[str, typer.Option(help="GTC, IOC, FOK or GTD.")] = "GTC",
    expires: Annotated[OptionalText, typer.Option(help="GTD: 2h, or a moment as 2026-01-31T12:00:00Z.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Only rest; never take.")] = False,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="Only make the position smaller.")] = False,
    account: Account = "acct-demo",
    request_id: Annotated[
        OptionalText, typer.Option(help="Asking again with the same one finds the first order.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    wait: Annotated[float, typer.Option(min=0, max=600, help="Follow the order for this many seconds.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Place an order under your session. `veloz session open` signs one in.

    Exit 0 taken, 1 refused or rejected, 2 wrong usage, 3 no answer: ask again with the same --request-id.
    """
    from api.cli import placing as commands

    options = commands.OrderOptions(
        account=account,
        limit=limit,
        stop=stop,
        profit=profit,
        trail_bps=trail_bps,
        activation=activation,
        time_in_force=time_in_force,
        expires=expires,
        post_only=post_only,
        reduce_only=reduce_only,
        request_id=request_id,
    )
    with reporting_errors(as_json):
        commands.place(side, quantity, symbol, options, assume_yes=yes, wait_s=wait, as_json=as_json)


@orders_app.command(
    "amend",
    epilog="Examples: veloz orders amend vz0123... --limit 59500 · veloz orders amend vz0123... --quantity 0.02",
)
def orders_amend(
    client_order_id: Annotated[str, typer.Argument(metavar="ORDER_ID")],
    quantity: Annotated[OptionalText, typer.Option(help="The new total quantity.")] = None,
    limit: Annotated[OptionalText, typer.Option(help="The new limit price.")] = None,
    account: Account = "acct-demo",
    as_json: Json = False,
) -> None:
    """Change a resting order's total quantity or limit price, under your session."""
    from api.cli import placing as commands

    with reporting_errors(as_json):
        commands.amend(client_order_id, quantity, limit, account, as_json)


@orders_app.command(
    "bracket",
    epilog="Examples: veloz orders bracket buy 0.01 BTCUSDT --limit 60000 --take-profit 62000 --stop 59000 · "
    "veloz orders bracket buy 0.01 BTCUSDT --stop 58000 --stop-limit 57900 · "
    "veloz orders bracket sell 0.5 ETHUSDT --limit 3100 --trail-bps 80",
)
def orders_bracket(
    side: Annotated[str, typer.Argument(help="buy or sell: the entry's side.")],
    quantity: Annotated[str, typer.Argument(help="How much, in the base asset.")],
    symbol: Annotated[str, typer.Argument(help="The market, such as BTCUSDT.")],
    limit: Annotated[
        OptionalText, typer.Option(help="The entry's limit price; without one it is a market order.")
    ] = None,
    take_profit: Annotated[OptionalText, typer.Option(help="Limit price of the exit that takes the profit.")] = None,
    stop: Annotated[OptionalText, typer.Option(help="Trigger price of the exit that stops the loss.")] = None,
    stop_limit: StopLimit = None,
    trail_bps: Annotated[OptionalInt, typer.Option(help="A stop that follows the price at this distance.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="The entry only rests; it never takes.")] = False,
    account: Account = "acct-demo",
    request_id: RequestId = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    wait: Annotated[float, typer.Option(min=0, max=600, help="Follow the entry for this many seconds.")] = 5.0,
    as_json: Json = False,
) -> None:
    """An entry with its exits, which wait here for what it fills; one exit takes the other's place.

    Exit 0 taken, 1 refused, 2 wrong usage, 3 no answer: ask again with the same --request-id.
    """
    from api.cli import grouping as commands
    from api.cli import placing

    entry = placing.OrderOptions(account=account, limit=limit, post_only=post_only, request_id=request_id)
    exits = commands.ExitOptions(take_profit=take_profit, stop=stop, stop_limit=stop_limit, trail_bps=trail_bps)
    with reporting_errors(as_json):
        commands.place(
            GroupKind.BRACKET, side, quantity, symbol, entry, exits, assume_yes=yes, wait_s=wait, as_json=as_json
        )


@orders_app.command(
    "oco", epilog="Example: veloz orders oco sell 0.01 BTCUSDT --take-profit 62000 --stop 59000 --stop-limit 58900"
)
def orders_oco(
    side: Annotated[str, typer.Argument(help="buy or sell: the side of both.")],
    quantity: Annotated[str, typer.Argument(help="How much, in the base asset.")],
    symbol: Annotated[str, typer.Argument(help="The market, such as BTCUSDT.")],
    take_profit: Annotated[OptionalText, typer.Option(help="Limit price of the order that rests at the venue.")] = None,
    stop: Annotated[OptionalText, typer.Option(help="Trigger price of the one that takes its place.")] = None,
    stop_limit: StopLimit = None,
    trail_bps: Annotated[OptionalInt, typer.Option(help="A stop that follows the price at this distance.")] = None,
    account: Account = "acct-demo",
    request_id: RequestId = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    wait: Annotated[float, typer.Option(min=0, max=600, help="Follow it for this many seconds.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Two orders of which one takes the other's place: never more than the quantity is filled by both together.

    Exit 0 taken, 1 refused, 2 wrong usage, 3 no answer: ask again with the same --request-id.
    """
    from api.cli import grouping as commands
    from api.cli import placing

    entry = placing.OrderOptions(account=account, request_id=request_id)
    exits = commands.ExitOptions(take_profit=take_profit, stop=stop, stop_limit=stop_limit, trail_bps=trail_bps)
    with reporting_errors(as_json):
        commands.place(
            GroupKind.OCO, side, quantity, symbol, entry, exits, assume_yes=yes, wait_s=wait, as_json=as_json
        )


@orders_app.command("cancel", epilog="Example: veloz orders cancel vz0123...")
def orders_cancel(client_order_id: Annotated[str, typer.Argument(metavar="ORDER_ID")], as_json: Json = False) -> None:
    """Cancel one order. A safety command: it needs no approval."""
    from api.cli import orders as commands

    with reporting_errors(as_json):
        commands.cancel(client_order_id, as_json)


@orders_app.command("cancel-all", epilog="Example: veloz orders cancel-all --symbol BTCUSDT")
def orders_cancel_all(account: Account = "acct-demo", symbol: Symbol = None, as_json: Json = False) -> None:
    """Cancel every open order of an account, or of one of its symbols."""
    from api.cli import orders as commands

    with reporting_errors(as_json):
        commands.cancel_all(account, symbol, as_json)


def register(app: typer.Typer) -> None:
    examples = 'Examples: veloz kill · veloz kill --account acct-demo --reason "fat finger" · veloz kill --venue'
    app.command(epilog=examples)(kill)
    app.command(epilog="Examples: veloz reconcile --dry-run · veloz reconcile --json")(reconcile)
    app.command(epilog="Examples: veloz rebuild · veloz rebuild --check --json")(rebuild)
    register_desk(app)
    app.add_typer(risk_app, name="risk")
    app.add_typer(orders_app, name="orders")
