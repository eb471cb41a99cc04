"""`veloz backtest run | show | list | stop`: definitions. What they do is in the neighbour."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.options import Json, OptionalInt, OptionalText
from api.cli.session import Session, reporting_errors

backtest_app = typer.Typer(
    help="Run a reference strategy over past bars, and look at what it would have made.", no_args_is_help=True
)
AsUser = Annotated[OptionalText, typer.Option("--as", metavar="USER", help="Log in as this user.")]
Account = Annotated[OptionalText, typer.Option("--account", metavar="ID", help="Where you have several.")]
BacktestId = Annotated[str, typer.Argument(metavar="ID")]


def register(app: typer.Typer) -> None:
    app.add_typer(backtest_app, name="backtest")


@backtest_app.command(
    "run",
    epilog="Examples: veloz backtest run sma_cross BTCUSDT --set fast=10 --set slow=50 --days 7 · "
    "veloz backtest run buy_and_hold BTCUSDT --json",
)
def backtest_run(
    strategy: Annotated[str, typer.Argument(help="sma_cross, rsi_reversion, breakout, dip_buying or buy_and_hold.")],
    symbol: Annotated[str, typer.Argument(help="Such as BTCUSDT.")],
    parameters: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="A parameter of the strategy; repeat it.")
    ] = None,
    interval: Annotated[str, typer.Option(help="1m, 5m, 15m, 1h, 4h or 1d.")] = "1m",
    days: Annotated[OptionalInt, typer.Option(help="The newest days of what there is.")] = None,
    source: Annotated[
        str, typer.Option(help="engine (its own bars), recorded (trades in the catalog), or auto.")
    ] = "auto",
    capital: Annotated[str, typer.Option(help="What the account begins with, in quote.")] = "10000",
    slippage_bps: Annotated[int, typer.Option(help="How much worse market orders fill.")] = 5,
    maker_fee_bps: Annotated[int, typer.Option(help="Of limit orders that rested.")] = 10,
    taker_fee_bps: Annotated[int, typer.Option(help="Of every other fill.")] = 10,
    latency_ms: Annotated[int, typer.Option(help="From a decision to the order's arrival.")] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the report, or print the id alone.")] = True,
    account: Account = None,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """Start a backtest; by default wait for it and show its report. Ctrl-C leaves it running."""
    from api.cli import backtests as commands

    with reporting_errors(as_json):
        given = {
            "strategy": strategy,
            "symbol": symbol,
            "parameters": commands.numbers(parameters or []),
            "interval": interval,
            "days": days,
            "source": source,
            "capital_quote": capital,
            "slippage_bps": slippage_bps,
            "maker_fee_bps": maker_fee_bps,
            "taker_fee_bps": taker_fee_bps,
            "latency_ms": latency_ms,
        }
        commands.run(Session(as_user, "trader"), account, given, wait, as_json)


@backtest_app.command("show", epilog="Examples: veloz backtest show 01J... · veloz backtest show 01J... --json")
def backtest_show(
    backtest_id: BacktestId, account: Account = None, as_user: AsUser = None, as_json: Json = False
) -> None:
    """One backtest: how far it is, or its report."""
    from api.cli import backtests as commands

    with reporting_errors(as_json):
        commands.show(Session(as_user, "trader"), account, backtest_id, as_json)


@backtest_app.command("list", epilog="Examples: veloz backtest list · veloz backtest list --limit 5 --json")
def backtest_list(
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 20,
    account: Account = None,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """The account's backtests."""
    from api.cli import backtests as commands

    with reporting_errors(as_json):
        commands.list_all(Session(as_user, "trader"), account, limit, as_json)


@backtest_app.command("stop", epilog="Example: veloz backtest stop 01J...")
def backtest_stop(
    backtest_id: BacktestId, account: Account = None, as_user: AsUser = None, as_json: Json = False
) -> None:
    """End one that is queued or running."""
    from api.cli import backtests as commands

    with reporting_errors(as_json):
        commands.stop(Session(as_user, "trader"), account, backtest_id, as_json)
