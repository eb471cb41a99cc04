"""`veloz policy ...`: definitions. What they do is in the neighbour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import Json, OptionalPath, OptionalText
from api.cli.session import Session, reporting_errors

policy_app = typer.Typer(
    help="The gateway's policy: who may call and approve what. Show, check, explain, try, reload.", no_args_is_help=True
)
AsUser = Annotated[OptionalText, typer.Option("--as", metavar="USER", help="Log in as this user.")]


def register(app: typer.Typer) -> None:
    app.add_typer(policy_app, name="policy")
    app.command("budget", epilog="Examples: veloz budget · veloz budget --as compliance --json")(budget)


def budget(as_user: AsUser = None, as_json: Json = False) -> None:
    """What is used of today's budgets: your own and everybody's; compliance sees each user's."""
    from api.cli import budget as commands

    with reporting_errors(as_json):
        commands.show(Session(as_user, "trader"), as_json)


@policy_app.command(
    "show", epilog="Examples: veloz policy show --as compliance · veloz policy show --default > policy.toml"
)
def policy_show(
    default: Annotated[bool, typer.Option("--default", help="The policy that VeloZ comes with.")] = False,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """The policy in force, its version and digest. The document itself is compliance's to read."""
    from api.cli import policy as commands

    with reporting_errors(as_json):
        commands.show(lambda: Session(as_user, "compliance"), default, as_json)


@policy_app.command("check", epilog="Example: veloz policy check policy.toml")
def policy_check(file: Path, as_json: Json = False) -> None:
    """Whether a file would be taken; else the line, the key and the cure. Exit 1 when it wouldn't."""
    from api.cli import policy as commands

    with reporting_errors(as_json):
        commands.check(file, as_json)


@policy_app.command(
    "explain",
    epilog="Example: veloz policy explain suggest_order --role trader --account acct-demo --amount 30000 "
    "--at 2026-03-02T23:30:00Z",
)
def policy_explain(
    tool: str,
    role: Annotated[str, typer.Option(help="trader, approver or compliance.")] = "trader",
    user: Annotated[str, typer.Option(help="The user's id, for conditions that ask for it.")] = "user",
    agent: Annotated[bool, typer.Option("--agent", help="An agent asks, as the copilot is one.")] = False,
    account: Annotated[str, typer.Option(help="The account that the call is about.")] = "",
    amount: Annotated[OptionalText, typer.Option(help="What the suggestion is worth, in its quote asset.")] = None,
    model: Annotated[str, typer.Option(help="The model that asks.")] = "",
    provider: Annotated[str, typer.Option(help="Its provider: copilot.provider_base_url, or offline.")] = "",
    at: Annotated[OptionalText, typer.Option(help="When, as 2026-03-02T22:00:00Z; by default now.")] = None,
    arguments: Annotated[str, typer.Option(help="The call's arguments, as JSON.")] = "{}",
    mode: Annotated[str, typer.Option(help="PAPER or LIVE.")] = "PAPER",
    file: Annotated[OptionalPath, typer.Option("--file", help="This policy; by default the one of VELOZ_HOME.")] = None,
    as_json: Json = False,
) -> None:
    """Which section decides on a call, and why. Exit 0 allowed, 1 denied."""
    from api.cli import policy as commands

    with reporting_errors(as_json):
        commands.explain(
            file=file,
            tool=tool,
            role=role,
            user=user,
            agent=agent,
            account=account,
            amount=amount,
            model=model,
            provider=provider,
            at=at,
            arguments=arguments,
            mode=mode,
            as_json=as_json,
        )


@policy_app.command(
    "dry-run",
    epilog="Examples: veloz policy dry-run policy.toml · veloz policy dry-run policy.toml --export records.jsonl",
)
def policy_dry_run(
    file: Path,
    export: Annotated[
        OptionalPath,
        typer.Option("--export", help="Audit records, one a line; by default the service's trail is asked."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many calls.")] = 10_000,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """What a file would have made of recorded calls. Exit 0 the same, 1 some would have been decided otherwise."""
    from api.cli import policy as commands

    with reporting_errors(as_json):
        commands.dry_run(lambda: Session(as_user, "compliance"), file, export, limit, as_json)


@policy_app.command("reload", epilog="Example: veloz policy reload policy.toml")
def policy_reload(file: Path, as_user: AsUser = None, as_json: Json = False) -> None:
    """Put a file in force: check it, put it in the place of VELOZ_HOME/policy.toml at once, wait for the service."""
    from api.cli import policy as commands

    with reporting_errors(as_json):
        commands.reload(lambda: Session(as_user, "compliance"), file, as_json)
