"""Command definitions. Each command imports what it needs when it runs, so that `veloz --help` is instant."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Optional

import typer

from api.cli.agents import register as register_agents
from api.cli.backtest_commands import register as register_backtests
from api.cli.data import register as register_data
from api.cli.journal_commands import register as register_journal
from api.cli.key_commands import register as register_keys
from api.cli.mcp import register as register_mcp
from api.cli.policy_commands import register as register_policy
from api.cli.session import Session, reporting_errors
from api.cli.suggestion_commands import register as register_suggestions
from api.cli.trading import register as register_trading

app = typer.Typer(
    name="veloz",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
audit_app = typer.Typer(help="Read the audit trail.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
register_agents(app)
register_data(app)
register_backtests(app)
register_mcp(app)
register_trading(app)
register_journal(app)
register_suggestions(app)
register_keys(app)
register_policy(app)

AsUser = Annotated[Optional[str], typer.Option("--as", metavar="USER", help="Log in as this user.")]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"veloz {version('veloz')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version.")
    ] = False,
) -> None:
    """VeloZ: trade with a copilot that a trader, a risk officer and a regulator can each trust."""


@app.command(
    epilog="Examples: veloz up · veloz up --product usdm · veloz up --market recording:day1.gz,day2.gz --speed 2"
)
def up(
    venue: Annotated[Optional[str], typer.Option(help="Only paper in this release.")] = None,  # noqa: UP045
    product: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What is traded there: spot, or usdm for USD-M perpetuals."),
    ] = None,
    market: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="synthetic, recording:<file>[,<file>...] (Binance), or live:<symbol>[,<symbol>...]."),
    ] = None,
    speed: Annotated[Optional[str], typer.Option(help="Play a recording this many times faster.")] = None,  # noqa: UP045
    port: Annotated[Optional[int], typer.Option(help="The api's port; 0 takes any free one.")] = None,  # noqa: UP045
    venue_port: Annotated[Optional[int], typer.Option(help="The paper venue's port; 0 takes any free one.")] = None,  # noqa: UP045
    json_lines: Annotated[bool, typer.Option("--json-lines", help="Report progress as JSON lines.")] = False,
) -> None:
    """Start everything, supervise it, and stop it all on Ctrl-C."""
    from api.cli import service as commands

    raise typer.Exit(
        commands.up(
            venue=venue,
            product=product,
            market=market,
            speed=speed,
            port=port,
            venue_port=venue_port,
            json_lines=json_lines,
        )
    )


@app.command(epilog="Example: veloz doctor --json")
def doctor(as_json: Json = False) -> None:
    """Look at every part of the installation and the running service; say what to do about what is wrong."""
    from api.cli import service as commands

    raise typer.Exit(commands.doctor(as_json))


@app.command(epilog='Example: veloz ask "what would it cost to buy 5 BTC now?" --json')
def ask(question: str, as_user: AsUser = None, as_json: Json = False) -> None:
    """Ask the copilot. Figures in the answer carry their source."""
    from api.cli.ask import ask as run

    with reporting_errors(as_json):
        run(Session(as_user, "trader"), question, as_json)


@audit_app.command("trace", epilog="Example: veloz audit trace 01J... --json")
def audit_trace(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A trace, run, suggestion or order id.")],
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """Everything that one question led to, in order."""
    from api.cli import trail

    with reporting_errors(as_json):
        trail.trace(Session(as_user, "compliance"), identifier, as_json)


def main() -> None:
    """Entry point of the `veloz` command."""
    app()
