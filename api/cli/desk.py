"""`veloz session | positions | exposure | what-if | mandates | roster | thaw | unfreeze | heartbeat`: definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import Account, Json, Key, KeyId, OptionalInt, OptionalPath, OptionalText, Symbol
from api.cli.session import reporting_errors

session_app = typer.Typer(help="Your trading session: a short-lived key with limits.", no_args_is_help=True)
mandates_app = typer.Typer(help="What strategies may do by themselves.", no_args_is_help=True)
roster_app = typer.Typer(help="Who may approve, administer and open sessions.", no_args_is_help=True)

OwnKey = Annotated[
    OptionalPath,
    typer.Option("--key", metavar="FILE", help="Your enrolled Ed25519 seed in hex; in the demo the trader's."),
]
AnyAccount = Annotated[OptionalText, typer.Option("--account", metavar="ID", help="Only of this account.")]
All = Annotated[bool, typer.Option("--all", help="Also those that are over.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the journal.")]


@session_app.command(
    "open", epilog="Examples: veloz session open · veloz session open --for 2h --max-order 5000 --key ada.key"
)
def session_open(
    account: Account = "acct-demo",
    lasts: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long: 30m, 8h; 12h at most.")] = "8h",
    max_order: Annotated[str, typer.Option(help="The most that one order may be worth, in quote.")] = "50000",
    max_total: Annotated[str, typer.Option(help="The most that all its orders may be worth.")] = "500000",
    max_orders: Annotated[int, typer.Option(help="How many orders.")] = 500,
    key: OwnKey = None,
    as_json: Json = False,
) -> None:
    """Sign a session in with your enrolled key; `veloz orders place` then works until it ends."""
    from api.cli import sessions as commands

    with reporting_errors(as_json):
        commands.open_session(account, lasts, max_order, max_total, max_orders, key, as_json)


@session_app.command("list", epilog="Examples: veloz session list · veloz session list --all --json")
def session_list(account: AnyAccount = None, include_ended: All = False, as_json: Json = False) -> None:
    """Sessions that the engine knows, whoever opened them, with what is used of their limits."""
    from api.cli import sessions as commands

    with reporting_errors(as_json):
        commands.list_sessions(account, include_ended, as_json)


@session_app.command("close", epilog="Examples: veloz session close · veloz session close 01J...")
def session_close(
    session_id: Annotated[OptionalText, typer.Argument(metavar="[ID]")] = None,
    as_json: Json = False,
) -> None:
    """End a session, or those opened on this machine. Anybody may close any: it only reduces."""
    from api.cli import sessions as commands

    with reporting_errors(as_json):
        commands.close_sessions(session_id, as_json)


def positions(
    account: Account = "acct-demo",
    symbol: Symbol = None,
    include_flat: Annotated[bool, typer.Option("--all", help="Also those that are flat.")] = False,
    by_strategy: Annotated[bool, typer.Option("--by-strategy", help="Each strategy's part.")] = False,
    as_json: Json = False,
) -> None:
    """Positions with average price, PnL, fees, funding and leverage."""
    from api.cli import portfolio as commands

    with reporting_errors(as_json):
        commands.positions(account, symbol, include_flat, by_strategy, as_json)


def exposure(account: Account = "acct-demo", as_json: Json = False) -> None:
    """Equity, gross and net exposure, leverage and margin, in the reporting currency."""
    from api.cli import portfolio as commands

    with reporting_errors(as_json):
        commands.exposure(account, as_json)


def what_if(
    symbol: Annotated[str, typer.Argument(help="The market, such as BTCUSDT.")],
    buy: Annotated[OptionalText, typer.Option("--buy", metavar="QUANTITY")] = None,
    sell: Annotated[OptionalText, typer.Option("--sell", metavar="QUANTITY")] = None,
    limit: Annotated[OptionalText, typer.Option(help="The order's limit price.")] = None,
    move_bps: Annotated[OptionalInt, typer.Option(help="A move of the symbol's price; -1000 is 10 % down.")] = None,
    account: Account = "acct-demo",
    as_json: Json = False,
) -> None:
    """What an order, a move of the price, or both would make of the account; and what risk would say. Sends nothing."""
    from api.cli import portfolio as commands

    with reporting_errors(as_json):
        commands.what_if(account, symbol, buy, sell, limit, move_bps, as_json)


@mandates_app.command("list", epilog="Examples: veloz mandates list · veloz mandates list --all --json")
def mandates_list(account: AnyAccount = None, include_ended: All = False, as_json: Json = False) -> None:
    """Mandates with what is used of them."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.list_mandates(account, include_ended, as_json)


@mandates_app.command(
    "draft",
    epilog="Example: veloz mandates draft grid-1 --code grid.py --symbols BTCUSDT --max-order 1000 --max-position 5000 "
    "--max-total 100000 --max-open 10 --asker user-trader > grid-1.json",
)
def mandates_draft(
    strategy: Annotated[str, typer.Argument(metavar="STRATEGY_ID")],
    code: Annotated[Path, typer.Option(help="The strategy's code; its digest goes into the mandate.")],
    symbols: Annotated[str, typer.Option(help="Which markets, with commas.")],
    max_order: Annotated[str, typer.Option(help="The most that one order may be worth, in quote.")],
    max_position: Annotated[str, typer.Option(help="The most that its position in a market may be worth.")],
    max_total: Annotated[str, typer.Option(help="The most that all its orders may be worth.")],
    asker: Annotated[str, typer.Option(help="Your user id.")],
    max_open: Annotated[int, typer.Option(min=1, help="How many open orders.")] = 10,
    lasts: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long: 8h, 7d; 90d at most.")] = "7d",
    public_key: Annotated[
        str, typer.Option(help="The key that signs its orders, in hex, when it runs elsewhere.")
    ] = "",
    account: Account = "acct-demo",
) -> None:
    """Write a mandate for this engine as JSON, for approvers to sign."""
    from api.cli import authority as commands

    terms = commands.MandateTerms(
        strategy=strategy,
        code=code,
        account=account,
        symbols=symbols,
        max_order=max_order,
        max_position=max_position,
        max_total=max_total,
        max_open=max_open,
        lasts=lasts,
        asker=asker,
        public_key=public_key,
    )
    with reporting_errors(False):
        commands.draft_mandate(terms)


@mandates_app.command("sign", epilog="Example: veloz mandates sign grid-1.json --key ada.key")
def mandates_sign(
    file: Path,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="An approver's Ed25519 seed in hex.")],
    as_json: Json = False,
) -> None:
    """Approve a mandate on your own machine: prints KEY_ID:SIGNATURE for whoever installs it."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.sign_mandate_file(file, key, as_json)


@mandates_app.command(
    "install",
    epilog="Examples: veloz mandates install grid-1.json --key ada.key · "
    "veloz mandates install grid-1.json --signature ada:12ab... --signature bob:34cd...",
)
def mandates_install(
    file: Path,
    key: Annotated[list[Path] | None, typer.Option("--key", metavar="FILE", help="An approver's key.")] = None,
    signature: Annotated[
        list[str] | None,
        typer.Option("--signature", metavar="KEY_ID:HEX", help="As `veloz mandates sign` prints it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a signed mandate in force."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.install_mandate(file, key or [], signature or [], as_json)


@mandates_app.command("revoke", epilog="Example: veloz mandates revoke 01J...")
def mandates_revoke(mandate_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Take a mandate away. A safety command: it needs no approval."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.revoke_mandate(mandate_id, as_json)


@roster_app.command("show", epilog="Example: veloz roster show --json")
def roster_show(as_json: Json = False) -> None:
    """The keys that the engine knows, and what each may sign."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.show_roster(as_json)


@roster_app.command("install", epilog="Example: veloz roster install roster.json --key root.key")
def roster_install(
    file: Path,
    key: Annotated[
        OptionalPath,
        typer.Option("--key", metavar="FILE", help="The root key; by default secrets/root.key."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a roster in force, now and for the engine's later starts. Unsigned ones are signed with the root key."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.install_roster(file, key, as_json)


def thaw(
    reason: Reason,
    account: Annotated[
        str, typer.Option("--account", metavar="ID", help="Only this account; empty is the engine.")
    ] = "",
    state: Annotated[str, typer.Option("--state", help="NORMAL, REDUCE_ONLY or CANCEL_ONLY.")] = "NORMAL",
    key: Key = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Loosen the kill switch, signed by an administrator."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.thaw(state.upper(), account, reason, key, key_id, as_json)


def unfreeze(
    reason: Reason,
    account: Account = "acct-demo",
    key: Key = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Let an account trade again that was frozen because it differed from the venue, signed by an administrator."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.unfreeze(account, reason, key, key_id, as_json)


def heartbeat(as_json: Json = False) -> None:
    """Renew the dead man's timer: somebody is there."""
    from api.cli import authority as commands

    with reporting_errors(as_json):
        commands.heartbeat(as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(session_app, name="session")
    app.command(epilog="Examples: veloz positions · veloz positions --by-strategy --json")(positions)
    app.command(epilog="Example: veloz exposure --json")(exposure)
    what_if_examples = (
        "Examples: veloz what-if BTCUSDT --buy 0.5 · veloz what-if BTCUSDT --sell 1 --limit 61000 --move-bps -500"
    )
    app.command("what-if", epilog=what_if_examples)(what_if)
    app.add_typer(mandates_app, name="mandates")
    app.add_typer(roster_app, name="roster")
    app.command(epilog='Examples: veloz thaw --reason "looked at it" · veloz thaw --account acct-demo --reason ok')(
        thaw
    )
    app.command(epilog='Example: veloz unfreeze --account acct-demo --reason "the venue was right"')(unfreeze)
    app.command(epilog="Example: watch -n 10 veloz heartbeat")(heartbeat)
